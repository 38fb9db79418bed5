"""Persistence, hysteresis and missing evidence; and that neither batch nor order matters."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmx.alarm.policy import KofN
from pmx.alarm.state import AlarmState, Policy, alarms
from pmx.contract import IncompatibleError, UsageError

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


@pytest.mark.parametrize("wrong", [{"k": 0}, {"k": 6}, {"limits": 1}, {"slack": -0.1}, {"most_false": -1.0}])
def test_settings_of_the_search_are_checked_before_any_data_is_read(wrong):
    with pytest.raises(UsageError, match="alarm: "):
        KofN(**wrong)


@pytest.mark.parametrize("output", ["rul", "anomaly_score"])
def test_a_family_runs_from_reluctant_to_eager(output):
    family = KofN(limits=8).family(output, horizon=100.0, cap=125.0)
    values = [np.random.default_rng(0).random(300) * (130 if output == "rul" else 1)]
    raised = [int(alarms(p, values)[0].sum()) for p in family]
    assert len(family) == 8 and raised == sorted(raised) and raised[0] < raised[-1]


@pytest.mark.parametrize("cap", [100.0, 110.0, 500.0])
def test_a_remaining_life_at_its_cap_clears_every_policy_of_the_family(cap):
    for policy in KofN().family("rul", horizon=100.0, cap=cap):
        assert run(policy, [0.0] * 5 + [cap] * 5)[-1] == 0
