"""Parity over the whole kernel set: the training path against the step graph, on real data and planted degenerate histories.

Every kernel of `conf/feature/all.yaml` on C-MAPSS FD001, SKAB and CWRU (simulated pumps where they are missing): share of features that are
bit-equal, the largest relative error, and how many LightGBM leaves change with them. The trees learn how long an asset has run: what
they learn matters little, where they split does.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pmx import config
from pmx.alarm.state import Policy
from pmx.evaluate.protocol import Protocol
from pmx.gate.parity import compare_features, fixtures
from pmx.model.lightgbm import LightGBM
from pmx.pack.fitted import Fitted
from pmx.pack.scope import Scoped
from pmx.source.admit import admit
from pmx.source.ticks import to_ticks

MOST_ASSETS, MOST_TICKS = 40, 400  # from each asset's first tick on


def measure(name: str, words: list[str]) -> dict[str, Any]:
    """Bit-equal share, largest relative error, changed leaves and how many features were compared, on some test assets."""
    parts = config.build(config.compose(name, [*words, "feature=all", "model=lightgbm"]))
    history = parts.source.load()
    contract = parts.window.suits(history.contract)
    ticks = to_ticks(admit(history.rows, contract, "quarantine").readings, contract)
    division = parts.window.apply(ticks, history.test_assets)
    fit, test = ticks.filter(pl.Series(division.train)), ticks.filter(pl.Series(division.test))
    shown = test.filter(pl.col("asset").is_in(test["asset"].unique(maintain_order=True).head(MOST_ASSETS).to_list()))
    shown = shown.group_by("asset", maintain_order=True).head(MOST_TICKS)
    features = parts.feature.fit(fit, contract)
    some = fit.group_by("asset", maintain_order=True).head(MOST_TICKS)
    model = LightGBM(trees=100)
    run = some.select((pl.col("tick") - pl.col("tick").min().over("asset")).cast(pl.Float64)).to_series().to_numpy()
    model.fit(features.table(some), run, some["asset"].to_numpy())
    fitted = Fitted("lightgbm", features, Scoped(model), cap=float(np.max(run)) + 1.0)
    protocol = Protocol(cap=fitted.cap, horizon=fitted.cap / 2, lead=0.0)
    planted = fixtures(shown, contract, features.rows)
    found = compare_features(fitted, Policy("rul", "below", 30.0, 40.0, 3, 5), protocol, shown, planted)
    return {
        "bit_equal": 1 - found.unequal / found.total,
        "compared": found.total,
        "largest_relative_error": found.relative,
        "leaf_changes": found.changed,
        "kernels": len(features.kernels),
        "worst": found.worst,
    }


def main() -> None:
    root = Path(os.environ.get("PMX_DATA_ROOT", "../shared/data"))
    data = {"cmapss": "cmapss", "skab": "skab", "cwru": "cwru"}
    real = {name: [f"source.root={root / folder}"] for name, folder in data.items() if (root / folder).is_dir()}
    result = {}
    for name, words in (real or {"demo": []}).items():
        result[name] = measure(name, words)
        r = result[name]
        share = f"{r['bit_equal']:.6%} of {r['compared']:,} features bit-equal"
        print(f"{name:8} {share}, largest relative error {r['largest_relative_error']:.2g}, {r['leaf_changes']} leaves changed", flush=True)
        if r["worst"]:
            print(f"         {r['worst']}")
    print(json.dumps({"bench": "parity"} | result))


if __name__ == "__main__":
    main()
