"""Local times: what the zone's own library says wherever an hour is unique, and one rule where it is not."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmx.clock import LocalTimes
from pmx.contract import NEVER, Channel, Contract

ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Africa/Casablanca", "America/Sao_Paulo"]


def local_times(zone: str, lateness: float = 0.0) -> LocalTimes:
    return LocalTimes(Contract((Channel("a", "-"),), "min", "calendar", time_zone=zone, lateness=lateness))


def us(moment: datetime) -> int:
    return (moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def run(zone: LocalTimes, walls: list[int], assets: list[str] | None = None) -> list[int]:
    utc, passes = zone.utc(np.array(assets or ["P"] * len(walls), object), np.array(walls, np.int64), np.ones(len(walls), bool))
    zone.passes.update(passes)
    return utc.tolist()


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(ZONES), st.lists(st.datetimes(datetime(1971, 1, 3), datetime(2500, 1, 1)), min_size=1, max_size=8))
def test_the_first_pass_is_the_zone_library_s(zone, moments):
    place = ZoneInfo(zone)
    for k, (moment, found) in enumerate(
        zip(moments, run(local_times(zone), [us(m) for m in moments], list("abcdefgh")[: len(moments)]), strict=True)
    ):
        there = moment.replace(tzinfo=place).astimezone(UTC)
        exists = there.astimezone(place).replace(tzinfo=None) == moment
        assert found == (us(there) if exists else NEVER), k


@pytest.mark.parametrize(("lateness", "passes"), [(0.0, [1, 1, 2, 2, 2]), (9.0, [1, 1, 2, 2, 2]), (15.0, [1, 1, 1, 1, 2])])
def test_the_second_pass_begins_where_times_jump_back_by_more_than_the_lateness(lateness, passes):
    walls = [us(datetime(2026, 10, 25, 2, m)) for m in (20, 50, 35, 40, 10)]
    utc = run(local_times("Europe/Berlin", lateness), walls)
    assert [(wall - t) // 3_600_000_000 for wall, t in zip(walls, utc, strict=True)] == [3 - p for p in passes]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("AB"), st.integers(90, 200)), max_size=20), st.sampled_from([0.0, 5.0, 30.0]), st.data())
def test_how_rows_are_batched_changes_no_pass(rows, lateness, data):
    walls = [us(datetime(2026, 10, 25) + timedelta(minutes=m)) for _, m in rows]
    assets = [a for a, _ in rows]
    whole = run(local_times("Europe/Berlin", lateness), walls, assets)
    cut = data.draw(st.integers(0, len(rows)))
    zone = local_times("Europe/Berlin", lateness)
    assert run(zone, walls[:cut], assets[:cut]) + run(zone, walls[cut:], assets[cut:]) == whole
