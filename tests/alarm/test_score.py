"""The anomaly score: a rank among healthy ratios, and beyond them still in order."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pmx.alarm.score import score_of

RATIOS = st.floats(0.0, 1e6, allow_subnormal=False)
HEALTHY = st.lists(st.floats(0.0, 100.0, allow_subnormal=False), min_size=1, max_size=40).map(lambda r: np.sort([*r, max(*r, 0.01)]))


@given(HEALTHY, st.lists(RATIOS, min_size=1, max_size=30))
def test_it_lies_between_0_and_1_and_never_falls_with_the_ratio(healthy, ratios):
    score = score_of(np.sort(ratios), healthy)
    assert (score >= 0).all() and (score <= 1).all() and (np.diff(score) >= 0).all()


@given(HEALTHY, st.lists(RATIOS, min_size=1, max_size=30))
def test_among_healthy_ratios_it_lies_between_the_shares_of_its_neighbours(healthy, ratios):
    for ratio, score in zip(ratios, score_of(np.array(ratios), healthy), strict=True):
        if ratio <= healthy[-1]:
            following = min(h for h in healthy if h >= ratio)
            below, reached = (sum(h < ratio for h in healthy), sum(h <= following for h in healthy))
            assert below / (len(healthy) + 1) - 1e-12 <= score <= reached / (len(healthy) + 1) + 1e-12
        else:
            assert score >= len(healthy) / (len(healthy) + 1), "beyond all of them"


@given(HEALTHY)
def test_at_a_healthy_ratio_it_is_the_share_at_or_below_it(healthy):
    shares = [sum(h <= ratio for h in healthy) / (len(healthy) + 1) for ratio in healthy]
    np.testing.assert_allclose(score_of(healthy, healthy), shares, rtol=1e-12)


def test_between_two_healthy_ratios_it_has_no_step():
    healthy = np.array([1.0, 2.0, 4.0])
    fine = score_of(np.linspace(0, 6, 6001), healthy)
    assert np.diff(fine).max() < 1e-3


def test_beyond_all_healthy_ratios_bad_and_worse_stay_apart():
    score = score_of(np.array([3.0, 3.1, 30.0, 300.0]), np.array([1.0, 2.0, 3.0]))
    assert (np.diff(score) > 0).all() and score[-1] < 1


def test_the_order_of_rows_changes_nothing_and_a_missing_ratio_stays_missing():
    rng = np.random.default_rng(0)
    ratio, healthy = rng.gamma(2.0, 1.0, 200), np.sort(rng.gamma(2.0, 0.5, 50))
    ratio[::7] = np.nan
    score, order = score_of(ratio, healthy), rng.permutation(200)
    np.testing.assert_array_equal(score_of(ratio[order], healthy), score[order])
    np.testing.assert_array_equal(np.isnan(score), np.isnan(ratio))


def test_the_scale_of_the_model_s_score_changes_nothing():
    """Both sides are multiples of the healthy level: doubled, they say the same."""
    rng = np.random.default_rng(1)
    ratio, healthy = rng.gamma(2.0, 1.0, 200), np.sort(rng.gamma(2.0, 0.5, 50))
    np.testing.assert_array_equal(score_of(2 * ratio, 2 * healthy), score_of(ratio, healthy))
