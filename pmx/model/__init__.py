"""Models: one module and one YAML each, behind one small protocol."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from spox import Var

LIGHT = {
    "trees": 10,
    "average": 1,
    "epochs": 1,
    "least_steps": 1,
    "min_child_samples": 10,
}  # argument -> the most of it that a light copy takes


class Model(ABC):
    """Learns from float32 features, and can say the same in ONNX.

    The constructor keeps its arguments, `fit` learns, learnt values end in `_`. A fitted model scores on both paths alike:
    `score` offline and the nodes of `to_onnx` in the step graph agree to the last bit for trees, and to float64 rounding for networks.

    Attributes:
        task: `rul` (scores are capped remaining useful life in the life unit), `failure` (scores are log-odds that a failure comes
            within the horizon), `fault` (scores are log-odds of each class of fault, up to a constant of each tick, fitted on labels
            float64 [row, class] that are 1 at the class) or `anomaly` (scores are distances from normal, higher = worse, fitted on
            healthy ticks).
        censored: whether it learns from lives of which only the beginning was seen: its labels are then float64 [row, 2], the life
            left that is certain and the most it can be, infinite where nobody knows.
        exact: whether its nodes give the very bits of `score`, after rounding to float32.
        per_asset: whether it can be fitted on each asset apart, with `constants` that an asset carries in its memory.
        lags: how many lags its features must be (`feature=lags`), since it tells channels and lags apart; 0 = any features.
        history: ticks of feature vectors that it reads; 1 = the newest alone. With more, `fit` and `score` are given a `Past` in place
            of an array, and `to_onnx` the values of its `columns` over that many ticks, float32 [asset, history, column], oldest
            first, NaN before a life began: the step graph keeps them in memory.
        smooth: half-life in ticks of the running mean that a score of the task `anomaly` passes through; 0 = none.

    Example:
        >>> class Mean(Model):
        ...     task = "rul"
        ...     def fit(self, x, y, asset):
        ...         self.mean_ = float(y.mean())
        ...     def score(self, x):
        ...         return np.full(len(x), self.mean_)
        ...     def to_onnx(self, features):
        ...         raise NotImplementedError("an example")
        >>> model = Mean()
        >>> model.fit(np.zeros((2, 1), np.float32), np.array([3.0, 5.0]), np.array(["A", "A"]))
        >>> model.score(np.zeros((1, 1), np.float32))
        array([4.])
    """

    task: str
    censored: bool = False
    exact: bool = False
    per_asset: bool = False
    lags: int = 0
    history: int = 1
    smooth: float = 0.0

    @abstractmethod
    def fit(self, x: Any, y: np.ndarray, asset: np.ndarray) -> None:
        """Learns from features float32 [row, feature], labels float64 [row] without NaN (unused by the task `anomaly`) and asset names [row]."""

    @abstractmethod
    def score(self, x: Any) -> np.ndarray:
        """float64 [row] from features float32 [row, feature]; of the task `fault` float64 [row, class]."""

    def columns(self, names: list[str]) -> list[int]:
        """Which of the features, given by their names, it reads over its `history`."""
        return list(range(len(names)))

    def light(self) -> Self:
        """A copy that learns the same way with few trees and epochs, from few ticks: to see what a model depends on, not how good it is."""
        small = copy.deepcopy(self)
        for name, most in LIGHT.items():
            if hasattr(small, name):
                setattr(small, name, min(getattr(small, name), most))
        return small

    def leaves(self, x: np.ndarray) -> np.ndarray:
        """The leaves that each row falls into, int [row, tree]; no column where the model has no trees."""
        return np.empty((len(x), 0), np.int64)

    def thresholds(self) -> dict[int, list[float]]:
        """Feature index -> the values at which a tree splits on it: where rounding would show first."""
        return {}

    @abstractmethod
    def to_onnx(self, features: Var) -> Var:
        """Nodes from features float32 [asset, feature] to scores float64 [asset]; of the task `fault` float64 [asset, class]."""

    def lowered(self, features: Var, past: Var | None) -> Var:
        """As `to_onnx`, given both: features float32 [asset, feature], and its columns over time, None where it reads the newest alone."""
        return self.to_onnx(features if past is None else past)

    def constants(self) -> dict[str, np.ndarray]:
        """Learnt numbers by name, float64, for a model that can be fitted on each asset apart; none where one model serves a fleet.

        They may differ in shape from asset to asset: zeros behind them must change nothing.
        """
        return {}

    def nodes(self, features: Var, constants: dict[str, Var]) -> Var:
        """As `to_onnx`, with each asset's own constants, float64 [asset, ...]."""
        raise NotImplementedError(f"{type(self).__name__} has no constants of an asset")
