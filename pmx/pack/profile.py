"""Opset profiles: the same step graph for current runtimes, for older ones, and for runtimes without operators for trees.

`ort` is the graph as it was built: `ai.onnx.ml` 5 with double thresholds, for onnxruntime 1.21 and later. `ort-compat` writes trees as
`ai.onnx.ml` 3; `core` walks them with operators of `ai.onnx` alone. Both declare opset 18, and were run by onnxruntime 1.15 and 1.17.
Every profile gives the same bits in one runtime, see `pmx.pack.forest`; another runtime adds up in another order, which the self-test bounds.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pmx.contract import UsageError
from pmx.pack import PROFILES
from pmx.pack.forest import Forest, by_levels, by_regressor, summed

OPSET, IR = 18, 8  # of the lowered graphs: the first opset with the reductions that the kernels use
MOVES = {"Identity": (0,), "Where": (1, 2), "Gather": (0,), "Slice": (0,), "Squeeze": (0,), "Unsqueeze": (0,), "Reshape": (0,), "Abs": (0,)}


def check_profile(profile: str) -> str:
    """The profile itself; refused where there is none of that name."""
    if profile not in PROFILES:
        raise UsageError(f"device.profile is {profile!r} -> choose from {', '.join(PROFILES)}")
    return profile


def lower(graph: bytes, profile: str) -> bytes:
    """The graph in an opset profile, as bytes; `ort` leaves it as it is.

    Raises:
        UsageError: there is no such profile, or the model has no form in it.
    """
    if check_profile(profile) == "ort":
        return graph
    model = onnx.load_from_string(graph)
    single = _float32_values(model)
    nodes: list[onnx.NodeProto] = []
    for i, node in enumerate(model.graph.node):
        if node.op_type == "TreeEnsemble":
            forest, name = Forest.of(node, node.input[0] in single), f"trees{i}"
            leaf = by_regressor(forest, name) if profile == "ort-compat" else by_levels(forest, name)
            nodes += [*leaf, *summed(forest, name, node.output[0])]
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(_apart(nodes))
    _declare(model)
    return model.SerializeToString(deterministic=True)


def _apart(nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The nodes with one that changes nothing between each transposition and its product: runtimes before 1.18 join the two into an
    operator that they do not have in float64.
    """
    turned = {n.output[0] for n in nodes if n.op_type == "Transpose"}
    found: list[onnx.NodeProto] = []
    for i, node in enumerate(nodes):
        for k, name in enumerate(node.input):
            if node.op_type == "MatMul" and name in turned:
                found.append(helper.make_node("Max", [name], [f"apart{i}.{k}"]))
                node.input[k] = f"apart{i}.{k}"
        found.append(node)
    return found


def _declare(model: onnx.ModelProto) -> None:
    """States the opsets that the graph keeps to; the checker, which knows each operator's form in them, proves it."""
    for node in model.graph.node:
        if node.op_type == "Cast":  # its one newer attribute is about 8-bit floats, which no graph here has
            kept = [a for a in node.attribute if a.name != "saturate"]
            del node.attribute[:]
            node.attribute.extend(kept)
    trees = any(n.domain == "ai.onnx.ml" for n in model.graph.node)
    del model.opset_import[:]
    model.opset_import.extend([helper.make_opsetid("", OPSET), *([helper.make_opsetid("ai.onnx.ml", 3)] if trees else [])])
    model.ir_version = IR
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        why = " ".join(str(error).split())[:300]
        raise UsageError(f"the graph has no form in opset {OPSET}: {why} -> device.profile=ort, or another model") from None


def _float32_values(model: onnx.ModelProto) -> set[str]:
    """The float64 tensors whose values are float32 numbers: cast from such, or moved about since."""
    known = onnx.shape_inference.infer_shapes(model).graph
    kind = {v.name: v.type.tensor_type.elem_type for v in [*known.value_info, *known.input]}
    found: set[str] = set()
    for node in model.graph.node:
        inputs = list(node.input)
        if node.op_type == "Cast":
            fits = kind.get(inputs[0]) == TensorProto.FLOAT or inputs[0] in found
        elif node.op_type == "Constant":
            fits = _is_float32(helper.get_attribute_value(node.attribute[0]))
        elif node.op_type == "Concat":
            fits = all(i in found for i in inputs)
        else:
            fits = node.op_type in MOVES and all(inputs[i] in found for i in MOVES[node.op_type])
        if fits:
            found.update(node.output)
    return found


def _is_float32(value: object) -> bool:
    if not isinstance(value, onnx.TensorProto) or value.data_type != TensorProto.DOUBLE:
        return False
    array = numpy_helper.to_array(value)
    with np.errstate(over="ignore"):
        return bool(np.array_equal(array, array.astype(np.float32).astype(np.float64), equal_nan=True))
