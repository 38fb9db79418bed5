"""Candidates on validation: out-of-fold scores, their metrics and alarm limits; the winner and its refit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
from sklearn.metrics import roc_auc_score

from pmx.alarm.policy import KofN
from pmx.alarm.score import score_of
from pmx.alarm.state import Policy, evidence
from pmx.contract import DataError, Tell, UsageError
from pmx.evaluate.protocol import Protocol
from pmx.feature.features import FeatureSet
from pmx.feature.kernel import Lags
from pmx.feature.past import Past
from pmx.model import Model
from pmx.model.stack import Stack, bound
from pmx.pack.classes import odds_of_fault
from pmx.pack.fitted import OUTPUTS, Fitted, Healthy, smoothed
from pmx.pack.odds import Odds
from pmx.pack.scope import Scoped
from pmx.select.classes import class_errors
from pmx.select.limits import set_limits
from pmx.select.training import Training
from pmx.window.label import life_of, pseudo_test

Tables = Callable[[FeatureSet, pl.DataFrame], np.ndarray]  # like FeatureSet.table; a cache reads what it has computed before


LEAST_FAILURES = 5  # on validation, to choose the limit of an anomaly score by: of fewer, each would decide alone


@dataclass(frozen=True)
class Trial:
    """One candidate on validation.

    Attributes:
        name: of the candidate.
        model: not fitted.
        healthy: what healthy out-of-fold scores look like; of the tasks `anomaly` and `fault`.
        odds: what turns its scores into probabilities; of the task `failure` alone.
        policy: the alarm limits set on its out-of-fold verdicts.
        metrics: `validation/...`, rates as fractions.
        value: what the choice goes by, higher = better.
        cost: `bytes`, `resident_mb`, `p50_ms`, `p99_ms` of its bundle; empty where it was not measured.
        over: each figure that the device does not allow -> how many times what it allows.
    """

    name: str
    model: Model
    healthy: Healthy | None
    policy: Policy
    metrics: dict[str, float]
    value: float
    odds: Odds | None = None
    cost: dict[str, float] = field(default_factory=dict)
    over: dict[str, float] = field(default_factory=dict)

    @property
    def fits(self) -> bool:
        """Whether the device allows it, as far as was measured."""
        return not self.over


def task_of(models: dict[str, Model], features: FeatureSet) -> str:
    """The one task of all candidates; refused where they have several, or where one cannot read these features."""
    for name, model in models.items():
        given = [k.lags if isinstance(k, Lags) else 0 for k in features.kernels]
        if model.lags and given != [model.lags]:
            what = f"{given[0]} lags" if given[0] and len(given) == 1 else "other features"
            raise UsageError(
                f"model.{name}.lags is {model.lags}, but it is given {what} -> feature=lags, and the same number of lags in both"
            )
    bound(models)  # a stack of what is not there is refused here
    tasks = {m.task for m in models.values() if not isinstance(m, Stack)}
    if len(tasks) != 1:
        listed = ", ".join(f"{n} ({m.task})" for n, m in models.items() if not isinstance(m, Stack))
        raise UsageError(f"candidates of one run must share a task: {listed} -> run them apart")
    return tasks.pop()


def out_of_fold(
    models: dict[str, Model],
    features: FeatureSet,
    training: Training,
    protocol: Protocol,
    tell: Tell,
    tables: Tables = FeatureSet.table,
) -> dict[str, np.ndarray]:
    """Scores of every training tick, stacks aside, by a model that did not see its fold, float64 [row] per candidate, of the task `fault`
    [row, class]; NaN where no fold predicts.

    The normalisation is fitted inside each fold too. A tick without any reading is not fitted on, and has no anomaly score; nor is one
    whose regime is unknown, in the tasks `anomaly` and `fault`.
    """
    task, models = task_of(models, features), {n: m for n, m in models.items() if not isinstance(m, Stack)}
    training.usable(task, protocol)  # refused here, before anything is fitted
    shape = (len(training.ticks), *([len(training.classes)] if task == "fault" else []))
    scores = {name: np.full(shape, np.nan) for name in models}
    folds = training.folds(task)
    for i, (fit, validate) in enumerate(folds):
        rows, target = training.fold(fit, validate, task, protocol)
        fitted_features = features.fit(training.ticks.filter(pl.Series(fit)), training.contract, training.each)
        fits = fitted_features.fits(training.ticks, task)
        rows = rows & fits
        if not rows.any():
            raise DataError(
                f"fold {i + 1} of {len(folds)}: no tick has a label to fit on -> fewer window.folds, or a history with more failures"
            )
        past = Past.of(tables(fitted_features, training.ticks), life_of(training.ticks), fitted_features.names_)
        shown = validate & fits if task in ("anomaly", "fault") else validate
        for j, (name, model) in enumerate(models.items()):
            tell(f"fold {i + 1} of {len(folds)}: {name}", i * len(models) + j, len(folds) * len(models))
            own, label = (rows, target) if not model.censored else training.fold(fit, validate, task, protocol, censored=True)
            own = own & fits
            fitted = Scoped.fit(model, past[own], label[own], training.asset[own], training.each)
            scores[name][shown] = fitted.score(past[shown], training.asset[shown])
    tell("folds", len(folds) * len(models), len(folds) * len(models))
    return scores


def try_out(name: str, model: Model, scores: np.ndarray, training: Training, protocol: Protocol, alarm: KofN, seed: int) -> Trial:
    """Judges a candidate by its out-of-fold scores, and sets its alarm limits on them."""
    healthy, odds, metrics = None, None, dict[str, float]()
    if model.task == "rul":
        verdict = np.clip(scores, 0.0, protocol.cap).astype(np.float32)
    elif model.task == "failure":
        odds = Odds.of(scores, training.labels.fails_within(protocol.horizon))
        verdict = odds.probability(scores).astype(np.float32)
        metrics = _chance_errors(verdict, training, protocol)
    else:
        metrics = class_errors(scores, training, protocol) if model.task == "fault" else metrics
        watched = odds_of_fault(scores) if model.task == "fault" else scores
        healthy, verdict = _healthy(model, watched, training, protocol)
    ratios = None if healthy is None else healthy.ratios
    if odds is not None:
        ratios = verdict[(training.labels.fails_within(protocol.horizon) > 0) & ~np.isnan(verdict)]
    tick, readings = training.ticks["tick"].to_numpy(), training.ticks.select(training.contract.names).to_numpy()
    heard = evidence(verdict, readings)
    rows = [np.flatnonzero(training.asset == a) for a in training.truth.assets]
    scored = np.flatnonzero([not np.isnan(heard[r]).all() for r in rows])  # what was not predicted cannot be caught either
    judged = (
        [heard[rows[i]] for i in scored],
        [tick[rows[i]] for i in scored],
        training.truth.some(scored),
        protocol,
        training.contract.tick,
    )
    policy, counts = set_limits(alarm.family(OUTPUTS[model.task], protocol.horizon, protocol.cap, ratios), *judged, alarm.most_false)
    if healthy is not None and counts.counted.sum() < LEAST_FAILURES:
        policy, counts = set_limits([alarm.at(alarm.margin, healthy.ratios)], *judged, alarm.most_false)
    metrics |= {
        "validation/event_recall": counts.recall()[0],
        "validation/n_failures": float(counts.counted.sum()),
        "validation/false_alarms_per_asset": float(counts.false.sum() / max(1, len(scored))),
        "validation/raise_at": policy.raise_at,
    }
    if model.task == "rul":
        metrics |= _life_errors(verdict, training, protocol, seed)
        value = -metrics["validation/rmse_cut_capped"]
    elif odds is not None:
        value = -metrics["validation/brier"]
    elif "validation/log_loss" in metrics:
        value = -metrics["validation/log_loss"]
    elif counts.counted.any():
        value = metrics["validation/event_recall"] - metrics["validation/false_alarms_per_asset"]
    else:
        value = 0.0  # without a failure nothing tells candidates apart: the first listed is taken
    return Trial(name, model, healthy, policy, {k: v for k, v in metrics.items() if not np.isnan(v)}, value, odds)


def _healthy(model: Model, scores: np.ndarray, training: Training, protocol: Protocol) -> tuple[Healthy, np.ndarray]:
    """What healthy scores look like, and the validation verdicts float32 [row] that follow."""
    asset, life = training.asset, life_of(training.ticks)
    smooth = smoothed(scores, life, model.smooth)
    fine = training.healthy(protocol) & _warm(smooth, life, model.smooth)
    if not fine.any():
        raise DataError(
            f"validation has no tick that is surely healthy for {protocol.horizon:g} more {training.contract.life_unit} "
            "-> shorten evaluate.horizon, or take more data"
        )
    healthy = Healthy.of(smooth[fine], asset[fine], training.each)
    return healthy, score_of(smooth / healthy.levels(asset), healthy.ratios).astype(np.float32)


def _warm(score: np.ndarray, life: np.ndarray, half_life: float) -> np.ndarray:
    """Where a running mean has seen two half-lives of scores (at most half of what its life has), bool [row]."""
    seen = pl.DataFrame({"life": life, "seen": ~np.isnan(score)})
    count, total = pl.col("seen").cum_sum().over("life"), pl.col("seen").sum().over("life")
    return seen.select(pl.col("seen") & (count > pl.min_horizontal(pl.lit(2 * half_life), total / 2))).to_series().to_numpy()


def _chance_errors(verdict: np.ndarray, training: Training, protocol: Protocol) -> dict[str, float]:
    """Errors of validation probabilities float32 [row]."""
    came = training.labels.fails_within(protocol.horizon)
    known = ~np.isnan(verdict) & ~np.isnan(came)
    if not 0 < came[known].sum() < known.sum():
        raise DataError(
            "validation holds no two kinds of ticks, with and without a failure within the horizon -> another evaluate.horizon, or more data"
        )
    return {
        "validation/brier": float(np.mean((verdict[known] - came[known]) ** 2)),
        "validation/auroc": float(roc_auc_score(came[known], verdict[known])),
    }


def _life_errors(verdict: np.ndarray, training: Training, protocol: Protocol, seed: int) -> dict[str, float]:
    """Errors of validation RUL float32 [row]: at pseudo-test cuts, and at all ticks."""
    length, target = training.contract.tick, training.labels.capped(protocol.cap)
    if np.isnan(training.labels.rul).all():
        raise DataError("no training asset failed -> a model of the task anomaly, or a history with failures")
    cuts = pseudo_test(training.asset, training.labels.rul / length, protocol.cap / length, seed)
    cuts = cuts[~np.isnan(verdict[cuts])]
    if not len(cuts):
        raise DataError(
            "no training asset is long enough to validate on: 20 ticks of history and 5 to 150 or more ticks of life left are needed"
        )
    error = verdict[cuts] - target[cuts]
    every = (verdict - target)[~np.isnan(verdict) & ~np.isnan(target)]
    return {
        "validation/rmse_cut_capped": float(np.sqrt(np.mean(error**2))),
        "validation/rmse_all_capped": float(np.sqrt(np.mean(every**2))),
    }


def choose(trials: list[Trial]) -> Trial:
    """The best on validation among those that fit the device; of equals, the first listed. Where none fits, the one that comes nearest."""
    if fitting := [t for t in trials if t.fits]:
        return max(fitting, key=lambda t: -np.inf if np.isnan(t.value) else t.value)
    return min(trials, key=lambda t: max(t.over.values()))


class Refits:
    """Candidates fitted on the whole training part. Features are fitted once for all; a stack takes the members that are there already."""

    def __init__(self, features: FeatureSet, training: Training, protocol: Protocol, tables: Tables = FeatureSet.table) -> None:
        self.training, self.protocol = training, protocol
        self.features = features.fit(training.ticks.filter(pl.Series(training.fits)), training.contract, training.each)
        self.past = Past.of(tables(self.features, training.ticks), life_of(training.ticks), self.features.names_)
        self._models: dict[str, Scoped] = {}

    def fit(self, trial: Trial) -> Fitted:
        """The trial's model on all training ticks that it can learn from."""
        training, task = self.training, trial.model.task
        fits, features = self.features.fits(training.ticks, task), self.features
        if isinstance(trial.model, Stack):
            members = {n: self._model(n, trial.model.parts[n], fits).model for n in trial.model.used}
            model = Scoped(trial.model.made_of(members, features.names_))
        else:
            model = self._model(trial.name, trial.model, fits)
        if trial.healthy is not None and training.each:  # without a limit, constants of its own are of no use to an asset
            features = features.only(set(trial.healthy.level) & (set(model.own) or set(trial.healthy.level)))
            model = replace(model, own={a: m for a, m in model.own.items() if a in features.normalise_.own_})
        usable = self._usable(trial.model, fits)[0]
        used_ticks = pl.concat([features.fitted_on_, training.ticks.filter(pl.Series(usable)).select("asset", "tick")]).unique()
        classes = training.classes if task == "fault" else ()
        return Fitted(trial.name, features, model, self.protocol.cap, trial.healthy, odds=trial.odds, used=used_ticks, classes=classes)

    def _usable(self, model: Model, fits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        usable, target = self.training.usable(model.task, self.protocol, model.censored)
        return usable & fits, target

    def _model(self, name: str, model: Model, fits: np.ndarray) -> Scoped:
        if name not in self._models:
            usable, target = self._usable(model, fits)
            asset, each = self.training.asset[usable], self.training.each
            self._models[name] = Scoped.fit(model, self.past[usable], target[usable], asset, each)
        return self._models[name]


def refit(trial: Trial, features: FeatureSet, training: Training, protocol: Protocol, tables: Tables = FeatureSet.table) -> Fitted:
    """The trial's model on the whole training part."""
    return Refits(features, training, protocol, tables).fit(trial)
