"""From log-odds to a probability: two constants, set on validation, that turn what a model says into how often it happened."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import spox.opset.ai.onnx.v20 as op
from scipy.optimize import minimize
from spox import Var

from pmx.feature.view import const

FAR = 700.0  # exp(710) has no float64
LEAST_SLOPE = 1e-3  # per standard deviation of the score: a worse score never means a smaller probability


@dataclass(frozen=True)
class Odds:
    """Probability 1 / (1 + exp(-(slope · score + offset))), after Platt (1999).

    Trees that learn ticks of few lives by heart are too sure of themselves; out-of-fold scores show how much.

    Attributes:
        slope: above 0; 1 where the score is right as it is.
        offset: in log-odds.

    Example:
        >>> odds = Odds.of(np.repeat([-4.0, 4.0], 100), np.r_[np.repeat([1.0, 0.0], [10, 90]), np.repeat([1.0, 0.0], [90, 10])])
        >>> odds.probability(np.array([-4.0, 4.0])).round(1).tolist()
        [0.1, 0.9]
    """

    slope: float
    offset: float

    @staticmethod
    def of(score: np.ndarray, outcome: np.ndarray) -> Odds:
        """From out-of-fold scores float64 [row] and what came of them, 1.0 or 0.0; rows without either are left out.

        Platt's targets stand a little inside of 0 and 1, so that scores without a single error do not become certainty.
        """
        known = ~np.isnan(score) & ~np.isnan(outcome)
        score, bad = score[known], outcome[known] > 0
        if not bad.any() or bad.all():
            return Odds(1.0, 0.0)
        target = np.where(bad, (bad.sum() + 1) / (bad.sum() + 2), 1 / ((~bad).sum() + 2))
        middle, spread = float(score.mean()), float(score.std()) or 1.0
        unit = (score - middle) / spread  # the optimiser works on scores of like size

        def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
            z = at[0] * unit + at[1]
            error = _sigmoid(z) - target
            return float(np.mean(np.logaddexp(0.0, z) - target * z)), np.array([np.mean(error * unit), np.mean(error)])

        bounds = [(LEAST_SLOPE, None), (None, None)]
        slope, offset = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=bounds).x
        return Odds(float(slope / spread), float(offset - slope * middle / spread))

    def probability(self, score: np.ndarray) -> np.ndarray:
        """float64 [row] of scores [row]; NaN stays NaN."""
        return _sigmoid(self.slope * score + self.offset)

    def nodes(self, score: Var) -> Var:
        """The same as nodes, float64 [asset, 1]."""
        z = op.add(op.mul(score, const(self.slope)), const(self.offset))
        z = op.where(op.isnan(score), const(np.nan), op.max([op.min([z, const(FAR)]), const(-FAR)]))
        return op.div(const(1.0), op.add(const(1.0), op.exp(op.neg(z))))


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(z, -FAR, FAR))))
