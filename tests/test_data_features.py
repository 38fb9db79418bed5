"""`pmx data features`: what it writes and says, that it does so once, and what it refuses."""

import json
from pathlib import Path

import polars as pl
import pytest

from pmx.run import main

SMALL = ["source.assets=4", "source.life=200"]


def features(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str, dict]:
    code = main(["data", "features", "synthetic", *words, "--json"])
    told = capsys.readouterr()
    return code, told.out, told.err, json.loads(told.out.splitlines()[-1])


def test_features_are_written_once(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err, first = features(capsys, *SMALL, "--hop", "5")
    assert code == 0 and "Next: " in out and "features" in err
    table = pl.read_parquet(f"{first['folder']}/*/part-*.parquet")
    assert Path(first["folder"]).is_relative_to("runs/features/synthetic") and len(table) == first["rows"] > 0
    assert table.width == 2 + len(first["features"]) and first["cached_partitions"] == 0
    assert {"seconds", "rows_per_second", "peak_memory_gb", "readings"} <= set(first)
    _, out, _, again = features(capsys, *SMALL, "--hop", "5", "--quiet")
    assert again["cached_partitions"] == again["partitions"] and "0 of 1 partitions computed" in out
    _, _, _, anew = features(capsys, *SMALL, "--hop", "5", "--fresh", "--output", "runs/features/synthetic")
    assert anew["cached_partitions"] == 0 and anew["folder"] == first["folder"]
    _, _, _, other = features(capsys, *SMALL, "feature=lags", "--output", "elsewhere")
    assert Path(other["folder"]).parent == Path("elsewhere") and other["rows"] > 4 * first["rows"]


@pytest.mark.parametrize(("words", "code", "says"), [(["nothing"], 2, "no source"), (["synthetic", "--hop", "0"], 2, "hop is 0")])
def test_refusals(words: list[str], code: int, says: str, workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "features", *words]) == code
    assert says in capsys.readouterr().err


def test_refused_rows_are_set_apart(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "fetch", "synthetic", "source.root=pumps", *SMALL])
    file = workdir / "pumps" / "readings.csv"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:3], lines[2], *lines[3:]]) + "\n")
    capsys.readouterr()
    code, _, err, _ = features(capsys, "source.root=pumps")
    assert code == 3 and "row 4" in err
    code, _, _, said = features(capsys, "source.root=pumps", "on_error=quarantine")
    assert code == 0 and said["quarantined"] == 1
    assert pl.read_parquet(f"{said['folder']}/*/quarantine.parquet")["row"].to_list() == [4]
