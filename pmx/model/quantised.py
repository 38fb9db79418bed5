"""A network whose weights are int8: a quarter of the bytes, the same work."""

from __future__ import annotations

import copy
from typing import Any, Self

import numpy as np
from spox import Var

from pmx.contract import UsageError
from pmx.model import Model


class Quantised(Model):
    """A network with its weights rounded to int8, one scale for each output of a layer, as soon as it is fitted.

    It is a candidate of its own: what is told out of fold comes from the rounded weights, and so do alarm limits and intervals. The
    graph holds int8 and makes float64 of it once, when a runtime loads it; both paths compute with the same numbers.

    It pays in bytes, where a bundle must be small or goes over a thin line: a dense layer shrinks to a quarter, a recurrent network, whose
    nodes weigh as much as its numbers, to two thirds. A step is no quicker, and a loaded graph takes the same memory.

    Args:
        model: the network.

    Example:
        >>> from pmx.model.mlp import Mlp
        >>> Quantised(Mlp(hidden=[32])).task
        'rul'
    """

    model_: Any

    def __init__(self, model: Model) -> None:
        if not hasattr(model, "rounded"):
            raise UsageError(
                f"model quantised: {type(model).__name__} has no weights to round -> give it a network: mlp, autoencoder or gru"
            )
        self.model = model
        self.task, self.history, self.lags, self.smooth, self.censored = model.task, model.history, model.lags, model.smooth, model.censored

    def light(self) -> Self:
        small = copy.deepcopy(self)
        small.model = self.model.light()
        return small

    def columns(self, names: list[str]) -> list[int]:
        return self.model.columns(names)

    def fit(self, x: Any, y: np.ndarray, asset: np.ndarray) -> None:
        fitted: Any = copy.deepcopy(self.model)
        fitted.fit(x, y, asset)
        self.model_ = fitted.rounded()

    def score(self, x: Any) -> np.ndarray:
        score: np.ndarray = self.model_.score(x)
        return score

    def to_onnx(self, features: Var) -> Var:
        nodes: Var = self.model_.to_onnx(features)
        return nodes
