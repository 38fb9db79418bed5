"""Estimators of scikit-learn: scored as scikit-learn scores them, on rows with gaps and rows on thresholds; the graph repeats it."""

import copy
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import ExtraTreesRegressor, GradientBoostingRegressor, IsolationForest, RandomForestRegressor
from sklearn.linear_model import ElasticNet, HuberRegressor, Lasso, LinearRegression, LogisticRegression, Ridge
from sklearn.neural_network import MLPRegressor
from sklearn.svm import SVR
from sklearn.tree import DecisionTreeRegressor
from spox import Tensor, argument, build

from pmx.contract import DataError, UsageError
from pmx.model.estimator import LOWERED, Estimator
from pmx.model.forest import path_length
from pmx.model.trees import check_acyclic

WIDTH = 4
NAMED: list[Any] = [
    LinearRegression(),
    Ridge(alpha=3.0),
    Lasso(alpha=0.01),
    ElasticNet(alpha=0.01),
    HuberRegressor(),
    LogisticRegression(C=0.5),
    MLPRegressor(hidden_layer_sizes=(6, 3), activation="relu", max_iter=2000, tol=0.01, solver="lbfgs"),
    MLPRegressor(hidden_layer_sizes=(5,), activation="tanh", max_iter=2000, tol=0.01, solver="lbfgs"),
    MLPRegressor(hidden_layer_sizes=(5,), activation="logistic", max_iter=2000, tol=0.01, solver="lbfgs"),
    DecisionTreeRegressor(max_depth=5),
    ExtraTreesRegressor(12, min_samples_leaf=5),
    RandomForestRegressor(12, min_samples_leaf=5, max_features=0.5),
    GradientBoostingRegressor(n_estimators=15),
    GradientBoostingRegressor(n_estimators=9, loss="quantile", alpha=0.2, subsample=0.7),
    GradientBoostingRegressor(n_estimators=9, init="zero"),
    IsolationForest(n_estimators=20, max_samples=64),
    IsolationForest(n_estimators=20, max_samples=0.5, max_features=0.5, bootstrap=True),
    KMeans(5),
    PCA(2),
]
TREES = [n for n in NAMED if LOWERED[type(n).__name__].trees]


def name(estimator: Any) -> str:
    return type(estimator).__name__


def table(seed: int = 0, rows: int = 400, missing: float = 0.1) -> np.ndarray:
    """Features float32 [row, feature] on unlike scales, some missing; one never moves."""
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(rows, WIDTH)) * [1, 100, 0.01, 0] + [0, 50, 1, 7]).astype(np.float32)
    x[rng.random(x.shape) < missing] = np.nan
    return x


def fitted(estimator: Any, x: np.ndarray) -> Estimator:
    model, truth = Estimator(estimator), np.nan_to_num(x[:, 0]) + np.nan_to_num(x[:, 1]) / 100
    model.fit(x, (truth > 0.5).astype(float) if model.task == "failure" else truth, np.repeat("A", len(x)))
    return model


def graph_of(model: Estimator) -> bytes:
    features = argument(Tensor(np.float32, ("asset", WIDTH)))
    return build({"x": features}, {"y": model.to_onnx(features)}).SerializeToString(deterministic=True)


def run(graph: bytes, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return np.asarray(onnxruntime.InferenceSession(graph, options).run(None, {"x": x})[0])


def said(estimator: Any, model: Estimator, x: np.ndarray) -> np.ndarray:
    """What scikit-learn itself says of the same inputs, after the same fit."""
    z, seeded = model._inputs(table()), copy.deepcopy(estimator)
    if "random_state" in seeded.get_params():
        seeded.set_params(random_state=model.seed)
    truth = np.nan_to_num(table()[:, 0]) + np.nan_to_num(table()[:, 1]) / 100
    seeded.fit(z, (truth > 0.5).astype(float) if model.task == "failure" else truth)
    inputs = model._inputs(x)
    if isinstance(seeded, IsolationForest):
        return -seeded.score_samples(inputs)
    if isinstance(seeded, KMeans):
        return seeded.transform(inputs).min(1)
    if isinstance(seeded, PCA):
        return ((inputs - seeded.inverse_transform(seeded.transform(inputs))) ** 2).sum(1)
    return seeded.decision_function(inputs) if isinstance(seeded, LogisticRegression) else seeded.predict(inputs)


def on_thresholds(model: Estimator, x: np.ndarray) -> np.ndarray:
    """Rows with one feature on, just above and just below each threshold, as far as float32 can name it."""
    rows = []
    for feature, splits in model.thresholds().items():
        for i, split in enumerate(splits):
            near = np.float32(split)
            for value in (near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))):
                rows.append(x[i % len(x)].copy())
                rows[-1][feature] = value
    return np.array(rows, np.float32)


@pytest.mark.parametrize("estimator", NAMED, ids=name)
def test_scores_are_those_of_scikit_learn_and_the_graph_repeats_them_in_any_batch(estimator):
    model, x = fitted(estimator, table()), table(1)
    rows = np.concatenate([x, on_thresholds(model, x)]) if model.form.trees else x
    rows[0], rows[1] = np.nan, np.inf
    score, graph = model.score(rows), graph_of(model)
    assert score.dtype == np.float64 and score.shape == (len(rows),) and np.isfinite(score).all() and score.std() > 0
    want = said(estimator, model, rows)
    assert (score == want).all() if model.exact else np.allclose(score, want, rtol=1e-7, atol=1e-7)
    together, alone = run(graph, rows), np.concatenate([run(graph, r[None]) for r in rows[:20]])
    for got, wanted in ((together, score), (alone, score[:20])):
        assert got.dtype == np.float64 and ((got == wanted).all() if model.exact else np.allclose(got, wanted, rtol=1e-12, atol=1e-12))


@pytest.mark.parametrize("estimator", TREES, ids=name)
def test_trees_say_where_they_split_have_leaves_and_end(estimator):
    model, x = fitted(estimator, table()), table(2)
    graph = graph_of(model)
    assert check_acyclic(graph) > 0 and 3 not in model.thresholds(), "a feature that never moves is split on"
    leaves = model.leaves(x)
    assert leaves.shape == (len(x), len(model.lowered_.trees)) and (model.leaves(x[::-1])[::-1] == leaves).all()
    assert model.exact == (not isinstance(estimator, IsolationForest))


FOREST = fitted(RandomForestRegressor(8), table())
SESSION = onnxruntime.InferenceSession(graph_of(FOREST))


@settings(max_examples=60, deadline=None)
@given(x=hnp.arrays(np.float32, (2, WIDTH), elements=st.floats(width=32)))
def test_any_float32_row_falls_into_the_same_leaves(x):
    assert (SESSION.run(None, {"x": x})[0] == FOREST.score(x)).all()


def test_a_threshold_that_float32_cannot_name_stays_double():
    below, above = np.float32(1.0), np.float32(1.0) + 3 * np.finfo(np.float32).eps  # their middle lies between two float32 values
    x = np.full((40, WIDTH), below)
    x[20:, 0] = above
    model = Estimator(DecisionTreeRegressor())
    model.fit(x, np.repeat([0.0, 1.0], 20), np.repeat("A", 40))
    (split,) = model.thresholds()[0]
    assert float(np.float32(split)) != split and run(graph_of(model), x[[0, -1]]).tolist() == [0.0, 1.0]


def test_a_tree_that_never_split_is_lowered_too():
    model = Estimator(RandomForestRegressor(3))
    model.fit(np.zeros((30, WIDTH), np.float32), np.full(30, 2.5), np.repeat("A", 30))
    assert run(graph_of(model), table(rows=5)).tolist() == [2.5] * 5 and check_acyclic(graph_of(model)) == 3


def test_an_isolated_row_scores_worse_than_a_usual_one_for_every_detector():
    x = np.random.default_rng(0).normal(size=(500, WIDTH)).astype(np.float32)
    x[:, 2] = x[:, 0] + 0.1 * x[:, 1]
    for estimator in (IsolationForest(n_estimators=50), KMeans(4), PCA(3)):
        model = Estimator(estimator)
        model.fit(x, np.full(500, np.nan), np.repeat("A", 500))  # nobody knows how long these live
        usual, odd = model.score(np.array([[0, 0, 0, 0], [4, 0, -4, 4]], np.float32))
        assert model.task == "anomaly" and odd > 1.2 * usual


def test_an_open_seed_is_the_models_and_a_given_one_stays():
    x = table()
    graphs = [graph_of(fitted(RandomForestRegressor(4), x)), graph_of(fitted(RandomForestRegressor(4), x))]
    assert graphs[0] == graphs[1] != graph_of(fitted(RandomForestRegressor(4, random_state=5), x))
    other = Estimator(RandomForestRegressor(4), seed=5)
    other.fit(x, np.nan_to_num(x[:, 0]) + np.nan_to_num(x[:, 1]) / 100, np.repeat("A", len(x)))
    assert graph_of(other) == graph_of(fitted(RandomForestRegressor(4, random_state=5), x))


def test_a_light_copy_has_few_trees_and_leaves_the_model_as_it_is():
    model = Estimator(RandomForestRegressor(80))
    assert (model.light().estimator.n_estimators, model.estimator.n_estimators) == (10, 80)
    assert Estimator(Ridge()).light().estimator.alpha == 1.0


@pytest.mark.parametrize(
    ("estimator", "words"),
    [
        (SVR(), "sklearn.SVR has no exact form in a step graph .* Ridge"),
        (object(), "builtins.object has no exact form"),
        (GradientBoostingRegressor(init=Ridge()), "init .* must be a number"),
        (MLPRegressor(loss="poisson"), "squared_error"),
        (PCA(), "n_components: 0.9"),
        (Ridge(alpha=-1.0), "alpha"),
    ],
)
def test_what_cannot_be_lowered_is_refused_before_it_is_fitted(estimator, words):
    with pytest.raises(UsageError, match=words):
        Estimator(estimator)


def test_what_cannot_be_fitted_says_on_what():
    with pytest.raises(DataError, match="KMeans cannot be fitted on 2 ticks with 4 features"):
        fitted(KMeans(3), table(rows=2))


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(2, 5000))
def test_a_mean_path_length_is_that_of_random_search_trees(rows):
    keys = rows - 1  # an unsuccessful search ends in one of `rows` gaps between them: 2 H(keys) - 2 keys / rows steps on average
    exact = 2 * np.sum(1.0 / np.arange(1, keys + 1)) - 2 * keys / rows
    # the published form takes ln n + gamma for H(n), which is short of it by less than 1 / 2n
    assert 0 <= exact - path_length(np.array([rows]))[0] < 1 / keys + 1e-9
    assert path_length(np.array([0, 1])).tolist() == [0.0, 0.0]
