"""The Weibull regression against outside estimates, known parameters and censoring; its graph against itself."""

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import check_grad
from scipy.stats import CensoredData, weibull_min
from spox import Tensor, argument, build

from pmx.contract import DataError, UsageError
from pmx.model.weibull import Weibull, loss


def lives(rows: int, shape: float = 3.0, seed: int = 0, columns: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Features float32 [row, feature], of which the first two matter, and lives left float64 [row]."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, columns)).astype(np.float32)
    return x, np.exp(4.0 + 0.4 * x[:, 0] - 0.2 * x[:, 1]) * rng.weibull(shape, rows)


def cut(life: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """What is known of lives that were watched for so long, float64 [row, 2]."""
    return np.column_stack([np.minimum(life, seen), np.where(life <= seen, life, np.inf)])


def fitted(x: np.ndarray, y: np.ndarray, **settings) -> Weibull:
    model = Weibull(**({"ridge": 0.0} | settings))
    model.fit(x, y, np.repeat("A", len(x)))
    return model


@pytest.mark.parametrize("censored", [False, True])
def test_without_covariates_it_is_the_estimate_of_scipy(censored):
    _, life = lives(800)
    seen = np.random.default_rng(1).uniform(20, 120, 800) if censored else np.full(800, np.inf)
    y = cut(life, seen)
    known = np.isfinite(y[:, 1])
    assert known.all() != censored
    shape, _, scale = weibull_min.fit(CensoredData(uncensored=y[known, 0], right=y[~known, 0]), floc=0)
    model = fitted(np.zeros((800, 1), np.float32), y)
    assert np.isclose(model.shape_, shape, rtol=1e-3) and np.isclose(np.exp(model.intercept_), scale, rtol=1e-3)
    assert np.isclose(model.score(np.zeros((1, 1), np.float32))[0], weibull_min(shape, scale=scale).median(), rtol=1e-3)


def test_known_parameters_are_found_again_and_lives_cut_short_do_not_bend_them():
    x, life = lives(6000)
    seen = np.random.default_rng(2).uniform(10, 90, len(life))
    whole, half = fitted(x, np.column_stack([life, life])), fitted(x, cut(life, seen))
    assert 0.3 < np.isfinite(cut(life, seen)[:, 1]).mean() < 0.8
    for model in (whole, half):
        weight = model.weight_ / model.standard_.scale
        assert np.allclose(weight, [0.4, -0.2, 0.0], atol=0.03) and abs(model.shape_ - 3.0) < 0.15
    # taking the day an asset was last seen for the day of its failure makes lives shorter
    naive = fitted(x, np.column_stack([np.minimum(life, seen)] * 2))
    assert np.median(naive.score(x) / whole.score(x)) < 0.8 < 0.95 < np.median(half.score(x) / whole.score(x)) < 1.05


def test_half_of_the_lives_end_before_the_score():
    x, life = lives(5000, seed=3)
    assert abs(np.mean(life < fitted(x, life).score(x)) - 0.5) < 0.02  # labels of one column are lives that ended


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), ridge=st.floats(0, 1))
def test_the_gradient_is_that_of_the_likelihood(seed, ridge):
    rng = np.random.default_rng(seed)
    z = np.column_stack([np.ones(30), rng.normal(size=(30, 2))])
    given_ = (z, rng.normal(size=30), rng.random(30) < 0.6, ridge)
    at = rng.normal(scale=0.3, size=4)
    assert check_grad(lambda p: loss(p, *given_)[0], lambda p: loss(p, *given_)[1], at) < 1e-5


def test_a_penalty_draws_weights_to_zero_and_what_never_moved_has_none():
    x, life = lives(500)
    x[:, 2] = 7.0
    weights = [np.abs(fitted(x, life, ridge=r).weight_) for r in (0.0, 1.0, 100.0)]
    assert all(a.sum() > b.sum() for a, b in zip(weights, weights[1:], strict=False)) and weights[2].sum() < 0.1 and weights[0][2] < 1e-6


def test_a_life_that_ends_at_this_very_tick_is_taken():
    x, life = lives(300)
    life[:20] = 0.0
    assert np.isfinite(fitted(x, life).score(x)).all()
    with pytest.raises(DataError, match="no tick has a known life left"):
        fitted(x, np.column_stack([life, np.full(300, np.inf)]))
    with pytest.raises(UsageError, match="ridge"):
        Weibull(ridge=-1.0)


def holed() -> Weibull:
    x, life = lives(400, seed=5)
    x[np.random.default_rng(0).random(x.shape) < 0.1] = np.nan
    return fitted(x, life, ridge=0.1)


MODEL = holed()
FEATURES = argument(Tensor(np.float32, ("asset", 3)))
SESSION = onnxruntime.InferenceSession(build({"x": FEATURES}, {"y": MODEL.to_onnx(FEATURES)}).SerializeToString())


@settings(max_examples=100, deadline=None)
@given(x=hnp.arrays(np.float32, (3, 3), elements=st.floats(width=32)))
def test_any_row_scores_alike_in_the_graph_and_never_without_bound(x):
    want = MODEL.score(x)
    assert want.dtype == np.float64 and np.isfinite(want).all() and (want > 0).all()
    assert np.allclose(SESSION.run(None, {"x": x})[0], want, rtol=1e-12)
    assert np.allclose([MODEL.score(row[None])[0] for row in x], want, rtol=1e-12)
