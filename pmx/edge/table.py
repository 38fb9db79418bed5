"""Readings and quarantine as CSV files, with nothing but the standard library."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path

import numpy as np

from pmx.align import next_life
from pmx.cell import durations, names, plain, times
from pmx.contract import NEVER, Contract, DataError, Rows, is_long
from pmx.judge import Breach

QUARANTINE = ("file", "row", "asset", "channel", "reason", "value", "lost")


def read_csv(path: str | Path, contract: Contract) -> Rows:
    """Reads a whole file of readings as raw text; see `read_blocks`."""
    blocks = list(read_blocks(path, contract))
    first = blocks[0]

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(b, name) for b in blocks])

    values = {k: np.concatenate([b.values[k] for b in blocks]) for k in first.values}
    more = [None if getattr(first, name) is None else joined(name) for name in ("channel", "quality")]
    return Rows(joined("asset"), joined("time"), values, joined("file"), joined("row"), *more)


def read_blocks(path: str | Path, contract: Contract, size: int = 10_000) -> Iterator[Rows]:
    """Reads readings as raw text, so many rows at a time: at least one block, which may be empty.

    A wide file has the columns `asset, time, <channels>`, a long one `asset, time, channel, value` and perhaps `quality`; in any
    order; `,` or `;` separates, as the header does. Blank lines are no rows. Values are judged later, by the contract's
    checker; what is refused here is a file whose cells cannot be told apart: no such file, not UTF-8, an unclosed quote, a line
    with too few or too many cells.
    """
    path = Path(path)
    lines = _lines(path)
    begins, header = next(lines, (1, []))
    header = [cell.strip() for cell in header]
    if not header:
        raise _error(path, ["line 1: no header -> name the columns: asset, time and the channels"])
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise _error(path, [f"line {begins}: column {name!r} appears twice -> keep one" for name in twice])
    contract.require(header, str(path))
    told = False
    while block := list(islice(lines, size)):
        if any(len(cells) != len(header) for _, cells in block):
            how = "remove or quote the extra separators, or fill in the missing cells"
            ragged = ((n, len(cells)) for n, cells in chain(block, lines) if len(cells) != len(header))
            raise _error(path, [f"line {n}: {count} cells where the header has {len(header)} -> {how}" for n, count in ragged])
        yield _rows(path, header, block)
        told = True
    if not told:
        yield _rows(path, header, [])


def _rows(path: Path, header: list[str], lines: list[tuple[int, list[str]]]) -> Rows:
    cells = np.array([cells for _, cells in lines], object).reshape(-1, len(header)).T
    columns = dict(zip(header, cells, strict=True))
    asset, time = columns.pop("asset"), columns.pop("time")
    long = is_long(header)
    channel, quality = (columns.pop(name, None) if long else None for name in ("channel", "quality"))
    file = np.full(len(lines), str(path), object)
    return Rows(asset, time, columns, file, np.array([n for n, _ in lines], np.int64), channel, quality)


def read_repairs(path: str | Path, contract: Contract) -> dict[str, np.ndarray]:
    """Asset -> the ticks at which it begins another life, int64 [life], from a CSV with the columns `asset` and `time`: when a repair or
    replacement that makes it as good as new was known.
    """
    path = Path(path)
    lines = list(_lines(path))
    header = [plain(c) for c in lines[0][1]] if lines else []
    if missing := [c for c in ("asset", "time") if c not in header]:
        raise _error(path, [f"column {c!r} is not in the header -> name the columns asset and time" for c in missing])
    at = [header.index(c) for c in ("asset", "time")]
    cells = [[row[i] if i < len(row) else "" for i in at] for _, row in lines[1:]]
    asset, time = (np.array([c[i] for c in cells], object) for i in (0, 1))
    known, lost = durations(time) if contract.clock == "life" else times(time)
    lost = lost | ~(np.abs(known / contract.tick) < 2.0**62) if contract.clock == "life" else lost | (known == NEVER)
    wrong = [
        f"row {lines[i + 1][0]}, {time[i]!r} is not a time{' with a zone, such as 2026-11-30T14:05:00Z' if contract.clock == 'calendar' else ''} -> correct it"
        for i in np.flatnonzero(lost)
    ]
    if wrong:
        raise _error(path, wrong)
    who = names(asset)
    return {str(a): next_life(contract, known[who == a]) for a in dict.fromkeys(who.tolist())}


def count_lines(path: str | Path) -> int:
    """How many lines a file has, about as many as rows; 0 where it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return sum(part.count(b"\n") for part in iter(lambda: file.read(1 << 20), b""))
    except OSError:
        return 0


def write_quarantine(path: str | Path, breaches: Iterable[Breach]) -> None:
    """Writes one line for each refused row, and for each value set apart; the file appears whole or not at all."""
    with replacing(Path(path)) as part, part.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(QUARANTINE)
        writer.writerows(tuple(getattr(b, name) for name in QUARANTINE) for b in breaches)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` once the block has ended without an error."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The cells of each row, and the number of the line on which it begins."""
    begins = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as text:
            header = next((line for line in text if line.strip()), "")
            text.seek(0)
            delimiter = ";" if header.count(";") > header.count(",") else ","
            reader = csv.reader(text, delimiter=delimiter, strict=True)
            for cells in reader:
                if len(cells) > 1 or "".join(cells).strip():
                    yield begins, cells
                begins = reader.line_num + 1
    except OSError as error:
        raise _error(path, [f"{error.strerror} -> check the path and its permissions"]) from None
    except csv.Error as error:
        raise _error(path, [f"line {begins}: {error} -> close the quote, or remove the stray character"]) from None
    except UnicodeDecodeError:
        raise _not_utf8(path) from None


def _not_utf8(path: Path) -> DataError:
    data = path.read_bytes()  # the reader decodes ahead of the line it gives
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        return _error(path, [f"line {line}: byte 0x{data[error.start]:02x} is not UTF-8 -> save the file as UTF-8"])
    return _error(path, ["the file changed while it was read -> try again"])


def _error(path: Path, problems: list[str]) -> DataError:
    count = f"{len(problems):,} problem{'s' if len(problems) > 1 else ''}"
    more = [f"... and {len(problems) - 8:,} more"] if len(problems) > 8 else []
    return DataError("\n  ".join([f"Cannot read {path}: {count}, nothing was written", *problems[:8], *more]))
