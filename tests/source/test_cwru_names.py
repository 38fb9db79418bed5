"""Names of the CWRU files: numbers, longer names, and what says nothing or belongs to another record."""

import pytest

from pmx.source.cwru_names import ANY, NUMBERS, PLACES, Named, named


def test_every_number_stands_for_one_file_and_is_read_back():
    assert len(PLACES) == sum(bool(n) for bearings in NUMBERS.values() for own in bearings.values() for n in own) == 161
    for number, (record, bearing, load) in PLACES.items():
        for own in set(NUMBERS) - {ANY}:
            told = Named(bearing, load, number) if record in (own, ANY) else None
            assert named(str(number), own) == named(f"{number:05}", own) == told
            for mark in "@_":
                assert named(f"{bearing.replace('@', mark)}_{load}_{number:03}", own) == told
        if record != ANY:
            assert named(f"{bearing}_{load}", record) == Named(bearing, load, number)


@pytest.mark.parametrize(
    "stem, bearing, load, number",
    [("Time_Normal_1_098", "normal", 1, 98), ("normal_3", "normal", 3, 100), ("IR040_0", "IR040", 0, 0), ("B007_5", "B007", 5, 0)],
)
def test_names_that_others_gave(stem: str, bearing: str, load: int, number: int):
    assert named(stem, "12k_Drive_End") == Named(bearing, load, number)


@pytest.mark.parametrize("stem", ["1", "109", "IR007_1_110", "B007_0_105", "IR014_0_97", "readme", "OR007@6", "OR007@5_1", "IR7_1", ""])
def test_what_says_nothing_or_contradicts_itself_is_no_file_of_the_record(stem: str):
    assert named(stem, "12k_Drive_End") is None
