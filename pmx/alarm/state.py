"""The alarm state machine: persistence and hysteresis, the same code on a device and in replay."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pmx.contract import IncompatibleError


@dataclass(frozen=True)
class Policy:
    """When an alarm is raised and when it clears.

    Attributes:
        output: the verdict output it watches.
        worse: `below` (remaining useful life) or `above` (a score): the side of the limit on which things are bad.
        raise_at, clear_at: limits in the output's unit.
        k, n: raised when `k` of the last `n` verdicts lie beyond `raise_at`; cleared when `k` of the last `n` lie on the good side of `clear_at`.

    Example:
        >>> Policy("rul", "below", raise_at=30.0, clear_at=40.0, k=2, n=3).to_json()["raise_at"]
        30.0
    """

    output: str
    worse: str
    raise_at: float
    clear_at: float
    k: int
    n: int

    def __post_init__(self) -> None:
        fine = self.worse in ("below", "above") and 1 <= self.k <= self.n and np.isfinite([self.raise_at, self.clear_at]).all()
        if not fine or (self.clear_at < self.raise_at if self.worse == "below" else self.clear_at > self.raise_at):
            raise IncompatibleError(
                f"alarm policy {self} makes no sense -> 1 <= k <= n, and a finite clear_at on the good side of raise_at"
            )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class AlarmState:
    """Alarms of a number of assets. A verdict of NaN is no evidence either way.

    Example:
        >>> state = AlarmState(Policy("rul", "below", 30.0, 40.0, k=2, n=3), assets=1)
        >>> [bool(state.step(np.array([0]), np.array([v]))[0]) for v in (50.0, 20.0, 25.0, 35.0, 41.0, 42.0)]
        [False, False, True, True, True, False]
    """

    def __init__(self, policy: Policy, assets: int) -> None:
        self.policy = policy
        self.standing = np.zeros(assets, bool)
        self._bad = np.zeros((assets, policy.n), bool)
        self._good = np.zeros((assets, policy.n), bool)

    def step(self, on: np.ndarray, values: np.ndarray) -> np.ndarray:
        """One verdict value for each asset in `on`, int [asset]; returns whether their alarm stands, bool [asset]."""
        p = self.policy
        bad, good = (values <= p.raise_at, values > p.clear_at) if p.worse == "below" else (values >= p.raise_at, values < p.clear_at)
        for ring, newest in ((self._bad, bad), (self._good, good)):
            ring[on, :-1] = ring[on, 1:]
            ring[on, -1] = newest
        raised, cleared = self._bad[on].sum(1) >= p.k, self._good[on].sum(1) >= p.k
        # raising wins: within n verdicts both can hold, and a missed failure costs more than a late clearing
        self.standing[on] = raised | (self.standing[on] & ~cleared)
        return self.standing[on]


class SensorState:
    """Sensor alarms of a number of assets: raised when `k` of a channel's last `n` verdicts call it faulty, cleared when `k` call it good.

    Example:
        >>> state = SensorState(k=2, n=3, assets=1, channels=1)
        >>> [bool(state.step(np.array([0]), np.array([[q]]))[0, 0]) for q in (0, 2, 2, 2, 0, 0)]
        [False, False, True, True, True, False]
    """

    def __init__(self, k: int, n: int, assets: int, channels: int) -> None:
        self._channels = channels
        # a verdict of each channel is a value that is bad from 1 on and good below
        self._state = AlarmState(Policy("quality", "above", 1.0, 1.0, k, n), assets * channels)

    def step(self, on: np.ndarray, quality: np.ndarray) -> np.ndarray:
        """The quality int [asset, channel] of the assets in `on`; returns whether their sensor alarms stand, bool [asset, channel]."""
        each = (on[:, None] * self._channels + np.arange(self._channels)).ravel()
        return self._state.step(each, quality.ravel().astype(np.float64)).reshape(quality.shape)


def evidence(values: np.ndarray, readings: np.ndarray) -> np.ndarray:
    """Verdict values that count, float [row]: NaN where nothing was measured, because the asset was off or silent.

    Args:
        values: one number of the verdict, float [row].
        readings: the newest reading behind it, float [row, channel], NaN = missing.

    Example:
        >>> evidence(np.array([20.0, 20.0]), np.array([[1.0, np.nan], [np.nan, np.nan]])).tolist()
        [20.0, nan]
    """
    return np.where(np.isnan(readings).all(1), np.nan, values)


def alarms(policy: Policy, values: list[np.ndarray]) -> list[np.ndarray]:
    """Whether the alarm stands at each verdict: per asset bool [time], of values float [time]; loops over the same step."""
    state, length = AlarmState(policy, len(values)), np.array([len(v) for v in values], np.int64)
    padded = np.full((len(values), length.max(initial=0)), np.nan)
    for row, v in zip(padded, values, strict=True):
        row[: len(v)] = v
    standing = np.zeros(padded.shape, bool)
    for t in range(padded.shape[1]):
        on = np.flatnonzero(length > t)
        standing[on, t] = state.step(on, padded[on, t])
    return [row[:n] for row, n in zip(standing, length, strict=True)]
