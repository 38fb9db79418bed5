"""Alignment of large histories in Polars and numpy, equal to `pmx.align.Aligner` tick for tick."""

from __future__ import annotations

import numpy as np
import polars as pl

from pmx.align import gap_message
from pmx.contract import Channel, Contract, DataError
from pmx.reading import TOLERANCE, aggregate, hold_ticks

TICKS = 20_000  # that are summed up at a time


def to_ticks(readings: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Accepted readings as ticks.

    Args:
        readings: `asset`, `time` and the channels, as in `Admitted.readings`.
        contract: how readings fall onto ticks.

    Returns:
        `asset` (String), `tick` (Int64) and the channels (Float32, null = missing): every tick from an asset's first to its
        last, sorted by asset and tick.
    """
    if contract.clock == "calendar":
        tick = -((-pl.col("time").to_physical()) // contract.tick_us)
    else:
        tick = (pl.col("time") / contract.tick - TOLERANCE).ceil().cast(pl.Int64)
    table = readings.lazy().select("asset", "time", tick.alias("tick"), *contract.names)
    if contract.lateness:  # the values of a tick are taken in the order of their times
        table = table.sort("asset", "time", maintain_order=True)
    ticks = _one_row_a_tick(table.collect(), contract)
    _refuse_gaps(ticks, contract)
    ticks = ticks.select("asset", "tick", *contract.names)
    every = pl.int_ranges(pl.col("tick").first(), pl.col("tick").last() + 1).first().alias("tick")
    grid = ticks.lazy().group_by("asset", maintain_order=True).agg(every).explode("tick").collect()
    if grid.height > ticks.height:
        ticks = grid.join(ticks, on=["asset", "tick"], how="left", maintain_order="left")
    return _finish(ticks, contract)


def _one_row_a_tick(table: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """`asset`, `tick`, the channels' aggregated values (Float64), `first` and `last` time; sorted by asset and tick."""
    table = table.sort("asset", "tick", maintain_order=True)
    begins = (pl.col("asset") != pl.col("asset").shift()) | (pl.col("tick") != pl.col("tick").shift())
    starts = table.select(begins.fill_null(True).arg_true()).to_series().to_numpy()
    if len(starts) == len(table):
        return table.select("asset", "tick", *(_single(c).alias(c.name) for c in contract.channels), first="time", last="time")
    ends = np.append(starts[1:], len(table)) - 1
    place = table.select("asset", "tick", first="time")[starts].with_columns(last=table["time"][ends])
    parts = []
    for begin in range(0, len(starts), TICKS):  # in slices, since every row is copied once
        own = starts[begin : begin + TICKS]
        rows = table[int(own[0]) : int(ends[min(begin + TICKS, len(starts)) - 1]) + 1]
        values = rows.select(pl.col(contract.names).cast(pl.Float64)).to_numpy()
        made = aggregate(contract, np.ascontiguousarray(values), own - own[0])
        parts.append(pl.DataFrame(made, schema=contract.names))
    return place.hstack(pl.concat(parts).fill_nan(None)).select("asset", "tick", *contract.names, "first", "last")


def _single(channel: Channel) -> pl.Expr:
    value = pl.col(channel.name).fill_nan(None)
    return value if channel.align == "last" else _positive(value)


def _positive(value: pl.Expr) -> pl.Expr:
    """-0.0 as 0.0, which Polars does not make of `value + 0.0`."""
    return pl.when(value == 0).then(0.0).otherwise(value)


def _refuse_gaps(ticks: pl.DataFrame, contract: Contract) -> None:
    gaps = ticks.lazy().select(
        "asset",
        "first",
        skipped=(pl.col("tick").diff() - 1).over("asset"),
        before=pl.col("last").shift(1).over("asset"),
    )
    long = gaps.filter(pl.col("skipped") > contract.longest_gap).head(1).collect()
    if long.height:
        asset, before, after, skipped = long.select("asset", pl.col("before", "first").to_physical(), "skipped").row(0)
        raise DataError(gap_message(contract, asset, before, after, skipped))


def _finish(ticks: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Increase of counters, holds, the running condition, float32: the order is the device's."""
    table = ticks.lazy()
    table = table.with_columns(_increase(c).alias(c.name) for c in contract.channels if c.role == "counter")
    holds = {c.name: ticks for c, ticks in zip(contract.channels, hold_ticks(contract), strict=True) if ticks > 0}
    table = table.with_columns(pl.col(name).forward_fill(limit=limit).over("asset") for name, limit in holds.items())
    if contract.running:
        x, above, below = pl.col(contract.running.channel), contract.running.above, contract.running.below
        runs = pl.all_horizontal(x.is_not_null(), *([x > above] if above is not None else []), *([x < below] if below is not None else []))
        table = table.with_columns(pl.when(runs).then(pl.col(name)).alias(name) for name in contract.names)
    rounded = [pl.col(name).cast(pl.Float32) for name in contract.names]
    # a sum that float32 cannot hold is missing
    return table.select("asset", "tick", *(pl.when(r.is_finite()).then(r) for r in rounded)).collect()


def _increase(channel: Channel) -> pl.Expr:
    """A counter's increase per tick since its newest value before."""
    value = pl.col(channel.name)
    before = value.forward_fill().shift(1).over("asset")
    at = pl.when(value.is_not_null()).then(pl.col("tick")).forward_fill().shift(1).over("asset")
    change = value - before
    if channel.rollover is not None:
        change = pl.when(change < 0).then(change + channel.rollover).otherwise(change)
    return pl.when(change >= 0).then(change) / (pl.col("tick") - at)
