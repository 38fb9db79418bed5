"""NASA cells: the official discharges reduced to cycles, ends of life, cells never seen, and files that are broken."""

import csv
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmx.contract import DataError, UsageError
from pmx.run import main
from pmx.source.admit import admit
from pmx.source.lines import table_of
from pmx.source.nasa_battery import COLUMNS, DISCHARGE, KNEE, NasaBattery, _cycles
from pmx.source.ticks import to_ticks
from pmx.window.label import label


def official(file: Path) -> dict[int, np.ndarray]:
    """Per cycle capacity, voltage, current, temperature and time, float64 [sample, 5], read by the standard library."""
    found: dict[int, list[list[float]]] = {}
    wanted = ["Capacity", "Voltage_measured", "Current_measured", "Temperature_measured", "Time"]
    with file.open(newline="") as lines:
        for row in csv.DictReader(lines):
            found.setdefault(int(row["cycle_num"]), []).append([float(row[c]) for c in wanted])
    return {cycle: np.array(rows) for cycle, rows in found.items()}


@pytest.mark.real_data("nasa_battery")
@pytest.mark.parametrize("cell, end", [("B0005", 125), ("B0006", 109)])
def test_the_official_discharges_are_reduced_as_a_slow_loop_does(data_root: Path, cell: str, end: int):
    source = NasaBattery(str(data_root / "nasa_battery"), cell, "with_capacity")
    history = source.load()
    readings = admit(history.rows, history.contract).readings
    samples = official(data_root / "nasa_battery" / f"{cell}_discharge.csv")
    assert end == min(c for c, x in samples.items() if x[0, 0] < 1.4)
    assert readings["time"].to_list() == list(range(1, end + 1))
    assert history.events.rows() == [(cell, float(end), "failure", float(end))]
    expected = []
    for cycle in range(1, end + 1):
        capacity, voltage, current, warm, time = samples[cycle].T
        on = np.abs(current) >= 0.5 * np.abs(current).max()
        down = time[on & (voltage <= KNEE)].min() - time[on].min()
        v, t = voltage[on], warm[on]
        expected.append([24, np.abs(current[on]).mean(), v[0], v.mean(), down, t[0], t.mean(), warm.max(), capacity[0]])
    np.testing.assert_allclose(readings.select(history.contract.names).to_numpy(), expected, rtol=1e-12)
    assert source.published() == {f"{cell}_discharge.csv": True}


@pytest.mark.real_data("nasa_battery")
def test_a_lower_end_of_life_lasts_longer_and_one_never_reached_is_censored(data_root: Path):
    root = str(data_root / "nasa_battery")
    history = NasaBattery(root, end_of_life=1.31).load()
    ends = dict(history.events.select("asset", "time").iter_rows())
    assert set(ends) == {"B0005", "B0006"} and ends["B0005"] > 125 and ends["B0006"] > 109
    history = NasaBattery(root, end_of_life=1.0).load()
    assert history.events.height == 0 and history.notes == () and history.rows.collect().height == 2 * 168


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    NasaBattery("", ["B0007", "B0018", "X-1"]).write_miniature(tmp_path / "cells")
    return tmp_path / "cells"


def test_cells_never_seen_work_and_life_ends_where_capacity_fell(archive: Path):
    history = NasaBattery(str(archive)).load()
    assert history.name == "nasa_battery" and "capacity" not in history.contract.names
    ticks = to_ticks(admit(history.rows, history.contract).readings, history.contract)
    ends = dict(history.events.select("asset", "time").iter_rows())
    assert set(ends) == {"B0007", "B0018"}, "the last cell outlives its record"
    length = dict(ticks.group_by("asset").len().iter_rows())
    assert {a: length[a] for a in ends} == ends and length["X-1"] == 90
    rul = ticks.with_columns(rul=label(ticks, history.events, history.contract).rul).group_by("asset").last()
    assert rul.filter(pl.col("asset").is_in(list(ends)))["rul"].to_list() == [0.0, 0.0]
    wear = ticks.group_by("asset", maintain_order=True).agg(first=pl.col("time_to_3v5").first(), last=pl.col("time_to_3v5").last())
    assert (wear["last"] < wear["first"]).all(), "a faded cell is down to 3.5 V sooner"


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0.5, 3.0), st.floats(2.0, 4.3), st.floats(-10, 60)), min_size=2, max_size=30))
def test_the_rest_before_and_after_the_load_changes_no_channel_but_the_hottest(samples: list[tuple[float, float, float]]):
    """Samples with the load on lie within a factor of 2 of the largest current here, so that each of them counts."""
    top = max(i for i, _, _ in samples)
    on = [
        ["1", "24", "", "1.9", repr(v), repr(-max(i, top / 2)), repr(t), "-2", "0", repr(60.0 * k)]
        for k, (i, v, t) in enumerate(samples, 1)
    ]
    rest = lambda k: ["1", "24", "", "1.9", "3.45", "-0.001", "20.0", "0", "0", repr(60.0 * k)]  # noqa: E731
    made = []
    for rows in (on, [rest(0), *on, rest(len(on) + 1), rest(len(on) + 2)]):
        table = _cycles(table_of(Path("a.csv"), "A", list(enumerate(rows, 2)), COLUMNS), DISCHARGE)
        made.append(table.select(c.name for c in DISCHARGE if c.name != "temperature_max").cast(pl.Float64).to_numpy())
    np.testing.assert_allclose(made[0], made[1], rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize(
    "column, channel", [("Voltage_measured", "voltage_start"), ("Temperature_measured", "temperature_start"), ("Time", "time_to_3v5")]
)
def test_a_broken_sample_sets_what_is_made_of_it_apart_by_name(archive: Path, column: str, channel: str):
    file = archive / "X-1_discharge.csv"
    lines = [line.split(",") for line in file.read_text().splitlines()]
    lines[40][COLUMNS.index(column)] = "3.9 V"
    file.write_text("\n".join(map(",".join, lines)))
    history = NasaBattery(str(archive), "X-1").load()
    admitted = admit(history.rows, history.contract, "quarantine")
    made = [c.name for c, of in DISCHARGE.items() if of == column]
    assert admitted.counts == {"in": 90, "accepted": 90, "quarantined": 0, "cells": len(made)} and channel in made
    assert admitted.quarantine.select("row", "asset", "channel", "value").rows() == [(41, "X-1", c, "3.9 V") for c in made]


def test_a_line_that_ends_too_soon_sets_its_discharge_apart(archive: Path):
    file = archive / "X-1_discharge.csv"
    lines = file.read_text().splitlines()
    lines[-1] = ",".join(lines[-1].split(",")[:5])
    file.write_text("\n".join(lines))
    history = NasaBattery(str(archive), "X-1").load()
    admitted = admit(history.rows, history.contract, "quarantine")
    assert admitted.counts["quarantined"] == 1 and admitted.quarantine["row"].to_list() == [len(lines)]


def test_a_missing_capacity_ends_no_life(archive: Path):
    file = archive / "B0007_discharge.csv"
    lines = [line.split(",") for line in file.read_text().splitlines()]
    for line in lines[1:]:
        line[COLUMNS.index("Capacity")] = ""
    file.write_text("\n".join(",".join(line) for line in lines))
    assert NasaBattery(str(archive), "B0007").load().events.height == 0


def capacities(file: Path, of: dict[int, float], scale: float = 1.0) -> None:
    """Writes these capacities into the file's cycles, and the others times a scale."""
    lines = [line.split(",") for line in file.read_text().splitlines()]
    for line in lines[1:]:
        line[COLUMNS.index("Capacity")] = repr(of.get(int(line[0]), scale * float(line[COLUMNS.index("Capacity")])))
    file.write_text("\n".join(",".join(line) for line in lines))


def test_a_discharge_that_was_broken_off_ends_no_life(archive: Path):
    before = NasaBattery(str(archive), "B0007").load()
    capacities(archive / "B0007_discharge.csv", {1: 0.2, 20: 0.0, 30: 0.69})
    after = NasaBattery(str(archive), "B0007").load()
    assert before.events.rows() == after.events.rows() and after.events.height == 1
    capacities(archive / "B0007_discharge.csv", {30: 0.71})
    assert NasaBattery(str(archive), "B0007").load().events["time"].to_list() == [30.0]


@pytest.mark.parametrize("scale", [0.7, 0.2])
def test_a_cell_without_a_life_is_left_out_and_said(archive: Path, scale: float):
    """In the cold some cells give less than the end of life from the first discharge on, which would make it their only one."""
    capacities(archive / "B0018_discharge.csv", {}, scale)
    history = NasaBattery(str(archive)).load()
    assert history.rows.collect()["asset"].unique().sort().to_list() == ["B0007", "X-1"] and "B0018" not in history.events["asset"]
    assert any(note.startswith("B0018 is left out: no more than ") for note in history.notes)
    with pytest.raises(DataError, match=r"no cell has a life to look at; B0018 is left out: .* -> set source.end_of_life"):
        NasaBattery(str(archive), "B0018").load()


def test_what_is_missing_is_named_with_what_is_there(archive: Path, tmp_path: Path):
    with pytest.raises(DataError, match="no B0005_discharge.csv .it holds B0007, B0018, X-1."):
        NasaBattery(str(archive), ["B0005", "X-1"]).load()
    with pytest.raises(DataError, match="no file of a cell is there"):
        NasaBattery(str(tmp_path)).load()
    (archive / "B0001_discharge.csv").write_text("cycle,Capacity\n1,2\n")
    with pytest.raises(DataError, match="first line: column 'cycle_num' is not in the header"):
        NasaBattery(str(archive), "B0001").load()
    with pytest.raises(UsageError, match="by hand"):
        NasaBattery(str(archive)).fetch()


@pytest.mark.parametrize("subset", [[], ["B5", "B5"], "../B0005"])
def test_a_subset_names_cells_once_and_never_paths(subset: str | list[str]):
    with pytest.raises(UsageError, match="source.subset"):
        NasaBattery("nowhere", subset)


def test_settings_are_checked(archive: Path):
    with pytest.raises(UsageError, match="source.channels is 'all'"):
        NasaBattery(str(archive), channels="all")
    with pytest.raises(UsageError, match="end_of_life"):
        NasaBattery(str(archive), end_of_life=-1.0)


def test_data_check_tells_what_was_left_out(archive: Path, workdir: Path, capsys):
    assert main(["data", "check", "nasa_battery", f"source.root={archive}"]) == 0
    told = capsys.readouterr().out
    assert "3 cells" in told and "2 failures" in told and "after the end of its life" in told
