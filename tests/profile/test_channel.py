"""Planted faults of channels are found, each by its name, and a healthy channel carries no remark."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmx.contract import Channel, Running
from pmx.profile.text import record_lines
from pmx.source.cmapss import Cmapss
from tests.profile.fleet import CONTRACT, found, history, of, profiled, rows, stamps


def test_a_healthy_fleet_has_no_remarks_but_what_a_counter_is():
    profile = profiled(rows())
    assert all(c.usable for c in profile.channels)
    assert [c.name for c in profile.channels if c.remarks] == ["energy"] and found(profile, "energy").remarks[0].startswith("counter")


def test_a_constant_channel():
    profile = profiled(rows().with_columns(heat=pl.lit(7.25)))
    assert found(profile, "heat").reasons == ["constant at 7.25"] and found(profile, "flow").usable


@settings(max_examples=15, deadline=None)
@given(begin=st.integers(0, 700), length=st.integers(200, 700))
def test_a_stuck_channel_is_found_where_it_is_stuck(begin: int, length: int):
    frame = rows(assets=2)  # 1440 readings an asset
    at = pl.int_range(pl.len()).over("asset")
    planted = (pl.col("asset") == "P01") & at.is_between(begin, begin + length - 1)
    profile = profiled(frame.with_columns(heat=pl.when(planted).then(0.0).otherwise("heat")))
    stuck = found(profile, "heat").stuck
    assert stuck is not None and (stuck.asset, stuck.value, stuck.readings) == ("P01", 0.0, length)
    assert stuck.begin == pytest.approx(0.5 * begin) and stuck.length == pytest.approx(0.5 * (length - 1))
    assert stuck.share == pytest.approx(length / 1440) and stuck.overall == pytest.approx(length / 2880)
    assert found(profile, "flow").stuck is None


def test_a_channel_that_is_stuck_for_most_of_its_time_is_of_no_use():
    at = pl.int_range(pl.len()).over("asset")
    profile = profiled(rows().with_columns(heat=pl.when(at < 600).then(0.0).otherwise("heat")))
    assert "stuck for 42% of its values" in found(profile, "heat").reasons[0]
    assert any(w.startswith("mend channel heat: stuck at 0 degC") and "and in 3 more assets" in w for w in profile.wants)


def test_a_coarse_sensor_is_not_stuck():
    profile = profiled(rows().with_columns(heat=(pl.col("heat") / 4).round() * 4))
    heat = found(profile, "heat")
    assert heat.usable and heat.stuck is None and heat.remarks == [f"low resolution: {heat.distinct} different values"]


def test_standstill_is_no_fault_where_the_contract_tells_it():
    off = pl.int_range(pl.len()).over("asset").is_between(200, 499)
    frame = rows().with_columns(pl.when(off).then(0.0).otherwise(c).alias(c) for c in ("speed", "heat", "flow"))
    blind = profiled(frame)
    assert found(blind, "heat").stuck is not None and any("speed is 0 for 21%" in w for w in blind.wants)
    told = profiled(frame, contract=replace(CONTRACT, running=Running("speed", above=100.0)))
    assert found(told, "heat").stuck is None and told.operation.running == pytest.approx(1140 / 1440)
    assert told.assets["running"].to_list() == [570.0] * 4 and not any("running condition" in w for w in told.wants)


def test_mostly_missing_counts_running_ticks():
    lost = pl.int_range(pl.len()).over("asset") % 5 < 3
    profile = profiled(rows().with_columns(heat=pl.when(lost).then(None).otherwise("heat")))
    assert found(profile, "heat").missing == pytest.approx(0.6) and found(profile, "heat").reasons == [
        "mostly missing (60% of running ticks)"
    ]
    assert any(w == "values of heat (60% missing)" for w in profile.wants)


def test_an_asset_without_the_channel_is_named():
    profile = profiled(rows().with_columns(heat=pl.when(pl.col("asset") == "P02").then(None).otherwise("heat")))
    assert found(profile, "heat").usable and found(profile, "heat").remarks == ["no value in 1 of 4 pumps (P02)"]
    nothing = profiled(rows().with_columns(heat=pl.lit(None, pl.Float64)))
    assert found(nothing, "heat").reasons == ["no value at all"]


def test_refused_rows_are_counted_by_channel_and_reason():
    channels = (CONTRACT.channels[0], Channel("heat", "degC", low=59.5), *CONTRACT.channels[2:])
    frame = rows()
    profile = profiled(frame, contract=replace(CONTRACT, channels=channels))
    below = int((frame["heat"] < 59.5).sum())
    heat = found(profile, "heat")
    assert heat.refused == {"out_of_range": below} and profile.reasons == {"out_of_range": below} and not heat.usable
    assert heat.reasons == [f"{below / len(frame):.0%} of its values outside [59.5, inf]"] and heat.values == len(frame) - below


def test_a_counter_that_begins_anew_is_counted():
    frame = rows(assets=2)
    profile = profiled(frame.with_columns(energy=pl.col("energy") % 100))
    falls = int((np.diff(frame["energy"].to_numpy().reshape(2, -1) % 100) < 0).sum())
    assert falls > 5 and found(profile, "energy").remarks == [
        f"counter: its growth counts, not its level; falls {falls} times (roll-over or reset)"
    ]


def test_channels_that_stand_still_together_tell_of_the_asset():
    at = (pl.int_range(pl.len()).over("asset") < 300) & (pl.col("asset") == "P00")
    channels = (*CONTRACT.channels, Channel("current", "A"))
    frame = rows().with_columns(current=pl.col("flow") + pl.col("heat"))
    frame = frame.with_columns(pl.when(at).then(1.0).otherwise(c).alias(c) for c in ("heat", "flow", "current"))
    profile = profiled(frame, contract=replace(CONTRACT, channels=channels))
    assert [c.name for c in profile.channels if c.joint] == ["heat", "flow", "current"] and not found(profile, "heat").remarks


@pytest.mark.real_data("cmapss")
def test_the_sensors_that_never_move_in_the_real_engines(data_root):
    profile = of(Cmapss(str(data_root / "cmapss")).load())
    assert {c.name for c in profile.channels if not c.usable} == {"throttle", "T2", "P2", "epr", "farB", "Nf_dmd", "PCNfR_dmd"}
    assert (profile.claim.task, profile.claim.failures, len(profile.record.assets)) == ("rul", 200, 200)
    assert (profile.orders.inside, profile.orders.after, profile.offset.state) == (100, 100, "unknown")


@pytest.mark.parametrize("hour, falls", [(7128.0, False), (7129.0, False), (7126.0, True), (7131.0, True)])
def test_the_hour_that_autumn_repeats_is_no_fall_of_a_counter(hour: float, falls: bool):
    frame = rows(assets=1, days=3, step=0.25).with_columns(pl.col("hour") + 297 * 24 - 24, energy=pl.int_range(pl.len()).cast(pl.Float64))
    swapped = pl.when(pl.col("hour") == hour).then(pl.col("energy") + 1.5).otherwise("energy")  # the next one is lower
    told = found(profiled(frame.with_columns(energy=swapped), contract=replace(CONTRACT, time_zone="Europe/Berlin")), "energy").remarks[0]
    assert ("falls once" in told) == falls
    assert "falls once" in found(profiled(frame.with_columns(energy=swapped)), "energy").remarks[0], "in UTC no hour is repeated"


def test_rows_refused_for_their_quality_need_no_wider_range():
    frame = rows(assets=1, days=3).select("asset", "hour", "heat", "flow").unpivot(index=["asset", "hour"], variable_name="channel")
    frame = frame.with_columns(quality=pl.when(pl.int_range(pl.len()) % 20 == 3).then(pl.lit("Bad")).otherwise(pl.lit("Good")))
    contract = replace(CONTRACT, channels=(Channel("heat", "degC"), Channel("flow", "m3/h")), good=("Good",))
    frame = frame.sort("hour").with_row_index("row", offset=2).with_columns(pl.col("row").cast(pl.Int64), file=pl.lit("a.csv"))
    made = replace(history(rows(assets=1, days=3)), contract=contract, notes=("two tags are unknown",))
    profile = of(replace(made, rows=frame.with_columns(time=stamps(frame["hour"].to_numpy())).drop("hour").lazy()))
    (want,) = (w for w in profile.wants if w.startswith("check channel flow"))
    assert "for their quality code" in want and "Good" in want and "range" not in want
    assert "two tags are unknown" in record_lines(profile) and profile.to_json()["notes"] == ["two tags are unknown"]
