"""Order exports in German and English: the same orders give the same events, whatever the headers look like."""

from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pmx.contract import DataError
from pmx.draft.orders import Orders, find_orders
from pmx.draft.sheet import Sheet, read_sheet

GERMAN = "Auftrag;Auftragsart;Meldung;Meldungsart;Equipment;Technischer Platz;Kurztext;Störungsbeginn;Störungsende;Eckstarttermin;Erfaßt am;Systemstatus"
ENGLISH = (
    "Order;Order Type;Notification;Notifictn type;Equipment;Functional Loc.;Description;"
    "Malfunct. start;Malfunct. end;Bas. start date;Created on;System status"
)
BODY = [
    "1;PM01;71;M2;10;W1-P1;Lager defekt;03.02.2026 04:05;03.02.2026 09:00;03.02.2026;04.02.2026;ABGS",
    "2;PM03;72;M1;11;W1-P2;Inspektion;;;05.02.2026;01.02.2026;ABGS",
    "3;PM01;73;M2;11;W1-P2;irrtümlich;06.02.2026 01:00;;06.02.2026;06.02.2026;ABGS LKZ",
    "4;PM05;74;M3;10;W1-P1;Notiz;;;27.02.2026;27.02.2026;ABGS",
]


def read(folder: Path, header: str, body: list[str] = BODY, encoding: str = "cp1252", name: str = "orders") -> Sheet:
    (folder / f"{name}.csv").write_bytes("\r\n".join([header, *body, ""]).encode(encoding))
    return read_sheet([folder / f"{name}.csv"])


def spelling(header: str, way: str) -> str:
    ways = {"as is": str, "upper": str.upper, "dots": lambda h: h.replace(".", ""), "blank": lambda h: h.replace(" ", "  ")}
    plain = {"ö": "oe", "Ö": "OE", "ß": "ss"}
    return "".join(plain.get(c, c) for c in header) if way == "plain" else ways[way](header)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([GERMAN, ENGLISH]), st.sampled_from(["as is", "upper", "dots", "blank", "plain"]), st.permutations(range(12)))
def test_both_languages_in_any_spelling_and_order_of_columns(tmp_path: Path, header: str, way: str, order: list[int]) -> None:
    def mixed(line: str) -> str:
        return ";".join(line.split(";")[i] for i in order)

    columns = spelling(header, way).split(";")
    sheet = read(tmp_path, mixed(";".join(columns)), [mixed(line) for line in BODY])
    found = find_orders(sheet)
    columns = [" ".join(c.split()) if c not in sheet.columns else c for c in columns]
    assert found.assets == [columns[4], columns[5]] and found.time == (columns[7], columns[9], columns[10])
    assert found.columns["created"] == columns[10] and found.kind == (columns[3], columns[1]) and found.cancelled == ("LKZ",)
    assert {v: e for v, (e, *_) in found.kinds.items()} == {
        **{"M1": "inspection", "M2": "failure", "M3": "ignore", "PM01": "failure", "PM03": "inspection", "PM05": "ignore"}
    }
    events = found.events(sheet)
    assert events.rows() == [
        (0, datetime(2026, 2, 3, 4, 5), "failure"),
        (1, datetime(2026, 2, 5), "inspection"),
        (3, datetime(2026, 2, 27), "ignore"),
    ]


def test_letters_that_were_lost_do_not_matter(tmp_path: Path) -> None:
    assert find_orders(read(tmp_path, GERMAN.replace("ö", "?").replace("ß", ""))).columns["start"] == "St?rungsbeginn"


def test_every_value_is_listed_with_its_count_and_unknown_ones_are_ignored(tmp_path: Path) -> None:
    body = [f"P1;{k};0{i}.02.2026" for i, k in enumerate(["breakdown", "Austausch Lager", "Wartung", "Q7", "breakdown", "kein Befund"], 1)]
    found = find_orders(read(tmp_path, "Maschine;Art;Datum", body))
    assert found.kinds == {
        "breakdown": ("failure", 2, True),
        "Austausch Lager": ("replacement", 1, True),
        "Q7": ("ignore", 1, False),
        "Wartung": ("inspection", 1, True),
        "kein Befund": ("no_fault_found", 1, True),
    }


def test_a_list_of_failures_says_so_in_its_name_or_header(tmp_path: Path) -> None:
    body = [f"2026-02-0{i} 10:00;{i};comp{i % 2}" for i in range(1, 9)]
    found = find_orders(read(tmp_path, "datetime;machineID;failure", body, name="list"))
    assert (
        found.kind == ("failure",) and {e for e, *_ in found.kinds.values()} == {"failure"} and not any(s for *_, s in found.kinds.values())
    )


def test_dates_and_hours_in_two_columns(tmp_path: Path) -> None:
    found = find_orders(
        read(
            tmp_path, "Equipment;Meldungsart;Störungsbeginn;Störungsbeginn (Uhrzeit);Erfaßt am", ["1;M2;03.02.2026;04:05:00;04.02.2026"] * 3
        )
    )
    assert found.time == ("Störungsbeginn",) and found.hour == "Störungsbeginn (Uhrzeit)"


def test_no_asset_and_no_date_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column names the asset of an order .it has Kurztext, Datum"):
        find_orders(read(tmp_path, "Kurztext;Datum", ["x;01.02.2026"]))
    with pytest.raises(DataError, match="no column holds the date"):
        find_orders(read(tmp_path, "Equipment;Art", ["x;M2"]))
    assert isinstance(find_orders(read(tmp_path, GERMAN)), Orders)
