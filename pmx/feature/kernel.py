"""Kernels: named causal features, each as step-graph nodes and as Polars expressions that give the same numbers.

A kernel reads normalised readings z, float64 [asset, time, channel], in standard deviations of the channel's operating
regime. Half-lives, windows and lags count ticks. A missing value is skipped, never filled. Here are the interface and the kernels
of level and slope; `pmx.feature.statistic` has what else a window tells, `pmx.feature.memory` what an asset carries through its life.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import numpy as np
import polars as pl
import spox.opset.ai.onnx.v20 as op
from spox import Var

from pmx.contract import UsageError
from pmx.feature.rolling import SORTED, Stretch
from pmx.feature.view import LAST, View, const, whole

REGIME = "regime of tick"  # the column of regimes beside the scores: no channel has a name with blanks of ours


def reading(channel: str) -> pl.Expr:
    """Readings of a channel as they were before normalisation, Float64, for a kernel that lists it in `readings`."""
    return pl.col(column_of(channel))


def column_of(channel: str) -> str:
    """The column of those readings beside the scores."""
    return f"reading of {channel}"


class Kernel(ABC):
    """One causal feature per channel (or one in all), defined twice and compared by the parity gate.

    Attributes:
        reads_age: True where the value grows with the asset's age or counts its ticks; such kernels are left out "without age".
        reads_regime: True where it reads the operating regime of a tick.
        readings: channels of the contract that it reads as they were before normalisation.
        rolls: True where `rolled` gives the same numbers over a history.
        shares: of its window, sorted, that `rolled` and `nodes` ask for.
    """

    reads_age = False
    reads_regime = False
    readings: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()

    @property
    @abstractmethod
    def label(self) -> str:
        """Short name, unique in a feature set; it is what a gate names as culprit."""

    @property
    def rows(self) -> int:
        """How many of the newest rows of the window it reads."""
        return 1

    def slots(self, channels: int) -> list[int]:
        """Widths of the memory parts it carries for an asset; all start at 0."""
        return []

    def names(self, channels: list[str]) -> list[str]:
        """Names of its features, in order."""
        return [f"{self.label}:{c}" for c in channels]

    @abstractmethod
    def nodes(self, view: View, memory: list[Var]) -> tuple[Var, list[Var]]:
        """Features float64 [asset, feature] and the next memory, for its memory parts, each float64 [asset, width]."""

    def unit(self, channel: str) -> str:
        """Unit of a feature of a channel in this unit."""
        return channel

    def polars(self, z: list[pl.Expr]) -> list[pl.Expr] | None:
        """The same features over one asset's ticks in order, one expression each; None where no expression gives the same
        numbers, or none as fast as what a `Rolling` kernel has instead. A kernel with neither is computed offline by its nodes too, in
        blocks of windows, if it has no memory.
        """
        return None


class Rolling(Kernel, ABC):
    """A kernel of a trailing window that numpy computes to the same numbers over a history, where there are no expressions.

    Example:
        >>> Deviation(2).rolled(Stretch(np.array([[1.0], [3.0], [3.0]]), older=1, shares={})).round(3).ravel().tolist()
        [1.414, 0.0]
    """

    @abstractmethod
    def rolled(self, stretch: Stretch) -> np.ndarray:
        """The features at a stretch of one asset's ticks, float64 [tick, feature]."""


def shares_of(kernels: Iterable[Kernel]) -> dict[int, set[float]]:
    """What kernels will ask of sorted windows, by the rows of the window."""
    found: dict[int, set[float]] = {}
    for kernel in kernels:
        found.setdefault(kernel.rows, set()).update(kernel.shares)
    return found


def at_least(least: int, name: str, value: int) -> int:
    """The value, refused where it counts fewer."""
    if value < least:
        raise UsageError(f"{name} is {value}: it must be at least {least}")
    return value


def _trailing(z: pl.Expr, window: int) -> pl.Expr:
    return z.rolling_mean(window, min_samples=1)


def quantiles(z: list[pl.Expr], window: int, share: float) -> list[pl.Expr] | None:
    """Expressions of a quantile where the window is too long to be sorted for each tick, None where `Stretch.quantile` is faster."""
    if window <= SORTED:
        return None
    return [e.rolling_quantile(share, interpolation="linear", window_size=window, min_samples=1) for e in z]


class Lags(Kernel):
    """The newest reading and the `lags` - 1 before it, as they are: lag 0 of every channel, then lag 1, and so on. NaN where missing.

    Example:
        >>> Lags(2).names(["flow", "power"])
        ['lag0:flow', 'lag0:power', 'lag1:flow', 'lag1:power']
    """

    def __init__(self, lags: int) -> None:
        self.lags = at_least(1, "lags", lags)

    @property
    def label(self) -> str:
        return f"lags{self.lags}"

    @property
    def rows(self) -> int:
        return self.lags

    def names(self, channels: list[str]) -> list[str]:
        return [f"lag{i}:{c}" for i in range(self.lags) for c in channels]

    def nodes(self, view: View, memory: list[Var]) -> tuple[Var, list[Var]]:
        x, seen = view.back(view.x, 0, self.lags), view.back(view.seen, 0, self.lags)
        rows = op.where(op.greater(seen, const(0.0)), x, const(np.nan))
        newest_first = op.gather(rows, op.const(np.arange(self.lags)[::-1].copy()), axis=1)
        return op.reshape(newest_first, whole([0, -1])), []

    def polars(self, z: list[pl.Expr]) -> list[pl.Expr]:
        return [e.shift(i) for i in range(self.lags) for e in z]


class TrailingMean(Kernel):
    """Mean of the last `window` ticks. NaN while none of them has a value.

    Example:
        >>> TrailingMean(10).label
        'mean10'
    """

    def __init__(self, window: int) -> None:
        self.window = at_least(1, "window", window)

    @property
    def label(self) -> str:
        return f"mean{self.window}"

    @property
    def rows(self) -> int:
        return self.window

    def nodes(self, view: View, memory: list[Var]) -> tuple[Var, list[Var]]:
        return view.mean(0, self.window), []

    def polars(self, z: list[pl.Expr]) -> list[pl.Expr]:
        return [_trailing(e, self.window) for e in z]


class Deviation(Rolling):
    """Sample standard deviation (n − 1) of the last `window` ticks, two passes. NaN below two values; exactly 0 where all are equal.

    Two passes on both paths: a one-pass rolling deviation loses digits after a spike (and the constant window would not be 0).

    Example:
        >>> Deviation(30).names(["flow"])
        ['deviation30:flow']
    """

    def __init__(self, window: int) -> None:
        self.window = at_least(1, "window", window)

    @property
    def label(self) -> str:
        return f"deviation{self.window}"

    @property
    def rows(self) -> int:
        return self.window

    def nodes(self, view: View, memory: list[Var]) -> tuple[Var, list[Var]]:
        window = view.window(self.window)
        variance = op.div(window.squares, op.sub(window.count, const(1.0)))
        deviation = op.where(window.same, const(0.0), op.sqrt(variance))
        return op.squeeze(window.given(2, deviation), whole([LAST])), []

    def rolled(self, stretch: Stretch) -> np.ndarray:
        count = stretch.count(self.window)
        deviation = np.sqrt(stretch.squares(self.window) / np.maximum(count - 1, 1))
        deviation[stretch.least(self.window) == stretch.most(self.window)] = 0.0
        return np.where(count < 2, np.nan, deviation)


class Slope(Kernel):
    """Mean of the last `window` ticks less the mean of the `window` before. NaN while either has no value.

    Example:
        >>> Slope(15).rows
        30
    """

    def __init__(self, window: int) -> None:
        self.window = at_least(1, "window", window)

    @property
    def label(self) -> str:
        return f"slope{self.window}"

    @property
    def rows(self) -> int:
        return 2 * self.window

    def nodes(self, view: View, memory: list[Var]) -> tuple[Var, list[Var]]:
        return op.sub(view.mean(0, self.window), view.mean(self.window, 2 * self.window)), []

    def polars(self, z: list[pl.Expr]) -> list[pl.Expr]:
        return [_trailing(e, self.window) - _trailing(e, self.window).shift(self.window) for e in z]


class LongDifference(Kernel):
    """Mean of the last `window` ticks less the same mean `lag` ticks ago. NaN while either has no value.

    Example:
        >>> LongDifference(10, lag=50).rows
        60
    """

    def __init__(self, window: int, lag: int) -> None:
        self.window, self.lag = at_least(1, "window", window), at_least(1, "lag", lag)

    @property
    def label(self) -> str:
        return f"difference{self.window}at{self.lag}"

    @property
    def rows(self) -> int:
        return self.window + self.lag

    def nodes(self, view: View, memory: list[Var]) -> tuple[Var, list[Var]]:
        return op.sub(view.mean(0, self.window), view.mean(self.lag, self.lag + self.window)), []

    def polars(self, z: list[pl.Expr]) -> list[pl.Expr]:
        return [_trailing(e, self.window) - _trailing(e, self.window).shift(self.lag) for e in z]


class Ewma(Kernel):
    """Exponentially weighted mean with a half-life in ticks of seen values, weights summing to one from the first value on.

    Memory: the weighted sum and the sum of weights per channel. A missing value leaves both as they were.

    Example:
        >>> Ewma(15).slots(channels=3)
        [3, 3]
    """

    def __init__(self, half_life: float) -> None:
        if not half_life > 0:
            raise UsageError(f"half_life is {half_life}: it counts ticks and must be above 0")
        self.half_life = half_life

    @property
    def label(self) -> str:
        return f"ewma{self.half_life:g}"

    def slots(self, channels: int) -> list[int]:
        return [channels, channels]

    def nodes(self, view: View, memory: list[Var]) -> tuple[Var, list[Var]]:
        total, weight = memory
        for x, now in view.arrivals():
            keep = op.where(op.greater(now, const(0.0)), const(0.5 ** (1 / self.half_life)), const(1.0))
            total, weight = op.add(op.mul(total, keep), x), op.add(op.mul(weight, keep), now)
        return op.div(total, weight), [total, weight]

    def polars(self, z: list[pl.Expr]) -> list[pl.Expr]:
        return [e.ewm_mean(half_life=self.half_life, ignore_nulls=True).forward_fill() for e in z]


class Drift(Kernel):
    """Mean of the last `window` ticks less the mean of the asset's own first `first` values of that channel.

    Before `first` values were seen, the ones seen so far stand in; nothing looks ahead. Memory: sum and count per channel.

    Example:
        >>> Drift(first=10, window=10).label
        'drift10from10'
    """

    def __init__(self, first: int, window: int) -> None:
        self.first, self.window = at_least(1, "first", first), at_least(1, "window", window)

    @property
    def label(self) -> str:
        return f"drift{self.window}from{self.first}"

    @property
    def rows(self) -> int:
        return self.window

    def slots(self, channels: int) -> list[int]:
        return [channels, channels]

    def nodes(self, view: View, memory: list[Var]) -> tuple[Var, list[Var]]:
        total, count = memory
        for x, now in view.arrivals():
            new = op.mul(now, op.cast(op.less(count, const(self.first)), to=np.float64))
            total, count = op.add(total, op.mul(x, new)), op.add(count, new)
        return op.sub(view.mean(0, self.window), op.div(total, count)), [total, count]

    def polars(self, z: list[pl.Expr]) -> list[pl.Expr]:
        return [self._one(e) for e in z]

    def _one(self, z: pl.Expr) -> pl.Expr:
        first = z.is_not_null() & (z.is_not_null().cum_sum() <= self.first)
        start = pl.when(first).then(z).otherwise(0.0).cum_sum() / first.cum_sum()
        return _trailing(z, self.window) - start


class Age(Kernel):
    """Ticks since the asset's life began, missing ones counted. NaN where the asset's memory holds NaN: age unknown.

    Example:
        >>> Age().names(["flow", "pressure"])
        ['age']
    """

    reads_age = True

    @property
    def label(self) -> str:
        return "age"

    def slots(self, channels: int) -> list[int]:
        return [1]

    def names(self, channels: list[str]) -> list[str]:
        return [self.label]

    def nodes(self, view: View, memory: list[Var]) -> tuple[Var, list[Var]]:
        age = op.add(memory[0], op.cast(op.unsqueeze(view.fresh, whole([1])), to=np.float64))
        return age, [age]

    def polars(self, z: list[pl.Expr]) -> list[pl.Expr]:
        return [pl.int_range(1, pl.len() + 1).cast(pl.Float64)]
