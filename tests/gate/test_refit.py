"""The refit half of the look-ahead gate: what it replaces, what it compares, and how it names what depends on the test part."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmx.alarm.policy import KofN
from pmx.contract import DataError
from pmx.feature.features import FeatureSet
from pmx.feature.kernel import Age, Ewma, TrailingMean
from pmx.feature.leaky import CentredMean
from pmx.feature.quality import Quality
from pmx.feature.regime import RegimeScore
from pmx.gate import refit
from pmx.gate.refit import Constant, learnt_constants, looked_ahead, unchanged_by_test
from pmx.model import Model
from pmx.model.lightgbm import LightGBM
from pmx.model.mlp import Mlp
from pmx.model.pca import Pca
from pmx.select import learn as learning
from pmx.select.learn import Recipe, learn
from pmx.select.training import truth
from pmx.source.admit import admit
from pmx.window.label import with_lives
from pmx.window.split import ByAsset, ByTime, Head
from tests.small_fleet import SmallFleet, small_fleet
from tests.whole import silent

PROTOCOL = replace(small_fleet()).protocol
KERNELS = [Age(), TrailingMean(5), Ewma(8)]


def recipe(window=None, model: Model | None = None, each: bool = False, kernels=KERNELS) -> Recipe:
    models = {"one": model or LightGBM(trees=8, learning_rate=0.3, min_child_samples=10)}
    return Recipe(window or ByAsset(folds=2), FeatureSet(RegimeScore(), kernels), models, KofN(limits=3), PROTOCOL, each)


RECIPES = {
    "assets": recipe(),
    "time": recipe(ByTime(share=0.8, folds=2), Pca()),
    "head": recipe(Head(rows=30, folds=2), Pca()),
    "head, each asset": recipe(Head(rows=30, folds=2), Pca(), True, [TrailingMean(5)]),
}


def gate(of: Recipe, fleet: SmallFleet | None = None):
    fleet = fleet or small_fleet()
    return unchanged_by_test(of, fleet.readings, fleet.history.contract, fleet.history)


@pytest.mark.parametrize("name", RECIPES)
def test_an_honest_recipe_passes(name):
    found = gate(RECIPES[name])
    assert found.passed and found.name == "look-ahead" and found.figures["constants"] > 1000, found.refusal()
    assert "stayed identical" in found.detail and not found.culprit


# ---- what it replaces


@pytest.mark.parametrize("name", RECIPES)
def test_other_test_readings_differ_and_the_rest_stays(name):
    fleet, contract = small_fleet(), small_fleet().history.contract
    before = learn(RECIPES[name], fleet.readings, contract, fleet.history, silent)
    other, told = refit._other_test(before, fleet.readings, fleet.history, contract, seed=1)
    assert other.drop(contract.names).equals(fleet.readings.drop(contract.names)), "assets and times stay, so the split falls the same way"
    after = with_lives(learning.to_ticks(other, contract), fleet.history.events, contract)
    train, test = pl.Series(before.division.train), pl.Series(before.division.test)
    assert after.filter(train).equals(before.ticks.filter(train))
    was, now = (t.filter(test).select(contract.names).to_numpy() for t in (before.ticks, after))
    assert (was != now)[~np.isnan(was)].mean() > 0.99
    admitted = admit(other.lazy(), contract)  # still within every valid range
    assert admitted.counts["accepted"] == len(fleet.readings)
    tested = set(before.ticks.filter(test)["asset"])
    changed = fleet.history.events.with_columns(other=told.events["event"], later=told.events["time"]).filter(
        (pl.col("event") != pl.col("other")) | (pl.col("time") != pl.col("later"))
    )
    assert len(changed) and (before.division.by == "time" or set(changed["asset"]) <= tested)


def test_the_same_readings_give_no_difference_and_each_changed_one_of_the_training_part_does():
    fleet, contract = small_fleet(), small_fleet().history.contract
    one = RECIPES["assets"]
    before = learn(one, fleet.readings, contract, fleet.history, silent)
    constants = list(learnt_constants(before))
    assert len({c.what for c in constants}) == len(constants), "each has a name of its own"
    assert not refit._differences(constants, before)
    trained = fleet.readings["asset"] == before.training.truth.assets[0]
    hotter = fleet.readings.with_columns(flow=pl.when(trained).then(pl.col("flow") * 1.1).otherwise("flow"))
    found = refit._differences(constants, learn(one, hotter, contract, fleet.history, silent))
    kinds = {f.partition(" ")[0].rstrip(",") for f in found}
    assert {"alignment", "scaler", "figure", "model"} <= kinds, kinds
    assert found[0].startswith("alignment, channel flow, asset pump-")


# ---- how it names things


@given(st.integers(0, 2), st.integers(0, 3), st.floats(-1e3, 1e3).filter(lambda d: abs(d) > 1e-3))
def test_a_difference_is_named_where_it_is(row, column, change):
    axes = (["regime 1", "regime 2", "regime 3"], [f"channel {n}" for n in "abcd"])
    was = Constant("scaler mean", np.arange(12.0).reshape(3, 4) + 1, axes)
    now = was.value.copy()
    now[row, column] += change
    said = was.differs(Constant("scaler mean", now, axes))
    assert said.startswith(f"scaler mean, regime {row + 1}, channel {'abcd'[column]}: ")
    assert not was.differs(Constant("scaler mean", was.value.copy()))


def test_what_is_gone_or_has_another_size_differs_and_rounding_does_not():
    was = Constant("scaler mean", np.array([1.0, np.nan, np.inf]))
    assert "there is none" in was.differs(None)
    assert "3 values, with other test data 2" in was.differs(Constant("scaler mean", was.value[:2]))
    assert not was.differs(Constant("scaler mean", was.value * (1 + 1e-14)))
    assert was.differs(Constant("scaler mean", np.array([1.0, 2.0, np.inf])))
    assert Constant("choice", np.array("a")).differs(Constant("choice", np.array("b"))) == "choice: a, with other test data b"


@pytest.mark.parametrize(("each", "where"), [(False, "scaler mean"), (True, "scaler own, asset pump-")])
def test_one_channel_scaled_over_the_test_is_named(each, where, monkeypatch):
    fleet, contract = small_fleet(), small_fleet().history.contract
    honest, seen = RegimeScore.fit, []
    monkeypatch.setattr(learning, "to_ticks", lambda r, c, to=learning.to_ticks: seen.append(to(r, c)) or seen[-1])

    def fit(self, ticks, contract, each=False):
        fitted = honest(self, ticks, contract, each)
        mean = float(seen[-1]["pressure"].mean())
        if each:
            for own in fitted.own_.values():
                own[0, 0, fitted.channels_.index("pressure")] = mean
        else:
            fitted.mean_[:, fitted.channels_.index("pressure")] = mean
        return fitted

    monkeypatch.setattr(RegimeScore, "fit", fit)
    found = unchanged_by_test(RECIPES["head, each asset" if each else "assets"], fleet.readings, contract, fleet.history)
    assert not found.passed and found.culprit.startswith(where) and "channel pressure" in found.culprit
    assert "with other test data" in found.detail and "constants changed" in found.detail and found.rule == refit.RULE


def test_what_is_usual_of_sensors_learnt_over_the_test_is_named(monkeypatch):
    fleet, honest, seen = small_fleet(), Quality.fit, []
    monkeypatch.setattr(learning, "to_ticks", lambda r, c, to=learning.to_ticks: seen.append(to(r, c)) or seen[-1])
    judged = replace(RECIPES["assets"], features=FeatureSet(RegimeScore(), KERNELS, Quality()))
    assert gate(judged).passed
    monkeypatch.setattr(Quality, "fit", lambda self, ticks, normalise, contract: honest(self, seen[-1], normalise, contract))
    found = unchanged_by_test(judged, fleet.readings, fleet.history.contract, fleet.history)
    assert not found.passed and found.culprit.startswith("quality, "), found.refusal()


class Restless(Model):
    """Learns something else each time."""

    task = "rul"
    fits = 0

    def fit(self, x, y, asset):
        Restless.fits += 1
        self.mean_ = y.mean() + Restless.fits

    def score(self, x):
        return np.full(len(x), self.mean_)

    def to_onnx(self, features):
        raise NotImplementedError


def test_a_model_without_a_seed_is_not_taken_for_a_leak():
    found = gate(recipe(model=Restless()))
    assert not found.passed and found.rule == refit.REPEAT_RULE and found.culprit.startswith("learning does not repeat: ")


def test_a_split_that_depends_on_test_readings_is_named(monkeypatch):
    honest = ByAsset.divide

    def peeking(self, ticks, test_assets):
        division = honest(self, ticks, test_assets)
        last = ticks["asset"].to_numpy() == ticks["asset"][-1]
        hot = ticks.filter(pl.Series(division.test))["flow"].mean() > 130
        return replace(division, train=division.train & ~last, test=division.test | last) if hot else division

    monkeypatch.setattr(ByAsset, "divide", peeking)
    found = gate(RECIPES["assets"])
    assert not found.passed and found.culprit == "split, training part"


def test_learning_that_breaks_down_with_other_test_data_is_refused(monkeypatch):
    calls, honest = [], learning.learn

    def once(*given):
        calls.append(given)
        if len(calls) > 1:
            raise DataError("the test part looks odd")
        return honest(*given)

    monkeypatch.setattr(learning, "learn", once)
    found = gate(RECIPES["assets"])
    assert not found.passed and "with other test data" in found.culprit and "looks odd" in found.detail


# ---- the sample


def test_a_sample_that_teaches_nothing_grows_until_it_does(monkeypatch):
    monkeypatch.setattr(refit, "TRAINED", 1)
    monkeypatch.setattr(refit, "TESTED", 1)
    sizes, honest = [], learning.learn
    monkeypatch.setattr(
        learning, "learn", lambda r, readings, *rest: sizes.append(readings["asset"].n_unique()) or honest(r, readings, *rest)
    )
    assert gate(RECIPES["assets"]).passed
    assert sizes[0] == 2 and sizes[-1] > 2


def test_a_history_that_teaches_nothing_at_all_is_an_error():
    fleet = small_fleet()
    nothing = replace(fleet.history, events=fleet.history.events[:0])
    with pytest.raises(DataError, match="no training asset failed"):
        unchanged_by_test(recipe(model=LightGBM(trees=2)), fleet.readings, fleet.history.contract, nothing)


def test_the_sample_holds_test_assets_and_calibration_runs_too():
    names = [f"A{i:02}" for i in range(60)]
    history = replace(small_fleet().history, test_assets=frozenset(names[40:]), calibration=frozenset(names[:2]))
    chosen = refit._chosen(names, history, "asset", 1, 0)
    assert len(set(chosen)) == len(chosen) == refit.TRAINED + refit.TESTED + 2 and set(names[:2]) <= set(chosen)
    assert len(set(chosen) & set(names[40:])) == refit.TESTED


@pytest.mark.parametrize("model", [LightGBM(trees=300, average=3), Mlp(epochs=9), Pca()], ids=lambda m: type(m).__name__)
def test_a_light_copy_is_smaller_and_leaves_the_model_as_it_is(model):
    before = dict(vars(model))
    small = model.light()
    assert type(small) is type(model) and small is not model and vars(model) == before
    shrunk = {k for k, v in vars(small).items() if v != before[k]}
    assert shrunk == {"LightGBM": {"trees", "average", "min_child_samples"}, "Mlp": {"epochs"}, "Pca": set()}[type(model).__name__]


# ---- the gate whole


def test_the_whole_gate_says_what_both_halves_did_and_names_the_first_culprit():
    fleet, contract = small_fleet(), small_fleet().history.contract

    def whole(of):
        learnt = learn(of, fleet.readings, contract, fleet.history, silent)
        real = truth(learnt.ticks, fleet.history.events, contract, learnt.division.test)
        return looked_ahead(of, fleet.readings, contract, fleet.history, learnt, real)

    honest, leaky = whole(RECIPES["assets"]), whole(recipe(kernels=[*KERNELS, CentredMean(5)]))
    assert honest.passed and {"compared", "constants"} == set(honest.figures)
    assert "cut off, shuffled or spiked" in honest.detail and "in the test part were replaced" in honest.detail
    assert not leaky.passed and leaky.culprit.startswith("kernel centred_mean5 ")
