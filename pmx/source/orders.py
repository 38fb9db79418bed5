"""A work-order log in CSV: what happened to which asset, when, and when it was written down."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from pmx.contract import BLANKS, Channel, Contract, DataError, refusal_text, shown
from pmx.edge.table import read_csv
from pmx.source.admit import microseconds

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
