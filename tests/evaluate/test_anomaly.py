"""Anomaly scores reading by reading: the same numbers as scikit-learn, and nothing adjusted in anybody's favour."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score

from pmx.evaluate.anomaly import point_metrics
from pmx.evaluate.protocol import Protocol, Truth
from tests.lives import single

PROTOCOL = Protocol(cap=10, horizon=10, lead=0, draws=20)


def labelled(*episodes: list[tuple[float, float]], begins: float = 0.0, faults: list[list[str]] | None = None) -> Truth:
    n = len(episodes)
    spans = [np.array(e, np.float64).reshape(-1, 2) for e in episodes]
    names = faults or [["fault"] * len(e) for e in episodes]
    return single([f"P{i}" for i in range(n)], np.full(n, np.nan), np.full(n, 1e3), np.full(n, begins), np.zeros(n), spans, names)


def points(score, real: Truth, limit: float = 0.5, first: int = 0) -> dict[str, float]:
    values = [np.array(s, float) for s in score]
    found = point_metrics(values, limit, [np.arange(first, first + len(v)) for v in values], real, PROTOCOL, 1.0)
    return {k: v[0] for k, v in found.items()}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.3]), st.integers(0, 20))
def test_they_agree_with_scikit_learn_on_random_data(seed, missing, begins):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(25, 60, 3)
    spans = [[(float(b), float(b + rng.integers(0, 12)))] for b in rng.integers(22, 30, 3)]
    score = [
        np.round(rng.random(n) + 0.2 * ((np.arange(n) >= s[0][0]) & (np.arange(n) <= s[0][1])), 1)
        for n, s in zip(sizes, spans, strict=True)
    ]
    for s in score:
        s[rng.random(len(s)) < missing] = np.nan
    tick = [np.arange(n) for n in sizes]
    wrong = [(t >= s[0][0]) & (t <= s[0][1]) for t, s in zip(tick, spans, strict=True)]
    counts = [(t >= begins) & ~np.isnan(s) for t, s in zip(tick, score, strict=True)]
    y, s = (np.concatenate([v[c] for v, c in zip(each, counts, strict=True)]) for each in (wrong, score))
    found = points(score, labelled(*spans, begins=float(begins)), limit=0.7)
    if not y.any():
        assert np.isnan(found["f1"]) and np.isnan(found["ap"])
        return
    assert found["f1"] == pytest.approx(f1_score(y, s >= 0.7)) and found["ap"] == pytest.approx(average_precision_score(y, s))
    assert found["far"] == pytest.approx((s[~y] >= 0.7).mean()) and found["mar"] == pytest.approx((s[y] < 0.7).mean())
    own = [average_precision_score(w[c], v[c]) for w, v, c in zip(wrong, score, counts, strict=True) if 0 < w[c].sum() < c.sum()]
    assert found["ap_per_asset"] == pytest.approx(np.mean(own)) if own else np.isnan(found["ap_per_asset"])


@given(st.integers(0, 40), st.integers(1, 30))
def test_a_hit_inside_a_long_episode_raises_no_other_reading(hit, more):
    """With point adjustment one hit would count for the whole episode: a random score then looks like the state of the art."""
    n = 41 + more
    score = np.zeros(n)
    score[hit] = 1.0
    found = points([score], labelled([(0.0, 40.0)]))
    assert found["mar"] == pytest.approx(40 / 41) and found["fault/detection_rate"] == pytest.approx(1 / 41)
    assert found["f1"] == pytest.approx(2 / 42) and found["far"] == 0


def test_two_episodes_of_an_asset_are_found_apart():
    score = np.zeros(60)
    score[10:15] = 1.0
    found = points([score], labelled([(10.0, 14.0), (30.0, 39.0)], faults=[["seal", "valve"]]))
    assert found["seal/detection_rate"] == 1.0 and found["valve/detection_rate"] == 0.0 and found["mar"] == pytest.approx(10 / 15)


def test_a_fault_is_pooled_over_the_assets_that_have_it_and_left_out_where_nothing_was_watched():
    real = labelled([(0.0, 9.0)], [(0.0, 29.0)], [(90.0, 99.0)], faults=[["wear"], ["wear"], ["unseen"]])
    found = points([np.ones(20), np.zeros(40), np.zeros(30)], real)
    assert found["wear/detection_rate"] == pytest.approx(10 / 40) and "unseen/detection_rate" not in found


def test_the_limit_itself_is_raised():
    assert points([[0.5, 0.5]], labelled([(0.0, 0.0)]))["f1"] == pytest.approx(2 / 3)


def test_the_ap_of_a_random_score_is_near_the_prevalence():
    rng = np.random.default_rng(0)
    real = labelled(*[[(100.0, 399.0)]] * 10)
    found = points([rng.random(1000) for _ in range(10)], real)
    assert found["ap"] == pytest.approx(0.3, abs=0.03) and found["ap_per_asset"] == pytest.approx(0.3, abs=0.03)
    assert points([np.ones(1000)] * 10, real)["ap"] == pytest.approx(0.3), "nor does one that never changes rank anything"


def test_readings_shortly_before_a_failure_are_the_anomalous_ones_where_nobody_labelled_any():
    real = single(["A", "B"], np.array([99.0, np.nan]), np.array([99.0, 99.0]), np.zeros(2), np.zeros(2))
    score = [(np.arange(100) >= 89).astype(float), np.ones(100)]
    found = points(score, real)
    assert found["mar"] == 0 and found["far"] == pytest.approx(90 / (90 + 89)), "B is normal until 10 before it was lost from sight"


def test_the_horizon_is_in_the_life_unit():
    real = single(["A"], np.array([99.0]), np.array([99.0]), np.zeros(1), np.zeros(1))
    score, tick = [(np.arange(100) >= 94).astype(float)], [np.arange(100)]
    found = point_metrics(score, 0.5, tick, real, PROTOCOL, 2.0)  # 10 hours are 5 ticks of 2
    assert found["f1"][0] == 1.0


def test_without_an_anomaly_nobody_can_say_what_is_found():
    found = points([np.linspace(0, 1, 50)], labelled([]))
    assert np.isnan([found[k] for k in ("f1", "mar", "ap", "ap_per_asset")]).all() and found["far"] == 0.5


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(4)))
def test_the_order_of_assets_changes_nothing(order):
    rng = np.random.default_rng(3)
    spans = [[(5.0, 15.0)], [], [(20.0, 29.0)], [(0.0, 3.0), (10.0, 30.0)]]
    score = [rng.random(30 + i) for i in range(4)]
    real = labelled(*spans)
    mixed = points([score[i] for i in order], real.some(np.array(order)))
    before = points(score, real)
    assert mixed.keys() == before.keys() and all(mixed[k] == pytest.approx(before[k]) for k in before)
