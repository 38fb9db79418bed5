"""Validation never scores a tick with what has seen its asset; the refits see what they may."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from pmx.alarm.policy import KofN
from pmx.contract import DataError, UsageError
from pmx.evaluate.protocol import Protocol
from pmx.select.candidates import Trial, choose, out_of_fold, refit, refit_without_age, task_of, try_out
from pmx.window.label import pseudo_test
from pmx.window.split import ByAsset, ByTime


def silent(what: str, done: int, total: int) -> None:
    """Takes progress."""


def test_no_tick_is_scored_by_a_model_that_saw_its_asset(spy, features, whole, protocol):
    scores = out_of_fold({"spy": spy}, features, whole, ByAsset(folds=3), protocol, silent)["spy"]
    assert not np.isnan(scores).any() and len(spy.seen) == 3
    for name in np.unique(whole.asset):
        (fit,) = set(scores[whole.asset == name])
        assert name not in spy.seen[int(fit) - 1][0]
    assert frozenset.union(*(fit[0] for fit in spy.seen)) == set(whole.asset)


def test_the_normalisation_is_fitted_inside_each_fold(spy, features, whole, protocol):
    """An asset with wild readings, and the features of the fold that predicts it: they must not know how wild it is."""
    wild = pl.when(pl.col("asset") == "A04").then(pl.col("heat") * 1000).otherwise("heat").alias("heat")
    spoilt = replace(whole, ticks=whole.ticks.with_columns(wild.cast(pl.Float32)))
    other = type(spy)("rul")
    out_of_fold({"spy": spy}, features, whole, ByAsset(folds=5), protocol, silent)
    out_of_fold({"spy": other}, features, spoilt, ByAsset(folds=5), protocol, silent)
    for before, after in zip(spy.seen, other.seen, strict=True):
        same = np.array_equal(before[1], after[1], equal_nan=True)
        assert same == ("A04" not in before[0])


def test_under_a_split_by_time_only_later_blocks_are_predicted(spy, features, whole):
    by_time, near = replace(whole, by="time"), Protocol(cap=20.0, horizon=10.0, lead=3.0)
    scores = out_of_fold({"spy": spy}, features, by_time, ByTime(folds=3), near, silent)["spy"]
    for name in np.unique(whole.asset):
        own = scores[whole.asset == name]
        assert np.isnan(own[0]) and not np.isnan(own[-1])
        assert (np.diff(own[~np.isnan(own)]) >= 0).all(), "a later block by a later fit"
    assert [len(fit[3]) for fit in spy.seen] == sorted(len(fit[3]) for fit in spy.seen)


def test_under_a_split_by_time_a_fold_knows_no_later_failure(spy, features, whole):
    """The first two fits end before any asset has failed (the first does at cycle 85): all they can know is a life beyond the cap."""
    by_time, near = replace(whole, by="time"), Protocol(cap=20.0, horizon=10.0, lead=3.0)
    out_of_fold({"spy": spy}, features, by_time, ByTime(folds=3), near, silent)
    last = [int(np.quantile(whole.ticks["tick"].to_numpy(), k / 4)) for k in (1, 2)]
    for (_, _, y, asset), end in zip(spy.seen, last, strict=False):
        assert end < 85 and set(y) == {20.0}
        assert all((asset == a).sum() == end - 20 for a in np.unique(asset)), "ticks that lie a whole cap before the end of the fold"


def test_only_labelled_ticks_are_fitted_on(spy, anomaly_spy, features, whole, protocol):
    out_of_fold({"spy": spy}, features, whole, ByAsset(folds=2), protocol, silent)
    assert all(not np.isnan(fit[2]).any() and (fit[2] <= protocol.cap).all() for fit in spy.seen)
    out_of_fold({"spy": anomaly_spy}, features, whole, ByAsset(folds=2), protocol, silent)
    healthy = whole.labels.healthy(protocol.horizon).sum()
    assert sum(len(fit[3]) for fit in anomaly_spy.seen) == healthy, "two folds fit every healthy tick once"


def test_every_candidate_gets_the_same_ticks(spy, features, whole, protocol):
    other = type(spy)("rul")
    done = []
    out_of_fold({"a": spy, "b": other}, features, whole, ByAsset(folds=2), protocol, lambda *at: done.append(at[1:]))
    assert all(np.array_equal(a[1], b[1], equal_nan=True) and a[0] == b[0] for a, b in zip(spy.seen, other.seen, strict=True))
    assert done[-1] == (4, 4) and [d for d, _ in done] == sorted(d for d, _ in done)


def test_a_trial_s_error_is_that_at_the_pseudo_test_cuts(spy, whole, protocol):
    rng = np.random.default_rng(0)
    target = whole.labels.capped(protocol.cap)
    scores = np.where(np.isnan(target), 30.0, target) + rng.normal(0, 7, len(target))
    trial = try_out("spy", spy, scores, whole, protocol, KofN(), seed=4)
    cuts = pseudo_test(whole.asset, whole.labels.rul, 4)
    given = np.clip(scores, 0, protocol.cap).astype(np.float32)
    assert trial.metrics["validation/rmse_cut_capped"] == pytest.approx(np.sqrt(np.mean((given[cuts] - target[cuts]) ** 2)), rel=1e-6)
    assert trial.value == -trial.metrics["validation/rmse_cut_capped"]
    assert trial.policy.output == "rul" and trial.metrics["validation/raise_at"] == trial.policy.raise_at


def test_an_anomaly_score_is_ranked_among_healthy_ticks(anomaly_spy, whole, protocol):
    left = np.where(np.isnan(whole.labels.rul), 100.0, whole.labels.rul)
    trial = try_out("spy", anomaly_spy, -left, whole, protocol, KofN(k=2, n=2), seed=0)
    healthy = whole.labels.healthy(protocol.horizon)
    assert trial.healthy.max() == -left[healthy].min() and (np.diff(trial.healthy) >= 0).all()
    assert trial.metrics["validation/event_recall"] == 1.0 and trial.metrics["validation/false_alarms_per_asset"] <= 0.1
    assert trial.value == pytest.approx(1.0 - trial.metrics["validation/false_alarms_per_asset"])


def test_no_tick_to_validate_on_is_bad_data(spy, anomaly_spy, whole, protocol):
    nothing = np.full(len(whole.asset), np.nan)
    with pytest.raises(DataError, match="long enough to validate on"):
        try_out("spy", spy, nothing, whole, protocol, KofN(), seed=0)
    with pytest.raises(DataError, match="no tick that is surely healthy"):
        try_out("spy", anomaly_spy, nothing, whole, protocol, KofN(), seed=0)


@pytest.mark.parametrize("values, best", [([-3.0, -1.0, -2.0], 1), ([-1.0, -1.0], 0), ([np.nan, -5.0], 1), ([np.nan, np.nan], 0)])
def test_the_best_wins_and_of_equals_the_first(spy, values: list[float], best: int):
    trials = [Trial(f"c{i}", spy, np.empty(0), None, {}, v) for i, v in enumerate(values)]
    assert choose(trials) is trials[best]


def test_candidates_share_a_task(spy, anomaly_spy):
    assert task_of({"a": spy, "b": type(spy)("rul")}) == "rul"
    with pytest.raises(UsageError, match=r"a \(rul\), b \(anomaly\) -> run them apart"):
        task_of({"a": spy, "b": anomaly_spy})


@pytest.fixture
def trial(spy, whole, protocol) -> Trial:
    target = np.nan_to_num(whole.labels.capped(protocol.cap))
    return try_out("spy", spy, target, whole, protocol, KofN(), seed=0)


def test_the_refit_sees_all_of_training(trial, spy, features, whole, protocol):
    fitted = refit(trial, features, whole, protocol)
    usable, target = whole.usable("rul", protocol)
    names, x, y, asset = spy.seen[-1]
    assert names == set(whole.asset[usable]) and np.array_equal(y, target[usable]) and np.array_equal(asset, whole.asset[usable])
    assert np.array_equal(x, fitted.table(whole.ticks)[usable], equal_nan=True) and fitted.cap == protocol.cap


def test_without_age_there_is_no_age_and_histories_enter_mid_life(trial, spy, features, whole, protocol):
    fitted = refit_without_age(trial, features, whole, protocol, seed=1)
    assert not any(k.reads_age for k in fitted.features.kernels) and any(k.reads_age for k in features.kernels)
    names, x, y, asset = spy.seen[-1]
    assert x.shape[1] == len(fitted.features.names_) == len(refit(trial, features, whole, protocol).features.names_) - 1
    assert {f"A{i:02}" for i in range(8)} <= names <= set(whole.asset), "groups are the assets, not their entries"
    firsts = {a: y[asset == a][0] for a in names}
    lives = {f"A{i:02}": life for i, life in enumerate([90, 100, 110, 120, 95, 105, 115, 85])}
    assert sum(firsts[a] < min(lives[a] - 1, protocol.cap) for a in lives) >= 3, "some history begins in the last 60 cycles"
    again = type(spy)("rul")
    refit_without_age(replace(trial, model=again), features, whole, protocol, seed=1)
    assert np.array_equal(again.seen[-1][1], x, equal_nan=True), "the entries follow from the seed"


def test_an_entry_remembers_nothing_of_what_came_before_it(trial, spy, features, whole, protocol):
    """At the first tick of a history the trailing mean and the slow average are both that tick's value, later they part."""
    refit_without_age(trial, features, whole, protocol, seed=1)
    _, x, _, asset = spy.seen[-1]
    first = (x[:, :2] == x[:, 2:]).all(1)
    assert 24 <= first.sum() <= 30, "three entries of each of the eight that failed, and some of the two that did not"
    assert all(first[asset == f"A{i:02}"].sum() == 3 for i in range(8))
    refit(trial, features, whole, protocol)
    _, x, _, _ = spy.seen[-1]
    assert (x[:, 1:3] == x[:, 3:]).all(1).sum() == 10, "of whole lives there is one each"
