"""The budget gate: the bundle must fit the device it is packed for."""

from __future__ import annotations

from pmx.gate.result import Gate


def budget(measured: dict[str, float], name: str, bytes_max: float, resident_mb_max: float, step_ms: float, headroom: float) -> Gate:
    """Compares a measured budget with a device's limits.

    Args:
        measured: `bytes`, `resident_mb`, `p50_ms`, `p99_ms`.
        name: of the device.
        step_ms: the time it has for a step.
        headroom: how many times a step at p99 must fit into that time.
    """
    limits = {"bytes": bytes_max, "resident_mb": resident_mb_max, "p99_ms": step_ms / headroom}
    over = [k for k, limit in limits.items() if not measured[k] <= limit]
    detail = f"{measured['bytes'] / 1e6:.2f} MB, {measured['resident_mb']:.0f} MB resident, step p99 {measured['p99_ms']:.2f} ms CPU of {step_ms:g} ms"
    if over:
        culprit = ", ".join(f"{k} {measured[k]:g} > {limits[k]:g}" for k in over)
        return Gate(
            "budget", False, detail, culprit=culprit, rule=f"fits device {name} with {headroom:g} times headroom", figures=dict(measured)
        )
    return Gate("budget", True, f"{detail} on {name}", figures=dict(measured))
