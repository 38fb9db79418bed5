"""A planted lag between orders and breaks in the signals is found; where none is planted, none is claimed."""

import re

import numpy as np
import polars as pl
import pytest

from pmx.profile.text import text
from tests.profile.fleet import events, profiled, rows

DAYS = 60.0


def broken(lag: float, jitter: float = 0.2, step: float = 0.25, kind: str = "shift", seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Eight assets with two breaks each (a shift of heat, or a stop of six hours), and orders `lag` hours before the breaks."""
    rng = np.random.default_rng(seed)
    frame = rows(8, DAYS, step, seed)
    names = [f"P{i:02}" for i in range(8) for _ in range(2)]
    at = np.concatenate([[rng.uniform(200, 500), rng.uniform(900, 1200)] for _ in range(8)])
    for name, moment in zip(names, at, strict=True):
        within = (pl.col("asset") == name) & pl.col("hour").is_between(moment, moment + 6)
        shifted = pl.when(within).then(pl.col("heat") + 30).otherwise("heat")
        frame = frame.filter(~within) if kind == "stop" else frame.with_columns(heat=shifted)
    return frame, events(names, (at - lag + jitter * rng.normal(size=len(at))).tolist())


@pytest.mark.parametrize("kind", ["shift", "stop"])
@pytest.mark.parametrize("lag", [2.0, -5.0, 24.0])
def test_a_planted_lag_is_found(lag: float, kind: str):
    frame, log = broken(lag, kind=kind)
    found = profiled(frame, log).offset
    assert found.state == "offset" and (found.events, found.follow >= 13) == (16, True)
    assert abs(found.lag - lag) <= found.resolution and found.low <= found.lag <= found.high


def test_it_is_told_in_words():
    frame, log = broken(2.0)
    profile = profiled(frame, log)
    (want,) = [w for w in profile.wants if w.startswith("correct times of the orders")]
    assert re.search(r"they lie (1\.[5-9]|2|2\.[0-4]) h before the signals' break in \d+ of 16 cases", want)
    assert "a time zone?" in text(profile)


@pytest.mark.parametrize("kind", ["shift", "stop"])
def test_orders_on_time_agree(kind: str):
    found = profiled(*broken(0.0, kind=kind)).offset
    assert found.state == "agree" and abs(found.lag) <= found.resolution


@pytest.mark.parametrize("seed", range(8))
def test_none_planted_none_claimed(seed: int):
    """Breaks at random, orders at random: no lag; neither with a daily rhythm that orders written in office hours share."""
    frame, log = broken(0.0, seed=seed)
    rng = np.random.default_rng(100 + seed)
    log = events(log["asset"].to_list(), rng.uniform(200, 1200, len(log)).tolist())
    assert profiled(frame, log).offset.state == "none"
    office = events(log["asset"].to_list(), (24.0 * rng.integers(12, 45, len(log)) + 9 + rng.normal(0, 0.3, len(log))).tolist())
    daily = frame.with_columns(heat=pl.col("heat") + 30 * (pl.col("hour") % 24).is_between(6, 18))
    assert profiled(daily, office).offset.state == "none"


def test_too_few_orders_and_a_life_clock_tell_nothing():
    frame, log = broken(2.0)
    found = profiled(frame, log.head(4)).offset
    assert found.state == "unknown" and "4 failures and replacements" in found.why and not found.votes


def test_dates_without_a_time_of_day_are_judged_by_the_day():
    frame, log = broken(0.0)
    midnight = log.with_columns(time=pl.col("time").dt.truncate("1d"))
    found = profiled(frame, midnight).offset
    assert found.day_only and found.state != "offset"
    late = midnight.with_columns(time=pl.col("time").dt.offset_by("2d"), known_at=pl.col("time").dt.offset_by("3d"))
    wrong = profiled(frame, late).offset
    assert wrong.day_only and wrong.state == "offset" and -48 <= wrong.lag <= -24


def test_the_end_of_the_record_is_no_stop():
    frame = rows(8, days=10)
    found = profiled(frame, events([f"P{i:02}" for i in range(8)], [234.0 + 0.05 * i for i in range(8)])).offset
    assert found.state == "none" and found.events == 8
