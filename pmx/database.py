"""Whether the embedded database of a store can be used, asked before MLflow opens it: it would end in a traceback, or fill what is not its own."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from pmx.contract import DataError

PATIENCE = 60.0  # seconds that one command waits for another to write
MENDING = (
    "restore it from a copy, or move it away: the next pmx run then begins a new store, and pages, bundles and artifacts stay on the disk"
)


def check_database(file: Path, artifacts: Path) -> None:
    """Refuses a file that is no sound database of MLflow; one that is not there yet is none of our business. Writes nothing.

    Args:
        file: the database, `mlflow.db`.
        artifacts: where its runs keep theirs; where that is, an empty database has lost what it knew.

    Raises:
        DataError: it is damaged, empty beside artifacts, or belongs to something else.

    Example:
        >>> check_database(Path("nowhere.db"), Path("artifacts"))
    """
    if not file.exists():
        return
    try:
        found = _fault(file)
    except sqlite3.Error as error:
        if error.sqlite_errorname == "SQLITE_BUSY":
            raise DataError(
                f"Cannot use {file}: {error} for {PATIENCE:g} s -> wait for the command that writes to it, or end it"
            ) from error
        found = str(error)
    if not found and not file.stat().st_size and artifacts.exists():
        found = f"it is empty, though {artifacts} has what runs kept"
    if found:
        raise DataError(f"Cannot use {file}, the list of runs and versions: {found}; nothing was changed in it -> {MENDING}")


def _fault(file: Path) -> str:
    """What is wrong with a database; empty where it is sound."""
    # Not read-only: a journal that a killed process left behind must be rolled back before anybody can judge.
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=PATIENCE)) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and not tables & {"experiments", "alembic_version"}:
            return f"it is a database of something else, with {', '.join(sorted(tables)[:3])}"
        said = str(database.execute("PRAGMA quick_check(1)").fetchone()[0])
    return "" if said == "ok" else " ".join(said.split())
