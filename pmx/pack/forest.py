"""Trees of a finished graph in other operators, to the same bit.

A float32 number is at most a double threshold where it is at most that threshold rounded down to float32. Trees tell the number of
their leaf; the leaves' weights are then added in double, tree by tree, which is the order of `Booster.predict`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pmx.contract import UsageError

LESS_OR_EQUAL = 0  # the one node mode that has these forms
NUMBERED = 2**24  # leaves; whole numbers below it are exact in float32
SUM, AS_IT_IS = 1, 0


@dataclass(frozen=True)
class Forest:
    """The trees of one TreeEnsemble of `ai.onnx.ml` 5. A child is a node, or a leaf counted on from the last node.

    Attributes:
        source: the tensor that it reads, float64 [asset, feature].
        single: whether that tensor holds float32 numbers alone.
        feature, threshold: of each node, int64 and float64 [node].
        missing: whether a missing value goes to `true`, bool [node].
        true, false: the children, int64 [node]; always later than their parent.
        roots, target: of each tree its root and the output that it adds to, int64 [tree].
        weight: of each leaf, float64 [leaf].
        targets: number of outputs.

    Example:
        >>> stump = Forest("x", True, *(np.array([v]) for v in (0, 0.5, False, 1, 2, 0, 0)), np.array([3.0, 4.0]), 1)
        >>> stump.depth, stump.leaves
        (1, [[0, 1]])
    """

    source: str
    single: bool
    feature: np.ndarray
    threshold: np.ndarray
    missing: np.ndarray
    true: np.ndarray
    false: np.ndarray
    roots: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    targets: int

    @staticmethod
    def of(node: onnx.NodeProto, single: bool) -> Forest:
        """From a node of the graph; refused where its trees have no other form."""
        a: dict[str, Any] = {x.name: helper.get_attribute_value(x) for x in node.attribute}
        a = {k: numpy_helper.to_array(v) if isinstance(v, onnx.TensorProto) else v for k, v in a.items()}
        plain = a.get("aggregate_function", SUM) == SUM and a.get("post_transform", AS_IT_IS) == AS_IT_IS
        if not plain or (a["nodes_modes"] != LESS_OR_EQUAL).any():
            raise _no_form("trees that split by category, or that do not add up,")
        count = len(a["nodes_featureids"])
        true, false = (np.array(a[f"nodes_{s}nodeids"]) + count * np.array(a[f"nodes_{s}leafs"]) for s in ("true", "false"))
        missing = np.array(a.get("nodes_missing_value_tracks_true", [0] * count), bool)
        roots, of_leaf, targets = np.array(a["tree_roots"]), np.array(a["leaf_targetids"]), a.get("n_targets", 1)
        target = [np.unique(of_leaf[leaves]) for leaves in _leaves(true, false, roots)]
        if any(len(t) > 1 for t in target) or len(np.unique(np.concatenate(target))) < targets:
            raise _no_form("a tree that adds to several outputs, or an output without a tree,")
        split, weight = a["nodes_splits"].astype(np.float64), a["leaf_weights"].astype(np.float64)
        feature = np.array(a["nodes_featureids"])
        return Forest(node.input[0], single, feature, split, missing, true, false, roots, np.concatenate(target), weight, targets)

    @property
    def depth(self) -> int:
        """Nodes on the longest way from a root."""
        deep = np.zeros(len(self.feature) + len(self.weight), np.int64)
        for i in range(len(self.feature) - 1, -1, -1):  # children come after their parents
            deep[i] = 1 + max(deep[self.true[i]], deep[self.false[i]])
        return int(deep[self.roots].max())

    @property
    def leaves(self) -> list[list[int]]:
        """The numbers of each tree's leaves."""
        return _leaves(self.true, self.false, self.roots)

    @property
    def splits(self) -> np.ndarray:
        """Thresholds in the type that its inputs are compared in, [node]."""
        return floor32(self.threshold) if self.single else self.threshold

    def inputs(self, name: str) -> tuple[str, list[onnx.NodeProto]]:
        """The tensor to compare, and the nodes that it takes."""
        if not self.single:
            return self.source, []
        return f"{name}.x", [helper.make_node("Cast", [self.source], [f"{name}.x"], to=TensorProto.FLOAT)]


def _no_form(what: str) -> UsageError:
    return UsageError(f"{what} have no form in this opset profile -> device.profile=ort")


def _leaves(true: np.ndarray, false: np.ndarray, roots: np.ndarray) -> list[list[int]]:
    found = []
    for root in roots.tolist():
        stack, leaves = [root], []
        while stack:
            at = stack.pop()
            if at >= len(true):
                leaves.append(at - len(true))
            else:
                stack += [int(false[at]), int(true[at])]
        found.append(leaves)
    return found


def floor32(value: np.ndarray) -> np.ndarray:
    """The largest float32 that is not above each float64: the same float32 numbers lie at or below both.

    Example:
        >>> floor32(np.array([0.1, 0.5])).tolist()
        [0.09999999403953552, 0.5]
    """
    with np.errstate(over="ignore"):
        near = value.astype(np.float32)
        return np.where(near.astype(np.float64) > value, np.nextafter(near, np.float32(-np.inf)), near)


def _constant(name: str, value: np.ndarray) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value, name))


# ---- which leaf each tree ends in, int [asset, tree], under the name `<name>.leaf`


def by_regressor(forest: Forest, name: str) -> list[onnx.NodeProto]:
    """By a TreeEnsembleRegressor of `ai.onnx.ml` 3. It gives float32, so each tree tells its leaf's number as an output of its own."""
    if len(forest.weight) >= NUMBERED:
        raise _no_form(f"{len(forest.weight):,} leaves, more than float32 can number,")
    rows = _rows(forest)
    given: dict[str, Any] = {k: [r[k] for r in rows] for k in rows[0] if k.startswith("nodes_")}
    leaf = [r for r in rows if r["nodes_modes"] == "LEAF"]
    trees = [r["nodes_treeids"] for r in leaf]
    given |= {"target_treeids": trees, "target_ids": trees, "target_nodeids": [r["nodes_nodeids"] for r in leaf]}
    values, numbers = np.array([r["split"] for r in rows], forest.splits.dtype), np.array([r["leaf"] for r in leaf], forest.splits.dtype)
    if forest.single:
        given |= {"nodes_values": values.tolist(), "target_weights": numbers.tolist()}
    else:
        given |= {"nodes_values_as_tensor": numpy_helper.from_array(values), "target_weights_as_tensor": numpy_helper.from_array(numbers)}
    source, nodes = forest.inputs(name)
    told = helper.make_node("TreeEnsembleRegressor", [source], [f"{name}.told"], domain="ai.onnx.ml", n_targets=len(forest.roots), **given)
    return [*nodes, told, helper.make_node("Cast", [f"{name}.told"], [f"{name}.leaf"], to=TensorProto.INT64)]


def _rows(forest: Forest) -> list[dict[str, Any]]:
    """One row for each node and leaf, tree by tree; a child's number within the tree is always higher than its parent's."""
    rows: list[dict[str, Any]] = []
    count, splits = len(forest.feature), forest.splits
    for tree, root in enumerate(forest.roots.tolist()):
        first = len(rows)
        stack: list[tuple[int, int, str]] = [(root, 0, "")]
        while stack:
            at, parent, side = stack.pop()
            number, inner = len(rows) - first, at < count
            rows.append(
                {
                    "nodes_treeids": tree,
                    "nodes_nodeids": number,
                    "nodes_modes": "BRANCH_LEQ" if inner else "LEAF",
                    "nodes_featureids": int(forest.feature[at]) if inner else 0,
                    "nodes_missing_value_tracks_true": int(inner and forest.missing[at]),
                    "nodes_truenodeids": 0,
                    "nodes_falsenodeids": 0,
                    "split": splits[at] if inner else 0.0,
                    "leaf": at - count,
                }
            )
            if side:
                rows[first + parent][side] = number
            if inner:
                stack += [(int(forest.false[at]), number, "nodes_falsenodeids"), (int(forest.true[at]), number, "nodes_truenodeids")]
    return rows


def by_levels(forest: Forest, name: str) -> list[onnx.NodeProto]:
    """By comparing at every node at once, then going from the roots down level by level; who has reached a leaf stays there."""
    x, nodes = forest.inputs(name)
    count, splits = len(forest.feature), forest.splits

    def add(kind: str, inputs: list[str], out: str, axis: int | None = None) -> str:
        told = [i if "." in i or i == x else f"{name}.{i}" for i in inputs]
        nodes.append(helper.make_node(kind, told, [f"{name}.{out}"]))
        if axis is not None:
            nodes[-1].attribute.append(helper.make_attribute("axis", axis))
        return f"{name}.{out}"

    constants = {
        "minus": np.array(-np.inf, splits.dtype),
        "behind": np.array([2]),
        "flat": np.array([0, -1]),
        "feature": 2 * forest.feature + ~forest.missing,
        "split": splits,
        "true": forest.true.astype(np.int32),
        "false": forest.false.astype(np.int32),
        "roots": forest.roots,
        "top": np.array(count - 1, np.int32),
        "count": np.array(count, np.int32),
    }
    nodes += [_constant(f"{name}.{k}", v) for k, v in constants.items()]
    # each feature twice: a missing value that goes to `true` is read as minus infinity, any other is at most nothing
    add("Where", [add("IsNaN", [x], "missing"), "minus", x], "low")
    pair = add("Concat", [add("Unsqueeze", ["low", "behind"], "lows"), add("Unsqueeze", [x, "behind"], "plain")], "pair", 2)
    value = add("Gather", [add("Reshape", [pair, "flat"], "both"), "feature"], "value", 1)
    add("Where", [add("LessOrEqual", [value, "split"], "goes"), "true", "false"], "next")
    at = add("Gather", ["next", "roots"], "at1", 1)
    for level in range(2, forest.depth + 1):
        node = add("Min", [at, "top"], f"node{level}")
        child = add("GatherElements", ["next", node], f"child{level}", 1)
        at = add("Where", [add("GreaterOrEqual", [at, "count"], f"arrived{level}"), at, child], f"at{level}")
    add("Sub", [at, "count"], "leaf")
    return nodes


def summed(forest: Forest, name: str, out: str) -> list[onnx.NodeProto]:
    """The weights of the leaves added up, float64 [asset, target] under the name `out`. A running sum has one order, a reduction none."""
    weight, each = f"{name}.weight", f"{name}.each"
    nodes = [_constant(weight, forest.weight), helper.make_node("Gather", [weight, f"{name}.leaf"], [each], axis=0)]
    nodes += [_constant(f"{name}.end", np.array([-1])), _constant(f"{name}.one", np.array(1))]
    sums = []
    for target in range(forest.targets):
        own, running, total = each, f"{name}.running{target}", out
        if forest.targets > 1:
            own, total = f"{each}{target}", f"{name}.sum{target}"
            nodes.append(_constant(f"{own}.trees", np.flatnonzero(forest.target == target)))
            nodes.append(helper.make_node("Gather", [each, f"{own}.trees"], [own], axis=1))
        nodes += [
            helper.make_node("CumSum", [own, f"{name}.one"], [running]),
            helper.make_node("Gather", [running, f"{name}.end"], [total], axis=1),
        ]
        sums.append(total)
    return nodes if forest.targets == 1 else [*nodes, helper.make_node("Concat", sums, [out], axis=1)]
