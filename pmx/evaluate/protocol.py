"""What is measured, and against which truth."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pmx.contract import DataError, UsageError


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
    """What really happened to each asset, in ticks since the clock's zero.

    Attributes:
        assets: names.
        failed_at: float64 [asset], NaN where no failure is known.
        seen: float64 [asset], the last moment the asset was known to be alive: its replacement, or its last reading.
        begins: float64 [asset], first tick that counts (a split by time tests the later part of a life).
        born: float64 [asset], first tick of the asset's history: what its age counts from.
        episodes: per asset float64 [episode, 2], first and last tick of what somebody labelled as anomalous; None = nobody did,
            and failures tell.
        faults: per asset the names of these episodes.

    Example:
        >>> truth = Truth(["A"], np.array([90.0]), np.array([90.0]), np.array([0.0]), np.array([0.0]))
        >>> truth.life(np.array([80.0]), 0, 125.0)
        (array([10.]), array([10.]))
    """

    assets: list[str]
    failed_at: np.ndarray
    seen: np.ndarray
    begins: np.ndarray
    born: np.ndarray
    episodes: list[np.ndarray] | None = None
    faults: list[list[str]] = field(default_factory=list)

    @property
    def failures(self) -> dict[str, float]:
        """Asset -> its failure in ticks, of those that failed."""
        return {a: float(f) for a, f in zip(self.assets, self.failed_at, strict=True) if not np.isnan(f)}

    def some(self, at: np.ndarray) -> Truth:
        """The truth of the assets at these positions alone, int [asset]."""
        episodes = None if self.episodes is None else [self.episodes[i] for i in at]
        faults = [self.faults[i] for i in at] if self.faults else []
        return Truth([self.assets[i] for i in at], self.failed_at[at], self.seen[at], self.begins[at], self.born[at], episodes, faults)

    def expect(self, assets: list[str]) -> None:
        """Refuses a replay of other assets: verdicts and truth are matched in order."""
        if assets != self.assets:
            odd = sorted(set(assets) ^ set(self.assets))[:3]
            raise DataError(f"the replay met other assets than the training path, such as {odd} -> check the white space in asset names")

    def life(self, tick: np.ndarray, at: int, cap: float) -> tuple[np.ndarray, np.ndarray]:
        """Life left at each tick of asset `at`, in ticks: raw (NaN where unknown) and capped (known too where it certainly exceeds the cap)."""
        raw = self.failed_at[at] - tick
        alive = self.seen[at] - tick >= cap
        capped = np.minimum(np.where(np.isnan(raw) & alive, cap, raw), cap)
        outside = (tick < self.begins[at]) | (raw < 0)
        return np.where(outside, np.nan, raw), np.where(outside, np.nan, capped)

    def anomalous(self, tick: np.ndarray, at: int, horizon: float) -> np.ndarray:
        """Whether each tick of asset `at` is anomalous, float64 [time]: 1 in a labelled episode, or no more than `horizon` ticks before
        a failure; 0 elsewhere; NaN where nobody knows: outside of what counts, after a failure, and shortly before an asset was lost from sight.
        """
        if self.episodes is not None:
            found = ((tick[:, None] >= self.episodes[at][:, 0]) & (tick[:, None] <= self.episodes[at][:, 1])).any(1).astype(np.float64)
            return np.where(tick < self.begins[at], np.nan, found)
        left, alive = self.failed_at[at] - tick, self.seen[at] - tick > horizon
        known = np.where(np.isnan(left), np.where(alive, 0.0, np.nan), (left <= horizon).astype(np.float64))
        return np.where((tick < self.begins[at]) | (left < 0), np.nan, known)
