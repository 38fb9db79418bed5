"""Two results on the same assets: whether one is better, by assets drawn for both together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pmx.contract import DataError
from pmx.evaluate.interval import Interval
from pmx.evaluate.part import Part, Parts

NOTHING = "no difference shown"


@dataclass(frozen=True)
class Difference:
    """A measure of two results over the assets that both say something of.

    Attributes:
        measure: its name.
        a, b: its value in each of them.
        difference: a − b, with 95 % of the differences that assets drawn anew show; NaN ends below two assets.
        better: share of the draws in which a is better, a tie counting half; NaN below two assets.
        higher: whether a higher value is better.
        n: assets compared.

    Example:
        >>> Difference("event_recall", 0.9, 0.5, (0.4, 0.1, 0.6), 0.99, True, 40).words("new", "old")
        'new better'
    """

    measure: str
    a: float
    b: float
    difference: Interval
    better: float
    higher: bool
    n: int

    @property
    def shown(self) -> bool:
        """Whether the interval leaves out 0: otherwise these assets show no difference."""
        _, low, high = self.difference
        return low > 0 or high < 0

    def words(self, a: str = "A", b: str = "B") -> str:
        """Which of the two is better, by the names given; says plainly where no difference is shown."""
        if not self.shown:
            return NOTHING
        return f"{a if (self.difference[0] > 0) == self.higher else b} better"


def paired(a: Parts, b: Parts, draws: int = 1000, seed: int = 0, measures: tuple[str, ...] = ()) -> list[Difference]:
    """Differences of each measure that both results have, or of these `measures`; assets are drawn jointly (paired bootstrap, Efron 1979).

    An asset that only one of the two says something of, by a denominator above 0, is left out of that measure: nothing is paired there.
    Assets are matched by name.
    """
    common = [name for name in a.assets if name in set(b.assets)]
    if not common:
        raise DataError("the two results have no asset in common: nothing can be paired -> compare runs on the same data")
    first, second = ([p.assets.index(name) for name in common] for p in (a, b))
    names = measures or tuple(name for name in a.measures if name in b.measures)
    missing = [name for name in names if name not in a.measures or name not in b.measures]
    if missing:
        raise DataError(f"measure {missing[0]} is not in both results -> one of {', '.join(n for n in a.measures if n in b.measures)}")
    return [_difference(name, a.measures[name], b.measures[name], np.array(first), np.array(second), draws, seed) for name in names]


def _difference(name: str, a: Part, b: Part, first: np.ndarray, second: np.ndarray, draws: int, seed: int) -> Difference:
    both = (a.denominator[first] > 0) & (b.denominator[second] > 0)
    one, other = (Part(p.numerator[at[both]], p.denominator[at[both]], p.root, p.higher) for p, at in ((a, first), (b, second)))
    n, values = int(both.sum()), (one.value(), other.value())
    if n < 2:  # one asset says nothing of how assets differ
        return Difference(name, *values, (values[0] - values[1], np.nan, np.nan), np.nan, a.higher, n)
    at = np.random.default_rng(seed).integers(0, n, (draws, n))
    drawn = [p.numerator[at].sum(1) / p.denominator[at].sum(1) for p in (one, other)]
    gap = np.subtract(*(np.sqrt(d) if p.root else d for d, p in zip(drawn, (one, other), strict=True)))
    low, high = np.percentile(gap, [2.5, 97.5])
    ahead = float(np.mean(gap > 0) + np.mean(gap == 0) / 2)
    return Difference(name, *values, (values[0] - values[1], float(low), float(high)), ahead if a.higher else 1 - ahead, a.higher, n)
