"""AI4I: the official file as tools with several lives, derived channels, the modes that tell the answer, and broken files."""

import csv
import random
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pmx.contract import DataError, UsageError
from pmx.run import main
from pmx.source.admit import admit
from pmx.source.ai4i import MODES, Ai4i
from pmx.source.ticks import to_ticks
from pmx.window.label import label


@pytest.mark.real_data("ai4i2020")
def test_the_official_file_is_120_tools_with_339_failures(data_root: Path):
    source = Ai4i(str(data_root / "ai4i2020"))
    history = source.load()
    readings = admit(history.rows, history.contract).readings
    with (data_root / "ai4i2020" / "ai4i2020.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    tool, at, seen, failed, changed = 0, 0, [], [], []
    for i, row in enumerate(rows):
        if i and float(row["Tool wear [min]"]) < float(rows[i - 1]["Tool wear [min]"]):
            changed += [(tool, at)] if rows[i - 1]["Machine failure"] == "0" else []
            tool, at = tool + 1, 0
        at += 1
        seen.append((f"tool {tool + 1:03}", at))
        failed += [(tool, at)] if row["Machine failure"] == "1" else []
    assert readings.select("asset", "time").rows() == seen and readings["row"].to_list() == list(range(2, 10_002)) and tool == 119
    for event, expected in (("failure", failed), ("replacement", changed)):
        found = history.events.filter(pl.col("event") == event)
        assert found.select("asset", "time").rows() == [(f"tool {t + 1:03}", at) for t, at in expected]
    assert len(failed) == 339 == history.episodes.height and history.events.select(pl.col("time") == pl.col("known_at")).to_series().all()
    rpm, torque = (np.array([float(r[c]) for r in rows]) for c in ("Rotational speed [rpm]", "Torque [Nm]"))
    np.testing.assert_allclose(readings["power"], torque * rpm * 2 * np.pi / 60)
    np.testing.assert_array_equal(readings["strain"], [float(r["Tool wear [min]"]) * float(r["Torque [Nm]"]) for r in rows])
    hotter = [float(r["Process temperature [K]"]) - float(r["Air temperature [K]"]) for r in rows]
    np.testing.assert_allclose(readings["temperature_difference"], hotter)
    assert source.published() == {"ai4i2020.csv": True}


@pytest.mark.real_data("ai4i2020")
def test_the_modes_are_no_channels_unless_they_are_asked_for(data_root: Path):
    root = str(data_root / "ai4i2020")
    widths = {}
    for channels in ("measured", "process", "with_modes"):
        history = Ai4i(root, channels=channels).load()
        names = admit(history.rows, history.contract).readings.columns
        widths[channels] = len(history.contract.names)
        assert (set(MODES) <= set(names)) == (channels == "with_modes") and "Machine failure" not in names
    assert widths == {"measured": 6, "process": 9, "with_modes": 14}
    with pytest.raises(UsageError, match="source.channels is 'all' -> choose from measured, process, with_modes"):
        Ai4i(root, channels="all")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    Ai4i("", ["ai4i2020", "second"]).write_miniature(tmp_path / "mill", tools=5)
    return tmp_path / "mill"


def test_several_failures_in_a_tools_life_are_several_lives(archive: Path):
    history = Ai4i(str(archive)).load()
    ticks = to_ticks(admit(history.rows, history.contract).readings, history.contract)
    rul = ticks.with_columns(rul=label(ticks, history.events, history.contract).rul)
    ended = rul.filter(pl.col("rul") == 0).select("asset", pl.col("tick").cast(pl.Float64).alias("time"))
    failures = history.events.filter(pl.col("event") == "failure").select("asset", "time")
    assert failures.height > failures["asset"].n_unique() and ended.equals(failures)
    last = rul.group_by("asset", maintain_order=True).last()
    changed = set(history.events.filter(pl.col("event") == "replacement")["asset"])
    assert set(last.filter(pl.col("rul").is_nan())["asset"]) - {last["asset"][-1]} == changed, "the last tool is still in the machine"


def test_episodes_are_the_failing_products_with_their_modes(archive: Path):
    history = Ai4i(str(archive), channels="with_modes").load()
    readings = admit(history.rows, history.contract).readings
    found = history.episodes.join(readings, left_on=["asset", "begin"], right_on=["asset", "time"], how="left")
    assert found.height and (found["begin"] == found["end"]).all()
    for row in found.iter_rows(named=True):
        assert row["fault"] == " and ".join(mode for mode in MODES if row[mode] == 1)


def test_rows_count_in_the_order_of_their_number_and_gaps_stay_gaps(archive: Path):
    whole = (h := Ai4i(str(archive)).load()).rows.collect()
    lines = (archive / "ai4i2020.csv").read_text().split("\n")
    kept = [line for i, line in enumerate(lines[1:], 1) if line and i % 7]
    random.Random(0).shuffle(kept)
    (archive / "ai4i2020.csv").write_text("\n".join([lines[0], *kept]))
    some = Ai4i(str(archive)).load()
    admitted = admit(some.rows, some.contract)
    assert admitted.counts["quarantined"] == 0 and len(kept) < whole.height
    both = admit(h.rows, h.contract).readings.join(admitted.readings, on=["asset", "speed", "torque", "wear"], how="inner")
    assert both.height >= len(kept) and (both["time"] - both["time_right"]).abs().max() <= 1, "only a tool's first row may be missing"


def test_several_files_are_several_machines(archive: Path):
    history = Ai4i(str(archive), ["ai4i2020", "second"]).load()
    assert {a.split(" tool ")[0] for a in history.rows.select("asset").collect().to_series()} == {"ai4i2020", "second"}
    assert set(history.events["asset"]) <= set(history.rows.select("asset").collect().to_series())


def test_both_spellings_of_the_number_are_read(archive: Path):
    plain = Ai4i(str(archive)).load().rows.collect()
    file = archive / "ai4i2020.csv"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_text().replace("UDI", "UID").replace("\n", "\r\n").encode())
    assert Ai4i(str(archive)).load().rows.collect().equals(plain)


@pytest.mark.parametrize("at, text, channel", [(3, "hot", "air_temperature"), (2, "X", "type"), (7, "-3", "wear")])
def test_broken_cells_are_quarantined_by_name(archive: Path, at: int, text: str, channel: str):
    file = archive / "ai4i2020.csv"
    lines = [line.split(",") for line in file.read_text().splitlines()]
    lines[1][at] = text
    file.write_text("\n".join(map(",".join, lines)))
    history = Ai4i(str(archive)).load()
    admitted = admit(history.rows, history.contract, "quarantine")
    assert admitted.quarantine.select("row", "channel", "value").rows() == [(2, channel, text)]


def test_a_label_that_is_neither_0_nor_1_is_refused(archive: Path):
    file = archive / "ai4i2020.csv"
    lines = [line.split(",") for line in file.read_text().splitlines()]
    lines[4][8] = "yes"
    file.write_text("\n".join(map(",".join, lines)))
    with pytest.raises(DataError, match="row 5, asset tool 1, column Machine failure: 'yes' is neither 0 nor 1"):
        Ai4i(str(archive)).load()


def test_what_is_missing_is_named_with_what_is_there(archive: Path):
    with pytest.raises(DataError, match="third.csv: no such file .it holds ai4i2020, second."):
        Ai4i(str(archive), "third").load()
    file = archive / "second.csv"
    file.write_text(file.read_text().replace("Torque [Nm]", "Torque"))
    with pytest.raises(DataError, match="'Torque .Nm.' is not in the header"):
        Ai4i(str(archive), "second").load()


@pytest.mark.parametrize("subset", [[], ["a", "a"], "../a", "a.csv"])
def test_a_subset_names_files_once_and_never_paths(subset: str | list[str]):
    with pytest.raises(UsageError, match="source.subset"):
        Ai4i("nowhere", subset)


def test_data_check_tells_lives_and_episodes(archive: Path, workdir: Path, capsys):
    assert main(["data", "check", "ai4i", f"source.root={archive}"]) == 0
    told = capsys.readouterr().out
    assert "5 tools" in told and "labelled episodes" in told and "replacements" in told
