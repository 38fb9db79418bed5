"""A text table keeps its cells as Markdown."""

from hypothesis import given
from hypothesis import strategies as st

from pmx.markdown import from_text, grid

WORD = st.text("abc(%)[,]–.15 ", min_size=1, max_size=9).map(lambda t: " ".join(t.split())).filter(bool)


@given(st.integers(2, 5).flatmap(lambda n: st.lists(st.lists(WORD, min_size=n, max_size=n), min_size=2, max_size=6)), st.booleans())
def test_the_cells_of_a_padded_table_are_found_again(cells: list[list[str]], corner: bool) -> None:
    if corner:
        cells[0][0] = ""
    width = [max(map(len, column)) for column in zip(*cells, strict=True)]
    text = "\n".join("   ".join(map(str.ljust, row, width)).rstrip() for row in cells)
    assert from_text(text) == grid(cells)


def test_captions_and_notes_stay_outside_and_mark_nothing() -> None:
    text = "RMSE *capped*\n          n\nwinner    7\nLeakage accepted: a_b < c"
    assert from_text(text) == "RMSE \\*capped\\*\n\n|   | &nbsp; n |\n| --- | --- |\n| winner | &nbsp; 7 |\n\nLeakage accepted: a\\_b \\< c"
