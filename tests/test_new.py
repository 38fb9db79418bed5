"""`pmx new`: what it writes can be read by the source it is for, whatever dialect the files are in."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pmx.run import main
from pmx.source.admit import admit
from pmx.source.table import Table

EXAMPLE = Path(__file__).parents[1] / "datasets" / "example_plant"
BEGIN = datetime(2026, 1, 20, tzinfo=UTC)
FORMATS = ("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S", "%d.%m.%Y %H:%M", "%m/%d/%Y %H:%M:%S", "%Y%m%d%H%M%S")


def plant() -> pl.DataFrame:
    """Readings of three machines: `asset, time, Druck, Temp` with two decimals."""
    rng = np.random.default_rng(7)
    rows = [
        (f"M{m}", BEGIN + timedelta(minutes=10 * i), float(v), float(t))
        for m in range(3)
        for i, (v, t) in enumerate(np.round(rng.normal([5.0, 1600.0], [0.5, 40.0], (120, 2)), 2))
    ]
    return pl.DataFrame(rows, schema=["asset", "time", "Druck", "Temp"], orient="row")


def lines(long: bool, mark: str, decimal: str, form: str) -> list[str]:
    def cell(value: float) -> str:
        text = f"{value:.2f}".replace(".", decimal)
        return f'"{text}"' if mark == decimal else text

    made = [["Maschine", "Zeit", "Tag", "Wert"] if long else ["Maschine", "Zeit", "Druck", "Temp"]]
    for asset, time, druck, temp in plant().rows():
        when = time.strftime(form)
        made += (
            [[asset, when, "Druck", cell(druck)], [asset, when, "Temp", cell(temp)]] if long else [[asset, when, cell(druck), cell(temp)]]
        )
    return [mark.join(line) for line in made]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    long=st.booleans(),
    mark=st.sampled_from(";\t|,"),
    decimal=st.sampled_from(".,"),
    form=st.sampled_from(FORMATS),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
)
def test_the_drafted_card_reads_what_was_written(workdir: Path, long: bool, mark: str, decimal: str, form: str, encoding: str) -> None:
    (workdir / "r.csv").write_bytes("\n".join([*lines(long, mark, decimal, form), ""]).encode(encoding))
    assert main(["new", "plant", "--readings", "r.csv", "--force"]) == 0
    history = Table("datasets/plant.yaml").load()
    read = admit(history.rows, history.contract, "refuse").readings.sort("asset", "time")
    offset = timedelta(hours=1 if history.contract.time_zone == "Europe/Berlin" else 0)
    assert read["time"].to_list() == (plant()["time"] - offset).to_list() and read["asset"].to_list() == plant()["asset"].to_list()
    for name, channel in (("Druck", "druck"), ("Temp", "temp")):
        assert read[channel].to_list() == plant()[name].to_list()


@pytest.fixture
def example(workdir: Path) -> Path:
    for file in EXAMPLE.iterdir():
        (workdir / file.name).write_bytes(file.read_bytes())
    return workdir


def draft(*more: str) -> int:
    return main(["new", "example", "--readings", "readings_*.csv", "--orders", "orders.csv", *more])


def test_the_example_is_drafted_and_its_card_read(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert draft("--json") == 0
    out = capsys.readouterr().out.splitlines()
    told = json.loads(out[-1])
    assert told["assets"] == ["P101", "P102", "P103"] and told["failures"] == 3 and len(told["questions"]) == 3
    assert any(o.startswith("Next: pmx data profile example ") for o in out) and any("pmx run example" in o for o in out)
    assert all(q in "\n".join(out[:-1]) for q in told["questions"])
    history = Table("datasets/example.yaml").load()
    read = admit(history.rows, history.contract, "quarantine", example / "q.parquet")
    reasons = set(read.quarantine["reason"])
    assert reasons == {"bad_quality", "duplicate"} and read.counts["quarantined"] < 0.02 * read.counts["in"], "ordinary readings pass"
    failed = history.events.filter(pl.col("event") == "failure").sort("time")
    assert failed["asset"].to_list() == ["P103", "P101", "P102"] and failed["time"][1] == datetime(2025, 10, 26, 21, 36, tzinfo=UTC)


def test_two_drafts_are_the_same_and_none_is_overwritten(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [Path("datasets/example.yaml"), Path("experiments/example.yaml")]
    assert draft() == 0
    first = [f.read_bytes() for f in files]
    files[0].write_text("mine")
    assert draft() == 2 and files[0].read_text() == "mine"
    assert "datasets/example.yaml and experiments/example.yaml: there already, nothing was written -> --force" in capsys.readouterr().err
    assert draft("--force") == 0 and [f.read_bytes() for f in files] == first
    assert sorted(p.name for p in Path("datasets").iterdir()) == ["example.yaml"], "no half-written file stays"


@pytest.mark.parametrize(
    "words, code, told",
    [
        (["new", "x/y", "--readings", "r.csv"], 2, "no name for a plant"),
        (["new", "x", "--readings", "nothing_*.csv"], 3, "no file in . matches 'nothing_*.csv'"),
        (["new", "x", "--readings", "empty.csv"], 3, "the file is empty"),
        (["new", "x", "--readings", "r.csv", "--orders", "r.csv"], 3, "no column names the asset of an order"),
    ],
)
def test_mistakes_write_nothing(workdir: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, told: str) -> None:
    (workdir / "empty.csv").write_bytes(b"")
    (workdir / "r.csv").write_text("time;a\n" + "".join(f"2026-01-01T00:{i:02}:00Z;{i * i % 7}\n" for i in range(40)))
    assert main(words) == code and told in capsys.readouterr().err
    assert not Path("datasets").exists() and not Path("experiments").exists()
