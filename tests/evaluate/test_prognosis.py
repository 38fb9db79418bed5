"""Prognosis measures against values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmx.evaluate.prognosis import prognosis_metrics
from pmx.evaluate.protocol import Protocol, Truth
from tests.lives import single

PROTOCOL = Protocol(cap=100, horizon=30, lead=5, draws=50)


def truth(*failed: float, seen=None) -> Truth:
    n, ends = len(failed), np.array(failed, float)
    return single([f"P{i}" for i in range(n)], ends, ends if seen is None else np.array(seen, float), np.zeros(n), np.zeros(n))


def told(rul, tick, real: Truth, length: float = 1.0) -> dict[str, float]:
    protocol = Protocol(100 * length, 30 * length, 5 * length, draws=50)
    found, _ = prognosis_metrics([np.array(r, float) for r in rul], [np.array(t) for t in tick], real, protocol, length)
    return {k: v[0] for k, v in found.items()}


def test_alpha_lambda_by_hand():
    # with 50 left, 20 % either way are 40 to 60; with 75 left 60 to 90; with 25 left 20 to 30
    tick = np.arange(0, 151)
    left = 150.0 - tick
    assert told([left * 1.2], [tick], truth(150))["alpha_lambda_50"] == 1.0  # exactly on the edge
    assert told([left * 1.21], [tick], truth(150))["alpha_lambda_50"] == 0.0
    assert told([left - 10], [tick], truth(150)) | {} == told([left - 10], [tick], truth(150))
    found = told([left - 10], [tick], truth(150))
    assert (found["alpha_lambda_25"], found["alpha_lambda_50"], found["alpha_lambda_75"]) == (1.0, 1.0, 0.0)


def test_a_life_counts_only_where_it_was_watched():
    tick = np.arange(0, 151)
    early = tick[tick <= 90]  # the record ends with 60 left: only λ = 0.25 can be judged
    found = told([150.0 - early], [early], truth(150, seen=[90]))
    assert found["alpha_lambda_25"] == 1.0 and np.isnan(found["alpha_lambda_50"]) and np.isnan(found["alpha_lambda_75"])
    late = tick[tick >= 110]  # it begins with 40 left
    found = told([150.0 - late], [late], truth(150))
    assert np.isnan(found["alpha_lambda_25"]) and np.isnan(found["alpha_lambda_50"]) and found["alpha_lambda_75"] == 1.0
    gap = tick[(tick < 70) | (tick > 140)]  # nothing was read between 80 and 10 left
    found = told([150.0 - gap], [gap], truth(150))
    assert np.isnan(found["alpha_lambda_25"]) and np.isnan(found["alpha_lambda_50"]) and found["alpha_lambda_75"] == 1.0


def test_a_reading_without_an_estimate_is_a_miss_and_counts_as_an_abstention():
    tick = np.arange(0, 151)
    silent = np.where(tick == 100, np.nan, 150.0 - tick)
    found = told([silent], [tick], truth(150))
    assert found["alpha_lambda_50"] == 0.0 and found["alpha_lambda_25"] == 1.0
    assert found["abstained_all"] == pytest.approx(1 / 151) and found["abstained_last"] == 0.0
    assert found["prognostic_horizon"] == 49.0  # from the reading behind it on


def test_prognostic_horizon_by_hand():
    tick = np.arange(0, 151)
    left = 150.0 - tick
    # 30 too much until 40 are left, right from then on
    found = told([np.where(left > 40, np.minimum(left, 100) - 30, left)], [tick], truth(150))
    assert found["prognostic_horizon"] == 40.0 and found["prognostic_horizon_n"] == 1
    assert told([np.minimum(left, 100)], [tick], truth(150))["prognostic_horizon"] == 100.0  # at most the cap
    assert told([np.where(tick == 150, 100, left)], [tick], truth(150))["prognostic_horizon"] == 0.0  # wrong at the end
    cut = tick[tick <= 120]  # a record that ends with 30 left shows no end
    assert np.isnan(told([150.0 - cut], [cut], truth(150, seen=[120]))["prognostic_horizon"])


def test_prognostic_horizon_is_the_median_over_lives():
    tick = [np.arange(0, 101)] * 3
    rul = [np.where(100.0 - t > h, 0, 100.0 - t) for t, h in zip(tick, (30, 50, 90), strict=True)]
    found, _ = prognosis_metrics(rul, tick, truth(100, 100, 100), PROTOCOL, 1.0)
    assert found["prognostic_horizon"] == (50.0, 30.0, 90.0) and found["prognostic_horizon_n"][0] == 3


def test_two_lives_of_an_asset_count_apart():
    none = np.zeros(0)
    real = Truth(["P"], [np.array([150.0, 300.0])], [none], np.array([300.0]), np.zeros(1), np.zeros(1))
    tick = np.arange(0, 301)
    left = np.where(tick <= 150, 150 - tick, 300 - tick).astype(float)
    wrong = np.where(tick > 150, 0.0, left)
    found, parts = prognosis_metrics([wrong], [tick], real, PROTOCOL, 1.0)
    assert found["alpha_lambda_50"][0] == 0.5 and parts["alpha_lambda_50"].denominator.tolist() == [2]
    assert found["prognostic_horizon_n"][0] == 2


def test_late_estimates_by_hand():
    # 10 above is not yet late, 11 is; above the cap nothing is late
    found = told([[60, 60, 100], [100]], [[100, 101, 20], [10]], truth(150, 300))
    assert found["late_share_all"] == pytest.approx(1 / 4) and found["late_share_last"] == 0.0
    assert told([[60], [61]], [[100], [100]], truth(150, 150))["late_share_last"] == 0.5


def test_without_a_known_failure_only_late_estimates_can_be_told():
    found = told([np.full(301, 100.0)], [np.arange(301)], truth(np.nan, seen=[300]))
    assert np.isnan(found["alpha_lambda_50"]) and np.isnan(found["prognostic_horizon"]) and found["prognostic_horizon_n"] == 0
    assert found["late_share_all"] == 0.0 and np.isnan(found["late_share_last"])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.25, 6.0]))
def test_the_length_of_a_tick_changes_no_share(seed, length):
    rng = np.random.default_rng(seed)
    tick = [np.sort(rng.choice(160, 120, replace=False)) for _ in range(3)]
    real = truth(*rng.integers(100, 160, 3))
    rul = [150.0 - t + rng.normal(0, 15, len(t)) for t in tick]
    one, other = told(rul, tick, real), told([r * length for r in rul], tick, real, length)
    for k in one:
        if not k.startswith("late"):  # late by ten life units, whatever they are
            assert other[k] == pytest.approx(one[k] * (length if k == "prognostic_horizon" else 1), nan_ok=True), k
