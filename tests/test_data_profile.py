"""`pmx data profile` as a user types it."""

import json
from pathlib import Path

import pytest

from pmx.run import main
from pmx.source.synthetic import Synthetic

SMALL = ["source.assets=4", "source.life=300"]


def test_a_source_and_an_experiment(workdir: Path, capsys):
    assert main(["data", "profile", "synthetic", *SMALL, "--json"]) == 0
    out = capsys.readouterr().out
    answer = json.loads(out.splitlines()[-1])
    page = workdir / "runs" / "profile" / "synthetic_pumps.html"
    assert page.is_file() and answer["page"] == str(Path("runs/profile/synthetic_pumps.html")) and f"Page: {answer['page']}" in out
    assert len(answer["assets"]) == 4 and "Verdict" in out and [p for p in workdir.rglob("*") if p.is_file()] == [page]
    assert main(["data", "profile", "demo", *SMALL, "out=elsewhere", "--json"]) == 0
    same = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert same.pop("page") != answer.pop("page") and same == answer and (workdir / "elsewhere" / "profile").is_dir()


def test_dirt_is_counted_and_stops_nothing(workdir: Path, capsys):
    Synthetic(assets=3, life=200.0, missing=0.0).write(workdir / "pumps")
    file = workdir / "pumps" / "readings.csv"
    lines = file.read_text().splitlines()
    cells = lines[5].split(",")
    lines[5] = ",".join([*cells[:4], "much", *cells[5:]])
    file.write_text("\n".join([*lines, lines[-1]]) + "\n")
    command = ["data", "profile", "synthetic", "source.root=pumps", "--output", "deep/in/page.html", "--json"]
    assert main(command) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["refused"] == {"duplicate": 1, "wrong_type": 1} and (workdir / "deep/in/page.html").is_file()
    assert {c["name"]: c["refused"] for c in answer["channels"]}["flow"] == {"wrong_type": 1} and not (workdir / "runs").exists()


@pytest.mark.parametrize("words, told", [(["profile", "cmaps"], "no source or plant 'cmaps'"), (["profile"], "needs a source")])
def test_a_wrong_name(workdir: Path, capsys, words: list[str], told: str):
    assert main(["data", *words]) == 2
    assert told in capsys.readouterr().err
