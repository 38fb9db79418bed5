"""Anomaly scores against the truth, reading by reading. Nothing is point-adjusted: a reading counts for itself alone."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import average_precision_score

from pmx.evaluate.care import care_metrics
from pmx.evaluate.interval import Interval, ratio
from pmx.evaluate.part import Part
from pmx.evaluate.protocol import Protocol, Truth
from pmx.evaluate.volume import vus_pr


def point_metrics(
    score: list[np.ndarray], limit: float, tick: list[np.ndarray], truth: Truth, protocol: Protocol, tick_length: float
) -> dict[str, Interval]:
    """How well `score >= limit` tells anomalous readings, and how well the score ranks them.

    `f1`; `far`, the share of normal readings at or above the limit; `mar`, the share of anomalous ones below it; `ap`, average
    precision pooled over all assets; `ap_per_asset`, its mean over those that have both kinds; `<fault>/detection_rate`, the share of
    a labelled fault's readings at or above the limit. `vus_pr`: see `pmx.evaluate.volume`, with buffers of up to a horizon. Intervals are
    drawn over assets.

    Args:
        score: per asset float [time], higher = worse; NaN where the tick has no reading, which then does not count.
        tick: their ticks, per asset int64 [time].
    """
    wrong, said, kept = told(score, tick, truth, protocol.horizon / tick_length)
    found = {k: part.interval(protocol.draws, protocol.seed) for k, part in _parts(wrong, said, limit).items()}
    if not any(w.any() for w in wrong):  # without an anomalous reading nobody can say what a detector finds
        found["f1"] = (np.nan, np.nan, np.nan)
    each = [_ap(w, s) for w, s in zip(wrong, said, strict=True) if w.any() and not w.all()]
    everything = np.concatenate([*wrong, np.zeros(0, bool)]), np.concatenate([*said, np.zeros(0)])
    found["ap"] = (_ap(*everything), np.nan, np.nan)
    found["ap_per_asset"] = (float(np.mean(each)) if each else np.nan, np.nan, np.nan)
    found["vus_pr"] = (vus_pr(wrong, said, kept, protocol.horizon / tick_length), np.nan, np.nan)
    return found | _by_fault(said, kept, limit, truth, protocol)


def point_parts(
    score: list[np.ndarray], limit: float, tick: list[np.ndarray], truth: Truth, protocol: Protocol, tick_length: float
) -> dict[str, Part]:
    """The parts per asset of `f1`, `far` and `mar`, as in `point_metrics`."""
    return _parts(*told(score, tick, truth, protocol.horizon / tick_length)[:2], limit)


def _parts(wrong: list[np.ndarray], said: list[np.ndarray], limit: float) -> dict[str, Part]:
    hits = np.array([(w & (s >= limit)).sum() for w, s in zip(wrong, said, strict=True)], np.float64)
    false = np.array([(~w & (s >= limit)).sum() for w, s in zip(wrong, said, strict=True)], np.float64)
    bad = np.array([w.sum() for w in wrong], np.float64)
    good = np.array([(~w).sum() for w in wrong], np.float64)
    return {"f1": Part(2 * hits, hits + false + bad, higher=True), "far": Part(false, good), "mar": Part(bad - hits, bad)}


def detector_metrics(
    score: list[np.ndarray],
    limit: float,
    standing: list[np.ndarray],
    tick: list[np.ndarray],
    truth: Truth,
    protocol: Protocol,
    tick_length: float,
) -> dict[str, Interval]:
    """The CARE score of a score, float [time] per asset, with its limit and its alarms, bool [time]: see `pmx.evaluate.care`."""
    wrong, said, kept = told(score, tick, truth, protocol.horizon / tick_length)
    stood = [s[np.isin(at, ours)] for s, at, ours in zip(standing, tick, kept, strict=True)]
    return care_metrics(wrong, [s >= limit for s in said], stood, protocol)


def told(
    score: list[np.ndarray], tick: list[np.ndarray], truth: Truth, horizon: float
) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Per asset, of the readings that count: whether they are anomalous, bool [time], their scores and their ticks. `horizon` in ticks."""
    wrong, said, kept = [], [], []
    for i, (values, at) in enumerate(zip(score, tick, strict=True)):
        known = truth.anomalous(at.astype(np.float64), i, horizon)
        counts = ~np.isnan(values) & ~np.isnan(known)
        wrong.append(known[counts] > 0)
        said.append(values[counts])
        kept.append(at[counts])
    return wrong, said, kept


def f1(wrong: list[np.ndarray], said: list[np.ndarray], limit: float) -> float:
    """F1 of `score >= limit`, of readings as `told` gives them; NaN where none is anomalous."""
    bad, over = np.concatenate([*wrong, np.zeros(0, bool)]), np.concatenate([*said, np.zeros(0)]) >= limit
    return float(2 * (bad & over).sum() / (bad.sum() + over.sum())) if bad.any() else np.nan


def _ap(wrong: np.ndarray, score: np.ndarray) -> float:
    return float(average_precision_score(wrong, score)) if wrong.any() else np.nan


def _by_fault(said: list[np.ndarray], tick: list[np.ndarray], limit: float, truth: Truth, protocol: Protocol) -> dict[str, Interval]:
    hits: dict[str, list[int]] = {}
    total: dict[str, list[int]] = {}
    for i, names in enumerate(truth.faults):
        assert truth.episodes is not None
        for name, (begin, end) in zip(names, truth.episodes[i], strict=True):
            inside = (tick[i] >= begin) & (tick[i] <= end)
            hits.setdefault(name, []).append(int((said[i][inside] >= limit).sum()))
            total.setdefault(name, []).append(int(inside.sum()))
    return {
        f"{name}/detection_rate": ratio(np.array(hits[name], float), np.array(total[name], float), protocol.draws, protocol.seed)
        for name in hits
        if sum(total[name])
    }
