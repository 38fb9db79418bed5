"""Bins count every reading once, and a perfect estimate lies on the diagonal."""

import numpy as np
import pytest

from pmx.contract import Channel, Contract
from pmx.edge.replay import Replayed
from pmx.evaluate.protocol import Protocol
from pmx.review.calibrate import contributions, life_bins, score_bins
from tests.lives import single

CYCLES = Contract((Channel("load", "kW"), Channel("heat", "K"), Channel("idle", "K")), "cycle", "life")
PROTOCOL = Protocol(cap=50, horizon=20, lead=2, draws=10)
ENDS = np.array([100.0, 80.0])
TRUTH = single(["A", "B"], ENDS, ENDS, np.zeros(2), np.zeros(2))
TICK = [np.arange(int(e) + 1) for e in ENDS]


def played(**outputs: list[np.ndarray]) -> Replayed:
    standing = [t > e - 15 for t, e in zip(TICK, ENDS, strict=True)]
    return Replayed("", CYCLES, ["A", "B"], TICK, outputs, standing, (), 0, 0.0)


def test_a_perfect_life_lies_on_the_diagonal():
    rul = [np.float32(e - t) for t, e in zip(TICK, ENDS, strict=True)]
    ends = [np.stack([r - 1, r + 1], axis=1) for r in rul]
    ends[0][60:, 1] = ends[0][60:, 0]  # from here on the truth lies above both
    bins = life_bins(played(rul=rul, interval=ends), TRUTH, PROTOCOL)
    assert sum(b.n for b in bins) == 182 and all(b.said == pytest.approx(b.true) for b in bins)
    assert all(b.middle[0] <= b.true <= b.middle[1] for b in bins) and bins[-1].coverage == 1 and bins[0].coverage < 1
    assert np.isnan(life_bins(played(rul=rul), TRUTH, PROTOCOL)[0].coverage)


def test_readings_without_verdict_or_truth_do_not_count():
    rul = [np.full(len(t), np.nan, np.float32) for t in TICK]
    assert life_bins(played(rul=rul), TRUTH, PROTOCOL) == ()


def test_a_score_is_held_against_the_share_of_anomalous_readings():
    score = [np.float32(np.where(t >= e - 20, 0.9995, 0.2)) for t, e in zip(TICK, ENDS, strict=True)]
    low, high = score_bins(played(anomaly_score=score), TRUTH, PROTOCOL, "anomaly_score")
    assert (low.true, high.true, high.n, low.n + high.n) == (0.0, 1.0, 42, 182)
    chance = [np.full(len(t), 0.3, np.float32) for t in TICK]
    [only] = score_bins(played(failure_probability=chance), TRUTH, PROTOCOL, "failure_probability")
    assert only.true == pytest.approx(42 / 182) and only.low == pytest.approx(0.3, abs=0.1)


def test_contributions_before_caught_events_and_in_healthy_time():
    given = [np.float32(np.stack([t * 0 + 0.5, np.where(t > e - 15, 4.0, 0.1), 0 * t], axis=1)) for t, e in zip(TICK, ENDS, strict=True)]
    found = contributions(played(contribution=given), TRUTH, PROTOCOL)
    assert [f[0] for f in found] == ["heat", "load"], "a channel that says nothing is left out"
    assert found[0][1:] == pytest.approx((4.0, 0.1)) and found[1][1:] == pytest.approx((0.5, 0.5))
    assert contributions(played(), TRUTH, PROTOCOL) == ()
