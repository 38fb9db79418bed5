"""A store's database that is damaged is refused in words, and left as it is."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from pmx.contract import DataError
from pmx.database import check_database
from pmx.run import main
from pmx.tracking import Tracker


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:300_000])


def without_its_end(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-4096])


def overwritten(file: Path) -> None:
    """The schema is whole, a page far behind it is not: only the data themselves tell."""
    data, page = file.read_bytes(), 4096
    file.write_bytes(data[: 150 * page] + b"\x7f" * page + data[151 * page :])


def no_database(file: Path) -> None:
    file.write_text("time;value\n")


def of_something_else(file: Path) -> None:
    file.unlink()
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE reads (digest TEXT)")


def of_another_mlflow(file: Path) -> None:
    with closing(sqlite3.connect(file)) as database:
        database.execute("UPDATE alembic_version SET version_num = 'abc'")
        database.commit()


@pytest.fixture
def store(store_template: Path, workdir: Path) -> Path:
    """A store with something kept by its runs."""
    folder = workdir / "the store"
    (folder / "artifacts").mkdir(parents=True)
    shutil.copy(store_template, folder / "mlflow.db")
    return folder


@pytest.mark.parametrize(
    "harm", [emptied, truncated, without_its_end, overwritten, no_database, of_something_else, of_another_mlflow], ids=lambda f: f.__name__
)
def test_every_command_that_opens_a_broken_store_says_so_and_changes_nothing(store: Path, harm: Callable[[Path], None], capsys) -> None:
    file = store / "mlflow.db"
    harm(file)
    before = file.read_bytes()
    given = ["--store", str(store), "--json"]
    for words in (["compare"], ["promote", "demo"], ["ui"]):
        assert main([*words, *given]) == 3
        said = capsys.readouterr()
        told = json.loads(said.out.splitlines()[-1])
        assert told["exit_code"] == 3 and str(file) in told["error"] and " -> " in told["error"] and "Traceback" not in said.err
    assert file.read_bytes() == before and sorted(p.name for p in store.iterdir()) == ["artifacts", "mlflow.db", "mlflow.lock"]


def test_a_run_is_refused_before_it_reads_anything(store: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pmx.pipeline.run", lambda *_: pytest.fail("the run began"))
    truncated(store / "mlflow.db")
    assert main(["run", "demo", "tracking.store=the store", "model=lightgbm", "--json"]) == 3
    assert "mlflow.db" in json.loads(capsys.readouterr().out.splitlines()[-1])["error"]


def test_a_store_that_a_kill_left_half_made_is_none_of_them(store: Path) -> None:
    emptied(store / "mlflow.db")
    (store / "artifacts").rmdir()
    check_database(store / "mlflow.db", store / "artifacts")
    check_database(store / "nowhere.db", store / "artifacts")


def test_a_writer_that_never_ends_is_named(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pmx.database.PATIENCE", 0.0)
    with closing(sqlite3.connect(store / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(DataError, match="locked for 0 s -> wait"):
            Tracker(store, "pumps")
