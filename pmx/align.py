"""Rows to ticks, one step at a time: the code that a device runs and that replay loops over.

Tick k sums up what was measured in (k - 1, k] tick lengths after the clock's zero, so it never holds anything that was not yet
known when it closed. Values are taken in the order of their times, whatever the order in which they arrived. After this step a
gap is a run of ticks without values, and no later stage needs the clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import numpy as np

from pmx.contract import Contract, DataError
from pmx.judge import Checked
from pmx.reading import TOLERANCE, Kept, Sums, aggregate


def tick_of(contract: Contract, time: Any) -> int:
    """The tick that a time falls into: exact on the calendar clock, within `TOLERANCE` ticks on the life clock."""
    if contract.clock == "calendar":
        return -(-int(time) // contract.tick_us)
    return math.ceil(float(time) / contract.tick - TOLERANCE)


@dataclass(frozen=True)
class Ticks:
    """Readings of a fleet on its regular time grid.

    Attributes:
        assets: names in alphabetical order.
        start: int64 [asset], the first tick of each asset.
        values: per asset float32 [time, channel], every tick from its first to its last, NaN = missing.
        anew: asset -> int64 [life], the ticks at which it begins another life; left out where it has one.

    Example:
        >>> ticks = Ticks(["P1"], np.array([7]), [np.zeros((3, 1), np.float32)])
        >>> ticks.of("P1").tolist()
        [7, 8, 9]
    """

    assets: list[str]
    start: np.ndarray
    values: list[np.ndarray]
    anew: dict[str, np.ndarray] = field(default_factory=dict)

    def of(self, asset: str) -> np.ndarray:
        """The tick numbers of one asset, int64 [time]."""
        at = self.assets.index(asset)
        return np.arange(len(self.values[at]), dtype=np.int64) + self.start[at]


class Aligner:
    """Turns the accepted rows of any number of assets into ticks; a tick closes when no row that may still come can fall into it.

    In this order: what the values of a tick come to, the increase of counters, holds, the running condition, float32.

    Example:
        >>> from pmx.contract import Channel
        >>> aligner = Aligner(Contract((Channel("load", unit="kW"),), "h", "life"))
        >>> aligner.push("P1", 0.5, np.array([7.0])), aligner.push("P1", 0.9, np.array([8.0]))
        ([], [])
        >>> [(tick, values.tolist()) for tick, values in aligner.push("P1", 2.5, np.array([9.0]))]
        [(1, [8.0]), (2, [nan])]
        >>> [(tick, values.tolist()) for tick, values in aligner.flush("P1")]
        [(3, [9.0])]
    """

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self._late = contract.late
        self._sums = Sums(contract)
        self._open: dict[str, _Open] = {}

    def push(self, asset: str, time: Any, values: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """Takes one accepted row.

        Args:
            asset: its name.
            time: microseconds (calendar) or the life unit (life), not before the asset's newest by more than the lateness.
            values: float64 [channel], NaN = missing.

        Returns:
            The ticks that this row closes, oldest first: number and float32 [channel], NaN = missing.
        """
        tick = tick_of(self.contract, time)
        own = self._open.get(asset)
        if own is None:
            until = tick_of(self.contract, time - self._late)
            own = self._open[asset] = _Open(time, until, tick, len(self.contract.channels))
        elif time > own.newest:
            own.newest = time
            own.until = tick_of(self.contract, time - self._late) if self._late else tick
        elif time < own.newest - self._late:
            before, after = time_text(self.contract, time), time_text(self.contract, own.newest)
            raise DataError(f"Cannot align asset {asset}: {before} is earlier than {after} -> pass rows through the contract first")
        rows = own.rows.get(tick)
        if rows is None:
            rows = own.rows[tick] = []
        rows.append((time, np.array(values, np.float64)))
        if tick < own.oldest:
            own.oldest = tick
        if own.until <= own.oldest and (own.done is None or own.until <= own.done + 1):
            return []
        return self._close(asset, own, own.until)

    def push_block(self, asset: str, time: np.ndarray, values: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """Takes accepted rows of one asset, in arrival order, and gives what pushing them one after the other gives.

        Args:
            time: int64 microseconds or float64 in the life unit [row].
            values: float64 [row, channel].
        """
        own = self._open.get(asset)
        before = time[:1] if own is None else np.array([own.newest], time.dtype)
        newest = np.maximum.accumulate(np.append(before, time))
        if len(time) < 2 or (time < newest[:-1] - self._late).any():
            return [closed for t, v in zip(time.tolist(), values, strict=True) for closed in self.push(asset, t, v)]
        ticks = _ticks_of(self.contract, time)
        if own is None:
            first = tick_of(self.contract, time[0] - self._late)
            own = self._open[asset] = _Open(time[0], first, int(ticks[0]), len(self.contract.channels))
        own.newest = newest[-1].item()
        own.until = tick_of(self.contract, own.newest - self._late)
        waiting = [(t, v) for k in sorted(k for k in own.rows if k < own.until) for t, v in own.rows.pop(k)]
        ready = ticks < own.until
        for tick, t, v in zip(ticks[~ready].tolist(), time[~ready].tolist(), values[~ready], strict=True):
            own.rows.setdefault(tick, []).append((t, np.array(v, np.float64)))
        when = np.concatenate([np.array([t for t, _ in waiting], time.dtype), time[ready]])
        if len(when):
            table = np.concatenate([np.array([v for _, v in waiting]).reshape(len(waiting), values.shape[1]), values[ready]])
            order = np.argsort(when, kind="stable")
            when, table = when[order], table[order]
            ticks = _ticks_of(self.contract, when)
            starts = np.flatnonzero(np.append(True, np.diff(ticks) > 0))
            ends = np.append(starts[1:], len(when)) - 1
            made = zip(aggregate(self.contract, table, starts), when[starts].tolist(), when[ends].tolist(), strict=True)
            own.ready = dict(zip(ticks[starts].tolist(), made, strict=True))
        own.oldest = min((*own.rows, *own.ready), default=own.until)
        return self._close(asset, own, own.until)

    def flush(self, asset: str) -> list[tuple[int, np.ndarray]]:
        """Closes the asset's open ticks, as if a much later one had begun, and forgets the asset: its next row may leave any gap."""
        own = self._open.pop(asset, None)
        return self._close(asset, own, max(own.rows) + 1) if own else []

    def _close(self, asset: str, own: _Open, until: int) -> list[tuple[int, np.ndarray]]:
        """Closes all ticks before `until`."""
        closed: list[tuple[int, np.ndarray]] = []
        for tick in sorted(k for k in (*own.rows, *own.ready) if k < until):
            rows = own.rows.pop(tick, [])
            rows.sort(key=itemgetter(0))
            value, first, last = own.ready.pop(tick) if tick in own.ready else (None, rows[0][0], rows[-1][0])
            if own.done is not None:
                self._refuse_gap(asset, own, tick, tick, first)
                closed += self._sums.absent(own.kept, own.done + 1, tick)
            if value is None:
                closed.append((tick, self._sums.values(own.kept, tick, [values for _, values in rows])))
            else:
                closed.append((tick, self._sums.reading(own.kept, tick, value)))
            own.done = own.filled = tick
            own.last = last
        own.oldest = min(own.rows, default=until)
        if own.done is not None and own.done < until - 1:
            # the asset is silent for longer than a row may be late: its ticks pass without values
            following = min(own.rows, default=until)
            self._refuse_gap(asset, own, until, following, min(t for t, _ in own.rows[following]) if own.rows else own.last)
            closed += self._sums.absent(own.kept, own.done + 1, until)
            own.done = until - 1
        return closed

    def _refuse_gap(self, asset: str, own: _Open, until: int, following: int, time: Any) -> None:
        if until - own.filled - 1 > self.contract.longest_gap:
            raise DataError(gap_message(self.contract, asset, own.last, time, following - own.filled - 1))


@dataclass
class _Open:
    """What is not closed yet of an asset."""

    newest: Any
    until: int  # ticks before it can get no more rows
    oldest: int  # the first open tick with rows
    channels: int
    rows: dict[int, list[tuple[Any, np.ndarray]]] = field(default_factory=dict)  # open tick -> its rows
    ready: dict[int, tuple[np.ndarray, Any, Any]] = field(default_factory=dict)  # tick -> what its rows come to, their first and last time
    done: int | None = None  # the last tick that was closed
    filled: int = 0  # the last closed tick with rows
    last: Any = None  # the time of the newest of them
    kept: Kept = field(init=False)

    def __post_init__(self) -> None:
        self.kept = Kept(self.channels)


class Ticker:
    """Gathers the ticks of accepted rows that come in blocks.

    Example:
        >>> from pmx.contract import Channel
        >>> ticker = Ticker(Contract((Channel("load", unit="kW"),), "h", "life"))
        >>> for hour in (1.0, 2.0):
        ...     row = np.array(["P1"], object), np.array([hour]), np.array([[7.0]]), np.array([0])
        ...     ticker.add(Checked(*row, ()))
        >>> ticker.ticks().values[0].tolist()
        [[7.0], [7.0]]
    """

    def __init__(self, contract: Contract) -> None:
        self.aligner = Aligner(contract)
        self._start: dict[str, int] = {}
        self._parts: dict[str, list[np.ndarray]] = {}

    def add(self, checked: Checked) -> None:
        """Takes the next block of rows."""
        for asset, rows in _by_asset(checked.asset):
            parts = self._parts.setdefault(asset, [])
            closed = self.aligner.push_block(asset, checked.time[rows], checked.values[rows])
            if closed:
                self._start.setdefault(asset, closed[0][0])
                parts.append(np.array([v for _, v in closed], np.float32))

    def ticks(self) -> Ticks:
        """All ticks; those that are still open are closed."""
        assets = sorted(self._parts)
        for asset in assets:
            rest = self.aligner.flush(asset)
            if rest:
                self._start.setdefault(asset, rest[0][0])
                self._parts[asset].append(np.array([v for _, v in rest], np.float32))
        return Ticks(assets, np.array([self._start[a] for a in assets], np.int64), [np.concatenate(self._parts[a]) for a in assets])


def _by_asset(asset: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Each asset with the positions of its rows, in their order."""
    edges = np.flatnonzero(np.append(asset[:1] == asset[:1], asset[1:] != asset[:-1])).tolist()
    runs: dict[str, list[np.ndarray]] = {}
    for begin, end in zip(edges, [*edges[1:], len(asset)], strict=False):  # without rows there is no edge
        runs.setdefault(asset[begin], []).append(np.arange(begin, end))
    return [(name, np.concatenate(parts)) for name, parts in runs.items()]


def _ticks_of(contract: Contract, time: np.ndarray) -> np.ndarray:
    """`tick_of` of many times, int64 [row]."""
    if contract.clock == "calendar":
        return -(-time // contract.tick_us)
    return np.ceil(time / contract.tick - TOLERANCE).astype(np.int64)


def next_life(contract: Contract, known: np.ndarray) -> np.ndarray:
    """The ticks at which an asset begins anew, int64 [repair]: the first that lie wholly behind the moments at which repairs were known.

    Args:
        known: moments in the contract's clock, [repair].

    Example:
        >>> next_life(Contract((), "h", "life"), np.array([10.0, 10.5])).tolist()
        [11, 12]
    """
    return np.unique(_ticks_of(contract, known) + 1)


def align(contract: Contract, checked: Checked) -> Ticks:
    """All ticks of a batch of accepted rows, made by the same step as on a device."""
    ticker = Ticker(contract)
    ticker.add(checked)
    return ticker.ticks()


def time_text(contract: Contract, time: Any) -> str:
    """A time as a person reads it: UTC, or a count of life units."""
    if contract.clock == "calendar":
        return str(np.datetime64(int(time), "us")).removesuffix(".000000") + "Z"
    return f"{float(time):g} {contract.life_unit}"


def tick_text(contract: Contract, tick: int) -> str:
    """The time of a tick as a person reads it."""
    return time_text(contract, int(tick) * (contract.tick_us if contract.clock == "calendar" else contract.tick))


def gap_message(contract: Contract, asset: str, before: Any, after: Any, skipped: int) -> str:
    """Says where a gap is too long and how to mend it."""
    return (
        f"Cannot align asset {asset}: nothing arrived between {time_text(contract, before)} and {time_text(contract, after)}, "
        f"{skipped:,} ticks of {contract.tick:g} {contract.life_unit} are missing and longest_gap is {contract.longest_gap:,}\n"
        f"  -> correct the time, give the two parts different asset names, or raise longest_gap in the contract"
    )
