"""Networks: the graph says what `score` says, whatever the batch; the same seed gives the same weights; holes and spikes do no harm."""

import inspect
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from spox import Tensor, argument, build

import pmx.model
from pmx.contract import DataError
from pmx.feature.features import Now
from pmx.model import Model
from pmx.model import dense as dense_module
from pmx.model.autoencoder import Autoencoder
from pmx.model.convolution import CausalAutoencoder
from pmx.model.lightgbm import LightGBM
from pmx.model.mlp import Mlp
from pmx.model.regression import Regression
from pmx.pack.fitted import Fitted, Healthy
from pmx.pack.scope import Scoped
from tests.model.lagged import inner_losses

KINDS = [Mlp(hidden=[16, 8], epochs=6, patience=3), Autoencoder(hidden=[8, 3, 8], epochs=6, patience=3)]
COLUMNS = 6


def features(seed: int = 0, assets: int = 8, ticks: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features float32 [row, feature] with a constant one, an empty one and holes; targets float64 [row]; asset names [row]."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(assets * ticks, COLUMNS)).astype(np.float32)
    y = 60 + 20 * x[:, 0].astype(float) - 10 * np.abs(x[:, 1]) + rng.normal(size=len(x))
    x[:, 3] = 7.0
    x[rng.random(x.shape) < 0.05] = np.nan
    x[:, 4] = np.nan
    return x, y, np.repeat([f"P{i}" for i in range(assets)], ticks)


def fitted(kind: Model, seed: int = 0) -> Model:
    model = type(kind)(**{n: getattr(kind, n) for n in inspect.signature(type(kind)).parameters} | {"seed": seed})
    model.fit(*features())
    return model


@pytest.fixture(scope="module", params=KINDS, ids=lambda k: type(k).__name__)
def model(request) -> Model:
    return fitted(request.param)


def graph_of(model: Model, columns: int = COLUMNS) -> bytes:
    x = argument(Tensor(np.float32, ("asset", columns)))
    return build({"x": x}, {"y": model.to_onnx(x)}).SerializeToString(deterministic=True)


@pytest.fixture(scope="module")
def graph(model: Model) -> bytes:
    return graph_of(model)


def run(graph: bytes, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options).run(None, {"x": x})[0]


def close(a: np.ndarray, b: np.ndarray) -> bool:
    """Within 1e-6 relative, and alike in what they leave unsaid."""
    return bool(np.allclose(a, b, rtol=1e-6, atol=1e-9)) and a.shape == b.shape


def awkward() -> np.ndarray:
    """Rows with spikes, infinities, holes and values where training had none."""
    x = features(1)[0][:40].copy()
    x[0], x[1], x[2, :3], x[3, 4], x[4, 3], x[5] = np.nan, 0.0, [1e9, -1e9, 3e38], 5.0, -1e9, [np.inf, -np.inf, 1, 2, 3, 4]
    return x


def test_the_graph_says_what_the_model_says_whatever_the_batch(model, graph):
    x = awkward()
    want = model.score(x)
    assert want.dtype == np.float64 and want.shape == (40,) and np.isfinite(want).all()
    assert close(run(graph, x), want)
    assert close(np.concatenate([run(graph, r[None]) for r in x]), want)
    assert close(np.concatenate([model.score(x[:7]), model.score(x[7:8]), model.score(x[8:])]), want)
    assert close(run(graph, x[::-1])[::-1], want) and model.score(x[:0]).shape == (0,)


@settings(max_examples=50, deadline=None)
@given(x=hnp.arrays(np.float32, (3, COLUMNS), elements=st.floats(width=32)))
def test_any_row_has_a_finite_score_on_both_paths(model, graph, x):
    want = model.score(x)
    assert np.isfinite(want).all() and close(run(graph, x), want)


def test_a_spike_moves_a_score_no_further_than_the_limit(model):
    x = np.zeros((2, COLUMNS), np.float32)
    x[:, 0] = 1e9, 1e4
    assert model.score(x)[0] == model.score(x)[1]


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: type(k).__name__)
def test_the_seed_decides_the_weights_and_nothing_else_does(kind):
    first = fitted(kind)
    torch.manual_seed(99)
    state = torch.random.get_rng_state()
    again = fitted(kind)
    assert graph_of(first) == graph_of(again) != graph_of(fitted(kind, seed=1))
    assert torch.equal(torch.random.get_rng_state(), state), "a fit must not disturb the caller's random numbers"


@pytest.mark.parametrize("assets", [1, 2, 3, 13])
def test_early_stopping_looks_at_assets_that_were_not_fitted(assets, monkeypatch):
    x, y, asset = features(assets=assets, ticks=12)
    x[:, 0] = np.arange(len(x)) / len(x)  # tells a row from another on the other side
    seen: dict[bool, np.ndarray] = {}
    make = dense_module._batches

    def spy(z, target, size, shuffle):
        seen[shuffle] = z[:, 0]
        return make(z, target, size, shuffle)

    monkeypatch.setattr(dense_module, "_batches", spy)
    Mlp(hidden=[4], epochs=1).fit(x, y, asset)
    order = np.argsort(x[:, 0])
    ranked = np.sort(np.concatenate([seen[True], seen[False]]))
    assert len(ranked) == len(x), "every row is fitted on or stopped at"
    sides = {fit: set(asset[order[np.searchsorted(ranked, values)]]) for fit, values in seen.items()}
    if assets == 1:
        assert seen[True].max() < seen[False].min(), "of one asset, the last part of its life"
    else:
        assert not sides[True] & sides[False] and len(sides[False]) == max(1, assets // 6)


def test_the_best_weights_are_kept_not_the_last(monkeypatch):
    losses = inner_losses(monkeypatch, dense_module._Best, "on_validation_epoch_end")
    x, y, asset = features(ticks=20)
    y = np.random.default_rng(0).normal(size=len(x))  # nothing to learn: the inner loss soon rises
    model = Mlp(hidden=[32], epochs=40, patience=3, learning_rate=0.05, noise=0.0)
    model.fit(x, y, asset)
    assert len(losses) < 40 and len(losses) == int(np.argmin(losses)) + 1 + 3
    names = np.random.default_rng(0).permutation(np.unique(asset))
    inner = np.isin(asset, names[:1])
    kept = np.mean((model.score(x[inner]) - y[inner]) ** 2) / y.std() ** 2
    assert np.isclose(kept, min(losses), rtol=1e-4)


def test_networks_learn_what_there_is_to_learn():
    x, y, asset = features(ticks=120)
    mlp = Mlp(hidden=[32, 16], epochs=30)
    mlp.fit(x, y, asset)
    x2, y2, _ = features(seed=5)
    assert np.sqrt(np.mean((mlp.score(x2) - y2) ** 2)) < 0.5 * y2.std()
    healthy = np.repeat(np.random.default_rng(0).normal(size=(960, 2)), 3, axis=1).astype(np.float32)  # two degrees of freedom
    encoder = Autoencoder(hidden=[16, 4, 16], epochs=60, patience=60, learning_rate=0.01)
    encoder.fit(healthy, np.zeros(960), asset)
    odd = healthy[:200].copy()
    odd[:, 0] *= -1
    assert np.median(encoder.score(odd)) > 3 * np.median(encoder.score(healthy)), "higher = worse"


@pytest.mark.parametrize("kind", [Mlp(hidden=[4], epochs=1), Autoencoder(hidden=[4], epochs=1), Mlp(hidden=[], epochs=2)])
def test_little_data_is_enough_and_too_little_is_refused_in_words(kind):
    x, _, _ = features(ticks=2, assets=1)
    kind.fit(x, np.array([3.0, 3.0]), np.array(["A", "A"]))
    assert np.isfinite(kind.score(x)).all() and close(run(graph_of(kind), x), kind.score(x))
    with pytest.raises(DataError, match="1 tick to fit a network on"):
        kind.fit(x[:1], np.array([3.0]), np.array(["A"]))


def test_all_features_missing_gives_the_answer_of_an_average_tick(model):
    mean = model.layers_.mean.astype(np.float32)[None]
    assert np.allclose(model.score(np.full((1, COLUMNS), np.nan, np.float32)), model.score(mean), atol=1e-4)


def test_an_anomaly_score_rises_with_the_models_own_on_both_paths():
    model = fitted(KINDS[1])
    x = features(2)[0]
    candidate = Fitted("autoencoder", None, Scoped(model), 125.0, Healthy.of(model.score(x), np.repeat("A", len(x)), each=False))
    rows = np.concatenate([x[:50], awkward()])
    v, present, memory = (
        argument(Tensor(np.float32, ("asset", COLUMNS))),
        argument(Tensor(np.bool_, ("asset",))),
        argument(Tensor(np.float64, ("asset", 0))),
    )
    now = Now(v, present, argument(Tensor(np.int64, ("asset",))))
    graph = build({"x": v, "present": present, "memory": memory}, {"y": candidate.head(now, memory)[0]["anomaly_score"]})
    given = {"x": rows, "present": np.ones(len(rows), bool), "memory": np.empty((len(rows), 0))}
    got = onnxruntime.InferenceSession(graph.SerializeToString()).run(None, given)[0]
    want = candidate.verdict_of(rows, np.repeat("A", len(rows)), np.repeat("A", len(rows)), np.ones(len(rows), bool))
    assert got.dtype == np.float32 and (got >= 0).all() and (got <= 1).all() and np.allclose(got, want, atol=1.01 / len(x))
    assert (np.diff(got[np.argsort(model.score(rows))]) >= 0).all(), "higher = worse"


def test_every_yaml_in_the_group_builds_a_model_that_says_its_task():
    folder = Path(pmx.model.__file__).parents[2] / "conf" / "model"
    kinds = {"autoencoder": Autoencoder, "convolution": CausalAutoencoder, "lightgbm": LightGBM, "mlp": Mlp, "regression": Regression}
    for path in sorted(folder.glob("*.yaml")):
        (name, leaf), *more = yaml.safe_load(path.read_text()).items()
        assert name == path.stem and not more
        arguments = {k: 1 if isinstance(v, str) else v for k, v in leaf.items() if k != "_target_"}
        if name in kinds:
            made = kinds[name](**arguments)
            assert made.task in ("rul", "anomaly") and {k: getattr(made, k) for k in arguments} == arguments
            assert not [k for k in vars(made) if k.endswith("_")], "nothing is learnt in a constructor"
