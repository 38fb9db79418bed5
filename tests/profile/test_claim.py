"""0, 5 and 40 failures lead to three claims; the intervals are those of their formulas."""

from math import sqrt

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmx.evaluate.interval import share
from pmx.profile.claim import ENOUGH, claim_of, to_halve
from tests.profile.fleet import events, of, profiled, rows


def fleet_with(failures: int):
    frame = rows(assets=40, days=4)
    log = events([f"P{i:02}" for i in range(failures)], [90.0 + 0.1 * i for i in range(failures)])
    return profiled(frame, log)


@pytest.mark.parametrize(
    "failures, task, recall, rmse, told",
    [
        (0, "anomaly", False, False, "no recall can be claimed"),
        (5, "anomaly", True, False, "judged by 5 failures"),
        (40, "rul", True, True, "from 40 lives ended by failure"),
    ],
)
def test_three_claims(failures: int, task: str, recall: bool, rmse: bool, told: str):
    profile = fleet_with(failures)
    claim = profile.claim
    assert (claim.task, claim.recall is not None, claim.rmse is not None, claim.failures) == (task, recall, rmse, failures)
    assert told in claim.headline
    if failures == 0:
        assert profile.wants[0] == "dates of failures: none of 40 pumps has an order, and no episode is labelled"
    if failures == 5:
        assert profile.wants[0].startswith("15 more failures") and any("orders of 35 pumps without any" in w for w in profile.wants)


@given(st.integers(1, 400), st.integers(1, 400))
def test_the_intervals_are_those_of_the_formulas(failures: int, assets: int):
    claim = claim_of(failures, min(failures, assets), 0, "pumps")
    assert claim.recall == share(round(0.8 * failures), failures)
    assert (claim.rmse is None) == (failures < ENOUGH)
    if claim.rmse is not None:
        assert claim.rmse == pytest.approx(1.96 / sqrt(2 * min(failures, assets))) and claim.rmse_test >= claim.rmse


@given(st.integers(1, 300))
def test_more_failures_halve_the_interval_and_not_much_fewer_do(n: int):
    def width(k: int) -> float:
        return share(round(0.8 * k), k)[2] - share(round(0.8 * k), k)[1]

    more = to_halve(n)
    assert width(n + more) <= width(n) / 2 and 1.5 * n <= more <= 4 * n + 12


def test_the_rmse_formula_against_simulation():
    drawn = np.random.default_rng(0).normal(size=(4000, 50))
    assert np.std(np.sqrt((drawn**2).mean(1))) == pytest.approx(1 / sqrt(2 * 50), rel=0.05)


def test_labelled_episodes_judge_in_place_of_failures():
    claim = claim_of(0, 0, 15, "runs")
    assert claim.task == "anomaly" and claim.recall == share(12, 15) and "15 labelled episodes" in claim.headline


def test_failures_far_from_the_readings_teach_nothing():
    frame = rows(assets=3, days=10)  # 240 hours
    log = events(["P00", "P01", "P02", "P02", "P9"], [100.0, -2000.0, 300.0, 2000.0, 50.0])
    orders = profiled(frame, log).orders
    assert (orders.inside, orders.before, orders.after, orders.taught) == (1, 1, 2, 2)
    assert (orders.early, orders.late, orders.strangers, orders.silent, orders.failed) == (1, 2, ["P9"], [], ["P00", "P02"])
    wants = profiled(frame, log).wants
    assert any("only the orders name (P9)" in w for w in wants) and any(w.startswith("older readings: 1 failures") for w in wants)


def test_a_gap_that_a_run_refuses_stops_no_profile():
    frame = rows(assets=2, days=2)
    far = frame.with_columns(hour=pl.when(pl.col("hour") > 40).then(pl.col("hour") + 2_000_000).otherwise("hour"))
    profile = profiled(far)
    assert profile.record.grid.long_gaps == 2 and profile.assets["running"].to_list() == [48.0, 48.0]
    assert profile.sampling.longest == pytest.approx(2_000_000.5) and any("a run refuses them" in w for w in profile.wants)


@pytest.mark.real_data("skab")
def test_the_real_pump_has_episodes_and_no_failures(data_root):
    skab = pytest.importorskip("pmx.source.skab")
    profile = of(skab.Skab(str(data_root / "skab")).load())
    assert profile.claim.task == "anomaly" and profile.claim.failures == 0 and profile.claim.recall is not None
    assert all(c.usable for c in profile.channels) and profile.sampling.distance == 1.0 and not profile.operation.settings
