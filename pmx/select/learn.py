"""From admitted readings to a fitted winner: the part of a run that must not depend on the test part.

It is one call, so that the look-ahead gate can repeat it on other test data and compare every constant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from pmx.alarm.policy import KofN
from pmx.contract import Contract
from pmx.evaluate.protocol import Protocol
from pmx.feature.features import FeatureSet
from pmx.model import Model
from pmx.pack.fitted import Fitted
from pmx.pack.margin import Margins
from pmx.select.candidates import Tables, Trial, choose, out_of_fold, refit, try_out
from pmx.select.stacking import with_stacks
from pmx.select.training import Training
from pmx.source import History
from pmx.source.ticks import to_ticks
from pmx.window.label import like_a_test, with_lives
from pmx.window.split import Division, Split

Tell = Callable[[str, int, int], None]  # what, done, in all


@dataclass(frozen=True)
class Recipe:
    """What is learnt with: the parts of a run's plan that decide every fitted constant.

    Attributes:
        each: whether constants are fitted for each asset apart.
        tables: how feature tables are had: computed, or read where they were computed before.
    """

    window: Split
    features: FeatureSet
    models: dict[str, Model]
    alarm: KofN
    protocol: Protocol
    each: bool = False
    seed: int = 0
    tables: Tables = FeatureSet.table


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
    best = choose(trials)
    tell(f"fit {best.name} on all training {history.noun}", 0, 1)
    winner = refit(best, recipe.features, training, recipe.protocol, recipe.tables)
    if winner.task == "rul":
        winner = replace(winner, margins=_margins(winner, scores[best.name], training, recipe.protocol))
    return Learnt(ticks, division, training, trials, best, winner)


def _margins(winner: Fitted, scores: np.ndarray, training: Training, protocol: Protocol) -> Margins:
    """The interval of a remaining useful life from out-of-fold estimates float64 [row], where a test set might cut a life."""
    estimate = np.clip(scores, 0.0, protocol.cap)
    fair = like_a_test(training.asset, training.labels.rul / training.contract.tick)
    truth = np.where(fair if fair.any() else True, training.labels.capped(protocol.cap), np.nan)
    regimes = len(winner.features.normalise_.centre_)
    return Margins.of(estimate, truth, training.asset, winner.regime(training.ticks), regimes)
