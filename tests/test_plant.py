"""One plant, written down in several ways: what changes nothing, and what must be refused."""

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pmx import config
from pmx.contract import DataError
from pmx.new import new_plant
from pmx.pipeline import Plan, run
from pmx.source.admit import admit
from pmx.source.table import Table
from pmx.source.ticks import to_ticks

EXAMPLE = Path(__file__).parents[1] / "datasets" / "example_plant"


@pytest.fixture(scope="module")
def drafted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example plant's files and the card that was drafted from them."""
    folder = tmp_path_factory.mktemp("plant")
    for file in EXAMPLE.glob("*.csv"):
        shutil.copy(file, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        new_plant("plant", [str(p) for p in sorted(folder.glob("readings_*.csv"))], [str(folder / "orders.csv")])
    return folder


@pytest.fixture
def plant(drafted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that a test may spoil; the working directory."""
    folder = tmp_path / "plant"
    shutil.copytree(drafted, folder)
    monkeypatch.chdir(folder)
    return folder


def ticks_of(folder: Path) -> pl.DataFrame:
    history = Table(str(folder / "datasets" / "plant.yaml")).load()
    return to_ticks(admit(history.rows, history.contract, "quarantine").readings, history.contract)


def lines(file: Path) -> tuple[str, list[str]]:
    head, *rest = file.read_text(encoding="cp1252").splitlines()
    return head, rest


def write(file: Path, head: str, rest: list[str]) -> None:
    file.write_text("\n".join([head, *rest]) + "\n", encoding="cp1252")


def change(folder: Path, how) -> None:
    """Rewrites every line of readings that is not the header; `how` returns the cells, or None to drop the line."""
    for file in sorted(folder.glob("readings_*.csv")):
        head, rest = lines(file)
        made = [how(i, line.split(";")) for i, line in enumerate(rest)]
        write(file, head, [";".join(cells) for cells in made if cells is not None])


def alarm_log(folder: Path, out: Path) -> list[tuple[str | None, ...]]:
    parts = config.build(config.compose("plant", [f"source.card={folder}/datasets/plant.yaml"]))
    cfg = config.compose("plant")
    objects = (parts.source, parts.window, parts.feature, parts.model, parts.alarm, parts.evaluate)
    out.mkdir()
    plan = Plan("plant", *objects, dict(cfg.device), out, "quarantine", "asset")
    return [tuple(alarm.values()) for alarm in run(plan, lambda *_: None).played.alarm_log()]


def renamed(folder: Path) -> None:
    """Pumps, signals, files and columns under other names, and the card with them. The pumps keep their order."""
    change(folder, lambda i, c: [c[0].replace("P10", "Pumpe-").replace("VIB", "SCHWINGUNG"), *c[1:]])
    for number, file in enumerate(sorted(folder.glob("readings_*.csv"))):
        head, rest = lines(file)
        write(folder / f"export_{number}.txt", head.replace("Messstelle", "Signal").replace("Wert", "Messwert"), rest)
        file.unlink()
    card = folder / "datasets" / "plant.yaml"
    text = card.read_text()
    for old, new in (
        ("readings_*.csv", "export_*.txt"), ("tag: Messstelle", "tag: Signal"), ("value: Wert", "value: Messwert"), ("VIB_DE", "SCHWINGUNG_DE"),
        (": P10", ": Pumpe-"),
    ):  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    card.write_text(text)


def shuffled(folder: Path) -> None:
    """The rows of all files in any order. The hour that autumn repeats stays out: without an order nobody can tell its passes apart."""
    rng, files = np.random.default_rng(0), sorted(folder.glob("readings_*.csv"))
    head, every = lines(files[0])[0], [line for file in files for line in lines(file)[1]]
    kept = [every[i] for i in rng.permutation(len(every))]
    for file, part in zip(files, np.array_split(np.array(kept, object), len(files)), strict=True):
        write(file, head, part.tolist())


def without_the_repeated_hour(folder: Path) -> None:
    change(folder, lambda i, c: None if c[1].startswith("26.10.2025 02:") else c)


def without_repeats(folder: Path) -> None:
    """Of rows that tell the same signal twice at one time the first one, so that no order decides which of them counts."""
    seen: set[tuple[str, str]] = set()
    change(folder, lambda i, c: None if (c[0], c[1]) in seen or seen.add((c[0], c[1])) else c)


def test_other_names_change_nothing(plant: Path, drafted: Path) -> None:
    before = ticks_of(plant)
    renamed(plant)
    after = ticks_of(plant)
    assert after["asset"].unique().sort().to_list() == ["Pumpe-1", "Pumpe-2", "Pumpe-3"]
    assert after.drop("asset").equals(before.drop("asset"))


def test_another_order_of_rows_changes_nothing(plant: Path) -> None:
    without_the_repeated_hour(plant)
    without_repeats(plant)
    before = ticks_of(plant)
    shuffled(plant)
    assert ticks_of(plant).equals(before)


@pytest.mark.nightly  # two whole drafts and runs; ticks are compared in tests/source/test_ticks.py
def test_the_alarm_log_is_the_same_for_a_plant_renamed_and_shuffled(plant: Path, tmp_path: Path) -> None:
    without_the_repeated_hour(plant)
    without_repeats(plant)
    before = alarm_log(plant, tmp_path / "before")
    renamed(plant)
    for file in plant.glob("export_*.txt"):
        file.rename(file.with_name(file.name.replace("export", "readings").replace(".txt", ".csv")))
    shuffled(plant)
    for file in plant.glob("readings_*.csv"):
        file.rename(file.with_name(file.name.replace("readings", "export").replace(".csv", ".txt")))
    after = alarm_log(plant, tmp_path / "after")
    assert before and [(kind, str(asset).replace("Pumpe-", "P10"), *rest) for kind, asset, *rest in after] == before


def test_half_the_rate_is_refused(plant: Path) -> None:
    count: dict[str, int] = {}

    def every_other(i: int, cells: list[str]) -> list[str] | None:
        count[cells[0]] = count.get(cells[0], 0) + 1
        return cells if count[cells[0]] % 2 else None

    change(plant, every_other)
    with pytest.raises(DataError, match="sampling"):
        ticks_of(plant)


@pytest.mark.parametrize("on_error", ["refuse", "quarantine"])
def test_another_unit_is_refused_by_name(plant: Path, on_error: str) -> None:
    def to_fahrenheit(i: int, cells: list[str]) -> list[str]:
        if "TEMP_LAGER" in cells[0] and cells[2]:
            cells[2] = f"{float(cells[2].replace(',', '.')) * 1.8 + 32:.2f}".replace(".", ",")
        return cells

    change(plant, to_fahrenheit)
    history = Table(str(plant / "datasets" / "plant.yaml")).load()
    with pytest.raises(DataError, match="temp_lager.*°F|°F.*temp_lager"):
        admit(history.rows, history.contract, on_error)
