"""The contract's rules applied to raw rows, in numpy: what a device judges its readings by."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from pmx.contract import BLANKS, INFINITY, MISSING, NEVER, NUMBER, TIME, Contract, DataError, Rows, Rule, UsageError, refusal_text, shown

_is_number, _is_infinite, _is_missing, _is_time = (re.compile(g).fullmatch for g in (NUMBER, INFINITY, MISSING, TIME))


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
        where += [shown(b.file)] if len(files) > 1 else []
        where += [f"asset {shown(b.asset)}"] if b.asset else []
        where += [f"channel {shown(b.channel)}"] if b.channel else []
        value = repr(b.value) if len(b.value) <= 40 else repr(b.value[:40]) + "..."
        lines.append(f"  {', '.join(where)}: {value} {b.rule.why} ({b.reason}) -> {b.rule.mend}, or set on_error: quarantine")
    if len(found) > 8:
        more = ", ".join(f"{n:,} {reason}" for reason, n in Counter(b.reason for b in found[8:]).most_common())
        lines.append(f"  ... and {len(found) - 8:,} more ({more})")
    return DataError(refusal_text(files[0] if len(files) == 1 else f"{len(files)} files", len(found), lines))


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
