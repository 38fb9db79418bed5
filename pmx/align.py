"""Wide rows to ticks, one step at a time: the code that a device runs and that replay loops over.

Tick k sums up what arrived in (k - 1, k] tick lengths after the clock's zero, so it never holds anything that was not yet
known when it ended. Per channel the last value that is not missing wins. After this step a gap is a run of ticks without
values, and no later stage needs the clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from pmx.contract import Contract, DataError
from pmx.judge import Checked

# In ticks. Times on the life clock are decimal fractions that float64 rounds: 0.07 / 0.01 is 7.000000000000001, which must
# not fall into tick 8. Beyond some four million ticks float64 rounds more coarsely than this: there, let the tick be 1.
TOLERANCE = 1e-9


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

    Example:
        >>> ticks = Ticks(["P1"], np.array([7]), [np.zeros((3, 1), np.float32)])
        >>> ticks.of("P1").tolist()
        [7, 8, 9]
    """

    assets: list[str]
    start: np.ndarray
    values: list[np.ndarray]

    def of(self, asset: str) -> np.ndarray:
        """The tick numbers of one asset, int64 [time]."""
        at = self.assets.index(asset)
        return np.arange(len(self.values[at]), dtype=np.int64) + self.start[at]


class Aligner:
    """Turns the accepted rows of any number of assets into ticks; a tick closes when a later one begins.

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
        # asset -> open tick, time of its newest row, float64 [channel]
        self._open: dict[str, tuple[int, Any, np.ndarray]] = {}
        self._empty = np.full(len(contract.channels), np.nan, np.float32)
        self._empty.flags.writeable = False  # one row stands for every skipped tick

    def push(self, asset: str, time: Any, values: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """Takes one accepted row.

        Args:
            asset: its name.
            time: microseconds (calendar) or the life unit (life), not before the asset's newest.
            values: float64 [channel], NaN = missing.

        Returns:
            The ticks that this row closes, oldest first: number and float32 [channel], NaN = missing.
        """
        tick = tick_of(self.contract, time)
        if asset not in self._open:
            self._open[asset] = tick, time, np.array(values, np.float64)
            return []
        current, newest, kept = self._open[asset]
        if time < newest:
            before, after = time_text(self.contract, time), time_text(self.contract, newest)
            raise DataError(f"Cannot align asset {asset}: {before} is earlier than {after} -> pass rows through the contract first")
        if tick == current:
            self._open[asset] = tick, time, np.where(np.isnan(values), kept, values)
            return []
        skipped = tick - current - 1
        if skipped > self.contract.longest_gap:
            raise DataError(gap_message(self.contract, asset, newest, time, skipped))
        self._open[asset] = tick, time, np.array(values, np.float64)
        return [(current, kept.astype(np.float32)), *((k, self._empty) for k in range(current + 1, tick))]

    def flush(self, asset: str) -> list[tuple[int, np.ndarray]]:
        """Closes the asset's open tick, as if a later one had begun; its next row may leave any gap."""
        if asset not in self._open:
            return []
        tick, _, kept = self._open.pop(asset)
        return [(tick, kept.astype(np.float32))]


def align(contract: Contract, checked: Checked) -> Ticks:
    """All ticks of a batch of accepted rows, made by the same step as on a device."""
    aligner = Aligner(contract)
    closed: dict[str, list[tuple[int, np.ndarray]]] = {}
    for asset, time, values in zip(checked.asset.tolist(), checked.time.tolist(), checked.values, strict=True):
        closed.setdefault(asset, []).extend(aligner.push(asset, time, values))
    assets = sorted(closed)
    for asset in assets:
        closed[asset] += aligner.flush(asset)
    start = np.array([closed[asset][0][0] for asset in assets], np.int64)
    return Ticks(assets, start, [np.array([values for _, values in closed[asset]], np.float32) for asset in assets])


def time_text(contract: Contract, time: Any) -> str:
    """A time as a person reads it: UTC, or a count of life units."""
    if contract.clock == "calendar":
        return str(np.datetime64(int(time), "us")).removesuffix(".000000") + "Z"
    return f"{float(time):g} {contract.life_unit}"


def gap_message(contract: Contract, asset: str, before: Any, after: Any, skipped: int) -> str:
    """Says where a gap is too long and how to mend it."""
    return (
        f"Cannot align asset {asset}: nothing arrived between {time_text(contract, before)} and {time_text(contract, after)}, "
        f"{skipped:,} ticks of {contract.tick:g} {contract.life_unit} are missing and longest_gap is {contract.longest_gap:,}\n"
        f"  -> correct the time, give the two parts different asset names, or raise longest_gap in the contract"
    )
