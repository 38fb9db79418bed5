"""Blocks of a large history: the same ticks as from all rows at once, wherever the blocks end."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from pmx.contract import Channel, Contract, DataError, Running
from pmx.feature import large
from pmx.feature.large import Partition, partitions, tick_blocks
from pmx.source.admit import admit
from pmx.source.cmapss import Cmapss
from pmx.source.synthetic import Synthetic
from pmx.source.ticks import to_ticks

CHANNELS = (
    Channel("speed", "rpm", "setting", hold=3.0),
    Channel("load", "kW", align="mean"),
    Channel("energy", "kWh", "counter", low=0.0, high=100.0, rollover=100.0),
    Channel("starts", "1", "counter", low=0.0),
)


def contract(lateness: float = 0.0, running: Running | None = None) -> Contract:
    return Contract(CHANNELS, "h", "life", lateness=lateness, running=running)


@st.composite
def fleets(draw: st.DrawFn, late: float) -> pl.DataFrame:
    """Rows of three assets, whose times move on, or fall back by less than the lateness; values are missing, or broken, at random."""
    steps = draw(st.lists(st.tuples(st.integers(0, 2), st.floats(0.05, 4.0), st.floats(0, 1)), min_size=1, max_size=60))
    seed = draw(st.integers(0, 2**16))
    rng, newest, rows = np.random.default_rng(seed), [0.0, 0.0, 0.0], []
    for asset, step, back in steps:
        time = newest[asset] + (step if back < 0.7 or not late else -late * (1 - back))
        newest[asset] = max(newest[asset], time)
        values = [None if rng.random() < 0.4 else float(v) for v in (*rng.uniform(0, 9, 2), rng.uniform(0, 100), rng.integers(0, 50))]
        values = [v if v is None or rng.random() > 0.06 else (float("inf"), float("-inf"), -9999.0, -1.0)[k] for k, v in enumerate(values)]
        rows.append(("r.csv", len(rows) + 2, f"P{asset}", round(time, 3), *values))
    schema = {"file": pl.String, "row": pl.Int64, "asset": pl.String, "time": pl.Float64} | {c.name: pl.Float64 for c in CHANNELS}
    return pl.DataFrame(rows, schema=schema, orient="row")


def joined(rows: pl.LazyFrame, with_: Contract, batch: int, refused: list[pl.DataFrame] | None = None) -> pl.DataFrame:
    blocks = list(tick_blocks(rows, with_, "quarantine", batch, refused))
    together = pl.concat(blocks)
    for asset in together.partition_by("asset"):
        assert asset["tick"].diff().drop_nulls().eq(1).all(), "an asset's ticks follow each other from block to block"
    return together.sort("asset", "tick")


@pytest.mark.parametrize("late", [0.0, 5.0])
@pytest.mark.parametrize("running", [None, Running("speed", above=2.0)])
@settings(max_examples=40, deadline=None)
@given(data=st.data(), batch=st.integers(1, 30))
def test_blocks_give_the_ticks_of_all_rows_at_once(data: st.DataObject, batch: int, late: float, running: Running | None) -> None:
    rows, with_ = data.draw(fleets(late)), contract(late, running)
    admitted = admit(rows.lazy(), with_, "quarantine")
    if not admitted.counts["accepted"]:
        return
    refused: list[pl.DataFrame] = []
    assert_frame_equal(joined(rows.lazy(), with_, batch, refused), to_ticks(admitted.readings, with_))
    assert sum(r.height for r in refused) == admitted.quarantine.height, "nothing is set apart twice"
    assert sum((r["lost"] == "value").sum() for r in refused) == admitted.counts["cells"]


def test_assets_that_share_a_line_are_told_apart_when_one_of_them_is_set_apart() -> None:
    rows = pl.DataFrame({"file": ["a"] * 6, "row": [2, 2, 3, 3, 4, 4], "asset": ["A", "B"] * 3, "time": [1.0, 1.0, 1.4, 1.4, 2.0, 2.0]})
    rows = rows.with_columns(load=pl.Series([1.0, -9.0, 3.0, 4.0, 5.0, 6.0]), heat=pl.Series([None, None, 1.0, -1.0, 1.0, 1.0]))
    with_ = Contract((Channel("load", "kW", low=0.0, align="mean"), Channel("heat", "°C", low=0.0, align="mean")), "h", "life")
    expected = to_ticks(admit(rows.lazy(), with_, "quarantine").readings, with_)
    for batch in (1, 2, 3, 4):
        assert_frame_equal(joined(rows.lazy(), with_, batch), expected)


def test_a_calendar_and_text_too() -> None:
    history = Synthetic(assets=3, life=200.0).load()
    text = history.rows.with_columns(pl.col("time").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ"), pl.col("flow").cast(pl.String))
    expected = to_ticks(admit(history.rows, history.contract).readings, history.contract)
    for rows in (history.rows, text):
        assert_frame_equal(joined(rows, history.contract, 37), expected)


def test_long_rows_are_one_block() -> None:
    rows = pl.LazyFrame({"file": ["a"] * 4, "row": [1, 2, 3, 4], "asset": ["P"] * 4, "time": [1.0, 1.0, 2.0, 2.0]})
    rows = rows.with_columns(channel=pl.Series(["u", "v", "u", "v"]), value=pl.Series([1.0, 2.0, 3.0, 4.0]))
    with_ = Contract((Channel("u", "1"), Channel("v", "1")), "h", "life")
    (block,) = tick_blocks(rows, with_, batch=1)
    assert block.rows() == [("P", 1, 1.0, 2.0), ("P", 2, 3.0, 4.0)]


def test_a_breach_in_a_later_block_names_its_row() -> None:
    rows = pl.DataFrame({"file": ["a.csv"] * 9, "row": range(2, 11), "asset": ["P"] * 9, "time": [1.0, 2, 3, 4, 5, 6, 6, 8, 9]})
    with_ = Contract((Channel("u", "1"),), "h", "life")
    with pytest.raises(DataError, match="row 8"):
        list(tick_blocks(rows.with_columns(u=pl.lit(1.0)).lazy(), with_, batch=3))


def names(found: list[Partition]) -> list[list[str]]:
    return [list(p.assets) for p in found]


def test_partitions_hold_whole_assets_whatever_their_order(tmp_path: Path) -> None:
    rows = pl.DataFrame({"file": ["a"] * 12, "row": range(12), "asset": ["A"] * 5 + ["B"] * 4 + [" C "] * 3, "time": range(12)})
    apart = partitions(rows.lazy(), tmp_path / "shelf", together=8)
    assert names(apart) == [["A"], ["B", "C"]] and not (tmp_path / "shelf").exists(), "rows that lie together are not copied"
    assert_frame_equal(pl.concat([p.rows.collect() for p in apart]), rows)

    mixed = rows.sample(fraction=1.0, shuffle=True, seed=1)
    for shelf in (tmp_path / "shelf", None):
        found = partitions(mixed.lazy(), shelf, together=8)
        assert sorted(a for n in names(found) for a in n) == ["A", "B", "C"]
        for part in found:
            own = mixed.filter(pl.col("asset").str.strip_chars().is_in(list(part.assets)))
            assert_frame_equal(part.rows.collect(), own)
            assert sum(part.assets.values()) == own.height <= 8


def test_rows_are_copied_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pl.DataFrame({"file": ["a"] * 6, "row": range(6), "asset": list("ABCABC"), "time": range(6)})
    partitions(rows.lazy(), tmp_path / "shelf", together=2)
    monkeypatch.setattr(large, "_copy", None)
    assert [p.rows.collect().height for p in partitions(rows.lazy(), tmp_path / "shelf", together=2)] == [2, 2, 2]


@pytest.mark.real_data("cmapss")
def test_real_engines_in_blocks(data_root: Path) -> None:
    history = Cmapss(root=str(data_root / "cmapss"), subset="FD001").load()
    expected = to_ticks(admit(history.rows, history.contract).readings, history.contract)
    assert_frame_equal(joined(history.rows, history.contract, 4999), expected)
