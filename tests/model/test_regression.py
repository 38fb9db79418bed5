"""Normal-behaviour regression: finds what stops following, survives what is dirty, and the graph gives the same bits."""

import copy

import numpy as np
import onnxruntime
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pmx.contract import DataError, UsageError
from pmx.model.regression import Line, Regression
from pmx.model.residual import newest
from pmx.model.trees import check_acyclic
from tests.model.lagged import CHANNELS, LAGS, WIDTH, decorrelated, graph_of, names, readings, run, separation, shifted, vectors


def fitted(z: np.ndarray, **settings) -> Regression:
    model = Regression(lags=LAGS, **({"trees": 20} | settings))
    model.fit(vectors(z), np.zeros(z.shape[0] * z.shape[1]), names(z))
    return model


def holed(z: np.ndarray, share: float = 0.1) -> np.ndarray:
    out = z.copy()
    out[np.random.default_rng(3).random(z.shape) < share] = np.nan
    return out


MODEL = fitted(holed(readings()))
GRAPH = graph_of(MODEL)
SESSION = onnxruntime.InferenceSession(GRAPH)


def awkward() -> np.ndarray:
    x = vectors(holed(readings(1, assets=2)))[:200].copy()
    x[0], x[1], x[2, :CHANNELS], x[3] = np.nan, 0.0, np.nan, 1e-36
    x[4, 0], x[5], x[6, CHANNELS:] = 3e38, np.inf, -np.inf
    for row, (feature, values) in zip(x[10:], MODEL.thresholds().items(), strict=False):
        row[feature] = np.float32(values[0])
    return x


def test_the_graph_gives_the_very_bits_whatever_the_batch():
    x = awkward()
    want = MODEL.score(x)
    assert MODEL.exact and want.dtype == np.float64 and want.shape == (200,)
    assert np.array_equal(run(GRAPH, x), want, equal_nan=True)
    assert np.array_equal(np.concatenate([run(GRAPH, r[None]) for r in x[:32]]), want[:32], equal_nan=True)
    assert np.array_equal(run(GRAPH, x[:32]), want[:32], equal_nan=True)
    assert np.array_equal(MODEL.score(x[::-1])[::-1], want, equal_nan=True) and MODEL.score(x[:0]).shape == (0,)
    assert check_acyclic(GRAPH) > 0


BOUNDLESS = np.zeros((2, WIDTH), np.float32)
BOUNDLESS[1, CHANNELS - 2] = np.inf  # a node that asks whether there is a value at all: infinity is one


@settings(max_examples=50, deadline=None)
@example(x=BOUNDLESS)
@given(x=hnp.arrays(np.float32, (2, WIDTH), elements=st.floats(width=32)))
def test_any_row_scores_alike_and_only_an_empty_tick_has_no_score(x):
    want = MODEL.score(x)
    assert np.array_equal(SESSION.run(None, {"x": x})[0], want, equal_nan=True)
    assert (np.isnan(want) == np.isnan(x[:, :CHANNELS]).all(1)).all()


def test_a_channel_that_stops_following_and_one_that_shifts_are_found():
    z = readings(2)
    normal = MODEL.score(vectors(z))
    assert separation(normal, MODEL.score(vectors(decorrelated(z)))) > 0.85
    assert separation(normal, MODEL.score(vectors(shifted(z)))) > 0.95


def test_a_fault_beyond_all_that_was_seen_is_found_where_trees_alone_stand_still():
    z = readings(2)
    far = z.copy()
    far[..., 1] += 8.0
    scores = [MODEL.score(vectors(shifted(z, by=by))).mean() for by in (0.0, 1.0, 2.0)]
    assert scores[0] < scores[1] < scores[2] < MODEL.score(vectors(far)).mean()


@pytest.mark.parametrize("spoil", [decorrelated, shifted])
def test_a_fifth_of_faulty_rows_in_the_fit_is_survived(spoil):
    z = readings()
    z[:, 120:] = spoil(z)[:, 120:]
    model, other = fitted(z), readings(2)
    assert separation(model.score(vectors(other)), model.score(vectors(spoil(other)))) > 0.8


def test_trimming_drops_the_faulty_rows():
    z = readings()
    z[:, :15] = shifted(z, by=6.0)[:, :15]
    clean, other = fitted(readings()), readings(2)
    apart = [np.abs(fitted(z, trim=trim).line_.tell(vectors(other)) - clean.line_.tell(vectors(other))).mean() for trim in (0.0, 0.15)]
    assert apart[1] < 0.5 * apart[0]


def test_a_spike_in_one_channel_does_not_dominate():
    x = vectors(readings(2))[200:201].repeat(3, axis=0)
    x[1, 0], x[2, 0] = 50.0, 1e9
    score = MODEL.score(x)
    assert score[1] == score[2]
    x[:, 0] = np.nan
    alone = (score[1:] * CHANNELS - 25.0).max()  # what the spike adds through the other channels
    assert alone < 25.0 * (CHANNELS - 1)
    assert MODEL.score(x)[0] < 5.0, "without the channel, the tick is normal"


def test_the_channel_itself_is_never_read():
    for c, booster in MODEL.boosters_.items():
        used = {int(i) for i in np.flatnonzero(booster.feature_importance())}
        assert used and not [i for i in used if i % CHANNELS == c]
        assert (MODEL.line_.weight[c::CHANNELS, c] == 0).all()


def test_the_spread_is_that_of_rows_that_were_not_fitted_on():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, WIDTH)).astype(np.float32)  # nothing to learn: the residual is the reading
    model = Regression(lags=LAGS, trees=60, num_leaves=31, min_child_samples=2, learning_rate=0.3, trim=0.0, ridge=1e-6)
    model.fit(x, np.zeros(300), np.repeat([f"P{i}" for i in range(6)], 50))
    assert (model.spread_ > 0.9).all()


def test_the_seed_and_nothing_else_decides():
    z = holed(readings(ticks=60))
    first, again, threaded, other = fitted(z), fitted(z), fitted(z, threads=2), fitted(z, seed=1)
    assert graph_of(first) == graph_of(again) == graph_of(threaded) != graph_of(other)


def test_the_order_of_channels_changes_little():
    z, order = readings(ticks=80), np.array([3, 1, 5, 0, 4, 2])
    a, b = fitted(z).score(vectors(z)), fitted(z[..., order]).score(vectors(z[..., order]))
    assert np.corrcoef(a, b)[0, 1] > 0.95, "trees break ties by number, the line does not"


def test_constant_empty_and_copied_channels_do_no_harm():
    z = readings(ticks=60)
    z[..., 0], z[..., 3], z[..., 5] = 0.0, np.nan, z[..., 4]
    model = fitted(z)
    x = vectors(z)
    score, graph = model.score(x), graph_of(model)
    assert np.isfinite(score).all() and np.array_equal(run(graph, x), score) and np.isinf(model.spread_[3])
    x[:, 3] = 99.0  # a channel that never had a value says nothing when it has one
    assert np.array_equal(model.score(x), score) and np.array_equal(run(graph, x), score)
    x[:, :CHANNELS] = np.nan
    x[:, 3] = 1.0
    assert np.isnan(model.score(x)).all() and np.isnan(run(graph, x)).all()


@pytest.mark.parametrize("lags", [1, 4])
def test_a_single_channel_is_measured_by_its_distance_from_its_mean(lags):
    z = np.random.default_rng(0).normal(size=(1, 200, 1))
    model = Regression(lags=lags, trees=3)
    model.fit(vectors(z, lags), np.zeros(200), np.repeat("A", 200))
    x = np.zeros((3, lags), np.float32)
    x[:, 0] = 0.0, 2.0, -4.0
    score = model.score(x)
    assert score[0] < score[1] < score[2] and np.array_equal(run(graph_of(model, lags), x), score)


def test_leaves_and_thresholds_are_those_of_all_boosters():
    x = awkward()
    assert MODEL.leaves(x).shape == (200, 20 * CHANNELS)
    written = set()
    for booster in MODEL.boosters_.values():
        for line in booster.model_to_string().splitlines():
            if line.startswith("threshold="):
                written |= {min(float(t), 1e300) for t in line.partition("=")[2].split()}
    assert {t for values in MODEL.thresholds().values() for t in values} == written


def test_other_vectors_settings_and_too_little_data_are_refused_in_words():
    with pytest.raises(UsageError, match=r"lags=4 .*feature=lags"):
        Regression(lags=4).fit(np.zeros((20, 6), np.float32), np.zeros(20), np.repeat("A", 20))
    for wrong in ({"lags": 0}, {"trim": 0.6}, {"smooth": -1.0}, {"ridge": 0.0}, {"num_leaves": 1}, {"learning_rate": 2.0}, {"threads": 0}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            Regression(**wrong)
    with pytest.raises(DataError, match="1 of 20 healthy ticks"):
        Regression(lags=1).fit(np.where(np.arange(20) == 3, 1.0, np.nan).astype(np.float32)[:, None], np.zeros(20), np.repeat("A", 20))
    few = Regression(lags=1, trees=2)
    few.fit(np.array([[1.0, 2.0], [2.0, 1.0]], np.float32), np.zeros(2), np.array(["A", "B"]))
    assert np.isfinite(few.score(np.zeros((1, 2), np.float32))).all()


def test_a_fit_changes_neither_its_data_nor_its_settings():
    x = vectors(readings(ticks=30))
    before, model = x.copy(), Regression(lags=LAGS, trees=2, smooth=7.0)
    settings = copy.deepcopy(vars(model))
    model.fit(x, np.zeros(len(x)), np.repeat("A", len(x)))
    assert np.array_equal(x, before, equal_nan=True) and model.smooth == 7.0 and MODEL.smooth == 0.0
    assert {k: vars(model)[k] for k in settings} == settings and not [k for k in settings if k.endswith("_")]


def test_the_line_solves_the_ridge_equations():
    x = vectors(readings(3, ticks=100), 1)
    now = newest(x, 1)
    line = Line.of(x, now, ridge=0.01)
    a = line.inputs(x)
    for c in range(CHANNELS):
        left = now[:, c] - now[:, c].mean() - a @ line.weight[:, c]
        others = np.arange(CHANNELS) != c
        assert np.allclose(a[:, others].T @ left, 0.01 * len(x) * line.weight[others, c], atol=1e-6)
