"""The cache of feature tables: the same bits as without it, nothing computed twice, never more than its bound."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pmx.contract import Channel, Contract
from pmx.feature.cache import TableCache
from pmx.feature.features import FeatureSet
from pmx.feature.kernel import Age, Ewma, TrailingMean
from pmx.feature.regime import RegimeScore

CONTRACT = Contract((Channel("a", "-"), Channel("b", "-")), "h", "life")
RECIPE = FeatureSet(RegimeScore(), [Age(), TrailingMean(3), Ewma(2)])


def ticks(seed: int = 0, rows: int = 40) -> pl.DataFrame:
    x = np.random.default_rng(seed).normal(size=(rows, 2)).astype(np.float32)
    x[3, 0] = np.nan
    place = pl.DataFrame({"asset": ["P1"] * (rows // 2) + ["P2"] * (rows - rows // 2), "tick": range(rows)})
    return place.hstack(pl.DataFrame(x, schema=["a", "b"]).fill_nan(None))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one for each table that is computed."""
    calls, plain = [], FeatureSet.table
    monkeypatch.setattr(FeatureSet, "table", lambda self, t: calls.append(1) or plain(self, t))
    return calls


def test_a_table_is_computed_once_and_is_the_same_to_the_bit(tmp_path: Path, counted: list[int]) -> None:
    fitted = RECIPE.fit(ticks(), CONTRACT)
    plain = fitted.table(ticks())
    counted.clear()
    for _ in range(3):
        table = TableCache(tmp_path)(fitted, ticks())
        np.testing.assert_array_equal(table.view(np.uint32), plain.view(np.uint32))
        table[:] = 0.0  # a caller's own
    assert len(counted) == 1
    TableCache(tmp_path, fresh=True)(fitted, ticks())
    assert len(counted) == 2
    TableCache(tmp_path)(fitted, ticks())
    assert len(counted) == 2


def test_other_ticks_constants_or_kernels_are_other_tables(tmp_path: Path) -> None:
    one, cache = ticks(), TableCache(tmp_path)
    renamed = one.with_columns(pl.col("asset").replace("P2", "P1"))
    for t in (one, ticks(1), one[:30], renamed, one.with_columns(a=pl.col("a").fill_null(0.0))):
        for f in (RECIPE.fit(one, CONTRACT), RECIPE.fit(ticks(2), CONTRACT), RECIPE.fit(one, CONTRACT, each=True)):
            for features in (f, f.part(f.kernels[1:])):
                np.testing.assert_array_equal(cache(features, t), features.table(t))
    assert cache.hits == 0


@pytest.mark.parametrize("spoil", [lambda b: b[:-1], lambda b: b[:80] + bytes([b[80] ^ 1]) + b[81:], lambda b: b""])
def test_a_damaged_file_is_computed_again(spoil, tmp_path: Path, counted: list[int]) -> None:
    fitted = RECIPE.fit(ticks(), CONTRACT)
    plain = TableCache(tmp_path)(fitted, ticks())
    (file,) = tmp_path.iterdir()
    file.write_bytes(spoil(file.read_bytes()))
    np.testing.assert_array_equal(TableCache(tmp_path)(fitted, ticks()), plain)
    TableCache(tmp_path)(fitted, ticks())
    assert len(counted) == 2


def test_the_least_recently_used_tables_go(tmp_path: Path, counted: list[int]) -> None:
    fitted = RECIPE.fit(ticks(), CONTRACT)
    size = fitted.table(ticks()).nbytes
    counted.clear()
    for seed in range(3):
        TableCache(tmp_path)(fitted, ticks(seed))
    for age, file in enumerate(sorted(tmp_path.iterdir(), key=lambda f: f.stat().st_mtime_ns)):
        os.utime(file, ns=(age * 10**9, age * 10**9))
    bounded = TableCache(tmp_path, most=3 * size + 500)
    bounded(fitted, ticks(0))  # used just now, so the second is the oldest
    bounded(fitted, ticks(3))
    assert sum(f.stat().st_size for f in tmp_path.iterdir()) <= bounded.most
    counted.clear()
    bounded(fitted, ticks(0))
    assert not counted
    bounded(fitted, ticks(1))
    assert len(counted) == 1


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    fitted = RECIPE.fit(ticks(), CONTRACT)
    np.testing.assert_array_equal(TableCache(tmp_path / "file" / "below")(fitted, ticks()), fitted.table(ticks()))
