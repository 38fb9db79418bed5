"""The Polars expressions reach the verdicts of the numpy checker, and lose no row."""

from datetime import UTC

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmx.contract import Channel, Contract, DataError
from pmx.judge import Checker
from pmx.source.admit import admit, to_rows

CHANNELS = (Channel("load", unit="kW", low=-5.0, high=1e3), Channel("speed", unit="1/s"))
CALENDAR = Contract(CHANNELS, "min", "calendar")
LIFE = Contract(CHANNELS, "cycle", "life", tick=0.5)

# Letters that fold to ASCII ones, digits of other scripts and odd blanks: where two regex engines may part ways.
STRANGE = st.text(alphabet="0123456789+-.eE_ \tinfatyINFNULTZ:/#\u0663\u017f\u212a\u0131\u0130\u00a0\n\r\x00\x0b", max_size=12)
CELL = st.one_of(
    st.sampled_from(["1", " 2.5\t", "-5", "-5.000001", "1000.0000000000001", "1e3", "", "nan", "NA", "inf", "-Infinity", "1e39"]),
    st.sampled_from(["3.4028235677973366e38", "3.4028235677973362e38", "1e-999", "9" * 400, "1,5", "abc", ".", "e5", "1.e2", "1\n", None]),
    st.sampled_from(
        ["\u0131nf", "\u0130NF", "INF\u0130nity", "nu\u017f", "\u0663", "+.5", "+-1", "0x1p3", "1_0", "++inf", "-null", "#N/A"]
    ),
    st.floats().map(repr),
    STRANGE,
)
DAYS = ["2024-02-29", "1000-01-01", "9999-12-31", "1969-12-31", "2023-02-29", "2026-04-31", "0999-12-31", "2026-13-01", "2026-1-01"]
HOURS = ["T00:00", " 23:59", "t07:30", "07:30", " 24:00", "T12:5", "  12:05", "T12:60"]
SECONDS = ["", ":00", ":59", ":59.5", ":00.123456", ":00.000001", ":60", ":00.1234567", ":00.", ".5"]
ZONES = ["", "Z", "+00:00", "-23:59", "+23:59", "+05:30", "+01", "+24:00", "-24:00", "-00:60", "+0530", " Z", "z"]
STAMP = st.one_of(
    st.builds("{}{}{}{}".format, *(st.sampled_from(part) for part in (DAYS, HOURS, SECONDS, ZONES))),
    st.sampled_from(["2026-01-01T00:00", "2026-01-01T01:00+01:00", "2026-01-01 00:00:00.1", "2026-01-01T00:01Z", "2025-12-31T23:59", None]),
    STRANGE,
)
ASSET = st.sampled_from(["A", "A", "B", " A\t", "\u00a0A", "", "NA", "None", "nan", None, "\u212a"])
FLOAT = st.sampled_from([None, float("nan"), 1.0, 2.0, -6.0, float("inf"), 1e39]) | st.floats()


def table(rows: list[tuple], columns: dict) -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema={"asset": pl.String, **columns}, orient="row")
    return frame.select(pl.lit("r.csv").alias("file"), (pl.int_range(pl.len(), dtype=pl.Int64) + 2).alias("row"), pl.all())


def assert_same_verdicts(frame: pl.DataFrame, contract: Contract) -> None:
    checked, admitted = Checker(contract).check(to_rows(frame, contract)), admit(frame.lazy(), contract, "quarantine")
    ours = [(b.file, b.row, b.asset, b.channel, b.reason, b.value) for b in checked.breaches]
    assert ours == admitted.quarantine.rows()
    assert (checked.position + 2).tolist() == admitted.readings["row"].to_list()
    assert checked.asset.tolist() == admitted.readings["asset"].to_list()
    assert checked.time.tolist() == admitted.readings["time"].to_physical().to_list()
    values = admitted.readings.select(contract.names).fill_null(float("nan")).to_numpy()
    np.testing.assert_array_equal(checked.values, values.reshape(-1, len(contract.names)))
    assert admitted.readings.null_count().sum_horizontal().item() == np.isnan(checked.values).sum()
    counts = admitted.counts
    assert counts["in"] == frame.height == counts["accepted"] + counts["quarantined"] == len(checked.asset) + len(checked.breaches)


def test_every_combination_of_the_parts_of_a_time():
    stamps = [d + h + s + z for d in DAYS for h in HOURS for s in SECONDS for z in ZONES]
    frame = table([(f"P{i}", stamp, "1", "") for i, stamp in enumerate(stamps)], dict.fromkeys(["time", "load", "speed"], pl.String))
    assert_same_verdicts(frame, CALENDAR)
    days, hours, seconds, zones = 4, 2, 6, 6  # the good ones come first, but `9999-12-31 23:59-23:59` and the like
    assert 0 < days * hours * seconds * zones - admit(frame.lazy(), CALENDAR, "quarantine").counts["accepted"] < 30


@settings(max_examples=120, deadline=None)
@given(st.lists(st.tuples(STAMP, CELL), max_size=12))
def test_the_grammars_mean_the_same_to_both(cells):
    strings = dict.fromkeys(["time", "load", "speed"], pl.String)
    assert_same_verdicts(table([(f"P{i}", stamp, "1", "") for i, (stamp, _) in enumerate(cells)], strings), CALENDAR)
    assert_same_verdicts(table([(f"P{i}", "1", "", cell) for i, (_, cell) in enumerate(cells)], strings), LIFE)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(ASSET, STAMP, CELL, CELL, st.sampled_from(["", "", "", None, "5", "null", "x"])), max_size=12))
def test_dirty_text_on_the_calendar_clock(rows):
    assert_same_verdicts(table(rows, dict.fromkeys(["time", "speed", "load", "extra"], pl.String)), CALENDAR)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(ASSET, st.sampled_from(["1", "2", "3.0", "3", "0", "5e15"]) | CELL, CELL, CELL), max_size=12))
def test_dirty_text_on_the_life_clock(rows):
    assert_same_verdicts(table(rows, dict.fromkeys(["time", "load", "speed"], pl.String)), LIFE)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["A", "B", "C", "D", None]), FLOAT, FLOAT, FLOAT, st.sampled_from([None, None, 7])), max_size=12))
def test_typed_columns_on_the_life_clock(rows):
    assert_same_verdicts(table(rows, {"time": pl.Float64, "load": pl.Float64, "speed": pl.Float64, "extra": pl.Int32}), LIFE)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(ASSET, st.none() | st.datetimes(timezones=st.just(UTC)), FLOAT, CELL), max_size=12))
def test_typed_times_on_the_calendar_clock(rows):
    assert_same_verdicts(table(rows, {"time": pl.Datetime("us", "UTC"), "load": pl.Float64, "speed": pl.String}), CALENDAR)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("AB"), st.sampled_from("12345"), st.sampled_from(["1", "1", "1", "bad"]), st.just("")), max_size=40)
)
def test_only_accepted_rows_move_the_newest_time(rows):
    assert_same_verdicts(table(rows, dict.fromkeys(["time", "load", "speed"], pl.String)), LIFE)


DIRTY = table(
    [
        ("A", "1", "1", "1"),
        ("A", "1", "1", "1"),
        ("A", "2", "abc", "1"),
        ("A", "3", "1e9", "1"),
        ("A", "4", "1", "inf"),
        ("", "5", "1", "1"),
    ]
    + [("A", "noon", "1", "1"), ("A", "0.5", "1", "1"), ("A", "6", "", "1")],
    dict.fromkeys(["time", "load", "speed"], pl.String),
)
REASONS = ["duplicate", "wrong_type", "out_of_range", "infinite", "missing_asset", "unparsable_time", "not_monotonic"]


def test_the_quarantine_is_a_file_of_its_own(tmp_path):
    path = tmp_path / "quarantine.parquet"
    admitted = admit(DIRTY.lazy(), LIFE, "quarantine", path)
    stored = pl.read_parquet(path)
    assert stored.columns == ["file", "row", "asset", "channel", "reason", "value"] and stored["reason"].to_list() == REASONS
    assert stored.equals(admitted.quarantine) and admitted.counts == {"in": 9, "accepted": 2, "quarantined": 7}
    assert admitted.readings.schema["load"] == pl.Float64 and admitted.readings["load"].to_list() == [1.0, None]
    admit(DIRTY.head(1).lazy(), LIFE, "quarantine", path)
    assert pl.read_parquet(path).height == 0, "an older run's quarantine is left standing"
    assert [p.name for p in tmp_path.iterdir()] == ["quarantine.parquet"]


def test_a_refusal_writes_nothing_and_has_the_checker_s_words(tmp_path):
    with pytest.raises(DataError) as ours:
        admit(DIRTY.lazy(), LIFE, "refuse", tmp_path / "quarantine.parquet")
    with pytest.raises(DataError) as theirs:
        Checker(LIFE, "refuse").check(to_rows(DIRTY, LIFE))
    assert str(ours.value) == str(theirs.value) and not list(tmp_path.iterdir())


def test_a_table_without_a_channel_is_refused_whole():
    with pytest.raises(DataError, match="'speed' is not in the header, nearest is 'sped'"):
        admit(DIRTY.rename({"speed": "sped"}).lazy(), LIFE, "quarantine")


def test_a_clock_of_the_wrong_kind_is_refused():
    with pytest.raises(DataError, match="clock"):
        admit(DIRTY.with_columns(time=pl.lit(1.0)).lazy(), CALENDAR, "quarantine")
