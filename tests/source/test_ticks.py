"""Every way to the ticks is the same way: wide, long and late rows, in blocks of any size, on a device and in Polars."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmx.align import Ticker, Ticks
from pmx.contract import Channel, Contract, Rows, Running
from pmx.judge import Checker
from pmx.source.admit import admit, to_rows
from pmx.source.ticks import to_ticks

T0 = np.datetime64("2026-10-24T20:00", "us").astype(np.int64)  # some hours before clocks go back in Europe
VALUE = st.none() | st.floats(-1e6, 1e6) | st.sampled_from([0.1, -0.0, 0.0, 1e-40, 16777217.0, 3e38, 99.0, 1.0])
CODES = ("Good", "192")


@st.composite
def contracts(draw) -> Contract:
    """Channels of all kinds, on either clock, at several rates."""
    rate, unit, clock = draw(
        st.sampled_from([(0.1, "cycle", "life"), (1.0, "cycle", "life"), (0.25, "h", "calendar"), (0.5, "s", "calendar")])
    )
    channels = []
    for name in "abcd":
        role = draw(st.sampled_from(["measurement", "measurement", "counter"]))
        align = "last" if role == "counter" else draw(st.sampled_from(["last", "mean", "max", "sum"]))
        hold = 0.0 if role == "counter" or align == "sum" else draw(st.sampled_from([0.0, 0.5, 1.0, 3.0, 50.0])) * rate
        rollover = draw(st.sampled_from([None, 100.0, 1e6])) if role == "counter" else None
        channels.append(Channel(name, "-", role, align=align, hold=hold, rollover=rollover))
    running = draw(st.sampled_from([None, None, Running("b", above=0.5), Running("c", below=90.0), Running("a", above=-1.0, below=1e5)]))
    zone = draw(st.sampled_from(["UTC", "Europe/Berlin"])) if unit == "h" else "UTC"
    lateness = draw(st.sampled_from([0.0, 0.4, 1.0, 3.7])) * rate
    good = draw(st.sampled_from([(), CODES]))
    return Contract(tuple(channels), unit, clock, rate, time_zone=zone, lateness=lateness, running=running, good=good)


@st.composite
def histories(draw) -> tuple[Contract, pl.DataFrame]:
    """Wide rows of up to two assets in the order of their times, no time twice."""
    contract = draw(contracts())
    rows = []
    for asset in draw(st.sampled_from([["P1"], ["P2", "Ä"]])):
        tenths = draw(st.integers(-50, 50))
        for step in draw(st.lists(st.sampled_from([1, 2, 3, 5, 10, 10, 25, 120]), min_size=1, max_size=25)):
            tenths += step
            time = tenths * contract.tick / 10 if contract.clock == "life" else int(T0 + tenths * contract.tick_us // 10)
            rows.append((asset, time, *draw(st.tuples(VALUE, VALUE, VALUE, VALUE))))
    dtype = pl.Float64 if contract.clock == "life" else pl.Int64
    schema = {"asset": pl.String, "time": dtype, **dict.fromkeys("abcd", pl.Float64)}
    frame = pl.DataFrame(rows, schema=schema, orient="row").sort("time", maintain_order=True)
    if contract.clock == "calendar":
        frame = frame.with_columns(pl.from_epoch("time", "us").dt.replace_time_zone("UTC"))
    return contract, frame


def placed(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select(pl.lit("r.csv").alias("file"), (pl.int_range(pl.len(), dtype=pl.Int64) + 2).alias("row"), pl.all())


def as_long(frame: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """One row a value; of a row without any value, one that says so."""
    long = frame.with_row_index("at").unpivot(list("abcd"), index=["at", "asset", "time"], variable_name="channel", value_name="value")
    bare = pl.col("value").is_null() & (pl.col("value").count().over("at") > 0)
    long = long.filter(~bare).sort("at", maintain_order=True).drop("at")
    return long.with_columns(quality=pl.lit(CODES[0])) if contract.good else long


def late(frame: pl.DataFrame, contract: Contract, seed: int) -> pl.DataFrame:
    """The rows as they arrive when each is delayed by less than the lateness."""
    time = frame["time"].to_physical().to_numpy()
    delay = np.random.default_rng(seed).uniform(0, 0.99, len(frame)) * contract.late
    return frame[np.argsort(time + delay - time.min(), kind="stable")]


def stepped(frame: pl.DataFrame, contract: Contract, cuts: tuple[int, ...] = ()) -> Ticks:
    """Through the device's code, in blocks."""
    rows = to_rows(placed(frame), contract)
    checker, ticker = Checker(contract, "refuse"), Ticker(contract)
    for begin, end in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        ticker.add(checker.check(rows.take(np.arange(begin, end))))
    return ticker.ticks()


def tabled(frame: pl.DataFrame, contract: Contract) -> Ticks:
    """Through Polars."""
    table = to_ticks(admit(placed(frame).lazy(), contract).readings, contract)
    parts = table.partition_by("asset", maintain_order=True)
    for p in parts:
        assert p["tick"].diff().drop_nulls().eq(1).all()
    values = [p.select(contract.names).to_numpy().astype(np.float32) for p in parts]
    return Ticks([p["asset"][0] for p in parts], np.array([p["tick"][0] for p in parts], np.int64), values)


def assert_same(one: Ticks, two: Ticks) -> None:
    assert one.assets == two.assets and one.start.tolist() == two.start.tolist()
    for a, b in zip(one.values, two.values, strict=True):
        np.testing.assert_array_equal(a, b)
        there = ~np.isnan(a)
        assert a[there].tobytes() == b[there].tobytes()  # to the last bit, the sign of zero included


@settings(max_examples=200, deadline=None)
@given(histories(), st.integers(0, 1000), st.data())
def test_wide_long_and_late_rows_give_the_same_ticks_on_either_path(history, seed, data):
    contract, frame = history
    wide = stepped(frame, contract)
    long = as_long(frame, contract)
    assert_same(wide, tabled(frame, contract))
    assert_same(wide, tabled(long, contract))
    for form in (long, frame):
        shuffled = late(form, contract, seed)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(shuffled)), max_size=4)))
        assert_same(wide, stepped(shuffled, contract, tuple(cuts)))
        assert_same(wide, tabled(shuffled, contract))
    values = np.concatenate(wide.values)
    assert not np.isinf(values).any()


@settings(max_examples=60, deadline=None)
@given(histories())
def test_a_tick_s_reading_is_what_its_definition_says(history):
    """An oracle that looks at one tick at a time, in plain Python."""
    contract, frame = history
    got = stepped(frame, contract)
    for i, asset in enumerate(got.assets):
        rows = frame.filter(pl.col("asset") == asset)
        tick = tabled(rows, contract).of(asset)
        physical = rows["time"].to_physical().to_list()
        at = (
            [-(-t // contract.tick_us) for t in physical]
            if contract.clock == "calendar"
            else np.ceil(np.array(physical) / contract.tick - 1e-9)
        )
        expected = np.array([_oracle(contract, [int(t) for t in at], rows, int(k)) for k in tick], np.float64)
        np.testing.assert_allclose(got.values[i], expected.astype(np.float32), rtol=1e-6)


def _oracle(contract: Contract, at: list[int], rows: pl.DataFrame, k: int) -> list[float]:
    def value(c: Channel, k: int) -> float:
        seen = [x for t, x in zip(at, rows[c.name].to_list(), strict=True) if t == k and x is not None]
        if not seen:
            return np.nan
        if c.role == "counter":
            before = [(t, x) for t, x in zip(at, rows[c.name].to_list(), strict=True) if t < k and x is not None]
            if not before:
                return np.nan
            change = seen[-1] - before[-1][1]
            change += c.rollover if change < 0 and c.rollover else 0.0
            return change / (k - before[-1][0]) if change >= 0 else np.nan
        return {"last": seen[-1], "mean": np.cumsum(seen)[-1] / len(seen), "max": max(seen), "sum": np.cumsum(seen)[-1]}[c.align]

    def held(c: Channel) -> float:
        for age in range(int(c.hold / contract.tick + 1e-9) + 1):
            x = value(c, k - age)
            if not np.isnan(x):
                return x
        return np.nan

    reading = [held(c) for c in contract.channels]
    if contract.running:
        x = reading[contract.names.index(contract.running.channel)]
        above, below = (contract.running.above, contract.running.below)
        if np.isnan(x) or (above is not None and x <= above) or (below is not None and x >= below):
            return [np.nan] * len(reading)
    return [x if abs(x) < 3.4028235677973362e38 else np.nan for x in reading]


def channels(**more) -> Contract:
    return Contract((Channel("a", "-", **more), Channel("b", "-")), "h", "life", tick=1.0)


def ticks_of(contract: Contract, rows: list[tuple]) -> list:
    frame = pl.DataFrame(
        [("P", *r) for r in rows], schema={"asset": pl.String, "time": pl.Float64, "a": pl.Float64, "b": pl.Float64}, orient="row"
    )
    one = stepped(frame, contract)
    assert_same(one, tabled(frame, contract))
    return [None if np.isnan(x) else float(x) for x in one.values[0][:, 0]]


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ({"align": "mean"}, [(0.2, 1.0), (0.5, None), (1.0, 4.0), (1.5, 7.0)], [2.5, 7.0]),
        ({"align": "sum"}, [(0.2, 1.0), (1.0, 4.0), (2.5, None), (3.5, 1.0)], [5.0, None, None, 1.0]),
        ({"align": "max"}, [(0.2, 5.0), (1.0, 4.0), (1.5, -7.0)], [5.0, -7.0]),
        ({"align": "sum"}, [(0.2, 3e38), (1.0, 3e38)], [None]),
        ({"hold": 2.0}, [(1.0, 5.0), (5.0, None), (6.0, 1.0)], [5.0, 5.0, 5.0, None, None, 1.0]),
        ({"hold": 0.5}, [(1.0, 5.0), (2.0, None)], [5.0, None]),
        ({"role": "counter"}, [(1.0, 5.0), (2.0, 7.0), (4.0, 13.0), (5.0, 2.0), (6.0, 3.0)], [None, 2.0, None, 3.0, None, 1.0]),
        ({"role": "counter", "rollover": 10.0}, [(1.0, 5.0), (2.0, 9.0), (3.0, 2.0)], [None, 4.0, 3.0]),
    ],
)
def test_worked_examples(kind, values, expected):
    assert ticks_of(channels(**kind), [(t, x, 1.0) for t, x in values]) == expected


def test_an_asset_that_is_off_has_no_values_and_what_it_showed_before_is_held_by_time_alone():
    contract = Contract((Channel("a", "-", hold=2.0), Channel("b", "-")), "h", "life", running=Running("b", above=10.0))
    rows = [(1.0, 5.0, 50.0), (2.0, 6.0, 10.0), (3.0, None, 50.0), (4.0, None, None), (5.0, None, 50.0)]
    assert ticks_of(contract, rows) == [5.0, None, 6.0, None, None]


def test_a_late_row_falls_into_its_own_tick_and_a_tick_waits_no_longer_than_it_must():
    contract = Contract((Channel("a", "-", align="sum"), Channel("b", "-")), "h", "life", lateness=1.5)
    ticker = Ticker(contract).aligner
    assert ticker.push("P", 1.0, np.array([1.0, 1.0])) == [] and ticker.push("P", 2.5, np.array([4.0, 1.0])) == []
    assert ticker.push("P", 1.5, np.array([2.0, 1.0])) == []
    assert [(k, v[0]) for k, v in ticker.push("P", 2.6, np.array([8.0, 1.0]))] == [(1, 1.0)]
    assert [(k, v[0]) for k, v in ticker.flush("P")] == [(2, 2.0), (3, 12.0)]


def test_ticks_of_a_silent_asset_close_without_waiting_for_rows_that_cannot_come():
    contract = Contract((Channel("a", "-"),), "h", "life", lateness=2.0, longest_gap=10)
    ticker = Ticker(contract).aligner
    ticker.push("P", 1.0, np.array([1.0]))
    assert [k for k, _ in ticker.push("P", 8.0, np.array([1.0]))] == [1, 2, 3, 4, 5]
    assert [k for k, _ in ticker.push("P", 7.0, np.array([1.0]))] == [] and [k for k, _ in ticker.flush("P")] == [6, 7, 8]


def test_no_long_rows_give_no_ticks():
    contract = channels()
    empty = np.empty(0, object)
    rows = Rows(empty, np.empty(0), {"value": np.empty(0)}, channel=empty)
    assert Checker(contract).check(rows).values.shape == (0, 2)
