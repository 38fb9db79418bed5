"""What a gate says."""

from __future__ import annotations

from dataclasses import dataclass, field


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

    def line(self) -> str:
        return f"{self.name} {'✓' if self.passed else '✗'}"

    def refusal(self) -> str:
        """What a user reads when it fails."""
        return f"Gate {self.name} refused the result: {self.culprit}\n  rule: {self.rule}\n  found: {self.detail}"
