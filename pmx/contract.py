"""The words every stage shares: channels, the contract's rules, verdicts and errors. Needs numpy alone.

Arrays give their axes in brackets, `[asset, time, channel]`. Missing is NaN. A time is an integer count of
microseconds since 1970 in UTC where the clock is `calendar`, and a float in the life unit where it is `life`.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
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
                hint = f"nearest is {' or '.join(near)}" if near else f"it has {_shown(', '.join(columns), 80)}"
                lines.append(f"  column {name!r} is not in the header, {hint} -> rename the column or correct the contract")
            raise DataError(_refusal(file, len(missing), lines))

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
        """One number per asset, float32 [asset]: of `rul` its point estimate."""
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


@dataclass(frozen=True)
class Breach:
    """A row that was refused, with the first rule it breaks.

    Attributes:
        file, row: where it came from, as in `Rows`.
        asset: the row's asset, empty where it names none.
        rule: the broken rule.
        value: the offending value as text.
    """

    file: str
    row: int
    asset: str
    rule: Rule
    value: str

    @property
    def channel(self) -> str:
        """The offending channel, empty where the fault lies in the asset or the time."""
        return "" if self.rule.column in ("asset", "time") else self.rule.column

    @property
    def reason(self) -> str:
        return self.rule.name


@dataclass(frozen=True)
class Checked:
    """What the contract made of some rows; each of them is either accepted or among the breaches.

    Attributes:
        asset: object [row], stripped names of the accepted rows.
        time: int64 microseconds (calendar) or float64 in the life unit [row].
        values: float64 [row, channel] in the contract's order, NaN = missing.
        position: int64 [row], where each accepted row stood in the input.
        breaches: the refused rows in input order.
    """

    asset: np.ndarray
    time: np.ndarray
    values: np.ndarray
    position: np.ndarray
    breaches: tuple[Breach, ...]


class Checker:
    """Judges rows by a contract, in batches or one at a time: how rows are batched changes no verdict.

    Args:
        contract: whose rules hold.
        on_error: `quarantine` sets refused rows apart, `refuse` raises a DataError on any and leaves the checker as it was.

    Example:
        >>> checker = Checker(Contract((Channel("load", unit="kW", low=0.0),), "h", "life"))
        >>> text = lambda *cells: np.array(cells, object)
        >>> rows = Rows(text("P1", "P1"), text("1", "2"), {"load": text("7.5", "-1")}, text("a.csv", "a.csv"), np.array([2, 3]))
        >>> checked = checker.check(rows)
        >>> checked.values.tolist(), [(b.row, b.channel, b.reason, b.value) for b in checked.breaches]
        ([[7.5]], [(3, 'load', 'out_of_range', '-1')])
    """

    def __init__(self, contract: Contract, on_error: str = "quarantine") -> None:
        if on_error not in ("refuse", "quarantine"):
            raise UsageError(f"on_error: {on_error!r} is neither refuse nor quarantine")
        self.contract = contract
        self.on_error = on_error
        self.newest: dict[str, Any] = {}
        self._rules: dict[tuple[str, ...], tuple[Rule, ...]] = {}

    def check(self, rows: Rows) -> Checked:
        """Sorts rows into accepted and refused ones; rows that arrive later are judged against the accepted ones."""
        columns = tuple(rows.values)
        if columns not in self._rules:
            self.contract.require(("asset", "time", *columns), str(rows.file[0]) if len(rows) else "the rows")
            self._rules[columns] = self.contract.rules(columns)
        rules = self._rules[columns]
        asset = np.array([_plain(a) for a in rows.asset], object)
        parsed = {name: _numbers(column) for name, column in rows.values.items()}
        parsed["asset"] = np.zeros(len(rows)), np.array([_is_missing(a) is not None for a in asset], bool)
        parsed["time"] = _times(rows.time) if self.contract.clock == "calendar" else _durations(rows.time)

        first = np.full(len(rows), -1)
        for k, rule in enumerate(rules):
            if rule.test not in ("repeated", "earlier"):
                first[_breaks(rule, *parsed[rule.column]) & (first < 0)] = k
        time = parsed["time"][0]
        moved = self._judge_order(asset, time, first, rules)
        found = breaches(self.contract, rows, rules, first)
        if found and self.on_error == "refuse":
            raise refusal(found)
        self.newest.update(moved)
        accepted = np.flatnonzero(first < 0)
        values = np.column_stack([parsed[name][0] for name in self.contract.names] or [np.empty((len(rows), 0))])
        return Checked(asset[accepted], time[accepted], values[accepted], accepted, found)

    def _judge_order(self, asset: np.ndarray, time: np.ndarray, first: np.ndarray, rules: tuple[Rule, ...]) -> dict[str, Any]:
        """Marks in `first` the rows that do not advance their asset; returns the newest times they leave."""
        repeated, earlier = ([r.test for r in rules].index(test) for test in ("repeated", "earlier"))
        moved: dict[str, Any] = {}
        at = np.flatnonzero(first < 0)
        for i, a, t in zip(at.tolist(), asset[at].tolist(), time[at].tolist(), strict=True):
            newest = moved.get(a, self.newest.get(a))
            if newest is None or t > newest:
                moved[a] = t
            else:
                first[i] = repeated if t == newest else earlier
        return moved


def breaches(contract: Contract, rows: Rows, rules: Sequence[Rule], first: np.ndarray) -> tuple[Breach, ...]:
    """The refused rows; `first` int [row] holds the index of the first broken rule, -1 for none."""
    columns = {**rows.values, "asset": rows.asset, "time": rows.time}
    found = []
    for i in np.flatnonzero(first >= 0).tolist():
        rule = rules[first[i]]
        value = columns[rule.column][i]
        asset = _plain(rows.asset[i])
        text = _text(value, contract.clock == "calendar" and rule.column == "time")
        found.append(Breach(str(rows.file[i]), int(rows.row[i]), "" if _is_missing(asset) else asset, rule, text))
    return tuple(found)


def refusal(found: Sequence[Breach]) -> DataError:
    """The error that refuses these rows: eight of them in full, the others counted by reason."""
    files = list(dict.fromkeys(b.file for b in found))
    lines = []
    for b in found[:8]:
        where = [f"row {b.row}"]
        where += [_shown(b.file)] if len(files) > 1 else []
        where += [f"asset {_shown(b.asset)}"] if b.asset else []
        where += [f"channel {_shown(b.channel)}"] if b.channel else []
        value = repr(b.value) if len(b.value) <= 40 else repr(b.value[:40]) + "..."
        lines.append(f"  {', '.join(where)}: {value} {b.rule.why} ({b.reason}) -> {b.rule.mend}, or set on_error: quarantine")
    if len(found) > 8:
        more = ", ".join(f"{n:,} {reason}" for reason, n in Counter(b.reason for b in found[8:]).most_common())
        lines.append(f"  ... and {len(found) - 8:,} more ({more})")
    return DataError(_refusal(files[0] if len(files) == 1 else f"{len(files)} files", len(found), lines))


def _refusal(what: str, count: int, lines: Sequence[str]) -> str:
    return "\n".join([f"Cannot read {_shown(what, 200)}: {count:,} problem{'s' if count > 1 else ''}, nothing was written", *lines])


def _shown(text: str, most: int = 40) -> str:
    """Text from the data, made safe for a terminal and for one line."""
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= most else text[:most] + "..."


_is_number, _is_infinite, _is_missing, _is_time = (re.compile(g).fullmatch for g in (NUMBER, INFINITY, MISSING, TIME))


def _plain(cell: Any) -> str:
    return "" if cell is None else str(cell).strip(BLANKS)


def _text(value: Any, calendar: bool) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if calendar and isinstance(value, int | np.integer):
        return "" if value == NEVER else f"{np.datetime64(int(value), 'us')}Z"
    return "" if value != value else repr(float(value)) if isinstance(value, float | np.floating) else str(value)


def _breaks(rule: Rule, value: np.ndarray, broken: np.ndarray) -> np.ndarray:
    """Where a column breaks a rule that looks at one row alone, bool [row]."""
    if rule.test == "present":
        return broken | ~np.isnan(value)
    found = broken.copy() if rule.test == "broken" else np.zeros(len(value), bool)
    if rule.low is not None:
        found |= value < rule.low
    if rule.high is not None:
        found |= value > rule.high
    return found


def _numbers(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values float64 [row], NaN where missing or broken, and where the text is no number, bool [row]."""
    if column.dtype.kind not in "OU":
        return column.astype(np.float64), np.zeros(len(column), bool)
    cells = [_plain(cell) for cell in column.tolist()]
    value = np.array([float(cell) if _is_number(cell) else np.nan for cell in cells], np.float64)
    broken = np.zeros(len(cells), bool)
    for i in np.flatnonzero(np.isnan(value)).tolist():
        if _is_infinite(cells[i]):
            value[i] = float(cells[i])
        else:
            broken[i] = _is_missing(cells[i]) is None
    return value, broken


def _durations(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times on the life clock, float64 [row], and where there is none, bool [row]."""
    value, _ = _numbers(column)
    return value, np.isnan(value)


def _times(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times on the calendar clock, int64 [row] microseconds, and where there is none, bool [row]."""
    if column.dtype.kind in "OU":
        time = np.array([_microseconds(_plain(cell)) for cell in column.tolist()], np.int64)
    elif column.dtype.kind == "M":
        time = column.astype("datetime64[us]").astype(np.int64)
    elif column.dtype.kind == "f":
        time = np.where(np.abs(column) < 2.0**62, column, NEVER).astype(np.int64)
    else:
        time = column.astype(np.int64)
    return time, time == NEVER


def _microseconds(cell: str) -> int:
    if _is_time(cell):
        try:
            moment = datetime.fromisoformat(cell)
        except ValueError:  # 30 February
            return NEVER
        # Subtracted as integers: shifting a datetime of the year 9999 into UTC overflows.
        offset = moment.utcoffset() or timedelta()
        return (moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC) - offset) // timedelta(microseconds=1)
    return NEVER
