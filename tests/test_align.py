"""Alignment: the step and the Polars expressions agree, and no tick knows what came after it."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmx.align import Aligner, Ticks, align, tick_of
from pmx.contract import Channel, Contract, DataError
from pmx.judge import Checked
from pmx.source.ticks import to_ticks

CHANNELS = (Channel("a", unit="-"), Channel("b", unit="-"))
LIFE = Contract(CHANNELS, "h", "life", tick=0.1, longest_gap=20)
CALENDAR = Contract(CHANNELS, "s", "calendar", tick=0.25, longest_gap=20)
VALUE = st.one_of(st.just(np.nan), st.floats(-1e6, 1e6), st.sampled_from([0.1, 1e-40, 16777217.0]))


@st.composite
def histories(draw) -> tuple[Contract, list[tuple[str, float, tuple[float, float]]]]:
    """Interleaved rows of up to three assets: on the grid, beside it by a hair, with gaps, some values missing."""
    contract = draw(st.sampled_from([LIFE, CALENDAR]))
    rows = []
    era = draw(st.sampled_from([0, 0, 200_000_000_000_000_000]))  # microseconds; float64 cannot count the later one
    for asset in draw(st.sampled_from([["P1"], ["P2", "P10", "Ä"]])):
        hundredths = 10 * draw(st.integers(-500, 500))  # on the grid
        for step in draw(st.lists(st.sampled_from([0, 1, 3, 5, 10, 10, 10, 25, 190]), min_size=1, max_size=20)):
            hundredths += step
            jitter = draw(st.sampled_from([0, 0, 0, -1, 1]))
            life = hundredths / 100 + jitter * draw(st.sampled_from([1e-13, 1e-7]))
            rows.append((asset, life if contract is LIFE else era + hundredths * 25_000 + jitter, draw(st.tuples(VALUE, VALUE))))
    rows = sorted(rows, key=lambda row: row[1]) if draw(st.booleans()) else sorted(rows, key=lambda row: row[:2])
    return contract, rows


def checked(contract: Contract, rows: list) -> Checked:
    time = np.array([r[1] for r in rows], np.int64 if contract.clock == "calendar" else np.float64)
    values = np.array([r[2] for r in rows], np.float64).reshape(-1, 2)
    return Checked(np.array([r[0] for r in rows], object), time, values, np.arange(len(rows)), ())


def frame(contract: Contract, rows: list) -> pl.DataFrame:
    c = checked(contract, rows)
    table = pl.DataFrame({"asset": pl.Series(c.asset.tolist(), dtype=pl.String), "time": c.time, "a": c.values[:, 0], "b": c.values[:, 1]})
    return table.with_columns(pl.from_epoch("time", "us").dt.replace_time_zone("UTC")) if contract.clock == "calendar" else table


def by_asset(table: pl.DataFrame) -> Ticks:
    assets = table["asset"].unique().sort().to_list()
    parts = [table.filter(pl.col("asset") == a) for a in assets]
    for p in parts:
        assert p["tick"].diff().drop_nulls().eq(1).all(), "ticks are missing or out of order"
    values = [p.select("a", "b").fill_null(float("nan")).to_numpy() for p in parts]
    return Ticks(assets, np.array([p["tick"][0] for p in parts], np.int64), values)


@settings(max_examples=150, deadline=None)
@given(histories())
def test_the_step_and_the_polars_expressions_give_the_same_ticks(history):
    contract, rows = history
    step, table = align(contract, checked(contract, rows)), to_ticks(frame(contract, rows), contract)
    assert table.schema == {"asset": pl.String, "tick": pl.Int64, "a": pl.Float32, "b": pl.Float32}
    assert table.select("asset", "tick").equals(table.select("asset", "tick").sort("asset", "tick"))
    polars = by_asset(table)
    assert step.assets == polars.assets
    np.testing.assert_array_equal(step.start, polars.start)
    for ours, theirs in zip(step.values, polars.values, strict=True):
        assert ours.dtype == theirs.dtype == np.float32
        np.testing.assert_array_equal(ours, theirs)


@settings(max_examples=60, deadline=None)
@given(histories(), st.data())
def test_a_row_never_changes_an_earlier_tick(history, data):
    contract, rows = history
    last = tick_of(contract, data.draw(st.sampled_from(rows))[1])
    wild = [(a, t, v) if tick_of(contract, t) <= last else (a, t, (7.0, -v[0])) for a, t, v in rows]
    past = [r for r in rows if tick_of(contract, r[1]) <= last]
    known = to_ticks(frame(contract, past), contract)
    for later in (rows, wild):
        assert to_ticks(frame(contract, later), contract).join(known, on=["asset", "tick"], how="semi").equals(known)
    early, whole = align(contract, checked(contract, past)), align(contract, checked(contract, wild))
    for asset, values in zip(early.assets, early.values, strict=True):
        np.testing.assert_array_equal(values, whole.values[whole.assets.index(asset)][: len(values)])


@settings(max_examples=60, deadline=None)
@given(histories())
def test_a_tick_closes_once_and_only_when_a_later_one_begins(history):
    contract, rows = history
    aligner, closed = Aligner(contract), {}
    for asset, time, values in rows:
        ticks = aligner.push(asset, time, np.array(values))
        assert all(tick < tick_of(contract, time) for tick, _ in ticks)
        closed.setdefault(asset, []).extend(tick for tick, _ in ticks)
    for asset, ticks in closed.items():
        ticks += [tick for tick, _ in aligner.flush(asset)]
        assert ticks == list(range(ticks[0], ticks[0] + len(ticks)))


def test_a_tick_holds_what_arrived_up_to_its_end():
    assert [tick_of(LIFE, t) for t in (0.0, 0.3, 0.7, 1.1, 1.1 + 1e-7, 0.15000000000000002)] == [0, 3, 7, 11, 12, 2]
    assert [tick_of(Contract(CHANNELS, "h", "life", tick=0.01), k / 100) for k in range(1000)] == list(range(1000))
    assert [tick_of(CALENDAR, t) for t in (0, 1, 250_000, 250_001, -1, -250_000)] == [0, 1, 1, 2, 0, -1]
    far = 200_000_000_000_000_001  # the year 8307: float64 cannot hold it, and would put it on the tick's edge
    assert tick_of(CALENDAR, far) == to_ticks(frame(CALENDAR, [("P", far, (1.0, 1.0))]), CALENDAR)["tick"].item() == far // 250_000 + 1


def test_the_last_value_that_is_not_missing_wins_and_gaps_are_empty_ticks():
    ticks = align(LIFE, checked(LIFE, [("P", 0.05, (1.0, 2.0)), ("P", 0.1, (np.nan, 3.0)), ("P", 0.41, (5.0, np.nan))]))
    assert ticks.of("P").tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(ticks.values[0], [[1, 3], *[[np.nan, np.nan]] * 3, [5, np.nan]])


@pytest.mark.parametrize(("contract", "edge"), [(LIFE, 2.1), (CALENDAR, 5_250_000)])
def test_a_gap_that_is_too_long_is_refused_by_both_with_the_same_words(contract, edge):
    ok = [("P-07", 0, (1.0, 1.0)), ("P-07", edge, (1.0, 1.0))]
    assert len(align(contract, checked(contract, ok)).values[0]) == to_ticks(frame(contract, ok), contract).height == 22
    bad = checked(contract, [ok[0], ("P-07", 2 * edge, (1.0, 1.0))])
    with pytest.raises(DataError, match="(?s)asset P-07.*longest_gap is 20.*-> ") as step:
        align(contract, bad)
    with pytest.raises(DataError) as table:
        to_ticks(frame(contract, [ok[0], ("P-07", 2 * edge, (1.0, 1.0))]), contract)
    assert str(step.value) == str(table.value)


def test_after_a_flush_an_asset_may_start_again_anywhere():
    aligner = Aligner(LIFE)
    aligner.push("P", 0.0, np.ones(2))
    assert [k for k, _ in aligner.flush("P")] == [0] and aligner.flush("P") == []
    assert aligner.push("P", 1e6, np.ones(2)) == []
    with pytest.raises(DataError, match="earlier"):
        aligner.push("P", 1.0, np.ones(2))


def test_no_rows_give_no_ticks():
    assert align(LIFE, checked(LIFE, [])).assets == []
    assert to_ticks(frame(LIFE, []), LIFE).height == 0
