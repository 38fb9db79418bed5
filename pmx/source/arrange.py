"""Rows of exported files in the order of time: a file export has no arrival order, and local times count one hour twice a year."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from pmx.contract import Contract
from pmx.source.dialect import ISO, instants

SHUFFLED = 0.1  # share of steps against the file's own direction from which its order says nothing


@dataclass(frozen=True)
class Survey:
    """What is known of the times of a whole history before anything is judged.

    Attributes:
        times: `file`, `asset`, `channel` (Categorical; of wide rows without channel), `at` (Int64 microseconds since 1970, or
            Float64 in the life unit) and `twice` (whether a local time lies in the hour that autumn counts twice; `at` is then
            its first pass), one row for each row, in the order of the files.

    Example:
        >>> times = pl.DataFrame({"file": ["a", "a"], "asset": ["P1", "P1"], "at": [2, 1], "twice": [False, False]})
        >>> Survey(times).ordered
        False
    """

    times: pl.DataFrame

    @property
    def twice(self) -> bool:
        """Whether any time lies in autumn's hour."""
        return bool(self.times["twice"].any())

    @property
    def ordered(self) -> bool:
        """Whether each asset's rows come in the order of time already."""
        steps = self.times.lazy().filter(pl.col("at").is_not_null()).select((pl.col("at").diff() < 0).over("asset").any())
        return not steps.collect().item()

    def sequence(self) -> list[str]:
        """The columns within which the files keep the order of time best; where several do, the ones with the longest sequences."""
        ways = [["asset"], ["file", "asset"]]
        if "channel" in self.times.columns:
            ways += [["asset", "channel"], ["file", "asset", "channel"]]
        timed = self.times.lazy().filter(pl.col("at").is_not_null())
        strays = []
        for keys in ways:
            back, forth = _steps(keys, pl.col("at"), pl.col("twice"))
            counted = timed.with_columns(back.alias("back"), forth.alias("forth")).group_by(keys).agg(pl.col("back", "forth").sum())
            strays.append(counted.select(pl.min_horizontal("back", "forth").sum()).collect().item())
        return ways[strays.index(min(strays))]


def _steps(keys: list[str], at: pl.Expr, twice: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """Where a row is before, and where after the row above it; steps within autumn's hour are neither."""
    step = at.diff().over(keys)
    within = twice & twice.shift(1).over(keys).fill_null(False)
    return (step < 0) & ~within, (step > 0) & ~within


def survey(rows: pl.LazyFrame, contract: Contract) -> Survey:
    """Reads the places and times of all rows, and nothing else of them."""
    names = [n for n in ("file", "asset", "channel") if n in rows.collect_schema()]
    places = [pl.col(n).cast(pl.Categorical) for n in names]
    if contract.clock == "life":
        return Survey(rows.select(*places, _number(rows).alias("at"), pl.lit(False).alias("twice")).collect())
    early, late = _passes(rows, contract)
    return Survey(rows.select(*places, early.to_physical().alias("at"), (early != late).fill_null(False).alias("twice")).collect())


def arranged(rows: pl.LazyFrame, contract: Contract, known: Survey) -> pl.LazyFrame:
    """The rows sorted by asset and time; rows without a time come last, and equal times keep the order of the files.

    Sorted local times would mix the two passes of autumn's hour. So each sequence of a file is followed first: its hour is in
    the second pass once its times have jumped back, and from then on such times carry their zone.
    """
    if contract.clock == "life":
        return rows.with_columns(_number(rows).alias(".at")).sort("asset", ".at", nulls_last=True, maintain_order=True).drop(".at")
    early, late = _passes(rows, contract)
    timed = rows.with_columns(early.to_physical().alias(".at"), late.to_physical().alias(".late"))
    if known.twice:
        timed = _second_pass(timed, known.sequence(), contract)
    return timed.sort("asset", ".at", nulls_last=True, maintain_order=True).select(rows.collect_schema().names())


def _second_pass(timed: pl.LazyFrame, sequence: list[str], contract: Contract) -> pl.LazyFrame:
    twice = (pl.col(".at") != pl.col(".late")).fill_null(False)
    back, forth = (steps.sum().over(sequence) for steps in _steps(sequence, pl.col(".at").forward_fill().over(sequence), twice))
    timed = timed.with_row_index(".i").with_columns(
        pl.when(back > forth).then(-pl.col(".i").cast(pl.Int64)).otherwise(pl.col(".i").cast(pl.Int64)).alias(".order"),
        (pl.min_horizontal(back, forth) > SHUFFLED * (back + forth)).alias(".shuffled"),
        pl.when(twice).then(pl.col(".at") // 86_400_000_000).alias(".night"),
    )
    # Only the rows of the hour itself are looked at more closely, a handful in a year.
    hour = timed.filter(pl.col(".night").is_not_null()).sort(".order")
    night = [*sequence, ".night"]
    newest = pl.col(".at").cum_max().shift(1).over(night)
    hour = hour.with_columns((pl.col(".at") < newest - contract.late).fill_null(False).alias(".jump"))
    hour = hour.with_columns(pl.when(pl.col(".jump").cum_max().over(night)).then(".late").otherwise(".at").alias(".pass"))
    settled = hour.filter(~pl.col(".shuffled")).select(".i", ".pass")
    timed = timed.join(settled, on=".i", how="left", maintain_order="left")
    told = pl.from_epoch(pl.col(".pass"), "us").dt.strftime(ISO + "Z")
    return timed.with_columns(pl.coalesce(".pass", ".at").alias(".at"), pl.coalesce(told, "time").alias("time"))


def _passes(rows: pl.LazyFrame, contract: Contract) -> tuple[pl.Expr, pl.Expr]:
    """The times as Datetime[us, UTC], once with the first and once with the second pass of autumn's hour."""
    if rows.collect_schema()["time"] != pl.String:
        return pl.col("time"), pl.col("time")
    local, utc = instants(pl.col("time"))
    if contract.time_zone == "UTC":
        both = pl.coalesce(utc, local.dt.replace_time_zone("UTC"))
        return both, both
    zoned = [local.dt.replace_time_zone(contract.time_zone, ambiguous=a, non_existent="null") for a in ("earliest", "latest")]
    early, late = (pl.coalesce(utc, z.dt.convert_time_zone("UTC")) for z in zoned)
    return early, late


def _number(rows: pl.LazyFrame) -> pl.Expr:
    time = pl.col("time").cast(pl.Float64, strict=False)
    return pl.when(time.is_finite()).then(time)
