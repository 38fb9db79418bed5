"""A small dense network for the capped remaining useful life, trained by Lightning."""

from __future__ import annotations

import copy
from typing import Self

import numpy as np
import spox.opset.ai.onnx.v20 as op
from spox import Var

from pmx.contract import within
from pmx.model import Model
from pmx.model.dense import train


class Mlp(Model):
    """RUL by a dense network with ReLU; stops early on assets kept apart.

    Args:
        hidden: sizes of the hidden layers.
        epochs: at most.
        patience: epochs without a better inner loss before it stops.
        learning_rate: the peak of a one-cycle schedule.
        noise: standard deviation added to the standardised inputs while training.
        seed: of weights, order and inner split.

    Example:
        >>> Mlp(hidden=[32]).task
        'rul'
    """

    task = "rul"

    def __init__(
        self,
        hidden: list[int] | None = None,
        epochs: int = 30,
        patience: int = 6,
        learning_rate: float = 0.003,
        noise: float = 0.1,
        seed: int = 0,
    ) -> None:
        self.hidden = [64, 32] if hidden is None else list(hidden)
        within(1, float("inf"), {"epochs": epochs, "patience": patience, "hidden": min(self.hidden, default=1)})
        within(1e-9, 1, {"learning_rate": learning_rate})
        self.epochs, self.patience, self.learning_rate, self.noise, self.seed = epochs, patience, learning_rate, noise, seed

    def fit(self, x: np.ndarray, y: np.ndarray, asset: np.ndarray) -> None:
        self.centre_, self.spread_ = float(y.mean()), float(y.std()) or 1.0
        target = ((y - self.centre_) / self.spread_)[:, None]
        self.layers_ = train(x, target, asset, self.hidden, self.epochs, self.patience, self.learning_rate, self.noise, self.seed)

    def score(self, x: np.ndarray) -> np.ndarray:
        return self.layers_.forward(self.layers_.inputs(x))[:, 0] * self.spread_ + self.centre_

    def rounded(self) -> Self:
        """A copy with int8 weights."""
        made = copy.copy(self)
        made.layers_ = self.layers_.rounded()
        return made

    def to_onnx(self, features: Var) -> Var:
        y = self.layers_.nodes(self.layers_.input_nodes(features))
        y = op.add(op.mul(y, op.const(self.spread_, np.float64)), op.const(self.centre_, np.float64))
        return op.squeeze(y, op.const([1]))
