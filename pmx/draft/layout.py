"""Which column is what: time, asset, tag, value, quality; wide rows or long ones; assets inside tags."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from pmx.contract import DataError, shown
from pmx.draft.clock import Written, guess_time
from pmx.draft.sheet import FILE, Sheet
from pmx.draft.words import SPELLINGS, folded, has_word, words_of

TIME = ("time", "timestamp", "zeit", "zeitstempel", "datetime", "date", "datum", "ts", "uhrzeit", "datumuhrzeit")
LIFE = ("cycle", "cycles", "time", "hours", "h", "t", "zyklus", "step", "seconds", "age", "timecycles")
ASSET = (
    "asset",
    "equipment",
    "machine",
    "maschine",
    "anlage",
    "device",
    "unit",
    "motor",
    "pump",
    "pumpe",
    "engine",
    "turbine",
    "geraet",
    "aggregat",
    "station",
)
ASSET_ENDS = ("", "id", "no", "nr", "number", "nummer", "name", "key")
TAG = (
    "tag",
    "signal",
    "channel",
    "messstelle",
    "variable",
    "parameter",
    "point",
    "sensor",
    "item",
    "tagname",
    "kanal",
    "merkmal",
    "name",
    "metric",
)
VALUE = ("value", "wert", "messwert", "val", "reading", "istwert", "pv", "tagvalue")
QUALITY = ("quality", "qualitaet", "status", "statuscode", "quality_code", "qualitycode", "q", "qc", "opcquality", "guete")
UNIT = ("einheit", "unit", "eu", "engunit", "engineeringunit", "uom", "masseinheit")
LABEL = ("anomaly", "label", "isanomaly", "fault", "outlier", "anomalie", "attack")
GOOD = {"good", "gut", "ok", "valid", "normal", "io", "g", "gueltig"}
MARKS = "._-:/| "


@dataclass(frozen=True)
class Layout:
    """The columns of the readings and what they are.

    Attributes:
        long: whether each row holds one value of one tag, not all channels.
        time: the column of times; `written` how, None = a plain number in the life unit.
        hour: a column of the time of day, where `time` holds days; None = there is none.
        asset: the column that names the asset; None = it stands in the tag, in `whole`, or in the file's name.
        tag, value, quality, unit: columns of long rows.
        pattern: splits a tag into asset and signal; None = the tag is the signal.
        single: all tags belong to one asset of this name.
        signals: columns of wide rows that hold signals.
        label: column of 0/1 labels.
        unused: column -> why it is left out.
        why: part -> the reason of its guess.

    Example:
        >>> Layout(long=False, time="t", written=None, signals=("load",)).asset is None
        True
    """

    long: bool
    time: str
    written: Written | None
    hour: str | None = None
    asset: str | None = None
    tag: str | None = None
    value: str | None = None
    quality: str | None = None
    unit: str | None = None
    pattern: str | None = None
    single: str | None = None
    signals: tuple[str, ...] = ()
    label: str | None = None
    unused: dict[str, str] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)


def find_layout(sheet: Sheet, plant: str) -> Layout:
    """What each column of the readings is.

    Raises:
        DataError: no column holds times, or none holds numbers.
    """
    time, written = find_time(sheet)
    hour = find_hour(sheet) if written and written.days_only else None
    if hour:
        both = (sheet.text(time) + " " + sheet.text(hour)).drop_nulls()
        written = guess_time(both.gather_every(max(1, len(both) // 200)).to_list()) or written
    left = [c for c in sheet.columns if c not in (time, hour)]
    shares = {c: sheet.share_of_numbers(c) for c in left}
    # Columns of floats need no count, unless they are called asset: they are signals, and counting is what takes longest.
    floats = {c for c in left if sheet.frame.schema[c].is_float() and not _names_asset(c) and folded(c) not in QUALITY}
    distinct = {c: sheet.frame.height if c in floats else sheet.frame[c].n_unique() for c in left}
    quality = next((c for c in left if folded(c) in QUALITY and distinct[c] <= 40), None)
    numeric = [c for c in left if shares[c] >= 0.8 and c != quality]
    text = [c for c in left if shares[c] < 0.5 and sheet.frame[c].null_count() < sheet.frame.height and c != quality]
    tag, value = _long(sheet, [c for c in left if c != quality], numeric, text, distinct)
    if tag and value:
        return _long_layout(sheet, plant, Layout(True, time, written, hour, tag=tag, value=value, quality=quality), text, distinct)
    if not numeric:
        told = shown(", ".join(sheet.columns), 120)
        raise DataError(
            f"Cannot read {sheet.files[0]}: no column of numbers beside the time {time!r} (it has {told}) -> check separator and header"
        )
    return _wide_layout(sheet, Layout(False, time, written, hour), left, numeric, distinct)


def find_time(sheet: Sheet) -> tuple[str, Written | None]:
    """The column of times and how it is written; None = a plain number in the life unit."""
    found = []
    for place, column in enumerate(sheet.columns):
        written = guess_time(sheet.cells(column, 200))
        if written:
            named = folded(column) in TIME or has_word(column, TIME)
            found.append((named, written.format not in ("epoch_s", "epoch_ms"), -place, column, written))
    if found:
        *_, column, written = max(found, key=lambda f: f[:3])
        return column, written
    for column in sheet.columns:
        if folded(column) in LIFE and sheet.share_of_numbers(column) >= 0.9:
            return column, None
    tried = "ISO 8601, DD.MM.YYYY, MM/DD/YYYY, YYYYMMDD and their like, seconds since 1970"
    raise DataError(
        f"Cannot read {sheet.files[0]}: no column holds times (it has {shown(', '.join(sheet.columns), 120)}); tried {tried}"
        " -> write times as 2026-11-30T14:05:00Z, or call a column of plain life time `cycle` or `hours`"
    )


def find_hour(sheet: Sheet) -> str | None:
    """The column of times of day; None = there is none."""
    for column in sheet.columns:
        cells = sheet.cells(column, 100)
        if cells and sum(bool(re.fullmatch(r"[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]{1,6})?)?", c)) for c in cells) >= 0.9 * len(cells):
            return column
    return None


def _long(sheet: Sheet, left: list[str], numeric: list[str], text: list[str], distinct: dict[str, int]) -> tuple[str | None, str | None]:
    """The columns of tag and value, where the rows look long."""
    value = next((c for c in left if folded(c) in VALUE), None)
    few = [c for c in text if 2 <= distinct[c] <= max(2, min(20_000, sheet.frame.height // 3))]
    candidates = [c for c in few if not _names_asset(c) and folded(c) not in UNIT]
    named = next((c for word in TAG for c in candidates if folded(c) == word or (len(word) > 2 and word in words_of(c))), None)
    plain = [c for c in numeric if not _names_asset(c)]
    if named and not value and len(plain) == 1:
        value = plain[0]
    if value and not named and len(plain) <= 1 and candidates:
        named = max(candidates, key=lambda c: distinct[c])
    if value and not named and len(plain) <= 1:  # a plant of one signal per file, or of one tag
        named = next((c for c in text if folded(c) in TAG), None)
    return (named, value) if named and value else (None, None)


def _names_asset(column: str) -> bool:
    plain = folded(column)
    return any(plain == word + end for word in ASSET for end in ASSET_ENDS) and plain != "unit"


def _long_layout(sheet: Sheet, plant: str, so_far: Layout, text: list[str], distinct: dict[str, int]) -> Layout:
    tag, value = str(so_far.tag), str(so_far.value)
    others = [c for c in sheet.columns if c not in (so_far.time, so_far.hour, tag, value, so_far.quality)]
    unit = next((c for c in others if folded(c) in UNIT and _mostly(sheet, c, {s.lower() for s in SPELLINGS})), None)
    asset = next((c for c in others if c != unit and _names_asset(c)), None)
    pattern = single = None
    why = {"layout": f"one value a row: {shown(tag)} names the signal, {shown(value)} holds the number"}
    tags = sheet.text(tag).drop_nulls().unique().sort().to_list()
    if asset is None:
        pattern = tag_pattern(tags)
        if pattern:
            assets = {m["asset"] for t in tags if (m := re.fullmatch(pattern, t))}
            why["asset"] = f"{len(assets)} assets with like sets of signals in {len(tags)} tags"
        else:
            single = plant
            why["asset"] = "no column names assets and the tags do not split into assets with like signals: taken as one asset"
    unused = {c: "not needed by pmx" for c in others if c not in (unit, asset)}
    if unit:
        unused[unit] = "units, written into this card"
    return replace(so_far, asset=asset, unit=unit, pattern=pattern, single=single, unused=unused, why=why)


def _mostly(sheet: Sheet, column: str, known: set[str]) -> bool:
    cells = sheet.cells(column, 200)
    return not cells or sum(c.lower() in known for c in cells) >= len(cells) / 2


def tag_pattern(tags: Sequence[str]) -> str | None:
    """A pattern that splits every tag into asset and signal so that all assets have about the same signals; None = there is none.

    Example:
        >>> tag_pattern(["P1.VIB", "P1.TEMP", "P2.VIB", "P2.TEMP"])
        '^(?P<asset>[^.]+)\\\\.(?P<tag>.+)$'
    """
    best, found = 0.6, None
    for mark in MARKS:
        literal = re.escape(mark)
        for pattern in (
            rf"^(?P<asset>[^{literal}]+){literal}(?P<tag>.+)$",
            rf"^(?P<asset>.+){literal}(?P<tag>[^{literal}]+)$",
            rf"^(?P<asset>[^{literal}]+{literal}[^{literal}]+){literal}(?P<tag>.+)$",
        ):
            score = _alike(tags, pattern)
            if score > best + 1e-9:
                best, found = score, pattern.replace("[^\\.]", "[^.]")
    return found


def _alike(tags: Sequence[str], pattern: str) -> float:
    """How alike the sets of signals of the assets are, 0..1: the mean share of all signals that an asset has."""
    signals: dict[str, set[str]] = defaultdict(set)
    for tag in tags:
        if not (m := re.fullmatch(pattern, tag)):
            return 0.0
        signals[m["asset"]].add(m["tag"])
    every = set().union(*signals.values()) if signals else set()
    if len(signals) < 2 or not every:
        return 0.0
    alike = sum(len(s) for s in signals.values()) / len(signals) / len(every)
    return alike if len(every) > 1 else alike * 0.7


def _wide_layout(sheet: Sheet, so_far: Layout, left: list[str], numeric: list[str], distinct: dict[str, int]) -> Layout:
    height = sheet.frame.height
    names = [c for c in left if _names_asset(c) and distinct[c] <= max(2, height // 2)]
    low = [c for c in left if c not in numeric and 1 < distinct[c] <= height // 10 and sheet.frame[c].null_count() < height / 10]
    asset = names[0] if names else next((c for c in low if has_word(c, ("name", "tag", "ident", "id"))), None)
    why = {"layout": "a row holds all signals of a time", "asset": "header" if names else "few names that repeat"}
    if asset is None:
        why["asset"] = "no column names assets"
    unused, signals, label = {}, [], None
    for c in left:
        if c == asset:
            continue
        values = sheet.numbers(c) if c in numeric else None
        if values is None:
            empty = sheet.frame[c].null_count() == height
            unused[c] = "empty" if empty else "text, not numbers"
        elif folded(c) in LABEL and set(values.drop_nulls().unique().to_list()) <= {0.0, 1.0}:
            label = label or c
        elif folded(c) in ("changepoint",):
            unused[c] = "labels"
        elif (not c or folded(c) in ("index", "idx", "row", "id", "nr", "no", "column1", "unnamed0")) and _counts_rows(values):
            unused[c] = "numbers the rows"
        else:
            signals.append(c)
    return replace(so_far, asset=asset, signals=tuple(signals), label=label, unused=unused, why=why)


def _counts_rows(values: pl.Series) -> bool:
    steps = values.diff().drop_nulls()
    return len(steps) > 1 and (steps == 1).sum() > 0.9 * len(steps)


def good_codes(sheet: Sheet, column: str) -> tuple[list[str], str]:
    """The quality codes that count, and why; OPC's good codes are 192 to 255."""
    codes = {c: n for c, n in sheet.text(column).drop_nulls().value_counts().sort("count", column, descending=[True, False]).iter_rows()}
    good = [c for c in codes if folded(c) in GOOD or (c.isdigit() and 192 <= int(c) <= 255)]
    told = ", ".join(f"{shown(c)} {n}x" for c, n in list(codes.items())[:6])
    if good:
        return good, f"of {told}"
    if set(codes) == {"0", "1"}:
        return ["1"], f"1 = good, of {told}"
    return list(codes)[:1], f"the most frequent of {told}"


def asset_names(sheet: Sheet, layout: Layout) -> pl.Series:
    """The raw name of each row's asset, String [row]."""
    if layout.asset:
        return sheet.text(layout.asset).alias("asset")
    if layout.single:
        return pl.Series("asset", [layout.single]).new_from_index(0, sheet.frame.height)
    if layout.pattern and layout.tag:
        pairs = {t: re.fullmatch(layout.pattern, t) for t in sheet.text(layout.tag).unique().drop_nulls().to_list()}
        return (
            sheet.text(layout.tag)
            .replace_strict({t: m["asset"] for t, m in pairs.items() if m}, default=None, return_dtype=pl.String)
            .alias("asset")
        )
    return sheet.frame[FILE].alias("asset")
