"""What is measured, and against which truth."""

from __future__ import annotations

from dataclasses import dataclass

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

    @property
    def failures(self) -> dict[str, float]:
        """Asset -> its failure in ticks, of those that failed."""
        return {a: float(f) for a, f in zip(self.assets, self.failed_at, strict=True) if not np.isnan(f)}

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
