"""Sweeps: a space, a study that outlives any process, and trials that are judged on validation alone."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hydra.core.plugins import Plugins
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from pmx import config, place
from pmx.attempt import Call, attempts
from pmx.bundle import Bundle
from pmx.contract import UsageError
from pmx.front import best, front, picture, shorter, table
from pmx.job import typed
from pmx.run import main
from pmx.study import MOST_ATTEMPTS, Dimension, Row, Study, dimension, grid
from pmx.sweep import Plan, open_data, trial
from pmx.tracking import Tracker
from pmx.tune import _reopen, refuse_other_judges
from tests.whole import LIMITS, Known, silent

TINY = ["source.assets=12", "source.life=300", "window.folds=2", "evaluate.draws=50", "evaluate.cap=150", "evaluate.horizon=60"]
TINY += ["model=lightgbm", "model.lightgbm.trees=5", "model.lightgbm.min_child_samples=5", "model.lightgbm.average=1"]
TINY += ["feature.quality=null", "feature.kernels=[{_target_: pmx.feature.kernel.TrailingMean, window: 5}]"]
TINY += ["device.step_ms=5000", "device.resident_mb_max=4000"]
SPACE = ["model.lightgbm.num_leaves=3,7", "model.lightgbm.learning_rate=tag(log,interval(0.05,0.5))"]
BYTES = "sweep.cost=bytes"  # a measured time differs from run to run, and with it what is proposed next


# ---- a study without anything to try


def settle(study: Study, most: int = 1000) -> None:
    """Finishes up to so many trials by a formula."""
    for rows in study.rounds():
        for row in rows:
            if most == 0:
                return
            most -= 1
            value = sum(float(str(w.split("=")[1])) for w in row.words)
            study.finish(row.number, -abs(value - 0.3), round(value, 3), {"value": value})


MIXED = [Dimension("a", low=0.0, high=1.0), Dimension("b", ("0.1", "0.2", "0.4")), Dimension("c", low=1, high=64, log=True)]


@pytest.mark.parametrize("jobs", [1, 3])
def test_an_interrupted_study_proposes_what_an_uninterrupted_one_does(tmp_path: Path, jobs: int) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole = Study(tmp_path / "whole" / "s.db", MIXED, trials=11, jobs=jobs, seed=5)
    settle(whole)
    for part in (4, 5, 100):
        study = Study(tmp_path / "parts" / "s.db", MIXED, trials=11, jobs=jobs, seed=5)
        settle(study, part)
        study.close()
    assert [(r.words, r.record) for r in study.rows()] == [(r.words, r.record) for r in whole.rows()]
    assert len(whole.rows()) == 11 and all(r.state == "finished" for r in whole.rows())
    whole.close()


def test_a_proposal_is_stored_before_it_runs_and_keeps_its_number(tmp_path: Path) -> None:
    study = Study(tmp_path / "s.db", MIXED, trials=3)
    first = next(study.rounds())[0]
    study.close()
    again = Study(tmp_path / "s.db", MIXED, trials=3)
    assert [(r.number, r.words, r.state) for r in again.rows()] == [(0, first.words, "open")]
    assert next(again.rounds())[0].words == first.words and again.rows()[0].attempts == 2
    again.fail(0, {"error": "no"})
    assert next(again.rounds())[0].number == 1 and again.rows()[0].state == "failed"
    again.close()


def test_a_trial_that_takes_its_process_down_each_time_is_given_up(tmp_path: Path) -> None:
    study = Study(tmp_path / "s.db", MIXED, trials=2)
    for _ in range(MOST_ATTEMPTS):
        assert next(study.rounds())[0].number == 0
    assert next(study.rounds())[0].number == 1 and "given up" in study.rows()[0].record["error"]
    study.close()


def test_a_small_space_is_tried_whole_and_a_large_one_without_repeats(tmp_path: Path) -> None:
    space = [Dimension("a", ("1", "2", "3")), Dimension("b", ("4", "5"), ordered=True)]
    assert len(grid(space, 6)) == 6 and grid(space, 5) == [] and grid([*space, MIXED[0]], 100) == []
    study = Study(tmp_path / "s.db", space, trials=5, seed=1)
    settle(study)
    assert study.total == 5 == len({tuple(r.words) for r in study.rows()})
    study.close()


@pytest.mark.parametrize("low, high, log", [(1.0, 1.0, False), (2.0, 1.0, False), (0.0, 1.0, True), (float("nan"), 1.0, False)])
def test_an_empty_interval_is_refused(low: float, high: float, log: bool) -> None:
    with pytest.raises(UsageError, match="rate: interval"):
        dimension("rate", low, high, log)


# ---- the front and the best


def row(number: int, quality: float, cost: float, fits: bool = True) -> Row:
    measured = {"p50_ms": cost, "p99_ms": cost, "bytes": 1.0, "resident_mb": 1.0}
    record = {"quality": quality, "value_cost": cost, "fits": fits, "cost": measured, "candidate": "c", "task": "rul", "unit": "h"}
    return Row(number, "finished", [f"a.b={number}"], 1, record)


pairs = st.lists(st.tuples(st.integers(-5, 0), st.integers(1, 5), st.booleans()), min_size=1, max_size=12)


@given(pairs)
def test_the_front_holds_what_nothing_beats_and_beats_all_else(values: list[tuple[int, int, bool]]) -> None:
    rows = [row(i, *v) for i, v in enumerate(values)]
    edge = {r.number for r in front(rows)}
    assert edge
    for i, (quality, cost, _) in enumerate(values):
        beaten = any(q >= quality and c <= cost and (q, c) != (quality, cost) for q, c, _ in values)
        assert (i in edge) != beaten
    taken = best(rows)
    assert (taken is None) == (not any(fits for *_, fits in values))
    if taken is not None:
        assert values[taken.number][2] and values[taken.number][0] == max(q for q, _, fits in values if fits)


def test_the_table_tells_each_trial(tmp_path: Path) -> None:
    rows = [
        row(0, -3.0, 2.0),
        row(1, -2.0, 3.0, fits=False),
        row(2, -4.0, 9.0),
        Row(3, "failed", ["a.b=3"], 1, {"error": "no sense\nmore"}),
    ]
    lines = table(rows).splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [["*", "1", "2"], [">*", "0", "3"], ["2", "4", "h"], ["3", "failed", "b=3:"]]
    assert lines[-1].endswith("no sense") and "no" in lines[1].split()
    picture(rows, "p50_ms", "all").savefig(tmp_path / "front.png")
    assert shorter(["a.x=1", "b.x=2"]) == ["a.x=1", "b.x=2"], "keys that end alike stay whole"


# ---- Hydra's words


class Caught:
    """Stands where `pmx sweep` does, and keeps what the sweeper read."""

    def __call__(self, cfg: Any, folder: Path) -> None:
        raise AssertionError("a job ran")

    def search(self, cfg: Any, fixed: list[str], space: list[Dimension]) -> None:
        self.cfg, self.fixed, self.space = cfg, fixed, space


def read(*words: str) -> Caught:
    caught = Caught()
    config.launch("demo", [*words, "hydra/sweeper=pmx"], caught, multirun=True)
    return caught


def test_the_sweeper_is_found_and_reads_hydras_words(workdir: Path) -> None:
    assert "PmxSweeper" in {c.__name__ for c in Plugins.instance().discover()}
    caught = read(
        "seed=3", "model.lightgbm.trees=5,'6'", "evaluate.lead=1,2", "model.lightgbm.num_leaves=int(interval(3,31))",
        "model.lightgbm.learning_rate=tag(log, interval(0.01, 0.1))", "model.lightgbm.average=range(1,4)",
    )  # fmt: skip
    assert caught.fixed == ["seed=3"]
    assert caught.space == [
        Dimension("model.lightgbm.trees", ("5", "'6'")),
        Dimension("evaluate.lead", ("1", "2")),
        Dimension("model.lightgbm.num_leaves", low=3, high=31),
        Dimension("model.lightgbm.learning_rate", low=0.01, high=0.1, log=True),
        Dimension("model.lightgbm.average", ("1", "2", "3"), ordered=True),
    ]
    assert isinstance(caught.space[2].low, int)


def test_an_experiments_space_holds_until_another_is_typed(workdir: Path) -> None:
    own = read("seed=4")
    assert own.fixed == ["model=lightgbm", "seed=4"] and [d.key.rpartition(".")[2] for d in own.space] == [
        "trees",
        "num_leaves",
        "learning_rate",
    ]
    assert [d.key for d in read("seed=1,2").space] == ["seed"]
    assert read("model.lightgbm.trees=9").fixed[1:] == ["model.lightgbm.trees=9"], "a typed value fixes what the experiment would vary"


def test_a_sweep_never_begins_in_the_folder_of_another(workdir: Path) -> None:
    place = workdir / "there"
    place.mkdir()
    study = Study(place / "sweep.db", [Dimension("model.lightgbm.trees", ("5", "6"))])
    [row], _ = study.rounds()
    study.finish(row.number, -1.0, 1.0, {})
    study.close()
    code, _, err = call("sweep", "demo", "model.lightgbm.num_leaves=3,7", "hydra.sweep.dir=there")
    assert code == 2 and "there: a sweep is there already -> pmx resume there" in err and not (workdir / "runs").exists()


@pytest.mark.parametrize("which", ["/nowhere/at/all", "../x", "*", "nothing"])
def test_a_sweep_that_is_not_there_is_no_traceback(workdir: Path, which: str) -> None:
    code, _, err = call("resume", which)
    assert code == 2 and "pmx sweep NAME" in err


def test_a_folder_may_have_any_sign_in_its_name(workdir: Path) -> None:
    place = workdir / "plant's" / "a, b"
    place.mkdir(parents=True)
    words = ["model.lightgbm.num_leaves=3,7"]
    about = {"experiment": "demo", "words": words, "finished": False, "code": "0", "settings": "0", "revision": "", "command": "pmx sweep"}
    (place / "sweep.json").write_text(json.dumps(about))
    code, _, err = call("resume", place)
    assert code == 4 and "the code changed" in err


def test_a_secret_is_in_no_command() -> None:
    words = ["+hydra.job.env_set.PLANT_TOKEN=hunter2", "seed=1,2"]
    assert typed(words) == ["'+hydra.job.env_set.PLANT_TOKEN=***'", "seed=1,2"]


def test_a_worker_that_is_killed_is_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pmx.attempt._beside", lambda call, parent: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(UsageError, match="for want of memory -> .* fewer sweep.jobs"):
        list(attempts([Call("demo", (), str(tmp_path))] * 2, 2))


def test_a_resumed_run_is_never_taken_for_a_dead_ones(workdir: Path) -> None:
    tracker = Tracker(workdir / "store", "demo")
    run, dead = tracker.start("sweep", {}, kind="sweep"), {"pmx.pid": "0", "pmx.process_started": "1"}
    for tag, value in dead.items():
        tracker.client.set_tag(run, tag, value)
    tracker.mark_killed()
    update, seen = tracker.client.update_run, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracker.client, "update_run", lambda *a, **k: (update(*a, **k), seen.append(tracker.mark_killed())))
        _reopen(tracker, run)
    assert seen == [[]] and tracker.client.get_run(run).info.status == "RUNNING"
    tracker.close()


@pytest.mark.parametrize(
    "words, what",
    [
        (["skab", "seed=1"], "Nothing varies"),
        (["demo", "model.lightgbm.tress=1,2"], "model.lightgbm.trees"),
        (["demo", "seed=1,2", "sweep.cost=euros"], "p50_ms"),
        (["demo", "seed=1,2", "sweep.jobs=0"], "1 or more"),
        (["demo", "seed=1,2", "sweep.tirals=3"], "sweep.trials"),
        (["demo", "model.lightgbm.learning_rate=interval(2,1)"], "learning_rate: interval"),
        (["demo", "model.lightgbm.trees=5,9", "evaluate.cap=100,200"], "Cannot sweep evaluate.cap: it changes what trials are judged by"),
        (["demo", "window.folds=range(2,5)"], "Cannot sweep window.folds"),
        (["demo", "evaluate.horizon=interval(20,60)"], "Cannot sweep evaluate.horizon"),
        (["demo", "window=by_asset,by_time"], "Cannot sweep window: "),
        (["demo", "seed=1,2"], "Cannot sweep seed, which sets evaluate.seed and window.seed: it changes"),
    ],
)
def test_a_mistake_is_told_before_there_is_a_folder(workdir: Path, words: list[str], what: str) -> None:
    code, _, err = call("sweep", *words)
    assert code == 2 and what in err and "Traceback" not in err and not (workdir / "runs").exists()


def test_what_judges_no_trial_may_vary(workdir: Path) -> None:
    """A seed too, where those of the judge are fixed beside it."""
    space = [Dimension("seed", ("1", "2")), Dimension("model.lightgbm.trees", low=5, high=9), Dimension("feature", ("history", "lags"))]
    refuse_other_judges("demo", ["window.seed=0", "evaluate.seed=0", "model=lightgbm"], space)
    for name, file in place.experiments().items():
        own = dict(OmegaConf.load(file).get("sweep", {}).get("space") or {})
        refuse_other_judges(name, [], [Dimension(key, (str(values),)) for key, values in own.items()])


# ---- one trial


@pytest.fixture(scope="module")
def parts() -> config.Parts:
    return config.build(config.compose("demo", TINY))


def plan(parts: config.Parts, folder: Path) -> Plan:
    objects = (parts.source, parts.window, parts.feature, parts.model, parts.alarm, parts.evaluate)
    return Plan("demo", *objects, LIMITS, folder)


def test_a_trial_never_reads_the_test_part(parts: config.Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pmx.sweep.MEASURED", 1)  # times are not the question here
    history = parts.source.load()
    opened = open_data(Known(history), parts.window, "refuse", tmp_path / "q.parquet")
    found = trial(plan(parts, tmp_path), opened, silent)
    readings, channels = opened.admitted.readings, opened.contract.names
    tested = [a for a in sorted(readings["asset"].unique()) if a not in _training_assets(parts, opened)]
    assert tested
    spoilt = [pl.when(pl.col("asset").is_in(tested)).then(pl.col(c) * 0.5).otherwise(pl.col(c)).alias(c) for c in channels]
    changed = replace(opened, admitted=replace(opened.admitted, readings=readings.with_columns(spoilt)))
    again = trial(plan(parts, tmp_path), changed, silent)
    assert (again.quality, again.metrics, again.cost["bytes"]) == (found.quality, found.metrics, found.cost["bytes"])
    assert not list(tmp_path.glob("bundle*")) and found.fits.passed and found.quality == -found.metrics["validation/rmse_cut_capped"]
    assert set(found.cost) == {"bytes", "resident_mb", "p50_ms", "p99_ms"} and not any(k.startswith("test") for k in found.metrics)


def _training_assets(parts: config.Parts, opened: Any) -> set[str]:
    from pmx.source.ticks import to_ticks
    from pmx.window.label import with_lives

    ticks = with_lives(to_ticks(opened.admitted.readings, opened.contract), opened.history.events, opened.contract)
    division = parts.window.apply(ticks, opened.history.test_assets)
    return set(ticks["asset"].unique()) - set(ticks.filter(pl.Series(np.asarray(division.test)))["asset"].unique())


# ---- the command


def call(*words: str | Path) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(w) for w in words])
        except SystemExit as stop:
            code = int(stop.code or 0)
    return code, out.getvalue(), err.getvalue()


def finished_in(file: Path) -> int:
    """How many trials a sweep's database counts as finished, read from outside."""
    if not file.is_file():
        return 0
    with (
        contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)) as there,
        contextlib.suppress(sqlite3.OperationalError),
    ):
        return int(there.execute("select count(*) from trials where state = 'COMPLETE'").fetchone()[0])
    return 0  # its tables are not there yet


def killed_at(command: list[str], place: Path, finished: int) -> None:
    """Runs a command and kills it as soon as so many trials are finished; it may be anywhere in the next one."""
    child = subprocess.Popen([sys.executable, "-m", "pmx.run", *command], cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while child.poll() is None and max([0, *map(finished_in, place.glob("runs/demo/sweep_*/sweep.db"))]) < finished:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=0.1)
        assert child.poll() is None, "it ended before it could be killed"
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()


def weighed(bundle: Path, core: str) -> dict[str, float]:
    """A budget without the wait: the true size, and times that nobody looks at."""
    return {"bytes": Bundle.open(bundle, packed_as=core).size, "resident_mb": 100.0, "p50_ms": 1.0, "p99_ms": 2.0}


def test_a_killed_sweep_resumes_and_ends_as_an_uninterrupted_one(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pmx.sweep.measure_budget", weighed)
    words = ["sweep", "demo", *TINY, *SPACE, BYTES, "sweep.trials=2", "+hydra.job.env_set.PLANT_TOKEN=hunter2"]
    code, out, _ = call(*words, "out=whole", "tracking.store=whole/mlflow", "--json")
    whole = json.loads(out.splitlines()[-1])
    assert code == 0 and [t["state"] for t in whole["trials"]] == ["finished"] * 2 and "pmx run demo" in whole["command"]
    assert Path(whole["picture"]).is_file() and "test part" in out and "sweep." not in whole["command"]

    killed_at(words, workdir, 1)
    [folder] = (workdir / "runs" / "demo").glob("sweep_*")
    begun = {r["number"]: r for r in trials_of(folder) if r["state"] == "finished"}
    code, out, err = call("resume", "--json")
    answer = json.loads(out.splitlines()[-1])
    assert code == 0, err
    assert f"Resuming {folder.relative_to(workdir)}: {len(begun)} of 2 trials have a result" in err
    kept = {t["number"]: t for t in answer["trials"] if t["number"] in begun}
    assert all(kept[n]["attempts"] == 1 and kept[n]["seconds"] == begun[n]["seconds"] for n in begun), "a finished trial ran again"
    assert [(t["words"], t["quality"]) for t in answer["trials"]] == [(t["words"], t["quality"]) for t in whole["trials"]]
    assert (answer["best"]["number"], answer["front"]) == (whole["best"]["number"], whole["front"])

    tracker = Tracker(workdir / "runs" / "mlflow", "demo", new=False)
    parent = tracker.client.get_run(answer["run_id"])
    nested = tracker.client.search_runs([tracker.experiment_id], f"tags.`mlflow.parentRunId` = '{answer['run_id']}'")
    assert "hunter2" not in str(parent.data.tags) + str(parent.data.params) and "PLANT_TOKEN=***" in parent.data.tags["pmx.command"]
    assert parent.info.status == "FINISHED" and sorted(r.data.tags["pmx.trial"] for r in nested) == list("01")
    assert all(r.info.status == "FINISHED" and "cost/p50_ms" in r.data.metrics for r in nested)
    tracker.close()
    assert call("resume")[0] == 2, "nothing is left to resume"
    about = json.loads((folder / "sweep.json").read_text())
    (folder / "sweep.json").write_text(json.dumps(about | {"code": "0" * 64}))
    code, _, err = call("resume", folder)
    assert code == 4 and "the code changed" in err


@pytest.mark.nightly  # two sweeps of 30 trials
def test_thirty_trials_and_five_kills_at_random() -> None:
    done = subprocess.run([sys.executable, "-m", "benchmarks.sweep"], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    said = json.loads(done.stdout.splitlines()[-1])
    assert (said["trials"], said["kills"], said["repeated"], said["lost"]) == (30, 5, 0, 0) and said["same_trials"]
    assert said["best"]["words"] == said["best_uninterrupted"]["words"]


def trials_of(folder: Path) -> list[dict[str, Any]]:
    study = Study(folder / "sweep.db", [])
    try:
        return [r.json() for r in study.rows()]
    finally:
        study.close()
