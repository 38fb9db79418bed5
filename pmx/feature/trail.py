"""How nodes reach back in time: over a whole history at once, or one tick at a time with the past in an asset's memory.

What is written against a `Trail` gives the same numbers on both ways: it shifts, compares, and adds in a fixed order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import spox.opset.ai.onnx.v20 as op
from spox import Var

from pmx.feature.view import const, cut

END = np.iinfo(np.int64).max


def late(value: Var, rows: int, ticks: int) -> Var:
    """Of `past(..., rows)` the values some ticks ago, [asset, time, channel]."""
    return cut(value, rows - 1 - ticks, -ticks if ticks else END, 1)


class Trail(ABC):
    """Access to earlier ticks of values float64 [asset, time, channel]."""

    @abstractmethod
    def past(self, value: Var, rows: int, fill: float, channels: int) -> Var:
        """The values with the `rows` - 1 ticks before them in front, `fill` where there was none yet."""

    @abstractmethod
    def count(self, value: Var, rows: int, channels: int) -> Var:
        """Sum over the last `rows` ticks of values that are 0 or 1, exact."""

    def before(self, value: Var, fill: float, channels: int) -> Var:
        """The values one tick ago."""
        return late(self.past(value, 2, fill, channels), 2, 1)

    def mean8(self, value: Var, channels: int) -> Var:
        """Mean over the last eight ticks, added in pairs so that both ways round alike."""
        for step in (1, 2, 4):
            value = op.add(value, late(self.past(value, step + 1, 0.0, channels), step + 1, step))
        return op.mul(value, const(0.125))

    def most(self, value: Var, rows: int, channels: int) -> Var:
        """The largest of the last `rows` ticks."""
        reach = 1
        while reach < rows:
            step = min(reach, rows - reach)
            value = op.max([value, late(self.past(value, step + 1, -np.inf, channels), step + 1, step)])
            reach += step
        return value


class Whole(Trail):
    """Histories from their first tick on, all ticks at once.

    Example:
        >>> Whole().past.__name__
        'past'
    """

    def past(self, value: Var, rows: int, fill: float, channels: int) -> Var:
        return op.pad(value, op.const([0, rows - 1, 0, 0, 0, 0]), const(fill))

    def count(self, value: Var, rows: int, channels: int) -> Var:
        total = op.cumsum(value, op.const(1))
        return op.sub(total, cut(op.pad(total, op.const([0, rows, 0, 0, 0, 0]), const(0.0)), 0, -rows, 1))


class Step(Trail):
    """The newest ticks alone; what came before lies in memory float64 [asset, slots], one part after the other.

    Attributes:
        start: memory before the first tick, float64 [slots], known once the nodes are built.
        memory: the next memory, once they are.

    Args:
        fresh: how many of the ticks given are new, int64 [asset]; they come first, whatever stands behind them is not remembered.
        hop: how many ticks are given.

    Example:
        >>> from spox import Tensor, argument
        >>> value, memory = argument(Tensor(np.float64, ("asset", 1, 2))), argument(Tensor(np.float64, ("asset", 6)))
        >>> trail = Step(memory, argument(Tensor(np.int64, ("asset",))))
        >>> _ = trail.past(value, 4, 0.0, channels=2)
        >>> trail.start.tolist()
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """

    def __init__(self, memory: Var, fresh: Var, hop: int = 1) -> None:
        self._held, self._fresh, self._hop = memory, fresh, hop
        self._start: list[np.ndarray] = []
        self._following: list[Var] = []

    @property
    def start(self) -> np.ndarray:
        return np.concatenate([np.zeros(0), *self._start])

    @property
    def memory(self) -> Var:
        following = op.concat(self._following, axis=1)
        if self._hop > 1:
            return following
        return op.where(op.greater(op.unsqueeze(self._fresh, op.const([1])), op.const(0)), following, self._held)

    def past(self, value: Var, rows: int, fill: float, channels: int) -> Var:
        at, width = len(self.start), (rows - 1) * channels
        self._start.append(np.full(width, fill))
        held = op.reshape(cut(self._held, at, at + width, 1), op.const([-1, rows - 1, channels]))
        joined = op.concat([held, value], axis=1)
        kept = cut(joined, 1, END, 1) if self._hop == 1 else moved(joined, self._fresh, rows - 1)
        self._following.append(op.reshape(kept, op.const([-1, width])))
        return joined

    def count(self, value: Var, rows: int, channels: int) -> Var:
        joined = self.past(value, rows, 0.0, channels)
        if self._hop == 1:
            return op.reduce_sum(joined, op.const([1]), keepdims=1)
        total = op.cumsum(joined, op.const(1))
        before = cut(op.pad(total, op.const([0, 1, 0, 0, 0, 0]), const(0.0)), 0, -rows, 1)
        return op.sub(cut(total, rows - 1, END, 1), before)


def moved(value: Var, first: Var, rows: int) -> Var:
    """So many rows of values [asset, time, channel], beginning for each asset at row `first`, int64 [asset]; past the end from the start."""
    at = op.add(op.unsqueeze(first, op.const([1])), op.const(np.arange(rows)[None]))
    length = op.slice(op.shape(value), op.const([1]), op.const([2]))
    return op.gather_nd(value, op.unsqueeze(op.mod(at, length), op.const([2])), batch_dims=1)
