"""The tick, the life unit, the zone and the lateness that a record of readings asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

import polars as pl

from pmx.draft.clock import GERMAN, Written, summer_times_missing
from pmx.draft.signal import MICRO, Signal

TICKS = 30_000  # that the longest history of an asset should have at most
LADDER = (
    0.001,
    0.002,
    0.005,
    0.01,
    0.02,
    0.05,
    0.1,
    0.2,
    0.5,
    1,
    2,
    5,
    10,
    15,
    30,
    60,
    120,
    300,
    600,
    900,
    1800,
    3600,
    7200,
    14400,
    21600,
    43200,
    86400,
)
SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Grid:
    """How readings fall onto ticks; lengths in the life unit.

    Attributes:
        clock: `calendar` or `life`.
        life_unit: the shortest of s, min and h in which the tick is a plain number.
        tick, sampling, lateness: lengths; sampling None = no asset has two readings.
        zone: of times that carry none. `zone_why` says why; `zone_known`: whether there is no doubt.
        span: length of the longest asset history.
        together: whether the assets were recorded at about the same time, not one after the other.

    Example:
        >>> Grid("calendar", "h", 0.25, 0.02, 0.0, "UTC", "", True, 100.0).of(1800.0)
        0.5
    """

    clock: str
    life_unit: str
    tick: float
    sampling: float | None
    lateness: float
    zone: str
    zone_why: str
    zone_known: bool
    span: float
    together: bool = True

    def of(self, seconds: float) -> float:
        """A length in seconds (on a life clock: in the life unit already) in the life unit, four digits."""
        return significant(seconds / SECONDS[self.life_unit] if self.clock == "calendar" else seconds)

    def hold(self, signal: Signal) -> float:
        """The longest time in the life unit that a value stands: nearly all gaps of the signal, and two ticks at least."""
        late = self.of(signal.late_gap)
        step = 10.0 ** (math.floor(math.log10(late)) - 1) if late > 0 else self.tick
        return significant(max(2 * self.tick, math.ceil(late / step - 1e-9) * step))


def significant(value: float, digits: int = 4) -> float:
    """A number rounded to some significant digits."""
    return float(f"{value:.{digits}g}")


def find_grid(
    signals: Sequence[Signal], rows: pl.DataFrame, written: Written | None, life_name: str, ends: pl.DataFrame | None = None
) -> Grid:
    """The grid of a record: a typical signal has a value in each tick, the longest history about 30,000 ticks at most.

    Args:
        signals: the ones that are kept.
        rows: `asset` and `time`, in file order.
        written: how the times are written; None = numbers in the life unit.
        life_name: the header of a column of such numbers.
        ends: `begin` and `end` of each asset; None = as in `rows`.
    """
    gaps = [g for s in signals for g in s.gaps if g > 0]
    sampling = median(gaps) if gaps else None
    if ends is None:
        ends = rows.drop_nulls().group_by("asset").agg(begin=pl.col("time").min(), end=pl.col("time").max())
    spans = ends["end"] - ends["begin"]
    if written is None:
        unit = {"cycles": "cycle", "hours": "h", "seconds": "s", "t": "s", "time": "s", "timecycles": "cycle"}.get(life_name, life_name)
        tick = significant(sampling or 1.0)
        regular = significant(sampling) if sampling else None
        return Grid("life", unit, tick, regular, 0.0, "UTC", "", True, max([tick, *spans.to_list()]))
    lengths = [s.total_seconds() for s in spans] or [0.0]
    first, last = ends["begin"].min(), ends["end"].max()
    assert isinstance(first, datetime) and isinstance(last, datetime)
    together = median(lengths) >= 0.5 * (last - first).total_seconds()
    longest = max(lengths)
    wanted = max(sampling or 1.0, longest / TICKS)
    tick_s = next((t for t in LADDER if t >= 0.98 * wanted), LADDER[-1])
    unit = "s" if tick_s < 60 else "h" if tick_s % 900 == 0 else "min"
    zone, why, known = _zone(rows["time"], written)
    scale = SECONDS[unit]
    lateness = math.ceil(_lateness(rows, zone) / tick_s * 4) * tick_s / 4
    shortest = significant(sampling / scale) if sampling else None
    return Grid(
        "calendar",
        unit,
        significant(tick_s / scale),
        shortest,
        significant(lateness / scale),
        zone,
        why,
        known,
        longest / scale,
        together,
    )


def _zone(times: pl.Series, written: Written) -> tuple[str, str, bool]:
    if written.zoned:
        return "UTC", "times carry their zone", True
    if not written.german:
        return "UTC", "times carry no zone", False
    skipped = summer_times_missing(times)
    if skipped is False:
        return "UTC", "German dates, but the hour that spring skips there is filled", False
    return GERMAN, "German dates, and the hour that spring skips is empty" if skipped else "German dates", False


def _lateness(rows: pl.DataFrame, zone: str) -> float:
    """How far behind an asset's newest row others come, in seconds; 0 where the rows do not stand in the order of their arrival.

    The hour that autumn repeats is left out: its second pass is not late.
    """
    known = rows.drop_nulls()
    if zone != "UTC":
        known = known.filter(pl.col("time").dt.replace_time_zone(zone, ambiguous="null", non_existent="null").is_not_null())
    behind = known.select((pl.col("time").cum_max() - pl.col("time")).over("asset").dt.total_microseconds().alias("us"))["us"] / MICRO
    late = behind.filter(behind > 0)
    if not len(late) or len(late) > 0.1 * len(behind):
        return 0.0
    return float(late.quantile(0.99) or 0.0)
