"""Kernels that carry what an asset has been through since its life began, in its memory from step to step.

A device begins a life by giving the asset the bundle's memory0: at commissioning, and after a repair that makes it as good as new. These
kernels, like `Age`, `Drift` and `Ewma`, then begin anew by that alone. Memory that is NaN means that the past is unknown: what counts it stays NaN.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import numpy as np
import polars as pl
import spox.opset.ai.onnx.v20 as op
from spox import Var

from pmx.feature.kernel import REGIME, Kernel, at_least, reading
from pmx.feature.view import View, const, whole


class Expanding(Kernel):
    """One number per channel of all values since life began. NaN until the first one. Memory: two values per channel."""

    word: str

    @property
    def label(self) -> str:
        return self.word

    def slots(self, channels: int) -> list[int]:
        return [channels, channels]


class ExpandingMinimum(Expanding):
    """Smallest value since life began. NaN until the first one. Memory: it, and whether there is one.

    Example:
        >>> ExpandingMinimum().names(["flow"])
        ['lowest:flow']
    """

    word = "lowest"

    def nodes(self, view: View, memory: list[Var]) -> tuple[Var, list[Var]]:
        return _extreme(view, memory, op.less)

    def polars(self, z: list[pl.Expr]) -> list[pl.Expr] | None:
        return [e.cum_min().forward_fill() for e in z]


class ExpandingMaximum(Expanding):
    """Largest value since life began. NaN until the first one. Memory: it, and whether there is one.

    Example:
        >>> ExpandingMaximum().slots(channels=3)
        [3, 3]
    """

    word = "highest"

    def nodes(self, view: View, memory: list[Var]) -> tuple[Var, list[Var]]:
        return _extreme(view, memory, op.greater)

    def polars(self, z: list[pl.Expr]) -> list[pl.Expr] | None:
        return [e.cum_max().forward_fill() for e in z]


class ExpandingMean(Expanding):
    """Mean of all values since life began. NaN until the first one. Memory: sum and count.

    Example:
        >>> ExpandingMean().label
        'life_mean'
    """

    word = "life_mean"

    def nodes(self, view: View, memory: list[Var]) -> tuple[Var, list[Var]]:
        total, count = memory
        for x, now in view.arrivals():
            total, count = op.add(total, x), op.add(count, now)
        return op.div(total, count), [total, count]

    def polars(self, z: list[pl.Expr]) -> list[pl.Expr] | None:
        return [e.fill_null(0.0).cum_sum() / e.is_not_null().cum_sum() for e in z]


class Usage(Kernel):
    """Sum of a channel's readings since life began, in its unit times a tick; of a counter, whose reading is its increase, in its unit.

    A missing reading adds nothing. Memory: the sum.

    Args:
        channel: any channel of the contract, settings and constant ones included; it is read as it is, not as a score.

    Example:
        >>> Usage("load").names(["flow", "power"]), Usage("load").unit("kW")
        (['usage:load'], 'kW·tick')
    """

    reads_age = True

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.readings = (channel,)

    @property
    def label(self) -> str:
        return f"usage:{self.channel}"

    def slots(self, channels: int) -> list[int]:
        return [1]

    def names(self, channels: list[str]) -> list[str]:
        return [self.label]

    def unit(self, channel: str) -> str:
        return f"{channel}·tick"

    def nodes(self, view: View, memory: list[Var]) -> tuple[Var, list[Var]]:
        total = memory[0]
        for value, new in view.arrivals_of(view.reading(self.channel)):
            counts = op.and_(op.greater(new, const(0.0)), op.not_(op.isnan(value)))
            total = op.add(total, op.where(counts, value, const(0.0)))
        return total, [total]

    def polars(self, z: list[pl.Expr]) -> list[pl.Expr] | None:
        return [reading(self.channel).fill_null(0.0).cum_sum()]


class Regimes(Kernel):
    """One number per operating regime. Memory: ticks spent in each.

    Args:
        regimes: how many are counted, in the order of the normalisation; one that it has not found stays at 0.
    """

    reads_regime = True
    word: str

    def __init__(self, regimes: int) -> None:
        self.regimes = at_least(1, "regimes", regimes)

    @property
    def label(self) -> str:
        return self.word

    def slots(self, channels: int) -> list[int]:
        return [self.regimes]

    def names(self, channels: list[str]) -> list[str]:
        return [f"{self.label}:{i}" for i in range(self.regimes)]

    @abstractmethod
    def of(self, ticks: Var) -> Var:
        """The numbers of the ticks spent in each regime, float64 [asset, regime]."""

    def nodes(self, view: View, memory: list[Var]) -> tuple[Var, list[Var]]:
        assert view.regime is not None, "what builds the view reads `reads_regime`"
        ticks = memory[0]
        for regime, new in view.arrivals_of(view.regime):
            inside = op.cast(op.equal(regime, op.const(np.arange(self.regimes))), to=np.float64)
            ticks = op.add(ticks, op.mul(inside, new))
        return self.of(ticks), [ticks]

    def _counts(self) -> list[pl.Expr]:
        return [(pl.col(REGIME) == i).cast(pl.Float64).cum_sum() for i in range(self.regimes)]


class RegimeTime(Regimes):
    """Ticks spent in each operating regime since life began. A tick whose regime is unknown counts in none.

    Example:
        >>> RegimeTime(2).names(["flow", "power"])
        ['regime_time:0', 'regime_time:1']
    """

    word = "regime_time"
    reads_age = True

    def of(self, ticks: Var) -> Var:
        return ticks

    def unit(self, channel: str) -> str:
        return "tick"

    def polars(self, z: list[pl.Expr]) -> list[pl.Expr] | None:
        return self._counts()


class RegimeShare(Regimes):
    """Share of the counted ticks since life began that were spent in each operating regime. NaN until the first of them.

    Example:
        >>> RegimeShare(2).unit("flow")
        '-'
    """

    word = "regime_share"

    def of(self, ticks: Var) -> Var:
        return op.div(ticks, op.reduce_sum(ticks, whole([1]), keepdims=1))

    def unit(self, channel: str) -> str:
        return "-"

    def polars(self, z: list[pl.Expr]) -> list[pl.Expr] | None:
        return [c / pl.sum_horizontal(self._counts()) for c in self._counts()]


def _extreme(view: View, memory: list[Var], beyond: Callable[[Var, Var], Var]) -> tuple[Var, list[Var]]:
    """The most extreme of the values so far, and whether there is one."""
    value, any_seen = memory
    for x, now in view.arrivals():
        there = op.greater(now, const(0.0))
        first = op.not_(op.greater(any_seen, const(0.0)))
        value = op.where(op.and_(there, op.or_(first, beyond(x, value))), x, value)
        any_seen = op.max([any_seen, now])
    return op.where(op.greater(any_seen, const(0.0)), value, const(np.nan)), [value, any_seen]
