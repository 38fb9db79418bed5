"""Histories larger than memory: a few assets at a time, and a long asset in blocks of ticks, with what admission and alignment need
from one block to the next carried along.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from pmx.clock import LocalTimes
from pmx.contract import BLANKS, NEVER, Contract, is_long
from pmx.reading import TOLERANCE, hold_ticks
from pmx.source.admit import admit, microseconds
from pmx.source.ticks import to_ticks

BATCH = 250_000  # rows that are held at a time
TOGETHER = 2_000_000  # rows of the assets that share a partition; an asset with more has one of its own
NAME = pl.col("asset").cast(pl.String).fill_null("").str.strip_chars(BLANKS)


@dataclass(frozen=True)
class Partition:
    """Whole assets of a history, few enough to be worked on together.

    Attributes:
        name: of its folder in a store; partitions are numbered in the order of their assets' first rows.
        assets: asset -> its raw rows.
        rows: as in `History.rows`, of these assets alone.

    Example:
        >>> rows = pl.LazyFrame({"file": ["a"] * 3, "row": [1, 2, 3], "asset": ["P1", "P1", "P2"], "time": [1.0, 2.0, 1.0]})
        >>> [(p.name, p.assets) for p in partitions(rows, together=2)]
        [('00000', {'P1': 2}), ('00001', {'P2': 1})]
    """

    name: str
    assets: dict[str, int]
    rows: pl.LazyFrame


def partitions(rows: pl.LazyFrame, shelf: Path | None = None, together: int = TOGETHER) -> list[Partition]:
    """Whole assets together, up to `together` rows, in the order of their first rows; reads the assets' names once.

    Where the rows of an asset follow each other, a partition is a slice of the rows: nothing is copied. Where assets alternate, as in
    exports that are ordered by time, a second pass copies the rows to one folder of Parquet files a partition.

    Args:
        shelf: the folder that takes the copy, and may hold it already; None = each partition filters all rows anew.
    """
    assets, apart = _runs(rows)
    groups: list[dict[str, int]] = []
    for asset, count in assets.items():
        if not groups or sum(groups[-1].values()) + count > together:
            groups.append({})
        groups[-1][asset] = count
    if apart:
        begins = [0]
        for group in groups:
            begins.append(begins[-1] + sum(group.values()))
        return [Partition(f"{i:05}", g, rows.slice(begins[i], begins[i + 1] - begins[i])) for i, g in enumerate(groups)]
    if shelf is None or len(groups) < 2:
        return [Partition(f"{i:05}", g, rows.filter(NAME.is_in(list(g)))) for i, g in enumerate(groups)]
    if not shelf.is_dir():
        _copy(rows, groups, shelf)
    return [Partition(f"{i:05}", g, pl.scan_parquet(sorted((shelf / f"{i:05}").glob("*.parquet")))) for i, g in enumerate(groups)]


def _runs(rows: pl.LazyFrame) -> tuple[dict[str, int], bool]:
    """The rows of each asset, and whether each asset's rows follow each other."""
    count: dict[str, int] = {}
    apart, last = True, None
    for batch in rows.select(NAME).collect_batches(chunk_size=4 * BATCH, maintain_order=True):
        if apart:
            runs = batch["asset"].rle().struct.unnest()
            for length, asset in runs.iter_rows():
                apart = apart and (asset == last or asset not in count)
                count[asset], last = count.get(asset, 0) + length, asset
        else:
            for asset, length in batch["asset"].value_counts(sort=False).iter_rows():
                count[asset] = count.get(asset, 0) + length
    return count, apart


def _copy(rows: pl.LazyFrame, groups: list[dict[str, int]], shelf: Path) -> None:
    """One pass over all rows; the shelf appears once it is complete."""
    part = shelf.with_name(f".{shelf.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    home = {asset: f"{i:05}" for i, group in enumerate(groups) for asset in group}
    for name in set(home.values()):
        (part / name).mkdir(parents=True)
    names, homes = list(home), list(home.values())
    for i, batch in enumerate(rows.collect_batches(chunk_size=2 * BATCH, maintain_order=True)):
        marked = batch.with_columns(NAME.replace_strict(names, homes, return_dtype=pl.String).alias(".home"))
        for (name,), own in marked.partition_by(".home", include_key=False, as_dict=True).items():
            own.write_parquet(part / str(name) / f"{i:06}.parquet", compression="lz4")
    part.replace(shelf)


def tick_blocks(
    rows: pl.LazyFrame, contract: Contract, on_error: str = "refuse", batch: int = BATCH, refused: list[pl.DataFrame] | None = None
) -> Iterator[pl.DataFrame]:
    """The ticks that `to_ticks` makes of all accepted rows, in blocks: an asset's ticks in a block follow those in the blocks before.

    Args:
        rows: as in `History.rows`. Long rows, with one value each, are taken in one block.
        batch: rows that are judged at a time, beside those carried over.
        refused: where the rows and values that were set apart are added, as in `Admitted.quarantine`.

    Yields:
        `asset` (String), `tick` (Int64) and the channels (Float32), sorted by asset and tick.
    """
    if is_long(rows.collect_schema().names()):
        whole = admit(rows, contract, on_error)
        if refused is not None:
            refused.append(whole.quarantine)
        if whole.counts["accepted"]:
            yield to_ticks(whole.readings, contract)
        return
    carried, sent = pl.DataFrame(), pl.DataFrame(schema={"asset": pl.String, "sent": pl.Int64})
    zone = LocalTimes(contract)
    for frame in rows.collect_batches(chunk_size=batch, maintain_order=True):
        frame = _in_utc(frame, zone, contract)
        frame = pl.concat([carried, frame]) if carried.height else frame
        admitted = admit(frame.lazy(), contract, on_error)
        if refused is not None and admitted.quarantine.height:
            refused.append(admitted.quarantine)
        if not admitted.counts["accepted"]:
            continue
        if admitted.quarantine.height:
            frame = _sound(frame, admitted.quarantine)
        readings = admitted.readings.with_columns(_tick(pl.col("time"), contract).alias(".tick"))
        reach = _reach(readings, contract)
        yield from _between(readings, contract, sent, reach)
        sent = _newest(sent, reach)
        needed = readings.select("file", "row", "asset", ".tick").join(reach, on="asset", how="left", maintain_order="left")
        needed = needed.filter(pl.col(".tick") >= pl.col("back")).select("file", "row")
        carried = frame.join(needed, on=["file", "row"], how="semi", maintain_order="left")
    if carried.height:
        rest = admit(carried.lazy(), contract, on_error).readings.with_columns(pl.lit(None, pl.Int64).alias(".tick"))
        yield from _between(rest, contract, sent, None)


def _in_utc(frame: pl.DataFrame, zone: LocalTimes, contract: Contract) -> pl.DataFrame:
    """The same rows with local times told in UTC: read again with a later block, the second pass of autumn's hour would be the first."""
    if contract.clock != "calendar" or contract.time_zone == "UTC" or frame.schema["time"] != pl.String:
        return frame
    cell = pl.col("time").fill_null("").str.strip_chars(BLANKS)
    local = ~cell.str.contains("(?:Z|[+-][0-9]{2}:[0-9]{2})$")
    read = frame.select(asset=NAME, at=microseconds(cell).fill_null(NEVER), local=local)
    utc, passes = zone.utc(read["asset"].to_numpy(), read["at"].to_numpy(), read["local"].to_numpy())
    zone.passes |= passes
    text = pl.from_epoch(pl.Series(utc), "us").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
    return frame.with_columns(pl.when(pl.Series(utc != NEVER)).then(text).otherwise("time").alias("time"))


def _sound(frame: pl.DataFrame, quarantine: pl.DataFrame) -> pl.DataFrame:
    """Rows that were not refused, with values that were set apart missing, so that nothing is set apart twice."""
    key = ["file", "row", ".asset"]  # sources that cut a line into assets give them its number
    quarantine = quarantine.rename({"asset": ".asset"})
    frame = frame.with_columns(NAME.alias(".asset"))
    frame = frame.join(quarantine.filter(pl.col("lost") == "row"), on=key, how="anti", maintain_order="left")
    for (channel,), own in quarantine.filter(pl.col("lost") == "value").group_by(["channel"]):
        gap = own.select(*key, pl.lit(True).alias(".gap"))
        frame = frame.join(gap, on=key, how="left", maintain_order="left")
        frame = frame.with_columns(pl.when(pl.col(".gap").is_null()).then(pl.col(str(channel)))).drop(".gap")
    return frame.drop(".asset")


def _tick(time: pl.Expr, contract: Contract) -> pl.Expr:
    """The tick that a time falls into, as in `to_ticks`."""
    if contract.clock == "calendar":
        return -((-time.to_physical()) // contract.tick_us)
    return (time / contract.tick - TOLERANCE).ceil().cast(pl.Int64)


def _reach(readings: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Per asset `open`, the first tick that a later row may still change, and `back`, the oldest one whose readings count for that.

    A held value reaches as far as its hold; a counter's increase reaches back to its last value, however old; the last reading before
    says where a gap began.
    """
    late = pl.duration(microseconds=int(contract.late)) if contract.clock == "calendar" else pl.lit(contract.late)
    newest = readings.lazy().group_by("asset").agg((pl.col("time").max() - late).alias("time"))
    opened = newest.select("asset", _tick(pl.col("time"), contract).alias("open"))
    base = pl.col("open") - max([0, *(int(h) for h in hold_ticks(contract))])
    before = pl.col(".tick").filter(pl.col(".tick") < base)
    counters = [c.name for c in contract.channels if c.role == "counter"]
    values = [
        pl.col(".tick").filter((pl.col(".tick") < base) & pl.col(c).is_not_null()).max().alias(f".{i}") for i, c in enumerate(counters)
    ]
    columns = readings.lazy().select("asset", ".tick", *counters).join(opened, on="asset", how="left")
    found = columns.group_by("asset").agg(pl.col("open").first(), base.first().alias(".base"), before.max().alias(".last"), *values)
    return found.select(
        "asset", "open", pl.min_horizontal(".base", ".last", *(f".{i}" for i in range(len(counters)))).alias("back")
    ).collect()


def _between(readings: pl.DataFrame, contract: Contract, sent: pl.DataFrame, reach: pl.DataFrame | None) -> Iterator[pl.DataFrame]:
    """The ticks after those that were sent, and before those that are open; all of them at the end."""
    ticks = to_ticks(readings.drop(".tick"), contract).join(sent, on="asset", how="left", maintain_order="left")
    new = pl.col("sent").is_null() | (pl.col("tick") > pl.col("sent"))
    if reach is not None:
        ticks = ticks.join(reach, on="asset", how="left", maintain_order="left")
        new = new & (pl.col("tick") < pl.col("open"))
    ticks = ticks.filter(new).select("asset", "tick", *contract.names)
    if ticks.height:
        yield ticks


def _newest(sent: pl.DataFrame, reach: pl.DataFrame) -> pl.DataFrame:
    """The last tick of each asset that was sent, or that no row can fall into any more."""
    now = reach.select("asset", (pl.col("open") - 1).alias("sent"))
    return pl.concat([sent, now]).group_by("asset").agg(pl.col("sent").max())
