"""A stack is the weighted mean of its members on both paths, with weights that only out-of-fold predictions decide."""

import numpy as np
import onnxruntime
import pytest
from spox import Tensor, argument, build

from pmx.contract import UsageError
from pmx.feature.past import Past
from pmx.model import Model
from pmx.model.lightgbm import LightGBM
from pmx.model.mlp import Mlp
from pmx.model.pca import Pca
from pmx.model.stack import Stack, bound

NAMES = ["a", "b", "c"]


class Trend(Model):
    """The newest value of its last column less the oldest: what only a model with a past can tell."""

    task, history, exact = "rul", 4, True

    def fit(self, x: Past, y: np.ndarray, asset: np.ndarray) -> None:
        self.fitted_ = len(x)

    def columns(self, names: list[str]) -> list[int]:
        return [names.index("c")]

    def score(self, x: Past) -> np.ndarray:
        steps = x.sequences(self.history, self.columns(x.names))[:, :, 0].astype(np.float64)
        return np.nan_to_num(steps[:, -1] - steps[:, 0])

    def to_onnx(self, features):
        import spox.opset.ai.onnx.v20 as op

        steps = op.cast(op.squeeze(features, op.const([2])), to=np.float64)
        rise = op.sub(op.gather(steps, op.const(self.history - 1), axis=1), op.gather(steps, op.const(0), axis=1))
        return op.where(op.isnan(rise), op.const(0.0, np.float64), rise)


def data(rows: int = 400, seed: int = 0) -> tuple[Past, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    life = np.repeat(np.arange(8), rows // 8)
    x = rng.normal(size=(rows, 3)).astype(np.float32)
    past = Past.of(x, life, NAMES)
    return past, 50 + 10 * x[:, 0].astype(float), life.astype(str)


def stack(weights: list[float], **models: Model) -> Stack:
    made = bound({**models, "stack": Stack()})["stack"]
    made.weights_ = weights
    return made


def test_both_paths_give_the_weighted_mean_to_the_last_bit_of_a_verdict():
    past, y, asset = data()
    trees, trend = LightGBM(trees=20, learning_rate=0.2, min_child_samples=10), Trend()
    made = stack([0.75, 0.25], trees=trees, trend=trend)
    made.fit(past, y, asset)
    alone = LightGBM(trees=20, learning_rate=0.2, min_child_samples=10)
    alone.fit(past.now, y, asset)
    want = made.score(past)
    assert np.allclose(want, 0.75 * alone.score(past.now) + 0.25 * trend.score(past), rtol=1e-15)
    assert made.exact and made.history == 4 and made.columns(NAMES) == [2] and made.leaves(past.now).shape == (400, 20)
    features, over = argument(Tensor(np.float32, ("asset", 3))), argument(Tensor(np.float32, ("asset", 4, 1)))
    graph = build({"x": features, "past": over}, {"y": made.lowered(features, over)})
    got = onnxruntime.InferenceSession(graph.SerializeToString()).run(None, {"x": past.now, "past": past.sequences(4, [2])})[0]
    assert (got.astype(np.float32) == want.astype(np.float32)).all(), "what a verdict keeps of it"


def test_weights_find_the_better_member_and_leave_the_useless_out():
    rng = np.random.default_rng(0)
    target = rng.uniform(0, 100, 500)
    good, fair, bad = (target + rng.normal(scale=s, size=500) for s in (5, 7, 80))
    made = stack([], a=Mlp(), b=Mlp(), c=Mlp()).weigh(np.column_stack([good, fair, bad]), target)
    assert sum(made.weights_) == pytest.approx(1) and made.weights_[0] > made.weights_[1] > 0 and made.weights_[2] == 0
    shares = np.array([1 / 25, 1 / 49]) / (1 / 25 + 1 / 49)  # of independent errors, by their variance
    assert made.weights_[:2] == pytest.approx(shares, abs=0.08)


def test_rows_that_a_member_never_predicted_decide_nothing():
    told = np.array([[1.0, 5.0], [2.0, 1.0], [np.nan, 3.0], [4.0, 9.0]])
    made = stack([], a=Mlp(), b=Mlp()).weigh(told, np.array([1.0, 2.0, 3.0, np.nan]))
    assert made.weights_ == pytest.approx([1.0, 0.0], abs=1e-3)


def test_without_a_known_row_no_member_is_preferred():
    assert stack([], a=Mlp(), b=Mlp()).weigh(np.full((3, 2), np.nan), np.arange(3.0)).weights_ == [0.5, 0.5]


def test_a_member_without_weight_needs_no_memory():
    past, y, asset = data()
    trees = LightGBM(trees=20, learning_rate=0.2, min_child_samples=10)
    made = stack([], trees=trees, trend=Trend()).weigh(np.column_stack([y, np.full(len(y), 1e3)]), y)
    assert made.weights_ == [1.0, 0.0] and made.used == ["trees"] and made.history == 1
    made.fit(past.now, y, asset)
    features = argument(Tensor(np.float32, ("asset", 3)))
    graph = build({"x": features}, {"y": made.lowered(features, None)})
    got = onnxruntime.InferenceSession(graph.SerializeToString()).run(None, {"x": past.now})[0]
    assert (got.astype(np.float32) == made.score(past.now).astype(np.float32)).all(), "what a verdict keeps of it"


@pytest.mark.parametrize(
    "models, members, words",
    [({"mlp": Mlp()}, ["tree"], "no candidate tree"), ({"pca": Pca()}, [], "no single target to weigh by"), ({}, [], "to stack")],
)
def test_what_cannot_be_stacked_is_refused_by_name(models, members, words):
    with pytest.raises(UsageError, match=words):
        bound({**models, "stack": Stack(members)})
