"""What the orders say: events by kind and mode, and where they lie beside the readings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from pmx.profile.record import Record
from pmx.window.label import ENDS


@dataclass(frozen=True)
class Orders:
    """Events and how they meet the readings.

    Attributes:
        kinds: event -> how many.
        modes: mode of failure -> how many; empty where the source names none.
        inside, before, after: failures between an asset's first and last reading, earlier, and later.
        early, late: events of any kind before the first and after the last reading of their asset.
        taught: failures that end a watched life: after the first reading of their asset, and no further after its last
            than the longest time any asset was watched.
        failed: assets with such a failure.
        strangers: assets of events without a single reading.
        silent: assets with readings and no event of any kind.
        dated_late: share of events whose `known_at` is later than their time.
        midnight: share of the events on the calendar clock that carry no time of day (UTC midnight).
        first, last: times of the first and the last event in the life unit; NaN without events.

    Example:
        >>> Orders({}, {}, 0, 0, 0, 0, 0, 0, [], [], ["P1"], 0.0, 0.0, float("nan"), float("nan")).silent
        ['P1']
    """

    kinds: dict[str, int]
    modes: dict[str, int]
    inside: int
    before: int
    after: int
    early: int
    late: int
    taught: int
    failed: list[str]
    strangers: list[str]
    silent: list[str]
    dated_late: float
    midnight: float
    first: float
    last: float


def orders(record: Record, usual: float) -> Orders:
    """Counts a history's events.

    Args:
        usual: the median distance of readings in the life unit. A failure this little (three times it, or two ticks) after
            the last reading counts as inside: what failed sends nothing more.
    """
    events = record.events
    watched = {a: (float(record.time[b]), float(record.time[e - 1])) for a, b, e in _edges(record)}
    slack = max(2 * record.contract.tick, 3 * usual if np.isfinite(usual) else 0.0)
    longest = max((last - first for first, last in watched.values()), default=0.0)
    known = events.filter(pl.col("asset").is_in(list(watched)))
    begin = np.array([watched[a][0] for a in known["asset"]], np.float64)
    end = np.array([watched[a][1] for a in known["asset"]], np.float64)
    time, failed = known["time"].to_numpy(), (known["event"] == "failure").to_numpy()
    early, late = time < begin - slack, time > end + slack
    taught = failed & ~early & (time <= end + max(slack, longest))
    modes = events.filter((pl.col("event") == "failure") & pl.col("mode").is_not_null())
    of_day = time_of_day(record, events["time"].to_numpy())
    return Orders(
        kinds=dict(events.group_by("event").len().sort("len", "event", descending=[True, False]).iter_rows()),
        modes=dict(modes.group_by("mode").len().sort("len", "mode", descending=[True, False]).iter_rows()),
        inside=int((failed & ~early & ~late).sum()),
        before=int((failed & early).sum()),
        after=int((failed & late).sum()),
        early=int(early.sum()),
        late=int(late.sum()),
        taught=int(taught.sum()),
        failed=sorted(set(known["asset"].filter(pl.Series(taught)).to_list())),
        strangers=sorted(set(events["asset"]) - set(watched)),
        silent=sorted(set(watched) - set(events["asset"])),
        dated_late=float((events["known_at"] > events["time"]).to_numpy().mean()) if len(events) else 0.0,
        midnight=float((of_day == 0).mean()) if len(of_day) else 0.0,
        first=float(events["time"].to_numpy().min(initial=np.inf)) if len(events) else np.nan,
        last=float(events["time"].to_numpy().max(initial=-np.inf)) if len(events) else np.nan,
    )


def ends(record: Record) -> pl.DataFrame:
    """The failures and replacements of assets that have readings: `asset`, `time`, `event`."""
    return record.events.filter(pl.col("event").is_in(ENDS) & pl.col("asset").is_in(record.assets)).select("asset", "time", "event")


def time_of_day(record: Record, time: np.ndarray) -> np.ndarray:
    """Seconds since UTC midnight, [event]; empty on the life clock."""
    if record.contract.clock == "life":
        return np.empty(0)
    day = 86_400_000_000
    return np.round((record.zero + time / record.days(1.0) * day) % day / 1e6) % 86_400


def _edges(record: Record) -> list[tuple[str, int, int]]:
    edge = record.starts
    return list(zip(record.assets, edge[:-1].tolist(), edge[1:].tolist(), strict=True))
