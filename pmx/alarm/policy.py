"""How an alarm policy is looked for: a family of limits with persistence and hysteresis; validation picks one of them."""

from __future__ import annotations

import numpy as np

from pmx.alarm.state import Policy
from pmx.contract import UsageError


class KofN:
    """k-of-n persistence with a clear limit apart from the raise limit.

    Args:
        k, n: `k` of the last `n` verdicts must agree.
        slack: how far `clear_at` lies from `raise_at`, as a share of it (of its distance from 1 for an anomaly score).
        limits: how many raise limits validation tries.
        most_false: false alarms per asset that validation accepts; within it, the limit that catches most wins.

    Example:
        >>> [p.raise_at for p in KofN(limits=3).family("rul", horizon=30.0, cap=125.0)]
        [6.0, 22.5, 39.0]
    """

    def __init__(self, k: int = 3, n: int = 5, slack: float = 0.25, limits: int = 12, most_false: float = 0.1) -> None:
        if not 1 <= k <= n or limits < 2:
            raise UsageError(f"alarm: k={k}, n={n}, limits={limits} -> 1 <= k <= n and at least 2 limits")
        if not slack >= 0 or not most_false >= 0:
            raise UsageError(f"alarm: slack={slack}, most_false={most_false} -> neither may be below 0")
        self.k, self.n, self.slack, self.limits, self.most_false = k, n, slack, limits, most_false

    def family(self, output: str, horizon: float, cap: float) -> list[Policy]:
        """The policies tried, from the most reluctant to the most eager; a RUL at its cap clears every one of them."""
        if output == "rul":
            tried = np.linspace(0.2 * horizon, min(1.3 * horizon, 0.99 * cap / (1 + self.slack)), self.limits)
            return [Policy(output, "below", float(a), float(a * (1 + self.slack)), self.k, self.n) for a in tried.round(6)]
        tails = np.geomspace(1e-3, 0.2, self.limits)
        return [Policy(output, "above", float(1 - t), float(1 - t * (1 + self.slack)), self.k, self.n) for t in tails.round(6)]
