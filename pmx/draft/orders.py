"""What a work-order export says: its columns by their German or English headers, its kinds, and which asset each order is about."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from pmx.contract import DataError, shown
from pmx.draft.clock import Written, guess_time, read_time
from pmx.draft.sheet import Sheet
from pmx.draft.words import folded, words_of

# Part of an order -> folded headers, most telling first. German and English headers of plant maintenance lists.
HEADERS = {
    "kind_note": ("meldungsart", "notificationtype", "notifictntype", "notiftype", "notificattype", "notificatntype", "meldart"),
    "kind_order": (
        "auftragsart",
        "ordertype",
        "workordertype",
        "worktype",
        "event",
        "kind",
        "ereignis",
        "type",
        "typ",
        "art",
        "category",
        "kategorie",
    ),
    "equipment": (
        *("equipment", "equipmentnumber", "equipmentnummer", "equipmentnr", "equi", "asset", "assetid", "assetnum", "assetnumber"),
        *("machine", "machineid", "maschine", "anlage", "geraet", "objekt", "object", "pump", "pumpe", "device"),
    ),
    "location": (
        "technischerplatz",
        "technplatz",
        "techplatz",
        "functionallocation",
        "functionalloc",
        "funclocation",
        "funcloc",
        "location",
        "standort",
    ),
    "text": (
        "kurztext",
        "description",
        "beschreibung",
        "bezeichnung",
        "shorttext",
        "auftragskurztext",
        "kurzbeschreibung",
        "text",
        "comment",
        "bemerkung",
    ),
    "start": (
        *(
            "stoerungsbeginn",
            "stoerbeginn",
            "beginnderstoerung",
            "malfunctstart",
            "malfunctionstart",
            "startofmalfunction",
            "malfunctionstartdate",
        ),
        *("malfstart", "failurestart", "failuredate", "failedat", "breakdownstart", "breakdown", "eventtime", "eventdate"),
    ),
    "start_hour": (
        *(
            "stoerungsbeginnzeit",
            "stoerungsbeginnuhrzeit",
            "stoerungsbeginnuhr",
            "uhrzeitstoerungsbeginn",
            "beginnstoerunguhrzeit",
            "stoerbeginnuhrzeit",
        ),
        *("stoerbeginnuhr", "malfunctionstarttime", "malfunctstarttime", "startofmalfunctiontime", "starttime", "uhrzeit", "timeofday"),
    ),
    "end": ("stoerungsende", "endederstoerung", "malfunctend", "malfunctionend", "endofmalfunction", "failureend"),
    "planned": (
        "eckstarttermin",
        "eckstart",
        "basicstartdate",
        "basicstart",
        "bscstart",
        "basstartdate",
        "starttermin",
        "plannedstart",
        "scheduledstart",
    ),
    "created": (
        *(
            "angelegtam",
            "erfasstam",
            "erfassungsdatum",
            "erstelltam",
            "anlagedatum",
            "createdon",
            "creationdate",
            "createdat",
            "created",
            "enteredon",
        ),
        *("reportedat", "reporteddate", "reportdate", "knownat", "meldungsdatum", "meldedatum", "notificationdate", "notifdate"),
    ),
    "status": ("systemstatus", "status", "anwenderstatus", "userstatus"),
    "date": ("time", "zeit", "datum", "date", "timestamp", "zeitstempel", "datetime", "tag"),
}
FIXED = {
    **{"m2": "failure", "m1": "inspection", "m3": "ignore", "pm03": "inspection", "pm05": "ignore"},
    **{k: k for k in ("failure", "replacement", "inspection", "no_fault_found", "commissioning", "ignore")},
}
# Checked in this order: `preventive replacement` is a replacement, `failure report` a failure.
MEANINGS = {
    "no_fault_found": ("no fault", "nofault", "kein befund", "ohne befund", "nff", "false alarm", "fehlalarm"),
    "commissioning": ("commission", "inbetriebnahme", "installation"),
    "replacement": ("austausch", "replace", "ersatz", "tausch", "exchange", "overhaul", "ueberholung"),
    "failure": (
        "failure",
        "breakdown",
        "malfunction",
        "stoerung",
        "ausfall",
        "defekt",
        "defect",
        "schaden",
        "broken",
        "corrective",
        "emergency",
        "fault",
    ),
    "inspection": (
        "inspection",
        "inspektion",
        "preventive",
        "vorbeugend",
        "wartung",
        "maintenance",
        "service",
        "check",
        "pruefung",
        "praeventiv",
        "plan",
    ),
}
CANCELLED = ("LKZ", "LÖVM", "LOVM", "STOR", "STRN", "DLFL", "CNCL", "CANCELLED", "STORNIERT")


@dataclass(frozen=True)
class Orders:
    """What the columns of an order export are.

    Attributes:
        columns: part (as in `HEADERS`) -> column.
        time: columns of the event's time, the first that is filled counts; `hour`: a column of the time of day.
        written: how times are written.
        kind: columns whose values say what happened.
        kinds: value -> (event, number of orders, whether it is sure).
        cancelled: words in the status column that void an order.

    Example:
        >>> Orders({"equipment": "Equipment"}, ("Datum",), None, Written("%d.%m.%Y", 1.0), (), {}, ()).time
        ('Datum',)
    """

    columns: dict[str, str]
    time: tuple[str, ...]
    hour: str | None
    written: Written
    kind: tuple[str, ...]
    kinds: dict[str, tuple[str, int, bool]]
    cancelled: tuple[str, ...]

    @property
    def assets(self) -> list[str]:
        """Columns that may name the asset, most telling first."""
        return [self.columns[p] for p in ("equipment", "location") if p in self.columns]

    def events(self, sheet: Sheet) -> pl.DataFrame:
        """Each order's `time` (naive Datetime[us]), `event` and `order` (row index), void ones left out."""
        times = [read_time(_day(sheet.frame[c], self.written), self.written) for c in self.time]
        # By the same rule as the card: the first column of kinds whose value is known counts.
        kinds = [
            sheet.frame[c].replace_strict({v: e for v, (e, *_) in self.kinds.items()}, default=None, return_dtype=pl.String)
            for c in self.kind
        ]
        frame = pl.DataFrame([t.alias(f"time{i}") for i, t in enumerate(times)] + [k.alias(f"kind{i}") for i, k in enumerate(kinds)])
        frame = frame.select(
            time=pl.coalesce([f"time{i}" for i in range(len(times))]),
            event=pl.coalesce([f"kind{i}" for i in range(len(kinds))]) if kinds else pl.lit("failure"),
        ).with_row_index("order")
        if self.cancelled:
            status = sheet.frame[self.columns["status"]].fill_null("")
            void = pl.element().is_in(list(self.cancelled)).any()
            frame = frame.filter(~status.str.split(" ").list.eval(void).list.first())
        return frame


def find_orders(sheet: Sheet) -> Orders:
    """What the columns of an order export are.

    Raises:
        DataError: no column names an asset, or none holds a date.
    """
    columns = _columns(sheet)
    if "equipment" not in columns and "location" not in columns:
        told = shown(", ".join(sheet.columns), 160)
        raise DataError(f"Cannot read {sheet.files[0]}: no column names the asset of an order (it has {told}) -> call it Equipment")
    dates = [columns[p] for p in ("start", "date", "planned", "created") if p in columns and _written(sheet, columns[p])]
    if not dates:
        told = shown(", ".join(sheet.columns), 160)
        raise DataError(
            f"Cannot read {sheet.files[0]}: no column holds the date of an order (it has {told}) -> call it Malfunct. start or Date"
        )
    first = [c for c in dates if c in (columns.get("start"), columns.get("date"))] or dates[:1]
    empty = sheet.frame[first[0]].null_count() > 0
    time = tuple(dict.fromkeys(first[:1] + (dates if empty else [])))
    seen = [w for c in (*time, columns.get("created", time[0])) if (w := _written(sheet, c))]
    written = next((w for w in seen if not w.days_only), seen[0])
    hour = columns.get("start_hour") if written.days_only else None
    kind = tuple(dict.fromkeys(columns[p] for p in ("kind_note", "kind_order") if p in columns))
    kind = kind or _other_kind(sheet, columns)
    return Orders(columns, time, hour, written, kind, _kinds(sheet, kind, columns), _cancelled(sheet, columns))


def _other_kind(sheet: Sheet, columns: dict[str, str]) -> tuple[str, ...]:
    """A column of few different texts that may say what happened."""
    free = [c for c in sheet.columns if c not in columns.values() and sheet.share_of_numbers(c) < 0.5 and not _written(sheet, c)]
    return tuple(c for c in [*free, columns.get("text")] if c and 0 < sheet.frame[c].drop_nulls().n_unique() <= 30)[:1]


def _columns(sheet: Sheet) -> dict[str, str]:
    found: dict[str, str] = {}
    plain = {c: folded(c) for c in sheet.columns}
    for part, headers in HEADERS.items():
        exact = next((c for h in headers for c in plain if plain[c] == h and c not in found.values()), None)
        if exact:
            found[part] = exact
    for part, headers in HEADERS.items():  # letters lost on the way: `Strungsbeginn`
        near = [c for c in plain if c not in found.values() and len(plain[c]) > 6 and difflib.get_close_matches(plain[c], headers, 1, 0.9)]
        if part not in found and near:
            found[part] = near[0]
    if not {"start", "date", "planned", "created"} & set(found):
        date = next((c for c in plain if c not in found.values() and _written(sheet, c)), None)
        found |= {"date": date} if date else {}
    return found


def _written(sheet: Sheet, column: str) -> Written | None:
    cells = sheet.cells(column, 300)
    guess = guess_time(cells)
    # Half of the cells may carry a time of day and half a day alone; `31.02.2025` may be among them.
    return guess or guess_time([c for c in cells if len(c) == max(map(len, cells))])


def _day(cells: pl.Series, written: Written) -> pl.Series:
    """Days alone get the time of day that the format wants."""
    form = written.format or ""
    hour = re.search(r"[ T]%[HI].*$", form)
    if not hour or written.format in ("epoch_s", "epoch_ms"):
        return cells if written.format is not None else cells.str.replace(r"^([0-9]{4}-[0-9]{2}-[0-9]{2})$", "$1 00:00")
    midnight = (
        hour[0].replace("%H", "00").replace("%I", "12").replace("%M", "00").replace("%S", "00").replace("%f", "0").replace("%p", "AM")
    )
    return pl.select(pl.when(cells.str.contains(":")).then(cells).otherwise(cells + midnight)).to_series()


def _kinds(sheet: Sheet, kind: Sequence[str], columns: dict[str, str]) -> dict[str, tuple[str, int, bool]]:
    """Every value of the columns of kinds -> (event, number of orders, whether it is sure)."""
    kinds: dict[str, tuple[str, int, bool]] = {}
    for column in kind:
        for value, count in (
            sheet.frame[column].drop_nulls().value_counts(sort=True).sort(["count", column], descending=[True, False]).iter_rows()
        ):
            if value not in kinds:
                event, sure = _meaning(value)
                if not event and column not in columns.values():
                    # A list of failures says so in its header, or in its name, and its values are parts or modes.
                    event, sure = _meaning(f"{column} {sheet.files[0].stem}")[0], False
                if not event:
                    event, sure = _by_company(sheet, column, value, columns), False
                kinds[value] = (event or "ignore", count, sure)
    return kinds


def _meaning(value: str) -> tuple[str, bool]:
    """The event that a value means, and whether there is little doubt; empty = no idea."""
    plain = " ".join(words_of(value))
    first = plain.split(" ")[0] if plain else ""
    fixed = FIXED.get(value.strip().lower()) or FIXED.get(first)
    if fixed and (first in FIXED or value.strip().lower() in FIXED):
        return fixed, True
    return next(((event, True) for event, words in MEANINGS.items() if any(w in plain for w in words)), ("", False))


def _by_company(sheet: Sheet, column: str, value: str, columns: dict[str, str]) -> str:
    """A plant's own type: a failure where most of its orders have a malfunction notification or a malfunction's start."""
    here = sheet.frame.filter(pl.col(column) == value)
    note, start = columns.get("kind_note"), columns.get("start")
    if note and note != column and here[note].null_count() < len(here):
        broken = [v for v in here[note].unique().drop_nulls() if _meaning(v)[0] == "failure"]
        broke = here[note].drop_nulls().is_in(broken).to_numpy().mean()
    elif start and sheet.frame[start].null_count() > 0:
        broke = here[start].is_not_null().to_numpy().mean()
    else:
        return ""
    return ("failure" if broke > 0.5 else "inspection") if re.fullmatch(r"(?i)[a-z]{1,4}[0-9]{1,3}", value) else ""


def _cancelled(sheet: Sheet, columns: dict[str, str]) -> tuple[str, ...]:
    if "status" not in columns:
        return ()
    return tuple(sorted({w for v in sheet.frame[columns["status"]].drop_nulls().unique() for w in v.split() if w.upper() in CANCELLED}))
