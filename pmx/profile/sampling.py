"""How often the channels are read, how regularly, and where nothing was."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pmx.profile.record import Record

GAP = 3.0  # times the asset's usual distance
IRREGULAR = 0.5  # away from the usual distance, as a share of it


@dataclass(frozen=True)
class Sampling:
    """Distances between readings, in the life unit.

    Attributes:
        distance: median over the assets of each asset's own median distance between two readings; NaN = never two.
        by_channel: channel -> the same between two values of this channel.
        by_asset: asset -> its median distance; NaN where it has one reading.
        irregular: share of distances more than half away from the asset's median.
        gaps: how many distances are more than three times the asset's median.
        longest: the longest distance; `longest_asset` has it, from `longest_begin` on.
        lost: share of the assets' watched time that lies in gaps.
        per_tick: readings that a tick sums up, tick / distance.

    Example:
        >>> Sampling(1.0, {"load": 1.0}, {"P1": 1.0}, 0.0, 0, 1.0, "P1", 0.0, 0.0, per_tick=0.5).per_tick
        0.5
    """

    distance: float
    by_channel: dict[str, float]
    by_asset: dict[str, float]
    irregular: float
    gaps: int
    longest: float
    longest_asset: str
    longest_begin: float
    lost: float
    per_tick: float


def sampling(record: Record) -> Sampling:
    """Distances between the readings of one asset, over all assets."""
    usual = _medians(record, np.ones(len(record.time), bool))
    distance, owner, begin = _distances(record.time, record.code)
    full = {c: record.readings[c].null_count() == 0 for c in record.contract.names}
    channels = {c: _middle(usual if full[c] else _medians(record, record.readings[c].is_not_null().to_numpy())) for c in full}
    of_asset = dict(zip(record.assets, usual.tolist(), strict=True))
    middle = _middle(usual)
    if not len(distance):
        return Sampling(np.nan, channels, of_asset, 0.0, 0, 0.0, "", 0.0, 0.0, np.nan)
    own = usual[owner]
    gap = distance > GAP * own
    k = int(np.argmax(distance))
    return Sampling(
        middle,
        channels,
        of_asset,
        float((np.abs(distance - own) > IRREGULAR * own).mean()),
        int(gap.sum()),
        float(distance[k]),
        record.assets[owner[k]],
        float(begin[k]),
        float((distance - own)[gap].sum() / max(distance.sum(), 1e-300)),
        float(record.contract.tick / middle) if middle > 0 else np.nan,
    )


def _distances(time: np.ndarray, code: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances, their assets and where they begin, [pair of neighbouring readings of one asset]."""
    same = np.diff(code) == 0
    return np.diff(time)[same], code[1:][same], time[:-1][same]


def _medians(record: Record, there: np.ndarray) -> np.ndarray:
    """The median distance of each asset, float64 [asset]; NaN where there are fewer than two readings."""
    distance, owner, _ = _distances(record.time[there], record.code[there])
    edge = np.searchsorted(owner, np.arange(len(record.assets) + 1))
    return np.array([np.median(distance[a:b]) if b > a else np.nan for a, b in zip(edge[:-1], edge[1:], strict=True)])


def _middle(value: np.ndarray) -> float:
    known = value[~np.isnan(value)]
    return float(np.median(known)) if len(known) else np.nan
