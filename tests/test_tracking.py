"""What MLflow must show of a run, and what must never be in it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from dataclasses import replace
from pathlib import Path

import matplotlib
import pytest
from matplotlib.figure import Figure

from pmx import page
from pmx.contract import UsageError
from pmx.process import process_started
from pmx.tracking import Outcome, Tracker, flatten, table

matplotlib.use("agg")

DIGEST = "sha256-" + "ab" * 32


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated store: migrating takes seconds, copying it none."""
    folder = tmp_path_factory.mktemp("template")
    Tracker(folder, "template").close()
    return folder / "mlflow.db"


@pytest.fixture
def tracker(template: Path, tmp_path: Path):
    folder = tmp_path / "a folder with spaces"
    folder.mkdir()
    shutil.copy(template, folder / "mlflow.db")
    made = Tracker(folder, "pumps")
    yield made
    made.close()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "a bundle"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"\x08\x0a")
    (folder / "spec.json").write_text('{"task": "rul"}')
    return folder


def outcome(rmse: float, bundle: Path | None = None, **gates: bool) -> Outcome:
    figure = Figure()
    figure.subplots().plot([0, 1], [1, 0])
    numbers = {"test/rmse_last_capped": rmse, "test/rmse_last_capped_lo": rmse - 1, "test/rmse_last_capped_hi": rmse + 1, "test/none": None}
    return Outcome(
        f"demo · lightgbm · RMSE {rmse}", "Verdict.", "lightgbm", "core-1", 2, {**numbers, "test/nan": float("nan")},
        gates or {"parity": True}, {"error by true RUL": figure}, (), bundle,
    )  # fmt: skip


def finished(tracker: Tracker, rmse: float, bundle: Path | None = None) -> str:
    run = tracker.start("starting", {"model": {"lightgbm": {"leaves": 31}}, "seeds": [1, 2]}, revision="abc123", seeds={"split": 7})
    tracker.data(run, "demo", DIGEST, "synthetic")
    tracker.log_candidate(run, "lightgbm", {"leaves": 31}, {"validation/rmse": rmse + 1})
    tracker.log_candidate(run, "mlp", {"width": [8, 8]}, {"validation/rmse": rmse + 2})
    tracker.finish(run, outcome(rmse, bundle))
    return run


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
        "pmx.gate.parity": "pass", "pmx.core_digest": "core-1", "pmx.test_reads": "2", "pmx.winner": "lightgbm",
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
        tracker.register(run, "demo", "core-1")
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
    assert {f.name for f in kept} == {"config.yaml", "error by true RUL.png", "model.onnx", "spec.json"}
    assert not [f for f in kept if f.read_bytes()[:1] == b"\x80" or b"pickle" in f.read_bytes()]


def test_registering_again_moves_the_champion(tracker: Tracker, bundle: Path) -> None:
    first, second = finished(tracker, 11.0, bundle), finished(tracker, 10.0, bundle)
    assert [tracker.register(first, "demo", "core-1"), tracker.register(second, "demo", "core-2")] == [("1", "1"), ("2", "2")]
    champion = tracker.client.get_model_version_by_alias("demo", "champion")
    assert (str(champion.version), champion.run_id, champion.tags, champion.status) == ("2", second, {"pmx.core_digest": "core-2"}, "READY")
    # The source is a plain local address of the very files, blanks encoded.
    where = Path(urllib.request.url2pathname(champion.source.removeprefix("file://")))
    assert sorted(f.name for f in where.iterdir()) == ["model.onnx", "spec.json"]


@pytest.mark.parametrize(
    ("validation", "digest", "champion"), [(9.0, DIGEST, "2"), (10.0, DIGEST, "2"), (11.0, DIGEST, "1"), (9.0, "f" * 64, "1")]
)
def test_a_champion_yields_to_no_worse_on_the_same_data_alone(
    tracker: Tracker, bundle: Path, validation: float, digest: str, champion: str
) -> None:
    runs = []
    for value, data in ((10.0, DIGEST), (validation, digest)):
        runs.append(tracker.start("starting", {}))
        tracker.data(runs[-1], "demo", data, "synthetic")
        tracker.finish(runs[-1], replace(outcome(10.0, bundle), metrics={"validation/rmse_cut_capped": value}))
    assert tracker.register(runs[0], "demo", "core-1") == ("1", "1")
    assert tracker.register(runs[1], "demo", "core-2") == ("2", champion)
    assert str(tracker.client.get_model_version_by_alias("demo", "champion").version) == champion


def test_who_only_reads_creates_no_experiment(tracker: Tracker) -> None:
    with pytest.raises(UsageError, match="no experiment 'nope'"):
        Tracker(tracker.folder, "nope", new=False)
    assert tracker.client.get_experiment_by_name("nope") is None


def test_a_run_without_a_bundle_is_not_registered(tracker: Tracker) -> None:
    with pytest.raises(UsageError, match="no bundle"):
        tracker.register(finished(tracker, 10.0), "demo", "core-1")


def test_compare_says_which_runs_saw_the_same_data(tracker: Tracker) -> None:
    runs = [finished(tracker, 10.0), finished(tracker, 11.0)]
    other = tracker.start("other data", {})
    tracker.data(other, "demo", "f" * 64, "synthetic")
    tracker.finish(other, outcome(12.0, parity=True, leakage=False))
    rows = tracker.compare([*runs, other])
    assert [(r["winner"], r["comparable"]) for r in rows] == [("lightgbm", True), ("lightgbm", True), ("lightgbm", False)]
    assert rows[2]["gates"] == {"parity": True, "leakage": False}
    assert [r["run_id"] for r in tracker.compare(latest=2)] == [other, runs[1]]  # candidates are no runs of their own
    text = table(rows).splitlines()
    assert "10 [9, 11]" in text[1] and "✓" in text[1] and "✗ leakage" in text[3] and "not comparable" in text[3]
    json.dumps(rows)
    with pytest.raises(UsageError, match="cannot compare"):
        tracker.compare(["0" * 32])


def test_long_and_many_parameters_are_taken(tracker: Tracker) -> None:
    run = tracker.start("large", {"long": "x" * 9000, "many": {f"p{i}": i for i in range(250)}})
    params = tracker.client.get_run(run).data.params
    assert len(params) == 251 and params["long"].endswith("x …") and len(params["long"]) == 6000


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
    tracker.register(run, "demo", "core-1")
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
    assert [f["path"] for f in json.loads(listed)["files"]] == ["bundle/model.onnx", "bundle/spec.json"]
    assert json.loads(spec) == {"task": "rul"}
    assert json.loads(models)["registered_models"][0]["name"] == "demo"
    with pytest.raises(ProcessLookupError):
        os.killpg(ended[0].pid, 0)
