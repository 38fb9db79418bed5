"""Kernels over a window of ticks: what the values in it look like, in whatever order a path computes it.

Values are scores z in standard deviations of the channel, or samples of a waveform in the channel's unit; n is how many of the window's
ticks have one. Missing ticks are skipped, never filled, and a history shorter than the window is a window with missing ticks. Moments
are about the window's mean, in two passes. Where a Polars operation gives the same numbers, a long history takes that path.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import polars as pl
import spox.opset.ai.onnx.v20 as op
from spox import Var

from pmx.contract import UsageError, within
from pmx.feature.kernel import Kernel, Rolling, at_least, quantiles
from pmx.feature.rolling import Stretch
from pmx.feature.view import LAST, View, Window, const, total, whole


class Statistic(Kernel):
    """One number per channel of the last `window` ticks.

    Attributes:
        word: what its label begins with.
    """

    word: str

    def __init__(self, window: int) -> None:
        self.window = at_least(1, "window", window)

    @property
    def label(self) -> str:
        return f"{self.word}{self.window}"

    @property
    def rows(self) -> int:
        return self.window

    @abstractmethod
    def of(self, window: Window) -> Var:
        """The number, float64 [asset, channel, 1]."""

    def nodes(self, view: View, memory: list[Var]) -> tuple[Var, list[Var]]:
        return op.squeeze(self.of(view.window(self.window)), whole([LAST])), []


def _or_zero(least: int, window: Window, value: Var) -> Var:
    """NaN where fewer than `least` values are present, exactly 0 where all of them are equal, `value` elsewhere."""
    return window.given(least, op.where(window.same, const(0.0), value))


class Minimum(Statistic, Rolling):
    """Smallest value of the last `window` ticks. NaN where n = 0.

    Example:
        >>> Minimum(30).names(["flow"])
        ['minimum30:flow']
    """

    word = "minimum"

    def of(self, window: Window) -> Var:
        return window.given(1, window.least)

    def rolled(self, stretch: Stretch) -> np.ndarray:
        least = stretch.least(self.window)
        return np.where(least < np.inf, least, np.nan)


class Maximum(Statistic, Rolling):
    """Largest value of the last `window` ticks. NaN where n = 0.

    Example:
        >>> Maximum(30).unit("mm/s")
        'mm/s'
    """

    word = "maximum"

    def of(self, window: Window) -> Var:
        return window.given(1, window.most)

    def rolled(self, stretch: Stretch) -> np.ndarray:
        most = stretch.most(self.window)
        return np.where(most > -np.inf, most, np.nan)


class PeakToPeak(Statistic, Rolling):
    """Largest less smallest value of the last `window` ticks. NaN where n = 0.

    Example:
        >>> PeakToPeak(30).label
        'peak_to_peak30'
    """

    word = "peak_to_peak"

    def of(self, window: Window) -> Var:
        return window.given(1, op.sub(window.most, window.least))

    def rolled(self, stretch: Stretch) -> np.ndarray:
        least, most = stretch.least(self.window), stretch.most(self.window)
        return np.where(least <= most, most - least, np.nan)


class Last(Statistic):
    """Newest value of the last `window` ticks. NaN where n = 0.

    Example:
        >>> Last(5).rows
        5
    """

    word = "last"

    def of(self, window: Window) -> Var:
        numbered = op.mul(window.seen, const(np.arange(1.0, self.window + 1)))
        newest = op.max([op.sub(op.reduce_max(numbered, whole([LAST]), keepdims=1), const(1.0)), const(0.0)])
        return window.given(1, op.gather_elements(window.x, op.cast(newest, to=np.int64), axis=LAST))

    def polars(self, z: list[pl.Expr]) -> list[pl.Expr] | None:
        return [e.forward_fill(limit=self.window - 1) if self.window > 1 else e for e in z]


class Median(Statistic, Rolling):
    """Median of the last `window` ticks, the mean of the two in the middle where n is even. NaN where n = 0.

    Example:
        >>> Median(30).label
        'median30'
    """

    word = "median"
    shares = (0.5,)

    def of(self, window: Window) -> Var:
        return window.quantile(0.5)

    def polars(self, z: list[pl.Expr]) -> list[pl.Expr] | None:
        return quantiles(z, self.window, 0.5)

    def rolled(self, stretch: Stretch) -> np.ndarray:
        return stretch.quantile(self.window, 0.5)


class Quantile(Statistic, Rolling):
    """The value below which the given share of the last `window` ticks lies, between its neighbours in proportion. NaN where n = 0.

    Definition 7 of Hyndman and Fan (1996), "Sample quantiles in statistical packages": place (n − 1) · share among the sorted values.

    Args:
        share: from 0, the smallest value, to 1, the largest.

    Example:
        >>> Quantile(30, share=0.9).names(["flow"])
        ['quantile30at0.9:flow']
    """

    word = "quantile"

    def __init__(self, window: int, share: float) -> None:
        super().__init__(window)
        within(0.0, 1.0, {"share": share})
        self.share, self.shares = share, (share,)

    @property
    def label(self) -> str:
        return f"{self.word}{self.window}at{self.share:g}"

    def of(self, window: Window) -> Var:
        return window.quantile(self.share)

    def polars(self, z: list[pl.Expr]) -> list[pl.Expr] | None:
        return quantiles(z, self.window, self.share)

    def rolled(self, stretch: Stretch) -> np.ndarray:
        return stretch.quantile(self.window, self.share)


class Rms(Statistic):
    """Root of the mean square of the last `window` ticks, about zero. NaN where n = 0.

    Example:
        >>> Rms(30).unit("m/s²")
        'm/s²'
    """

    word = "rms"

    def of(self, window: Window) -> Var:
        return window.rms


class Crest(Statistic):
    """Largest absolute value of the last `window` ticks over their root mean square. NaN where n = 0; exactly 0 where all are 0.

    Example:
        >>> Crest(30).unit("m/s²")
        '-'
    """

    word = "crest"

    def of(self, window: Window) -> Var:
        peak = op.max([window.most, op.neg(window.least)])
        return op.where(op.equal(peak, const(0.0)), const(0.0), op.div(peak, window.rms))

    def unit(self, channel: str) -> str:
        return "-"


class Skew(Statistic):
    """Third moment over the 3/2 power of the second, of the last `window` ticks. NaN where n < 3; exactly 0 where all are equal.

    g1 of Joanes and Gill (1998), "Comparing measures of sample skewness and kurtosis": moments over n, no correction for small n.

    Example:
        >>> Skew(30).unit("bar")
        '-'
    """

    word = "skew"

    def of(self, window: Window) -> Var:
        variance = op.div(window.squares, window.count)
        return _or_zero(3, window, op.div(op.div(window.cubes, window.count), op.mul(variance, op.sqrt(variance))))

    def unit(self, channel: str) -> str:
        return "-"


class Kurtosis(Statistic):
    """Fourth moment over the square of the second, less 3, of the last `window` ticks: 0 for a normal distribution. NaN where n < 4;
    exactly 0 where all are equal.

    g2 of Joanes and Gill (1998), as in `Skew`.

    Example:
        >>> Kurtosis(30).label
        'kurtosis30'
    """

    word = "kurtosis"

    def of(self, window: Window) -> Var:
        variance = op.div(window.squares, window.count)
        return _or_zero(4, window, op.sub(op.div(op.div(window.fourths, window.count), op.mul(variance, variance)), const(3.0)))

    def unit(self, channel: str) -> str:
        return "-"


class Trend(Statistic):
    """Slope of the least-squares line through the last `window` ticks, per tick. NaN where n < 2; exactly 0 where all are equal.

    Example:
        >>> Trend(30).unit("°C")
        '°C/tick'
    """

    word = "trend"

    def of(self, window: Window) -> Var:
        return _or_zero(2, window, window.trend)

    def unit(self, channel: str) -> str:
        return f"{channel}/tick"


class MeanAbsoluteDifference(Statistic):
    """Mean absolute difference between neighbouring ticks of the last `window`, over the pairs that both have a value. NaN where no
    pair has.

    Example:
        >>> MeanAbsoluteDifference(30).names(["flow"])
        ['absolute_difference30:flow']
    """

    word = "absolute_difference"

    def __init__(self, window: int) -> None:
        super().__init__(at_least(2, "window", window))

    def of(self, window: Window) -> Var:
        steps = op.mul(op.abs(op.sub(window.after(window.x), window.before(window.x))), window.pairs)
        return op.div(total(steps, np.ones((self.window - 1, 1))), window.pair_count)


class ZeroCrossings(Statistic):
    """Share of the pairs of neighbouring ticks of the last `window`, both with a value, that lie on different sides of zero.

    Zero is the channel's normal in its regime, and counts as above. NaN where no pair has both values.

    Example:
        >>> ZeroCrossings(30).unit("bar")
        '-'
    """

    word = "zero_crossings"

    def __init__(self, window: int) -> None:
        super().__init__(at_least(2, "window", window))

    def of(self, window: Window) -> Var:
        above = op.greater_or_equal(window.x, const(0.0))
        change = op.cast(op.and_(op.xor(window.after(above), window.before(above)), window.paired), to=np.float64)
        return op.div(total(change, np.ones((self.window - 1, 1))), window.pair_count)

    def unit(self, channel: str) -> str:
        return "-"

    def polars(self, z: list[pl.Expr]) -> list[pl.Expr] | None:
        return [self._one(e) for e in z]

    def _one(self, z: pl.Expr) -> pl.Expr:
        pair = z.is_not_null() & z.shift(1).is_not_null()
        change = pair & ((z >= 0) != (z.shift(1) >= 0)).fill_null(False)
        sums = [e.cast(pl.Float64).rolling_sum(self.window - 1, min_samples=1) for e in (change, pair)]  # whole numbers: exact
        return sums[0] / sums[1]


class Correlation(Kernel):
    """Correlation of pairs of channels over the last `window` ticks where both have a value (Pearson), between −1 and 1.

    NaN where fewer than 2 ticks have both; exactly 0 where either channel is constant over those.

    Args:
        pairs: names of two channels each; None = each channel and the next one of the list.

    Example:
        >>> Correlation(30).names(["flow", "power", "heat"])
        ['correlation30:flow~power', 'correlation30:power~heat']
    """

    def __init__(self, window: int, pairs: list[list[str]] | None = None) -> None:
        self.window = at_least(2, "window", window)
        for pair in pairs or []:
            if len(set(pair)) != 2 or len(pair) != 2:
                raise UsageError(f"correlation: {pair} -> pairs must be two different channels each, as [[flow, power]]")
        if pairs is not None and not pairs:
            raise UsageError("correlation: pairs is empty -> leave it out, or name two channels")
        self.pairs = pairs

    @property
    def label(self) -> str:
        return f"correlation{self.window}"

    @property
    def rows(self) -> int:
        return self.window

    def names(self, channels: list[str]) -> list[str]:
        return [f"{self.label}:{a}~{b}" for a, b in self._pairs(channels)]

    def unit(self, channel: str) -> str:
        return "-"

    def _pairs(self, channels: list[str]) -> list[tuple[str, str]]:
        if self.pairs is None and len(channels) < 2:
            raise UsageError(f"{self.label} needs two channels that vary, and there is only {', '.join(channels)} -> leave this kernel out")
        pairs = [(a, b) for a, b in self.pairs] if self.pairs else list(zip(channels, channels[1:], strict=False))
        for name in (n for pair in pairs for n in pair):
            if name not in channels:
                raise UsageError(f"{self.label}: channel {name!r} is unknown, or constant -> pairs must be of {', '.join(channels)}")
        return pairs

    def nodes(self, view: View, memory: list[Var]) -> tuple[Var, list[Var]]:
        window, where = view.window(self.window), view.channels.index
        pairs = self._pairs(view.channels)
        sides = [window.channels([where(pair[i]) for pair in pairs]) for i in (0, 1)]
        both = op.mul(sides[0][1], sides[1][1])
        a, b = (Window(op.mul(x, both), both, self.window) for x, _ in sides)
        product = total(op.mul(a.distance, b.distance), np.ones((self.window, 1)))
        r = op.div(product, op.mul(op.sqrt(a.squares), op.sqrt(b.squares)))
        inside = op.max([op.min([r, const(1.0)]), const(-1.0)])
        value = a.given(2, op.where(op.or_(a.same, b.same), const(0.0), inside))
        return op.squeeze(value, whole([LAST])), []
