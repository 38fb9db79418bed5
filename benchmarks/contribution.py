"""Contribution per channel: whether it names the channel of a fault that befalls one channel alone.

    make bench BENCH=contribution

A bundle is learnt once for each source (principal components over lags on simulated pumps, SKAB and Tennessee Eastman where they are
there, and the remaining life of the pumps), with sensors judged and with every reading believed. Into 100 healthy stretches of assets that
were not learnt from, a fault of 3 to 6 standard deviations is planted in one channel drawn at random: a shift, a drift that takes ten ticks
to its full size, or a wider spread. The device's own code replays them. The channels are ranked by the graph's `contribution` where the alarm
is raised, at most ten ticks after the fault began, else at the tenth tick. A channel that the bundle called a faulty sensor until then is
named as well, though by its quality.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import numpy as np
import polars as pl

from pmx import config
from pmx.align import Ticks
from pmx.bundle import Bundle, core_digest
from pmx.contract import DataError
from pmx.edge.replay import replay_ticks
from pmx.feature.features import FeatureSet
from pmx.gate.parity import as_ticks
from pmx.pack.core import core_files
from pmx.select.learn import Recipe, learn
from pmx.source.admit import admit

SEEDS = int(os.environ.get("PMX_BENCH_TRIALS", "100"))
BEFORE, AFTER = 60, 10  # ticks of each stretch before and from the fault on
KINDS = ("shift", "drift", "spread")
SOURCES = {
    "synthetic": ("demo", ["model=pca", "feature=lags", "source.assets=60"]),
    "skab": ("skab", []),
    "tep": ("tep", []),
    "life": ("demo", ["model=lightgbm", "source.assets=60"]),  # every state of a sensor is judged
}  # experiment, and what is set otherwise


def planted(values: np.ndarray, at: int, channel: int, deviation: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    """Readings float32 [time, channel] with a fault of one channel from tick `at` on; `deviation` float64 [time] in its unit."""
    size, after = rng.uniform(3, 6), np.arange(1, len(values) - at + 1)
    course = {"shift": np.ones(len(after)), "drift": np.minimum(after / AFTER, 1.0), "spread": rng.normal(size=len(after))}[kind]
    sign = rng.choice([-1.0, 1.0])
    found = values.astype(np.float64)
    found[at:, channel] += sign * size * course * deviation[at:]
    return found.astype(np.float32)


def learnt(name: str, words: list[str]) -> tuple[Bundle, FeatureSet, pl.DataFrame]:
    """A bundle, its fitted features, and the ticks of the assets that may be planted into."""
    chosen = config.compose(name, words)
    parts = config.build(chosen)
    history = parts.source.load()
    contract = parts.window.suits(history.contract)
    readings = admit(history.rows, contract, "quarantine").readings
    model = dict([next(iter(parts.model.items()))])
    each = chosen.fit_scope == "asset"
    found = learn(
        Recipe(parts.window, parts.feature, model, parts.alarm, parts.evaluate, each), readings, contract, history, lambda *_: None
    )
    core = core_files(found.winner, found.best.policy, parts.evaluate, name)
    test = found.ticks.filter(pl.col("asset").is_in(found.ticks.filter(pl.Series(found.division.test))["asset"].unique().to_list()))
    return Bundle(core, core_digest(core)), found.winner.features, test


def stretches(ticks: pl.DataFrame, features: FeatureSet) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Of each asset its first ticks, long before anything is wrong: name, readings [time, channel] and deviations [time, scored channel]."""
    some = as_ticks(ticks, features.contract_)
    scale = features.normalise_.scale_
    found = []
    for name, values in zip(some.assets, some.values, strict=True):
        part = ticks.filter(pl.col("asset") == name)
        regime = np.asarray(features.normalise_.regime_of(part), np.int64)
        own = features.normalise_.own_.get(name)
        wide = (scale if own is None else own[1])[np.maximum(regime, 0)]
        found.append((name, values[: BEFORE + AFTER], wide[: BEFORE + AFTER]))
    return [f for f in found if len(f[1]) == BEFORE + AFTER]


def measure(name: str, words: list[str]) -> dict[str, Any]:
    """Shares of the planted faults that the contribution names first, of each kind and of all."""
    bundle, features, ticks = learnt(name, words)
    contract, healthy = features.contract_, stretches(ticks, features)
    if not healthy:
        raise DataError(f"{name}: no asset has {BEFORE + AFTER} ticks")
    trials, values = [], []
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        asset, readings, deviation = healthy[seed % len(healthy)]
        measured = [k for k, c in enumerate(features.channels_) if np.isfinite(deviation[:, k]).all() and (deviation[:, k] > 0).all()]
        k, kind = int(rng.choice(measured)), KINDS[seed % len(KINDS)]
        channel = contract.names.index(features.channels_[k])
        values.append(planted(readings, BEFORE, channel, deviation[:, k], kind, rng))
        trials.append((asset, channel, kind))
    clean = [healthy[seed % len(healthy)] for seed in range(SEEDS)]
    played = replay_ticks(bundle, Ticks([t[0] for t in trials], np.zeros(SEEDS, np.int64), values))
    before = replay_ticks(bundle, Ticks([c[0] for c in clean], np.zeros(SEEDS, np.int64), [c[1] for c in clean]))
    first, called, ranks, raised = [], [], [], 0
    for i, (_, channel, _) in enumerate(trials):
        new = played.standing[i][BEFORE:] & ~before.standing[i][BEFORE:]
        at = BEFORE + (int(np.argmax(new)) if new.any() else AFTER - 1)
        raised += int(new.any())
        said = np.nan_to_num(played.outputs["contribution"][i][at])
        ranks.append(int((said > said[channel]).sum() + 1))
        first.append(ranks[-1] == 1)
        state = played.outputs["quality"][i][BEFORE : at + 1, channel] if "quality" in played.outputs else np.zeros(1)
        called.append(bool((state > 0).any()))
    hit, told = np.array(first), np.array(called)
    kinds = np.array([t[2] for t in trials])
    return {
        "first": int(hit.sum()),
        "first_or_called_faulty": int((hit | told).sum()),
        "called_faulty": int(told.sum()),
        "raised": raised,
        "of": SEEDS,
        **{f"first_{k}": f"{int(hit[kinds == k].sum())}/{int((kinds == k).sum())}" for k in KINDS},
        "mean_rank": float(np.mean(ranks)),
        "channels": len(features.channels_),
    }


def main() -> None:
    found: dict[str, Any] = {}
    for name in sys.argv[1:] or SOURCES:
        experiment, words = SOURCES[name]
        for judged, more in (("judged", []), ("believed", ["feature.quality=null"])):
            try:
                found[f"{name}_{judged}"] = measure(experiment, [*words, *more])
            except DataError as missing:
                print(f"{name}: {missing}")
                continue
            print(f"{name} {judged}: {found[f'{name}_{judged}']}", flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
