"""Log-odds of classes become probabilities and the odds of any fault, alike on both paths, however far apart they are."""

import numpy as np
import onnxruntime
from hypothesis import given, settings
from hypothesis import strategies as st
from spox import Tensor, argument, build

from pmx.pack.classes import fault_nodes, odds_of_fault, probability, probability_nodes

INPUT = argument(Tensor(np.float64, ("asset", 3)))
GRAPH = build({"x": INPUT}, {"p": probability_nodes(INPUT), "odds": fault_nodes(INPUT)}).SerializeToString()
SESSION = onnxruntime.InferenceSession(GRAPH)
scores = st.lists(st.tuples(*[st.floats(-2000, 2000) | st.just(0.0)] * 3), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(scores)
def test_the_graph_says_what_numpy_says(rows):
    x = np.array(rows)
    p, odds = SESSION.run(None, {"x": x})
    assert np.allclose(p, probability(x), rtol=1e-13, atol=1e-300) and np.allclose(odds[:, 0], odds_of_fault(x), rtol=1e-13)


@settings(max_examples=60, deadline=None)
@given(scores, st.floats(-100, 100))
def test_probabilities_sum_to_one_and_a_constant_of_the_tick_changes_nothing(rows, constant):
    x = np.array(rows)
    p = probability(x)
    assert np.allclose(p.sum(1), 1.0) and (p >= 0).all() and np.isfinite(odds_of_fault(x)).all()
    assert np.allclose(probability(x + constant), p, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.floats(-15, 15)] * 3), min_size=1, max_size=6))
def test_odds_are_those_of_not_being_healthy(rows):
    x = np.array(rows)
    healthy = probability(x)[:, 0]
    assert np.allclose(odds_of_fault(x) * healthy, 1 - healthy, rtol=1e-6, atol=1e-9)
