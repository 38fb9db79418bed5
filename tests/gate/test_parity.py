"""The parity gate: a step graph, a head or a replay that computes something else is named."""

import dataclasses

import numpy as np
import polars as pl
import pytest
import spox.opset.ai.onnx.v20 as op

import pmx.model.lightgbm as lowering
from pmx.bundle import Bundle
from pmx.edge.replay import replay_ticks
from pmx.feature.features import FeatureSet
from pmx.feature.kernel import Age, Ewma, TrailingMean
from pmx.feature.regime import RegimeScore
from pmx.gate.parity import as_ticks, fixtures, parity
from pmx.model.lightgbm import LightGBM
from pmx.pack.core import core_files
from tests.small_fleet import small_fleet


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
        fitted = dataclasses.replace(fitted, features=features, model=learner)
    core = core_files(fitted, fleet.policy, fleet.protocol, "planted")
    played = replay_ticks(Bundle(core, ""), as_ticks(fleet.tested, fleet.training.contract))
    offline = fitted.verdict(fitted.table(fleet.tested))
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
    made = fixtures(fleet.tested, fleet.training.contract)
    by_name = {name.removeprefix("fixture "): made.filter(pl.col("asset") == name) for name in made["asset"].unique()}
    assert by_name["no values"]["flow"].null_count() == len(by_name["no values"])
    assert by_name["constant"]["flow"].n_unique() == 1 and by_name["spike"]["flow"].max() == 1e9
    assert {len(by_name[f"short {n:03}"]) for n in (1, 2, 31)} == {1, 2, 31}
    assert by_name["missing"]["power"].null_count() > fleet.tested["power"].null_count() / 4
    assert by_name["settings missing"]["speed"].null_count() == len(by_name["settings missing"])
