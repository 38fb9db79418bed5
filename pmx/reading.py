"""What the values of a tick come to: the reading of one asset at one tick, and what is kept for the next."""

from __future__ import annotations

import math

import numpy as np

from pmx.contract import ALIGNS, Contract

# In ticks. Times on the life clock are decimal fractions that float64 rounds: 0.07 / 0.01 is 7.000000000000001, which must
# not fall into tick 8. Beyond some four million ticks float64 rounds more coarsely than this: there, let the tick be 1.
TOLERANCE = 1e-9


def hold_ticks(contract: Contract) -> list[int]:
    """For how many ticks after its own a value of each channel may be repeated, [channel]."""
    return [math.floor(c.hold / contract.tick + TOLERANCE) for c in contract.channels]


class Kept:
    """What an asset's past ticks leave for the next one.

    Attributes:
        value: float64 [channel], the newest value of held channels and of counters; NaN = none yet.
        tick: int64 [channel], the tick it belongs to.

    Example:
        >>> Kept(2).value.tolist()
        [nan, nan]
    """

    def __init__(self, channels: int) -> None:
        self.value = np.full(channels, np.nan)
        self.tick = np.zeros(channels, np.int64)


class Sums:
    """Makes the reading of a tick from its values: aggregation, increase of counters, holds, the running condition, float32.

    Example:
        >>> from pmx.contract import Channel
        >>> sums = Sums(Contract((Channel("load", "kW", align="mean"), Channel("energy", "kWh", role="counter")), "h", "life"))
        >>> kept = Kept(2)
        >>> [sums.values(kept, k, [np.array([load, 10.0 * k]), np.array([3.0, np.nan])]).tolist() for k, load in ((1, 1.0), (3, 2.0))]
        [[2.0, nan], [2.5, 10.0]]
    """

    def __init__(self, contract: Contract) -> None:
        channels = contract.channels
        self.empty = np.full(len(channels), np.nan, np.float32)
        self.empty.flags.writeable = False  # one row stands for every skipped tick
        self._added = np.array([k for k, c in enumerate(channels) if c.align in ("mean", "sum")], np.int64)
        self._mean = np.array([channels[k].align == "mean" for k in self._added], bool)
        self._max = np.array([k for k, c in enumerate(channels) if c.align == "max"], np.int64)
        self._counters = np.array([k for k, c in enumerate(channels) if c.role == "counter"], np.int64)
        self._rollover = np.array([channels[k].rollover or np.nan for k in self._counters], np.float64)
        ticks = np.array(hold_ticks(contract), np.int64)
        self._held = np.flatnonzero(ticks > 0)
        self._holds = ticks[self._held]
        self._longest = int(ticks.max(initial=0))
        self._running = contract.running
        self._plain = not (len(self._added) + len(self._max) + len(self._counters) + len(self._held)) and not self._running
        self._switch = contract.names.index(contract.running.channel) if contract.running else 0

    def values(self, kept: Kept, tick: int, rows: list[np.ndarray]) -> np.ndarray:
        """The reading of a tick, float32 [channel], NaN = missing, from its rows float64 [channel] in the order of their times."""
        if self._plain:
            return (rows[0] if len(rows) == 1 else _last(np.array(rows))).astype(np.float32)
        return self.reading(kept, tick, self._aggregate(rows))

    def reading(self, kept: Kept, tick: int, value: np.ndarray) -> np.ndarray:
        """The same from what the tick's values come to, float64 [channel], as `aggregate` gives it; it may be overwritten."""
        if self._plain:
            return value.astype(np.float32)
        if len(self._counters):
            self._increase(kept, tick, value)
        if len(self._held):
            seen = self._held[~np.isnan(value[self._held])]
            kept.value[seen], kept.tick[seen] = value[seen], tick
        return self._finish(kept, tick, value)

    def absent(self, kept: Kept, begin: int, end: int) -> list[tuple[int, np.ndarray]]:
        """The ticks from `begin` to before `end`, in which nothing arrived: number and float32 [channel]."""
        seen = self._held[~np.isnan(kept.value[self._held])]
        held_until = min(end, max(begin, int(kept.tick[seen].max()) + self._longest + 1)) if len(seen) else begin
        held = [(k, self._finish(kept, k, np.full(len(self.empty), np.nan))) for k in range(begin, held_until)]
        return held + [(k, self.empty) for k in range(held_until, end)]

    def _aggregate(self, rows: list[np.ndarray]) -> np.ndarray:
        value = rows[0] if len(rows) == 1 else _last(table := np.array(rows))
        # A sum of -0.0 is 0.0, so that no order and no missing value shows in its sign.
        if len(rows) == 1:
            changed = np.r_[self._added, self._max]
            value[changed] += 0.0
            return value
        if len(self._added):
            own = table[:, self._added]
            missing = np.isnan(own)
            # one after the other: np.sum adds in another order than Polars
            total, count = np.cumsum(np.where(missing, 0.0, own), axis=0)[-1] + 0.0, (~missing).sum(0)
            total[self._mean] /= np.maximum(count, 1)[self._mean]
            value[self._added] = np.where(count > 0, total, np.nan)
        if len(self._max):
            value[self._max] = np.fmax.reduce(table[:, self._max], axis=0) + 0.0
        return value

    def _increase(self, kept: Kept, tick: int, value: np.ndarray) -> None:
        own = self._counters
        newest = value[own]
        change = newest - kept.value[own]
        with np.errstate(invalid="ignore"):
            change = np.where(change < 0, change + self._rollover, change)
            change = np.where(change < 0, np.nan, change)  # a reset: nobody knows how far it had counted
        value[own] = change / np.maximum(tick - kept.tick[own], 1)
        seen = own[~np.isnan(newest)]
        kept.value[seen], kept.tick[seen] = newest[~np.isnan(newest)], tick

    def _finish(self, kept: Kept, tick: int, value: np.ndarray) -> np.ndarray:
        if len(self._held):
            own = self._held
            repeat = np.isnan(value[own]) & (tick - kept.tick[own] <= self._holds)
            value[own[repeat]] = kept.value[own[repeat]]
        if self._running:
            x, above, below = value[self._switch], self._running.above, self._running.below
            if not ((above is None or x > above) and (below is None or x < below)) or np.isnan(x):
                return self.empty
        with np.errstate(over="ignore"):
            rounded = value.astype(np.float32)
        rounded[np.isinf(rounded)] = np.nan  # a sum that float32 cannot hold
        return rounded


def aggregate(contract: Contract, values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """What the values of many ticks come to, float64 [tick, channel], before counters are differenced and values held.

    The same numbers as one tick after the other: sums are added in the order of the rows.

    Args:
        values: float64 [row, channel], NaN = missing, by tick and then by time.
        starts: int [tick], the first row of each tick, ascending from 0.
    """
    size = np.diff(np.append(starts, len(values)))
    kinds = {kind: np.array([k for k, c in enumerate(contract.channels) if c.align == kind], np.int64) for kind in ALIGNS}
    made = np.full((len(starts), values.shape[1]), np.nan)
    added = np.append(kinds["mean"], kinds["sum"])
    total, count = np.zeros((len(starts), len(added))), np.zeros((len(starts), len(added)), np.int64)
    for j in range(int(size.max(initial=0))):  # the j-th row of every tick that has one
        on = np.flatnonzero(size > j)
        row = values[starts[on] + j]
        if len(kinds["last"]):
            own = row[:, kinds["last"]]
            made[np.ix_(on, kinds["last"])] = np.where(np.isnan(own), made[np.ix_(on, kinds["last"])], own)
        if len(kinds["max"]):
            made[np.ix_(on, kinds["max"])] = np.fmax(made[np.ix_(on, kinds["max"])], row[:, kinds["max"]])
        if len(added):
            own = row[:, added]
            there = ~np.isnan(own)
            total[on] += np.where(there, own, 0.0)
            count[on] += there
    mean = np.arange(len(added)) < len(kinds["mean"])
    total[:, mean] /= np.maximum(count, 1)[:, mean]
    made[:, added] = np.where(count > 0, total, np.nan)
    made[:, np.append(added, kinds["max"])] += 0.0  # no order and no missing value shows in the sign of zero
    return made


def _last(table: np.ndarray) -> np.ndarray:
    """The last value of each column that is not missing, float64 [channel], of a table [row, channel]."""
    there = ~np.isnan(table[::-1])
    return table[len(table) - 1 - there.argmax(0), np.arange(table.shape[1])]
