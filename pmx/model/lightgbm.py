"""Gradient-boosted trees on the squared error of the capped remaining useful life."""

from __future__ import annotations

import lightgbm
import numpy as np
import spox.opset.ai.onnx.v20 as op
from spox import Var

from pmx.contract import within
from pmx.model import Model
from pmx.model.trees import REPEATABLE, booster_seeds, leaves_of, thresholds_of, tree_inputs, tree_nodes


class LightGBM(Model):
    """RUL by LightGBM, lowered exactly. Many shallow trees on shuffled shares of rows and features, since lives are few.

    Args:
        trees: number of trees.
        learning_rate: weight of each.
        num_leaves: leaves of a tree at most.
        min_child_samples: ticks in a leaf at least.
        feature_fraction: share of features each tree sees.
        bagging_fraction: share of ticks each tree sees.
        average: boosters that are fitted with seeds of their own and averaged.
        threads: of the training; the result does not depend on it.
        seed: of both shares.

    Example:
        >>> x = np.arange(200, dtype=np.float32).reshape(-1, 1)
        >>> model = LightGBM(trees=20, learning_rate=0.3, min_child_samples=5)
        >>> model.fit(x, x[:, 0].astype(float), np.repeat("A", 200))
        >>> bool(model.score(x[:1])[0] < model.score(x[-1:])[0])
        True
    """

    task = "rul"
    exact = True
    boosters_: list[lightgbm.Booster]

    def __init__(
        self,
        trees: int = 600,
        learning_rate: float = 0.03,
        num_leaves: int = 15,
        min_child_samples: int = 60,
        feature_fraction: float = 0.4,
        bagging_fraction: float = 0.2,
        average: int = 1,
        threads: int = 1,
        seed: int = 0,
    ) -> None:
        within(1, float("inf"), {"trees": trees, "average": average, "threads": threads, "min_child_samples": min_child_samples})
        within(2, 131_072, {"num_leaves": num_leaves})  # the limits of LightGBM
        within(1e-6, 1, {"learning_rate": learning_rate, "feature_fraction": feature_fraction, "bagging_fraction": bagging_fraction})
        self.trees, self.learning_rate, self.num_leaves, self.min_child_samples = trees, learning_rate, num_leaves, min_child_samples
        self.feature_fraction, self.bagging_fraction, self.average = feature_fraction, bagging_fraction, average
        self.threads, self.seed = threads, seed

    def fit(self, x: np.ndarray, y: np.ndarray, asset: np.ndarray) -> None:
        parameters = REPEATABLE | {
            "learning_rate": self.learning_rate,
            "num_leaves": self.num_leaves,
            "min_child_samples": self.min_child_samples,
            "feature_fraction": self.feature_fraction,
            "bagging_fraction": self.bagging_fraction,
            "num_threads": self.threads,
        }
        seeds = booster_seeds(self.seed, self.average)
        x, y = np.ascontiguousarray(x), np.ascontiguousarray(y)  # LightGBM copies other layouts, with a warning
        self.boosters_ = [lightgbm.train(parameters | {"seed": s}, lightgbm.Dataset(x, y), self.trees) for s in seeds]

    def score(self, x: np.ndarray) -> np.ndarray:
        total = np.zeros(len(x))
        for booster in self.boosters_:
            total = total + np.asarray(booster.predict(x, num_threads=self.threads), np.float64)
        return total / len(self.boosters_)

    def leaves(self, x: np.ndarray) -> np.ndarray:
        return leaves_of(self.boosters_, x, self.threads)

    def thresholds(self) -> dict[int, list[float]]:
        return thresholds_of(self.boosters_)

    def to_onnx(self, features: Var) -> Var:
        x, total = tree_inputs(features), None
        for booster in self.boosters_:
            score = tree_nodes(x, booster)
            total = score if total is None else op.add(total, score)
        assert total is not None
        return op.div(op.squeeze(total, op.const([1])), op.const(float(len(self.boosters_)), np.float64))
