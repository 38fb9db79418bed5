"""Names: folded, split, freed of their units, and made fit for pmx."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmx.contract import RESERVED, Channel
from pmx.draft.words import channel_names, folded, has_word, unit_in, usual_unit, words_of


@given(st.lists(st.text(max_size=12), max_size=12))
def test_channel_names_are_plain_distinct_and_accepted(names: list[str]) -> None:
    made = channel_names(names)
    assert len(set(made)) == len(names) == len(made)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", n) and n not in RESERVED and Channel(n, "-") for n in made)


@pytest.mark.parametrize(
    "name, told",
    [
        ("VIB_DE [mm/s]", ("VIB_DE", "mm/s")),
        ("Temperatur (°C)", ("Temperatur", "°C")),
        ("outlet_bar", ("outlet", "bar")),
        ("speed rpm", ("speed", "rpm")),
        ("Drehzahl [1/min]", ("Drehzahl", "rpm")),
        ("ratio []", ("ratio", "-")),
        ("VIB_DE", ("VIB_DE", "")),
        ("class_c", ("class_c", "")),
        ("Flow (second measuring point)", ("Flow (second measuring point)", "")),
    ],
)
def test_units_are_taken_out_of_names(name: str, told: tuple[str, str]) -> None:
    assert unit_in(name) == told


@pytest.mark.parametrize("inside", ["", "bar"])
def test_a_header_of_nothing_but_blanks_is_read_at_once(inside: str) -> None:
    """Of a damaged file a header may be anything."""
    blanks = " " * 100_000
    assert unit_in(f"x({inside}{blanks}y") == (f"x({inside}", "")
    assert unit_in(f"{blanks}flow [{inside}{blanks}]{blanks}")[0] in ("", "flow")
    assert unit_in(f"flow  [ {inside}   ]  ") == ("flow", inside or "-")


def test_umlauts_dots_and_case_do_not_matter() -> None:
    assert folded("Störungs-Beginn.") == folded("STOERUNGSBEGINN") == "stoerungsbeginn" and folded("Erfaßt am") == "erfasstam"
    assert words_of("BearingTemp_DE") == ["bearing", "temp", "de"]
    assert channel_names(["Öl-Temp", "Öl Temp", "Time", "2nd"]) == ["oel_temp", "oel_temp_2", "time_signal", "s2nd"]
    assert usual_unit("Lagertemperatur") == "°C" and usual_unit("Q1") == "" and has_word("N_IST", ["n"]) and not has_word("IN", ["n"])
