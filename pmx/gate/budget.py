"""The budget gate: the bundle must fit the device it is packed for."""

from __future__ import annotations

from pmx.gate.result import Gate
from pmx.pack.budget import Limits


def budget(
    measured: dict[str, float],
    name: str,
    bytes_max: float,
    resident_mb_max: float,
    step_ms: float,
    headroom: float,
    profile: str = "ort",
) -> Gate:
    """Compares a measured budget with a device's limits.

    Args:
        measured: `bytes`, `resident_mb`, `p50_ms`, `p99_ms`.
        name: of the device; this and what follows are the attributes of `Limits`.
    """
    limits = Limits(name, bytes_max, resident_mb_max, step_ms, headroom, profile)
    over, rule = limits.over(measured), f"fits device {name} with {headroom:g} times headroom"
    detail = f"{measured['bytes'] / 1e6:.2f} MB, {measured['resident_mb']:.0f} MB resident, step p99 {measured['p99_ms']:.2f} ms CPU of {step_ms:g} ms"
    detail += f", profile {profile}" if profile != "ort" else ""
    if over:
        culprit = ", ".join(f"{k} {measured[k]:g} > {limits.allowed[k]:g}" for k in over)
        return Gate("budget", False, detail, culprit=culprit, rule=rule, figures=dict(measured))
    return Gate("budget", True, f"{detail} on {name}", figures=dict(measured))
