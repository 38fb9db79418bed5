"""The words every stage shares: channels, the contract's rules, verdicts and errors. Needs numpy alone.

Arrays give their axes in brackets, `[asset, time, channel]`. Missing is NaN. A time is an integer count of
microseconds since 1970 in UTC where the clock is `calendar`, and a float in the life unit where it is `life`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

MICROSECONDS = {"s": 1_000_000, "min": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
ROLES = ("measurement", "setting", "counter")
Tell = Callable[[str, int, int], None]  # what, done, in all
MOST_GAP = 10_000_000  # ticks: each of them takes memory once it is filled
ALIGNS = ("last", "mean", "max", "sum")
RESERVED = ("file", "row", "asset", "time", "tick", "life", "channel")

# The grammars of raw text, applied to the whole cell once spaces and tabs around it are stripped. Python's `re` and the
# Rust engine behind Polars both read them, so they spell out what the two disagree on: digits, letter case, look-around.
NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
INFINITY = r"[+-]?[iI][nN][fF](?:[iI][nN][iI][tT][yY])?"
MISSING = r"|[+-]?[nN][aA][nN]|[nN][uU][lL][lL]|[nN][oO][nN][eE]|#?[nN]/?[aA]"
TIME = (
    r"(?P<date>[1-9][0-9]{3}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01]))[T ]"
    r"(?P<hour>[01][0-9]|2[0-3]):(?P<minute>[0-5][0-9])(?::(?P<second>[0-5][0-9])(?:\.(?P<fraction>[0-9]{1,6}))?)?"
    r"(?:Z|(?P<sign>[+-])(?P<zone_hour>[01][0-9]|2[0-3]):(?P<zone_minute>[0-5][0-9]))?"
)
BLANKS = " \t"
NAMELESS = "column_"  # how a source calls cells that stand beyond the last column
CUT = "(line ends before it)"  # what a source puts where a line ended too soon: no number, so that the row is refused
NEVER = int(np.iinfo(np.int64).min)  # the integer that stands for a missing time
# What may be said of a channel's readings, by the number in a verdict's `quality`.
QUALITY = ("good", "dropout", "stuck", "saturation", "spikes", "drift", "swapped", "unit change", "noise")

# The largest float64 that still rounds to a finite float32.
FLOAT32_LIMIT = float(np.nextafter(2.0**128 - 2.0**103, 0.0))
# Years 1000 to 9999, the ones the grammar can write; an offset may push a time over the edge.
CALENDAR_LIMITS = (-30_610_224_000_000_000, 253_402_300_799_999_999)


class PmxError(Exception):
    """What a user can mend: says what, where, why and how. The command line prints it without a traceback."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.details: dict[str, Any] = {}  # what a command found before it stopped


class UsageError(PmxError):
    """The command or its configuration is wrong."""

    exit_code = 2


class DataError(PmxError):
    """The data break their contract."""

    exit_code = 3


class DigestError(PmxError):
    """A file is not the one that was sealed."""

    exit_code = 4


class IncompatibleError(PmxError):
    """A bundle cannot run here, or does not give here what it gave where it was made."""

    exit_code = 5


class HangError(PmxError):
    """A bundle did not answer within its deadline."""

    exit_code = 7


class GateError(PmxError):
    """A gate refused the result; `culprit` names what failed it."""

    exit_code = 8

    def __init__(self, message: str, culprit: str = "") -> None:
        super().__init__(message)
        self.culprit = culprit


def within(low: float, high: float, settings: Mapping[str, float]) -> None:
    """Refuses settings outside [low, high], by name."""
    for name, value in settings.items():
        if not low <= value <= high:
            limits = f"at least {low:g}" if high == float("inf") else f"between {low:g} and {high:g}"
            raise UsageError(f"{name} is {value} -> it must be {limits}")


@dataclass(frozen=True)
class Channel:
    """One sensor signal or setting of an asset.

    Attributes:
        name: the column's name in the raw data.
        unit: physical unit, `-` for a ratio or a count.
        role: `measurement`, `setting` or `counter`.
        low, high: the valid range in `unit`, both ends included; None = unbounded.
        align: what a tick keeps of the values that arrived in it: `last`, `mean`, `max` or `sum`. A counter keeps its last value,
            and its reading is the increase per tick.
        hold: the longest hold in the life unit: a tick without a value repeats the newest one that is not older; 0 = never.
        rollover: what a counter has counted when it begins at 0 again, in `unit`; None = it never does, and a decrease is a reset.
        rate: samples a second of a waveform, in Hz; None = one value a tick. A waveform is reduced to ticks before a contract sees it.

    Example:
        >>> Channel("vibration", unit="mm/s", low=0.0).role
        'measurement'
    """

    name: str
    unit: str
    role: str = "measurement"
    low: float | None = None
    high: float | None = None
    align: str = "last"
    hold: float = 0.0
    rollover: float | None = None
    rate: float | None = None

    def __post_init__(self) -> None:
        def refuse(what: str) -> UsageError:
            return UsageError(f"channel {self.name}: {what}")

        if self.role not in ROLES:
            raise refuse(f"role {self.role!r} is none of {', '.join(ROLES)}")
        if self.name in RESERVED:
            raise refuse(f"this name is taken -> rename the channel ({', '.join(RESERVED)} are reserved)")
        if self.align not in ALIGNS:
            raise refuse(f"align {self.align!r} is none of {', '.join(ALIGNS)}")
        if self.role == "counter" and self.align != "last":
            raise refuse(f"align {self.align} is not for a counter, whose reading is its increase per tick -> leave align out")
        if not 0 <= self.hold < float("inf"):
            raise refuse(f"hold {self.hold} -> 0 (never), or how long a value stands in the life unit")
        if self.hold and (self.align == "sum" or self.role == "counter"):
            raise refuse("a sum or an increase that is held would count twice -> leave hold out")
        if self.rollover is not None and (self.role != "counter" or not 0 < self.rollover < float("inf")):
            raise refuse(f"rollover {self.rollover} -> a number above 0, and only for role counter")
        if self.rate is not None and (self.role != "measurement" or not 0 < self.rate < float("inf")):
            raise refuse(f"rate {self.rate} -> samples a second above 0, and only for a measurement")


@dataclass(frozen=True)
class Running:
    """When an asset runs: at every other tick it is off, and all its channels are missing.

    Attributes:
        channel: whose reading says so, such as a speed; missing = off.
        above, below: it runs while the reading lies above the one and below the other, in the channel's unit; None = unbounded.

    Example:
        >>> Running("speed", above=100.0).below is None
        True
    """

    channel: str
    above: float | None = None
    below: float | None = None

    def __post_init__(self) -> None:
        limits = [x for x in (self.above, self.below) if x is not None]
        if not limits or not np.isfinite(limits).all() or limits != sorted(limits):
            raise UsageError(f"running: above {self.above}, below {self.below} -> give one of them, or two that leave room between them")


@dataclass(frozen=True)
class Contract:
    """What a fleet's readings must look like, and how they fall onto ticks. Ships in the bundle.

    Attributes:
        channels: in the order of the step graph's channel axis.
        life_unit: what life is counted in (`cycle`, `h`, ...).
        clock: `calendar` (times are UTC timestamps) or `life` (times are floats in the life unit).
        tick: length of a tick in the life unit.
        longest_gap: the longest run of missing ticks that alignment fills; a longer one is refused.
        time_zone: of calendar times that carry none.
        lateness: how late a reading may arrive, in the life unit; a tick closes that much after its end.
        running: when an asset runs; None = always.
        good: the quality codes that count; empty = all.
    """

    channels: tuple[Channel, ...]
    life_unit: str
    clock: str
    tick: float = 1.0
    longest_gap: int = 100_000
    time_zone: str = "UTC"
    lateness: float = 0.0
    running: Running | None = None
    good: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.clock not in ("calendar", "life"):
            raise UsageError(f"clock {self.clock!r} is neither calendar nor life")
        if self.clock == "calendar" and self.life_unit not in MICROSECONDS:
            raise UsageError(f"life unit {self.life_unit!r} on a calendar clock must be one of {', '.join(MICROSECONDS)}")
        if len(set(self.names)) < len(self.names):
            raise UsageError(f"a channel is listed twice: {', '.join(self.names)}")
        if waves := [c.name for c in self.channels if c.rate]:
            raise UsageError(f"channel {waves[0]}: it has a rate, so it is a waveform -> list what source.snapshot makes of it instead")
        if not 0 < self.tick < float("inf") or not 0 <= self.longest_gap <= MOST_GAP:
            raise UsageError(f"tick {self.tick} must be above 0, longest_gap {self.longest_gap} between 0 and {MOST_GAP:,} ticks")
        if self.clock == "calendar" and abs(MICROSECONDS[self.life_unit] * self.tick - self.tick_us) > 1e-9 * self.tick_us:
            raise UsageError(f"tick {self.tick} {self.life_unit} is not a whole number of microseconds -> choose one that is")
        if not 0 <= self.lateness < float("inf"):
            raise UsageError(f"lateness {self.lateness} -> how late a reading may arrive in {self.life_unit}, 0 = never late")
        if self.running and self.running.channel not in self.names:
            raise UsageError(f"running: no channel {self.running.channel!r} -> one of {', '.join(self.names)}")
        if self.time_zone != "UTC":
            if self.clock == "life":
                raise UsageError(f"time_zone {self.time_zone}: a life clock has no time zone -> leave it out, or clock: calendar")
            zone_of(self.time_zone)

    @cached_property
    def tick_us(self) -> int:
        """Microseconds in a tick of the calendar clock."""
        return max(1, round(MICROSECONDS[self.life_unit] * self.tick))

    @cached_property
    def late(self) -> float:
        """The lateness as the clock counts: whole microseconds, or the life unit."""
        return round(MICROSECONDS[self.life_unit] * self.lateness) if self.clock == "calendar" else self.lateness

    @property
    def names(self) -> list[str]:
        return [c.name for c in self.channels]

    @property
    def ticks_per_month(self) -> float | None:
        """Ticks in a mean month of 30.4375 days; None without a calendar."""
        if self.clock != "calendar":
            return None
        return 30.4375 * MICROSECONDS["d"] / (MICROSECONDS[self.life_unit] * self.tick)

    def ticks_of(self, time: np.ndarray) -> np.ndarray:
        """Times as float64 counts of ticks since the clock's zero."""
        if self.clock == "calendar":
            return np.asarray(time, np.int64) / (MICROSECONDS[self.life_unit] * self.tick)
        return np.asarray(time, np.float64) / self.tick

    def columns(self, given: Iterable[str]) -> list[str]:
        """The columns that a table with these needs: long where it has `channel` and `value`, wide otherwise."""
        if not is_long(given):
            return ["asset", "time", *self.names]
        return ["asset", "time", "channel", "value", *(["quality"] if self.good else [])]

    def ignored(self, columns: Iterable[str]) -> tuple[str, ...]:
        """The columns of a table that the contract does not list; they are named once and left out.

        Cells beyond the last column have no name: a source calls them `column_<number>`, and the rows that hold one are refused.
        """
        needed = {"file", "row", *self.columns(columns), *(["quality"] if is_long(columns) else [])}
        return tuple(c for c in columns if c not in needed and not c.startswith(NAMELESS))

    def require(self, columns: Iterable[str], file: str) -> None:
        """Refuses a table that lacks the asset, the time or a channel, whatever its rows hold."""
        columns = list(columns)
        needed = self.columns(columns)
        missing = [name for name in needed if name not in columns]
        if missing:
            lines = []
            for name in missing[:8]:
                near = [repr(n) for n in difflib.get_close_matches(name, [c for c in columns if c not in needed], 2)]
                hint = f"nearest is {' or '.join(near)}" if near else f"it has {shown(', '.join(columns), 80)}"
                lines.append(f"  column {name!r} is not in the header, {hint} -> rename the column or correct the contract")
            raise DataError(refusal_text(file, len(missing), lines))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> Contract:
        running = data.get("running")
        more = {"running": running and Running(**running), "good": tuple(data.get("good", ()))}
        return Contract(**{**data, "channels": tuple(Channel(**c) for c in data["channels"]), **more})


@dataclass(frozen=True)
class Verdict:
    """What the step graph says of the assets at one step. A field is None when the task does not have it.

    Attributes:
        anomaly_score: float32 [asset], 0..1, higher = worse: the upper-tail rank among healthy validation ticks.
        rul: float32 [asset, 3], lower, point and upper remaining useful life in the life unit; NaN = no estimate.
        failure_probability: float32 [asset], within the stated horizon.
        fault_probability: float32 [asset, class], of each class of faults that the spec names, the first of which is healthy.
        contribution: float32 [asset, channel], how much each channel departs from its normal.
        quality: int64 [asset, channel], what is wrong with each channel's readings, an index of `QUALITY`; 0 = good.
    """

    anomaly_score: np.ndarray | None = None
    rul: np.ndarray | None = None
    failure_probability: np.ndarray | None = None
    contribution: np.ndarray | None = None
    quality: np.ndarray | None = None
    fault_probability: np.ndarray | None = None

    def output(self, name: str) -> np.ndarray:
        """One number per asset, float32 [asset], of `rul` its point estimate; `contribution` and `quality` as they are, [asset, channel],
        and `fault_probability`, [asset, class];
        `interval`, the lower and upper end of `rul`, [asset, 2].
        """
        value = getattr(self, "rul" if name == "interval" else name)
        if value is None:
            raise IncompatibleError(f"the bundle has no output {name!r}")
        return value[:, 1] if name == "rul" else value[:, [0, 2]] if name == "interval" else value


@dataclass(frozen=True)
class Rows:
    """Raw rows in arrival order, before the contract has judged them: wide, or long with one value of one channel each.

    Attributes:
        asset: object [row], the asset's name as text.
        time: object [row] of raw text, or typed: int64 microseconds (calendar) or float64 (life).
        values: column name -> object [row] of raw text, or float64 [row]; of long rows `value` alone.
        file: object [row], the file each row came from.
        row: int64 [row], the line number in that file as an editor shows it (a header is line 1).
        channel: object [row], of long rows the channel's name; None = the rows are wide.
        quality: object [row], of long rows the quality code; None = they have none.

    Example:
        >>> text = lambda *cells: np.array(cells, object)
        >>> rows = Rows(text("P1", "P1"), text("1", "1"), {"value": text("7.5", "80")}, channel=text("load", "heat"))
        >>> len(rows), rows.take(np.array([1])).channel.tolist()
        (2, ['heat'])
    """

    asset: np.ndarray
    time: np.ndarray
    values: dict[str, np.ndarray] = field(default_factory=dict)
    file: np.ndarray = field(default_factory=lambda: np.empty(0, object))
    row: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    channel: np.ndarray | None = None
    quality: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.asset)

    def take(self, at: np.ndarray) -> Rows:
        """The rows at these positions (or where a mask is true), in that order."""
        more = [None if column is None else column[at] for column in (self.channel, self.quality)]
        values = {k: v[at] for k, v in self.values.items()}
        # a table that was made without its places has none to take
        file, row = (column[at] if len(column) else column for column in (self.file, self.row))
        return Rows(self.asset[at], self.time[at], values, file, row, *more)


def is_long(columns: Iterable[str]) -> bool:
    """Whether a table with these columns holds one value of one channel a row; no channel may be called `channel`."""
    return {"channel", "value"} <= set(columns)


def zone_of(name: str) -> ZoneInfo:
    """A time zone by its name, from the machine's own time-zone data."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        how = "write a name such as Europe/Berlin; where the machine lacks time-zone data, install the package tzdata"
        raise UsageError(f"time_zone {name!r} is not known here -> {how}") from None


def refusal_text(what: str, count: int, lines: Sequence[str]) -> str:
    return "\n".join([f"Cannot read {shown(what, 200)}: {count:,} problem{'s' if count > 1 else ''}, nothing was written", *lines])


def shown(text: str, most: int = 40) -> str:
    """Text from the data, made safe for a terminal and for one line."""
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= most else text[:most] + "..."
