"""How times are written: every format is recognised and read back, and what cannot be told is called ambiguous."""

from datetime import datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmx.draft.clock import FORMATS, guess_time, read_time, summer_times_missing

START = datetime(2025, 11, 20, 13, 45, 59, 250_000)


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_recognised_and_read_back(form: str) -> None:
    times = [START + timedelta(days=i, hours=5 * i) for i in range(30)]
    cells = [t.strftime(form) for t in times]
    written = guess_time(cells)
    expected = [datetime.strptime(c, form) for c in cells]
    assert written is not None and written.share == 1 and not written.ambiguous
    assert read_time(pl.Series(cells), written).to_list() == expected


@settings(max_examples=50, deadline=None)
@given(
    st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1)),
    st.sampled_from(["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S.%f+02:00", "%Y-%m-%d %H:%M"]),
)
def test_iso_needs_no_format_and_says_whether_it_has_a_zone(begin: datetime, form: str) -> None:
    cells = [(begin + timedelta(minutes=i)).strftime(form) for i in range(9)]
    written = guess_time(cells)
    assert written is not None and written.format is None and written.zoned == form.endswith(("Z", "00"))
    kept = {"M": "minutes", "Z": "seconds", "0": "microseconds"}[form[-1]]
    assert [t.isoformat(timespec=kept) for t in read_time(pl.Series(cells), written)] == [
        (begin + timedelta(minutes=i)).isoformat(timespec=kept) for i in range(9)
    ]


def test_day_and_month_are_told_apart_or_called_ambiguous() -> None:
    assert guess_time(["03/25/2025 10:00", "03/26/2025 10:00"]).format == "%m/%d/%Y %H:%M"
    assert guess_time(["25/03/2025 10:00", "26/03/2025 10:00"]).format == "%d/%m/%Y %H:%M"
    # Either is possible, but only one runs forwards.
    month_first = guess_time([f"{m:02}/{d:02}/2025" for m in (3, 4) for d in range(1, 12)])
    assert month_first.format == "%m/%d/%Y" and month_first.ambiguous
    assert guess_time(["01.02.2025"]).format == "%d.%m.%Y" and not guess_time(["01.02.2025"]).ambiguous


def test_counts_since_1970_and_numbers_that_are_none() -> None:
    assert guess_time(["1760000000", "1760000060", "1760000120"]).format == "epoch_s"
    millis = guess_time(["1760000000000", "1760000060000", "1760000120000"])
    assert millis.format == "epoch_ms" and read_time(pl.Series(["1760000000000"]), millis)[0] == datetime(2025, 10, 9, 8, 53, 20)
    assert guess_time(["1", "2", "3"]) is None and guess_time(["20250230", "20250231"]) is None and guess_time([]) is None


def test_a_few_bad_cells_do_not_hide_the_format() -> None:
    cells = [f"{d:02}.03.2025 10:00" for d in range(1, 30)] + ["never"]
    written = guess_time(cells)
    assert written.format == "%d.%m.%Y %H:%M" and 0.9 < written.share < 1 and read_time(pl.Series(cells), written).null_count() == 1


def test_the_skipped_hour_tells_of_the_zone() -> None:
    begin = datetime(2025, 3, 29)
    every = [begin + timedelta(minutes=10 * i) for i in range(3 * 144)]
    skipped = [t for t in every if not datetime(2025, 3, 30, 2) <= t < datetime(2025, 3, 30, 3)]
    assert summer_times_missing(pl.Series(every)) is False and summer_times_missing(pl.Series(skipped)) is True
    assert summer_times_missing(pl.Series(every[:100])) is None
