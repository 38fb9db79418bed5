"""Text files as plants export them: encoding, separator, decimal comma and time format, read into columns of text.

Nothing is guessed and nothing is judged here. A number becomes text with a decimal point, a time becomes ISO 8601; a cell
that cannot be read stays as it was written, so that the contract names its file, row and value. Parquet keeps its types.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import polars as pl

from pmx.contract import BLANKS, DataError, shown

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
EPOCHS = {"epoch_s": 1_000_000.0, "epoch_ms": 1_000.0, "epoch_us": 1.0, "epoch_ns": 0.001}  # microseconds in one
PARQUET = (".parquet", ".pq")
ISO = "%Y-%m-%dT%H:%M:%S%.f"
BLOCK = 1 << 22
RECORDS = 100_000  # rows of a quoted file that are cut up at once


@dataclass(frozen=True)
class Dialect:
    """How the text files of one kind are written.

    Attributes:
        separator: between the cells of a line.
        decimal: `.` or `,`; where it is a comma, points, blanks and apostrophes may group thousands.
        encoding: any text encoding that Python knows; a byte-order mark is stripped.
        time_format: in the words of `strptime`, or `epoch_s`, `epoch_ms`, `epoch_us`, `epoch_ns`; None = ISO 8601.
        header: the line that names the columns (1 = the first); blank lines before it do not matter.
        missing: cells that mean "no value", beside the empty ones.

    Example:
        >>> Dialect(separator=";", decimal=",", time_format="%d.%m.%Y %H:%M").header
        1
    """

    separator: str = ","
    decimal: str = "."
    encoding: str = "utf-8"
    time_format: str | None = None
    header: int = 1
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sheet:
    """One file, opened: its header is read, its bytes are checked, its rows are not read yet.

    Attributes:
        file: where it lies.
        rows: `row` (Int64, the line number that an editor shows; of Parquet the row, 1 = the first), `ragged` (String: what is
            wrong with a line that has too few or too many cells, else null), and columns that `cell` finds.
        digest: SHA-256 of the raw bytes.
        columns: name -> internal name, in the order of the file.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "a.csv"
        >>> _ = file.write_text("Zeit;Wert\\n1;2,5\\n")
        >>> sheet = open_sheet(file, Dialect(";", ","))
        >>> sheet.rows.select("row", plain_number(sheet.cell("Wert"), ",").alias("value")).collect().rows()
        [(2, '2.5')]
    """

    file: Path
    rows: pl.LazyFrame
    digest: str
    columns: dict[str, str] = field(default_factory=dict)

    def cell(self, name: str) -> pl.Expr:
        """The column of this name; text is stripped."""
        inner = self.columns[name]
        return pl.col(inner).str.strip_chars(BLANKS) if self.is_text(name) else pl.col(inner)

    def is_text(self, name: str) -> bool:
        return self.rows.collect_schema()[self.columns[name]] == pl.String

    def lacking(self, names: Iterable[str], where: str) -> list[str]:
        """A line for each of these columns that the file does not have, with the nearest ones."""
        lines = []
        for name in dict.fromkeys(n for n in names if n not in self.columns):
            near = [repr(n) for n in difflib.get_close_matches(name, list(self.columns), 2)]
            hint = f"nearest is {' or '.join(near)}" if near else f"it has {shown(', '.join(self.columns), 120)}"
            lines.append(f"  {shown(str(self.file), 200)}: no column {name!r}, {hint} -> correct {where} in the card")
        return lines

    def hint(self, where: str) -> list[str]:
        """Where the header is a single cell that holds another separator: a line that says so."""
        other = [s for s in SEPARATORS if len(self.columns) == 1 and s in next(iter(self.columns))]
        return [f"  {SEPARATORS[s]} seems to separate the header -> set {where}.separator: {s!r}" for s in other[:1]]


def open_sheet(file: Path, dialect: Dialect) -> Sheet:
    """Opens a text or Parquet file.

    Raises:
        DataError: it cannot be opened, is empty, is not in its encoding, or names a column twice.
    """
    try:
        if file.suffix.lower() in PARQUET:
            return _open_parquet(file)
        digest, quoted = _survey(file, dialect.encoding)
        return _open_text(file, dialect, digest, quoted)
    except OSError as error:
        raise DataError(f"{file}: {error.strerror or error} -> check the path and its permissions") from None


def _open_parquet(file: Path) -> Sheet:
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    try:
        rows = pl.scan_parquet(file, glob=False)
        schema = rows.collect_schema()
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{file}: not a Parquet file ({str(error).splitlines()[0]}) -> export it anew") from None
    columns = {name.strip(): f"c{i}" for i, name in enumerate(schema)}
    if len(columns) < len(schema):
        raise DataError(f"{file}: two columns have the same name but for blanks -> rename one of them")
    kept = []
    for name, dtype in schema.items():
        plain = dtype.is_numeric() or dtype == pl.Boolean or isinstance(dtype, pl.Datetime)
        typed = pl.col(name).cast(pl.Datetime("us")) if dtype == pl.Date else pl.col(name) if plain else pl.col(name).cast(pl.String)
        kept.append(typed.alias(columns[name.strip()]))
    number = pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("row")
    return Sheet(file, rows.select(number, pl.lit(None, pl.String).alias("ragged"), *kept), digest, columns)


def _survey(file: Path, encoding: str) -> tuple[str, bool]:
    """SHA-256 of the bytes, and whether there is a quotation mark; refuses bytes that are not of the encoding."""
    digest, quoted, lines = hashlib.sha256(), False, 0
    decoder = codecs.getincrementaldecoder(encoding)()
    with file.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
            try:
                text = decoder.decode(block, final=False)
            except UnicodeError as error:
                at = error.start if isinstance(error, UnicodeDecodeError) else 0
                line = lines + block[:at].count(b"\n") + 1
                other = "cp1252" if codecs.lookup(encoding).name.startswith("utf-8") else "utf-8"
                raise DataError(
                    f"{file}, line {line}: byte 0x{block[min(at, len(block) - 1)]:02x} is not {encoding} -> set encoding in the card, "
                    f"perhaps to {other}, or save the file as UTF-8"
                ) from None
            quoted = quoted or '"' in text
            lines += text.count("\n")
    try:
        decoder.decode(b"", final=True)
    except UnicodeError:
        raise DataError(
            f"{file}, line {lines + 1}: the file ends within a character of {encoding} -> it was cut off; export it anew"
        ) from None
    if digest.digest() == hashlib.sha256().digest():
        raise DataError(f"{file}: the file is empty -> export it anew, or take it out of the card's files")
    return digest.hexdigest(), quoted


def _open_text(file: Path, dialect: Dialect, digest: str, quoted: bool) -> Sheet:
    name = codecs.lookup(dialect.encoding).name
    # Polars reads UTF-8 alone; its byte-order mark stands in the header, which is read here.
    source: Path | bytes = file if name in ("utf-8", "utf-8-sig", "ascii") else file.read_bytes().decode(name).encode()
    encoding = "utf-8-sig" if name == "utf-8" else name
    with file.open(encoding=encoding, newline="") as stream:
        records = _records(file, stream, dialect.separator)
        found = next(
            ((begin, end, cells) for begin, end, cells in records if begin >= dialect.header and any(c.strip() for c in cells)), None
        )
    if found is None:
        raise DataError(f"{file}: no line {dialect.header} that names the columns -> correct header in the card, or export the file anew")
    begin, end, cells = found
    header = [cell.strip() for cell in cells]
    twice = sorted({n for n in header if n and header.count(n) > 1})
    if twice:
        raise DataError(f"{file}, line {begin}: column {', '.join(map(repr, twice))} appears twice in the header -> rename one of them")
    while header and not header[-1]:
        header.pop()
    columns = {name: f"c{i}" for i, name in enumerate(header) if name}
    shape = dialect.separator, end, len(header)
    rows = _quoted_rows(file, encoding, *shape) if quoted else _lines(source, *shape)
    return Sheet(file, rows, digest, columns)


def _lines(source: Path | bytes, separator: str, header_end: int, width: int) -> pl.LazyFrame:
    """The rows of a file without quotation marks; lines of separators, blanks and dashes alone are no rows."""
    # A line is cut up here and not by the CSV reader, which takes a line that ends too soon for one whose last values are missing.
    lines = pl.scan_lines(source, row_index_name="row", row_index_offset=1, glob=False).filter(pl.col("row") > header_end)
    lines = lines.filter(pl.col("line").str.strip_chars(BLANKS + "\r-" + separator) != "")
    cells = lines.select(pl.col("row").cast(pl.Int64), pl.col("line").str.strip_chars_end("\r").str.split(separator).alias("cells"))
    count = pl.col("cells").list.len()
    beyond = pl.when(count > width).then(pl.col("cells").list.slice(width).list.join("").str.strip_chars(BLANKS)).fill_null("")
    cut = [pl.col("cells").list.get(i, null_on_oob=True).alias(f"c{i}") for i in range(width)]
    return cells.select("row", _ragged((count < width) | (beyond != ""), count, width), *cut)


def _ragged(wrong: pl.Expr, count: pl.Expr, width: int) -> pl.Expr:
    return pl.when(wrong).then(pl.format("(a line of {} cells, the header has " + str(width) + ")", count)).alias("ragged")


def _quoted_rows(file: Path, encoding: str, separator: str, header_end: int, width: int) -> pl.LazyFrame:
    """The rows of a file with quotation marks, read whole: a quoted cell may hold separators and line breaks."""
    schema = {"row": pl.Int64, "ragged": pl.String, **{f"c{i}": pl.String for i in range(width)}}
    frames = [pl.DataFrame(schema=schema)]
    batch: list[tuple[object, ...]] = []
    with file.open(encoding=encoding, newline="") as stream:
        for begin, _, cells in _records(file, stream, separator):
            if begin <= header_end or not "".join(cells).strip(BLANKS + "-"):
                continue
            wrong = len(cells) < width or any(c.strip(BLANKS) for c in cells[width:])
            told = f"(a line of {len(cells)} cells, the header has {width})" if wrong else None
            batch.append((begin, told, *cells[:width], *[None] * (width - len(cells))))
            if len(batch) == RECORDS:
                frames.append(pl.DataFrame(batch, schema=schema, orient="row"))
                batch = []
    frames.append(pl.DataFrame(batch, schema=schema, orient="row"))
    return pl.concat(frames).lazy()


def _records(file: Path, stream: Iterable[str], separator: str) -> Iterator[tuple[int, int, list[str]]]:
    """The first and the last line of each record, and its cells."""
    reader = csv.reader(stream, delimiter=separator, strict=True)
    begin = 1
    try:
        for cells in reader:
            yield begin, reader.line_num, cells
            begin = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{file}, line {begin}: {error} -> close the quotation mark, or remove the stray character") from None


# ---- cells


def plain_number(cell: pl.Expr, decimal: str) -> pl.Expr:
    """Text of a number with a decimal point; where the decimal sign is a comma, a cell with another use of points stays unreadable.

    `12.5` in a file with decimal commas may be a date, a thousand or a mistake: it is marked, never taken for twelve and a half.
    """
    if decimal != ",":
        return cell
    grouped = cell.str.contains(r"^[+-]?[1-9][0-9]{0,2}(?:[. '\x{a0}\x{202f}][0-9]{3})+(?:,[0-9]*)?$")
    without = cell.str.replace_all(r"[. '\x{a0}\x{202f}]", "").str.replace(",", ".", literal=True)
    stray = pl.format("{} (a point, where the card says decimal comma)", cell)
    pointed = cell.str.contains(r"^[+-]?[0-9]*\.[0-9]+(?:[eE][+-]?[0-9]+)?$")
    comma = cell.str.contains(r"^[+-]?[0-9]*,[0-9]*(?:[eE][+-]?[0-9]+)?$")
    plain = pl.when(comma).then(cell.str.replace(",", ".", literal=True)).otherwise(cell)
    return pl.when(grouped).then(without).when(pointed).then(stray).otherwise(plain)


def blanked(cell: pl.Expr, missing: tuple[str, ...]) -> pl.Expr:
    """The cell, null where it is one of these words."""
    return pl.when(~cell.is_in(list(missing))).then(cell) if missing else cell


def iso_time(cell: pl.Expr, time_format: str | None) -> pl.Expr:
    """Text of a time in ISO 8601, still without a zone where it carries none; what cannot be read stays as it was written."""
    if time_format is None:
        return cell
    if time_format in EPOCHS:
        number = cell.cast(pl.Float64, strict=False)
        whole = (number * EPOCHS[time_format]).round().cast(pl.Int64, strict=False)
        in_range = number.is_finite() & (number.abs() * EPOCHS[time_format] < 2.5e17)
        return pl.coalesce(pl.from_epoch(pl.when(in_range).then(whole), "us").dt.strftime(ISO + "Z"), cell)
    text, pattern, zoned = _chrono(cell, time_format)
    read = text.str.to_datetime(pattern, strict=False, time_unit="us", time_zone="UTC" if zoned else None)
    return pl.coalesce(read.dt.strftime(ISO + "Z" if zoned else ISO), cell)


def _chrono(cell: pl.Expr, time_format: str) -> tuple[pl.Expr, str, bool]:
    """The cell and the format as Polars reads them: its `%f` is not Python's."""
    if ",%f" in time_format:
        cell, time_format = cell.str.replace(r",([0-9]+)", ".${1}"), time_format.replace(",%f", ".%f")
    return cell, time_format.replace(".%f", "%.f").replace("%z", "%#z"), "%z" in time_format


def reads_times(time_format: str) -> bool:
    """Whether times can be written and read back in this format."""
    if time_format in EPOCHS:
        return True
    moment = datetime(2026, 11, 30, 14, 5, 9)
    try:
        text = (moment.astimezone() if "%z" in time_format else moment).strftime(time_format)
        back = pl.DataFrame({"t": [text]}).select(iso_time(pl.col("t"), time_format)).item()
    except (ValueError, pl.exceptions.PolarsError):
        return False
    return str(back).startswith("2026-11-30") and text != time_format


def instants(text: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """ISO text as Datetime[us] without a zone, and as Datetime[us, UTC]: one of them is null, both where it is no time."""
    cell = text.str.strip_chars(BLANKS).str.replace(" ", "T", literal=True)
    zoned = cell.str.contains("(?:Z|[+-][0-9]{2}:[0-9]{2})$")
    formats = (ISO, "%Y-%m-%dT%H:%M")
    local = pl.coalesce(*(cell.str.to_datetime(f, strict=False, time_unit="us") for f in formats))
    with_zone = pl.when(zoned).then(cell)
    utc = pl.coalesce(*(with_zone.str.to_datetime(f + "%#z", strict=False, time_unit="us", time_zone="UTC") for f in formats))
    return local, utc
