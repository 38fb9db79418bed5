"""Intervals of remaining useful life against the truth: how often they hold it, and how wide they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pmx.evaluate.interval import Interval
from pmx.evaluate.part import Part
from pmx.evaluate.protocol import Protocol, Truth

BINS = 4  # equal stretches of true life left up to the cap


@dataclass(frozen=True)
class Bounds:
    """The lower and upper ends that verdicts give of the life left, beside their point estimates.

    Attributes:
        ends: per asset float [time, 2] in the life unit, NaN = no interval.
        fill: the estimate that an abstention is scored as, in the life unit: the mean life left of the training part.
        regime: per asset int [time], the operating regime of each tick, below 0 = none; None = nobody names regimes.

    Example:
        >>> Bounds([np.array([[10.0, 30.0]])], fill=62.5).ends[0].shape
        (1, 2)
    """

    ends: list[np.ndarray]
    fill: float = np.nan
    regime: list[np.ndarray] | None = None


def interval_metrics(
    bounds: Bounds, tick: list[np.ndarray], truth: Truth, protocol: Protocol, tick_length: float
) -> tuple[dict[str, Interval], dict[str, Part]]:
    """Coverage, a fraction, and width, in the life unit, of the intervals of the life left; and their parts per asset.

    Truth and ends are at most the cap and at least 0; readings whose life is not known are left out. `coverage_last`: share of the
    assets whose interval at the last reading holds the truth, with Wilson's interval; of an asset that was watched until it failed the
    last reading is no fair sample, and is left out. `coverage_all`, `interval_width`, `interval_width_last`: over all readings, or
    the last ones, with a bootstrap over assets; `coverage_near`: where less than the cap is left; `coverage_told`: where the
    interval says that less than the cap may be left. `coverage_life_0` to `_3`: where the true life left lies in the first to fourth
    quarter of the cap, seen from the failure; `coverage_regime_<r>`: in each operating regime.
    """
    n = len(tick)
    parts = {name: Part(np.zeros(n), np.zeros(n), higher="coverage" in name) for name in _names(bounds)}
    for i, (ends, at) in enumerate(zip(bounds.ends, tick, strict=True)):
        true = truth.life(at.astype(np.float64), i, protocol.cap / tick_length)[1] * tick_length
        low, high = np.clip(ends.astype(np.float64), 0.0, protocol.cap).T
        given = ~np.isnan(true) & ~np.isnan(low) & ~np.isnan(high)
        hit, last = (low <= true) & (true <= high), np.arange(len(at)) == len(at) - 1
        # what lies on an edge belongs to the stretch nearer to the failure; the cap itself, which stands for all above it, to the last
        stretch = np.clip(np.ceil(np.nan_to_num(true) * BINS / protocol.cap) - 1, 0, BINS - 1)
        regime = np.full(len(at), -1) if bounds.regime is None else bounds.regime[i]
        chosen = {"coverage_near": true < protocol.cap, "coverage_told": low < protocol.cap}
        for name, part in parts.items():
            where = given & last if "last" in name else given & chosen[name] if name in chosen else given
            where = where & (true > tick_length) if name == "coverage_last" else where
            kind, _, which = name.removeprefix("coverage_").partition("_")
            where = where & (stretch == int(which)) if kind == "life" else where & (regime == int(which)) if kind == "regime" else where
            value = high - low if "width" in name else hit
            part.numerator[i], part.denominator[i] = value[where].sum(), where.sum()
    found = {k: p.binomial() if k == "coverage_last" else p.interval(protocol.draws, protocol.seed) for k, p in parts.items()}
    return found, parts


def _names(bounds: Bounds) -> list[str]:
    regimes = sorted({int(r) for each in bounds.regime or [] for r in np.unique(each) if r >= 0})
    names = ["coverage_last", "coverage_near", "coverage_told", "coverage_all", "interval_width_last", "interval_width"]
    return [*names, *(f"coverage_life_{b}" for b in range(BINS)), *(f"coverage_regime_{r}" for r in regimes)]
