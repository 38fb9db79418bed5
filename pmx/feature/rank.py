"""Sorted windows over a whole history: what neighbouring windows have in common is sorted once.

A window of 30 ticks is a run of 16, one of 8, one of 4 and one of 2; the runs of a length that begin at every tick are sorted by merging
two shorter ones, which are the same runs at two ticks. All of it is minima and maxima of whole stretches of the history, and comparisons
that no wanted rank hangs on are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

Wire = tuple[int, int]  # a comparison's result by its number, 0 = the values, and at how many ticks later


class Step(NamedTuple):
    """One comparison of a plan: the minimum or the maximum of two wires, for `more` ticks beyond those that are asked for.

    Attributes:
        done: results that no later step reads.
    """

    number: int
    largest: bool
    one: Wire
    other: Wire
    more: int
    done: list[int]


def ranked(values: np.ndarray, window: int, ranks: Sequence[int]) -> list[np.ndarray]:
    """The values of these ranks, 0 = the smallest, in each window of so many ticks, a list of [tick - window + 1, channel].

    Args:
        values: [tick, channel], none of them NaN.

    Example:
        >>> history = np.array([[3.0], [1.0], [2.0], [5.0]])
        >>> [v.ravel().tolist() for v in ranked(history, 3, [0, 1])]
        [[1.0, 1.0], [2.0, 2.0]]
    """
    steps, wanted = _plan(window, tuple(ranks))
    channels, count = values.shape[1], len(values) - window + 1
    found = {0: np.ascontiguousarray(values).reshape(-1)}

    def along(wire: Wire, ticks: int) -> np.ndarray:
        return found[wire[0]][wire[1] * channels : (wire[1] + ticks) * channels]

    for number, largest, one, other, more, done in steps:
        ticks = count + more
        found[number] = (np.maximum if largest else np.minimum)(along(one, ticks), along(other, ticks))
        for old in done:  # memory that is free again is still in the core's cache
            del found[old]
    return [along(wire, count).reshape(count, channels) for wire in wanted]


@lru_cache(maxsize=256)
def _plan(window: int, ranks: tuple[int, ...]) -> tuple[list[Step], list[Wire]]:
    """The comparisons that these ranks of a window need, in an order in which they can be made, and where the ranks come from."""
    made: list[tuple[bool, Wire, Wire]] = [(False, (0, 0), (0, 0))]
    runs: dict[int, list[Wire]] = {1: [(0, 0)]}
    length = 1
    while 2 * length <= window:
        runs[2 * length] = _merged(made, runs[length], _later(runs[length], length))
        length *= 2
    whole: list[Wire] = []
    for length in [n for n in runs if window & n]:  # shorter ones first: merging costs more where one side is long
        whole = _merged(made, whole, _later(runs[length], len(whole)))
    wanted = [whole[rank] for rank in ranks]
    more = {number: ticks for number, ticks in sorted(wanted, key=lambda wire: wire[1])}
    for number in range(len(made) - 1, 0, -1):  # a comparison reads earlier ones alone
        if number in more:
            for source, ticks in made[number][1:]:
                more[source] = max(more.get(source, 0), more[number] + ticks)
    needed = [number for number in range(1, len(made)) if number in more]
    last = {source: number for number in needed for source, _ in made[number][1:]}
    done = {number: [s for s, at in last.items() if at == number and s not in dict(wanted)] for number in needed}
    return [Step(number, *made[number], more[number], done[number]) for number in needed], wanted


def _later(run: Sequence[Wire], ticks: int) -> list[Wire]:
    return [(number, at + ticks) for number, at in run]


def _merged(made: list[tuple[bool, Wire, Wire]], a: Sequence[Wire], b: Sequence[Wire]) -> list[Wire]:
    """Two sorted runs as one: Batcher's odd-even merge, as in section 5.3.4 of Knuth, The Art of Computer Programming, volume 3."""

    def compared(one: Wire, other: Wire) -> list[Wire]:
        made.extend([(False, one, other), (True, one, other)])
        return [(len(made) - 2, 0), (len(made) - 1, 0)]

    if not a or not b:
        return [*a, *b]
    if len(a) == len(b) == 1:
        return compared(a[0], b[0])
    even, odd = _merged(made, a[::2], b[::2]), _merged(made, a[1::2], b[1::2])
    merged = [even[0]]
    for i, high in enumerate(odd):
        merged += compared(high, even[i + 1]) if i + 1 < len(even) else [high]
    return merged + even[len(odd) + 1 :]
