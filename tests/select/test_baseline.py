"""Detectors that need no sensor: what they raise, and that neither names nor order of the assets decide it."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmx.alarm.policy import KofN
from pmx.evaluate.anomaly import point_metrics
from pmx.evaluate.event import count_events
from pmx.evaluate.protocol import Protocol, Truth
from pmx.select.baseline import baselines, detectors
from pmx.select.training import Training, truth
from pmx.window.split import ByAsset
from tests.lives import single

PROTOCOL = Protocol(cap=20, horizon=20, lead=0, draws=20)


def fleet(assets: int = 6, ticks: int = 400, begins: int = 100) -> tuple[list[np.ndarray], list[np.ndarray], Truth]:
    """Scores with a missing reading here and there, ticks, and a truth with one episode each."""
    rng = np.random.default_rng(0)
    score = [rng.random(ticks + 10 * i) for i in range(assets)]
    for s in score:
        s[rng.random(len(s)) < 0.1] = np.nan
    tick = [1000 * i + np.arange(len(s)) for i, s in enumerate(score)]
    start = np.array([float(t[0]) for t in tick])
    spans = [np.array([[at + 200.0, at + 299.0]]) for at in start]
    names = [f"P{i}" for i in range(assets)]
    return score, tick, single(names, np.full(assets, np.nan), start + 1e3, start + begins, start, spans, [["fault"]] * assets)


def rows_of(score, tick, truth: Truth, limit: float = 0.8, seed: int = 0):
    return {b.name: b for b in detectors(score, limit, tick, truth, seed)}


def test_they_say_something_exactly_where_the_winner_does():
    score, tick, truth = fleet()
    rows = rows_of(score, tick, truth)
    assert list(rows) == ["always alarm", "clock", "random score"]
    for b in rows.values():
        for own, winner in zip(b.score, score, strict=True):
            np.testing.assert_array_equal(np.isnan(own), np.isnan(winner))
        for own, stands in zip(b.score, b.standing, strict=True):
            said = ~np.isnan(own)
            np.testing.assert_array_equal(own[said] >= 1, stands[said])


def test_the_clock_alarms_after_the_first_quarter_of_each_test_part():
    score, tick, truth = fleet()
    for at, begins, stands in zip(tick, truth.begins, rows_of(score, tick, truth)["clock"].standing, strict=True):
        tested = at[at >= begins]
        assert not stands[at < begins].any(), "training is over when the clock starts"
        assert stands[at >= begins].mean() == pytest.approx(0.75, abs=2 / len(tested)) and (np.diff(stands.astype(int)) >= 0).all()


@pytest.mark.parametrize("limit", [0.05, 0.5, 0.8, 0.99])
def test_the_random_score_raises_as_many_readings_as_the_winner(limit):
    score, tick, truth = fleet(assets=20)
    told = [s[(t >= b) & ~np.isnan(s)] for s, t, b in zip(score, tick, truth.begins, strict=True)]
    share = np.mean(np.concatenate(told) >= limit)
    raised = np.concatenate([s[~np.isnan(s)] >= 1 for s in rows_of(score, tick, truth, limit)["random score"].score])
    assert raised.mean() == pytest.approx(share, abs=0.02)


def test_the_random_score_finds_no_more_than_the_prevalence():
    score, tick, truth = fleet(assets=20)
    rows = rows_of(score, tick, truth)
    found = {n: point_metrics(b.score, 1.0, tick, truth, PROTOCOL, 1.0) for n, b in rows.items()}
    prevalence = found["always alarm"]["ap"][0]
    assert 0.2 < prevalence < 0.35 and found["random score"]["ap"][0] == pytest.approx(prevalence, abs=0.03)
    assert found["always alarm"]["far"][0] == 1.0 and found["always alarm"]["mar"][0] == 0.0
    always = count_events(rows["always alarm"].standing, tick, truth, PROTOCOL, 1.0)
    assert always.recall()[0] == 1.0 and (always.false > 5).all(), "what always alarms is wrong again with every horizon"


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(6)), st.integers(0, 5))
def test_neither_the_order_of_assets_nor_which_others_are_there_changes_a_row(order, seed):
    score, tick, truth = fleet()
    before = rows_of(score, tick, truth, seed=seed)
    after = rows_of([score[i] for i in order], [tick[i] for i in order], truth.some(np.array(order)), seed=seed)
    for name, b in before.items():
        for at, i in enumerate(order):
            np.testing.assert_array_equal(after[name].score[at], b.score[i])
            np.testing.assert_array_equal(after[name].standing[at], b.standing[i])
    if seed:
        assert not np.array_equal(rows_of(score, tick, truth)["random score"].score[0], before["random score"].score[0], equal_nan=True)


def test_assets_without_a_reading_are_borne():
    score, tick, truth = fleet(assets=2)
    rows = rows_of([np.full(len(s), np.nan) for s in score], tick, truth)
    assert all(np.isnan(s).all() for b in rows.values() for s in b.score)
    rows = rows_of(score, [t - 10_000 for t in tick], truth)
    assert not any(s.any() for s in rows["clock"].standing), "no tick of them is tested"


def by_age(make_history, protocol, lives: int, stray: list[tuple] = ()):
    """The row `age only` and the truth of test assets that fail every 60 cycles, so many times in one record; `stray` orders more."""
    ticks, history = make_history([60 * lives + 1] * 6, [""] * 6)
    orders = [(f"A{i:02}", 60.0 * (k + 1) + 1, "failure", 60.0 * (k + 1) + 1) for i in range(6) for k in range(lives)]
    history = replace(history, events=pl.DataFrame([*orders, *stray], schema=history.events.schema, orient="row"))
    split = ByAsset(test_share=0.34, folds=2)
    division = split.apply(ticks, None)
    training = Training.of(ticks, division, history, split)
    real = truth(ticks, history.events, history.contract, division.test)
    tick = [ticks.filter(pl.col("asset") == a)["tick"].to_numpy() for a in real.assets]
    row = baselines(training, tick, real, protocol, KofN())[0]
    assert row.name == "age only"
    return row, tick, real


def test_age_only_begins_anew_after_each_repair(make_history, protocol):
    row, tick, real = by_age(make_history, protocol, lives=3)
    for rul, at in zip(row.rul, tick, strict=True):
        age = np.where(at > 1, (at - 2) % 60 + 1, 0)
        np.testing.assert_allclose(rul, 60.0 - age, err_msg="every life lasts 60 cycles")
    found = count_events(row.standing, tick, real, protocol, 1.0)
    assert found.counted.tolist() == found.caught.tolist() == [3] * len(real.assets) and found.false.sum() == 0


def test_age_only_knows_nothing_of_orders_older_than_the_record(make_history, protocol):
    old = [(f"A{i:02}", -500.0, "failure", -500.0) for i in range(6)]
    (row, *_), (again, *_) = (by_age(make_history, protocol, 1, stray) for stray in ([], old))
    for name in ("rul", "standing"):
        assert all((a == b).all() for a, b in zip(getattr(row, name), getattr(again, name), strict=True))
    assert np.ptp(row.rul[0]) > 50
