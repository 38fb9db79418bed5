"""Alarms against failures: what was caught in time, and what was raised for nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pmx.evaluate.interval import Interval, rate, share
from pmx.evaluate.protocol import Protocol, Truth


@dataclass(frozen=True)
class EventCounts:
    """Per asset: whether its failure counts and was caught, its false alarms, and the ticks in which alarms were judged.

    Attributes:
        counted, caught: bool [asset].
        false: int64 [asset].
        exposure: float64 [asset], in ticks.

    Example:
        >>> EventCounts(np.array([True]), np.array([True]), np.array([0]), np.array([90.0])).recall()[0]
        1.0
    """

    counted: np.ndarray
    caught: np.ndarray
    false: np.ndarray
    exposure: np.ndarray

    def recall(self) -> Interval:
        return share(int(self.caught.sum()), int(self.counted.sum()))

    def false_rate(self, ticks: float, protocol: Protocol) -> Interval:
        """False alarms per asset and `ticks` ticks."""
        return rate(self.false, self.exposure / ticks, protocol.draws, protocol.seed)


def count_events(standing: list[np.ndarray], tick: list[np.ndarray], truth: Truth, protocol: Protocol, tick_length: float) -> EventCounts:
    """Counts alarms, bool [time] per asset at the ticks int64 [time].

    Caught: an alarm stands at some tick in [failure − horizon, failure − lead]; a failure counts when that span was watched to
    its end. False: raised with no failure within the horizon, and once more for each further horizon it stands without one.
    The last horizon before an asset was lost from sight (censoring) counts neither way; a failed asset is watched up to its failure.
    """
    horizon, lead = protocol.horizon / tick_length, protocol.lead / tick_length
    n = len(truth.assets)
    counted, caught, false, exposure = np.zeros(n, bool), np.zeros(n, bool), np.zeros(n, np.int64), np.zeros(n)
    for i in range(n):
        inside = tick[i] >= truth.begins[i]
        at, stands = tick[i][inside].astype(np.float64), standing[i][inside]
        if not len(at):
            continue
        failure = truth.failed_at[i]
        censored = np.isnan(failure)
        in_time = (at >= failure - horizon) & (at <= failure - lead)
        counted[i] = in_time.any() and at[-1] >= np.floor(failure - lead)
        caught[i] = counted[i] and (stands & in_time).any()
        watched = at <= truth.seen[i] - horizon if censored else at <= failure
        exposure[i] = watched.sum()
        for begin, end in np.flatnonzero(np.diff(np.r_[False, stands, False])).reshape(-1, 2):
            moments = np.arange(at[begin], at[end - 1] + 1, horizon)  # when it is raised, and after each further horizon
            right = (moments <= failure) & (failure <= moments + horizon)
            judged = moments <= truth.seen[i] - horizon if censored else moments <= failure
            false[i] += int((judged & ~right).sum())
    return EventCounts(counted, caught, false, exposure)
