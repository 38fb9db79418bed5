"""Trees in the graph equal `Booster.predict` to 0.0, and a damaged forest is refused before anything runs it."""

import lightgbm
import numpy as np
import onnx
import onnxruntime
import pytest
import spox.opset.ai.onnx.ml.v5 as ml
import spox.opset.ai.onnx.v20 as op
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from spox import Tensor, argument, build

from pmx.contract import IncompatibleError, UsageError
from pmx.model import Model
from pmx.model.lightgbm import LightGBM, LightGBMFailure, LightGBMFault, LightGBMQuantile
from pmx.model.trees import check_acyclic, tree_attributes

PLAIN = {
    "objective": "l2",
    "num_leaves": 15,
    "min_child_samples": 5,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}


def grid(seed: int = 0, rows: int = 800, columns: int = 4, missing: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Features float32 [row, feature], the first of few distinct values, and targets float64 [row]."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, columns)).astype(np.float32)
    x[:, 0] = rng.integers(-3, 4, rows)
    y = np.sin(3 * x[:, 1].astype(float)) + x[:, 0] + 0.1 * rng.normal(size=rows)
    x[rng.random(x.shape) < missing] = np.nan
    return x, y


def trained(x: np.ndarray, y: np.ndarray, trees: int = 30, categories: list[int] | None = None, **extra) -> lightgbm.Booster:
    data = lightgbm.Dataset(x, y, categorical_feature=categories or [], params={"verbose": -1})
    return lightgbm.train(PLAIN | extra, data, trees)


def lowered(booster: lightgbm.Booster, columns: int) -> bytes:
    x = argument(Tensor(np.float32, ("row", columns)))
    y = ml.tree_ensemble(op.cast(x, to=np.float64), n_targets=1, aggregate_function=1, **tree_attributes(booster.dump_model()))
    return build({"x": x}, {"y": y}).SerializeToString(deterministic=True)


def run(graph: bytes, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options).run(None, {"x": x})[0].reshape(-1)


def edges(booster: lightgbm.Booster, x: np.ndarray) -> np.ndarray:
    """Rows with one feature exactly on, just above and just below each threshold that float32 can name, or missing."""
    splits: list[tuple[int, float]] = []
    stack = [t["tree_structure"] for t in booster.dump_model()["tree_info"]]
    while stack:
        node = stack.pop()
        if "split_index" in node:
            stack += [node["left_child"], node["right_child"]]
            if node["decision_type"] == "<=":
                splits.append((node["split_feature"], float(node["threshold"])))
    rows = []
    for i, (feature, threshold) in enumerate(splits):
        if abs(threshold) < 1e30:  # a split on missingness alone has no threshold to speak of
            near = np.float32(threshold)
            for value in (near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf)), np.float32(np.nan)):
                rows.append(x[i % len(x)].copy())
                rows[-1][feature] = value
    return np.array(rows, np.float32)


def tiny(rows: np.ndarray) -> np.ndarray:
    """Values that LightGBM reads as zero and a tree node does not; the model, not the tree writer, sees to them."""
    return (np.abs(rows) < 1e-30) & (rows != 0)


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_rows_on_and_beside_thresholds_score_as_lightgbm_scores_them(missing):
    x, y = grid(missing=missing)
    booster = trained(x, y)
    rows = edges(booster, x)
    rows = rows[~tiny(rows).any(1)]
    assert len(rows) > 1000
    graph = lowered(booster, 4)
    assert (run(graph, rows) == booster.predict(rows, num_threads=1)).all()
    assert all(run(graph, r[None])[0] == want for r, want in zip(rows[::97], booster.predict(rows[::97], num_threads=1), strict=True))


def test_thresholds_that_float32_cannot_name_are_kept_in_double():
    """LightGBM splits halfway between two values; rounding that threshold to float32 moves a row that lies on it."""
    below, above = np.float32(1.0), np.nextafter(np.float32(1.0), np.float32(2))
    x = np.repeat([below, above], 100)[:, None]
    booster = trained(x, np.repeat([0.0, 1.0], 100), trees=5)
    got = run(lowered(booster, 1), np.array([[below], [above]]))
    assert (got == booster.predict(np.array([[below], [above]]))).all() and got[0] < got[1]


def test_missing_values_that_training_never_saw_count_as_zero():
    x, y = grid()
    booster = trained(x, y)
    assert "None" in str(booster.dump_model()["tree_info"][0]) and not np.isnan(x).any()
    rows = x.copy()
    rows[::2, 0], rows[::3, 1], rows[5] = np.nan, np.nan, np.nan
    got = run(lowered(booster, 4), rows)
    assert (got == booster.predict(rows)).all() and (got == run(lowered(booster, 4), np.nan_to_num(rows))).all()


@pytest.mark.parametrize("kinds", [3, 12, 70])
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_categories_known_unknown_and_missing(kinds, missing):
    x, y = grid()
    rng = np.random.default_rng(1)
    x[:, 2] = rng.integers(0, kinds, len(x))
    y = y + rng.normal(size=kinds)[x[:, 2].astype(int)]
    x[rng.random(len(x)) < missing, 2] = np.nan
    booster = trained(x, y, categories=[2], min_data_per_group=5, cat_smooth=1.0)
    assert "==" in str(booster.dump_model())
    values = np.array([*range(kinds + 5), -1, -7, 1000, np.nan], np.float32)
    rows = np.repeat(x[:40], len(values), axis=0)
    rows[:, 2] = np.tile(values, 40)
    assert (run(lowered(booster, 4), rows) == booster.predict(rows)).all()


@settings(max_examples=60, deadline=None)
@given(rows=hnp.arrays(np.float32, (5, 4), elements=st.floats(width=32, allow_subnormal=False)))
def test_any_float32_row_scores_alike(rows):
    rows[tiny(rows)] = 0.0
    assert (run(GRAPH, rows) == BOOSTER.predict(rows)).all()


BOOSTER = trained(*grid(2, missing=0.1))
GRAPH = lowered(BOOSTER, 4)


def test_trees_that_never_split():
    x = np.zeros((50, 1), np.float32)
    booster = trained(x, np.full(50, 3.25), trees=3)
    assert all("split_index" not in t["tree_structure"] for t in booster.dump_model()["tree_info"])
    rows = np.array([[-1.0], [0.0], [np.nan]], np.float32)
    assert (run(lowered(booster, 1), rows) == booster.predict(rows)).all() and booster.predict(rows)[0] == 3.25
    # beside trees that did
    x, y = grid(rows=60)
    mixed = trained(x, np.where(x[:, 0] > 0, 1.0, 0.0), trees=40, min_child_samples=25, learning_rate=1.0)
    assert (run(lowered(mixed, 4), x) == mixed.predict(x)).all() and check_acyclic(lowered(mixed, 4)) > 0
    assert len(y) == 60


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"zero_as_missing": True}, "zero_as_missing"),
        ({"linear_tree": True}, "linear_tree"),
        ({"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}, "boosting: rf"),
    ],
)
def test_what_has_no_exact_form_is_refused(extra, words):
    x, y = grid()
    data = lightgbm.Dataset(x, y, params={"verbose": -1} | extra)
    with pytest.raises(UsageError, match=words):
        tree_attributes(lightgbm.train(PLAIN | extra, data, 3).dump_model())


@pytest.mark.parametrize("classes", [[0, 1, 2, 3], [0, 2]])  # a class may be missing among the rows of a fold
def test_the_classes_of_a_booster_take_turns_in_one_forest(classes):
    x, y = grid(5, missing=0.1)
    kind = np.array(classes)[np.digitize(y, np.quantile(y, np.linspace(0, 1, len(classes) + 1)[1:-1]))]
    model = LightGBMFault(trees=12, min_child_samples=5, average=2, bagging_fraction=1.0)
    model.fit(x, np.eye(4)[kind], np.repeat("A", len(x)))
    rows = np.concatenate([x, *(edges(b, x) for b in model.boosters_)])
    graph = model_graph(model, 4)
    got = run(graph, rows).reshape(len(rows), -1)
    assert got.shape == (len(rows), 4) and (got == model.score(rows)).all()
    assert (got[: len(x)].argmax(1) == kind).mean() > 0.8 and not set(np.unique(got.argmax(1))) - set(classes)
    assert check_acyclic(graph) > 0 and model.leaves(x).shape == (len(x), 2 * 12 * 4) and model.score(x[:0]).shape == (0, 4)
    nodes = onnx.load_from_string(graph).graph.node
    assert {next(a.i for a in n.attribute if a.name == "n_targets") for n in nodes if n.op_type == "TreeEnsemble"} == {4}
    with pytest.raises(IncompatibleError):
        check_acyclic(mutated(graph, "leaf_targetids", 0, 4))


def test_log_odds_of_a_failure_are_those_of_the_booster():
    x, y = grid(6, missing=0.1)
    model = LightGBMFailure(trees=30, min_child_samples=5)
    model.fit(x, (y > 1).astype(float), np.repeat("A", len(x)))
    told = run(model_graph(model, 4), x)
    assert (told == model.score(x)).all() and np.allclose(1 / (1 + np.exp(-told)), model.boosters_[0].predict(x), rtol=1e-12)


@settings(max_examples=8, deadline=None)
@given(alpha=st.floats(0.05, 0.95), seed=st.integers(0, 99))
def test_a_quantile_of_life_is_missed_by_about_its_share(alpha, seed):
    life = np.random.default_rng(seed).uniform(10, 90, 1500)
    x = np.zeros((1500, 1), np.float32)
    model = LightGBMQuantile(trees=60, learning_rate=0.3, min_child_samples=5, bagging_fraction=1.0, alpha=alpha)
    model.fit(x, life, np.repeat("A", 1500))
    assert abs(np.mean(life < model.score(x)) - alpha) < 0.03 and (run(model_graph(model, 1), x) == model.score(x)).all()


def test_a_quantile_outside_of_its_range_is_refused():
    with pytest.raises(UsageError, match="alpha"):
        LightGBMQuantile(alpha=1.0)


def mutated(graph: bytes, name: str, at: int, value: int) -> bytes:
    model = onnx.load_from_string(graph)
    node = next(n for n in model.graph.node if n.op_type == "TreeEnsemble")
    next(a for a in node.attribute if a.name == name).ints[at] = value
    return model.SerializeToString()


def ints(graph: bytes, name: str) -> list[int]:
    node = next(n for n in onnx.load_from_string(graph).graph.node if n.op_type == "TreeEnsemble")
    return list(next(a for a in node.attribute if a.name == name).ints)


def test_a_sound_forest_is_counted_and_a_cycle_is_caught():
    nodes = len(ints(GRAPH, "nodes_featureids"))
    assert check_acyclic(GRAPH) == nodes
    inner = [i for i, leaf in enumerate(ints(GRAPH, "nodes_trueleafs")) if not leaf]
    for at in (inner[0], inner[len(inner) // 2], inner[-1]):
        for child in (0, at, at - 1, nodes, nodes + 1000, -1):
            with pytest.raises(IncompatibleError, match="backwards or outside"):
                check_acyclic(mutated(GRAPH, "nodes_truenodeids", at, child))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tree_roots", 10**6),
        ("tree_roots", -1),
        ("nodes_featureids", 4),
        ("nodes_featureids", -1),
        ("leaf_targetids", 1),
        ("leaf_targetids", -1),
    ],
)
def test_an_index_that_points_outside_is_caught(name, value):
    for at in (0, -1):
        with pytest.raises(IncompatibleError):
            check_acyclic(mutated(GRAPH, name, at, value))


def test_a_leaf_outside_and_lists_of_different_length_are_caught():
    leaf = ints(GRAPH, "nodes_falseleafs").index(1)
    with pytest.raises(IncompatibleError):
        check_acyclic(mutated(GRAPH, "nodes_falsenodeids", leaf, len(ints(GRAPH, "leaf_targetids"))))
    for name in ("nodes_truenodeids", "nodes_falseleafs", "nodes_featureids", "leaf_targetids", "tree_roots"):
        model = onnx.load_from_string(GRAPH)
        node = next(n for n in model.graph.node if n.op_type == "TreeEnsemble")
        attribute = next(a for a in node.attribute if a.name == name)
        del attribute.ints[:]
        with pytest.raises(IncompatibleError):
            check_acyclic(model.SerializeToString())


def test_two_fits_and_two_threads_give_the_same_bytes():
    x, y = grid(3, rows=500, missing=0.05)
    fits = [LightGBM(trees=4, min_child_samples=10, average=2, threads=threads) for threads in (1, 1, 2)]
    for model in fits:
        model.fit(x, y, np.repeat("A", len(x)))
    first, again, threaded = (model_graph(m, 4) for m in fits)
    assert first == again == threaded
    other = LightGBM(trees=4, min_child_samples=10, average=2, seed=1)
    other.fit(x, y, np.repeat("A", len(x)))
    assert model_graph(other, 4) != first


def model_graph(model: Model, columns: int) -> bytes:
    features = argument(Tensor(np.float32, ("asset", columns)))
    return build({"x": features}, {"y": model.to_onnx(features)}).SerializeToString(deterministic=True)


@pytest.mark.parametrize("average", [1, 3])
def test_the_model_and_its_graph_agree_to_the_last_bit(average):
    x, y = grid(4, missing=0.1)
    model = LightGBM(trees=30, min_child_samples=5, average=average)
    model.fit(x, y, np.repeat("A", len(x)))
    rows = np.concatenate([x, *(edges(b, x) for b in model.boosters_)])
    small = x[:200].copy()
    small[:, 0] = np.tile(np.array([1e-35, -1e-35, 1.1e-35, 1e-38], np.float32), 50)
    rows = np.concatenate([rows, small])
    assert tiny(rows).sum() > 200
    got = run(model_graph(model, 4), rows)
    assert got.dtype == np.float64 and (got == model.score(rows)).all()
    assert model.leaves(rows).shape == (len(rows), 30 * average) and check_acyclic(model_graph(model, 4)) > 0


def test_labels_and_features_in_any_layout_are_taken_without_a_warning():
    x, y = grid(rows=400)
    model, strided = LightGBM(trees=5), LightGBM(trees=5)
    model.fit(x, y, np.repeat("A", 400))
    strided.fit(np.asfortranarray(x), np.repeat(y, 2)[::2], np.repeat("A", 400))
    assert model_graph(model, 4) == model_graph(strided, 4)
    with pytest.raises(UsageError, match="average"):
        LightGBM(average=0)


def test_thresholds_are_those_of_the_trees_and_the_rows_on_them_score_alike():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3)).astype(np.float32)
    model = LightGBM(trees=10, min_child_samples=5, average=2)
    model.fit(x, x[:, 0].astype(float) - 2.0 * x[:, 2], np.repeat("A", 400))
    found = model.thresholds()
    text = "".join(b.model_to_string() for b in model.boosters_)
    written = {float(t) for line in text.splitlines() if line.startswith("threshold=") for t in line.partition("=")[2].split()}
    assert {t for values in found.values() for t in values} == written
    assert model.exact and model.leaves(x).shape == (400, 20)
