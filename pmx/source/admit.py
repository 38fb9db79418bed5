"""The contract's rules as Polars expressions: a whole history judged at once, with the verdicts of `pmx.judge.Checker`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from pmx.apart import Apart
from pmx.clock import LocalTimes
from pmx.contract import BLANKS, CUT, INFINITY, MISSING, NEVER, NUMBER, TIME, Contract, DataError, Rows, UsageError, is_long, refusal_text
from pmx.edge.table import QUARANTINE, replacing
from pmx.judge import ORDER, Breach, breaches, refusal
from pmx.rule import Rule, rules
from pmx.source import LEAST_VALUES, Admitted
from pmx.unit import looks_like

PLACE = ("file", "row", "asset", "time")
UTC_TIME = pl.Datetime("us", "UTC")
MOST, SOME = 0.5, 0.05  # shares of a channel beyond its range: no blemish in any case, or where another unit explains them


def admit(rows: pl.LazyFrame, contract: Contract, on_error: str = "refuse", quarantine: Path | None = None) -> Admitted:
    """Judges a history's rows by the contract.

    Args:
        rows: as in `History.rows`; long where it has the columns `channel` and `value`.
        contract: whose rules hold.
        on_error: `refuse` raises a DataError on any breach and writes nothing; `quarantine` sets refused rows apart, and of wide
            rows with another value the broken values alone, but raises one where a channel as a whole lies beyond its range.
        quarantine: the Parquet file that takes them, written in that case alone; None = they are only returned.
    """
    if on_error not in ("refuse", "quarantine"):
        raise UsageError(f"on_error: {on_error!r} is neither refuse nor quarantine")
    given = rows.collect_schema().names()
    frame = _plain_types(rows, contract).collect()
    columns = [c for c in frame.columns if c not in PLACE]
    file = str(frame["file"][0]) if frame.height else "the rows"
    contract.require(given, file)
    own = rules(contract, columns)
    judged = _Judged.of(frame, contract, own)
    row, rule, alone = judged.apart.listed(judged.first)
    at, row = np.unique(row, return_inverse=True)
    found = breaches(contract, to_rows(frame[at], contract), own, row, rule, alone)
    if found and on_error == "refuse":
        raise refusal(found, judged.beyond)
    if judged.beyond:
        raise DataError(refusal_text(file, len(judged.beyond), judged.beyond))
    table = _table(found)
    cells, refused = int(alone.sum()), int((judged.first >= 0).sum())
    counts = {"in": frame.height, "accepted": frame.height - refused, "quarantined": refused, "cells": cells}
    readings = (_from_long if is_long(columns) else _from_wide)(frame, judged, contract)
    if contract.lateness:
        readings = readings.sort("asset", "time", maintain_order=True)
    if contract.clock == "calendar":
        readings = readings.with_columns(pl.from_epoch("time", "us").dt.replace_time_zone("UTC"))
    if quarantine is not None and on_error == "quarantine":
        with replacing(Path(quarantine)) as part:
            table.write_parquet(part)
    return Admitted(readings, table, counts, contract.ignored(given))


def to_rows(frame: pl.DataFrame, contract: Contract) -> Rows:
    """Raw rows as a device meets them; a missing calendar time becomes `NEVER`, a missing number NaN, missing text empty."""
    frame = _plain_types(frame.lazy(), contract).collect()
    arrays = {c: _array(frame[c]) for c in frame.columns if c != "time"}
    time = frame["time"]
    if time.dtype == pl.Datetime:
        time = time.to_physical()
    asset, file, row = (arrays.pop(c) for c in ("asset", "file", "row"))
    long = is_long(arrays)
    channel, quality = (arrays.pop(c, None) if long else None for c in ("channel", "quality"))
    return Rows(asset, _array(time), arrays, file, row, channel, quality)


def _array(column: pl.Series) -> np.ndarray:
    # A null and a NaN mean the same to the contract, but only text can hold nothing at all.
    if column.dtype == pl.String:
        return np.array(column.fill_null("").to_list(), object)
    return column.fill_null(NEVER if column.dtype == pl.Int64 else float("nan")).to_numpy()


def _plain_types(rows: pl.LazyFrame, contract: Contract) -> pl.LazyFrame:
    """Every column that counts as text, Float64 or, for a calendar's time, Datetime[us, UTC]."""
    schema = rows.collect_schema()
    casts, text = [], ["file", "asset", *(["channel", "quality"] if is_long(schema.names()) else [])]
    ignored = contract.ignored(schema.names())
    for name, dtype in schema.items():
        if name in ignored:
            continue
        if name == "row":
            casts.append(pl.col(name).cast(pl.Int64))
        elif name == "quality" and name in text and dtype.is_float():  # code 192 must not become 192.0
            whole = pl.col(name) == pl.col(name).round()
            casts.append(
                pl.when(whole).then(pl.col(name).cast(pl.Int64, strict=False).cast(pl.String)).otherwise(pl.col(name).cast(pl.String))
            )
        elif name in text or not (dtype.is_numeric() or dtype == pl.Boolean or isinstance(dtype, pl.Datetime)):
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


@dataclass
class _Judged:
    """A frame's rows after the rules.

    Attributes:
        asset: String, stripped.
        time: Int64 microseconds or Float64 life units, null where there is none.
        values: column -> Float64, null or NaN where missing.
        broken: text column -> where it is no number, bool [row].
        channel: of long rows the index of the channel, int [row], -1 = not listed; None = wide rows.
        first: index of the first broken rule, int [row], -1 = accepted.
        apart: of wide rows the broken values.
        beyond: what there is to say of channels that lie beyond their range as a whole.
    """

    asset: pl.Series
    time: pl.Series
    values: dict[str, pl.Series]
    broken: dict[str, np.ndarray]
    channel: np.ndarray | None
    first: np.ndarray
    apart: Apart
    beyond: list[str]

    @classmethod
    def of(cls, frame: pl.DataFrame, contract: Contract, own: tuple[Rule, ...]) -> _Judged:
        long = is_long(frame.columns)
        asset = frame.select(_plain("asset")).to_series()
        values, broken = {}, {}
        for name in ["value"] if long else [c for c in frame.columns if c not in PLACE]:
            values[name], broken[name] = _number(frame, name)
        channel = None
        if long:
            index = _plain("channel").replace_strict(contract.names, list(range(len(contract.names))), default=-1, return_dtype=pl.Int32)
            channel = frame.select(index).to_series().to_numpy()
        first, apart = np.full(frame.height, -1, np.int32), Apart(own)
        judged = cls(asset, _time(frame, asset, contract), values, broken, channel, first, apart, [])
        for k, rule in enumerate(own):
            if rule.test not in ORDER:
                where = judged._breaks(rule, frame, contract)
                if channel is None and rule.of_value:
                    apart.add(k, where & (first < 0))
                else:
                    judged._mark(k, where)
        apart.settle(first, lambda c, at: values[c].gather(at).to_numpy(), lambda c, at: (frame[c].gather(at) == CUT).to_numpy())
        judged._judge_order(contract, own)
        for rule in own:
            if rule.name == "out_of_range":
                judged._judge_range(rule, contract)
        return judged

    def _mark(self, k: int, where: np.ndarray) -> None:
        self.first[where & (self.first < 0)] = k

    def _breaks(self, rule: Rule, frame: pl.DataFrame, contract: Contract) -> np.ndarray:
        """Where rows break a rule that looks at one row alone, bool [row]."""
        if rule.test == "unlisted" and self.channel is not None:
            return self.channel < 0
        if rule.test == "bad":
            good = _plain("quality").is_in(list(contract.good)) if "quality" in frame.columns else pl.lit(True)
            return ~frame.select(good.alias("good")).to_series().to_numpy() if "quality" in frame.columns else np.zeros(frame.height, bool)
        if rule.column == "asset":
            return frame.select(_is(_plain("asset"), MISSING)).to_series().to_numpy()
        if rule.column == "time":
            return _outside(rule, self.time) | self.time.is_null().to_numpy()
        if self.channel is None:
            return self._breaks_value(rule, rule.column)
        mine = self.channel == contract.names.index(rule.column)
        return mine & self._breaks_value(rule, "value")

    def _breaks_value(self, rule: Rule, column: str) -> np.ndarray:
        values = self.values[column]
        if rule.test == "present":
            return self.broken[column] | (values.is_not_null() & values.is_not_nan().fill_null(False)).to_numpy()
        return self.broken[column] if rule.test == "broken" else _outside(rule, values)

    def _judge_order(self, contract: Contract, own: tuple[Rule, ...]) -> None:
        """Marks the rows that come too late or twice. Refused rows never move an asset's newest time: one wild time stamp would
        shut out all that follow.
        """
        repeated, earlier = ([r.test for r in own].index(test) for test in ORDER)
        rows = pl.DataFrame({"asset": self.asset, "time": self.time, "sound": self.first < 0}).lazy()
        newest = pl.when("sound").then("time").cum_max().forward_fill().shift(1).over("asset")
        rows = rows.with_columns(newest=newest)
        late = (pl.col("time") < pl.col("newest") - contract.late).fill_null(False)
        if not contract.lateness and self.channel is None:
            again = (pl.col("time") == pl.col("newest")).fill_null(False)
            found = rows.select(late.alias("late"), again.alias("again")).collect()
            self._mark(earlier, found["late"].to_numpy())
            self._mark(repeated, found["again"].to_numpy())
            return
        self._mark(earlier, rows.select(late).collect().to_series().to_numpy())
        sound = np.flatnonzero(self.first < 0)
        keys = {"asset": self.asset[sound], "time": self.time[sound]} | ({} if self.channel is None else {"channel": self.channel[sound]})
        distinct = pl.DataFrame(keys).select(pl.struct(*keys).is_first_distinct()).to_series().to_numpy()
        self.first[sound[~distinct]] = repeated

    def _judge_range(self, rule: Rule, contract: Contract) -> None:
        """Says so where too much of a channel lies beyond its range."""
        at = contract.names.index(rule.column)
        values = self.values[rule.column] if self.channel is None else self.values["value"].filter(pl.Series(self.channel == at))
        if not values.len():
            return
        there = values.drop_nulls().drop_nans().to_numpy()
        outside = (there < (-np.inf if rule.low is None else rule.low)) | (there > (np.inf if rule.high is None else rule.high))
        share = float(outside.mean()) if len(there) >= LEAST_VALUES else 0.0
        if share < SOME:
            return
        unit, most = contract.channels[at].unit, share > MOST
        others = looks_like(unit, there[outside], rule.low, rule.high, None if most else there[~outside])
        if most or others:
            says = f"; they look like {' or '.join(others[:2])}, not {unit}" if others else ""
            how = "convert them, or correct the channel's unit and range"
            self.beyond.append(
                f"  channel {rule.column}: {share:.1%} of {len(there):,} values each {rule.why.removeprefix('is ')}{says} -> {how}"
            )


def _outside(rule: Rule, values: pl.Series) -> np.ndarray:
    """Where values lie outside a rule's limits, bool [row]; NaN and null do not."""
    x = values.to_numpy() if values.dtype == pl.Float64 else values.fill_null(0).to_numpy()
    found = np.zeros(len(x), bool)
    if rule.low is not None:
        found |= x < rule.low
    if rule.high is not None:
        found |= x > rule.high
    return found


def _from_wide(frame: pl.DataFrame, judged: _Judged, contract: Contract) -> pl.DataFrame:
    values = [judged.values[c] for c in contract.names]
    gaps: dict[str, list[np.ndarray]] = {}
    for name, at in judged.apart.kept(judged.first):
        gaps.setdefault(name, []).append(at)
    for k, name in enumerate(contract.names):
        if name in gaps:
            gap = np.zeros(frame.height, bool)
            gap[np.concatenate(gaps[name])] = True
            values[k] = values[k].set(pl.Series(gap), None)
    values = [(v.fill_nan(None) if v.is_nan().any() else v).alias(c) for c, v in zip(contract.names, values, strict=True)]
    readings = pl.DataFrame([frame["file"], frame["row"], judged.asset, judged.time.alias("time"), *values])
    return readings if (judged.first < 0).all() else readings.filter(pl.Series(judged.first < 0))


def _from_long(frame: pl.DataFrame, judged: _Judged, contract: Contract) -> pl.DataFrame:
    """One wide row for the long rows of one asset and time, where the first of them stood."""
    sound = np.flatnonzero(judged.first < 0)
    rows = pl.DataFrame([frame["file"], frame["row"], judged.asset, judged.time.alias("time")])[sound]
    wide = rows.group_by("asset", "time", maintain_order=True).agg(pl.col("file", "row").first()).with_row_index("at")
    keys = rows.select("asset", "time").join(wide.select("asset", "time", "at"), on=["asset", "time"], how="left", maintain_order="left")
    at, channel = keys["at"].to_numpy(), judged.channel[sound] if judged.channel is not None else np.empty(0, np.int32)
    value, columns = judged.values["value"].to_numpy()[sound], []
    for k, name in enumerate(contract.names):
        mine = channel == k
        column = np.full(wide.height, np.nan)
        column[at[mine]] = value[mine]
        columns.append(pl.Series(name, column).fill_nan(None))
    return wide.select("file", "row", "asset", "time").hstack(columns)


def _plain(name: str) -> pl.Expr:
    return pl.col(name).fill_null("").str.strip_chars(BLANKS)


def _is(cell: pl.Expr, grammar: str) -> pl.Expr:
    return cell.str.contains(f"^(?:{grammar})$")


def _number(frame: pl.DataFrame, name: str) -> tuple[pl.Series, np.ndarray]:
    """A column's numbers, Float64 with null or NaN where missing or broken, and where the text is no number, bool [row]."""
    if frame.schema[name] != pl.String:
        return frame[name], np.zeros(frame.height, bool)
    cell = _plain(name)
    known = _is(cell, f"{NUMBER}|{INFINITY}")
    number = pl.when(known).then(cell).cast(pl.Float64, strict=False)
    read = frame.select(number.alias("value"), (~known & ~_is(cell, MISSING)).alias("broken"))
    return read["value"], read["broken"].to_numpy()


def _time(frame: pl.DataFrame, asset: pl.Series, contract: Contract) -> pl.Series:
    """Int64 microseconds or Float64 life units, null where there is none."""
    if contract.clock == "life":
        return _number(frame, "time")[0].fill_nan(None)
    if frame.schema["time"] != pl.String:
        return frame["time"].to_physical()
    cell = _plain("time")
    time = frame.select(microseconds(cell)).to_series()
    if contract.time_zone == "UTC":
        return time
    local = frame.select(~cell.str.contains("(?:Z|[+-][0-9]{2}:[0-9]{2})$")).to_series().to_numpy()
    utc, _ = LocalTimes(contract).utc(np.array(asset.to_list(), object), time.fill_null(NEVER).to_numpy(), local)
    return pl.Series("time", utc).replace(NEVER, None)


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
