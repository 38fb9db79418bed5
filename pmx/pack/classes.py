"""From log-odds of classes of faults to their probabilities, and to the odds of any fault, on both paths."""

from __future__ import annotations

import numpy as np
import spox.opset.ai.onnx.v20 as op
from spox import Var

from pmx.feature.view import const, cut
from pmx.pack.odds import FAR


def probability(score: np.ndarray) -> np.ndarray:
    """Of log-odds float64 [row, class], up to a constant of each row: the softmax, float64 [row, class].

    Example:
        >>> probability(np.log([[1.0, 3.0]])).round(2).tolist()
        [[0.25, 0.75]]
    """
    part = np.exp(score - score.max(1, keepdims=True))
    return part / part.sum(1, keepdims=True)


def odds_of_fault(score: np.ndarray) -> np.ndarray:
    """(1 − p) / p of the probability p of the first class, float64 [row]: how much likelier any other is.

    It rises as 1 − p does, but does not crowd at 1, so that a limit can lie at a multiple of what healthy ticks have.

    Example:
        >>> odds_of_fault(np.log([[1.0, 3.0, 1.0]])).round(2).tolist()
        [4.0]
    """
    return np.exp(np.clip(score[:, 1:] - score[:, :1], -FAR, FAR)).sum(1)


def probability_nodes(score: Var) -> Var:
    """`probability` as nodes, float64 [asset, class]."""
    part = op.exp(op.sub(score, op.reduce_max(score, op.const([1]), keepdims=1)))
    return op.div(part, op.reduce_sum(part, op.const([1]), keepdims=1))


def fault_nodes(score: Var) -> Var:
    """`odds_of_fault` as nodes, float64 [asset, 1], of log-odds with two classes or more."""
    far = op.sub(cut(score, 1, np.iinfo(np.int64).max, 1), cut(score, 0, 1, 1))
    near = op.max([op.min([far, const(FAR)]), const(-FAR)])
    return op.reduce_sum(op.exp(near), op.const([1]), keepdims=1)
