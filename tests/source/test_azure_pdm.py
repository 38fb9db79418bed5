"""Azure: the official logs as days, with repairs that are no replacements, single components, headers, and broken files."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from pmx.contract import DataError, UsageError
from pmx.run import main
from pmx.source.admit import admit
from pmx.source.azure_pdm import ERRORS, FAILURES, KINDS, MACHINES, MAINTENANCE, AzurePdm
from pmx.source.ticks import to_ticks
from pmx.window.label import label


def log(folder: Path, name: str) -> list[tuple[datetime, str, str]]:
    """Time, machine and what happened, of every line."""
    cells = [line.split(",") for line in (folder / name).read_text().splitlines()]
    return [(datetime.fromisoformat(t).replace(tzinfo=UTC), machine, what) for t, machine, what in cells]


@pytest.mark.real_data("azure_pdm")
def test_the_official_logs_are_a_year_of_days_with_every_error_counted(data_root: Path):
    folder = data_root / "azure_pdm"
    history = AzurePdm(str(folder)).load()
    readings = admit(history.rows, history.contract).readings
    assert readings.height == 100 * 365 and readings["time"].min() == datetime(2015, 1, 2, tzinfo=UTC)
    errors = [e for e in log(folder, ERRORS) if e[0] <= readings["time"].max()]
    assert len(errors) == 3917, "two errors came on the last day, which is not whole"
    counted: dict[tuple[str, datetime, str], int] = {}
    for time, machine, kind in errors:
        day = time.replace(hour=0, minute=0) + timedelta(days=1 if time.hour or time.minute else 0)
        counted[f"machine {machine}", day, kind] = counted.get((f"machine {machine}", day, kind), 0) + 1
    long = readings.unpivot(KINDS, index=["asset", "time"]).filter(pl.col("value") > 0)
    assert {(a, t, k): v for a, t, k, v in long.iter_rows()} == counted
    assert sum(AzurePdm(str(folder)).published().values()) == 4


@pytest.mark.real_data("azure_pdm")
def test_maintenance_is_a_replacement_unless_it_repairs_a_failure(data_root: Path):
    folder = data_root / "azure_pdm"
    failures, repairs = log(folder, FAILURES), log(folder, MAINTENANCE)
    for component in (None, "comp1", "comp4"):
        own = [[(f"machine {m}", t) for t, m, c in rows if component in (None, c)] for rows in (failures, repairs)]
        events = AzurePdm(str(folder), component=component).load().events
        for event, expected in (("failure", set(own[0])), ("replacement", set(own[1]) - set(own[0]))):
            found = events.filter(pl.col("event") == event).select("asset", "time").rows()
            assert set(found) == expected and len(found) == len(expected)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    AzurePdm("").write_miniature(tmp_path / "fleet", machines=6, days=100)
    return tmp_path / "fleet"


def test_a_day_counts_what_came_before_its_end_and_nothing_after(archive: Path):
    (archive / ERRORS).write_text(
        "2015-01-01 10:00:00,1,error2\n2015-01-02 00:00:00,1,error2\n2015-01-02 00:00:01,1,error3\n2015-01-03 09:00:00,2,error1\n"
    )
    for name in (FAILURES, MAINTENANCE):
        (archive / name).write_text("2015-01-04 06:00:00,1,comp2\n")
    history = AzurePdm(str(archive)).load()
    readings = admit(history.rows, history.contract).readings
    one = readings.filter(pl.col("asset") == "machine 1")
    assert one["time"].to_list() == [datetime(2015, 1, d, tzinfo=UTC) for d in (2, 3, 4)]
    assert one["error2"].to_list() == [2, 0, 0] and one["error3"].to_list() == [0, 1, 0]
    assert readings["error1"].sum() == 1 and not readings.null_count().sum_horizontal().item()
    ticks = to_ticks(readings, history.contract)
    left = ticks.with_columns(rul=label(ticks, history.events, history.contract).rul).filter(pl.col("asset") == "machine 1")
    assert left["rul"].to_list() == [2.25, 1.25, 0.25]


def test_an_error_at_the_first_midnight_is_counted(archive: Path):
    (archive / ERRORS).write_text("2015-01-02 00:00:00,1,error1\n2015-01-04 12:00:00,1,error1\n")
    readings = AzurePdm(str(archive), subset=1).load().rows.collect()
    assert readings["error1"].to_list()[0] == 1 and readings["time"].min() == datetime(2015, 1, 2, tzinfo=UTC)


def test_copies_with_a_header_and_quotes_are_the_same(archive: Path):
    plain = AzurePdm(str(archive)).load()
    heads = {ERRORS: "datetime,machineID,errorID", FAILURES: "datetime,machineID,failure", MAINTENANCE: "datetime,machineID,comp"}
    for name, head in (heads | {MACHINES: "machineID,model,age"}).items():
        quoted = [",".join(f'"{cell}"' for cell in line.split(",")) for line in [head, *(archive / name).read_text().splitlines()]]
        (archive / name).write_text("\n".join(quoted))
    headed = AzurePdm(str(archive)).load()
    assert headed.events.equals(plain.events) and headed.digest != plain.digest
    assert headed.rows.drop("row").collect().equals(plain.rows.drop("row").collect())


def test_machines_are_chosen_by_number(archive: Path):
    history = AzurePdm(str(archive), subset=[2, 5]).load()
    assets = {"machine 2", "machine 5"}
    assert set(history.rows.collect()["asset"]) == assets == set(history.groups) and set(history.events["asset"]) <= assets
    with pytest.raises(DataError, match="no machine 9 .it lists 1, 2, 3, 4, 5, 6."):
        AzurePdm(str(archive), subset=9).load()
    for wrong in ([], [1, 1]):
        with pytest.raises(UsageError, match="source.subset"):
            AzurePdm(str(archive), subset=wrong)


def test_a_component_that_is_not_there_is_refused_with_those_that_are(archive: Path):
    with pytest.raises(DataError, match="no component 'gear' in the log .comp1, comp2, comp3, comp4."):
        AzurePdm(str(archive), component="gear").load()


@pytest.mark.parametrize(
    "name, line, told",
    [
        (FAILURES, "31/12/2015 06:00,1,comp1", "'31/12/2015 06:00' is not a time"),
        (MAINTENANCE, "2015-12-31 06:00:00,1", "2 cells, expected time"),
        (ERRORS, "2015-12-31 06:00:00,77,error1", "machine 77, 'error1': not in PdM_machines.csv"),
        (MACHINES, "1,model3,9", "machine 1 is listed twice"),
        (MACHINES, "8,model3", "2 cells, expected machine, model and age"),
    ],
)
def test_a_broken_entry_is_refused_with_its_row(archive: Path, name: str, line: str, told: str):
    (archive / name).write_text((archive / name).read_text() + line + "\n")
    with pytest.raises(DataError, match=f"(?s){name}: 1 problem.*{told}"):
        AzurePdm(str(archive)).load()


def test_an_age_that_is_no_number_is_quarantined_day_by_day(archive: Path):
    file = archive / MACHINES
    file.write_text(file.read_text().replace("3,model4,3", "3,model4,old"))
    history = AzurePdm(str(archive), subset=[3, 4]).load()
    admitted = admit(history.rows, history.contract, "quarantine")
    assert set(admitted.quarantine["asset"]) == {"machine 3"} and set(admitted.quarantine["channel"]) == {"machine_age"}
    assert admitted.counts["accepted"] == admitted.counts["in"] == 2 * admitted.counts["cells"], "the other channels of machine 3 go on"


def test_errors_of_other_kinds_are_noted(archive: Path):
    (archive / ERRORS).write_text((archive / ERRORS).read_text() + "2015-02-01 06:00:00,1,error9\n")
    assert "error9" in AzurePdm(str(archive)).load().notes[0]


def test_telemetry_that_lies_beside_the_logs_is_told_and_changes_nothing(archive: Path):
    before = AzurePdm(str(archive)).load()
    (archive / "PdM_telemetry.csv").write_text("datetime,machineID,volt,rotate,pressure,vibration\n")
    after = AzurePdm(str(archive)).load()
    assert before.notes == () and before.digest == after.digest and before.rows.collect().equals(after.rows.collect())
    assert "PdM_telemetry.csv is there and is not read: pmx new NAME --readings " in after.notes[0]


def test_what_is_missing_is_named_with_what_is_there(archive: Path):
    (archive / FAILURES).unlink()
    with pytest.raises(DataError, match="PdM_failures.csv: no such file .it holds PdM_errors.csv, PdM_machines.csv, PdM_maint.csv."):
        AzurePdm(str(archive)).load()
    (archive / FAILURES).write_text("")
    (archive / ERRORS).write_text("")
    with pytest.raises(DataError, match="no error is in it"):
        AzurePdm(str(archive)).load()
    with pytest.raises(UsageError, match="by hand"):
        AzurePdm(str(archive)).fetch()


def test_data_check_tells_lives(archive: Path, workdir: Path, capsys):
    assert main(["data", "check", "azure_pdm", f"source.root={archive}", "source.component=comp1"]) == 0
    told = capsys.readouterr().out
    assert "azure_pdm comp1" in told and "6 machines" in told and "failures" in told
