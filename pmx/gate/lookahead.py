"""The look-ahead gate: change readings after a moment, compute again what training used; everything up to that moment must stay as it was."""

from __future__ import annotations

import numpy as np
import polars as pl

from pmx.contract import Contract
from pmx.feature.features import FeatureSet
from pmx.gate.result import Gate
from pmx.select.training import Training
from pmx.source.ticks import to_ticks
from pmx.window.label import Labels

RULE = "a value at tick t may depend on readings up to t only"
LEAST_ROWS = 12  # of an asset that is looked at
MOST_ROWS = 10_000  # from the asset's first on: what looks ahead shows early, and a year at one reading a minute takes long
LABEL_RULE = "a label belongs to the time of the newest reading of its window"


def look_ahead(
    readings: pl.DataFrame,
    contract: Contract,
    features: FeatureSet,
    training: Training,
    seed: int = 0,
) -> Gate:
    """Checks the path that training used, on some assets and moments: alignment, missing ticks, features; then the labels.

    Args:
        readings: admitted readings.
        features: fitted.
    """
    rng = np.random.default_rng(seed)
    readings = readings.filter(pl.col("asset").is_in(training.truth.assets))
    sizes = readings.group_by("asset").len().filter(pl.col("len") >= LEAST_ROWS).sort("asset")
    chosen = rng.permutation(sizes["asset"].to_numpy())[:4]
    compared = 0
    for asset in chosen:
        own = readings.filter(pl.col("asset") == asset).head(MOST_ROWS)
        before = _table(own, contract, features)
        for cut in _cuts(own, contract, rng):
            # the tick of the first changed reading may hold unchanged ones too: it was still open, those before it are closed
            opened = int(to_ticks(own[cut:], contract)["tick"].to_numpy().min())
            for how, changed in _changes(own, cut, contract, rng).items():
                after = _table(changed, contract, features)
                closed = min(opened - 1, after[0].max())
                kept = before[0] <= closed
                old, new = before[1][kept], after[1][after[0] <= closed]
                differs = ~((old == new) | (np.isnan(old) & np.isnan(new)))
                compared += old.size
                if differs.any():
                    return _culprit(asset, before[0][kept], differs, features, how)
    if not compared:
        return Gate("look-ahead", False, "nothing could be compared", culprit=f"no training asset has {LEAST_ROWS} readings", rule=RULE)
    wrong = _late_label(training.ticks, training.labels, training.truth.failures, contract)
    if wrong:
        return Gate("look-ahead", False, wrong[1], culprit=f"label of asset {wrong[0]}", rule=LABEL_RULE)
    detail = f"{compared:,} values of {len(chosen)} assets stayed identical when later readings were cut off, shuffled or spiked"
    return Gate("look-ahead", True, detail, figures={"compared": float(compared)})


def _cuts(own: pl.DataFrame, contract: Contract, rng: np.random.Generator) -> list[int]:
    """Positions of the first changed reading: early, where windows are not full yet; behind a missing value; and two anywhere."""
    cuts = [int(rng.integers(4, LEAST_ROWS)), *(int(share * len(own)) for share in rng.uniform(0.2, 0.9, 2))]
    missing = own.select(pl.any_horizontal(pl.col(c).is_null() | pl.col(c).is_nan() for c in contract.names)).to_series().to_numpy()
    behind = np.flatnonzero(missing[:-1]) + 1
    return cuts + ([int(rng.choice(behind))] if len(behind) else [])


def _table(readings: pl.DataFrame, contract: Contract, features: FeatureSet) -> tuple[np.ndarray, np.ndarray]:
    ticks = to_ticks(readings, contract)
    return ticks["tick"].to_numpy(), features.table(ticks)


def _changes(own: pl.DataFrame, cut: int, contract: Contract, rng: np.random.Generator) -> dict[str, pl.DataFrame]:
    """The asset's readings with everything after row `cut` cut off, shuffled, or spiked."""
    head, tail = own[:cut], own[cut:]
    values = tail.select(contract.names)
    shuffled = tail.select(pl.exclude(contract.names)).hstack(values[rng.permutation(len(values))])
    spike = [pl.when(pl.int_range(pl.len()) == 0).then(pl.lit(1e9)).otherwise(pl.col(c)).alias(c) for c in contract.names]
    return {
        "cut off": head,
        "shuffled": pl.concat([head, shuffled.select(own.columns)]),
        "spiked": pl.concat([head, tail.with_columns(spike)]),
    }


def _culprit(asset: str, tick: np.ndarray, differs: np.ndarray, features: FeatureSet, how: str) -> Gate:
    column = int(np.flatnonzero(differs.any(0))[0])
    row, kernel = int(np.flatnonzero(differs[:, column])[-1]), features.kernel_of(column)
    detail = f"feature {features.names_[column]} of asset {asset} at tick {tick[row]} changed when later readings were {how}; {differs.sum():,} values changed"
    return Gate(
        "look-ahead", False, detail, culprit=f"kernel {kernel.label} ({type(kernel).__module__}.{type(kernel).__name__})", rule=RULE
    )


def _late_label(ticks: pl.DataFrame, labels: Labels, failures: dict[str, np.ndarray], contract: Contract) -> tuple[str, str] | None:
    asset, tick = ticks["asset"].to_numpy(), ticks["tick"].to_numpy()
    told = labels.rul / contract.tick + tick
    for name, failed in failures.items():
        own = (asset == name) & ~np.isnan(labels.rul)
        if not own.any():
            continue
        real = failed[np.minimum(np.searchsorted(failed, tick[own], side="left"), len(failed) - 1)]  # the next failure of each tick
        off = told[own] - real
        if np.abs(off).max() > 1e-6:
            at = int(np.argmax(np.abs(off)))
            return name, f"at tick {tick[own][at]} the label tells of a failure {off[at]:+.3g} ticks from the real one"
    return None
