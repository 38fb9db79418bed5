"""Ticks that hold the data: whole microseconds, enough readings, not too many ticks."""

from datetime import datetime, timedelta

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from pmx.contract import Channel, Contract
from pmx.draft.clock import Written
from pmx.draft.grid import SECONDS, TICKS, find_grid
from pmx.draft.signal import describe

GERMAN = Written("%d.%m.%Y %H:%M:%S", 1.0)


def record(times: list[datetime], written: Written | None = GERMAN):
    rows = pl.DataFrame({"asset": ["P1"] * len(times), "time": times})
    one = rows.sort("time").with_columns(number=pl.int_range(pl.len()).cast(pl.Float64))
    return find_grid([describe("x", "", (len(times),) * 2, one)], rows, written, "cycle")


@settings(max_examples=60, deadline=None)
@given(st.floats(0.05, 100_000), st.integers(20, 300), st.integers(1, 5000))
def test_the_contract_takes_every_grid(step: float, count: int, stretch: int) -> None:
    times = [datetime(2025, 7, 1) + timedelta(seconds=step * i) for i in range(count)]
    times.append(times[-1] + timedelta(seconds=min(step * stretch, 3e8)))
    grid = record(times)
    contract = Contract((Channel("x", "-"),), grid.life_unit, "calendar", grid.tick)
    seconds = contract.tick_us / 1e6
    assert seconds >= 0.97 * step or seconds == 86_400
    assert (times[-1] - times[0]).total_seconds() / seconds <= TICKS * 1.05 or seconds == 86_400
    assert grid.sampling is not None and abs(grid.sampling * SECONDS[grid.life_unit] / step - 1) < 0.01


def test_hold_spans_nearly_all_gaps_and_two_ticks() -> None:
    times = [datetime(2026, 1, 1) + timedelta(minutes=10 * i + (i % 5 == 0) * 4) for i in range(500)]
    one = pl.DataFrame({"asset": ["P"] * 500, "time": times, "number": [float(i % 7) for i in range(500)]})
    signal = describe("x", "", (500, 500), one)
    grid = find_grid([signal], one.select("asset", "time"), GERMAN, "")
    assert grid.hold(signal) >= max(2 * grid.tick, grid.of(signal.late_gap) * 0.999)


def test_lateness_is_seen_in_the_order_of_rows_and_not_in_sorted_or_shuffled_files() -> None:
    times = [datetime(2026, 1, 1) + timedelta(minutes=i) for i in range(1000)]
    late = times.copy()
    for n, i in enumerate(range(50, 1000, 100)):  # from one to five minutes late
        end = i + 2 + n % 5
        late[i:end] = [*late[i + 1 : end], late[i]]
    assert record(times).lateness == 0 and record(times[::-1]).lateness == 0
    assert 5 <= record(late).lateness * SECONDS[record(late).life_unit] / 60 <= 6.5


def test_zones_are_guessed_by_the_dates_and_asked_for() -> None:
    times = [datetime(2026, 1, 1) + timedelta(hours=i) for i in range(100)]
    assert record(times).zone == "Europe/Berlin" and not record(times).zone_known
    assert record(times, Written(None, 1.0)).zone == "UTC" and record(times, Written(None, 1.0, zoned=True)).zone_known
    spring = [datetime(2025, 3, 29) + timedelta(minutes=10 * i) for i in range(500)]
    assert record(spring).zone == "UTC" and "spring" in record(spring).zone_why


def test_the_second_pass_of_the_hour_that_autumn_repeats_is_not_late() -> None:
    utc = [datetime(2025, 10, 25, 12) + timedelta(minutes=7 * i) for i in range(400)]
    change = datetime(2025, 10, 26, 1)
    assert record([t + timedelta(hours=2 if t < change else 1) for t in utc]).lateness == 0
