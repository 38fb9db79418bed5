"""Pictures hold what they should at any length."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pmx.review import draw
from pmx.review.facts import Bin, Point
from tests.review.plain import LIFE, SCORE, asset

VALUES = arrays(np.float64, st.integers(1, 400), elements=st.floats(-9, 9) | st.just(np.nan))


@given(VALUES, st.integers(1, 60))
def test_decimation_keeps_the_extremes(values, columns):
    low, high = draw.decimated(values, columns)
    assert len(low) == len(high) == min(columns, len(values))
    seen = values[~np.isnan(values)]
    assert np.isnan(low).all() if not len(seen) else np.nanmin(low) == seen.min() and np.nanmax(high) == seen.max()
    assert not (low > high).any()


@given(VALUES)
def test_a_curve_stays_in_its_frame(values):
    made = draw.curve(values, 50, 20, -3, 3, "red")
    points = [tuple(map(float, p.split())) for p in re.findall(r"[\d.-]+ [\d.-]+", made.partition('" fill')[0])]
    assert all(0 <= x <= 51 and 0 <= y <= 20 for x, y in points)
    assert bool(points) == bool((~np.isnan(values)).any()) and "nan" not in made


def test_a_long_record_is_as_small_as_a_short_one():
    assert len(draw.trajectory(asset("P", 100_000), LIFE)) < 2 * len(draw.trajectory(asset("P", 3_000), LIFE)) < 60_000


@pytest.mark.parametrize("watched", [LIFE, SCORE])
@pytest.mark.parametrize("ticks", [0, 1, 2, 500])
def test_assets_of_any_length_are_drawn(watched, ticks):
    made = draw.trajectory(asset("P", ticks, watched), watched)
    assert made.startswith("<svg") and "nan" not in made and "✕" in made


def test_the_front_joins_what_nothing_beats():
    points = [Point("cheap", 0.5, 1.0, "ms"), Point("good", 0.9, 2.0, "ms", True), Point("beaten", 0.4, 3.0, "ms")]
    made = draw.front([*points, Point("unmeasured", 0.99, np.nan, "ms")])
    assert "unmeasured" not in made and len(re.findall(r"L", re.search(r'd="([^"]*)"', made)[1])) == 1 and made.count("<circle") == 3
    assert draw.front([Point("unmeasured", 0.99, np.nan, "ms")]) == ""


def test_calibration_without_a_bin_or_with_missing_figures():
    assert "<circle" not in draw.calibration([], LIFE)
    assert draw.calibration([Bin(0, 0.5, 3, 0.2, 0.1), Bin(0.5, 1, 9, 0.7, 0.9)], SCORE).count("<circle") == 2
