"""Persistence, hysteresis and missing evidence; and that neither batch nor order matters."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmx.alarm.state import AlarmState, Policy, SensorState, alarms, evidence
from pmx.contract import QUALITY, IncompatibleError

POLICY = Policy("rul", "below", raise_at=30.0, clear_at=40.0, k=2, n=3)
VALUES = st.sampled_from([np.nan, 0.0, 29.0, 30.0, 31.0, 40.0, 41.0, 90.0])
HISTORIES = st.lists(st.lists(VALUES, min_size=0, max_size=15).map(np.array), min_size=1, max_size=5)


@st.composite
def policies(draw):
    n = draw(st.integers(1, 5))
    worse = draw(st.sampled_from(["below", "above"]))
    low, high = sorted(draw(st.tuples(st.sampled_from([29.0, 30.0, 31.0]), st.sampled_from([31.0, 40.0, 41.0]))))
    return Policy("rul", worse, *((low, high) if worse == "below" else (high, low)), draw(st.integers(1, n)), n)


def run(policy, values):
    return alarms(policy, [np.array(values, float)])[0].astype(int).tolist()


@given(policies(), HISTORIES, st.randoms(use_true_random=False))
def test_a_batch_is_each_asset_alone_in_any_order(policy, histories, random):
    together = alarms(policy, histories)
    for own, standing in zip(histories, together, strict=True):
        assert alarms(policy, [own])[0].tolist() == standing.tolist()
    order = random.sample(range(len(histories)), len(histories))
    for i, standing in zip(order, alarms(policy, [histories[i] for i in order]), strict=True):
        assert standing.tolist() == together[i].tolist()


@given(policies(), HISTORIES)
def test_what_stands_follows_from_the_last_n_verdicts_and_what_stood(policy, histories):
    sign = 1 if policy.worse == "below" else -1
    for values, standing in zip(histories, alarms(policy, histories), strict=True):
        stood = False
        for t in range(len(values)):
            last = [v for v in values[max(0, t - policy.n + 1) : t + 1] if not np.isnan(v)]
            bad = sum(sign * v <= sign * policy.raise_at for v in last)
            good = sum(sign * v > sign * policy.clear_at for v in last)
            stood = bad >= policy.k or (stood and good < policy.k)
            assert standing[t] == stood


@given(HISTORIES)
def test_above_is_the_mirror_of_below(histories):
    mirrored = Policy("anomaly_score", "above", -30.0, -40.0, 2, 3)
    for a, b in zip(alarms(POLICY, histories), alarms(mirrored, [-h for h in histories]), strict=True):
        assert a.tolist() == b.tolist()


def test_one_bad_verdict_is_not_enough_and_two_of_three_are():
    assert run(POLICY, [20, 90, 90, 20, 90, 20]) == [0, 0, 0, 0, 0, 1]


def test_between_the_limits_nothing_changes():
    assert run(POLICY, [20, 20, 35, 40, 35, 35]) == [0, 1, 1, 1, 1, 1]  # clear_at itself is not beyond it
    assert run(POLICY, [35, 35, 35, 35]) == [0, 0, 0, 0]
    assert run(POLICY, [20, 20, 41, 90]) == [0, 1, 1, 0]


def test_a_missing_verdict_is_no_evidence_either_way():
    nan = np.nan
    assert run(POLICY, [20, nan, 20]) == [0, 0, 1]
    assert run(POLICY, [20, nan, nan, 20]) == [0, 0, 0, 0]  # the first is older than the last three
    assert run(POLICY, [20, 20, nan, nan, nan, nan]) == [0, 1, 1, 1, 1, 1]


def test_time_without_any_value_neither_raises_nor_clears():
    nan = np.nan
    readings = np.array([[1, nan], [nan, 1], [nan, nan], [nan, nan], [nan, nan], [1, 1]])
    assert run(POLICY, evidence(np.full(6, 20.0), readings)) == [0, 1, 1, 1, 1, 1]
    assert run(POLICY, evidence(np.array([20.0, 90, 20, 20, 20, 90]), readings)) == [0] * 6


def test_an_asset_that_is_not_stepped_stays_as_it_was():
    state = AlarmState(POLICY, 2)
    for _ in range(2):
        state.step(np.array([1]), np.array([10.0]))
    assert state.standing.tolist() == [False, True]
    state.step(np.array([0]), np.array([10.0]))
    assert state.standing.tolist() == [False, True]


@pytest.mark.parametrize(
    "wrong",
    [
        {"k": 0},
        {"k": 4},
        {"clear_at": 29.0},
        {"worse": "under"},
        {"worse": "above"},
        {"raise_at": float("nan")},
        {"clear_at": float("inf")},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(IncompatibleError, match="->"):
        Policy(**{**POLICY.to_json(), **wrong})
    assert Policy(**POLICY.to_json()) == POLICY


QUALITIES = st.lists(st.lists(st.integers(0, len(QUALITY) - 1), min_size=6, max_size=6), min_size=1, max_size=15)


@given(st.integers(1, 5).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n))), QUALITIES)
def test_a_sensor_alarm_follows_from_its_own_channel_alone(kn, told):
    """Two assets of three channels: each is counted as if there were no other."""
    (k, n), quality = kn, np.array(told).reshape(-1, 2, 3)
    state = SensorState(k, n, assets=2, channels=3)
    together = np.array([state.step(np.array([0, 1]), q) for q in quality])
    for asset in range(2):
        for channel in range(3):
            alone = alarms(Policy("quality", "above", 1.0, 1.0, k, n), [quality[:, asset, channel].astype(float)])[0]
            assert together[:, asset, channel].tolist() == alone.tolist()


@pytest.mark.parametrize("state", range(1, len(QUALITY)))
def test_every_state_but_good_raises_a_sensor_alarm(state):
    sensors = SensorState(k=2, n=3, assets=1, channels=2)
    stands = [sensors.step(np.array([0]), np.array([[q, 0]]))[0].tolist() for q in (state, state, 0, 0)]
    assert stands == [[False, False], [True, False], [True, False], [False, False]]


def test_sensors_of_an_asset_that_is_not_stepped_stay_as_they_were():
    sensors = SensorState(k=1, n=1, assets=2, channels=1)
    assert sensors.step(np.array([1]), np.array([[2]])).tolist() == [[True]]
    assert sensors.step(np.array([0]), np.array([[0]])).tolist() == [[False]]
    assert sensors.step(np.array([0, 1]), np.array([[0], [0]])).tolist() == [[False], [False]]
