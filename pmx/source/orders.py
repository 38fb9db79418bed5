"""Work orders as events: pmx's own log in CSV, or the export of a maintenance system with a mapping to kinds of event.

Orders are never quarantined: leaving out a failure would turn a failed asset into a healthy one.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from pmx.contract import BLANKS, NUMBER, TIME, Channel, Contract, DataError, refusal_text, shown, zone_of
from pmx.edge.table import read_csv
from pmx.source.admit import microseconds
from pmx.source.card import Orders
from pmx.source.dialect import EPOCHS, ISO, Dialect, Sheet

EVENTS = ("failure", "replacement", "inspection", "no_fault_found", "commissioning")
# Read by the code that reads readings; what a log has beyond asset and time stands in the place of channels.
LOG = Contract((Channel("event", "-"), Channel("known_at", "-")), "h", "calendar")


def read_orders(file: Path) -> pl.DataFrame:
    """Events `asset`, `time`, `event`, `known_at` (both times Datetime[us, UTC]) of a log on the calendar clock.

    Raises:
        DataError: an order without an asset, of no known kind, with a time that cannot be read, or known before it happened.
            Orders are never quarantined: leaving out a failure would turn a failed asset into a healthy one.
    """
    log = read_csv(file, LOG)
    cells = {"asset": log.asset, "time": log.time, "event": log.values["event"], "known_at": log.values["known_at"]}
    text = pl.DataFrame(cells, schema=dict.fromkeys(cells, pl.String)).with_columns(pl.all().str.strip_chars(BLANKS))
    orders = text.with_columns(microseconds(pl.col(n)).alias(n) for n in ("time", "known_at"))
    problems = []
    for row, written, order in zip(log.row.tolist(), text.iter_rows(), orders.iter_rows(), strict=True):
        if wrong := _wrong(written, order):
            problems.append(f"  row {row}, asset {shown(written[0]) or '?'}: {wrong}")
    if problems:
        more = [f"  ... and {len(problems) - 8:,} more"] if len(problems) > 8 else []
        raise DataError(refusal_text(str(file), len(problems), [*problems[:8], *more]))
    return orders.with_columns(pl.from_epoch(pl.col(n), "us").dt.replace_time_zone("UTC") for n in ("time", "known_at"))


def _wrong(written: tuple[str, str, str, str], order: tuple[str, int | None, str, int | None]) -> str:
    """What is wrong with an order, as it was written and as it was read; empty = nothing."""
    asset, time, event, known = order
    if not asset:
        return "names no asset -> fill it in"
    if event not in EVENTS:
        return f"{shown(event)!r} is no event -> one of {', '.join(EVENTS)}"
    if time is None or known is None:
        column, cell = ("time", written[1]) if time is None else ("known_at", written[3])
        return f"{column} {shown(cell)!r} is not a time such as 2026-11-30T14:05:00Z -> correct it"
    if known < time:
        return f"known at {written[3]}, before it happened at {written[1]} -> correct one of them"
    return ""


# ---- exports of a maintenance system


class _Clock:
    """Reads the times of an export, in the history's own clock: microseconds since 1970, or life units."""

    def __init__(self, dialect: Dialect, contract: Contract) -> None:
        self.dialect, self.calendar = dialect, contract.clock == "calendar"
        self.zone = zone_of(contract.time_zone)

    def read(self, cells: tuple[str, ...], end: bool) -> float | None:
        """A time from one cell, or from a date and a time of day; None where it is none.

        Args:
            cells: as they were written.
            end: whether a day without a time of day means its end, not its beginning.
        """
        if not self.calendar:
            number = cells[0].replace(",", ".") if self.dialect.decimal == "," else cells[0]
            return float(number) if re.fullmatch(NUMBER, number) else None
        if self.dialect.time_format in EPOCHS and re.fullmatch(NUMBER, cells[0]):
            return round(float(cells[0]) * EPOCHS[self.dialect.time_format])
        moment, whole_day = self._moment(cells)
        if moment is None:
            return None
        if whole_day and end:
            moment += timedelta(days=1, microseconds=-1)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=self.zone)
            if moment.astimezone(UTC).astimezone(self.zone).replace(tzinfo=None) != moment.replace(tzinfo=None):
                return None  # the hour that spring leaves out
        return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)

    def same_day(self, one: float, other: float) -> bool:
        """Whether two calendar times fall on one day of the plant; on the life clock, whether they are equal."""
        if not self.calendar:
            return one == other
        days = {(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(t))).astimezone(self.zone).date() for t in (one, other)}
        return len(days) == 1

    def _moment(self, cells: tuple[str, ...]) -> tuple[datetime | None, bool]:
        """The moment, and whether it is a day without a time of day."""
        day, clock = (cells[0], cells[1]) if len(cells) == 2 else (cells[0], "")
        text = f"{day} {clock}".strip()
        form = self.dialect.time_format or ""
        for pattern in (form, f"{_day_of(form)} %H:%M:%S", f"{_day_of(form)} %H:%M") if form else ():
            if "%H" in pattern or "%I" in pattern:
                with suppress(ValueError):
                    return datetime.strptime(text, pattern), False
        with suppress(ValueError):
            if clock == "24:00:00":
                return self._day(day, form) + timedelta(days=1), False
            if not clock:
                return self._day(day, form), True
        if re.fullmatch(TIME, text):
            with suppress(ValueError):
                return datetime.fromisoformat(text), False
        return None, False

    def _day(self, text: str, form: str) -> datetime:
        if form:
            with suppress(ValueError):
                return datetime.strptime(text, _day_of(form))
        return datetime.strptime(text, "%Y-%m-%d")


def _day_of(form: str) -> str:
    """The part of a format that names the day."""
    return re.split("[ T]%[HI]", form)[0].strip()


@dataclass(frozen=True)
class _Order:
    """A row of an export, as text."""

    file: str
    row: int
    assets: tuple[str, ...]
    kinds: tuple[str, ...]
    times: tuple[tuple[str, ...], ...]
    known: tuple[tuple[str, ...], ...]
    status: str
    ragged: str


def read_export(
    sheets: Sequence[Sheet], orders: Orders, assets: Mapping[str, str], known: set[str], contract: Contract
) -> tuple[pl.DataFrame, list[str]]:
    """Events of an export, as `History.events`, sorted by time, and what a user should know of it.

    Args:
        sheets: the opened files.
        orders: what their columns mean.
        assets: raw name -> asset, as the card says for readings.
        known: the assets that have readings.
        contract: whose clock and time zone hold.

    Raises:
        DataError: a column is missing, a value of no known kind, a time that cannot be read, or an order that matches no asset,
            unless such orders are to be listed.
    """
    rows = [order for sheet in sheets for order in _rows(sheet, orders)]
    void = [o for o in rows if orders.skip and ({o.status} | set(o.status.split())) & orders.skip[1]]
    skipped = set(void)
    rows = [o for o in rows if o not in skipped]
    kinds = [next((orders.kinds[k] for k in o.kinds if k in orders.kinds), "") for o in rows]
    _refuse_kinds(rows, kinds, orders)
    names = _Names({**assets, **orders.assets}, known)
    found, lost = _settled(
        [(o, kind) for o, kind in zip(rows, kinds, strict=True) if kind != "ignore"], names, _Clock(orders.dialect, contract)
    )
    notes = [f"{len(void):,} orders are void ({orders.skip[0]}) and left out"] if void and orders.skip else []
    notes += [f"{kinds.count('ignore'):,} orders are of kinds that the card ignores"] if "ignore" in kinds else []
    notes += _unmatched(lost, len(found), names, orders)
    once: dict[tuple[str, float, str], float] = {}
    for asset, time, kind, known_at in found:
        once[asset, time, kind] = min(known_at, once.get((asset, time, kind), known_at))
    if len(once) < len(found):
        notes.append(f"{len(found) - len(once):,} orders repeat another one (same asset, time and kind) and count once")
    return _events(once, contract), notes


def _settled(rows: Sequence[tuple[_Order, str]], names: _Names, clock: _Clock) -> tuple[list[tuple[str, float, str, float]], list[_Order]]:
    """Asset, time, kind and known_at of the orders that match an asset, and the orders that match none."""
    found, lost, problems = [], [], []
    for order, kind in rows:
        asset = next((a for a in map(names.asset, order.assets) if a), "")
        if not asset and not order.ragged:
            lost.append(order)
            continue
        time, known_at, wrong = _times(order, kind, clock)
        if order.ragged or wrong:
            wrong = f"{order.ragged} -> correct the line" if order.ragged else wrong
            problems.append(f"  {shown(order.file, 200)}, row {order.row}, asset {shown(asset) or '?'}: {wrong}")
        else:
            found.append((asset, time, kind, known_at))
    if problems:
        more = [f"  ... and {len(problems) - 8:,} more"] if len(problems) > 8 else []
        raise DataError(refusal_text("the orders", len(problems), [*problems[:8], *more]))
    return found, lost


def _rows(sheet: Sheet, orders: Orders) -> Iterator[_Order]:
    status = [orders.skip[0]] if orders.skip else []
    columns = {"asset": orders.asset, "kind": orders.kind, "skip.column": status}
    columns |= {key: [c for group in groups for c in group] for key, groups in (("time", orders.time), ("known_at", orders.known_at))}
    lines = [line for key, names in columns.items() for line in sheet.lacking(names, f"events.{key}")]
    if lines:
        raise DataError(refusal_text("the orders", len(lines), [*lines, *sheet.hint("events")]))
    names = list(dict.fromkeys(n for group in columns.values() for n in group))
    frame = sheet.rows.select("row", "ragged", *(_text(sheet, n).alias(sheet.columns[n]) for n in names)).collect()
    for cells in frame.iter_rows(named=True):
        at = {n: cells[sheet.columns[n]] or "" for n in names}
        yield _Order(
            str(sheet.file),
            cells["row"],
            tuple(at[n] for n in orders.asset),
            tuple(at[n] for n in orders.kind),
            tuple(tuple(at[n] for n in group) for group in orders.time),
            tuple(tuple(at[n] for n in group) for group in orders.known_at),
            at[status[0]] if status else "",
            cells["ragged"] or "",
        )


def _text(sheet: Sheet, name: str) -> pl.Expr:
    dtype = sheet.rows.collect_schema()[sheet.columns[name]]
    if isinstance(dtype, pl.Datetime):
        return sheet.cell(name).dt.strftime(ISO + ("Z" if dtype.time_zone == "UTC" else "%:z" if dtype.time_zone else ""))
    return sheet.cell(name).cast(pl.String)


def _times(order: _Order, kind: str, clock: _Clock) -> tuple[float, float, str]:
    """When it happened, when it was known, and what is wrong with them; empty = nothing."""
    cells = next((c for c in order.times if c[0]), None)
    if cells is None:
        return 0.0, 0.0, "says not when it happened -> fill in its time, or name another column: events.time: {first_of: [...]}"
    time = clock.read(cells, end=False)
    if time is None:
        return 0.0, 0.0, f"time {shown(' '.join(cells))!r} is none, or does not exist in its time zone -> correct it, or events.time_format"
    written = next((c for c in order.known if c[0]), None)
    if written is None:
        return time, time, ""
    known = clock.read(written, end=True)
    if known is None:
        told = shown(" ".join(written))
        return 0.0, 0.0, f"known_at {told!r} is none, or does not exist in its time zone -> correct it, or events.time_format"
    if known < time and kind == "failure" and not clock.same_day(known, time):
        return 0.0, 0.0, f"known at {shown(' '.join(written))}, before it failed at {shown(' '.join(cells))} -> correct one of them"
    # Planned work is written down before it happens: that it happened is known when it does.
    return time, max(time, known), ""


def _refuse_kinds(rows: Sequence[_Order], kinds: Sequence[str], orders: Orders) -> None:
    strange = Counter(" / ".join(o.kinds) for o, kind in zip(rows, kinds, strict=True) if not kind)
    if strange:
        where = " / ".join(orders.kind)
        lines = [f"  {where} {shown(v)!r}: {n:,} orders -> add it to events.kinds, or ignore" for v, n in strange.most_common(12)]
        more = [f"  ... and {len(strange) - 12:,} other values"] if len(strange) > 12 else []
        raise DataError(refusal_text("the orders", len(strange), [*lines, *more]))


def _unmatched(lost: Sequence[_Order], matched: int, names: _Names, orders: Orders) -> list[str]:
    """A note on the orders of no known asset; refused where the card does not say that they are to be listed."""
    if not lost:
        return []
    count = Counter(next((a for a in o.assets if a), "(empty)") for o in lost)
    if orders.unmatched == "list" and matched:
        mapped = {a: f", {names.raw[a]} in the card, which has no readings" for a in count if a in names.raw}
        told = ", ".join(f"{shown(a)} ({n}{mapped.get(a, '')})" for a, n in count.most_common(20)) + (
            f" and {len(count) - 20} more" if len(count) > 20 else ""
        )
        return [
            f"{len(lost):,} orders match no asset with readings ({matched:,} do): {told} -> map them in events.assets where they belong to one"
        ]
    lines = []
    for raw, n in count.most_common(12):
        near = difflib.get_close_matches(raw, sorted(names.known), 2, 0.5)
        hint = f"nearest is {' or '.join(near)}" if near else f"assets are {shown(', '.join(sorted(names.known)), 80)}"
        to = f" (the card says it is {names.raw[raw]}, which has no readings)" if raw in names.raw else ""
        lines.append(f"  {shown(raw)}: {n:,} orders{to}, {hint}")
    more = [f"  ... and {len(count) - 12:,} more"] if len(count) > 12 else []
    mend = "  -> map them in events.assets of the card" + (", or set events.unmatched: list to go on without them" if matched else "")
    raise DataError(refusal_text(f"the orders: {len(lost):,} of {len(lost) + matched:,} match no asset", len(count), [*lines, *more, mend]))


class _Names:
    """Leads the names in orders to assets; leading zeros do not count where that leaves one asset."""

    def __init__(self, raw: Mapping[str, str], known: set[str]) -> None:
        self.raw, self.known = raw, known
        short: dict[str, set[str]] = {}
        for name, asset in [*((k, k) for k in known), *raw.items()]:
            short.setdefault(name.lstrip("0"), set()).add(asset)
        self.short = {name: assets.copy().pop() for name, assets in short.items() if name and len(assets) == 1}

    def asset(self, name: str) -> str:
        """The asset, empty where there is none with readings."""
        asset = self.raw.get(name) or (name if name in self.known else self.short.get(name.lstrip("0"), ""))
        return asset if asset in self.known else ""


def _events(found: Mapping[tuple[str, float, str], float], contract: Contract) -> pl.DataFrame:
    rows = sorted((time, asset, kind, known_at) for (asset, time, kind), known_at in found.items())
    number = pl.Int64 if contract.clock == "calendar" else pl.Float64
    schema = {"time": number, "asset": pl.String, "event": pl.String, "known_at": number}
    frame = pl.DataFrame(rows, schema=schema, orient="row").select("asset", "time", "event", "known_at")
    if contract.clock == "life":
        return frame
    return frame.with_columns(pl.from_epoch(pl.col(n), "us").dt.replace_time_zone("UTC") for n in ("time", "known_at"))
