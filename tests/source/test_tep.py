"""Tennessee Eastman: the official files whole, faults never seen, the transposed file, and files that are broken."""

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pmx.contract import DataError, UsageError
from pmx.run import main
from pmx.source.admit import admit
from pmx.source.tep import ALL, Tep
from pmx.source.ticks import to_ticks

CONTINUOUS = [*range(22), *range(41, 52)]


@pytest.mark.real_data("tep")
@pytest.mark.parametrize("channels, at", [("continuous", CONTINUOUS), ("all", list(range(52)))])
def test_the_official_files_are_numpys_own_reading_of_them(data_root: Path, channels: str, at: list[int]):
    source = Tep(str(data_root / "tep"), [1, 3], channels)
    history = source.load()
    admitted = admit(history.rows, history.contract)
    assert admitted.counts == {"in": 500 + 3 * 960, "accepted": 500 + 3 * 960, "quarantined": 0, "cells": 0}
    ticks = to_ticks(admitted.readings, history.contract)
    for asset in ("d00", "d00_te", "d01_te", "d03_te"):
        raw = np.loadtxt(data_root / "tep" / f"{asset}.dat")
        raw = raw.T if asset == "d00" else raw
        got = ticks.filter(pl.col("asset") == asset)
        assert got["tick"].to_list() == list(range(1, len(raw) + 1)), "every reading has a tick of its own"
        np.testing.assert_array_equal(got.select(history.contract.names).to_numpy(), raw[:, at].astype(np.float32))
    assert source.published() == dict.fromkeys(["d00.dat", "d00_te.dat", "d01_te.dat", "d03_te.dat"], True)


@pytest.mark.real_data("tep")
def test_the_first_subset_is_that_of_the_detectable_faults_and_has_33_channels(data_root: Path):
    history = Tep(str(data_root / "tep")).load()
    assert history.test_assets == {f"d0{fault}_te" for fault in (1, 2, 4, 5, 6, 7, 8)} and history.calibration == {"d00_te"}
    assert history.contract.names == [ALL[i].name for i in CONTINUOUS] and {c.role for c in history.contract.channels} == {"measurement"}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tep")
    Tep(str(folder), [9, 21]).write_miniature(folder, rows=200)
    return folder


@pytest.fixture
def broken(archive: Path, tmp_path: Path):
    """Rewrites the lines of one file of the miniature, and gives the source."""

    def change(new, file: str = "d09_te.dat") -> Tep:
        shutil.copytree(archive, tmp_path / "broken")
        lines = (tmp_path / "broken" / file).read_text().splitlines()
        (tmp_path / "broken" / file).write_text("\n".join(new(lines)))
        return Tep(str(tmp_path / "broken"), 9)

    return change


def test_faults_never_seen_work(archive: Path):
    history = Tep(str(archive), [21, 9]).load()
    assert history.name == "tep 21+09" and history.test_assets == {"d09_te", "d21_te"} and history.calibration == {"d00_te"}
    assert history.groups == {"d09_te": "fault_09", "d21_te": "fault_21"}
    assert history.events.height == 0 and history.events.schema["time"] == history.events.schema["known_at"] == pl.Float64
    assert admit(history.rows, history.contract).counts == {"in": 800, "accepted": 800, "quarantined": 0, "cells": 0}


def test_the_first_160_readings_are_healthy_and_the_others_faulty(archive: Path):
    history = Tep(str(archive), [9, 21]).load()
    rows = admit(history.rows, history.contract).readings.join(history.episodes, on="asset")
    faulty = rows.filter(pl.col("time").is_between("begin", "end")).group_by("asset").agg(pl.col("row"))
    assert {asset: list(found) for asset, found in faulty.iter_rows()} == dict.fromkeys(["d09_te", "d21_te"], list(range(161, 201)))
    assert dict(history.episodes.select("asset", "fault").iter_rows()) == {"d09_te": "fault_09", "d21_te": "fault_21"}


def test_no_time_drifts_off_its_tick_in_long_runs(tmp_path: Path):
    """Multiples of 0.05 are rounded: a reading in the wrong tick would leave one empty and lose another."""
    source = Tep(str(tmp_path), 1)
    source.write_miniature(tmp_path, rows=170)
    line = (tmp_path / "d01_te.dat").read_text().splitlines()[0]
    (tmp_path / "d01_te.dat").write_text("\n".join([line] * 50_000))
    history = source.load()
    ticks = to_ticks(admit(history.rows, history.contract).readings, history.contract).filter(pl.col("asset") == "d01_te")
    assert ticks.height == 50_000 and not ticks["XMEAS_1"].null_count()


def test_a_fit_file_with_one_reading_a_line_gives_the_same(archive: Path, broken):
    def turned(lines: list[str]) -> list[str]:
        return [" ".join(cells) for cells in zip(*(line.split() for line in lines), strict=True)]

    changed, same = broken(turned, "d00.dat").load(), Tep(str(archive), 9).load()
    assert changed.rows.drop("file").collect().equals(same.rows.drop("file").collect()) and changed.digest != same.digest


def test_each_channel_of_the_miniature_has_a_place_of_its_own(archive: Path):
    continuous, every = (Tep(str(archive), 9, c).load().rows.collect() for c in ("continuous", "all"))
    assert continuous.equals(every.select(continuous.columns)) and len(every.columns) == 56
    assert len({c.name for c in ALL}) == 52 and [c.name for c in ALL[40:42]] == ["XMEAS_41", "XMV_1"]


BREACHES = {
    "no number": (lambda line: line.replace(line.split()[6], "hot", 1), "row 5, asset d09_te, channel XMEAS_7: 'hot' is not a number"),
    "a line cut short": (lambda line: " ".join(line.split()[:51]), "row 5, asset d09_te, channel XMV_11: '(line ends before it)' is not a"),
    "a value too many": (lambda line: line + " 7.5", "row 5, asset d09_te, channel column_53: '7.5' stands in a column"),
    "an infinite value": (lambda line: "inf " + line.split(None, 1)[1], "row 5, asset d09_te, channel XMEAS_1: 'inf' is infinite"),
}


@pytest.mark.parametrize("new, told", BREACHES.values(), ids=BREACHES.keys())
def test_a_bad_row_is_refused_by_its_place_or_set_apart(broken, new, told: str):
    history = broken(lambda lines: [*lines[:4], new(lines[4]), *lines[5:]]).load()
    with pytest.raises(DataError) as refused:
        admit(history.rows, history.contract)
    assert told in str(refused.value) and "d09_te.dat: 1 problem" in str(refused.value)
    counts = admit(history.rows, history.contract, "quarantine").counts
    row = "line ends" in told or "column_53" in told
    assert (counts["quarantined"], counts["cells"]) == ((1, 0) if row else (0, 1)) and counts["in"] == counts["accepted"] + row


def test_a_variable_cut_short_is_refused(broken):
    with pytest.raises(DataError, match="d00.dat, row 4: another number of values than the 200 of the first line"):
        broken(lambda lines: [*lines[:3], lines[3].rsplit(None, 1)[0], *lines[4:]], "d00.dat").load()


@pytest.mark.parametrize(
    "new, told",
    [(lambda lines: ["a,b c"], "2 values, and 1 lines"), (lambda lines: [], "0 values"), (lambda lines: lines[:160], "160 rows, but the")],
)
def test_a_file_of_another_kind_or_without_its_fault_is_refused(broken, new, told: str):
    with pytest.raises(DataError, match=told):
        broken(new).load()


@pytest.mark.parametrize("file", ["d00.dat", "d00_te.dat", "d09_te.dat"])
def test_a_missing_file_is_named_with_what_is_there(broken, tmp_path: Path, file: str):
    source = broken(lambda lines: lines)
    (tmp_path / "broken" / file).unlink()
    with pytest.raises(DataError, match=f"{file}: no such file .it holds .*d21_te.dat"):
        source.load()
    with pytest.raises(DataError, match="no run is there"):
        Tep(str(tmp_path / "nowhere")).load()


@pytest.mark.parametrize("subset", [[], [1, 1], 0, [1, -2], 100])
def test_faults_are_numbers_from_1_each_once(subset: int | list[int]):
    with pytest.raises(UsageError, match="source.subset"):
        Tep("nowhere", subset)


def test_channels_are_one_of_two_choices():
    with pytest.raises(UsageError, match="source.channels is 'xmv' -> choose from continuous, all"):
        Tep("nowhere", channels="xmv")


def test_data_check_reads_it_as_a_run_would(archive: Path, workdir: Path, capsys):
    assert main(["data", "check", "tep", f"source.root={archive}", "source.subset=[21]"]) == 0
    told = capsys.readouterr().out
    assert "3 runs, 1 of them the source's own test part; 600 ticks of 0.05 h" in told and "labelled episodes: 1 in 1 runs" in told
