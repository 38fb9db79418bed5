"""Classes of faults: what is known of training assets teaches them, what is known of test assets judges them, and both paths agree."""

from dataclasses import replace
from functools import cache

import numpy as np
import polars as pl
import pytest

from pmx.alarm.policy import KofN
from pmx.contract import DataError, UsageError
from pmx.edge.replay import replay_ticks
from pmx.evaluate.fault import with_classes
from pmx.evaluate.report import row, tables_of
from pmx.gate.lookahead import look_ahead
from pmx.gate.parity import as_ticks, parity
from pmx.gate.refit import learnt_constants, unchanged_by_test
from pmx.model.lightgbm import LightGBMFault
from pmx.model.stack import Stack
from pmx.pack.core import core_files
from pmx.pack.fitted import Fitted
from pmx.select import learn as learning
from pmx.select.candidates import Trial, choose, out_of_fold, refit, try_out
from pmx.select.learn import Recipe
from pmx.select.training import Training, classes_of, truth
from pmx.source import History
from pmx.source.episodes import HEALTHY, fault_table
from pmx.window.split import ByAsset, Head
from tests.small_fleet import SmallFleet, small_fleet
from tests.whole import silent

PROTOCOL = SmallFleet.protocol
NAMES = ("healthy", "damp", "worn")


def model(trees: int = 20) -> LightGBMFault:
    return LightGBMFault(trees=trees, learning_rate=0.2, min_child_samples=10, bagging_fraction=1.0)


@cache
def history() -> History:
    """Pumps whose fault is known: healthy in the first half of a record, worn in its last sixth, and every third one damp in between."""
    fleet, found = small_fleet(), []
    for i, (asset, own) in enumerate(sorted(fleet.ticks.partition_by("asset", as_dict=True).items())):
        first, last = (float(v) * fleet.history.contract.tick for v in (own["tick"].min(), own["tick"].max()))
        half, late = first + (last - first) / 2, last - (last - first) / 6
        found += [(asset[0], first, half, HEALTHY, half), (asset[0], late, last, "worn", last)]
        found += [(asset[0], half + 12.0, late - 12.0, "damp", late)] if i % 3 == 0 else []
    if fleet.history.contract.clock == "calendar":
        found = [(a, int(b * 3_600e6), int(e * 3_600e6), f, int(k * 3_600e6)) for a, b, e, f, k in found]
    return replace(fleet.history, faults=fault_table(fleet.history.contract, found))


@cache
def training() -> Training:
    fleet = small_fleet()
    return Training.of(fleet.ticks, fleet.division, history(), ByAsset())


@cache
def tried() -> tuple[np.ndarray, Trial, Fitted]:
    features = small_fleet().fitted.features
    scores = out_of_fold({"m": model()}, features, training(), PROTOCOL, silent)["m"]
    trial = try_out("m", model(), scores, training(), PROTOCOL, KofN(most_false=1.0), seed=0)
    return scores, trial, refit(trial, features, training(), PROTOCOL)


def test_every_training_tick_has_the_class_that_was_written_down_for_it():
    labels, ticks, length = training().labels, training().ticks, training().contract.tick
    assert training().classes == NAMES and labels.fault is not None and labels.fault.shape == (len(ticks), 3)
    known = ~np.isnan(labels.fault[:, 0])
    assert 0.5 < known.mean() < 1 and (labels.fault[known].sum(1) == 1).all() and not (labels.faulty & labels.faultless).any()
    for name in ticks["asset"].unique():
        own = (ticks["asset"] == name).to_numpy()
        place = (np.arange(own.sum()) + 0.5) / own.sum()
        assert labels.faultless[own][place < 0.48].all() and labels.faulty[own][place > 0.86].all()
    assert length > 0 and training().truth.episodes is not None


def test_a_bundle_tells_the_classes_that_the_model_tells_and_alarms_on_any_fault():
    fleet, (_, trial, fitted) = small_fleet(), tried()
    assert fitted.outputs == ("anomaly_score", "fault_probability") and fitted.classes == NAMES and trial.policy.output == "anomaly_score"
    core = core_files(fitted, trial.policy, PROTOCOL, "kinds")
    bundle = replace(fleet, core=core).bundle
    played = replay_ticks(bundle, as_ticks(fleet.tested, fleet.history.contract))
    assert bundle.spec.classes == played.classes == NAMES and bundle.spec.task == "fault"
    told, offline = np.concatenate(played.outputs["fault_probability"]), fitted.probability(fleet.tested)
    assert told.shape == (len(fleet.tested), 3) and np.allclose(told, offline, atol=2e-7, equal_nan=True)
    score = np.concatenate(played.outputs["anomaly_score"])
    assert np.allclose(score, fitted.verdict(fleet.tested), atol=2e-7, equal_nan=True)
    seen = ~np.isnan(score)
    order = np.argsort(-told[seen, 0], kind="stable")
    assert (np.diff(score[seen].astype(float)[order]) >= -1e-4).all() and np.ptp(score[seen]) > 0.9, (
        "the score rises as the healthy class becomes unlikely"
    )
    shifted = replace(played, outputs=played.outputs | {"fault_probability": [p + 0.01 for p in played.outputs["fault_probability"]]})
    gate = parity(fitted, trial.policy, PROTOCOL, fleet.tested, shifted, fitted.verdict(fleet.tested))
    assert not gate.passed and 0.009 < gate.figures["verdict_difference"] < 0.011
    assert gate.figures["head_difference"] < 2e-7 and gate.figures["bit_equal"] == 1


def test_classes_are_judged_on_the_test_part_with_the_split_stated():
    fleet, (_, trial, fitted) = small_fleet(), tried()
    core = core_files(fitted, trial.policy, PROTOCOL, "kinds")
    played = replay_ticks(replace(fleet, core=core).bundle, as_ticks(fleet.tested, fleet.history.contract))
    contract = fleet.history.contract
    real = truth(fleet.ticks, fleet.history.events, contract, fleet.division.test, None, history().faults)
    assert history().shared(fitted.used["asset"], real.assets) == (len(real.assets), 0)
    plain = row("winner", None, played.standing, played.tick, real, PROTOCOL, contract, played.score, trial.policy.raise_at)
    found = with_classes(plain, played, real, PROTOCOL, (len(real.assets), 0))
    assert found.told is not None and found.more["auroc/worn"][0] > 0.9 and found.more["macro_auroc"][0] > 0.6
    assert played.score is not None
    said = [~np.isnan(s) for s in played.score]
    known = sum(int((real.class_at(t.astype(float), i, NAMES)[said[i]] >= 0).sum()) for i, t in enumerate(played.tick))
    assert found.told.counts.sum() == known > 0 and found.told.counts[2, 2] > found.told.counts[2, 0]
    text = "\n".join(tables_of([found], contract, PROTOCOL))
    assert f"none of the {len(real.assets)} of the test part was fitted on" in text and "told as worn" in text
    assert "macro_auroc" in found.more and found.parts.measures["accuracy"].denominator.sum() == known
    same = with_classes(plain, played, real, PROTOCOL, (4, 3))
    assert same.told is not None and same.told.notes()[0].startswith("Not split by physical component: 3 of the 4")
    # a class that nothing was fitted on is named, and counts for nothing
    other = replace(real, kinds=[[(a, b, "cracked" if n == "worn" else n) for a, b, n in own] for own in real.kinds])
    strange = with_classes(plain, played, other, PROTOCOL, (4, 0)).told
    assert strange is not None and strange.new == ("cracked",) and strange.counts[2].sum() == 0 and "worn" in strange.left_out
    assert with_classes(plain, played, replace(real, kinds=[]), PROTOCOL, (4, 0)) is plain
    assert with_classes(plain, replace(played, classes=()), real, PROTOCOL, (4, 0)) is plain


def test_validation_chooses_by_the_log_loss_of_the_classes():
    scores, trial, _ = tried()
    assert scores.shape == (len(training().ticks), 3) and trial.healthy is not None and trial.odds is None
    assert trial.metrics["validation/macro_auroc"] > 0.6 and trial.value == -trial.metrics["validation/log_loss"] < 0
    blind = try_out("blind", model(1), np.where(np.isnan(scores), np.nan, 1e-9), training(), PROTOCOL, KofN(most_false=1.0), seed=0)
    assert np.isclose(blind.metrics["validation/log_loss"], np.log(3)) and choose([blind, trial]) is trial
    assert trial.metrics["validation/n_failures"] > 5, "what is known to be faulty is what limits are set by"


def test_a_known_fault_is_nothing_to_learn_normal_from():
    usable = training().usable("anomaly", PROTOCOL)[0]
    plain = small_fleet().training.usable("anomaly", PROTOCOL)[0]
    assert not (usable & training().labels.faulty).any() and (plain & training().labels.faulty).any()
    assert (training().healthy(PROTOCOL) == training().labels.faultless).all()


def test_what_was_written_down_after_training_ended_teaches_nothing():
    fleet, split = small_fleet(), Head(rows=60)
    division = split.apply(fleet.ticks, None)
    known = history()
    faults = known.faults
    assert faults is not None
    early = faults.with_columns(known_at=pl.col("begin"))
    late = faults.with_columns(known_at=pl.when(pl.col("fault") == HEALTHY).then("begin").otherwise(faults["end"].max()))
    first, second = (Training.of(fleet.ticks, division, replace(known, faults=f), split) for f in (early, late))
    assert first.labels.faulty.any() and not second.labels.faulty.any() and second.classes == (HEALTHY,)
    with pytest.raises(DataError, match="the training part holds healthy alone"):
        second.usable("fault", PROTOCOL)


def test_without_a_source_that_knows_the_task_is_refused():
    with pytest.raises(DataError, match="no training tick has a label for the task fault"):
        small_fleet().training.usable("fault", PROTOCOL)
    with pytest.raises(UsageError, match="no single target to weigh by"):
        Stack().bind({"m": model()})


def test_classes_of_test_assets_do_not_reach_what_is_fitted(monkeypatch: pytest.MonkeyPatch):
    fleet = small_fleet()
    recipe = Recipe(ByAsset(), fleet.fitted.features, {"m": model(5)}, KofN(most_false=1.0, limits=2), PROTOCOL)
    given = recipe, fleet.readings, fleet.history.contract, history()
    assert unchanged_by_test(*given).passed
    learnt = learning.learn(*given, silent)
    assert any(c.what == "label, class of fault" for c in learnt_constants(learnt))

    def all_of_them(faults: pl.DataFrame) -> tuple[str, ...]:
        return (*classes_of(faults), *sorted(set(tables[-1]["fault"]) - set(classes_of(faults))))

    tables: list[pl.DataFrame] = []
    honest = Training.of

    def peeking(ticks, division, known, split, each=False):
        tables.append(known.faults)
        return honest(ticks, division, known, split, each)

    monkeypatch.setattr(Training, "of", staticmethod(peeking))
    monkeypatch.setattr("pmx.select.training.classes_of", all_of_them)
    assert not unchanged_by_test(*given).passed, "a list of classes that is read from the test part is found"


def test_a_class_told_at_another_time_is_found():
    fleet, (_, _, fitted) = small_fleet(), tried()
    given, labels = (fleet.readings, fleet.history.contract, fitted.features), training().labels
    assert labels.fault is not None
    early = replace(labels, fault=np.roll(labels.fault, -3, axis=0))
    gate = look_ahead(*given, replace(training(), labels=early), 0, history(), None)
    assert not gate.passed and gate.culprit.startswith("class of asset") and "nobody wrote down" in gate.detail
