"""Near-duplicates across a split: stretches of the test part that stand in the training part too.

A window is a few successive ticks of one asset that lie in one part alone. The warm-up of a test asset's first steps reaches back into
training readings under a split by time: that is causal, and such windows are in neither part. Two windows are near when they
agree far better than unrelated ticks ever do. Machines repeat themselves, so that one near pair says nothing: what counts is
how many follow each other at one and the same lag between two assets, against how many do between training assets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.spatial import cKDTree

from pmx.feature.habit import per_channel
from pmx.gate.result import Check, Finding
from pmx.window.split import Division

NAME = "near_duplicates"
TICKS = 8  # of a window
LEAST = 8  # near windows at one lag: a stretch of 15 ticks
LEAST_VALUES = 40  # of such a stretch, over all channels: a single signal comes back to a short course by chance
CLOSE = 0.4  # of what unrelated neighbours differ by, as root mean square over the window; independent noise differs by 1 to 3
TELLS = 0.005  # of its spread: a channel in which unrelated neighbours agree better is decided by a schedule
SAMPLED = (20_000, 1_000)  # training ticks, and those whose neighbours are looked for
MOVES = 0.5  # share of the channels that must move within a window: at a standstill all machines look alike
DIMENSIONS = 8  # random projections that neighbours are looked for in
MOST_WINDOWS, MOST_QUERIES = 150_000, 50_000
BLOCK = 5_000  # windows at a time, which bounds memory


@dataclass(frozen=True)
class _Windows:
    """Windows by the row they begin at, int [window], and their projections, float64 [window, dimension]."""

    row: np.ndarray
    flat: np.ndarray


@dataclass(frozen=True)
class _Match:
    """Near windows of two assets at one lag: asset codes, the lag in ticks, how many, and the first and last row on the later side."""

    known: int
    tested: int
    lag: int
    count: int
    first: int
    last: int


def near_duplicates(ticks: pl.DataFrame, division: Division, channels: list[str]) -> Check:
    """Stretches of test assets that are also those of training assets, exactly or with a little noise."""
    names, asset = np.unique(ticks["asset"].to_numpy(), return_inverse=True)
    tick = ticks["tick"].to_numpy()
    apart = _halves(asset, division.train, division.by)
    values = _scaled(ticks.select(pl.col(channels).cast(pl.Float32)).to_numpy(), asset, tick, division.train, apart)
    if not values.shape[1]:
        return Check(NAME, "no channel of the training part moves by itself: nothing to compare")
    begins = _begins(values, asset, tick)
    known, tested = (begins[mask[begins] & mask[begins + TICKS - 1]] for mask in (division.train, division.test))
    if not len(known) or not len(tested):
        return Check(NAME, f"no window of {TICKS} moving ticks in the {'test' if len(known) else 'training'} part: nothing to compare")
    half = apart[known]
    one, other = known[half], known[~half]
    usual = _best(_matches(values, one, other, asset, tick), asset[other])
    least = max(LEAST, LEAST_VALUES // values.shape[1] - TICKS + 1, 2 * usual + 1)
    found = []
    for m in _one_per_pair(_matches(values, known, tested, asset, tick), least):
        begin, end = tick[m.first], tick[m.last + TICKS - 1]
        where = (
            f"asset {names[m.tested]}, ticks {begin} to {end}, and training asset {names[m.known]}, ticks {begin - m.lag} to {end - m.lag}"
        )
        usually = f"training assets share {usual} at most"
        why = f"{m.count:,} windows of {TICKS} ticks are near-duplicates at one lag; {usually}"
        mend = "is it one machine under two names, or one record cut into overlapping pieces? keep all of it on one side of the split"
        found.append(Finding(NAME, where, m.count, why, mend))
    compared = f"{len(tested):,} test windows of {TICKS} ticks with {len(known):,} training windows, {values.shape[1]} channels"
    return Check(NAME, compared, tuple(sorted(found, key=lambda f: -f.size)))


def _halves(asset: np.ndarray, train: np.ndarray, by: str) -> np.ndarray:
    """bool [row]: every second training asset. Of a single one, and under a split by time, where an asset meets its own past in the test
    part, the later half of each asset's training ticks.
    """
    names = np.unique(asset[train])
    if by == "asset" and len(names) > 1:
        return np.isin(asset, names[::2])
    later, at = np.zeros(len(asset), bool), np.flatnonzero(train)
    for rows in np.split(at, np.flatnonzero(np.diff(asset[at])) + 1):
        later[rows[len(rows) // 2 :]] = True
    return later


def _scaled(values: np.ndarray, asset: np.ndarray, tick: np.ndarray, train: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """The channels that can tell a copy, [row, channel], in units of how closely unrelated ticks agree by nature; NaN stays.

    Nature's own agreement is the median difference between a training tick and its nearest neighbour on the other side of `apart`, bool
    [row]. Machines on one schedule agree in what the schedule decides, exactly: such channels tell nothing and are left out. With few
    channels, some successive ticks together make a neighbour.
    """
    some = np.flatnonzero(train)
    some = values[some[:: max(1, len(some) // MOST_WINDOWS)]].astype(np.float64)
    middle, spread = (per_channel(what, some, 0.0) for what in (np.median, np.std))
    length = min(TICKS, -(-TICKS // max(int((spread > 0).sum()), 1)))
    last = np.arange(len(asset)) + length - 1
    last[last >= len(asset)] = 0  # begins before it, and is no stretch
    whole = np.flatnonzero((asset[last] == asset) & (tick[last] - tick == length - 1) & train & train[last])
    sides = [whole[apart[whole] == side] for side in (False, True)]
    if not len(sides[0]) or not len(sides[1]) or not spread.any():
        return np.empty((len(values), 0), np.float32)
    kept, asked = (side[:: max(1, len(side) // most)] for side, most in zip(sides, SAMPLED, strict=True))
    at, unit = np.arange(length), np.where(spread > 0, spread, np.inf)
    points = [np.nan_to_num((values[rows[:, None] + at] - middle) / unit).reshape(len(rows), -1) for rows in (kept, asked)]
    nearest = cKDTree(points[0]).query(points[1])[1]
    natural = np.abs(values[asked[:, None] + at] - values[kept[nearest][:, None] + at]).reshape(-1, values.shape[1])
    agreement = per_channel(np.median, natural, 0.0)
    tells = agreement > TELLS * spread
    tells = tells if tells.any() else agreement > 0
    scaled = values[:, tells]
    scaled -= middle[tells].astype(np.float32)
    scaled /= agreement[tells].astype(np.float32)
    return scaled


def _begins(values: np.ndarray, asset: np.ndarray, tick: np.ndarray) -> np.ndarray:
    """Rows at which a window of successive ticks begins in which enough channels move."""
    if len(asset) < TICKS:
        return np.empty(0, np.int64)
    whole = (asset[TICKS - 1 :] == asset[: -TICKS + 1]) & (tick[TICKS - 1 :] - tick[: -TICKS + 1] == TICKS - 1)
    moving = np.zeros(len(whole), np.int32)
    for column in values.T:
        steps = np.cumsum(np.r_[False, np.abs(np.diff(column)) > 0])  # comparing with NaN gives False
        # a channel that moves once in the window may be a relay; half of the steps is the life of a signal
        moving += steps[TICKS - 1 :] - steps[: -TICKS + 1] >= TICKS // 2
    return np.flatnonzero(whole & (moving >= MOVES * values.shape[1]))


def _projected(values: np.ndarray, rows: np.ndarray) -> _Windows:
    rng = np.random.default_rng(0)
    plan = rng.normal(size=(TICKS, values.shape[1], DIMENSIONS)) / np.sqrt(TICKS * values.shape[1])
    flat = np.zeros((len(rows), DIMENSIONS))
    for i in range(TICKS):
        flat += np.nan_to_num(values[rows + i]) @ plan[i]
    return _Windows(rows, flat)


def _matches(values: np.ndarray, known: np.ndarray, tested: np.ndarray, asset: np.ndarray, tick: np.ndarray) -> list[_Match]:
    """Near windows, by pair of assets and lag."""
    if not len(known) or not len(tested):  # each history may be shorter than two windows
        return []
    hop = -(-len(known) // MOST_WINDOWS)
    every = -(-len(tested) // MOST_QUERIES) * hop
    # one window in `hop` is kept and `hop` successive ones are asked for, so that a copied stretch meets what was kept of it
    kept, asked = _projected(values, known[::hop]), _projected(values, tested[np.arange(len(tested)) % every < hop])
    if not len(kept.row) or not len(asked.row):
        return []
    bound = 1.5 * CLOSE * np.sqrt(DIMENSIONS)
    _, nearest = cKDTree(kept.flat).query(asked.flat, distance_upper_bound=bound)
    there = nearest < len(kept.row)
    left, right = kept.row[nearest[there]], asked.row[there]
    near = np.concatenate(
        [_near(values, left[i : i + BLOCK], right[i : i + BLOCK]) for i in range(0, len(left), BLOCK)] or [np.empty(0, bool)]
    )
    table = pl.DataFrame(
        {"known": asset[left[near]], "tested": asset[right[near]], "row": right[near], "lag": (tick[right] - tick[left])[near]}
    )
    grouped = table.group_by("known", "tested", "lag").agg(pl.len(), first=pl.col("row").min(), last=pl.col("row").max())
    return [_Match(*line) for line in grouped.sort("known", "tested", "lag").iter_rows()]


def _near(values: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """bool [pair]: whether the windows that begin at these rows differ by little; missing values must be missing in both for the most part."""
    at = np.arange(TICKS)
    difference = (values[left[:, None] + at] - values[right[:, None] + at]).reshape(len(left), -1)
    both = ~np.isnan(difference)
    square = np.where(both, difference, 0.0) ** 2
    count = both.sum(axis=1)
    return (count >= difference.shape[1] / 2) & (square.sum(axis=1) <= CLOSE**2 * np.maximum(count, 1))


def _best(matches: list[_Match], asked: np.ndarray) -> int:
    """How many near windows at one lag are usual: nine in ten of the assets that were asked for have no more."""
    most = dict.fromkeys(np.unique(asked).tolist(), 0)
    for m in matches:
        most[m.tested] = max(most[m.tested], m.count)
    return int(np.quantile(list(most.values()), 0.9, method="lower")) if most else 0


def _one_per_pair(matches: list[_Match], least: int) -> list[_Match]:
    """The lag with the most near windows of each pair of assets that has at least so many."""
    best: dict[tuple[int, int], _Match] = {}
    for m in matches:
        pair = (m.known, m.tested)
        if m.count >= least and (pair not in best or m.count > best[pair].count):
            best[pair] = m
    return list(best.values())
