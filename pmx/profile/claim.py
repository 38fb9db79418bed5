"""What may be claimed of a result on this history, with the width of the intervals to expect."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, sqrt

from pmx.evaluate.interval import Interval, share
from pmx.profile.orders import Orders

ENOUGH = 20  # lives ended by failure from which a remaining life is worth estimating
CAUGHT = 0.8  # the recall at which intervals are shown
HELD_OUT = 3  # one part in three is kept for the test
WILSON = "Wilson 1927"
RMSE = "1.96 / sqrt(2 n): the standard error of a standard deviation of n independent normal errors, Ahn and Fessler 2003"


@dataclass(frozen=True)
class Claim:
    """What may be claimed.

    Attributes:
        task: `anomaly` or `rul`.
        headline: one sentence.
        lines: what follows from it.
        failures: lives ended by failure, on how many `assets`.
        recall: at 80 % caught (of the failures, or of the labelled episodes): share, and both ends of 95 %; None = no recall can be claimed.
        recall_test: the same when a third of them is held out for the test.
        rmse, rmse_test: half width of the 95 % interval as a share of the RMSE, on all assets that failed, and on a third; None = no RUL.

    Example:
        >>> claim_of(failures=0, assets=0, episodes=0, noun="pumps").recall is None
        True
    """

    task: str
    headline: str
    lines: list[str]
    failures: int
    assets: int
    recall: Interval | None = None
    recall_test: Interval | None = None
    rmse: float | None = None
    rmse_test: float | None = None
    sources: list[str] = field(default_factory=list)


def claim(orders: Orders, episodes: int, noun: str) -> Claim:
    """The claim that a history's orders and labelled episodes allow."""
    return claim_of(orders.taught, len(orders.failed), episodes, noun)


def claim_of(failures: int, assets: int, episodes: int, noun: str) -> Claim:
    """The claim for so many lives ended by failure, on so many assets, and labelled episodes."""
    if not failures:
        return _without_failures(episodes)
    recall, less = _expected(failures), _expected(max(1, failures // HELD_OUT))
    caught = f"recall: {_told(failures, 'failures')}; with a third of them held out for the test {less[1]:.2f} to {less[2]:.2f}"
    alarms = "false alarms: per asset-month on healthy time"
    if failures < ENOUGH:
        head = f"Anomaly score, judged by {failures} failure{'s' * (failures > 1)}; no remaining life"
        more = f"look at the score around each of the {failures} failures: a table of so few hides more than it shows"
        none = f"RUL: none; {failures} lives ended by failure, {ENOUGH} are the least"
        return Claim("anomaly", head, [caught, alarms, more, none], failures, assets, recall, less, sources=[WILSON])
    test = max(1, assets // HELD_OUT)
    rmse, rmse_test = (1.96 / sqrt(2 * n) for n in (max(1, assets), test))
    life = f"RMSE of RUL: known to ± {rmse:.0%} of itself on {assets} {noun} that failed, to ± {rmse_test:.0%} on the {test} of a held-out third"
    head = f"Remaining life (RUL) with intervals, from {failures} lives ended by failure"
    return Claim("rul", head, [caught, life, alarms], failures, assets, recall, less, rmse, rmse_test, [WILSON, RMSE])


def _without_failures(episodes: int) -> Claim:
    unlived = "RUL: none; no life ended by failure is on record"
    if not episodes:
        lines = [
            "recall: none; nobody can tell what an alarm should have caught",
            "false alarms: only as a rate of alarms, all of them unproven",
        ]
        return Claim("anomaly", "Anomaly score alone: no failures, so no recall can be claimed", [*lines, unlived], 0, 0)
    lines = [f"recall: {_told(episodes, 'labelled episodes')}", "false alarms: on the readings outside the episodes", unlived]
    head = f"Anomaly score, judged by {episodes} labelled episode{'s' * (episodes > 1)}; no failures on record"
    return Claim("anomaly", head, lines, 0, 0, _expected(episodes), _expected(max(1, episodes // HELD_OUT)), sources=[WILSON])


def _expected(n: int) -> Interval:
    return share(round(CAUGHT * n), n)


def _told(n: int, what: str) -> str:
    value, low, high = _expected(n)
    return f"if {round(CAUGHT * n)} of {n} {what} are caught, 95 % interval {low:.2f} to {high:.2f}"


def to_halve(n: int) -> int:
    """How many more failures make the interval of the recall half as wide."""
    now, more = _expected(n), n
    while _expected(n + more)[2] - _expected(n + more)[1] > (now[2] - now[1]) / 2:
        more += max(1, ceil(0.02 * n))
    return more
