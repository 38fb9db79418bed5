"""The coverage gate passes what the data cannot contradict, and refuses what they do."""

import numpy as np
import pytest

from pmx.evaluate.interval import share
from pmx.evaluate.report import Row
from pmx.gate.coverage import coverage


def row(hits: int, of: int) -> Row:
    return Row("winner", {}, None, (np.nan,) * 3, more={"coverage_last": share(hits, of), "interval_width_last": (20.0, np.nan, np.nan)})


@pytest.mark.parametrize(
    "hits, of, passes", [(90, 100, True), (82, 100, True), (75, 100, False), (96, 100, True), (300, 300, False), (5, 5, True), (0, 0, True)]
)
def test_it_refuses_what_lies_outside_beyond_doubt(hits, of, passes):
    gate = coverage(row(hits, of))
    assert gate.passed == passes and gate.name == "coverage"
    assert passes or ("too seldom" if hits < of else "wider") in gate.culprit


def test_a_row_without_intervals_has_nothing_to_judge():
    assert coverage(Row("winner", {}, None, (np.nan,) * 3)).passed


def test_where_all_were_watched_until_they_failed_the_readings_before_it_count():
    more = {"coverage_last": (np.nan,) * 3, "coverage_near": (0.7, 0.6, 0.8), "interval_width": (20.0, np.nan, np.nan)}
    assert not coverage(Row("winner", {}, None, (np.nan,) * 3, more=more)).passed
    assert coverage(Row("winner", {}, None, (np.nan,) * 3, more=more | {"coverage_near": (0.85, 0.8, 0.9)})).passed
