"""The Polars expressions reach the verdicts of the numpy checker, and lose no row."""

from dataclasses import replace
from datetime import UTC

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmx.contract import CUT, Channel, Contract, DataError
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
    st.just(CUT),
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
    ours = [(b.file, b.row, b.asset, b.channel, b.reason, b.value, b.lost) for b in checked.breaches]
    assert ours == admitted.quarantine.rows()
    assert (checked.position + 2).tolist() == admitted.readings["row"].to_list()
    assert checked.asset.tolist() == admitted.readings["asset"].to_list()
    assert checked.time.tolist() == admitted.readings["time"].to_physical().to_list()
    values = admitted.readings.select(contract.names).fill_null(float("nan")).to_numpy()
    np.testing.assert_array_equal(checked.values, values.reshape(-1, len(contract.names)))
    assert admitted.readings.null_count().sum_horizontal().item() == np.isnan(checked.values).sum()
    counts = admitted.counts
    assert counts["in"] == frame.height == counts["accepted"] + counts["quarantined"]
    assert counts["accepted"] == len(checked.asset) and counts["cells"] == sum(b.alone for b in checked.breaches)
    assert len(checked.breaches) == counts["quarantined"] + counts["cells"]


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
    for beside in ("", "1"):
        assert_same_verdicts(table([(f"P{i}", "1", beside, cell) for i, (_, cell) in enumerate(cells)], strings), LIFE)


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
    st.lists(
        st.tuples(st.sampled_from("AB"), st.sampled_from("12345"), st.sampled_from(["1", "1", "bad"]), st.sampled_from(["", "1"])),
        max_size=40,
    )
)
def test_only_accepted_rows_move_the_newest_time(rows):
    assert_same_verdicts(table(rows, dict.fromkeys(["time", "load", "speed"], pl.String)), LIFE)


DIRTY = table(
    [
        ("A", "1", "1", "1"),
        ("A", "1", "1", "1"),
        ("A", "2", "abc", "1"),
        ("A", "2", "1", "1"),
        ("A", "3", "1e9", "-inf"),
        ("A", "4", "1", "inf"),
        ("", "5", "abc", "1"),
    ]
    + [("A", "noon", "1", "1"), ("A", "0.5", "1", "1"), ("A", "6", "", "1"), ("A", "7", "1", CUT), ("A", "8", "", "x")],
    dict.fromkeys(["time", "load", "speed"], pl.String),
)
REASONS = ["duplicate", "wrong_type", "duplicate", "out_of_range", "infinite", "missing_asset", "unparsable_time", "not_monotonic"]
REASONS += ["wrong_type", "wrong_type"]
LOST = ["row", "value", "row", "row", "value", *["row"] * 5]


def test_the_quarantine_is_a_file_of_its_own(tmp_path):
    path = tmp_path / "quarantine.parquet"
    admitted = admit(DIRTY.lazy(), LIFE, "quarantine", path)
    stored = pl.read_parquet(path)
    assert stored.columns == ["file", "row", "asset", "channel", "reason", "value", "lost"]
    assert stored["reason"].to_list() == REASONS and stored["lost"].to_list() == LOST
    assert stored.equals(admitted.quarantine) and admitted.counts == {"in": 12, "accepted": 4, "quarantined": 8, "cells": 2}
    assert admitted.readings.schema["load"] == pl.Float64 and admitted.readings["load"].to_list() == [1.0, None, 1.0, None]
    assert admitted.readings["speed"].to_list() == [1.0, 1.0, None, 1.0]
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


BERLIN = Contract(CHANNELS, "min", "calendar", time_zone="Europe/Berlin", lateness=7.0, good=("Good", "192"))
WALL = st.builds(
    "2026-10-25T0{}:{:02}{}".format, st.sampled_from([1, 2, 2, 2, 3]), st.integers(0, 59), st.sampled_from(["", "", "", "Z", "+01:00"])
)
SPRING = st.builds("2026-03-29T0{}:30".format, st.sampled_from([1, 2, 3]))
LONG = st.tuples(
    ASSET, WALL | SPRING, st.sampled_from(["load", "load", "speed", " speed", "heat", "", None]),
    st.sampled_from(["1", "2", "", "x", "-6"]), st.sampled_from(["Good", "192", "Bad", None]),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(LONG, max_size=25), st.sampled_from([0.0, 7.0, 80.0]), st.data())
def test_dirty_long_rows_in_local_time_are_judged_as_on_a_device(rows, lateness, data):
    contract = replace(BERLIN, lateness=lateness)
    frame = table(rows, dict.fromkeys(["time", "channel", "value", "quality"], pl.String))
    checked, admitted = Checker(contract).check(to_rows(frame, contract)), admit(frame.lazy(), contract, "quarantine")
    ours = [(b.file, b.row, b.asset, b.channel, b.reason, b.value, b.lost) for b in checked.breaches]
    assert ours == admitted.quarantine.rows()
    counts = admitted.counts
    assert counts["in"] == frame.height == counts["accepted"] + len(ours) == len(checked.asset) + len(ours)
    cut = data.draw(st.integers(0, len(rows)))
    one, whole = Checker(contract), to_rows(frame, contract)
    parts = [one.check(whole.take(np.arange(*span))) for span in ((0, cut), (cut, len(rows)))]
    assert [b for p in parts for b in p.breaches] == list(checked.breaches)
    wide = {}
    for a, t, v in zip(checked.asset.tolist(), checked.time.tolist(), checked.values.tolist(), strict=True):
        wide[a, t] = [x if y != y else y for x, y in zip(wide.get((a, t), [None, None]), v, strict=True)]
    readings = admitted.readings.with_columns(pl.col("time").to_physical())
    assert {(r[0], r[1]): list(r[2:]) for r in readings.select("asset", "time", "load", "speed").rows()} == wide
    if lateness:
        assert readings.equals(readings.sort("asset", "time", maintain_order=True))


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(ASSET, WALL | SPRING, st.sampled_from(["1", "x", ""]), st.just("1")), max_size=25), st.sampled_from([0.0, 7.0, 80.0])
)
def test_local_wide_rows_within_the_lateness_reach_the_same_verdicts(rows, lateness):
    contract = replace(BERLIN, lateness=lateness)
    frame = table(rows, dict.fromkeys(["time", "load", "speed"], pl.String))
    checked, admitted = Checker(contract).check(to_rows(frame, contract)), admit(frame.lazy(), contract, "quarantine")
    ours = [(b.file, b.row, b.asset, b.channel, b.reason, b.value, b.lost) for b in checked.breaches]
    assert ours == admitted.quarantine.rows() and sorted(admitted.readings["row"]) == (checked.position + 2).tolist()


def hot(share: float, by: float) -> pl.DataFrame:
    """A hundred temperatures, a share of them moved."""
    moved = int(100 * share)
    rows = [("A", float(k), 60.0 + k % 7 + (by if k < moved else 0.0), 1.0) for k in range(100)]
    return table(rows, dict.fromkeys(["time", "load", "speed"], pl.Float64))


HEAT = Contract((Channel("load", "°C", low=0.0, high=100.0), Channel("speed", "1/s")), "cycle", "life")


def test_a_channel_that_lies_beyond_its_range_as_a_whole_is_no_blemish():
    with pytest.raises(DataError, match=r"channel load: 60.0% of 100 values .*outside \[0.0, 100.0\] °C -> convert") as caught:
        admit(hot(0.6, 1e6).lazy(), HEAT, "quarantine")
    assert "look like" not in str(caught.value)
    admitted = admit(hot(0.3, 1e6).lazy(), HEAT, "quarantine")
    assert admitted.counts == {"in": 100, "accepted": 100, "quarantined": 0, "cells": 30}
    assert admitted.readings["load"].null_count() == 30 and not admitted.readings["speed"].null_count()


@pytest.mark.parametrize("cells, told", [(25, True), (19, False)])
def test_a_channel_that_broken_cells_fill_is_no_broken_sensor(cells: int, told: bool):
    comma = table([("A", str(k), f"{k},5", "1") for k in range(cells)], dict.fromkeys(["time", "load", "speed"], pl.String))
    admitted = admit(comma.lazy(), LIFE, "quarantine")
    assert admitted.counts["accepted"] == cells == admitted.counts["cells"]
    if told:
        with pytest.raises(DataError, match="all 25 values of channel load are set apart, such as '0,5' in r.csv, row 2 .wrong_type. -> "):
            admitted.some("plant")
    else:
        assert admitted.some("plant") is admitted


def test_a_part_of_a_channel_in_another_unit_is_named():
    fahrenheit = hot(0.1, 0.0).with_columns(load=pl.when(pl.col("time") < 10).then(pl.col("load") * 1.8 + 32).otherwise(pl.col("load")))
    for on_error in ("quarantine", "refuse"):
        with pytest.raises(DataError, match="10.0% of 100 values .*they look like °F, not °C"):
            admit(fahrenheit.lazy(), HEAT, on_error)


def test_columns_that_the_contract_does_not_list_are_named():
    assert admit(DIRTY.with_columns(note=pl.lit("ok")).lazy(), LIFE, "quarantine").ignored == ("note",)


def test_a_quality_code_that_is_a_number_is_compared_as_written():
    frame = table(
        [("A", 1.0, "load", 5.0, 192.0), ("A", 1.0, "speed", 5.0, 0.0)],
        {"time": pl.Float64, "channel": pl.String, "value": pl.Float64, "quality": pl.Float64},
    )
    admitted = admit(frame.lazy(), replace(LIFE, good=("192",)), "quarantine")
    assert admitted.quarantine["value"].to_list() == ["0"] and admitted.readings["load"].to_list() == [5.0]
