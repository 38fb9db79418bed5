"""The spine of a sweep's trial: from admitted readings to a quality on validation and a measured device cost.

open (once per data set) -> learn -> pack -> measure. No test tick is predicted and no verdict on one is judged: `pmx run` does that
once, with the settings that a sweep found.
"""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from pmx.contract import Contract, DataError, Tell
from pmx.gate.budget import budget
from pmx.gate.result import Gate
from pmx.pack.budget import Limits, measure_budget
from pmx.pack.core import pack
from pmx.pack.scope import by_asset
from pmx.plan import Plan
from pmx.select.candidates import task_of
from pmx.select.learn import Recipe, learn
from pmx.source import History, Source
from pmx.source.admit import Admitted, admit
from pmx.window.split import Split

MEASURED = 2  # times, in processes of their own; the least counts: what else the machine does can only add


@dataclass(frozen=True)
class Opened:
    """A data set that trials share: read once, judged by its contract once."""

    history: History
    contract: Contract
    admitted: Admitted


@dataclass(frozen=True)
class Found:
    """What a trial found.

    Attributes:
        candidate: the one that validation chose.
        task: of all candidates.
        quality: what the choice went by, higher = better; for the task `rul` the negative RMSE at pseudo-test cuts.
        metrics: `validation/...` of the chosen one.
        cost: `bytes`, `resident_mb`, `p50_ms`, `p99_ms`, measured in a process of its own.
        fits: whether that fits the device with its headroom, as the budget gate says it.
        unit: of the RMSE.
        digest: of the data.
    """

    candidate: str
    task: str
    quality: float
    metrics: dict[str, float]
    cost: dict[str, float]
    fits: Gate
    unit: str
    digest: str


def open_data(source: Source, window: Split, on_error: str, quarantine: Path) -> Opened:
    """Reads a data set and admits its rows; `quarantine` takes those that are set apart."""
    history = source.load()
    contract = window.suits(history.contract)
    return Opened(history, contract, admit(history.rows, contract, on_error, quarantine).some(history.name))


def trial(plan: Plan, opened: Opened, tell: Tell) -> Found:
    """Tries the plan's settings on validation alone, and measures what a device would pay for them.

    Args:
        opened: of the plan's source and window.
    """
    task = task_of(plan.models, plan.features)
    each = by_asset(plan.fit_scope, task, plan.window.by)
    recipe = Recipe(plan.window, plan.features, plan.models, plan.alarm, plan.protocol, each, plan.seed, plan.tables, Limits(**plan.limits))
    learnt = learn(recipe, opened.admitted.readings, opened.contract, opened.history, tell)
    best = learnt.best
    if not math.isfinite(best.value):
        raise DataError(f"{best.name}: validation gave no value to choose by -> a window with more to validate on")
    bundle = plan.folder / f"bundle_{os.getpid()}"  # an orphan of a killed sweep may still work beside us
    try:
        tell("measure on the device's terms", 0, 1)
        core = pack(bundle, learnt.winner, best.policy, plan.protocol, plan.name, opened.history.waves)
        measured = [measure_budget(bundle, core) for _ in range(MEASURED)]
    finally:
        shutil.rmtree(bundle, ignore_errors=True)  # unsealed: no device may open it, and `pmx run` packs the best anew
    cost = {name: min(m[name] for m in measured) for name in measured[0]}
    gate = budget(cost, **plan.limits)
    return Found(best.name, task, best.value, best.metrics, cost, gate, opened.contract.life_unit, opened.history.digest)
