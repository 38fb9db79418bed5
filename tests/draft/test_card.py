"""The card's text: YAML that its reader takes, with every guess marked."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pmx.draft.card import Page, card_text, file_names, scalar
from pmx.draft.plan import Plan, make_plan
from pmx.source.card import read_card

FOLDER = Path(__file__).parents[2] / "datasets" / "example_plant"


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan("example", sorted(FOLDER.glob("readings_*.csv")), [FOLDER / "orders.csv"])


@given(st.text(max_size=20) | st.sampled_from(["NO", "on", "0815", "1e3", "12:30", "null", "~", "a: b", "#x", "- x", "2026-01-01", "Ä/Ö"]))
def test_text_comes_back_as_it_was(text: str) -> None:
    assert yaml.safe_load(f"k: [{scalar(text)}]") == {"k": [text]} and "\n" not in scalar(text)
    assert yaml.safe_load(f"{scalar(text)}: {{{scalar(text)}: 1}}") == {text: {text: 1}}


@given(st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.none() | st.integers(-(10**14), 10**14))
def test_plain_values_come_back(value: float | bool | None) -> None:
    assert float(scalar(value)) == value if isinstance(value, float) else json.loads(scalar(value)) == value


@given(st.text(max_size=80))
def test_no_comment_ends_its_line_early(text: str) -> None:
    page = Page()
    page.add("k", 1, guess=text)
    page.say(text)
    assert yaml.safe_load(page.text()) == {"k": 1}


def test_the_reader_takes_the_card(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "example.yaml").write_text(card_text(plan, tmp_path), encoding="utf-8")
    card = read_card(tmp_path / "example.yaml")
    assert card.contract.names == list(plan.channels) and card.contract.good == ("Good",) and card.contract.time_zone == "Europe/Berlin"
    assert card.events is not None and card.events.kinds["M2"] == "failure" and card.events.unmatched == "list"
    counter = card.contract.channels[card.contract.names.index("e_zaehler")]
    assert counter.rollover == 100_000 and counter.low is None


def test_every_guess_is_marked_and_questions_stand_on_top(plan: Plan, tmp_path: Path) -> None:
    text = card_text(plan, tmp_path)
    assert text.index(plan.questions[0][:20]) < text.index("name:") and card_text(plan, tmp_path) == text
    for key in ("tick", "time_zone", "lateness", "running", "layout", "good", "time_format", "vib_de", "M2", "tag_pattern"):
        assert any(line.split("#")[0].strip().startswith(f"{key}:") and "# guessed: " in line for line in text.splitlines()), key


def test_many_files_become_a_pattern_only_where_it_fits_exactly(tmp_path: Path) -> None:
    (tmp_path / "cards").mkdir()
    files = [tmp_path / f"r_{i}.csv" for i in range(3)]
    for file in files:
        file.write_text("a;b\n")
    assert file_names(files, tmp_path / "cards") == ["../r_*.csv"] and file_names(files[:1], tmp_path) == ["r_0.csv"]
    assert file_names(files[:2], tmp_path) == ["r_0.csv", "r_1.csv"]
