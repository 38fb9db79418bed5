"""The step graph: what is new, what is carried, and that nobody else in the batch matters."""

import numpy as np
import onnx
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmx.contract import Channel, Contract, UsageError
from pmx.feature.features import RECENT, FeatureSet
from pmx.feature.graph import step_graph
from pmx.feature.kernel import Age, Ewma, TrailingMean
from pmx.feature.regime import RegimeScore

from .fleet import PLAIN, RECIPE, SMALL, Graph, frame, plain, same, says_nothing, walk

FEATURES = plain(SMALL)
BY_HOP = {hop: Graph(FEATURES, hop) for hop in (1, 4, FEATURES.rows)}
LONG = plain(RECIPE)


def fleet(assets: int, seed: int = 0, longest: int = 45) -> list[np.ndarray]:
    """Histories float32 [tick, channel] of different lengths, the first of them a single tick; one value in eight missing."""
    rng = np.random.default_rng(seed)
    lengths = [1, *rng.integers(2, longest, assets - 1)]
    made = [rng.normal(size=(n, 2)).astype(np.float32) for n in lengths]
    for history in made:
        history[rng.random(history.shape) < 0.125] = np.nan
    return made


def test_no_window_crosses_an_asset():
    histories = fleet(6)
    histories[2][:] = 20.0  # a neighbour that would be noticed
    together = frame({f"P{i}": h for i, h in enumerate(histories)})
    alone = [FEATURES.table(frame({"P": h})) for h in histories]
    assert same(FEATURES.table(together), np.concatenate(alone)).all()
    assert same(walk(BY_HOP[1], histories).flat, np.concatenate(alone)).all()


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(6)), seed=st.integers(0, 99))
def test_the_order_of_assets_changes_nothing(order, seed):
    histories = fleet(6, seed)
    names = [f"P{i}" for i in range(6)]
    tables = {n: FEATURES.table(frame({n: h})) for n, h in zip(names, histories, strict=True)}
    shuffled = FEATURES.table(frame({names[i]: histories[i] for i in order}))
    assert same(shuffled, np.concatenate([tables[names[i]] for i in order])).all()
    walked = walk(BY_HOP[1], [histories[i] for i in order])
    assert all(same(walked.features[at], tables[names[i]]).all() for at, i in enumerate(order))


@pytest.mark.parametrize("features", [FEATURES, LONG], ids=["small", "recipe"])
def test_the_batch_changes_nothing(features):
    histories, rng = fleet(32, longest=90), np.random.default_rng(1)

    def mixed(on: list[int]) -> list[list[int]]:
        order = rng.permutation(on).tolist()
        cuts = sorted(rng.integers(0, len(on) + 1, 2).tolist())
        return [part for part in (order[: cuts[0]], order[cuts[0] : cuts[1]], order[cuts[1] :]) if part]

    graph = Graph(features)
    whole, single, parts = (walk(graph, histories, batch=b) for b in (lambda on: [on], lambda on: [[i] for i in on], mixed))
    for other in (single, parts):
        assert same(whole.flat, other.flat).all()
        assert same(np.stack(whole.memory), np.stack(other.memory)).all()


@pytest.mark.parametrize("hop", BY_HOP)
def test_a_step_without_news_changes_nothing(hop):
    graph, history = BY_HOP[hop], fleet(2, seed=3)[1]
    window = np.full((1, FEATURES.rows, 2), np.nan, np.float32)
    window[0, -min(hop, len(history)) :] = history[:hop]
    first = graph.run(window, [min(hop, len(history))], np.zeros((1, FEATURES.slots)))
    again = graph.run(window, [0], first["memory_next"])
    assert all(same(first[name], again[name]).all() for name in graph.outputs)
    assert not same(first["memory_next"], np.zeros((1, FEATURES.slots))).all()


@pytest.mark.parametrize("hop", [4, FEATURES.rows])
def test_hops_give_what_single_steps_give(hop):
    histories = fleet(8, seed=4)
    every = walk(BY_HOP[1], histories)
    for pattern in (lambda step: hop, lambda step: (1, hop, 0, 2, hop - 1)[step % 5]):
        some = walk(BY_HOP[hop], histories, fresh=pattern)
        assert sum(map(len, some.ticks)) > 10
        for i, ticks in enumerate(some.ticks):
            for at, row in zip(ticks, some.features[i], strict=True):
                assert at == 0 or same(row, every.features[i][at - 1]).all(), f"asset {i}, tick {at}"


@settings(max_examples=30, deadline=None)
@given(pattern=st.lists(st.integers(0, 4), min_size=1, max_size=12), seed=st.integers(0, 99))
def test_any_rhythm_leaves_the_same_memory(pattern, seed):
    history = fleet(2, seed)[1]
    taken = min(sum(pattern), len(history))
    news = [min(n, max(0, taken - sum(pattern[:i]))) for i, n in enumerate(pattern)]
    some = walk(BY_HOP[4], [history[:taken]], fresh=lambda step: news[step] if step < len(news) else 0) if taken else None
    if some:
        every = walk(BY_HOP[1], [history[: some.ticks[0][-1]]])
        assert same(some.memory[0], every.memory[0]).all() or some.ticks[0][-1] == 0


def test_a_graph_whose_hop_outruns_its_window_is_refused():
    short = plain([Age(), Ewma(5)])
    assert short.rows == RECENT, "the contribution looks back further than these kernels"
    for hop in (RECENT + 1, 0):
        with pytest.raises(UsageError, match="hop"):
            step_graph(short, hop, says_nothing)


def test_a_graph_without_memory_and_one_without_window_kernels_run():
    for kernels, slots in (([TrailingMean(3)], 0), ([Age(), Ewma(5)], 5)):
        graph, history = Graph(plain(kernels)), fleet(2)[1]
        assert graph.features.slots == slots
        assert same(walk(graph, [history]).flat, graph.features.table(frame({"A": history}))).all()


def test_an_asset_of_one_tick_has_a_row_on_both_paths():
    history = np.array([[1.5, -2.0]], np.float32)
    table = LONG.table(frame({"A": history}))
    assert table.shape == (1, len(LONG.names_)) and same(walk(Graph(LONG), [history]).flat, table).all()
    assert table[0, LONG.names_.index("mean30:a")] == 1.5 and table[0, 0] == 1.0


def test_the_contribution_is_the_root_mean_square_of_the_newest_scores_channel_by_channel():
    contract = Contract((Channel("set", "-", "setting"), Channel("b", "-"), Channel("still", "-"), Channel("a", "-")), "h", "life")
    rng = np.random.default_rng(5)
    readings = np.c_[np.ones(60), rng.normal(size=60), np.full(60, 7.0), rng.normal(size=60)].astype(np.float32)
    fitted = FeatureSet(RegimeScore(), [TrailingMean(12), Age()]).fit(frame({"A": readings}, contract), contract)
    out = Graph(fitted).run(readings[None, -12:], [1], np.zeros((1, fitted.slots)))
    scores = fitted.normalise_.scores(frame({"A": readings[-12:]}, contract))
    want = [0.0, np.sqrt((scores["b"][-10:] ** 2).mean()), 0.0, np.sqrt((scores["a"][-10:] ** 2).mean())]
    assert out["contribution"].dtype == np.float32 and np.allclose(out["contribution"][0], want, rtol=1e-6)
    silent = readings[None, -12:].copy()
    silent[..., 1] = np.nan
    assert np.isnan(Graph(fitted).run(silent, [1], np.zeros((1, fitted.slots)))["contribution"][0, 1])


def test_the_same_fitted_features_give_the_same_bytes_and_no_table_has_no_rows():
    assert step_graph(LONG, 1, says_nothing) == step_graph(plain(RECIPE), 1, says_nothing)
    model = onnx.load_from_string(step_graph(LONG, 1, says_nothing))
    assert [i.name for i in model.graph.input] == ["window", "fresh", "memory"]
    assert [o.name for o in model.graph.output] == ["memory_next", "contribution"]
    empty = frame({"A": np.zeros((1, 2))}).filter(pl.col("asset") == "B")
    assert LONG.table(empty).shape == (0, len(LONG.names_)) and PLAIN.names == ["a", "b"]
