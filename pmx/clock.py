"""Local times as UTC: the hour that spring skips does not exist, the hour that autumn repeats is told apart by what came before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np

from pmx.contract import NEVER, Contract, zone_of

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = 86_400
Passes = dict[tuple[str, int], tuple[int, bool]]  # asset and change of the clocks -> newest local time, whether in its second pass


class LocalTimes:
    """Turns the local times of a fleet into UTC, in arrival order; how rows are batched changes nothing.

    An asset's times in the hour that clocks repeat in autumn belong to the first pass, in summer time, until they jump back by
    more than the contract's lateness; from then on, within that hour, to the second.

    Example:
        >>> from pmx.contract import Channel
        >>> zone = LocalTimes(Contract((Channel("load", "kW"),), "h", "calendar", time_zone="Europe/Berlin"))
        >>> wall = np.array(["2026-10-25T02:50", "2026-10-25T02:10", "2026-03-29T02:30"], "M8[us]").astype(np.int64)
        >>> utc, passes = zone.utc(np.array(["P1"] * 3, object), wall, np.ones(3, bool))
        >>> utc.astype("M8[us]").astype("M8[m]").tolist()[:2], bool(utc[2] == NEVER)
        ([datetime.datetime(2026, 10, 25, 0, 50), datetime.datetime(2026, 10, 25, 1, 10)], True)
    """

    def __init__(self, contract: Contract) -> None:
        self.zone, self.late = contract.time_zone, contract.late
        self.passes: Passes = {}

    def utc(self, asset: np.ndarray, time: np.ndarray, local: np.ndarray) -> tuple[np.ndarray, Passes]:
        """Times in UTC, and what to put into `passes` once the rows count.

        Args:
            asset: object [row].
            time: int64 [row], microseconds; `NEVER` = none.
            local: bool [row], whether it is a local time.

        Returns:
            int64 [row], `NEVER` where there is none or where clocks skip it; and the passes that the rows leave.
        """
        moved: Passes = {}
        at = np.flatnonzero(local & (time != NEVER))
        if self.zone == "UTC" or not len(at):
            return time, moved
        time, wall = time.copy(), time[at]
        first, second, change = _offsets(self.zone, wall)
        time[at] = np.where(first < second, NEVER, wall - first)
        for j in np.flatnonzero(first > second).tolist():
            key, now = (asset[at[j]], int(change[j])), int(wall[j])
            newest, again = moved.get(key) or self.passes.get(key) or (now, False)
            again = again or newest - now > self.late
            moved[key] = max(newest, now), again
            if again:
                time[at[j]] = now - second[j]
        return time, moved


def _offsets(zone: str, wall: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each local time the offsets from UTC before and after the clocks change, unequal only where they do, and that change.

    All int64 [row] microseconds. The first is the smaller one in an hour that is skipped, and the larger one in an hour that is repeated.
    """
    first, second, change = np.zeros_like(wall), np.zeros_like(wall), np.zeros_like(wall)
    years = wall.astype("M8[us]").astype("M8[Y]").astype(np.int64) + 1970
    for year in np.unique(years).tolist():
        own = years == year
        at, offset = _changes(zone, int(year))
        before = np.searchsorted(at + np.maximum(offset[:-1], offset[1:]), wall[own], "right")
        after = np.searchsorted(at + np.minimum(offset[:-1], offset[1:]), wall[own], "right")
        first[own], second[own] = offset[before], offset[after]
        change[own] = np.r_[NEVER, at][after]
    return first, second, change


@cache
def _changes(zone: str, year: int) -> tuple[np.ndarray, np.ndarray]:
    """When the clocks change in about that year, int64 [change], and the offsets around it, int64 [change + 1]; microseconds."""
    place = zone_of(zone)

    def offset(second: int) -> timedelta:
        return (EPOCH + timedelta(seconds=second)).astimezone(place).utcoffset() or timedelta()

    begin = int((datetime(year, 1, 1, tzinfo=UTC) - EPOCH).total_seconds()) - 2 * DAY
    end = min(begin + 370 * DAY, int((datetime(9999, 12, 30, tzinfo=UTC) - EPOCH).total_seconds()))
    at, offsets = [], [offset(begin)]
    for day in range(begin, end, DAY):
        low, high = day, min(day + DAY, end)
        if offset(high) == offsets[-1]:
            continue
        while high - low > 1:  # clocks change on a whole second
            middle = (low + high) // 2
            low, high = (middle, high) if offset(middle) == offsets[-1] else (low, middle)
        at.append(high * 1_000_000)
        offsets.append(offset(high))
    return np.array(at, np.int64), np.array([o // timedelta(microseconds=1) for o in offsets], np.int64)
