"""What a kernel sees inside the step graph: the scored window, newest rows last, and the rows that are new."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache

import numpy as np
import spox.opset.ai.onnx.v20 as op
from spox import Var

from pmx.feature.order import ordered

EQUAL = 1e-22  # squared distances from the mean, as a share of its square, that equal values may show
SMALL = 64  # values of a constant that graphs share
LAST = -1  # the axis of time in a `Window`


def const(value: object) -> Var:
    """A float64 constant: float32 constants inside a graph have flipped leaves."""
    return _constant(np.asarray(value, np.float64))


def whole(value: object) -> Var:
    """An int64 constant: places, axes, shapes."""
    return _constant(np.asarray(value, np.int64))


def _constant(array: np.ndarray) -> Var:
    return _shared(array.tobytes(), array.shape, array.dtype.str) if array.size <= SMALL else op.const(array)


@lru_cache(10_000)
def _shared(data: bytes, shape: tuple[int, ...], kind: str) -> Var:
    """One node for equal constants, in any number of graphs: making a node takes a millisecond, and most of them are constants."""
    return op.const(np.frombuffer(data, kind).reshape(shape).copy())


def cut(value: Var, start: int, stop: int, axis: int) -> Var:
    """`value[start:stop]` along `axis`."""
    return op.slice(value, whole([start]), whole([stop]), whole([axis]))


def round32(value: Var) -> Var:
    """float64 rounded to float32 and back: what feeds another kernel is rounded, so that both paths hold the same number."""
    return op.cast(op.cast(value, to=np.float32), to=np.float64)


def total(value: Var, weight: np.ndarray) -> Var:
    """Sums over time of values [asset, channel, time], each column of `weight` [time, sum] one of them: [asset, channel, sum].

    A product with a constant adds oldest first, whatever the number of assets and channels; a reduction along the last axis
    does not: its order hangs on where in memory a row begins.
    """
    return op.matmul(value, const(weight))


class Window:
    """The newest `rows` ticks with time last, float64 [asset, channel, time], and what several kernels read of them, computed once.

    Values are float32 numbers, as a normalisation gives them, and are compared as such. Sums and moments are [asset, channel, 1]. All are
    NaN where no value is present, unless said otherwise.

    Attributes:
        rows: ticks in the window.
        x: values with 0 where missing.
        seen: 1.0 where a value is present, else 0.0.
        there: bool, the same.

    Args:
        shares: that `quantile` will be asked for; they are found at once.
    """

    def __init__(self, x: Var, seen: Var, rows: int, there: Var | None = None, shares: Sequence[float] = ()) -> None:
        self.x, self.seen, self.rows = x, seen, rows
        self.there = op.greater(seen, const(0.0)) if there is None else there
        self._shares, self._quantiles = tuple(shares), dict[tuple[float, ...], Var]()
        self._lacking: dict[int, Var] = {}
        self._ones, self._time = np.ones((rows, 1)), np.arange(rows, dtype=np.float64)[:, None]

    @cached_property
    def count(self) -> Var:
        """How many values are present; 0 where there are none."""
        return total(self.seen, self._ones)

    @cached_property
    def mean(self) -> Var:
        return op.div(total(self.x, self._ones), self.count)

    @cached_property
    def distance(self) -> Var:
        """Values less their mean, 0 where missing, [asset, channel, time]; NaN where no value is present."""
        return op.mul(op.sub(self.x, self.mean), self.seen)

    @cached_property
    def _square(self) -> Var:
        return op.mul(self.distance, self.distance)

    @cached_property
    def squares(self) -> Var:
        """Sum of squared distances."""
        return total(self._square, self._ones)

    @cached_property
    def cubes(self) -> Var:
        """Sum of cubed distances."""
        return total(op.mul(self._square, self.distance), self._ones)

    @cached_property
    def fourths(self) -> Var:
        """Sum of the fourth powers of distances."""
        return total(op.mul(self._square, self._square), self._ones)

    @cached_property
    def most(self) -> Var:
        """The largest value; −∞ where none is present."""
        filled = op.where(self.there, self._single, op.const(np.float32(-np.inf)))
        return op.cast(op.reduce_max(filled, whole([LAST]), keepdims=1), to=np.float64)

    @cached_property
    def least(self) -> Var:
        """The smallest value; ∞ where none is present."""
        return op.cast(op.reduce_min(self._filled, whole([LAST]), keepdims=1), to=np.float64)

    @cached_property
    def same(self) -> Var:
        """bool: all values present are equal. False where there are none.

        Float32 numbers that differ do so by 6e-8 of the larger one at least; what rounding leaves of equal ones is 1e-13 of it at most.
        """
        return op.less_or_equal(self.squares, op.mul(op.mul(self.count, const(EQUAL)), op.mul(self.mean, self.mean)))

    @cached_property
    def rms(self) -> Var:
        """Root of the mean square, about zero."""
        return op.sqrt(op.add(op.div(self.squares, self.count), op.mul(self.mean, self.mean)))

    @cached_property
    def _ordered(self) -> Var:
        """Values in ascending order, float32 [time, asset, channel], ∞ behind them for each missing one."""
        return ordered(op.transpose(self._filled, perm=[2, 0, 1]), self.rows)

    @cached_property
    def _single(self) -> Var:
        return op.cast(self.x, to=np.float32)

    @cached_property
    def _filled(self) -> Var:
        """Values as float32, ∞ where missing."""
        return op.where(self.there, self._single, op.const(np.float32(np.inf)))

    def given(self, least: int, value: Var) -> Var:
        """`value` [asset, channel, number], NaN where fewer than `least` values are present. A sum is half the work of a choice."""
        if least not in self._lacking:
            self._lacking[least] = op.where(op.less(self.count, const(least)), const(np.nan), const(0.0))
        return op.add(value, self._lacking[least])

    def quantile(self, share: float) -> Var:
        """The value at a share of the places from the smallest to the largest, in proportion between two of them."""
        shares = self._shares if share in self._shares else (share,)
        if shares not in self._quantiles:
            self._quantiles[shares] = self._all_quantiles(shares)
        at = shares.index(share)
        return op.transpose(cut(self._quantiles[shares], at, at + 1, 0), perm=[1, 2, 0])

    def _all_quantiles(self, shares: Sequence[float]) -> Var:
        """float64 [share, asset, channel]."""
        newest = op.transpose(op.sub(self.count, const(1.0)), perm=[2, 0, 1])
        place = op.max([op.mul(newest, const(np.reshape(shares, (-1, 1, 1)))), const(0.0)])
        below = op.floor(place)
        above = op.max([op.min([op.add(below, const(1.0)), newest]), const(0.0)])
        places = op.cast(op.concat([below, above], axis=0), to=np.int64)
        found = op.cast(op.gather_elements(self._ordered, places, axis=0), to=np.float64)
        low, high = (cut(found, i * len(shares), (i + 1) * len(shares), 0) for i in (0, 1))
        return op.add(low, op.mul(op.sub(place, below), op.sub(high, low)))  # ∞ - ∞ is NaN where no value is present

    @cached_property
    def paired(self) -> Var:
        """bool [asset, channel, time − 1]: two neighbouring ticks both have a value."""
        return op.and_(self.after(self.there), self.before(self.there))

    @cached_property
    def pairs(self) -> Var:
        """1.0 where they have, else 0.0."""
        return op.cast(self.paired, to=np.float64)

    @cached_property
    def pair_count(self) -> Var:
        """How many such pairs; 0 where there are none."""
        return total(self.pairs, self._ones[1:])

    @cached_property
    def trend(self) -> Var:
        """Least-squares slope over the values present, per tick; NaN or ±∞ below two of them."""
        times = total(self.seen, np.hstack([self._time, self._time**2]))
        first, second = cut(times, 0, 1, LAST), cut(times, 1, 2, LAST)
        moved = total(self.distance, np.hstack([self._time, self._ones]))
        product = op.sub(op.mul(self.count, cut(moved, 0, 1, LAST)), op.mul(first, cut(moved, 1, 2, LAST)))
        return op.div(product, op.sub(op.mul(self.count, second), op.mul(first, first)))

    def after(self, value: Var) -> Var:
        """`value` without its first tick."""
        return cut(value, 1, self.rows, LAST)

    def before(self, value: Var) -> Var:
        """`value` without its last tick."""
        return cut(value, 0, self.rows - 1, LAST)

    def channels(self, which: Sequence[int]) -> tuple[Var, Var]:
        """Values and presence of these channels, in this order."""
        at = whole(np.array(which, np.int64))
        return op.gather(self.x, at, axis=1), op.gather(self.seen, at, axis=1)


class View:
    """The window of normalised readings, float64 [asset, time, channel], with what is missing taken out.

    Attributes:
        x: values with 0 where missing.
        seen: 1.0 where a value is present, else 0.0.
        fresh: int64 [asset], how many rows at the end are new since the last step.
        channels: names on the channel axis.
        rates: float64 [channel], ticks a second in Hz; 1.0 on a life clock, where a frequency is in cycles per tick.
        regime: int64 [asset, time], the operating regime of a tick, −1 where unknown; None where nothing names it.

    Args:
        readings: the same rows as they were before normalisation, [asset, time, reading].
        read: names on the reading axis.
        shares: of sorted windows, by their rows, that kernels will ask for.
    """

    def __init__(
        self,
        z: Var,
        rows: int,
        hop: int,
        fresh: Var,
        rates: np.ndarray | None = None,
        channels: Sequence[str] = (),
        readings: Var | None = None,
        read: Sequence[str] = (),
        regime: Var | None = None,
        shares: Mapping[int, Collection[float]] | None = None,
    ) -> None:
        self._present = op.not_(op.isnan(z))
        self.x = op.where(self._present, z, const(0.0))
        self.seen = op.cast(self._present, to=np.float64)
        self.fresh, self.channels, self.regime = fresh, list(channels), regime
        self.rates = np.ones(len(self.channels)) if rates is None else np.asarray(rates, np.float64)
        self._rows, self._hop, self._readings, self._read = rows, hop, readings, list(read)
        self._means: dict[tuple[int, int], Var] = {}
        self._windows: dict[int, Window] = {}
        self._shares = shares or {}

    def back(self, value: Var, newest: int, oldest: int) -> Var:
        """Rows of `value` counted back from the window's end: `newest` included, `oldest` not."""
        return value if newest == 0 and oldest == self._rows else cut(value, self._rows - oldest, self._rows - newest, 1)

    def total(self, value: Var, newest: int, oldest: int) -> Var:
        """Sum over those rows, float64 [asset, channel]."""
        return op.reduce_sum(self.back(value, newest, oldest), whole([1]), keepdims=0)

    def mean(self, newest: int, oldest: int) -> Var:
        """Mean over the values present in those rows, float64 [asset, channel]; NaN where there are none."""
        if (newest, oldest) not in self._means:
            self._means[newest, oldest] = op.div(self.total(self.x, newest, oldest), self.total(self.seen, newest, oldest))
        return self._means[newest, oldest]

    def window(self, rows: int) -> Window:
        """The newest `rows` rows, time last; the same object each time, so that kernels share what it has computed."""
        if rows not in self._windows:
            x, there = (op.transpose(self.back(v, 0, rows), perm=[0, 2, 1]) for v in (self.x, self._present))
            seen = op.cast(there, to=np.float64)
            self._windows[rows] = Window(x, seen, rows, there, sorted(self._shares.get(rows, ())))
        return self._windows[rows]

    def reading(self, name: str) -> Var:
        """One channel before normalisation, float64 [asset, time]; NaN where missing."""
        if self._readings is None:
            raise KeyError(f"this view holds no readings before normalisation, {name} among them")
        at = whole(np.array(self._read.index(name), np.int64))
        return op.cast(op.gather(self._readings, at, axis=2), to=np.float64)

    def arrivals(self) -> Iterator[tuple[Var, Var]]:
        """The rows that may be new, oldest first: values and presence, both float64 [asset, channel], 0 where the row is not new."""
        for i in range(self._hop):
            new = op.unsqueeze(self._new(i), whole([1]))
            at = self._rows - self._hop + i
            row = [op.squeeze(cut(v, at, at + 1, 1), whole([1])) for v in (self.x, self.seen)]
            yield op.mul(row[0], new), op.mul(row[1], new)

    def arrivals_of(self, value: Var) -> Iterator[tuple[Var, Var]]:
        """The rows that may be new of a value [asset, time], oldest first: the value [asset, 1], and 1.0 where the row is new."""
        for i in range(self._hop):
            at = self._rows - self._hop + i
            yield cut(value, at, at + 1, 1), op.unsqueeze(self._new(i), whole([1]))

    def _new(self, i: int) -> Var:
        """float64 [asset]: 1.0 where the i-th of the rows that may be new is."""
        return op.cast(op.greater(self.fresh, op.const(self._hop - 1 - i)), to=np.float64)
