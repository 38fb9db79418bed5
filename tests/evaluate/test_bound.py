"""Intervals of the life left against values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmx.contract import Channel, Contract
from pmx.evaluate.bound import Bounds, interval_metrics
from pmx.evaluate.interval import share
from pmx.evaluate.protocol import Protocol
from pmx.evaluate.report import row
from tests.lives import single

PROTOCOL = Protocol(cap=100, horizon=30, lead=5, draws=50)


def lives(failed):
    n, at = len(failed), np.array(failed, float)
    return single([f"P{i}" for i in range(n)], at, at, np.zeros(n), np.zeros(n))


def measured(ends, tick, failed, **more):
    bounds = Bounds([np.array(e, float).reshape(-1, 2) for e in ends], **more)
    return interval_metrics(bounds, [np.array(t) for t in tick], lives(failed), PROTOCOL, 1.0)


def test_coverage_and_width_by_hand():
    # P0: 10, 5 left, told [8, 12] and [6, 9]; P1: 300 left, which is 100, told [90, 150], which is [90, 100]
    found, parts = measured([[[8, 12], [6, 9]], [[90, 150]]], [[90, 95], [0]], [100, 300])
    assert found["coverage_last"] == share(1, 2) and found["coverage_all"][0] == pytest.approx(2 / 3)
    assert found["interval_width"][0] == pytest.approx((4 + 3 + 10) / 3) and found["interval_width_last"][0] == pytest.approx(6.5)
    assert found["coverage_near"][0] == 0.5 and found["coverage_told"] == found["coverage_all"], "the third says 90 or more"
    assert measured([[[8, 12], [6, 9]], [[100, 150]]], [[90, 95], [0]], [100, 300])[0]["coverage_told"][0] == 0.5
    assert parts["coverage_all"].numerator.tolist() == [1, 1] and parts["coverage_all"].denominator.tolist() == [2, 1]
    assert found["coverage_life_0"][0] == 0.5 and np.isnan(found["coverage_life_1"][0]) and found["coverage_life_3"][0] == 1.0


def test_stretches_of_life_and_regimes_split_the_readings():
    tick = np.arange(0, 201)
    ends = np.column_stack([np.zeros(201), np.where(tick % 2, 100.0, -1.0)])
    regime = [np.where(tick < 50, -1, tick % 3)]
    found, parts = measured([ends], [tick], [200], regime=regime)
    each = [parts[f"coverage_life_{b}"].denominator[0] for b in range(4)]
    assert each == [26, 25, 25, 125]  # 0 to 25 left, both ends in; the cap and all above it in the last
    assert sum(parts[f"coverage_regime_{r}"].denominator[0] for r in range(3)) == 151 and "coverage_regime_-1" not in found
    assert sum(p.numerator[0] for k, p in parts.items() if "life" in k) == parts["coverage_all"].numerator[0]


def test_an_abstention_is_no_coverage_and_is_scored_as_the_mean_life():
    nan = float("nan")
    found, _ = measured([[[nan, nan]], [[30, 50]]], [[90], [160]], [100, 200])
    assert found["coverage_last"] == share(1, 1)
    rul, ends = [np.array([nan]), np.array([40.0])], [np.array([[nan, nan]]), np.array([[30.0, 50.0]])]
    contract = Contract((Channel("load", "kW"),), "cycle", "life")
    given = (rul, None, [np.array([90]), np.array([160])], lives([100, 200]), PROTOCOL, contract)
    assert row("winner", *given, bounds=Bounds(ends, fill=50.0)).life["rmse_last_capped"][0] == pytest.approx(np.sqrt((40**2 + 0) / 2))
    assert row("winner", *given, bounds=Bounds(ends)).life["rmse_last_capped"][0] == 0.0, "nobody says what silence counts as"


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_a_wider_interval_never_covers_less(seed):
    rng = np.random.default_rng(seed)
    tick, failed = [np.arange(30)] * 3, rng.integers(20, 200, 3)
    centre, half = [rng.uniform(0, 120, 30) for _ in tick], rng.uniform(0, 20)
    narrow, wide = (measured([np.column_stack([c - h, c + h]) for c in centre], tick, failed)[0] for h in (half, half + 5))
    for k in ("coverage_all", "coverage_last", "interval_width"):
        assert np.isnan(wide[k][0]) or wide[k][0] >= narrow[k][0]


def test_a_calibrated_interval_covers_its_share():
    rng = np.random.default_rng(3)
    tick = [np.array([t]) for t in rng.integers(110, 180, 400)]
    centre = [200.0 - t + rng.normal(0, 5, 1) for t in tick]
    found, _ = measured([np.column_stack([c - 1.645 * 5, c + 1.645 * 5]) for c in centre], tick, [200] * 400)
    assert found["coverage_last"][1] < 0.9 < found["coverage_last"][2]
