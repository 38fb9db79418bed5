"""Standardised inputs of models that weigh features: centred, scaled, cut off and without gaps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import spox.opset.ai.onnx.v20 as op
from spox import Var

LIMIT = 5.0  # a standardised feature never exceeds this: a spike must not throw a model off
LEAST = 1e-9  # a deviation below it is rounding


@dataclass(frozen=True)
class Standard:
    """What features were like on the ticks fitted on; a missing one is read as the mean.

    Attributes:
        mean, scale: float64 [feature].

    Example:
        >>> standard = Standard.of(np.array([[1.0], [3.0], [np.nan]], np.float32))
        >>> standard.inputs(np.array([[3.0], [np.nan], [1e9]], np.float32)).ravel().tolist()
        [1.0, 0.0, 5.0]
    """

    mean: np.ndarray
    scale: np.ndarray

    @staticmethod
    def of(x: np.ndarray) -> Standard:
        """From features float32 [row, feature]; one that never moved, or was never there, tells nothing."""
        wide = np.where(np.isfinite(x), x.astype(np.float64), np.nan)
        count = (~np.isnan(wide)).sum(0)
        mean = np.divide(np.nansum(wide, 0), count, out=np.zeros(x.shape[1]), where=count > 0)
        scale = np.sqrt(np.divide(np.nansum((wide - mean) ** 2, 0), count, out=np.zeros(x.shape[1]), where=count > 0))
        return Standard(mean, np.where(scale < LEAST, np.inf, scale))

    def inputs(self, x: np.ndarray) -> np.ndarray:
        """float64 [row, feature] of features float32 [row, feature]."""
        with np.errstate(invalid="ignore"):  # infinity over infinity is NaN, and read as the mean
            z = np.clip((x.astype(np.float64) - self.mean) / self.scale, -LIMIT, LIMIT)
        return np.where(np.isnan(z), 0.0, z)

    def nodes(self, features: Var) -> Var:
        """The same as nodes, float64 [asset, feature]."""
        z = op.div(op.sub(op.cast(features, to=np.float64), op.const(self.mean)), op.const(self.scale))
        z = op.where(op.isnan(z), op.const(0.0, np.float64), z)
        return op.max([op.min([z, op.const(LIMIT, np.float64)]), op.const(-LIMIT, np.float64)])
