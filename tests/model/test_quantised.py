"""A network with int8 weights: the bundle computes with what was scored, it is told apart from the network itself, and it is smaller."""

import numpy as np
import pytest
from spox import Tensor, argument, build

from pmx.contract import UsageError
from pmx.edge.step import session
from pmx.feature.past import Past
from pmx.model import Model, epochs
from pmx.model.autoencoder import Autoencoder
from pmx.model.gru import Gru
from pmx.model.mlp import Mlp
from pmx.model.quantised import Quantised
from pmx.model.weibull import Weibull

TICKS, ASSETS, COLUMNS = 40, 6, 3
NETWORKS = [
    Mlp(hidden=[64, 64], epochs=3),
    Autoencoder(hidden=[64, 8, 64], epochs=3),
    Gru(reads=["f"], history=8, width=32, epochs=2, learning_rate=0.01),
]


def fleet(model: Model):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ASSETS * TICKS, COLUMNS)).astype(np.float32)
    x[rng.random(x.shape) < 0.02] = np.nan
    life = np.repeat(np.arange(ASSETS), TICKS)
    y = 60 + 10 * np.nan_to_num(x[:, 0]).astype(float)
    return (Past.of(x, life, ["f0", "f1", "f2"]) if model.history > 1 else x), y, life.astype(str)


def graph_of(model: Model) -> bytes:
    shape = ("asset", COLUMNS) if model.history == 1 else ("asset", model.history, COLUMNS)
    x = argument(Tensor(np.float32, shape))
    return build({"x": x}, {"y": model.to_onnx(x)}).SerializeToString()


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: type(n).__name__)
def test_the_graph_says_what_is_scored_and_that_is_near_the_network(network, monkeypatch):
    monkeypatch.setattr(epochs, "STEPS", 6)
    x, y, asset = fleet(network)
    plain, small = network.light(), Quantised(network).light()
    for model in (plain, small):
        model.fit(x, y, asset)
    given = x.sequences(network.history, network.columns(x.names)) if network.history > 1 else x
    graph, told = graph_of(small), small.score(x)
    assert np.allclose(session(graph).run(None, {"x": given})[0], told, rtol=1e-9, atol=1e-9)
    assert len(graph) < 0.8 * len(graph_of(plain))
    apart = np.abs(told - plain.score(x))
    assert 0 < apart.max() < 0.2 * plain.score(x).std() + 1e-9, "other weights, not other knowledge"


def test_it_says_of_itself_what_its_network_says():
    gru = NETWORKS[2]
    small = Quantised(gru)
    assert (small.task, small.history, small.columns(["f0", "age"])) == (gru.task, gru.history, gru.columns(["f0", "age"]))


def test_a_model_without_weights_is_refused_by_name():
    with pytest.raises(UsageError, match="Weibull has no weights to round"):
        Quantised(Weibull())
