"""Scikit-learn trees as one `ai.onnx.ml` v5 TreeEnsemble, exact: double thresholds against float32 values, summed in the same order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import spox.opset.ai.onnx.ml.v5 as ml
import spox.opset.ai.onnx.v20 as op
from spox import Var

from pmx.contract import DataError
from pmx.model.trees import LESS_OR_EQUAL, Nodes


@dataclass(frozen=True)
class Tree:
    """One tree of scikit-learn.

    Attributes:
        tree: its `tree_`: children, features, thresholds.
        value: float64 [node], what each leaf says.
        feature: int [its feature], the number that each of its features has in the model; some trees see a choice alone.
    """

    tree: Any
    value: np.ndarray
    feature: np.ndarray

    def leaf(self, x: np.ndarray) -> np.ndarray:
        """The leaf of each row of x float32 [row, feature], int [row]."""
        return np.asarray(self.tree.apply(np.ascontiguousarray(x[:, self.feature])), np.int64)

    def write(self, nodes: Nodes) -> None:
        """Its nodes behind those that are there; children get a higher number than their parent."""
        if self.tree.node_count == 1:
            nodes.constant(self.value[0])
            return

        def add(node: int) -> tuple[int, int]:
            left, right = self.tree.children_left[node], self.tree.children_right[node]
            if left < 0:
                return nodes.leaf(self.value[node])
            split = float(self.tree.threshold[node])
            at = nodes.add(int(self.feature[self.tree.feature[node]]), LESS_OR_EQUAL, split, False)
            nodes.link(at, add(left), add(right))
            return at, 0

        add(0)


@dataclass(frozen=True)
class Forest:
    """A sum of trees, over a divisor.

    Attributes:
        trees: in the order in which they are added.
        divisor: of their sum.
        isolation: whether the score is 2 to the minus mean path length (Liu, Ting and Zhou 2008), not the sum itself.
    """

    trees: Sequence[Tree]
    divisor: float
    isolation: bool = False

    @staticmethod
    def mean(estimator: Any, features: int) -> Forest:
        """Of a forest that averages its trees, or a single tree."""
        every = np.arange(features)
        parts = [Tree(e.tree_, e.tree_.value[:, 0, 0], every) for e in getattr(estimator, "estimators_", [estimator])]
        return Forest(parts, float(len(parts)))

    @staticmethod
    def boosted(estimator: Any, features: int) -> Forest:
        """Of gradient boosting on one output; what it begins with goes into the first tree, where it is added as scikit-learn adds it."""
        start, rate = estimator.init_, estimator.learning_rate
        begin = 0.0 if isinstance(start, str) else float(np.ravel(start.constant_)[0])
        values = [rate * e.tree_.value[:, 0, 0] for e in estimator.estimators_[:, 0]]
        values[0] = begin + values[0]
        trees = [e.tree_ for e in estimator.estimators_[:, 0]]
        return Forest([Tree(t, v, np.arange(features)) for t, v in zip(trees, values, strict=True)], 1.0)

    @staticmethod
    def isolating(estimator: Any, features: int) -> Forest:
        """Of an isolation forest: a leaf says how deep it lies, and how much deeper a tree grown on would put its rows."""
        parts = []
        for e, feature in zip(estimator.estimators_, estimator.estimators_features_, strict=True):
            depth = e.tree_.compute_node_depths().astype(np.float64)
            parts.append(Tree(e.tree_, depth + path_length(e.tree_.n_node_samples) - 1.0, np.asarray(feature, np.int64)))
        usual = float(path_length(np.array([estimator.max_samples_]))[0])
        if not usual:
            raise DataError("an isolation forest needs 2 ticks or more in a tree -> more data, or a larger max_samples")
        return Forest(parts, len(parts) * usual, isolation=True)

    def score(self, x: np.ndarray) -> np.ndarray:
        """float64 [row] of x float32 [row, feature] without NaN."""
        total = np.zeros(len(x))
        for tree in self.trees:
            total = total + tree.value[tree.leaf(x)]
        return np.exp2(-(total / self.divisor)) if self.isolation else total / self.divisor

    def nodes(self, x: Var) -> Var:
        """The same as nodes, float64 [asset]."""
        written, roots = Nodes(), []
        for tree in self.trees:
            roots.append(len(written.feature))
            tree.write(written)
        wide = op.cast(x, to=np.float64)
        total = ml.tree_ensemble(wide, n_targets=1, aggregate_function=1, post_transform=0, **written.attributes(roots))
        mean = op.div(op.squeeze(total, op.const([1])), op.const(self.divisor, np.float64))
        return op.pow(op.const(2.0, np.float64), op.neg(mean)) if self.isolation else mean

    def leaves(self, x: np.ndarray) -> np.ndarray:
        """int [row, tree] of x float32 [row, feature] without NaN."""
        return np.stack([tree.leaf(x) for tree in self.trees], axis=1)

    def thresholds(self) -> dict[int, list[float]]:
        """Feature index -> the values at which some tree splits on it."""
        found: dict[int, list[float]] = {}
        for part in self.trees:
            inner = part.tree.children_left >= 0
            for feature, split in zip(part.feature[part.tree.feature[inner]], part.tree.threshold[inner], strict=True):
                found.setdefault(int(feature), []).append(float(split))
        return found


def path_length(rows: np.ndarray) -> np.ndarray:
    """Mean length of an unsuccessful search in a binary tree of so many rows, float64 [n]: 2 H(n-1) - 2 (n-1) / n (Liu, Ting and Zhou 2008)."""
    n = np.maximum(np.asarray(rows, np.float64), 2.0)
    long = 2.0 * (np.log(np.maximum(n - 1.0, 1.0)) + np.euler_gamma) - 2.0 * (n - 1.0) / n
    return np.where(np.asarray(rows) <= 1, 0.0, np.where(np.asarray(rows) == 2, 1.0, long))
