"""The budget gate: each limit alone, and at its edge."""

import pytest

from pmx.gate.budget import budget
from pmx.gate.result import Gate

LIMITS = {"name": "gateway", "bytes_max": 1e6, "resident_mb_max": 100, "step_ms": 50, "headroom": 10}
AT_THE_EDGE = {"bytes": 1e6, "resident_mb": 100.0, "p50_ms": 99.0, "p99_ms": 5.0}


def test_at_its_limits_a_bundle_fits():
    found = budget(AT_THE_EDGE, **LIMITS)
    assert found.passed and "gateway" in found.detail and found.figures == AT_THE_EDGE


@pytest.mark.parametrize(
    ("over", "culprit"),
    [
        ({"bytes": 1_000_001}, "bytes"),
        ({"resident_mb": 100.1}, "resident_mb"),
        ({"p99_ms": 5.01}, "p99_ms"),
        ({"p99_ms": float("nan")}, "p99_ms"),
    ],
)
def test_each_limit_is_named_alone(over, culprit):
    found = budget({**AT_THE_EDGE, **over}, **LIMITS)
    assert not found.passed and found.culprit.startswith(culprit) and "," not in found.culprit.replace("1,0", "")
    assert "gateway with 10 times headroom" in found.rule


def test_all_limits_that_are_broken_are_named():
    found = budget({"bytes": 2e6, "resident_mb": 512, "p50_ms": 1, "p99_ms": 6}, **LIMITS)
    assert [c.split()[0] for c in found.culprit.split(", ")] == ["bytes", "resident_mb", "p99_ms"]


def test_a_step_must_fit_as_often_as_the_headroom_says():
    assert not budget({**AT_THE_EDGE, "p99_ms": 26.0}, **{**LIMITS, "headroom": 2}).passed
    assert budget({**AT_THE_EDGE, "p99_ms": 25.0}, **{**LIMITS, "headroom": 2}).passed


def test_a_refusal_says_who_which_rule_and_what_was_found():
    text = Gate("parity", False, "7 leaves changed", culprit="kernel mean5", rule="no leaf changes").refusal()
    assert text.splitlines() == ["Gate parity refused the result: kernel mean5", "  rule: no leaf changes", "  found: 7 leaves changed"]
    assert Gate("parity", True, "").line() == "parity ✓"
