"""How long one LightGBM setting takes from readings to a fitted winner: features, grouped folds and the final fit.

    make bench BENCH=fit

C-MAPSS FD001 (`PMX_BENCH_SUBSET` names another), two threads. The peer is LightGBM itself: the same number of trainings on a feature
table that is there already, in the same process. The last line is JSON; `vs_lightgbm` is how many times as long the whole takes.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from pmx import config
from pmx.select.candidates import Refits
from pmx.select.learn import Recipe, learn
from pmx.source.admit import admit

SETTING = ["model=lightgbm", "model.lightgbm.average=1", "model.lightgbm.num_leaves=7", "threads=2"]


def _silent(what: str, done: int, total: int) -> None:
    """Takes progress."""


def main() -> None:
    subset = os.environ.get("PMX_BENCH_SUBSET", "FD001")
    cfg = config.compose("cmapss", [f"source.subset={subset}", *SETTING])
    parts = config.build(cfg)
    history = parts.source.load()
    contract = parts.window.suits(history.contract)
    with tempfile.TemporaryDirectory() as folder:
        readings = admit(history.rows, contract, "refuse", Path(folder) / "quarantine.parquet").some(history.name).readings
    recipe = Recipe(parts.window, parts.feature, parts.model, parts.alarm, parts.evaluate, seed=cfg.seed)
    begin, cpu = time.perf_counter(), time.process_time()
    learnt = learn(recipe, readings, contract, history, _silent)
    whole, cpu = time.perf_counter() - begin, time.process_time() - cpu

    training, model = learnt.training, parts.model["lightgbm"]
    x = Refits(parts.feature, training, parts.evaluate).past.now
    begin = time.perf_counter()
    every = np.ones(len(training.ticks), bool)
    for fit in [*(fit for fit, _ in training.folds("rul")), every]:
        rows, target = training.fold(fit, ~fit, "rul", parts.evaluate) if fit is not every else training.usable("rul", parts.evaluate)
        model.fit(x[rows], target[rows], training.asset[rows])
    alone = time.perf_counter() - begin
    error = learnt.best.metrics["validation/rmse_cut_capped"]
    print(f"{subset}: {whole:.1f} s from readings to a fitted winner ({cpu:.1f} CPU s), of which LightGBM alone takes {alone:.1f} s")
    print(json.dumps({"seconds": whole, "cpu_seconds": cpu, "vs_lightgbm": whole / alone, "validation_rmse": error}))


if __name__ == "__main__":
    main()
