"""Probabilities of a failure within the horizon, against what came."""

from __future__ import annotations

import numpy as np

from pmx.evaluate.classes import class_metrics
from pmx.evaluate.interval import Interval
from pmx.evaluate.part import Part
from pmx.evaluate.protocol import Protocol, Truth

NAMES = ["none", "failure"]


def probability_metrics(
    probability: list[np.ndarray], tick: list[np.ndarray], truth: Truth, protocol: Protocol, tick_length: float
) -> tuple[dict[str, Interval], dict[str, Part]]:
    """How well probabilities float [time] per asset foretell a failure within the horizon, and the parts per asset of what is a sum.

    `auroc`: the area under the ROC curve, all readings pooled. `brier`: the mean squared error of the probability (Brier 1950);
    lower is better. `brier_skill`: the share by which that is lower than of one who always says how often it came in these very data.
    Readings of which nobody knows what came of them are left out. Intervals are drawn over assets.

    Args:
        tick: their ticks, per asset int64 [time].
    """
    came = [_came(np.asarray(at, np.float64), i, truth, protocol.horizon / tick_length) for i, at in enumerate(tick)]
    counts = [~np.isnan(p) & ~np.isnan(y) for p, y in zip(probability, came, strict=True)]
    n = np.array([c.sum() for c in counts], np.float64)
    square = np.array([((p[c] - y[c]) ** 2).sum() for p, y, c in zip(probability, came, counts, strict=True)])
    share = sum(float(y[c].sum()) for y, c in zip(came, counts, strict=True)) / max(1.0, n.sum())
    usual = np.array([((share - y[c]) ** 2).sum() for y, c in zip(came, counts, strict=True)])
    brier, rest = Part(square, n), Part(square, usual)
    found = {"brier": brier.interval(protocol.draws, protocol.seed)}
    value, low, high = rest.interval(protocol.draws, protocol.seed) if usual.sum() else (np.nan,) * 3
    found["brier_skill"] = (1 - value, 1 - high, 1 - low)
    both = [np.stack([1 - p, p], axis=1) for p in probability]
    label = [np.where(c, y, -1.0).astype(np.int64) for y, c in zip(came, counts, strict=True)]
    none = (np.nan, np.nan, np.nan)
    found["auroc"] = class_metrics(both, label, NAMES, protocol.draws, protocol.seed).get("auroc/failure", none)
    return found, {"brier": brier}


def _came(tick: np.ndarray, at: int, truth: Truth, horizon: float) -> np.ndarray:
    """Whether a failure of asset `at` came within `horizon` ticks of each tick, float64 [time]: 1, 0, or NaN where nobody knows.

    Labelled episodes are no failures, and a repair after one does not hide the next: only censoring does, and the end of the record.
    """
    failure, alive = truth.next_end(tick, at)
    near = failure - tick <= horizon
    known = ~np.isnan(failure) | (alive - tick > horizon)
    return np.where(known & (tick >= truth.begins[at]), near.astype(np.float64), np.nan)
