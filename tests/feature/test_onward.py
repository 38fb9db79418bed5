"""Features in blocks: the rows of the path of training, wherever the blocks end, for every kernel."""

from functools import cache

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmx.contract import Channel, Contract, UsageError
from pmx.feature.features import FeatureSet
from pmx.feature.onward import Onward, in_closed_form
from pmx.feature.regime import RegimeScore

from .fleet import RECIPE, SMALL

CONTRACT = Contract((Channel("regime", "-", "setting"), Channel("a", "-"), Channel("b", "-"), Channel("constant", "-")), "h", "life")


def life(seed: int, length: int, missing: float = 0.2) -> pl.DataFrame:
    """One asset in two regimes, with values missing, a spike and a channel that stands still for a while."""
    rng = np.random.default_rng(seed)
    regime = rng.integers(0, 2, length).astype(np.float64)
    x = np.c_[regime, rng.normal(size=length) + 9 * regime, 100 + 5 * rng.normal(size=length), np.full(length, 3.0)]
    x[length // 2, 2], x[: length // 3, 1] = 1e9, 1.0
    x[:, 3] += np.arange(length) > length // 2
    x[:, 1:][rng.random((length, 3)) < missing] = np.nan
    place = {"asset": ["P1"] * length, "tick": np.arange(length) + 7}
    return pl.DataFrame(place).hstack(pl.DataFrame(x.astype(np.float32), schema=CONTRACT.names).fill_nan(None))


def in_blocks(onward: Onward, ticks: pl.DataFrame, ends: list[int]) -> pl.DataFrame:
    left, tables = onward.start(), []
    for begin, end in zip([0, *ends], [*ends, len(ticks)], strict=True):
        if end > begin:
            left, table = onward.take(left, ticks[begin:end])
            tables.append(table)
    return pl.concat(tables)


@cache
def onward_of(every: bool, hop: int) -> Onward:
    """Of every kernel, or of the recipe; building its graphs takes a while."""
    return Onward(FeatureSet(RegimeScore(), SMALL if every else RECIPE).fit(life(100, 300), CONTRACT), hop)


def values(table: pl.DataFrame) -> np.ndarray:
    return table.drop("asset", "tick").to_numpy()


@pytest.mark.parametrize("every", [True, False], ids=["every kernel", "recipe"])
@settings(max_examples=6, deadline=None)
@given(data=st.data(), seed=st.integers(0, 99), hop=st.sampled_from([1, 4, 90]))
def test_every_hopth_row_of_the_path_of_training(every: bool, data: st.DataObject, seed: int, hop: int) -> None:
    ticks = life(seed, data.draw(st.integers(20, 200)))
    ends = sorted(data.draw(st.lists(st.integers(0, len(ticks)), max_size=5)))
    onward = onward_of(every, hop)
    found = in_blocks(onward, ticks, ends)
    assert found["tick"].to_list() == ticks["tick"].to_list()[hop - 1 :: hop] and found["asset"].unique().to_list() in (["P1"], [])
    np.testing.assert_allclose(values(found), onward.features.table(ticks)[hop - 1 :: hop], rtol=2e-6, atol=1e-6)


@settings(max_examples=6, deadline=None)
@given(data=st.data(), hop=st.sampled_from([1, 4]))
def test_rows_do_not_depend_on_where_blocks_end(data: st.DataObject, hop: int) -> None:
    ticks, onward = life(1, 150), onward_of(False, hop)
    ends = sorted(data.draw(st.lists(st.integers(0, 150), max_size=6)))
    np.testing.assert_allclose(values(in_blocks(onward, ticks, ends)), values(in_blocks(onward, ticks, [])), rtol=1e-6, atol=0)


def test_what_is_computed_at_a_time_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = life(2, 200)
    whole = values(in_blocks(onward_of(False, 4), ticks, []))
    monkeypatch.setattr("pmx.feature.onward.ROWS", 20)
    np.testing.assert_array_equal(values(in_blocks(onward_of(False, 4), ticks, [])), whole)


def test_memory_of_unknown_kernels_takes_the_step_graph() -> None:
    assert {type(k).__name__ for k in RECIPE if in_closed_form(k)} == {"Age", "Drift", "Ewma"}
    assert any(k.slots(2) and not in_closed_form(k) for k in SMALL), "the kernels above cover it"


def test_refusals() -> None:
    fitted = FeatureSet(RegimeScore(), RECIPE).fit(life(3, 100), CONTRACT)
    with pytest.raises(UsageError, match="hop is 0"):
        Onward(fitted, 0)
    with pytest.raises(UsageError, match="each asset apart"):
        Onward(FeatureSet(RegimeScore(), RECIPE).fit(life(3, 100), CONTRACT, each=True))


def test_real_engines(engines: tuple[str, pl.DataFrame, Contract]) -> None:
    _, ticks, contract = engines
    ticks = ticks.filter(pl.col("asset").is_in(ticks["asset"].unique().sort().head(6).to_list()))
    fitted = FeatureSet(RegimeScore(), RECIPE).fit(ticks, contract)
    onward, table = Onward(fitted, 4), fitted.table(ticks)
    for rows, own in ticks.with_row_index("at").partition_by("asset", as_dict=True).items():
        found = in_blocks(onward, own.drop("at"), [50])
        np.testing.assert_array_equal(values(found), table[own["at"].to_numpy()][3::4], err_msg=str(rows))
