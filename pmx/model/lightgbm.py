"""Gradient-boosted trees on the squared error of the capped remaining useful life."""

from __future__ import annotations

import lightgbm
import numpy as np
import spox.opset.ai.onnx.ml.v5 as ml
import spox.opset.ai.onnx.v20 as op
from spox import Var

from pmx.contract import within
from pmx.model import Model
from pmx.model.trees import tree_attributes

ZERO = float(np.float32(1e-35))  # kZeroThreshold of LightGBM, a float32 constant


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
        parameters = {
            "objective": "l2",
            "learning_rate": self.learning_rate,
            "num_leaves": self.num_leaves,
            "min_child_samples": self.min_child_samples,
            "feature_fraction": self.feature_fraction,
            "bagging_fraction": self.bagging_fraction,
            "bagging_freq": 1,
            "num_threads": self.threads,
            "deterministic": True,
            "force_row_wise": True,  # the other layout is chosen by a timing, which would make the bytes depend on the machine's mood
            "verbose": -1,
        }
        seeds = np.random.SeedSequence(self.seed).generate_state(self.average) >> 1  # LightGBM takes positive 32-bit seeds
        x, y = np.ascontiguousarray(x), np.ascontiguousarray(y)  # LightGBM copies other layouts, with a warning
        self.boosters_ = [lightgbm.train(parameters | {"seed": int(s)}, lightgbm.Dataset(x, y), self.trees) for s in seeds]

    def score(self, x: np.ndarray) -> np.ndarray:
        total = np.zeros(len(x))
        for booster in self.boosters_:
            total = total + np.asarray(booster.predict(x, num_threads=self.threads), np.float64)
        return total / len(self.boosters_)

    def leaves(self, x: np.ndarray) -> np.ndarray:
        return np.concatenate([np.asarray(b.predict(x, pred_leaf=True, num_threads=self.threads)) for b in self.boosters_], axis=1)

    def thresholds(self) -> dict[int, list[float]]:
        found: dict[int, list[float]] = {}
        stack = [tree["tree_structure"] for booster in self.boosters_ for tree in booster.dump_model()["tree_info"]]
        while stack:
            node = stack.pop()
            if node.get("decision_type") == "<=":
                found.setdefault(node["split_feature"], []).append(float(node["threshold"]))
            stack += [node[side] for side in ("left_child", "right_child") if side in node]
        return found

    def to_onnx(self, features: Var) -> Var:
        x = op.cast(features, to=np.float64)
        # LightGBM reads what is this close to zero as zero, and may split right there
        x = op.where(op.less_or_equal(op.abs(x), op.const(ZERO, np.float64)), op.const(0.0, np.float64), x)
        total = None
        for booster in self.boosters_:
            attributes = tree_attributes(booster.dump_model())
            score = ml.tree_ensemble(x, n_targets=1, aggregate_function=1, post_transform=0, **attributes)
            total = score if total is None else op.add(total, score)
        assert total is not None
        return op.div(op.squeeze(total, op.const([1])), op.const(float(len(self.boosters_)), np.float64))
