"""Weights of networks: rounded to int8, and written into a graph in the fewest bytes that give the same float64 numbers."""

from __future__ import annotations

import numpy as np
import spox.opset.ai.onnx.v20 as op
from spox import Var

MOST = 127  # the largest int8 in size; -128 is left out, so that both signs reach as far
TINY = 1e-30  # a scale below it, and with it an output's weights, is nothing: float32 has few digits left near its least number


def rounded(weight: np.ndarray) -> np.ndarray:
    """The nearest weights float64 [in, out] that are int8 times a scale of their output.

    The scale is a float32 number, so that the product is exact in float64: 7 bits times 24.
    """
    scale = np.abs(weight).max(0, initial=0.0) / MOST
    scale = np.where(scale > TINY, scale, 1.0).astype(np.float32).astype(np.float64)
    return np.clip(np.round(weight / scale), -MOST, MOST) * scale


def weight_node(weight: np.ndarray) -> Var:
    """The weights, float64 [in, out], held as int8 and scales where they are that, else as float32 where they are that.

    Runtimes fold the conversion when they load the graph: a step does not pay for it.
    """
    weight = np.ascontiguousarray(weight)
    scale = np.abs(weight).max(0, initial=0.0) / MOST
    scale = np.where(scale > 0, scale, 1.0)
    steps = np.round(weight / scale)
    if weight.shape[0] > 1 and np.array_equal(steps * scale, weight):
        return op.mul(op.cast(op.const(steps.astype(np.int8)), to=np.float64), op.const(scale))
    single = weight.astype(np.float32)
    if np.array_equal(single.astype(np.float64), weight):
        return op.cast(op.const(single), to=np.float64)
    return op.const(weight)
