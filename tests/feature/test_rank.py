"""Ranks in sliding windows: numpy's sort of each window, with far fewer comparisons."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmx.feature.rank import _plan, ranked


@settings(max_examples=60, deadline=None)
@given(window=st.integers(1, 70), ticks=st.integers(1, 90), channels=st.integers(1, 3), seed=st.integers(0, 99), data=st.data())
def test_every_rank_is_that_of_the_sorted_window(window, ticks, channels, seed, data):
    rng = np.random.default_rng(seed)
    values = rng.integers(-5, 5, (ticks + window - 1, channels)).astype(np.float32)  # many ties
    values[rng.random(values.shape) < 0.1] = np.inf
    ranks = data.draw(st.lists(st.integers(0, window - 1), min_size=1, max_size=5))
    want = np.sort(np.lib.stride_tricks.sliding_window_view(values, window, axis=0), axis=-1)
    got = ranked(values, window, ranks)
    assert len(got) == len(ranks)
    for rank, found in zip(ranks, got, strict=True):
        assert found.dtype == np.float32 and (found == want[:, :, rank]).all()


@pytest.mark.parametrize(("window", "all_at_most"), [(2, 2), (16, 76), (64, 528)])
def test_neighbouring_windows_share_the_runs_that_they_are_merged_from(window, all_at_most):
    """Batcher's merges of two runs of 1, 2, 4 ... ticks, each once: 1 + 3 + 9 + 25 comparisons for 16 ticks, with two results each."""
    every, _ = _plan(window, tuple(range(window)))
    middle, _ = _plan(window, (window // 2,))
    assert len(every) == all_at_most and (len(middle) < len(every) or window == 2)
