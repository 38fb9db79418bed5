"""The contract's rules as Polars expressions: a whole history judged at once, with the verdicts of `pmx.contract.Checker`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from pmx.contract import BLANKS, INFINITY, MISSING, NEVER, NUMBER, TIME, Contract, DataError, Rows, Rule, UsageError
from pmx.edge.table import QUARANTINE, replacing
from pmx.judge import Breach, breaches, refusal
from pmx.source import Admitted

PLACE = ("file", "row", "asset", "time")
UTC_TIME = pl.Datetime("us", "UTC")


def admit(rows: pl.LazyFrame, contract: Contract, on_error: str = "refuse", quarantine: Path | None = None) -> Admitted:
    """Judges a history's rows by the contract.

    Args:
        rows: as in `History.rows`.
        contract: whose rules hold.
        on_error: `refuse` raises a DataError on any breach and writes nothing; `quarantine` sets the refused rows apart.
        quarantine: the Parquet file that takes them, written in that case alone; None = they are only returned.
    """
    if on_error not in ("refuse", "quarantine"):
        raise UsageError(f"on_error: {on_error!r} is neither refuse nor quarantine")
    frame = _plain_types(rows, contract).collect()
    columns = [c for c in frame.columns if c not in PLACE]
    contract.require(frame.columns, str(frame["file"][0]) if frame.height else "the rows")
    rules = contract.rules(columns)
    judged = _judge(frame, contract, columns, rules)
    refused = judged["breach"].is_not_null()
    found = breaches(contract, to_rows(frame.filter(refused), contract), rules, judged["breach"].drop_nulls().to_numpy())
    if found and on_error == "refuse":
        raise refusal(found)
    accepted = judged.filter(~refused)
    time = pl.from_epoch("time", "us").dt.replace_time_zone("UTC") if contract.clock == "calendar" else pl.col("time")
    readings = accepted.select("file", "row", "asset", time, *(pl.col(f"value {c}").alias(c) for c in contract.names))
    table = _table(found)
    if quarantine is not None and on_error == "quarantine":
        with replacing(Path(quarantine)) as part:
            table.write_parquet(part)
    return Admitted(readings, table, {"in": frame.height, "accepted": readings.height, "quarantined": table.height})


def to_rows(frame: pl.DataFrame, contract: Contract) -> Rows:
    """Raw rows as a device meets them; a missing calendar time becomes `NEVER`, a missing number NaN, missing text empty."""
    frame = _plain_types(frame.lazy(), contract).collect()
    values = {c: _array(frame[c]) for c in frame.columns if c not in PLACE}
    time = frame["time"]
    if time.dtype == pl.Datetime:
        time = time.to_physical()
    return Rows(_array(frame["asset"]), _array(time), values, _array(frame["file"]), _array(frame["row"]))


def _array(column: pl.Series) -> np.ndarray:
    # A null and a NaN mean the same to the contract, but only text can hold nothing at all.
    if column.dtype == pl.String:
        return np.array(column.fill_null("").to_list(), object)
    return column.fill_null(NEVER if column.dtype == pl.Int64 else float("nan")).to_numpy()


def _plain_types(rows: pl.LazyFrame, contract: Contract) -> pl.LazyFrame:
    """Every column as text, Float64 or, for a calendar's time, Datetime[us, UTC]."""
    casts = []
    for name, dtype in rows.collect_schema().items():
        if name == "row":
            casts.append(pl.col(name).cast(pl.Int64))
        elif name in ("file", "asset") or not (dtype.is_numeric() or dtype == pl.Boolean or isinstance(dtype, pl.Datetime)):
            casts.append(pl.col(name).cast(pl.String))
        elif name != "time":
            casts.append(pl.col(name).cast(pl.Float64))
        elif isinstance(dtype, pl.Datetime) and contract.clock == "calendar":
            utc = pl.col(name).dt.replace_time_zone("UTC") if dtype.time_zone is None else pl.col(name).dt.convert_time_zone("UTC")
            casts.append(utc.cast(UTC_TIME))
        elif dtype.is_numeric() and contract.clock == "life":
            casts.append(pl.col(name).cast(pl.Float64))
        else:
            raise DataError(f"column time is {dtype}, but the contract's clock is {contract.clock} -> correct clock, or the column")
    return rows.select(casts)


def _judge(frame: pl.DataFrame, contract: Contract, columns: list[str], rules: tuple[Rule, ...]) -> pl.DataFrame:
    """Adds `breach`, the index of the first broken rule or null, and the typed `asset`, `time` and `value <column>`."""
    typed = [pl.col("file", "row"), _plain("asset").alias("asset")]
    typed += [_is(_plain("asset"), MISSING).alias("broken asset"), *_time(frame.schema["time"], contract)]
    for c in columns:
        typed += _number(c, frame.schema[c])
    judged = frame.lazy().select(typed)
    judged = judged.with_columns(breach=pl.coalesce(pl.lit(None, pl.Int32), *(_where(rule, k) for k, rule in enumerate(rules))))
    # Refused rows never move an asset's newest time, so that one wild time stamp cannot shut out all that follow.
    newest = pl.when(pl.col("breach").is_null()).then(pl.col("time"))
    judged = judged.with_columns(newest=newest.cum_max().forward_fill().shift(1).over("asset"))
    late = {"repeated": pl.col("time") == pl.col("newest"), "earlier": pl.col("time") < pl.col("newest")}
    order = [pl.when(late[rule.test]).then(pl.lit(k, pl.Int32)) for k, rule in enumerate(rules) if rule.test in late]
    return judged.with_columns(breach=pl.coalesce("breach", *order)).collect()


def _where(rule: Rule, k: int) -> pl.Expr:
    """The rule's index where a column breaks a rule that looks at one row alone."""
    name = rule.column if rule.column in ("asset", "time") else f"value {rule.column}"
    broken = pl.col(f"broken {rule.column}")
    tests = []
    if rule.test == "present":
        tests = [broken, pl.col(name).is_not_null()]
    elif rule.test in ("broken", "outside"):
        tests += [broken] if rule.test == "broken" else []
        tests += [pl.col(name) < rule.low] if rule.low is not None else []
        tests += [pl.col(name) > rule.high] if rule.high is not None else []
    return pl.when(pl.any_horizontal(pl.lit(False), *tests)).then(pl.lit(k, pl.Int32))


def _plain(name: str) -> pl.Expr:
    return pl.col(name).fill_null("").str.strip_chars(BLANKS)


def _is(cell: pl.Expr, grammar: str) -> pl.Expr:
    return cell.str.contains(f"^(?:{grammar})$")


def _number(name: str, dtype: pl.DataType, value: str = "value ") -> list[pl.Expr]:
    """`value <name>`, Float64 with null where missing or broken, and `broken <name>`."""
    if dtype != pl.String:
        return [pl.col(name).fill_nan(None).alias(f"{value}{name}"), pl.lit(False).alias(f"broken {name}")]
    cell = _plain(name)
    known = _is(cell, f"{NUMBER}|{INFINITY}")
    number = pl.when(known).then(cell).cast(pl.Float64, strict=False)
    return [number.alias(f"{value}{name}"), (~known & ~_is(cell, MISSING)).alias(f"broken {name}")]


def _time(dtype: pl.DataType, contract: Contract) -> list[pl.Expr]:
    """`time` as Int64 microseconds or Float64 life units, null where there is none, and `broken time`."""
    if contract.clock == "life":
        time = _number("time", dtype, value="")[0]
    elif dtype == pl.String:
        time = microseconds(_plain("time"))
    else:
        time = pl.col("time").to_physical()
    return [time.alias("time"), time.is_null().alias("broken time")]


def microseconds(cell: pl.Expr) -> pl.Expr:
    """Text of a calendar time as Int64 microseconds since 1970 in UTC, null where it is none."""
    parts = cell.str.extract_groups(f"^(?:{TIME})$").struct
    day = parts.field("date").str.to_date("%Y-%m-%d", strict=False).to_physical().cast(pl.Int64)
    hour, minute = (parts.field(n).cast(pl.Int64) for n in ("hour", "minute"))
    second, zone_hour, zone_minute = (parts.field(n).cast(pl.Int64).fill_null(0) for n in ("second", "zone_hour", "zone_minute"))
    fraction = parts.field("fraction").str.pad_end(6, "0").cast(pl.Int64).fill_null(0)
    east = pl.when(parts.field("sign") == "-").then(-1).otherwise(1)
    minutes = (day * 24 + hour) * 60 + minute - east * (zone_hour * 60 + zone_minute)
    return (minutes * 60 + second) * 1_000_000 + fraction


def _table(found: tuple[Breach, ...]) -> pl.DataFrame:
    schema = {name: pl.Int64 if name == "row" else pl.String for name in QUARANTINE}
    return pl.DataFrame({name: [getattr(b, name) for b in found] for name in QUARANTINE}, schema=schema)
