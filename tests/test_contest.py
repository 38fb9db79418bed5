"""What `pmx compare` and `pmx promote` print and give, on runs of plain values."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pmx.contest import beside, compare, promote, table
from pmx.contract import GateError
from pmx.evaluate.protocol import Protocol
from pmx.reads import Reads
from pmx.registry import Registry
from pmx.run import main
from pmx.tracking import Tracker
from tests.evaluate.test_versus import PROTOCOL, kept
from tests.store import CORE_DIGEST, DIGEST, outcome


def run_of(
    tracker: Tracker, bundle: Path, error: float, digest: str = DIGEST, accepted: str = "", doubt: str = "", protocol: Protocol = PROTOCOL
) -> str:
    run = tracker.start("starting", {})
    tracker.data(run, "demo", digest, "synthetic")
    Reads(tracker.folder).meet(digest, run, "winner")
    numbers = {"test/rmse_last_capped": error, "test/event_recall": 0.875, "test/event_recall_lo": 0.5, "test/event_recall_hi": 1.0}
    numbers |= {"test/false_alarms_per_asset_month": 0.1 * error}
    title = f"synthetic pumps · lightgbm · RMSE {error:.1f} [{error - 1:.1f}, {error + 1:.1f}]"
    known = kept(error, digest, protocol=protocol)
    found = replace(outcome(error, bundle), title=title, metrics=numbers, evaluation=known, accepted=accepted, doubt=doubt)
    tracker.finish(run, found)
    Registry(tracker).register(run, "demo", CORE_DIGEST)
    return run


def test_the_champion_and_the_challenger_are_paired(tracker: Tracker, bundle: Path, tmp_path: Path, capsys) -> None:
    runs = [run_of(tracker, bundle, error) for error in (9.0, 3.0)]
    found = compare(tracker, ["champion", "challenger"], output=tmp_path / "plots")
    said = capsys.readouterr().out
    assert [r["run_id"] for r in found["runs"]] == runs and (found["paired"]["a"], found["paired"]["b"]) == tuple(runs)
    main = found["paired"]["differences"][0]
    assert main["measure"] == "rmse_all_capped" and main["said"] == "B better" and main["difference"][2] < 0 and main["b"] < main["a"]
    assert "A is v1 (champion), B is v2 (challenger)" in said and "B better" in said and "read 2 times in this store" in said
    assert len(found["paired"]["plots"]) == 2
    assert all(
        Path(plot).read_bytes().startswith(b"\x89PNG") and Path(plot).parent == tmp_path / "plots" for plot in found["paired"]["plots"]
    )
    json.loads(json.dumps(found, allow_nan=False))


def test_other_data_stand_side_by_side_unpaired(tracker: Tracker, bundle: Path, capsys) -> None:
    runs = [run_of(tracker, bundle, 3.0), run_of(tracker, bundle, 9.0, digest="f" * 64)]
    found = compare(tracker, [r[:12] for r in runs])
    said = capsys.readouterr().out
    assert "Not paired: the data differ" in said and found["paired"]["differences"] == [] and len(found["runs"]) == 2
    assert "Figures of different data are not comparable" in said and "a: data" in said and "b: data" in said


def test_the_list_of_runs_fits_the_terminal(tracker: Tracker, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_of(tracker, bundle, 3.0)
    failed = tracker.start("a name that is much longer than a line of any terminal can hold " * 3, {})
    tracker.fail(failed, "no data")
    rows, versions, reads = tracker.compare(), Registry(tracker).versions(), Reads(tracker.folder)
    for width in (100, 120, 200):
        monkeypatch.setenv("COLUMNS", str(width))
        lines = table(rows, versions, reads).splitlines()
        assert all(len(line) <= width for line in lines) and "FAILED" in lines[1] and "v1 champ." in lines[2]
    assert (
        lines[0].split()[3:5] == ["synthetic", "pumps"]
        and "0.88 [0.5, 1]" in lines[2]
        and "RMSE 3.0 [2.0, 4.0]" in lines[2]
        and lines[-1].endswith("read once in this store")
    )


def test_leakage_that_was_accepted_is_said_below_the_list(tracker: Tracker, bundle: Path, capsys) -> None:
    run_of(tracker, bundle, 3.0, accepted="a test bench")
    compare(tracker, [])
    said = capsys.readouterr().out
    assert "(leakage accepted)" in said and "Leakage accepted in " in said and "a test bench" in said


def test_promotion_prints_the_comparison_first(tracker: Tracker, bundle: Path, capsys) -> None:
    for error in (9.0, 3.0):
        run_of(tracker, bundle, error)
    found = promote(tracker, "de", "", False, False)
    said = capsys.readouterr().out
    assert (found["version"], found["former"]) == ("2", "1") and found["paired"]["differences"][0]["said"] == "B better"
    assert said.index("B better") < said.index("demo v2 is champion now, v1 was it before")
    assert Registry(tracker).version("demo", "champion").number == "2"
    promote(tracker, "demo", "2", False, False)
    assert "is champion already" in capsys.readouterr().out


def test_a_refused_promotion_changes_nothing_and_says_why_after_the_comparison(tracker: Tracker, bundle: Path, capsys) -> None:
    run_of(tracker, bundle, 9.0)
    run_of(tracker, bundle, 3.0, digest="f" * 64)
    with pytest.raises(GateError, match="Cannot promote demo v2: it learnt from other data"):
        promote(tracker, "demo", "challenger", False, False)
    assert "Not paired" in capsys.readouterr().out and Registry(tracker).version("demo", "champion").number == "1"


def test_what_was_measured_by_other_rules_needs_a_word(tracker: Tracker, bundle: Path) -> None:
    run_of(tracker, bundle, 9.0)
    run_of(tracker, bundle, 3.0, protocol=Protocol(cap=100, horizon=60, lead=5, draws=20))
    with pytest.raises(
        GateError, match=r"Cannot promote demo v2: it was not compared with v1 \(they were measured by other rules.*--other-data"
    ):
        promote(tracker, "demo", "", False, False)
    assert Registry(tracker).version("demo", "champion").number == "1"
    assert promote(tracker, "demo", "", False, True)["version"] == "2"


def test_a_doubt_is_said_at_promotion(tracker: Tracker, bundle: Path, capsys) -> None:
    run_of(tracker, bundle, 9.0, doubt="No better than age only")
    promote(tracker, "demo", "", False, False)
    assert "Doubt: No better than age only" in capsys.readouterr().out


def test_a_new_run_is_set_against_the_champion(tracker: Tracker, bundle: Path) -> None:
    Reads(tracker.folder).meet(DIGEST, "a new run", "winner")
    first = beside(tracker, "a new run", "demo", kept(3.0, DIGEST))
    assert first.versus == "" and first.metrics == {"reads/this_run": 1.0, "reads/this_data": 1.0} and "read once" in first.reads
    run_of(tracker, bundle, 9.0)
    then = beside(tracker, "a new run", "demo", kept(3.0, DIGEST))
    assert then.versus.startswith("Against champion v1: RMSE, hours, all readings, capped: 3.08") and then.versus.endswith(
        "this run better"
    )
    low, value, high = (then.metrics[f"vs_champion/rmse_all_capped{end}"] for end in ("_lo", "", "_hi"))
    assert low <= value <= high < 0 and np.isfinite(low) and then.metrics["reads/this_data"] == 2.0
    other = beside(tracker, "a new run", "demo", kept(3.0, "f" * 64))
    assert other.versus.startswith("Not paired with champion v1: the data differ") and not [k for k in other.metrics if "champion" in k]


def test_a_file_that_cannot_be_written_keeps_the_promise_of_json(tracker: Tracker, bundle: Path, tmp_path: Path, capsys) -> None:
    for error in (9.0, 3.0):
        run_of(tracker, bundle, error)
    (tmp_path / "taken").write_text("a file where a folder should be")
    code = main(["compare", "1", "2", "--store", str(tracker.folder), "--output", str(tmp_path / "taken"), "--json"])
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code == last["exit_code"] == 2 and "taken" in last["error"]
