"""The normalisation of a history larger than memory, fitted on a stated sample of its training part."""

from __future__ import annotations

import numpy as np
import polars as pl

from pmx.contract import DataError
from pmx.feature.features import FeatureSet
from pmx.feature.large import Partition, tick_blocks
from pmx.source import History
from pmx.window.split import Split

SAMPLE = 1_000_000  # ticks that a normalisation is fitted on
SPREAD = 8  # partitions at least that share them, and places in an asset that is larger than its share


def fit_on_sample(
    features: FeatureSet, history: History, parts: list[Partition], window: Split, on_error: str = "refuse", most: int = SAMPLE
) -> FeatureSet:
    """Fits on whole training assets, drawn at random, up to `most` ticks of them; on all of them where they have no more.

    An asset that is larger than its share gives pieces, evenly spread over its rows; under a split by time, its first rows, of which the
    split takes the training part. In pieces the first values of counters and of holds are missing. Calibration runs are left out.
    """
    names = sorted({a for p in parts for a in p.assets})
    trains = set(names) - history.calibration
    if window.by == "asset":
        division = window.apply(pl.DataFrame({"asset": names, "tick": [0] * len(names)}), history.test_assets)
        trains &= {a for a, t in zip(names, division.train, strict=True) if t}
    ticks = _drawn(parts, history, trains, window, on_error, most)
    if window.by != "asset":
        ticks = ticks.filter(pl.Series(window.divide(ticks, history.test_assets).train))
    if not ticks.height:
        raise DataError(f"{history.name}: the training part has no tick to fit on -> other window settings, or more data")
    return features.fit(ticks, history.contract)


def _drawn(parts: list[Partition], history: History, trains: set[str], window: Split, on_error: str, most: int) -> pl.DataFrame:
    drawn, left = [], most
    order = np.random.default_rng(window.seed).permutation(len(parts))
    for part in (parts[i] for i in order):
        if left <= 0:
            break
        if trains.isdisjoint(part.assets):
            continue
        rows, raw = part.rows, sum(part.assets.values())
        share = max(1, min(left, most // min(SPREAD, len(parts))))
        if raw <= share:
            pieces = [rows]
        elif window.by == "asset" and len(part.assets) == 1:
            size = max(1, share // SPREAD)
            pieces = [rows.slice(i * raw // SPREAD, size) for i in range(SPREAD)]
        else:
            pieces = [rows]
        taken = 0
        for piece in pieces:
            for ticks in tick_blocks(piece, history.contract, on_error):
                ticks = ticks.filter(pl.col("asset").is_in(trains))
                drawn.append(ticks[: max(0, share - taken)])
                taken += drawn[-1].height
                if taken >= share:
                    break
        left -= taken
    return pl.concat(drawn).sort("asset", "tick") if drawn else pl.DataFrame(schema={"asset": pl.String, "tick": pl.Int64})
