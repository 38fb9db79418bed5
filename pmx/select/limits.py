"""Alarm limits from validation: the most caught within the false alarms that are accepted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pmx.alarm.state import Policy, alarms
from pmx.evaluate.event import EventCounts, count_events
from pmx.evaluate.protocol import Protocol, Truth


def set_limits(
    family: Sequence[Policy],
    values: list[np.ndarray],
    tick: list[np.ndarray],
    truth: Truth,
    protocol: Protocol,
    tick_length: float,
    most_false: float,
) -> tuple[Policy, EventCounts]:
    """Picks one policy of a family, and returns it with what it does on validation.

    Within `most_false` false alarms per asset the policy that catches most wins, then the one with fewer false alarms; where
    none stays within, the one with the fewest false alarms.

    Args:
        values: validation verdicts, per asset float [time], in the order of `truth.assets`.
        tick: their ticks, per asset int64 [time].
    """
    tried = [(policy, count_events(alarms(policy, values), tick, truth, protocol, tick_length)) for policy in family]

    def merit(pair: tuple[Policy, EventCounts]) -> tuple[bool, int, int]:
        false, caught = int(pair[1].false.sum()), int(pair[1].caught.sum())
        within = false <= most_false * len(truth.assets)
        return within, caught if within else 0, -false

    return max(tried, key=merit)
