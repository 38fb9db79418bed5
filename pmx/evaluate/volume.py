"""The volume under the precision-recall surface: how a score ranks anomalous stretches whose edges nobody labelled to the tick."""

from __future__ import annotations

import numpy as np

from pmx.edge.replay import spans

LEVELS = 250  # limits at which the score is cut
BUFFERS = 10  # lengths of the buffer between 0 and the longest one


def vus_pr(wrong: list[np.ndarray], said: list[np.ndarray], tick: list[np.ndarray], longest: float) -> float:
    """VUS-PR after Paparrizos et al. 2022, Volume Under the Surface; 0 to 1, higher is better, NaN where nothing is anomalous.

    For a buffer of ℓ ticks the label of a reading d ≤ ℓ/2 ticks beside an anomalous stretch is √(1 − d/ℓ). At each limit, precision is
    the sum of the labels at or above it over the number of readings there; recall is that sum over the mean of the sums with and without
    the buffer, at most 1, times the share of stretches, with their buffers, in which a reading reaches the limit. The area
    under their curve is averaged over the lengths 0 to `longest`: over each of them as in the paper where there are no more than ten,
    otherwise over eleven evenly spaced ones. Stretches and buffers end where an asset ends. The curve begins with the precision of the
    highest limit, where the paper has 1: the same but for scores with many equal highest values, of which an alarm that always stands
    would otherwise get more than one half.

    Args:
        wrong, said, tick: per asset, of the readings that count: whether each is anomalous, bool [time], its score and its tick.
        longest: the longest buffer in ticks.
    """
    flat = np.concatenate([*said, np.zeros(0)])
    plain = np.concatenate([*wrong, np.zeros(0, bool)])
    if not plain.any():
        return np.nan
    order = np.argsort(-flat, kind="stable")
    falling = flat[order]
    limit = falling[np.linspace(0, len(flat) - 1, LEVELS).astype(int)]
    above = np.searchsorted(-falling, -limit, side="right")  # readings at or above each limit
    places, lengths = [spans(w) for w in wrong], np.unique(np.linspace(0, np.floor(longest), BUFFERS + 1).round())
    areas = []
    for length in lengths:
        label = [_label(w, s, t, length) for w, s, t in zip(wrong, places, tick, strict=True)]
        # a buffer may join stretches: those count as one
        highest = np.array([v[b:e].max() for v, known in zip(said, label, strict=True) for b, e in spans(known > 0)])
        met = (highest[:, None] >= limit[None, :]).mean(0)
        weight = np.concatenate(label)
        hits = np.cumsum(weight[order])[above - 1]
        recall = np.minimum(hits / ((plain.sum() + weight.sum()) / 2), 1.0) * met
        precision = hits / above
        areas.append(np.trapezoid(np.r_[precision[0], precision], np.r_[0.0, recall]))
    return float(np.mean(areas))


def _label(wrong: np.ndarray, stretches: list[tuple[int, int]], tick: np.ndarray, length: float) -> np.ndarray:
    """Labels with buffers of `length` ticks, float64 [time]; where two buffers meet they add up to 1 at most."""
    label, half = wrong.astype(np.float64), length // 2
    for begin, end in stretches if half else []:
        first, last = np.searchsorted(tick, [tick[begin] - half, tick[end - 1] + half + 1])
        label[first:begin] += np.sqrt(1 - (tick[begin] - tick[first:begin]) / length)
        label[end:last] += np.sqrt(1 - (tick[end:last] - tick[end - 1]) / length)
    return np.minimum(label, 1.0)
