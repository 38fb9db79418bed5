"""The score of residuals: what is missing counts nothing, one channel cannot outvote all, and the graph gives the same bits."""

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from spox import Tensor, argument, build

from pmx.contract import DataError, UsageError
from pmx.model.residual import (
    CLIP,
    LEAST_SPREAD,
    channels_of,
    kept,
    mean_square,
    mean_square_nodes,
    newest,
    parts_of,
    spread_of,
    with_value,
)

SPREAD = np.array([1.0, 0.3, np.inf, 7.0])


def session(spread: np.ndarray) -> onnxruntime.InferenceSession:
    r = argument(Tensor(np.float64, ("asset", len(spread))))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(build({"r": r}, {"y": mean_square_nodes(r, spread)}).SerializeToString(), options)


SESSION = session(SPREAD)


@settings(max_examples=100, deadline=None)
@given(r=hnp.arrays(np.float64, (3, 4), elements=st.floats(width=32)))
def test_the_graph_gives_the_same_bits_for_any_residual(r):
    want = mean_square(r, SPREAD)
    assert np.array_equal(SESSION.run(None, {"r": r})[0], want, equal_nan=True)
    known = ~np.isnan(r[:, [0, 1, 3]]).all(1)
    assert (np.isfinite(want) == known).all() and (want[known] >= 0).all() and (want[known] <= CLIP**2).all()


def test_one_channel_alone_has_a_score_on_both_paths():
    r = np.array([[2.0], [np.nan], [1e30]])
    assert np.array_equal(mean_square(r, np.ones(1)), [4.0, np.nan, CLIP**2], equal_nan=True)
    assert np.array_equal(session(np.ones(1)).run(None, {"r": r})[0], [4.0, np.nan, CLIP**2], equal_nan=True)


def test_a_missing_or_unknown_channel_neither_helps_nor_harms():
    full = np.array([[2.0, 0.6, 123.0, 14.0]])
    assert np.allclose(mean_square(full, SPREAD), 4.0)
    holed = full.copy()
    holed[0, 1] = np.nan
    assert np.allclose(mean_square(holed, SPREAD), 4.0)


def test_spread_is_the_deviation_of_normal_noise_and_outliers_do_not_move_it():
    rng = np.random.default_rng(0)
    r = rng.normal(size=(20_000, 3)) * [0.5, 2.0, 0.0]
    r[:2000, 1] = 1e6
    r[::7] = np.nan
    spread = spread_of(np.column_stack([r, np.full(len(r), np.nan)]))
    assert np.allclose(spread[:2], [0.5, 2.0], rtol=0.2) and spread[2] == LEAST_SPREAD and np.isinf(spread[3])


@given(score=hnp.arrays(np.float64, st.integers(0, 60), elements=st.floats(0, 1e3) | st.just(np.nan)), trim=st.floats(0, 0.5))
def test_the_worst_rows_are_dropped_and_no_others(score, trim):
    keep, known = kept(score, trim), ~np.isnan(score)
    assert not keep[~known].any() and keep.sum() == known.sum() - (int(trim * known.sum()) if known.sum() >= 10 else 0)
    assert not keep.any() or not (known & ~keep).any() or score[keep].max() <= score[known & ~keep].min()


@given(names=st.lists(st.sampled_from("ABCDE"), min_size=1, max_size=40), parts=st.integers(1, 5), seed=st.integers(0, 3))
def test_folds_never_split_an_asset_and_a_single_one_is_cut_in_order(names, parts, seed):
    asset = np.array(names)
    fold = parts_of(asset, parts, seed)
    assert fold.min() >= 0 and fold.max() < parts
    if len(set(names)) > 1:
        assert all(len(set(fold[asset == a])) == 1 for a in set(names))
        assert len(set(fold)) == min(parts, len(set(names)))
    else:
        assert (np.diff(fold) >= 0).all() and len(set(fold)) == min(parts, len(names))


def test_the_newest_tick_stands_first_and_other_vectors_are_refused_by_the_setting():
    x = np.arange(12, dtype=np.float32).reshape(2, 6)
    assert (newest(x, 3) == [[0, 1], [6, 7]]).all() and channels_of(6, 2) == 3
    with pytest.raises(UsageError, match=r"lags=4 .* 6 features.*feature=lags"):
        channels_of(6, 4)
    x[0, :2] = np.nan
    assert with_value(np.tile(x, (2, 1)), 3).tolist() == [False, True, False, True]
    with pytest.raises(DataError, match="1 of 2 healthy ticks"):
        with_value(x, 3)
