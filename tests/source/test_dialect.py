"""Text files become columns of text: what was written comes back, and what cannot be read stays as it was, with its line."""

import hashlib
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmx.contract import DataError
from pmx.source.dialect import Dialect, iso_time, open_sheet, plain_number, reads_times

TEXT = st.text(st.sampled_from("aB7 ,;|.\t\"'Äß°/-\n"), max_size=6)


def one(expr: pl.Expr, text: str) -> str:
    return pl.DataFrame({"t": [text]}).select(expr).item()


def write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    (folder / "a.csv").write_bytes(text.encode(encoding))
    return folder / "a.csv"


def quoted(cell: str, separator: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if any(c in cell for c in f'{separator}"\n\r') else cell


@settings(deadline=None)
@given(
    cells=st.lists(st.tuples(TEXT, TEXT, st.integers(1, 9).map(str)), max_size=8),
    separator=st.sampled_from([",", ";", "\t", "|"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "cp1252", "utf-16"]),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_what_is_written_in_any_dialect_is_read(tmp_path_factory, cells, separator, encoding, end):
    lines = [separator.join(quoted(c, separator) for c in row) for row in [("Gerät", "b", "row"), *cells]]
    file = write(tmp_path_factory.mktemp("d"), end.join(lines) + end, encoding)
    sheet = open_sheet(file, Dialect(separator, encoding=encoding.removesuffix("-sig")))
    assert list(sheet.columns) == ["Gerät", "b", "row"]
    read = sheet.rows.select("row", "ragged", *(sheet.cell(n).fill_null("").alias(f"_{n}") for n in sheet.columns)).collect()
    lines_before = [2 + sum(1 + sum(c.count("\n") for c in row) for row in cells[:i]) for i in range(len(cells))]
    assert read.rows() == [(n, None, *(c.strip(" \t") for c in row)) for n, row in zip(lines_before, cells, strict=True)]
    assert sheet.digest == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize("quote", ["", '"'])
def test_ragged_lines_are_told_and_empty_ones_are_no_rows(tmp_path: Path, quote: str):
    lines = ["", "a;b;c", "1;2;3", "", "4;5", "6;7;8;9", "6;7;8;;", ";;", "---;---;---", f"x;{quote}y{quote};z"]
    sheet = open_sheet(write(tmp_path, "\n".join(lines)), Dialect(";"))
    read = sheet.rows.select("row", "ragged", sheet.cell("b").alias("b")).collect().rows()
    short, long = "(a line of 2 cells, the header has 3)", "(a line of 4 cells, the header has 3)"
    assert read == [(3, None, "2"), (5, short, "5"), (6, long, "7"), (7, None, "7"), (10, None, "y")]


def test_a_header_further_down_and_cells_without_a_name(tmp_path: Path):
    sheet = open_sheet(write(tmp_path, "Export of pumps\n\n|a|b|\n|1|2|\n"), Dialect("|", header=2))
    assert list(sheet.columns) == ["a", "b"]
    assert sheet.rows.select("row", sheet.cell("a").alias("a"), sheet.cell("b").alias("b")).collect().rows() == [(4, "1", "2")]


@pytest.mark.parametrize(
    "data, encoding, told",
    [
        (b"", "utf-8", "is empty"),
        (b"\n\n", "utf-8", "no line 1 that names the columns"),
        (b"a,b,a\n", "utf-8", "line 1: column 'a' appears twice"),
        (b"a,b\n1,2\n1,\xfc\n", "utf-8", "line 3: byte 0xfc is not utf-8 -> set encoding in the card, perhaps to cp1252"),
        (b"a,b\n1,\x81\n", "cp1252", "line 2: byte 0x81 is not cp1252"),
        (b"a,b\n1,2\n1,\xc3", "utf-8", "ends within a character"),
        (b'a,b\n1,2\n1,"2\n3,4\n', "utf-8", "line 3: unexpected end of data -> close the quotation mark"),
    ],
)
def test_files_that_cannot_be_cut_up_are_refused(tmp_path: Path, data: bytes, encoding: str, told: str):
    (tmp_path / "a.csv").write_bytes(data)
    with pytest.raises(DataError) as refused:
        open_sheet(tmp_path / "a.csv", Dialect(encoding=encoding)).rows.collect()
    assert told in str(refused.value) and "a.csv" in str(refused.value)


def test_what_is_no_file_or_no_parquet_is_refused(tmp_path: Path):
    (tmp_path / "a.parquet").write_text("a,b\n1,2\n")
    for name, told in (("b.csv", "No such file"), ("a.parquet", "not a Parquet file")):
        with pytest.raises(DataError, match=told):
            open_sheet(tmp_path / name, Dialect())


def test_parquet_keeps_its_types(tmp_path: Path):
    pl.DataFrame({" x ": [1.5], "day": [datetime(2026, 1, 2).date()], "n": [7], "c": pl.Series(["A"], dtype=pl.Categorical)}).write_parquet(
        tmp_path / "a.parquet"
    )
    sheet = open_sheet(tmp_path / "a.parquet", Dialect())
    read = sheet.rows.select("row", *(sheet.cell(n).alias(n) for n in sheet.columns)).collect()
    assert read.row(0) == (1, 1.5, datetime(2026, 1, 2), 7, "A")


def test_a_missing_column_is_named_with_the_nearest_and_another_separator(tmp_path: Path):
    sheet = open_sheet(write(tmp_path, "Zeitstempel;Wert\n1;2\n"), Dialect(";"))
    assert (
        "no column 'Zeitstempl', nearest is 'Zeitstempel' -> correct readings.time"
        in sheet.lacking(["Zeitstempl", "Wert"], "readings.time")[0]
    )
    assert sheet.hint("readings") == []
    assert "semicolon seems to separate" in open_sheet(tmp_path / "a.csv", Dialect(",")).hint("readings")[0]


@settings(deadline=None)
@given(st.floats(-1e9, 1e9).map(lambda x: round(x, 4)), st.sampled_from([".", " ", "'", "\N{NO-BREAK SPACE}", ""]))
def test_decimal_commas_and_grouped_thousands_read_back(value: float, group: str):
    text = f"{value:,.4f}".replace(",", "G").replace(".", ",").replace("G", group)
    assert float(one(plain_number(pl.col("t"), ","), text)) == value


@pytest.mark.parametrize(
    "text, read",
    [
        ("12,5", "12.5"),
        ("-0,5e3", "-0.5e3"),
        ("1.234", "1234"),
        ("1.234.567,8", "1234567.8"),
        ("", ""),
        ("7", "7"),
        (",5", ".5"),
        ("nan", "nan"),
    ]
    + [(t, t) for t in ("1,2,3", "12.34,5", "n/a", "hot", "01.02.2026", "1.2345.6")],
)
def test_numbers_with_a_decimal_comma(text: str, read: str):
    assert one(plain_number(pl.col("t"), ","), text) == read
    assert one(plain_number(pl.col("t"), "."), text) == text


@pytest.mark.parametrize("text", ["12.5", "0.123", "-.5", "1.2345"])
def test_a_point_where_a_comma_is_said_is_no_number(text: str):
    assert one(plain_number(pl.col("t"), ","), text) == f"{text} (a point, where the card says decimal comma)"


@pytest.mark.parametrize(
    "form, text, iso",
    [
        (None, "2026-01-02 03:04", "2026-01-02 03:04"),
        ("%d.%m.%Y %H:%M:%S", "02.01.2026 03:04:05", "2026-01-02T03:04:05"),
        ("%d.%m.%Y %H:%M:%S", "31.02.2026 03:04:05", "31.02.2026 03:04:05"),
        ("%d.%m.%Y %H:%M", "2.1.2026 3:04", "2026-01-02T03:04:00"),
        ("%m/%d/%Y %I:%M %p", "01/02/2026 03:04 PM", "2026-01-02T15:04:00"),
        ("%d.%m.%Y %H:%M:%S.%f", "02.01.2026 03:04:05.25", "2026-01-02T03:04:05.250"),
        ("%d.%m.%Y %H:%M:%S,%f", "02.01.2026 03:04:05,25", "2026-01-02T03:04:05.250"),
        ("%d.%m.%Y %H:%M:%S%z", "02.01.2026 03:04:05+01:00", "2026-01-02T02:04:05Z"),
        ("%d.%m.%Y", "02.01.2026", "2026-01-02T00:00:00"),
        ("epoch_s", "1767323045.5", "2026-01-02T03:04:05.500Z"),
        ("epoch_ms", "1767323045500", "2026-01-02T03:04:05.500Z"),
        ("epoch_ns", "1767323045500000000", "2026-01-02T03:04:05.500Z"),
        ("epoch_s", "soon", "soon"),
        ("epoch_s", "1e300", "1e300"),
    ],
)
def test_times_become_iso_text_or_stay_as_they_are(form: str | None, text: str, iso: str):
    assert one(iso_time(pl.col("t"), form), text) == iso


@pytest.mark.parametrize("form, works", [("%d.%m.%Y %H:%M", True), ("%Y-%m-%dT%H:%M:%S", True), ("DD.MM.YYYY", False), ("%d.%m", False)])
def test_a_format_that_reads_no_date_is_told(form: str, works: bool):
    assert reads_times(form) is works
