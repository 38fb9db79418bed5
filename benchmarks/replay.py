"""How fast the device's own code is: a pmx bundle's step graph against the same features in Polars and the booster's own predict.

Replay runs all assets in a batch; the latency is of one asset at a time, with inputs that rotate. The peer runs in the same
process, in alternation. Simulated pumps unless PMX_DATA_ROOT holds C-MAPSS (FD001).
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import polars as pl

from pmx import config
from pmx.alarm.state import Policy
from pmx.bundle import Bundle
from pmx.edge.replay import replay_ticks
from pmx.edge.step import Stepper
from pmx.gate.parity import as_ticks
from pmx.pack.core import core_files
from pmx.pack.fitted import Fitted
from pmx.select.candidates import Trial, refit
from pmx.select.training import Training
from pmx.source.admit import admit
from pmx.source.ticks import to_ticks

ROUNDS = 5


def prepare() -> tuple[str, Fitted, Bundle, pl.DataFrame]:
    """A fitted LightGBM, its bundle, and the test ticks."""
    real = Path(os.environ.get("PMX_DATA_ROOT", "../shared/data")) / "cmapss"
    name, words = ("cmapss", [f"source.root={real}"]) if real.is_dir() else ("demo", [])
    cfg = config.compose(name, [*words, "model=lightgbm"])
    parts = config.build(cfg)
    history = parts.source.load()
    ticks = to_ticks(admit(history.rows, history.contract).readings, history.contract)
    division = parts.window.apply(ticks, history.test_assets)
    policy = Policy("rul", "below", 30.0, 40.0, 3, 5)
    trial = Trial("lightgbm", parts.model["lightgbm"], None, policy, {}, 0.0)
    fitted = refit(trial, parts.feature, Training.of(ticks, division, history, parts.window), parts.evaluate)
    bundle = Bundle(core_files(fitted, policy, parts.evaluate, name), "")
    return name, fitted, bundle, ticks.filter(pl.Series(division.test))


def latency(bundle: Bundle, frame: pl.DataFrame, fitted: Fitted, steps: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    """Milliseconds per step of one asset, and of the booster's predict on one ready feature row; in alternation."""
    stepper, one = Stepper(bundle, ["one"]), np.array([0])
    readings = np.concatenate(as_ticks(frame, bundle.spec.contract).values)
    features = fitted.table(frame)
    ours, peer = np.empty(steps), np.empty(steps)
    for i in range(-50, steps):
        begin = time.perf_counter()
        stepper.step(one, readings[i % len(readings)][None])
        middle = time.perf_counter()
        fitted.model.model.score(features[i % len(features)][None])
        if i >= 0:
            ours[i], peer[i] = middle - begin, time.perf_counter() - middle
    return ours * 1e3, peer * 1e3


def main() -> None:
    name, fitted, bundle, frame = prepare()
    ticks = as_ticks(frame, bundle.spec.contract)
    batch, offline = [], []
    for _ in range(ROUNDS):
        batch.append(replay_ticks(bundle, ticks).seconds)
        begin = time.perf_counter()
        fitted.verdict(frame)
        offline.append(time.perf_counter() - begin)
    ours, peer = latency(bundle, frame, fitted)
    result = {
        "bench": "replay",
        "data": name,
        "steps": len(frame),
        "replay_steps_per_second": round(len(frame) / float(np.median(batch))),
        "replay_vs_polars_and_predict": round(float(np.median(np.array(offline) / np.array(batch))), 3),
        "step_p50_ms": round(float(np.percentile(ours, 50)), 4),
        "step_p99_ms": round(float(np.percentile(ours, 99)), 4),
        "step_vs_predict_alone_p50": round(float(np.median(ours / peer)), 3),
        "bundle_bytes": bundle.size,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
