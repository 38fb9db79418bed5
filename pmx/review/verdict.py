"""Whether to deploy: a table of rules over plain figures. Each rule that speaks gives one sentence with its figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pmx.evaluate.interval import Interval
from pmx.pack.margin import COVERAGE as NOMINAL
from pmx.review.facts import NOBODY, Verdict

WIDEST = 0.35  # of the interval of recall: with a wider one nobody can tell a good detector from a mediocre one
CREW = 5.0  # false alarms that a crew can look into in a week beside its work: one a working day
SLACK = 0.05  # how far below the share that they claim to hold the stated intervals may lie


@dataclass(frozen=True)
class Gain:
    """How much better than the age alone, on the same assets.

    Attributes:
        measure: in words, with its unit.
        winner, other: both values.
        difference: oriented so that above 0 is better, with its paired 95 % interval.

    Example:
        >>> Gain("RMSE, h", 40.0, 110.0, (70.0, 60.0, 80.0)).shown
        True
    """

    measure: str
    winner: float
    other: float
    difference: Interval

    @property
    def shown(self) -> bool:
        """Whether the interval lies above 0."""
        return self.difference[1] > 0

    def text(self) -> str:
        value, low, high = self.difference
        return f"{self.measure} {self.winner:.3g} against {self.other:.3g}, better by {value:.3g} [{low:.3g}, {high:.3g}]"


@dataclass(frozen=True)
class Evidence:
    """What the rules look at.

    Attributes:
        failed: name and detail of each gate that refused.
        accepted: why findings of leakage stand; empty = nobody had to accept any.
        no_better: sentence naming the rows without sensors that do as well; empty = none does.
        gains: over the age alone; empty = no such row.
        what: `failures` or `episodes`.
        caught, counted: of them; `recall` with its interval.
        known: whether any event of the test part is on record.
        false, judged: alarms that were false, of those that could be judged.
        false_week: false alarms of the whole fleet a week; NaN without a calendar.
        fleet: how many assets, in words.
        short: how long was watched in all, in words, where that is too short for a rate per week; else empty.
        states_life: whether it states a remaining life; `coverage` of its intervals then, NaN = unknown.
        silent: how many assets had no verdict at all.

    Example:
        >>> Evidence(failed=(("parity", "2 leaves changed"),)).failed[0][0]
        'parity'
    """

    failed: tuple[tuple[str, str], ...] = ()
    accepted: str = ""
    no_better: str = ""
    gains: tuple[Gain, ...] = ()
    what: str = "failures"
    caught: int = 0
    counted: int = 0
    recall: Interval = NOBODY
    known: bool = True
    false: int = 0
    judged: int = 0
    false_week: Interval = NOBODY
    fleet: str = "the assets"
    short: str = ""
    states_life: bool = False
    coverage: Interval = NOBODY
    silent: int = 0

    @property
    def enough(self) -> bool:
        """Whether there were enough events to tell."""
        return self.counted > 0 and self.recall[2] - self.recall[1] <= WIDEST


def decide(e: Evidence) -> Verdict:
    """`no` where a rule of that answer speaks, else `shadow only` where one of those does, else `yes`."""
    for answer in ("no", "shadow only"):
        reasons = tuple(said for wanted, rule in RULES if wanted == answer and (said := rule(e)))
        if reasons:
            return Verdict(answer, reasons)
    return Verdict("yes", _praise(e))


def _praise(e: Evidence) -> tuple[str, ...]:
    caught = f"{_caught(e)}, and {e.false} of {e.judged} judged alarms were false."
    better = [f"It does better than the age alone: {g.text()}." for g in e.gains if g.shown]
    return (caught, *better, "All gates passed.")


def _caught(e: Evidence) -> str:
    return f"{e.caught} of {e.counted} {e.what} were caught in time [{e.recall[1]:.2f}, {e.recall[2]:.2f}]"


def _gate(e: Evidence) -> str:
    names = " and ".join(name for name, _ in e.failed)
    return f"Gate {names} refused the result: {e.failed[0][1]}." if e.failed else ""


def _leak(e: Evidence) -> str:
    return f"Findings of leakage were accepted, so that its figures may be too good: {e.accepted}." if e.accepted else ""


def _plain(e: Evidence) -> str:
    return f"{e.no_better}." if e.no_better else ""


def _age(e: Evidence) -> str:
    """Few events show nothing either way: that is for the rule of too few."""
    if not e.gains or any(g.shown for g in e.gains) or not e.enough:
        return ""
    return f"It is not shown to do better than the age alone: {'; '.join(g.text() for g in e.gains)}."


def _none(e: Evidence) -> str:
    return f"None of {e.counted} {e.what} was caught in time." if e.counted and not e.caught else ""


def _unknown(e: Evidence) -> str:
    return "" if e.known else "Nothing is on record in the test part: whether an alarm is right, nobody knows."


def _few(e: Evidence) -> str:
    if not e.known or e.enough:
        return ""
    if not e.counted:
        return f"None of the {e.what} on record could count: what it catches is not known."
    width = e.recall[2] - e.recall[1]
    return f"Too few {e.what} to tell: {_caught(e)}, an interval {width:.2f} wide where {WIDEST:g} is the most."


def _half(e: Evidence) -> str:
    return f"Most would come unannounced: {_caught(e)}." if e.counted and 0 < e.caught < e.counted / 2 else ""


def _coverage(e: Evidence) -> str:
    if not e.states_life:
        return ""
    if np.isnan(e.coverage[0]):
        return "How far its remaining life may be off is not stated: the coverage of its intervals is unknown."
    if e.coverage[2] < NOMINAL - SLACK or np.isnan(e.coverage[2]) and e.coverage[0] < NOMINAL - SLACK:
        return f"Its intervals hold {e.coverage[0]:.0%} of the true lives, at most {e.coverage[2]:.0%}, where {NOMINAL:.0%} is meant."
    return ""


def _crew(e: Evidence) -> str:
    if np.isnan(e.false_week[0]) or e.false_week[0] <= CREW:
        return ""
    return f"{e.false_week[0]:.1f} false alarms a week for {e.fleet} are more than the {CREW:g} that a crew can look into."


def _mostly_false(e: Evidence) -> str:
    return f"{e.false} of {e.judged} judged alarms were false." if e.judged and e.false >= e.judged / 2 else ""


def _short(e: Evidence) -> str:
    return f"{e.fleet} were watched for {e.short} in all: how many false alarms a week brings is not known." if e.short else ""


def _silent(e: Evidence) -> str:
    return f"{e.silent} of the assets had no verdict at all." if e.silent else ""


RULES: tuple[tuple[str, Callable[[Evidence], str]], ...] = (
    ("no", _gate),
    ("no", _leak),
    ("no", _plain),
    ("no", _age),
    ("no", _none),
    ("shadow only", _unknown),
    ("shadow only", _few),
    ("shadow only", _half),
    ("shadow only", _mostly_false),
    ("shadow only", _crew),
    ("shadow only", _short),
    ("shadow only", _coverage),
    ("shadow only", _silent),
)
