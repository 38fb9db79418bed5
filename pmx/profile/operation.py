"""How the fleet was operated: the regimes that its settings show, and how much of the time it ran."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from pmx.contract import DataError
from pmx.feature.regime import RegimeScore
from pmx.profile.record import Record

MOST = 8


@dataclass(frozen=True)
class Operation:
    """Regimes and running time.

    Attributes:
        settings: channels that are settings.
        centres: one per regime, setting -> its value there, the most frequent regime first.
        shares: of the running ticks in each regime; ticks without a setting are left out.
        more: whether there may be more regimes, or settings that vary without steps.
        running: share of the ticks with readings in which the contract says that the asset runs; None = it has no such condition.

    Example:
        >>> Operation(["speed"], [{"speed": 1450.0}], [1.0], more=False, running=None).shares
        [1.0]
    """

    settings: list[str]
    centres: list[dict[str, float]]
    shares: list[float]
    more: bool
    running: float | None


def operation(record: Record, seed: int = 0) -> Operation:
    """Clusters the settings as the features do (`pmx.feature.regime.RegimeScore`), on a sample of the running ticks."""
    settings = [c.name for c in record.contract.channels if c.role == "setting"]
    running = _running(record)
    sample = record.grid.sample.drop_nulls(settings) if settings else record.grid.sample
    if not settings or not len(sample):
        return Operation(settings, [], [], False, running)
    try:
        fitted = RegimeScore(most=MOST, seed=seed).fit(sample, record.contract)
    except DataError:  # no measurement varies, which the channels tell better
        return Operation(settings, [], [], False, running)
    scaled = sample.select(pl.col(settings).cast(pl.Float64)).to_numpy() / fitted.range_
    regime = ((scaled[:, None] - fitted.centre_ / fitted.range_) ** 2).sum(2).argmin(1)
    share = np.bincount(regime, minlength=len(fitted.centre_)) / len(regime)
    order = np.argsort(-share, kind="stable")
    centres = [dict(zip(settings, fitted.centre_[k].tolist(), strict=True)) for k in order]
    return Operation(settings, centres, share[order].tolist(), len(order) == MOST, running)


def _running(record: Record) -> float | None:
    if record.contract.running is None:
        return None
    running, off = int(record.grid.running.sum()), int(record.grid.off.sum())
    return running / max(1, running + off)
