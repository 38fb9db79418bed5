"""What each kernel must give, written a second time from its definition: plain loops over one asset, float64, nothing shared.

Scores z are float64 [tick, channel] with NaN where missing; the answers are float64 [tick, feature]. Sums are exactly
rounded (`math.fsum`), so no order of addition is favoured.
"""

from __future__ import annotations

import math

import numpy as np

from pmx.feature.kernel import Age, Deviation, Drift, Ewma, Kernel, Lags, LongDifference, Slope, TrailingMean
from pmx.feature.memory import ExpandingMaximum, ExpandingMean, ExpandingMinimum, RegimeShare, RegimeTime, Usage
from pmx.feature.statistic import (
    Correlation,
    Crest,
    Kurtosis,
    Last,
    Maximum,
    MeanAbsoluteDifference,
    Median,
    Minimum,
    PeakToPeak,
    Quantile,
    Rms,
    Skew,
    Statistic,
    Trend,
    ZeroCrossings,
)

NAN = math.nan


def mean_of(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else NAN


def present(z: np.ndarray, begin: int, end: int) -> list[float]:
    """The values present in ticks begin..end-1 of one channel; ticks before the first one hold nothing."""
    return [float(v) for v in z[max(begin, 0) : max(end, 0)] if not math.isnan(v)]


def trailing(z: np.ndarray, t: int, window: int) -> float:
    """Mean of the `window` ticks that end with tick t, that tick included."""
    return mean_of(present(z, t - window + 1, t + 1))


def deviation(z: np.ndarray, t: int, window: int) -> float:
    values = present(z, t - window + 1, t + 1)
    if len(values) < 2:
        return NAN
    if len(set(values)) == 1:
        return 0.0
    centre = mean_of(values)
    return math.sqrt(math.fsum((v - centre) ** 2 for v in values) / (len(values) - 1))


def ewma(z: np.ndarray, t: int, half_life: float) -> float:
    """Each seen value weighs half as much as the one seen `half_life` seen values later."""
    values = present(z, 0, t + 1)[::-1]
    weights = [0.5 ** (k / half_life) for k in range(len(values))]
    return math.fsum(w * v for w, v in zip(weights, values, strict=True)) / math.fsum(weights) if values else NAN


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    place = (len(ordered) - 1) * share
    low = math.floor(place)
    return ordered[low] + (place - low) * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])


def moment(values: list[float], order: int) -> float:
    centre = mean_of(values)
    return math.fsum((v - centre) ** order for v in values) / len(values)


def pairs(z: np.ndarray, begin: int, end: int) -> list[tuple[float, float]]:
    """Values of neighbouring ticks that both have one, earlier first."""
    ticks = [float(v) for v in z[max(begin, 0) : end]]
    return [(a, b) for a, b in zip(ticks, ticks[1:], strict=False) if not math.isnan(a) and not math.isnan(b)]


def trend(z: np.ndarray, begin: int, end: int) -> float:
    points = [(t, float(z[t])) for t in range(max(begin, 0), end) if not math.isnan(z[t])]
    if len(points) < 2:
        return NAN
    if len({v for _, v in points}) == 1:
        return 0.0
    when, level = mean_of([t for t, _ in points]), mean_of([v for _, v in points])
    return math.fsum((t - when) * (v - level) for t, v in points) / math.fsum((t - when) ** 2 for t, _ in points)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    both = [(float(x), float(y)) for x, y in zip(a, b, strict=True) if not math.isnan(x) and not math.isnan(y)]
    if len(both) < 2:
        return NAN
    if len({x for x, _ in both}) == 1 or len({y for _, y in both}) == 1:
        return 0.0
    centre = [mean_of([p[i] for p in both]) for i in (0, 1)]
    product = math.fsum((x - centre[0]) * (y - centre[1]) for x, y in both)
    return product / math.sqrt(math.fsum((x - centre[0]) ** 2 for x, _ in both) * math.fsum((y - centre[1]) ** 2 for _, y in both))


def statistic(kernel: Statistic, z: np.ndarray, t: int) -> float:
    """The statistic of the window that ends with tick t."""
    begin, end = t - kernel.window + 1, t + 1
    values, two = present(z, begin, end), pairs(z, begin, end)
    match kernel:
        case Trend():
            return trend(z, begin, end)
        case MeanAbsoluteDifference():
            return mean_of([abs(b - a) for a, b in two])
        case ZeroCrossings():
            return mean_of([float((a >= 0) != (b >= 0)) for a, b in two])
    least = {Skew: 3, Kurtosis: 4}.get(type(kernel), 1)
    if len(values) < least:
        return NAN
    match kernel:
        case Minimum():
            return min(values)
        case Maximum():
            return max(values)
        case PeakToPeak():
            return max(values) - min(values)
        case Last():
            return values[-1]
        case Median():
            return quantile(values, 0.5)
        case Quantile():
            return quantile(values, kernel.share)
        case Rms():
            return math.sqrt(mean_of([v * v for v in values]))
        case Crest():
            peak = max(abs(v) for v in values)
            return peak / math.sqrt(mean_of([v * v for v in values])) if peak else 0.0
        case Skew():
            return moment(values, 3) / moment(values, 2) ** 1.5 if len(set(values)) > 1 else 0.0
        case Kurtosis():
            return moment(values, 4) / moment(values, 2) ** 2 - 3 if len(set(values)) > 1 else 0.0
    raise AssertionError(f"no oracle for {type(kernel).__name__}: write one from its definition")


def one(kernel: Kernel, z: np.ndarray, t: int) -> float:
    """The feature of one channel at tick t."""
    match kernel:
        case TrailingMean():
            return trailing(z, t, kernel.window)
        case Deviation():
            return deviation(z, t, kernel.window)
        case Slope():
            return trailing(z, t, kernel.window) - trailing(z, t - kernel.window, kernel.window)
        case LongDifference():
            return trailing(z, t, kernel.window) - trailing(z, t - kernel.lag, kernel.window)
        case Drift():
            return trailing(z, t, kernel.window) - mean_of(present(z, 0, t + 1)[: kernel.first])
        case Ewma():
            return ewma(z, t, kernel.half_life)
        case ExpandingMinimum():
            return min(present(z, 0, t + 1), default=NAN)
        case ExpandingMaximum():
            return max(present(z, 0, t + 1), default=NAN)
        case ExpandingMean():
            return mean_of(present(z, 0, t + 1))
        case Statistic():
            return statistic(kernel, z, t)
    raise AssertionError(f"no oracle for {type(kernel).__name__}: write one from its definition")


def of_the_asset(kernel: Kernel, z: np.ndarray, t: int, readings: np.ndarray, regime: np.ndarray) -> list[float] | None:
    """The features of kernels that do not go channel by channel; None of those that do."""
    match kernel:
        case Lags():
            return [float(z[t - lag, c]) if t >= lag else NAN for lag in range(kernel.lags) for c in range(z.shape[1])]
        case Correlation():
            begin = max(0, t - kernel.window + 1)
            return [correlation(z[begin : t + 1, c], z[begin : t + 1, c + 1]) for c in range(z.shape[1] - 1)]
        case Usage():
            return [math.fsum(present(readings[:, "ab".index(kernel.channel)], 0, t + 1))]
        case RegimeTime() | RegimeShare():
            spent = [float((regime[: t + 1] == i).sum()) for i in range(kernel.regimes)]
            return spent if isinstance(kernel, RegimeTime) else [s / sum(spent) if sum(spent) else NAN for s in spent]
    return None


def features(
    kernels: list[Kernel], z: np.ndarray, start_age: float = 0.0, readings: np.ndarray | None = None, regime: np.ndarray | None = None
) -> np.ndarray:
    """float32 [tick, feature] of one asset, in the order of the feature vector. Readings before normalisation are the scores unless given,
    and there is one operating regime.
    """
    rows = []
    readings, regime = z if readings is None else readings, np.zeros(len(z)) if regime is None else regime
    for t in range(len(z)):
        row: list[float] = []
        for kernel in kernels:
            if isinstance(kernel, Age):
                row.append(start_age + t + 1.0)
            elif (several := of_the_asset(kernel, z, t, readings, regime)) is not None:
                row += several
            else:
                row += [one(kernel, z[:, c], t) for c in range(z.shape[1])]
        rows.append(row)
    return np.array(rows, np.float64).astype(np.float32)


def score(reading: float, mean: float, scale: float, clip: float) -> float:
    """One z-score: a constant channel has an infinite scale."""
    if math.isnan(reading):
        return NAN
    z = (reading - mean) / scale
    return float(np.float32(min(max(z, -clip), clip)))


def nearest(setting: np.ndarray, centres: np.ndarray, ranges: np.ndarray) -> int | None:
    """The regime whose centre is nearest; None where a setting is missing and there is a choice."""
    if len(centres) == 1:
        return 0
    if any(math.isnan(v) for v in setting):
        return None
    distances = [math.fsum(((float(v) - c) / r) ** 2 for v, c, r in zip(setting, centre, ranges, strict=True)) for centre in centres]
    return distances.index(min(distances))
