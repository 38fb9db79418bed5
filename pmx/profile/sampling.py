"""How often the channels are read, how regularly, and where nothing was."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pmx.profile.record import Record
from pmx.reading import TOLERANCE, hold_ticks

GAP = 1.5  # times the asset's usual distance: where readings come more seldom than ticks, empty ticks are no gaps
IRREGULAR = 0.5  # away from the usual distance, as a share of it


@dataclass(frozen=True)
class Sampling:
    """Distances between readings, in the life unit.

    Attributes:
        distance: median over the assets of each asset's own median distance between two readings; NaN = never two.
        by_channel: channel -> the same between two values of this channel.
        by_asset: asset -> its median distance; NaN where it has one reading.
        irregular: share of distances more than half away from the asset's median.
        gaps: how many runs of ticks have no value of any channel, holds included, between two readings further apart than usual.
        longest: the longest distance, of those with a gap where there are gaps; `longest_asset` has it, from `longest_begin` on.
        lost: share of the assets' watched time that lies in such ticks.
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
    empty = _empty(record) * record.contract.tick
    empty = np.where(own > record.contract.tick, np.minimum(empty, distance - own), empty)
    gap = (empty > 0) & (distance > GAP * own)
    k = int(np.argmax(np.where(gap, distance, -1.0) if gap.any() else distance))
    return Sampling(
        middle,
        channels,
        of_asset,
        float((np.abs(distance - own) > IRREGULAR * own).mean()),
        int(gap.sum()),
        float(distance[k]),
        record.assets[owner[k]],
        float(begin[k]),
        float(empty[gap].sum() / max(distance.sum(), 1e-300)),
        float(record.contract.tick / middle) if middle > 0 else np.nan,
    )


def _empty(record: Record) -> np.ndarray:
    """Ticks between neighbouring readings of one asset in which no channel has a value, not even a held one, float64 [pair]."""
    tick = np.ceil(record.time / record.contract.tick + _shift(record) - TOLERANCE)
    until = np.full(len(tick), -np.inf)  # the last tick that a reading gives a value
    for name, hold in zip(record.contract.names, hold_ticks(record.contract), strict=True):
        there = record.readings[name].is_not_null().to_numpy()
        until[there] = np.maximum(until[there], tick[there] + hold)
    edge = record.starts
    for begin, end in zip(edge[:-1].tolist(), edge[1:].tolist(), strict=True):
        np.maximum.accumulate(until[begin:end], out=until[begin:end])
    return np.maximum(tick[1:] - until[:-1] - 1, 0.0)[np.diff(record.code) == 0]


def _shift(record: Record) -> float:
    """Where in its tick the first reading lies, as a share of the tick: ticks are counted from 1970."""
    if record.contract.clock == "life":
        return 0.0
    return record.zero % record.contract.tick_us / record.contract.tick_us


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
