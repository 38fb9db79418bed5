"""Files in any dialect give the same cells; what is no table is refused with what was tried."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pmx.contract import DataError
from pmx.draft import sheet as sheet_module
from pmx.draft.sheet import find_files, read_sheet

ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252")


def write(file: Path, text: str, encoding: str = "utf-8") -> Path:
    file.write_bytes(text.encode(encoding))
    return file


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(st.integers(-99_999, 99_999), min_size=3, max_size=30),
    mark=st.sampled_from(";\t|,"),
    decimal=st.sampled_from(".,"),
    encoding=st.sampled_from(ENCODINGS),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_every_dialect_gives_the_same_numbers(tmp_path: Path, values: list[int], mark: str, decimal: str, encoding: str, end: str) -> None:
    cells = [f"{v / 100:.2f}".replace(".", decimal) for v in values]
    cells = [f'"{c}"' for c in cells] if mark == decimal else cells
    lines = [mark.join(("Zeit", "Größe", "x")), *(mark.join((f"{i:02}.01.2026 00:00", c, "n")) for i, c in enumerate(cells, 1))]
    read = read_sheet([write(tmp_path / "a.csv", end.join([*lines, ""]), encoding)])
    assert read.columns == ["Zeit", "Größe", "x"] and (read.separator, read.decimal) == (mark, decimal) and read.whole
    assert read.numbers("Größe").to_list() == [v / 100 for v in values] and read.share_of_numbers("Größe") == 1


def test_thousands_are_grouped_in_both_ways(tmp_path: Path) -> None:
    german = read_sheet([write(tmp_path / "a.csv", "t;v\na;1.234,5\nb;12\nc;1.000\n")])
    assert german.decimal == "," and german.numbers("v").to_list() == [1234.5, 12.0, 1000.0]
    english = read_sheet([write(tmp_path / "b.csv", "t;v\na;1,234.5\nb;12\nc;1,000\n")])
    assert english.decimal == "." and english.numbers("v").to_list() == [1234.5, 12.0, 1000.0]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "cp1252"])
def test_blocks_of_a_large_file_are_whole_lines_from_head_to_tail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    lines = ["tag;wert;wo", *(f"Öl_{i % 7};{i};hier" for i in range(60_000))]
    file = write(tmp_path / "a.csv", "\n".join(lines), encoding)
    monkeypatch.setattr(sheet_module, "BUDGET", 200_000)
    read = read_sheet([file])
    seen = read.numbers("wert")
    assert not read.whole and read.frame.height < 30_000 and not seen.null_count() and seen.is_sorted()
    assert (
        seen[0] == 0
        and seen[-1] == 59_999
        and set(read.frame["wo"]) == {"hier"}
        and set(read.frame["tag"]) == {f"Öl_{i}" for i in range(7)}
    )


def test_lines_above_the_header_and_nameless_columns_are_left_out(tmp_path: Path) -> None:
    read = read_sheet([write(tmp_path / "a.csv", "Export vom 1.2.2026\n\n;t;v\n" + "".join(f"{i};x;{i}\n" for i in range(9)))])
    assert read.columns == ["t", "v"] and read.header == 3 and read.frame.height == 9 and "line 3" in read.notes[0]


def test_a_stray_quotation_mark_swallows_nothing(tmp_path: Path) -> None:
    read = read_sheet([write(tmp_path / "a.csv", 't;v\n"a;1\n' + "b;2\n" * 20)])
    assert read.frame.height == 21


def test_parquet_times_become_text_that_can_be_read(tmp_path: Path) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    pl.DataFrame({"t": [at], "local": [at.replace(tzinfo=None)], "v": [1.5], "on": [True]}).write_parquet(tmp_path / "a.parquet")
    read = read_sheet([tmp_path / "a.parquet"])
    assert read.frame.row(0)[:4] == ("2026-01-02T03:04:05.000000Z", "2026-01-02T03:04:05.000000", 1.5, 1)
    assert read.as_text().frame.row(0)[2:4] == ("1.5", "1") and read.share_of_numbers("v") == 1 and read.whole


def test_slices_of_large_parquet_files_reach_from_head_to_tail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        values = pl.DataFrame({"n": range(20_000), "v": [float("nan") if i % 2 else float(i) for i in range(20_000)]})
        values.write_parquet(tmp_path / f"{name}.parquet", row_group_size=3000)
    monkeypatch.setattr(sheet_module, "CELLS", 8000)
    read = read_sheet([tmp_path / "a.parquet", tmp_path / "b.parquet"])
    assert not read.whole and read.columns == ["n", "v"] and read.frame.height == 2 * 2000
    for _, one in read.frame.group_by(sheet_module.FILE, maintain_order=True):
        assert one["n"][0] == 0 and one["n"][-1] == 19_999 and one["n"].is_sorted()
    for _, one in read.frame.group_by(sheet_module.SLICE, maintain_order=True):
        assert one[sheet_module.FILE].n_unique() == 1 and set(one["n"].diff().drop_nulls()) == {1}
    assert read.frame[sheet_module.SLICE].n_unique() == 16 and read.frame["v"].null_count() == 2000


@pytest.mark.parametrize(
    "text, told",
    [
        (b"", "the file is empty"),
        (b"\n\n", "no line with text"),
        (b"a;b\n", "a header and no rows"),
        (b"a;b;a\n1;2;3\n", "the header has 'a' twice"),
        (b"1;2,5;3\n4;5,5;6\n", "no header"),
        (b"hello\nworld\n", "no separator splits"),
        (b"PK\x00\x03\x00a\x00bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", "no text; tried UTF-8"),
    ],
)
def test_what_is_no_table_is_refused_by_name(tmp_path: Path, text: bytes, told: str) -> None:
    (tmp_path / "a.csv").write_bytes(text)
    with pytest.raises(DataError, match=told) as refused:
        read_sheet([tmp_path / "a.csv"])
    assert "a.csv" in str(refused.value) and "->" in str(refused.value)


def test_files_must_be_alike(tmp_path: Path) -> None:
    one, other = write(tmp_path / "a.csv", "a;b\n1;2\n"), write(tmp_path / "b.csv", "a,b\n1,2\n")
    (tmp_path / "c.parquet").write_bytes(b"no parquet")
    for files, told in (
        ([one, other], "separators"),
        ([one, tmp_path / "c.parquet"], "some are Parquet"),
        ([tmp_path / "c.parquet"], "tried as Parquet"),
    ):
        with pytest.raises(DataError, match=told):
            read_sheet(files)


def test_names_patterns_and_folders_lead_to_files_in_natural_order(workdir: Path) -> None:
    for n in (10, 9, 1):
        write(workdir / f"r_{n}.csv", "a;b\n")
    names = [f"r_{n}.csv" for n in (1, 9, 10)]
    assert [p.name for p in find_files(["r_*.csv"])] == names == [p.name for p in find_files([str(workdir)])]
    assert [p.name for p in find_files(["r_9.csv", "r_9.csv"])] == ["r_9.csv"]
    with pytest.raises(DataError, match="no file in . matches 'x"):
        find_files(["x*.csv"])
