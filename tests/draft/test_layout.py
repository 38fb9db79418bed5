"""Which column is what: wide or long, in any order of columns, with assets in a column, in tags or in file names."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pmx.contract import DataError
from pmx.draft.layout import Layout, asset_names, find_layout, good_codes, tag_pattern
from pmx.draft.sheet import Sheet, read_sheet

MARKS = "._-:/|"


def sheet(folder: Path, header: list[str], rows: list[list[object]], name: str = "r") -> Sheet:
    lines = [";".join(map(str, line)) for line in [header, *rows]]
    (folder / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_sheet([folder / f"{name}.csv"])


def find(folder: Path, header: list[str], rows: list[list[object]]) -> Layout:
    return find_layout(sheet(folder, header, rows), "plant")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(range(5)), st.sampled_from([("Messstelle", "Wert"), ("tag", "value"), ("Signal", "reading")]))
def test_long_columns_are_found_in_any_order(tmp_path: Path, order: list[int], names: tuple[str, str]) -> None:
    header = ["Equipment", "Zeit", names[0], names[1], "Status"]
    rows = [[f"P{i % 3}", f"2026-01-01T00:{i:02}:00Z", ("VIB", "TEMP")[i % 2], i * 1.5, "192" if i % 9 else "0"] for i in range(60)]
    found = find(tmp_path, [header[i] for i in order], [[row[i] for i in order] for row in rows])
    assert found.long and (found.asset, found.time, found.tag, found.value, found.quality) == tuple(header)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(range(5)))
def test_wide_columns_are_found_in_any_order(tmp_path: Path, order: list[int]) -> None:
    header = ["machine", "timestamp", "flow", "temp", "remark"]
    rows = [[f"m{i % 3}", f"2026-01-01T00:{i:02}:00Z", i * 1.5, 20 + i, f"text {i}"] for i in range(60)]
    found = find(tmp_path, [header[i] for i in order], [[row[i] for i in order] for row in rows])
    assert not found.long and (found.asset, found.time, set(found.signals)) == ("machine", "timestamp", {"flow", "temp"})
    assert found.unused == {"remark": "text, not numbers"}


def test_without_a_column_the_file_names_the_asset(tmp_path: Path) -> None:
    read = sheet(tmp_path, ["t", "a"], [[f"2026-01-01T00:{i:02}:00Z", i * i] for i in range(20)], "pump7")
    found = find_layout(read, "plant")
    assert found.asset is None and not found.long and set(asset_names(read, found)) == {"pump7"}


def test_labels_row_numbers_and_empty_columns_are_no_signals(tmp_path: Path) -> None:
    rows = [[i, f"2026-01-01T00:{i:02}:00Z", i * i % 7, int(i > 30), "", i % 2] for i in range(60)]
    found = find(tmp_path, ["id", "time", "load", "anomaly", "nothing", "changepoint"], rows)
    assert found.signals == ("load",) and found.label == "anomaly" and found.unused["nothing"] == "empty"
    assert found.unused["id"] == "numbers the rows" and found.unused["changepoint"] == "labels"


def test_days_and_hours_in_two_columns_are_one_time(tmp_path: Path) -> None:
    found = find(tmp_path, ["Datum", "Uhrzeit", "p"], [[f"{1 + i // 24:02}.02.2026", f"{i % 24:02}:00:00", i * i] for i in range(100)])
    assert (found.time, found.hour, found.written.format) == ("Datum", "Uhrzeit", "%d.%m.%Y %H:%M:%S") and found.signals == ("p",)


def test_plain_numbers_are_a_life_clock(tmp_path: Path) -> None:
    found = find(tmp_path, ["unit_number", "cycle", "s1"], [[1 + i // 30, 1 + i % 30, i * i] for i in range(60)])
    assert found.written is None and found.time == "cycle" and found.asset == "unit_number"


@settings(max_examples=60, deadline=None)
@given(
    assets=st.lists(st.from_regex(r"[A-Z]{1,2}[0-9]{1,3}", fullmatch=True), min_size=2, max_size=6, unique=True),
    signals=st.lists(st.from_regex(r"[A-Z]{1,4}(_[A-Z]{2})?", fullmatch=True), min_size=3, max_size=8, unique=True),
    mark=st.sampled_from(".:/|"),
)
def test_a_pattern_splits_every_tag_where_assets_have_like_signals(assets: list[str], signals: list[str], mark: str) -> None:
    import re

    tags = [f"{a}{mark}{s}" for a in assets for s in signals][:-1]  # one signal is missing on one asset
    found = tag_pattern(tags)
    assert found and {(m["asset"], m["tag"]) for t in tags if (m := re.fullmatch(found, t))} == {tuple(t.split(mark)) for t in tags}


def test_tags_without_structure_are_one_asset(tmp_path: Path) -> None:
    assert tag_pattern(["VIB_DE", "TEMP_1", "FLOW"]) is None and tag_pattern(["A_X", "A_Y", "B_Z", "C_U"]) is None
    rows = [[f"2026-01-01T00:{i:02}:00Z", ("VIB", "TEMP_A", "N")[i % 3], i * 1.5] for i in range(60)]
    found = find(tmp_path, ["time", "tag", "value"], rows)
    assert found.single == "plant" and found.pattern is None


@pytest.mark.parametrize(
    "codes, good",
    [
        (["Good"] * 9 + ["Bad"], ["Good"]),
        (["192"] * 5 + ["216"] * 2 + ["0", "64"], ["192", "216"]),
        (["1"] * 8 + ["0"], ["1"]),
        (["A"] * 8 + ["B"], ["A"]),
        (["gut", "schlecht"], ["gut"]),
    ],
)
def test_quality_codes_that_count(tmp_path: Path, codes: list[str], good: list[str]) -> None:
    assert good_codes(sheet(tmp_path, ["a", "q"], [[1, c] for c in codes]), "q")[0] == good


def test_no_time_and_no_number_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column holds times .it has a, b.; tried ISO 8601"):
        find(tmp_path, ["a", "b"], [["x", 1.5], ["y", 2.5]])
    with pytest.raises(DataError, match="no column of numbers"):
        find(tmp_path, ["time", "b"], [[f"2026-01-0{i}T00:00:00Z", "x"] for i in range(1, 9)])
