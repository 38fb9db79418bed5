"""Text tables as Markdown, for pages that set it."""

from __future__ import annotations

import re
from collections.abc import Sequence

GAP = "   "  # between the columns of a text table


def grid(cells: Sequence[Sequence[str]]) -> str:
    """Rows of cells as a table, the first as its head. MLflow sets the columns of a table without room between them, so that they bring
    their own.

    Example:
        >>> print(grid([["", "RMSE"], ["winner", "42 | 43"]]))
        |   | &nbsp; RMSE |
        | --- | --- |
        | winner | &nbsp; 42 \\| 43 |
    """
    shown = [[cell.replace("|", "\\|") for cell in row] for row in cells]
    lines = ["| " + " | ".join([row[0] or " ", *(f"&nbsp; {cell}" for cell in row[1:])]) + " |" for row in shown]
    return "\n".join([lines[0], "| " + " | ".join(["---"] * len(cells[0])) + " |", *lines[1:]])


def from_text(text: str) -> str:
    """A text table as Markdown: columns stand `GAP` apart in every line; lines without a gap are a caption above it or notes below.

    Example:
        >>> print(from_text("Hours\\n         RMSE   n\\nwinner   42     7\\nNote."))
        Hours
        <BLANKLINE>
        |   | &nbsp; RMSE | &nbsp; n |
        | --- | --- | --- |
        | winner | &nbsp; 42 | &nbsp; 7 |
        <BLANKLINE>
        Note.
    """
    found, block = [], list[str]()
    for line in [*text.splitlines(), ""]:
        if GAP in line:
            block.append(line)
            continue
        if block:
            found.append(grid(_columns(block)))
            block = []
        if line:
            found.append(re.sub(r"([*_|`<])", r"\\\1", line))
    return "\n\n".join(found)


def _columns(lines: Sequence[str]) -> list[list[str]]:
    """The cells of lines that were padded to columns: a column begins where every line has a gap before it and some line has a sign."""
    width = max(map(len, lines))
    padded = [line.ljust(width) for line in lines]
    empty = [all(line[i] == " " for line in padded) for i in range(width)]
    starts = [0] + [i for i in range(len(GAP), width) if not empty[i] and all(empty[i - len(GAP) : i])]
    return [[line[a:b].strip() for a, b in zip(starts, [*starts[1:], width], strict=True)] for line in padded]
