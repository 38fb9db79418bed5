"""NAB: the official series with their windows, series never seen, times that repeat, and files that are broken."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from pmx.contract import DataError, UsageError
from pmx.run import main
from pmx.source.admit import admit
from pmx.source.nab import WINDOWS, Nab
from pmx.source.ticks import to_ticks

TEMPERATURE = "realKnownCause/machine_temperature_system_failure"
LATENCY = "realKnownCause/ec2_request_latency_system_failure"


@pytest.mark.real_data("nab")
@pytest.mark.parametrize(
    "name, rows, refused, windows",
    [(TEMPERATURE, 22_695, {"not_monotonic": 11, "duplicate": 1}, 4), (LATENCY, 4_032, {"duplicate": 11}, 3)],
)
def test_the_official_files_have_times_that_the_contract_names(
    data_root: Path, name: str, rows: int, refused: dict[str, int], windows: int
):
    source = Nab(str(data_root / "nab"), name)
    history = source.load()
    with pytest.raises(DataError, match=f"{sum(refused.values())} problems"):
        admit(history.rows, history.contract)
    admitted = admit(history.rows, history.contract, "quarantine")
    assert admitted.counts["in"] == rows and dict(admitted.quarantine.group_by("reason").len().iter_rows()) == refused
    labelled = json.loads((data_root / "nab" / WINDOWS).read_text())[f"{name}.csv"]
    expected = [tuple(datetime.fromisoformat(t).replace(tzinfo=UTC) for t in window) for window in labelled]
    assert history.episodes.select("begin", "end").rows() == expected and len(expected) == windows
    assert source.published() == {f"data/{name}.csv": True, WINDOWS: True}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    Nab(str(tmp_path), ["own/pump", "own/fan_2"]).write_miniature(tmp_path / "nab", rows=100)
    return tmp_path / "nab"


def test_series_never_seen_work(archive: Path):
    history = Nab(str(archive), ["own/fan_2", "own/pump"]).load()
    admitted = admit(history.rows, history.contract, "quarantine")
    assert admitted.counts == {"in": 206, "accepted": 200, "quarantined": 6, "cells": 0} and history.name == "nab own-fan_2+own-pump"
    ticks = to_ticks(admitted.readings, history.contract)
    assert ticks.group_by("asset").len()["len"].to_list() == [100, 100] and not ticks["value"].null_count()
    assert history.groups == {"own/fan_2": "own", "own/pump": "own"} and history.events.height == 0 and history.test_assets is None
    rows = admitted.readings.join(history.episodes, on="asset").filter(pl.col("time").is_between("begin", "end"))
    assert rows.group_by("asset").len()["len"].to_list() == [10, 10] and rows["value"].max() < 70


def test_a_tick_is_what_the_readings_keep(archive: Path):
    """An hourly series on ticks of five minutes has eleven empty ones between two readings, and no alarm of k of n verdicts ever."""
    Nab(str(archive), "own/hourly", tick=60.0).write_miniature(archive, rows=50)
    windows = json.loads((archive / WINDOWS).read_text())
    Nab(str(archive), ["own/pump", "own/fan_2"]).write_miniature(archive, rows=100)
    (archive / WINDOWS).write_text(json.dumps(windows | json.loads((archive / WINDOWS).read_text())))
    history = Nab(str(archive), "own/hourly").load()
    assert history.contract.tick == 60.0 and history.notes == ()
    assert to_ticks(admit(history.rows, history.contract, "quarantine").readings, history.contract).height == 50
    assert Nab(str(archive), ["own/pump", "own/fan_2"]).load().contract.tick == 5.0
    both = Nab(str(archive), ["own/pump", "own/hourly"]).load()
    assert both.contract.tick == 60.0 and "own/pump every 5, own/hourly every 60 minutes" in both.notes[0]


@pytest.mark.parametrize("minutes, tick", [([5, 10, 10, 75, 20], 10.0), ([5, 5, 5, -15, 5, 0, 5], 5.0), ([], 5.0), ([0, 0], 5.0)])
def test_gaps_repeats_and_steps_back_do_not_move_the_tick(archive: Path, minutes: list[int], tick: float):
    times = [datetime(2015, 9, 8, 11, 39) + timedelta(minutes=sum(minutes[:i])) for i in range(len(minutes) + 1)]
    (archive / "data/own/pump.csv").write_text("timestamp,value\n" + "".join(f"{t},7\n" for t in times))
    assert Nab(str(archive), "own/pump").load().contract.tick == tick


def test_a_longer_tick_is_given_by_hand(archive: Path):
    source = Nab(str(archive), "own/hourly", tick=60.0)
    source.write_miniature(archive, rows=50)
    history = source.load()
    assert to_ticks(admit(history.rows, history.contract, "quarantine").readings, history.contract).height == 50
    with pytest.raises(UsageError, match="source.tick is 0"):
        Nab(str(archive), tick=0.0)


def test_a_series_without_windows_has_no_episodes(archive: Path):
    windows = json.loads((archive / WINDOWS).read_text()) | {"own/fan_2.csv": []}
    (archive / WINDOWS).write_text(json.dumps(windows))
    assert Nab(str(archive), ["own/fan_2", "own/pump"]).load().episodes["asset"].to_list() == ["own/pump"]


def test_values_and_windows_both_count_for_the_digest(archive: Path):
    digests = {Nab(str(archive), "own/pump").load().digest}
    for file in (WINDOWS, "data/own/pump.csv"):
        (archive / file).write_text((archive / file).read_text() + "\n")
        digests.add(Nab(str(archive), "own/pump").load().digest)
    assert len(digests) == 3


@pytest.mark.parametrize(
    "windows, told",
    [
        ("[]", "no map of file names"),
        ("{", "Expecting property name"),
        ("{}", "own/pump.csv has no entry"),
        ('{"own/pump.csv": [["2014-01-01 00:00:00"]]}', "no list of .begin, end."),
        ('{"own/pump.csv": [["2014-01-01 00:00:00", "noon"]]}', "is no window"),
        ('{"own/pump.csv": [["2014-01-02 00:00:00", "2014-01-01 00:00:00"]]}', "is no window"),
    ],
)
def test_windows_that_cannot_be_read_are_refused(archive: Path, windows: str, told: str):
    (archive / WINDOWS).write_text(windows)
    with pytest.raises(DataError, match=f"combined_windows.json.*{told}"):
        Nab(str(archive), "own/pump").load()


def test_what_is_missing_is_named_with_what_is_there(archive: Path, tmp_path: Path):
    with pytest.raises(DataError, match="own/mill.csv: no such file .it holds own/fan_2, own/pump."):
        Nab(str(archive), "own/mill").load()
    shutil.rmtree(archive / "labels")
    with pytest.raises(DataError, match="combined_windows.json: No such file"):
        Nab(str(archive), "own/pump").load()


@pytest.mark.parametrize("header, told", [("timestamp,level", "'value' is not in the header"), ("value,value", "'value' appears twice")])
def test_another_header_is_refused(archive: Path, header: str, told: str):
    file = archive / "data/own/pump.csv"
    file.write_text(file.read_text().replace("timestamp,value", header))
    with pytest.raises(DataError, match=told):
        Nab(str(archive), "own/pump").load()


@pytest.mark.parametrize("subset", [[], ["a/b", "a/b"], "../a", "machine", "a/b/c"])
def test_a_subset_names_series_once_and_never_paths(subset: str | list[str]):
    with pytest.raises(UsageError, match="source.subset"):
        Nab("nowhere", subset)


def test_data_check_needs_the_quarantine_and_says_so(archive: Path, workdir: Path, capsys):
    words = ["data", "check", "nab", f"source.root={archive}", "source.subset=own/pump"]
    assert main(words) == 3 and "on_error: quarantine" in capsys.readouterr().err
    assert main([*words, "on_error=quarantine"]) == 0
    assert "labelled episodes: 1 in 1 series" in capsys.readouterr().out
