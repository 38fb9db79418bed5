"""What a model is fitted on: the fleet, or each asset apart."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import spox.opset.ai.onnx.v20 as op
from spox import Var

from pmx.contract import DataError, UsageError
from pmx.feature.past import Past
from pmx.feature.view import cut
from pmx.model import Model

SCOPES = ("fleet", "asset")


Rows = Past | np.ndarray  # feature vectors with those before them, or alone, float32 [row, feature]


def read_by(model: Model, rows: Rows) -> Any:
    """What a model reads of these rows: their newest features, or their past."""
    return rows.now if model.history == 1 and isinstance(rows, Past) else rows


def by_asset(fit_scope: str, task: str, by: str) -> bool:
    """Whether constants are fitted for each asset apart; refused where that makes no sense.

    Args:
        by: how the window splits, by `asset` or by `time`: an asset of the test part must have ticks to fit on.
    """
    if fit_scope not in SCOPES:
        raise UsageError(f"fit_scope: {fit_scope!r} is neither fleet nor asset")
    if fit_scope == "asset" and (task != "anomaly" or by != "time"):
        what = (
            "a split by asset tests assets that it never fitted on"
            if task == "anomaly"
            else f"the task {task} learns from whole lives of other assets"
        )
        raise UsageError(f"fit_scope: asset, but {what} -> fit_scope: fleet, or a model of the task anomaly with window=head or by_time")
    return fit_scope == "asset"


@dataclass(frozen=True)
class Scoped:
    """A fitted model: one for the fleet, or one per asset where the model has constants that an asset can carry in its memory.

    A model without such constants serves all assets, on features that are normalised for each asset apart.

    Attributes:
        model: the fleet's; among several, one that stands for all.
        own: asset -> its own model; empty = the fleet's serves all.

    Example:
        >>> from pmx.model.pca import Pca
        >>> x = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
        >>> asset = np.repeat(["A", "B"], 20)
        >>> past = Past.of(x, np.repeat([0, 1], 20), ["load", "flow"])
        >>> scoped = Scoped.fit(Pca(), past, np.zeros(40), asset, each=True)
        >>> sorted(scoped.own), scoped.score(past[np.arange(1)], np.array(["C"]))
        (['A', 'B'], array([nan]))
    """

    model: Model
    own: dict[str, Model] = field(default_factory=dict)

    @staticmethod
    def fit(model: Model, past: Rows, y: np.ndarray, asset: np.ndarray, each: bool) -> Scoped:
        """Fits a copy of the model on features and targets [row] of these assets, or one copy for each of them."""
        x = read_by(model, past)
        own: dict[str, Model] = {}
        for name in np.unique(asset) if each and model.per_asset else ():
            rows, one = asset == name, copy.deepcopy(model)
            try:
                one.fit(x[rows], y[rows], asset[rows])
            except DataError:  # too few ticks: this asset has no model, and no verdict
                continue
            own[str(name)] = one
        if each and model.per_asset and not own:
            raise DataError("no asset has enough ticks to fit a model of its own on -> fit_scope: fleet, or take more data")
        if own:
            return Scoped(next(iter(own.values())), own)
        shared = copy.deepcopy(model)
        shared.fit(x, y, asset)
        return Scoped(shared)

    def score(self, past: Rows, asset: np.ndarray) -> np.ndarray:
        """float64 [row] of features; NaN for an asset that has no model."""
        x = read_by(self.model, past)
        if not self.own:
            return self.model.score(x)
        score = np.full(len(x), np.nan)
        for name in set(asset) & set(self.own):
            rows = asset == name
            score[rows] = self.own[name].score(x[rows])
        return score

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of what an asset carries in its memory: the largest of all assets."""
        every = [m.constants() for m in self.own.values()]
        return {n: tuple(int(v) for v in np.max([c[n].shape for c in every], 0)) for n in (every[0] if every else ())}

    @property
    def slots(self) -> int:
        """Memory values per asset."""
        return sum(int(np.prod(shape)) for shape in self.shapes.values())

    def memory0(self, assets: list[str]) -> np.ndarray:
        """float64 [asset, slots]; NaN for an asset that has no model."""
        start, shapes = np.full((len(assets), self.slots), np.nan), self.shapes
        for row, asset in zip(start, assets, strict=True):
            if asset in self.own:
                found = self.own[asset].constants()
                padded = [
                    np.pad(found[n], [(0, most - size) for most, size in zip(s, found[n].shape, strict=True)]) for n, s in shapes.items()
                ]
                row[:] = np.concatenate([p.ravel() for p in padded])
        return start

    def nodes(self, features: Var, past: Var | None, memory: Var) -> Var:
        """Scores float64 [asset] of features float32 [asset, feature], the model's columns over time float32 [asset, history, column]
        where it reads them, and memory float64 [asset, slots].
        """
        if not self.own:
            return self.model.lowered(features, past)
        parts, at = {}, 0
        for name, shape in self.shapes.items():
            size = int(np.prod(shape))
            parts[name] = op.reshape(cut(memory, at, at + size, 1), op.const([-1, *shape]))
            at += size
        return self.model.nodes(features, parts)
