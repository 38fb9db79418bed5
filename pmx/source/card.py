"""The card of a table: which columns of which files are asset, time and channels, and which orders are events.

A card is YAML. Every plain word in it is text until its place says that it is a number, so that `NO`, `0815` and `12:30` stay
what they are. All mistakes are told at once, each with its line and the nearest valid name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import yaml

from pmx.contract import ALIGNS, ROLES, Channel, Contract, Running, UsageError, shown
from pmx.source.dialect import SEPARATORS, Dialect, reads_times
from pmx.source.part import Part, near, plain

KINDS = ("failure", "replacement", "inspection", "no_fault_found", "commissioning", "ignore")
MOST = 20  # mistakes that are shown

Columns = tuple[tuple[str, ...], ...]
"""Alternatives, the first that is filled in counts; each is one column, or a column of dates and one of times of day."""


@dataclass(frozen=True)
class Readings:
    """Where the readings stand.

    Attributes:
        files: names or glob patterns, relative to the folder of the raw files.
        dialect: how the text files are written.
        layout: `wide` (a column per channel) or `long` (a row per value, with a tag).
        time: the column of times, or a column of dates and one of times of day.
        asset: the column that names the asset; None = the tag or the file does.
        asset_from_file: whether the file's name without its ending is the asset.
        tag, value, quality: the columns of long files.
        label: the column of 0/1 labels of anomalous readings, in wide files; None = nobody labelled them.

    Example:
        >>> Readings(("*.csv",), Dialect(), "wide", ("time",), "asset").quality is None
        True
    """

    files: tuple[str, ...]
    dialect: Dialect
    layout: str
    time: tuple[str, ...]
    asset: str | None = None
    asset_from_file: bool = False
    tag: str = ""
    value: str = ""
    quality: str | None = None
    label: str | None = None

    @property
    def long(self) -> bool:
        return self.layout == "long"


@dataclass(frozen=True)
class Tags:
    """How a tag (or, of wide files, a column) leads to a channel, and perhaps to an asset.

    Attributes:
        signals: signal as the files name it -> channel.
        unused: tags, signals or columns that are known and left out.
        table: tag -> (asset, signal), where a tag names both.
        pattern: a regular expression with the groups `asset` and `tag`, for the same; None = tags are signals.

    Example:
        >>> Tags({"VIB_DE": "vibration"}).pattern is None
        True
    """

    signals: dict[str, str]
    unused: frozenset[str] = frozenset()
    table: dict[str, tuple[str, str]] = field(default_factory=dict)
    pattern: str | None = None


@dataclass(frozen=True)
class Orders:
    """Where the orders stand, and what they mean.

    Attributes:
        files, dialect: as in `Readings`.
        asset: columns; the first that leads to an asset counts.
        time: when it happened.
        known_at: when it was written down; empty = when it happened.
        kind: columns whose values are looked up in `kinds`; the first hit counts.
        kinds: value -> kind of event, or `ignore`.
        assets: raw names in the orders -> asset, beside the card's own.
        unmatched: `refuse` or `list` orders that match no asset.
        skip: a column and the values (or words in it) that make an order void; None = all count.

    Example:
        >>> Orders(("orders.csv",), Dialect(), ("Equipment",), (("Datum",),), (), ("Art",), {"M2": "failure"}).unmatched
        'refuse'
    """

    files: tuple[str, ...]
    dialect: Dialect
    asset: tuple[str, ...]
    time: Columns
    known_at: Columns
    kind: tuple[str, ...]
    kinds: dict[str, str]
    assets: dict[str, str] = field(default_factory=dict)
    unmatched: str = "refuse"
    skip: tuple[str, frozenset[str]] | None = None


@dataclass(frozen=True)
class Card:
    """A table's card, read and checked.

    Attributes:
        name: of the data set.
        noun: what the assets are, in the plural.
        contract: what readings must look like.
        sampling: median distance between two readings of a channel, in the life unit; None = not checked.
        readings, tags, events: where things stand; events None = there are none.
        assets: raw name -> asset; a name that is not listed stays as it is.
        content: everything the card says, without comments and layout, for the digest.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "pumps.yaml"
        >>> _ = file.write_text('''{life_unit: h, tick: 1, readings: {files: a.csv, layout: wide, asset: pump, time: when},
        ...                        channels: {load: {unit: kW}}}''')
        >>> card = read_card(file)
        >>> card.name, card.contract.names, card.readings.asset
        ('pumps', ['load'], 'pump')
    """

    name: str
    noun: str
    contract: Contract
    sampling: float | None
    readings: Readings
    tags: Tags
    assets: dict[str, str]
    events: Orders | None
    content: str


def read_card(file: Path) -> Card:
    """Reads a card.

    Raises:
        UsageError: there is no such file, it is not YAML, or it has mistakes; all of them are told.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
        _refuse_aliases(file, text)
        node = yaml.compose(text, Loader=yaml.BaseLoader)
    except OSError as error:
        others = [str(p) for p in sorted(file.parent.glob("*.yaml"))[:8]] if file.parent.is_dir() else []
        there = f"there are {', '.join(others)}" if others else f"no card is in {file.parent}"
        raise UsageError(
            f"Card {file}: {error.strerror or error}; {there} -> set source.card, or draft one: pmx new NAME --readings FILES"
        ) from None
    except UnicodeDecodeError as error:
        raise UsageError(f"Card {file}: byte {error.start} is not UTF-8 -> save the card as UTF-8") from None
    except RecursionError:
        raise UsageError(f"Card {file}: too many brackets within each other -> this is no card of pmx") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise UsageError(f"Card {file}{where}: not valid YAML, {getattr(error, 'problem', None) or error} -> correct it") from None
    problems: list[str] = []
    card = _card(file.stem, Part(node, "", problems), repr(plain(node)))
    if problems or card is None:
        more = [f"... and {len(problems) - MOST} more"] if len(problems) > MOST else []
        count = f"{len(problems)} mistake{'s' * (len(problems) != 1)}"
        raise UsageError("\n  ".join([f"Cannot read the card {file}: {count}, no data was read", *problems[:MOST], *more]))
    return card


def _refuse_aliases(file: Path, text: str) -> None:
    """A few lines of references to references would fill the memory."""
    for token in yaml.scan(text, Loader=yaml.BaseLoader):
        if isinstance(token, yaml.AnchorToken | yaml.AliasToken):
            line = token.start_mark.line + 1
            raise UsageError(
                f"Card {file}, line {line}: anchors (&) and references (*) are not read in a card -> write it out, or quote the text"
            )


def _card(stem: str, part: Part, content: str) -> Card | None:
    name, noun = part.text("name", stem), part.text("noun", "assets")
    sampling = part.number("sampling")
    where = part.part("readings", needed=True)
    good = where.texts("good")
    readings = _readings(where, part.part("labels"))
    channels, signals = _channels(part.part("channels", needed=True))
    tags = _tags(part, signals, readings)
    contract = _contract(part, channels, good)
    events = _events(part.part("events")) if part.take("events") is not None else None
    assets = part.words("assets")
    part.close()
    return Card(name, noun, contract, sampling, readings, tags, assets, events, content) if contract else None


def _contract(part: Part, channels: tuple[Channel, ...], good: tuple[str, ...]) -> Contract | None:
    clock = part.choice("clock", ("calendar", "life"), "calendar")
    unit = part.text("life_unit", needed=True)
    tick, lateness, gap = part.number("tick", 1.0, needed=True), part.number("lateness", 0.0), part.number("longest_gap", 100_000.0)
    zone = part.text("time_zone", "UTC")
    running = part.part("running")
    channel, above, below = running.text("channel", needed=bool(running.cells)), running.number("above"), running.number("below")
    running.close()
    try:
        on = Running(channel, above, below) if channel else None
        return Contract(channels, unit or "h", clock, tick or 0.0, int(gap or 0), zone, lateness or 0.0, on, good)
    except UsageError as error:
        part.wrong("", str(error))
        return None


def _channels(part: Part) -> tuple[tuple[Channel, ...], dict[str, str]]:
    channels: list[Channel] = []
    signals: dict[str, str] = {}
    for name in part.cells:
        cell = part.part(name)
        tag = cell.text("tag", name)
        if tag in signals:
            cell.wrong("tag", f"{tag!r} is channel {signals[tag]} already -> one channel for each tag")
        signals[tag] = name
        unit, role, align = cell.text("unit", "-"), cell.choice("role", ROLES, "measurement"), cell.choice("align", ALIGNS, "last")
        low, high, hold, rollover = (cell.number(k) for k in ("low", "high", "hold", "rollover"))
        cell.close()
        if low is not None and high is not None and low > high:
            cell.wrong("low", f"{low:g} is above high {high:g} -> swap them")
        try:
            channels.append(Channel(name, unit, role, low, high, align, hold or 0.0, rollover))
        except UsageError as error:
            cell.wrong("", str(error))
    if part.node is not None and not part.cells:
        part.wrong("", "names no channel -> such as vibration: {tag: VIB_DE, unit: mm/s}")
    return tuple(channels), signals


def _dialect(part: Part) -> Dialect:
    separator, names = part.text("separator", ","), {"\\t": "\t"} | {name: sign for sign, name in SEPARATORS.items()}
    separator = names.get(separator, separator)
    if separator not in SEPARATORS:
        part.wrong("separator", f'{separator!r} -> one of , ; | or "\\t"')
    encoding = part.text("encoding", "utf-8")
    try:
        "a".encode(encoding)
    except (LookupError, UnicodeError):
        common = ("utf-8", "utf-8-sig", "utf-16", "cp1252", "iso-8859-1")
        part.wrong("encoding", f"{shown(encoding)!r} is no text encoding{near(encoding, common) or ' -> such as ' + ', '.join(common)}")
    time_format = part.word("time_format")
    if time_format and not reads_times(time_format):
        part.wrong("time_format", f"{shown(time_format)!r} reads no date -> such as '%d.%m.%Y %H:%M:%S', epoch_ms, or null for ISO 8601")
        time_format = None
    header = part.number("header", 1.0) or 0.0
    if header < 1 or header % 1:
        part.wrong("header", f"{header:g} is no line number -> 1 is the first line")
    decimal = part.choice("decimal", (".", ","), ".")
    return Dialect(separator, decimal, encoding, time_format, int(header), part.texts("missing"))


def _readings(part: Part, labels: Part) -> Readings:
    label = labels.text("column", needed=bool(labels.cells)) or None
    labels.close()
    layout = part.choice("layout", ("wide", "long"))
    asset, from_file = part.word("asset"), part.flag("asset_from_file")
    if asset and from_file:
        part.wrong("asset_from_file", "and asset both name the asset -> keep one")
    tag, value, quality = part.text("tag"), part.text("value"), part.word("quality")
    for key, given in (("tag", tag), ("value", value)):
        if layout == "long" and not given:
            part.wrong(key, f"is missing -> long files need the column of {'tags' if key == 'tag' else 'values'}")
        elif layout == "wide" and given:
            part.wrong(key, "is for long files -> remove it, or set layout: long")
    if layout == "wide" and quality:
        part.wrong("quality", "is for long files -> remove it")
    if layout == "long" and label:
        labels.wrong("column", "labels stand in wide files alone -> remove it")
    if part.texts("good") and not quality:
        part.wrong("good", "needs the column of qualities -> add quality")
    time = part.texts("time", needed=True)
    if len(time) > 2:
        part.wrong("time", "has more than two columns -> one, or [column of dates, column of times of day]")
    read = Readings(part.texts("files", True), _dialect(part), layout, time, asset, from_file, tag, value, quality, label)
    part.close()
    return read


def _tags(part: Part, signals: dict[str, str], readings: Readings) -> Tags:
    cells, table = part.part("tags"), {}
    for tag in cells.cells:
        both = cells.texts(tag, needed=True)
        if len(both) == 2:
            table[tag] = (both[0], both[1])
        else:
            cells.wrong(tag, "-> [asset, signal]")
    pattern = part.word("tag_pattern")
    if pattern:
        try:
            groups = set(re.compile(pattern).groupindex)
            pl.Series([""]).str.extract_groups(pattern)
        except (re.error, pl.exceptions.PolarsError) as error:
            part.wrong("tag_pattern", f"{shown(str(error).splitlines()[0], 120)} -> a regular expression without look-around")
        else:
            if groups != {"asset", "tag"}:
                part.wrong("tag_pattern", "names the groups it finds asset and tag -> such as ^(?P<asset>[^.]+)\\.(?P<tag>.+)$")
    if not readings.long and (table or pattern):
        part.wrong("tags" if table else "tag_pattern", "is for long files -> remove it, or set readings.layout: long")
    if table and pattern:
        part.wrong("tag_pattern", "and tags both say what a tag names -> keep one")
    named = (bool(readings.asset), readings.asset_from_file, bool(table), bool(pattern))
    if not any(named):
        part.wrong("readings", "nothing names the asset -> add asset: COLUMN, asset_from_file: true, tags or tag_pattern")
    elif readings.long and any(named[:2]) and any(named[2:]):
        part.wrong("tags" if table else "tag_pattern", "and readings.asset both name the asset -> keep one")
    return Tags(signals, frozenset(part.texts("unused")), table, pattern)


def _events(part: Part) -> Orders:
    kinds = part.words("kinds")
    for value, kind in kinds.items():
        if kind not in KINDS:
            part.wrong("kinds", f"{value}: {shown(kind)!r} is none of {', '.join(KINDS)}{near(kind, KINDS)}")
    skip = part.part("skip")
    column, values = skip.text("column", needed=bool(skip.cells)), skip.texts("values", needed=bool(skip.cells))
    skip.close()
    orders = Orders(
        part.texts("files", needed=True),
        _dialect(part),
        part.texts("asset", needed=True),
        _alternatives(part, "time", needed=True),
        _alternatives(part, "known_at"),
        part.texts("kind", needed=True),
        kinds,
        part.words("assets"),
        part.choice("unmatched", ("refuse", "list"), "refuse"),
        (column, frozenset(values)) if column else None,
    )
    part.close()
    return orders


def _alternatives(part: Part, key: str, needed: bool = False) -> Columns:
    node = part.take(key, needed)
    if node is None:
        return ()
    nodes = [node]
    if isinstance(node, yaml.MappingNode):
        first = part.part(key)
        listed = first.take("first_of", needed=True)
        first.close()
        nodes = listed.value if isinstance(listed, yaml.SequenceNode) else []
    found = []
    for item in nodes:
        cells = item.value if isinstance(item, yaml.SequenceNode) else [item]
        if not 1 <= len(cells) <= 2 or any(not isinstance(c, yaml.ScalarNode) for c in cells):
            part.wrong(key, "-> a column, [column of dates, column of times of day], or {first_of: [such, such]}", item)
        else:
            found.append(tuple(str(c.value) for c in cells))
    return tuple(found)
