"""What is usual of readings, learnt from the ticks that are fitted on: how often a channel repeats, jumps, fails, and what others tell of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

SHORT, MIDDLE, LONG, LONGEST = 4, 12, 24, 48  # ticks that counts look back over
REPEATS = 6  # the same for repeated values in a row
MEAN = 8  # ticks whose mean is held against the other channels
LEAST_COMPLETE = 50  # ticks with every channel present that an estimate from other channels needs
RIDGE = 0.01  # of a score's variance
LEAST_ASSETS = 20  # of n assets, about one in n + 1 others strays further than all of them: with few, nobody knows how far one may stray
NEVER = 1e9  # a count that no window reaches
USUAL = 0.998  # share of ticks that is usual; the rest may be faults that the record holds


@dataclass(frozen=True)
class Habit:
    """Thresholds and estimates of the scored channels, float64 [channel] unless said otherwise.

    Attributes:
        missing: least counts of missing readings in `SHORT` and `LONG` ticks that are a dropout, [2, channel of the contract].
        repeated: least counts of repeated values in `REPEATS` and `LONG` ticks that mean stuck, [2, channel].
        returned: least count of returns to the very same extreme in `LONGEST` ticks that means saturation.
        jump: the step from tick to tick that one in two hundred exceeds.
        jumps: least count of larger steps in `MIDDLE` ticks that is noise.
        leaps: least count of larger steps in `LONG` ticks that are spikes where they are not noise.
        low, high: scores beyond these were not seen.
        weight: of the other channels' scores in a channel's estimate, [channel from, channel to].
        stray: how much further a channel strays from its estimate per unit of the estimate, relative to where that is 0.
        apart, apart8: the distance from the estimate, of one tick and of the mean of eight, that was not seen where the estimate is 0.
        worth: share of a channel's variance that the estimate explains on assets that it was not fitted on; 0 where these are few.
    """

    missing: np.ndarray
    repeated: np.ndarray
    returned: np.ndarray
    jump: np.ndarray
    jumps: np.ndarray
    leaps: np.ndarray
    low: np.ndarray
    high: np.ndarray
    weight: np.ndarray
    stray: np.ndarray
    apart: np.ndarray
    apart8: np.ndarray
    worth: np.ndarray

    @staticmethod
    def of(seen: list[dict[str, np.ndarray]], margin: float) -> Habit:
        """From the counts of each asset, name -> float64 [time, channel].

        Args:
            margin: how far beyond the largest distance from an estimate one must lie that was not seen.
        """
        every = {name: np.concatenate([s[name] for s in seen]) for name in seen[0]}
        z = every["z"]
        jump = per_channel(lambda v: float(np.quantile(v, 0.995)), every["step"], np.inf)
        large = [(s["step"] > jump).astype(np.float64) for s in seen]
        jumps, leaps = (np.concatenate([_rolling(v, rows) for v in large]) for rows in (MIDDLE, LONG))
        low, high = per_channel(np.min, z, -np.inf), per_channel(np.max, z, np.inf)
        with np.errstate(invalid="ignore"):
            room = np.nan_to_num(0.05 * (high - low))
        return Habit(
            np.stack([_beyond(every["missing4"], SHORT, 1, 3), _beyond(every["missing24"], LONG, 3, 7)]),
            np.stack([_beyond(every["repeated6"], REPEATS, 2, 3), _beyond(every["repeated24"], LONG, 3, 8)]),
            _beyond(every["returned48"], LONGEST // 2, 2, 2),
            jump,
            _beyond(jumps, MIDDLE, 1, 7),
            np.maximum(leaps.max(0, initial=0) + 1, 4) if len(seen) >= LEAST_ASSETS else np.full(z.shape[1], NEVER),
            low - room,
            high + room,
            *_estimates([s["z"] for s in seen], low - room, high + room, margin),
        )


def _beyond(counts: np.ndarray, window: int, more: int, least: int) -> np.ndarray:
    """The least count that is not usual, [channel]; `NEVER` where even a full window would be."""
    limit = np.maximum(np.quantile(counts, USUAL, axis=0, method="higher") + more, least)
    return np.where(limit > window, NEVER, limit)


def per_channel(what: Callable[[np.ndarray], float], values: np.ndarray, none: float) -> np.ndarray:
    """A statistic of the values present, [channel]; `none` where there are none."""
    columns = [v[~np.isnan(v)] for v in values.T]
    return np.array([what(v) if len(v) else none for v in columns])


def _rolling(values: np.ndarray, rows: int) -> np.ndarray:
    """Sum over the last `rows` ticks, [time, channel]; fewer at the beginning."""
    total = np.cumsum(values, axis=0)
    return total - np.concatenate([np.zeros((rows, values.shape[1])), total])[: len(total)]


def _estimates(parts: list[np.ndarray], low: np.ndarray, high: np.ndarray, margin: float) -> tuple[np.ndarray, ...]:
    """Weights [channel from, channel to], then stray, the two distances that were not seen and the worth, each [channel].

    A ridge regression of each channel on the others, all of them from one inverse of the scores' second moments: with precision P,
    the weight of channel i in the estimate of channel j is -P[i, j] / P[j, j] (S. Lauritzen, Graphical Models, chapter 5).
    Distances and worth are measured on thirds of the assets that the weights were not fitted on.
    """
    channels = parts[0].shape[1]
    few = len(parts) < LEAST_ASSETS
    if len(parts) < 3:  # of one long history, its thirds
        parts = [third for p in parts for third in np.array_split(p, 3)]
    complete = [~np.isnan(p).any(1) for p in parts]
    fold = np.concatenate([np.full(len(p), i % 3) for i, p in enumerate(parts)])
    whole = np.concatenate(complete)
    z = np.nan_to_num(np.concatenate(parts))
    if whole.sum() < LEAST_COMPLETE or any((whole & (fold != i)).sum() < LEAST_COMPLETE // 2 for i in range(3)):
        none = np.full(channels, np.inf)
        return np.zeros((channels, channels)), np.zeros(channels), none, none, np.zeros(channels)
    clipped = np.concatenate([_rolling(np.clip(np.nan_to_num(p), low, high), MEAN) / MEAN for p in parts])
    steady = np.concatenate([_rolling(c[:, None].astype(np.float64), MEAN)[:, 0] == MEAN for c in complete])
    final = _weights(z[whole])
    beside = [_weights(z[whole & (fold != i)]) for i in range(3)]
    out = np.choose(fold[:, None], [z @ w for w in beside])
    stray = _stray(out[whole], np.abs(z - out)[whole])
    most, most8 = np.zeros(channels), np.zeros(channels)
    for weights in (beside, [final] * 3):
        for rows, values in ((whole, z), (steady, clipped)):
            estimate = np.choose(fold[:, None], [values @ w for w in weights])[rows]
            apart = (np.abs(values[rows] - estimate) / (1 + stray * np.abs(estimate))).max(0, initial=0)
            if rows is whole:
                most = np.maximum(most, apart)
            else:
                most8 = np.maximum(most8, apart)
    left, spread = ((z - out)[whole] ** 2).sum(0), np.maximum(((z[whole] - z[whole].mean(0)) ** 2).sum(0), 1e-12)
    worth = np.clip(1 - left / spread, 0, 1)
    if few:
        most, most8, worth = most + np.inf, most8 + np.inf, 0 * worth
    return final, stray, np.maximum(margin * most, 1e-6), np.maximum(margin * most8, 1e-6), worth


def _stray(estimate: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """How much the distance grows with the estimate's size, [channel]: between the lesser half of
    the estimates and the farthest fiftieth, the rise of the largest distance, relative to that of the half; never below 0.
    """
    found = np.zeros(estimate.shape[1])
    for i, (e, a) in enumerate(zip(np.abs(estimate).T, apart.T, strict=True)):
        near, far = e <= np.quantile(e, 0.5), e >= np.quantile(e, 0.98)
        base, rise, run = a[near].max(), a[far].max() - a[near].max(), e[far].mean() - e[near].mean()
        found[i] = max(0.0, rise / max(run * base, 1e-12))
    return found


def _weights(z: np.ndarray) -> np.ndarray:
    second = z.T @ z / len(z)
    precision = np.linalg.inv(second + RIDGE * np.eye(len(second)))
    weight = -precision / np.diag(precision)
    np.fill_diagonal(weight, 0.0)
    return weight
