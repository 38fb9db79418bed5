"""Planted leaks in the miniatures of every source, found and named; then one of them through a whole run, refused and accepted."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.leaks import MUTATIONS, Case, cases, experiments, judged
from pmx.bundle import Bundle
from pmx.run import main
from pmx.source.cmapss import Cmapss

WORDS = ["source.subset=FD009", "model=lightgbm", "model.lightgbm.trees=15", "window.folds=2", "evaluate.draws=20"]
WORDS += ["device.step_ms=5000", "device.resident_mb_max=4000"]  # what a loaded machine does to the clock is not the question here
WORDS += ["feature.quality=null", "feature.kernels=[{_target_: pmx.feature.kernel.TrailingMean, window: 5}]"]


SAME = ("cmapss_best", "cmapss_device")  # on the data of cmapss, divided as cmapss does it


@pytest.fixture(scope="module", params=[pytest.param(e, marks=[pytest.mark.nightly] * (e in SAME)) for e in experiments()])
def miniatures(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    return list(cases(request.param, tmp_path_factory.mktemp("archive")))


def test_every_mutation_is_found_and_named_and_clean_data_have_no_finding(miniatures: list[Case]) -> None:
    for case in miniatures:
        assert [f.line() for f in case.findings()] == [], f"{case.name}, clean"
        for mutation in MUTATIONS:
            planted = mutation(case, np.random.default_rng(1))
            if planted is not None:
                found, named, stray = judged(planted)
                assert (found, named, stray) == (True, True, []), f"{case.name}, {mutation.__name__}"


def test_each_mutation_was_planted_somewhere(tmp_path: Path) -> None:
    """The fleet of pumps has failures and replacements, so that it carries all of them."""
    (case,) = cases("demo", tmp_path)
    assert [m.__name__ for m in MUTATIONS if m(case, np.random.default_rng(1)) is None] == []


def test_the_audit_meets_no_truth_of_the_test_part(tmp_path: Path) -> None:
    """Other failures of test assets change nothing of what it says."""
    from dataclasses import replace

    case = next(cases("cmapss", tmp_path))
    planted = MUTATIONS[5](case, np.random.default_rng(1))
    assert planted is not None and MUTATIONS[5].__name__ == "countdown"
    before = planted.case.findings()
    tested = planted.case.history.test_assets
    time = pl.when(pl.col("asset").is_in(sorted(tested or ()))).then(pl.col("time") + 1000).otherwise(pl.col("time"))
    events = planted.case.history.events.with_columns(time.alias("time"))
    assert replace(planted.case, history=replace(planted.case.history, events=events)).findings() == before != []


# ---- one of them through a whole run


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Engines of which one channel counts the cycles that are left."""
    folder = tmp_path_factory.mktemp("plant")
    Cmapss("", "FD009").write_miniature(folder / "cmapss", engines=8)
    left = iter((folder / "cmapss/RUL_FD009.txt").read_text().split())
    for part in ("train", "test"):
        file = folder / "cmapss" / f"{part}_FD009.txt"
        lines = [line.split() for line in file.read_text().splitlines()]
        last: dict[str, int] = {}
        for cells in lines:
            last[cells[0]] = int(cells[1])
        if part == "test":
            last = {engine: cycle + int(next(left)) for engine, cycle in last.items()}
        for cells in lines:
            cells[6] = str(last[cells[0]] - int(cells[1]))  # T24
        file.write_text("".join(" ".join(cells) + "  \n" for cells in lines))
    return folder


def run(capsys: pytest.CaptureFixture[str], place: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> tuple[int, str, str]:
    monkeypatch.chdir(place)
    code = main(["run", "cmapss", f"data_root={place}", *WORDS, *more, "--json", "--quiet"])
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.nightly  # the same run as below, refused
def test_a_run_on_a_countdown_is_refused_by_name(capsys: pytest.CaptureFixture[str], place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = run(capsys, place, monkeypatch)
    assert code == 8 and "Gate leakage refused the result: channel T24" in err and "leave the channel out" in err, err
    assert json.loads(out.splitlines()[-1])["gate"] == "leakage" and "countdowns" in out
    table = pl.read_csv(next(place.glob("runs/cmapss/*/leakage.csv")))
    assert {"both_sides", "near_duplicates", "known_after", "countdowns"} <= set(table["check"])
    assert table.filter(pl.col("check") == "countdowns")["where"].to_list() == ["channel T24"]


def test_an_accepted_leak_stands_on_every_table(capsys: pytest.CaptureFixture[str], place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pmx.tracking import Tracker

    code, out, err = run(capsys, place, monkeypatch, "--accept-leakage", "a trial of the bench")
    assert code == 0, err
    told = "Leakage accepted: a trial of the bench"
    answer = json.loads(out.splitlines()[-1])
    assert answer["leakage_accepted"] == "a trial of the bench" and answer["title"].endswith("leakage accepted")
    evidence = Bundle.open(Path(answer["bundle"])).evidence["gates"]["leakage"]
    assert evidence["passed"] and evidence["accepted"] == "a trial of the bench"
    assert "channel T24" in {f["where"] for f in evidence["findings"]}
    tracker = Tracker(place / "runs/mlflow", "cmapss", new=False)
    run_ = tracker.client.get_run(answer["run_id"])
    note = run_.data.tags["mlflow.note.content"]
    assert run_.data.tags["pmx.leakage_accepted"] == "a trial of the bench"
    for block in note.split("```")[1::2]:  # every table of the page
        assert told in block
    assert out.count(told) >= 3 and told in (Path(answer["bundle"]) / "card.md").read_text()
    assert run_.data.metrics["gate/leakage/countdowns"] == 1 and run_.data.metrics["gate/leakage/known_after"] == 0
    assert any(a.path == "leakage.csv" for a in tracker.client.list_artifacts(answer["run_id"]))
    tracker.close()
    assert main(["compare", "--experiment", "cmapss"]) == 0
    assert "a trial of the bench" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--accept-leakage"], ["--accept-leakage", " "], ["--accept-leakage="], ["--accept-leakage", "seed=1"]])
def test_a_flag_without_a_reason_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code = main(["run", "demo", *words])
    except SystemExit as stop:  # argparse
        code = int(str(stop.code))
    assert code == 2 and "--accept-leakage" in capsys.readouterr().err and not list(tmp_path.iterdir())
