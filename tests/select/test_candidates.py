"""Validation never scores a tick with what has seen its asset; the refits see what they may."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from pmx.alarm.policy import KofN
from pmx.bundle import Bundle
from pmx.contract import DataError, UsageError
from pmx.edge.replay import replay_ticks
from pmx.evaluate.protocol import Protocol
from pmx.evaluate.report import alarm_table, row, tables_of
from pmx.feature.features import FeatureSet
from pmx.feature.kernel import Lags
from pmx.feature.regime import RegimeScore
from pmx.gate.parity import as_ticks
from pmx.model.pca import Pca
from pmx.pack.core import core_files
from pmx.select.candidates import LEAST_FAILURES, Trial, choose, out_of_fold, refit, task_of, try_out
from pmx.select.training import Training, truth
from pmx.select.twin import refit_without_age
from pmx.window.label import pseudo_test
from pmx.window.split import ByAsset, ByTime, Division, Head


def silent(what: str, done: int, total: int) -> None:
    """Takes progress."""


def test_no_tick_is_scored_by_a_model_that_saw_its_asset(spy, features, whole, protocol):
    scores = out_of_fold({"spy": spy}, features, replace(whole, split=ByAsset(folds=3)), protocol, silent)["spy"]
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
    out_of_fold({"spy": spy}, features, replace(whole, split=ByAsset(folds=5)), protocol, silent)
    out_of_fold({"spy": other}, features, replace(spoilt, split=ByAsset(folds=5)), protocol, silent)
    for before, after in zip(spy.seen, other.seen, strict=True):
        same = np.array_equal(before[1], after[1], equal_nan=True)
        assert same == ("A04" not in before[0])


def test_under_a_split_by_time_only_later_blocks_are_predicted(spy, features, whole):
    by_time, near = replace(whole, by="time"), Protocol(cap=20.0, horizon=10.0, lead=3.0)
    scores = out_of_fold({"spy": spy}, features, replace(by_time, split=ByTime(folds=3)), near, silent)["spy"]
    for name in np.unique(whole.asset):
        own = scores[whole.asset == name]
        assert np.isnan(own[0]) and not np.isnan(own[-1])
        assert (np.diff(own[~np.isnan(own)]) >= 0).all(), "a later block by a later fit"
    assert [len(fit[3]) for fit in spy.seen] == sorted(len(fit[3]) for fit in spy.seen)


def test_under_a_split_by_time_a_fold_knows_no_later_failure(spy, features, whole):
    """The first two fits end before any asset has failed (the first does at cycle 85): all they can know is a life beyond the cap."""
    by_time, near = replace(whole, by="time"), Protocol(cap=20.0, horizon=10.0, lead=3.0)
    out_of_fold({"spy": spy}, features, replace(by_time, split=ByTime(folds=3)), near, silent)
    last = [int(np.quantile(whole.ticks["tick"].to_numpy(), k / 4)) for k in (1, 2)]
    for (_, _, y, asset), end in zip(spy.seen, last, strict=False):
        assert end < 85 and set(y) == {20.0}
        assert all((asset == a).sum() == end - 20 for a in np.unique(asset)), "ticks that lie a whole cap before the end of the fold"


def test_only_labelled_ticks_are_fitted_on(spy, anomaly_spy, features, whole, protocol):
    out_of_fold({"spy": spy}, features, replace(whole, split=ByAsset(folds=2)), protocol, silent)
    assert all(not np.isnan(fit[2]).any() and (fit[2] <= protocol.cap).all() for fit in spy.seen)
    out_of_fold({"spy": anomaly_spy}, features, replace(whole, split=ByAsset(folds=2)), protocol, silent)
    healthy = whole.labels.healthy(protocol.horizon).sum()
    assert sum(len(fit[3]) for fit in anomaly_spy.seen) == healthy, "two folds fit every healthy tick once"


def test_every_candidate_gets_the_same_ticks(spy, features, whole, protocol):
    other = type(spy)("rul")
    done = []
    out_of_fold({"a": spy, "b": other}, features, replace(whole, split=ByAsset(folds=2)), protocol, lambda *at: done.append(at[1:]))
    assert all(np.array_equal(a[1], b[1], equal_nan=True) and a[0] == b[0] for a, b in zip(spy.seen, other.seen, strict=True))
    assert done[-1] == (4, 4) and [d for d, _ in done] == sorted(d for d, _ in done)


def test_a_trial_s_error_is_that_at_the_pseudo_test_cuts(spy, whole, protocol):
    rng = np.random.default_rng(0)
    target = whole.labels.capped(protocol.cap)
    scores = np.where(np.isnan(target), 30.0, target) + rng.normal(0, 7, len(target))
    trial = try_out("spy", spy, scores, whole, protocol, KofN(), seed=4)
    cuts = pseudo_test(whole.asset, whole.labels.rul, protocol.cap, 4)
    given = np.clip(scores, 0, protocol.cap).astype(np.float32)
    assert trial.metrics["validation/rmse_cut_capped"] == pytest.approx(np.sqrt(np.mean((given[cuts] - target[cuts]) ** 2)), rel=1e-6)
    assert trial.value == -trial.metrics["validation/rmse_cut_capped"]
    assert trial.policy.output == "rul" and trial.metrics["validation/raise_at"] == trial.policy.raise_at


def test_an_anomaly_score_is_ranked_among_healthy_ticks(anomaly_spy, whole, protocol):
    left = np.where(np.isnan(whole.labels.rul), 100.0, whole.labels.rul)
    scores = 1000.0 / (left + 5.0)
    trial = try_out("spy", anomaly_spy, scores, whole, protocol, KofN(k=2, n=2), seed=0)
    healthy = scores[whole.labels.healthy(protocol.horizon)]
    (level,) = trial.healthy.level.values()
    assert level == pytest.approx(np.quantile(healthy, 0.95))
    assert trial.healthy.ratios[-1] == pytest.approx(healthy.max() / level) and (np.diff(trial.healthy.ratios) >= 0).all()
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
    trials = [Trial(f"c{i}", spy, None, None, {}, v) for i, v in enumerate(values)]
    assert choose(trials) is trials[best]


def test_candidates_share_a_task(spy, anomaly_spy, features):
    assert task_of({"a": spy, "b": type(spy)("rul")}, features) == "rul"
    with pytest.raises(UsageError, match=r"a \(rul\), b \(anomaly\) -> run them apart"):
        task_of({"a": spy, "b": anomaly_spy}, features)


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
    fitted = refit_without_age([trial], trial, features, whole, protocol, seed=1)
    assert not any(k.reads_age for k in fitted.features.kernels) and any(k.reads_age for k in features.kernels)
    names, x, y, asset = spy.seen[-1]
    assert x.shape[1] == len(fitted.features.names_) == len(refit(trial, features, whole, protocol).features.names_) - 1
    assert {f"A{i:02}" for i in range(8)} <= names <= set(whole.asset), "groups are the assets, not their entries"
    lefts = {a: y[asset == a] for a in names}
    firsts = {a: left[np.diff(left, prepend=-1) > 0] for a, left in lefts.items()}  # an entry begins where more is left than before it
    assert all(len(firsts[f"A{i:02}"]) == 5 and firsts[f"A{i:02}"].min() < protocol.cap for i in range(8)), "some begin near the end"
    again = type(spy)("rul")
    refit_without_age([replace(trial, model=again)], trial, features, whole, protocol, seed=1)
    assert np.array_equal(again.seen[-1][1], x, equal_nan=True), "the entries follow from the seed"


def test_an_entry_remembers_nothing_of_what_came_before_it(trial, spy, features, whole, protocol):
    """At the first tick of a history the trailing mean and the slow average are both that tick's value, later they part."""
    refit_without_age([trial], trial, features, whole, protocol, seed=1)
    _, x, _, asset = spy.seen[-1]
    first = (x[:, :2] == x[:, 2:]).all(1)
    assert 40 <= first.sum() <= 50, "five entries of each of the eight that failed, and some of the two that did not"
    assert all(first[asset == f"A{i:02}"].sum() == 5 for i in range(8))
    refit(trial, features, whole, protocol)
    _, x, _, _ = spy.seen[-1]
    assert (x[:, 1:3] == x[:, 3:]).all(1).sum() == 10, "of whole lives there is one each"


def by_head(make_history, each: bool, lives=(120, 120, 140, 160), **more) -> Training:
    """The first 100 readings of each asset, in four blocks and a first one of 20; no failure is known."""
    ticks, history = make_history(list(lives), [""] * len(lives))
    split = Head(rows=100, folds=4)
    return Training.of(ticks, split.apply(ticks, None), replace(history, **more), split, each)


class Smooth:
    """What `try_out` asks of a model."""

    task = "anomaly"

    def __init__(self, smooth: float) -> None:
        self.smooth = smooth


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("smooth", [0.0, 3.0])
def test_healthy_levels_come_from_all_blocks(make_history, protocol, each, smooth):
    """One quiet block would set a level that the others do not stay below."""
    training = by_head(make_history, each)
    scores = np.random.default_rng(0).gamma(4.0, 1.0, len(training.asset))
    trial = try_out("m", Smooth(smooth), scores, training, protocol, KofN(), seed=0)
    louder = try_out("m", Smooth(smooth), 50 * scores, training, protocol, KofN(), seed=0)
    assert all(louder.healthy.level[a] == pytest.approx(50 * trial.healthy.level[a]) for a in trial.healthy.level)
    np.testing.assert_allclose(louder.healthy.ratios, trial.healthy.ratios)
    assert set(trial.healthy.level) == (set(training.truth.assets) if each else {""})
    if not smooth:
        for a, level in trial.healthy.level.items():
            assert level == pytest.approx(np.quantile(scores[(training.asset == a) | (not a)], 0.95))


def test_a_running_mean_that_has_just_begun_sets_no_level(make_history, protocol):
    """Its first values are single scores, wilder than what a device will see: two half-lives of them are left out."""
    training = by_head(make_history, each=False)
    scores = np.random.default_rng(0).gamma(4.0, 1.0, len(training.asset))
    kept = []
    for name in training.truth.assets:
        total = weight = 0.0
        for seen, value in enumerate(scores[training.asset == name], 1):
            total, weight = total * 0.5 ** (1 / 3) + value, weight * 0.5 ** (1 / 3) + 1
            kept += [total / weight] if seen > 6 else []
    healthy = try_out("m", Smooth(3.0), scores, training, protocol, KofN(), seed=0).healthy
    assert healthy.level[""] == pytest.approx(np.quantile(kept, 0.95))
    np.testing.assert_allclose(healthy.ratios, np.sort(kept) / healthy.level[""])


def test_one_loud_asset_raises_no_other_s_level_where_each_has_its_own(make_history, protocol):
    training = {each: by_head(make_history, each) for each in (False, True)}
    quiet = np.random.default_rng(1).gamma(4.0, 1.0, len(training[True].asset))
    loud = np.where(training[True].asset == "A01", 10 * quiet, quiet)
    levels = {
        (e, k): try_out("m", Smooth(0.0), s, t, protocol, KofN(), 0).healthy.level
        for e, t in training.items()
        for k, s in (("quiet", quiet), ("loud", loud))
    }
    before, after = levels[True, "quiet"], levels[True, "loud"]
    assert after["A01"] == pytest.approx(10 * before["A01"]) and all(after[a] == before[a] for a in before if a != "A01")
    assert levels[False, "loud"][""] > 2 * levels[False, "quiet"][""]


def test_without_any_failure_the_margin_is_the_limit_and_the_first_candidate_wins(make_history, protocol):
    training = by_head(make_history, each=False)
    rng = np.random.default_rng(2)
    trials = []
    for i, margin in enumerate((1.2, 2.0, 1.5)):
        alarm = KofN(margin=margin)
        trials.append(try_out(f"c{i}", Smooth(0.0), rng.gamma(4.0, 1.0, len(training.asset)), training, protocol, alarm, seed=0))
        assert trials[-1].policy == alarm.at(margin, trials[-1].healthy.ratios)
        assert trials[-1].metrics["validation/n_failures"] == 0 and "validation/event_recall" not in trials[-1].metrics
    assert choose(trials) is trials[0] and {t.value for t in trials} == {0.0}


@pytest.mark.parametrize("failures", [0, LEAST_FAILURES - 1, LEAST_FAILURES])
def test_too_few_failures_choose_no_limit(make_history, protocol, failures):
    ticks, history = make_history([100] * 8, ["failure"] * failures + [""] * (8 - failures))
    every = np.ones(len(ticks), bool)
    training = Training.of(ticks, Division(every, ~every, "asset"), history, ByAsset(folds=2))
    scores = 1000.0 / (np.where(np.isnan(training.labels.rul), 100.0, training.labels.rul) + 5.0)
    alarm = KofN(k=2, n=2, margin=7.3)
    trial = try_out("m", Smooth(0.0), scores, training, protocol, alarm, seed=0)
    assert (trial.policy == alarm.at(7.3, trial.healthy.ratios)) == (failures < LEAST_FAILURES)
    if failures == LEAST_FAILURES:
        assert trial.policy in alarm.family("anomaly_score", protocol.horizon, protocol.cap, trial.healthy.ratios)
        assert trial.metrics["validation/event_recall"] == 1.0


def test_calibration_assets_set_the_levels_and_are_never_fitted_on(anomaly_spy, features, make_history, protocol):
    ticks, history = make_history([120, 120, 140, 160], [""] * 4)
    every = np.ones(len(ticks), bool)
    split = ByAsset(folds=2)
    training = Training.of(ticks, Division(every, ~every, "asset"), replace(history, calibration=frozenset({"A02"})), split)
    scores = out_of_fold({"m": anomaly_spy}, features, training, protocol, silent)["m"]
    assert [fit[0] for fit in anomaly_spy.seen] == [{"A00", "A01", "A03"}]
    np.testing.assert_array_equal(~np.isnan(scores), training.asset == "A02")
    scores[training.asset == "A02"] = np.linspace(1, 2, 140)
    trial = try_out("m", anomaly_spy, scores, training, protocol, KofN(), seed=0)
    assert trial.healthy.level[""] == pytest.approx(np.quantile(np.linspace(1, 2, 140), 0.95))
    fitted = refit(trial, features, training, protocol)
    assert anomaly_spy.seen[-1][0] == {"A00", "A01", "A03"} == set(fitted.used["asset"])
    assert "A02" not in set(fitted.features.fitted_on_["asset"])


def test_ticks_without_any_reading_neither_train_nor_raise_alarms(anomaly_spy, features, make_history, protocol):
    """An asset that was off said nothing: no score, no evidence, nothing to learn from."""
    ticks, history = make_history([120] * 6, [""] * 6)
    off = pl.col("tick").is_between(40, 60) & (pl.col("asset") != "A00")
    ticks = ticks.with_columns(pl.when(off).then(None).otherwise(c).alias(c) for c in ("load", "heat"))
    every, dark = np.ones(len(ticks), bool), ticks.select(off).to_series().to_numpy()
    training = Training.of(ticks, Division(every, ~every, "asset"), history, ByAsset(folds=2))
    scores = out_of_fold({"m": anomaly_spy}, features, training, protocol, silent)["m"]
    np.testing.assert_array_equal(np.isnan(scores), dark)
    assert sum(len(fit[3]) for fit in anomaly_spy.seen) == (~dark).sum()
    noisy = np.where(dark, 1e6, np.random.default_rng(0).gamma(4.0, 1.0, len(dark)))
    trial = try_out("m", anomaly_spy, np.where(dark, np.nan, noisy), training, protocol, KofN(margin=3.0), seed=0)
    refit(trial, features, training, protocol)
    assert len(anomaly_spy.seen[-1][3]) == (~dark).sum()
    assert trial.metrics["validation/false_alarms_per_asset"] == 0


def test_a_remaining_life_of_an_asset_that_is_off_is_no_evidence(spy, whole, protocol):
    """A fold's model says something at every tick; where nothing was measured, it must not count towards an alarm."""
    late = (whole.ticks["tick"] > 30).to_numpy()
    blind = replace(whole, ticks=whole.ticks.with_columns(pl.when(pl.col("tick") <= 30).then(pl.col(c)).alias(c) for c in ("load", "heat")))
    scores = np.where(late, 0.0, protocol.cap)
    seeing, unseeing = (try_out("m", spy, scores, t, protocol, KofN(), 0).metrics["validation/event_recall"] for t in (whole, blind))
    assert (seeing, unseeing) == (1.0, 0.0)


@pytest.mark.parametrize("when", ["before the record", "where nothing was predicted"])
def test_failures_that_no_score_could_tell_choose_no_limit(make_history, protocol, when: str):
    failing = LEAST_FAILURES + 1
    fates = [""] * 10 if when == "before the record" else ["failure"] * failing + [""] * (10 - failing)
    ticks, history = make_history([100] * 10, fates)
    if when == "before the record":
        old = [(f"A{i:02}", -300.0, "failure", -300.0) for i in range(failing)]
        history = replace(history, events=pl.DataFrame(old, schema=history.events.schema, orient="row"))
    every = np.ones(len(ticks), bool)
    training = Training.of(ticks, Division(every, ~every, "asset"), history, ByAsset(folds=2))
    scores = np.random.default_rng(0).gamma(4.0, 1.0, len(ticks))
    if when != "before the record":
        scores[np.isin(training.asset, [f"A{i:02}" for i in range(failing)])] = np.nan
    alarm = KofN(margin=7.3)
    trial = try_out("m", Smooth(0.0), scores, training, protocol, alarm, seed=0)
    assert trial.policy == alarm.at(7.3, trial.healthy.ratios) and trial.metrics["validation/n_failures"] == 0


class Late:
    """Two assets that were always there, `A00` and `A01`, and one that was commissioned when training had almost ended."""

    def __init__(self, make_history, protocol: Protocol, begins: int) -> None:
        ticks, history = make_history([300, 300, 300], ["", "", "failure"])
        self.ticks = ticks.filter((pl.col("asset") != "A02") | (pl.col("tick") >= begins))
        self.history = replace(history, rows=self.ticks.lazy().select("asset"))
        split = ByTime(share=0.7, folds=4)
        self.division = split.divide(self.ticks, None)
        self.training = Training.of(self.ticks, self.division, self.history, split, each=True)
        features = FeatureSet(RegimeScore(), [Lags(2)])
        scores = out_of_fold({"pca": Pca()}, features, self.training, protocol, silent)["pca"]
        self.trial = try_out("pca", Pca(), scores, self.training, protocol, KofN(), seed=0)
        self.fitted = refit(self.trial, features, self.training, protocol)
        self.core = core_files(self.fitted, self.trial.policy, protocol, "late")


@pytest.mark.parametrize("first", [0.97, 0.9, None], ids=["a few ticks", "one block", "a single tick"])
def test_an_asset_without_a_level_is_watched_by_nobody_and_said_so(make_history, protocol, first: float | None):
    """No block validates what was fitted on all that it has: nothing tells which of its scores are healthy."""
    last = int(ByTime(share=0.7).divide(make_history([300] * 3, [""] * 3)[0], None).train.sum() / 3)
    late = Late(make_history, protocol, last if first is None else int(first * last))
    known = {"A00", "A01"}
    assert (late.training.asset == "A02").sum() == (1 if first is None else last - int(first * last) + 1)
    assert set(late.trial.healthy.level) == known == set(late.fitted.assets) == set(late.fitted.model.own)
    bundle = Bundle(late.core, "")
    assert set(bundle.known) == known
    played = replay_ticks(bundle, as_ticks(late.ticks, late.history.contract))
    score = played.outputs["anomaly_score"]
    np.testing.assert_allclose(np.concatenate(score), late.fitted.verdict(late.ticks), rtol=1e-6, equal_nan=True)
    assert [bool(np.isnan(s).all()) for s in score] == [False, False, True] and not played.standing[2].any()
    real = truth(late.ticks, late.history.events, late.history.contract, late.division.test)
    standing, limit = [s | (a == "A02") for s, a in zip(played.standing, real.assets, strict=True)], late.trial.policy.raise_at
    for raised in (played.standing, standing):  # a verdict that is none raises nothing, and a row may not count it if it did
        found = row("winner", None, raised, played.tick, real, protocol, late.history.contract, score, limit)
        assert found.silent == ("A02",) and found.events.exposure[2] == 0 == found.events.false[2] and (found.events.exposure[:2] > 0).all()
    found = row("winner", None, played.standing, played.tick, real, protocol, late.history.contract, score, limit)
    assert (found.events.counted[2], found.events.caught[2]) == (1, 0), "its failure was missed"
    tables = tables_of([found], late.history.contract, protocol)
    assert any(t.startswith("No verdict for A02: ") for t in tables) and tables[-1] == alarm_table([found], late.history.contract)
