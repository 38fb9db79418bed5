"""Log-odds become probabilities that hold on ticks of their kind; a candidate of the task failure says the same on both paths."""

from dataclasses import replace
from functools import cache

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spox import Tensor, argument, build

from pmx.alarm.policy import KofN
from pmx.contract import DataError
from pmx.edge.replay import replay_ticks
from pmx.evaluate.failure import probability_metrics
from pmx.evaluate.protocol import Protocol, Truth
from pmx.gate.parity import as_ticks
from pmx.model import Model
from pmx.model.lightgbm import LightGBM, LightGBMFailure
from pmx.model.stack import Stack
from pmx.model.weibull import Weibull
from pmx.pack.core import core_files
from pmx.pack.odds import Odds
from pmx.select.candidates import Trial, out_of_fold, refit, try_out
from pmx.select.stacking import with_stacks
from tests.small_fleet import SmallFleet, small_fleet


@settings(max_examples=30, deadline=None)
@given(slope=st.floats(0.2, 3), offset=st.floats(-2, 2), scale=st.sampled_from([0.01, 1.0, 50.0]), seed=st.integers(0, 99))
def test_scores_of_any_scale_and_shift_are_set_right_and_keep_their_order(slope, offset, scale, seed):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=3000) * 2
    came = (rng.random(3000) < 1 / (1 + np.exp(-truth))).astype(float)
    score = (truth - offset) / slope * scale
    odds = Odds.of(score, came)
    told = odds.probability(score)
    assert np.abs(told - 1 / (1 + np.exp(-truth))).mean() < 0.05 and abs(told.mean() - came.mean()) < 0.01
    assert (np.diff(told[np.argsort(score)]) >= 0).all() and odds.slope > 0


def test_a_score_that_is_wrong_way_round_is_not_turned_and_unknown_rows_teach_nothing():
    score, came = np.linspace(-3, 3, 200), (np.linspace(-3, 3, 200) < 0).astype(float)
    assert 0 < Odds.of(score, came).slope < 0.01
    with_gaps = Odds.of(np.r_[score, np.nan, 9.0], np.r_[came, 1.0, np.nan])
    assert with_gaps == Odds.of(score, came) and Odds.of(score, np.zeros(200)) == Odds(1.0, 0.0)


@settings(max_examples=60, deadline=None)
@given(score=st.lists(st.floats(width=64) | st.just(np.nan), min_size=1, max_size=5))
def test_the_graph_gives_the_same_probability_for_any_score(score):
    x = np.array(score)
    want = ODDS.probability(x)
    got = SESSION.run(None, {"x": x[:, None]})[0][:, 0]
    assert np.allclose(got, want, rtol=1e-14, atol=1e-300, equal_nan=True) and (np.isnan(want) == np.isnan(x)).all()
    assert ((want >= 0) & (want <= 1) | np.isnan(x)).all()


ODDS = Odds(0.7, -1.2)
INPUT = argument(Tensor(np.float64, ("asset", 1)))
SESSION = onnxruntime.InferenceSession(build({"x": INPUT}, {"y": ODDS.nodes(INPUT)}).SerializeToString())


def silent(what: str, done: int, total: int) -> None:
    pass


@cache
def tried(kind: type[Model] = LightGBMFailure) -> tuple[np.ndarray, Trial]:
    """Out-of-fold scores of a small model, and its trial."""
    fleet = small_fleet()
    model = Weibull(steps=40) if kind is Weibull else kind(trees=20, learning_rate=0.2, min_child_samples=10)
    scores = out_of_fold({"m": model}, fleet.fitted.features, fleet.training, SmallFleet.protocol, silent)["m"]
    return scores, try_out("m", model, scores, fleet.training, SmallFleet.protocol, KofN(most_false=1.0), seed=0)


def test_a_bundle_of_the_task_failure_says_what_the_model_says_and_alarms_on_it():
    fleet, (_, trial) = small_fleet(), tried()
    fitted = refit(trial, fleet.fitted.features, fleet.training, SmallFleet.protocol)
    offline = fitted.verdict(fleet.tested)
    assert fitted.output == "failure_probability" and offline.dtype == np.float32 and 0 <= offline.min() < 0.2 < 0.7 < offline.max() <= 1
    core = core_files(fitted, trial.policy, SmallFleet.protocol, "chances")
    played = replay_ticks(replace(fleet, core=core).bundle, as_ticks(fleet.tested, fleet.history.contract))
    assert np.allclose(np.concatenate(played.outputs["failure_probability"]), offline, rtol=2e-7, atol=1e-12)
    assert played.score is played.outputs["failure_probability"] and trial.policy.worse == "above"
    assert any(s.any() for s in played.standing) and not all(s.all() for s in played.standing)
    found = probability_metrics(played.score, played.tick, fleet.real, SmallFleet.protocol, fleet.history.contract.tick)[0]
    assert found["auroc"][0] > 0.8 and found["brier_skill"][0] > 0.2


def test_validation_judges_probabilities_and_calibrates_them_out_of_fold():
    fleet, (scores, trial) = small_fleet(), tried()
    came = fleet.training.labels.fails_within(SmallFleet.protocol.horizon)
    known = ~np.isnan(came) & ~np.isnan(scores)
    assert trial.odds is not None and trial.healthy is None
    told = trial.odds.probability(scores)[known]
    assert abs(told.mean() - came[known].mean()) < 0.02
    brier = np.mean((told - came[known]) ** 2)
    assert np.isclose(trial.metrics["validation/brier"], brier, rtol=1e-5) and trial.value == -trial.metrics["validation/brier"]
    raw = 1 / (1 + np.exp(-scores[known]))
    before, after = (-np.mean(np.log(np.where(came[known] > 0, p, 1 - p))) for p in (raw, told))
    assert after < before and trial.metrics["validation/auroc"] > 0.8


def test_a_stack_of_log_odds_is_weighed_by_probabilities():
    fleet = small_fleet()
    scores, trial = tried()
    models = {"good": trial.model, "useless": LightGBMFailure(trees=1), "stack": Stack()}
    found, all_scores = with_stacks(models, {"good": scores, "useless": np.zeros(len(scores))}, fleet.training, SmallFleet.protocol)
    stack = found["stack"]
    assert isinstance(stack, Stack) and stack.task == "failure" and stack.weights_[0] > 0.9
    known = ~np.isnan(scores)
    assert np.isfinite(all_scores["stack"][known]).all() and np.corrcoef(all_scores["stack"][known], scores[known])[0, 1] > 0.9


def test_lives_cut_short_teach_a_model_that_is_made_for_them_and_no_other():
    fleet, protocol = small_fleet(), SmallFleet.protocol
    usable, target = fleet.training.usable("rul", protocol, censored=True)
    plain, _ = fleet.training.usable("rul", protocol)
    assert target.shape == (len(usable), 2) and (usable >= plain).all() and usable.sum() > plain.sum()
    known = np.isfinite(target[usable, 1])
    assert (target[usable][known, 0] == target[usable][known, 1]).all() and (target[usable][:, 0] <= protocol.cap).all()
    scores, trial = tried(Weibull)
    error = (np.clip(scores, 0, protocol.cap) - fleet.training.labels.capped(protocol.cap))[plain]
    spread = np.nanstd(fleet.training.labels.capped(protocol.cap)[plain])
    assert np.sqrt(np.nanmean(error**2)) < 0.8 * spread and trial.odds is None
    fitted = refit(trial, fleet.fitted.features, fleet.training, protocol)
    offline = fitted.verdict(fleet.tested)
    assert fitted.used.height > plain.sum() * 0.9 and offline.max() <= protocol.cap
    bundle = replace(fleet, core=core_files(fitted, trial.policy, protocol, "weibull")).bundle
    played = replay_ticks(bundle, as_ticks(fleet.tested, fleet.history.contract))
    assert np.allclose(np.concatenate(played.outputs["rul"]), offline, rtol=1e-6) and played.score is None


def test_a_history_without_a_failure_in_reach_is_refused_for_probabilities():
    fleet = small_fleet()
    with pytest.raises(DataError, match="no failure comes within 1e-06 h"):
        whole = fleet.training.labels
        later = replace(whole, rul=whole.rul + 1.0)
        replace(fleet.training, labels=later).usable("failure", Protocol(cap=1.0, horizon=1e-6, lead=0.0))


@pytest.mark.parametrize("limits", [2, 7])
def test_limits_of_a_probability_lie_among_those_that_failures_reached(limits):
    reached = np.random.default_rng(0).beta(2, 5, 500)
    family = KofN(limits=limits).family("failure_probability", 30.0, 125.0, reached)
    tried_ = [p.raise_at for p in family]
    assert len(tried_) == limits and tried_ == sorted(tried_, reverse=True) and all(p.clear_at < p.raise_at for p in family)
    assert np.mean(reached >= tried_[0]) < 0.05 < 0.9 < np.mean(reached >= tried_[-1])


def truth_of(failed: float | None, seen: float) -> Truth:
    ends = np.array([] if failed is None else [failed])
    one = np.array([0.0])
    return Truth(["A"], [ends], [np.zeros(0)], np.array([seen]), one, one)


def test_probabilities_are_judged_where_it_is_known_what_came():
    tick = [np.arange(100)]
    sure = [np.where(np.arange(100) >= 80, 1.0, 0.0)]  # fails at 99; within 20 ticks of it from 79 on
    protocol = Protocol(cap=50, horizon=20, lead=0, draws=20)
    found, parts = probability_metrics(sure, tick, truth_of(99.0, 99.0), protocol, 1.0)
    assert np.isclose(found["brier"][0], 0.01) and parts["brier"].denominator.tolist() == [100.0]
    assert np.isclose(found["brier_skill"][0], 1 - 0.01 / (0.21 * 0.79)) and found["auroc"][0] > 0.97
    # lost from sight: of its last 20 ticks nobody knows, and none of the others failed
    found, parts = probability_metrics(sure, tick, truth_of(None, 99.0), protocol, 1.0)
    assert parts["brier"].denominator.tolist() == [79.0] and found["brier"][0] == 0.0 and np.isnan(found["auroc"][0])
    assert np.isnan(found["brier_skill"][0])
    gaps = [np.where(np.arange(100) % 2 == 0, np.nan, sure[0])]
    assert probability_metrics(gaps, tick, truth_of(99.0, 99.0), protocol, 1.0)[1]["brier"].denominator.tolist() == [50.0]


def test_a_remaining_life_has_no_probabilities():
    _, trial = tried(LightGBM)
    assert trial.odds is None and "validation/brier" not in trial.metrics and small_fleet().fitted.odds is None
