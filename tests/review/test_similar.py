"""Likeness of signatures, and which episodes may be shown."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pmx.review.similar import CLIP, LEAST, NEWEST, Episode, likeness, most_similar, signature

SIGNATURES = arrays(np.float64, 4, elements=st.floats(-20, 20) | st.just(np.nan))
NAMES = ["flow", "heat", "load", "noise"]


@given(SIGNATURES, SIGNATURES)
def test_likeness_is_a_cosine(a, b):
    alike = likeness(a, b[None])[0]
    assert np.isnan(alike) or -1 <= alike <= 1
    assert np.array_equal(alike, likeness(b, a[None])[0], equal_nan=True)
    assert np.array_equal(-alike, likeness(a, -b[None])[0], equal_nan=True)
    same = likeness(a, a[None])[0]
    assert np.isnan(same) == (not (np.abs(a) > 1).any()) and (np.isnan(same) or np.isclose(same, 1))


def test_what_lies_near_normal_or_beyond_the_clip_says_no_more():
    far, further = np.array([CLIP + 1, 0.9, 0, 0]), np.array([20.0, -0.9, 0, 0])
    assert likeness(far, further[None])[0] == 1
    assert np.isnan(likeness(np.array([0.9, -0.9, 0, np.nan]), further[None])[0])


@given(st.integers(0, 40))
def test_a_signature_is_the_mean_of_the_newest_scores(at):
    score = np.random.default_rng(at).normal(size=(41, 3))
    score[::3, 1], score[:, 2] = np.nan, np.nan
    found = signature(score, at)
    part = score[max(0, at - NEWEST + 1) : at + 1]
    assert found[0] == np.mean(part[:, 0]) or np.isclose(found[0], np.mean(part[:, 0]))
    assert np.isnan(found[2]) and (np.isnan(found[1]) if np.isnan(part[:, 1]).all() else np.isclose(found[1], np.nanmean(part[:, 1])))


def episode(asset: str, *signatures: list[float], ended: float = -np.inf) -> Episode:
    return Episode(asset, "failure", "then", "after 9 h", ended, np.array(signatures, np.float64).reshape(-1, 4))


def test_the_three_most_alike_come_first_with_what_they_share():
    own = np.array([4.0, -3.0, 0.2, np.nan])
    past = [
        episode("other way", [-4, 3, 0, 0]),
        episode("half", [4, 0, 0, 0]),
        episode("whole", [0, 0, 0, 0], [4, -3, 0, 0]),
        episode("late", [4, -3, 0, 0], ended=50.0),
        episode("fair", [4, -2, 2, 0]),
        episode("faint", [4, 0, 9, 0]),
        episode("unwatched"),
    ]
    found = most_similar(own, 50.0, past, NAMES)
    assert [p.asset for p in found] == ["whole", "fair", "half"], "what had not ended is no past episode"
    assert found[0].likeness == 1 and found[0].shared == ("flow above normal", "heat below normal")
    assert [p.asset for p in most_similar(own, 50.5, past, NAMES)][:2] == ["late", "whole"]
    assert found[-1].likeness >= LEAST and most_similar(own, 0.0, past[:1], NAMES) == ()
