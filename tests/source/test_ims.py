"""IMS: both forms of the official file, other tests with one or two accelerometers, gaps, and files that are broken."""

import csv
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmx.contract import DataError, UsageError
from pmx.run import main
from pmx.source.admit import admit
from pmx.source.ims import Ims, _test_of
from pmx.source.ticks import to_ticks
from pmx.window.label import label

MERGED, NAMED = "merged_dataset_BearingTest_2", "2nd_test_resmaple_10minutes"


def official(file: Path) -> tuple[list[datetime], np.ndarray]:
    """Times and the four last columns, read by the standard library."""
    with file.open(newline="") as lines:
        rows = list(csv.reader(lines))[1:]
    return [datetime.strptime(row[-5], "%Y.%m.%d.%H.%M.%S").replace(tzinfo=UTC) for row in rows], np.array(
        [row[-4:] for row in rows], float
    )


@pytest.mark.real_data("ims_bearing")
def test_both_forms_of_the_official_file_are_the_same_four_bearings(data_root: Path):
    root = str(data_root / "ims_bearing")
    histories = [Ims(root, name).load() for name in (MERGED, NAMED)]
    times, values = official(data_root / "ims_bearing" / f"{MERGED}.csv")
    for history in histories:
        admitted = admit(history.rows, history.contract)
        assert admitted.counts == {"in": 4 * 984, "accepted": 4 * 984, "quarantined": 0, "cells": 0}
        for b in range(4):
            rows = admitted.readings.filter(pl.col("asset") == f"test2/bearing {b + 1}")
            assert rows["time"].to_list() == times and rows["row"].to_list() == list(range(2, 986))
            np.testing.assert_array_equal(rows["vibration"], values[:, b])
        assert history.events.rows() == [("test2/bearing 1", times[-1], "failure", times[-1])]
    assert histories[0].digest != histories[1].digest
    assert Ims(root, MERGED).published() == {f"{MERGED}.csv": True} and Ims(root, NAMED).published() == {f"{NAMED}.csv": True}


@pytest.mark.real_data("ims_bearing")
def test_a_test_by_number_takes_one_file_and_names_the_others(data_root: Path):
    history = Ims(str(data_root / "ims_bearing")).load()
    assert history.name == "ims test2" and len(history.notes) == 1 and MERGED in history.notes[0]
    with pytest.raises(DataError, match="no file of test 3 .it holds 2nd_test_resmaple_10minutes, merged_dataset_BearingTest_2"):
        Ims(str(data_root / "ims_bearing"), 3).load()
    with pytest.raises(DataError, match="are both test 2"):
        Ims(str(data_root / "ims_bearing"), [MERGED, NAMED]).load()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    Ims("", [1, 2, "3rd_test_resmaple_10minutes"]).write_miniature(tmp_path / "ims", rows=120)
    return tmp_path / "ims"


@pytest.mark.parametrize("subset, channels, failing", [(1, 2, {3, 4}), (2, 1, {1}), (3, 1, {3})])
def test_every_test_has_its_bearings_and_its_failures(archive: Path, subset: int, channels: int, failing: set[int]):
    history = Ims(str(archive), subset).load()
    assert len(history.contract.channels) == channels
    assert set(history.events["asset"]) == {f"test{subset}/bearing {b}" for b in failing}
    ticks = to_ticks(admit(history.rows, history.contract).readings, history.contract)
    lengths = ticks.group_by("asset").len()["len"].to_list()
    assert lengths == [119 + 24 * 6] * 4, "a day without readings is a run of ticks without values"
    left = ticks.with_columns(rul=label(ticks, history.events, history.contract).rul).filter(pl.col("rul").is_not_nan())
    assert set(left["asset"]) == set(history.events["asset"]) and left.group_by("asset").first()["rul"].min() > 40
    ends = ticks.group_by("asset").last()
    worn = ends.filter(pl.all_horizontal(pl.col(history.contract.names) > 0.1))
    assert set(worn["asset"]) == set(history.events["asset"]), "columns keep their bearings"


def test_tests_together_and_tests_apart(archive: Path):
    both = Ims(str(archive), [2, 3]).load()
    assert sorted(set(both.groups.values())) == ["test2", "test3"] and len(both.groups) == 8
    with pytest.raises(DataError, match="test 1 has 2, test 3 has 1"):
        Ims(str(archive), [1, 3]).load()


@pytest.mark.parametrize("names", ["Bearing {} C1,Bearing {} C2", "Bearing {}l,Bearing {}r", "b{}_x,b{}_y", "Bearing {}-A,Bearing {}-B"])
def test_columns_are_known_by_name_in_any_order(archive: Path, names: str):
    file = archive / "merged_dataset_BearingTest_1.csv"
    plain = admit((h := Ims(str(archive), 1).load()).rows, h.contract).readings
    lines = [line.split(",") for line in file.read_text().splitlines()]
    lines[0] = ["", *",".join(names.format(b, b) for b in range(1, 5)).split(",")]
    order = [0, 7, 8, 1, 2, 5, 6, 3, 4]
    file.write_text("\n".join(",".join(line[i] for i in order) for line in lines))
    named = admit((h := Ims(str(archive), 1).load()).rows, h.contract).readings
    assert named.sort("asset", "time").drop("file").equals(plain.sort("asset", "time").drop("file"))


@pytest.mark.parametrize(
    "test, place, width", [(1, "1st_test", 8), (2, "2nd_test", 4), (3, "3rd_test/4th_test/txt", 4), (3, "4th_test/txt", 4)]
)
def test_raw_snapshots_are_reduced_to_the_same_readings(tmp_path: Path, test: int, place: str, width: int):
    samples = np.round(np.random.default_rng(test).normal(size=(6, 50, width)), 3)
    times = [f"2004.02.12.10.{minute:02}.39" for minute in range(2, 62, 10)]
    (tmp_path / place).mkdir(parents=True)
    for time, own in zip(times, samples, strict=True):
        (tmp_path / place / time).write_text("".join("\t".join(f"{v:.3f}" for v in row) + "\n" for row in own))
    raw = Ims(str(tmp_path), test).load()
    lines = [",".join([t, *map(repr, map(float, np.abs(own).mean(0)))]) for t, own in zip(times, samples, strict=True)]
    (tmp_path / f"merged_dataset_BearingTest_{test}.csv").write_text("\n".join([",".join(["", *map(str, range(width))]), *lines]))
    merged = Ims(str(tmp_path), test).load()
    assert merged.notes == (f"test {test} is read from merged_dataset_BearingTest_{test}.csv alone, not from {place.partition('/')[0]}",)
    mine, same = (admit(h.rows, h.contract).readings for h in (raw, merged))
    assert mine.select("asset", "time").equals(same.select("asset", "time")) and raw.events.equals(merged.events) and mine.height == 24
    np.testing.assert_allclose(*(r.select(raw.contract.names).to_numpy() for r in (mine, same)), rtol=1e-12)


@pytest.mark.parametrize("text", ["", "0.1\\t0.2\\t0.3\\t0.4\\n0.1\\t0.2\\n", "0.1\t0.2\t0.3\tx\n", "0.1\t0.2\t0.3\t0.4\t0.5\n"])
def test_a_broken_snapshot_is_named(tmp_path: Path, text: str):
    (tmp_path / "2nd_test").mkdir()
    for minute in (12, 22):
        (tmp_path / f"2nd_test/2004.02.12.10.{minute}.39").write_text("0.1\t0.2\t0.3\t0.4\n" if minute == 12 else text)
    with pytest.raises(DataError, match=r"2004.02.12.10.22.39: no snapshot of 4 columns of numbers"):
        Ims(str(tmp_path)).load()


def test_two_snapshots_in_one_tick_are_averaged_and_iso_times_are_read(archive: Path):
    (archive / "merged_dataset_BearingTest_2.csv").write_text(
        ",Bearing 1,Bearing 2,Bearing 3,Bearing 4\n2003-10-22 12:06:24,0.1,0.2,0.3,0.4\n2003-10-22 12:09:13,0.3,0.2,0.3,0.4\n"
    )
    history = Ims(str(archive), 2).load()
    ticks = to_ticks(admit(history.rows, history.contract).readings, history.contract)
    np.testing.assert_allclose(ticks.sort("asset")["vibration"], [0.2, 0.2, 0.3, 0.4], rtol=1e-6)


@pytest.mark.parametrize(
    "line, reason",
    [
        ("2004.02.30.10.32.39,1,1,1,1", "unparsable_time"),
        ("2004.03.01.10.32.39,1,1", "wrong_type"),
        ("2004.03.01.10.32.39,-1,1,1,1", "out_of_range"),
    ],
)
def test_broken_lines_are_quarantined_by_name(archive: Path, line: str, reason: str):
    file = archive / "merged_dataset_BearingTest_2.csv"
    file.write_text(file.read_text() + line + "\n")
    history = Ims(str(archive), 2).load()
    admitted = admit(history.rows, history.contract, "quarantine")
    assert admitted.counts["accepted"] + admitted.counts["quarantined"] == admitted.counts["in"] == 4 * 121
    assert set(admitted.quarantine["row"]) == {122} and reason in set(admitted.quarantine["reason"])


@pytest.mark.parametrize(
    "header", [",0,1,2", ",Bearing 1,Bearing 2,Bearing 3,Bearing 3", ",Bearing 1,Bearing 2,Bearing 3,Bearing 4,load", ""]
)
def test_another_header_is_refused(archive: Path, header: str):
    file = archive / "merged_dataset_BearingTest_2.csv"
    file.write_text("\n".join([header, *file.read_text().splitlines()[1:]]))
    with pytest.raises(DataError, match="BearingTest_2.csv, first line: .*bearings"):
        Ims(str(archive), 2).load()


@pytest.mark.parametrize("subset", [[], [2, 2], 4, "BearingTest", "../test_2", "merged_dataset_BearingTest_12"])
def test_a_subset_names_tests_once_and_never_paths(subset: int | str | list[int]):
    with pytest.raises(UsageError, match="source.subset"):
        Ims("nowhere", subset)


@given(st.integers(1, 3), st.sampled_from(["merged_dataset_BearingTest_{}", "{}{}_test_resmaple_10minutes", "test{}", "IMS_test_{}_mean"]))
def test_the_number_of_a_test_is_found_in_its_name(test: int, form: str):
    name = form.format(test, {1: "st", 2: "nd", 3: "rd"}[test]) if form.count("{}") == 2 else form.format(test)
    assert _test_of(name) == test


def test_data_check_tells_the_tests_and_their_failures(archive: Path, workdir: Path, capsys):
    assert main(["data", "check", "ims", f"source.root={archive}", "source.subset=1"]) == 0
    told = capsys.readouterr().out
    assert "ims test1: 480 rows, 480 accepted" in told and "4 bearings" in told and "2 failures" in told
