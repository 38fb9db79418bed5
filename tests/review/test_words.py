"""What is said of an alarm follows from its figures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmx.contract import QUALITY, Channel, Contract
from pmx.review.words import STATES, began, departure, moment, sensor, span

HOURS = Contract((Channel("flow", "m3/h"),), "h", "calendar", tick=6.0)
CYCLES = Contract((Channel("flow", "m3/h"),), "cycle", "life")


@given(st.integers(5, 60), st.integers(0, 30), st.sampled_from([-1.0, 1.0]), st.lists(st.integers(0, 80), max_size=10))
def test_a_departure_began_where_it_did(before, after, sign, missing):
    score = np.r_[np.zeros(before), np.full(after + 6, 5.0 * sign)]
    at = len(score) - 1
    found = began(score, at, sign)
    assert found == before, "one reading of five deviations moves the mean of five by one"
    score[[m for m in missing if m < at]] = np.nan
    assert began(score, at, sign) <= at
    assert began(-score, at, -sign) == began(score, at, sign)


def test_a_departure_without_beginning_or_without_length():
    assert began(np.full(30, 4.0), 29, 1.0) == 0
    assert began(np.r_[np.zeros(20), 4.0], 20, 1.0) == 20, "the mean is still normal: it left it at that moment"
    assert began(np.full(30, np.nan), 29, 1.0) == 0


def test_the_sentence_says_what_by_how_much_and_since_when():
    tick = int(np.datetime64("2026-03-05T12", "us").astype(np.int64) // HOURS.tick_us)
    said = departure(HOURS, "flow", 3.24, 3, tick - 4, tick, False)
    assert said == (
        "flow has been 3.2 standard deviations above its normal for this regime since 2026-03-04 12:00 UTC: "
        "it began to leave it 24 h before the alarm."
    )
    assert "below its normal when the alarm was raised" in departure(HOURS, "flow", -2.0, 1, tick, tick, False)
    assert "from its first reading on" in departure(HOURS, "flow", -2.0, 1, tick - 9, tick, True)
    assert "close to it" in departure(HOURS, "flow", 0.4, 1, tick - 9, tick, False)


def test_times_and_spans_for_a_reader():
    assert moment(HOURS, 0) == "1970-01-01 00:00 UTC" and moment(HOURS, 0.51).startswith("1970-01-01 03:03")
    assert moment(Contract((Channel("flow", "V"),), "s", "calendar"), 61) == "1970-01-01 00:01:01 UTC"
    assert moment(CYCLES, 12) == "12 cycle" and span(CYCLES, 12) == "12 cycles"
    assert [span(HOURS, n) for n in (0.05, 1, 7, 8, 80_000)] == ["18 min", "6 h", "42 h", "2 days", "20,000 days"]


@pytest.mark.parametrize("state", QUALITY[1:])
def test_every_state_of_a_sensor_has_words(state):
    said, todo = sensor("flow", state)
    assert state in STATES and said.startswith(f"flow {STATES[state]}") and "not of the machine" in said and "flow" in todo
