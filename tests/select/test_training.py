"""The training part knows what was known when it ended, and nothing that was learnt later."""

import numpy as np
import polars as pl
import pytest

from pmx.contract import DataError
from pmx.select.training import Training, truth
from pmx.source import History
from pmx.window.split import ByTime, Division, Head


def divided(ticks: pl.DataFrame, train: np.ndarray, by: str = "time") -> Division:
    return Division(train, ~train, by)


def test_the_labels_are_of_the_training_ticks_alone(fleet, whole):
    ticks, history = fleet
    mask = (ticks["asset"] != "A03").to_numpy()
    part = Training.of(ticks, divided(ticks, mask, "asset"), history)
    assert "A03" not in part.truth.assets and len(part.labels.rul) == len(part.ticks) == mask.sum()
    np.testing.assert_array_equal(part.labels.rul, whole.labels.rul[mask])


def test_truth_says_who_failed_and_until_when_the_others_lived(whole):
    of = dict(zip(whole.truth.assets, zip(whole.truth.failed_at, whole.truth.seen, whole.truth.born, strict=True), strict=True))
    assert of["A00"] == (90.0, 90.0, 1.0)
    assert np.isnan(of["A08"][0]) and of["A08"][1] == 70.0, "a replacement is no failure"
    assert np.isnan(of["A09"][0]) and of["A09"][1] == 130.0


def test_truth_leaves_out_who_is_not_looked_at(fleet):
    ticks, history = fleet
    counts = ((ticks["asset"] == "A01") & (ticks["tick"] > 60)).to_numpy()
    of = truth(ticks, history.events, history.contract, counts)
    assert of.assets == ["A01"] and of.begins.tolist() == [61.0] and of.born.tolist() == [1.0] and of.failed_at.tolist() == [100.0]


def test_a_split_by_time_forgets_what_came_later(fleet):
    ticks, history = fleet
    part = Training.of(ticks, ByTime(share=0.7).divide(ticks, None), history)  # up to cycle 91
    failed = {a for a, f in zip(part.truth.assets, part.truth.failed_at, strict=True) if not np.isnan(f)}
    assert failed == {"A00", "A07"}, "failures at cycle 85 and 90; all others came after the split"
    later = ~np.isin(part.asset, ["A00", "A07"])
    assert np.isnan(part.labels.rul[later]).all()
    assert (part.labels.at_least[later] <= 91).all(), "alive until the split is all that was known"


def test_an_order_written_after_the_split_is_not_known_yet(fleet):
    ticks, history = fleet
    late = history.events.with_columns(known_at=pl.when(pl.col("asset") == "A07").then(120.0).otherwise("known_at"))
    changed = History(**{**vars(history), "events": late})
    split = ByTime(share=0.7).divide(ticks, None)
    assert np.isnan(Training.of(ticks, split, changed).truth.failed_at[7]) and Training.of(ticks, split, history).truth.failed_at[7] == 85
    by_asset = divided(ticks, np.ones(len(ticks), bool), "asset")
    assert Training.of(ticks, by_asset, changed).truth.failed_at[7] == 85, "a split by asset looks back on whole lives"


def test_a_head_learns_nothing_from_its_own_tail(fleet):
    """Assets live in different years: the end of one's test part lies before another's training part."""
    ticks, history = fleet
    shift = pl.col("asset").str.slice(1).cast(pl.Int64) * 1000
    apart = ticks.with_columns(pl.col("tick") + shift)
    events = history.events.with_columns(pl.col("time", "known_at") + shift)
    moved = History(**{**vars(history), "events": events})
    part = Training.of(apart, Head(rows=50).divide(apart, None), moved)
    assert np.isnan(part.truth.failed_at).all() and np.isnan(part.labels.rul).all()
    np.testing.assert_array_equal(part.labels.at_least[part.asset == "A01"], np.arange(49, -1, -1))
    whole_life = Training.of(apart, Head(rows=88).divide(apart, None), moved)  # A07 and A08 end before their head does
    ended = dict(zip(whole_life.truth.assets, whole_life.truth.failed_at, strict=True))
    assert ended["A07"] == 7085 and all(np.isnan(f) for a, f in ended.items() if a != "A07")


def test_what_a_task_fits_on(whole, protocol):
    usable, target = whole.usable("rul", protocol)
    left = np.concatenate([life - np.arange(1, life + 1) for life in (90, 100, 110, 120, 95, 105, 115, 85)])
    np.testing.assert_array_equal(target[: len(left)], np.minimum(left, 60.0))
    censored = np.isin(whole.asset, ["A08", "A09"])
    certain = np.concatenate([70 - np.arange(1, 71), 130 - np.arange(1, 131)])
    np.testing.assert_array_equal(usable[censored], certain >= 60), "a censored life counts where it surely exceeds the cap"
    healthy, _ = whole.usable("anomaly", protocol)
    np.testing.assert_array_equal(healthy, np.r_[left, certain] > 20)


def test_nothing_to_fit_on_is_bad_data(fleet, protocol):
    ticks, history = fleet
    none = History(**{**vars(history), "events": history.events.clear()})
    short = ticks.filter(pl.col("tick") <= 15)
    every = divided(short, np.ones(len(short), bool), "asset")
    with pytest.raises(DataError, match="no training tick has a label for the task rul"):
        Training.of(short, every, none).usable("rul", protocol)
    with pytest.raises(DataError, match="for the task anomaly"):
        Training.of(short, every, none).usable("anomaly", protocol)


def test_an_order_for_an_asset_nobody_knows_is_bad_data(fleet):
    """A mistyped name would turn a failed asset into a healthy one."""
    ticks, history = fleet
    typo = history.events.with_columns(asset=pl.when(pl.col("asset") == "A03").then(pl.lit("A3")).otherwise("asset"))
    every = divided(ticks, np.ones(len(ticks), bool), "asset")
    with pytest.raises(DataError, match=r"asset A3 \(1 orders\): no such asset"):
        Training.of(ticks, every, History(**{**vars(history), "events": typo}))
