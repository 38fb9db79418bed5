"""Probabilities of classes: the same numbers as scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, roc_auc_score

from pmx.evaluate.classes import class_metrics, class_parts, confusion, left_out

NAMES = ["healthy", "seal", "valve"]


def made(seed: int, assets: int = 4, k: int = 3) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    truth = [rng.integers(-1, k, n) for n in rng.integers(5, 30, assets)]
    raw = [np.round(rng.random((len(t), k)) + 0.5 * (np.arange(k) == t[:, None]), 1) + 0.1 for t in truth]
    return [r / r.sum(1, keepdims=True) for r in raw], truth


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_they_agree_with_scikit_learn(seed):
    p, truth = made(seed)
    flat, true = np.concatenate(p), np.concatenate(truth)
    flat, true = flat[true >= 0], true[true >= 0]
    found = class_metrics(p, truth, NAMES, draws=20)
    if set(true) == {0, 1, 2}:
        assert found["macro_auroc"][0] == pytest.approx(roc_auc_score(true, flat, multi_class="ovr"))
    for k in range(3):
        if 0 < (true == k).sum() < len(true):
            assert found[f"auroc/{NAMES[k]}"][0] == pytest.approx(roc_auc_score(true == k, flat[:, k]))
    assert found["accuracy"][0] == pytest.approx((flat.argmax(1) == true).mean())
    assert confusion(p, truth, NAMES).tolist() == confusion_matrix(true, flat.argmax(1), labels=[0, 1, 2]).tolist()
    part = class_parts(p, truth, NAMES)["accuracy"]
    assert part.value() == pytest.approx(found["accuracy"][0]) and len(part.numerator) == 4


def test_the_interval_is_drawn_over_assets():
    p, truth = made(1, assets=12)
    value, low, high = class_metrics(p, truth, NAMES, draws=200)["macro_auroc"]
    assert low < value < high
    assert np.isnan(class_metrics(p[:1], truth[:1], NAMES, draws=20)["macro_auroc"][1]), "one asset shows no spread"
    twice = class_metrics([*p, *p], [*truth, *truth], NAMES, draws=200)["macro_auroc"]
    assert twice[0] == pytest.approx(value) and twice[2] - twice[1] < high - low


def test_a_class_without_readings_on_both_sides_is_left_out_and_named():
    p = [np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]])]
    truth = [np.array([0, 1])]
    assert left_out(p, truth, NAMES) == ["valve"]
    found = class_metrics(p, truth, NAMES, draws=5)
    assert found["macro_auroc"][0] == 1.0 and "auroc/valve" not in found
    alone = class_metrics(p, [np.array([1, 1])], NAMES, draws=5)
    assert np.isnan(alone["macro_auroc"][0]) and left_out(p, [np.array([1, 1])], NAMES) == NAMES and alone["accuracy"][0] == 0.5


def test_what_has_no_verdict_or_no_known_class_does_not_count():
    p = [np.array([[0.9, 0.1], [np.nan, np.nan], [0.2, 0.8], [0.1, 0.9]])]
    truth = [np.array([0, 0, 1, -1])]
    assert confusion(p, truth, ["a", "b"]).tolist() == [[1, 0], [0, 1]]
    assert class_metrics(p, truth, ["a", "b"], draws=5)["accuracy"][0] == 1.0
    assert np.isnan(class_metrics([], [], ["a", "b"], draws=5)["accuracy"][0])


def test_probabilities_that_are_all_the_same_tell_nothing_apart():
    p, truth = [np.full((6, 2), 0.5)], [np.array([0, 0, 0, 0, 1, 1])]
    assert class_metrics(p, truth, ["a", "b"], draws=5)["macro_auroc"][0] == 0.5
    low = [np.array([[0.5, 0.5], [0.5, 0.5], [0.1, 0.9]])]  # one positive beside a negative, one above it
    assert class_metrics(low, [np.array([0, 1, 1])], ["a", "b"], draws=5)["auroc/b"][0] == 0.75
