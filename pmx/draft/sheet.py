"""Raw files to one sample of cells: encoding, separator and decimal mark are guessed, large files are read in blocks."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
import polars.selectors as cs

from pmx.contract import DataError, shown

SUFFIXES = (".csv", ".txt", ".tsv", ".parquet")
SEPARATORS = (";", "\t", "|", ",")
FILE, SLICE = "\x00file", "\x00slice"  # column names that no header can have
BUDGET = 160_000_000  # bytes of text that are looked at, over all files
BLOCKS = 16  # of a file beyond its share of the budget, evenly spaced from head to tail
CELLS = 8_000_000  # of Parquet files
SLICES, LEAST = 32, 250  # of a Parquet file beyond its share of the cells; and the rows that a slice should have

COMMA = re.compile(r"[+-]?(?:[0-9]+|[0-9]{1,3}(?:[.' ][0-9]{3})+),[0-9]+(?:[eE][+-]?[0-9]+)?")
POINT = re.compile(r"[+-]?(?:[0-9]+|[0-9]{1,3}(?:,[0-9]{3})+)\.[0-9]+(?:[eE][+-]?[0-9]+)?")
THOUSANDS_BY_POINT = re.compile(r"[+-]?[0-9]{1,3}(?:\.[0-9]{3})+")
THOUSANDS_BY_COMMA = re.compile(r"[+-]?[0-9]{1,3}(?:,[0-9]{3})+")
NUMERIC = {
    ",": r"^[+-]?(?:[0-9]{1,3}(?:\.[0-9]{3})+|[0-9]+)?(?:,[0-9]*)?(?:[eE][+-]?[0-9]+)?$",
    ".": r"^[+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)?(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?$",
}


@dataclass(frozen=True)
class Sheet:
    """Cells of files with one dialect: text, stripped, empty = null; numbers and booleans of Parquet files are numbers, NaN = null.

    Attributes:
        files: where the cells came from.
        frame: one column per header, `FILE` with the file's stem, and `SLICE`: rows of one number stand together in their file, and
            files that were read whole have 0.
        encoding, separator, decimal: the dialect; of Parquet files None, None and `.`.
        header: the line that names the columns, 1 = the first.
        whole: whether every row was read, not a sample.
        notes: what was seen beside the guesses.

    Example:
        >>> Sheet((Path("a.csv"),), pl.DataFrame({"t": ["1"]}), "utf-8", ",", ".", 1, True, ()).columns
        ['t']
    """

    files: tuple[Path, ...]
    frame: pl.DataFrame
    encoding: str | None
    separator: str | None
    decimal: str
    header: int
    whole: bool
    notes: tuple[str, ...]

    @property
    def columns(self) -> list[str]:
        return [c for c in self.frame.columns if c not in (FILE, SLICE)]

    def as_text(self) -> Sheet:
        """The same with all cells as text."""
        return replace(self, frame=self.frame.with_columns(pl.exclude(FILE, SLICE).cast(pl.String)))

    def text(self, column: str) -> pl.Series:
        """A column as String."""
        return self.frame[column].cast(pl.String)

    def cells(self, column: str, most: int = 500) -> list[str]:
        """Filled cells of a column, evenly spaced from its first to its last."""
        filled = self.frame[column].drop_nulls()
        return filled.gather_every(max(1, len(filled) // most)).cast(pl.String).to_list()

    def share_of_numbers(self, column: str) -> float:
        """Share of a column's filled cells that are numbers in the sheet's dialect."""
        if self.frame.schema[column].is_numeric():
            return 1.0 if self.frame[column].count() else 0.0
        cells = pl.Series(self.cells(column), dtype=pl.String)
        return float(cells.str.contains(NUMERIC[self.decimal]).to_numpy().mean()) if len(cells) else 0.0

    def numbers(self, column: str) -> pl.Series:
        """A column as Float64; what is no number is null."""
        return numbers(self.frame[column], self.decimal)


def numbers(cells: pl.Series, decimal: str) -> pl.Series:
    """Cells as Float64, thousands marks dropped; what is no number is null."""
    if cells.dtype.is_numeric():
        value = cells.cast(pl.Float64)
        return value if value.is_finite().all() else value.set(value.is_nan() | value.is_infinite(), None)
    text = cells.str.replace_all(",", "") if decimal == "." else cells.str.replace_all(".", "", literal=True).str.replace(",", ".")
    value = text.cast(pl.Float64, strict=False)
    return value.set(value.is_nan() | value.is_infinite(), None)


def find_files(given: Sequence[str | Path]) -> list[Path]:
    """The files that these names, patterns and folders stand for, in natural order.

    Raises:
        DataError: a name that leads to no file.
    """
    found: list[Path] = []
    for name in given:
        path = Path(name)
        if path.is_dir():
            here = [p for p in sorted(path.iterdir()) if p.suffix.lower() in SUFFIXES and p.is_file()]
            tried = f"no {', '.join('*' + s for s in SUFFIXES)} in this folder"
        elif path.is_file():
            here, tried = [path], ""
        else:
            folder = path.parent if path.parent.is_dir() else Path(".")
            here = sorted(p for p in folder.glob(path.name) if p.is_file()) if path.name else []
            tried = f"no such file, and no file in {folder} matches {path.name!r}"
        if not here:
            raise DataError(f"Cannot read {shown(str(name), 200)}: {tried} -> name the raw files, a pattern or a folder")
        found += here
    return sorted(
        dict.fromkeys(found), key=lambda p: [(not w.isdigit(), int(w) if w.isdigit() else 0, w) for w in re.split(r"(\d+)", str(p))]
    )


def read_sheet(files: Sequence[Path]) -> Sheet:
    """Reads files of one dialect, all of them or, beyond the budget, evenly spaced blocks.

    Raises:
        DataError: a file that is empty, has no header, is no table, or does not look like the others.
    """
    kinds = {"parquet" if f.suffix.lower() == ".parquet" else "text" for f in files}
    if len(kinds) > 1:
        raise DataError(
            f"Cannot read {len(files)} files: some are Parquet, some are text -> draft a card of one kind, or convert the others"
        )
    return _parquet(files) if kinds == {"parquet"} else _text(files)


# ---- Parquet


def _parquet(files: Sequence[Path]) -> Sheet:
    frames, slices = [], 0
    for file in files:
        try:
            lazy = pl.scan_parquet(file, glob=False)
            schema, height = lazy.collect_schema(), lazy.select(pl.len()).collect().item()
            lazy = lazy.select(_plain(n, t) for n, t in schema.items())
            most = max(1000, CELLS // max(1, len(schema)) // len(files))
            many = min(SLICES, most // LEAST) if height > most else 0
            lazy = _sliced(lazy, height, most // many, many) if many else lazy.with_columns(pl.lit(0, pl.Int32).alias(SLICE))
            found = lazy.collect(engine="streaming")
        except (pl.exceptions.PolarsError, OSError) as error:
            raise DataError(f"Cannot read {file}: tried as Parquet, {str(error).splitlines()[0]} -> export the file again") from error
        frames.append(found.with_columns(pl.lit(file.stem).alias(FILE), pl.col(SLICE) + slices))
        slices += many
    return Sheet(tuple(files), _stripped(pl.concat(frames, how="diagonal_relaxed")), None, None, ".", 1, not slices, ())


def _sliced(rows: pl.LazyFrame, height: int, part: int, many: int) -> pl.LazyFrame:
    """Evenly spaced slices of `part` rows from head to tail, numbered from 1 on in `SLICE`.

    Slices, not every n-th row, as the distances between readings are measured too; the file is read once.
    """
    at, step = pl.col(SLICE), (height - part) // (many - 1)
    inside = ((at % step < part) & (at < (many - 1) * step)) | (at >= height - part)
    number = pl.min_horizontal(at // step, pl.lit(many - 1)).cast(pl.Int32) + 1
    return rows.with_row_index(SLICE).filter(inside).with_columns(number)


def _marked(frame: pl.DataFrame, file: Path, at: int) -> pl.DataFrame:
    return frame.with_columns(pl.lit(file.stem).alias(FILE), pl.lit(at, pl.Int32).alias(SLICE))


def _plain(name: str, kind: pl.DataType) -> pl.Expr:
    """Numbers as they are, everything else as text."""
    column = pl.col(name)
    if isinstance(kind, pl.Datetime):
        column = column.cast(pl.Datetime("us", kind.time_zone))
        if kind.time_zone:
            return column.dt.convert_time_zone("UTC").dt.to_string("%Y-%m-%dT%H:%M:%S%.6fZ").alias(name)
        return column.dt.to_string("%Y-%m-%dT%H:%M:%S%.6f")
    if kind.is_float():
        return column.fill_nan(None)
    if kind == pl.Boolean:
        return column.cast(pl.Int8)
    return column if kind.is_integer() else column.cast(pl.Float64) if kind.is_numeric() else column.cast(pl.String, strict=False)


# ---- text


def _text(files: Sequence[Path]) -> Sheet:
    share = max(200_000, BUDGET // len(files))
    raw = {file: _blocks(file, share) for file in files}
    encodings = {file: _encoding(file, blocks[0]) for file, blocks in raw.items()}
    wide = {e for e in encodings.values() if e.startswith("utf-16")}
    if wide and len(set(encodings.values())) > 1:
        told = ", ".join(f"{f.name} {e}" for f, e in list(encodings.items())[:4])
        raise DataError(f"Cannot read {len(files)} files: their encodings differ ({told}) -> convert them to one")
    encoding = wide.pop() if wide else _common(raw)
    texts = {file: _decoded(blocks, encoding) for file, blocks in raw.items()}
    separators = {file: _separator(file, text[0]) for file, text in texts.items()}
    if len(set(separators.values())) > 1:
        told = ", ".join(f"{f.name} {s!r} in line {at}" for f, (s, at) in list(separators.items())[:4])
        raise DataError(f"Cannot read {len(files)} files: their separators or headers differ ({told}) -> draft a card for each kind")
    separator, header = separators[files[0]]
    frames = [_parsed(file, text, separator, header, i * BLOCKS) for i, (file, text) in enumerate(texts.items())]
    notes = [f"the header stands in line {header}; the lines above are left out"] if header > 1 else []
    if len({tuple(f.columns) for f in frames}) > 1:
        notes.append("the files differ in their columns; a card reads one set: check `unused`")
    frame = _stripped(pl.concat(frames, how="diagonal"))
    if not frame.height:
        raise DataError(f"Cannot read {files[0]}: it has a header and no rows -> export it again")
    whole = all(len(blocks) == 1 for blocks in raw.values())
    return Sheet(tuple(files), frame, encoding, separator, _decimal(frame, separator), header, whole, tuple(notes))


def _blocks(file: Path, most: int) -> list[bytes]:
    """The whole file, or blocks of it; each block after the first begins and each before the last ends within a line."""
    size = file.stat().st_size
    if size == 0:
        raise DataError(f"Cannot read {file}: the file is empty -> export it again")
    with file.open("rb") as stream:
        if size <= most:
            return [stream.read()]
        part, blocks = most // BLOCKS // 4 * 4, []
        for i in range(BLOCKS):
            stream.seek(int(i * (size - part) / (BLOCKS - 1)) // 4 * 4)
            blocks.append(stream.read(part if i < BLOCKS - 1 else -1))
        return blocks


def _encoding(file: Path, head: bytes) -> str:
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    start = head[:4000]
    odd, even = start[1::2].count(0), start[0::2].count(0)
    if max(odd, even) > len(start) // 6:
        return "utf-16-le" if odd > even else "utf-16-be"
    if b"\x00" in start:
        raise DataError(
            f"Cannot read {file}: it has zero bytes, so it is no text; tried UTF-8, UTF-16, cp1252 -> export it as CSV or Parquet"
        )
    return "utf-8"


def _common(raw: dict[Path, list[bytes]]) -> str:
    """UTF-8 where every block is; cp1252 otherwise, which reads nearly anything."""
    for blocks in raw.values():
        for i, block in enumerate(blocks):
            # A block may begin or end inside a character.
            cut = block if len(blocks) == 1 else block[4 if i else 0 : -4]
            try:
                codecs.getincrementaldecoder("utf-8")().decode(cut.lstrip(bytes(range(0x80, 0xC0))) if i else cut, len(blocks) == 1)
            except UnicodeDecodeError:
                return "cp1252"
    return "utf-8"


def _decoded(blocks: list[bytes], encoding: str) -> list[str]:
    """Blocks as text that begins and ends with whole lines."""
    first = codecs.BOM_UTF16_BE if blocks[0].startswith(codecs.BOM_UTF16_BE) else codecs.BOM_UTF16_LE
    texts = []
    for i, block in enumerate(blocks):
        if i and encoding == "utf-16":
            block = first + block
        text = block.decode("utf-8-sig" if encoding == "utf-8" else encoding, errors="replace").lstrip("\ufeff")
        if i:
            text = text.partition("\n")[2]
        if i < len(blocks) - 1:
            text = text.rpartition("\n")[0]
        texts.append(text)
    return texts


def _separator(file: Path, text: str) -> tuple[str, int]:
    """The mark that splits most lines into equally many cells, and the line where they begin: the header."""
    lines = [line for line in text[:200_000].splitlines()[:200] if line.strip()]
    if not lines:
        raise DataError(f"Cannot read {file}: the file has no line with text -> export it again")
    best, score, at = "", 0.0, 0
    for mark in SEPARATORS:
        counts = [len(row) for row in csv.reader(lines, delimiter=mark)]
        usual = Counter(c for c in counts if c > 1).most_common(1)
        if counts[:1] and counts[0] > 1 and counts.count(counts[0]) >= len(counts) / 2:
            usual = [(counts[0], counts.count(counts[0]))]
        if usual and (alike := usual[0][1] / len(counts)) > score + 0.01:
            best, score, at = mark, alike, counts.index(usual[0][0])
    if score < 0.5:
        tried = " ".join(repr(m) for m in SEPARATORS)
        raise DataError(f"Cannot read {file}: no separator splits header and rows alike; tried {tried} -> export it as CSV with a header")
    header = next(csv.reader(lines[at : at + 1], delimiter=best))
    if sum(bool(COMMA.fullmatch(c.strip()) or POINT.fullmatch(c.strip()) or c.strip().isdigit()) for c in header) > len(header) / 2:
        raise DataError(
            f"Cannot read {file}: its first line holds numbers, so the file has no header -> add a line with the columns' names"
        )
    return best, text.splitlines().index(lines[at]) + 1


def _parsed(file: Path, texts: list[str], separator: str, header: int, before: int) -> pl.DataFrame:
    for _ in range(header - 1):
        texts[0] = texts[0].partition("\n")[2]
    head = texts[0].partition("\n")[0].rstrip("\r")
    names = [n.strip() for n in next(csv.reader([head], delimiter=separator))]
    twice = [n for n, times in Counter(filter(None, names)).items() if times > 1]
    if twice:
        raise DataError(f"Cannot read {file}: the header has {shown(', '.join(map(repr, twice)), 80)} twice -> rename one of them")
    columns = list(map(str, range(len(names))))
    frames = [_marked(pl.DataFrame(schema=dict.fromkeys(columns, pl.String)), file, 0)]
    for i, text in enumerate(texts):
        body = text.partition("\n")[2] if i == 0 else text
        if body.strip():
            cells = _cells(file, separator.join(columns) + "\n" + body, separator)
            frames.append(_marked(cells, file, before + i + 1 if len(texts) > 1 else 0))
    named = {str(i): n for i, n in enumerate(names) if n}  # a column without a name cannot be asked for
    return pl.concat(frames).select(*named, FILE, SLICE).rename(named)


def _cells(file: Path, text: str, separator: str) -> pl.DataFrame:
    for quote in ('"', None):  # a stray quotation mark must not swallow the file
        try:
            return pl.read_csv(
                io.BytesIO(text.encode()), separator=separator, infer_schema=False, truncate_ragged_lines=True, quote_char=quote
            )
        except pl.exceptions.PolarsError as error:
            told = str(error).splitlines()[0]
    raise DataError(f"Cannot read {file}: tried {separator!r} as separator, {told} -> export it again")


def _stripped(frame: pl.DataFrame) -> pl.DataFrame:
    text = cs.string().exclude(FILE)
    stripped = text.str.strip_chars(" \t\r\u00a0")
    return frame.with_columns(pl.when(stripped != "").then(stripped))


def _decimal(frame: pl.DataFrame, separator: str) -> str:
    rows = frame.drop(FILE, SLICE).gather_every(max(1, frame.height // 1000))
    cells = [c for column in rows.iter_columns() for c in column.drop_nulls().to_list()]
    comma, point = ([c for c in cells if mark.fullmatch(c)] for mark in (COMMA, POINT))
    if not comma:
        return "."
    if not point:
        whole = all(THOUSANDS_BY_COMMA.fullmatch(c) and not c.lstrip("+-").startswith("0") for c in comma)
        return "." if whole and separator == "," else ","
    if all(THOUSANDS_BY_COMMA.fullmatch(c) for c in comma):
        return "."
    return "," if all(THOUSANDS_BY_POINT.fullmatch(c) for c in point) or len(comma) > len(point) else "."
