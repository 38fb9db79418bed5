"""Intervals: assets are drawn, not readings, since the readings of one asset are not independent."""

from __future__ import annotations

import numpy as np

Interval = tuple[float, float, float]  # value, lower and upper end of 95 %


def ratio(numerator: np.ndarray, denominator: np.ndarray, draws: int, seed: int, root: bool = False) -> Interval:
    """Sum over sum of per-asset parts [asset], with the percentile bootstrap over assets (Efron 1979).

    Args:
        draws: bootstrap samples.
        root: take the square root, as for a root mean square error.
    """
    if not len(numerator) or denominator.sum() <= 0:
        return (np.nan, np.nan, np.nan)
    if np.count_nonzero(denominator) < 2:  # one asset says nothing of how assets differ
        value = float(numerator.sum() / denominator.sum())
        return (np.sqrt(value) if root else value), np.nan, np.nan
    rng = np.random.default_rng(seed)
    at = rng.integers(0, len(numerator), (draws, len(numerator)))
    below = denominator[at].sum(1)
    drawn = numerator[at].sum(1)[below > 0] / below[below > 0]
    found = np.r_[numerator.sum() / denominator.sum(), np.percentile(drawn, [2.5, 97.5])]
    value, low, high = np.sqrt(found) if root else found
    return float(value), float(low), float(high)


def share(hits: int, trials: int) -> Interval:
    """A proportion with Wilson's score interval (Wilson 1927): it stays honest at 0 of n and n of n."""
    if trials == 0:
        return (np.nan, np.nan, np.nan)
    z, p = 1.959964, hits / trials
    centre, half = p + z * z / (2 * trials), z * np.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    low, high = ((centre + s * half) / (1 + z * z / trials) for s in (-1, 1))
    return p, min(p, max(0.0, float(low))), max(p, min(1.0, float(high)))  # rounding may not push an end past the share


def rate(counts: np.ndarray, exposure: np.ndarray, draws: int, seed: int) -> Interval:
    """Events per exposure, per-asset parts [asset]; where nothing was counted the upper end is 3 / exposure (the rule of three)."""
    value, low, high = ratio(counts, exposure, draws, seed)
    return (0.0, 0.0, float(3 / exposure.sum())) if value == 0 else (value, low, high)


def middle(values: list[np.ndarray], draws: int, seed: int) -> Interval:
    """Median of what each asset gives, float64 [case] per asset, with the percentile bootstrap over the assets that give something."""
    given = [v for v in values if len(v)]
    if not given:
        return (np.nan, np.nan, np.nan)
    value = float(np.median(np.concatenate(given)))
    if len(given) < 2:
        return value, np.nan, np.nan
    at = np.random.default_rng(seed).integers(0, len(given), (draws, len(given)))
    if max(map(len, given)) == 1:
        drawn = np.median(np.concatenate(given)[at], axis=1)
    else:
        drawn = np.array([np.median(np.concatenate([given[i] for i in row])) for row in at])
    low, high = np.percentile(drawn, [2.5, 97.5])
    return value, float(low), float(high)
