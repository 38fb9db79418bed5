"""A kernel that cheats, kept so that anyone can watch the look-ahead gate refuse it: `pmx run demo feature=leaky`."""

from __future__ import annotations

import polars as pl
from spox import Var

from pmx.feature.kernel import Kernel
from pmx.feature.view import View


class CentredMean(Kernel):
    """A trailing mean on the device, but a centred one on the path that training uses: it looks `window // 2` ticks ahead.

    Example:
        >>> CentredMean(9).label
        'centred_mean9'
    """

    def __init__(self, window: int) -> None:
        self.window = window

    @property
    def label(self) -> str:
        return f"centred_mean{self.window}"

    @property
    def rows(self) -> int:
        return self.window

    def nodes(self, view: View, memory: list[Var]) -> tuple[Var, list[Var]]:
        return view.mean(0, self.window), []

    def polars(self, z: list[pl.Expr]) -> list[pl.Expr]:
        return [e.rolling_mean(self.window, min_samples=1, center=True) for e in z]
