"""Divisions and folds: no asset on both sides, no later tick before an earlier one, and a split by row is refused."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmx.contract import DataError, UsageError
from pmx.window.split import ByAsset, ByTime, Division, Given, Head, Split, breaches

SPLITS = [ByAsset(0.4, folds=3), Given(folds=3), ByTime(0.6, folds=3), Head(6, folds=3)]


def ticks(*spans: tuple[int, int]) -> pl.DataFrame:
    """Assets P0, P1, … with ticks from begin to end - 1."""
    own = [pl.DataFrame({"asset": [f"P{i}"] * (e - b), "tick": pl.Series(range(b, e), dtype=pl.Int64)}) for i, (b, e) in enumerate(spans)]
    return pl.concat(own)


spans = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 30)).map(lambda p: (p[0], p[0] + p[1])), min_size=4, max_size=9)


class ByRow(Split):
    """What must never pass: every tick tossed to one side or the other."""

    def __init__(self, by: str) -> None:
        self.folds, self.seed, self.by = 2, 0, by

    def divide(self, ticks: pl.DataFrame, test_assets: frozenset[str] | None) -> Division:
        test = np.random.default_rng(self.seed).random(len(ticks)) < 0.3
        return Division(~test, test, self.by)


@pytest.mark.parametrize("by", ["asset", "time"])
def test_a_split_by_row_is_refused_with_the_asset_and_the_way_out(by):
    with pytest.raises(DataError, match=r"split refused: P0: .* \(and 2 more\) -> split by asset or by time") as caught:
        ByRow(by).apply(ticks((0, 20), (0, 20), (0, 20)), None)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 3


def test_the_same_tick_on_both_sides_is_refused():
    both = np.ones(4, bool)
    asset, tick = np.repeat("A", 4), np.arange(4)
    assert "the same tick trains and tests" in breaches(Division(both, both, "asset"), asset, tick)
    assert not breaches(Division(np.array([1, 1, 0, 0], bool), np.array([0, 0, 0, 1], bool), "time"), asset, tick), (
        "leaving ticks out is no leak"
    )
    assert breaches(Division(np.array([0, 0, 1, 1], bool), np.array([1, 1, 0, 0], bool), "time"), asset, tick)
    twice = np.array([0, 1, 1, 2])
    assert breaches(Division(np.array([1, 1, 0, 0], bool), np.array([0, 0, 1, 1], bool), "time"), asset, twice), "before, not at"


@pytest.mark.parametrize("split", SPLITS, ids=lambda s: type(s).__name__)
@settings(max_examples=40, deadline=None)
@given(spans=spans)
def test_divisions_are_whole_sound_and_blind_to_the_order_of_assets(split, spans):
    own = ticks(*spans)
    division = split.divide(own, frozenset({"P1", "P3"}))
    assert (division.train ^ division.test).all() and len(division.train) == len(own), "each tick once"
    assert not breaches(division, own["asset"].to_numpy(), own["tick"].to_numpy())
    if division.by == "asset":
        assert not set(own.filter(pl.Series(division.train))["asset"]) & set(own.filter(pl.Series(division.test))["asset"])
    shuffled = own.with_columns(test=pl.Series(division.test)).sort("asset", "tick", descending=[True, False])
    assert (split.divide(shuffled, frozenset({"P1", "P3"})).test == shuffled["test"].to_numpy()).all()


def test_each_split_keeps_the_share_it_is_told():
    own = ticks(*[(0, 10)] * 10)
    assert own.filter(pl.Series(ByAsset(0.3).divide(own, None).test))["asset"].n_unique() == 3
    assert set(own.filter(pl.Series(Given().divide(own, frozenset({"P2", "P7"})).test))["asset"]) == {"P2", "P7"}
    by_time = ByTime(0.5).divide(ticks((0, 11), (5, 11), (8, 11)), None)
    assert own.height == 100 and ticks((0, 11), (5, 11), (8, 11)).filter(pl.Series(by_time.train))["tick"].max() == 5, "one moment for all"
    head = ticks((0, 3), (7, 20))
    assert head.filter(pl.Series(Head(4).divide(head, None).train)).group_by("asset").len().sort("asset")["len"].to_list() == [3, 4]
    seeds = [tuple(ByAsset(0.3, seed=s).divide(own, None).test) for s in range(5)]
    assert len(set(seeds)) > 1 and seeds[0] == tuple(ByAsset(0.3, seed=0).divide(own, None).test)


@settings(max_examples=40, deadline=None)
@given(
    lives=st.lists(st.lists(st.sampled_from(["both", "one", "none"]), min_size=1, max_size=15), min_size=1, max_size=4),
    rows=st.integers(1, 6),
)
def test_a_head_counts_readings_and_not_the_ticks_of_a_gap(lives, rows):
    """A tick without any value is no reading: time that an asset was off makes its head no shorter."""
    parts = [
        pl.DataFrame(
            {
                "asset": [f"P{i}"] * len(life),
                "tick": pl.Series(range(len(life)), dtype=pl.Int64),
                "a": pl.Series([None if what == "none" else 1.0 for what in life], dtype=pl.Float32),
                "b": pl.Series([2.0 if what == "both" else None for what in life], dtype=pl.Float32),
            }
        )
        for i, life in enumerate(lives)
    ]
    own = pl.concat(parts)
    division = Head(rows).divide(own, None)
    expected = []
    for life in lives:
        counted = 0
        for what in life:
            expected.append(counted < rows)  # the gap behind the last reading of the head trains too: nothing is learnt from it
            counted += what != "none"
    assert division.train.tolist() == expected and (division.train ^ division.test).all()
    assert not breaches(division, own["asset"].to_numpy(), own["tick"].to_numpy())


@settings(max_examples=40, deadline=None)
@given(spans=spans, folds=st.integers(2, 4), seed=st.integers(0, 9))
def test_folds_by_asset_cover_everything_once(spans, folds, seed):
    own = ticks(*spans)
    pairs = ByAsset(folds=folds, seed=seed).validation(own, "asset")
    asset = own["asset"].to_numpy()
    assert len(pairs) == folds and (sum(v.astype(int) for _, v in pairs) == 1).all()
    sizes = [len(set(asset[v])) for _, v in pairs]
    assert max(sizes) - min(sizes) <= 1 and min(sizes) >= 1
    for fit, validate in pairs:
        assert (fit ^ validate).all() and not set(asset[fit]) & set(asset[validate])
    grouped = {frozenset(asset[v]) for _, v in pairs}
    mixed = own.sort("asset", "tick", descending=[True, False])
    again = ByAsset(folds=folds, seed=seed).validation(mixed, "asset")
    assert {frozenset(mixed["asset"].to_numpy()[v]) for _, v in again} == grouped, "the order of assets decides nothing"


@settings(max_examples=40, deadline=None)
@given(spans=spans, folds=st.integers(2, 4))
def test_folds_by_head_only_look_back_within_an_asset(spans, folds):
    own = ticks((0, 20), *spans)
    pairs = Head(folds=folds).validation(own, "time")
    asset, tick = own["asset"].to_numpy(), own["tick"].to_numpy()
    assert len(pairs) == folds and (sum(v.astype(int) for _, v in pairs) <= 1).all()
    for fit, validate in pairs:
        assert fit.any() and validate.any() and not (fit & validate).any()
        for name in set(asset[validate]):
            there = asset == name
            assert tick[fit & there].max(initial=-1) < tick[validate & there].min()
    untouched = ~np.logical_or.reduce([v for _, v in pairs])
    assert untouched[asset == "P0"].sum() == -(-20 // (folds + 1)), "the first block has nothing before it"


@settings(max_examples=40, deadline=None)
@given(spans=spans, folds=st.integers(2, 4))
def test_folds_by_time_only_look_back_over_the_whole_fleet(spans, folds):
    own = ticks((0, 50), *spans)
    pairs = ByTime(folds=folds).validation(own, "time")
    tick = own["tick"].to_numpy()
    assert len(pairs) == folds and (sum(v.astype(int) for _, v in pairs) <= 1).all()
    for fit, validate in pairs:
        assert fit.any() and validate.any() and tick[fit].max() < tick[validate].min(), "one moment for all assets"


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda own: Given().apply(own, None), "no test part of its own -> window=by_asset"),
        (lambda own: Given().apply(own, frozenset({"elsewhere"})), "the test part is empty"),
        (lambda own: ByAsset(0.01).apply(own, None), "the test part is empty"),
        (lambda own: ByAsset(0.99).apply(own, None), "the training part is empty"),
        (lambda own: Head(400).apply(own, None), "the test part is empty"),
        (lambda own: ByAsset(folds=4).validation(own, "asset"), "3 training assets for 4 folds -> set window.folds to at most 3"),
        (
            lambda own: ByAsset(folds=2).validation(own.filter(pl.col("asset") == "P0"), "asset"),
            "1 training asset for 2 folds -> split by time",
        ),
        (lambda own: Head(1, folds=4).validation(own.filter(pl.col("tick") < 4), "time"), "4 training ticks per asset at most for 4 folds"),
        (lambda own: ByAsset(1.0), "test_share is 1.0"),
        (lambda own: ByTime(0.0), "share is 0.0"),
        (lambda own: Head(0), "rows is 0"),
        (lambda own: Head(folds=1), "folds is 1: at least 2"),
    ],
)
def test_what_cannot_be_divided_is_refused_in_words(use, words):
    with pytest.raises((DataError, UsageError), match=words):
        use(ticks((0, 20), (0, 20), (0, 20)))
