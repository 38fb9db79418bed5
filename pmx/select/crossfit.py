"""What choosing the settings costs: each group's verdicts by the candidate that did best on the other groups."""

from __future__ import annotations

import numpy as np
import polars as pl

from pmx.alarm.policy import KofN
from pmx.alarm.state import Policy, alarms
from pmx.evaluate.anomaly import f1, told
from pmx.evaluate.protocol import Protocol, Truth
from pmx.evaluate.report import Row, row
from pmx.feature.features import FeatureSet
from pmx.select.candidates import Trial, refit
from pmx.select.training import Training

FACTORS = (1.0, 0.6, 0.8, 1.25, 1.6)  # of the margin; of equals the first wins


def cross_fitted(
    trials: list[Trial],
    features: FeatureSet,
    training: Training,
    tested: pl.DataFrame,
    truth: Truth,
    groups: dict[str, str],
    protocol: Protocol,
    alarm: KofN,
) -> list[Row]:
    """The row `cross-fitted`, computed offline: in each group the candidate and margin whose F1 is best on the labels of the other groups.

    No row where there are fewer than two groups, or no labelled episodes: then nothing was chosen by labels.

    Args:
        tested: ticks of the test assets, sorted.
        truth: of these assets, in the same order.
        groups: asset -> group.
        alarm: its margin, and others around it, are tried.
    """
    names = sorted({groups[a] for a in truth.assets if a in groups})
    if not any(t.healthy for t in trials) or len(names) < 2 or truth.episodes is None or set(truth.assets) - set(groups):
        return []
    parts = tested.partition_by("asset", maintain_order=True)
    tick = [p["tick"].to_numpy() for p in parts]
    group, horizon = np.array([groups[a] for a in truth.assets]), protocol.horizon / training.contract.tick
    tried: list[tuple[Policy, list[np.ndarray]]] = []
    for trial in (t for t in trials if t.healthy is not None):
        assert trial.healthy is not None
        verdict = refit(trial, features, training, protocol).verdict(tested).astype(np.float64)
        each = np.split(verdict, np.cumsum([len(p) for p in parts])[:-1])
        tried += [(alarm.at(alarm.margin * f, trial.healthy.ratios), each) for f in FACTORS]
    chosen = {}
    for name in names:
        others = np.flatnonzero(group != name)
        few, at = truth.some(others), [tick[i] for i in others]
        merit = [f1(*told([v[i] for i in others], at, few, horizon)[:2], p.raise_at) for p, v in tried]
        chosen[name] = tried[int(np.nanargmax(merit))] if not np.isnan(merit).all() else tried[0]
    score, standing = [], []
    for i, name in enumerate(group):
        policy, verdict_of = chosen[name]
        score.append(_over(verdict_of[i], policy.raise_at))  # one limit of 1 then serves all groups
        standing += alarms(policy, [verdict_of[i]])
    return [row("cross-fitted", None, standing, tick, truth, protocol, training.contract, score, 1.0)]


def _over(score: np.ndarray, limit: float) -> np.ndarray:
    """Odds of a score over the odds of the limit, float64: rises with the score, and is at least 1 exactly where the score reaches the limit."""
    odds = score / np.maximum(1 - score, 1e-12) / (max(limit, 1e-12) / max(1 - limit, 1e-12))
    return np.where(np.isnan(score), np.nan, np.where(score >= limit, np.maximum(odds, 1.0), np.minimum(odds, np.nextafter(1.0, 0.0))))
