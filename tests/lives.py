"""Truths of assets with one life each, for tests that need no more."""

from collections.abc import Sequence

import numpy as np

from pmx.evaluate.protocol import Truth


def single(
    assets: list[str],
    failed: np.ndarray,
    seen: np.ndarray,
    begins: np.ndarray,
    born: np.ndarray,
    episodes: list[np.ndarray] | None = None,
    faults: Sequence[list[str]] = (),
) -> Truth:
    """A truth in which each asset fails once at most, float64 [asset], NaN = never; all times in ticks."""
    failures = [np.array([f] if f == f else [], np.float64) for f in failed]
    return Truth(assets, failures, [np.zeros(0) for _ in assets], seen, begins, born, episodes, list(faults))


def failed_at(truth: Truth) -> np.ndarray:
    """The first failure of each asset in ticks, float64 [asset]; NaN where it had none."""
    return np.array([f[0] if len(f) else np.nan for f in truth.failed])
