"""What a column of times is written in: format, zone or none, and whether day and month can be told apart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import polars as pl

from pmx.contract import TIME

GERMAN = "Europe/Berlin"
DATES = (
    *("%d.%m.%Y", "%d.%m.%y", "%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%d/%m/%Y", "%m/%d/%Y", "%d/%m/%y", "%m/%d/%y"),
    *("%d-%m-%Y", "%m-%d-%Y", "%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%b %d, %Y"),
)
HOURS = ("%H:%M:%S", "%H:%M", "%H:%M:%S.%f", "%H:%M:%S,%f", "%I:%M:%S %p", "%I:%M %p")
FORMATS = (
    *(f"{d} {h}" for d in DATES for h in HOURS),
    "%Y%m%d %H:%M:%S",
    "%Y%m%dT%H%M%S",
    "%Y%m%d%H%M%S",
    "%Y.%m.%d.%H.%M.%S",
    *DATES,
    "%Y%m%d",
)
ENOUGH = 0.9  # share of the cells that a format must read
_iso = re.compile(TIME).fullmatch
_number = re.compile(r"[+-]?[0-9]{1,7}(?:[.,][0-9]*)?(?:[eE][+-]?[0-9]+)?").fullmatch  # too short for a date without marks


@dataclass(frozen=True)
class Written:
    """How a column writes its times.

    Attributes:
        format: as in Python's strptime; None = ISO 8601; `epoch_s` or `epoch_ms` count since 1970.
        share: of the cells that it reads.
        zoned: whether the times carry their zone.
        ambiguous: whether day and month could be the other way round.

    Example:
        >>> guess_time(["31.01.2025 14:05", "01.02.2025 08:00"])
        Written(format='%d.%m.%Y %H:%M', share=1.0, zoned=False, ambiguous=False)
    """

    format: str | None
    share: float
    zoned: bool = False
    ambiguous: bool = False

    @property
    def german(self) -> bool:
        return bool(self.format and self.format.startswith("%d.%m."))

    @property
    def days_only(self) -> bool:
        return self.format in DATES or self.format == "%Y%m%d"


def guess_time(cells: Sequence[str]) -> Written | None:
    """How these cells write times; None = they are no times."""
    if not cells:
        return None
    iso = [m for c in cells if (m := _iso(c))]
    if len(iso) >= ENOUGH * len(cells):
        return Written(
            None, len(iso) / len(cells), zoned=sum(c[-1] == "Z" or bool(m["sign"]) for c, m in ((m[0], m) for m in iso)) > len(iso) / 2
        )
    if sum(bool(_number(c)) for c in cells) > (1 - ENOUGH) * len(cells):
        return None
    found = [(share, f) for f in FORMATS if (share := _share(cells, f)) >= ENOUGH]
    if not found:
        return _epoch(cells)
    best = max(share for share, _ in found)
    first = next(f for share, f in found if share == best)
    other = _swapped(first)
    ambiguous = other is not None and any(share == best and f == other for share, f in found)
    if ambiguous and other and _disorder(cells, other) < _disorder(cells, first):
        first = other  # a log runs forwards: the reading with fewer steps back
    return Written(first, best, ambiguous=ambiguous)


def read_time(cells: pl.Series, written: Written) -> pl.Series:
    """Text cells as naive Datetime[us], in the zone they are written in; what is no time is null."""
    name = cells.name
    if written.format in ("epoch_s", "epoch_ms"):
        factor = 1e6 if written.format == "epoch_s" else 1e3
        return (cells.cast(pl.Float64, strict=False) * factor).round().cast(pl.Int64).cast(pl.Datetime("us")).alias(name)
    if written.format is None:
        plain = cells.str.replace("T", " ", literal=True)
        plain = plain.str.replace(r"(?:Z|[+-][0-9]{2}:[0-9]{2})$", "")
        seconds = plain.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False)
        return seconds.fill_null(plain.str.to_datetime("%Y-%m-%d %H:%M", time_unit="us", strict=False)).alias(name)
    if written.days_only:
        return cells.str.to_date(written.format, strict=False).cast(pl.Datetime("us")).alias(name)
    text = cells.str.replace(r",([0-9]{1,6})$", ".${1}") if written.format.endswith(",%f") else cells
    chrono = written.format.replace(",%f", ".%f").replace(".%f", "%.f")
    return text.str.to_datetime(chrono, time_unit="us", strict=False).alias(name)


def summer_times_missing(times: pl.Series, zone: str = GERMAN) -> bool | None:
    """Whether local times leave out the hour that spring skips in this zone; None = the record does not tell.

    Times inside that hour show that the clock was not set forward there, so the zone is another.
    """
    if not len(times.drop_nulls()):
        return None
    first, last = times.min(), times.max()
    assert isinstance(first, datetime) and isinstance(last, datetime)
    told = None
    for year in range(first.year, last.year + 1):
        day = max(d for d in range(25, 32) if datetime(year, 3, d).weekday() == 6)
        begin = datetime(year, 3, day, 2)
        if not first < begin < last:
            continue
        skipped = datetime(year, 3, day, 2, 30, tzinfo=ZoneInfo(zone)).astimezone(UTC).astimezone(ZoneInfo(zone)).hour != 2
        inside = times.is_between(begin, begin.replace(hour=3), closed="left").sum()
        before = times.is_between(begin.replace(hour=1), begin, closed="left").sum()
        if skipped and before > 3:
            if inside > before / 10:
                return False
            told = True
    return told


def _share(cells: Sequence[str], form: str) -> float:
    """Share of the cells that a format reads; gives up once it cannot be enough."""
    bad, most = 0, (1 - ENOUGH) * len(cells)
    for cell in cells:
        try:
            year = datetime.strptime(cell, form).year
        except ValueError:
            year = 0
        if not 1970 <= year <= 2100:
            bad += 1
            if bad > most:
                return 0.0
    return 1 - bad / len(cells)


def _swapped(form: str) -> str | None:
    if "%b" in form or form.startswith(("%Y", "%d.")):
        return None
    return form.translate(str.maketrans("dm", "md"))


def _disorder(cells: Sequence[str], form: str) -> float:
    """How far times run back, in days."""
    times = []
    for cell in cells:
        try:
            times.append(datetime.strptime(cell, form))
        except ValueError:
            continue
    return sum(max(0.0, (a - b).total_seconds()) for a, b in zip(times, times[1:], strict=False))


def _epoch(cells: Sequence[str]) -> Written | None:
    values = pl.Series(cells, dtype=pl.String).cast(pl.Float64, strict=False)
    for form, factor in (("epoch_s", 1.0), ("epoch_ms", 1e3)):
        share = int(values.is_between(6e8 * factor, 4.2e9 * factor).sum()) / len(values)
        if share >= ENOUGH and (values.n_unique() > 2 or len(values) < 3):
            return Written(form, share, zoned=True)
    return None
