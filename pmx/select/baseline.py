"""Baselines that need no sensor: they stand in every table, since a model that does not beat them is not worth its device."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import numpy as np

from pmx.alarm.policy import KofN
from pmx.alarm.state import alarms
from pmx.evaluate.life import Lives
from pmx.evaluate.protocol import Protocol, Truth
from pmx.select.limits import set_limits
from pmx.select.training import Training

QUARTER = 0.25  # of an asset's test part, after which the clock alarms


@dataclass(frozen=True)
class Baseline:
    """A row of the table that no bundle made.

    Attributes:
        name: of the row.
        rul: per test asset float64 [time] in the life unit; None = it states none.
        standing: per test asset bool [time]; None = it raises no alarm.
        score: per test asset float64 [time], higher = worse, with the limit at 1; None = it gives none.
    """

    name: str
    rul: list[np.ndarray] | None = None
    standing: list[np.ndarray] | None = None
    score: list[np.ndarray] | None = None


def baselines(training: Training, tick: list[np.ndarray], truth: Truth, protocol: Protocol, alarm: KofN) -> list[Baseline]:
    """`age only` (mean life left at that age since the last failure or replacement, alarm limits set on the training lives),
    `constant`, `always alarm`; the first two where a failure is known.

    Args:
        tick: per test asset int64 [time], the ticks that were scored.
        truth: of the test assets.
    """
    length, known = training.contract.tick, training.truth
    always = Baseline("always alarm", standing=[np.ones(len(t), bool) for t in tick])
    lived, failed = known.lives()
    if not failed.any():
        return [always]
    lives, cap = Lives(lived, failed), protocol.cap / length

    def left(ticks: list[np.ndarray], of: Truth) -> list[np.ndarray]:
        return [lives.left(of.age(t, i), cap) * length for i, t in enumerate(ticks)]

    own = training.ticks["tick"].to_numpy().astype(np.float64)
    trained = [own[training.asset == a] for a in known.assets]
    policy, _ = set_limits(
        alarm.family("rul", protocol.horizon, protocol.cap), left(trained, known), trained, known, protocol, length, alarm.most_false
    )
    by_age = left([t.astype(np.float64) for t in tick], truth)
    mean = mean_life(training, protocol)
    return [Baseline("age only", by_age, alarms(policy, by_age)), Baseline("constant", [np.full(len(t), mean) for t in tick]), always]


def mean_life(training: Training, protocol: Protocol) -> float:
    """Mean of the life left in the training part, at most the cap, in the life unit; NaN where none is known."""
    life = training.labels.capped(protocol.cap)
    return float(np.mean(life[~np.isnan(life)])) if not np.isnan(life).all() else np.nan


def detectors(score: list[np.ndarray], limit: float, tick: list[np.ndarray], truth: Truth, seed: int) -> list[Baseline]:
    """`always alarm`, `clock` (from the end of the first quarter of each asset's test part on) and `random score`, which alarms on as
    many readings as the winner. They say something wherever the winner's score does.

    Args:
        score, limit: the winner's, per test asset float [time].
        tick: per test asset int64 [time].
        truth: of the test assets.
    """
    made = []
    told = np.concatenate([s[(at >= begins) & ~np.isnan(s)] for s, at, begins in zip(score, tick, truth.begins, strict=True)])
    share = float(np.mean(told >= limit)) if len(told) else 0.0
    clocks = []
    for at, begins in zip(tick, truth.begins, strict=True):
        tested = at[at >= begins]
        clocks.append(at >= (np.quantile(tested, QUARTER) if len(tested) else np.inf))
    # uniform on [share, 1 + share): as large a part of it lies at or above 1 as the winner raises. Each asset has draws of its own,
    # so that they do not depend on which others are there, or in which order
    draws = [np.random.default_rng([seed, crc32(a.encode())]) for a in truth.assets]
    chance = [rng.uniform(share, 1 + share, len(s)) for rng, s in zip(draws, score, strict=True)]
    for name, values in (
        ("always alarm", [np.ones(len(s)) for s in score]),
        ("clock", [c.astype(float) for c in clocks]),
        ("random score", chance),
    ):
        heard = [np.where(np.isnan(s), np.nan, v) for s, v in zip(score, values, strict=True)]
        made.append(Baseline(name, standing=[v >= 1 for v in values], score=heard))
    return made
