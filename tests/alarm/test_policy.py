"""Families of alarm limits: from reluctant to eager, cleared on the good side of where they are raised."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pmx.alarm.policy import KofN
from pmx.alarm.score import score_of
from pmx.alarm.state import alarms
from pmx.contract import UsageError

RATIOS = st.lists(st.floats(0.0, 50.0), min_size=1, max_size=60).map(lambda r: np.sort([*r, max(max(r), 0.01)]))
MARGINS = st.floats(0.05, 50.0)


def run(policy, values):
    return alarms(policy, [np.array(values, float)])[0].astype(int).tolist()


@pytest.mark.parametrize(
    "wrong", [{"k": 0}, {"k": 6}, {"limits": 1}, {"slack": -0.1}, {"slack": 1.1}, {"most_false": -1.0}, {"margin": 0.0}]
)
def test_settings_of_the_search_are_checked_before_any_data_is_read(wrong):
    with pytest.raises(UsageError, match="alarm: "):
        KofN(**wrong)


@pytest.mark.parametrize("output", ["rul", "anomaly_score"])
def test_a_family_runs_from_reluctant_to_eager(output):
    rng = np.random.default_rng(0)
    healthy = np.sort(rng.gamma(4.0, 0.25, 500))
    family = KofN(limits=8).family(output, horizon=100.0, cap=125.0, healthy=None if output == "rul" else healthy)
    values = [rng.random(300) * 130 if output == "rul" else score_of(rng.gamma(4.0, 0.6, 300), healthy)]
    raised = [int(alarms(p, values)[0].sum()) for p in family]
    assert len(family) == 8 and {p.output for p in family} == {output}
    assert raised == sorted(raised) and raised[0] < raised[-1]


@pytest.mark.parametrize("cap", [100.0, 110.0, 500.0])
def test_a_remaining_life_at_its_cap_clears_every_policy_of_the_family(cap):
    for policy in KofN().family("rul", horizon=100.0, cap=cap):
        assert run(policy, [0.0] * 5 + [cap] * 5)[-1] == 0


@given(RATIOS, MARGINS, st.floats(0.0, 1.0))
@example(np.array([0.0, 1e-230, 0.01]), 1.0, 1.0)
def test_a_limit_is_the_score_of_its_margin_and_clears_between_it_and_the_healthy_median(healthy, margin, slack):
    policy = KofN(slack=slack).at(margin, healthy)
    assert policy.worse == "above" and policy.raise_at == float(np.float32(score_of(np.array([margin]), healthy)[0]))
    median = float(np.median(healthy))
    low = min(policy.raise_at, float(np.float32(score_of(np.array([min(margin, median)]), healthy)[0])))
    assert low <= policy.clear_at <= policy.raise_at <= 1.0


@given(RATIOS, MARGINS, MARGINS, st.floats(0.0, 1.0))
def test_a_larger_margin_never_raises_or_clears_sooner(healthy, one, other, slack):
    few, many = (KofN(slack=slack).at(m, healthy) for m in sorted((one, other)))
    assert few.raise_at <= many.raise_at and few.clear_at <= many.clear_at


@given(RATIOS)
def test_the_family_reaches_from_beyond_anything_healthy_to_below_the_healthy_level(healthy):
    family = KofN(limits=6).family("anomaly_score", horizon=10.0, cap=10.0, healthy=healthy)
    limits = [p.raise_at for p in family]
    assert limits == sorted(limits, reverse=True)
    worst = float(np.float32(score_of(healthy[-1:], healthy)[0]))
    assert run(family[0], [worst] * 9) == [0] * 9, "the worst healthy score does not raise the most reluctant one"
    assert limits[-1] == pytest.approx(score_of(np.array([0.8]), healthy)[0], abs=1e-6)


def test_a_larger_slack_clears_later():
    healthy = np.linspace(0.1, 1.2, 200)
    clear = [KofN(slack=s).at(1.1, healthy).clear_at for s in (0.0, 0.25, 0.5, 1.0)]
    assert clear == sorted(clear, reverse=True) and len(set(clear)) == 4
    assert clear[0] == KofN().at(1.1, healthy).raise_at and clear[-1] == pytest.approx(np.mean(healthy <= np.median(healthy)), abs=0.01)
