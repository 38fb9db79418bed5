"""Measures as sums over assets: what their intervals and paired comparisons are drawn from, and what is stored of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pmx.contract import DataError
from pmx.evaluate.interval import Interval, ratio, share


@dataclass(frozen=True)
class Part:
    """A measure: the sum of one number per asset over the sum of another.

    Attributes:
        numerator, denominator: float64 [asset]; an asset whose denominator is 0 says nothing of the measure.
        root: whether the square root of the ratio is the measure, as of a root mean square error.
        higher: whether a higher value is better.

    Example:
        >>> Part(np.array([9.0, 0.0]), np.array([1.0, 0.0]), root=True).value()
        3.0
    """

    numerator: np.ndarray
    denominator: np.ndarray
    root: bool = False
    higher: bool = False

    def value(self) -> float:
        """The measure over all assets; NaN where none says anything of it."""
        below = float(self.denominator.sum())
        found = float(self.numerator.sum()) / below if below > 0 else np.nan
        return float(np.sqrt(found)) if self.root else found

    def interval(self, draws: int, seed: int) -> Interval:
        """The measure with a bootstrap over assets."""
        return ratio(self.numerator, self.denominator, draws, seed, self.root)

    def binomial(self) -> Interval:
        """The measure as a share of independent cases, with Wilson's interval."""
        return share(int(self.numerator.sum()), int(self.denominator.sum()))


@dataclass(frozen=True)
class Parts:
    """The measures of one row of a table over its assets, as plain data that can be stored and compared with another run's.

    Attributes:
        assets: names, in the order of every array.
        measures: name -> its part.

    Example:
        >>> parts = Parts(("A", "B"), {"event_recall": Part(np.array([1.0, 0.0]), np.array([1.0, 1.0]), higher=True)})
        >>> Parts.from_json(parts.to_json()).measures["event_recall"].value()
        0.5
    """

    assets: tuple[str, ...] = ()
    measures: dict[str, Part] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """`{"assets": [...], "measures": {name: {"numerator": [...], "denominator": [...], "root": ..., "higher": ...}}}`."""
        measures = {
            name: {"numerator": p.numerator.tolist(), "denominator": p.denominator.tolist(), "root": p.root, "higher": p.higher}
            for name, p in self.measures.items()
        }
        return {"assets": list(self.assets), "measures": measures}

    @staticmethod
    def from_json(found: dict[str, Any]) -> Parts:
        """What `to_json` gave."""
        assets, measures = tuple(found["assets"]), {}
        for name, p in found["measures"].items():
            part = Part(np.array(p["numerator"], float), np.array(p["denominator"], float), bool(p["root"]), bool(p.get("higher", False)))
            if not len(part.numerator) == len(part.denominator) == len(assets):
                raise DataError(f"measure {name}: {len(part.numerator)} numbers for {len(assets)} assets -> evaluate the run again")
            measures[name] = part
        return Parts(assets, measures)
