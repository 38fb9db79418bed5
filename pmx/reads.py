"""How often the test part of some data was met: a count beside the store of runs, made before each meeting so that nothing undoes it.

A test part that was looked at often is no test any more: who picks the best of forty looks has fitted it. The count is of the
data, not of a run: killed and refused runs have looked too.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pmx.contract import DataError

PATIENCE = 60.0  # seconds that one run waits for another to write its row
MADE = "CREATE TABLE IF NOT EXISTS reads (digest TEXT NOT NULL, run TEXT NOT NULL, row TEXT NOT NULL, at TEXT NOT NULL)"


class Reads:
    """The meetings with test parts that a store's folder knows of, a row each in `reads.db`.

    Args:
        folder: the store's; it must be there.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     reads = Reads(Path(folder))
        ...     reads.meet("digest of the data", "a run", "winner")
        ...     reads.meet("digest of the data", "another run", "winner")
        ...     reads.count("digest of the data"), reads.count("digest of the data", "a run"), reads.count("other data")
        (2, 1, 0)
    """

    def __init__(self, folder: Path) -> None:
        self.file = Path(folder) / "reads.db"

    def meet(self, digest: str, run: str, row: str) -> None:
        """Note that this row of this run is about to meet the test part of the data with this digest; on the disk when it returns."""
        with self._open() as database:
            database.execute(MADE)
            database.execute("INSERT INTO reads VALUES (?, ?, ?, ?)", (digest, run, row, datetime.now(UTC).isoformat(timespec="seconds")))

    def count(self, digest: str, run: str = "") -> int:
        """How often the test part of the data with this digest was met, by all runs or by this one."""
        if not self.file.is_file():
            return 0
        with self._open() as database:
            database.execute(MADE)
            found = database.execute("SELECT count(*) FROM reads WHERE digest = ? AND (run = ? OR ? = '')", (digest, run, run))
            return int(found.fetchone()[0])

    def noting(self, run: str, evidence: dict[str, Any]) -> Callable[[str, str], None]:
        """What takes a digest and a row's name before that row meets the test part; it also keeps the counts as `reads` in `evidence`."""

        def meet(digest: str, row: str) -> None:
            self.meet(digest, run, row)
            evidence["reads"] = {"by_this_run": self.count(digest, run), "in_this_store": self.count(digest)}

        return meet

    def said(self, digest: str, run: str) -> str:
        """The count as a sentence, of all runs and of this one."""
        every, own = self.count(digest), self.count(digest, run)
        return f"The test part of this data set has been read {times(every)} in this store, {own} of them by this run."

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """One transaction on a connection of its own: runs in other processes write too, and a kill leaves no half row."""
        database = sqlite3.connect(self.file, timeout=PATIENCE, isolation_level=None)
        try:
            # A write-ahead log can lose itself in some versions of SQLite when it is reset; a truncated journal cannot.
            database.execute("PRAGMA journal_mode = TRUNCATE")
            database.execute("PRAGMA synchronous = FULL")
            database.execute("BEGIN IMMEDIATE")
            yield database
            database.execute("COMMIT")
        except sqlite3.Error as error:
            raise DataError(
                f"Cannot use {self.file}: {error} -> restore it from a copy; it alone knows how often test parts were read"
            ) from error
        finally:
            database.close()


def times(count: int) -> str:
    """`once`, or `7 times`."""
    return "once" if count == 1 else f"{count} times"
