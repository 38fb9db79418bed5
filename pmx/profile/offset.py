"""Do the orders and the sensors keep the same clock? The lag at which the signals break, beside the dates of failures.

Method. Around each failure or replacement (three days either way) the asset's readings are put into bins. A break is a stop
(readings, then none for a while, unless the whole record ends there) or a level shift: the difference of the means of the
bins after and before a moment, in units of its own robust spread (1.4826 MAD) within that window. The five strongest breaks
of each event vote for their lag; the votes are added over all events. As a control the same is done a week earlier and
later, and its votes are taken off, so that a daily rhythm does not look like a lag. A lag stands out when the sum is higher
than the highest of 99 % of sums in which every event's votes were shifted at random (a permutation test), and when at least
half of the events have a break within the tolerance of it.

Limits. It sees no finer than its bins and the tolerance. A fault that grows over days has no break, a machine that is always
stopped some hours before the order is written has a lag that is no mistake, and of two consistent breaks the stronger one is told.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from pmx.profile.orders import ends, time_of_day
from pmx.profile.record import Record

REACH = 3.0  # days either way
LEAST_EVENTS = 5
MOST_EVENTS, MOST_CHANNELS = 100, 20
PEAKS = 5
DRAWS = 300
TOLERANCE = 45 / 60 / 24  # days: how exactly people write down times
SHIFT = 6.0  # spreads that a level must shift by to be a break


@dataclass(frozen=True)
class Offset:
    """What was found of the lag from orders to breaks in the signals.

    Attributes:
        state: `none` (no lag stands out), `agree` (one does, and it is zero within the resolution), `offset` (it is not), or
            `unknown` (cannot be told, `why` says it).
        lag: break less order, in hours; positive: the signal breaks after the order's time.
        low, high: the middle 80 % of the lags of the events that follow it, in hours.
        follow, events: how many events have a break there, of how many with readings around them.
        resolution: in hours.
        day_only: whether the orders carry a date alone.
        why: why it cannot be told.
        lags, votes: hours and the sum of votes less the control, for a plot.

    Example:
        >>> Offset("unknown", why="no calendar").lag
        nan
    """

    state: str
    lag: float = np.nan
    low: float = np.nan
    high: float = np.nan
    follow: int = 0
    events: int = 0
    resolution: float = np.nan
    day_only: bool = False
    why: str = ""
    lags: list[float] = field(default_factory=list)
    votes: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class _Grid:
    """The bins around an event: `width` in the life unit, `side` bins either way, `near` bins before and after a break."""

    width: float
    side: int
    near: int
    tolerance: int


def offset(record: Record, usual: float, channels: list[str], seed: int = 0) -> Offset:
    """Compares the times of failures and replacements with the breaks of these channels.

    Args:
        usual: median distance of readings in the life unit.
        channels: usable ones; twenty of them are looked at, evenly taken.
    """
    if record.contract.clock == "life":
        return Offset("unknown", why="times are life, not dates: orders and readings share one count")
    marks = ends(record)
    if len(marks) < LEAST_EVENTS or not usual > 0:
        return Offset("unknown", why=f"{len(marks)} failures and replacements beside readings; {LEAST_EVENTS} are needed")
    if len(marks) > MOST_EVENTS:
        marks = marks.sample(MOST_EVENTS, seed=seed)
    day_only = bool((time_of_day(record, marks["time"].to_numpy()) == 0).mean() > 0.8)
    grid = _grid(record, usual, day_only)
    channels = channels[:: -(-len(channels) // MOST_CHANNELS)] if channels else []
    rows = (
        dict(zip(record.assets, record.starts[:-1].tolist(), strict=True)),
        dict(zip(record.assets, record.starts[1:].tolist(), strict=True)),
    )
    found: list[list[list[tuple[int, float]]]] = [[], [], []]
    for asset, time, _ in marks.iter_rows():
        first, last = rows[0][asset], rows[1][asset]
        parts = [_breaks(record, first, last, time + record.days(d), channels, grid) for d in (0.0, -7.0, 7.0)]
        if parts[0] is not None:
            for own, part in zip(found, parts, strict=True):
                own.append(part or [])
    return _judged(record, found, grid, day_only, seed)


def _grid(record: Record, usual: float, day_only: bool) -> _Grid:
    width = max(2 * usual, record.days(5 / 60 / 24))
    near = max(3, round(record.days(1 / 24) / width))
    tolerance = record.days(0.5 if day_only else TOLERANCE)
    return _Grid(width, max(near, int(record.days(REACH) / width)), near, max(1, round(tolerance / width)))


def _judged(record: Record, found: list[list[list[tuple[int, float]]]], grid: _Grid, day_only: bool, seed: int) -> Offset:
    """The lag that the votes agree on, if any."""
    hours = grid.width / record.days(1 / 24)
    events = len(found[0])
    resolution = max(grid.width, grid.tolerance * grid.width) / record.days(1 / 24)
    if events < LEAST_EVENTS:
        return Offset("unknown", events=events, why=f"{events} failures and replacements lie beside readings; {LEAST_EVENTS} are needed")
    votes = np.array([_votes(own, grid) for own in found[0]])
    control = np.array([[_votes(own, grid) for own in part] for part in found[1:]]).mean(0)
    total = (votes - control).mean(0)
    rng = np.random.default_rng(seed)
    highest = np.zeros(DRAWS)
    column = np.arange(votes.shape[1])
    for k in range(DRAWS):
        shift = rng.integers(0, votes.shape[1], events)
        highest[k] = np.take_along_axis(votes, (column + shift[:, None]) % votes.shape[1], 1).mean(0).max()
    top = int(np.argmax(total))
    near = [min((lag for lag, _ in own), key=lambda lag: abs(lag - (top - grid.side)), default=None) for own in found[0]]
    follow = np.array([lag for lag in near if lag is not None and abs(lag - (top - grid.side)) <= grid.tolerance]) * hours
    lags, shown = ((column - grid.side) * hours).tolist(), np.maximum(total, 0.0).tolist()
    found_none = Offset("none", events=events, resolution=resolution, day_only=day_only, lags=lags, votes=shown)
    if total[top] <= np.quantile(highest, 0.99) or len(follow) < max(LEAST_EVENTS, events / 2):
        return found_none
    lag = float(np.median(follow))
    low, high = np.percentile(follow, [10, 90])
    agrees = -resolution <= lag <= 24 + resolution if day_only else abs(lag) <= resolution
    state = "agree" if agrees else "offset"
    return replace(found_none, state=state, lag=lag, low=float(low), high=float(high), follow=len(follow))


def _votes(peaks: list[tuple[int, float]], grid: _Grid) -> np.ndarray:
    """Triangles around the breaks of one event, float64 [lag], 0..1."""
    at = np.arange(-grid.side, grid.side + 1)
    total = np.zeros(len(at))
    for lag, weight in peaks:
        total = np.maximum(total, weight * np.clip(1 - np.abs(at - lag) / (grid.tolerance + 1), 0, None))
    return total


def _breaks(record: Record, first: int, last: int, moment: float, channels: list[str], grid: _Grid) -> list[tuple[int, float]] | None:
    """The strongest breaks around a moment: lag in bins and weight 0..1; None where the asset has no readings around it."""
    reach = (grid.side + grid.near) * grid.width
    a, b = first + np.searchsorted(record.time[first:last], [moment - reach, moment + reach])
    if b - a < 2 * grid.near:
        return None
    bins = 2 * (grid.side + grid.near)
    at = np.floor((record.time[a:b] - moment + reach) / grid.width).astype(int).clip(0, bins - 1)
    count = np.bincount(at, minlength=bins)
    strength = _stops(count > 0, grid.near)
    if record.time[last - 1] >= record.time.max() - record.days(1.0):  # the record ends there, and the asset need not have stopped
        end = int((record.time[last - 1] - moment + reach) // grid.width) + 1
        strength[max(0, end) :] = 0.0
    values = record.readings[int(a) : int(b)].select(pl.col(channels).cast(pl.Float64)).to_numpy().reshape(b - a, len(channels))
    shifts = _shifts(at, values, bins, grid.near)
    if channels:
        strongest = np.sort(shifts, 1)[:, -max(1, len(channels) // 4) :]  # a fault need not move every channel
        strength = np.maximum(strength, strongest.mean(1))
    return _peaks(strength, grid)


def _stops(there: np.ndarray, near: int) -> np.ndarray:
    """1e3 at the first bin without readings after mostly full ones and before `near` empty ones; float64 [bin]."""
    strength = np.zeros(len(there))
    for k in range(near, len(there) - near + 1):
        if there[k - 1] and not there[k : k + near].any() and there[k - near : k].mean() >= 0.5:
            strength[k] = 1e3
    return strength


def _shifts(at: np.ndarray, values: np.ndarray, bins: int, near: int) -> np.ndarray:
    """How strongly the level of each channel shifts at the beginning of each bin, in robust spreads, float64 [bin, channel].

    Args:
        at: int64 [reading], the bin of each reading, never falling.
        values: float64 [reading, channel], NaN = missing.
    """
    known = ~np.isnan(values)
    edge = np.searchsorted(at, np.arange(bins + 1))
    nothing = np.zeros((1, values.shape[1]))
    centre = np.nan_to_num(values - _centre(values, known))  # sums of large numbers would round small shifts away
    total = np.r_[nothing, np.cumsum(centre, 0)][edge]
    count = np.r_[nothing, np.cumsum(known, 0)][edge]
    k = np.arange(near, bins - near + 1)
    before, after = count[k] - count[k - near], count[k + near] - count[k]
    full = (before > 0) & (after > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        jump = np.where(full, (total[k + near] - total[k]) / after - (total[k] - total[k - near]) / before, np.nan)
    strength = np.zeros((bins + 1, values.shape[1]))
    for j in np.flatnonzero(full.any(0)):
        own = jump[full[:, j], j]
        spread = 1.4826 * np.median(np.abs(own - np.median(own)))
        floor = 1e-6 * max(float(np.abs(values[known[:, j], j]).max()), 1e-300)  # below it, rounding
        strength[k, j] = np.nan_to_num(np.abs(jump[:, j]) / max(spread, floor))
    return strength[:bins]


def _centre(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The mean of each channel, float64 [channel]; 0 where it has no value."""
    return np.where(known, values, 0.0).sum(0) / np.maximum(known.sum(0), 1)


def _peaks(strength: np.ndarray, grid: _Grid) -> list[tuple[int, float]]:
    """The strongest local maxima within reach: lag in bins from the event, and weight 0..1."""
    found = []
    for k in np.flatnonzero(strength >= SHIFT):
        lag = int(k) - grid.side - grid.near
        around = strength[max(0, k - grid.near) : k + grid.near + 1]
        if abs(lag) <= grid.side and strength[k] == around.max():
            found.append((lag, float(min(1.0, strength[k] / (3 * SHIFT)))))
    return sorted(found, key=lambda peak: -peak[1])[:PEAKS]
