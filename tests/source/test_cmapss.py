"""C-MAPSS: the official files whole, a subset never seen, and what happens to files that are broken."""

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pmx.contract import DataError, UsageError
from pmx.source import History
from pmx.source.admit import admit
from pmx.source.cmapss import Cmapss
from pmx.source.ticks import to_ticks
from pmx.window.label import label


def rows_of(history: History, part: str) -> int:
    return history.rows.filter(pl.col("file").str.contains(f"{part}_")).select(pl.len()).collect().item()


@pytest.mark.real_data("cmapss")
@pytest.mark.parametrize("subset, train, test, engines", [("FD001", 20_631, 13_096, (100, 100)), ("FD002", 53_759, 33_991, (260, 259))])
def test_the_official_files_have_the_published_counts(data_root: Path, subset: str, train: int, test: int, engines: tuple[int, int]):
    history = Cmapss(str(data_root / "cmapss"), subset).load()
    assert (rows_of(history, "train"), rows_of(history, "test")) == (train, test)
    admitted = admit(history.rows, history.contract)
    assert admitted.counts == {"in": train + test, "accepted": train + test, "quarantined": 0, "cells": 0}
    assets = set(admitted.readings["asset"])
    assert (len(assets - history.test_assets), len(assets & history.test_assets)) == engines
    assert not admitted.readings.select(history.contract.names).null_count().sum_horizontal().item()


@pytest.mark.real_data("cmapss")
def test_life_left_is_that_of_the_rul_file(data_root: Path):
    """The reference is numpy's own reading of the same files."""
    history = Cmapss(str(data_root / "cmapss"), "FD001").load()
    ticks = to_ticks(admit(history.rows, history.contract).readings, history.contract)
    frame = ticks.select("asset", "tick").with_columns(rul=label(ticks, history.events, history.contract).rul)
    last = frame.group_by("asset", maintain_order=True).last()
    tested = last.filter(pl.col("asset").is_in(history.test_assets))
    np.testing.assert_array_equal(tested["rul"], np.loadtxt(data_root / "cmapss" / "RUL_FD001.txt"))
    assert (last.filter(~pl.col("asset").is_in(history.test_assets))["rul"] == 0).all(), "training engines run to failure"
    raw = np.loadtxt(data_root / "cmapss" / "test_FD001.txt")
    first = ticks.filter(pl.col("asset") == "FD001-test-001")
    np.testing.assert_array_equal(first.select(history.contract.names).to_numpy(), raw[raw[:, 0] == 1, 2:].astype(np.float32))


@pytest.mark.real_data("cmapss")
def test_several_subsets_at_once_are_the_single_ones_together(data_root: Path):
    root = str(data_root / "cmapss")
    both, first, second = (Cmapss(root, s).load() for s in (["FD001", "FD002"], "FD001", "FD002"))
    assert both.name == "cmapss FD001+FD002" and both.test_assets == first.test_assets | second.test_assets
    assert both.rows.collect().equals(pl.concat([first.rows, second.rows]).collect())
    assert both.events.equals(pl.concat([first.events, second.events]))
    assert len({both.digest, first.digest, second.digest}) == 3


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    Cmapss(str(folder), ["FD003", "FD004"]).write_miniature(folder, engines=4)
    return folder


@pytest.fixture
def broken(archive: Path, tmp_path: Path):
    """Changes one line (1 = the first) of a file of the miniature, and gives the source."""

    def change(row: int, new, file: str = "train_FD003.txt") -> Cmapss:
        shutil.copytree(archive, tmp_path / "broken")
        lines = (tmp_path / "broken" / file).read_text().split("\n")
        lines[row - 1] = new(lines[row - 1]) if callable(new) else new
        (tmp_path / "broken" / file).write_text("\n".join(lines))
        return Cmapss(str(tmp_path / "broken"), "FD003")

    return change


def cell(at: int, value: str):
    """Replaces the cell at this position."""
    return lambda line: " ".join(value if i == at else c for i, c in enumerate(line.split(" ")))


def test_a_subset_never_seen_works(archive: Path):
    history = Cmapss(str(archive), "FD003").load()
    admitted = admit(history.rows, history.contract)
    assert admitted.counts["quarantined"] == 0 and history.name == "cmapss FD003"
    assert sorted(history.test_assets) == [f"FD003-test-00{i}" for i in range(1, 5)]
    left = np.loadtxt(archive / "RUL_FD003.txt")
    ticks = to_ticks(admitted.readings, history.contract)
    rul = ticks.select("asset").with_columns(rul=label(ticks, history.events, history.contract).rul).group_by("asset").last().sort("asset")
    np.testing.assert_array_equal(rul.filter(pl.col("asset").is_in(history.test_assets))["rul"], left)


@pytest.mark.parametrize("blanks", ["", " ", "   ", " \r", "\t"])
@pytest.mark.parametrize("row", [1, 2])
def test_blanks_at_the_end_of_a_line_mean_nothing(archive: Path, broken, blanks: str, row: int):
    changed = broken(row, lambda line: line.rstrip() + blanks).load()
    same = Cmapss(str(archive), "FD003").load()
    assert changed.rows.drop("file").collect().equals(same.rows.drop("file").collect())


def test_a_blank_line_is_no_row_and_moves_no_row_number(broken):
    history = broken(1, lambda line: "\n" + line).load()
    rows = history.rows.collect()
    assert rows["row"][:2].to_list() == [2, 3] and admit(rows.lazy(), history.contract).counts["quarantined"] == 0


BREACHES = {
    "a cell that is no number": (5, cell(6, "hot"), "row 5, asset FD003-train-001, channel T24: 'hot' is not a number (wrong_type)"),
    "a cycle that is no time": (5, cell(1, "five"), "row 5, asset FD003-train-001: 'five' is not a time in cycle (unparsable_time)"),
    "an infinite value": (5, cell(6, "-inf"), "row 5, asset FD003-train-001, channel T24: '-inf' is infinite"),
    "a cycle twice": (5, cell(1, "4"), "row 5, asset FD003-train-001: '4' is a time that the asset has already (duplicate)"),
    "a cycle out of order": (5, cell(1, "2"), "row 5, asset FD003-train-001: '2' is before the asset's newest row (not_monotonic)"),
    "a setting out of range": (5, cell(2, "99"), "row 5, asset FD003-train-001, channel altitude: '99' is outside [-1.0, 43.0] kft"),
    "a column too many": (
        5,
        lambda line: line.rstrip() + " 7.5",
        "row 5, asset FD003-train-001, channel column_27: '7.5' stands in a column",
    ),
    "a line cut short": (5, lambda line: line.rstrip().rpartition(" ")[0], "row 5, asset FD003-train-001, channel W32: '(line ends before"),
    "an engine that is no number": (5, cell(0, "one"), "row 5: '' names no asset (missing_asset)"),
    "a byte of another alphabet": (5, cell(6, "6\N{DEGREE SIGN}"), "channel T24: '6\N{DEGREE SIGN}' is not a number"),
    "a quotation mark": (5, cell(6, '"64'), "channel T24: '\"64' is not a number"),
}


@pytest.mark.parametrize("row, new, told", BREACHES.values(), ids=BREACHES.keys())
def test_each_breach_is_refused_by_file_row_asset_and_channel(broken, tmp_path: Path, row: int, new, told: str):
    history = broken(row, new).load()
    with pytest.raises(DataError) as refused:
        admit(history.rows, history.contract, "refuse", tmp_path / "quarantine.parquet")
    assert told in str(refused.value) and "train_FD003.txt: 1 problem" in str(refused.value)
    assert not (tmp_path / "quarantine.parquet").exists()
    admitted = admit(history.rows, history.contract, "quarantine", tmp_path / "quarantine.parquet")
    stored = pl.read_parquet(tmp_path / "quarantine.parquet")
    alone = any(reason in told for reason in ("wrong_type", "infinite", "no number", "is outside", "is not a number"))
    alone = alone and "(line ends" not in told and "no time" not in told
    assert admitted.counts["in"] == admitted.counts["accepted"] + admitted.counts["quarantined"] and stored.height == 1
    assert (admitted.counts["quarantined"], admitted.counts["cells"]) == ((0, 1) if alone else (1, 0))
    assert stored["row"].item() == row and stored["file"].item().endswith("train_FD003.txt")


@pytest.mark.parametrize("time", ["inf", "1e300", "five", "NaN"])
def test_a_time_that_is_refused_moves_no_end_of_life(archive: Path, broken, time: str):
    assert broken(5, cell(1, time)).load().events.equals(Cmapss(str(archive), "FD003").load().events)


@pytest.mark.parametrize(
    "row, new, told",
    [
        (4, "", "3 lines for 4 test engines"),
        (2, "soon", "row 2: 'soon' is no number of cycles"),
        (2, "nan", "row 2: 'nan' is no number of cycles"),
        (2, "-3", "row 2: '-3' is no number of cycles"),
        (4, "5\n6", "5 lines for 4 test engines"),
    ],
)
def test_a_broken_rul_file_is_refused(broken, row: int, new: str, told: str):
    with pytest.raises(DataError) as refused:
        broken(row, new, "RUL_FD003.txt").load()
    assert told in str(refused.value) and "RUL_FD003.txt" in str(refused.value)


@pytest.mark.parametrize("file", ["train_FD003.txt", "test_FD003.txt", "RUL_FD003.txt"])
def test_a_missing_file_is_named_with_what_is_there(broken, tmp_path: Path, file: str):
    source = broken(1, lambda line: line)
    (tmp_path / "broken" / file).unlink()
    with pytest.raises(DataError, match=f"{file}: no such file .it holds .*FD004"):
        source.load()


def test_a_file_of_another_kind_is_refused(broken):
    with pytest.raises(DataError, match="train_FD003.txt, first line: 3 columns, expected 26"):
        broken(1, "a,b c d").load()


@pytest.mark.parametrize("subset", [[], ["FD001", "FD001"]])
def test_a_subset_must_be_named_once(subset: list[str]):
    with pytest.raises(UsageError, match="source.subset"):
        Cmapss("nowhere", subset)


def test_engines_stay_in_the_order_of_the_rul_file_beyond_999(tmp_path: Path):
    """Line i belongs to engine i: sorted as text, engine 1000 would come before 101."""
    Cmapss(str(tmp_path), "FD005").write_miniature(tmp_path, engines=2)
    line = (tmp_path / "test_FD005.txt").read_text().splitlines()[0]
    (tmp_path / "test_FD005.txt").write_text("\n".join(cell(0, str(i))(line) for i in range(1, 1002)))
    (tmp_path / "RUL_FD005.txt").write_text("\n".join(str(i) for i in range(1, 1002)))
    events = Cmapss(str(tmp_path), "FD005").load().events.filter(pl.col("asset").str.contains("test"))
    assert {int(asset.split("-")[2]): time - 1 for asset, time in events.select("asset", "time").iter_rows()} == {
        i: i for i in range(1, 1002)
    }
