"""Verdicts against what happened, in bins; and what channels contribute before events and in healthy time."""

from __future__ import annotations

import numpy as np

from pmx.edge.replay import Replayed
from pmx.evaluate.protocol import Protocol, Truth
from pmx.review.facts import Bin

BINS = 10
RARE = np.array([0.0, 0.5, 0.9, 0.99, 0.999, 0.9999])  # edges of an anomaly score: a rank among healthy readings


def life_bins(played: Replayed, truth: Truth, protocol: Protocol) -> tuple[Bin, ...]:
    """Estimated remaining life against the true one, both at most the cap, in the life unit; readings whose life is known alone."""
    length, cap = played.contract.tick, protocol.cap
    true = np.concatenate([truth.life(t.astype(float), i, cap / length)[1] * length for i, t in enumerate(played.tick)] or [np.zeros(0)])
    said = np.clip(np.concatenate([*played.outputs["rul"], np.zeros(0)]).astype(np.float64), 0, cap)
    inside = _inside(played, true, cap)
    known = ~np.isnan(true) & ~np.isnan(said)
    return _bins(said[known], true[known], np.linspace(0, cap, BINS + 1), share=False, inside=inside[known])


def score_bins(played: Replayed, truth: Truth, protocol: Protocol, output: str) -> tuple[Bin, ...]:
    """A score or a probability against the share of readings that were anomalous: in an episode, or a horizon before a failure."""
    horizon = protocol.horizon / played.contract.tick
    true = np.concatenate([truth.anomalous(t.astype(float), i, horizon) for i, t in enumerate(played.tick)] or [np.zeros(0)])
    said = np.concatenate([*played.outputs[output], np.zeros(0)]).astype(np.float64)
    known = ~np.isnan(true) & ~np.isnan(said)
    edges = np.append(RARE, 1.0) if output == "anomaly_score" else np.linspace(0, 1, BINS + 1)
    return _bins(said[known], true[known], edges, share=True)


def _inside(played: Replayed, true: np.ndarray, cap: float) -> np.ndarray:
    """1.0 where the truth lies in the stated interval, 0.0 where it does not, NaN where none was stated, float64 [row]."""
    given = played.outputs.get("interval")
    if given is None:
        return np.full(len(true), np.nan)
    low, high = np.clip(np.concatenate([*given, np.zeros((0, 2))]).astype(np.float64), 0, cap).T
    return np.where(np.isnan(low) | np.isnan(high) | np.isnan(true), np.nan, ((true >= low) & (true <= high)).astype(float))


def _bins(said: np.ndarray, true: np.ndarray, edges: np.ndarray, share: bool, inside: np.ndarray | None = None) -> tuple[Bin, ...]:
    at = np.clip(np.searchsorted(edges, said, side="right") - 1, 0, len(edges) - 2)
    found = []
    for k in range(len(edges) - 1):
        own = at == k
        if own.any():
            middle = (np.nan, np.nan) if share else tuple(np.percentile(true[own], [10, 90]).tolist())
            stated = inside[own][~np.isnan(inside[own])] if inside is not None else np.zeros(0)
            coverage = float(stated.mean()) if len(stated) else np.nan
            mean = float(said[own].mean()), float(true[own].mean())
            found.append(Bin(float(edges[k]), float(edges[k + 1]), int(own.sum()), *mean, middle, coverage))
    return tuple(found)


def contributions(played: Replayed, truth: Truth, protocol: Protocol) -> tuple[tuple[str, float, float], ...]:
    """Channel, its mean contribution at anomalous readings while an alarm stood, and at healthy readings, in standard deviations;
    the largest difference first. Channels that contribute nothing anywhere are left out.
    """
    if "contribution" not in played.outputs:
        return ()
    names, horizon = played.contract.names, protocol.horizon / played.contract.tick
    total, count = np.zeros((2, len(names))), np.zeros((2, len(names)))
    for i, tick in enumerate(played.tick):
        wrong, given = truth.anomalous(tick.astype(float), i, horizon), played.outputs["contribution"][i].astype(np.float64)
        for k, rows in enumerate(((wrong > 0) & played.standing[i], wrong == 0)):
            part = given[rows].reshape(-1, len(names))
            total[k] += np.nansum(part, 0)
            count[k] += (~np.isnan(part)).sum(0)
    mean = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    order = np.argsort(-np.nan_to_num(mean[0] - mean[1], nan=-np.inf, neginf=-1e9), kind="stable")
    return tuple((names[k], float(mean[0, k]), float(mean[1, k])) for k in order if np.nan_to_num(mean[:, k]).any())
