"""Readings and quarantine as CSV files, with nothing but the standard library."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pmx.contract import Contract, DataError, Rows
from pmx.judge import Breach

QUARANTINE = ("file", "row", "asset", "channel", "reason", "value")


def read_csv(path: str | Path, contract: Contract) -> Rows:
    """Reads the columns `asset, time, <channels>` as raw text, in any order; `,` or `;` separates, as the header does.

    Blank lines are no rows. Values are judged later, by the contract's checker; what is refused here is a file whose
    cells cannot be told apart: no such file, not UTF-8, an unclosed quote, a line with too few or too many cells.
    """
    path = Path(path)
    text = _text_of(path)
    header_line = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = ";" if header_line.count(";") > header_line.count(",") else ","
    lines = list(_lines(path, text, delimiter))
    if not lines:
        raise _error(path, ["line 1: no header -> name the columns: asset, time and the channels"])
    header = [cell.strip() for cell in lines[0][1]]
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise _error(path, [f"line {lines[0][0]}: column {name!r} appears twice -> keep one" for name in twice])
    contract.require(header, str(path))
    ragged = [(n, len(cells)) for n, cells in lines[1:] if len(cells) != len(header)]
    if ragged:
        how = "remove or quote the extra separators, or fill in the missing cells"
        raise _error(path, [f"line {n}: {count} cells where the header has {len(header)} -> {how}" for n, count in ragged])
    columns = np.array([cells for _, cells in lines[1:]], object).reshape(-1, len(header)).T
    values = dict(zip(header, columns, strict=True))
    file = np.full(len(lines) - 1, str(path), object)
    row = np.array([n for n, _ in lines[1:]], np.int64)
    return Rows(values.pop("asset"), values.pop("time"), values, file, row)


def write_quarantine(path: str | Path, breaches: Iterable[Breach]) -> None:
    """Writes one line for each refused row; the file appears whole or not at all."""
    with replacing(Path(path)) as part, part.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(QUARANTINE)
        writer.writerows((b.file, b.row, b.asset, b.channel, b.reason, b.value) for b in breaches)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` once the block has ended without an error."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _text_of(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _error(path, [f"{error.strerror} -> check the path and its permissions"]) from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise _error(path, [f"line {line}: byte 0x{data[error.start]:02x} is not UTF-8 -> save the file as UTF-8"]) from None


def _lines(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The cells of each row, and the number of the line on which it begins."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    begins = 1
    try:
        for cells in reader:
            if len(cells) > 1 or "".join(cells).strip():
                yield begins, cells
            begins = reader.line_num + 1
    except csv.Error as error:
        raise _error(path, [f"line {begins}: {error} -> close the quote, or remove the stray character"]) from None


def _error(path: Path, problems: list[str]) -> DataError:
    count = f"{len(problems):,} problem{'s' if len(problems) > 1 else ''}"
    more = [f"... and {len(problems) - 8:,} more"] if len(problems) > 8 else []
    return DataError("\n  ".join([f"Cannot read {path}: {count}, nothing was written", *problems[:8], *more]))
