"""A meeting with the test part is counted before it happens, whatever becomes of the run."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pmx.contract import DataError
from pmx.reads import Reads

ROOT = Path(__file__).parents[1]
READS = "import sys; from pathlib import Path; from pmx.reads import Reads; reads = Reads(Path(sys.argv[1]))\n"
FOR_EVER = READS + "n = 0\nwhile True:\n    reads.meet('data', 'killed', 'winner'); n += 1; print(n, flush=True)"
FIFTY = READS + "for i in range(50):\n    reads.meet('data', sys.argv[2], str(i))"


def child(code: str, *words: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(met=st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["run 1", "run 2", "ü'\""])), max_size=8))
def test_every_meeting_counts_for_its_data_and_its_run(tmp_path_factory, met: list[tuple[str, str]]) -> None:
    reads = Reads(tmp_path_factory.mktemp("store"))
    for digest, run in met:
        reads.meet(digest, run, "winner")
    for digest in "ab":
        assert Reads(reads.file.parent).count(digest) == sum(d == digest for d, _ in met)
        for run in ("run 1", "run 2", "ü'\""):
            assert reads.count(digest, run) == met.count((digest, run))


def test_nothing_was_read_where_nobody_counted(tmp_path: Path) -> None:
    assert Reads(tmp_path).count("data") == 0 and not (tmp_path / "reads.db").exists()


def test_a_spoilt_count_stops_what_would_go_uncounted(tmp_path: Path) -> None:
    (tmp_path / "reads.db").write_text("no database, and longer than the head of one " * 5)
    for use in (lambda r: r.meet("data", "me", "winner"), lambda r: r.count("data")):
        with pytest.raises(DataError, match="reads.db: file is not a database -> "):
            use(Reads(tmp_path))


def test_the_count_is_told_in_a_sentence(tmp_path: Path) -> None:
    reads = Reads(tmp_path)
    reads.meet("data", "me", "winner")
    assert reads.said("data", "me") == "The test part of this data set has been read once in this store, 1 of them by this run."
    reads.meet("data", "another", "winner")
    assert "read 2 times in this store, 1 of them by this run" in reads.said("data", "me")


def test_a_killed_run_has_read_all_the_same(tmp_path: Path) -> None:
    process = child(FOR_EVER, tmp_path)
    assert process.stdout is not None
    told = [int(process.stdout.readline()) for _ in range(5)]
    process.kill()
    told += [int(line) for line in process.stdout.read().split()]
    process.wait()
    process.stdout.close()
    counted = Reads(tmp_path).count("data", "killed")
    assert told[-1] <= counted <= told[-1] + 1, "each told meeting, and at most the one that was being told"
    with sqlite3.connect(tmp_path / "reads.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


def test_two_runs_at_once_lose_no_row(tmp_path: Path) -> None:
    both = [child(FIFTY, tmp_path, name) for name in ("one", "two")]
    assert [p.wait() for p in both] == [0, 0]
    for process in both:
        assert process.stdout is not None
        process.stdout.close()
    assert [Reads(tmp_path).count("data", name) for name in ("one", "two")] == [50, 50]


def test_the_evidence_holds_the_count_from_the_first_meeting_on(tmp_path: Path) -> None:
    evidence: dict[str, object] = {"seed": 0}
    Reads(tmp_path).meet("data", "earlier", "winner")
    meet = Reads(tmp_path).noting("me", evidence)
    assert "reads" not in evidence
    meet("data", "winner")
    meet("data", "age only")
    assert evidence == {"seed": 0, "reads": {"by_this_run": 2, "in_this_store": 3}}
