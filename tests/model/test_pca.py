"""Principal components: the graph says what `score` says, both say what scikit-learn says, and faults among the fitted ticks do not hide."""

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.decomposition import PCA
from spox import Tensor, argument, build

from pmx.contract import DataError, UsageError
from pmx.model.pca import STATISTICS, Pca
from tests.model.lagged import decorrelated, names, readings, separation, shifted, vectors

COLUMNS = 6


def plant(rows: int = 400, seed: int = 0) -> np.ndarray:
    """Features float32 [row, feature] that follow two hidden loads, each in a unit of its own."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(rows, 2)) @ np.random.default_rng(99).normal(size=(2, COLUMNS))
    return ((hidden + 0.2 * rng.normal(size=(rows, COLUMNS))) * [1, 10, 0.1, 3, 1000, 1] + [0, 5, 1, -3, 1e4, 0]).astype(np.float32)


def fitted(x: np.ndarray, **arguments) -> Pca:
    model = Pca(**arguments)
    model.fit(x, np.full(len(x), np.nan), np.repeat("A", len(x)))
    return model


def graph_of(model: Pca, columns: int) -> onnxruntime.InferenceSession:
    x = argument(Tensor(np.float32, ("asset", columns)))
    return onnxruntime.InferenceSession(build({"x": x}, {"y": model.to_onnx(x)}).SerializeToString())


def by_graph(model: Pca, x: np.ndarray) -> np.ndarray:
    return graph_of(model, x.shape[1]).run(None, {"x": x})[0]


def close(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype == np.float64 and np.allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_the_graph_says_what_the_model_says_whatever_the_batch(statistic):
    model, rows = fitted(plant(), statistic=statistic), plant(50, seed=1)
    rows[::7, 2], rows[3], rows[4, 4] = np.nan, np.nan, 1e9
    want = model.score(rows)
    assert close(by_graph(model, rows), want) and np.isfinite(want).all()
    assert close(np.concatenate([by_graph(model, r[None]) for r in rows]), want) and close(by_graph(model, rows[::-1])[::-1], want)
    assert model.score(rows[:0]).shape == (0,)


FITTED = {s: fitted(plant(), statistic=s) for s in STATISTICS}
GRAPHS = {s: graph_of(m, COLUMNS) for s, m in FITTED.items()}


@settings(max_examples=80, deadline=None)
@given(
    x=hnp.arrays(np.float32, (3, COLUMNS), elements=st.floats(-1e6, 1e6, width=32) | st.just(np.float32("nan"))),
    kind=st.sampled_from(STATISTICS),
)
def test_any_row_has_the_same_score_of_at_least_zero_on_both_paths(x, kind):
    want = FITTED[kind].score(x)
    assert (want >= 0).all() and np.allclose(GRAPHS[kind].run(None, {"x": x})[0], want, rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("variance", [0.5, 0.85, 0.99])
def test_spe_and_t2_are_those_of_scikit_learn(variance):
    x, rows = plant(), plant(60, seed=2)
    mean, scale = x.astype(float).mean(0), x.astype(float).std(0)
    outside = PCA(n_components=variance, svd_solver="full").fit((x - mean) / scale)
    z = (rows - mean) / scale
    along = outside.transform(z)
    spe = ((z - outside.inverse_transform(along)) ** 2).sum(1)
    t2 = (along**2 / (outside.explained_variance_ * (len(x) - 1) / len(x))).sum(1)  # pmx divides by n, as the scale does
    for statistic, want in (("spe", spe), ("t2", t2)):
        model = fitted(x, variance=variance, statistic=statistic, trim=0.0)
        assert model.axes_.shape[1] == outside.n_components_
        assert np.allclose(model.score(rows), want, rtol=1e-6, atol=1e-9)
    both = fitted(x, variance=variance, statistic="both", trim=0.0)
    spe_mean, t2_mean = (fitted(x, variance=variance, statistic=s, trim=0.0).score(x).mean() for s in ("spe", "t2"))
    assert np.allclose(both.score(rows), spe / spe_mean + t2 / t2_mean, rtol=1e-6)
    assert np.isclose(both.score(x).mean(), 2.0), "each part counts 1 on the ticks fitted on"


@pytest.mark.parametrize("statistic", ["spe", "both"])
def test_what_no_longer_goes_together_is_higher_than_what_does(statistic):
    z = readings()
    model = Pca(variance=0.97, statistic=statistic)  # two loads over three lags have six directions
    model.fit(vectors(z), np.zeros(z.shape[0] * z.shape[1]), names(z))
    normal = model.score(vectors(readings(1)))
    assert separation(normal, model.score(vectors(decorrelated(readings(1))))) > 0.9
    assert separation(normal, model.score(vectors(shifted(readings(1))))) > 0.9


@pytest.mark.parametrize("share", [0.2, 0.3])
@pytest.mark.parametrize("statistic", ["spe", "both"])
def test_faults_among_the_ticks_fitted_on_do_not_become_normal(share, statistic):
    spoiled = readings(0, assets=1, ticks=900)
    at = np.random.default_rng(3).random(900) < share
    spoiled[0, at] = shifted(decorrelated(spoiled))[0, at]
    model = fitted(vectors(spoiled, lags=1), statistic=statistic, trim=0.3)
    normal, odd = vectors(readings(1), lags=1), vectors(shifted(decorrelated(readings(1))), lags=1)
    naive = fitted(vectors(spoiled, lags=1), statistic=statistic, trim=0.0)
    kept = separation(model.score(normal), model.score(odd))
    assert kept > 0.9 and kept >= separation(naive.score(normal), naive.score(odd)) - 1e-3


def test_the_worst_ticks_of_a_first_fit_are_left_out_of_the_second():
    x = plant()
    spoiled = x.copy()
    spoiled[:20] = spoiled[:20, ::-1]
    trimmed = fitted(spoiled, trim=0.1)
    rough = fitted(spoiled, trim=0.0)
    score = rough.score(spoiled)
    again = fitted(spoiled[score <= np.quantile(score, 0.9)], trim=0.0)
    assert (trimmed.score(x) == again.score(x)).all() and (trimmed.score(x) != rough.score(x)).any()


def test_columns_that_never_moved_or_hold_nothing_change_no_score():
    x, rows = plant(), plant(30, seed=4)
    plain = fitted(x, trim=0.0)
    wide = np.c_[x, np.full(len(x), 7.0), np.full(len(x), np.nan)].astype(np.float32)
    more = fitted(wide, trim=0.0)
    later = np.c_[rows, np.linspace(-1e6, 1e6, 30), np.full(30, 3.0)].astype(np.float32)
    assert np.allclose(more.score(later), plain.score(rows), rtol=1e-9) and close(by_graph(more, later), more.score(later))


@pytest.mark.parametrize("statistic", STATISTICS)
def test_nothing_that_moves_gives_scores_of_zero(statistic):
    model = fitted(np.full((20, 3), 5.0, np.float32), statistic=statistic)
    rows = np.array([[5, 5, 5], [6, -1e6, np.nan]], np.float32)
    assert model.score(rows).tolist() == by_graph(model, rows).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("rows", [2, 3, 5])
def test_fewer_rows_than_columns_are_enough(rows, statistic):
    x = np.random.default_rng(rows).normal(size=(rows, 12)).astype(np.float32)
    model = fitted(x, statistic=statistic, variance=1.0)
    assert model.axes_.shape[1] <= rows - 1, "what the rows do not span is no direction of normal behaviour"
    score = model.score(plant(10, seed=5).repeat(2, axis=1))
    assert np.isfinite(score).all() and np.isfinite(model.constants()["shrink"]).all()
    assert np.isfinite(model.score(x)).all()


def test_a_missing_value_is_read_as_the_mean():
    model, row = fitted(plant()), plant(1, seed=6)
    row[0, 1] = np.nan
    assert np.isclose(model.score(row)[0], model.score(np.where(np.isnan(row), model.mean_, row))[0], rtol=1e-9)
    assert np.allclose(model.score(np.full((1, COLUMNS), np.nan)), 0.0)


@settings(max_examples=20, deadline=None)
@given(factor=st.sampled_from([1e-3, 1.0, 1e3]), offset=st.floats(-100, 100), seed=st.integers(0, 50))
def test_the_unit_of_a_column_changes_nothing(factor, offset, seed):
    x, rows = plant(80, seed).astype(float), plant(10, seed + 1).astype(float)
    there, here = fitted(x * factor + offset, trim=0.0), fitted(x, trim=0.0)
    assert np.allclose(there.score(rows * factor + offset), here.score(rows), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_zeros_behind_the_constants_change_nothing(statistic):
    model, rows = fitted(plant(), statistic=statistic, variance=0.6), plant(20, seed=7)
    constants = model.constants()
    extra = {"axes": [(0, 0), (0, 3)], "shrink": [(0, 3)]}
    x = argument(Tensor(np.float32, ("asset", COLUMNS)))
    given_ = {n: argument(Tensor(np.float64, ("asset", *(str(i) for i in range(v.ndim))))) for n, v in constants.items()}
    graph = onnxruntime.InferenceSession(build({"x": x} | given_, {"y": model.nodes(x, given_)}).SerializeToString())

    def score(values: dict[str, np.ndarray]) -> np.ndarray:
        return graph.run(None, {"x": rows} | {n: np.repeat(v[None], len(rows), axis=0) for n, v in values.items()})[0]

    padded = {n: np.pad(v, extra[n]) if n in extra else v for n, v in constants.items()}
    assert close(score(constants), model.score(rows)) and close(score(padded), model.score(rows))
    assert np.isnan(score({n: np.full_like(v, np.nan) for n, v in padded.items()})).all(), "an asset without constants has no score"


def test_what_makes_no_sense_is_refused_in_words():
    for wrong in ({"variance": 0.0}, {"variance": 1.1}, {"trim": 0.6}, {"smooth": -1.0}, {"statistic": "q"}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            Pca(**wrong)
    with pytest.raises(DataError, match="1 tick to fit principal components on: two are needed"):
        fitted(plant(1))
