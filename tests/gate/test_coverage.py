"""The coverage gate passes what the data cannot contradict, and refuses what they do."""

import numpy as np
import pytest

from pmx.evaluate.bound import Bounds, interval_metrics
from pmx.evaluate.interval import share
from pmx.evaluate.part import Parts
from pmx.evaluate.protocol import Protocol, Truth
from pmx.evaluate.report import Row
from pmx.gate.coverage import coverage


def row(hits: int, of: int) -> Row:
    return Row("winner", {}, None, (np.nan,) * 3, more={"coverage_last": share(hits, of), "interval_width_last": (20.0, np.nan, np.nan)})


@pytest.mark.parametrize(
    "hits, of, passes", [(90, 100, True), (82, 100, True), (75, 100, False), (96, 100, True), (300, 300, False), (5, 5, True), (0, 0, True)]
)
def test_it_refuses_what_lies_outside_beyond_doubt(hits, of, passes):
    gate = coverage(row(hits, of))
    assert gate.passed == passes and gate.name == "coverage"
    assert passes or ("too seldom" if hits < of else "wider") in gate.culprit


def test_a_row_without_intervals_has_nothing_to_judge():
    assert coverage(Row("winner", {}, None, (np.nan,) * 3)).passed


def test_where_all_were_watched_until_they_failed_the_readings_before_it_count():
    more = {"coverage_last": (np.nan,) * 3, "coverage_near": (0.7, 0.6, 0.8), "interval_width": (20.0, np.nan, np.nan)}
    assert not coverage(Row("winner", {}, None, (np.nan,) * 3, more=more)).passed
    assert coverage(Row("winner", {}, None, (np.nan,) * 3, more=more | {"coverage_near": (0.85, 0.8, 0.9)})).passed


def watched(assets: int, cut: int, half: float) -> Row:
    """Assets of 200 cycles, all but `cut` of them watched until they fail; intervals reach `half` to both sides of 10 cycles too many."""
    tick = [np.arange(180 if i < cut else 201) for i in range(assets)]
    none, start = [np.zeros(0)] * assets, np.zeros(assets)
    truth = Truth(
        [f"{i:03}" for i in range(assets)], [np.array([200.0])] * assets, none, np.array([t[-1] for t in tick], float), start, start
    )
    told = [np.minimum(200.0 - t, 100.0) + 10 for t in tick]
    bounds = Bounds([np.stack([t - half, t + half], axis=1) for t in told])
    found, parts = interval_metrics(bounds, tick, truth, Protocol(100, 30, 5, draws=50), 1.0)
    return Row("winner", {}, None, (np.nan,) * 3, more=found, parts=Parts(tuple(truth.assets), parts))


@pytest.mark.parametrize("assets, half, passes", [(2, 15, True), (3, 15, True), (12, 15, False), (2, 5, False), (12, 5, False)])
def test_two_assets_that_agree_are_no_proof(assets, half, passes):
    assert coverage(watched(assets, 0, half)).passed == passes


def test_one_asset_that_was_cut_does_not_speak_for_all_that_failed():
    row = watched(12, 1, 5)
    assert row.more["coverage_last"][2] > 0.5, "of one asset nothing is sure"
    assert not coverage(row).passed
    assert "nothing to judge" in coverage(watched(1, 1, 5)).detail, "one honest interval in ten misses"


def rare(assets: int, seen: bool) -> Row:
    """Each asset fails once in 40 readings, which nothing tells: the intervals of a cap of 1 leave out one failure in two, and hold 0.9
    of the readings that they place below the cap; or, where `seen` is false, nothing of what fails and no word of it.
    """
    tick, none, start = [np.arange(41)] * assets, [np.zeros(0)] * assets, np.zeros(assets)
    names, end = [f"{i:03}" for i in range(assets)], np.full(assets, 40.0)
    truth = Truth(names, [np.array([40.0])] * assets, none, end, start, start)
    low = np.ones((assets, 41))
    low[:, 32:40] = 0.5 if seen else 1.0  # ahead of the failure, and of half of the failures themselves
    low[: assets // 2, 40] = 0.0 if seen else 1.0
    low[assets // 2 :, 40] = 0.5 if seen else 1.0
    bounds = Bounds([np.stack([each, np.ones(41)], axis=1) for each in low])
    found, parts = interval_metrics(bounds, tick, truth, Protocol(1, 1, 0, draws=50), 1.0)
    return Row("winner", {}, None, (np.nan,) * 3, more=found, parts=Parts(tuple(names), parts))


def test_failures_that_nothing_tells_are_no_fault_of_intervals_that_keep_their_word():
    gate = coverage(rare(40, seen=True))
    assert gate.figures["coverage"] == 0.5 and gate.figures["coverage_told"] == pytest.approx(1 - 0.5 / 9)
    assert gate.passed and "do where the interval says that less than the cap may be left" in gate.detail


def test_intervals_that_never_speak_of_a_failure_are_refused():
    gate = coverage(rare(40, seen=False))
    assert not gate.passed and "too seldom" in gate.culprit and gate.figures["coverage"] == 0.0


def test_intervals_that_place_readings_below_the_cap_wrongly_are_refused():
    gate = coverage(watched(12, 0, 5))
    assert not gate.passed and gate.figures["coverage_told"] == gate.figures["coverage"] < 0.1


def test_few_assets_can_only_teach_wide_intervals_and_are_not_refused_for_them():
    wide = watched(40, 0, 60)
    assert wide.more["coverage_near"][0] == 1.0 and not coverage(wide).passed and not coverage(wide, taught=19).passed
    gate = coverage(wide, taught=12)
    assert gate.passed and "12 assets taught how wide it must be" in gate.detail
    assert not coverage(watched(12, 0, 5), taught=12).passed, "too narrow is too narrow"
