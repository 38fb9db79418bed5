"""The volume under the precision-recall surface against a slow computation straight from its definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmx.evaluate.volume import vus_pr


def slow(wrong: np.ndarray, score: np.ndarray, longest: int) -> float:
    """One series, reading by reading, as the paper defines it: every length from 0 to the longest, 250 limits."""
    n, areas = len(score), []
    limits = sorted(score, reverse=True)
    limits = [limits[int(i)] for i in np.linspace(0, n - 1, 250)]
    for length in range(longest + 1):
        label = [0.0] * n
        for t in range(n):
            if wrong[t]:
                label[t] = 1.0
                continue
            for s in range(n):  # every edge of a stretch within half a buffer adds its share
                edge = wrong[s] and ((s < t and not (s + 1 < n and wrong[s + 1])) or (s > t and not (s > 0 and wrong[s - 1])))
                if edge and abs(s - t) <= length // 2:
                    label[t] += np.sqrt(1 - abs(s - t) / length)
            label[t] = min(1.0, label[t])
        groups, inside = [], False
        for t in range(n):
            if label[t] > 0 and not inside:
                groups.append([])
            inside = label[t] > 0
            if inside:
                groups[-1].append(t)
        curve = []
        for limit in limits:
            told = [t for t in range(n) if score[t] >= limit]
            hits = sum(label[t] for t in told)
            recall = min(hits / ((sum(wrong) + sum(label)) / 2), 1.0)
            met = sum(any(t in told for t in group) for group in groups) / len(groups)
            curve.append((recall * met, hits / len(told)))
        curve.insert(0, (0.0, curve[0][1]))  # the paper begins at 1: see below
        areas.append(sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in zip(curve, curve[1:], strict=False)))
    return float(np.mean(areas))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 10))
def test_it_is_the_definition(seed, longest):
    rng = np.random.default_rng(seed)
    wrong = np.zeros(40, bool)
    for begin in rng.integers(0, 38, rng.integers(1, 4)):
        wrong[begin : begin + rng.integers(1, 8)] = True
    score = np.round(rng.random(40) + 0.5 * wrong, 1)
    assert vus_pr([wrong], [score], [np.arange(40)], longest) == pytest.approx(slow(wrong, score, longest))


def test_a_perfect_score_that_knows_the_buffers_edges_has_all_of_the_volume_at_no_buffer():
    wrong = np.arange(300) >= 250
    assert vus_pr([wrong], [wrong * 1.0], [np.arange(300)], 0) == pytest.approx(1.0, abs=0.01)


def test_a_score_that_is_early_by_half_a_buffer_is_worth_more_than_one_that_is_early_by_more():
    tick = np.arange(400)
    wrong = (tick >= 300) & (tick < 340)
    near, far = ((tick >= 300 - d) & (tick < 340 - d) for d in (8, 30))
    assert vus_pr([wrong], [near * 1.0], [tick], 20) > vus_pr([wrong], [far * 1.0], [tick], 20) + 0.2


def test_assets_do_not_touch_and_their_order_is_nothing():
    rng = np.random.default_rng(1)
    score = [rng.random(50) for _ in range(3)]
    wrong = [np.arange(50) >= 45, np.arange(50) < 5, np.zeros(50, bool)]
    tick = [np.arange(50)] * 3
    whole = vus_pr(wrong, score, tick, 10)
    assert whole == pytest.approx(vus_pr(wrong[::-1], score[::-1], tick, 10))
    spread = np.concatenate([t + 1000 * i for i, t in enumerate(tick)])
    assert whole == pytest.approx(vus_pr([np.concatenate(wrong)], [np.concatenate(score)], [spread], 10), abs=0.02)
    assert np.isnan(vus_pr([np.zeros(5, bool)], [np.ones(5)], [np.arange(5)], 3)) and np.isnan(vus_pr([], [], [], 3))


def test_a_buffer_is_measured_in_ticks_not_in_readings():
    wrong, score = np.array([False, True]), np.array([0.9, 0.5])
    assert vus_pr([wrong], [score], [np.array([9, 10])], 4) > vus_pr([wrong], [score], [np.array([0, 10])], 4)


def test_a_score_that_says_the_same_of_every_reading_has_the_share_of_anomalous_ones():
    """Beginning at a precision of 1, the area of an alarm that always stands would be more than one half."""
    wrong = np.arange(100) >= 90
    assert vus_pr([wrong], [np.ones(100)], [np.arange(100)], 0) == pytest.approx(0.1)
