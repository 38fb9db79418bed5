"""Candidates on validation: out-of-fold scores, their metrics and alarm limits; the winner and its refit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from pmx.alarm.policy import KofN
from pmx.alarm.state import Policy
from pmx.contract import DataError, UsageError
from pmx.evaluate.protocol import Protocol
from pmx.feature.features import FeatureSet
from pmx.model import Model
from pmx.pack.fitted import Fitted, ranks, to_verdict
from pmx.select.limits import set_limits
from pmx.select.training import Training
from pmx.window.label import enter_mid_life, pseudo_test
from pmx.window.split import Split

Tell = Callable[[str, int, int], None]  # what, done, in all


@dataclass(frozen=True)
class Trial:
    """One candidate on validation.

    Attributes:
        name: of the candidate.
        model: not fitted.
        healthy: sorted healthy out-of-fold scores (task `anomaly`), else empty.
        policy: the alarm limits set on its out-of-fold verdicts.
        metrics: `validation/...`, rates as fractions.
        value: what the choice goes by, higher = better.
    """

    name: str
    model: Model
    healthy: np.ndarray
    policy: Policy
    metrics: dict[str, float]
    value: float


def task_of(models: dict[str, Model]) -> str:
    """The one task of all candidates."""
    tasks = {m.task for m in models.values()}
    if len(tasks) != 1:
        listed = ", ".join(f"{n} ({m.task})" for n, m in models.items())
        raise UsageError(f"candidates of one run must share a task: {listed} -> run them apart")
    return tasks.pop()


def out_of_fold(
    models: dict[str, Model], features: FeatureSet, training: Training, split: Split, protocol: Protocol, tell: Tell
) -> dict[str, np.ndarray]:
    """Scores of every training tick by a model that did not see its fold, float64 [row] per candidate; NaN where no fold predicts.

    The normalisation is fitted inside each fold too.
    """
    task = task_of(models)
    training.usable(task, protocol)  # refused here, before anything is fitted
    scores = {name: np.full(len(training.ticks), np.nan) for name in models}
    folds = split.validation(training.ticks, training.by)
    for i, (fit, validate) in enumerate(folds):
        rows, target = training.fold(fit, validate, task, protocol)
        if not rows.any():
            raise DataError(
                f"fold {i + 1} of {len(folds)}: no tick has a label to fit on -> fewer window.folds, or a history with more failures"
            )
        x = features.fit(training.ticks.filter(pl.Series(fit)), training.contract).table(training.ticks)
        for j, (name, model) in enumerate(models.items()):
            tell(f"fold {i + 1} of {len(folds)}: {name}", i * len(models) + j, len(folds) * len(models))
            fitted = copy.deepcopy(model)
            fitted.fit(x[rows], target[rows], training.asset[rows])
            scores[name][validate] = fitted.score(x[validate])
    tell("folds", len(folds) * len(models), len(folds) * len(models))
    return scores


def try_out(name: str, model: Model, scores: np.ndarray, training: Training, protocol: Protocol, alarm: KofN, seed: int) -> Trial:
    """Judges a candidate by its out-of-fold scores, and sets its alarm limits on them."""
    length, asset = training.contract.tick, training.asset
    healthy = ranks(scores[training.labels.healthy(protocol.horizon)]) if model.task == "anomaly" else np.empty(0)
    if model.task == "anomaly" and not len(healthy):
        raise DataError(
            f"validation has no tick that is surely healthy for {protocol.horizon:g} more {training.contract.life_unit} "
            "-> shorten evaluate.horizon, or take more data"
        )
    verdict = to_verdict(scores, model.task, protocol.cap, healthy)
    rows = [np.flatnonzero(asset == a) for a in training.truth.assets]
    family = alarm.family("rul" if model.task == "rul" else "anomaly_score", protocol.horizon, protocol.cap)
    tick = training.ticks["tick"].to_numpy()
    policy, counts = set_limits(
        family, [verdict[r] for r in rows], [tick[r] for r in rows], training.truth, protocol, length, alarm.most_false
    )
    metrics = {
        "validation/event_recall": counts.recall()[0],
        "validation/n_failures": float(counts.counted.sum()),
        "validation/false_alarms_per_asset": float(counts.false.sum() / len(training.truth.assets)),
        "validation/raise_at": policy.raise_at,
    }
    value = (
        np.nan_to_num(metrics["validation/event_recall"]) - metrics["validation/false_alarms_per_asset"]
    )  # nothing to catch: the quieter one
    if model.task == "rul":
        target = training.labels.capped(protocol.cap)
        if np.isnan(training.labels.rul).all():
            raise DataError("no training asset failed -> a model of the task anomaly, or a history with failures")
        cuts = pseudo_test(asset, training.labels.rul / length, seed)
        cuts = cuts[~np.isnan(verdict[cuts])]
        if not len(cuts):
            raise DataError(
                "no training asset is long enough to validate on: 20 ticks of history and 5 to 150 ticks of life left are needed"
            )
        error = verdict[cuts] - target[cuts]
        every = (verdict - target)[~np.isnan(verdict) & ~np.isnan(target)]
        metrics["validation/rmse_cut_capped"] = float(np.sqrt(np.mean(error**2)))
        metrics["validation/rmse_all_capped"] = float(np.sqrt(np.mean(every**2)))
        value = -metrics["validation/rmse_cut_capped"]
    return Trial(name, model, healthy, policy, {k: v for k, v in metrics.items() if not np.isnan(v)}, value)


def choose(trials: list[Trial]) -> Trial:
    """The best on validation; of equals, the first listed."""
    return max(trials, key=lambda t: -np.inf if np.isnan(t.value) else t.value)


def refit(trial: Trial, features: FeatureSet, training: Training, protocol: Protocol) -> Fitted:
    """The trial's model on the whole training part."""
    usable, target = training.usable(trial.model.task, protocol)
    fitted_features = features.fit(training.ticks, training.contract)
    model = copy.deepcopy(trial.model)
    model.fit(fitted_features.table(training.ticks)[usable], target[usable], training.asset[usable])
    used = pl.concat([fitted_features.fitted_on_, training.ticks.filter(pl.Series(usable)).select("asset", "tick")]).unique()
    return Fitted(trial.name, fitted_features, model, protocol.cap, trial.healthy, used)


def refit_without_age(trial: Trial, features: FeatureSet, training: Training, protocol: Protocol, seed: int) -> Fitted:
    """The same for an asset of unknown age: no kernel that reads it, and training histories that begin at random mid-life cuts."""
    usable, target = training.usable(trial.model.task, protocol)
    fitted_features = features.without_age().fit(training.ticks, training.contract)
    entered, row = enter_mid_life(training.ticks, seed)
    model, rows = copy.deepcopy(trial.model), usable[row]
    model.fit(fitted_features.table(entered)[rows], target[row][rows], training.asset[row][rows])
    return Fitted(trial.name, fitted_features, model, protocol.cap, trial.healthy, fitted_features.fitted_on_)
