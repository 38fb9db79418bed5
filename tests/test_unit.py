"""Units taken for one another."""

import numpy as np
import pytest

from pmx.unit import FAMILIES, SAME, looks_like


@pytest.mark.parametrize(
    ("unit", "values", "low", "high", "other"),
    [
        ("°C", [150.0, 170.0, 190.0], -20.0, 120.0, "°F"),
        ("°C", [300.0, 330.0, 350.0], -20.0, 120.0, "K"),
        ("mm/s", [0.2, 0.3], 2.0, 50.0, "in/s"),
        ("bar", [600.0, 700.0], 1.0, 10.0, "kPa"),
        ("kW", [5e4, 6e4], 0.5, 200.0, "W"),
        ("m3/h", [0.5, 0.9], 1.5, 5.0, "l/s"),
    ],
)
def test_a_known_conversion_is_found(unit, values, low, high, other):
    assert looks_like(unit, np.array(values), low, high)[0] == other


def test_nothing_is_claimed_without_ground():
    assert looks_like("°C", np.array([1e6, 1e7]), -20.0, 120.0) == []
    assert looks_like("furlong", np.array([1.0]), 2.0, 3.0) == []
    # 200 kPa would be 2 bar, within the range but nowhere near what this channel shows
    assert looks_like("bar", np.array([200.0] * 9), 0.0, 40.0, np.linspace(30.0, 35.0, 99)) == []


def test_no_unit_has_two_homes():
    names = [name for family in FAMILIES for name in family]
    assert len(set(names)) == len(names) and set(SAME.values()) <= set(names) and not set(SAME) & set(names)
