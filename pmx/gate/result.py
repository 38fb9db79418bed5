"""What a gate says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One suspicion that a check names.

    Attributes:
        kind: the check that found it.
        where: the channel, the asset, or the assets and ticks.
        size: how much of it there is; `why` says of what.
        why: what was seen.
        mend: what to do.

    Example:
        >>> Finding("countdowns", "channel due", 12, "counts down to 12 failures", "leave it out").line()
        'channel due: counts down to 12 failures -> leave it out'
    """

    kind: str
    where: str
    size: float
    why: str
    mend: str

    def line(self) -> str:
        return f"{self.where}: {self.why} -> {self.mend}"


@dataclass(frozen=True)
class Check:
    """One check that was made: its name, what was compared, and what was found; a check that found nothing stands in the table too.

    Example:
        >>> Check("countdowns", "3 channels over 12 lives").findings
        ()
    """

    name: str
    compared: str
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Gate:
    """The verdict of one gate.

    Attributes:
        name: `look-ahead`, `leakage`, `parity` or `budget`.
        passed: whether the result stands.
        detail: one sentence: what was compared and what came out.
        culprit: what failed it: a kernel, an asset, a limit; empty when passed.
        rule: the rule that was broken; empty when passed.
        figures: numbers for the tracker.
        checks: the single checks that it was made from; empty where it is one comparison.
        accepted: why a user lets the result stand in spite of its findings; empty = nobody had to.

    Example:
        >>> Gate("budget", False, "p99 9 ms of 5 ms", culprit="p99_ms", rule="a step must fit ten times into its time").line()
        'budget ✗'
    """

    name: str
    passed: bool
    detail: str
    culprit: str = ""
    rule: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()
    accepted: str = ""

    @property
    def findings(self) -> list[Finding]:
        """What its checks found."""
        return [f for check in self.checks for f in check.findings]

    def line(self) -> str:
        return f"{self.name} {'✓' if self.passed else '✗'}" + (f" (accepted: {self.accepted})" if self.accepted else "")

    def refusal(self) -> str:
        """What a user reads when it fails."""
        return f"Gate {self.name} refused the result: {self.culprit}\n  rule: {self.rule}\n  found: {self.detail}"

    def evidence(self) -> dict[str, Any]:
        """What is sealed of it: plain data, with every finding."""
        told: dict[str, Any] = {"passed": self.passed, "detail": self.detail, "culprit": self.culprit}
        if self.checks:
            told["checks"] = {c.name: {"compared": c.compared, "findings": len(c.findings)} for c in self.checks}
            told["findings"] = [{"kind": f.kind, "where": f.where, "size": f.size, "why": f.why} for f in self.findings]
        return told | ({"accepted": self.accepted} if self.accepted else {})
