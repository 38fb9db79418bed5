"""What each signal looks like: how often it comes, what range it has, whether it is a counter, a setting or a measurement."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from pmx.draft.clock import read_time
from pmx.draft.layout import Layout, asset_names
from pmx.draft.sheet import SLICE, Sheet
from pmx.draft.words import COUNTERS, MEASURED, NEVER_BELOW_ZERO, NEVER_BELOW_ZERO_WORDS, SETTINGS, has_word, unit_in, usual_unit

ROLLOVERS = sorted([10.0**k for k in range(3, 13)] + [2.0**15, 2.0**16, 2.0**31, 2.0**32])
SENTINELS = (-9999.0, -999.0, -99999.0, 9999.0, 99999.0, 999999.0, 32767.0, -32768.0, 65535.0)
MICRO = 1_000_000.0


@dataclass(frozen=True)
class Signal:
    """One signal, over all assets; times in seconds, or in the life unit without a calendar.

    Attributes:
        tag: its name in the files.
        name, unit: without the unit in brackets, and that unit; empty = none was found. `unit_why` says where.
        assets: that have values of it.
        rows: filled cells; `numeric` of them are numbers.
        distinct: different values.
        low, high: 0.1 % and 99.9 % quantiles.
        gaps: median distance between values, of each asset that has two. `late_gap`: the 99.5 % quantile, median over assets.
        role: `measurement`, `setting` or `counter`; `role_why` says why.
        rollover: of a counter; None = it never fell back from near a round number.
        off: threshold between standstill and running; None = there is no standstill in it. `off_share`: share of time below.
        sentinel: a number that stands for missing; None = there is none.

    Example:
        >>> Signal("VIB [mm/s]", "VIB", "mm/s", "header", 1, 10, 10, 9, 0.0, 2.0, (60.0,), 60.0, "measurement", "").limits()[1]
        3.0
    """

    tag: str
    name: str
    unit: str
    unit_why: str
    assets: int
    rows: int
    numeric: int
    distinct: int
    low: float
    high: float
    gaps: tuple[float, ...]
    late_gap: float
    role: str
    role_why: str
    rollover: float | None = None
    off: float | None = None
    off_share: float = 0.0
    sentinel: float | None = None

    def limits(self) -> tuple[float, float]:
        """Valid range: the quantiles, widened by half their span on each side, not below what physics allows."""
        span = self.high - self.low or abs(self.high) or 1.0
        low, high = self.low - 0.5 * span, self.high + 0.5 * span
        positive = self.unit in NEVER_BELOW_ZERO or has_word(self.name, NEVER_BELOW_ZERO_WORDS)
        if self.low >= 0 and (positive or self.low == 0):
            low = max(low, 0.0)
        if self.unit == "%" and self.low >= 0 and self.high <= 100:
            low, high = max(low, 0.0), min(high, max(100.0, self.high))
        if self.unit == "°C":
            low = max(low, -273.15)
        step = 10.0 ** (math.floor(math.log10(span)) - 1)
        digits = max(0, 1 - math.floor(math.log10(span)))
        return round(math.floor(low / step + 1e-9) * step, digits), round(math.ceil(high / step - 1e-9) * step, digits)

    def useless(self) -> str:
        """Why this signal carries nothing; empty = it may carry something."""
        if not self.rows:
            return "empty"
        if self.numeric < 0.5 * self.rows:
            return "text, not numbers"
        return "constant" if self.distinct <= 1 else ""


def timed(sheet: Sheet, layout: Layout) -> pl.DataFrame:
    """Each row's `asset` and `time` (naive Datetime[us], or Float64 in the life unit), in file order."""
    cells = sheet.text(layout.time) if layout.hour is None else sheet.text(layout.time) + " " + sheet.text(layout.hour)
    time = read_time(cells, layout.written) if layout.written else sheet.numbers(layout.time)
    return pl.DataFrame([asset_names(sheet, layout), time.alias("time")])


def ends(sheet: Sheet, layout: Layout, rows: pl.DataFrame) -> pl.DataFrame:
    """The first and the last time of each asset, `asset, begin, end`, by name; of Parquet files from all rows, not from the sample.

    Args:
        sheet, layout: the cells, and what they are.
        rows: `asset` and `time` of each, from `timed`.
    """
    if sheet.separator is None and not sheet.whole and layout.hour is None and not (layout.pattern or layout.single):
        parts = []
        for file in sheet.files:
            lazy = pl.scan_parquet(file, glob=False)
            if not isinstance(kind := lazy.collect_schema().get(layout.time), pl.Datetime):
                break
            utc = pl.col(layout.time).dt.convert_time_zone("UTC") if kind.time_zone else pl.col(layout.time)
            asset = pl.col(layout.asset).cast(pl.String).str.strip_chars() if layout.asset else pl.lit(file.stem)
            time = utc.dt.replace_time_zone(None).cast(pl.Datetime("us"))
            parts.append(_ends(lazy.select(asset.alias("asset"), time.alias("time"))).collect())
        else:
            return pl.concat(parts).group_by("asset").agg(pl.col("begin").min(), pl.col("end").max()).sort("asset")
    return _ends(rows.lazy()).sort("asset").collect()


def _ends(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.drop_nulls().group_by("asset").agg(begin=pl.col("time").min(), end=pl.col("time").max())


def signals(sheet: Sheet, layout: Layout, rows: pl.DataFrame, good: Sequence[str] = ()) -> list[Signal]:
    """Statistics of every signal, in the order of the file's columns or of the tags' names.

    Args:
        sheet: the cells.
        layout: what they are.
        rows: `asset` and `time` of each, from `timed`.
        good: quality codes that count; empty = all.
    """
    return [describe(tag, unit, counts, one) for tag, unit, counts, one in _each(sheet, layout, rows, good)]


def _each(
    sheet: Sheet, layout: Layout, rows: pl.DataFrame, good: Sequence[str]
) -> Iterator[tuple[str, str, tuple[int, int], pl.DataFrame]]:
    """Tag, unit from a column, how many cells are filled and how many are numbers, and `asset, time, number` by asset and time."""
    # Codes in the order of the names: much quicker to sort and to compare than text.
    rows = rows.with_columns(pl.col("asset").rank("dense"), sheet.frame[SLICE].alias("slice"))
    if not layout.long:
        order = rows.select("asset", "time").with_row_index().drop_nulls().sort("asset", "time", maintain_order=True)["index"]
        rows = rows[order]
        for column in layout.signals:
            number = sheet.numbers(column)
            counts = (sheet.frame[column].count(), number.count())
            yield column, "", counts, _once(rows.with_columns(number.gather(order).alias("number")).drop_nulls())
        return
    assert layout.tag and layout.value
    tags = sheet.text(layout.tag)
    if layout.pattern:
        tags = tags.str.extract_groups(layout.pattern).struct.field("tag")
    units = sheet.text(layout.unit) if layout.unit else pl.Series([None], dtype=pl.String).new_from_index(0, len(tags))
    number = sheet.numbers(layout.value).alias("number")
    filled = sheet.frame[layout.value].is_not_null()
    every = rows.with_columns(tags.alias("tag"), units.alias("unit"), number, filled.alias("filled"))
    if layout.quality and good:  # what a source calls bad says nothing about range or role
        every = every.filter(sheet.text(layout.quality).is_in(list(good)))
    for (tag,), one in sorted(every.drop_nulls("tag").partition_by("tag", as_dict=True).items()):
        known = one["unit"].drop_nulls().mode().sort()
        yield (
            str(tag),
            known[0] if len(known) else "",
            (int(one["filled"].sum()), one["number"].count()),
            _once(one.select("asset", "time", "slice", "number").drop_nulls().sort("asset", "time", maintain_order=True)),
        )


def _once(one: pl.DataFrame) -> pl.DataFrame:
    """Sorted rows, the first of each asset and time alone."""
    return one.filter(((pl.col("time") != pl.col("time").shift()) | ~_same("asset")).fill_null(True))


def _same(*names: str) -> pl.Expr:
    """Whether a row agrees in these columns with the one before it; the first does not."""
    return pl.all_horizontal(pl.col(n) == pl.col(n).shift() for n in names).fill_null(False)


def describe(tag: str, unit: str, counts: tuple[int, int], one: pl.DataFrame) -> Signal:
    """Statistics of a signal.

    Args:
        tag: its name in the files.
        unit: from a column of units; empty = none.
        counts: cells that are filled, and those that are numbers.
        one: `asset`, `time` and `number`, by asset and time; where there is `slice`, distances are those within one.
    """
    one, sentinel = _without_sentinels(one)
    name, inside = unit_in(tag)
    why = "from the column of units" if unit else "in the name" if inside else ""
    unit = unit_in(f"x [{unit}]")[1] if unit else inside
    values = one["number"].to_numpy()
    gaps, late = _gaps(one)
    low, high = np.quantile(values, [0.001, 0.999]) if len(values) else (0.0, 0.0)
    distinct = one["number"].n_unique()
    role, role_why, rollover = _role(name, one, distinct)
    if not unit and (usual := usual_unit(name)):
        unit, why = usual, "usual for such a name"
    off, share = _standstill(one) if role != "counter" else (None, 0.0)
    return Signal(
        *(tag, name, unit, why, one["asset"].n_unique(), *counts, distinct, float(low), float(high), gaps, late),
        *(role, role_why, rollover, off, share, sentinel),
    )


def _without_sentinels(one: pl.DataFrame) -> tuple[pl.DataFrame, float | None]:
    """Drops a value such as -9999 that stands for missing: exact, extreme, and far from all others."""
    for s in SENTINELS:
        here = one["number"] == s
        if here.any() and not here.all():
            rest = one.filter(~here)
            low, high = (float(end) for end in np.nanquantile(rest["number"].to_numpy(), [0, 1]))
            if not low - 2 * (high - low) <= s <= high + 2 * (high - low):
                return rest, s
    return one, None


def _gaps(one: pl.DataFrame) -> tuple[tuple[float, ...], float]:
    """Median distance between values per asset, and the median over assets of its 99.5 % quantile."""
    within = _same("asset", "slice") if "slice" in one.columns else _same("asset")
    step = one.select("asset", gap=pl.when(within).then(pl.col("time").diff())).drop_nulls("gap")
    if not len(step):
        return (), 0.0
    seconds = pl.col("gap").dt.total_microseconds() / MICRO if step.schema["gap"] == pl.Duration("us") else pl.col("gap")
    by = step.select("asset", seconds.alias("gap")).group_by("asset").agg(mid=pl.col("gap").median(), late=pl.col("gap").quantile(0.995))
    return tuple(by.sort("asset")["mid"].to_list()), float(np.median(by["late"].to_numpy()))


def _role(name: str, one: pl.DataFrame, distinct: int) -> tuple[str, str, float | None]:
    before = pl.when(_same("asset")).then(pl.col("number").shift())
    step = one.select("number", before=before, by=pl.col("number") - before).drop_nulls("by")
    up, down = int((step["by"] > 0).sum()), step.filter(pl.col("by") < 0)
    needed = 0.98 if has_word(name, COUNTERS) else 0.995
    if up > 20 and up >= needed * (up + len(down)) and distinct > 20 and np.nanmin(one["number"].to_numpy()) >= 0:
        fell = down.filter(pl.col("number") < 0.2 * pl.col("before"))
        top = float(np.nanmax(one["number"].to_numpy()))
        # The next number that a register may hold above the largest value; a fall from near it is a roll-over, another a reset.
        limit = next((m for m in ROLLOVERS if m > top), None)
        rolled = limit is not None and int((fell["before"] > 0.97 * limit).sum()) > len(fell) / 2
        # Small steps back come from rows of one instant, or of the hour that autumn repeats.
        return "counter", f"rises, and fell back {len(fell)}x" if len(fell) else "never falls", limit if rolled else None
    if distinct <= 20 and len(one) >= 100 and not has_word(name, MEASURED):
        return "setting", f"{distinct} levels", None
    if has_word(name, SETTINGS):
        return "setting", "by its name", None
    return "measurement", "", None


def _standstill(one: pl.DataFrame) -> tuple[float | None, float]:
    """Threshold between standstill and running, and the share of time below it; None = no two clear modes, or hardly any standstill."""
    if len(one) < 50:
        return None, 0.0
    longest = pl.col("gap").quantile(0.999)
    wait = one.select("number", gap=pl.when(_same("asset").shift(-1)).then(pl.col("time").shift(-1) - pl.col("time"))).drop_nulls("gap")
    if not len(wait):
        return None, 0.0
    # A value that is sent on change stands until the next one, so times are weighed, not rows.
    wait = wait.with_columns(pl.min_horizontal("gap", longest).cast(pl.Float64))
    values, weight = wait["number"].to_numpy(), wait["gap"].to_numpy()
    top = float(np.quantile(values, 0.95))
    if top <= 0 or weight.sum() <= 0 or values.min() < -0.2 * top:
        return None, 0.0
    idle, busy = values < 0.05 * top, values > 0.3 * top
    share, between = (weight[m].sum() / weight.sum() for m in (idle, ~idle & ~busy))
    if not 0.05 <= share <= 0.8 or between > 0.05 or not busy.any():
        return None, 0.0
    edge = 0.5 * float(np.quantile(values[busy], 0.02))
    digits = 1 - math.floor(math.log10(edge))
    return max(round(edge, digits - 1), 0.0), float(share)
