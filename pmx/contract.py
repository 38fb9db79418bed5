"""The words every stage shares: channels, the contract's rules, verdicts and errors. Needs numpy alone.

Arrays give their axes in brackets, `[asset, time, channel]`. Missing is NaN. A time is an integer count of
microseconds since 1970 in UTC where the clock is `calendar`, and a float in the life unit where it is `life`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

MICROSECONDS = {"s": 1_000_000, "min": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
ROLES = ("measurement", "setting", "counter")
RESERVED = ("file", "row", "asset", "time", "tick")

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
NEVER = int(np.iinfo(np.int64).min)  # the integer that stands for a missing time

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

    Example:
        >>> Channel("vibration", unit="mm/s", low=0.0).role
        'measurement'
    """

    name: str
    unit: str
    role: str = "measurement"
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise UsageError(f"channel {self.name}: role {self.role!r} is none of {', '.join(ROLES)}")
        if self.name in RESERVED:
            raise UsageError(f"channel {self.name}: this name is taken -> rename the channel ({', '.join(RESERVED)} are reserved)")


@dataclass(frozen=True)
class Rule:
    """One thing a row must not do; every back-end judges rows by these and nothing else.

    Attributes:
        name: the reason a breach is filed under.
        test: `present` (not missing), `broken` (cannot be read, or outside the limits), `outside` (the limits), and, against
            the newest accepted time of the asset, `repeated` or `earlier`.
        column: what is looked at: `asset`, `time` or a channel.
        low, high: limits of the float64 value (of a calendar time: microseconds), both ends allowed; None = unbounded.
        why, mend: the ends of the error message.

    Example:
        >>> [r.name for r in Contract((Channel("load", unit="kW", low=0.0),), "h", "calendar").rules()]
        ['missing_asset', 'unparsable_time', 'wrong_type', 'infinite', 'out_of_range', 'duplicate', 'not_monotonic']
    """

    name: str
    test: str
    column: str
    low: float | None
    high: float | None
    why: str
    mend: str


@dataclass(frozen=True)
class Contract:
    """What a fleet's readings must look like, and how they fall onto ticks. Ships in the bundle.

    Attributes:
        channels: in the order of the step graph's channel axis.
        life_unit: what life is counted in (`cycle`, `h`, ...).
        clock: `calendar` (times are UTC timestamps) or `life` (times are floats in the life unit).
        tick: length of a tick in the life unit.
        longest_gap: the longest run of missing ticks that alignment fills; a longer one is refused.
    """

    channels: tuple[Channel, ...]
    life_unit: str
    clock: str
    tick: float = 1.0
    longest_gap: int = 100_000

    def __post_init__(self) -> None:
        if self.clock not in ("calendar", "life"):
            raise UsageError(f"clock {self.clock!r} is neither calendar nor life")
        if self.clock == "calendar" and self.life_unit not in MICROSECONDS:
            raise UsageError(f"life unit {self.life_unit!r} on a calendar clock must be one of {', '.join(MICROSECONDS)}")
        if len(set(self.names)) < len(self.names):
            raise UsageError(f"a channel is listed twice: {', '.join(self.names)}")
        if not 0 < self.tick < float("inf") or self.longest_gap < 0:
            raise UsageError(f"tick {self.tick} must be above 0 and longest_gap {self.longest_gap} not below it")
        if self.clock == "calendar" and abs(MICROSECONDS[self.life_unit] * self.tick - self.tick_us) > 1e-9 * self.tick_us:
            raise UsageError(f"tick {self.tick} {self.life_unit} is not a whole number of microseconds -> choose one that is")

    @property
    def tick_us(self) -> int:
        """Microseconds in a tick of the calendar clock."""
        return max(1, round(MICROSECONDS[self.life_unit] * self.tick))

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

    def rules(self, columns: Iterable[str] = ()) -> tuple[Rule, ...]:
        """The rules for rows that have these columns, most telling first: a row is filed under the first one it breaks."""
        mend = "correct it"
        rules = []
        for name in columns:
            if name not in self.names:
                why, how = "stands in a column that the contract does not list", "list the channel in the contract or drop the column"
                rules.append(Rule("unknown_channel", "present", name, None, None, why, how))
        rules.append(Rule("missing_asset", "broken", "asset", None, None, "names no asset", "fill it in"))
        why = "is not a time such as 2026-11-30T14:05:00Z" if self.clock == "calendar" else f"is not a time in {self.life_unit}"
        # On the life clock a tick index must fit into the whole numbers that float64 can count.
        low, high = CALENDAR_LIMITS if self.clock == "calendar" else (-(2.0**53) * self.tick, 2.0**53 * self.tick)
        rules.append(Rule("unparsable_time", "broken", "time", low, high, why, mend))
        for c in self.channels:
            rules.append(Rule("wrong_type", "broken", c.name, None, None, "is not a number", mend))
            why = "is infinite, or too large for float32"
            rules.append(Rule("infinite", "outside", c.name, -FLOAT32_LIMIT, FLOAT32_LIMIT, why, mend))
            if c.low is not None or c.high is not None:
                why = f"is outside [{'-inf' if c.low is None else c.low}, {'inf' if c.high is None else c.high}] {c.unit}"
                rules.append(Rule("out_of_range", "outside", c.name, c.low, c.high, why, mend + " or widen the range in the contract"))
        rules.append(Rule("duplicate", "repeated", "time", None, None, "is a time that the asset has already", "keep one of the rows"))
        rules.append(Rule("not_monotonic", "earlier", "time", None, None, "is before the asset's newest row", "sort the rows by time"))
        return tuple(rules)

    def require(self, columns: Iterable[str], file: str) -> None:
        """Refuses a table that lacks the asset, the time or a channel, whatever its rows hold."""
        columns = list(columns)
        missing = [name for name in ("asset", "time", *self.names) if name not in columns]
        if missing:
            lines = []
            for name in missing[:8]:
                near = [repr(n) for n in difflib.get_close_matches(name, [c for c in columns if c not in self.names], 2)]
                hint = f"nearest is {' or '.join(near)}" if near else f"it has {shown(', '.join(columns), 80)}"
                lines.append(f"  column {name!r} is not in the header, {hint} -> rename the column or correct the contract")
            raise DataError(refusal_text(file, len(missing), lines))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> Contract:
        return Contract(**{**data, "channels": tuple(Channel(**c) for c in data["channels"])})


@dataclass(frozen=True)
class Verdict:
    """What the step graph says of the assets at one step. A field is None when the task does not have it.

    Attributes:
        anomaly_score: float32 [asset], 0..1, higher = worse: the upper-tail rank among healthy validation ticks.
        rul: float32 [asset, 3], lower, point and upper remaining useful life in the life unit; NaN = no estimate.
        failure_probability: float32 [asset], within the stated horizon.
        contribution: float32 [asset, channel], how much each channel departs from its normal.
    """

    anomaly_score: np.ndarray | None = None
    rul: np.ndarray | None = None
    failure_probability: np.ndarray | None = None
    contribution: np.ndarray | None = None

    def output(self, name: str) -> np.ndarray:
        """One number per asset, float32 [asset], of `rul` its point estimate; `contribution` as it is, float32 [asset, channel]."""
        value = getattr(self, name)
        if value is None:
            raise IncompatibleError(f"the bundle has no output {name!r}")
        return value[:, 1] if name == "rul" else value


@dataclass(frozen=True)
class Rows:
    """Raw wide rows in arrival order, before the contract has judged them.

    Attributes:
        asset: object [row], the asset's name as text.
        time: object [row] of raw text, or typed: int64 microseconds (calendar) or float64 (life).
        values: column name -> object [row] of raw text, or float64 [row].
        file: object [row], the file each row came from.
        row: int64 [row], the line number in that file as an editor shows it (a header is line 1).
    """

    asset: np.ndarray
    time: np.ndarray
    values: dict[str, np.ndarray] = field(default_factory=dict)
    file: np.ndarray = field(default_factory=lambda: np.empty(0, object))
    row: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.asset)

    def take(self, at: np.ndarray) -> Rows:
        """The rows at these positions (or where a mask is true), in that order."""
        return Rows(self.asset[at], self.time[at], {k: v[at] for k, v in self.values.items()}, self.file[at], self.row[at])


def refusal_text(what: str, count: int, lines: Sequence[str]) -> str:
    return "\n".join([f"Cannot read {shown(what, 200)}: {count:,} problem{'s' if count > 1 else ''}, nothing was written", *lines])


def shown(text: str, most: int = 40) -> str:
    """Text from the data, made safe for a terminal and for one line."""
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= most else text[:most] + "..."
