"""A dense autoencoder of healthy features, trained by Lightning; what it cannot rebuild is not normal."""

from __future__ import annotations

import copy
from typing import Self

import numpy as np
import spox.opset.ai.onnx.v20 as op
from spox import Var

from pmx.contract import within
from pmx.model import Model
from pmx.model.dense import train


class Autoencoder(Model):
    """Distance from normal: the mean squared error with which standardised features are rebuilt through a bottleneck.

    Args:
        hidden: sizes of the layers between input and output; the smallest is the bottleneck.
        epochs: at most.
        patience: epochs without a better inner loss before it stops.
        learning_rate: the peak of a one-cycle schedule.
        seed: of weights, order and inner split.

    Example:
        >>> Autoencoder().task
        'anomaly'
    """

    task = "anomaly"

    def __init__(
        self, hidden: list[int] | None = None, epochs: int = 20, patience: int = 4, learning_rate: float = 0.003, seed: int = 0
    ) -> None:
        self.hidden = [48, 12, 48] if hidden is None else list(hidden)
        within(1, float("inf"), {"epochs": epochs, "patience": patience, "hidden": min(self.hidden, default=1)})
        within(1e-9, 1, {"learning_rate": learning_rate})
        self.epochs, self.patience, self.learning_rate, self.seed = epochs, patience, learning_rate, seed

    def fit(self, x: np.ndarray, y: np.ndarray, asset: np.ndarray) -> None:
        self.layers_ = train(x, None, asset, self.hidden, self.epochs, self.patience, self.learning_rate, noise=0.1, seed=self.seed)

    def score(self, x: np.ndarray) -> np.ndarray:
        z = self.layers_.inputs(x)
        error = self.layers_.forward(z) - z
        return (error * error).mean(1)

    def rounded(self) -> Self:
        """A copy with int8 weights."""
        made = copy.copy(self)
        made.layers_ = self.layers_.rounded()
        return made

    def to_onnx(self, features: Var) -> Var:
        z = self.layers_.input_nodes(features)
        error = op.sub(self.layers_.nodes(z), z)
        return op.reduce_mean(op.mul(error, error), op.const([1]), keepdims=0)
