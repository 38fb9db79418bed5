"""Accelerated failure times: the life left is Weibull, and features stretch or shrink it. Lives whose end is unknown count, too."""

from __future__ import annotations

import numpy as np
import spox.opset.ai.onnx.v20 as op
from scipy.optimize import minimize
from spox import Var

from pmx.contract import DataError, within
from pmx.model import Model
from pmx.model.standard import Standard

MOST_SHAPE = 50.0  # beyond it a density is a needle, and its exponential overflows


class Weibull(Model):
    """RUL by a Weibull regression on log life: log T = intercept + weight · z + E / shape, E a standard minimum Gumbel.

    The likelihood is that of Kalbfleisch and Prentice (1980, ch. 3): a tick whose life left is known adds a density, one whose asset
    was only seen alive for so long adds a survival. So assets that never failed teach, too. A life beyond the cap counts as seen alive
    until the cap. Features are standardised, cut off at 5, and 0 where missing; their weights carry a ridge penalty.
    The score is the median life left, which half of such assets outlive; it is a baseline with one number per feature.

    Args:
        ridge: weight of the penalty per tick, on weights of standardised features.
        steps: of the optimiser, at most.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(2000, 1)).astype(np.float32)
        >>> life = np.exp(3.0 - 0.5 * x[:, 0]) * rng.weibull(4.0, 2000)
        >>> model = Weibull(ridge=0.0)
        >>> model.fit(x, np.column_stack([life, life]), np.repeat("A", 2000))
        >>> round(float(model.shape_), 1), (model.score(np.array([[-1], [1]], np.float32)) / 10).round(0).tolist()
        (4.0, [3.0, 1.0])
    """

    task = "rul"
    censored = True
    standard_: Standard
    weight_: np.ndarray  # float64 [feature]
    intercept_: float  # log life where all features are at their mean
    shape_: float

    def __init__(self, ridge: float = 0.1, steps: int = 200) -> None:
        within(0, float("inf"), {"ridge": ridge})
        within(1, float("inf"), {"steps": steps})
        self.ridge, self.steps = ridge, steps

    def fit(self, x: np.ndarray, y: np.ndarray, asset: np.ndarray) -> None:
        """As every model; `y` may be [row, 2]: the life left that is certain, and the most it can be, infinite where nobody knows."""
        least, most = (y, y) if y.ndim == 1 else (y[:, 0], y[:, 1])
        known = np.isfinite(most)
        if not (known & (least > 0)).any():
            raise DataError("no tick has a known life left above 0 -> a history with failures, or a model of the task anomaly")
        # at the very tick of a failure nothing is left: half of the least life that is left elsewhere stands for it
        log_life = np.log(np.maximum(least, least[least > 0].min() / 2))
        self.standard_ = Standard.of(x)
        z = np.column_stack([np.ones(len(x)), self.standard_.inputs(x)])
        start = np.zeros(z.shape[1] + 1)
        start[0] = log_life[known].mean()
        bounds = [(None, None)] * z.shape[1] + [(-np.log(MOST_SHAPE), np.log(MOST_SHAPE))]
        found = minimize(
            loss, start, (z, log_life, known, self.ridge), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": self.steps}
        ).x
        self.intercept_, self.weight_, self.shape_ = float(found[0]), found[1:-1], float(np.exp(-found[-1]))

    @property
    def _middle(self) -> float:
        """Log of the median life where all features are at their mean."""
        return self.intercept_ + float(np.log(np.log(2.0))) / self.shape_

    def score(self, x: np.ndarray) -> np.ndarray:
        return np.exp(np.minimum(self.standard_.inputs(x) @ self.weight_ + self._middle, 700.0))  # exp(710) has no float64

    def to_onnx(self, features: Var) -> Var:
        along = op.matmul(self.standard_.nodes(features), op.const(self.weight_))
        return op.exp(op.min([op.add(along, op.const(self._middle, np.float64)), op.const(700.0, np.float64)]))


def loss(at: np.ndarray, z: np.ndarray, log_life: np.ndarray, known: np.ndarray, ridge: float) -> tuple[float, np.ndarray]:
    """Mean negative log-likelihood with a ridge penalty, and its gradient, float64 [parameter].

    Args:
        at: intercept, weights, and the log of the scale 1 / shape.
        z: float64 [row, 1 + weights], ones first.
        log_life: float64 [row], of the life left, or of how long it is certain.
        known: bool [row], whether the life ends there.
    """
    scale, rows = np.exp(at[-1]), len(z)
    w = np.clip((log_life - z @ at[:-1]) / scale, -700.0, 100.0)  # a line search may try anything
    hazard = np.exp(w)
    penalised = np.append(0.0, at[1:-1])
    value = (hazard.sum() - (w - at[-1])[known].sum()) / rows + 0.5 * ridge * float(penalised @ penalised)
    slope = known - hazard  # of the likelihood, in w
    gradient = np.append(z.T @ slope / scale / rows + ridge * penalised, ((slope * w).sum() + known.sum()) / rows)
    return float(value), gradient
