"""How nodes reach back in time: over a whole history at once, or one tick at a time with the past in an asset's memory.

What is written against a `Trail` gives the same numbers on both ways: it shifts, compares, and adds in a fixed order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import spox.opset.ai.onnx.v20 as op
from spox import Var

from pmx.feature.view import const, cut

END = np.iinfo(np.int64).max
GRAIN = 2.0**20  # to a unit: sums of values below 2^20 stay exact


def number(value: Var) -> Var:
    """A condition as 0 or 1, float64."""
    return op.cast(value, to=np.float64)


def beside(value: Var, widths: list[int]) -> Sequence[Var]:
    """The parts that lie side by side on the axis of channels, so many channels each."""
    return op.split(value, op.const(np.array(widths)), axis=2)


def late(value: Var, ticks: int, fill: float) -> Var:
    """The values some ticks ago, [asset, time, channel]; `fill` where there was none yet."""
    return cut(op.pad(value, op.const([0, ticks, 0, 0, 0, 0]), const(fill)), 0, -ticks, 1)


class Trail(ABC):
    """Access to earlier ticks of values [asset, time, channel]."""

    @abstractmethod
    def counts(self, flags: Sequence[tuple[Var, int, int]]) -> Var:
        """In how many of the last ticks a flag was up, float64, the channels of all flags side by side.

        Args:
            flags: bool [asset, time, channel], over how many ticks (48 at most), and of how many channels each.
        """

    @abstractmethod
    def held(self, value: Var, ticks: int, channels: int) -> Var:
        """The last value present among so many ticks before this one, NaN where there is none."""

    @abstractmethod
    def before(self, value: Var, channels: int) -> Var:
        """The values one tick ago, 0 at the first."""

    @abstractmethod
    def mean(self, value: Var, rows: int, channels: int) -> Var:
        """Mean over the last ticks, 0 where there was none yet; rounded to a grain, so that sums are exact in any order."""


def _grained(value: Var) -> Var:
    return op.round(op.mul(value, const(GRAIN)))


class Whole(Trail):
    """Histories from their first tick on, all ticks at once.

    Example:
        >>> Whole().held.__name__
        'held'
    """

    def counts(self, flags: Sequence[tuple[Var, int, int]]) -> Var:
        totals = [(op.cumsum(number(flag), op.const(1)), rows) for flag, rows, _ in flags]
        return op.concat([op.sub(total, late(total, rows, 0.0)) for total, rows in totals], axis=2)

    def held(self, value: Var, ticks: int, channels: int) -> Var:
        reach = 1
        while reach < ticks:
            step = min(reach, ticks - reach)
            value = op.where(op.isnan(value), late(value, step, np.nan), value)
            reach += step
        return late(value, 1, np.nan)

    def before(self, value: Var, channels: int) -> Var:
        return late(value, 1, 0.0)

    def mean(self, value: Var, rows: int, channels: int) -> Var:
        total = op.cumsum(_grained(value), op.const(1))
        return op.mul(op.sub(total, late(total, rows, 0.0)), const(1 / (GRAIN * rows)))


class Step(Trail):
    """One tick alone; what came before lies in memory float64 [asset, 1, slots], one part after the other.

    Attributes:
        start: memory before the first tick, float64 [slots], known once the nodes are built.
        memory: the next memory, once they are.

    Example:
        >>> from spox import Tensor, argument
        >>> value, memory = argument(Tensor(np.float64, ("asset", 1, 2))), argument(Tensor(np.float64, ("asset", 1, 4)))
        >>> trail = Step(memory)
        >>> _ = trail.held(value, 16, channels=2)
        >>> trail.start.tolist()
        [nan, nan, 0.0, 0.0]
    """

    def __init__(self, memory: Var) -> None:
        self._held = memory
        self._start: list[np.ndarray] = []
        self._following: list[Var] = []

    @property
    def start(self) -> np.ndarray:
        return np.concatenate([np.zeros(0), *self._start])

    @property
    def memory(self) -> Var:
        return op.concat(self._following, axis=2)

    def _take(self, width: int, fill: float = 0.0) -> Var:
        at = len(self.start)
        self._start.append(np.full(width, fill))
        return cut(self._held, at, at + width, 2)

    def counts(self, flags: Sequence[tuple[Var, int, int]]) -> Var:
        """Each channel keeps the flags in its window as the bits of a whole number, below 2^48 and thus exact, and their count."""
        width = sum(channels for *_, channels in flags)
        bits, count = self._take(width), self._take(width)
        top = np.concatenate([np.full(channels, 2.0 ** (rows - 1)) for _, rows, channels in flags])
        new = number(op.concat([flag for flag, *_ in flags], axis=2))
        leaving = number(op.greater_or_equal(bits, const(top)))
        kept = op.sub(bits, op.mul(leaving, const(top)))
        following = op.sub(op.add(count, new), leaving)
        self._following += [op.add(op.add(kept, kept), new), following]
        return following

    def held(self, value: Var, ticks: int, channels: int) -> Var:
        last, missed = self._take(channels, np.nan), self._take(channels)
        gone = op.isnan(value)
        missed = op.mul(op.add(missed, const(1.0)), number(gone))
        kept = op.where(op.greater_or_equal(missed, const(float(ticks))), const(np.nan), last)
        self._following += [op.where(gone, kept, value), missed]
        return last

    def before(self, value: Var, channels: int) -> Var:
        last = self._take(channels)
        self._following.append(value)
        return last

    def mean(self, value: Var, rows: int, channels: int) -> Var:
        joined = op.concat([self._take((rows - 1) * channels), _grained(value)], axis=2)
        self._following.append(cut(joined, channels, END, 2))
        total = op.reduce_sum(op.reshape(joined, op.const([-1, rows, channels])), op.const([1]), keepdims=1)
        return op.mul(total, const(1 / (GRAIN * rows)))


def moved(value: Var, first: Var, rows: int) -> Var:
    """So many rows of values [asset, time, channel], beginning for each asset at row `first`, int64 [asset]; past the end from the start."""
    at = op.add(op.unsqueeze(first, op.const([1])), op.const(np.arange(rows)[None]))
    length = op.slice(op.shape(value), op.const([1]), op.const([2]))
    return op.gather_nd(value, op.unsqueeze(op.mod(at, length), op.const([2])), batch_dims=1)
