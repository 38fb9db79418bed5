"""How bad a score is among healthy ones: the anomaly score, 0..1."""

from __future__ import annotations

import numpy as np


def score_of(ratio: np.ndarray, healthy: np.ndarray) -> np.ndarray:
    """Anomaly scores float64 [row]: the share of healthy ratios at or below each ratio.

    Beyond the largest healthy one the score goes on rising towards 1, so that bad and worse stay apart; there it is
    no rank any more.

    Args:
        ratio: scores as multiples of the healthy level, float64 [row]; NaN stays NaN.
        healthy: the same of healthy validation ticks, sorted, float64 [rank], the last above 0.

    Example:
        >>> score_of(np.array([0.5, 3.0, 6.0]), np.array([1.0, 2.0, 3.0])).tolist()
        [0.0, 0.75, 0.875]
    """
    tail, largest = 1 / (len(healthy) + 1), healthy[-1]
    rank = np.searchsorted(healthy, ratio, side="right") * tail
    beyond = 1 - tail * (largest / np.maximum(ratio, largest))
    return np.where(np.isnan(ratio), np.nan, np.where(ratio > largest, beyond, rank))
