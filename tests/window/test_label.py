"""Labels as they were known: what is certain is told, what censoring hides is not, and nothing is said after the end of a life."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmx.contract import Channel, Contract
from pmx.window.label import Labels, enter_mid_life, label, life_of, like_a_test, lives_anew, pseudo_test, with_lives

LIFE = Contract((Channel("a", "-"),), "h", "life")


def ticks(**lengths: int) -> pl.DataFrame:
    """Assets with ticks 1..n."""
    return pl.concat(pl.DataFrame({"asset": [n] * k, "tick": pl.Series(range(1, k + 1), dtype=pl.Int64)}) for n, k in lengths.items())


def events(*rows: tuple) -> pl.DataFrame:
    """`asset, time, event` and, if it is not the same, `known_at`."""
    schema = {"asset": pl.String, "time": pl.Float64, "event": pl.String, "known_at": pl.Float64}
    return pl.DataFrame([(*r[:3], r[3] if len(r) > 3 else r[1]) for r in rows], schema=schema, orient="row")


def same(a: np.ndarray, b: list[float]) -> bool:
    return bool(np.array_equal(a, np.array(b, float), equal_nan=True))


NAN = float("nan")


def test_a_failure_is_counted_down_to_and_what_goes_on_is_another_life():
    found = label(ticks(A=5), events(("A", 3.0, "failure")), LIFE)
    assert same(found.rul, [2, 1, 0, NAN, NAN]) and same(found.at_least, [2, 1, 0, 1, 0])
    assert same(found.capped(1), [1, 1, 0, 1, NAN])
    assert same(found.fails_within(1), [0, 1, 1, NAN, NAN]), "ticks shortly before the end of the record are no proof of health"
    assert found.healthy(1).tolist() == [True, False, False, False, False]


def test_a_replacement_is_censoring_and_so_is_the_end_of_the_record():
    for log in (events(("A", 4.0, "replacement")), events()):
        found = label(ticks(A=4), log, LIFE)
        assert np.isnan(found.rul).all() and same(found.at_least, [3, 2, 1, 0])
        assert same(found.capped(2), [2, 2, NAN, NAN]), "the cap is known where that much life is certain"
        assert same(found.fails_within(1), [0, 0, NAN, NAN]) and found.healthy(1).tolist() == [True, True, False, False]
    early = label(ticks(A=4), events(("A", 2.0, "replacement")), LIFE)
    assert same(early.at_least, [1, 0, 1, 0]), "what goes on begins another life"


def test_only_failures_and_replacements_end_a_life_and_the_next_one_counts():
    log = [
        ("A", 2.0, "inspection"),
        ("A", 2.5, "no_fault_found"),
        ("A", 3.0, "failure"),
        ("A", 4.0, "replacement"),
        ("A", 0.0, "commissioning"),
    ]
    for order in (log, log[::-1]):
        assert same(label(ticks(A=4), events(*order), LIFE).rul, [2, 1, 0, NAN])
    planned = label(ticks(A=4), events(("A", 4.0, "failure"), ("A", 3.0, "replacement")), LIFE)
    assert same(planned.rul, [NAN, NAN, NAN, 0]) and same(planned.at_least, [2, 1, 0, 0])


def test_a_part_that_failed_and_was_replaced_at_the_same_moment_failed():
    pair = [("A", 3.0, "failure"), ("A", 3.0, "replacement")]
    for order in (pair, pair[::-1]):
        assert same(label(ticks(A=3), events(*order), LIFE).rul, [2, 1, 0])


def test_labels_count_the_life_unit_on_either_clock_and_belong_to_the_newest_reading():
    half = Contract((Channel("a", "-"),), "h", "life", tick=0.5)
    assert same(label(ticks(A=3), events(("A", 2.0, "failure")), half).rul, [1.5, 1.0, 0.5])
    calendar = Contract((Channel("a", "-"),), "h", "calendar", tick=0.5)
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    first = calendar.ticks_of(np.array([int(begin.timestamp() * 1e6)]))[0]
    own = pl.DataFrame({"asset": ["A"] * 3, "tick": [int(first) + k for k in range(3)]})
    at = pl.Series([begin + timedelta(minutes=75)], dtype=pl.Datetime("us", "UTC"))
    log = pl.DataFrame({"asset": ["A"], "time": at, "event": ["failure"], "known_at": at})
    assert same(label(own, log, calendar).rul, [1.25, 0.75, 0.25])


@settings(max_examples=50, deadline=None)
@given(
    ends=st.lists(st.tuples(st.integers(0, 60), st.sampled_from(["failure", "replacement", None])), min_size=1, max_size=5),
    lengths=st.lists(st.integers(1, 40), min_size=5, max_size=5),
    cap=st.integers(1, 50),
    horizon=st.integers(0, 50),
)
def test_labels_never_contradict_each_other_or_the_truth(ends, lengths, cap, horizon):
    own = ticks(**{f"P{i}": n for i, n in enumerate(lengths)})
    log = [(f"P{i}", float(t), event) for i, (t, event) in enumerate(ends) if event]
    found = label(own, events(*log), LIFE)
    truth = {name: time for name, time, event in log if event == "failure"}
    capped, fails, healthy = found.capped(cap), found.fails_within(horizon), found.healthy(horizon)
    assert (np.isnan(found.at_least) >= np.isnan(found.rul) - 1).all() and not (np.isnan(found.at_least) & ~np.isnan(found.rul)).any()
    for i, (name, t) in enumerate(own.iter_rows()):
        if not np.isnan(found.rul[i]):
            assert found.rul[i] == found.at_least[i] == truth[name] - t >= 0
    known = ~np.isnan(capped)
    assert (capped[known] <= cap).all() and (capped[~np.isnan(found.rul)] == np.minimum(found.rul, cap)[~np.isnan(found.rul)]).all()
    assert (((fails == 0) & (found.since > horizon)) == healthy).all() and (found.rul[fails == 1] <= horizon).all()
    assert np.isnan(fails[np.isnan(found.at_least)]).all()
    # the order of assets and of events changes nothing
    order = np.argsort(own["asset"].to_numpy()[::-1], kind="stable")[::-1]
    mixed = label(own[order], events(*log[::-1]), LIFE)
    assert np.array_equal(mixed.at_least, found.at_least[order], equal_nan=True)
    assert np.array_equal(mixed.rul, found.rul[order], equal_nan=True)


def test_pseudo_test_cuts_as_a_test_set_does():
    lengths = {"A": 200, "B": 60, "C": 24, "D": 26, "E": 1, "F": 400}
    asset = np.repeat(list(lengths), list(lengths.values()))
    rul = np.concatenate([np.arange(n)[::-1] for n in lengths.values()]).astype(float)
    rul[asset == "F"] = np.nan  # censored: nobody knows what is left
    cap = 125.0
    cuts = pseudo_test(asset, rul, cap, seed=0)
    history = np.concatenate([np.arange(n) for n in lengths.values()])  # ticks before the one that is cut at
    assert (np.diff(cuts) > 0).all(), "sorted, none twice"
    assert (rul[cuts] >= 5).all() and (rul[cuts] <= 150).all() and (history[cuts] >= 20).all()
    counts = {name: int((asset[cuts] == name).sum()) for name in lengths}
    assert counts == {"A": 12, "B": 12, "C": 0, "D": 1, "E": 0, "F": 0}
    assert (pseudo_test(asset, rul, cap, seed=0) == cuts).all() and list(pseudo_test(asset, rul, cap, seed=1)) != list(cuts)
    assert pseudo_test(asset[:0], rul[:0], cap, seed=0).shape == (0,)
    every = np.concatenate([pseudo_test(asset, rul, cap, seed=s) for s in range(60)])
    assert set(rul[every[asset[every] == "B"]]) == set(np.arange(5.0, 40.0)), "any open tick may be cut at"


def test_a_cut_may_leave_as_much_life_as_the_cap():
    """With a tick of an hour and a cap of a month, the last 150 ticks are the last days: nothing would be asked of the weeks before."""
    asset, rul = np.repeat("A", 1000), np.arange(1000.0)[::-1]
    assert rul[like_a_test(asset, rul, cap=720.0)].tolist() == np.arange(720.0, 4.0, -1).tolist()
    assert rul[like_a_test(asset, rul, cap=125.0, least=0)].tolist() == np.arange(150.0, -1.0, -1).tolist()
    cuts = np.concatenate([pseudo_test(asset, rul, 720.0, seed=s) for s in range(20)])
    assert rul[cuts].max() > 600 and rul[cuts].max() <= 720


def test_histories_that_enter_mid_life_are_ends_of_real_ones():
    own = ticks(A=100, B=20, C=1).with_columns(value=pl.int_range(pl.len()))
    entered, row = enter_mid_life(own, seed=0, copies=3)
    assert entered["value"].to_list() == own["value"].to_numpy()[row].tolist() and entered.columns == own.columns
    begins = []
    for name, part in entered.group_by("asset"):
        asset = name[0].split()[0]
        whole = own.filter(pl.col("asset") == asset)
        assert part["tick"].to_list() == whole["tick"].to_list()[-len(part) :], "each runs to the end of its asset's record"
        assert len(part) >= min(20, len(whole))
        begins += [part["tick"][0]] if asset == "A" else []
    assert entered["asset"].n_unique() == 9
    assert [(b - 1) * 3 // 81 for b in sorted(begins)] == [0, 1, 2], "one begins in each third of what leaves 20 ticks"
    assert enter_mid_life(own, 0, 3)[0].equals(entered) and not enter_mid_life(own, 1, 3)[0].equals(entered)
    found = [enter_mid_life(ticks(A=30), seed=s)[0] for s in range(100)]
    begins = [int(b) for f in found for b in f.group_by("asset").agg(pl.col("tick").first())["tick"]]
    times = np.bincount(begins, minlength=12)[1:]
    assert len(times) == 11 and times.min() > 0.5 * times.mean(), "any beginning that leaves 20 ticks, each about as often"


@pytest.mark.parametrize("cap", [125, 0.5])
def test_a_labels_cap_is_in_the_life_unit(cap):
    assert Labels(np.array([200.0]), np.array([200.0])).capped(cap)[0] == cap


def test_after_a_failure_an_asset_is_being_repaired_for_one_horizon():
    """What is not judged must not be learnt as normal either. A replacement needs no such time."""
    own = ticks(A=60, B=60, C=60)
    found = label(own, events(("A", 20.0, "failure"), ("A", 40.0, "failure"), ("B", 20.0, "replacement"), ("C", -2.0, "failure")), LIFE)
    tick, (a, b, c) = np.arange(1, 61), (own["asset"].to_numpy() == n for n in "ABC")
    since = np.where(tick < 20, np.inf, np.where(tick < 40, tick - 20.0, tick - 40.0))
    np.testing.assert_array_equal(found.since[a], since)
    assert np.isinf(found.since[b]).all() and (found.since[c] == tick + 2).all()
    healthy = found.healthy(5.0)
    assert tick[healthy[a]].tolist() == [*range(1, 15), *range(26, 35), *range(46, 55)]
    assert tick[healthy[b]].tolist() == [*range(1, 15), *range(21, 55)], "at work again at once"
    assert tick[healthy[c]].tolist() == list(range(4, 55)), "an order from before the record tells of a repair all the same"
    half = label(own, events(("A", 10.0, "failure")), Contract((Channel("a", "-"),), "h", "life", tick=0.5))
    assert half.since[a][24] == 2.5 and tick[half.healthy(2.5)[a]].tolist()[14:15] == [26], "in the life unit"


def test_a_life_begins_anew_behind_the_moment_at_which_its_end_was_known_not_at_the_end_itself():
    told = events(("A", 2.0, "failure", 3.5), ("A", 6.0, "replacement"), ("A", 1.0, "inspection"), ("B", 9.0, "failure"))
    assert {a: t.tolist() for a, t in lives_anew(told, LIFE).items()} == {"A": [5, 7], "B": [10]}
    found = with_lives(ticks(A=8, B=3, C=2), told, LIFE)
    assert found.columns == ["asset", "tick", "life"]
    assert found["life"].to_list() == [0, 0, 0, 0, 1, 1, 2, 2, 0, 0, 0, 0, 0]
    assert len(set(zip(found["asset"], found["life"], strict=True))) == len(set(life_of(found))) == 5


def test_an_order_that_is_not_written_yet_changes_no_tick():
    early, late = events(("A", 2.0, "failure", 2.0)), events(("A", 2.0, "failure", 6.0))
    lives = [with_lives(ticks(A=8), told, LIFE)["life"].to_list() for told in (early, late)]
    assert lives[0][:2] == lives[1][:2] == [0, 0] and lives[0][2] == 1
    assert lives[1] == [0] * 6 + [1, 1]
