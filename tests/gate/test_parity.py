"""The parity gate: a step graph, a head or a replay that computes something else is named."""

import copy
import dataclasses

import numpy as np
import polars as pl
import pytest
import spox.opset.ai.onnx.v20 as op

import pmx.model.trees as lowering
from pmx.bundle import Bundle
from pmx.edge.replay import replay_ticks
from pmx.feature.features import FeatureSet
from pmx.feature.kernel import Age, Ewma, TrailingMean
from pmx.feature.regime import RegimeScore
from pmx.gate.parity import as_ticks, features_by_step, fixtures, parity
from pmx.model.lightgbm import LightGBM
from pmx.pack.core import core_files
from pmx.pack.fitted import Fitted
from pmx.pack.scope import Scoped
from tests.small_fleet import small_fleet, small_watch


class ShortMean(TrailingMean):
    """The graph forgets the oldest tick."""

    def nodes(self, view, memory):
        return view.mean(0, self.window - 1), []


class FillsWithZero(TrailingMean):
    """The graph takes a missing value, and a tick before the first, for 0."""

    def nodes(self, view, memory):
        return op.div(view.total(view.x, 0, self.window), op.const(float(self.window), np.float64)), []


class Forgetful(Ewma):
    """The graph halves what it remembers at every tick, seen or not."""

    def nodes(self, view, memory):
        feature, following = super().nodes(view, memory)
        return feature, [op.mul(v, op.const(0.5)) if i == 0 else v for i, v in enumerate(following)]


class Hasty(Ewma):
    """The graph forgets all but the newest of several ticks that come at once."""

    def nodes(self, view, memory):
        *_, (x, now) = view.arrivals()
        keep = op.where(op.greater(now, op.const(0.0, np.float64)), op.const(0.5 ** (1 / 6), np.float64), op.const(1.0, np.float64))
        total, weight = op.add(op.mul(memory[0], keep), x), op.add(op.mul(memory[1], keep), now)
        return op.div(total, weight), [total, weight]


class Crowded(TrailingMean):
    """The graph adds the mean of all assets in the batch."""

    def nodes(self, view, memory):
        mean = view.mean(0, self.window)
        there = op.where(op.isnan(mean), op.const(0.0, np.float64), mean)
        return op.add(mean, op.mul(op.reduce_mean(there, op.const([0]), keepdims=1), op.const(1e-3, np.float64))), []


class OneOff(LightGBM):
    """The lowered trees are a hundredth of a cycle off."""

    def to_onnx(self, features):
        return op.add(super().to_onnx(features), op.const(0.01))


class BatchMean(LightGBM):
    """The lowered trees look at the other assets of the batch."""

    def to_onnx(self, features):
        score = super().to_onnx(features)
        return op.add(score, op.mul(op.reduce_mean(score, keepdims=1), op.const(1e-3)))


def gate(kernels=(), model=LightGBM, verdicts=None):
    """The gate over a candidate made of these parts, as a run calls it."""
    fleet = small_fleet()
    fitted = fleet.fitted
    if kernels:
        features = FeatureSet(RegimeScore(), list(kernels)).fit(fleet.training.ticks, fleet.training.contract)
        usable, target = fleet.training.usable("rul", fleet.protocol)
        learner = model(trees=15, min_child_samples=10)
        learner.fit(features.table(fleet.training.ticks)[usable], target[usable], fleet.training.asset[usable])
        fitted = dataclasses.replace(fitted, features=features, model=Scoped(learner))
    core = core_files(fitted, fleet.policy, fleet.protocol, "planted")
    played = replay_ticks(Bundle(core, ""), as_ticks(fleet.tested, fleet.training.contract))
    offline = fitted.verdict(fleet.tested)
    return parity(fitted, fleet.policy, fleet.protocol, fleet.tested, played, offline if verdicts is None else verdicts(offline))


def test_an_honest_candidate_is_equal_to_the_last_bit():
    found = gate()
    assert found.passed, found
    assert found.figures["leaf_changes"] == 0 and found.figures["bit_equal"] == 1.0
    assert found.figures["verdict_difference"] == 0.0 and found.figures["compared"] > 10_000


@pytest.mark.parametrize("kernel", [ShortMean(4), FillsWithZero(4), Forgetful(6)], ids=lambda k: type(k).__name__)
def test_a_graph_that_differs_is_named_by_kernel_channel_asset_and_tick(kernel):
    found = gate([Age(), kernel])
    assert not found.passed and f"kernel {kernel.label}, feature {kernel.label}:" in found.culprit
    channels = small_fleet().fitted.features.channels_
    assert any(f":{c} of asset " in found.culprit for c in channels) and " at tick " in found.culprit
    assert "offline" in found.culprit and "stepped" in found.culprit
    assert found.figures["bit_equal"] < 0.99999 and "bit-equal" in found.rule


def test_a_kernel_that_loses_ticks_of_a_chunk_is_named_with_the_chunk():
    found = gate([TrailingMean(9), Hasty(6)])
    assert not found.passed and "kernel ewma6, feature ewma6:" in found.culprit and "alone in chunks of 7" in found.culprit, found.culprit
    assert gate([TrailingMean(9), Ewma(6)]).passed


def test_a_kernel_that_reads_other_assets_of_the_batch_is_refused():
    found = gate([Age(), Crowded(4)])
    assert not found.passed and "kernel mean4" in found.culprit


def test_the_time_of_a_difference_is_told_on_the_clock_of_the_readings():
    culprit = gate([Age(), ShortMean(4)]).culprit
    assert "Z): " in culprit and "(20" in culprit, culprit


def test_changed_leaves_are_counted():
    found = gate([Age(), ShortMean(4)])
    assert found.figures["leaf_changes"] > 0 and f"{found.figures['leaf_changes']:.0f} tree leaves changed" in found.detail


def test_a_head_that_differs_is_the_models_fault():
    found = gate([Age(), TrailingMean(4)], OneOff)
    assert not found.passed and "model lightgbm" in found.culprit and found.figures["bit_equal"] == 1.0
    assert found.figures["head_difference"] > 1e-5


def test_thresholds_rounded_to_float32_are_found_on_rows_that_lie_on_them(monkeypatch):
    real = lowering.tree_attributes

    def rounded(dump):
        attributes = real(dump)
        up = np.nextafter(attributes["nodes_splits"].astype(np.float32), np.float32(np.inf)).astype(np.float64)
        return attributes | {"nodes_splits": up}

    monkeypatch.setattr(lowering, "tree_attributes", rounded)
    found = gate()
    assert not found.passed and "model lightgbm" in found.culprit
    assert found.figures["head_difference"] > 1e-5 and found.figures["verdict_difference"] <= 1e-5


def test_a_head_that_depends_on_the_batch_is_refused():
    assert not gate([Age(), TrailingMean(4)], BatchMean).passed


def test_a_replay_that_says_something_else_is_named_by_asset_and_tick():
    def spoil(offline):
        offline = offline.copy()
        offline[70] += 1.0
        return offline

    found = gate(verdicts=spoil)
    row = small_fleet().tested[70]
    assert not found.passed and found.figures["head_difference"] == 0.0
    assert f"asset {row['asset'][0]} at tick {row['tick'][0]}" in found.culprit
    assert not gate(verdicts=lambda offline: np.where(np.arange(len(offline)) == 3, np.nan, offline).astype(np.float32)).passed


def test_a_replay_of_other_ticks_is_refused():
    found = gate(verdicts=lambda offline: offline[:-1])
    assert not found.passed and "ticks" in found.culprit


def test_fixtures_hold_what_they_promise():
    fleet = small_fleet()
    made = fixtures(fleet.tested, fleet.training.contract, window=31)
    by_name = {name.removeprefix("fixture "): made.filter(pl.col("asset") == name) for name in made["asset"].unique()}
    assert by_name["no values"]["flow"].null_count() == len(by_name["no values"])
    assert by_name["constant"]["flow"].n_unique() == 1 and by_name["spike"]["flow"].max() == 1e9
    assert [len(by_name[f"short {n:03}"]) for n in range(1, 33)] == list(range(1, 33))
    assert by_name["missing"]["power"].null_count() > fleet.tested["power"].null_count() / 4
    assert by_name["settings missing"]["speed"].null_count() == len(by_name["settings missing"])


def watched(each=True, offline=None):
    """The gate over an anomaly score of the small fleet; with `offline` another candidate computes what training is said to have seen."""
    watch = small_watch(each)
    fitted = watch.fitted
    played = replay_ticks(watch.bundle, as_ticks(watch.ticks, watch.history.contract))
    own = (offline or fitted).verdict(watch.ticks)
    return parity(offline or fitted, watch.policy, watch.protocol, watch.ticks, played, own)


@pytest.mark.parametrize("each", [True, False])
def test_an_anomaly_score_is_equal_on_both_paths_whatever_its_constants_are_fitted_on(each):
    found = watched(each)
    assert found.passed, found
    assert found.figures["bit_equal"] == 1.0 and found.figures["compared"] > 10_000
    assert max(found.figures["verdict_difference"], found.figures["head_difference"]) < 1e-6


def test_where_no_tick_has_a_verdict_nothing_is_equal():
    """NaN on both sides agrees with anything."""
    watch = small_watch()
    strangers = watch.ticks.with_columns(asset="new " + pl.col("asset"))
    played = replay_ticks(watch.bundle, as_ticks(strangers, watch.history.contract))
    offline = watch.fitted.verdict(strangers)
    assert np.isnan(offline).all() and np.isnan(np.concatenate(played.outputs["anomaly_score"])).all()
    found = parity(watch.fitted, watch.policy, watch.protocol, strangers, played, offline)
    assert not found.passed and found.detail.startswith("no tick has a verdict: ") and "nothing could be compared" in found.refusal()


def changed(what: str) -> Fitted:
    """The watched pumps where one constant of one of them was changed after fitting."""
    fitted, name = small_watch().fitted, small_watch().fitted.assets[1]
    if what == "mean" or what == "scale":
        features = copy.deepcopy(fitted.features)
        features.normalise_.own_[name][int(what == "scale"), :, 0] *= 1.01
        return dataclasses.replace(fitted, features=features)
    if what == "axes":
        model = copy.deepcopy(fitted.model)
        model.own[name].axes_[0, 0] += 0.01
        return dataclasses.replace(fitted, model=model)
    assert fitted.healthy is not None
    level = fitted.healthy.level | {name: fitted.healthy.level[name] * 1.5}
    return dataclasses.replace(fitted, healthy=dataclasses.replace(fitted.healthy, level=level))


@pytest.mark.parametrize("what", ["mean", "scale", "axes", "level"])
def test_one_constant_of_one_asset_that_was_changed_after_fitting_is_found_and_the_asset_named(what):
    found = watched(offline=changed(what))
    assert not found.passed and found.figures["verdict_difference"] > 1e-5
    assert f"model pca, asset {small_watch().fitted.assets[1]} at tick" in found.culprit


def test_constants_that_the_graph_reads_from_the_wrong_place_are_found(monkeypatch):
    real = FeatureSet.memory0

    def rotated(self, assets):
        start = real(self, assets)
        return np.roll(start, 1, axis=1)

    monkeypatch.setattr(FeatureSet, "memory0", rotated)
    found = watched()
    assert not found.passed and "offline" in found.culprit and found.figures["bit_equal"] < 0.99999


def test_a_head_whose_constants_are_another_assets_is_found():
    watch = small_watch()
    first, second = watch.fitted.assets[:2]
    own = watch.fitted.model.own
    swapped = dataclasses.replace(watch.fitted.model, own=own | {first: own[second], second: own[first]})
    found = watched(offline=dataclasses.replace(watch.fitted, model=swapped))
    assert not found.passed and found.figures["bit_equal"] == 1.0 and "asset pump-" in found.culprit


def test_planted_histories_have_constants_to_be_compared_under(monkeypatch):
    compared: dict[str, np.ndarray] = {}

    def spy(core, fitted, frame):
        found = features_by_step(core, fitted, frame)
        compared[str(frame["asset"][0]).split()[0]] = found
        return found

    monkeypatch.setattr("pmx.gate.parity.features_by_step", spy)
    assert watched().passed
    assert np.isfinite(compared["fixture"]).mean() > 0.5, "a comparison of NaN proves nothing"
