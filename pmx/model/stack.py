"""A weighted mean of other candidates of the run, its weights chosen on their out-of-fold predictions."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import spox.opset.ai.onnx.v20 as op
from scipy.optimize import nnls
from spox import Var

from pmx.contract import UsageError
from pmx.feature.past import Past
from pmx.model import Model

LEAST = 0.02  # a member of less weight is left out: it would cost a device more than it brings
WHOLE = 1e3  # how hard the fit holds the sum of the weights at 1, against one row of data


class Stack(Model):
    """Weighted mean of candidates, in the graph over one shared feature vector.

    The weights are at least 0 and sum to 1; they minimise the squared error of the out-of-fold predictions (stacked regression with
    the constraints of Breiman, 1996).

    Args:
        members: names of candidates of the same run; empty = all of them but stacks.

    Example:
        >>> from pmx.model.mlp import Mlp
        >>> stack = bound({"mlp": Mlp(), "stack": Stack()})["stack"]
        >>> stack.weigh(np.array([[1.0], [3.0]]), np.array([1.0, 3.0])).weights_
        [1.0]
    """

    parts: dict[str, Model]
    weights_: list[float]
    names_: list[str]  # of the features, where a member reads them over time

    def __init__(self, members: list[str] | None = None) -> None:
        self.members = list(members or [])
        self.parts, self.weights_, self.names_ = {}, [], []

    def bind(self, models: dict[str, Model]) -> Stack:
        """A copy that is made of these candidates, not fitted."""
        others = {n: m for n, m in models.items() if not isinstance(m, Stack)}
        strange = [n for n in self.members if n not in others]
        if strange or not others:
            listed = ", ".join(others) or "none"
            raise UsageError(f"model stack: no candidate {', '.join(strange) or 'to stack'} in this run -> its members are of {listed}")
        made = copy.copy(self)
        made.parts = {n: others[n] for n in self.members or others}
        wrong = [n for n, m in made.parts.items() if m.task in ("anomaly", "fault")]
        if wrong:
            raise UsageError(f"model stack: {', '.join(wrong)} learn(s) no single target to weigh by -> stack models of rul or failure")
        made.task = next(iter(made.parts.values())).task
        made.lags = max(m.lags for m in made.parts.values())
        return made._reading(list(made.parts.values()))

    def _reading(self, parts: list[Model]) -> Stack:
        """Itself, as far back as these parts look, and as exact as they are."""
        self.history, self.exact = max(m.history for m in parts), all(m.exact for m in parts)
        return self

    def weigh(self, told: np.ndarray, target: np.ndarray) -> Stack:
        """A copy with the weights that do best on out-of-fold predictions float64 [row, member] of targets [row]; equal ones where no
        row is known.
        """
        known = ~np.isnan(told).any(1) & ~np.isnan(target)
        made, count = copy.copy(self), told.shape[1]
        hold = WHOLE * max(1.0, float(np.sqrt((told[known] ** 2).sum())))
        weight, _ = nnls(np.r_[told[known], np.full((1, count), hold)], np.r_[target[known], hold])
        weight = np.where(weight < LEAST * weight.sum(), 0.0, weight) if weight.any() and known.any() else np.ones(count)
        made.weights_ = (weight / weight.sum()).tolist()
        return made._reading([part for part, _ in made._used()])  # what was left out needs no memory

    def made_of(self, members: dict[str, Model], names: list[str]) -> Stack:
        """A fitted copy of members that were fitted apart, on features of these names; those of no weight may be missing."""
        made = copy.copy(self)
        made.parts = {n: members.get(n, part) for n, part in self.parts.items()}
        made.names_ = list(names)
        return made

    def fit(self, x: Any, y: np.ndarray, asset: np.ndarray) -> None:
        self.names_ = x.names if isinstance(x, Past) else []
        self.parts = {n: copy.deepcopy(m) for n, m in self.parts.items()}
        for (_, part), weight in zip(self.parts.items(), self.weights_, strict=True):
            if weight:
                part.fit(_read_by(part, x), y, asset)

    def score(self, x: Any) -> np.ndarray:
        total = np.zeros(len(x))
        for part, weight in self._used():
            total = total + weight * part.score(_read_by(part, x))
        return total

    @property
    def used(self) -> list[str]:
        """The members that have a weight."""
        return [name for name, w in zip(self.parts, self.weights_, strict=True) if w]

    def _used(self) -> list[tuple[Model, float]]:
        return [(part, w) for part, w in zip(self.parts.values(), self.weights_, strict=True) if w]

    def columns(self, names: list[str]) -> list[int]:
        return sorted({c for part, _ in self._used() if part.history > 1 for c in part.columns(names)})

    def leaves(self, x: np.ndarray) -> np.ndarray:
        return np.concatenate([part.leaves(x) for part, _ in self._used()], axis=1)

    def thresholds(self) -> dict[int, list[float]]:
        found: dict[int, list[float]] = {}
        for part, _ in self._used():
            for feature, values in part.thresholds().items():
                found.setdefault(feature, []).extend(values)
        return found

    def to_onnx(self, features: Var) -> Var:
        return self.lowered(features, None)

    def lowered(self, features: Var, past: Var | None) -> Var:
        total, kept = None, self.columns(self.names_)
        for part, weight in self._used():
            own = None
            if part.history > 1 and past is not None:
                at = op.const(np.array([kept.index(c) for c in part.columns(self.names_)]))
                rows = op.const(np.arange(self.history - part.history, self.history))
                own = op.gather(op.gather(past, at, axis=2), rows, axis=1)
            score = op.mul(op.const(weight, np.float64), part.lowered(features, own))
            total = score if total is None else op.add(total, score)
        assert total is not None
        return total


def _read_by(part: Model, x: Any) -> Any:
    return x.now if part.history == 1 and isinstance(x, Past) else x


def bound(models: dict[str, Model]) -> dict[str, Model]:
    """The candidates of a run, each stack made of those that it names."""
    return {n: m.bind(models) if isinstance(m, Stack) else m for n, m in models.items()}
