"""Orders find their assets by one rule after the other, and never by a guess between two."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmx.draft.join import contained, join, match
from pmx.draft.orders import find_orders
from pmx.draft.sheet import read_sheet


@given(st.lists(st.integers(1, 10**9).map(str), min_size=1, max_size=6, unique=True), st.integers(0, 8))
def test_leading_zeros_never_matter(assets: list[str], zeros: int) -> None:
    for asset in assets:
        found = match("0" * zeros + asset, assets)
        assert found is not None and found[0] == asset and found[1] == ("leading zeros" if zeros else "exact")


@pytest.mark.parametrize(
    "raw, asset",
    [("p-101", "P101"), ("P 101", "P101"), ("P101", "P101"), ("P1010", None), ("101", None), ("X9", None)],
)
def test_case_blanks_and_dashes_do_not_matter(raw: str, asset: str | None) -> None:
    found = match(raw, ["P101", "P102", "P-1-01x"])
    assert (found and found[0]) == asset


def test_two_assets_that_fit_are_none() -> None:
    assert match("p-1", ["P1", "P-1", "P 1"]) is None and contained("P1 und P2 tauschen", ["P1", "P2"]) is None


@pytest.mark.parametrize(
    "text, asset",
    [("W1-PH1-P-101", "P101"), ("Pumpe P101: Lager", "P101"), ("P-1010", None), ("AP101", None), ("Halle 7", None), ("p.101", "P101")],
)
def test_names_inside_texts(text: str, asset: str | None) -> None:
    assert contained(text, ["P101", "P1", "P"]) == asset


def test_equipment_joins_by_its_location_and_strangers_are_listed(tmp_path: Path) -> None:
    lines = ["Equipment;Technischer Platz;Kurztext;Meldungsart;Datum", *["000000711;W1-P-1;Lager;M2;01.02.2026"] * 3]
    lines += ["711;;P-2 verwechselt;M2;02.02.2026", "999;W1-K-7;Kompressor;M2;02.02.2026", ";W1-P-2;;M2;03.02.2026", "P3;;;M2;03.02.2026"]
    (tmp_path / "o.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    sheet = read_sheet([tmp_path / "o.csv"])
    found = join(sheet, find_orders(sheet), ["P1", "P2", "P3"])
    assert found.names == {"711": ("P1", "in Technischer Platz"), "W1-P-2": ("P2", "in Technischer Platz")}
    assert found.unmatched == {"999": 1} and found.asset == ("P1",) * 4 + (None, "P2", "P3")
