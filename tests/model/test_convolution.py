"""The convolutional autoencoder: sees no later tick, finds what stops following and what shifts, and its graph says the same."""

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from spox import Tensor, argument, build

from pmx.contract import DataError, UsageError
from pmx.model import convolution
from pmx.model.convolution import CausalAutoencoder, Convolution
from tests.model.lagged import CHANNELS, LAGS, WIDTH, decorrelated, graph_of, names, readings, run, separation, shifted, vectors

QUICK = {"lags": LAGS, "hidden": 16, "squeeze": 3, "epochs": 15}


def fitted(z: np.ndarray, **settings) -> CausalAutoencoder:
    model = CausalAutoencoder(**(QUICK | settings))
    model.fit(vectors(z), np.zeros(z.shape[0] * z.shape[1]), names(z))
    return model


def close(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.allclose(a, b, rtol=1e-9, atol=1e-9, equal_nan=True)) and a.shape == b.shape and a.dtype == b.dtype


@pytest.fixture(scope="module")
def model() -> CausalAutoencoder:
    z = readings()
    z[np.random.default_rng(3).random(z.shape) < 0.02] = np.nan
    return fitted(z)


@pytest.fixture(scope="module")
def session(model):
    return onnxruntime.InferenceSession(graph_of(model))


def test_the_graph_says_what_the_model_says_whatever_the_batch(model, session):
    x = vectors(readings(1, assets=1))[:64].copy()
    x[0], x[1], x[2, :CHANNELS], x[3, CHANNELS:] = np.nan, 0.0, np.nan, np.nan
    x[4, 0], x[5], x[6] = 3e38, np.inf, -np.inf
    want = model.score(x)
    assert want.dtype == np.float64 and np.isnan(want).nonzero()[0].tolist() == [0, 2]
    assert close(session.run(None, {"x": x})[0], want)
    assert close(np.concatenate([session.run(None, {"x": r[None]})[0] for r in x[:32]]), want[:32])
    assert close(session.run(None, {"x": x[:32]})[0], want[:32]) and model.score(x[:0]).shape == (0,)


@settings(max_examples=50, deadline=None)
@given(x=hnp.arrays(np.float32, (2, WIDTH), elements=st.floats(width=32)))
def test_any_row_scores_alike_and_only_an_empty_tick_has_no_score(model, session, x):
    want = model.score(x)
    assert close(session.run(None, {"x": x})[0], want)
    assert (np.isnan(want) == np.isnan(x[:, :CHANNELS]).all(1)).all()


def test_many_rows_are_scored_in_blocks_as_they_are_at_once(model, monkeypatch):
    x = vectors(readings(1, assets=2))
    want = model.score(x)
    monkeypatch.setattr(convolution, "ROWS", 7)
    assert close(model.score(x), want)


def test_what_stops_following_and_what_shifts_are_found(model):
    z = readings(2)
    normal = model.score(vectors(z))
    assert separation(normal, model.score(vectors(decorrelated(z)))) > 0.8
    assert separation(normal, model.score(vectors(shifted(z)))) > 0.85


def test_a_fifth_of_faulty_rows_in_the_fit_is_survived():
    z = readings()
    z[:, 120:] = decorrelated(z)[:, 120:]
    model, other = fitted(z), readings(2)
    assert separation(model.score(vectors(other)), model.score(vectors(decorrelated(other)))) > 0.7


def test_the_seed_decides_and_nothing_else_does(monkeypatch):
    monkeypatch.setattr(CausalAutoencoder, "least_steps", 1)
    z = readings(assets=3, ticks=30)
    first = fitted(z, epochs=2)
    torch.manual_seed(99)
    assert graph_of(first) == graph_of(fitted(z, epochs=2)) != graph_of(fitted(z, epochs=2, seed=1))


def test_constant_and_empty_channels_do_no_harm(monkeypatch):
    monkeypatch.setattr(CausalAutoencoder, "least_steps", 1)
    z = readings(assets=3, ticks=40)
    z[..., 0], z[..., 3] = 0.0, np.nan
    model = fitted(z, epochs=2)
    x = vectors(z)
    score, graph = model.score(x), graph_of(model)
    assert np.isfinite(score).all() and close(run(graph, x), score) and np.isinf(model.spread_[3]) and np.isfinite(model.spread_[:3]).all()
    x[:, 3] = 99.0  # it says nothing when it has a value, though its value is rebuilt into the others
    assert np.isfinite(model.score(x)).all() and close(run(graph, x), model.score(x))


def test_a_convolution_reads_no_later_tick_and_is_that_of_torch():
    layer = convolution._Causal(4, 3, kernel=3, dilation=2, relu=False)
    plain = layer.plain()
    z = np.random.default_rng(0).normal(size=(5, 8, 4))
    want = layer(torch.from_numpy(z.astype(np.float32))).detach().numpy()
    assert np.allclose(plain.forward(z), want, atol=1e-5)
    for tick in range(8):
        cut = z.copy()
        cut[:, tick + 1 :] = 1e6
        assert (plain.forward(cut)[:, : tick + 1] == plain.forward(z)[:, : tick + 1]).all()


@settings(max_examples=20, deadline=None)
@given(kernel=st.integers(1, 4), dilation=st.integers(1, 3), ticks=st.integers(1, 6), relu=st.booleans())
def test_convolution_nodes_equal_its_arithmetic_for_any_shape(kernel, dilation, ticks, relu):
    rng = np.random.default_rng(kernel)
    layer = Convolution(rng.normal(size=(kernel * 2, 3)), rng.normal(size=3), dilation, relu)
    z = argument(Tensor(np.float64, ("asset", ticks, 2)))
    graph = build({"x": z}, {"y": layer.nodes(z, 2, ticks)}).SerializeToString()
    values = rng.normal(size=(4, ticks, 2))
    assert close(run(graph, values), layer.forward(values))


def test_the_score_is_the_newest_ticks_own_error(model):
    x = vectors(readings(1, assets=1))[50:51].repeat(2, axis=0)
    x[1, CHANNELS] += 3.0  # an older reading moves the score less than the same in the newest
    older = abs(model.score(x)[1] - model.score(x)[0])
    x[1] = x[0]
    x[1, 0] += 3.0
    assert model.score(x)[1] - model.score(x)[0] > 2 * older


def test_weights_fit_a_small_device_and_more_are_refused(model):
    weights = sum(layer.weight.size + layer.bias.size for layer in model.layers_)
    assert weights < 3000
    with pytest.raises(UsageError, match="hidden=500 .*lower hidden"):
        fitted(readings(assets=1, ticks=5), hidden=500)


def test_other_vectors_settings_and_too_little_data_are_refused_in_words(monkeypatch):
    monkeypatch.setattr(CausalAutoencoder, "least_steps", 1)
    with pytest.raises(UsageError, match=r"lags=4 .*feature=lags"):
        CausalAutoencoder(lags=4).fit(np.zeros((20, 6), np.float32), np.zeros(20), np.repeat("A", 20))
    for wrong in ({"lags": 0}, {"trim": 0.6}, {"smooth": -1.0}, {"squeeze": 0}, {"epochs": 0}, {"learning_rate": 2.0}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            CausalAutoencoder(**wrong)
    with pytest.raises(DataError, match="0 of 20 healthy ticks"):
        CausalAutoencoder(lags=1).fit(np.full((20, 2), np.nan, np.float32), np.zeros(20), np.repeat("A", 20))
    few = CausalAutoencoder(lags=1, epochs=1, smooth=3.0)
    few.fit(np.array([[1.0, 2.0], [2.0, 1.0]], np.float32), np.zeros(2), np.array(["A", "A"]))
    assert np.isfinite(few.score(np.zeros((1, 2), np.float32))).all() and few.smooth == 3.0
