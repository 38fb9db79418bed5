"""How nodes reach back in time: over a whole history at once, or one tick at a time with the past in an asset's memory.

What is written against a `Trail` gives the same numbers on both ways: it shifts, compares, and adds in a fixed order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import spox.opset.ai.onnx.v20 as op
from spox import Var

from pmx.feature.view import const, cut, whole

GRAIN = 2.0**20  # to a unit: sums of values below 2^20 stay exact


def number(value: Var) -> Var:
    """A condition as 0 or 1, float64."""
    return op.cast(value, to=np.float64)


def beside(value: Var, widths: list[int]) -> Sequence[Var]:
    """The parts that lie side by side on the axis of channels, so many channels each."""
    if len(widths) == 1:
        return [value]
    return op.split(value, whole(widths), axis=2)


def late(value: Var, ticks: int, fill: float) -> Var:
    """The values some ticks ago, [asset, time, channel]; `fill` where there was none yet."""
    return cut(op.pad(value, whole([0, ticks, 0, 0, 0, 0]), const(fill)), 0, -ticks, 1)


def _joined(values: Sequence[Var]) -> Var:
    return op.concat(values, axis=2) if len(values) > 1 else values[0]


def _each(widths: Sequence[tuple[float, int]]) -> np.ndarray:
    """One number for each channel, float64 [channel], from a number and a count of channels for each part."""
    return np.concatenate([np.zeros(0), *(np.full(channels, number, np.float64) for number, channels in widths)])


@dataclass(frozen=True)
class Back:
    """How far back nodes look, in the order in which they ask; each entry is ticks and channels.

    Attributes:
        flags: of each call of `Trail.counts`, those of its flags; 48 ticks at most.
        held: of each call of `Trail.held`.
        mean: of the one call of `Trail.mean`; (0, 0) = none.
        before: channels of the one call of `Trail.before`; 0 = none.

    Example:
        >>> Back(held=[(16, 2)]).start.tolist()
        [nan, nan, 0.0, 0.0]
    """

    flags: Sequence[Sequence[tuple[int, int]]] = ()
    held: Sequence[tuple[int, int]] = ()
    mean: tuple[int, int] = (0, 0)
    before: int = 0

    @property
    def widths(self) -> dict[str, int]:
        """Memory values of each part of a `Step`, one part after the other."""
        flags, held = sum(c for call in self.flags for _, c in call), sum(c for _, c in self.held)
        rows, channels = self.mean
        rest = max(0, rows - 2) * channels
        return {"bits": flags, "count": flags, "last": held, "missed": held, "oldest": channels, "rest": rest, "before": self.before}

    @property
    def start(self) -> np.ndarray:
        """Memory before the first tick, float64 [slots]."""
        return _each([(np.nan if name == "last" else 0.0, width) for name, width in self.widths.items()])


class Trail(ABC):
    """Access to earlier ticks of values [asset, time, channel], as far back as it was told to look."""

    def __init__(self, back: Back) -> None:
        self._flags, self._ticks, self._rows = iter(back.flags), iter(back.held), back.mean

    @abstractmethod
    def counts(self, flags: Var) -> Var:
        """In how many of the last ticks a flag was up, float64, of flags 0 or 1 that lie side by side, float64 too."""

    @abstractmethod
    def held(self, value: Var) -> Var:
        """The last value present among so many ticks before this one, NaN where there is none."""

    @abstractmethod
    def before(self, value: Var) -> Var:
        """The values one tick ago, 0 at the first."""

    @abstractmethod
    def mean(self, value: Var) -> Var:
        """Mean over the last ticks, 0 where there was none yet; rounded to a grain, so that sums are exact in any order."""


def _grained(value: Var) -> Var:
    return op.round(op.mul(value, const(GRAIN)))


class Whole(Trail):
    """Histories from their first tick on, all ticks at once.

    Example:
        >>> Whole(Back()).held.__name__
        'held'
    """

    def counts(self, flags: Var) -> Var:
        asked = next(self._flags)
        total = op.cumsum(flags, whole(1))
        gone = [late(part, rows, 0.0) for part, (rows, _) in zip(beside(total, [c for _, c in asked]), asked, strict=True)]
        return op.sub(total, _joined(gone))

    def held(self, value: Var) -> Var:
        ticks, _ = next(self._ticks)
        reach = 1
        while reach < ticks:
            step = min(reach, ticks - reach)
            value = op.where(op.isnan(value), late(value, step, np.nan), value)
            reach += step
        return late(value, 1, np.nan)

    def before(self, value: Var) -> Var:
        return late(value, 1, 0.0)

    def mean(self, value: Var) -> Var:
        rows, _ = self._rows
        total = op.cumsum(_grained(value), whole(1))
        return op.mul(op.sub(total, late(total, rows, 0.0)), const(1 / (GRAIN * rows)))


class Step(Trail):
    """One tick alone; what came before lies in memory float64 [asset, 1, slots], at first `Back.start`.

    What several calls remember in the same way is kept together and renewed at once: each node costs a device as much as the next.

    Example:
        >>> from spox import Tensor, argument
        >>> value, memory = argument(Tensor(np.float64, ("asset", 1, 2))), argument(Tensor(np.float64, ("asset", 1, 4)))
        >>> trail = Step(Back(held=[(16, 2)]), memory)
        >>> _ = trail.held(value)
        >>> trail.memory.unwrap_tensor().shape
        ('asset', 1, 4)
    """

    def __init__(self, back: Back, memory: Var) -> None:
        super().__init__(back)
        self._back = back
        there = {name: width for name, width in back.widths.items() if width}
        self._part = dict(zip(there, beside(memory, list(there.values())), strict=True))
        self._new: list[Var] = []
        self._count: list[Var] = []
        self._value: list[Var] = []
        self._averaged: list[Var] = []
        self._now: list[Var] = []
        if back.flags:
            # each channel keeps the flags in its window as the bits of a whole number, below 2^48 and thus exact, and their count
            top = _each([(2.0 ** (rows - 1), channels) for call in back.flags for rows, channels in call])
            bits = self._part["bits"]
            leaving = number(op.greater_or_equal(bits, const(top)))
            self._kept = op.sub(op.add(bits, bits), op.mul(leaving, const(2 * top)))
            stay = beside(op.sub(self._part["count"], leaving), [sum(c for _, c in call) for call in back.flags])
            self._stay = iter(stay)
        if back.held:
            self._last = iter(beside(self._part["last"], [c for _, c in back.held]))

    @property
    def memory(self) -> Var:
        """The next memory, once every call has been made."""
        following = [op.add(self._kept, _joined(self._new)), *self._count] if self._new else []
        if self._value:
            value = _joined(self._value)
            gone = op.isnan(value)
            missed = op.mul(op.add(self._part["missed"], const(1.0)), number(gone))
            far = op.greater_or_equal(missed, const(_each(self._back.held)))
            following += [op.where(gone, op.where(far, const(np.nan), self._part["last"]), value), missed]
        return op.concat([*following, *self._averaged, *self._now], axis=2)

    def counts(self, flags: Var) -> Var:
        self._new.append(flags)
        self._count.append(op.add(next(self._stay), flags))
        return self._count[-1]

    def held(self, value: Var) -> Var:
        self._value.append(value)
        return next(self._last)

    def before(self, value: Var) -> Var:
        self._now.append(value)
        return self._part["before"]

    def mean(self, value: Var) -> Var:
        rows, channels = self._rows
        later = [*([self._part["rest"]] if rows > 2 else []), _grained(value)]
        self._averaged += later
        joined = op.reshape(op.concat([self._part["oldest"], *later], axis=2), whole([-1, rows, channels]))
        return op.mul(op.reduce_sum(joined, whole([1]), keepdims=1), const(1 / (GRAIN * rows)))


def moved(value: Var, first: Var, rows: int, length: int) -> Var:
    """So many rows of values [asset, time, channel], beginning for each asset at row `first`, int64 [asset]; past the end from the start.

    Args:
        length: how many rows there are.
    """
    at = op.mod(op.add(op.unsqueeze(first, whole([1])), whole(np.arange(rows)[None])), whole(length))
    return op.gather_nd(value, op.unsqueeze(at, whole([2])), batch_dims=1)
