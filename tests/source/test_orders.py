"""A work-order log is read whole or refused by row: a lost failure would turn a failed asset into a healthy one."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pmx.contract import Channel, Contract, DataError
from pmx.source.card import Orders
from pmx.source.dialect import Dialect, open_sheet
from pmx.source.orders import read_export, read_orders

HEADER = "asset,time,event,known_at"
GOOD = "P1,2026-01-02T03:04:05Z,failure,2026-01-02T09:00:00+01:00"


def log(folder: Path, *lines: str) -> Path:
    file = folder / "orders.csv"
    file.write_text("\n".join((HEADER, *lines)) + "\n", encoding="utf-8")
    return file


def test_times_come_out_in_utc(tmp_path: Path):
    read = read_orders(log(tmp_path, GOOD, "", " P2 ,2026-01-03 00:00,commissioning,2026-01-03 00:00"))
    assert read.columns == ["asset", "time", "event", "known_at"]
    assert read.row(0) == ("P1", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "failure", datetime(2026, 1, 2, 8, tzinfo=UTC))
    assert read.row(1) == ("P2", datetime(2026, 1, 3, tzinfo=UTC), "commissioning", datetime(2026, 1, 3, tzinfo=UTC))
    assert read_orders(log(tmp_path)).height == 0


@pytest.mark.parametrize(
    "line, told",
    [
        ("P1,31.02.2025,failure,2026-01-02T09:00:00Z", "row 3, asset P1: time '31.02.2025' is not a time"),
        ("P1,2026-02-30T00:00:00Z,failure,2026-03-02T09:00:00Z", "time '2026-02-30T00:00:00Z' is not a time"),
        ("P1,2026-01-02T03:04:05Z,failure,", "known_at '' is not a time"),
        ("P1,2026-01-02T03:04:05Z,broken down,2026-01-02T09:00:00Z", "'broken down' is no event -> one of failure"),
        (",2026-01-02T03:04:05Z,failure,2026-01-02T09:00:00Z", "names no asset"),
        ("P1,2026-01-02T03:04:05Z,failure,2026-01-01T09:00:00Z", "before it happened at 2026-01-02"),
        ("P1,2026-01-02T03:04:05Z,failure", "line 3: 3 cells where the header has 4"),
    ],
)
def test_each_kind_of_bad_order_is_named(tmp_path: Path, line: str, told: str):
    with pytest.raises(DataError) as refused:
        read_orders(log(tmp_path, GOOD, line))
    assert told in str(refused.value) and "orders.csv" in str(refused.value)


def test_many_bad_orders_fit_on_a_screen(tmp_path: Path):
    with pytest.raises(DataError) as refused:
        read_orders(log(tmp_path, *["P1,never,failure,never"] * 50))
    assert "50 problems" in str(refused.value) and "42 more" in str(refused.value) and len(str(refused.value).splitlines()) < 15


def test_a_log_without_a_column_is_refused(tmp_path: Path):
    (tmp_path / "orders.csv").write_text("asset,time,event,known\n")
    with pytest.raises(DataError, match="known_at.*nearest is 'known'"):
        read_orders(tmp_path / "orders.csv")


# ---- exports of a maintenance system

GERMAN = "Auftrag;Auftragsart;Meldungsart;Equipment;Technischer Platz;Störungsbeginn;Uhrzeit;Erfaßt am;Systemstatus"
ENGLISH = "Order,Order Type,Notification type,Equipment,Functional Loc.,Malfunct. start,Start time,Created on,System status"
KINDS = {"M2": "failure", "PM01": "inspection", "PM03": "replacement", "PM05": "ignore"}


def export(folder: Path, *lines: str, header: str = GERMAN, zone: str = "Europe/Berlin", form: str | None = "%d.%m.%Y", **changes):
    """Events and notes of an export in one of the two languages; `changes` are of what the columns mean."""
    german = header == GERMAN
    (folder / "orders.csv").write_bytes("\n".join((header, *lines)).encode("cp1252"))
    dialect = Dialect(";" if german else ",", encoding="cp1252", time_format=form)
    columns = header.split(";" if german else ",")
    meaning = Orders(
        ("orders.csv",), dialect, (columns[3], columns[4]), ((columns[5], columns[6]),), ((columns[7],),), (columns[2], columns[1]), KINDS
    )
    contract = Contract((Channel("load", "kW"),), "h", "calendar", time_zone=zone)
    sheet = open_sheet(folder / "orders.csv", dialect)
    return read_export([sheet], replace(meaning, **changes), {"4711": "P-101", "FL-2": "P-102"}, {"P-101", "P-102", "0815"}, contract)


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


@pytest.mark.parametrize(
    "header, line",
    [
        (GERMAN, "1;PM02;M2;000000000000004711;FL-1;05.03.2026;14:30:00;05.03.2026;TABG"),
        (ENGLISH, "1,PM02,M2,4711,FL-1,05.03.2026,14:30,05.03.2026,TECO"),
    ],
)
def test_an_export_in_either_language(tmp_path: Path, header: str, line: str):
    events, notes = export(tmp_path, line, header=header)
    assert events.rows() == [("P-101", utc(2026, 3, 5, 13, 30), "failure", utc(2026, 3, 5, 22, 59, 59, 999999))] and notes == []
    assert events.schema == read_orders(log(tmp_path)).schema


@pytest.mark.parametrize(
    "equipment, place, asset",
    [
        ("4711", "", "P-101"),
        ("004711", "", "P-101"),
        ("815", "", "0815"),
        ("00000815", "", "0815"),
        ("P-102", "", "P-102"),
        ("9", "FL-2", "P-102"),
    ],
)
def test_equipment_leads_to_assets(tmp_path: Path, equipment: str, place: str, asset: str):
    events, _ = export(tmp_path, f"1;PM01;;{equipment};{place};05.03.2026;;05.03.2026;")
    assert events["asset"].to_list() == [asset]


@pytest.mark.parametrize(
    "day, clock, known, time, known_at",
    [
        ("05.03.2026", "", "05.03.2026", utc(2026, 3, 4, 23), utc(2026, 3, 5, 22, 59, 59, 999999)),
        ("05.03.2026", "24:00:00", "06.03.2026", utc(2026, 3, 5, 23), utc(2026, 3, 6, 22, 59, 59, 999999)),
        ("05.03.2026 14:30", "", "05.03.2026 10:00:00", utc(2026, 3, 5, 13, 30), utc(2026, 3, 5, 13, 30)),
        ("2026-03-05T14:30:00Z", "", "2026-03-06", utc(2026, 3, 5, 14, 30), utc(2026, 3, 6, 22, 59, 59, 999999)),
        ("05.03.2026", "14:30", "", utc(2026, 3, 5, 13, 30), utc(2026, 3, 5, 13, 30)),
        ("29.03.2026", "04:00:00", "29.03.2026", utc(2026, 3, 29, 2), utc(2026, 3, 29, 21, 59, 59, 999999)),
    ],
)
def test_days_and_times_of_day(tmp_path: Path, day: str, clock: str, known: str, time: datetime, known_at: datetime):
    """A day alone is its beginning where something happened, and its end where it was written down."""
    events, _ = export(tmp_path, f"1;PM02;M2;4711;;{day};{clock};{known};")
    assert events.row(0)[1::2] == (time, known_at)


def test_planned_work_is_known_when_it_happens(tmp_path: Path):
    events, _ = export(tmp_path, "1;PM03;;4711;;05.03.2026;;01.02.2026;")
    assert events.row(0) == ("P-101", utc(2026, 3, 4, 23), "replacement", utc(2026, 3, 4, 23))


@pytest.mark.parametrize(
    "line, told",
    [
        ("1;PM02;M2;4711;;31.02.2026;;05.03.2026;", "row 3, asset P-101: time '31.02.2026 ' is none"),
        ("1;PM02;M2;4711;;;;05.03.2026;", "row 3, asset P-101: says not when it happened"),
        ("1;PM02;M2;4711;;29.03.2026;02:30:00;29.03.2026;", "does not exist in its time zone"),
        ("1;PM02;M2;4711;;05.03.2026;;soon;", "row 3, asset P-101: known_at 'soon' is none"),
        ("1;PM02;M2;4711;;05.03.2026;14:30;04.03.2026;", "known at 04.03.2026, before it failed at 05.03.2026 14:30"),
        ("1;PM02;M2;4711;;05.03.2026", "row 3, asset P-101: (a line of 6 cells, the header has 9)"),
        ("1;PM99;;4711;;05.03.2026;;05.03.2026;", "Meldungsart / Auftragsart ' / PM99': 1 orders -> add it to events.kinds, or ignore"),
    ],
)
def test_each_kind_of_bad_order_of_an_export_is_named(tmp_path: Path, line: str, told: str):
    with pytest.raises(DataError) as refused:
        export(tmp_path, "1;PM01;;4711;;05.03.2026;;05.03.2026;", line)
    assert told in str(refused.value)


def test_orders_that_match_no_asset_are_refused_or_listed(tmp_path: Path):
    lines = [
        "1;PM02;M2;P-103;;05.03.2026;;05.03.2026;",
        "2;PM02;M2;P-103;;06.03.2026;;06.03.2026;",
        "3;PM01;;4711;;05.03.2026;;05.03.2026;",
    ]
    with pytest.raises(DataError) as refused:
        export(tmp_path, *lines)
    for told in ("2 of 3 match no asset", "P-103: 2 orders, nearest is P-102 or P-101", "events.assets", "events.unmatched: list"):
        assert told in str(refused.value)
    events, notes = export(tmp_path, *lines, unmatched="list")
    assert events["asset"].to_list() == ["P-101"] and "2 orders match no asset with readings (1 do): P-103 (2)" in notes[0]
    events, notes = export(tmp_path, *lines, assets={"P-103": "P-102"})
    assert events["asset"].to_list() == ["P-101", "P-102", "P-102"] and notes == []
    with pytest.raises(DataError, match="the card says it is P-999, which has no readings"):
        export(tmp_path, *lines, assets={"P-103": "P-999"})


def test_void_ignored_and_repeated_orders_are_counted(tmp_path: Path):
    lines = [
        "1;PM02;M2;4711;;05.03.2026;;07.03.2026;TABG",
        "1;PM02;M2;4711;;05.03.2026;;06.03.2026;TABG",
        "2;PM02;M2;4711;;08.03.2026;;08.03.2026;TABG LKZ",
        "3;PM05;;9999;;never;;never;TABG",
    ]
    events, notes = export(tmp_path, *lines, skip=("Systemstatus", frozenset({"LKZ"})))
    assert events.rows() == [("P-101", utc(2026, 3, 4, 23), "failure", utc(2026, 3, 6, 22, 59, 59, 999999))]
    assert [n.split(" orders ")[1][:12] for n in notes] == ["are void (Sy", "are of kinds", "repeat anoth"]


def test_the_first_filled_time_counts(tmp_path: Path):
    time = (("Störungsbeginn", "Uhrzeit"), ("Erfaßt am",))
    events, _ = export(tmp_path, "1;PM01;;4711;;;;05.03.2026;", time=time, known_at=())
    assert events.row(0)[1::2] == (utc(2026, 3, 4, 23),) * 2


def test_a_missing_column_of_an_export_is_named(tmp_path: Path):
    with pytest.raises(DataError, match="no column 'Equipmnt', nearest is 'Equipment' -> correct events.asset"):
        export(tmp_path, asset=("Equipmnt",))


def test_a_life_clock_counts_in_the_life_unit(tmp_path: Path):
    (tmp_path / "orders.csv").write_text("asset;at;kind\nP1;1200,5;F\n")
    dialect = Dialect(";", ",")
    orders = Orders(("orders.csv",), dialect, ("asset",), (("at",),), (), ("kind",), {"F": "failure"})
    contract = Contract((Channel("load", "kW"),), "cycle", "life")
    events, _ = read_export([open_sheet(tmp_path / "orders.csv", dialect)], orders, {}, {"P1"}, contract)
    assert events.rows() == [("P1", 1200.5, "failure", 1200.5)]
