"""What was anomalous, and when nobody knows: held against a slow reading of the definition."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pmx.evaluate.protocol import Truth
from tests.lives import single

TICKS = st.lists(st.integers(0, 40), min_size=1, max_size=25, unique=True).map(lambda t: np.array(sorted(t), np.float64))
SPANS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 10)).map(lambda p: (float(p[0]), float(p[0] + p[1]))), max_size=4)


def one(failed=np.nan, seen=40.0, begins=0.0, episodes=None) -> Truth:
    labelled = None if episodes is None else [np.array(episodes, np.float64).reshape(-1, 2)]
    names = [] if episodes is None else [["fault"] * len(episodes)]
    return single(["A"], np.array([failed]), np.array([seen]), np.array([begins]), np.array([0.0]), labelled, names)


@given(TICKS, SPANS, st.integers(0, 20), st.floats(0, 30))
def test_in_a_labelled_episode_and_nowhere_else(tick, episodes, begins, horizon):
    found = one(begins=float(begins), episodes=episodes).anomalous(tick, 0, horizon)
    for t, is_wrong in zip(tick, found, strict=True):
        if t < begins:
            assert np.isnan(is_wrong)
        else:
            assert is_wrong == any(begin <= t <= end for begin, end in episodes)


@given(TICKS, st.integers(0, 45), st.booleans(), st.integers(0, 20), st.integers(0, 15))
def test_shortly_before_a_failure_and_unknown_where_the_asset_was_lost_from_sight(tick, ends, failed, begins, horizon):
    real = one(float(ends) if failed else np.nan, float(ends), float(begins))
    for t, is_wrong in zip(tick, real.anomalous(tick, 0, horizon), strict=True):
        left = ends - t
        if t < begins or (failed and left < 0) or (not failed and left < horizon):
            assert np.isnan(is_wrong), "before the test part, after the failure, or too close to the end of what was seen"
        else:
            assert is_wrong == (failed and left <= horizon)


@given(
    TICKS,
    st.lists(st.integers(0, 40), max_size=3, unique=True),
    st.lists(st.integers(0, 40), max_size=2, unique=True),
    st.integers(0, 20),
    st.integers(0, 15),
)
def test_an_asset_with_several_lives_is_anomalous_before_each_failure(tick, failures, replacements, begins, horizon):
    failed, replaced = sorted(failures), sorted(set(replacements) - set(failures))
    real = Truth(
        ["A"], [np.array(failed, float)], [np.array(replaced, float)], np.array([40.0]), np.array([float(begins)]), np.array([0.0])
    )
    for t, is_wrong in zip(tick, real.anomalous(tick, 0, horizon), strict=True):
        coming = sorted((e, e in failed) for e in [*failed, *replaced] if e >= t)
        fails = bool(coming) and coming[0][1]
        until = coming[0][0] if coming else 40.0
        repaired = any(0 < t - f <= horizon for f in failed)
        if t < begins:
            assert np.isnan(is_wrong)
        elif fails and until - t <= horizon:
            assert is_wrong == 1
        elif repaired or (not fails and until - t < horizon):
            assert np.isnan(is_wrong), "just repaired, or nobody knows what would have come"
        elif not (40 in failed and t > 40):
            assert is_wrong == 0


def test_labels_outweigh_a_failure():
    """Where somebody labelled episodes, the time before a failure is normal unless they say otherwise."""
    tick = np.arange(41.0)
    assert not one(failed=40.0, episodes=[]).anomalous(tick, 0, 10.0).any()
    assert one(failed=40.0).anomalous(tick, 0, 10.0).sum() == 11


@given(TICKS, SPANS)
def test_some_assets_keep_what_is_theirs(tick, episodes):
    both = single(
        ["A", "B"], *(np.zeros(2),) * 4, [np.zeros((0, 2)), np.array(episodes, np.float64).reshape(-1, 2)], [[], ["x"] * len(episodes)]
    )
    few = both.some(np.array([1]))
    np.testing.assert_array_equal(few.anomalous(tick, 0, 5.0), both.anomalous(tick, 1, 5.0))
    assert few.assets == ["B"] and few.faults == [["x"] * len(episodes)]


MOMENTS = st.lists(st.integers(-10, 60), max_size=6, unique=True)


@given(MOMENTS, MOMENTS, st.integers(0, 20), st.integers(0, 40))
def test_every_life_counts_and_age_begins_anew_with_each(failures, replacements, born, watched):
    """Ends as `truth` hands them over: none before the first reading, none twice."""
    failed = sorted(t for t in failures if t >= born)
    replaced = sorted(t for t in set(replacements) - set(failures) if t >= born)
    seen = born + watched
    real = Truth(["A"], [np.array(failed, float)], [np.array(replaced, float)], *(np.array([float(v)]) for v in (seen, born, born)))
    borders = [born, *sorted(t for t in [*failed, *replaced] if t > born)]
    lives = [(end - begin, end in failed) for begin, end in zip(borders, borders[1:], strict=False)]
    lives += [(seen - borders[-1], False)] if seen > borders[-1] else []
    length, ended = real.lives()
    assert list(zip(length.tolist(), ended.tolist(), strict=True)) == lives
    tick = np.arange(born, seen + 1, dtype=np.float64)
    begun = [max([born, *(e for e in [*failed, *replaced] if e < t)]) for t in tick]
    np.testing.assert_array_equal(real.age(tick, 0), tick - begun)


def test_an_asset_of_several_lives_has_several_in_the_record():
    """Three lives of 300 are not one of 900, and the last one, which has just begun, is censored."""
    real = Truth(["A"], [np.array([300.0, 600.0, 900.0])], [np.zeros(0)], np.array([950.0]), np.zeros(1), np.zeros(1))
    length, failed = real.lives()
    assert length.tolist() == [300.0, 300.0, 300.0, 50.0] and failed.tolist() == [True, True, True, False]
    assert real.age(np.array([0.0, 300.0, 301.0, 600.0, 950.0]), 0).tolist() == [0.0, 300.0, 1.0, 300.0, 50.0]
