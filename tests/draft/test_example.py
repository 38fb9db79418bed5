"""The example plant: the committed files are what the generator writes, and they have the blemishes that they are there for."""

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from pmx.draft.example import ROLLOVER, START, TAGS, Plant, main

FOLDER = Path(__file__).parents[2] / "datasets" / "example_plant"


@pytest.fixture(scope="module")
def pumps() -> list[pl.DataFrame]:
    return [Plant().pump(i) for i in range(3)]


def test_the_committed_files_are_the_generators_own(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 0
    made = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert made == {p.name: p.read_bytes() for p in FOLDER.iterdir()} and sum(map(len, made.values())) < 1_500_000


def test_another_seed_is_another_plant_of_the_asked_size(tmp_path: Path) -> None:
    main([str(tmp_path), "--seed", "2", "--assets", "1", "--tags", "10", "--days", "4"])
    text = (tmp_path / "readings_1.csv").read_text(encoding="cp1252") + (tmp_path / "readings_2.csv").read_text(encoding="cp1252")
    tags = {line.partition(";")[0] for line in text.splitlines()[1:]} - {"Messstelle"}
    assert tags == {f"P101.{t}" for t in [*TAGS, "TEMP_01", "TEMP_02"]}
    assert not Plant(assets=1, seed=1).pump(0).equals(Plant(assets=1, seed=2).pump(0))


def test_rows_come_late_twice_and_bad(pumps: list[pl.DataFrame]) -> None:
    for pump in pumps:
        late = (pump["arrived"] - pump["at"]) > 1e6
        assert 0.002 < late.mean() < 0.02 and 0.001 < pump.select("tag", "at").is_duplicated().mean() / 2 < 0.01
        assert set(pump["quality"]) == {"Good", "Bad", "Uncertain"} and (pump["quality"] == "Good").mean() > 0.98


def test_a_counter_rolls_over_once_and_never_falls_otherwise(pumps: list[pl.DataFrame]) -> None:
    falls = []
    for pump in pumps:
        counter = pump.filter((pl.col("tag").str.ends_with("E_ZAEHLER")) & (pl.col("quality") == "Good")).sort("at")
        value = counter["value"].cast(pl.Float64)
        falls += value.filter(value.diff().fill_null(0) < 0).to_list()
        assert value.max() < ROLLOVER
    assert len(falls) == 1 and falls[0] < 500


def test_failures_build_up_and_pumps_stand_still(pumps: list[pl.DataFrame]) -> None:
    for i, pump in enumerate(pumps):
        good = pump.filter(pl.col("quality") == "Good").with_columns(pl.col("value").cast(pl.Float64))
        failed = int((START + timedelta(minutes=Plant().fails(i) or 0)).timestamp()) * 1_000_000
        vibration = good.filter(pl.col("tag").str.ends_with("VIB_DE") & (pl.col("value") > 0.3))
        last = vibration.filter(pl.col("at").is_between(failed - 86_400_000_000, failed))["value"].mean()
        assert last > 1.25 * vibration.filter(pl.col("at") < failed - 6 * 86_400_000_000)["value"].mean()
        assert (good.filter(pl.col("tag").str.ends_with("N_IST"))["value"] == 0).any()


def test_orders_have_their_dirt() -> None:
    lines = [line.split(";") for line in Plant().orders()]
    assert len({len(line) for line in lines}) == 1 and {line[3] for line in lines} == {"M1", "M2", "M3"}
    assert any(line[4].startswith("0000") for line in lines) and any(line[4] == "10004711" for line in lines)
    assert any("9999" in line[4] for line in lines) and any(line[-1] == "LKZ" for line in lines) and any(not line[4] for line in lines)
