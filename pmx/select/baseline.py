"""Baselines that need no sensor: they stand in every table, since a model that does not beat them is not worth its device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pmx.alarm.policy import KofN
from pmx.alarm.state import alarms
from pmx.evaluate.life import Lives
from pmx.evaluate.protocol import Protocol, Truth
from pmx.select.limits import set_limits
from pmx.select.training import Training


@dataclass(frozen=True)
class Baseline:
    """A row of the table that no bundle made.

    Attributes:
        name: of the row.
        rul: per test asset float64 [time] in the life unit; None = it states none.
        standing: per test asset bool [time]; None = it raises no alarm.
    """

    name: str
    rul: list[np.ndarray] | None
    standing: list[np.ndarray] | None


def baselines(training: Training, tick: list[np.ndarray], truth: Truth, protocol: Protocol, alarm: KofN) -> list[Baseline]:
    """`age only` (mean life left at that age, alarm limits set on the training lives), `constant`, `always alarm`.

    Args:
        tick: per test asset int64 [time], the ticks that were scored.
        truth: of the test assets.
    """
    length, known = training.contract.tick, training.truth
    failed = ~np.isnan(known.failed_at)
    lives = Lives(np.where(failed, known.failed_at, known.seen) - known.born, failed)
    cap = protocol.cap / length

    def left(ticks: list[np.ndarray], of: Truth) -> list[np.ndarray]:
        return [lives.left(t - born, cap) * length for t, born in zip(ticks, of.born, strict=True)]

    own = training.ticks["tick"].to_numpy()
    trained = [own[training.asset == a] for a in known.assets]
    policy, _ = set_limits(
        alarm.family("rul", protocol.horizon, protocol.cap), left(trained, known), trained, known, protocol, length, alarm.most_false
    )
    by_age = left(tick, truth)
    life = training.labels.capped(protocol.cap)
    mean = float(np.mean(life[~np.isnan(life)])) if not np.isnan(life).all() else np.nan
    return [
        Baseline("age only", by_age, alarms(policy, by_age)),
        Baseline("constant", [np.full(len(t), mean) for t in tick], None),
        Baseline("always alarm", None, [np.ones(len(t), bool) for t in tick]),
    ]
