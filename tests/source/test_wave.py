"""Columns of waveforms become rows: List or Array, null or torn, whatever the blocks they come in."""

import numpy as np
import polars as pl
import pytest

import pmx.source.wave
from pmx.contract import Channel, DataError, UsageError
from pmx.feature.kernel import TrailingMean
from pmx.feature.snapshot import Snapshot
from pmx.feature.spectral import Bearing, EnvelopeOrders
from pmx.source import Waves
from pmx.source.wave import stacked, tick_rows

CHANNELS = (Channel("a", "g", rate=10.0), Channel("b", "g", rate=10.0))


def frame(a: list, b: list, dtype: pl.DataType | None = None) -> pl.DataFrame:
    own = dtype or pl.List(pl.Float32)
    place = {"file": ["x.npz"] * len(a), "row": range(1, len(a) + 1), "asset": ["P"] * len(a), "time": np.arange(len(a), dtype=float)}
    return pl.DataFrame({**place, "load": np.arange(len(a)) * 2.0, "a": pl.Series(a, dtype=own), "b": pl.Series(b, dtype=own)})


def reduced(rows: pl.DataFrame) -> pl.DataFrame:
    return tick_rows(Waves(rows.lazy(), CHANNELS, Snapshot([TrailingMean(3)], 3, 10.0)))


def test_lists_and_arrays_are_the_same_and_nulls_are_missing():
    a, b = [[1.0, 2.0, 3.0], None, [4.0, None, 6.0]], [[0.0, 0.0, 3.0], [1.0, 1.0, 1.0], None]
    lists, arrays = frame(a, b), frame(a, b).with_columns(pl.col("a", "b").list.to_array(3))
    want = np.array([[[1, 0], [2, 0], [3, 3]], [[np.nan, 1]] * 3, [[4, np.nan], [np.nan, np.nan], [6, np.nan]]], np.float32)
    for rows in (lists, arrays):
        assert np.array_equal(stacked(rows, ["a", "b"], 3), want, equal_nan=True)
        made = reduced(rows)
        assert made.columns == ["file", "row", "asset", "time", "load", "a_mean", "b_mean"]
        assert made["a_mean"].to_list() == [2.0, None, 5.0] and made["b_mean"].to_list() == [1.0, 1.0, None]
        assert made.select("asset", "time", "load").equals(rows.select("asset", "time", "load"))


def test_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    rows = frame(rng.normal(size=(50, 3)).tolist(), rng.normal(size=(50, 3)).tolist())
    whole = reduced(rows)
    monkeypatch.setattr(pmx.source.wave, "AT_ONCE", 7)
    assert reduced(rows).equals(whole) and whole.height == 50


def test_no_rows_keep_their_columns():
    made = reduced(frame([], []))
    assert made.height == 0 and made.columns[-2:] == ["a_mean", "b_mean"]


def test_a_waveform_of_another_length_is_named():
    with pytest.raises(DataError, match="x.npz, row 2, asset P, channel a: 2 samples, a snapshot has 3"):
        reduced(frame([[1.0, 2.0, 3.0], [1.0, 2.0]], [[1.0] * 3] * 2))


def test_another_rate_than_the_snapshots_is_refused():
    waves = Waves(frame([], []).lazy(), CHANNELS, Snapshot([TrailingMean(3)], 3, 20.0))
    with pytest.raises(UsageError, match="rate 10.0 Hz, the snapshot's is 20 Hz"):
        tick_rows(waves)


def test_a_tag_is_read_from_its_column():
    rng = np.random.default_rng(0)
    snapshot = Snapshot([EnvelopeOrders(60, Bearing(3, 1, 5), "load", orders=["bpfo"])], 60, 10.0)
    rows = frame(rng.normal(size=(3, 60)).tolist(), rng.normal(size=(3, 60)).tolist())
    made = tick_rows(Waves(rows.with_columns(load=pl.Series([60.0, None, 30.0])).lazy(), CHANNELS, snapshot))
    assert made["a_envelope_bpfo"].is_null().to_list() == [False, True, False]
