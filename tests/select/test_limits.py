"""Alarm limits and baselines, against brute force and against what must be true of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmx.alarm.policy import KofN
from pmx.alarm.state import Policy, alarms
from pmx.evaluate.event import count_events
from pmx.evaluate.life import life_metrics
from pmx.evaluate.protocol import Protocol, Truth
from pmx.select.baseline import baselines
from pmx.select.limits import set_limits
from pmx.select.training import Training, truth
from pmx.window.split import ByAsset, Division
from tests.lives import failed_at, single

PROTOCOL = Protocol(cap=60.0, horizon=20.0, lead=3.0, draws=20)


def fleet(rng: np.random.Generator, noise: float, assets: int = 6) -> tuple[list[np.ndarray], list[np.ndarray], Truth]:
    life = rng.integers(40, 90, assets)
    failed = np.where(rng.random(assets) < 0.7, life.astype(float), np.nan)
    tick = [np.arange(1, n + 1) for n in life]
    estimates = [np.minimum(n - t, 60) + rng.normal(0, noise) + rng.normal(0, 2, n) for n, t in zip(life, tick, strict=True)]
    return estimates, tick, single([f"A{i}" for i in range(assets)], failed, life.astype(float), np.ones(assets), np.ones(assets))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([2.0, 10.0, 40.0]), st.sampled_from([0.0, 0.1, 0.5, 2.0]))
def test_the_limit_is_the_best_of_the_family_by_brute_force(seed: int, noise: float, most_false: float):
    values, tick, real = fleet(np.random.default_rng(seed), noise)
    family = KofN(k=2, n=3, limits=6).family("rul", PROTOCOL.horizon, PROTOCOL.cap)
    chosen, counts = set_limits(family, values, tick, real, PROTOCOL, 1.0, most_false)
    tried = {}
    for policy in family:
        c = count_events(alarms(policy, values), tick, real, PROTOCOL, 1.0)
        tried[policy] = int(c.caught.sum()), int(c.false.sum())
    caught, false = tried[chosen]
    assert (int(counts.caught.sum()), int(counts.false.sum())) == (caught, false)
    allowed = {p: cf for p, cf in tried.items() if cf[1] <= most_false * len(real.assets)}
    if allowed:
        assert chosen in allowed and not any(c > caught or (c == caught and f < false) for c, f in allowed.values())
    else:
        assert false == min(f for _, f in tried.values())


@pytest.mark.parametrize("deep, most_false, eager_wins", [(False, 1.0, True), (False, 0.1, False), (True, 0.1, False), (True, 1.0, True)])
def test_false_alarms_are_weighed_before_what_is_caught(deep: bool, most_false: float, eager_wins: bool):
    """All three assets dip to 25 far too early and again in time. A limit of 30 catches all and is wrong three times; a limit of 10
    catches none, and is wrong once where one early dip is `deep`.
    """
    life = np.array([60.0, 60.0, 60.0])
    left = 60 - np.arange(1, 61)
    values = [np.where((left <= 15) | ((left >= 35) & (left <= 38)), 25.0, 60.0) for _ in life]
    if deep:
        values[0][left == 36] = 5.0
    real = single(["A", "B", "C"], life, life, np.ones(3), np.ones(3))
    reluctant, eager = (Policy("rul", "below", at, at + 5, k=1, n=1) for at in (10.0, 30.0))
    chosen, counts = set_limits([reluctant, eager], values, [np.arange(1, 61)] * 3, real, PROTOCOL, 1.0, most_false)
    assert chosen is (eager if eager_wins else reluctant)
    assert (counts.caught.sum(), counts.false.sum()) == ((3, 3) if eager_wins else (0, int(deep)))


def test_of_equals_the_more_reluctant_limit_wins():
    real = single(["A"], np.array([np.nan]), np.array([100.0]), np.array([1.0]), np.array([1.0]))
    family = KofN(limits=4).family("rul", PROTOCOL.horizon, PROTOCOL.cap)
    chosen, _ = set_limits(family, [np.full(100, 999.0)], [np.arange(1, 101)], real, PROTOCOL, 1.0, 0.1)
    assert chosen == family[0]


def rows_of(ticks, history, trained: list[str], alarm: KofN, protocol: Protocol = PROTOCOL):
    """The baselines by name, their RMSE at all ticks, and the truth they are measured against."""
    train = ticks["asset"].is_in(trained).to_numpy()
    training = Training.of(ticks, Division(train, ~train, "asset"), history, ByAsset(folds=2))
    real = truth(ticks, history.events, history.contract, ~train)
    own, asset = ticks["tick"].to_numpy(), ticks["asset"].to_numpy()
    tick = [own[asset == a] for a in real.assets]
    rows = {b.name: b for b in baselines(training, tick, real, protocol, alarm)}
    error = {n: life_metrics(b.rul, tick, real, protocol, 1.0)["rmse_all_capped"][0] for n, b in rows.items() if b.rul is not None}
    return rows, error, real


def test_age_beats_a_constant_where_lives_are_alike(make_history):
    rng = np.random.default_rng(1)
    ticks, history = make_history(rng.integers(97, 104, 20).tolist(), ["failure"] * 20)
    rows, error, real = rows_of(ticks, history, [f"A{i:02}" for i in range(12)], KofN())
    assert list(rows) == ["age only", "constant", "always alarm"]
    assert error["age only"] < 0.25 * error["constant"]
    assert len(set(rows["constant"].rul[0])) == 1 and rows["constant"].standing is None
    assert rows["always alarm"].rul is None and all(s.all() for s in rows["always alarm"].standing)
    counts = count_events(rows["age only"].standing, [np.arange(1, int(n) + 1) for n in failed_at(real)], real, PROTOCOL, 1.0)
    assert counts.recall()[0] == 1.0 and counts.false.sum() == 0


def test_age_says_little_where_lives_differ(make_history):
    rng = np.random.default_rng(2)
    ticks, history = make_history(rng.integers(40, 300, 30).tolist(), ["failure"] * 30)
    _, error, _ = rows_of(ticks, history, [f"A{i:02}" for i in range(20)], KofN())
    assert error["age only"] > 0.6 * error["constant"]


def test_of_a_fleet_of_which_no_failure_is_known_only_the_alarm_without_a_reason_is_left(make_history):
    ticks, history = make_history([30, 30, 30, 30], [""] * 4)
    rows, _, _ = rows_of(ticks, history, ["A00", "A01"], KofN(), Protocol(cap=500.0, horizon=20.0, lead=3.0))
    assert list(rows) == ["always alarm"] and all(s.all() and len(s) == 30 for s in rows["always alarm"].standing)


def test_the_constant_is_the_mean_of_the_training_labels(make_history):
    ticks, history = make_history([50, 80, 100], ["failure"] * 3)
    rows, _, _ = rows_of(ticks, history, ["A00", "A01"], KofN())
    labels = np.concatenate([np.minimum(n - np.arange(1, n + 1), 60) for n in (50, 80)])
    assert rows["constant"].rul[0][0] == pytest.approx(labels.mean())
