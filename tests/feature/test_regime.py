"""Normalisation by regime: what it learns, from which ticks, and what it does with what it never saw."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmx.contract import Channel, Contract, DataError
from pmx.feature.features import FeatureSet
from pmx.feature.kernel import TrailingMean
from pmx.feature.regime import RegimeScore

from . import oracle
from .fleet import NOTHING, Graph, frame, same

CONTRACT = Contract(
    (Channel("load", "kW", "setting", 0.0, 100.0), Channel("a", "-"), Channel("b", "-"), Channel("n", "-", "counter")), "h", "life"
)
LOADS = (10.0, 50.0, 90.0)


def plant(length: int = 600, seed: int = 0, levels: tuple[float, ...] = LOADS) -> np.ndarray:
    """float64 [tick, channel]: channel `a` shifts and spreads with the load, `b` is constant at the second load, `n` counts one a tick."""
    rng = np.random.default_rng(seed)
    regime = rng.integers(0, len(levels), length)
    load = np.array(levels)[regime] + 0.3 * rng.normal(size=length)
    a = np.array([5.0, -40.0, 300.0])[regime] + np.array([0.1, 1.0, 7.0])[regime] * rng.normal(size=length)
    b = np.where(regime == 1, 2.0, rng.normal(size=length))
    return np.c_[load, a, b, np.ones(length)]


def fit(values: np.ndarray, contract: Contract = CONTRACT, **arguments) -> tuple[RegimeScore, pl.DataFrame]:
    ticks = frame({"A": values}, contract)
    return RegimeScore(**arguments).fit(ticks, contract), ticks


def by_graph(fitted: RegimeScore, contract: Contract, values: np.ndarray) -> np.ndarray:
    """Scores as the step graph computes them, float32 [tick, channel]: the mean of one tick is its score."""

    class Ready(RegimeScore):
        def fit(self, ticks, contract, each=False):
            return fitted

    graph = Graph(FeatureSet(Ready(), [TrailingMean(1)]).fit(NOTHING, contract))
    windows = np.full((len(values), graph.features.rows, values.shape[1]), np.nan, np.float32)
    windows[:, -1] = values
    return graph.run(windows, np.ones(len(values)), np.zeros((len(values), 0)))["features"]


def test_the_subsets_have_the_regimes_they_were_flown_in(engines):
    name, ticks, contract = engines
    train = ticks.filter(pl.col("asset").str.contains("train"))
    for seed in (0, 1):
        fitted = RegimeScore(seed=seed).fit(train, contract)
        assert len(fitted.centre_) == (6 if name == "FD002" else 1)
        still = [c.name for c in contract.channels if c.role == "measurement" and train[c.name].n_unique() == 1]
        assert not set(still) & set(fitted.channels_)
    if name == "FD001":
        assert still == ["T2", "P2", "epr", "farB", "Nf_dmd", "PCNfR_dmd"] and len(fitted.channels_) == 15
    scores = fitted.scores(train)
    moving = [c for c, varies in zip(fitted.channels_, np.isfinite(fitted.scale_).all(0), strict=True) if varies]
    unclipped = [c for c in moving if scores[c].abs().max() < fitted.clip]
    assert len(unclipped) > 8
    assert all(abs(scores[c].mean()) < 1e-4 and abs(scores[c].std() - 1) < 1e-3 for c in unclipped)


def test_means_and_deviations_are_those_of_the_regime():
    values = plant().astype(np.float32).astype(np.float64)
    fitted, _ = fit(values)
    assert fitted.channels_ == ["a", "b"] and fitted.settings_ == ["load"], "an increase that never changes tells nothing"
    order = np.argsort(fitted.centre_[:, 0])
    assert np.allclose(fitted.centre_[order, 0], LOADS, atol=0.1)
    for regime, level in zip(order, LOADS, strict=True):
        inside = [row for row in values if abs(row[0] - level) < 10]
        for j, column in ((0, 1), (1, 2)):
            mean = oracle.mean_of([r[column] for r in inside])
            spread = math.sqrt(math.fsum((r[column] - mean) ** 2 for r in inside) / len(inside))
            assert np.isclose(fitted.mean_[regime, j], mean, rtol=1e-12)
            assert np.isclose(fitted.scale_[regime, j], spread or np.inf, rtol=1e-12)


def test_scores_are_the_oracles_on_both_paths():
    fitted, _ = fit(plant())
    values = plant(300, seed=1)
    values[::7, 0], values[::5, 1], values[3, 1], values[4, 1], values[5, 2] = np.nan, np.nan, 1e9, -1e9, 3.0
    values = values.astype(np.float32).astype(np.float64)
    want = np.full((300, 2), np.nan)
    for t, row in enumerate(values):
        regime = oracle.nearest(row[:1], fitted.centre_, fitted.range_)
        for j in range(2 if regime is not None else 0):
            want[t, j] = oracle.score(row[1 + j], fitted.mean_[regime, j], fitted.scale_[regime, j], fitted.clip)
    table = fitted.scores(frame({"A": values}, CONTRACT)).select("a", "b").to_numpy()
    assert same(table, want).all()
    assert same(by_graph(fitted, CONTRACT, values), want.astype(np.float32)).all()
    assert table[3, 0] == 20.0 and table[4, 0] == -20.0 and np.isnan(table[::7]).all()


@settings(max_examples=40, deadline=None)
@given(
    load=st.floats(-50, 150, width=32) | st.just(math.nan),
    a=st.floats(allow_nan=True, allow_infinity=False, width=32),
    clip=st.sampled_from([1.0, 20.0]),
)
def test_no_reading_leaves_the_clip_or_parts_the_paths(load, a, clip):
    fitted, _ = fit(plant(90), clip=clip)
    values = np.array([[load, a, 0.5, 1.0]])
    table = fitted.scores(frame({"A": values}, CONTRACT)).select("a", "b").to_numpy()
    assert same(by_graph(fitted, CONTRACT, values), table.astype(np.float32)).all()
    assert (np.abs(table[~np.isnan(table)]) <= clip).all()
    assert np.isnan(table[0, 0]) == (math.isnan(load) or math.isnan(a))


def test_with_one_regime_a_missing_setting_costs_nothing():
    fitted, _ = fit(plant(levels=(50.0,)))
    assert len(fitted.centre_) == 1
    values = plant(5, levels=(50.0,))
    values[:, 0] = np.nan
    assert not np.isnan(by_graph(fitted, CONTRACT, values)).any()
    assert fitted.scores(frame({"A": values}, CONTRACT))["a"].null_count() == 0


def test_it_learns_only_from_the_ticks_it_is_given():
    fitted, ticks = fit(plant())
    before = {k: np.array(v) for k, v in vars(fitted).items() if k.endswith("_")}
    fitted.scores(ticks.with_columns(pl.col("a") * 100))
    assert all((before[k] == np.array(v)).all() for k, v in vars(fitted).items() if k.endswith("_"))
    unfitted = RegimeScore()
    unfitted.fit(ticks, CONTRACT)
    assert not [k for k in vars(unfitted) if k.endswith("_")], "fit returns a copy: folds must not see each other"
    more = pl.concat([ticks, ticks.with_columns(pl.col("a") + 50.0)])
    assert (RegimeScore().fit(more.head(len(ticks)), CONTRACT).mean_ == fitted.mean_).all()
    assert not np.allclose(RegimeScore().fit(more, CONTRACT).mean_, fitted.mean_)


def test_the_order_of_rows_changes_the_names_of_regimes_at_most():
    values = plant()
    fitted, ticks = fit(values)
    other, _ = fit(values[np.random.default_rng(1).permutation(len(values))])
    assert np.allclose(fitted.scores(ticks)["a"].to_numpy(), other.scores(ticks)["a"].to_numpy(), atol=1e-5)
    again, _ = fit(values)
    assert (fitted.mean_ == again.mean_).all() and (fitted.centre_ == again.centre_).all()


@pytest.mark.parametrize(
    ("level", "spread", "kept"),
    [(1e4, 0.5, True), (1e-3, 1e-6, True), (0.0, 1e-9, True), (1e4, 0.0, False), (0.1, 0.0, False), (0.0, 0.0, False), (1e7, 1.0, False)],
)
def test_a_channel_is_constant_by_its_own_size_not_by_its_unit(level, spread, kept):
    """1e7 with a deviation of 1 is float32's own rounding; a micrometre told in metres is a signal."""
    contract = Contract((Channel("a", "-"), Channel("b", "-")), "h", "life")
    values = np.c_[level + spread * np.random.default_rng(0).normal(size=500), np.arange(500)]
    fitted, ticks = fit(values, contract)
    assert fitted.channels_ == (["a", "b"] if kept else ["b"])
    if kept:
        assert abs(fitted.scores(ticks)["a"].std() - 1) < 0.01


def test_channels_without_values_settings_without_values_and_no_settings():
    values = plant()
    values[:, 2] = np.nan
    assert fit(values)[0].channels_ == ["a"]
    values[:, 0] = np.nan
    fitted, ticks = fit(values)
    assert len(fitted.centre_) == 1 and fitted.scores(ticks)["a"].null_count() == 0
    bare = Contract((Channel("a", "-"),), "h", "life")
    fitted, ticks = fit(values[:, 1:2], bare)
    assert fitted.settings_ == [] and fitted.scores(ticks)["a"].null_count() == 0
    assert same(by_graph(fitted, bare, values[:, 1:2])[:, 0], fitted.scores(ticks)["a"].to_numpy().astype(np.float32)).all()
    with pytest.raises(DataError, match="none of the 1 measurements varies over 4 ticks"):
        fit(np.ones((4, 1)), bare)


def test_settings_without_a_valid_range_are_measured_by_their_deviation_and_regimes_stay_few():
    free = Contract((Channel("load", "kW", "setting"), *CONTRACT.channels[1:]), "h", "life")
    assert len(fit(plant(), free)[0].centre_) == 3
    anywhere = plant()
    anywhere[:, 0] = np.random.default_rng(2).uniform(0, 100, len(anywhere))
    assert len(fit(anywhere, most=4)[0].centre_) == 4


def test_a_wide_setting_does_not_drown_a_narrow_one():
    """Nearest means nearest as a share of each setting's range: 15 of 1000 is less than half of 1."""
    channels = (Channel("narrow", "-", "setting", 0.0, 1.0), Channel("wide", "-", "setting", 0.0, 1000.0), Channel("a", "-"))
    contract, rng = Contract(channels, "h", "life"), np.random.default_rng(0)
    regime = rng.integers(0, 2, 400)
    values = np.c_[regime, 500 + 15 * rng.normal(size=400), np.where(regime, 100.0, -100.0) + rng.normal(size=400)]
    fitted, ticks = fit(values, contract)
    assert len(fitted.centre_) == 2
    scores = fitted.scores(ticks)["a"].to_numpy()
    assert np.abs(scores).max() < 5 and same(by_graph(fitted, contract, values)[:, 0], scores.astype(np.float32)).all()


def test_settings_that_tell_assets_apart_are_no_regimes():
    """Three machines, each with a load of its own that it never leaves: a regime of one asset has no evidence, and none would have any."""
    alone = {name: plant(200, seed=i, levels=(load,)) for i, (name, load) in enumerate(zip("ABC", LOADS, strict=True))}
    assert len(RegimeScore().fit(frame(alone, CONTRACT), CONTRACT).centre_) == 1
    shared = RegimeScore().fit(frame(alone | {"D": plant(200, seed=3, levels=LOADS[:1])}, CONTRACT), CONTRACT)
    assert len(shared.centre_) == 3, "two of them run alike: the others keep a regime of their own"
    assert len(RegimeScore().fit(frame({"A": plant(200)}, CONTRACT), CONTRACT).centre_) == 3, "a single asset shares with none"
