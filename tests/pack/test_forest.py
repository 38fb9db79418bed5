"""Trees in other operators: the same leaves and the same sums, to the last bit."""

import numpy as np
import onnx
import pytest
import spox.opset.ai.onnx.ml.v5 as ml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from spox import Tensor, argument, build

from pmx.contract import IncompatibleError, UsageError
from pmx.model.lightgbm import LightGBM
from pmx.model.trees import check_acyclic, tree_attributes, tree_inputs, tree_nodes
from pmx.pack.forest import NUMBERED, Forest, by_regressor, floor32
from pmx.pack.profile import lower
from tests.model.test_trees import edges, grid, lowered, model_graph, run, tiny, trained

LOWERED = ["ort-compat", "core"]


def ops(graph: bytes) -> set[str]:
    return {n.op_type for n in onnx.load_from_string(graph).graph.node}


@pytest.fixture(scope="module")
def model() -> LightGBM:
    x, y = grid(4, missing=0.1)
    found = LightGBM(trees=30, min_child_samples=5, average=2)
    found.fit(x, y, np.repeat("A", len(x)))
    return found


@pytest.mark.parametrize("profile", LOWERED)
def test_rows_on_beside_and_without_values_score_as_lightgbm_scores_them(model, profile):
    x, _ = grid(4, missing=0.1)
    rows = np.concatenate([x, *(edges(b, x) for b in model.boosters_), np.full((1, 4), np.nan, np.float32)])
    far = np.array([np.inf, -np.inf, 3e38, -3e38, 1e-38, -0.0, 1e-35, -1e-35], np.float32)
    rows = np.concatenate([rows, np.stack([np.roll(far, i)[:4] for i in range(8)])])
    graph = lower(model_graph(model, 4), profile)
    assert (run(graph, rows) == model.score(rows)).all()
    assert all(run(graph, r[None])[0] == want for r, want in zip(rows[::97], model.score(rows[::97]), strict=True))
    assert ops(graph) & {"TreeEnsemble", "TreeEnsembleRegressor"} == ({"TreeEnsembleRegressor"} if profile == "ort-compat" else set())
    assert lower(model_graph(model, 4), profile) == graph


BOOSTER = trained(*grid(2, missing=0.1))
GRAPHS = {p: lower(lowered(BOOSTER, 4), p) for p in LOWERED}


@settings(max_examples=40, deadline=None)
@given(rows=hnp.arrays(np.float32, (5, 4), elements=st.floats(width=32, allow_subnormal=False)))
def test_any_float32_row_scores_alike(rows):
    rows[tiny(rows)] = 0.0
    for graph in GRAPHS.values():
        assert (run(graph, rows) == BOOSTER.predict(rows)).all()


@pytest.mark.parametrize("profile", LOWERED)
def test_trees_that_never_split_stand_beside_trees_that_did(profile):
    x, _ = grid(rows=60)
    for target, extra in ((np.full(60, 3.25), {}), (np.where(x[:, 0] > 0, 1.0, 0.0), {"min_child_samples": 25, "learning_rate": 1.0})):
        booster = trained(x, target, trees=20, **extra)
        assert (run(lower(lowered(booster, 4), profile), x) == booster.predict(x)).all()


@pytest.mark.parametrize("profile", LOWERED)
def test_inputs_that_float32_cannot_name_keep_double_thresholds(profile):
    """A value of 0.1 in double lies between two float32 numbers; so does a threshold beside it."""
    x, y = grid(5)
    booster = trained(x, y)
    source = argument(Tensor(np.float64, ("row", 4)))
    graph = build({"x": source}, {"y": tree_nodes(source, booster)}).SerializeToString()
    splits = edges(booster, x)
    splits = splits[~tiny(splits).any(1)].astype(np.float64)
    rows = np.concatenate([splits * (1 + 1e-12), splits * (1 - 1e-12), splits])
    got = run(lower(graph, profile), rows)
    assert (got == booster.predict(rows)).all() and (got != booster.predict(rows.astype(np.float32))).any()


@pytest.mark.parametrize("profile", LOWERED)
def test_trees_of_several_outputs_add_up_apart(profile):
    boosters = [trained(*grid(seed), trees=5) for seed in (0, 1)]
    parts = [tree_attributes(b.dump_model()) for b in boosters]
    nodes, leaves = len(parts[0]["nodes_featureids"]), len(parts[0]["leaf_weights"])
    second = dict(parts[1], tree_roots=[r + nodes for r in parts[1]["tree_roots"]], leaf_targetids=[1] * len(parts[1]["leaf_weights"]))
    for side in ("true", "false"):
        ids, leaf = second[f"nodes_{side}nodeids"], second[f"nodes_{side}leafs"]
        second[f"nodes_{side}nodeids"] = [i + (leaves if is_leaf else nodes) for i, is_leaf in zip(ids, leaf, strict=True)]
    both = {k: np.concatenate([v, second[k]]) if isinstance(v, np.ndarray) else [*v, *second[k]] for k, v in parts[0].items()}
    x = argument(Tensor(np.float32, ("row", 4)))
    graph = build({"x": x}, {"y": ml.tree_ensemble(tree_inputs(x), n_targets=2, aggregate_function=1, **both)}).SerializeToString()
    rows, _ = grid(7, missing=0.1)
    got = run(lower(graph, profile), rows).reshape(-1, 2)
    assert (got == np.stack([b.predict(rows) for b in boosters], 1)).all()


@pytest.mark.parametrize("profile", LOWERED)
def test_what_has_no_form_is_refused_by_name(profile):
    x, y = grid()
    x[:, 2] = np.random.default_rng(1).integers(0, 12, len(x))
    booster = trained(x, y + x[:, 2], categories=[2], min_data_per_group=5, cat_smooth=1.0)
    with pytest.raises(UsageError, match="split by category.* -> device.profile=ort"):
        lower(lowered(booster, 4), profile)


def test_more_leaves_than_float32_can_number_are_refused():
    stump = [np.array([v]) for v in (0, 0.5, False, 1, 2, 0, 0)]
    with pytest.raises(UsageError, match="16,777,216 leaves"):
        by_regressor(Forest("x", True, *stump, np.zeros(NUMBERED, np.float32), 1), "trees")


@settings(deadline=None)
@given(st.floats(allow_nan=False), st.floats(width=32, allow_nan=False))
def test_a_float32_number_lies_on_the_same_side_of_a_rounded_threshold(threshold, x):
    assert (x <= threshold) == bool(np.float32(x) <= floor32(np.array([threshold]))[0])
    near = np.float32(threshold) if abs(threshold) < 3e38 else np.float32(1.0)
    for value in (near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))):
        assert (float(value) <= threshold) == bool(value <= floor32(np.array([threshold]))[0])


def test_a_damaged_regressor_is_caught():
    graph = GRAPHS["ort-compat"]
    model = onnx.load_from_string(graph)
    tree = next(n for n in model.graph.node if n.op_type == "TreeEnsembleRegressor")
    at = {a.name: a for a in tree.attribute}
    count = check_acyclic(graph)
    assert count == len(at["nodes_featureids"].ints)
    inner = [i for i, mode in enumerate(at["nodes_modes"].strings) if mode != b"LEAF"]
    for name, value in (("nodes_truenodeids", 0), ("nodes_falsenodeids", count), ("nodes_featureids", 4), ("nodes_featureids", -1)):
        for i in (inner[0], inner[-1]):
            before, at[name].ints[i] = at[name].ints[i], value
            with pytest.raises(IncompatibleError, match="backwards or outside"):
                check_acyclic(model.SerializeToString())
            at[name].ints[i] = before
    for name in ("nodes_treeids", "nodes_nodeids", "target_ids", "target_nodeids", "target_treeids"):
        before, at[name].ints[5] = at[name].ints[5], at[name].ints[5] + 1000
        with pytest.raises(IncompatibleError):
            check_acyclic(model.SerializeToString())
        at[name].ints[5] = before
    assert check_acyclic(model.SerializeToString()) == count
    at["nodes_modes"].strings[inner[1]] = b"LEAF"
    with pytest.raises(IncompatibleError):
        check_acyclic(model.SerializeToString())


def test_no_profile_of_that_name():
    with pytest.raises(UsageError, match="device.profile is 'tensorrt' -> choose from ort, ort-compat, core"):
        lower(b"", "tensorrt")
