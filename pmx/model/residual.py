"""Residuals of the newest readings as one anomaly score: what the models that rebuild a lag vector have in common.

A lag vector holds normalised readings, newest tick first: all channels at lag 0, then all channels at lag 1, and so on.
"""

from __future__ import annotations

import numpy as np
import spox.opset.ai.onnx.v20 as op
from spox import Var

from pmx.contract import DataError, UsageError

LEAST_SPREAD = 0.02  # in standard deviations of the reading: a channel that is rebuilt better still must not rule the score
CLIP = 5.0  # in spreads of the residual: beyond it a channel counts as broken, however far it is off
LEAST_ROWS = 10  # below it, there is too little to drop a share of


def channels_of(features: int, lags: int) -> int:
    """How many channels a lag vector of this many features holds."""
    if features % lags:
        raise UsageError(
            f"the model reads vectors of lags={lags} ticks, but the feature set gives {features} features, which is no multiple of it "
            "-> take feature=lags, with the same number of lags in feature and model"
        )
    return features // lags


def newest(x: np.ndarray, lags: int) -> np.ndarray:
    """The readings at lag 0, float64 [row, channel], of lag vectors float32 [row, lags * channel]."""
    return x[:, : channels_of(x.shape[1], lags)].astype(np.float64)


def newest_nodes(features: Var, channels: int) -> Var:
    """The same as nodes, float64 [asset, channel]."""
    return op.cast(op.gather(features, op.const(np.arange(channels)), axis=1), to=np.float64)


def spread_of(residual: np.ndarray) -> np.ndarray:
    """Robust spread of each channel's residuals, float64 [channel], from float64 [row, channel]; infinite where none is known.

    1.4826 times the median of the absolute residual, which is the standard deviation of normal noise around 0
    (Rousseeuw and Croux, 1993, section 1), and at least `LEAST_SPREAD`.
    """
    known = ~np.isnan(residual).all(0)
    median = np.zeros(residual.shape[1])
    median[known] = np.nanmedian(np.abs(residual[:, known]), 0)
    return np.where(known, np.maximum(1.4826 * median, LEAST_SPREAD), np.inf)


def mean_square(residual: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Mean over the known channels of the squared standardised residual, float64 [row], from float64 [row, channel]; NaN where none is.

    Each residual counts up to `CLIP` spreads, so that a spike in one channel cannot outweigh all others together. A channel
    that is missing now (NaN), or that has no spread (infinite), counts nothing. Channels are added one after the other: the
    graph does the same, so both paths give the same bits.
    """
    here = ~np.isnan(residual) & np.isfinite(spread)
    size = np.minimum(np.abs(np.where(here, residual, 0.0)) / spread, CLIP)
    square = size * size
    total = np.zeros(len(residual))
    for j in range(residual.shape[1]):
        total = total + square[:, j]
    count = here.sum(1)
    return np.divide(total, count, out=np.full(len(residual), np.nan), where=count > 0)


def mean_square_nodes(residual: Var, spread: np.ndarray) -> Var:
    """The same as nodes, float64 [asset], from float64 [asset, channel]."""
    nothing = op.or_(op.isnan(residual), op.const(~np.isfinite(spread)))
    size = op.min([op.div(op.abs(residual), op.const(spread)), op.const(CLIP, np.float64)])
    square = op.where(nothing, op.const(0.0, np.float64), op.mul(size, size))
    total = op.sum(op.split(square, num_outputs=len(spread), axis=1)) if len(spread) > 1 else square
    count = op.reduce_sum(op.cast(op.not_(nothing), to=np.float64), op.const([1]))
    return op.squeeze(op.div(total, count), op.const([1]))  # 0 / 0 is NaN: nothing is known of this tick


def kept(score: np.ndarray, trim: float) -> np.ndarray:
    """bool [row], all rows but the worst share `trim` by score; rows without a score are not kept."""
    known = ~np.isnan(score)
    drop = int(trim * known.sum()) if known.sum() >= LEAST_ROWS else 0
    keep = known.copy()
    if drop:
        keep[np.argsort(np.where(known, score, -np.inf), kind="stable")[-drop:]] = False
    return keep


def parts_of(asset: np.ndarray, parts: int, seed: int) -> np.ndarray:
    """Assigns rows to at most `parts` folds, int [row]: whole assets at random, or consecutive blocks of rows where there is one asset."""
    names, which = np.unique(asset, return_inverse=True)
    if len(names) == 1:
        return np.arange(len(asset)) * parts // max(1, len(asset))
    return (np.random.default_rng(seed).permutation(len(names)) % parts)[which]


def with_value(x: np.ndarray, lags: int) -> np.ndarray:
    """bool [row], where some channel has a value at lag 0: no other row can be fitted on."""
    there = ~np.isnan(newest(x, lags)).all(1)
    if there.sum() < 2:
        raise DataError(f"{there.sum()} of {len(x)} healthy ticks have a value: a model needs at least 2 to learn from -> take more data")
    return there
