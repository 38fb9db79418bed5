"""Intervals against published values and their own promises."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmx.evaluate.interval import rate, ratio, share


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3; the last two by hand: z² / (n + z²)
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
    ],
)
def test_wilson_as_published(hits, trials, low, high):
    assert share(hits, trials) == (hits / trials, pytest.approx(low, abs=6e-5), pytest.approx(high, abs=6e-5))


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_share_lies_in_its_interval_and_mirrors(pair):
    hits, trials = pair
    value, low, high = share(hits, trials)
    assert 0 <= low <= value <= high <= 1
    assert share(trials - hits, trials)[1:] == (pytest.approx(1 - high), pytest.approx(1 - low))


def test_no_trials_have_no_share():
    assert np.isnan(share(0, 0)).all() and np.isnan(ratio(np.zeros(0), np.zeros(0), 10, 0)).all()
    assert np.isnan(rate(np.zeros(3), np.zeros(3), 10, 0)).all()


def test_the_bootstrap_is_seeded():
    rng = np.random.default_rng(1)
    numerator, denominator = rng.exponential(size=30), np.ones(30)
    assert ratio(numerator, denominator, 200, 7) == ratio(numerator, denominator, 200, 7)
    assert ratio(numerator, denominator, 200, 7) != ratio(numerator, denominator, 200, 8)


def test_the_bootstrap_covers_the_truth_about_as_often_as_it_says():
    rng, hits = np.random.default_rng(2), 0
    for seed in range(200):
        _, low, high = ratio(rng.normal(5.0, 1.0, 40), np.ones(40), 300, seed)
        hits += low <= 5.0 <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_assets_are_drawn_not_readings():
    # the same readings as 4 assets of 100 and as 400 of 1: the assets of 100 agree within, so the interval must stay wide
    value = np.repeat([0.0, 0.0, 10.0, 10.0], 100)
    few = ratio(value.reshape(4, 100).sum(1), np.full(4, 100.0), 500, 0)
    many = ratio(value, np.ones(400), 500, 0)
    assert few[0] == many[0] == 5.0 and few[2] - few[1] > 4 * (many[2] - many[1])


def test_an_asset_without_readings_does_not_count():
    with_it = ratio(np.array([4.0, 4.0, 0.0]), np.array([2.0, 2.0, 0.0]), 100, 0)
    assert with_it == ratio(np.array([4.0, 4.0]), np.array([2.0, 2.0]), 100, 0) == (2.0, 2.0, 2.0)


def test_one_asset_alone_has_a_value_and_no_interval():
    value, low, high = ratio(np.array([8.0, 0.0]), np.array([2.0, 0.0]), 100, 0, root=True)
    assert value == 2.0 and np.isnan([low, high]).all()
