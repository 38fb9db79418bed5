"""From a model's score to a verdict: running mean, healthy levels and the rank among healthy ratios, offline and in the graph."""

from functools import cache

import numpy as np
import onnxruntime
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from spox import Tensor, argument, build

from pmx.alarm.score import score_of
from pmx.edge.replay import replay_ticks
from pmx.feature.features import Now
from pmx.gate.parity import as_ticks
from pmx.model.pca import Pca
from pmx.pack.fitted import FLEET, RANKS, Fitted, Healthy, _running_mean, smoothed
from pmx.pack.scope import Scoped
from tests.small_fleet import small_fleet, small_watch

SCORES = st.floats(0, 1e6, width=32) | st.just(float("nan"))
HEALTHY = hnp.arrays(np.float64, st.integers(1, 40), elements=st.floats(0, 1e3)).map(np.sort)


def by_step(score: np.ndarray, asset: np.ndarray, half_life: float) -> np.ndarray:
    """The running mean from its definition: each score that is there weighs half as much as the one `half_life` scores later."""
    out = np.full(len(score), np.nan)
    for i in range(len(score)):
        before = [j for j in range(i + 1) if asset[j] == asset[i] and not np.isnan(score[j])][::-1]
        if not np.isnan(score[i]):
            weight = np.array([0.5 ** (k / half_life) for k in range(len(before))])
            out[i] = (weight * score[before]).sum() / weight.sum()
    return out


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(SCORES, st.sampled_from("AB")), min_size=1, max_size=30), st.sampled_from([0.5, 5.0, 12.0]))
def test_the_running_mean_offline_is_that_of_the_graph_and_of_its_definition(rows, half_life):
    score, asset = np.array([r[0] for r in rows], np.float64), np.array([r[1] for r in rows])
    offline = smoothed(score, asset, half_life)
    assert np.allclose(offline, by_step(score, asset, half_life), rtol=1e-9, atol=1e-9, equal_nan=True)
    session, memory = mean_graph(half_life), {"A": np.zeros((1, 2)), "B": np.zeros((1, 2))}
    for i, (value, name) in enumerate(zip(score, asset, strict=True)):
        found, following = session.run(["mean", "next"], {"score": np.array([[value]]), "memory": memory[str(name)]})
        if np.isnan(value):
            assert (following == memory[str(name)]).all(), "a missing score leaves the memory as it was"
        memory[str(name)] = following
        assert np.allclose(found[0, 0], offline[i], rtol=1e-9, atol=1e-9, equal_nan=True)


@cache
def mean_graph(half_life: float) -> onnxruntime.InferenceSession:
    score, memory = argument(Tensor(np.float64, ("asset", 1))), argument(Tensor(np.float64, ("asset", 2)))
    mean, following = _running_mean(score, memory, half_life)
    model = build({"score": score, "memory": memory}, {"mean": mean, "next": following})
    return onnxruntime.InferenceSession(model.SerializeToString())


def test_without_a_half_life_scores_stay_as_they_are():
    score = np.array([3.0, np.nan, 5.0])
    assert smoothed(score, np.array(["A", "A", "A"]), 0.0) is score
    assert np.isnan(smoothed(score, np.array(["A", "A", "A"]), 5.0)).tolist() == [False, True, False]


def test_each_assets_level_is_its_own_and_ratios_compare_them():
    rng = np.random.default_rng(0)
    asset = np.repeat(["quiet", "loud"], 4000)
    score = np.abs(rng.normal(size=8000)) * np.where(asset == "loud", 100.0, 1.0)
    each, fleet = Healthy.of(score, asset, True), Healthy.of(score, asset, False)
    assert set(each.level) == {"quiet", "loud"} and set(fleet.level) == {FLEET}
    for name, level in each.level.items():
        assert np.isclose(np.mean(score[asset == name] <= level), 0.95, atol=0.001)
    assert each.levels(np.array(["loud", "new"])).tolist() == pytest.approx([each.level["loud"], np.nan], nan_ok=True)
    assert fleet.levels(np.array(["loud", "new"])).tolist() == [fleet.level[FLEET]] * 2
    assert len(each.ratios) == RANKS and (np.diff(each.ratios) >= 0).all() and np.isclose(np.mean(each.ratios <= 1), 0.95, atol=0.002)


def test_scores_of_zero_still_give_a_level_to_divide_by():
    healthy = Healthy.of(np.zeros(5), np.repeat("A", 5), True)
    assert healthy.level["A"] > 0 and healthy.ratios[-1] > 0
    found = score_of(np.array([0.0, 1.0]) / healthy.levels(np.array(["A", "A"])), healthy.ratios)
    assert found[0] < found[1] <= 1


@settings(max_examples=200, deadline=None)
@given(ratio=hnp.arrays(np.float64, 12, elements=st.floats(0, 1e12)), healthy=HEALTHY)
def test_a_score_lies_between_0_and_1_and_never_falls_when_the_ratio_rises(ratio, healthy):
    healthy = np.r_[healthy[:-1], max(healthy[-1], 1e-12)]
    found = score_of(np.sort(ratio), healthy)
    assert (found >= 0).all() and (found <= 1).all() and (np.diff(found) >= 0).all() and (np.diff(found.astype(np.float32)) >= 0).all()
    assert np.isnan(score_of(np.array([np.nan]), healthy)).all()
    inside = ratio[ratio <= healthy[-1]]
    following = [healthy[healthy >= r].min() for r in inside]
    ranks = np.array([[(healthy < r).sum(), (healthy <= f).sum()] for r, f in zip(inside, following, strict=True)]).reshape(-1, 2)
    assert (score_of(inside, healthy) >= ranks[:, 0] / (len(healthy) + 1) - 1e-12).all()
    assert (score_of(inside, healthy) <= ranks[:, 1] / (len(healthy) + 1) + 1e-12).all()


@settings(max_examples=200, deadline=None)
@given(times=st.floats(1.001, 50.0), more=st.floats(1.01, 10.0), ranks=st.integers(1, RANKS))
def test_beyond_the_largest_healthy_ratio_worse_stays_worse_as_float32(times, more, ranks):
    healthy = np.linspace(0.1, 2.0, ranks)
    bad, worse = score_of(np.array([times, times * more]) * 2.0, healthy).astype(np.float32)
    assert score_of(healthy[-1:], healthy).astype(np.float32)[0] <= bad < worse < 1


def head_graph(fitted: Fitted, columns: int) -> onnxruntime.InferenceSession:
    x, present = argument(Tensor(np.float32, ("asset", columns))), argument(Tensor(np.bool_, ("asset",)))
    memory = argument(Tensor(np.float64, ("asset", fitted.slots)))
    said, kept = fitted.head(Now(x, present, argument(Tensor(np.int64, ("asset",)))), memory)
    model = build({"x": x, "present": present, "memory": memory}, said | {"kept": kept})
    return onnxruntime.InferenceSession(model.SerializeToString())


@pytest.mark.parametrize("smooth", [0.0, 5.0])
@pytest.mark.parametrize("each", [True, False])
def test_the_head_says_what_the_verdict_says_for_any_rows(each, smooth):
    rng = np.random.default_rng(1)
    asset, x = np.repeat(["A", "B", "C"], 100), rng.normal(size=(300, 4)).astype(np.float32)
    x[rng.random(x.shape) < 0.05] = np.nan
    model = Scoped.fit(Pca(variance=0.6, smooth=smooth), x, np.zeros(300), asset, each)
    healthy = Healthy.of(smoothed(model.score(x, asset), asset, smooth) * 1.05, asset, each)
    fitted = Fitted("pca", small_watch(each).fitted.features, model, 1.0, healthy)
    seen = rng.random(300) > 0.2
    x[:, 0] *= np.tile(np.linspace(1, 30, 100), 3).astype(np.float32)
    want, graph = fitted.verdict_of(x, asset, asset, seen), head_graph(fitted, 4)
    memory = fitted.memory0(["A", "B", "C"])[:, fitted.features.slots :]
    got = []
    for t in range(100):
        score, memory = graph.run(["anomaly_score", "kept"], {"x": x[t::100], "present": seen[t::100], "memory": memory})
        got.append(score)
    stepped = np.stack(got, 1).ravel()
    assert stepped.dtype == np.float32 and np.allclose(stepped, want, rtol=1e-6, equal_nan=True)
    assert (np.isnan(want) == ~seen).all() and want[seen].max() > 0.99 and np.ptp(want[seen]) > 0.8


def test_the_memory_of_unknown_assets_holds_no_constants():
    fitted = small_watch().fitted
    rows = fitted.memory0([fitted.assets[0], "new"])
    assert not np.isnan(rows[0]).any() and (np.isnan(rows[1]) | (rows[1] == 0)).all() and np.isnan(rows[1]).any()
    shared = small_watch(False).fitted
    assert shared.memory0(["one", "other"]).tolist() == [[0.0, 0.0]] * 2 and shared.assets == []


def test_a_stand_in_has_the_constants_of_the_one_it_stands_in_for():
    fitted = small_watch().fitted
    known = fitted.assets[2]
    given = fitted.stand_in(["x", "y"], known)
    assert (given.memory0(["x"]) == fitted.memory0([known])).all() and (given.memory0(["y"]) == given.memory0(["x"])).all()
    assert "x" not in fitted.features.normalise_.own_ and "x" not in fitted.model.own, "the fitted candidate stays as it was"
    assert small_fleet().fitted.stand_in(["x"], "pump-0001") is small_fleet().fitted


def test_verdicts_of_the_task_rul_are_limited():
    fitted = small_fleet().fitted
    x = small_fleet().fitted.table(small_fleet().tested)
    asset = small_fleet().tested["asset"].to_numpy()
    verdict = fitted.verdict_of(x, asset, asset, np.zeros(len(x), bool))  # a life has a length, measured or not
    assert verdict.dtype == np.float32 and verdict.min() >= 0 and verdict.max() <= fitted.cap and np.isfinite(verdict).all()


@pytest.mark.parametrize("each", [True, False])
def test_a_tick_whose_regime_is_unknown_has_no_score_on_either_path_and_is_not_taken_for_a_healthy_one(each):
    watch = small_watch(each)
    lost = watch.ticks.with_columns(speed=pl.when(pl.col("tick") % 3 != 0).then("speed"))
    score = watch.fitted.verdict(lost)
    played = replay_ticks(watch.bundle, as_ticks(lost, watch.history.contract))
    stepped = np.concatenate(played.outputs["anomaly_score"])
    unknown = lost["speed"].is_null().to_numpy()
    # an asset's own constants lack the regimes that it never ran in
    assert np.isnan(score[unknown]).all() and 0.2 < unknown.mean() < 0.5 and np.isnan(score[~unknown]).mean() < 0.3
    assert np.allclose(stepped, score, rtol=1e-6, equal_nan=True)
