"""Raw cells as numbers and times, by the contract's grammars; a whole column at once where it is clean."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from pmx.contract import BLANKS, INFINITY, MISSING, NEVER, NUMBER, TIME

_is_number, _is_infinite, _is_missing, _is_time = (re.compile(g).fullmatch for g in (NUMBER, INFINITY, MISSING, TIME))
# A column of nothing but these, in which float() reads every cell, holds numbers of the grammar alone.
_find_odd = re.compile(r"[^0-9+\-.eE \t;]").search
# How a missing value is mostly spelt; the grammar knows more.
_NOTHING = frozenset(("nan", "NaN", "NAN", "null", "NULL", "None", "NA", "N/A", "n/a", "#N/A"))


def plain(cell: Any) -> str:
    """A cell's text without the blanks around it; None is empty."""
    return "" if cell is None else str(cell).strip(BLANKS)


def is_missing(text: str) -> bool:
    """Whether a plain text says that there is no value."""
    return _is_missing(text) is not None


def names(column: np.ndarray) -> np.ndarray:
    """Plain texts, object [row]."""
    seen: dict[Any, str] = {}
    return np.array([seen[c] if c in seen else seen.setdefault(c, plain(c)) for c in column.tolist()], object)


def numbers(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values float64 [row], NaN where missing or broken, and where the text is no number, bool [row]."""
    if column.dtype.kind not in "OU":
        return column.astype(np.float64), np.zeros(len(column), bool)
    cells = column.tolist()
    try:
        known = ["" if c in _NOTHING else c for c in cells]
        if not _find_odd(";".join(known)):
            return np.array([float(c or "nan") for c in known], np.float64), np.zeros(len(cells), bool)
    except (TypeError, ValueError):
        pass  # None, blanks alone, two signs: cell by cell
    cells = [plain(cell) for cell in cells]
    value = np.array([float(cell) if _is_number(cell) else np.nan for cell in cells], np.float64)
    broken = np.zeros(len(cells), bool)
    for i in np.flatnonzero(np.isnan(value)).tolist():
        if _is_infinite(cells[i]):
            value[i] = float(cells[i])
        else:
            broken[i] = not is_missing(cells[i])
    return value, broken


def durations(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times on the life clock, float64 [row], and where there is none, bool [row]."""
    value, _ = numbers(column)
    return value, np.isnan(value)


def times(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times on the calendar clock, int64 [row] microseconds, `NEVER` where there is none; and which are local, bool [row].

    A text without a zone is the reading of some clock on a wall, counted as if that stood in UTC. Typed times are UTC already.
    """
    local = np.zeros(len(column), bool)
    if column.dtype.kind in "OU":
        seen: dict[Any, tuple[int, bool]] = {}
        read = [seen[c] if c in seen else seen.setdefault(c, _microseconds(plain(c))) for c in column.tolist()]
        return np.array([t for t, _ in read], np.int64), np.array([is_local for _, is_local in read], bool)
    if column.dtype.kind == "M":
        return column.astype("datetime64[us]").astype(np.int64), local
    if column.dtype.kind == "f":
        return np.where(np.abs(column) < 2.0**62, column, NEVER).astype(np.int64), local
    return column.astype(np.int64), local


def _microseconds(cell: str) -> tuple[int, bool]:
    if _is_time(cell):
        try:
            moment = datetime.fromisoformat(cell)
        except ValueError:  # 30 February
            return NEVER, False
        # Subtracted as integers: shifting a datetime of the year 9999 into UTC overflows.
        offset = moment.utcoffset() or timedelta()
        since = moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC) - offset
        return since // timedelta(microseconds=1), moment.tzinfo is None
    return NEVER, False


def is_local_time(text: str) -> bool:
    """Whether a text is a time that carries no zone."""
    return _microseconds(plain(text))[1]
