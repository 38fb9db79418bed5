"""Remaining useful life against the truth: errors with intervals, and two baselines that need no sensor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pmx.evaluate.interval import Interval
from pmx.evaluate.part import Part
from pmx.evaluate.protocol import Protocol, Truth


def nasa(error: np.ndarray) -> np.ndarray:
    """NASA's score per asset, of estimated less true life in cycles: late is worse than early (Saxena et al. 2008)."""
    # exp(600) is absurd already, and a sum of such scores still fits into float64
    return np.exp(np.minimum(np.where(error < 0, -error / 13, error / 10), 600.0)) - 1


def life_metrics(
    rul: list[np.ndarray], tick: list[np.ndarray], truth: Truth, protocol: Protocol, tick_length: float
) -> dict[str, Interval]:
    """Errors of estimates in the life unit, float [time] per asset.

    `last`: at each asset's last tick. `all`: at every tick. `capped`: truth and estimate at most the cap; `raw`: as they are.
    An asset or tick whose life is not known is left out, as is one without an estimate.
    """
    found: dict[str, Interval] = {}
    for name, part in life_parts(rul, tick, truth, protocol, tick_length).items():
        value = part.interval(protocol.draws, protocol.seed)
        times = part.denominator.sum() if name.startswith("nasa") else 1.0  # the score is a sum
        found[name] = (value[0] * times, value[1] * times, value[2] * times)
    return found


def life_parts(rul: list[np.ndarray], tick: list[np.ndarray], truth: Truth, protocol: Protocol, tick_length: float) -> dict[str, Part]:
    """The parts per asset of `life_metrics`; of NASA's score those of its mean."""
    errors: dict[str, list[np.ndarray]] = {name: [] for name in ("last_capped", "last_raw", "all_capped", "all_raw")}
    for i, (estimate, at) in enumerate(zip(rul, tick, strict=True)):
        raw, capped = (v * tick_length for v in truth.life(at.astype(np.float64), i, protocol.cap / tick_length))
        clipped = np.clip(estimate, 0.0, protocol.cap)
        for name, error in (("capped", clipped - capped), ("raw", estimate - raw)):
            errors[f"all_{name}"].append(error[~np.isnan(error)])
            errors[f"last_{name}"].append(error[-1:][~np.isnan(error[-1:])])
    parts: dict[str, Part] = {}
    for measure, of in (("rmse", np.square), ("mae", np.abs), ("nasa", nasa)):
        for name, each in errors.items():
            above, below = np.array([of(e).sum() for e in each]), np.array([len(e) for e in each], float)
            parts[f"{measure}_{name}"] = Part(above, below, root=measure == "rmse")
    return parts


@dataclass(frozen=True)
class Lives:
    """Lengths of training lives in ticks: all that an age-based estimate knows.

    Attributes:
        length: float64 [asset], until failure or until last seen alive.
        failed: bool [asset].

    Example:
        >>> lives = Lives(np.array([10.0, 20.0]), np.array([True, True]))
        >>> lives.left(np.array([0.0, 10.0]), cap=100.0).round(2).tolist()
        [15.0, 10.0]
    """

    length: np.ndarray
    failed: np.ndarray

    def left(self, age: np.ndarray, cap: float) -> np.ndarray:
        """Mean of min(life left, cap) at each age, in ticks, given survival to it; survival after Kaplan and Meier (1958).

        Where every life ended in a known failure, nothing is left at ages that none of them reached.
        """
        times = np.unique(self.length[self.failed])
        if not len(times):
            return np.full(len(age), cap)
        at_risk = (self.length[None, :] >= times[:, None]).sum(1)
        died = ((self.length[None, :] == times[:, None]) & self.failed).sum(1)
        survival = np.cumprod(1 - died / at_risk)
        begin, alive = np.r_[0.0, times], np.r_[1.0, survival]  # survival is alive[k] on [begin[k], begin[k + 1])
        result = np.zeros(len(age))
        for i, a in enumerate(age):
            reached = alive[max(0, np.searchsorted(begin, a, side="right") - 1)]
            if reached > 0:
                result[i] = (np.diff(np.clip(np.r_[begin, np.inf], a, a + cap)) * alive).sum() / reached
        return result
