"""Any table of readings, with a card that says how to read it: `pmx new` drafts one.

Files are CSV, TXT, TSV or Parquet, wide or long, in the dialect that the card names; a work-order export becomes events. The
card's format is described in `pmx.source.card`.
"""

from __future__ import annotations

import difflib
import glob
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from pmx.contract import MICROSECONDS, Contract, DataError, refusal_text, shown
from pmx.source import History, Source
from pmx.source.arrange import Survey, arranged, survey
from pmx.source.card import Card, read_card
from pmx.source.dialect import EPOCHS, ISO, Sheet, blanked, iso_time, open_sheet, plain_number
from pmx.source.episodes import episode_table, no_events
from pmx.source.miniature import write_plant
from pmx.source.orders import read_export

FACTOR = 1.5  # between the sampling that a card states and the one that is measured
TRUE, FALSE = ("1", "1.0", "true", "True", "TRUE"), ("", "0", "0.0", "false", "False", "FALSE")


class Table(Source):
    """Readings and orders of any plant, as its card describes them.

    Args:
        card: the card, a YAML file.
        root: the folder of the raw files; None = the card's own.

    Example:
        >>> import tempfile
        >>> source = Table(tempfile.mkdtemp() + "/plant.yaml")
        >>> source.write_miniature(Path(source.root))
        >>> history = source.load()
        >>> history.name, history.noun, history.contract.names
        ('plant', 'pumps', ['vibration', 'temperature', 'speed', 'energy'])
    """

    terms = "those of whoever made the table"

    def __init__(self, card: str, root: str | None = None) -> None:
        self.card = card
        self.root = str(Path(card).parent) if root is None else root

    def load(self) -> History:
        card, folder = read_card(Path(self.card)), Path(self.root)
        events, notes = no_events(card.contract), []
        written = _found(folder, card.events.files, "events.files") if card.events else []
        files = [f for f in _found(folder, card.readings.files, "readings.files") if f not in written]
        sheets = [open_sheet(f, card.readings.dialect) for f in files]
        rows = _long(card, sheets) if card.readings.long else _wide(card, sheets)
        notes += [*(_unknown_tags(card, rows) if card.readings.long else []), *_unknown_columns(card, sheets)]
        rows = rows.filter(pl.col("channel").is_not_null()).drop(".tag", ".signal") if card.readings.long else rows
        known = survey(rows.drop(".label", strict=False), card.contract)
        _check_sampling(card, rows, known)
        if not known.ordered:
            rows = arranged(rows, card.contract, known)
        exports = []
        if card.events:
            exports = [open_sheet(f, card.events.dialect) for f in written]
            assets = set(known.times["asset"].cast(pl.String).unique().to_list()) - {"", None}
            events, more = read_export(exports, card.events, card.assets, assets, card.contract)
            notes += more
        digest = hashlib.sha256("".join(s.digest for s in (*sheets, *exports)).encode() + card.content.encode()).hexdigest()
        episodes = _episodes(card, rows) if card.readings.label else None
        rows = rows.drop(".label", strict=False)
        return History(card.name, card.contract, rows, events, None, digest, card.noun, episodes, notes=tuple(notes))

    def write_miniature(self, folder: Path) -> None:
        """A small messy plant, for tests: three pumps, tag changes in a German dialect, a work-order export, and their card."""
        write_plant(folder, Path(self.card).name)


def _found(folder: Path, patterns: Sequence[str], where: str) -> list[Path]:
    """The files, in the order of their names; a name is taken as it is before it is taken as a pattern."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder -> point source.root to the folder of the raw files")
    found: dict[Path, None] = {}
    for pattern in patterns:
        named = folder / pattern
        hits = [named] if named.is_file() else [Path(p) for p in sorted(glob.glob(str(named), recursive=True)) if Path(p).is_file()]
        if not hits:
            there = sorted(p.name for p in folder.iterdir() if p.is_file())
            near = difflib.get_close_matches(pattern, there, 1)
            hint = f"nearest is {near[0]!r}" if near else f"the folder holds {shown(', '.join(there), 200) or 'no file'}"
            raise DataError(f"{folder}: no file matches {pattern!r}, {hint} -> correct {where} in the card, or set source.root")
        found.update(dict.fromkeys(hits))
    return sorted(found, key=lambda p: (p.name, str(p)))


# ---- files to rows


def _long(card: Card, sheets: Sequence[Sheet]) -> pl.LazyFrame:
    """Long rows with the raw tag and the signal it names; `channel` is null where the card does not list the signal."""
    read, tags = card.readings, card.tags
    _require(sheets, {"tag": [read.tag], "value": [read.value], "quality": [read.quality]}, card)
    frames = []
    for sheet in sheets:
        tag = sheet.cell(read.tag).cast(pl.String).fill_null("")
        asset, signal = _asset(card, sheet), tag
        if tags.table:
            asset = tag.replace_strict({t: a for t, (a, _) in tags.table.items()}, default="", return_dtype=pl.String)
            signal = tag.replace({t: s for t, (_, s) in tags.table.items()})
        elif tags.pattern:
            groups = tag.str.extract_groups(tags.pattern).struct
            asset, signal = groups.field("asset").fill_null(""), pl.coalesce(groups.field("tag"), tag)
        channel = signal.replace_strict(tags.signals, default=None, return_dtype=pl.String)
        columns = [*_place(card, sheet, asset), channel.alias("channel"), _value(card, sheet, read.value).alias("value")]
        if read.quality:
            columns.append(sheet.cell(read.quality).alias("quality"))
        frames.append(sheet.rows.select(*columns, tag.alias(".tag"), signal.alias(".signal")))
    return _together(frames)


def _wide(card: Card, sheets: Sequence[Sheet]) -> pl.LazyFrame:
    signals = card.tags.signals
    _require(sheets, {"channels": list(signals), "labels.column": [card.readings.label]}, card)
    frames = []
    for sheet in sheets:
        values = [_value(card, sheet, column).alias(channel) for column, channel in signals.items()]
        label = [sheet.cell(card.readings.label).cast(pl.String).alias(".label")] if card.readings.label else []
        frames.append(sheet.rows.select(*_place(card, sheet, _asset(card, sheet)), *values, *label))
    return _together(frames)


def _require(sheets: Sequence[Sheet], columns: dict[str, list[str | None]], card: Card) -> None:
    columns = {"time": [*card.readings.time], "asset": [card.readings.asset], **columns}
    lines = []
    for sheet in sheets:
        for key, names in columns.items():
            where = key if key in ("channels", "labels.column") else f"readings.{key}"
            lines += sheet.lacking([n for n in names if n is not None], where)
        lines += sheet.hint("readings") if lines else []
    if lines:
        raise DataError(refusal_text(f"the readings of {card.name}", len(lines), [*lines[:12], *(["  ..."] if len(lines) > 12 else [])]))


def _place(card: Card, sheet: Sheet, asset: pl.Expr) -> list[pl.Expr]:
    named = asset.replace(card.assets) if card.assets else asset
    return [pl.lit(str(sheet.file)).alias("file"), pl.col("row"), named.alias("asset"), _time(card, sheet).alias("time")]


def _asset(card: Card, sheet: Sheet) -> pl.Expr:
    if card.readings.asset is None:
        return pl.lit(sheet.file.stem)
    return sheet.cell(card.readings.asset).cast(pl.String).fill_null("")


def _time(card: Card, sheet: Sheet) -> pl.Expr:
    """Text in ISO 8601 (or of a number on the life clock), Datetime[us, UTC], or Float64."""
    names, dialect, contract = card.readings.time, card.readings.dialect, card.contract
    if len(names) == 2:
        day, clock = (sheet.cell(n).cast(pl.String).fill_null("") for n in names)
        return iso_time(pl.concat_str(day, clock, separator=" ").str.strip_chars(), dialect.time_format)
    cell, dtype = sheet.cell(names[0]), sheet.rows.collect_schema()[sheet.columns[names[0]]]
    if dtype == pl.String:
        return plain_number(cell, dialect.decimal) if contract.clock == "life" else iso_time(cell, dialect.time_format)
    if dtype.is_numeric():
        return iso_time(cell.cast(pl.String), dialect.time_format) if dialect.time_format in EPOCHS else cell.cast(pl.Float64)
    if not isinstance(dtype, pl.Datetime) or contract.clock == "life":
        raise DataError(f"{sheet.file}: column {names[0]!r} is {dtype} -> correct readings.time or clock in the card")
    if dtype.time_zone is not None:
        return cell.dt.convert_time_zone("UTC").dt.cast_time_unit("us")
    local = cell.dt.cast_time_unit("us")
    return local.dt.replace_time_zone("UTC") if contract.time_zone == "UTC" else local.dt.strftime(ISO)


def _value(card: Card, sheet: Sheet, column: str) -> pl.Expr:
    """Text that the contract reads, or Float64. A line with too few or too many cells has no cell that can be trusted."""
    dialect = card.readings.dialect
    if not sheet.is_text(column):
        return sheet.cell(column).cast(pl.Float64)
    return pl.coalesce("ragged", plain_number(blanked(sheet.cell(column), dialect.missing), dialect.decimal))


def _together(frames: Sequence[pl.LazyFrame]) -> pl.LazyFrame:
    """The rows of all files; a column that is text in one of them is text in all."""
    schemas = [f.collect_schema() for f in frames]
    mixed = {name for name in schemas[0] if len({s[name] for s in schemas}) > 1}
    alike = []
    for frame, schema in zip(frames, schemas, strict=True):
        dates = [pl.col(n).dt.strftime(ISO + "Z") for n in mixed if isinstance(schema[n], pl.Datetime)]
        others = [pl.col(n).cast(pl.String) for n in mixed if not isinstance(schema[n], pl.Datetime)]
        alike.append(frame.with_columns(*dates, *others))
    return pl.concat(alike)


# ---- what the files tell beside their rows


def _unknown_tags(card: Card, rows: pl.LazyFrame) -> list[str]:
    """One note for each tag that the card does not know; a channel whose tag never occurs is refused."""
    unused, signals = card.tags.unused, card.tags.signals
    tags = rows.group_by(".tag", ".signal", "channel").agg(pl.len(), pl.col("file").first()).sort(".tag").collect()
    if not tags.height:
        raise DataError(f"{card.name}: the readings have no rows -> correct readings.files in the card, or export the files anew")
    seen = set(tags["channel"])
    strange = tags.filter(pl.col("channel").is_null() & ~pl.col(".tag").is_in(list(unused)) & ~pl.col(".signal").is_in(list(unused)))
    lines = []
    for signal, channel in signals.items():
        if channel not in seen:
            near = difflib.get_close_matches(signal, strange[".signal"].unique(maintain_order=True).to_list(), 2)
            other = shown(", ".join(strange[".signal"].unique(maintain_order=True)), 120)
            hint = (
                f"nearest is {' or '.join(map(repr, near))}" if near else f"unlisted ones are {other}" if other else "all others are listed"
            )
            lines.append(
                f"  channel {channel}: tag {signal!r} never occurs, {hint} -> correct the tag, or take the channel out of the card"
            )
    if lines:
        raise DataError(refusal_text(f"the readings of {card.name}", len(lines), lines[:12]))
    count = strange.group_by(".tag", maintain_order=True).agg(pl.col("len").sum())
    return [f"tag {shown(t)!r} is not in the card: {n:,} rows left out -> list it under channels or unused" for t, n in count.iter_rows()]


def _unknown_columns(card: Card, sheets: Sequence[Sheet]) -> list[str]:
    """One note for each column that the card does not name."""
    read = card.readings
    used = [read.tag, read.value, read.quality] if read.long else [*card.tags.signals, read.label]
    known = {*read.time, read.asset, *used, *card.tags.unused}
    count: dict[str, int] = {}
    for sheet in sheets:
        names = [n for n in sheet.columns if n not in known]
        if names:
            filled = [((sheet.cell(n) != "") if sheet.is_text(n) else sheet.cell(n).is_not_null()).sum().alias(n) for n in names]
            for name, n in sheet.rows.select(filled).collect().row(0, named=True).items():
                count[name] = count.get(name, 0) + (n or 0)
    return [f"column {shown(c)!r} is not in the card: {n:,} values left out -> list it under channels or unused" for c, n in count.items()]


def _check_sampling(card: Card, rows: pl.LazyFrame, known: Survey) -> None:
    """Refuses readings that come more often or more seldom than the card says: something has resampled them."""
    if card.sampling is None:
        return
    measured = _sampling(card.contract, rows, known)
    unit = card.contract.life_unit
    if measured is not None and not 1 / FACTOR <= measured / card.sampling <= FACTOR:
        raise DataError(
            f"Readings of {card.name} come every {measured:.4g} {unit} (median over {card.noun} and channels), the card says every "
            f"{card.sampling:g} {unit} -> correct sampling in the card if that is so, or look for what thinned out or resampled the files"
        )


def _sampling(contract: Contract, rows: pl.LazyFrame, known: Survey) -> float | None:
    """Median over assets and channels of the median distance between two readings, in the life unit; None = too few readings."""
    if "channel" in known.times.columns:
        medians = _medians(known.times, ["asset", "channel"])
    else:
        all_rows = _medians(known.times, ["asset"])
        medians = []
        filled = rows.select(_is_filled(rows, c).sum().alias(c) for c in contract.names).collect().row(0)
        for channel, count in zip(contract.names, filled, strict=True):
            if count == known.times.height:
                medians += all_rows
            else:
                there = rows.select(_is_filled(rows, channel).alias("there")).collect()["there"]
                medians += _medians(known.times.filter(there), ["asset"])
    if not medians:
        return None
    median = float(np.median(medians))
    return median / MICROSECONDS[contract.life_unit] if contract.clock == "calendar" else median


def _is_filled(rows: pl.LazyFrame, channel: str) -> pl.Expr:
    cell = pl.col(channel)
    if rows.collect_schema()[channel] == pl.String:
        return cell.fill_null("").str.to_lowercase().is_in(["", "nan", "null", "none", "na", "n/a", "#n/a"]).not_()
    return cell.is_not_null() & cell.is_not_nan()


def _medians(times: pl.DataFrame, keys: Iterable[str]) -> list[float]:
    distances = times.lazy().drop_nulls("at").group_by(*keys).agg(pl.col("at").sort().diff().alias("step"))
    distances = distances.select(pl.col("step").list.eval(pl.element().filter(pl.element() > 0)).list.median())
    return distances.collect().to_series().drop_nulls().to_list()


def _episodes(card: Card, rows: pl.LazyFrame) -> pl.DataFrame:
    """Runs of consecutive readings that are labelled 1; the fault carries the label column's name."""
    label = card.readings.label or ""
    timed = survey(rows.select("file", "asset", "time"), card.contract).times.select("at")
    read = pl.concat([rows.select("file", "row", "asset", ".label").collect(), timed], how="horizontal")
    wrong = read.filter(~pl.col(".label").fill_null("").is_in([*TRUE, *FALSE]))
    if wrong.height:
        lines = [
            f"  row {n}, asset {shown(a)}: {shown(v)!r} is no label -> 0 or 1" for n, a, v in wrong["row", "asset", ".label"].head(8).rows()
        ]
        raise DataError(refusal_text(f"column {label} of {wrong['file'][0]}", wrong.height, lines))
    read = read.drop_nulls("at").filter(pl.col("asset") != "").sort("asset", "at", maintain_order=True)
    read = read.with_columns(pl.col(".label").fill_null("").is_in(TRUE).alias("on"))
    run = pl.col("on").rle_id().over("asset").alias("run")
    runs = read.with_columns(run).filter("on").group_by("asset", "run", maintain_order=True)
    found = runs.agg(pl.col("at").first().alias("begin"), pl.col("at").last().alias("end")).drop("run")
    return episode_table(card.contract, [(*row, label) for row in found.iter_rows()])
