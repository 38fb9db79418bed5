"""Everything that is guessed about a plant, from its raw files, and what remains to be asked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from pmx.contract import DataError, shown
from pmx.draft.grid import Grid, find_grid, significant
from pmx.draft.join import Joined, join
from pmx.draft.layout import Layout, find_layout, good_codes
from pmx.draft.orders import Orders, find_orders
from pmx.draft.sheet import Sheet, read_sheet
from pmx.draft.signal import Signal, ends, signals, timed
from pmx.draft.words import channel_names, folded, has_word

ENOUGH = 20  # failures, below which no life is predicted
DRIVES = (
    ("speed", "drehzahl", "rpm", "n"),
    ("current", "strom", "power", "leistung"),
    ("status", "state", "run", "lauf"),
    ("load", "flow", "durchfluss"),
)


@dataclass(frozen=True)
class Work:
    """An order export and what was made of it.

    Attributes:
        sheet, orders, joined: its cells, its columns, its assets.
        events: `asset` (String, null = none), `time` (naive Datetime[us]), `event`, `inside` (whether the asset was recorded then).

    Example:
        >>> Work.__dataclass_fields__["events"].name
        'events'
    """

    sheet: Sheet
    orders: Orders
    joined: Joined
    events: pl.DataFrame

    def failures(self) -> int:
        """Failures of known assets within their record."""
        return self.events.filter((pl.col("event") == "failure") & pl.col("inside")).height


@dataclass(frozen=True)
class Plan:
    """What the files of a plant seem to say.

    Attributes:
        plant: its name.
        sheet, layout, grid: the readings' cells, columns and ticks.
        channels: pmx's name -> signal, in the order of the files.
        unused: tag or column -> why it is left out.
        assets: their names.
        good: quality codes that count, and why; empty = there is no column of qualities.
        running: channel and threshold of a running asset; None = no standstill is seen.
        work: the orders; None = there are none.
        questions: what nobody can guess from files.

    Example:
        >>> Plan.__dataclass_fields__["questions"].type
        'tuple[str, ...]'
    """

    plant: str
    sheet: Sheet
    layout: Layout
    grid: Grid
    channels: dict[str, Signal]
    unused: dict[str, str]
    assets: tuple[str, ...]
    good: tuple[list[str], str]
    running: tuple[str, Signal] | None
    work: Work | None
    questions: tuple[str, ...]

    @property
    def noun(self) -> str:
        named = folded(self.layout.asset or "")
        return next((f"{w}s" for w in ("pump", "engine", "motor", "turbine", "machine") if w in named), "assets")

    @property
    def zone(self) -> tuple[str, str]:
        """The zone of times that carry none, and why."""
        grid, work = self.grid, self.work
        if grid.zone_known and work and not work.orders.written.zoned and work.orders.written.german:
            return "Europe/Berlin", "the readings carry their zone, the orders have German dates"
        return grid.zone, grid.zone_why

    def lives(self) -> bool:
        """Whether enough failures are on record to predict lives."""
        return self.work is not None and self.work.failures() >= ENOUGH


def make_plan(plant: str, readings: Sequence[Path], orders: Sequence[Path]) -> Plan:
    """Looks at the raw files of a plant.

    Args:
        plant: its name.
        readings: files of one kind.
        orders: an order export; empty = there is none.

    Raises:
        DataError: a file that cannot be read, or in which nothing is recognised.
    """
    sheet = read_sheet(readings)
    layout = find_layout(sheet, plant)
    rows = timed(sheet, layout)
    if not rows["time"].is_not_null().any():
        raise DataError(f"Cannot read {readings[0]}: no time in {layout.time!r} can be read -> write times as 2026-11-30T14:05:00Z")
    good = good_codes(sheet, layout.quality) if layout.quality else ([], "")
    found = signals(sheet, layout, rows, good[0])
    kept, unused = [], dict(layout.unused)
    for signal in found:
        if why := signal.useless():
            unused[signal.tag] = why
        else:
            kept.append(signal)
    if not kept:
        told = shown(", ".join(f"{s.tag} ({unused[s.tag]})" for s in found), 160)
        raise DataError(f"Cannot read {readings[0]}: no signal varies: {told} -> check the decimal sign and the columns")
    channels = dict(zip(channel_names(s.name for s in kept), kept, strict=True))
    watched = ends(sheet, layout, rows)
    grid = find_grid(kept, rows, layout.written, folded(layout.time), watched)
    assets = tuple(watched["asset"])
    work = _work(read_sheet(orders).as_text(), assets, watched) if orders else None
    repeated = 0.0 if layout.long else 1 - rows.drop_nulls().n_unique() / max(1, rows.drop_nulls().height)
    so_far = Plan(plant, sheet, layout, grid, channels, unused, assets, good, _running(channels, len(assets)), work, ())
    return Plan(**{**vars(so_far), "questions": (*_repeated(repeated, layout), *_questions(so_far))})


def _work(sheet: Sheet, assets: Sequence[str], watched: pl.DataFrame) -> Work:
    orders = find_orders(sheet)
    joined = join(sheet, orders, assets)
    events = orders.events(sheet)
    asset = pl.Series("asset", joined.asset, dtype=pl.String).gather(events["order"])
    events = events.select(asset, "time", "event")
    if watched.schema["begin"] != pl.Datetime("us"):
        return Work(sheet, orders, joined, events.with_columns(inside=pl.lit(False)))
    inside = pl.col("time").is_between("begin", pl.col("end").dt.offset_by("1d")).fill_null(False)
    events = events.join(watched, on="asset", how="left", maintain_order="left").with_columns(inside=inside).drop("begin", "end")
    return Work(sheet, orders, joined, events)


def _running(channels: dict[str, Signal], assets: int) -> tuple[str, Signal] | None:
    """The channel that shows best whether an asset runs."""
    able = {n: s for n, s in channels.items() if s.off is not None and s.assets == assets and s.role != "counter"}
    for words in DRIVES:
        for name, signal in able.items():
            if has_word(signal.name, words) or ("rpm" in words and signal.unit == "rpm"):
                return name, signal
    return None


def _questions(plan: Plan) -> list[str]:
    asked, written, work = [], plan.layout.written, plan.work
    if plan.grid.clock == "life":
        asked.append(f"life_unit: {plan.layout.time!r} holds plain numbers, taken as {plan.grid.life_unit}; in which unit are they?")
    if plan.grid.clock == "calendar" and not plan.grid.zone_known:
        asked.append(f"time_zone: times carry no zone, {plan.zone[0]} is assumed; which clock wrote them?")
    if written and written.ambiguous:
        asked.append(f"readings.time_format: day and month could be the other way round; {written.format} is assumed")
    guessed = [n for n, s in plan.channels.items() if s.unit_why.startswith("usual")]
    if guessed:
        asked.append(f"unit: only guessed from the name of {_list(guessed)}; right?")
    if unknown := [n for n, s in plan.channels.items() if not s.unit]:
        asked.append(f"unit: unknown for {brief(unknown)}; in which unit are they?")
    if plan.layout.quality and not plan.good[1].startswith("of "):
        asked.append(f"readings.good: is {', '.join(plan.good[0])} the good quality? ({plan.good[1]})")
    if plan.layout.single and len(plan.channels) > 1:
        asked.append(f"assets: all tags are taken as one asset {plan.plant!r}; do they belong to several machines?")
    if plan.sheet.decimal == "." and plan.sheet.separator and _grouped(plan.sheet, plan.channels, plan.layout):
        asked.append("readings: numbers group thousands by commas, which pmx does not read; export them without")
    if work is None:
        return [*asked, "events: no orders were given; without the dates of failures nobody can tell what an alarm is worth"]
    if work.orders.written.ambiguous:
        asked.append(f"events.time_format: day and month could be the other way round; {work.orders.written.format} is assumed")
    unsure = {v: e for v, (e, _, sure) in work.orders.kinds.items() if not sure}
    if unsure:
        asked.append(f"events.kinds: what do {_list([f'{v} ({e}?)' for v, e in unsure.items()])} mean here?")
    if not work.orders.kind:
        asked.append("events: no column tells failures from other orders, so the orders are left out; which one does?")
    if "created" not in work.orders.columns:
        asked.append("events.known_at: no column says when an order was written down; is it known at once?")
    if work.joined.unmatched:
        asked.append(f"events.assets: which assets are {_list([f'{n} ({c} orders)' for n, c in work.joined.unmatched.items()])}?")
    return asked


def _repeated(share: float, layout: Layout) -> list[str]:
    if share < 0.2:
        return []
    return [f"readings.time: {share:.0%} of the rows repeat a time of their asset in {layout.time!r}; which column tells them apart?"]


def _grouped(sheet: Sheet, channels: dict[str, Signal], layout: Layout) -> bool:
    columns = [layout.value] if layout.value else [s.tag for s in channels.values()]
    return any("," in c for column in columns if column for c in sheet.cells(column, 200))


def brief(names: Sequence[str]) -> str:
    """All names in few words: numbered ones that follow each other become a range.

    Example:
        >>> brief(["load", "tag_01", "tag_02", "tag_03"])
        'load, tag_01 to tag_03'
    """
    runs: list[list[str]] = []
    for name in names:
        if runs and _follows(runs[-1][-1], name):
            runs[-1].append(name)
        else:
            runs.append([name])
    told = [f"{shown(r[0])} to {shown(r[-1])}" if len(r) > 2 else ", ".join(map(shown, r)) for r in runs]
    return ", ".join(told)


def _follows(before: str, after: str) -> bool:
    """Whether two names differ in their last number alone, by one."""
    a, b = (re.fullmatch(r"(.*?)([0-9]+)(\D*)", name) for name in (before, after))
    return a is not None and b is not None and a[1] == b[1] and a[3] == b[3] and int(b[2]) == int(a[2]) + 1


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(shown(n) for n in names[:8]) + more


def horizons(plan: Plan) -> tuple[float, float, float]:
    """Horizon, lead and cap in the life unit: 14, 1 and 60 days, less for a short record.

    Limits are set on the last block of the training part, about a seventh of the record, and by ticks that are followed by a
    whole horizon of health: so the horizon may be half of such a block.
    """
    if plan.grid.clock == "life":
        if not plan.lives():
            return significant(plan.grid.span / 15, 2), significant(plan.grid.span / 150, 2), significant(plan.grid.span, 2)
        return significant(plan.grid.span / 5, 2), significant(plan.grid.span / 50, 2), significant(plan.grid.span, 2)
    day = plan.grid.of(86_400.0)
    horizon = min(14 * day, significant(plan.grid.span / 15, 2))
    return horizon, min(day, significant(horizon / 10, 2)), min(60 * day, significant(2 * plan.grid.span, 2))
