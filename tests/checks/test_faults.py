"""Planted sensor faults: what is planted is what the kind says, nothing before it changes, and a bundle is judged by what it made of it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmx.align import Ticks
from pmx.checks.faults import KINDS, admitted, inject, judge_faults, main, other_units, plan, table_of
from pmx.contract import QUALITY, Channel, Contract, UsageError
from tests.small_fleet import small_fleet

CONTRACT = Contract((Channel("flow", "m3/h", low=0.0, high=500.0), Channel("heat", "°C"), Channel("speed", "rpm", "setting")), "h", "life")


def readings(seed: int, ticks: int = 60) -> np.ndarray:
    return (np.array([60.0, 40.0, 1450.0]) + np.random.default_rng(seed).normal(size=(ticks, 3))).astype(np.float32)


def test_there_are_thirteen_kinds_and_each_has_a_state_that_verdicts_know():
    assert len(KINDS) == 13 and {f.state for f in KINDS.values()} == set(QUALITY[1:])


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(sorted(KINDS)), begin=st.integers(2, 40), seed=st.integers(0, 1000))
def test_a_fault_changes_its_channel_from_its_first_tick_on_and_nothing_else(kind, begin, seed):
    given_, values = readings(seed), readings(seed)
    planted = inject(values, CONTRACT, kind, "flow", begin, "heat", seed)
    assert (values == given_).all(), "the readings given stay as they are"
    assert (planted[:begin] == values[:begin]).all() and (planted[:, 2] == values[:, 2]).all()
    assert not np.array_equal(planted[begin:, 0], values[begin:, 0], equal_nan=True)
    assert kind == "swapped" or (planted[:, 1] == values[:, 1]).all()
    assert np.array_equal(planted, inject(values, CONTRACT, kind, "flow", begin, "heat", seed), equal_nan=True)


def test_missing_readings_stay_missing_in_a_sensor_that_still_answers():
    values = readings(0)
    values[30:, 0] = np.where(np.arange(30) % 3 == 0, np.nan, values[30:, 0])
    for kind in ("stuck", "saturation", "spikes", "noise", "drift up", "drift down", "offset", "gain", "unit change"):
        planted = inject(values, CONTRACT, kind, "flow", 30, seed=1)
        assert (np.isnan(planted[:, 0]) == np.isnan(values[:, 0])).all(), kind


def test_other_units_leave_out_what_nobody_would_notice():
    assert (745.7 / 1000) not in [scale for scale, _ in other_units("hp")] and len(other_units("kW")) == 2
    assert other_units("furlong") == []


@pytest.mark.parametrize(
    ("kind", "channel", "begin", "other", "named"),
    [
        ("wobble", "flow", 5, None, "wobble"), ("stuck", "warmth", 5, None, "warmth"), ("stuck", "flow", 0, None, "begin between"),
        ("swapped", "flow", 5, "flow", "name another"), ("swapped", "flow", 5, None, "name another"),
    ],
)  # fmt: skip
def test_what_cannot_be_planted_is_refused_by_name(kind, channel, begin, other, named):
    with pytest.raises(UsageError, match=named):
        inject(readings(0), CONTRACT, kind, channel, begin, other)
    with pytest.raises(UsageError, match="no relatives"):
        inject(readings(0), Contract((Channel("flow", "ml/h"),), "h", "life"), "unit change", "flow", 5)


def test_a_value_out_of_range_is_missing_and_the_breach_names_its_channel():
    values = readings(0)
    values[7, 0] = 501.0
    kept, broken = admitted(values, CONTRACT)
    assert np.argwhere(broken).tolist() == [[7, 0]] and np.isnan(kept[7, 0])
    assert (np.delete(kept, 7, 0) == np.delete(values, 7, 0)).all(), "the other ticks are as they were"


def test_readings_within_their_range_pass_whatever_the_clock():
    for contract in (CONTRACT, Contract(CONTRACT.channels, "h", "calendar", tick=6.0)):
        values = readings(1)
        values[3, 1] = np.nan
        kept, broken = admitted(values, contract)
        assert np.array_equal(kept, values, equal_nan=True) and not broken.any()


@pytest.mark.parametrize("kind", ["spikes", "noise", "drift up", "drift down", "offset"])
def test_a_departure_is_as_large_as_it_is_asked_to_be(kind):
    values, off = readings(0), {}
    for size in (10.0, 30.0):
        off[size] = inject(values, CONTRACT, kind, "heat", 30, seed=3, size=size)[30:, 1] - values[30:, 1]
    assert np.abs(off[10.0]).max() > 1 and np.allclose(off[30.0], 3 * off[10.0], atol=1e-3)


def test_trials_take_each_kind_as_often_as_there_are_seeds():
    trials = list(plan(CONTRACT, list(KINDS), seeds=3))
    assert {k: sum(t[0] == k for t in trials) for k in KINDS} == dict.fromkeys(KINDS, 3)
    assert {t[1] for t in trials} <= {"flow", "heat"} and all(t[2] != t[1] for t in trials)


def test_other_seeds_draw_other_trials_and_channels_can_be_named():
    first, second = (list(plan(CONTRACT, list(KINDS), 20, seed)) for seed in (0, 1))
    assert [t[:3] for t in first] != [t[:3] for t in second] and not {t[3] for t in first} & {t[3] for t in second}
    assert {t[1] for t in plan(CONTRACT, list(KINDS), 5, channels=["heat"])} == {"heat"}


def test_a_fault_that_leaves_the_range_is_named_by_the_breach(monkeypatch):
    fleet = small_fleet()
    values = [readings_of(fleet, asset) for asset in fleet.real.assets]
    ticks = Ticks(list(fleet.real.assets), np.zeros(len(values), np.int64), values)
    channel = next(c for c in fleet.history.contract.channels if c.role == "measurement" and c.high is not None)
    far = replace(KINDS["offset"], plant=lambda x, sensor, rng: np.full(len(x), 2 * channel.high + 1))
    monkeypatch.setitem(KINDS, "offset", far)
    (trial,) = judge_faults(fleet.bundle, ticks, kinds=["offset"], seeds=1, lasting=20, channels=[channel.name])
    assert trial.told == "breach" and trial.breached == 1.0 and not trial.named
    assert table_of([trial]).splitlines()[1].split()[:5] == ["offset", "1", str(trial.caused), "0", "1"]


def test_a_bundle_that_believes_everything_names_nothing():
    fleet = small_fleet()
    contract = fleet.history.contract
    values = [readings_of(fleet, asset) for asset in fleet.real.assets]
    ticks = Ticks(list(fleet.real.assets), np.zeros(len(values), np.int64), values)
    trials = judge_faults(fleet.bundle, ticks, kinds=["stuck", "dead"], seeds=2, lasting=20)
    assert [t.kind for t in trials] == ["stuck", "stuck", "dead", "dead"] and not any(t.named or t.delay for t in trials)
    assert {t.channel for t in trials} <= set(contract.names)
    table = table_of(trials).splitlines()
    assert len(table) == 3 and table[1].split()[:4] == ["stuck", "2", str(sum(t.caused for t in trials[:2])), "0"]
    with pytest.raises(UsageError, match="healthy ticks"):
        judge_faults(fleet.bundle, ticks, seeds=1, lasting=10_000)


def readings_of(fleet, asset: str) -> np.ndarray:
    rows = fleet.ticks.filter(fleet.ticks["asset"] == asset)
    return rows.select(fleet.history.contract.names).to_numpy().astype(np.float32)


def test_a_mistyped_bundle_ends_with_the_code_of_bad_data(tmp_path, capsys):
    assert main([str(tmp_path / "nowhere"), "--input", str(tmp_path / "x.csv")]) == 3
    assert "no such bundle" in capsys.readouterr().err
