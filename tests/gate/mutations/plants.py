"""The mutations: what people do by mistake when they let a model see the future or the test part. The gates know nothing of them.

Each takes a patcher and a case, changes the code that learns, and returns the case as it is then run.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from pytest import MonkeyPatch

from pmx.feature.features import FeatureSet
from pmx.feature.leaky import CentredMean
from pmx.feature.regime import RegimeScore
from pmx.pack.fitted import Healthy, smoothed
from pmx.select import learn, training
from pmx.select.candidates import refit
from pmx.window.label import Labels
from tests.gate.mutations.case import Case


@dataclass(frozen=True)
class Plant:
    """A mutation, the structure that a source must have for it, and how the gate's culprit begins; a variant is much like another one."""

    name: str
    make: Callable[[MonkeyPatch, Case], Case]
    culprit: str
    fits: Callable[[Case], bool] = lambda case: True
    variant: bool = False


def _with_kernel(kernel) -> Callable[[MonkeyPatch, Case], Case]:
    def make(patch: MonkeyPatch, case: Case) -> Case:
        features = FeatureSet(case.recipe.features.normalise, [*case.recipe.features.kernels, kernel])
        return replace(case, recipe=replace(case.recipe, features=features))

    return make


def _filled(how: Callable[[pl.Expr], pl.Expr]) -> Callable[[MonkeyPatch, Case], Case]:
    def make(patch: MonkeyPatch, case: Case) -> Case:
        honest = learn.to_ticks

        def filled(readings: pl.DataFrame, contract) -> pl.DataFrame:
            ticks = honest(readings, contract)
            return ticks.with_columns(how(pl.col(c)).over("asset").cast(pl.Float32) for c in contract.names)

        patch.setattr(learn, "to_ticks", filled)
        return case

    return make


def _lead(ticks: int) -> Callable[[MonkeyPatch, Case], Case]:
    def make(patch: MonkeyPatch, case: Case) -> Case:
        honest = training.label

        def led(own, events, contract) -> Labels:
            labels, off = honest(own, events, contract), ticks * contract.tick
            return Labels(labels.rul - off, labels.at_least - off, labels.since)

        patch.setattr(training, "label", led)
        return case

    return make


def _lead_event(patch: MonkeyPatch, case: Case) -> Case:
    """Orders are dated back before labels are made of them, so labels and truth agree with each other."""
    honest = training.Training.of

    def early(ticks, division, history, split, each=False):
        step = 4 * case.contract.tick if case.contract.clock == "life" else pl.duration(microseconds=4 * case.contract.tick_us)
        return honest(ticks, division, replace(history, events=history.events.with_columns(pl.col("time") - step)), split, each)

    patch.setattr(training.Training, "of", staticmethod(early))
    return case


def _lead_episode(patch: MonkeyPatch, case: Case) -> Case:
    honest = training._stretches

    def early(stretches, contract):
        return {asset: [(begin - 3, end - 3, fault) for begin, end, fault in own] for asset, own in honest(stretches, contract).items()}

    patch.setattr(training, "_stretches", early)
    return case


def _all_ticks(patch: MonkeyPatch) -> list[pl.DataFrame]:
    """Keeps the ticks of every learning, the test part's among them; the newest stands last."""
    honest, seen = learn.to_ticks, []

    def remembered(readings, contract) -> pl.DataFrame:
        seen.append(honest(readings, contract))
        return seen[-1]

    patch.setattr(learn, "to_ticks", remembered)
    return seen


def _scaler(patch: MonkeyPatch, case: Case) -> Case:
    seen, honest = _all_ticks(patch), RegimeScore.fit

    def over_all(self, ticks, contract, each=False):
        fitted, whole = honest(self, ticks, contract, each), honest(self, seen[-1], contract, each)
        here = [whole.channels_.index(c) for c in fitted.channels_]
        regime = [int(np.argmin(((whole.centre_ - c) ** 2).sum(1))) for c in fitted.centre_]
        fitted.mean_, fitted.scale_ = (v[regime][:, here] for v in (whole.mean_, whole.scale_))
        fitted.own_ = {a: whole.own_[a][:, regime][:, :, here] for a in fitted.own_}
        return fitted

    patch.setattr(RegimeScore, "fit", over_all)
    return case


def _regimes(patch: MonkeyPatch, case: Case) -> Case:
    seen, honest = _all_ticks(patch), RegimeScore._centres
    names = [c.name for c in case.contract.channels if c.role == "setting"]

    def over_all(self, settings, ranges, most):
        whole = seen[-1].select(names).to_numpy().astype(np.float64)
        return honest(self, whole[~np.isnan(whole).any(1)], ranges, most)

    patch.setattr(RegimeScore, "_centres", over_all)
    return case


def _from_test(patch: MonkeyPatch, case: Case, change: Callable) -> Case:
    """Lets what is set on validation be set on the test part's verdicts instead."""
    seen, honest, features = _all_ticks(patch), learn.try_out, case.recipe.features

    def looked(name, model, scores, trained, protocol, alarm, seed):
        trial = honest(name, model, scores, trained, protocol, alarm, seed)
        fitted = refit(trial, features, trained, protocol)
        test = seen[-1].join(trained.ticks, on=["asset", "tick"], how="anti").sort("asset", "tick")
        return change(trial, fitted, test)

    patch.setattr(learn, "try_out", looked)
    return case


def _limit(patch: MonkeyPatch, case: Case) -> Case:
    def change(trial, fitted, test):
        verdict = fitted.verdict(test).astype(np.float64)
        limit = float(np.nanmedian(verdict))
        return replace(trial, policy=replace(trial.policy, raise_at=limit, clear_at=limit))

    return _from_test(patch, case, change)


def _calibration(patch: MonkeyPatch, case: Case) -> Case:
    def change(trial, fitted, test):
        asset = test["asset"].to_numpy()
        score = smoothed(fitted.model.score(fitted.table(test), asset), asset, trial.model.smooth)
        fine = ~np.isnan(score)
        each = case.recipe.each
        return replace(trial, healthy=Healthy.of(score[fine], asset[fine], each))

    return _from_test(patch, case, change)


def _choice(patch: MonkeyPatch, case: Case) -> Case:
    def change(trial, fitted, test):
        return replace(trial, value=float(np.nanmean(fitted.verdict(test))))

    return _from_test(patch, case, change)


PLANTS = [
    Plant("centred window", _with_kernel(CentredMean(9)), "kernel centred_mean9 "),
    Plant("back-fill", _filled(lambda e: e.backward_fill()), "alignment", lambda case: case.missing),
    Plant("interpolation", _filled(lambda e: e.interpolate()), "alignment", lambda case: case.missing, variant=True),
    Plant("lead label, 1 tick", _lead(1), "label of asset"),
    Plant("lead label, 10 ticks", _lead(10), "label of asset", lambda case: len(case.readings) > 200, variant=True),
    Plant("lead event", _lead_event, "label of asset", lambda case: case.fails),
    Plant("lead episode", _lead_episode, "episodes of asset", lambda case: case.history.episodes is not None),
    Plant("scaler over the test", _scaler, "scaler"),
    Plant("regimes over the test", _regimes, "regime", lambda case: case.settings),
    Plant("calibration from the test", _calibration, "calibration", lambda case: case.task == "anomaly"),
    Plant("limit from the test", _limit, "limit"),
    Plant("choice by the test", _choice, "figure", variant=True),
]
