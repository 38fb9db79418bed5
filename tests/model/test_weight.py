"""Weights in a graph: the same float64 numbers in the fewest bytes; rounded ones lie within half a step of what they were."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from spox import Tensor, argument, build
from spox.opset.ai.onnx import v20 as op

from pmx.edge.step import session
from pmx.model.weight import MOST, TINY, rounded, weight_node

WEIGHTS = hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=5), elements=st.floats(-1e6, 1e6, width=32))


def graph_of(weight: np.ndarray) -> bytes:
    x = argument(Tensor(np.float64, weight.shape))
    return build({"x": x}, {"y": op.mul(x, weight_node(weight))}).SerializeToString()


def held(weight: np.ndarray) -> np.ndarray:
    return session(graph_of(weight)).run(None, {"x": np.ones(weight.shape)})[0]


@settings(max_examples=40, deadline=None)
@given(weight=WEIGHTS)
def test_the_graph_holds_the_very_numbers(weight):
    for form in (weight, rounded(weight), weight * np.pi):
        assert np.array_equal(held(form), form)


@settings(max_examples=100, deadline=None)
@given(weight=WEIGHTS)
def test_rounded_weights_are_near_and_rounding_them_again_changes_nothing(weight):
    near = rounded(weight)
    half = np.abs(weight).max(0) / MOST / 2
    assert (np.abs(near - weight) <= half * (1 + 1e-4) + MOST * TINY).all()
    assert np.array_equal(rounded(near), near)


def test_a_rounded_matrix_takes_a_quarter_of_the_bytes_and_any_other_keeps_its_bits():
    learnt = np.random.default_rng(0).normal(size=(100, 100)).astype(np.float32).astype(np.float64)
    assert 10_000 < len(graph_of(rounded(learnt))) < 12_000
    assert 40_000 < len(graph_of(learnt)) < 41_000 and len(graph_of(learnt / 3)) > 80_000
