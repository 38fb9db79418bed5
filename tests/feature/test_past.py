"""Feature vectors over time: no row sees another life, a later tick, or more than its own past."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pmx.feature.past import Past

LIVES = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def past(lengths: list[int], columns: int = 2) -> tuple[Past, np.ndarray]:
    life = np.repeat(np.arange(len(lengths)), lengths)
    table = np.arange(len(life) * columns, dtype=np.float32).reshape(-1, columns)
    return Past.of(table, life, [f"f{i}" for i in range(columns)]), life


@settings(max_examples=80, deadline=None)
@given(lengths=LIVES, length=st.integers(1, 7))
def test_a_sequence_holds_the_last_ticks_of_its_own_life_and_nothing_else(lengths, length):
    found, life = past(lengths)
    got = found.sequences(length, [1, 0])
    for i in range(len(life)):
        own = [j for j in range(i - length + 1, i + 1) if j >= 0 and life[j] == life[i]]
        want = np.full((length, 2), np.nan, np.float32)
        want[length - len(own) :] = found.table[own][:, [1, 0]]
        assert np.array_equal(got[i], want, equal_nan=True)


@settings(max_examples=40, deadline=None)
@given(lengths=LIVES, seed=st.integers(0, 5))
def test_some_rows_look_back_as_they_did_among_all(lengths, seed):
    found, life = past(lengths)
    rng = np.random.default_rng(seed)
    mask, order = rng.random(len(life)) < 0.5, rng.permutation(len(life))
    whole = found.sequences(4, [0])
    assert np.array_equal(found[mask].sequences(4, [0]), whole[mask], equal_nan=True) and len(found[mask]) == mask.sum()
    assert np.array_equal(found[order][order].sequences(4, [0]), whole[order][order], equal_nan=True)
    assert np.array_equal(found[order].now, found.table[order]) and found.now is found.table


def test_rows_that_stand_alone_have_no_past():
    table = np.ones((3, 1), np.float32)
    assert np.isnan(Past.alone(table, ["load"]).sequences(3, [0])[:, :2]).all()
