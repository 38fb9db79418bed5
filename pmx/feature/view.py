"""What a kernel sees inside the step graph: the scored window, newest rows last, and the rows that are new."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import spox.opset.ai.onnx.v20 as op
from spox import Var


def const(value: object) -> Var:
    """A float64 constant: float32 constants inside a graph have flipped leaves."""
    return op.const(np.asarray(value, np.float64))


def cut(value: Var, start: int, stop: int, axis: int) -> Var:
    """`value[start:stop]` along `axis`."""
    return op.slice(value, op.const([start]), op.const([stop]), op.const([axis]))


def round32(value: Var) -> Var:
    """float64 rounded to float32 and back: what feeds another kernel is rounded, so that both paths hold the same number."""
    return op.cast(op.cast(value, to=np.float32), to=np.float64)


class View:
    """The window of normalised readings, float64 [asset, time, channel], with what is missing taken out.

    Attributes:
        x: values with 0 where missing.
        seen: 1.0 where a value is present, else 0.0.
        fresh: int64 [asset], how many rows at the end are new since the last step.
    """

    def __init__(self, z: Var, rows: int, hop: int, fresh: Var) -> None:
        present = op.not_(op.isnan(z))
        self.x = op.where(present, z, const(0.0))
        self.seen = op.cast(present, to=np.float64)
        self.fresh = fresh
        self._rows, self._hop = rows, hop
        self._means: dict[tuple[int, int], Var] = {}

    def back(self, value: Var, newest: int, oldest: int) -> Var:
        """Rows of `value` counted back from the window's end: `newest` included, `oldest` not."""
        return cut(value, self._rows - oldest, self._rows - newest, 1)

    def total(self, value: Var, newest: int, oldest: int) -> Var:
        """Sum over those rows, float64 [asset, channel]."""
        return op.reduce_sum(self.back(value, newest, oldest), op.const([1]), keepdims=0)

    def mean(self, newest: int, oldest: int) -> Var:
        """Mean over the values present in those rows, float64 [asset, channel]; NaN where there are none."""
        if (newest, oldest) not in self._means:
            self._means[newest, oldest] = op.div(self.total(self.x, newest, oldest), self.total(self.seen, newest, oldest))
        return self._means[newest, oldest]

    def arrivals(self) -> Iterator[tuple[Var, Var]]:
        """The rows that may be new, oldest first: values and presence, both float64 [asset, channel], 0 where the row is not new."""
        for i in range(self._hop):
            at = self._rows - self._hop + i
            new = op.cast(op.greater(self.fresh, op.const(self._hop - 1 - i)), to=np.float64)
            new = op.unsqueeze(new, op.const([1]))
            row = [op.squeeze(cut(v, at, at + 1, 1), op.const([1])) for v in (self.x, self.seen)]
            yield op.mul(row[0], new), op.mul(row[1], new)
