"""The self-test: the golden vectors through the bundle, here; and how fast and large that is."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from pmx.align import Ticks
from pmx.bundle import Bundle
from pmx.contract import IncompatibleError
from pmx.edge.replay import replay_ticks
from pmx.edge.step import Stepper

WARM = 50  # steps before the clock starts


def golden_ticks(values: np.ndarray, bundle: Bundle) -> Ticks:
    """Golden readings float32 [asset, time, channel] as the ticks of as many assets: those that the bundle knows, then new ones."""
    names = bundle.known[: len(values)]
    return Ticks([*names, *(f"golden {i + 1}" for i in range(len(names), len(values)))], np.ones(len(values), np.int64), list(values))


def selftest(bundle: Bundle) -> dict[str, Any]:
    """Replays the golden vectors; returns `largest_difference` (relative to the larger of 1 and the value) and `alarms_changed`.

    Raises:
        IncompatibleError: the difference exceeds the spec's bound, or a golden alarm changed.
    """
    golden = bundle.arrays("golden.npz")
    played = replay_ticks(bundle, golden_ticks(golden["values"], bundle))
    largest = 0.0
    for name in (n for n in played.outputs if n in golden or n in bundle.spec.outputs):
        here, there = np.stack(played.outputs[name]), golden[name]
        if (np.isnan(here) != np.isnan(there)).any():
            largest = np.inf
        difference = np.abs(here.astype(float) - there) / np.maximum(1.0, np.abs(there))
        largest = max(largest, float(np.nanmax(difference, initial=0.0)))
    changed = int((np.stack(played.standing) != golden["standing"]).sum())
    result = {"largest_difference": largest, "bound": bundle.spec.bound, "alarms_changed": changed, "steps": played.steps}
    if not largest <= bundle.spec.bound or changed:
        raise IncompatibleError(
            f"self-test failed: golden vectors differ by {largest:.3g} (bound {bundle.spec.bound:g}), {changed} golden alarm states changed "
            f"-> do not use this bundle on this machine; pack it again with the onnxruntime that runs here"
        )
    return result


def measure(bundle: Bundle, steps: int = 500, rounds: int = 4) -> dict[str, float]:
    """Size and speed of one asset at a time: `bytes`, `resident_mb` (peak of this process), `p50_ms` and `p99_ms` of a step in CPU time.

    Inputs rotate through the golden readings: repeating one window reads faster than a device will ever be. Each quantile is the
    smallest of several rounds: what else the machine does can only slow a step down, by the caches that it empties.
    """
    golden = bundle.arrays("golden.npz")["values"].reshape(-1, len(bundle.spec.contract.channels))
    stepper, one = Stepper(bundle, (bundle.known or [""])[:1]), np.array([0])
    taken = []
    for i in range(steps * rounds + WARM):
        begin = time.thread_time()  # of this thread, which computes alone: what else the machine does is not the bundle's cost
        stepper.step(one, golden[i % len(golden)][None])
        taken.append(time.thread_time() - begin)
    p50, p99 = np.percentile(np.reshape(taken[WARM:], (rounds, steps)) * 1e3, [50, 99], axis=1).min(1)
    return {"bytes": bundle.size, "resident_mb": round(_peak_mb(), 1), "p50_ms": round(float(p50), 4), "p99_ms": round(float(p99), 4)}


def _peak_mb() -> float:
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    import resource  # only where there is no /proc: it does not exist on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS, the one platform that comes here
