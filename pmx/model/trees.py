"""A LightGBM booster as one `ai.onnx.ml` v5 TreeEnsemble, exact: double thresholds, missing values and categories as LightGBM reads them.

Categories must come as whole numbers (LightGBM would cut 2.7 to 2, a tree node would not), and values within 1e-35 of zero as
zero (LightGBM takes them for it).

Children always get a higher number than their parent, so the written trees have no cycles; `check_acyclic` proves it again on
the bytes, since one changed index can make a runtime loop for ever and the ONNX checker accepts it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import lightgbm
import numpy as np
import onnx
import spox.opset.ai.onnx.ml.v5 as ml
import spox.opset.ai.onnx.v20 as op
from spox import Var

from pmx.contract import IncompatibleError, UsageError

LESS_OR_EQUAL, MEMBER = 0, 6  # node modes of ai.onnx.ml v5
ZERO = float(np.float32(1e-35))  # kZeroThreshold of LightGBM, a float32 constant
NO_BOUND = 1e300  # what `Booster.dump_model` writes for a threshold of infinity
REPEATABLE = {
    "objective": "l2",
    "bagging_freq": 1,
    "deterministic": True,
    "force_row_wise": True,  # the other layout is chosen by a timing, which would make the bytes depend on the machine's mood
    "verbose": -1,
}
"""LightGBM settings that every model of trees shares: the same data and seed give the same booster."""


def booster_seeds(seed: int, count: int) -> list[int]:
    """Seeds for `count` boosters; LightGBM takes positive 32-bit seeds."""
    return [int(s) for s in np.random.SeedSequence(seed).generate_state(count) >> 1]


def leaves_of(boosters: Iterable[lightgbm.Booster], x: np.ndarray, threads: int) -> np.ndarray:
    """The leaf of every tree that each row of features float32 [row, feature] falls into, int [row, tree]."""
    return np.concatenate([np.asarray(b.predict(x, pred_leaf=True, num_threads=threads)) for b in boosters], axis=1)


def thresholds_of(boosters: Iterable[lightgbm.Booster]) -> dict[int, list[float]]:
    """Feature index -> the values at which some tree splits on it."""
    found: dict[int, list[float]] = {}
    stack = [tree["tree_structure"] for booster in boosters for tree in booster.dump_model()["tree_info"]]
    while stack:
        node = stack.pop()
        if node.get("decision_type") == "<=":
            found.setdefault(node["split_feature"], []).append(float(node["threshold"]))
        stack += [node[side] for side in ("left_child", "right_child") if side in node]
    return found


def tree_inputs(features: Var) -> Var:
    """Features float32 [asset, feature] as trees read them, float64: LightGBM takes what is this close to zero for zero, and may split there."""
    x = op.cast(features, to=np.float64)
    return op.where(op.less_or_equal(op.abs(x), op.const(ZERO, np.float64)), op.const(0.0, np.float64), x)


def tree_nodes(x: Var, booster: lightgbm.Booster) -> Var:
    """What a booster says of inputs float64 [asset, feature], to the last bit: raw scores float64 [asset, class], one column without classes."""
    columns = booster.num_model_per_iteration()
    return ml.tree_ensemble(x, n_targets=columns, aggregate_function=1, post_transform=0, **tree_attributes(booster.dump_model()))


@dataclass
class Nodes:
    """The attribute lists of a TreeEnsemble while trees are written into them; `column` is the target of the tree at hand."""

    feature: list[int] = field(default_factory=list)
    mode: list[int] = field(default_factory=list)
    split: list[float] = field(default_factory=list)
    missing_true: list[int] = field(default_factory=list)
    true_id: list[int] = field(default_factory=list)
    true_leaf: list[int] = field(default_factory=list)
    false_id: list[int] = field(default_factory=list)
    false_leaf: list[int] = field(default_factory=list)
    weight: list[float] = field(default_factory=list)
    target: list[int] = field(default_factory=list)
    member: list[float] = field(default_factory=list)
    column: int = 0

    def leaf(self, value: float) -> tuple[int, int]:
        self.weight.append(float(value))
        self.target.append(self.column)
        return len(self.weight) - 1, 1

    def add(self, feature: int, mode: int, split: float, missing_true: bool) -> int:
        self.feature.append(feature)
        self.mode.append(mode)
        self.split.append(split)
        self.missing_true.append(int(missing_true))
        for children in (self.true_id, self.true_leaf, self.false_id, self.false_leaf):
            children.append(0)
        return len(self.feature) - 1

    def link(self, at: int, true: tuple[int, int], false: tuple[int, int]) -> None:
        (self.true_id[at], self.true_leaf[at]), (self.false_id[at], self.false_leaf[at]) = true, false

    def constant(self, value: float) -> None:
        """A tree that never split: a node with the same leaf on both sides."""
        at, leaf = self.add(0, LESS_OR_EQUAL, 0.0, True), self.leaf(value)
        self.link(at, leaf, leaf)

    def attributes(self, roots: list[int]) -> dict[str, Any]:
        """What was written, as the attributes of a TreeEnsemble with these roots."""
        found = {
            "tree_roots": roots,
            "nodes_featureids": self.feature,
            "nodes_modes": np.array(self.mode, np.uint8),
            "nodes_splits": np.array(self.split, np.float64),
            "nodes_missing_value_tracks_true": self.missing_true,
            "nodes_truenodeids": self.true_id,
            "nodes_trueleafs": self.true_leaf,
            "nodes_falsenodeids": self.false_id,
            "nodes_falseleafs": self.false_leaf,
            "leaf_weights": np.array(self.weight, np.float64),
            "leaf_targetids": self.target,
        }
        return found | ({"membership_values": np.array(self.member, np.float64)} if self.member else {})

    def subtree(self, s: dict[str, Any]) -> tuple[int, int]:
        """Writes a subtree of `Booster.dump_model`; returns its index and whether it is a leaf."""
        if "split_index" not in s:
            if s.get("leaf_coeff"):
                raise UsageError("linear_tree has no exact form as tree leaves -> leave it out")
            return self.leaf(s["leaf_value"])
        if s["decision_type"] == "==":  # a set of categories; a missing value goes right
            at = self.add(s["split_feature"], MEMBER, 0.0, False)
            self.member += [float(c) for c in str(s["threshold"]).split("||")] + [np.nan]
        else:
            if s["missing_type"] == "Zero":
                raise UsageError("zero_as_missing has no exact form as a tree node -> leave it out and mark missing values as NaN")
            threshold = float(s["threshold"])
            if threshold >= NO_BOUND:  # "is there a value at all": infinity is one, too
                threshold = np.inf
            # without missing values in training, LightGBM reads NaN as 0.0
            missing_true = s["default_left"] if s["missing_type"] == "NaN" else threshold >= 0.0
            at = self.add(s["split_feature"], LESS_OR_EQUAL, threshold, missing_true)
        self.link(at, self.subtree(s["left_child"]), self.subtree(s["right_child"]))
        return at, 0


def tree_attributes(dump: dict[str, Any]) -> dict[str, Any]:
    """Attributes of a TreeEnsemble from `Booster.dump_model()`: one target, the sum of the trees, or one for each class."""
    if dump["average_output"]:
        raise UsageError("only boosters whose output is a sum of trees have this form -> no boosting: rf")
    nodes, roots = Nodes(), []
    for i, tree in enumerate(dump["tree_info"]):
        nodes.column = i % dump["num_tree_per_iteration"]  # classes take turns
        roots.append(len(nodes.feature))
        root = tree["tree_structure"]
        if "split_index" in root:
            nodes.subtree(root)
        else:
            nodes.constant(root["leaf_value"])
    return nodes.attributes(roots)


def check_acyclic(graph: bytes) -> int:
    """Proves that all trees in the graph end on any input: children follow their parents and all indices point inside.

    It reads the operator of `ai.onnx.ml` 5, and that of 3 in the form that the profile `ort-compat` writes.

    Returns:
        The number of tree nodes.

    Raises:
        IncompatibleError: a child does not follow its parent, or an index points outside.
    """
    model = onnx.load_from_string(graph)
    widths = _widths(model)
    count = 0
    for node in model.graph.node:
        if node.op_type not in ("TreeEnsemble", "TreeEnsembleRegressor"):
            continue
        a = {x.name: np.array(x.ints, np.int64) for x in node.attribute if x.type == onnx.AttributeProto.INTS}
        targets = next((x.i for x in node.attribute if x.name == "n_targets"), 1)
        if node.op_type == "TreeEnsemble":
            sound = _is_sound(a, widths.get(node.input[0]), targets)
        else:
            modes = next((list(x.strings) for x in node.attribute if x.name == "nodes_modes"), [])
            sound = _is_sound_3(a, np.array(modes) == b"LEAF", widths.get(node.input[0]), targets)
        if not sound:
            raise IncompatibleError("a tree of the model points backwards or outside: it could loop for ever -> pack the model again")
        count += len(a["nodes_featureids"])
    return count


def _widths(model: onnx.ModelProto) -> dict[str, int]:
    """Tensor name -> how many columns it has, where that is known."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    found = {}
    for value in [*inferred.value_info, *inferred.input]:
        dims = value.type.tensor_type.shape.dim
        if len(dims) == 2 and dims[1].HasField("dim_value"):
            found[value.name] = dims[1].dim_value
    return found


def _is_sound(a: dict[str, np.ndarray], width: int | None, targets: int) -> bool:
    """Whether the index lists of one TreeEnsemble agree in length, point inside, and lead every parent to later children."""
    none = np.empty(0, np.int64)
    feature, target, roots = (a.get(n, none) for n in ("nodes_featureids", "leaf_targetids", "tree_roots"))
    inside = [(feature, np.iinfo(np.int64).max if width is None else width), (target, targets), (roots, len(feature))]
    if not len(roots) or any((index < 0).any() or (index >= stop).any() for index, stop in inside):
        return False
    for side in ("true", "false"):
        child, leaf = a.get(f"nodes_{side}nodeids", none), a.get(f"nodes_{side}leafs", none).astype(bool)
        if not len(child) == len(leaf) == len(feature):
            return False
        inner, own = child[~leaf], np.flatnonzero(~leaf)
        if (inner <= own).any() or (inner >= len(feature)).any() or (child[leaf] >= len(target)).any() or (child < 0).any():
            return False
    return True


def _is_sound_3(a: dict[str, np.ndarray], leaf: np.ndarray, width: int | None, targets: int) -> bool:
    """The same of a TreeEnsembleRegressor of `ai.onnx.ml` 3: its nodes are numbered from 0 within each tree, in the order of the list."""
    none = np.empty(0, np.int64)
    tree, number, feature = (a.get(f"nodes_{n}", none) for n in ("treeids", "nodeids", "featureids"))
    true, false = (a.get(f"nodes_{n}nodeids", none) for n in ("true", "false"))
    told = [a.get(f"target_{n}", none) for n in ("treeids", "nodeids", "ids")]
    if not len(tree) or {len(x) for x in (number, feature, true, false, leaf)} != {len(tree)} or len({len(x) for x in told}) != 1:
        return False
    size = np.bincount(tree) if (np.diff(tree, prepend=0) >= 0).all() and tree[0] == 0 else none
    if not len(size) or (number != np.concatenate([np.arange(n) for n in size])).any():
        return False
    if (feature < 0).any() or (width is not None and (feature >= width).any()) or (told[2] < 0).any() or (told[2] >= targets).any():
        return False
    inner = ~leaf
    if any((c[inner] <= number[inner]).any() or (c[inner] >= size[tree][inner]).any() for c in (true, false)):
        return False
    places = np.flatnonzero(leaf)
    return np.array_equal(np.stack(told[:2]), np.stack([tree[places], number[places]]))
