"""Estimators of scikit-learn that a step graph can repeat: named in a YAML, lowered exactly. Any other is refused by name."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import spox.opset.ai.onnx.v20 as op
from sklearn.base import clone
from spox import Var

from pmx.contract import DataError, UsageError, within
from pmx.model import LIGHT, Model
from pmx.model.forest import Forest
from pmx.model.standard import Standard

BOUND = np.float32(1e30)  # larger values are read as it: infinity is no number to split or to add up


class Lowered(Protocol):
    """A fitted estimator as plain numbers: `score` float64 [row], and the same as `nodes` float64 [asset], of its inputs."""

    def score(self, x: np.ndarray) -> np.ndarray: ...

    def nodes(self, x: Var) -> Var: ...


ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda v: v,
    "relu": lambda v: np.maximum(v, 0.0),
    "tanh": np.tanh,
    "logistic": lambda v: 1.0 / (1.0 + np.exp(-np.clip(v, -700.0, 700.0))),
}


@dataclass(frozen=True)
class Dense:
    """Layers of weights float64 [in, out] and biases [out], with an activation between them; a linear model is one layer."""

    weight: list[np.ndarray]
    bias: list[np.ndarray]
    activation: str = "identity"

    @staticmethod
    def line(estimator: Any, features: int) -> Dense:
        return Dense([np.reshape(estimator.coef_, (1, -1)).T.astype(np.float64)], [np.reshape(estimator.intercept_, 1).astype(np.float64)])

    @staticmethod
    def network(estimator: Any, features: int) -> Dense:
        weight = [np.asarray(w, np.float64) for w in estimator.coefs_]
        return Dense(weight, [np.asarray(b, np.float64) for b in estimator.intercepts_], estimator.activation)

    def score(self, x: np.ndarray) -> np.ndarray:
        for i, (w, b) in enumerate(zip(self.weight, self.bias, strict=True)):
            x = x @ w + b
            if i < len(self.weight) - 1:
                x = ACTIVATIONS[self.activation](x)
        return x[:, 0]

    def nodes(self, x: Var) -> Var:
        for i, (w, b) in enumerate(zip(self.weight, self.bias, strict=True)):
            x = op.add(op.matmul(x, op.const(w)), op.const(b))
            if i < len(self.weight) - 1:
                x = {"identity": op.identity, "relu": op.relu, "tanh": op.tanh, "logistic": op.sigmoid}[self.activation](x)
        return op.squeeze(x, op.const([1]))


@dataclass(frozen=True)
class Nearest:
    """Distance from the nearest of these centres, float64 [centre, feature]."""

    centres: np.ndarray

    @staticmethod
    def of(estimator: Any, features: int) -> Nearest:
        return Nearest(np.asarray(estimator.cluster_centers_, np.float64))

    def score(self, x: np.ndarray) -> np.ndarray:
        return np.sqrt(np.min([((x - c) ** 2).sum(1) for c in self.centres], axis=0))

    def nodes(self, x: Var) -> Var:
        apart = op.sub(op.unsqueeze(x, op.const([1])), op.const(self.centres))
        square = op.reduce_sum(op.mul(apart, apart), op.const([2]), keepdims=0)
        return op.sqrt(op.reduce_min(square, op.const([1]), keepdims=0))


@dataclass(frozen=True)
class Rest:
    """Squared distance from a subspace through `mean` float64 [feature], along `axes` float64 [feature, axis]."""

    mean: np.ndarray
    axes: np.ndarray

    @staticmethod
    def of(estimator: Any, features: int) -> Rest:
        return Rest(np.asarray(estimator.mean_, np.float64), np.ascontiguousarray(estimator.components_.T, np.float64))

    def score(self, x: np.ndarray) -> np.ndarray:
        z = x - self.mean
        rest = z - z @ self.axes @ self.axes.T
        return (rest * rest).sum(1)

    def nodes(self, x: Var) -> Var:
        z = op.sub(x, op.const(self.mean))
        rest = op.sub(z, op.matmul(op.matmul(z, op.const(self.axes)), op.const(np.ascontiguousarray(self.axes.T))))
        return op.reduce_sum(op.mul(rest, rest), op.const([1]), keepdims=0)


@dataclass(frozen=True)
class Form:
    """How a class of scikit-learn is taken: for which task, what lowers it once it is fitted, whether it is made of trees, and whether
    its nodes give the very bits of its score.
    """

    task: str
    lower: Callable[[Any, int], Lowered]
    trees: bool = False
    exact: bool = False


LOWERED = {
    "LinearRegression": Form("rul", Dense.line),
    "Ridge": Form("rul", Dense.line),
    "Lasso": Form("rul", Dense.line),
    "ElasticNet": Form("rul", Dense.line),
    "HuberRegressor": Form("rul", Dense.line),
    "LogisticRegression": Form("failure", Dense.line),
    "MLPRegressor": Form("rul", Dense.network),
    "DecisionTreeRegressor": Form("rul", Forest.mean, trees=True, exact=True),
    "ExtraTreesRegressor": Form("rul", Forest.mean, trees=True, exact=True),
    "RandomForestRegressor": Form("rul", Forest.mean, trees=True, exact=True),
    "GradientBoostingRegressor": Form("rul", Forest.boosted, trees=True, exact=True),
    "IsolationForest": Form("anomaly", Forest.isolating, trees=True),  # a power is rounded by each library in its own way
    "KMeans": Form("anomaly", Nearest.of),
    "PCA": Form("anomaly", Rest.of),
}
"""By the class of scikit-learn; all others are refused."""


class Estimator(Model):
    """A scikit-learn estimator: regressors state RUL, a logistic regression log-odds of failure, the others a distance from normal.

    An isolation forest scores its mean path length as scikit-learn does, with the sign turned; k-means the distance from the nearest
    centre; PCA the squared distance from its subspace. Trees take features as they are, and a missing one as the mean of
    the ticks fitted on; all others take them standardised, cut off at 5, with 0 where missing.

    Args:
        estimator: one of `LOWERED`, not fitted.
        smooth: half-life in ticks of the running mean of an anomaly score; 0 = none.
        seed: of an estimator whose `random_state` is left open.

    Example:
        >>> from sklearn.linear_model import Ridge
        >>> x = np.arange(10, dtype=np.float32)[:, None]
        >>> model = Estimator(Ridge(alpha=0.0))
        >>> model.fit(x, 2.0 * x[:, 0], np.repeat("A", 10))
        >>> model.score(x[1:4]).round(6).tolist()
        [2.0, 4.0, 6.0]
    """

    standard_: Standard
    lowered_: Lowered

    def __init__(self, estimator: Any, smooth: float = 0.0, seed: int = 0) -> None:
        name, home = type(estimator).__name__, type(estimator).__module__.partition(".")[0]
        if home != "sklearn" or name not in LOWERED:
            raise UsageError(f"{home}.{name} has no exact form in a step graph -> one of scikit-learn's {', '.join(LOWERED)}")
        if name == "GradientBoostingRegressor" and estimator.init not in (None, "zero"):
            raise UsageError("init of GradientBoostingRegressor must be a number in a step graph -> leave it out")
        if name == "MLPRegressor" and getattr(estimator, "loss", "squared_error") != "squared_error":
            raise UsageError("a network of another loss ends in an exponential -> loss: squared_error")
        if name == "PCA" and estimator.n_components is None:
            raise UsageError("PCA keeps all components, and nothing is far from them -> n_components: 0.9")
        try:
            estimator._validate_params()  # at once: scikit-learn itself would only say it when it fits
        except ValueError as error:
            raise UsageError(f"{error} -> give it such a value") from error
        within(0, float("inf"), {"smooth": smooth})
        self.estimator, self.smooth, self.seed = estimator, smooth, seed
        self.form = LOWERED[name]
        self.task, self.exact = self.form.task, self.form.exact

    def fit(self, x: np.ndarray, y: np.ndarray, asset: np.ndarray) -> None:
        name = type(self.estimator).__name__
        one = clone(self.estimator)
        if "random_state" in one.get_params() and one.random_state is None:
            one.set_params(random_state=self.seed)
        self.standard_ = Standard.of(x)
        try:
            one.fit(self._inputs(x), None if self.task == "anomaly" else y)
        except ValueError as error:
            raise DataError(f"{name} cannot be fitted on {len(x):,} ticks with {x.shape[1]} features: {error}") from error
        self.lowered_ = self.form.lower(one, x.shape[1])

    @property
    def _fill(self) -> np.ndarray:
        return self.standard_.mean.astype(np.float32)

    def _inputs(self, x: np.ndarray) -> np.ndarray:
        if not self.form.trees:
            return self.standard_.inputs(x)
        return np.clip(np.where(np.isnan(x), self._fill, x), -BOUND, BOUND).astype(np.float32)

    def score(self, x: np.ndarray) -> np.ndarray:
        return self.lowered_.score(self._inputs(x))

    def to_onnx(self, features: Var) -> Var:
        if not self.form.trees:
            return self.lowered_.nodes(self.standard_.nodes(features))
        filled = op.where(op.isnan(features), op.const(self._fill), features)
        return self.lowered_.nodes(op.max([op.min([filled, op.const(BOUND)]), op.const(-BOUND)]))

    def light(self) -> Self:
        small = copy.deepcopy(self)
        few = {"n_estimators": LIGHT["trees"]}
        known = small.estimator.get_params()
        small.estimator.set_params(**{n: min(known[n], most) for n, most in few.items() if n in known})
        return small

    def leaves(self, x: np.ndarray) -> np.ndarray:
        return self.lowered_.leaves(self._inputs(x)) if isinstance(self.lowered_, Forest) else super().leaves(x)

    def thresholds(self) -> dict[int, list[float]]:
        return self.lowered_.thresholds() if isinstance(self.lowered_, Forest) else {}
