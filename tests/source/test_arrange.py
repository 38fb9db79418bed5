"""Rows come out in the order of time whatever the order of the files, and autumn's hour is not mixed up."""

import random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmx.contract import Channel, Contract
from pmx.source.arrange import arranged, survey

BERLIN = Contract((Channel("load", "kW"),), "h", "calendar", time_zone="Europe/Berlin")
LIFE = Contract((Channel("load", "kW"),), "h", "life")


def rows(*cells: tuple[str, str, str]) -> pl.LazyFrame:
    """Rows of file, asset and time, with the number of each as its row and its load."""
    frame = pl.DataFrame(cells, schema=["file", "asset", "time"], orient="row").with_row_index("row", offset=1)
    return frame.select("file", "row", "asset", "time", load="row").lazy()


def order(frame: pl.LazyFrame, contract: Contract) -> list[int]:
    return arranged(frame, contract, survey(frame, contract)).collect()["row"].to_list()


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("AB"), st.integers(0, 23), st.integers(0, 59)), max_size=12))
def test_rows_are_sorted_by_asset_and_time_and_equal_ones_keep_their_order(cells):
    frame = rows(*(("a.csv", asset, f"2026-06-01T{h:02}:{m:02}") for asset, h, m in cells))
    expected = [i for i, _ in sorted(enumerate(cells, 1), key=lambda c: c[1])]
    assert order(frame, BERLIN) == expected
    in_turn = arranged(frame, BERLIN, survey(frame, BERLIN))
    assert survey(in_turn, BERLIN).ordered and in_turn.collect_schema() == frame.collect_schema()


def test_rows_without_a_time_come_last_and_keep_their_text():
    frame = rows(("a", "A", "soon"), ("a", "A", "2026-06-01T02:00"), ("a", "A", ""), ("a", "A", "2026-06-01T01:00Z"))
    assert order(frame, BERLIN) == [2, 4, 1, 3]  # 02:00 in Berlin is 00:00 UTC
    assert arranged(frame, BERLIN, survey(frame, BERLIN)).collect()["time"].to_list()[-2:] == ["soon", ""]
    assert order(rows(("a", "A", "1e3"), ("a", "A", "inf"), ("a", "A", "20")), LIFE) == [3, 1, 2]


@pytest.mark.parametrize(
    "blocks, keys",
    [
        ([("a", "A", "load"), ("b", "A", "load")], ["file", "asset"]),
        ([("a", "A", "load"), ("a", "A", "heat")], ["asset", "channel"]),
        ([("a", "A", "load"), ("a", "A", "heat"), ("b", "A", "load"), ("b", "A", "heat")], ["file", "asset", "channel"]),
        ([("a", "A", "load"), ("a", "B", "load")], ["asset"]),
    ],
)
def test_the_longest_sequences_in_order_are_followed(blocks, keys):
    """Each block is the same day from its beginning."""
    cells = [(f, a, c, f"2026-06-01T{h:02}:00") for f, a, c in blocks for h in range(24)]
    assert survey(pl.LazyFrame(cells, schema=["file", "asset", "channel", "time"], orient="row"), BERLIN).sequence() == keys


def test_autumns_hour_is_left_to_the_contract_where_a_file_is_shuffled():
    hours = [f"2025-10-{d}T{h:02}:00" for d in (25, 26) for h in range(24)]
    random.Random(0).shuffle(hours)
    frame = rows(*(("a", "A", t) for t in hours))
    assert arranged(frame, BERLIN, survey(frame, BERLIN)).collect()["time"].to_list() == sorted(hours)


def test_a_late_row_within_the_allowed_lateness_begins_no_second_pass():
    times = ["02:00", "02:40", "02:20", "02:50", "02:10", "02:30"]
    frame = rows(("a", "A", "2025-10-26T01:00"), *(("a", "A", f"2025-10-26T{t}") for t in times), ("a", "A", "2025-10-26T03:00"))
    late = Contract((Channel("load", "kW"),), "min", "calendar", time_zone="Europe/Berlin", lateness=30)
    told = arranged(frame, late, survey(frame, late)).collect().sort("row")["time"].to_list()
    assert told[1:-1] == [f"2025-10-26T{t}:00Z" for t in ("00:00", "00:40", "00:20", "00:50", "01:10", "01:30")]
