"""Gradient-boosted trees, lowered exactly: remaining useful life, one of its quantiles, failure within the horizon, fault classes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import lightgbm
import numpy as np
import spox.opset.ai.onnx.v20 as op
from spox import Var

from pmx.contract import within
from pmx.model import Model
from pmx.model.trees import REPEATABLE, booster_seeds, leaves_of, thresholds_of, tree_inputs, tree_nodes


@dataclass(eq=False)
class Boosted(Model, ABC):
    """Many shallow trees on shuffled shares of rows and features, since lives are few; what they learn is the subclass's choice.

    Args:
        trees: number of trees (of each class, where there are classes).
        learning_rate: weight of each.
        num_leaves: leaves of a tree at most.
        min_child_samples: ticks in a leaf at least.
        feature_fraction: share of features each tree sees.
        bagging_fraction: share of ticks each tree sees.
        average: boosters that are fitted with seeds of their own and averaged.
        threads: of the training; the result does not depend on it.
        seed: of both shares.
    """

    exact = True
    trees: int = 600
    learning_rate: float = 0.03
    num_leaves: int = 15
    min_child_samples: int = 60
    feature_fraction: float = 0.4
    bagging_fraction: float = 0.2
    average: int = 1
    threads: int = 1
    seed: int = 0
    boosters_: list[lightgbm.Booster] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        counts = {n: getattr(self, n) for n in ("trees", "average", "threads", "min_child_samples")}
        within(1, float("inf"), counts)
        within(2, 131_072, {"num_leaves": self.num_leaves})  # the limits of LightGBM
        within(1e-6, 1, {n: getattr(self, n) for n in ("learning_rate", "feature_fraction", "bagging_fraction")})

    @abstractmethod
    def objective(self, y: np.ndarray) -> tuple[dict[str, Any], np.ndarray]:
        """What LightGBM is to learn, as its parameters, and the label of each row, float64 [row]."""

    def fit(self, x: np.ndarray, y: np.ndarray, asset: np.ndarray) -> None:
        aim, label = self.objective(y)
        parameters = REPEATABLE | {
            "learning_rate": self.learning_rate,
            "num_leaves": self.num_leaves,
            "min_child_samples": self.min_child_samples,
            "feature_fraction": self.feature_fraction,
            "bagging_fraction": self.bagging_fraction,
            "num_threads": self.threads,
        }
        seeds = booster_seeds(self.seed, self.average)
        x, label = np.ascontiguousarray(x), np.ascontiguousarray(label)  # LightGBM copies other layouts, with a warning
        self.boosters_ = [lightgbm.train(parameters | aim | {"seed": s}, lightgbm.Dataset(x, label), self.trees) for s in seeds]

    def score(self, x: np.ndarray) -> np.ndarray:
        columns = self.boosters_[0].num_model_per_iteration()
        total = np.zeros((len(x), columns) if columns > 1 else len(x))
        for booster in self.boosters_ if len(x) else ():
            total = total + np.asarray(booster.predict(x, raw_score=True, num_threads=self.threads), np.float64)
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
        total = total if self.boosters_[0].num_model_per_iteration() > 1 else op.squeeze(total, op.const([1]))
        return op.div(total, op.const(float(len(self.boosters_)), np.float64))


class LightGBM(Boosted):
    """RUL by LightGBM on the squared error of the capped life left; arguments as in `Boosted`.

    Example:
        >>> x = np.arange(200, dtype=np.float32).reshape(-1, 1)
        >>> model = LightGBM(trees=20, learning_rate=0.3, min_child_samples=5)
        >>> model.fit(x, x[:, 0].astype(float), np.repeat("A", 200))
        >>> bool(model.score(x[:1])[0] < model.score(x[-1:])[0])
        True
    """

    task = "rul"

    def objective(self, y: np.ndarray) -> tuple[dict[str, Any], np.ndarray]:
        return {"objective": "l2"}, y


@dataclass(eq=False)
class LightGBMQuantile(Boosted):
    """RUL by LightGBM on the pinball loss: the life left that a share `alpha` of such assets does not reach.

    A small share makes a cautious estimate; the pinball loss is that of Koenker and Bassett (1978). Other arguments as in `Boosted`.

    Args:
        alpha: the share, 0..1; 0.5 is the median.

    Example:
        >>> life = np.random.default_rng(0).uniform(0, 100, 2000)
        >>> model = LightGBMQuantile(trees=50, learning_rate=0.2, alpha=0.1)
        >>> model.fit(np.zeros((2000, 1), np.float32), life, np.repeat("A", 2000))
        >>> round(float(model.score(np.zeros((1, 1), np.float32))[0]), -1)
        10.0
    """

    task = "rul"
    alpha: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        within(0.001, 0.999, {"alpha": self.alpha})

    def objective(self, y: np.ndarray) -> tuple[dict[str, Any], np.ndarray]:
        return {"objective": "quantile", "alpha": self.alpha}, y


class LightGBMFailure(Boosted):
    """Failure within the horizon by LightGBM on the log loss; its scores are log-odds. Arguments as in `Boosted`.

    Example:
        >>> x = np.arange(200, dtype=np.float32).reshape(-1, 1)
        >>> model = LightGBMFailure(trees=20, learning_rate=0.3, min_child_samples=5)
        >>> model.fit(x, (x[:, 0] > 150).astype(float), np.repeat("A", 200))
        >>> bool(model.score(x[:1])[0] < 0 < model.score(x[-1:])[0])
        True
    """

    task = "failure"

    def objective(self, y: np.ndarray) -> tuple[dict[str, Any], np.ndarray]:
        return {"objective": "binary"}, y


class LightGBMFault(Boosted):
    """Fault classes by LightGBM on the log loss of all classes at once; its scores are log-odds up to a constant of each tick.

    Arguments as in `Boosted`.

    Example:
        >>> x = np.arange(300, dtype=np.float32).reshape(-1, 1)
        >>> model = LightGBMFault(trees=20, learning_rate=0.3, min_child_samples=5)
        >>> model.fit(x, np.eye(3)[np.repeat([0, 1, 2], 100)], np.repeat("A", 300))
        >>> model.score(x[[0, 150, 299]]).argmax(1).tolist()
        [0, 1, 2]
    """

    task = "fault"

    def objective(self, y: np.ndarray) -> tuple[dict[str, Any], np.ndarray]:
        return {"objective": "multiclass", "num_class": y.shape[1]}, y.argmax(1).astype(np.float64)
