"""Reaching back in time: over a whole history at once, or tick by tick with a memory, the numbers are the same, and what they say they are."""

import numpy as np
import pytest
import spox.opset.ai.onnx.v20 as op
from hypothesis import example, given, settings
from hypothesis import strategies as st
from spox import Tensor, argument, build

from pmx.edge.step import session
from pmx.feature.trail import GRAIN, Step, Trail, Whole

CHANNELS = 2
HISTORIES = st.lists(
    st.lists(st.sampled_from([np.nan, 0.0, 1.0, -2.5, 7.0]), min_size=CHANNELS, max_size=CHANNELS), min_size=1, max_size=70
).map(np.array)
GAPS = np.concatenate([np.full((n, CHANNELS), v) for v, n in ((1.0, 1), (np.nan, 15), (7.0, 1), (np.nan, 20), (0.0, 2), (np.nan, 50))])


def counted(x, trail: Trail):
    up = op.greater(x, op.const(np.float64(0)))
    return trail.counts([(up, 1, CHANNELS), (up, 5, CHANNELS), (op.isnan(x), 48, CHANNELS)])


def held(x, trail: Trail):
    return trail.held(x, 16, CHANNELS)


def mean(x, trail: Trail):
    return trail.mean(op.where(op.isnan(x), op.const(np.float64(0.1)), x), 8, CHANNELS)


def before(x, trail: Trail):
    return trail.before(x, CHANNELS)


WAYS = {"counts": counted, "held": held, "mean": mean, "before": before}
GRAPHS: dict[str, tuple] = {}


def both(name: str):
    """A session over whole histories, one of a tick, and the memory before the first."""
    if name not in GRAPHS:
        whole, one = (argument(Tensor(np.float64, (1, time, CHANNELS))) for time in ("time", 1))
        width = argument(Tensor(np.float64, (1, 1, "slots")))
        trail = Step(width)
        tick = {"said": WAYS[name](one, trail)}
        tick["next"] = trail.memory
        GRAPHS[name] = (
            session(build({"x": whole}, {"said": WAYS[name](whole, Whole())}).SerializeToString()),
            session(build({"x": one, "memory": width}, tick).SerializeToString()),
            trail.start,
        )
    return GRAPHS[name]


@pytest.mark.parametrize("name", list(WAYS))
@settings(max_examples=40, deadline=None)
@given(x=HISTORIES)
@example(x=GAPS)
def test_tick_by_tick_is_the_whole_history_to_the_last_bit(name, x):
    whole, one, start = both(name)
    memory, said = start[None, None], []
    for row in x:
        now, memory = one.run(["said", "next"], {"x": row[None, None], "memory": memory})
        said.append(now[0, 0])
    assert np.array_equal(np.array(said), whole.run(["said"], {"x": x[None]})[0][0], equal_nan=True)


@settings(max_examples=40, deadline=None)
@given(x=HISTORIES)
@example(x=GAPS)
def test_what_is_said_is_what_the_definition_says(x):
    said = {name: both(name)[0].run(["said"], {"x": x[None]})[0][0] for name in WAYS}
    filled = np.where(np.isnan(x), 0.1, x)
    for t in range(len(x)):
        flags = np.concatenate([(x[max(0, t - rows + 1) : t + 1] > 0).sum(0) for rows in (1, 5)])
        missing = np.isnan(x[max(0, t - 47) : t + 1]).sum(0)
        assert said["counts"][t].tolist() == [*flags, *missing]
        for c in range(CHANNELS):
            present = [v for v in x[max(0, t - 16) : t, c] if not np.isnan(v)]
            assert np.array_equal(said["held"][t, c], present[-1] if present else np.nan, equal_nan=True)
        assert np.allclose(said["mean"][t], filled[max(0, t - 7) : t + 1].sum(0) / 8, atol=1 / GRAIN)
        assert np.array_equal(said["before"][t], x[t - 1] if t else np.zeros(CHANNELS), equal_nan=True)
