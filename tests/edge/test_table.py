"""Readings as CSV: what cannot be told apart is refused with its line, everything else is left to the contract."""

import csv

import pytest

from pmx.contract import Channel, Contract, DataError
from pmx.edge.table import read_csv, read_repairs, replacing, write_quarantine
from pmx.judge import Checker

CONTRACT = Contract((Channel("load", unit="kW", low=0.0), Channel("speed", unit="1/s")), "h", "life")


def written(tmp_path, data: bytes):
    path = tmp_path / "readings.csv"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "data",
    [
        b'asset,time,load,speed\nP1,1,2,3\n\n"P\n2",2,,\n',
        b'\xef\xbb\xbfasset;time;load;speed\r\nP1;1;2;3\r\n  \r\n"P\n2";2;;\r\n',
        b'speed,load,time,asset\n3,2,1,P1\n\n,,2,"P\n2"',
    ],
)
def test_columns_are_found_by_name_and_rows_keep_their_line_numbers(tmp_path, data):
    rows = read_csv(written(tmp_path, data), CONTRACT)
    assert rows.asset.tolist() == ["P1", "P\n2"] and rows.time.tolist() == ["1", "2"] and rows.row.tolist() == [2, 4]
    assert rows.values["load"].tolist() == ["2", ""] and rows.values["speed"].tolist() == ["3", ""]
    assert len(Checker(CONTRACT).check(rows).asset) == 2


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "line 1: no header"),
        (b"asset,time,load,sped\nP1,1,2,3\n", "'speed' is not in the header, nearest is 'sped'"),
        (b"time,load,speed\n1,2,3\n", "'asset' is not in the header"),
        (b"asset,time,load,speed,load\nP1,1,2,3,4\n", "'load' appears twice"),
        (b"asset,time,load,speed\nP1,1,2,3\n\nP1,2,2\n", "line 4: 3 cells where the header has 4"),
        (b"asset,time,load,speed\nP1,1,2,3,4\n", "line 2: 5 cells"),
        (b"asset,time,load,speed\nP1,1,2,3\nP\xe4,2,2,3\n", "line 3: byte 0xe4 is not UTF-8"),
        (b'asset,time,load,speed\nP1,1,2,3\nP1,2,"2,3\n', "line 3: unexpected end of data"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_the_line(tmp_path, data, words):
    with pytest.raises(DataError) as caught:
        read_csv(written(tmp_path, data), CONTRACT)
    assert words in str(caught.value) and "readings.csv" in str(caught.value) and "->" in str(caught.value)


def test_a_missing_file_and_a_flood_of_problems_stay_on_one_screen(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        read_csv(tmp_path / "nowhere.csv", CONTRACT)
    with pytest.raises(DataError, match=r"... and 92 more") as caught:
        read_csv(written(tmp_path, b"asset,time,load,speed\n" + b"P1,1\n" * 100), CONTRACT)
    assert str(caught.value).count("\n") == 9


def test_a_row_of_empty_cells_is_counted_not_skipped(tmp_path):
    checked = Checker(CONTRACT).check(read_csv(written(tmp_path, b"asset,time,load,speed\n,,,\nP1,1,2,3\n"), CONTRACT))
    assert [(b.row, b.reason) for b in checked.breaches] == [(2, "missing_asset")] and len(checked.asset) == 1


def test_a_header_alone_has_no_rows(tmp_path):
    rows = read_csv(written(tmp_path, b"asset,time,load,speed\n"), CONTRACT)
    assert len(rows) == 0 and Checker(CONTRACT).check(rows).values.shape == (0, 2)


def test_the_quarantine_holds_each_refused_row(tmp_path):
    source = written(tmp_path, b'asset,time,load,speed\nP1,1,-2,3\nP1,1,2,3\nP1,2,,"x;y"""\n')
    checked = Checker(CONTRACT).check(read_csv(source, CONTRACT))
    write_quarantine(tmp_path / "quarantine.csv", checked.breaches)
    with open(tmp_path / "quarantine.csv", newline="") as file:
        head, *lines = csv.reader(file)
    assert head == ["file", "row", "asset", "channel", "reason", "value", "lost"]
    assert lines == [
        [str(source), "2", "P1", "load", "out_of_range", "-2", "value"],
        [str(source), "3", "P1", "", "duplicate", "1", "row"],
        [str(source), "4", "P1", "speed", "wrong_type", 'x;y"', "row"],
    ]


def test_a_write_that_fails_leaves_the_older_file(tmp_path):
    path = tmp_path / "quarantine.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_repairs_are_read_as_the_ticks_at_which_lives_begin(tmp_path):
    hours = Contract((), "h", "calendar")
    text = "time;asset\n2026-01-01T10:00:00Z; P1 \n2026-01-01T10:30:00Z;P1\n2026-01-01T00:00:00Z;P2\n"
    found = read_repairs(written(tmp_path, text.encode()), hours)
    zero = 490_896  # hours from 1970 to 2026-01-01
    assert {a: (t - zero).tolist() for a, t in found.items()} == {"P1": [11, 12], "P2": [1]}


@pytest.mark.parametrize(
    ("text", "words"),
    [("asset,when\nP1,1\n", "column 'time' is not in the header"), ("asset,time\nP1,1.0\nP2,soon\n", "row 3, 'soon' is not a time")],
)
def test_repairs_that_cannot_be_read_are_refused_by_row(tmp_path, text, words):
    with pytest.raises(DataError, match=words):
        read_repairs(written(tmp_path, text.encode()), Contract((), "h", "life"))
