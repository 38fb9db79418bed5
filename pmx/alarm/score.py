"""How bad a score is among healthy ones: the anomaly score, 0..1."""

from __future__ import annotations

import numpy as np


def score_of(ratio: np.ndarray, healthy: np.ndarray) -> np.ndarray:
    """Anomaly scores float64 [row]: the share of healthy ratios at or below each ratio, interpolated between them.

    Beyond the largest healthy one the score goes on rising towards 1, so that bad and worse stay apart; there it is
    no rank any more.

    Args:
        ratio: scores as multiples of the healthy level, float64 [row]; NaN stays NaN.
        healthy: the same of healthy validation ticks, sorted, float64 [rank], the last above 0.

    Example:
        >>> score_of(np.array([0.5, 3.0, 6.0]), np.array([1.0, 2.0, 3.0])).tolist()
        [0.125, 0.75, 0.875]
    """
    knots, rank = knots_of(healthy)
    inside = np.clip(np.nan_to_num(ratio, nan=0.0), 0.0, knots[-1])
    below = np.minimum(np.searchsorted(knots, inside, side="right") - 1, len(knots) - 2)
    within = rank[below] + (inside - knots[below]) / (knots[below + 1] - knots[below]) * (rank[below + 1] - rank[below])
    beyond = 1 - (1 - rank[-1]) * (knots[-1] / np.maximum(ratio, knots[-1]))
    return np.where(np.isnan(ratio), np.nan, np.where(ratio > knots[-1], beyond, within))


def knots_of(healthy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ratios, rising from 0, and the share of healthy ones at or below each, float64 [knot]; the share at the last leaves room above."""
    knots, count = np.unique(np.maximum(healthy, 0.0), return_counts=True)
    rank = np.cumsum(count) / (len(healthy) + 1)
    return (knots, rank) if knots[0] == 0 else (np.append(0.0, knots), np.append(0.0, rank))
