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
        own = training.ticks.filter(pl.Series(fits))
        fitted = features.without_age().fit(own, training.contract)
        entered, row = enter_mid_life(own, seed)
        return _Entered(fitted, Past.of(tables(fitted, entered), life_of(entered), fitted.names_), np.flatnonzero(fits)[row])

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
    """What is known without the age, from a model that is chosen for it on one validation fold and refitted on all training assets.

    Which candidate leads changes with what it is told: a network that reads drift over time lost there what it had gained with the
    age. So the best single one is taken where it is clearly better than the run's choice, or, where that is a stack, one with weights of
    its own. They are compared on whole lives, at pseudo-test cuts.

    Args:
        best: the run's choice, taken as it is where nothing can be compared.
    """
    singles = {t.name: t for t in trials if not isinstance(t.model, Stack)}
    told = _told(list(singles.values()), features, training, protocol, seed, tables) if len(singles) > 1 else None
    entered = _Entered.of(features, training, training.fits, seed, tables)

    def fit(model: Model) -> Scoped:
        usable, target = training.usable(model.task, protocol, model.censored)
        return entered.fit(model, training, usable, target)

    if isinstance(best.model, Stack):
        stack = best.model
        if told is not None:
            stack = stack.weigh(np.column_stack([told.said[n] for n in stack.parts]), told.truth)
        members = {n: fit(stack.parts[n]).model for n in stack.used}
        name, model = best.name, Scoped(stack.made_of(members, entered.features.names_))
    else:
        name = best.name if told is None else told.leader(best.name)
        model = fit(singles[name].model if name in singles else best.model)
    return Fitted(name, entered.features, model, protocol.cap, best.healthy, used=entered.features.fitted_on_)


@dataclass(frozen=True)
class _Told:
    """What each candidate says at some cuts, float64 [cut], the truth there, and the assets, [cut]."""

    said: dict[str, np.ndarray]
    truth: np.ndarray
    asset: np.ndarray

    def leader(self, first: str) -> str:
        """The candidate with the least mean squared error; `first` where its error is larger by no more than a standard error of that
        difference over assets (the rule of one standard error: Breiman and others, Classification and Regression Trees, 1984).
        """
        errors = {n: (t - self.truth) ** 2 for n, t in self.said.items() if not np.isnan(t).any()}
        if not errors:
            return first
        best = min(errors, key=lambda n: float(np.mean(errors[n])))
        if first not in errors or first == best:
            return best
        _, at = np.unique(self.asset, return_inverse=True)
        more = np.bincount(at, errors[first] - errors[best]) / np.bincount(at)
        return first if len(more) > 1 and more.mean() <= more.std(ddof=1) / np.sqrt(len(more)) else best


def _told(trials: list[Trial], features: FeatureSet, training: Training, protocol: Protocol, seed: int, tables: Tables) -> _Told | None:
    """What each candidate says at the cuts of the first fold; None where nothing can be compared."""
    fit, validate = training.folds(trials[0].model.task)[0]
    length = training.contract.tick
    cuts = pseudo_test(training.asset, training.labels.rul / length, protocol.cap / length, seed)
    cuts = cuts[validate[cuts]]
    if not len(cuts):
        return None
    entered = _Entered.of(features, training, fit, seed, tables)
    whole = Past.of(tables(entered.features, training.ticks), life_of(training.ticks), entered.features.names_)
    told = {}
    for trial in trials:
        usable, label = training.fold(fit, validate, trial.model.task, protocol, trial.model.censored)  # as they were known then
        if not usable.any():
            return None
        score = entered.fit(trial.model, training, usable, label).score(whole[cuts], training.asset[cuts])
        told[trial.name] = np.clip(score, 0.0, protocol.cap)
    return _Told(told, training.labels.capped(protocol.cap)[cuts], training.asset[cuts])
