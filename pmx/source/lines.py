"""Text files of numbers, read line by line without guessing: what a line lacks or has too much is left to the contract.

A CSV reader takes a line that ends too soon for one whose last values are missing. Here each absent cell holds a text by which
the contract refuses the row and names the channel, and the other rows can still be used.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from pmx.contract import CUT, DataError, UsageError, shown


def check_names(names: Sequence[str], noun: str, example: str) -> None:
    """Refuses a subset without a name, with one twice, or with one that is not `folder/name`: it becomes a path, here and at home."""
    if not names or len(set(names)) < len(names):
        raise UsageError(f"source.subset is {list(names)}: name at least one {noun}, and each of them once")
    for name in names:
        if not re.fullmatch(r"[\w-]+/[\w-]+", name):
            raise UsageError(f"source.subset: {shown(name)!r} is no {noun} -> write {example}")


def cells_of(file: Path, separator: str | None) -> list[tuple[int, list[str]]]:
    """Number (1 = the first) and stripped cells of every line that is not blank; a separator of None is any run of blanks."""
    try:
        text = file.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise DataError(f"{file}: {error.strerror} -> check the path and its permissions") from None
    # Not splitlines: it would also cut at control characters, and move every row number after them.
    lines = ((number, line.rstrip("\r")) for number, line in enumerate(text.split("\n"), 1))
    return [(number, [cell.strip() for cell in line.split(separator)]) for number, line in lines if line.strip()]


def table_of(file: Path, asset: str, lines: Sequence[tuple[int, Sequence[str]]], names: Sequence[str]) -> pl.DataFrame:
    """One asset's rows as raw text.

    Returns:
        `file`, `row`, `asset`, the named columns in their order on the line, where an absent cell is `CUT`, and columns such as
        `column_12` for surplus cells, null in all other rows.
    """
    rows = [cells for _, cells in lines]
    columns: dict[str, list[str | None]] = {n: [row[i] if i < len(row) else CUT for row in rows] for i, n in enumerate(names)}
    for i in range(len(names), max([0, *map(len, rows)])):
        columns[f"column_{i + 1}"] = [row[i] if i < len(row) else None for row in rows]
    table = pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))
    row = pl.Series("row", [number for number, _ in lines], dtype=pl.Int64)
    return table.select(pl.lit(str(file)).alias("file"), row, pl.lit(asset).alias("asset"), pl.all())


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts names as people count: `valve1/2` before `valve1/10`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split("([0-9]+)", name)]
