"""What is measured, and against which truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pmx.contract import DataError, UsageError

Stretch = tuple[float, float, str]  # first and last tick, and the class of fault in between


class Protocol:
    """The rules of an evaluation, in the life unit.

    Args:
        cap: remaining useful life above it counts as it: far from failure, nothing shows how far.
        horizon: an alarm is right when a failure follows within it.
        lead: an alarm must stand this long before the failure to be of use.
        draws: bootstrap samples.
        seed: of the bootstrap.

    Example:
        >>> Protocol(cap=125, horizon=30, lead=5).horizon
        30.0
    """

    def __init__(self, cap: float, horizon: float, lead: float, draws: int = 1000, seed: int = 0) -> None:
        if not 0 <= lead < horizon <= cap:
            raise UsageError(f"evaluate: lead {lead}, horizon {horizon}, cap {cap} -> 0 <= lead < horizon <= cap")
        if draws < 1:
            raise UsageError(f"evaluate.draws is {draws}: an interval needs bootstrap samples -> at least 1, better 1000")
        self.cap, self.horizon, self.lead, self.draws, self.seed = float(cap), float(horizon), float(lead), draws, seed


@dataclass(frozen=True)
class Truth:
    """What really happened to the assets that are evaluated, in ticks, per asset in alphabetical order.

    An asset that goes on after a failure or a replacement begins another life.

    Attributes:
        assets: names.
        failed, replaced: per asset float64 [event], its failures and its preventive replacements, sorted.
        seen: float64 [asset], the last tick of the asset's history, when it was alive unless it had just failed.
        begins: float64 [asset], first tick that counts (a split by time tests the later part of a life).
        born: float64 [asset], first tick of the asset's history: what its age counts from.
        episodes: per asset float64 [episode, 2], first and last tick of what somebody labelled as anomalous; None = nobody did,
            and failures tell.
        faults: per asset the names of these episodes.
        kinds: per asset the stretches whose class of fault is known: first and last tick, and the class; empty = nobody says.

    Example:
        >>> one = np.array([0.0])
        >>> truth = Truth(["A"], [np.array([90.0])], [np.zeros(0)], seen=np.array([90.0]), begins=one, born=one)
        >>> truth.life(np.array([80.0]), 0, 125.0)
        (array([10.]), array([10.]))
    """

    assets: list[str]
    failed: list[np.ndarray]
    replaced: list[np.ndarray]
    seen: np.ndarray
    begins: np.ndarray
    born: np.ndarray
    episodes: list[np.ndarray] | None = None
    faults: list[list[str]] = field(default_factory=list)
    kinds: list[list[Stretch]] = field(default_factory=list)

    @property
    def failures(self) -> dict[str, np.ndarray]:
        """Asset -> its failures in ticks, of those that failed."""
        return {a: f for a, f in zip(self.assets, self.failed, strict=True) if len(f)}

    def some(self, at: np.ndarray) -> Truth:
        """The truth of the assets at these positions alone, int [asset]."""
        assets, failed, replaced = [self.assets[i] for i in at], [self.failed[i] for i in at], [self.replaced[i] for i in at]
        episodes = None if self.episodes is None else [self.episodes[i] for i in at]
        faults, kinds = ([own[i] for i in at] if own else [] for own in (self.faults, self.kinds))
        return Truth(assets, failed, replaced, self.seen[at], self.begins[at], self.born[at], episodes, faults, kinds)

    def lives(self) -> tuple[np.ndarray, np.ndarray]:
        """Every life in the record: its length in ticks, float64 [life], and whether a failure ended it, bool [life]; the last of an asset
        lasts until it was lost from sight.
        """
        length, failed = [], []
        for i in range(len(self.assets)):
            ends = sorted([(end, True) for end in self.failed[i]] + [(end, False) for end in self.replaced[i]])
            begin = self.born[i]
            for end, failure in [*ends, (self.seen[i], False)]:
                if end > begin:
                    length.append(end - begin)
                    failed.append(failure)
                    begin = end
        return np.array(length, np.float64), np.array(failed, bool)

    def age(self, tick: np.ndarray, at: int) -> np.ndarray:
        """Ticks since asset `at` began its life, at each tick [time]: since its last failure or replacement, or its first reading."""
        last = np.maximum(_last(self.failed[at], tick), _last(self.replaced[at], tick))
        return tick - np.maximum(last, self.born[at])

    def next_end(self, tick: np.ndarray, at: int) -> tuple[np.ndarray, np.ndarray]:
        """Of asset `at`, at each tick float64 [time]: its next failure, NaN where none is known to come before another end, and until
        when it is known to be alive.
        """
        failure, replacement = (_next(ends[at], tick) for ends in (self.failed, self.replaced))
        failure = np.where(replacement < failure, np.nan, failure)
        alive = np.fmin(np.where(np.isnan(failure), np.inf, failure), np.where(np.isnan(replacement), np.inf, replacement))
        return failure, np.where(np.isinf(alive), self.seen[at], alive)

    def life(self, tick: np.ndarray, at: int, cap: float) -> tuple[np.ndarray, np.ndarray]:
        """Life left at each tick of asset `at`, in ticks: raw (NaN where unknown) and capped (known too where it certainly exceeds the cap)."""
        failure, alive = self.next_end(tick, at)
        raw = failure - tick
        capped = np.minimum(np.where(np.isnan(raw) & (alive - tick >= cap), cap, raw), cap)
        outside = (tick < self.begins[at]) | self._gone(tick, at)
        return np.where(outside, np.nan, raw), np.where(outside, np.nan, capped)

    def judged(self, tick: np.ndarray, at: int, horizon: float) -> np.ndarray:
        """Whether it is known at each tick of asset `at` if a failure follows within `horizon` ticks, bool [time]. It is not within a horizon
        before the asset was replaced or lost from sight, and not within one after a failure: then the asset is being repaired.
        """
        failure, alive = self.next_end(tick, at)
        after = tick - _last(self.failed[at], tick)
        known = ~np.isnan(failure) | (alive - tick >= horizon)
        return known & ~(after <= horizon) & (tick >= self.begins[at]) & ~self._gone(tick, at)

    def anomalous(self, tick: np.ndarray, at: int, horizon: float) -> np.ndarray:
        """Whether each tick of asset `at` is anomalous, float64 [time]: 1 in a labelled episode, or no more than `horizon` ticks before
        a failure; 0 elsewhere; NaN where nobody knows.
        """
        if self.episodes is not None:
            episodes = self.episodes[at][np.argsort(self.episodes[at][:, 0], kind="stable")]
            begins, ends = episodes[:, 0], np.maximum.accumulate(episodes[:, 1])
            before = np.searchsorted(begins, tick, side="right")  # episodes that began by then; one of them may still last
            found = (before > 0) & (np.append(ends, -np.inf)[before - 1] >= tick)
            return np.where(tick < self.begins[at], np.nan, found.astype(np.float64))
        near = self.next_end(tick, at)[0] - tick <= horizon
        return np.where(self.judged(tick, at, horizon) | (near & (tick >= self.begins[at])), near.astype(np.float64), np.nan)

    def class_at(self, tick: np.ndarray, at: int, names: Sequence[str]) -> np.ndarray:
        """The class of fault of asset `at` at each tick, as its place among these names, int64 [time]; −1 where nobody knows, or where it
        is none of them.
        """
        known = class_of(tick, self.kinds[at] if self.kinds else [], names)
        return np.where(tick < self.begins[at], -1, known)

    def expect(self, assets: list[str]) -> None:
        """Refuses a replay of other assets: verdicts and truth are matched in order."""
        if assets != self.assets:
            odd = sorted(set(assets) ^ set(self.assets))[:3]
            raise DataError(f"the replay met other assets than the training path, such as {odd} -> check the white space in asset names")

    def _gone(self, tick: np.ndarray, at: int) -> np.ndarray:
        """Whether a tick lies behind the last failure that ended the record: the asset was not seen at work again."""
        last = np.concatenate([self.failed[at], [-np.inf]]).max()
        return (tick > last) & (last >= self.seen[at])


def _next(ends: np.ndarray, tick: np.ndarray) -> np.ndarray:
    """The first of the sorted ends at or after each tick; NaN where there is none."""
    return np.append(ends, np.nan)[np.searchsorted(ends, tick, side="left")]


def _last(ends: np.ndarray, tick: np.ndarray) -> np.ndarray:
    """The last of the sorted ends before each tick; −inf where there is none."""
    return np.append(-np.inf, ends)[np.searchsorted(ends, tick, side="left")]


def class_of(tick: np.ndarray, stretches: Sequence[Stretch], names: Sequence[str]) -> np.ndarray:
    """The place of the class among these names at each tick, int64 [time]; −1 in no stretch, or in one of another class. Of stretches that
    overlap, the later one counts.
    """
    found = np.full(len(tick), -1)
    for first, last, name in stretches:
        found[(tick >= first) & (tick <= last)] = names.index(name) if name in names else -1
    return found
