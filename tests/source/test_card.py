"""A card is read whole or refused with all its mistakes, each with its line and the nearest name."""

from pathlib import Path

import pytest

from pmx.contract import Channel, Running, UsageError
from pmx.source.card import Card, read_card
from pmx.source.miniature import CARD

WIDE = """\
life_unit: h
tick: 0.25
readings:
  files: readings.csv
  layout: wide
  asset: pump
  time: when
channels:
  load: {unit: kW, low: 0, high: 90}
  heat: {tag: T1}
"""


def card_of(folder: Path, text: str) -> Card:
    (folder / "plant.yaml").write_text(text, encoding="utf-8")
    return read_card(folder / "plant.yaml")


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(UsageError) as refused:
        card_of(folder, text)
    return str(refused.value)


def test_a_full_card(tmp_path: Path):
    card = card_of(tmp_path, CARD)
    assert (card.name, card.noun, card.sampling) == ("plant", "pumps", 0.5)
    contract = card.contract
    assert contract.names == ["vibration", "temperature", "speed", "energy"]
    assert contract.channels[0] == Channel("vibration", "mm/s", "measurement", 0.0, 50.0, "mean", 3.0)
    assert contract.channels[3] == Channel("energy", "kWh", "counter", rollover=100_000.0)
    assert (contract.time_zone, contract.running, contract.good) == ("Europe/Berlin", Running("speed", above=100.0), ("Gut", "192"))
    assert card.tags.signals == {"VIB_DE": "vibration", "T_LAGER": "temperature", "N": "speed", "E_TOTAL": "energy"}
    assert card.assets["10004711"] == "P-101"
    orders = card.events
    assert orders and orders.time == (("Störungsbeginn", "Uhrzeit"), ("Eckstarttermin",)) and orders.known_at == (("Erfaßt am",),)
    assert orders.skip == ("Systemstatus", frozenset({"LKZ", "STOR"})) and orders.asset == ("Equipment", "Technischer Platz")


def test_what_a_small_card_leaves_out(tmp_path: Path):
    card = card_of(tmp_path, WIDE)
    assert (card.name, card.noun, card.events, card.sampling) == ("plant", "assets", None, None)
    assert card.tags.signals == {"load": "load", "T1": "heat"} and card.contract.clock == "calendar"
    dialect = card.readings.dialect
    assert (dialect.separator, dialect.decimal, dialect.encoding, dialect.time_format) == (",", ".", "utf-8", None)


def test_words_stay_what_they_are(tmp_path: Path):
    """YAML would take these for a boolean, an octal number and a time."""
    card = card_of(tmp_path, WIDE + "assets: {0010: NO, on: 12:30, null: P1}\nunused: [off, 08]\nnoun: 'null'\n")
    assert card.noun == "null"
    assert card.assets == {"0010": "NO", "on": "12:30", "null": "P1"} and card.tags.unused == {"off", "08"}


def test_comments_and_quotes_change_nothing_of_the_content(tmp_path: Path):
    same = WIDE.replace("life_unit: h", "life_unit: 'h'   # hours")
    other = WIDE.replace("high: 90", "high: 91")
    contents = [card_of(tmp_path, text).content for text in (WIDE, same, other)]
    assert contents[0] == contents[1] != contents[2]


MISTAKES = {
    "an unknown key": ("tick: 0.25", "tick: 0.25\ntimezone: UTC", "line 3, timezone: there is no such key -> nearest is 'time_zone'"),
    "a missing key": ("life_unit: h\n", "", "life_unit: is missing -> add it"),
    "a word for a number": ("tick: 0.25", "tick: fast", "line 2, tick: 'fast' is not a number"),
    "no files": ("  files: readings.csv\n", "", "readings.files: is missing"),
    "an unknown layout": ("layout: wide", "layout: wild", "'wild' is none of wide, long -> nearest is 'wide'"),
    "a separator": ("layout: wide", "layout: wide\n  separator: '/'", "readings.separator: '/' -> one of"),
    "an encoding": ("layout: wide", "layout: wide\n  encoding: utf8x", "'utf8x' is no text encoding -> nearest is 'utf-8'"),
    "no text encoding": ("layout: wide", "layout: wide\n  encoding: rot13", "'rot13' is no text encoding"),
    "a time format": ("layout: wide", "layout: wide\n  time_format: DD.MM.YYYY", "'DD.MM.YYYY' reads no date -> such as"),
    "a zone": ("tick: 0.25", "tick: 0.25\ntime_zone: Europe/Berlim", "Europe/Berlim"),
    "no asset": ("  asset: pump\n", "", "nothing names the asset"),
    "a channel's key": ("unit: kW", "unti: kW", "channels.load.unti: there is no such key -> nearest is 'unit'"),
    "a role": ("unit: kW", "role: sensor", "channels.load.role: 'sensor' is none of measurement, setting, counter"),
    "an empty range": ("high: 90", "high: -1", "channels.load.low: 0 is above high -1 -> swap them"),
    "a tag twice": ("tag: T1", "tag: load", "channels.heat.tag: 'load' is channel load already"),
    "a key twice": ("tick: 0.25", "tick: 0.25\ntick: 0.5", "line 3, tick: stands here twice"),
    "a reserved channel": ("heat:", "tick:", "channels.tick: channel tick: this name is taken"),
    "running without its channel": ("tick: 0.25", "tick: 0.25\nrunning: {channel: speed, above: 1}", "no channel 'speed'"),
    "running without a channel's name": ("tick: 0.25", "tick: 0.25\nrunning: {above: 1}", "running.channel: is missing"),
    "long keys in wide files": ("layout: wide", "layout: wide\n  tag: Tag", "readings.tag: is for long files"),
    "a pattern in wide files": ("tick: 0.25", "tick: 0.25\ntag_pattern: (?P<asset>.)(?P<tag>.)", "tag_pattern: is for long files"),
    "a list for a mapping": ("tick: 0.25", "tick: 0.25\nassets: [a, b]", "line 3, assets: is"),
    "a mapping for a word": ("life_unit: h", "life_unit: {h: 1}", "line 1, life_unit: is a list or a mapping"),
    "good without quality": ("layout: wide", "layout: wide\n  good: [192]", "readings.good: needs the column of qualities"),
    "a life clock with a zone": ("tick: 0.25", "tick: 0.25\nclock: life\ntime_zone: Europe/Berlin", "a life clock has no time zone"),
}


@pytest.mark.parametrize("old, new, told", MISTAKES.values(), ids=MISTAKES.keys())
def test_each_mistake_is_named(tmp_path: Path, old: str, new: str, told: str):
    message = refusal(tmp_path, WIDE.replace(old, new, 1))
    assert told in message and "plant.yaml: 1 mistake, no data was read" in message


LONG_MISTAKES = {
    "a kind": ("M2: failure", "M2: failur", "events.kinds: M2: 'failur' is none of failure, replacement"),
    "a pattern that is none": ("unused:", "tag_pattern: '(?P<asset>'\nunused:", "tag_pattern: "),
    "a pattern that looks around": ("unused:", "tag_pattern: '(?P<asset>a)(?=b)(?P<tag>.)'\nunused:", "tag_pattern: "),
    "a pattern without its groups": ("unused:", "tag_pattern: '(?P<asset>a)(.*)'\nunused:", "names the groups it finds asset and tag"),
    "a pattern beside a column": ("unused:", "tag_pattern: '(?P<asset>a)(?P<tag>.*)'\nunused:", "both name the asset"),
    "tags that lead nowhere": ("unused:", "tags: {A.B: [A]}\nunused:", "tags.A.B: -> [asset, signal]"),
    "labels in long files": ("unused:", "labels: {column: x}\nunused:", "labels.column: labels stand in wide files alone"),
    "three columns of time": ("[[Störungsbeginn, Uhrzeit], E", "[[Störungsbeginn, Uhrzeit, Tag], E", "events.time: -> a column"),
    "skip without values": ("values: [LKZ, STOR]", "value: LKZ", "events.skip.values: is missing"),
    "no tag": ("  tag: Tag\n", "", "readings.tag: is missing -> long files need the column of tags"),
}


@pytest.mark.parametrize("old, new, told", LONG_MISTAKES.values(), ids=LONG_MISTAKES.keys())
def test_each_mistake_of_a_long_card_is_named(tmp_path: Path, old: str, new: str, told: str):
    assert told in refusal(tmp_path, CARD.replace(old, new, 1))


def test_all_mistakes_are_told_at_once(tmp_path: Path):
    text = WIDE.replace("tick", "tack").replace("layout", "laiout").replace("unit: kW", "unti: kW").replace("asset: pump", "asst: pump")
    message = refusal(tmp_path, text)
    for told in ("tack", "laiout", "channels.load.unti", "readings.asst", "no data was read"):
        assert told in message


@pytest.mark.parametrize(
    "text, told", [("a: [1\nb: 2", "line 2: not valid YAML"), ("- a\n- b", "write it as keys with values"), ("", "tick: is missing")]
)
def test_what_is_no_card_is_refused(tmp_path: Path, text: str, told: str):
    assert told in refusal(tmp_path, text)


REFERENCES = ["extra: &a [1, 2]\n", "extra: *a\n", "extra: {x: &deep {y: 1}}\n", "extra: &a [*a]\n"]


@pytest.mark.parametrize("line", REFERENCES)
def test_references_are_refused_with_their_line(tmp_path: Path, line: str):
    message = refusal(tmp_path, WIDE + line)
    assert f"plant.yaml, line {len(WIDE.splitlines()) + 1}: anchors (&) and references (*)" in message and "->" in message
    assert card_of(tmp_path, WIDE.replace("tag: T1", "tag: '*a & b'")).tags.signals["*a & b"] == "heat", "in quotes it is a word"


def test_references_to_references_fill_no_memory(tmp_path: Path):
    """Written out, these lines would be ten thousand million words."""
    levels = "".join(f"  - &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10))
    assert "anchors" in refusal(tmp_path, f"{WIDE}bomb:\n  - &a0 [{', '.join('x' * 10)}]\n{levels}")


def test_brackets_within_brackets_are_refused(tmp_path: Path):
    message = refusal(tmp_path, WIDE + "extra: " + "[" * 3000 + "]" * 3000 + "\n")
    assert "plant.yaml: too many brackets within each other" in message and len(message) < 300


def test_a_missing_card_is_told_with_those_that_are_there(tmp_path: Path):
    (tmp_path / "pumps.yaml").write_text(WIDE)
    with pytest.raises(UsageError, match="pump.yaml: No such file.*pumps.yaml.*pmx new"):
        read_card(tmp_path / "pump.yaml")
    with pytest.raises(UsageError, match="no card is in"):
        read_card(tmp_path / "nowhere" / "pump.yaml")
