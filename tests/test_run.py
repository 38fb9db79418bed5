"""The command line, run for real on a tiny fleet: what it prints, with which code it ends, and what stays in MLflow."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import threadpoolctl
import torch

import pmx
from pmx.bundle import Bundle
from pmx.edge.cli import main as edge
from pmx.job import one_thread
from pmx.reads import Reads
from pmx.registry import Registered, Registry
from pmx.run import main
from pmx.source.cmapss import Cmapss
from pmx.source.synthetic import Synthetic
from pmx.tracking import AWAITS, Tracker

# Fewer pumps teach intervals so wide that the coverage gate refuses them.
FLEET = ["source.assets=24", "source.life=300", "window.folds=2", "evaluate.draws=50", "evaluate.cap=150", "evaluate.horizon=60"]
QUICK = ["model.lightgbm.trees=15", "model.lightgbm.learning_rate=0.3", "model.lightgbm.min_child_samples=10"]
TREES = ["model=lightgbm", *QUICK]
# What a loaded machine does to the clock is not the question here.
PATIENT = ["device.step_ms=5000", "device.resident_mb_max=4000"]
BELIEVED = ["feature.quality=null"]  # judging each reading is half of the time of a run; tests/source/test_cwru.py has a run that does
KERNELS = ["feature.kernels=[{_target_: pmx.feature.kernel.Age}, {_target_: pmx.feature.kernel.TrailingMean, window: 5}]"]
TINY = [*FLEET, *TREES, *PATIENT, *BELIEVED, *KERNELS]
LEAKY = ["feature=leaky", *FLEET, *TREES, *PATIENT]


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def answer(self) -> dict[str, Any]:
        return json.loads(self.out.splitlines()[-1])


def call(*words: str | Path, command=main) -> Said:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = command([str(w) for w in words])
        except SystemExit as stop:  # argparse
            code = int(stop.code or 0)
    return Said(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory):
    """A working folder that is not the checkout; every run of this module is made in it, in one store."""
    folder, before = tmp_path_factory.mktemp("plant"), Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


@pytest.fixture(scope="module")
def store(place: Path):
    tracker = Tracker(place / "runs" / "mlflow", "demo")
    yield tracker
    tracker.close()


@pytest.fixture(scope="module")
def refused(place: Path, store: Tracker) -> Said:
    said = call("run", "demo", *LEAKY, "--json")
    assert not store.client.search_registered_models(), "something was registered"
    return said


@pytest.fixture(scope="module")
def awaited() -> list[tuple[str, str]]:
    """Status and model that the accepted run stood with in the store when it came to be registered."""
    return []


@pytest.fixture(scope="module")
def accepted(place: Path, refused: Said, store: Tracker, awaited: list[tuple[str, str]]) -> Said:
    both = ["model=[lightgbm,mlp]", *QUICK, "model.mlp.epochs=1", "model.mlp.hidden=[4]"]
    register = Registry.register

    def seen(registry: Registry, run_id: str, name: str, core: str) -> Registered:
        run = store.client.get_run(run_id)
        awaited.append((run.info.status, run.data.tags.get(AWAITS, "")))
        return register(registry, run_id, name, core)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Registry, "register", seen)
        return call("run", "demo", *FLEET, *both, *PATIENT, *BELIEVED, *KERNELS, "--json")


@pytest.fixture
def bundle(accepted: Said, tmp_path: Path) -> Path:
    """A copy of the accepted bundle."""
    return Path(shutil.copytree(accepted.answer["bundle"], tmp_path / "bundle"))


# ---- a run that is accepted


def test_the_last_line_is_one_json_object(accepted: Said) -> None:
    answer = accepted.answer
    assert accepted.code == 0 and {"run_id", "experiment", "winner", "bundle", "metrics", "gates", "seconds"} <= set(answer)
    assert answer["experiment"] == "demo" and answer["winner"] in ("lightgbm", "mlp") and answer["seconds"] > 0
    assert set(answer["gates"]) == {"look-ahead", "leakage", "parity", "coverage", "budget"} and all(answer["gates"].values())
    assert Bundle.open(Path(answer["bundle"])).evidence["run_id"] == answer["run_id"]
    names = [
        "rmse_last_capped",
        "rmse_last_raw",
        "rmse_all_capped",
        "event_recall",
        "n_assets",
        "n_failures",
        "false_alarms_per_asset_month",
    ]
    assert {f"test/{n}" for n in names} | {"test/rmse_last_capped_lo", "test_no_age/rmse_last_capped"} <= set(answer["metrics"])


def test_it_ends_with_the_table_and_the_next_step(accepted: Said) -> None:
    out, answer = accepted.out, accepted.answer
    lines = out.splitlines()
    assert f"Winner {answer['winner']} · 8 test pumps, replayed through the device code (with age)" in lines
    assert any(line.split() == ["failures", "caught", "false", "alarms/asset-month", "RMSE", "of", "RUL,", "hours"] for line in lines)
    assert [line.split("  ")[0] for line in lines if line.startswith(("winner ", "age only ", "always alarm "))][-3:] == [
        "winner",
        "age only",
        "always alarm",
    ]
    assert "Gates: look-ahead ✓  leakage ✓  parity ✓  coverage ✓  budget ✓" in lines
    assert lines[-2] == "Next: pmx run demo feature=leaky     (watch it refuse)" and lines[-3].startswith("Bundle runs/demo/")
    assert "fold 1 of 2: lightgbm" in accepted.err and "replay" in accepted.err, "progress, as plain lines"


def test_the_parent_run_carries_the_winner(accepted: Said, store: Tracker) -> None:
    answer, run = accepted.answer, store.client.get_run(accepted.answer["run_id"])
    assert run.info.status == "FINISHED" and run.info.run_name == answer["title"]
    assert answer["title"].startswith(f"synthetic pumps · {answer['winner']} · RMSE ") and answer["title"].endswith("]")
    for name, value in answer["metrics"].items():
        assert value is None or run.data.metrics[name] == pytest.approx(value)
    tags, evidence = run.data.tags, Bundle.open(Path(answer["bundle"])).evidence
    assert {k: v for k, v in tags.items() if k.startswith("pmx.gate.")} == {f"pmx.gate.{g}": "pass" for g in answer["gates"]}
    assert tags["pmx.core_digest"] == Bundle.open(Path(answer["bundle"])).core and tags["pmx.test_reads"] == str(evidence["test_reads"])
    assert evidence["reads"]["by_this_run"] == evidence["test_reads"] and tags["pmx.data_reads"] == str(evidence["reads"]["in_this_store"])
    assert run.data.metrics["reads/this_data"] == evidence["reads"]["in_this_store"]
    assert tags["pmx.winner"] == answer["winner"] and "pmx.refused_by" not in tags and tags["pmx.data_digest"] == evidence["data"]["digest"]
    assert "source.assets=24" in tags["pmx.command"] and "pmx run demo" in tags["mlflow.note.content"]
    assert run.data.params["source.assets"] == "24" and run.data.params["seed.run"] == "0"


def test_each_candidate_is_a_child(accepted: Said, store: Tracker) -> None:
    children = store._search(f"tags.`mlflow.parentRunId` = '{accepted.answer['run_id']}'")
    assert {c.info.run_name for c in children} == {"lightgbm", "mlp"} and {c.info.status for c in children} == {"FINISHED"}
    error = {c.info.run_name: c.data.metrics["validation/rmse_cut_capped"] for c in children}
    winner = accepted.answer["winner"]
    assert error[winner] == min(error.values()) == pytest.approx(accepted.answer["metrics"]["validation/rmse_cut_capped"])


def test_artifacts_hold_the_bundle_and_no_pickle(accepted: Said, place: Path, store: Tracker) -> None:
    stored = {a.path for a in store.client.list_artifacts(accepted.answer["run_id"], "bundle")}
    assert stored == {f"bundle/{p.name}" for p in Path(accepted.answer["bundle"]).iterdir()}
    figures = {a.path for a in store.client.list_artifacts(accepted.answer["run_id"], "figures")}
    assert figures == {f"figures/{n}.png" for n in ("trajectories", "error_by_true_rul", "parity", "candidates")}
    assert not [p for p in (place / "runs").rglob("*") if p.suffix in (".pkl", ".pickle", ".joblib", ".pt", ".ckpt")]


def test_every_run_has_a_report(accepted: Said, refused: Said, place: Path, store: Tracker) -> None:
    for said, words in ((accepted, {"Yes", "Shadow only", "No"}), (refused, {"No"})):
        report = Path(said.answer["report"])
        assert any(f"<strong>{word}</strong>" in report.read_text() for word in words)
        [line] = [line for line in said.out.splitlines() if line.startswith("Report ")]
        assert (place / line.removeprefix("Report ")).resolve() == report.resolve()
        assert "report.html" in {a.path for a in store.client.list_artifacts(said.answer["run_id"])}


def test_the_version_is_registered_as_champion(accepted: Said, store: Tracker) -> None:
    """Under a name of experiment and data: a champion of one fleet is none for another."""
    (version,) = store.client.search_model_versions(f"run_id = '{accepted.answer['run_id']}'")
    assert version.name == "demo synthetic pumps" and f"registered as {version.name} v1 (champion)" in accepted.out
    assert version.tags["pmx.core_digest"] == Bundle.open(Path(accepted.answer["bundle"])).core
    assert str(version.version) == accepted.answer["version"] == "1"
    assert store.client.get_model_version_by_alias(version.name, "champion").version


def test_a_kill_before_it_was_registered_would_leave_what_it_was_to_become(
    accepted: Said, store: Tracker, awaited: list[tuple[str, str]]
) -> None:
    assert awaited == [("FINISHED", "demo synthetic pumps")]
    assert AWAITS not in store.client.get_run(accepted.answer["run_id"]).data.tags


# ---- a run that a gate refuses


def test_a_leaky_feature_is_refused_by_name(refused: Said, store: Tracker) -> None:
    answer = refused.answer
    assert refused.code == 8 == answer["exit_code"] and answer["gate"] == "look-ahead" and not answer["gates"]["look-ahead"]
    assert "Gate look-ahead refused the result: kernel centred_mean9 (pmx.feature.leaky.CentredMean)" in refused.err
    assert "rule: a value at tick t may depend on readings up to t only" in refused.err and "Nothing was registered" in refused.err
    assert "Traceback" not in refused.err and "Bundle " not in refused.out
    run = store.client.get_run(answer["run_id"])
    assert run.info.status == "FAILED" and "centred_mean9" in run.data.tags["pmx.refused_by"]
    assert run.data.tags["pmx.gate.look-ahead"] == "fail" and run.data.metrics["test/rmse_last_capped"] > 0
    assert not store.client.list_artifacts(answer["run_id"], "bundle")
    assert Reads(store.folder).count(run.data.tags["pmx.data_digest"], answer["run_id"]) == int(run.data.tags["pmx.test_reads"]) > 0
    assert store.evaluation(answer["run_id"])["rows"]["winner"]["assets"]


def test_what_was_refused_opens_nowhere(refused: Said, tmp_path: Path) -> None:
    left = Path(refused.answer["bundle"])
    Synthetic(assets=1, life=100.0).write(tmp_path)
    for said in (
        call("verify", left),
        call("replay", left, "--input", tmp_path / "readings.csv", command=edge),
        call("selftest", left, command=edge),
    ):
        assert said.code == 4 and "not sealed" in said.err


# ---- mistakes


MISTAKES = {
    "an experiment": (["nosuch"], "No experiment 'nosuch'", "demo"),
    "an experiment, nearly": (["dmeo"], "No experiment 'dmeo'", "demo"),
    "a leaf": (["demo", "model.lightgbm.tress=3"], "model.lightgbm.tress", "model.lightgbm.trees"),
    "a group": (["demo", "modell=lightgbm"], "modell", "model"),
    "a choice": (["demo", "model=lightbgm"], "lightbgm", "lightgbm"),
    "a type": (["demo", "model.lightgbm.trees=many"], "model.lightgbm.trees", "many"),
    "a root's type": (["demo", "seed=abc"], "seed", "abc"),
    "a new key": (["demo", "+colour=red"], "colour", ""),
    "no value": (["demo", "seed"], "seed", "key=value"),
    "sense": (["demo", "evaluate.lead=900"], "lead", "horizon"),
    "a target": (["demo", "model.lightgbm._target_=os.system"], "os.system", "may not be built"),
    "tasks": (["demo", "model=[lightgbm,autoencoder]"], "share a task", "run them apart"),
}


@pytest.mark.parametrize("words, what, hint", MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_told_on_one_screen(place: Path, words: list[str], what: str, hint: str) -> None:
    said = call("run", *words, "--json")
    assert said.code == 2 == said.answer["exit_code"] and said.answer["error"] == said.err.strip()
    assert what in said.err and hint in said.err and "Traceback" not in said.err and len(said.err.splitlines()) < 20


def test_a_mistake_leaves_no_run_behind(place: Path, accepted: Said, store: Tracker) -> None:
    before = len(store.compare())
    assert call("run", "demo", *TINY, "model.lightgbm.tress=3").code == 2 and len(store.compare()) == before


def test_a_pickled_job_is_not_run_again(place: Path) -> None:
    said = call("run", "demo", "--experimental-rerun=job.pickle")
    assert said.code == 2 and "pickled" in said.err


def test_bad_data_end_the_run_failed(place: Path, accepted: Said, store: Tracker) -> None:
    Synthetic(assets=4, life=200.0).write(place / "bad")
    readings = (place / "bad" / "readings.csv").read_text()
    (place / "bad" / "readings.csv").write_text(readings.replace("pump-0002,2", "pump-0002,two 2", 1))
    said = call("run", "demo", *TINY, "source.root=bad", "--json")
    assert said.code == 3 and "unparsable_time" in said.err and "asset pump-0002" in said.err and "Traceback" not in said.err
    (run,) = store._search("attributes.status = 'FAILED' and tags.`pmx.error` like '%unparsable_time%'")
    assert "readings.csv" in run.data.tags["pmx.error"]


# ---- a run that is killed


def test_a_killed_run_is_marked_by_the_next_command(place: Path, accepted: Said, store: Tracker) -> None:
    command = [sys.executable, "-m", "pmx.run", "run", "demo", *TINY, "model.lightgbm.trees=1000000"]
    child = subprocess.Popen(command, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        told = next((line for line in child.stderr or () if "fold 1 of 2" in line), "")  # it has begun to train
        assert told and child.poll() is None
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        (child.stderr or io.StringIO()).close()
    (run,) = store._search(f"attributes.status = 'RUNNING' and tags.`pmx.pid` = '{child.pid}'")
    said = call("compare")
    assert said.code == 0 and "1 earlier run had been killed and is now marked KILLED" in said.err
    assert store.client.get_run(run.info.run_id).info.status == "KILLED" and "KILLED" in said.out
    assert call("compare").err == "", "it is told once"


# ---- the other commands


def test_verify_tells_what_held(accepted: Said, bundle: Path) -> None:
    said = call("verify", bundle, "--json")
    assert said.code == 0 and said.answer["core_digest"] == Bundle.open(bundle).core and all(said.answer["gates"].values())
    assert said.answer["selftest"]["largest_difference"] <= said.answer["selftest"]["bound"] and "Not signed" in said.out


@pytest.mark.parametrize("file", ["model.onnx", "policy.json", "golden.npz", "memory0.npz", "spec.json", "evidence.json", "card.md"])
def test_a_changed_byte_is_refused(bundle: Path, tmp_path: Path, file: str) -> None:
    data = bytearray((bundle / file).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / file).write_bytes(data)
    said = call("verify", bundle)
    assert said.code == 4 and f"{file} is not as sealed" in said.err
    Synthetic(assets=1, life=100.0).write(tmp_path)
    assert call("replay", bundle, "--input", tmp_path / "readings.csv", command=edge).code == 4


def test_evidence_of_another_core_is_refused(bundle: Path) -> None:
    """Sealed anew around a changed core: every digest holds, but the numbers are about another model."""
    from pmx.bundle import digest, to_json

    evidence = json.loads((bundle / "evidence.json").read_text()) | {"replayed_core_digest": "0" * 64}
    (bundle / "evidence.json").write_bytes(to_json(evidence))
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"]["evidence.json"] = digest((bundle / "evidence.json").read_bytes())
    (bundle / "manifest.json").write_bytes(to_json(manifest))
    said = call("verify", bundle)
    assert said.code == 4 and "about another core" in said.err


def test_the_bundle_replays_new_readings(bundle: Path, tmp_path: Path) -> None:
    Synthetic(assets=2, life=300.0, seed=9).write(tmp_path)
    said = call("replay", bundle, "--input", tmp_path / "readings.csv", "--output", tmp_path / "out.csv", "--json", command=edge)
    assert said.code == 0 and said.answer["core_digest"] == Bundle.open(bundle).core and said.answer["quarantined"] == 0
    assert pl.read_csv(tmp_path / "out.csv").height == said.answer["steps"] > 0


def test_compare_lists_runs_side_by_side(accepted: Said, refused: Said, store: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # names are cut where a terminal is narrow
    said = call("compare", accepted.answer["run_id"], refused.answer["run_id"], "--json")
    good, bad = said.answer["runs"]
    assert said.code == 0 and (good["status"], bad["status"]) == ("FINISHED", "FAILED") and bad["refused_by"] and bad["comparable"]
    fleet, number = accepted.answer["title"].split(" · ", 1)
    assert fleet in said.out and number in said.out and "✗ look-ahead" in said.out
    assert call("compare", "nosuchrun").code == 2
    assert call("compare", "--store", "elsewhere").code == 2


@pytest.fixture(scope="module")
def engines(place: Path, accepted: Said) -> Said:
    """A run on a subset that nobody publishes; the fifth line of its training part has one value that is no number."""
    Cmapss("", "FD003").write_miniature(place / "archive" / "cmapss", engines=6)
    file = place / "archive" / "cmapss" / "train_FD003.txt"
    lines = file.read_text().splitlines(keepends=True)
    cells = lines[4].split(" ")
    lines[4] = " ".join([*cells[:6], "broken", *cells[7:]])
    file.write_text("".join(lines))
    words = ["data_root=archive", "source.subset=FD003", *TREES, *PATIENT, *BELIEVED, *KERNELS, "window.folds=2", "evaluate.draws=50"]
    return call("run", "cmapss", *words, "on_error=quarantine", "--json", "--quiet")


def test_engines_of_a_subset_never_seen(engines: Said) -> None:
    assert engines.code == 0, engines.err
    metrics = engines.answer["metrics"]
    assert {"test/nasa_last_capped", "test/rmse_last_capped", "test_no_age/rmse_last_capped"} <= set(metrics) and metrics[
        "test/n_assets"
    ] == 6
    assert engines.answer["title"].startswith("cmapss FD003 · lightgbm · RMSE") and engines.answer["title"].endswith("]")
    assert "Next: pmx verify runs/cmapss/" in engines.out and not any("month" in k for k in metrics)


def test_what_was_quarantined_is_kept_beside_the_run(engines: Said, store: Tracker) -> None:
    assert engines.code == 0 and engines.err == "", engines.err
    assert "quarantine.parquet" in {a.path for a in store.client.list_artifacts(engines.answer["run_id"])}
    stored = pl.read_parquet(Path(engines.answer["bundle"]).parent / "quarantine.parquet")
    assert stored.height == 1 and stored["row"].item() == 5


# ---- help


def test_help_and_version() -> None:
    assert call().code == 0 and "COMMAND" in call().out
    for words in ([], ["run"], ["sweep"], ["resume"], ["data"], ["verify"], ["compare"], ["promote"], ["ui"], ["version"]):
        said = call(*words, "--help")
        assert said.code == 0 and "usage: pmx" in said.out and said.err == ""
    assert "key=value" in call("run", "--help").out and "--cfg job" in call("run", "--help").out
    assert call("version").out == f"pmx {pmx.__version__}\n" and call("version", "--json").answer == {"version": pmx.__version__}
    assert call("runn").code == 2 and call("run").code == 2 and call("verify").code == 2


def test_hydra_s_own_flags_work(place: Path) -> None:
    said = call("run", "demo", *TINY, "--cfg", "job")
    assert said.code == 0 and "trees: 15" in said.out and "_target_: pmx.source.synthetic.Synthetic" in said.out
    said = call("run", "demo", "--info", "defaults")
    assert said.code == 0 and "lightgbm" in said.out


def test_networks_keep_to_one_thread_and_leave_the_callers_as_they_were() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1 and {p["num_threads"] for p in threadpoolctl.threadpool_info()} == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
