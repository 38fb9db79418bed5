"""Trailing windows over a history in numpy: the definitions, wherever a stretch begins, and sums in the step graph's order."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmx.feature import rolling
from pmx.feature.kernel import Deviation
from pmx.feature.rolling import SORTED, Stretch, stretches
from pmx.feature.statistic import Maximum, Median, Minimum, PeakToPeak, Quantile

from . import oracle
from .fleet import frame, plain, same


def history(seed: int, ticks: int, missing: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    z = np.round(rng.normal(size=(ticks, 2)), rng.integers(0, 4)).astype(np.float32).astype(np.float64)
    z[rng.random(z.shape) < missing] = np.nan
    return z


def oldest_first(z: np.ndarray, window: int) -> np.ndarray:
    """Sums of squared distances from the mean, both added one tick after the other."""
    out = np.zeros(z.shape)
    for t, c in np.ndindex(z.shape):
        values, total = oracle.present(z[:, c], t - window + 1, t + 1), 0.0
        for value in values:
            total += value
        for value in values:
            distance = value - total / len(values)
            out[t, c] += distance * distance
    return out


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 99), ticks=st.integers(1, 40), window=st.integers(1, 20), missing=st.sampled_from([0.0, 0.1, 0.9]), data=st.data()
)
def test_a_stretch_gives_the_numbers_of_the_definitions(seed, ticks, window, missing, data):
    z, share = history(seed, ticks, missing), data.draw(st.sampled_from([0.0, 0.1, 0.5, 0.75, 1.0]))
    older = data.draw(st.integers(window - 1, 25))
    got = Stretch(np.concatenate([np.full((older, 2), np.nan), z]), older, {window: {share, 0.5}})
    squares = np.broadcast_to(oldest_first(z, window), z.shape)
    for t, c in np.ndindex(z.shape):
        values = oracle.present(z[:, c], t - window + 1, t + 1)
        assert np.broadcast_to(got.count(window), z.shape)[t, c] == len(values)
        assert got.least(window)[t, c] == min(values, default=math.inf) and got.most(window)[t, c] == max(values, default=-math.inf)
        assert got.squares(window)[t, c] == squares[t, c], "another order of addition"
        want = oracle.quantile(values, share) if values else math.nan
        assert got.quantile(window, share)[t, c] == want or (math.isnan(want) and math.isnan(got.quantile(window, share)[t, c]))


@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_where_a_stretch_begins_changes_nothing(missing, monkeypatch):
    features = plain([Deviation(9), Minimum(30), Maximum(4), PeakToPeak(1), Median(30), Quantile(30, 0.2), Quantile(7, 0.9)])
    ticks = frame({"A": history(1, 150, missing), "B": history(2, 12, missing)})
    whole = features.table(ticks)
    for values in (1, 14, 100):
        monkeypatch.setattr(rolling, "VALUES", values)
        assert same(features.table(ticks), whole).all()


def test_stretches_cover_a_life_once_and_incomplete_windows_are_apart():
    made = list(stretches(np.ones((100, 2)), 30, {}))
    assert np.concatenate([np.arange(100)[at] for at, _ in made]).tolist() == list(range(100))
    assert [stretch.complete(30) for _, stretch in made] == [False, True] and made[0][0] == slice(0, 29)
    assert [at for at, _ in stretches(np.ones((3, 2)), 30, {})] == [slice(0, 3)]


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("missing", [0.0, 0.2, 0.95])
def test_sorting_gives_what_polars_gives_for_longer_windows(share, missing):
    """On both sides of the length up to which windows are sorted the same definition holds."""
    assert Median(SORTED).polars([]) is None and Quantile(SORTED + 1, share).polars([]) == []
    z = history(3, 200, missing)
    table = plain([Quantile(30, share)]).table(frame({"A": z.astype(np.float32)}))
    e = pl.col("a").rolling_quantile(share, interpolation="linear", window_size=30, min_samples=1)
    want = frame({"A": z.astype(np.float32)}).with_columns(pl.col("a").cast(pl.Float64)).select(e)["a"].to_numpy()
    assert same(table[:, 0], want.astype(np.float32)).all()


def test_a_subclass_with_expressions_of_its_own_is_computed_by_them():
    class Ahead(Median):
        def polars(self, z):
            return [e.shift(-1) for e in z]

    z = history(4, 20, 0.0).astype(np.float32)
    table = plain([Ahead(3), Median(4)]).table(frame({"A": z}))
    assert same(table[:-1, :2], z[1:]).all() and not same(table[:-1, 2:], z[1:]).all()
