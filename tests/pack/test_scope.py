"""What a model is fitted on: the fleet, or each asset apart with constants that travel in the memory."""

import numpy as np
import onnxruntime
import pytest
from spox import Tensor, argument, build

from pmx.contract import DataError, UsageError
from pmx.model import Model
from pmx.model.pca import Pca
from pmx.pack.scope import Scoped, by_asset


class Largest(Model):
    """The largest feature over the largest one it was fitted on; it has no constants that an asset could carry."""

    task = "anomaly"

    def fit(self, x, y, asset):
        self.most_, self.rows_ = float(x.max()), len(x)

    def score(self, x):
        return x.max(1) / self.most_

    def to_onnx(self, features):
        raise NotImplementedError


def fleet(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features float32 [row, feature] of three assets, the last of which moves in one direction alone; their names [row]."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(90, 4)) * np.repeat([1.0, 5.0, 1.0], 30)[:, None] + np.repeat([0.0, 50.0, -50.0], 30)[:, None]
    x[60:] = rng.normal(size=(30, 1)) @ np.array([[1, 2, -1, 0.5]])
    return x.astype(np.float32), np.repeat(["A", "B", "C"], 30)


def scoped(each: bool, model: Model | None = None) -> Scoped:
    x, asset = fleet()
    return Scoped.fit(model or Pca(), x, np.zeros(len(x)), asset, each)


def by_graph(model: Scoped, x: np.ndarray, assets: list[str]) -> np.ndarray:
    features, memory = argument(Tensor(np.float32, ("asset", x.shape[1]))), argument(Tensor(np.float64, ("asset", model.slots)))
    graph = onnxruntime.InferenceSession(
        build({"x": features, "memory": memory}, {"y": model.nodes(features, None, memory)}).SerializeToString()
    )
    names = [i.name for i in graph.get_inputs()]  # without constants of an asset the memory is not read
    return graph.run(None, {k: v for k, v in {"x": x, "memory": model.memory0(assets)}.items() if k in names})[0]


def test_each_asset_is_scored_by_what_was_fitted_on_it_alone():
    x, asset = fleet()
    model = scoped(True)
    score = model.score(x, asset)
    for name in "ABC":
        alone = Pca()
        alone.fit(x[asset == name], np.zeros(30), asset[asset == name])
        assert (score[asset == name] == alone.score(x[asset == name])).all()
    other = x.copy()
    other[asset == "B"] *= 100
    again = Scoped.fit(Pca(), other, np.zeros(90), asset, True)
    assert (again.score(x, asset)[asset != "B"] == score[asset != "B"]).all(), "another asset's readings change nothing"
    assert np.isnan(model.score(x[:2], np.array(["A", "new"]))).tolist() == [False, True]


def test_one_model_serves_a_fleet_and_every_asset_has_its_score():
    x, asset = fleet()
    model, whole = scoped(False), Pca()
    whole.fit(x, np.zeros(90), asset)
    assert model.own == {} and model.slots == 0 and model.memory0(["A", "new"]).shape == (2, 0)
    assert (model.score(x, np.repeat("new", 90)) == whole.score(x)).all()
    assert np.allclose(by_graph(model, x, asset.tolist()), whole.score(x), rtol=1e-9)


@pytest.mark.parametrize("seed", [0, 1])
def test_in_the_graph_each_row_meets_its_own_constants_whatever_their_rank(seed):
    model, (x, asset) = scoped(True), fleet(seed)
    ranks = {m.constants()["axes"].shape[1] for m in model.own.values()}
    assert len(ranks) > 1 and 1 in ranks, "assets of different rank share one memory layout"
    order = np.random.default_rng(seed).permutation(90)
    found = by_graph(model, x[order], asset[order].tolist())
    assert np.allclose(found, model.score(x[order], asset[order]), rtol=1e-9, atol=1e-9)
    one = by_graph(model, x[:1], ["A"])
    assert np.allclose(one, model.score(x[:1], asset[:1]), rtol=1e-9), "alone as in a batch"


def test_an_asset_without_a_model_has_no_score_and_spoils_no_other():
    model, (x, asset) = scoped(True), fleet()
    found = by_graph(model, x[:3], ["A", "new", "A"])
    assert np.isnan(found).tolist() == [False, True, False]
    assert np.allclose(found[[0, 2]], model.score(x[[0, 2]], asset[[0, 2]]), rtol=1e-9)
    rows = model.memory0(["new", "A"])
    assert np.isnan(rows[0]).all() and not np.isnan(rows[1]).any() and rows.shape == (2, model.slots)


def test_a_model_without_constants_is_fitted_once_on_all_even_for_each_asset():
    x, asset = fleet()
    given = Largest()
    model = scoped(True, given)
    assert model.own == {} and model.model.rows_ == 90 and not hasattr(given, "most_"), "what was given stays unfitted"
    assert (model.score(x, asset) == x.max(1) / x.max()).all()


def test_the_order_of_rows_changes_no_model():
    x, asset = fleet()
    turns = np.argsort(np.tile(np.arange(30), 3), kind="stable")
    mixed = Scoped.fit(Pca(), x[turns], np.zeros(90), asset[turns], True)
    model = scoped(True)
    assert (mixed.memory0(["A", "B", "C"]) == model.memory0(["A", "B", "C"])).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("asset", "anomaly", "asset"), "a split by asset tests assets that it never fitted on"),
        (("asset", "rul", "time"), "the task rul learns from whole lives of other assets"),
        (("group", "anomaly", "time"), "neither fleet nor asset"),
    ],
)
def test_a_scope_that_makes_no_sense_is_refused_in_words(arguments, words):
    with pytest.raises(UsageError, match=words):
        by_asset(*arguments)


def test_a_scope_that_makes_sense_says_whether_it_is_each_assets_own():
    assert by_asset("asset", "anomaly", "time") and not by_asset("fleet", "anomaly", "time") and not by_asset("fleet", "rul", "asset")


class Counted(Largest):
    """Counts how often any copy of it is fitted."""

    def __init__(self):
        self.fits = []

    def __deepcopy__(self, memo):
        other = Counted()
        other.fits = self.fits
        return other

    def fit(self, x, y, asset):
        super().fit(x, y, asset)
        self.fits.append(sorted(set(asset)))


def test_a_model_for_all_assets_is_not_tried_on_one_of_them():
    """A fit may take minutes, and one asset's ticks may be too few for a model that learns from all."""
    given = Counted()
    scoped(True, given)
    assert given.fits == [["A", "B", "C"]]


def test_an_asset_with_too_few_ticks_has_no_model_and_stops_no_other():
    x, asset = fleet()
    rows = np.r_[0, 30:90]
    model = Scoped.fit(Pca(), x[rows], np.zeros(61), asset[rows], True)
    assert sorted(model.own) == ["B", "C"] and np.isnan(model.memory0(["A"])).all()
    assert np.isnan(model.score(x[:31], asset[:31])).tolist() == [True] * 30 + [False]
    assert (model.memory0(["B", "C"]) == scoped(True).memory0(["B", "C"])).all()
    with pytest.raises(DataError, match="no asset has enough ticks .* -> fit_scope: fleet"):
        Scoped.fit(Pca(), x[::30], np.zeros(3), asset[::30], True)


@pytest.mark.parametrize("statistic", ["spe", "t2", "both"])
@pytest.mark.parametrize("each", [True, False])
def test_channels_that_never_move_once_the_worst_ticks_are_left_out_give_a_model_that_runs(each: bool, statistic: str):
    x = np.zeros((100, 2), np.float32)
    x[::25] = [1.0, -1.0]  # gone with the trim
    asset = np.repeat(["A", "B"], 50)
    model = Scoped.fit(Pca(trim=0.1, statistic=statistic), x, np.zeros(100), asset, each)
    met = np.array([[1, 2], [0, 1], [0, 0]], np.float32)
    score = model.score(met, np.array(["A", "B", "A"]))
    assert np.isfinite(score).all() and np.array_equal(by_graph(model, met, ["A", "B", "A"]), score)
    if each:  # beside an asset that does move
        x[50:] = np.random.default_rng(0).normal(size=(50, 2))
        mixed = Scoped.fit(Pca(trim=0.1, statistic=statistic), x, np.zeros(100), asset, True)
        score = mixed.score(met, np.array(["A", "B", "A"]))
        assert score[1] > 0 and np.allclose(by_graph(mixed, met, ["A", "B", "A"]), score, rtol=1e-9)
