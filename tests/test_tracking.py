"""What MLflow must show of a run, and what must never be in it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from pmx import page
from pmx.contract import DataError, UsageError
from pmx.process import process_started
from pmx.registry import Registry
from pmx.tracking import Tracker, flatten
from tests.store import CORE_DIGEST, DIGEST, finished, outcome


def status(tracker: Tracker, run: str) -> str:
    return tracker.client.get_run(run).info.status


def children(tracker: Tracker, run: str):
    return tracker._search(f"tags.`mlflow.parentRunId` = '{run}'")


def test_a_parent_carries_the_winner_and_candidates_nest_under_it(tracker: Tracker) -> None:
    run = finished(tracker, 10.7)
    parent = tracker.client.get_run(run)
    assert (parent.info.run_name, parent.info.status) == ("demo · lightgbm · RMSE 10.7", "FINISHED")
    assert set(parent.data.metrics) == {"test/rmse_last_capped", "test/rmse_last_capped_lo", "test/rmse_last_capped_hi"}
    assert parent.data.params == {"model.lightgbm.leaves": "31", "seeds": "[1, 2]", "seed.split": "7"}
    wanted = {
        "pmx.gate.parity": "pass", "pmx.core_digest": CORE_DIGEST, "pmx.test_reads": "2", "pmx.winner": "lightgbm",
        "mlflow.source.git.commit": "abc123", "mlflow.note.content": "Verdict.", "pmx.data_digest": DIGEST,
    }  # fmt: skip
    assert wanted.items() <= parent.data.tags.items()
    assert "pmx.refused_by" not in parent.data.tags
    assert {(c.info.run_name, c.info.status) for c in children(tracker, run)} == {("lightgbm", "FINISHED"), ("mlp", "FINISHED")}


def test_the_unexpanded_run_list_sorts_by_a_metric(tracker: Tracker) -> None:
    runs = {rmse: finished(tracker, rmse) for rmse in (12.0, 10.5, 11.0)}
    found = tracker.client.search_runs([tracker.experiment_id], "tags.`pmx.kind` = 'run'", order_by=["metrics.`test/rmse_last_capped` ASC"])
    assert [r.info.run_id for r in found] == [runs[r] for r in (10.5, 11.0, 12.0)]


def test_the_data_digest_is_a_dataset_input_and_whole_in_a_tag(tracker: Tracker) -> None:
    (given,) = tracker.client.get_run(finished(tracker, 10.0)).inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("demo", DIGEST[:36])
    assert json.loads(given.dataset.source) == {"uri": "synthetic"}


def test_a_refused_run_fails_with_its_culprit_and_is_never_registered(tracker: Tracker, bundle: Path) -> None:
    run = tracker.start("leaky", {})
    left_open = tracker.child(run, "lightgbm")
    tracker.refuse(run, "kernel centred_mean", "it looks 3 ticks ahead", outcome(9.0, bundle, parity=True, look_ahead=False))
    refused = tracker.client.get_run(run)
    assert refused.info.status == "FAILED"
    assert refused.data.tags["pmx.refused_by"] == "kernel centred_mean"
    assert refused.data.tags["mlflow.note.content"].startswith("**Refused by kernel centred_mean**: it looks 3 ticks ahead")
    assert refused.data.tags["pmx.gate.look_ahead"] == "fail"
    assert status(tracker, left_open) == "FAILED"
    with pytest.raises(UsageError, match="FAILED"):
        Registry(tracker).register(run, "demo", CORE_DIGEST)
    assert tracker.client.search_registered_models() == []


def test_an_error_ends_the_run_and_its_children(tracker: Tracker) -> None:
    run = tracker.start("broken", {"sink": {"url": "x", "password": "hunter2"}})
    open_child = tracker.child(run, "mlp")
    tracker.fail(run, "cannot reach mqtt://me:hunter2@broker")
    assert (status(tracker, run), status(tracker, open_child)) == ("FAILED", "FAILED")
    failed = tracker.client.get_run(run).data
    assert failed.tags["pmx.error"] == "cannot reach mqtt://***@broker"
    config = Path(tracker.client.download_artifacts(run, "config.yaml")).read_text()
    assert failed.params["sink.password"] == "***" and "hunter2" not in config + str(failed.tags)


def test_the_next_command_marks_a_run_whose_process_was_killed(tracker: Tracker) -> None:
    process = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    try:
        tags = {"pmx.pid": str(process.pid), "pmx.process_started": process_started(process.pid)}
        run = tracker.start("killed", {}, tags=tags)
        child = tracker.child(run, "lightgbm")
        assert tracker.mark_killed() == []
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, but not yet collected: a zombie
        assert tracker.mark_killed() == [run]
    finally:
        process.kill()
        process.wait()
    assert (status(tracker, run), status(tracker, child)) == ("KILLED", "KILLED")


@pytest.mark.parametrize(
    ("tags", "after"),
    [
        ({}, "RUNNING"),
        ({"pmx.process_started": "1"}, "KILLED"),  # the number now belongs to another process
        ({"pmx.host": "another-host", "pmx.process_started": "1"}, "RUNNING"),
    ],
    ids=["alive", "reused pid", "other host"],
)
def test_only_what_is_surely_dead_is_marked(tracker: Tracker, tags: dict[str, str], after: str) -> None:
    run = tracker.start("running", {}, tags=tags)
    elsewhere = Tracker(tracker.folder, "another experiment")
    assert elsewhere.mark_killed() == ([run] if after == "KILLED" else [])
    assert status(tracker, run) == after


def test_nothing_is_a_pickle_and_every_file_is_of_a_known_kind(tracker: Tracker, bundle: Path) -> None:
    finished(tracker, 10.0, bundle)
    kept = [f for f in (tracker.folder / "artifacts").rglob("*") if f.is_file()]
    assert {f.name for f in kept} == {"config.yaml", "error by true RUL.png", *(f.name for f in bundle.iterdir())}
    assert not [f for f in kept if f.read_bytes()[:1] == b"\x80" or b"pickle" in f.read_bytes()]


def test_who_only_reads_creates_no_experiment(tracker: Tracker) -> None:
    with pytest.raises(UsageError, match="no experiment 'nope'"):
        Tracker(tracker.folder, "nope", new=False)
    assert tracker.client.get_experiment_by_name("nope") is None


def test_compare_says_which_runs_saw_the_same_data(tracker: Tracker) -> None:
    runs = [finished(tracker, 10.0), finished(tracker, 11.0)]
    other = tracker.start("other data", {})
    tracker.data(other, "demo", "f" * 64, "synthetic")
    tracker.finish(other, outcome(12.0, parity=True, leakage=False))
    rows = tracker.compare([*runs, other])
    assert [(r["winner"], r["comparable"]) for r in rows] == [("lightgbm", True), ("lightgbm", True), ("lightgbm", False)]
    assert rows[2]["gates"] == {"parity": True, "leakage": False}
    assert [r["run_id"] for r in tracker.compare(latest=2)] == [other, runs[1]]  # candidates are no runs of their own
    json.dumps(rows)
    with pytest.raises(UsageError, match="cannot compare"):
        tracker.compare(["0" * 32])


def test_long_and_many_parameters_are_taken(tracker: Tracker) -> None:
    run = tracker.start("large", {"long": "x" * 9000, "many": {f"p{i}": i for i in range(250)}})
    params = tracker.client.get_run(run).data.params
    assert len(params) == 251 and params["long"].endswith("x …") and len(params["long"]) == 6000


def test_names_of_faults_and_channels_end_in_no_traceback(tracker: Tracker) -> None:
    run = tracker.start("odd", {"channels": {"T [°C]": 1, "T (°C)": 2, "../x": 3}})
    tracker.finish(run, replace(outcome(1.0), metrics={"test/fault #3, ring?/f1": 0.5, "test/fault #3, ring!/f1": 0.25}))
    data = tracker.client.get_run(run).data
    assert sorted(data.metrics.values()) == [0.25, 0.5] and sorted(data.params.values()) == ["1", "2", "3"]


def test_a_sweep_is_a_parent_of_its_own_kind(tracker: Tracker) -> None:
    sweep = tracker.start("trees", {}, kind="sweep")
    assert tracker.client.get_run(sweep).data.tags["pmx.kind"] == "sweep" and tracker.compare() == []
    killed = tracker.start("dead", {}, kind="sweep", tags={"pmx.process_started": "1"})
    assert tracker.mark_killed() == [killed] and status(tracker, sweep) == "RUNNING"


def test_who_names_no_experiment_reads_that_of_the_newest_run(tracker: Tracker) -> None:
    with pytest.raises(UsageError, match="no run in"):
        Tracker(tracker.folder, "", new=False)
    finished(tracker, 10.0)
    assert Tracker(tracker.folder, "", new=False).experiment_id == tracker.experiment_id


def test_what_a_comparison_needs_is_kept_as_plain_data(tracker: Tracker) -> None:
    run = tracker.start("kept", {})
    tracker.finish(
        run, replace(outcome(1.0), evaluation={"rows": {"winner": {"assets": ["Pumpe Ü"]}}}, data_reads=7, doubt="No better than a clock")
    )
    assert tracker.evaluation(run) == {"rows": {"winner": {"assets": ["Pumpe Ü"]}}}
    assert tracker.evaluation(finished(tracker, 10.0)) == {}
    kept = tracker.folder / "artifacts" / run / "artifacts" / "evaluation.json"
    kept.write_text(kept.read_text("utf-8")[:-2], "utf-8")
    with pytest.raises(DataError, match=f"evaluation.json of run {run[:8]}.*restore it"):
        tracker.evaluation(run)
    tags = tracker.client.get_run(run).data.tags
    assert (tags["pmx.data_reads"], tags["pmx.doubt"]) == ("7", "No better than a clock")


def test_flatten_keeps_lists_whole_and_empty_maps_visible() -> None:
    assert flatten({"a": {"b": 1, "c": {}}, "d": [1, "x"]}) == {"a.b": 1, "a.c": "{}", "d": '[1, "x"]'}


def test_a_busy_port_gives_the_next_one() -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        assert port < page._free_port(port) < port + 20


def test_the_page_answers_shows_the_artifacts_and_ends(tracker: Tracker, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = finished(tracker, 10.0, bundle)
    Registry(tracker).register(run, "demo", CORE_DIGEST)
    printed: list[str] = []
    answers: list[bytes] = []
    ended: list[subprocess.Popen[bytes]] = []
    over, swallowed = threading.Event(), list[bool]()
    ready = threading.Event()

    def reader() -> None:
        try:
            assert ready.wait(60)
            address = printed[0].split()[1].partition("/#")[0]
            run_list = "/ajax-api/2.0/mlflow/artifacts/list?path=bundle&run_id=" + run
            models = "/ajax-api/2.0/mlflow/registered-models/search?max_results=10"
            for path in ("/", run_list, f"/get-artifact?path=bundle/spec.json&run_uuid={run}", models):
                with urllib.request.urlopen(address + path, timeout=20) as answer:
                    answers.append(answer.read())
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            if not over.wait(30):  # swallowed: end it all the same, and say so
                swallowed.append(True)
                os.kill(os.getpid(), signal.SIGTERM)

    def end(process: subprocess.Popen[bytes]) -> None:
        ended.append(process)
        end_group(process)

    end_group = page._end_group
    monkeypatch.setattr(page, "_end_group", end)
    monkeypatch.setattr(page, "print", lambda text, flush: (printed.append(text), ready.set()), raising=False)
    thread = threading.Thread(target=reader)
    thread.start()
    page.ui(tracker, port=5931)
    over.set()
    thread.join()
    assert not swallowed, "Ctrl-C did not end the page"

    assert f"/#/experiments/{tracker.experiment_id}/runs" in printed[0]
    start, listed, spec, models = answers
    assert b"<html" in start
    assert {f["path"] for f in json.loads(listed)["files"]} == {f"bundle/{f.name}" for f in bundle.iterdir()}
    assert spec == (bundle / "spec.json").read_bytes()
    assert json.loads(models)["registered_models"][0]["name"] == "demo"
    with pytest.raises(ProcessLookupError):
        os.killpg(ended[0].pid, 0)
