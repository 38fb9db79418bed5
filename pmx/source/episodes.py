"""Labelled episodes and empty event logs with the types that `History` promises, on either clock."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from pmx.contract import Contract

HEALTHY = "healthy"  # the class of a stretch without a fault


def no_events(contract: Contract) -> pl.DataFrame:
    """An event log in which nothing is written down: `asset`, `time`, `event`, `known_at`."""
    time = _time(contract)
    return pl.DataFrame(schema={"asset": pl.String(), "time": time, "event": pl.String(), "known_at": time})


def episode_table(contract: Contract, found: Sequence[tuple[str, float, float, str]]) -> pl.DataFrame:
    """Episodes `asset`, `begin`, `end`, `fault`, in the given order.

    Args:
        contract: whose clock the times are on.
        found: asset, begin, end and fault; both times in microseconds since 1970 (calendar) or in the life unit (life).
    """
    stored = pl.Int64() if contract.clock == "calendar" else pl.Float64()
    schema: dict[str, pl.DataType] = {"asset": pl.String(), "begin": stored, "end": stored, "fault": pl.String()}
    return pl.DataFrame(found, schema=schema, orient="row").with_columns(pl.col("begin", "end").cast(_time(contract)))


def fault_table(contract: Contract, found: Sequence[tuple[str, float, float, str, float]]) -> pl.DataFrame:
    """Stretches whose class is known: `asset`, `begin`, `end`, `fault`, `known_at`, in the given order.

    Args:
        contract: whose clock the times are on.
        found: asset, begin, end, class (`HEALTHY` = without a fault) and when that was known; times as in `episode_table`.
    """
    known = episode_table(contract, [row[:4] for row in found])
    stored = [row[4] for row in found]
    return known.with_columns(
        known_at=pl.Series(stored, dtype=pl.Int64 if contract.clock == "calendar" else pl.Float64).cast(_time(contract))
    )


def _time(contract: Contract) -> pl.DataType:
    return pl.Datetime("us", "UTC") if contract.clock == "calendar" else pl.Float64()


def title(family: str, parts: Sequence[str]) -> str:
    """Names a data set by its parts, such as `skab valve1-0+valve2-3`; it serves as a file name too, so many parts are counted."""
    name = "+".join(parts).replace("/", "-")
    if len(name) > 100:
        name = f"{len(parts)} from {parts[0]} to {parts[-1]}".replace("/", "-")
    return f"{family} {name}"
