"""Intervals from out-of-fold residuals: they hold what they claim on assets they never saw, and say nothing without evidence."""

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spox import Tensor, argument, build

from pmx.pack.margin import COVERAGE, NEW, Margins

CAP = 125.0


def fleet(seed: int, assets: int = 120, ticks: int = 40, regimes: int = 1) -> tuple[np.ndarray, ...]:
    """Estimates, truths, assets and regimes; an asset's errors share an offset, are larger the further the failure, and differ by regime."""
    rng = np.random.default_rng(seed)
    asset, regime = np.repeat(np.arange(assets), ticks), rng.integers(0, regimes, assets * ticks)
    truth = rng.uniform(5, 120, assets * ticks)
    error = (rng.normal(size=assets)[asset] + 0.5 * rng.normal(size=len(asset))) * (2 + truth / 10) * (1 + regime)
    return truth + error, truth, asset.astype(str), regime


@pytest.mark.parametrize("regimes", [1, 3])
def test_coverage_on_other_assets_is_what_is_claimed(regimes):
    held = []
    for seed in range(10):
        estimate, truth, asset, regime = fleet(seed, regimes=regimes)
        margins = Margins.of(estimate, truth, asset, regime, regimes, CAP)
        other, real, _, there = fleet(100 + seed, regimes=regimes)
        low, high = margins.around(other, there).T
        inside = (low <= real) & (real <= high)
        held.append([inside[(other > a) & (other <= b) & (there == g)].mean() for a, b in ((0, 60), (60, 200)) for g in range(regimes)])
    assert (np.abs(np.mean(held, 0) - COVERAGE) < 0.05).all(), "near and far from the failure, in every regime"


def test_a_regime_without_evidence_answers_nothing_and_an_unknown_one_the_pooled_interval():
    estimate, truth, asset, regime = fleet(0, regimes=2)
    margins = Margins.of(estimate, truth, asset, np.where(regime == 1, 2, 0), 3, CAP)
    ends = margins.around(np.full(5, 50.0), np.array([0, 1, 2, -1, NEW]))
    assert np.isnan(ends).any(1).tolist() == [False, True, False, False, True]
    assert ends[0, 0] > ends[3, 0] > ends[2, 0], "the pooled interval is as wide as the mixture"


def test_an_asset_counts_once_however_long_it_was_watched():
    """One asset with five thousand awkward ticks moves the ends no further than one asset may: past a few of the others' residuals."""
    estimate, truth, asset, regime = fleet(1, assets=60, ticks=10)
    more = np.full(5000, 60.0), np.full(5000, 10.0), np.repeat("7", 5000), np.zeros(5000, int)
    loud = [np.concatenate(both) for both in zip((estimate, truth, asset, regime), more, strict=True)]
    (low, _), (moved, _) = (
        Margins.of(*rows, 1, CAP).around(np.array([60.0]), np.array([0]))[0] for rows in ((estimate, truth, asset, regime), loud)
    )
    assert low - 20 < moved <= low, "by ticks, the end would lie at -50"


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 50), assets=st.integers(1, 60), regimes=st.integers(1, 3))
def test_the_graph_gives_the_very_same_ends(seed, assets, regimes):
    estimate, truth, asset, regime = fleet(seed, assets, 12, regimes)
    margins = Margins.of(estimate, truth, asset, regime, regimes, CAP)
    rng = np.random.default_rng(seed)
    point = np.r_[rng.uniform(-5, 130, 40), margins.edges, np.nan]
    there = rng.integers(-2, regimes, len(point))
    told, regime_in = argument(Tensor(np.float64, ("asset", 1))), argument(Tensor(np.int64, ("asset", 1)))
    low, high = margins.nodes(told, regime_in)
    graph = onnxruntime.InferenceSession(build({"point": told, "regime": regime_in}, {"low": low, "high": high}).SerializeToString())
    ends = np.concatenate(graph.run(None, {"point": point[:, None], "regime": there[:, None]}), axis=1)
    assert np.array_equal(ends[:-1], margins.around(point, there)[:-1], equal_nan=True) and np.isnan(ends[-1]).all()


def test_without_any_known_life_nothing_is_claimed():
    nothing = np.full(4, np.nan)
    margins = Margins.of(np.ones(4), nothing, np.array(list("ABCD")), np.zeros(4, int), 1, CAP)
    assert np.isnan(margins.around(np.ones(1), np.zeros(1, int))).all()
