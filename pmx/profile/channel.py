"""Which channels can be used, and why the others cannot: constant, stuck, mostly missing, coarse, or outside their range."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from pmx.contract import Channel, shown
from pmx.profile.record import Record

MOSTLY_MISSING = 0.5  # of the running ticks
REFUSED = 0.1  # of the rows that gave the channel a value
STUCK_USABLE = 0.25  # of a channel's values may stand still before the channel counts as broken
STUCK_SHARE, STUCK_LEAST, STUCK_TIMES = 0.05, 20, 20.0
EXACT = 1_000_000  # values that are counted one by one
COARSE_VALUES, COARSE_STEP = 10, 0.5


@dataclass(frozen=True)
class Stuck:
    """The longest run of one exact value.

    Attributes:
        asset: where it stands.
        value: in the channel's unit.
        begin, length: in the life unit.
        readings: how many values it holds.
        share: of the asset's values of this channel.
        elsewhere: other assets in which the channel is stuck too.
        overall: share of the channel's values, over all assets, that lie in such runs.

    Example:
        >>> Stuck("P1", 0.0, begin=4.0, length=10.0, readings=600, share=0.4, elsewhere=0, overall=0.1).share
        0.4
    """

    asset: str
    value: float
    begin: float
    length: float
    readings: int
    share: float
    elsewhere: int
    overall: float


@dataclass(frozen=True)
class Finding:
    """What is known of one channel.

    Attributes:
        name, unit, role: as in the contract.
        values: how many there are.
        missing: share of the running ticks without a value.
        distinct: how many different values; beyond a million values an estimate.
        low, mean, high: smallest, mean and largest value in the channel's unit, NaN without values.
        zeros: share of its values that are exactly 0.
        empty: assets that never give it a value.
        refused: reason -> values of this channel that the contract set apart, alone or with their rows.
        stuck: the longest run of one exact value, where it is suspicious.
        joint: whether most measurements are stuck in that asset, which tells of the asset and not of this channel.
        reasons: why it cannot be used; empty = it can.
        remarks: what to know of it all the same.

    Example:
        >>> Finding("load", "kW", "measurement", 9, 0.0, 1, 5.0, 5.0, 5.0, reasons=["constant"]).usable
        False
    """

    name: str
    unit: str
    role: str
    values: int
    missing: float
    distinct: int
    low: float
    mean: float
    high: float
    zeros: float = 0.0
    empty: list[str] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    stuck: Stuck | None = None
    reasons: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    joint: bool = False

    @property
    def usable(self) -> bool:
        return not self.reasons


def findings(record: Record) -> list[Finding]:
    """One finding per channel of the contract, in its order."""
    refused: dict[str, dict[str, int]] = {}
    if record.quarantine.height:
        for channel, reason, n in record.quarantine.group_by("channel", "reason").len().sort("channel", "reason").iter_rows():
            refused.setdefault(channel, {})[reason] = n
    found = [_finding(record, c, record.grid.missing[c.name], refused.get(c.name, {})) for c in record.contract.channels]
    owner = Counter(c.stuck.asset for c in found if c.stuck)
    joint = {asset for asset, n in owner.items() if n >= max(3, sum(c.role == "measurement" for c in found) / 2)}
    return [_told(record, replace(c, joint=c.stuck is not None and c.stuck.asset in joint)) for c in found]


def standstills(record: Record, found: list[Finding]) -> list[str]:
    """Where most measurements stand still at once."""
    stuck = [c.stuck for c in found if c.stuck and c.joint]
    lines = []
    for asset in dict.fromkeys(s.asset for s in stuck):
        own = [s for s in stuck if s.asset == asset]
        longest = record.span(max(s.length for s in own))
        lines.append(f"{len(own)} measurements stand still in {shown(asset)}, for up to {longest}: it was off, or its collection froze")
    return lines


def _told(record: Record, c: Finding) -> Finding:
    if c.stuck is None or c.joint or c.stuck.overall > STUCK_USABLE:
        return c
    return replace(c, remarks=[stuck_text(record, c.stuck, c.unit), *c.remarks])


def _finding(record: Record, channel: Channel, missing: float, refused: dict[str, int]) -> Finding:
    column = record.readings[channel.name]
    value, code, time, on = column.to_numpy(), record.code, record.time, record.on
    if column.null_count():
        there = column.is_not_null().to_numpy()
        value, code, time, on = (v[there] for v in (value, code, time, on))
    seen = np.bincount(code, minlength=len(record.assets))
    empty = [record.assets[i] for i in np.flatnonzero(seen == 0)]
    distinct = _distinct(column)
    low, mean, high = (float(value.min()), float(value.mean()), float(value.max())) if len(value) else (np.nan,) * 3
    value_on, code_on, time_on = (value, code, time) if on.all() else (value[on], code[on], time[on])
    stuck = _stuck(record, value_on, code_on, time_on) if channel.role == "measurement" and distinct > COARSE_VALUES else None
    reasons = _reasons(len(value), distinct, low, missing, refused, stuck, channel)
    falls = _falls(record, value, code, time) if channel.role == "counter" else 0
    remarks = _remarks(record, channel, value, falls, distinct, empty, refused)
    zeros = float((value == 0).mean()) if len(value) else 0.0
    about = (channel.name, channel.unit, channel.role, len(value), missing, distinct, low, mean, high, zeros)
    return Finding(*about, empty, refused, stuck, reasons, remarks)


def _distinct(column: pl.Series) -> int:
    known = column.drop_nulls()
    if len(known) <= EXACT:
        return known.n_unique()
    estimate = int(known.to_frame().select(pl.all().approx_n_unique()).item())
    return 1 if known.min() == known.max() else max(2, estimate)


def stuck_text(record: Record, stuck: Stuck, unit: str) -> str:
    """Where a channel stands still, for how long, and at which value."""
    more = f", and in {stuck.elsewhere} more assets" if stuck.elsewhere else ""
    at = f"{stuck.value:.4g}" + (f" {unit}" if unit != "-" else "")
    return f"stuck at {at} for {record.span(stuck.length)} in {shown(stuck.asset)} ({stuck.share:.0%} of its values){more}"


def _reasons(
    values: int, distinct: int, low: float, missing: float, refused: dict[str, int], stuck: Stuck | None, channel: Channel
) -> list[str]:
    found = []
    if not values:
        return ["no value at all"]
    if distinct == 1:
        found.append(f"constant at {low:.4g}")
    if missing > MOSTLY_MISSING:
        found.append(f"mostly missing ({missing:.0%} of running ticks)")
    outside = refused.get("out_of_range", 0)
    if outside / (outside + values) > REFUSED:
        found.append(f"{outside / (outside + values):.0%} of its values outside [{_end(channel.low, '-inf')}, {_end(channel.high, 'inf')}]")
    if stuck and stuck.overall > STUCK_USABLE:
        found.append(f"stuck for {stuck.overall:.0%} of its values, longest at {stuck.value:.4g} in {shown(stuck.asset)}")
    return found


def _end(limit: float | None, none: str) -> str:
    return none if limit is None else f"{limit:g}"


def _remarks(
    record: Record, channel: Channel, value: np.ndarray, falls: int, distinct: int, empty: list[str], refused: dict[str, int]
) -> list[str]:
    found = []
    if empty and len(value):
        found.append(f"no value in {len(empty)} of {len(record.assets)} {record.history.noun} ({names(empty)})")
    if channel.role == "counter":
        found.append("counter: its growth counts, not its level" + (f"; falls {_times(falls)} (roll-over or reset)" if falls else ""))
    elif channel.role == "measurement" and distinct > 1:
        step = _step(value)
        spread = float(np.std(value))
        if distinct <= COARSE_VALUES and len(value) >= 10 * distinct:
            found.append(f"low resolution: {distinct} different values")
        elif step > COARSE_STEP * spread > 0:
            found.append(f"low resolution: steps of {step:.3g}, standard deviation {spread:.3g}")
    if refused:
        found.append("set apart: " + ", ".join(f"{n:,} {reason}" for reason, n in refused.items()))
    return found


def _falls(record: Record, value: np.ndarray, code: np.ndarray, time: np.ndarray) -> int:
    """How often a counter falls. Local times of the repeated hour may change places, which is no fall."""
    fell = (np.diff(value) < 0) & (np.diff(code) == 0)
    return int((~record.repeated(time[1:][fell])).sum())


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def names(assets: list[str], most: int = 3) -> str:
    """Some names in one line, the others counted."""
    more = f" and {len(assets) - most} more" if len(assets) > most else ""
    return ", ".join(shown(a, 24) for a in assets[:most]) + more


def _step(value: np.ndarray) -> float:
    """The usual distance between neighbouring different values, of the middle 98 %."""
    sample = np.unique(value if len(value) <= 200_000 else value[:: len(value) // 200_000])
    inner = sample[(sample >= np.quantile(sample, 0.01)) & (sample <= np.quantile(sample, 0.99))]
    return float(np.median(np.diff(inner))) if len(inner) > 1 else 0.0


def _stuck(record: Record, value: np.ndarray, code: np.ndarray, time: np.ndarray) -> Stuck | None:
    """The longest suspicious run. Suspicious is a run of at least 20 values and 5 % of the asset's, 20 times as long as the
    channel's other runs are at the mean: a coarse sensor repeats itself without being stuck.
    """
    same = (value[1:] == value[:-1]) & (code[1:] == code[:-1])
    if same.sum() < STUCK_LEAST - 1:
        return None
    begin = np.flatnonzero(np.r_[True, ~same])
    length = np.diff(np.r_[begin, len(value)])
    owner = code[begin]
    total = np.bincount(code, minlength=len(record.assets))[owner]
    candidate = (length >= STUCK_LEAST) & (length >= STUCK_SHARE * total)
    if not candidate.any():
        return None
    usual = float(length[~candidate].mean()) if (~candidate).any() else 1.0
    stuck = candidate & (length >= STUCK_TIMES * usual)
    if not stuck.any():
        return None
    k = int(np.flatnonzero(stuck)[np.argmax(length[stuck])])
    first, last = begin[k], begin[k] + length[k] - 1
    return Stuck(
        record.assets[owner[k]],
        float(value[first]),
        float(time[first]),
        float(time[last] - time[first]),
        int(length[k]),
        float(length[k] / total[k]),
        len(set(owner[stuck].tolist()) - {int(owner[k])}),
        float(length[stuck].sum() / len(value)),
    )
