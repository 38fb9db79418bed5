"""The row `cross-fitted`: a group's candidate and margin are chosen by the labels of the other groups alone."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmx.alarm.policy import KofN
from pmx.alarm.state import alarms
from pmx.evaluate.protocol import Protocol, Truth
from pmx.pack.fitted import Healthy
from pmx.select import crossfit
from pmx.select.candidates import Trial
from pmx.select.crossfit import FACTORS, cross_fitted
from tests.lives import failed_at, single

PROTOCOL = Protocol(cap=20, horizon=20, lead=0, draws=5)
ALARM = KofN(k=1, n=1, margin=1.0)
HEALTHY = Healthy({"": 1.0}, np.linspace(0.01, 2.0, 400))
ASSETS, GROUPS = [f"P{i}" for i in range(6)], {f"P{i}": "abc"[i // 2] for i in range(6)}
TICKS = 60


def truth(spans: list[tuple[int, int]]) -> Truth:
    n = len(spans)
    episodes = [np.array([s], np.float64) for s in spans]
    return single(ASSETS[:n], np.full(n, np.nan), np.full(n, 1e3), np.zeros(n), np.zeros(n), episodes, [["fault"]] * n)


def played(whole, verdicts: list[np.ndarray], real: Truth, groups=GROUPS):
    """The scores and alarms of the row, float [asset, time] each, where candidate `i` says `verdicts[i]`; None = there is no row."""
    tested = pl.DataFrame({"asset": np.repeat(real.assets, TICKS), "tick": np.tile(np.arange(TICKS), len(real.assets))})
    trials = [Trial(str(i), None, HEALTHY, None, {}, 0.0) for i in range(len(verdicts))]
    kept = []

    def keep(name, rul, standing, tick, truth, protocol, contract, score, limit):
        kept.append((np.array(score), np.array(standing)))
        return name, limit

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crossfit, "refit", lambda trial, *_: SimpleNamespace(verdict=lambda ticks: verdicts[int(trial.name)]))
        patch.setattr(crossfit, "row", keep)
        rows = cross_fitted(trials, None, whole, tested, real, groups, PROTOCOL, ALARM)
    assert rows == ([("cross-fitted", 1.0)] if kept else [])
    return kept[0] if kept else None


def f1(stands: np.ndarray, real: Truth, assets: list[int]) -> float:
    """Twice the hits over what was raised and what was there, by counting."""
    wrong = np.array([real.anomalous(np.arange(float(TICKS)), i, 20.0) > 0 for i in assets])
    own = stands[assets]
    total = own.sum() + wrong.sum()
    return float(2 * (own & wrong).sum() / total) if wrong.any() else np.nan


spans = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 15)).map(lambda p: (p[0], p[0] + p[1])), min_size=6, max_size=6)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), spans, spans, st.integers(0, 2))
def test_the_choice_for_a_group_does_not_depend_on_its_own_labels(whole, seed, labels, others, group):
    rng = np.random.default_rng(seed)
    verdicts = [rng.random(6 * TICKS).astype(np.float32) for _ in range(2)]
    own = [i for i in range(6) if i // 2 == group]
    changed = [others[i] if i in own else labels[i] for i in range(6)]
    (score, stands), (again, stands_again) = (played(whole, verdicts, truth(s)) for s in (labels, changed))
    np.testing.assert_array_equal(again[own], score[own])
    np.testing.assert_array_equal(stands_again[own], stands[own])


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), spans)
def test_each_group_has_the_candidate_and_margin_that_do_best_on_the_others(whole, seed, labels):
    rng, real = np.random.default_rng(seed), truth(labels)
    verdicts = [(rng.random((6, TICKS)) ** rng.uniform(0.2, 1.0)).astype(np.float32) for _ in range(2)]
    for v in verdicts:
        for i, (begin, end) in enumerate(labels):
            v[i, begin : end + 1] = np.minimum(v[i, begin : end + 1] + 0.2 * rng.random(), 1.0)
    score, stands = played(whole, [v.ravel() for v in verdicts], real)
    for group in range(3):
        own, rest = ([i for i in range(6) if (i // 2 == group) is mine] for mine in (True, False))
        best = None
        for v in verdicts:
            for factor in FACTORS:
                policy = ALARM.at(ALARM.margin * factor, HEALTHY.ratios)
                value = f1(v >= policy.raise_at, real, rest)
                if best is None or value > best[0] + 1e-12:
                    best = value, policy, v
        np.testing.assert_array_equal(score[own] >= 1, best[2][own] >= best[1].raise_at)
        np.testing.assert_array_equal(stands[own], alarms(best[1], [best[2][i].astype(float) for i in own]))


def test_a_candidate_that_only_its_own_group_would_choose_is_not_chosen(whole):
    """Candidate 1 is right in group a and silent elsewhere; candidate 0 is right in b and c and silent in a."""
    real = truth([(30, 49)] * 6)
    right = np.tile(((np.arange(TICKS) >= 30) & (np.arange(TICKS) < 50)).astype(np.float32), (6, 1))
    first, second = right.copy(), np.zeros_like(right)
    first[:2], second[:2] = 0.0, right[:2]
    _, stands = played(whole, [first.ravel(), second.ravel()], real)
    assert (stands[:2] == (first[:2] > 0)).all(), "what its own labels would have told it must not help it"
    assert (stands[2:] == (right[2:] > 0)).all()


def test_there_is_no_row_where_nothing_could_be_chosen_by_other_labels(whole):
    verdicts, real = [np.zeros(6 * TICKS, np.float32)], truth([(30, 49)] * 6)
    assert played(whole, verdicts, real, dict.fromkeys(ASSETS, "a")) is None, "one group"
    assert played(whole, verdicts, real, {}) is None
    assert played(whole, verdicts, real, {a: GROUPS[a] for a in ASSETS[:5]}) is None, "an asset without a group"
    unlabelled = single(real.assets, failed_at(real), real.seen, real.begins, real.born)
    assert played(whole, verdicts, unlabelled) is None
    assert played(whole, verdicts, real) is not None


@given(
    st.lists(st.floats(0, 1).map(lambda v: float(np.float32(v))), min_size=1, max_size=30),
    st.floats(0, 1).map(lambda v: float(np.float32(v))),
)
def test_scores_over_their_limit_keep_their_order_and_reach_1_where_the_limit_is_reached(scores, limit):
    score = np.sort(np.array([*scores, limit]))
    over = crossfit._over(score, limit)
    assert ((over >= 1) == (score >= limit)).all() and (np.diff(over) >= 0).all() and np.isfinite(over).all() and (over >= 0).all()
    assert np.isnan(crossfit._over(np.array([np.nan]), limit)).all()
