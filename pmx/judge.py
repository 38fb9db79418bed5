"""The contract's rules applied to raw rows, in numpy: what a device judges its readings by."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pmx import cell
from pmx.apart import Apart
from pmx.clock import LocalTimes
from pmx.contract import CUT, NEVER, Contract, DataError, Rows, UsageError, refusal_text, shown
from pmx.rule import Rule, rules
from pmx.unit import looks_like

_decimal_comma = re.compile(r"[+-]?[0-9]+(?:[. ][0-9]{3})*,[0-9]+(?:[eE][+-]?[0-9]+)?").fullmatch
_day_first = re.compile(r"[0-9]{1,2}[./][0-9]{1,2}[./][0-9]{2,4}(?:[ T,].*)?").fullmatch
ON_DEVICE = "on a device, convert the file first"
ORDER = ("repeated", "earlier")  # the tests that look at other rows too


@dataclass(frozen=True)
class Breach:
    """A row that was refused, or a value that was set apart from its row, with the first rule it breaks.

    Attributes:
        file, row: where it came from, as in `Rows`.
        asset: the row's asset, empty where it names none.
        rule: the broken rule.
        value: the offending value as text.
        alone: whether the row went on without this value.
    """

    file: str
    row: int
    asset: str
    rule: Rule
    value: str
    alone: bool = False

    @property
    def lost(self) -> str:
        """What it cost: `value`, or the whole `row`."""
        return "value" if self.alone else "row"

    @property
    def channel(self) -> str:
        """The offending channel, empty where the fault lies in the asset or the time."""
        return "" if self.rule.column in ("asset", "time") else self.rule.column

    @property
    def reason(self) -> str:
        return self.rule.name

    @property
    def why(self) -> str:
        return self._hint[0]

    @property
    def mend(self) -> str:
        return self._hint[1]

    @property
    def _hint(self) -> tuple[str, str]:
        """What is wrong and how to mend it, better than the rule can say it where the value itself tells."""
        text = cell.plain(self.value)
        if self.reason == "wrong_type" and _decimal_comma(text):
            return "is not a number: it has a decimal comma", f'set decimal: "," in the card, or {ON_DEVICE}'
        if self.reason == "unparsable_time" and isinstance(self.rule.low, int):
            if _day_first(text):
                how = 'set time_format in the card, such as "%d.%m.%Y %H:%M:%S"'
                return "is not a time such as 2026-11-30T14:05:00", f"{how}, or {ON_DEVICE}"
            if cell.is_local_time(text):
                return "does not exist: clocks skip this hour in spring", "correct it, or write times in UTC"
        return self.rule.why, self.rule.mend


@dataclass(frozen=True)
class Checked:
    """What the contract made of some rows; each of them is either accepted or refused, and breaches say why.

    Attributes:
        asset: object [row], stripped names of the accepted rows.
        time: int64 microseconds (calendar) or float64 in the life unit [row].
        values: float64 [row, channel] in the contract's order, NaN = missing or set apart; a long row has one value at most.
        position: int64 [row], where each accepted row stood in the input.
        breaches: the refused rows, and the values set apart from accepted ones, in input order.
    """

    asset: np.ndarray
    time: np.ndarray
    values: np.ndarray
    position: np.ndarray
    breaches: tuple[Breach, ...]


class Checker:
    """Judges rows by a contract, in batches or one at a time: how rows are batched changes no verdict.

    A wide row in which a channel's value breaks a rule goes on without that value, as long as another one is left: a broken sensor
    must not hide the others. To the rules about order such a row counts as accepted.

    Args:
        contract: whose rules hold.
        on_error: `quarantine` sets rows and values apart, `refuse` raises a DataError on any and leaves the checker as it was.

    Example:
        >>> from pmx.contract import Channel
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
        self._zone = LocalTimes(contract)
        self._accepted: dict[str, _Accepted] = {}
        self._rules: dict[tuple[str, ...], tuple[Rule, ...]] = {}

    def check(self, rows: Rows) -> Checked:
        """Sorts rows into accepted and refused ones; rows that arrive later are judged against the accepted ones."""
        columns = row_columns(rows)
        if columns not in self._rules:
            self.contract.require(("asset", "time", *columns), str(rows.file[0]) if len(rows.file) else "the rows")
            self._rules[columns] = rules(self.contract, columns)
        own = self._rules[columns]
        asset = cell.names(rows.asset)
        if self.contract.clock == "calendar":
            time, passes = self._zone.utc(asset, *cell.times(rows.time))
            lost = time == NEVER
        else:
            (time, lost), passes = cell.durations(rows.time), {}
        channel, values, broken = _values(rows, self.contract)
        first = np.full(len(rows), -1)
        apart = Apart(own)
        for k, rule in enumerate(own):
            if rule.test not in ORDER:
                where = self._breaks(rule, rows, (asset, time, lost), channel, values, broken) & (first < 0)
                if channel is None and rule.of_value:
                    apart.add(k, where)
                else:
                    first[where] = k
        apart.settle(first, lambda c, at: values[c][at], lambda c, at: np.array(rows.values[c][at] == CUT, bool))
        state = self._judge_order(asset, time, channel, first, own)
        found = breaches(self.contract, rows, own, *apart.listed(first))
        if found and self.on_error == "refuse":
            raise refusal(found)
        self._accepted, self._zone.passes = state, {**self._zone.passes, **passes} if passes else self._zone.passes
        accepted = np.flatnonzero(first < 0)
        wide = _wide(values, channel, accepted, self.contract)
        for name, at in apart.kept(first):
            wide[np.searchsorted(accepted, at), self.contract.names.index(name)] = np.nan
        return Checked(asset[accepted], time[accepted], wide, accepted, found)

    def _breaks(
        self, rule: Rule, rows: Rows, place: tuple[np.ndarray, ...], channel: np.ndarray | None, values: Values, broken: Values
    ) -> np.ndarray:
        """Where rows break a rule that looks at one row alone, bool [row]."""
        asset, time, lost = place
        if rule.test == "unlisted":
            return np.zeros(len(rows), bool) if channel is None else channel < 0
        if rule.test == "bad":
            if rows.quality is None:
                return np.zeros(len(rows), bool)
            return np.array([code not in self.contract.good for code in cell.names(rows.quality).tolist()], bool)
        if rule.column == "asset":
            return np.array([cell.is_missing(a) for a in asset.tolist()], bool)
        if rule.column == "time":
            return _outside(rule, time, lost)
        if channel is None:
            return _outside(rule, values[rule.column], broken[rule.column])
        mine = channel == self.contract.names.index(rule.column)
        return mine & _outside(rule, values["value"], broken["value"])

    def _judge_order(
        self, asset: np.ndarray, time: np.ndarray, channel: np.ndarray | None, first: np.ndarray, own: tuple[Rule, ...]
    ) -> dict[str, _Accepted]:
        """Marks in `first` the rows that come too late or twice; returns what is accepted of each asset then."""
        repeated, earlier = ([r.test for r in own].index(test) for test in ORDER)
        state, late = self._accepted, self.contract.late
        at = np.flatnonzero(first < 0)
        if self.on_error == "refuse":
            state = {**state, **{a: state[a].copy() for a in set(asset[at].tolist()) if a in state}}
        channels = [-1] * len(at) if channel is None else channel[at].tolist()
        for i, a, t, c in zip(at.tolist(), asset[at].tolist(), time[at].tolist(), channels, strict=True):
            if a not in state:
                state[a] = _Accepted()
            verdict = state[a].add(t, c, late)
            if verdict:
                first[i] = repeated if verdict == "repeated" else earlier
        return state


Values = dict[str, np.ndarray]


class _Accepted:
    """The accepted rows of an asset that a later one can still repeat."""

    __slots__ = ("newest", "keys", "full")

    def __init__(self) -> None:
        self.newest: Any = None
        self.keys: set[tuple[Any, int]] = set()  # time and channel, -1 for a wide row
        self.full = 64

    def copy(self) -> _Accepted:
        other = _Accepted()
        other.newest, other.keys, other.full = self.newest, set(self.keys), self.full
        return other

    def add(self, time: Any, channel: int, late: float) -> str:
        """Takes a row; the test it fails, empty where it fails none."""
        if self.newest is None or time > self.newest:
            self.newest = time
            if not late:
                self.keys = {(time, channel)}
                return ""
        elif time < self.newest - late:
            return "earlier"
        elif (time, channel) in self.keys:
            return "repeated"
        self.keys.add((time, channel))
        if late and len(self.keys) > self.full:
            self.keys = {key for key in self.keys if key[0] >= self.newest - late}
            self.full = 64 + 2 * len(self.keys)
        return ""


def row_columns(rows: Rows) -> tuple[str, ...]:
    """The columns of rows beside asset and time, as their file names them."""
    long = () if rows.channel is None else ("channel",) if rows.quality is None else ("channel", "quality")
    return (*long, *rows.values)


def breaches(
    contract: Contract, rows: Rows, own: Sequence[Rule], row: np.ndarray, broken: np.ndarray, alone: np.ndarray
) -> tuple[Breach, ...]:
    """What is set apart, given as by `Apart.listed`."""
    columns = {**rows.values, "asset": rows.asset, "time": rows.time}
    named: dict[tuple[int, str], Rule] = {}
    found = []
    for i, k, single in zip(row.tolist(), broken.tolist(), alone.tolist(), strict=True):
        rule = own[k]
        column = rule.column
        if rows.channel is not None and column not in ("asset", "time"):
            key = k, cell.plain(rows.channel[i])
            rule = named.setdefault(key, replace(rule, column=key[1]))
            column = "quality" if rule.test == "bad" else "value"
        value = rows.quality[i] if column == "quality" and rows.quality is not None else columns[column][i]
        asset = cell.plain(rows.asset[i])
        text = _text(value, contract.clock == "calendar" and column == "time")
        found.append(Breach(str(rows.file[i]), int(rows.row[i]), "" if cell.is_missing(asset) else asset, rule, text, single))
    return tuple(found)


def refusal(found: Sequence[Breach], more: Iterable[str] = ()) -> DataError:
    """The error that refuses these breaches: eight of them in full, the others counted by reason; then what else there is to say."""
    files = list(dict.fromkeys(b.file for b in found))
    lines = []
    for b in found[:8]:
        where = [f"row {b.row}"]
        where += [shown(b.file)] if len(files) > 1 else []
        where += [f"asset {shown(b.asset)}"] if b.asset else []
        where += [f"channel {shown(b.channel)}"] if b.channel else []
        value = repr(b.value) if len(b.value) <= 40 else repr(b.value[:40]) + "..."
        lines.append(f"  {', '.join(where)}: {value} {b.why} ({b.reason}) -> {b.mend}, or set on_error: quarantine")
    if len(found) > 8:
        rest = ", ".join(f"{n:,} {reason}" for reason, n in Counter(b.reason for b in found[8:]).most_common())
        lines.append(f"  ... and {len(found) - 8:,} more ({rest})")
    return DataError(refusal_text(files[0] if len(files) == 1 else f"{len(files)} files", len(found), [*lines, *more]))


def unit_hints(contract: Contract, found: Sequence[Breach]) -> list[str]:
    """For each channel whose refused values would mostly lie in its range if they were in another unit, a line that says so."""
    lines = []
    for c in contract.channels:
        values = [b.value for b in found if b.reason == "out_of_range" and b.channel == c.name]
        others = looks_like(c.unit, cell.numbers(np.array(values, object))[0], c.low, c.high) if values else []
        if others:
            lines.append(f"  channel {c.name}: {len(values):,} values beyond its range look like {' or '.join(others[:2])}, not {c.unit}")
    return lines


def _text(value: Any, calendar: bool) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if calendar and isinstance(value, int | np.integer):
        return "" if value == NEVER else f"{np.datetime64(int(value), 'us')}Z"
    return "" if value != value else repr(float(value)) if isinstance(value, float | np.floating) else str(value)


def _values(rows: Rows, contract: Contract) -> tuple[np.ndarray | None, Values, Values]:
    """Of long rows the channels' indices, int [row], -1 = not listed; the columns' numbers, and where there is none."""
    judged = rows.values.keys() - set(contract.ignored(("asset", "time", *row_columns(rows))))
    read = {name: cell.numbers(column) for name, column in rows.values.items() if name in judged}
    channel = None
    if rows.channel is not None:
        index = {name: k for k, name in enumerate(contract.names)}
        channel = np.array([index.get(name, -1) for name in cell.names(rows.channel).tolist()], np.int64)
    return channel, {k: v for k, (v, _) in read.items()}, {k: b for k, (_, b) in read.items()}


def _wide(values: Values, channel: np.ndarray | None, accepted: np.ndarray, contract: Contract) -> np.ndarray:
    if channel is None:
        columns = [values[name][accepted] for name in contract.names]
        return np.column_stack(columns or [np.empty((len(accepted), 0))])
    wide = np.full((len(accepted), len(contract.channels)), np.nan)
    wide[np.arange(len(accepted)), channel[accepted]] = values["value"][accepted]
    return wide


def _outside(rule: Rule, value: np.ndarray, broken: np.ndarray) -> np.ndarray:
    """Where a column breaks a rule about its value, bool [row]."""
    if rule.test == "present":
        return broken | ~np.isnan(value)
    found = broken.copy() if rule.test == "broken" else np.zeros(len(value), bool)
    if rule.low is not None:
        found |= value < rule.low
    if rule.high is not None:
        found |= value > rule.high
    return found
