"""Errors of remaining useful life against values worked out by hand, and age-based estimates against closed forms."""

import math

import numpy as np
import pytest

from pmx.evaluate.life import Lives, life_metrics, nasa
from pmx.evaluate.protocol import Protocol, Truth
from tests.lives import single

PROTOCOL = Protocol(cap=125, horizon=30, lead=5, draws=50)


def truth(failed_at, seen=None, begins=0.0) -> Truth:
    failed = np.array(failed_at, float)
    alive = failed if seen is None else np.array(seen, float)
    zero = np.full(len(failed), float(begins))
    return single([f"P{i}" for i in range(len(failed))], failed, alive, zero, zero)


def test_nasa_score_by_hand():
    # Saxena et al. 2008: d = estimate - truth; exp(-d / 13) - 1 when early, exp(d / 10) - 1 when late
    assert nasa(np.array([-13.0, 0.0, 10.0])).tolist() == pytest.approx([math.e - 1, 0.0, math.e - 1])
    assert nasa(np.array([20.0]))[0] > nasa(np.array([-20.0]))[0]
    assert np.isfinite(nasa(np.array([1e9, -1e9])).sum())


def test_metrics_by_hand():
    # P0 fails at 10 and is seen to tick 8: true life left 2. P1 fails at 200 and is seen to tick 10: 190, capped 125.
    rul, tick = [np.array([5.0, 5.0]), np.array([140.0])], [np.array([7, 8]), np.array([10])]
    found = life_metrics(rul, tick, truth([10, 200]), PROTOCOL, 1.0)
    assert found["rmse_last_capped"][0] == pytest.approx(math.sqrt((3**2 + 0**2) / 2))
    assert found["rmse_last_raw"][0] == pytest.approx(math.sqrt((3**2 + 50**2) / 2))
    assert found["rmse_all_capped"][0] == pytest.approx(math.sqrt((2**2 + 3**2 + 0) / 3))
    assert found["mae_all_raw"][0] == pytest.approx((2 + 3 + 50) / 3)
    assert found["nasa_last_capped"][0] == pytest.approx(math.exp(0.3) - 1)
    assert found["nasa_last_raw"][0] == pytest.approx(math.exp(0.3) - 1 + math.exp(50 / 13) - 1)
    assert all(low <= value <= high for value, low, high in found.values())


def test_a_perfect_capped_estimate_has_no_capped_error_and_a_raw_one():
    tick = np.arange(200)
    found = life_metrics([np.minimum(200.0 - tick, 125.0)], [tick], truth([200]), PROTOCOL, 1.0)
    assert found["rmse_all_capped"][0] == 0.0
    assert found["rmse_all_raw"][0] == pytest.approx(math.sqrt(sum(d * d for d in range(1, 76)) / 200))


def test_an_estimate_below_zero_or_above_the_cap_is_clipped_where_capped():
    found = life_metrics([np.array([-30.0, 500.0])], [np.array([199, 20])], truth([200]), PROTOCOL, 1.0)
    assert found["mae_all_capped"][0] == pytest.approx((1 + 0) / 2) and found["mae_all_raw"][0] == pytest.approx((31 + 320) / 2)


def test_a_censored_tick_counts_where_its_life_certainly_exceeds_the_cap():
    real = truth([np.nan], seen=[200])
    raw, capped = real.life(np.array([0.0, 75.0, 76.0, 200.0]), 0, 125.0)
    assert np.isnan(raw).all() and capped[:2].tolist() == [125.0, 125.0] and np.isnan(capped[2:]).all()
    found = life_metrics([np.full(4, 120.0)], [np.array([0, 75, 76, 200])], real, PROTOCOL, 1.0)
    assert found["mae_all_capped"][0] == 5.0 and np.isnan(found["rmse_last_capped"][0]) and np.isnan(found["rmse_all_raw"][0])


def test_ticks_before_the_test_part_and_after_the_failure_have_no_truth():
    raw, capped = truth([100], begins=50).life(np.array([49.0, 50.0, 100.0, 101.0]), 0, 125.0)
    assert np.isnan(raw).tolist() == np.isnan(capped).tolist() == [True, False, False, True]


def test_errors_scale_with_the_tick_length():
    tick = np.arange(0, 100)
    one = life_metrics([np.full(100, 40.0)], [tick], truth([100]), PROTOCOL, 1.0)
    six = life_metrics([np.full(100, 240.0)], [tick], truth([100]), Protocol(750, 180, 30, draws=50), 6.0)
    assert six["rmse_all_capped"][0] == pytest.approx(6 * one["rmse_all_capped"][0])


def test_estimates_that_are_missing_are_left_out():
    found = life_metrics([np.array([np.nan, 3.0]), np.array([np.nan])], [np.array([7, 8]), np.array([5])], truth([10, 10]), PROTOCOL, 1.0)
    assert found["mae_all_raw"][0] == 1.0 and found["mae_last_raw"][0] == 1.0


# The 6-MP arm of Freireich et al. 1963, weeks of remission; survival as in Kleinbaum and Klein, Survival Analysis, table 2.1.
WEEKS = np.array([6, 6, 6, 7, 10, 13, 16, 22, 23, 6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35], float)
RELAPSED = np.arange(21) < 9
SURVIVAL = {0: 1.0, 6: 0.8571, 7: 0.8067, 10: 0.7529, 13: 0.6902, 16: 0.6275, 22: 0.5378, 23: 0.4482}


def test_survival_is_that_of_the_textbook():
    lives, weeks = Lives(WEEKS, RELAPSED), sorted(SURVIVAL)
    for week in range(30):  # the mean life up to a cap grows by the survival at the cap
        slope = (lives.left(np.zeros(1), cap=week + 1.0) - lives.left(np.zeros(1), cap=float(week)))[0]
        assert slope == pytest.approx(SURVIVAL[max(w for w in weeks if w <= week)], abs=6e-5)


def test_exponential_lives_have_no_memory():
    mean, cap = 100.0, 125.0
    lives = Lives(-mean * np.log(1 - (np.arange(4000) + 0.5) / 4000), np.ones(4000, bool))
    expected = mean * (1 - math.exp(-cap / mean))  # mean of min(T, cap) of an exponential law
    assert lives.left(np.array([0.0, 50.0, 150.0]), cap) == pytest.approx([expected] * 3, rel=0.03)


def test_uniform_lives_have_half_of_the_rest_left_at_every_age():
    lives = Lives(np.linspace(0.05, 100, 2000), np.ones(2000, bool))
    age = np.array([0.0, 10.0, 55.5, 99.0])
    assert lives.left(age, cap=1000.0) == pytest.approx((100 - age) / 2, abs=0.06)


def test_between_failures_the_rest_of_life_shrinks_and_beyond_all_of_them_nothing_is_left():
    lives = Lives(np.array([10.0, 20.0]), np.ones(2, bool))
    assert lives.left(np.array([4.0, 10.0, 15.0, 19.0, 20.0, 99.0]), cap=100.0).tolist() == [11.0, 10.0, 5.0, 1.0, 0.0, 0.0]


def test_censored_lives_count_while_they_are_at_risk():
    failed = Lives(np.array([10.0]), np.array([True]))
    censored = Lives(np.array([10.0, 30.0]), np.array([True, False]))
    assert failed.left(np.zeros(1), 20.0)[0] == 10.0
    assert censored.left(np.array([0.0, 12.0]), 20.0).tolist() == [15.0, 20.0]
    assert Lives(np.array([30.0]), np.array([False])).left(np.array([5.0]), 20.0).tolist() == [20.0]
