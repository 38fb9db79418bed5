"""SKAB: the official files whole, runs never seen, labels as episodes, and files that are broken."""

import csv
import hashlib
import shutil
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pmx.contract import DataError, UsageError
from pmx.run import main
from pmx.source import History
from pmx.source.admit import admit
from pmx.source.skab import CONTRACT, FLOW, Skab
from pmx.source.ticks import to_ticks

RUNS = ["valve2/0", "other/3", "other/12"]


def official(file: Path) -> tuple[list[datetime], np.ndarray, np.ndarray | None]:
    """Times, values in the contract's order and labels, read by the standard library."""
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter=";"))
    values = np.array([[float(row[c]) for c in CONTRACT.names] for row in rows])
    labels = np.array([float(row["anomaly"]) for row in rows]) if "anomaly" in rows[0] else None
    return [datetime.fromisoformat(f"{row['datetime']}+00:00") for row in rows], values, labels


def covered(history: History, asset: str, times: list[datetime]) -> np.ndarray:
    """Which of these times fall into an episode of the asset."""
    found = history.episodes.filter(pl.col("asset") == asset).select("begin", "end").rows()
    return np.array([any(begin <= t <= end for begin, end in found) for t in times])


@pytest.mark.real_data("skab")
def test_the_official_files_come_whole_with_their_labels(data_root: Path):
    history = Skab(str(data_root / "skab")).load()
    admitted = admit(history.rows, history.contract)
    assert admitted.counts["quarantined"] == 0 and history.test_assets is None and not history.calibration
    files = {f"{p.parent.name}/{p.stem}": p for p in (data_root / "skab").glob("*/*.csv") if p.parent.name != "anomaly-free"}
    assert set(history.groups) == set(files) and all(g == a.split("/")[0] for a, g in history.groups.items())
    for asset, file in files.items():
        times, values, labels = official(file)
        rows = admitted.readings.filter(pl.col("asset") == asset)
        assert rows["time"].to_list() == times and rows["row"].to_list() == list(range(2, len(times) + 2))
        np.testing.assert_array_equal(rows.select(CONTRACT.names).to_numpy(), values)
        np.testing.assert_array_equal(covered(history, asset, times), labels == 1)
    assert sum(Skab(str(data_root / "skab")).published().values()) == len(files)


@pytest.mark.real_data("skab")
def test_long_gaps_become_ticks_without_values(data_root: Path):
    history = Skab(str(data_root / "skab"), "other/2").load()
    ticks = to_ticks(admit(history.rows, history.contract).readings, history.contract)
    times = official(data_root / "skab" / "other" / "2.csv")[0]
    assert ticks.height == (times[-1] - times[0]).seconds + 1
    empty = ticks.select(pl.all_horizontal(pl.col(CONTRACT.names).is_null())).to_series()
    runs = empty.rle().struct.unnest().filter("value")["len"]
    assert runs.max() == 246 and empty.sum() == ticks.height - len(times)


@pytest.mark.real_data("skab")
def test_the_healthy_run_has_no_labels_and_is_taken_by_name_only(data_root: Path):
    name = "anomaly-free/anomaly-free"
    history = Skab(str(data_root / "skab"), name).load()
    assert history.episodes.height == 0 and admit(history.rows, history.contract).counts["accepted"] == 9_405
    assert name not in Skab(str(data_root / "skab")).load().groups


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("skab")
    Skab(str(folder), [*RUNS, "anomaly-free/9"]).write_miniature(folder, seconds=60)
    return folder


@pytest.fixture
def broken(archive: Path, tmp_path: Path):
    """Rewrites the lines of one run of the miniature, and gives the source."""

    def change(new, run: str = "other/3") -> Skab:
        shutil.copytree(archive, tmp_path / "broken", dirs_exist_ok=True)
        file = tmp_path / "broken" / f"{run}.csv"
        file.write_text("\n".join(new(file.read_text().splitlines())))
        return Skab(str(tmp_path / "broken"), run)

    return change


def cell(line: int, at: int, value: str):
    """Replaces one cell; line 1 is the header."""

    def new(lines: list[str]) -> list[str]:
        cells = lines[line - 1].split(";")
        cells[at] = value
        return [*lines[: line - 1], ";".join(cells), *lines[line:]]

    return new


def test_runs_never_seen_work_in_natural_order(archive: Path):
    history = Skab(str(archive)).load()
    admitted = admit(history.rows, history.contract)
    assert list(history.groups) == ["other/3", "other/12", "valve2/0"] == admitted.readings["asset"].unique(maintain_order=True).to_list()
    assert admitted.counts["quarantined"] == 0 and history.contract.names[-1] == FLOW
    assert history.events.schema == {
        "asset": pl.String,
        "time": pl.Datetime("us", "UTC"),
        "event": pl.String,
        "known_at": pl.Datetime("us", "UTC"),
    }
    assert history.episodes["fault"].to_list() == ["other", "other", "valve2"] and history.name == "skab"
    for asset in history.groups:
        times, _, labels = official(archive / f"{asset}.csv")
        np.testing.assert_array_equal(covered(history, asset, times), labels == 1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(
    labels=st.lists(st.booleans(), min_size=60, max_size=60), zero=st.sampled_from(["0", "0.0"]), one=st.sampled_from(["1", "1.0", "1."])
)
def test_episodes_are_the_runs_of_anomalous_rows(broken, labels: list[bool], zero: str, one: str):
    def new(lines: list[str]) -> list[str]:
        header = lines[0].split(";").index("anomaly")
        return [lines[0], *(cell(2, header, one if a else zero)([lines[0], line])[1] for line, a in zip(lines[1:], labels, strict=True))]

    history = broken(new).load()
    times = [t.replace(tzinfo=t.tzinfo) for t in admit(history.rows, history.contract).readings["time"].to_list()]
    np.testing.assert_array_equal(covered(history, "other/3", times), labels)
    assert history.episodes.height == sum(b and not a for a, b in zip([False, *labels], labels, strict=False))
    assert set(history.rows.collect_schema()) == {"file", "row", "asset", "time", *CONTRACT.names}


@pytest.mark.parametrize("flow", [FLOW, "RateRMS"])
def test_columns_may_stand_in_any_order_and_flow_has_two_spellings(archive: Path, broken, flow: str):
    def turned(lines: list[str]) -> list[str]:
        lines[0] = lines[0].replace(FLOW, flow)
        return [";".join(reversed(line.split(";"))) for line in lines]

    changed, same = broken(turned).load(), Skab(str(archive), "other/3").load()
    assert changed.rows.drop("file").collect().equals(same.rows.drop("file").collect())
    assert changed.episodes.equals(same.episodes) and changed.digest != same.digest


def test_any_byte_changes_the_digest(archive: Path, broken):
    same = Skab(str(archive), "other/3").load().digest
    assert broken(cell(30, 3, "2.5")).load().digest != same
    assert Skab(str(archive), ["other/3", "valve2/0"]).load().digest != same


BREACHES = {
    "no number": (cell(5, 3, "hot"), "row 5, asset other/3, channel Current: 'hot' is not a number"),
    "no time": (cell(5, 0, "noon"), "row 5, asset other/3: 'noon' is not a time"),
    "a time twice": (cell(5, 0, "2020-03-09 11:00:03"), "row 5, asset other/3: '2020-03-09 11:00:03' is a time that the asset has already"),
    "a line cut short": (lambda lines: [*lines[:40], lines[40][:45]], "row 41, asset other/3, channel"),
    "a cell too many": (lambda lines: [*lines[:4], lines[4] + ";7", *lines[5:]], "channel column_12: '7' stands in a column"),
}


@pytest.mark.parametrize("new, told", BREACHES.values(), ids=BREACHES.keys())
def test_a_bad_row_is_refused_by_its_place_or_set_apart(broken, new, told: str):
    history = broken(new).load()
    with pytest.raises(DataError) as refused:
        admit(history.rows, history.contract)
    assert told in str(refused.value) and "other/3.csv: 1 problem" in str(refused.value)
    counts = admit(history.rows, history.contract, "quarantine").counts
    row = "'hot'" not in told
    assert (counts["quarantined"], counts["cells"]) == ((1, 0) if row else (0, 1)) and counts["in"] == counts["accepted"] + row


def test_a_bad_row_in_one_file_refuses_no_row_of_another(broken, tmp_path: Path):
    broken(BREACHES["a cell too many"][0])
    history = Skab(str(tmp_path / "broken")).load()
    assert admit(history.rows, history.contract, "quarantine").counts["quarantined"] == 1


@pytest.mark.parametrize("label", ["2", "", "yes", "nan", "0.5"])
def test_a_label_that_is_neither_0_nor_1_is_refused(broken, label: str):
    with pytest.raises(DataError, match=rf"other/3.csv, row 7, asset other/3, column anomaly: '{label}' is neither 0 nor 1 .1 such rows"):
        broken(cell(7, 9, label)).load()


def test_a_label_in_a_row_that_is_refused_anyway_counts_for_nothing(archive: Path, broken):
    """Row 50 lies in the miniature's episode; without its time nobody can say when it was."""
    history = broken(lambda lines: cell(50, 9, "?")(cell(50, 0, "noon")(lines))).load()
    assert history.episodes.equals(Skab(str(archive), "other/3").load().episodes)


def test_columns_are_refused_by_name(broken):
    with pytest.raises(DataError, match="'Voltage' is not in the header, nearest is|'Voltage' is not in the header, it has"):
        broken(lambda lines: [lines[0].replace("Voltage", "U"), *lines[1:]]).load()
    with pytest.raises(DataError, match="'anomaly' is not in the header"):
        broken(lambda lines: [lines[0].replace("anomaly", "label"), *lines[1:]]).load()
    with pytest.raises(DataError, match="'Voltage' appears twice"):
        broken(lambda lines: [lines[0].replace("Current", "Voltage"), *lines[1:]]).load()
    with pytest.raises(DataError, match="other/3.csv: .* problems"):
        broken(lambda lines: []).load()


def test_a_run_that_is_not_there_is_refused_with_what_is(archive: Path, tmp_path: Path):
    with pytest.raises(DataError, match="no valve1/99.csv .it holds anomaly-free/9, other/3, other/12, valve2/0."):
        Skab(str(archive), ["other/3", "valve1/99"]).load()
    for root in (tmp_path, tmp_path / "missing"):
        with pytest.raises(DataError, match="no labelled run .no SKAB file is there. -> pmx data fetch skab"):
            Skab(str(root)).load()


@pytest.mark.parametrize("subset", [[], ["valve1/0", "valve1/0"], "../other/1", "valve1", "a/b/c", "valve1/0.csv", "/etc/x"])
def test_a_subset_names_runs_once_and_never_paths(subset: str | list[str]):
    with pytest.raises(UsageError, match="source.subset"):
        Skab("nowhere", subset)


def test_published_names_the_file_that_was_changed(archive: Path, tmp_path: Path):
    shutil.copytree(archive / "other", tmp_path / "other")
    digests = {n: hashlib.sha256((archive / n).read_bytes()).hexdigest() for n in ("other/3.csv", "other/12.csv")}
    (tmp_path / "SHA256SUMS").write_text("".join(f"{d}  {n}\n" for n, d in digests.items()))
    (tmp_path / "other" / "3.csv").write_text("changed")
    assert Skab(str(tmp_path)).published() == {"other/3.csv": False, "other/12.csv": True}
    assert Skab(str(tmp_path), "other/12").published() == {"other/12.csv": True}


def test_data_check_tells_of_episodes(archive: Path, workdir: Path, capsys):
    assert main(["data", "check", "skab", f"source.root={archive}", "source.subset=[other/3,valve2/0]"]) == 0
    assert "labelled episodes: 2 in 2 runs" in capsys.readouterr().out
