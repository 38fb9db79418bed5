"""Alarms against failures and labelled episodes, held against a slow and plain reading of the definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmx.contract import UsageError
from pmx.evaluate.event import count_events
from pmx.evaluate.protocol import Protocol, Truth
from tests.lives import failed_at, single

HORIZON, LEAD = 6, 2
PROTOCOL = Protocol(cap=20, horizon=HORIZON, lead=LEAD, draws=20)


def truth(failed_at=np.nan, seen=None, begins=0.0, assets=1) -> Truth:
    each = [np.full(assets, float(v)) for v in (failed_at, failed_at if seen is None else seen, begins, begins)]
    return single([f"P{i}" for i in range(assets)], *each)


def counts(standing, real: Truth, first: int = 0, protocol: Protocol = PROTOCOL):
    stands = np.array(standing, bool)
    return count_events([stands], [np.arange(first, first + len(stands))], real, protocol, 1.0)


def plain(standing: list[bool], first: int, real: Truth) -> tuple[bool, bool, int, int]:
    """Counted, caught, false and exposure by one look at each tick."""
    failure, seen, begins = failed_at(real)[0], real.seen[0], real.begins[0]
    censored = np.isnan(failure)
    ticks = [(first + i, stands) for i, stands in enumerate(standing) if first + i >= begins]
    span = [(t, stands) for t, stands in ticks if not censored and failure - HORIZON <= t <= failure - LEAD]
    counted = bool(span) and any(t > failure - LEAD - 1 for t, _ in ticks)
    judged = [t for t, _ in ticks if t <= (seen - HORIZON if censored else failure)]
    false, due = 0, None  # the tick at which the standing alarm is judged next
    for t, stands in ticks:
        if not stands:
            due = None
        elif due is None or t == due:
            followed = not censored and t <= failure <= t + HORIZON
            false += t in judged and not followed
            due = t + HORIZON
    return counted, counted and any(stands for _, stands in span), false, len(judged)


@given(
    standing=st.lists(st.booleans(), min_size=1, max_size=40),
    first=st.integers(0, 5),
    ends=st.floats(0, 50).map(lambda v: round(v * 2) / 2),
    failed=st.booleans(),
    begins=st.integers(0, 12),
)
def test_counts_agree_with_a_plain_reading_of_the_definitions(standing, first, ends, failed, begins):
    real = truth(ends if failed else np.nan, ends, begins)
    found = counts(standing, real, first)
    assert (found.counted[0], found.caught[0], found.false[0], found.exposure[0]) == plain(standing, first, real)


@given(standing=st.lists(st.booleans(), min_size=1, max_size=40), failure=st.integers(5, 40))
def test_an_alarm_more_never_catches_less(standing, failure):
    more = [True, *standing[1:]]
    assert counts(more, truth(failure)).caught[0] >= counts(standing, truth(failure)).caught[0]


@pytest.mark.parametrize(
    ("stands", "caught", "false"),
    [
        (range(14, 15), True, 0),  # failure − horizon, to the tick
        (range(18, 19), True, 0),  # failure − lead, to the tick
        (range(19, 21), False, 0),  # too late to be of use, yet not wrong
        (range(13, 14), False, 1),  # a tick too early
        (range(14, 21), True, 0),  # raised just in time and standing through the failure
        (range(13, 21), True, 1),  # raised a tick too early: wrong once, and caught all the same
        (range(0, 21), True, 3),  # raised at 0; at 6 and at 12 it still stands without a failure, at 18 one follows
        (range(20, 21), False, 0),  # at the moment of failure
    ],
)
def test_a_failure_at_20_with_horizon_6_and_lead_2(stands, caught, false):
    found = counts([t in stands for t in range(21)], truth(20.0))
    assert (bool(found.counted[0]), bool(found.caught[0]), int(found.false[0])) == (True, caught, false)


def test_the_last_horizon_before_censoring_counts_neither_way():
    def late(at):
        return counts([t == at for t in range(31)], truth(seen=30.0))

    assert late(25).false[0] == 0 and late(24).false[0] == 1
    assert not late(25).counted[0] and late(25).exposure[0] == 25  # ticks 0 to 24


def test_an_asset_that_leaves_before_its_failure_counts_only_when_the_useful_span_was_watched():
    for last, counted in ((10, False), (17, False), (18, True)):  # failure at 20, lead 2
        assert counts([True] * (last + 1), truth(20.0, seen=float(last))).counted[0] == counted
    # its alarms are judged all the same: the failure is known to come
    assert counts([t == 3 for t in range(10)], truth(20.0, seen=9.0)).false[0] == 1
    assert counts([t == 15 for t in range(17)], truth(20.0, seen=16.0)).false[0] == 0


def test_ticks_before_the_test_part_do_not_count():
    found = counts([True] * 12 + [False] * 9, truth(20.0, begins=12.0))
    assert found.false[0] == 0 and found.exposure[0] == 9


def test_always_alarm_catches_all_and_is_wrong_once_per_horizon():
    n = 600
    found = counts([True] * (n + 1), truth(float(n)))
    assert found.recall()[0] == 1.0
    assert found.false[0] == n / HORIZON - 1  # the last one is right
    assert found.false_rate(HORIZON, PROTOCOL)[0] == pytest.approx(1.0, abs=0.02)


def test_no_alarm_is_never_false_and_an_asset_without_ticks_is_nothing():
    found = count_events([np.zeros(30, bool), np.zeros(0, bool)], [np.arange(30), np.arange(0)], truth(29.0, assets=2), PROTOCOL, 1.0)
    assert found.caught.tolist() == [False, False] and found.counted.tolist() == [True, False] and found.false.sum() == 0
    value, low, high = found.false_rate(1.0, PROTOCOL)
    assert (value, low, high) == (0.0, 0.0, pytest.approx(3 / 30))  # the rule of three


def test_counts_do_not_depend_on_the_tick_length():
    rng = np.random.default_rng(0)
    standing = [rng.random(80) < 0.3 for _ in range(6)]
    tick = [np.arange(80)] * 6
    failed = np.array([79.0, np.nan, 60.0, np.nan, 79.5, 90.0])
    real = single(list("ABCDEF"), failed, np.where(np.isnan(failed), 70.0, np.minimum(failed, 79)), np.zeros(6), np.zeros(6))
    one = count_events(standing, tick, real, Protocol(cap=20, horizon=6, lead=2), 1.0)
    six = count_events(standing, tick, real, Protocol(cap=120, horizon=36, lead=12), 6.0)
    for name in ("counted", "caught", "false", "exposure"):
        assert (getattr(one, name) == getattr(six, name)).all()


def labelled(*episodes: tuple[float, float], begins: float = 0.0) -> Truth:
    spans = [np.array(episodes, np.float64).reshape(-1, 2)]
    return single(["P0"], np.array([np.nan]), np.array([1e3]), np.array([begins]), np.zeros(1), spans, [["fault"] * len(episodes)])


def plain_episodes(standing: list[bool], episodes: list[tuple[int, int]]) -> tuple[int, int, int, int, int, list[float]]:
    """Counted, caught, raised, right, false and the delays, by one look at each tick and each alarm."""
    ticks = range(len(standing))
    watched = [(b, e) for b, e in episodes if any(b <= t <= e for t in ticks)]
    hits = [[t for t in ticks if standing[t] and b <= t <= e] for b, e in watched]
    alarms, current = [], []
    for t in [*ticks, None]:
        if t is not None and standing[t]:
            current.append(t)
        elif current:
            alarms.append(current)
            current = []
    false = right = 0
    for alarm in alarms:
        outside = [t for t in alarm if not any(b <= t <= e for b, e in watched)]
        overlaps = len(outside) < len(alarm)
        right += overlaps
        # a right alarm is forgiven a horizon outside of its episode, another one nothing
        false += sum(n % HORIZON == (HORIZON - 1 if overlaps else 0) for n in range(len(outside)))
    return len(watched), sum(map(bool, hits)), len(alarms), right, false, [h[0] - b for h, (b, _) in zip(hits, watched, strict=True) if h]


@given(
    standing=st.lists(st.booleans(), min_size=1, max_size=50),
    spans=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 9)), max_size=3),
)
def test_episode_counts_agree_with_a_plain_reading_of_the_definitions(standing, spans):
    episodes, at = [], 0
    for gap, length in spans:
        episodes.append((at + gap, at + gap + length))
        at += gap + length + 2
    found = counts(standing, labelled(*episodes))
    counted, caught, raised, right, false, delay = plain_episodes(standing, episodes)
    assert (found.counted[0], found.caught[0], found.raised[0], found.right[0], found.false[0]) == (counted, caught, raised, right, false)
    assert found.delay.tolist() == delay
    outside = [t for t in range(len(standing)) if not any(b <= t <= e for b, e in episodes)]
    assert found.exposure[0] == len(outside)


@given(
    watched=st.dictionaries(st.integers(0, 60), st.booleans(), min_size=1, max_size=50),
    spans=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 25)), max_size=12),
    begins=st.integers(0, 30),
)
def test_many_episodes_in_any_order_that_overlap_agree_with_a_slow_loop(watched, spans, begins):
    tick = np.array(sorted(watched))
    episodes = [(b, b + length) for b, length in spans]
    found = count_events([np.array([watched[t] for t in tick])], [tick], labelled(*episodes, begins=float(begins)), PROTOCOL, 1.0)
    ticks = [t for t in tick.tolist() if t >= begins]
    seen = [(b, e) for b, e in episodes if any(b <= t <= e for t in ticks)]
    alarms: list[list[int]] = []
    for i, t in enumerate(ticks):
        if watched[t]:
            alarms += [] if i and watched[ticks[i - 1]] else [[]]
            alarms[-1].append(t)
    outside = [[t for t in alarm if not any(b <= t <= e for b, e in seen)] for alarm in alarms]
    right = [len(o) < len(a) for o, a in zip(outside, alarms, strict=True)]
    false = sum(len(o) // HORIZON if r else 1 + (len(o) - 1) // HORIZON for o, r in zip(outside, right, strict=True))
    hits = [[t for t in ticks if watched[t] and b <= t <= e] for b, e in seen]
    assert (found.counted[0], found.caught[0]) == (len(seen), sum(map(bool, hits)))
    assert (found.raised[0], found.right[0], found.false[0]) == (len(alarms), sum(right), false)
    # what began before the test part could not be told before it
    assert found.delay.tolist() == [h[0] - max(b, ticks[0]) for h, (b, _) in zip(hits, seen, strict=True) if h]
    assert found.exposure[0] == sum(not any(b <= t <= e for b, e in seen) for t in ticks)


def test_a_delay_counts_from_the_beginning_of_the_test_part():
    found = counts([t >= 45 for t in range(60)], labelled((10.0, 50.0), begins=40.0))
    assert found.caught[0] == 1 and found.delay.tolist() == [5.0]


def test_one_hit_catches_its_episode_and_no_other():
    """An event is caught or not; a hit in one of them says nothing of the next."""
    real = labelled((10.0, 29.0), (40.0, 49.0), (60.0, 60.0))
    found = counts([t == 27 for t in range(80)], real)
    assert (found.counted[0], found.caught[0], found.false[0]) == (3, 1, 0) and found.delay.tolist() == [17.0]
    assert found.recall()[0] == pytest.approx(1 / 3) and found.precision()[0] == 1.0


def test_an_alarm_outside_of_any_episode_counts_again_for_each_further_horizon():
    for stands, false in ((1, 1), (HORIZON, 1), (HORIZON + 1, 2), (2 * HORIZON, 2), (2 * HORIZON + 1, 3)):
        assert counts([t < stands for t in range(40)], labelled((35.0, 39.0))).false[0] == false
    for before, false in ((HORIZON - 1, 0), (HORIZON, 1), (2 * HORIZON, 2)):  # raised early, right in the end
        assert counts([20 - before <= t < 25 for t in range(40)], labelled((20.0, 24.0))).false[0] == false


def test_an_alarm_that_always_stands_catches_every_episode_and_is_false_all_the_same():
    found = counts([True] * 100, labelled((50.0, 69.0)))
    assert found.recall()[0] == 1.0 and found.delay.tolist() == [0.0] and found.false[0] == 80 // HORIZON


def test_episodes_outside_of_the_watched_ticks_do_not_count():
    found = counts([True] * 30, labelled((2.0, 5.0), (90.0, 95.0), begins=10.0))
    assert found.counted[0] == 0 and found.exposure[0] == 20 and np.isnan(found.recall()[0])


@pytest.mark.parametrize("wrong", [{"lead": 31}, {"lead": -1}, {"horizon": 126}, {"lead": 30}, {"draws": 0}])
def test_a_protocol_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(UsageError, match="->"):
        Protocol(**{"cap": 125, "horizon": 30, "lead": 5, **wrong})


def test_the_time_ahead_of_a_failure_counts_from_the_alarm_that_caught_it():
    at = np.arange(21)
    assert counts(at >= 17, truth(20)).ahead.tolist() == [3.0]
    assert counts(at >= 10, truth(20)).ahead.tolist() == [6.0], "at most a horizon"
    assert counts((at == 14) | (at == 18), truth(20)).ahead.tolist() == [6.0], "the first one that stood in time"
    assert counts(at >= 19, truth(20)).ahead.tolist() == [], "too late to be caught"


def test_the_time_ahead_of_an_episode_counts_from_where_its_alarm_was_raised():
    def ahead(standing) -> list[float]:
        real = single(["P"], *(np.array([v]) for v in (np.nan, 40.0, 0.0, 0.0)), [np.array([[20.0, 30.0]])], [["seal"]])
        return counts(standing, real).ahead.tolist()

    at = np.arange(41)
    assert ahead((at >= 18) & (at < 25)) == [2.0] and ahead(at >= 23) == [-3.0]
    assert ahead(at >= 5) == [6.0], "at most a horizon"
    assert ahead((at >= 15) & (at < 19) | (at >= 24)) == [-4.0], "an alarm that ended before the episode began did not catch it"


def test_the_parts_of_the_counts_give_their_rates_again():
    found = counts(np.arange(21) >= 10, truth(20))
    parts = found.parts(100)
    assert parts["event_recall"].value() == found.recall()[0]
    assert parts["false_alarms"].value() == pytest.approx(found.false_rate(100, PROTOCOL)[0])
