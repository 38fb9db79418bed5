"""Planted sensor faults: what is planted is what the kind says, nothing before it changes, and a bundle is judged by what it made of it."""

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


def test_a_row_out_of_range_is_missing_as_the_contract_has_it():
    values = readings(0)
    values[7, 0] = 501.0
    kept, refused = admitted(values, CONTRACT)
    assert np.flatnonzero(refused).tolist() == [7] and np.isnan(kept[7]).all() and (np.delete(kept, 7, 0) == np.delete(values, 7, 0)).all()


def test_trials_take_each_kind_as_often_as_there_are_seeds():
    trials = list(plan(CONTRACT, list(KINDS), seeds=3))
    assert {k: sum(t[0] == k for t in trials) for k in KINDS} == dict.fromkeys(KINDS, 3)
    assert {t[1] for t in trials} <= {"flow", "heat"} and all(t[2] != t[1] for t in trials)


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
