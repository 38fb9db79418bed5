"""How an alarm policy is looked for: a family of limits with persistence and hysteresis; validation picks one of them."""

from __future__ import annotations

import numpy as np

from pmx.alarm.score import score_of
from pmx.alarm.state import Policy
from pmx.contract import UsageError

LATEST = 0.03  # share of the ticks before a failure whose probability reaches the most reluctant limit tried


class KofN:
    """k-of-n persistence with a clear limit apart from the raise limit.

    Limits of an anomaly score are multiples of the healthy level, which is the score that 95 % of healthy validation ticks stay below.

    Args:
        k, n: `k` of the last `n` verdicts must agree.
        slack: how far `clear_at` lies from `raise_at`, as a share of it (of an anomaly score: of its way back to the healthy median).
        limits: how many raise limits validation tries.
        most_false: false alarms per asset that validation accepts; within it, the limit that catches most wins.
        margin: the limit of an anomaly score as a multiple of the healthy level, where validation holds too few failures to choose by.

    Example:
        >>> [p.raise_at for p in KofN(limits=3).family("rul", horizon=30.0, cap=125.0)]
        [6.0, 22.5, 39.0]
    """

    def __init__(self, k: int = 3, n: int = 5, slack: float = 0.25, limits: int = 12, most_false: float = 0.1, margin: float = 2.0) -> None:
        if not 1 <= k <= n or limits < 2:
            raise UsageError(f"alarm: k={k}, n={n}, limits={limits} -> 1 <= k <= n and at least 2 limits")
        if not 0 <= slack <= 1 or not most_false >= 0 or not margin > 0:
            raise UsageError(
                f"alarm: slack={slack}, most_false={most_false}, margin={margin} -> 0 <= slack <= 1, 0 <= most_false, 0 < margin"
            )
        self.k, self.n, self.slack, self.limits, self.most_false, self.margin = k, n, slack, limits, most_false, margin

    def family(self, output: str, horizon: float, cap: float, healthy: np.ndarray | None = None) -> list[Policy]:
        """The policies tried, from the most reluctant to the most eager; a RUL at its cap clears every one of them.

        Args:
            healthy: of an anomaly score, the sorted healthy ratios float64 [rank]; of a probability of failure, what validation gave
                within a horizon before a failure, float [tick]: how sure it ever gets depends on the data.
        """
        if output == "rul":
            tried = np.linspace(0.2 * horizon, min(1.3 * horizon, 0.99 * cap / (1 + self.slack)), self.limits)
            return [Policy(output, "below", float(a), float(a * (1 + self.slack)), self.k, self.n) for a in tried.round(6)]
        if output == "failure_probability":
            assert healthy is not None and len(healthy), "limits of a probability are those that failures reached"
            tried = np.unique(np.quantile(healthy, np.linspace(LATEST, 1 - LATEST, self.limits)).astype(np.float32))[::-1]
            return [Policy(output, "above", float(p), float(np.float32(p * (1 - self.slack))), self.k, self.n) for p in tried]
        assert healthy is not None, "limits of an anomaly score are multiples of a healthy level"
        return [self.at(float(m), healthy) for m in np.geomspace(max(8.0, 2 * healthy[-1]), 0.8, self.limits)]

    def at(self, margin: float, healthy: np.ndarray) -> Policy:
        """The policy of an anomaly score whose limit is this multiple of the healthy level."""
        least = min(margin, float(np.median(healthy)))
        back = max(margin - self.slack * (margin - least), least)  # a rounded difference may reach below
        raise_at, clear_at = (float(np.float32(s)) for s in score_of(np.array([margin, back]), healthy))
        return Policy("anomaly_score", "above", raise_at, min(clear_at, raise_at), self.k, self.n)
