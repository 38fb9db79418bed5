"""The step graph: one ONNX function of a window, what is new in it, and the memory of each asset."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import spox.opset.ai.onnx.v20 as op
from spox import Tensor, Var, argument, build

from pmx.contract import UsageError
from pmx.feature.features import FeatureSet, Now
from pmx.feature.view import cut

Head = Callable[[Now, Var], tuple[dict[str, Var], Var]]


def step_graph(features: FeatureSet, hop: int, head: Head, slots: int = 0, show_features: bool = False) -> bytes:
    """The bytes of the graph for a fitted feature set and a head that turns what is known of the newest reading and its own part of
    the memory, float64 [asset, slots], into outputs and that part's next.

    Inputs: window float32 [asset, W, channel], fresh int64 [asset], memory float64 [asset, M].
    Outputs: memory_next, what the head gives (it may give a contribution of its own), contribution, quality where it is judged;
    and with `show_features` the features, which parity compares and no bundle carries.

    Args:
        slots: memory values of the head; they lie behind those of the features.
        hop: the most ticks that are new in one step; the window must hold them all.
    """
    if not 1 <= hop <= features.rows:
        raise UsageError(f"hop is {hop}, but the kernels read windows of {features.rows} ticks -> 1 <= hop <= W: add a longer kernel")
    window = argument(Tensor(np.float32, ("asset", features.rows, len(features.contract_.channels))))
    fresh = argument(Tensor(np.int64, ("asset",)))
    memory = argument(Tensor(np.float64, ("asset", features.slots + slots)))
    now, carried, contribution, quality = features.nodes(window, fresh, memory, hop)
    said, kept = head(now, cut(memory, features.slots, features.slots + slots, 1))
    outputs = {"memory_next": op.concat([*carried, kept], axis=1), "contribution": contribution} | said
    if quality is not None:
        outputs["quality"] = quality
    if show_features:
        outputs["features"] = now.features
    model = build({"window": window, "fresh": fresh, "memory": memory}, outputs)
    model.producer_name, model.producer_version = "pmx", ""
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)
