"""From admitted readings to a fitted winner: the part of a run that must not depend on the test part.

It is one call, so that the look-ahead gate can repeat it on other test data and compare every constant.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from pmx.alarm.policy import KofN
from pmx.contract import Contract, Tell
from pmx.evaluate.protocol import Protocol
from pmx.feature.features import FeatureSet
from pmx.model import Model
from pmx.pack.budget import Limits
from pmx.pack.fitted import Fitted
from pmx.pack.margin import Margins
from pmx.select.candidates import Refits, Tables, Trial, choose, out_of_fold, try_out
from pmx.select.cost import with_costs
from pmx.select.stacking import with_stacks
from pmx.select.training import Training
from pmx.source import History
from pmx.source.ticks import to_ticks
from pmx.window.label import like_a_test, with_lives
from pmx.window.split import Division, Split


@dataclass(frozen=True)
class Recipe:
    """What is learnt with: the parts of a run's plan that decide every fitted constant.

    Attributes:
        each: whether constants are fitted for each asset apart.
        tables: how feature tables are had: computed, or read where they were computed before.
        limits: of the device that the winner must fit; None = the choice goes by quality alone, and nothing is measured.
    """

    window: Split
    features: FeatureSet
    models: dict[str, Model]
    alarm: KofN
    protocol: Protocol
    each: bool = False
    seed: int = 0
    tables: Tables = FeatureSet.table
    limits: Limits | None = None


@dataclass(frozen=True)
class Learnt:
    """What the training part taught.

    Attributes:
        ticks: of all assets, the test part's among them.
        division: which of them train and which test.
        trials: every candidate on validation.
        best: the one that was chosen.
        winner: refitted on the whole training part.
    """

    ticks: pl.DataFrame
    division: Division
    training: Training
    trials: list[Trial]
    best: Trial
    winner: Fitted


def learn(recipe: Recipe, readings: pl.DataFrame, contract: Contract, history: History, tell: Tell) -> Learnt:
    """Aligns, splits, labels, tries every candidate on validation and refits the best.

    Args:
        readings: as in `Admitted.readings`.
        contract: of the readings, as the window suits it.
        history: whose events, test assets and calibration runs count; its rows are not read.
    """
    ticks = with_lives(to_ticks(readings, contract), history.events, contract)
    division = recipe.window.apply(ticks, history.test_assets)
    training = Training.of(ticks, division, history, recipe.window, recipe.each)
    scores = out_of_fold(recipe.models, recipe.features, training, recipe.protocol, tell, recipe.tables)
    models, scores = with_stacks(recipe.models, scores, training, recipe.protocol)
    trials = [try_out(n, m, scores[n], training, recipe.protocol, recipe.alarm, recipe.seed) for n, m in models.items()]

    refits = Refits(recipe.features, training, recipe.protocol, recipe.tables)

    def shipped(trial: Trial) -> Fitted:
        tell(f"fit {trial.name} on all training {history.noun}", 0, 1)
        fitted = refits.fit(trial)
        fitted = replace(fitted, profile=recipe.limits.profile if recipe.limits else fitted.profile)
        return replace(fitted, margins=_margins(fitted, scores[trial.name], training, recipe.protocol)) if fitted.task == "rul" else fitted

    if recipe.limits is None or len(trials) == 1:  # with nothing to choose from, the budget gate measures
        best = choose(trials)
        return Learnt(ticks, division, training, trials, best, shipped(best))
    costed = with_costs(trials, shipped, recipe.limits, recipe.protocol, history.waves)
    best = choose([t for t, _ in costed])
    return Learnt(ticks, division, training, [t for t, _ in costed], best, next(f for t, f in costed if t is best))


def _margins(winner: Fitted, scores: np.ndarray, training: Training, protocol: Protocol) -> Margins:
    """The interval of a remaining useful life from out-of-fold estimates float64 [row], where a test set might cut a life, or later."""
    estimate, length = np.clip(scores, 0.0, protocol.cap), training.contract.tick
    fair = like_a_test(training.asset, training.labels.rul / length, protocol.cap / length, least=0)
    truth = np.where(fair if fair.any() else True, training.labels.capped(protocol.cap), np.nan)
    regimes = len(winner.features.normalise_.centre_)
    return Margins.of(estimate, truth, training.asset, winner.regime(training.ticks), regimes, protocol.cap)
