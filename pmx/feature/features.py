"""A feature set: a normalisation and the kernels on top of it, fitted once, computed on two paths."""

from __future__ import annotations

import copy

import numpy as np
import polars as pl
import spox.opset.ai.onnx.v20 as op
from spox import Var

from pmx.contract import Contract, UsageError
from pmx.feature.kernel import Kernel
from pmx.feature.regime import RegimeScore
from pmx.feature.view import View, const, cut


class FeatureSet:
    """Normalised readings seen through kernels: float32 [row, feature], the same numbers offline and in the step graph.

    Args:
        normalise: how readings become scores.
        kernels: in the order of the feature vector.

    Example:
        >>> from pmx.feature.kernel import TrailingMean
        >>> FeatureSet(RegimeScore(), [TrailingMean(10)]).rows
        10
    """

    contract_: Contract
    normalise_: RegimeScore
    channels_: list[str]
    names_: list[str]
    fitted_on_: pl.DataFrame  # asset, tick: what the leakage gate holds against the test part

    def __init__(self, normalise: RegimeScore, kernels: list[Kernel]) -> None:
        labels = [k.label for k in kernels]
        twice = {n for n in labels if labels.count(n) > 1}
        if twice or not kernels:
            raise UsageError(
                f"feature.kernels: {'given twice: ' + ', '.join(sorted(twice)) if twice else 'empty'} -> name each kernel once"
            )
        if all(k.reads_age for k in kernels):
            raise UsageError("feature.kernels: all of them read the asset's age, which may be unknown -> add one that reads a channel")
        self.normalise, self.kernels = normalise, list(kernels)

    def without_age(self) -> FeatureSet:
        """The same set without the kernels that read the asset's age."""
        return FeatureSet(self.normalise, [k for k in self.kernels if not k.reads_age])

    def fit(self, ticks: pl.DataFrame, contract: Contract, each: bool = False) -> FeatureSet:
        """A fitted copy; learns the normalisation from these ticks alone, with `each` for each asset apart."""
        fitted = copy.copy(self)
        fitted.contract_ = contract
        fitted.fitted_on_ = ticks.select("asset", "tick")
        fitted.normalise_ = self.normalise.fit(ticks, contract, each)
        fitted.channels_ = fitted.normalise_.channels_
        fitted.names_ = [n for k in self.kernels for n in k.names(fitted.channels_)]
        return fitted

    def only(self, assets: set[str]) -> FeatureSet:
        """The fitted set, where no other assets have constants of their own."""
        fitted = copy.copy(self)
        fitted.normalise_ = copy.copy(self.normalise_)
        fitted.normalise_.own_ = {a: own for a, own in self.normalise_.own_.items() if a in assets}
        return fitted

    @property
    def rows(self) -> int:
        """W: the rows of the window that the kernels read."""
        return max(k.rows for k in self.kernels)

    @property
    def slots(self) -> int:
        """Memory values per asset: what kernels carry, then the asset's own constants of the normalisation."""
        return self._carried + self.normalise_.slots

    @property
    def _carried(self) -> int:
        return sum(width for k in self.kernels for width in k.slots(len(self.channels_)))

    def memory0(self, assets: list[str]) -> np.ndarray:
        """Memory of these assets before their first tick, float64 [asset, slots]; NaN for constants of an asset that was not fitted on."""
        start = np.zeros((len(assets), self.slots))
        if self.normalise_.slots:
            start[:, self._carried :] = np.nan
            for row, asset in zip(start, assets, strict=True):
                if asset in self.normalise_.own_:
                    row[self._carried :] = self.normalise_.own_[asset].ravel()
        return start

    def fits(self, ticks: pl.DataFrame, task: str) -> np.ndarray:
        """Whether a tick may be fitted on, bool [row]: off-time never is. A gap in the record is part of a life, whose features and label
        stand, but there is nothing in it to call normal.
        """
        if task == "anomaly":
            return self.scored(ticks)
        if self.contract_.running is None:
            return np.ones(len(ticks), bool)
        return ticks.select(pl.any_horizontal(pl.col(self.contract_.names).is_not_null())).to_series().to_numpy()

    def scored(self, ticks: pl.DataFrame) -> np.ndarray:
        """Whether a tick has the score of any channel, bool [row]: not where the setting that names its regime is missing."""
        scores = self.normalise_.scores(ticks)
        return scores.select(pl.any_horizontal(pl.col(self.channels_).is_not_null())).to_series().to_numpy()

    def kernel_of(self, feature: int) -> Kernel:
        """The kernel that a column of the feature vector comes from."""
        for kernel in self.kernels:
            feature -= len(kernel.names(self.channels_))
            if feature < 0:
                return kernel
        raise IndexError(feature)

    def table(self, ticks: pl.DataFrame) -> np.ndarray:
        """The Polars path: float32 [row, feature] in the order of the ticks; each asset's ticks must be complete and in order."""
        scores = self.normalise_.scores(ticks).with_row_index("row of ticks")
        z = [pl.col(c) for c in self.channels_]
        flat = [e.alias(f"f{i}") for i, e in enumerate(e for k in self.kernels for e in k.polars(z))]
        table = np.empty((len(ticks), len(flat)), np.float32)
        for part in scores.partition_by("asset"):
            table[part["row of ticks"].to_numpy()] = part.select(flat).to_numpy()
        return table

    def nodes(self, window: Var, fresh: Var, memory: Var, hop: int) -> tuple[Var, list[Var], Var, Var]:
        """The graph path: features float32 [asset, feature], parts of the next memory, contribution float32 [asset, channel], and
        whether the newest reading has a score, bool [asset].

        A channel's contribution is how far the mean of its newest scores (up to 10) lies from normal, in standard deviations;
        NaN where none of them has a value.
        """
        own = cut(memory, self._carried, self.slots, 1)
        view = View(self.normalise_.nodes(window, self.contract_, own), self.rows, hop, fresh)
        features, carried, at = [], [], 0
        for kernel in self.kernels:
            parts = []
            for width in kernel.slots(len(self.channels_)):
                parts.append(cut(memory, at, at + width, 1))
                at += width
            feature, following = kernel.nodes(view, parts)
            features.append(feature)
            carried += following
        present = op.greater(op.reduce_sum(view.back(view.seen, 0, 1), op.const([1, 2]), keepdims=0), const(0.0))
        return op.cast(op.concat(features, axis=1), to=np.float32), [*carried, own], self._contribution(view), present

    def _contribution(self, view: View) -> Var:
        departure = op.cast(op.abs(view.mean(0, min(10, self.rows))), to=np.float32)
        # a setting or a channel left out by the normalisation contributes nothing: it reads the column of zeros behind the others
        columns = op.pad(departure, op.const([0, 0, 0, 1]), op.const(np.float32(0)))
        order = [self.channels_.index(n) if n in self.channels_ else len(self.channels_) for n in self.contract_.names]
        return op.gather(columns, op.const(np.array(order)), axis=1)
