"""Lines of text cut into cells: every line keeps its number, and no cell is made up or lost unseen."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pmx.contract import CUT, DataError
from pmx.source.episodes import title
from pmx.source.lines import cells_of, natural, table_of

CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\n\r;", exclude_categories=["Zs", "Cc"]), min_size=1, max_size=5)
ROWS = st.lists(st.lists(CELLS, max_size=5), max_size=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(rows=ROWS, end=st.sampled_from(["\n", "\r\n"]), mark=st.sampled_from(["", "\ufeff"]))
def test_cells_come_back_with_the_numbers_of_their_lines(tmp_path: Path, rows: list[list[str]], end: str, mark: str):
    file = tmp_path / "a.csv"
    file.write_text(mark + "".join(";".join(row) + end for row in rows), encoding="utf-8", newline="")
    # A byte order mark is no character of the first cell, unless the file has two.
    expected = [(n, [c.strip() for c in row]) for n, row in enumerate(rows, 1) if row]
    assert cells_of(file, ";") == expected or any(c.startswith("\ufeff") for row in rows for c in row)


@given(rows=st.lists(st.lists(CELLS, min_size=1, max_size=5), max_size=8))
def test_a_table_holds_every_cell_and_marks_every_absent_one(rows: list[list[str]]):
    table = table_of(Path("a.csv"), "P1", list(enumerate(rows, 1)), ["time", "load", "heat"])
    for got, row in zip(table.drop("file", "row", "asset").iter_rows(), rows, strict=True):
        assert list(got[: len(row)]) == row, "cells stay in their places"
        assert list(got[len(row) : 3]) == [CUT] * (3 - len(row)) and not any(got[max(3, len(row)) :])


def test_a_vertical_tab_ends_no_line(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"1 2\x0b3\n\n4\xff 5\n")
    assert cells_of(tmp_path / "a.txt", None) == [(1, ["1", "2", "3"]), (3, ["4\N{REPLACEMENT CHARACTER}", "5"])]


def test_a_file_that_cannot_be_opened_is_bad_data(tmp_path: Path):
    with pytest.raises(DataError, match="missing.csv: No such file"):
        cells_of(tmp_path / "missing.csv", ";")


def test_names_sort_as_people_count():
    assert sorted(["b/10", "b/9", "a/2", "b/x"], key=natural) == ["a/2", "b/9", "b/10", "b/x"]


def test_a_title_is_a_file_name_however_many_parts_it_has():
    assert title("skab", ["valve1/0", "other/3"]) == "skab valve1-0+other-3"
    long = title("skab", [f"other/{i}" for i in range(60)])
    assert long == "skab 60 from other-0 to other-59" and "/" not in long
