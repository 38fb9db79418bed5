"""`pmx data`: what it prints and with which code it ends, on good files and on one spoilt in each way."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pmx.align import Ticker
from pmx.bundle import Bundle
from pmx.contract import Contract
from pmx.edge.cli import main as edge
from pmx.edge.replay import replay_ticks
from pmx.edge.table import read_csv
from pmx.gate.parity import as_ticks
from pmx.judge import Checker
from pmx.run import main
from pmx.source import Source
from pmx.source.admit import admit
from pmx.source.cmapss import Cmapss
from pmx.source.miniature import write_plant
from pmx.source.synthetic import Synthetic
from pmx.source.table import Table
from pmx.source.ticks import to_ticks
from tests.small_fleet import small_watch

# Row 5 of pump-0001 stands in line 6: the header is line 1.
HEADER = "asset,time,speed,valve,flow,pressure,power,vibration,bearing_temperature,seal_leakage"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pumps")
    Synthetic(assets=3, life=200.0, missing=0.0).write(folder)
    return folder


@pytest.fixture
def spoilt(good: Path, workdir: Path):
    """Changes one line of readings.csv, and checks the data in a way (`refuse` or `quarantine`)."""

    def change(line: int, new) -> None:
        shutil.copytree(good, workdir / "pumps")
        lines = (workdir / "pumps" / "readings.csv").read_text().splitlines()
        lines[line - 1] = new(lines) if callable(new) else new
        (workdir / "pumps" / "readings.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")

    return change


def put(column: str, value: str, line: int = 6):
    """Replaces one cell."""
    return lambda lines: ",".join(value if n == column else c for n, c in zip(HEADER.split(","), lines[line - 1].split(","), strict=True))


def check(how: str, capsys) -> tuple[int, str, str, dict]:
    code = main(["data", "check", "synthetic", "source.root=pumps", f"on_error={how}", "--json"])
    told = capsys.readouterr()
    assert "Traceback" not in told.out + told.err
    return code, told.out, told.err, json.loads(told.out.splitlines()[-1])


BREACHES = {
    "wrong_type": (put("flow", "much"), "row 6, asset pump-0001, channel flow: 'much' is not a number"),
    "unparsable_time": (put("time", "31.02.2025"), "row 6, asset pump-0001: '31.02.2025' is not a time such as"),
    "out_of_range": (put("pressure", "-3"), "row 6, asset pump-0001, channel pressure: '-3' is outside [0.0, 40.0] bar"),
    "infinite": (put("power", "inf"), "row 6, asset pump-0001, channel power: 'inf' is infinite"),
    "duplicate": (lambda lines: lines[4], "row 6, asset pump-0001: '2025"),
    "not_monotonic": (
        put("time", "2001-01-01T00:00:00Z"),
        "row 6, asset pump-0001: '2001-01-01T00:00:00Z' is before the asset's newest row",
    ),
    "missing_asset": (put("asset", ""), "row 6: '' names no asset"),
}


@pytest.mark.parametrize("reason", BREACHES)
def test_a_corrupted_row_is_refused_or_set_apart(spoilt, workdir: Path, capsys, reason: str):
    new, told = BREACHES[reason]
    spoilt(6, new)
    if reason == "duplicate":
        told = told[: told.index("'")]
    code, _, error, answer = check("refuse", capsys)
    assert code == 3 == answer["exit_code"] and answer["error"] == error.strip()
    assert "readings.csv: 1 problem, nothing was written" in error and told in error and f"({reason})" in error
    assert not list(workdir.rglob("*.parquet"))
    code, out, _, answer = check("quarantine", capsys)
    counts = answer["counts"]
    lost = "value" if reason in ("wrong_type", "infinite", "out_of_range") else "row"
    assert code == 0 and (counts["quarantined"], counts["cells"]) == ((0, 1) if lost == "value" else (1, 0))
    assert counts["in"] == counts["accepted"] + counts["quarantined"] and ("1 values of accepted rows" in out) == (lost == "value")
    (file,) = workdir.rglob("*.parquet")
    assert pl.read_parquet(file).select("reason", "lost").rows() == [(reason, lost)] and f"1 {reason}" in out and file.name in out


def test_a_column_that_nobody_listed(spoilt, workdir: Path, capsys):
    spoilt(1, HEADER)
    lines = (workdir / "pumps" / "readings.csv").read_text().splitlines()
    wide = [f"{line},{'extra' if i == 0 else '7' if i == 5 else ''}" for i, line in enumerate(lines)]
    (workdir / "pumps" / "readings.csv").write_text("\n".join(wide) + "\n")
    for how in ("refuse", "quarantine"):
        code, out, _, answer = check(how, capsys)
        assert code == 0 and answer["counts"]["quarantined"] == 0 and answer["ignored"] == ["extra"]
        assert "columns that the contract does not list, left out: extra" in out


@pytest.mark.parametrize(
    "line, new, told",
    [
        (1, HEADER.replace("vibration", "vibrations"), "column 'vibration' is not in the header, nearest is 'vibrations'"),
        (1, HEADER.replace("power", "flow"), "column 'flow' appears twice"),
        (6, lambda lines: lines[5] + ",9", "line 6: 11 cells where the header has 10"),
        (6, lambda lines: lines[5].rpartition(",")[0], "line 6: 9 cells where the header has 10"),
        (6, 'pump-0001,"2025', "close the quote"),
    ],
)
@pytest.mark.parametrize("how", ["refuse", "quarantine"])
def test_a_file_whose_cells_cannot_be_told_apart_is_refused_whole(spoilt, capsys, line: int, new, told: str, how: str):
    spoilt(line, new)
    code, _, error, _ = check(how, capsys)
    assert code == 3 and told in error and "readings.csv" in error


def test_a_bad_work_order_is_refused(good: Path, workdir: Path, capsys):
    shutil.copytree(good, workdir / "pumps")
    log = workdir / "pumps" / "orders.csv"
    log.write_text(log.read_text().replace("commissioning", "comissioning", 1))
    code, _, error, _ = check("quarantine", capsys)
    assert code == 3 and "orders.csv: 1 problem" in error and "row 2, asset pump-0001: 'comissioning' is no event" in error


def test_nothing_left_is_bad_data(good: Path, workdir: Path, capsys):
    shutil.copytree(good, workdir / "pumps")
    readings = workdir / "pumps" / "readings.csv"
    readings.write_text(HEADER + "\n")
    assert check("quarantine", capsys)[0] == 3
    readings.write_text(HEADER + "\npump-0001,never,1,1,1,1,1,1,1,1\n")
    code, _, error, _ = check("quarantine", capsys)
    assert code == 3 and "of 1 rows none is left" in error


def test_a_check_tells_what_the_data_can_teach(good: Path, workdir: Path, capsys):
    shutil.copytree(good, workdir / "pumps")
    code, out, _, answer = check("refuse", capsys)
    history = Synthetic(root=str(good)).load()
    kinds = history.events["event"].to_list()
    assert code == 0 and answer["counts"]["in"] == history.rows.collect().height == answer["counts"]["accepted"]
    assert answer["assets"] == 3 and answer["failures"] == kinds.count("failure") and answer["replacements"] == kinds.count("replacement")
    assert answer["ticks"] >= answer["counts"]["in"] and f"{answer['failures']} failures" in out and "3 pumps" in out
    assert answer["constant"] == [] and answer["digest"] == history.digest and answer["ignored"] == [] == answer["notes"]
    assert main(["data", "check", "demo", "source.root=pumps", "--json"]) == 0, "the source of an experiment is checked too"
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["digest"] == history.digest


@pytest.mark.real_data("cmapss")
def test_a_check_of_the_real_engines(data_root: Path, workdir: Path, capsys):
    assert main(["data", "check", "cmapss", f"data_root={data_root}", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (
        answer["counts"] == {"in": 33_727, "accepted": 33_727, "quarantined": 0, "cells": 0}
        and answer["assets"] == 200 == answer["failures"]
    )
    assert {"T2", "P2", "epr", "farB", "Nf_dmd", "PCNfR_dmd"} <= set(answer["constant"]), "the sensors that never move in FD001"


def test_a_check_of_a_subset_never_seen(workdir: Path, capsys):
    Cmapss("", "FD004").write_miniature(workdir / "cmapss", engines=3)
    assert main(["data", "check", "cmapss", f"data_root={workdir}", "source.subset=FD004"]) == 0
    assert "cmapss FD004" in capsys.readouterr().out
    assert main(["data", "check", "cmapss", f"data_root={workdir}"]) == 3
    assert "train_FD001.txt: no such file (it holds FD004)" in capsys.readouterr().err


def test_the_list_shows_what_is_there(workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setenv("PMX_DATA_ROOT", str(workdir))
    assert main(["data", "list", "--json"]) == 0
    out = capsys.readouterr().out
    assert "pmx data fetch cmapss" in out and "-> pmx new PLANT --readings FILES" in out and "pmx data fetch table" not in out
    assert json.loads(out.splitlines()[-1])["sources"]["table"]["state"] == "your files"
    assert json.loads(out.splitlines()[-1])["sources"]["cmapss"]["state"] == "missing"
    Cmapss("", "FD003").write_miniature(workdir / "cmapss", engines=1)
    assert main(["data", "list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["sources"]
    assert found["cmapss"]["state"] == "there" and found["synthetic"]["state"] == "simulated"


@pytest.mark.parametrize(
    "words, told",
    [
        (["check", "cmaps"], "no source or plant 'cmaps' -> did you mean cmapss?"),
        (["check"], "needs a source"),
        (["fetch", "synthetic"], "source.root=FOLDER"),
        (["check", "cmapss", "source.subsets=FD001"], "source.subsets: there is no such setting"),
        (["check", "synthetic", "on_error=ignore"], "on_error"),
    ],
)
def test_a_wrong_command_is_named(workdir: Path, capsys, words: list[str], told: str):
    assert main(["data", *words]) == 2
    error = capsys.readouterr().err
    assert told in error and len(error.splitlines()) < 15


def test_in_a_process_of_its_own(good: Path, tmp_path: Path):
    """The installed command: codes and streams as a shell sees them."""
    shutil.copytree(good, tmp_path / "pumps")
    readings = tmp_path / "pumps" / "readings.csv"
    readings.write_text(readings.read_text().replace("pump-0002,", ",", 1))
    command = [str(Path(sys.executable).with_name("pmx")), "data", "check", "synthetic", "source.root=pumps"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 3 and done.stdout == "" and "missing_asset" in done.stderr and "Traceback" not in done.stderr


def exported(words: list[str], capsys) -> tuple[Path, dict]:
    assert main(["data", "export", *words, "--output", "sub/out.csv", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["file"] == "sub/out.csv"
    return Path("sub/out.csv"), answer


def same_ticks(file: Path, source: Source, contract: Contract) -> None:
    """A device that reads the file meets the ticks of a run, to the last bit."""
    history = source.load()
    admitted = admit(history.rows, contract, "quarantine")
    want = as_ticks(to_ticks(admitted.readings, contract), contract)
    checked = Checker(contract).check(read_csv(file, contract))
    ticker = Ticker(contract)
    ticker.add(checked)
    found = ticker.ticks()
    assert found.assets == want.assets and not checked.breaches and len(checked.asset) == len(admitted.readings)
    for i, values in enumerate(want.values):
        assert found.start[i] == want.start[i] and np.array_equal(found.values[i], values, equal_nan=True)


def test_an_exported_plant_gives_a_device_the_ticks_of_a_run(workdir: Path, capsys):
    """Long files in a German dialect, several readings a tick, standstills, an hour that comes twice, a reading of bad quality."""
    write_plant(workdir / "datasets")
    file, answer = exported(["table", "source.card=datasets/plant.yaml", "on_error=quarantine"], capsys)
    source = Table("datasets/plant.yaml")
    assert answer["quarantined"] > 0
    same_ticks(file, source, source.load().contract)


def test_exported_engines_count_cycles(workdir: Path, capsys):
    Cmapss("", "FD001").write_miniature(workdir / "cmapss")
    file, answer = exported(["cmapss", f"data_root={workdir}"], capsys)
    source = Cmapss(str(workdir / "cmapss"), "FD001")
    assert answer["quarantined"] == 0 and len(file.read_text().splitlines()) == answer["rows"] + 1
    same_ticks(file, source, source.load().contract)


def test_a_device_raises_the_alarms_of_the_run_on_exported_readings(workdir: Path, capsys):
    watch = small_watch()
    bundle = watch.seal(workdir / "bundle")
    whole = ["source.assets=12", "source.life=600", "source.tick=6", "source.missing=0.03", "seed=0"]
    file, answer = exported(["synthetic", *whole], capsys)
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], *(x for x in lines[1:] if x.split(",")[0] in watch.ticks["asset"])]) + "\n")
    assert answer["rows"] == len(lines) - 1
    played = replay_ticks(Bundle.open(bundle), as_ticks(watch.ticks, watch.history.contract))
    assert edge(["replay", str(bundle), "--input", str(file), "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["alarms"] == played.alarm_log() != [] and told["steps"] == played.steps and told["quarantined"] == 0
