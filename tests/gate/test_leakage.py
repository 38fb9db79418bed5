"""The leakage gate: what was fitted on, against what was evaluated."""

import numpy as np
import polars as pl
import pytest

from pmx.edge.replay import replay_ticks
from pmx.gate.leakage import late_orders, leakage
from pmx.gate.parity import as_ticks
from pmx.select.training import Training
from pmx.window.label import label
from pmx.window.split import ByTime, Head
from tests.small_fleet import small_fleet


def played(ticks: pl.DataFrame):
    return replay_ticks(small_fleet().bundle, as_ticks(ticks, small_fleet().history.contract))


def test_a_sound_split_by_asset_passes():
    fleet = small_fleet()
    found = leakage(fleet.training.ticks, fleet.ticks, fleet.division, played(fleet.tested))
    assert found.passed and found.detail == "split by asset: 8 assets fitted, 4 evaluated, 0 findings"


def test_an_asset_on_both_sides_is_named():
    fleet = small_fleet()
    stolen = fleet.real.assets[2]
    fitted = pl.concat([fleet.training.ticks, fleet.ticks.filter(pl.col("asset") == stolen)[:1]])  # one reading is enough
    found = leakage(fitted, fleet.ticks, fleet.division, played(fleet.tested))
    assert (found.passed, found.culprit, found.rule) == (False, stolen, "no asset on both sides")


def test_a_replay_that_evaluates_a_training_asset_is_named():
    fleet = small_fleet()
    found = leakage(fleet.training.ticks, fleet.ticks, fleet.division, played(fleet.ticks))
    assert not found.passed and found.culprit == fleet.training.truth.assets[0] and "8 findings" in found.detail


@pytest.mark.parametrize("split", [ByTime(share=0.6), Head(rows=30)])
def test_a_split_by_time_passes_and_one_late_tick_is_named(split):
    fleet = small_fleet()
    division = split.apply(fleet.ticks, None)
    fitted, tested = fleet.ticks.filter(pl.Series(division.train)), fleet.ticks.filter(pl.Series(division.test))
    whole = played(fleet.ticks)  # the replay passes through the training ticks to reach the others
    assert leakage(fitted, fleet.ticks, division, whole).passed
    both = np.intersect1d(fitted["asset"].unique(), tested["asset"].unique())
    late = tested.filter(pl.col("asset") == both[0])[3:4]
    found = leakage(pl.concat([fitted, late]), fleet.ticks, division, whole)
    assert not found.passed and found.rule == "what is fitted on, and what labels tell, was there before the first test tick"
    assert found.culprit == both[0]


def test_fitting_twice_on_a_tick_is_no_finding_and_an_empty_side_is():
    fleet = small_fleet()
    twice = pl.concat([fleet.training.ticks, fleet.training.ticks])
    assert leakage(twice, fleet.ticks, fleet.division, played(fleet.tested)).passed
    found = leakage(fleet.training.ticks[:0], fleet.ticks, fleet.division, played(fleet.tested))
    assert not found.passed and found.culprit == "nothing was fitted"


@pytest.mark.parametrize("split", [ByTime(share=0.6), Head(rows=30)])
def test_a_failure_that_nobody_had_written_down_yet_is_named(split):
    fleet = small_fleet()
    division = split.apply(fleet.ticks, None)
    train = fleet.ticks.filter(pl.Series(division.train))
    contract, events = fleet.history.contract, fleet.history.events
    told_everything = label(train, events, contract)
    assert late_orders(told_everything, events, fleet.ticks, division, contract)
    honest = Training.of(fleet.ticks, division, fleet.history, split).labels
    assert not late_orders(honest, events, fleet.ticks, division, contract)
