"""Paired comparison: what assets drawn together show, and what they do not."""

import numpy as np
import pytest

from pmx.contract import DataError
from pmx.evaluate.paired import NOTHING, paired
from pmx.evaluate.part import Part, Parts

N = 60
NAMES = tuple(f"P{i:02d}" for i in range(N))


def errors(square: np.ndarray, names: tuple[str, ...] = NAMES) -> Parts:
    return Parts(names, {"rmse": Part(square, np.ones(len(square)), root=True)})


def test_a_small_difference_that_every_asset_shows_is_seen_though_the_intervals_overlap():
    rng = np.random.default_rng(0)
    hard = rng.exponential(100, N)  # some assets are much harder than others: either error alone has a wide interval
    (found,) = paired(errors(hard), errors(hard * 1.1))
    assert found.shown and found.words("new", "old") == "new better" and found.better == 1.0 and found.n == N
    assert errors(hard).measures["rmse"].interval(1000, 0)[2] > errors(hard * 1.1).measures["rmse"].interval(1000, 0)[1]
    (back,) = paired(errors(hard * 1.1), errors(hard))
    assert back.difference[0] == pytest.approx(-found.difference[0]) and back.words() == "B better" and back.better == 0.0


def test_no_difference_is_called_so():
    rng = np.random.default_rng(1)
    (found,) = paired(errors(rng.exponential(100, N)), errors(rng.exponential(100, N)))
    assert not found.shown and found.words() == NOTHING and 0 < found.better < 1
    (same,) = paired(errors(np.ones(N)), errors(np.ones(N)))
    assert same.difference == (0, 0, 0) and same.better == 0.5 and same.words() == NOTHING


def test_values_by_hand_and_higher_may_be_better():
    a = Parts(("A", "B"), {"event_recall": Part(np.array([1.0, 1.0]), np.ones(2), higher=True)})
    b = Parts(("B", "A"), {"event_recall": Part(np.array([0.0, 0.0]), np.ones(2), higher=True)})
    (found,) = paired(a, b)
    assert (found.a, found.b) == (1.0, 0.0) and found.difference == (1.0, 1.0, 1.0) and found.words() == "A better" and found.better == 1.0


def test_assets_are_matched_by_name_and_the_order_is_nothing():
    rng = np.random.default_rng(2)
    one, other, order = rng.random(N), rng.random(N), rng.permutation(N)
    (straight,) = paired(errors(one), errors(other))
    (mixed,) = paired(errors(one), errors(other[order], tuple(NAMES[i] for i in order)))
    assert straight == mixed


def test_what_only_one_of_them_says_something_of_is_left_out():
    a = Parts(("A", "B", "C"), {"rmse": Part(np.array([4.0, 4.0, 1e9]), np.ones(3), root=True)})
    b = Parts(("A", "B", "C"), {"rmse": Part(np.array([9.0, 9.0, 0.0]), np.array([1.0, 1.0, 0.0]), root=True)})
    (found,) = paired(a, b)
    assert (found.a, found.b, found.n) == (2.0, 3.0, 2)


def test_one_asset_shows_nothing():
    (found,) = paired(errors(np.array([1.0]), ("A",)), errors(np.array([4.0]), ("A",)))
    assert found.difference[0] == -1.0 and np.isnan(found.difference[1]) and found.words() == NOTHING and np.isnan(found.better)


def test_results_without_a_common_asset_or_measure_are_refused():
    with pytest.raises(DataError, match="no asset in common"):
        paired(errors(np.ones(1), ("A",)), errors(np.ones(1), ("B",)))
    with pytest.raises(DataError, match=r"measure mae .* one of rmse"):
        paired(errors(np.ones(N)), errors(np.ones(N)), measures=("mae",))
    with pytest.raises(DataError, match="3 numbers for 1 assets"):
        Parts.from_json({"assets": ["A"], "measures": {"rmse": {"numerator": [1, 2, 3], "denominator": [1, 2, 3], "root": True}}})


def test_the_interval_holds_the_true_difference_as_often_as_it_claims():
    rng, held = np.random.default_rng(5), 0
    for _ in range(200):  # a's squared errors are 1 lower on average; measured as a mean without a root
        base = rng.exponential(5, 40)
        a, b = (Parts(NAMES[:40], {"mse": Part(base + rng.normal(m, 1, 40), np.ones(40))}) for m in (0, 1))
        (found,) = paired(a, b, draws=200)
        held += found.difference[1] <= -1 <= found.difference[2]
    assert 0.88 <= held / 200 <= 0.99
