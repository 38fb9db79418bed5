"""The page is one small file that asks for nothing and shows text from the data as text; the text fits on a screen."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import polars as pl
import pytest

from pmx.contract import Channel
from pmx.profile.page import page
from pmx.profile.text import text
from pmx.source.cmapss import Cmapss
from pmx.source.synthetic import Synthetic
from tests.profile.fleet import CONTRACT, events, found, of, profiled, rows

EVIL = "<script>alert('x')</script>"


class Elements(HTMLParser):
    """Every element and attribute of a page, and whether each element is closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def checked(made: str) -> Elements:
    assert len(made.encode()) < 1_000_000 and not re.search(r"https?:|//[a-z]|url\(|@import", made)
    seen = Elements(made)
    assert not seen.open and not seen.names & {"script", "link", "img", "iframe", "object", "embed", "base", "a", "form"}
    assert not [a for a in seen.attributes if a.startswith("on") or a in ("src", "href")]
    return seen


def test_text_from_the_data_stays_text():
    frame = rows(assets=2, days=20).rename({"heat": EVIL}).with_columns(asset=pl.lit(EVIL) + pl.col("asset"))
    channels = (CONTRACT.channels[0], Channel(EVIL, EVIL, low=59.0), *CONTRACT.channels[2:])
    log = events([EVIL + "P00", EVIL], [100.0, 50.0])
    profile = profiled(frame, log, replace(CONTRACT, channels=channels))
    record = replace(profile.record, history=replace(profile.record.history, name=EVIL, noun=EVIL, digest=EVIL))
    made = page(replace(profile, record=record))
    checked(made)
    assert "&lt;script&gt;" in made and found(profile, EVIL).refused


def test_the_real_size_of_page_and_text():
    profile = of(Synthetic(assets=60).load())
    made = page(profile)
    checked(made)
    assert made.count("<polyline") == 8 and "40 of 60 pumps" in made and all(c.name in made for c in profile.channels)
    told = text(profile).splitlines()
    assert len(told) < 50 and max(map(len, told)) < 200
    assert told[1].startswith("Verdict     Remaining life (RUL)") and "3 regimes by speed, valve" in text(profile)


def test_many_channels_and_assets_stay_small():
    names = [f"c{i}" for i in range(80)]
    frame = rows(assets=50, days=3, step=1.0).with_columns(*(pl.col("heat").alias(n) for n in names))
    profile = profiled(frame, contract=replace(CONTRACT, channels=tuple(Channel(n, "V") for n in names), tick=1.0))
    checked(page(profile))
    assert "The first 60 of 80" in page(profile) and len(text(profile).splitlines()) < 50


def test_json_is_plain():
    profile = profiled(rows(assets=1, days=1).with_columns(heat=pl.lit(None, pl.Float64)))
    answer = json.loads(json.dumps(profile.to_json(), allow_nan=False))
    assert answer["claim"]["task"] == "anomaly" and answer["channels"][1]["mean"] is None and answer["counts"]["in"] == 48
    assert answer["assets"] == [{"asset": "P00", "readings": 48, "running": 24.0, "failures": 0}]


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_readings_are_profiled(count: int):
    profile = profiled(rows(assets=1, days=1).head(count))
    checked(page(profile))
    assert profile.sampling.gaps == 0 and text(profile)


def test_runs_watched_one_after_the_other_are_shown_side_by_side():
    frame = rows(assets=3, days=1).with_columns(hour=pl.col("hour") + 2000 * pl.col("asset").str.slice(1).cast(pl.Int64))
    made = page(profiled(frame, events(["P01"], [2010.0])))
    checked(made)
    assert "they were watched one after the other" in made and "since the first reading of each" in made and ">✕</text>" in made


@pytest.mark.real_data("cmapss")
def test_a_page_of_real_engines(data_root):
    profile = of(Cmapss(str(data_root / "cmapss"), "FD002").load())
    checked(page(profile))
    assert "6 regimes by altitude, mach, throttle" in text(profile) and len(profile.operation.shares) == 6
