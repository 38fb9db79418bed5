"""Reaching back in time: over a whole history at once, or tick by tick with a memory, the numbers are the same, and what they say they are."""

import numpy as np
import pytest
import spox.opset.ai.onnx.v20 as op
from hypothesis import example, given, settings
from hypothesis import strategies as st
from spox import Tensor, argument, build

from pmx.edge.step import session
from pmx.feature.trail import GRAIN, Back, Step, Trail, Whole, number

CHANNELS = 2
HISTORIES = st.lists(
    st.lists(st.sampled_from([np.nan, 0.0, 1.0, -2.5, 7.0]), min_size=CHANNELS, max_size=CHANNELS), min_size=1, max_size=70
).map(np.array)
GAPS = np.concatenate([np.full((n, CHANNELS), v) for v, n in ((1.0, 1), (np.nan, 15), (7.0, 1), (np.nan, 20), (0.0, 2), (np.nan, 50))])


def counted(x, trail: Trail):
    up = op.greater(x, op.const(np.float64(0)))
    return trail.counts(number(op.concat([up, up, op.isnan(x)], axis=2)))


def held(x, trail: Trail):
    return trail.held(x)


def mean(x, trail: Trail):
    return trail.mean(op.where(op.isnan(x), op.const(np.float64(0.1)), x))


def before(x, trail: Trail):
    return trail.before(x)


def together(x, trail: Trail):
    """Each of them twice where that is allowed: they share one memory."""
    first, said = counted(x, trail), held(x, trail)
    return op.concat([held(op.mul(x, x), trail), before(said, trail), mean(said, trail), counted(said, trail), first], axis=2)


FLAGS = [(1, CHANNELS), (5, CHANNELS), (48, CHANNELS)]
WAYS = {
    "counts": (counted, Back(flags=[FLAGS])),
    "held": (held, Back(held=[(16, CHANNELS)])),
    "mean": (mean, Back(mean=(8, CHANNELS))),
    "before": (before, Back(before=CHANNELS)),
    "together": (together, Back([FLAGS, FLAGS], [(16, CHANNELS), (3, CHANNELS)], (2, CHANNELS), CHANNELS)),
}
GRAPHS: dict[str, tuple] = {}


def both(name: str):
    """A session over whole histories, one of a tick, and the memory before the first."""
    if name not in GRAPHS:
        whole, one = (argument(Tensor(np.float64, (1, time, CHANNELS))) for time in ("time", 1))
        width = argument(Tensor(np.float64, (1, 1, "slots")))
        nodes, back = WAYS[name]
        trail = Step(back, width)
        tick = {"said": nodes(one, trail)}
        tick["next"] = trail.memory
        GRAPHS[name] = (
            session(build({"x": whole}, {"said": nodes(whole, Whole(back))}).SerializeToString()),
            session(build({"x": one, "memory": width}, tick).SerializeToString()),
            back.start,
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
