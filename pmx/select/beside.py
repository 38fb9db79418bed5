"""Rows beside the winner's that need a fit or a replay of their own: what its history, its memory and its age are worth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

from pmx.bundle import Bundle
from pmx.contract import Contract, Rows
from pmx.edge.replay import Replayed
from pmx.evaluate.bound import Bounds
from pmx.evaluate.protocol import Protocol, Truth
from pmx.evaluate.report import Row, row
from pmx.feature.features import FeatureSet
from pmx.model import Model
from pmx.model.stack import Stack
from pmx.pack.fitted import Fitted
from pmx.pack.scope import Scoped
from pmx.select.baseline import Baseline, mean_life
from pmx.select.training import Training

LOST = (10, 30)  # readings taken from the start of each test history
WINDOW = 30  # ticks that a model without memory sees
WINDOWED = f"window {WINDOW}"
Play = Callable[[str, Bundle, Rows], Replayed]  # the name of the row, what is replayed, and the raw rows


def bounds_of(played: Replayed, winner: Fitted, tested: pl.DataFrame, training: Training, protocol: Protocol) -> Bounds | None:
    """The intervals of a replay of ticks, with the regime of each and what an abstention counts as; None where no life is stated."""
    if "interval" not in played.outputs:
        return None
    regime = np.split(winner.regime(tested), np.cumsum([len(t) for t in played.tick])[:-1])
    several = len(winner.features.normalise_.centre_) > 1
    return Bounds(played.outputs["interval"], mean_life(training, protocol), regime if several else None)


def shortened(play: Play, bundle: Bundle, rows: Rows, truth: Truth, protocol: Protocol, contract: Contract, fill: float) -> list[Row]:
    """Rows of the winner on histories that begin later than they did, `first 10 lost` and `first 30 lost`: it then takes assets for
    younger than they are. Only on a clock that counts life; an asset that has no reading left is left out.

    Args:
        fill: what an abstention is scored as, in the life unit.
    """
    if contract.clock != "life":
        return []
    found = []
    for lost in LOST:
        left = rows.take(_rank(rows.asset) >= lost)
        if not len(left):
            continue
        name = f"first {lost} lost"
        played = play(name, bundle, left)
        own = truth.some(np.array([truth.assets.index(a) for a in played.assets]))
        bounds = Bounds(played.outputs["interval"], fill)
        found.append(row(name, played.outputs["rul"], None, played.tick, own, protocol, contract, bounds=bounds))
    return found


def _rank(asset: np.ndarray) -> np.ndarray:
    """How many rows of the same asset came before, int64 [row]."""
    return (
        pl.DataFrame({"asset": pl.Series(asset.tolist(), dtype=pl.String)})
        .select(pl.int_range(pl.len()).over("asset"))
        .to_series()
        .to_numpy()
    )


def windowed(
    models: dict[str, Model], features: FeatureSet, training: Training, tested: pl.DataFrame, tick: list[np.ndarray], protocol: Protocol
) -> list[Baseline]:
    """`window 30`: the first candidate that reads the newest features alone, on those that look back 30 ticks at most and remember nothing;
    computed offline. No row where there is no such candidate or feature.
    """
    model = next((m for m in models.values() if m.history == 1 and not isinstance(m, Stack)), None)
    kernels = [k for k in features.kernels if k.rows <= WINDOW and not k.reads_age and not k.slots(1)]
    if model is None or not kernels:
        return []
    short = FeatureSet(features.normalise, kernels, features.quality)
    usable, target = training.usable(model.task, protocol, model.censored)
    fitted_features = short.fit(training.ticks.filter(pl.Series(training.fits)), training.contract)
    usable = usable & fitted_features.fits(training.ticks, model.task)
    x = fitted_features.table(training.ticks)
    scoped = Scoped.fit(model, x[usable], target[usable], training.asset[usable], False)
    rul = Fitted("window", fitted_features, scoped, protocol.cap).verdict(tested)
    return [Baseline(WINDOWED, np.split(rul, np.cumsum([len(t) for t in tick])[:-1]))]
