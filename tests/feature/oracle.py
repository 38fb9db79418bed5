"""What each kernel must give, written a second time from its definition: plain loops over one asset, float64, nothing shared.

Scores z are float64 [tick, channel] with NaN where missing; the answers are float64 [tick, feature]. Sums are exactly
rounded (`math.fsum`), so no order of addition is favoured.
"""

from __future__ import annotations

import math

import numpy as np

from pmx.feature.kernel import Age, Deviation, Drift, Ewma, Kernel, Lags, LongDifference, Slope, TrailingMean

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
    raise AssertionError(f"no oracle for {type(kernel).__name__}: write one from its definition")


def features(kernels: list[Kernel], z: np.ndarray, start_age: float = 0.0) -> np.ndarray:
    """float32 [tick, feature] of one asset, in the order of the feature vector."""
    rows = []
    for t in range(len(z)):
        row: list[float] = []
        for kernel in kernels:
            if isinstance(kernel, Age):
                row.append(start_age + t + 1.0)
            elif isinstance(kernel, Lags):
                row += [float(z[t - lag, c]) if t >= lag else NAN for lag in range(kernel.lags) for c in range(z.shape[1])]
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
