"""Stacks in a run: what has no weight is not packed, and needs no memory."""

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
