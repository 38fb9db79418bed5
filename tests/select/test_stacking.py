"""Stacks in a run: what is left out costs nothing, each member learns from its own labels, and no label of a fold weighs it."""

from dataclasses import replace

import numpy as np
import pytest

from pmx.alarm.policy import KofN
from pmx.bundle import Bundle, core_digest
from pmx.edge.replay import replay_ticks
from pmx.feature.features import FeatureSet
from pmx.feature.kernel import Age, Ewma, TrailingMean
from pmx.feature.regime import RegimeScore
from pmx.gate.parity import as_ticks
from pmx.model.gru import Gru
from pmx.model.lightgbm import LightGBM
from pmx.model.stack import Stack
from pmx.model.weibull import Weibull
from pmx.pack.core import core_files
from pmx.select.candidates import Trial, refit, try_out
from pmx.select.stacking import with_stacks
from pmx.select.twin import refit_without_age
from tests.small_fleet import small_fleet

FLEET = small_fleet()
FEATURES = FeatureSet(RegimeScore(), [Age(), TrailingMean(5), Ewma(8)])


def trial_of(**told: float) -> Trial:
    """A stack of three candidates whose out-of-fold scores are so far from the truth."""
    models = {
        "trees": LightGBM(trees=10, learning_rate=0.2, min_child_samples=10),
        "gru": Gru(history=3, width=4, epochs=1),
        "weibull": Weibull(),
        "stack": Stack(),
    }
    target = FLEET.training.labels.capped(FLEET.protocol.cap)
    noise = np.random.default_rng(0).normal(size=(len(target), 3))
    scores = {n: target + told.get(n, 1e4) * noise[:, i] for i, n in enumerate(models) if n != "stack"}
    found, scores = with_stacks(models, scores, FLEET.training, FLEET.protocol)
    return try_out("stack", found["stack"], scores["stack"], FLEET.training, FLEET.protocol, KofN(), seed=0)


@pytest.mark.parametrize("told, used, history", [({"trees": 1.0}, ["trees"], 1), ({"trees": 1.0, "gru": 1.0}, ["trees", "gru"], 3)])
def test_a_stack_ships_what_has_weight(told, used, history):
    trial = trial_of(**told)
    fitted = refit(trial, FEATURES, FLEET.training, FLEET.protocol)
    assert trial.model.used == used and fitted.model.model.history == history
    core = core_files(fitted, trial.policy, FLEET.protocol, "stacked pumps")
    played = replay_ticks(Bundle(core, core_digest(core)), as_ticks(FLEET.tested, FLEET.history.contract))
    assert np.allclose(np.concatenate(played.outputs["rul"]), fitted.verdict(FLEET.tested), rtol=1e-5, equal_nan=True)


def test_without_age_the_candidate_is_chosen_anew():
    """A model that sees nothing but the age leads with it; without it, one that reads a channel is taken."""
    trial, training = trial_of(weibull=1.0), FLEET.training
    single = replace(trial, model=Weibull())
    found = refit_without_age(
        [trial, replace(trial, name="blind", model=Weibull(ridge=1e9)), replace(trial, name="survival", model=Weibull())],
        single, FEATURES, training, FLEET.protocol, seed=0,
    )  # fmt: skip
    assert found.name == "survival" and not any(k.reads_age for k in found.features.kernels)
    alone = refit_without_age([], replace(trial, model=Weibull()), FEATURES, training, FLEET.protocol, seed=0)
    assert np.array_equal(found.verdict(FLEET.tested), alone.verdict(FLEET.tested), equal_nan=True)


def test_without_age_a_stack_is_weighed_anew():
    """The stack of the run gave all to the network; without the age, a fold decides, and what it gives nothing is not fitted."""
    trial, training = trial_of(gru=1.0), FLEET.training
    singles = [Trial(n, m, None, trial.policy, {}, 0.0) for n, m in trial.model.parts.items()]
    found = refit_without_age([*singles, trial], trial, FEATURES, training, FLEET.protocol, seed=0).model.model
    assert found.weights_ != trial.model.weights_ and sum(found.weights_) == pytest.approx(1)
    as_it_was = refit_without_age([trial], trial, FEATURES, training, FLEET.protocol, seed=0).model.model
    assert as_it_was.weights_ == trial.model.weights_, "with nothing to compare, the run's choice stands"
