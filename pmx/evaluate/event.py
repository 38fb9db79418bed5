"""Alarms against what happened: what was caught in time, and what was raised for nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pmx.evaluate.interval import Interval, rate, share
from pmx.evaluate.part import Part
from pmx.evaluate.protocol import Protocol, Truth


@dataclass(frozen=True)
class EventCounts:
    """Per asset: its events (a failure, or labelled episodes), its alarms, and the ticks in which alarms were judged.

    Attributes:
        counted, caught: int64 [asset], events that count, and those of them that were caught.
        false: int64 [asset], false alarms.
        exposure: float64 [asset], in ticks.
        raised, right: int64 [asset], alarms that were judged when they were raised, and those of them that were right.
        delay: float64 [event], ticks from the beginning of a caught episode until an alarm stood.
        ahead: float64 [event], ticks from the moment the alarm was raised that caught an event until the failure came, or the episode
            began; below 0 where it was raised only then. What was raised earlier than a horizon ahead counts as a horizon.

    Example:
        >>> EventCounts(np.array([1]), np.array([1]), np.array([0]), np.array([90.0])).recall()[0]
        1.0
    """

    counted: np.ndarray
    caught: np.ndarray
    false: np.ndarray
    exposure: np.ndarray
    raised: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    right: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    delay: np.ndarray = field(default_factory=lambda: np.zeros(0))
    ahead: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def recall(self) -> Interval:
        return share(int(self.caught.sum()), int(self.counted.sum()))

    def precision(self) -> Interval:
        """Share of the alarms that were right when they were raised."""
        return share(int(self.right.sum()), int(self.raised.sum()))

    def false_rate(self, ticks: float, protocol: Protocol) -> Interval:
        """False alarms per asset and `ticks` ticks."""
        return rate(self.false, self.exposure / ticks, protocol.draws, protocol.seed)

    def parts(self, ticks: float) -> dict[str, Part]:
        """Parts per asset: `event_recall`, `event_precision`, and `false_alarms` per asset and `ticks` ticks."""
        recall = Part(self.caught.astype(float), self.counted.astype(float), higher=True)
        found = {"event_recall": recall, "false_alarms": Part(self.false.astype(float), self.exposure / ticks)}
        if len(self.raised):
            found["event_precision"] = Part(self.right.astype(float), self.raised.astype(float), higher=True)
        return found


def count_events(standing: list[np.ndarray], tick: list[np.ndarray], truth: Truth, protocol: Protocol, tick_length: float) -> EventCounts:
    """Counts alarms, bool [time] per asset at the ticks int64 [time].

    A failure is caught when an alarm stands at some tick in [failure − horizon, failure − lead]; it counts when that span was
    watched to its end. A labelled episode is caught when an alarm stands at some of its ticks. An alarm is right when a failure
    follows within the horizon, or when it overlaps an episode. False: raised without being right, and once more for each further
    horizon it stands so. The last horizon before an asset was lost from sight (censoring) counts neither way.
    """
    n = len(truth.assets)
    count = {name: np.zeros(n, np.int64) for name in ("counted", "caught", "false", "raised", "right")}
    exposure, delays, leads = np.zeros(n), [], []
    for i in range(n):
        inside = tick[i] >= truth.begins[i]
        at, stands = tick[i][inside].astype(np.float64), standing[i][inside]
        if not len(at):
            continue
        judge = _by_failure if truth.episodes is None else _by_episode
        found, exposure[i], delay, ahead = judge(at, stands, truth, i, protocol.horizon / tick_length, protocol.lead / tick_length)
        for name, value in found.items():
            count[name][i] = value
        delays += delay
        leads += ahead
    return EventCounts(**count, exposure=exposure, delay=np.array(delays), ahead=np.array(leads))


Judged = tuple[dict[str, int], float, list[float], list[float]]


def _alarms(at: np.ndarray, stands: np.ndarray) -> list[tuple[float, float]]:
    """First and last tick of every alarm."""
    edges = np.flatnonzero(np.diff(np.r_[False, stands, False])).reshape(-1, 2)
    return [(at[begin], at[end - 1]) for begin, end in edges]


def _by_failure(at: np.ndarray, stands: np.ndarray, truth: Truth, i: int, horizon: float, lead: float) -> Judged:
    counted = caught = false = raised = right = 0
    previous, ahead = -np.inf, []
    for failure in truth.failed[i]:
        in_time = (at > previous) & (at >= failure - horizon) & (at <= failure - lead)
        counts = bool(in_time.any()) and at[-1] >= np.floor(failure - lead)
        counted += int(counts)
        if counts and (stands & in_time).any():
            caught += 1
            ahead.append(failure - at[np.argmax(stands & in_time)])
        previous = failure
    for begin, end in _alarms(at, stands):
        moments = np.arange(begin, end + 1, horizon)  # when it is raised, and after each further horizon
        true = truth.next_end(moments, i)[0] <= moments + horizon
        judged = truth.judged(moments, i, horizon)
        false += int((judged & ~true).sum())
        raised, right = raised + int(judged[0]), right + int(judged[0] & true[0])
    exposure = float(truth.judged(at, i, horizon).sum())
    return {"counted": counted, "caught": caught, "false": false, "raised": raised, "right": right}, exposure, [], ahead


def _by_episode(at: np.ndarray, stands: np.ndarray, truth: Truth, i: int, horizon: float, lead: float) -> Judged:
    assert truth.episodes is not None
    spans = [(begin, end, *np.searchsorted(at, [begin, np.nextafter(end, np.inf)])) for begin, end in truth.episodes[i]]
    episodes = [(begin, end, first, last) for begin, end, first, last in spans if last > first]
    anomalous = truth.anomalous(at, i, horizon) > 0
    delays, ahead = [], []
    for begin, _, first, last in episodes:
        hits = at[first:last][stands[first:last]]
        # what began before the test part could not be told before it
        if len(hits):
            delays.append(float(hits[0] - max(begin, at[0])))
            quiet = np.flatnonzero(~stands[: np.searchsorted(at, hits[0])])
            ahead.append(float(begin - max(at[quiet[-1] + 1 if len(quiet) else 0], begin - horizon)))
    false = raised = right = 0
    for begin, end in _alarms(at, stands):
        own = anomalous[slice(*np.searchsorted(at, [begin, np.nextafter(end, np.inf)]))]
        true, outside = bool(own.any()), int((~own).sum())
        raised, right = raised + 1, right + int(true)
        # a right alarm may begin early and end late by a horizon, one that was never right may not begin at all
        false += int(outside // horizon) if true else 1 + int((outside - 1) // horizon)
    found = {"counted": len(episodes), "caught": len(delays), "false": false, "raised": raised, "right": right}
    return found, float((~anomalous).sum()), delays, ahead
