"""What each candidate costs on a device: its bundle, packed as it would ship, measured beside its quality on validation."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pmx.contract import IncompatibleError, UsageError
from pmx.evaluate.protocol import Protocol
from pmx.pack.budget import Limits, measure_budget
from pmx.pack.core import pack
from pmx.pack.fitted import Fitted
from pmx.select.candidates import Trial
from pmx.source import Waves

NO_FORM = "profile"  # the key in `Trial.over` of a candidate that cannot be written in the device's opset profile


def cost_of(fitted: Fitted, trial: Trial, limits: Limits, protocol: Protocol, waves: Waves | None = None) -> dict[str, float]:
    """`bytes`, `resident_mb`, `p50_ms`, `p99_ms` of the bundle that this fitted candidate would become on a device with these limits."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        return measure_budget(bundle, pack(bundle, fitted, trial.policy, protocol, fitted.name, waves), limits)


def with_costs(
    trials: list[Trial], shipped: Callable[[Trial], Fitted], limits: Limits, protocol: Protocol, waves: Waves | None = None
) -> list[tuple[Trial, Fitted]]:
    """Each trial with its cost on the device, and what it would ship.

    Each candidate is fitted on all training assets for it: more ticks make larger trees, so what a fold fitted would cost less than what
    ships. It meets nothing but the training part.

    Args:
        shipped: fits a candidate as it would ship.
        waves: what its readings were reduced from.
    """
    found = []
    for trial in trials:
        fitted = shipped(trial)
        try:
            cost = cost_of(fitted, trial, limits, protocol, waves)
        except (UsageError, IncompatibleError):
            if len(trials) == 1 or limits.profile == "ort":
                raise
            found.append((replace(trial, over={NO_FORM: float("inf")}), fitted))
            continue
        found.append((replace(trial, cost=cost, over=limits.over(cost)), fitted))
    return found


def points_of(trials: list[Trial], chosen: str) -> list[dict[str, Any]]:
    """One point for each measured candidate, the best first.

    Returns:
        `name`, `quality` (higher = better), `mb`, `resident_mb`, `p50_ms`, `p99_ms`, `fits`, `chosen`, and `front`: whether no other
        is at least as good and at least as quick, and better in one of both.
    """
    measured = sorted((t for t in trials if t.cost), key=lambda t: -t.value)
    return [
        {
            "name": t.name,
            "quality": t.value,
            "mb": t.cost["bytes"] / 1e6,
            **{k: t.cost[k] for k in ("resident_mb", "p50_ms", "p99_ms")},
            "fits": t.fits,
            "chosen": t.name == chosen,
            "front": not any(_dominates(o, t) for o in measured),
        }
        for t in measured
    ]


def _dominates(other: Trial, trial: Trial) -> bool:
    one, two = (other.value, -other.cost["p99_ms"]), (trial.value, -trial.cost["p99_ms"])
    return one != two and one[0] >= two[0] and one[1] >= two[1]


def candidate_table(trials: list[Trial], chosen: str, limits: Limits) -> str:
    """Candidates beside each other, the best first: quality on validation, cost, whether the device allows it, and which was chosen."""
    width = max(len("candidate"), *(len(t.name) for t in trials))
    lines = [f"{'candidate':<{width}}  quality      MB  resident MB  p99 ms  {limits.name}"]
    for t in sorted(trials, key=lambda t: -t.value):
        cost = (
            f"{t.cost['bytes'] / 1e6:6.2f}  {t.cost['resident_mb']:11.0f}  {t.cost['p99_ms']:6.2f}"
            if t.cost
            else f"{'–':>6}  {'–':>11}  {'–':>6}"
        )
        over = ", ".join(
            f"{k} {v:.1f} times too large" if k != NO_FORM else f"no form in profile {limits.profile}" for k, v in t.over.items()
        )
        lines.append(f"{t.name:<{width}}  {t.value:7.4g}  {cost}  {over or 'fits'}{', chosen' if t.name == chosen else ''}")
    return "\n".join(lines)
