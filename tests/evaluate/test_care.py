"""The CARE score against values worked out by hand from its definition."""

import numpy as np
import pytest
from sklearn.metrics import fbeta_score

from pmx.evaluate.care import care_metrics
from pmx.evaluate.protocol import Protocol

PROTOCOL = Protocol(cap=10, horizon=5, lead=0, draws=50)


def bits(text: str) -> np.ndarray:
    return np.array([c == "1" for c in text])


def care(*assets: tuple[str, str], standing: tuple[str, ...] | None = None) -> dict[str, float]:
    wrong, over = [bits(w) for w, _ in assets], [bits(o) for _, o in assets]
    stood = over if standing is None else [bits(s) for s in standing]
    return {k: v[0] for k, v in care_metrics(wrong, over, stood, PROTOCOL).items()}


def test_by_hand():
    # an event of four readings, of which the first and the last are raised, with one false reading before it; and a normal asset
    # with one reading of ten raised. Weights of the event: 1, 1, 0.75, 0.25
    found = care(("00001111", "01001001"), ("0000000000", "0000010000"), standing=("00001000", "0000000000"))
    coverage = fbeta_score(bits("00001111"), bits("01001001"), beta=0.5)
    assert found["care_coverage"] == pytest.approx(coverage) == pytest.approx(0.625)
    assert found["care_earliness"] == pytest.approx(1.25 / 3) and found["care_accuracy"] == pytest.approx(0.9)
    assert found["care_reliability"] == 1.0 and found["care_normal_assets"] == 1
    assert found["care"] == pytest.approx((0.625 + 1.25 / 3 + 1 + 2 * 0.9) / 5)


def test_a_false_alarm_on_a_normal_asset_costs_reliability():
    found = care(("0011", "0011"), ("0000", "0000"), ("0000", "0001"))
    assert found["care_reliability"] == pytest.approx(fbeta_score([1, 0, 0], [1, 0, 1], beta=0.5))


def test_nothing_found_is_nothing_and_too_many_false_readings_are_all_that_counts():
    assert care(("0011", "0000"), ("0000", "0000"))["care"] == 0.0
    assert care(("0011", "1111"), ("0000", "1110"))["care"] == care(("0011", "1111"), ("0000", "1110"))["care_accuracy"] == 0.25
    assert care(("0011", "1111"), ("0000", "1111"))["care"] == 0.0  # an alarm that always stands
    assert care(("0011", "0011"), ("0000", "0000"))["care"] == 1.0


def test_each_event_of_an_asset_is_a_sequence_with_the_readings_before_it():
    found = care(("00110011", "00110000"), ("0000", "0000"))
    assert found["care_coverage"] == pytest.approx(0.5) and found["care_earliness"] == pytest.approx(0.5)
    assert found["care_reliability"] == pytest.approx(fbeta_score([1, 1, 0], [1, 0, 0], beta=0.5))
    late = care(("0011000", "0000001"), ("0000", "0000"))  # an alarm behind the event does not find it
    assert late["care"] == 0.0 and late["care_coverage"] == 0.0


def test_where_every_asset_has_an_event_the_readings_before_it_are_normal():
    found = care(("00001111", "01001111"), ("0011", "0011"))
    assert found["care_normal_assets"] == 0 and found["care_accuracy"] == pytest.approx((0.75 + 1) / 2)
    assert found["care_reliability"] == pytest.approx(fbeta_score([1, 1, 0, 0], [1, 1, 1, 0], beta=0.5))


def test_without_events_or_without_normal_readings_there_is_no_score():
    assert np.isnan(care(("0000", "0001"))["care"]) and np.isnan(care(("1111", "1111"))["care"]) and np.isnan(care()["care"])


def test_the_interval_holds_the_value_and_the_order_of_assets_is_nothing():
    rng = np.random.default_rng(0)
    wrong = [np.arange(50) >= b for b in (30, 40, 50, 50, 45)]
    over = [rng.random(50) < np.where(w, 0.8, 0.1) for w in wrong]
    one, other = care_metrics(wrong, over, over, PROTOCOL), care_metrics(wrong[::-1], over[::-1], over[::-1], PROTOCOL)
    assert one["care"][1] <= one["care"][0] <= one["care"][2] and one["care"][0] == pytest.approx(other["care"][0])
