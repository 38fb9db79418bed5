"""Alignment of large histories in Polars, equal to `pmx.align.Aligner` tick for tick."""

from __future__ import annotations

import polars as pl

from pmx.align import TOLERANCE, gap_message
from pmx.contract import Contract, DataError


def to_ticks(readings: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Accepted readings, in arrival order, as ticks.

    Args:
        readings: `asset`, `time` and the channels, as in `Admitted.readings`.
        contract: its tick length and its longest gap.

    Returns:
        `asset` (String), `tick` (Int64) and the channels (Float32, null = missing): every tick from an asset's first to its
        last, sorted by asset and tick.
    """
    if contract.clock == "calendar":
        tick = -((-pl.col("time").to_physical()) // contract.tick_us)
    else:
        tick = (pl.col("time") / contract.tick - TOLERANCE).ceil().cast(pl.Int64)
    # The last value is chosen in float64, as on the device, and rounded afterwards.
    last = [pl.col(c).fill_nan(None).drop_nulls().last().alias(f"value {c}") for c in contract.names]
    ticks = (
        readings.lazy()
        .with_columns(tick=tick)
        .group_by("asset", "tick")
        .agg(*last, first=pl.col("time").first(), last=pl.col("time").last())
        .sort("asset", "tick")
        .with_columns(skipped=(pl.col("tick").diff() - 1).over("asset"), before=pl.col("last").shift(1).over("asset"))
        .collect()
    )
    long = ticks.filter(pl.col("skipped") > contract.longest_gap)
    if long.height:
        asset, before, after, skipped = long.select("asset", pl.col("before", "first").to_physical(), "skipped").row(0)
        raise DataError(gap_message(contract, asset, before, after, skipped))
    every = pl.int_ranges(pl.col("tick").first(), pl.col("tick").last() + 1).first().alias("tick")
    grid = ticks.lazy().group_by("asset", maintain_order=True).agg(every).explode("tick")
    values = ticks.lazy().select("asset", "tick", *(pl.col(f"value {c}").cast(pl.Float32).alias(c) for c in contract.names))
    return grid.join(values, on=["asset", "tick"], how="left").sort("asset", "tick").collect()
