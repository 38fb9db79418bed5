"""The winner's twin for assets of unknown age: a candidate of its own, chosen and fitted on histories that begin in the middle of a life."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from pmx.evaluate.protocol import Protocol
from pmx.feature.features import FeatureSet
from pmx.feature.past import Past
from pmx.model import Model
from pmx.model.stack import Stack
from pmx.pack.fitted import Fitted
from pmx.pack.scope import Scoped
from pmx.select.candidates import Tables, Trial
from pmx.select.training import Training
from pmx.window.label import enter_mid_life, life_of, pseudo_test


@dataclass(frozen=True)
class _Entered:
    """Training histories that begin at random mid-life cuts, without a kernel that reads the age."""

    features: FeatureSet
    past: Past
    row: np.ndarray  # int64 [entered tick], the training tick that each came from

    @staticmethod
    def of(features: FeatureSet, training: Training, fits: np.ndarray, seed: int, tables: Tables) -> _Entered:
        fitted = features.without_age().fit(training.ticks.filter(pl.Series(fits)), training.contract)
        entered, row = enter_mid_life(training.ticks, seed)
        return _Entered(fitted, Past.of(tables(fitted, entered), life_of(entered), fitted.names_), row)

    def fit(self, model: Model, training: Training, usable: np.ndarray, target: np.ndarray) -> Scoped:
        """The model on the entered ticks that came from usable training ticks, bool [row], with these labels."""
        rows = (usable & self.features.fits(training.ticks, model.task))[self.row]
        return Scoped.fit(model, self.past[rows], target[self.row][rows], training.asset[self.row][rows], False)


def refit_without_age(
    trials: list[Trial],
    best: Trial,
    features: FeatureSet,
    training: Training,
    protocol: Protocol,
    seed: int,
    tables: Tables = FeatureSet.table,
) -> Fitted:
    """What is known without the age: the candidate that does best on one validation fold, refitted on all training assets.

    Which one leads may change with what it is told: a network that reads drift over time lost there what it had gained with the age.
    A stack is left out, since its weights were found with the age. The candidates are compared on whole lives, at pseudo-test cuts.

    Args:
        best: the run's choice, taken where nothing can be compared.
    """
    singles = [t for t in trials if not isinstance(t.model, Stack)]
    chosen = _chosen(singles, features, training, protocol, seed, tables) if len(singles) > 1 else (singles or [best])[0]
    entered = _Entered.of(features, training, training.fits, seed, tables)
    usable, target = training.usable(chosen.model.task, protocol, chosen.model.censored)
    model = entered.fit(chosen.model, training, usable, target)
    return Fitted(chosen.name, entered.features, model, protocol.cap, chosen.healthy, used=entered.features.fitted_on_)


def _chosen(trials: list[Trial], features: FeatureSet, training: Training, protocol: Protocol, seed: int, tables: Tables) -> Trial:
    fit, validate = training.folds(trials[0].model.task)[0]
    length = training.contract.tick
    cuts = pseudo_test(training.asset, training.labels.rul / length, protocol.cap / length, seed)
    cuts = cuts[validate[cuts]]
    target = training.labels.capped(protocol.cap)[cuts]
    if not len(cuts):
        return trials[0]
    entered = _Entered.of(features, training, fit, seed, tables)
    whole = Past.of(tables(entered.features, training.ticks), life_of(training.ticks), entered.features.names_)
    errors = []
    for trial in trials:
        usable, label = training.fold(fit, validate, trial.model.task, protocol, trial.model.censored)  # as they were known then
        if not usable.any():
            return trials[0]
        told = entered.fit(trial.model, training, usable, label).score(whole[cuts], training.asset[cuts])
        errors.append(float(np.mean((np.clip(told, 0.0, protocol.cap) - target) ** 2)))
    return trials[int(np.nanargmin(errors))] if not np.isnan(errors).all() else trials[0]
