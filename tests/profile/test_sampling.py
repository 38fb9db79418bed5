"""A gap is time in which no channel has a value, not even a held one; a channel that is silent because nothing changed is none."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmx.contract import Channel
from pmx.profile.text import sampling_lines
from pmx.source.ticks import to_ticks
from tests.profile.fleet import CONTRACT, profiled, rows

NAMES = ("heat", "flow")


def by_exception(hold: float, seed: int = 0, mean: float = 1.0, tick: float = 0.5):
    """A profile of two channels that come one by one, at random distances of `mean` hours."""
    rng = np.random.default_rng(seed)
    parts = []
    for asset in ("P00", "P01"):
        hour = np.round(np.cumsum(0.01 + rng.exponential(mean, 400)), 3)
        which = rng.integers(0, 2, len(hour))
        values = {n: pl.Series(np.where(which == i, rng.normal(size=len(hour)), np.nan)).fill_nan(None) for i, n in enumerate(NAMES)}
        parts.append(pl.DataFrame({"asset": [asset] * len(hour), "hour": hour, **values}))
    contract = replace(CONTRACT, channels=tuple(Channel(n, "degC", hold=hold) for n in NAMES), tick=tick)
    return profiled(pl.concat(parts), contract=contract)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 6), st.sampled_from([1.0, 2.0]))
def test_gaps_are_the_ticks_that_alignment_leaves_empty(seed: int, hold: float, tick: float):
    profile = by_exception(hold, seed, mean=0.3, tick=tick)
    record = profile.record
    readings = record.readings.with_columns(
        asset=pl.Series([record.assets[c] for c in record.code]),
        time=pl.from_epoch(pl.Series(record.zero + np.round(record.time * 3.6e9).astype(np.int64)), "us").dt.replace_time_zone("UTC"),
    )
    ticks = to_ticks(readings, record.contract)
    empty = ticks.select(pl.all_horizontal(pl.col(NAMES).is_null()).sum()).item()
    watched = sum(float(record.time[e - 1] - record.time[b]) for b, e in zip(record.starts[:-1], record.starts[1:], strict=True))
    assert profile.sampling.lost == pytest.approx(empty * tick / watched) and (profile.sampling.gaps > 0) == (empty > 0)


def test_a_silent_channel_keeps_its_value():
    held, never = by_exception(hold=24.0), by_exception(hold=0.0)
    assert held.sampling.gaps == 0 == held.sampling.lost and never.sampling.gaps > 10 and never.sampling.lost > 0.1
    assert not any("gap" in line for line in sampling_lines(held)) and any("any channel" in line for line in sampling_lines(held))
    assert held.sampling.by_channel == never.sampling.by_channel and held.sampling.by_channel["heat"] > 1.5 * held.sampling.distance


def test_readings_that_come_more_seldom_than_ticks_are_no_gaps_but_lost_ones_are():
    frame = rows(assets=2, days=10, step=1.0)
    assert profiled(frame).sampling.gaps == 0
    cut = profiled(frame.filter((pl.col("asset") != "P01") | ~pl.col("hour").is_between(50.5, 60.5))).sampling
    assert (cut.gaps, cut.longest, cut.longest_asset, cut.longest_begin) == (1, 11.0, "P01", 49.0)
    assert cut.lost == pytest.approx(10 / (2 * 239))
