"""What kernels read of trailing windows over a whole history, in numpy: each number once, however many kernels ask for it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from math import floor

import numpy as np

from pmx.feature.rank import ranked

SORTED = 64  # ticks of the longest window that is sorted here; sorting a longer one costs more than Polars' skip list
VALUES = 2**15  # of a stretch: what is computed of them stays in a core's cache; results do not depend on it


class Stretch:
    """Windows that end with some ticks of one life, float64 [tick, channel]; NaN, or NaN in the end, where none of a window has a value.

    Sums go through a window oldest first, as those of the step graph do.

    Args:
        z: scores float64 [tick, channel], NaN = missing: those ticks, and before them what windows reach back to.
        older: how many of them come before.
        shares: of the windows that are sorted, for each length which shares `quantile` will be asked for.

    Example:
        >>> stretch = Stretch(np.array([[np.nan], [4.0], [2.0], [9.0]]), older=1, shares={2: {0.5}})
        >>> stretch.most(2).ravel().tolist(), stretch.quantile(2, 0.5).ravel().tolist()
        ([4.0, 4.0, 9.0], [4.0, 3.0, 5.5])
    """

    def __init__(self, z: np.ndarray, older: int, shares: Mapping[int, Collection[float]]) -> None:
        self._z, self._older, self._shares = z, older, shares
        self._there = ~np.isnan(z)
        self._runs: dict[tuple[Callable[..., np.ndarray], int], np.ndarray] = {}
        self._quantiles: dict[tuple[int, float], np.ndarray] = {}

    def complete(self, window: int) -> bool:
        """Whether every value of every window is present."""
        return bool(self._there[self._older + 1 - window :].all())

    def count(self, window: int) -> np.ndarray:
        """How many values are present, float64 [tick or 1, channel or 1]."""
        if self.complete(window):
            return np.full((1, 1), float(window))
        counted = np.cumsum(self._there[self._older + 1 - window :], axis=0, dtype=np.float64)
        return counted[window - 1 :] - np.concatenate([np.zeros((1, counted.shape[1])), counted[:-window]])

    def least(self, window: int) -> np.ndarray:
        """The smallest value; ∞ where none is present."""
        return self._extreme(np.minimum, np.inf, window)

    def most(self, window: int) -> np.ndarray:
        """The largest value; −∞ where none is present."""
        return self._extreme(np.maximum, -np.inf, window)

    def squares(self, window: int) -> np.ndarray:
        """Sum of squared distances from the window's mean; 0 where no value is present."""
        x = self._z[self._older + 1 - window :]
        there = None if self.complete(window) else self._there[self._older + 1 - window :].astype(np.float64)
        if there is not None:
            x = np.where(there > 0, x, 0.0)
        size = len(x) - window + 1
        mean, squares, distance = np.zeros((size, x.shape[1])), np.zeros((size, x.shape[1])), np.empty((size, x.shape[1]))
        for at in range(window):
            mean += x[at : at + size]
        mean /= np.maximum(self.count(window), 1.0)
        for at in range(window):
            np.subtract(x[at : at + size], mean, out=distance)
            if there is not None:
                distance *= there[at : at + size]
            distance *= distance
            squares += distance
        return squares

    def quantile(self, window: int, share: float) -> np.ndarray:
        """The value at a share of the places from the smallest to the largest, in proportion between two of them."""
        if (window, share) not in self._quantiles:
            asked = sorted(self._shares[window])
            self._quantiles |= dict(zip(((window, s) for s in asked), self._sorted(window, asked), strict=True))
        return self._quantiles[window, share]

    def _extreme(self, of: Callable[..., np.ndarray], nothing: float, window: int) -> np.ndarray:
        """From the extremes of the two runs that cover a window, each of as many ticks as the largest power of two in it."""
        run, length = self._runs.get((of, 1)), 1
        if run is None:
            run = self._runs[of, 1] = self._z if self._there.all() else np.where(self._there, self._z, nothing)
        while 2 * length <= window:
            if (of, 2 * length) not in self._runs:
                self._runs[of, 2 * length] = of(run[:-length], run[length:])
            run, length = self._runs[of, 2 * length], 2 * length
        begin, ticks = self._older + 1 - window, len(self._z) - self._older
        return of(run[begin : begin + ticks], run[self._older + 1 - length :][:ticks])

    def _sorted(self, window: int, shares: list[float]) -> Iterator[np.ndarray]:
        """One quantile after the other, float64 [tick, channel]."""
        values = self._z[self._older + 1 - window :].astype(np.float32)  # scores are float32 numbers
        if self.complete(window):
            places = [(window - 1) * share for share in shares]
            ranks = sorted({min(floor(at) + up, window - 1) for at in places for up in (0, 1)})
            found = dict(zip(ranks, ranked(values, window, ranks), strict=True))
            for at in places:
                low, high = (found[min(floor(at) + up, window - 1)].astype(np.float64) for up in (0, 1))
                yield low + (at - floor(at)) * (high - low)
            return
        values[np.isnan(values)] = np.inf  # each window has ranks of its own: all of them are sorted
        every, newest = np.sort(np.lib.stride_tricks.sliding_window_view(values, window, axis=0), axis=-1), self.count(window) - 1.0
        for share in shares:
            place = np.maximum(newest * share, 0.0)
            below = np.floor(place)
            above = np.clip(below + 1.0, 0.0, np.maximum(newest, 0.0))
            low, high = (np.take_along_axis(every, p[:, :, None].astype(np.int64), 2)[:, :, 0].astype(np.float64) for p in (below, above))
            with np.errstate(invalid="ignore"):  # ∞ - ∞ where no value is present
                yield np.where(newest < 0, np.nan, low + (place - below) * (high - low))


def stretches(z: np.ndarray, rows: int, shares: Mapping[int, Collection[float]]) -> Iterator[tuple[slice, Stretch]]:
    """The ticks of one life, a number of them at a time; the first ones, whose windows begin before the life does, by themselves.

    Args:
        z: scores float64 [tick, channel], NaN = missing.
        rows: of the longest window.
        shares: as for `Stretch`.
    """
    older, size = rows - 1, max(1, VALUES // z.shape[1])
    padded = np.concatenate([np.full((older, z.shape[1]), np.nan), z])
    begins = [*range(0, min(older, len(z)), size), *range(min(older, len(z)), len(z), size)]
    for begin, end in zip(begins, [*begins[1:], len(z)], strict=True):
        yield slice(begin, end), Stretch(padded[begin : end + older], older, shares)
