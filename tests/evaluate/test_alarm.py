"""The list of alarms: each one that stood in the test part, judged as the table judges it, or not at all."""

import csv
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pmx.contract import Channel, Contract
from pmx.edge.replay import Replayed
from pmx.evaluate.alarm import Alarm, alarm_list, write_alarms
from pmx.evaluate.event import count_events
from pmx.evaluate.protocol import Protocol, Truth
from tests.lives import single

HOURS = Contract((Channel("load", "kW"), Channel("heat", "K")), "h", "life")
PROTOCOL = Protocol(cap=100, horizon=20, lead=2, draws=10)


def played(standing: list[np.ndarray]) -> Replayed:
    tick = [np.arange(len(s)) for s in standing]
    outputs = {
        "anomaly_score": [np.zeros(len(s), np.float32) for s in standing],
        "contribution": [np.tile(np.float32([0.5, 3.0]), (len(s), 1)) for s in standing],
    }
    return Replayed("", HOURS, [f"P{i}" for i in range(len(standing))], tick, outputs, standing, (), 0, 0.0)


def spans(length: int, *pairs: tuple[int, int]) -> np.ndarray:
    at = np.arange(length)
    return np.any([(at >= b) & (at < e) for b, e in pairs], 0)


def real(failed: list[float], seen: float, begins: float, episodes: list[tuple[float, float]] | None = None) -> Truth:
    labels = None if episodes is None else [np.array(episodes, np.float64).reshape(-1, 2)]
    names = [] if episodes is None else [["x"] * len(episodes)]
    one = single(["P0"], np.array([np.nan]), np.array([seen]), np.array([begins]), np.zeros(1), labels, names)
    return Truth(**{**vars(one), "failed": [np.array(failed, np.float64)]})


def test_an_alarm_that_stood_already_when_the_test_part_began_is_listed():
    standing = spans(801, (100, 200), (390, 700), (790, 801))
    found = alarm_list(played([standing]), real([], 800.0, 400.0), PROTOCOL)
    assert [(a.raised, a.cleared) for a in found] == [("390 h", "700 h"), ("790 h", None)], "what cleared before it is not"
    assert {a.because for a in found} == {(("heat", 3.0), ("load", 0.5))}


def test_right_is_left_open_where_nobody_can_judge():
    standing = spans(801, (410, 412), (490, 492), (510, 512), (600, 602), (785, 787))
    told = [a.right for a in alarm_list(played([standing]), real([500.0], 800.0, 400.0), PROTOCOL)]
    assert told == [False, True, None, False, None], "being repaired, and shortly before it was lost from sight"
    again = alarm_list(played([spans(801, (506, 508))]), real([500.0, 515.0], 800.0, 400.0), PROTOCOL)
    assert [a.right for a in again] == [None], "what fails again while it is repaired was not foretold"
    assert {a.right for a in alarm_list(played([standing]), real([], 800.0, 400.0), PROTOCOL)} == {None}, "no failure is on record"


SPANS = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 60)), max_size=5)


@given(SPANS, st.lists(st.integers(1, 300), max_size=3, unique=True), st.integers(0, 150), st.none() | SPANS)
def test_the_list_and_the_table_agree(stands, failures, begins, labels):
    standing = spans(301, (0, 0), *((b, b + n) for b, n in stands))
    episodes = None if labels is None else [(float(b), float(b + n)) for b, n in labels]
    truth = real(sorted(map(float, failures)), 300.0, float(begins), episodes)
    found = alarm_list(played([standing]), truth, PROTOCOL)
    counts = count_events([standing], [np.arange(301)], truth, PROTOCOL, 1.0)
    edges = np.flatnonzero(np.diff(np.r_[False, standing, False])).reshape(-1, 2)
    assert len(found) == sum(int(e) > begins for _, e in edges)
    if failures or labels is not None:
        assert sum(a.right is not None for a in found) == counts.raised[0]
    assert sum(a.right is True for a in found) == counts.right[0]


def test_the_file_holds_a_line_for_each(tmp_path: Path):
    alarms = [Alarm("P1", "3.0", None, (("heat", 3.0), ("load", 0.5)), None), Alarm("P2", "4.0", "9.0", (), False)]
    write_alarms(tmp_path / "alarms.csv", alarms)
    first, second = csv.DictReader((tmp_path / "alarms.csv").read_text(encoding="utf-8").splitlines())
    machine = {"kind": "machine", "channel": "", "state": ""}
    assert first == machine | {"asset": "P1", "raised": "3.0", "cleared": "", "because": "heat 3.0; load 0.5", "fault": "", "right": ""}
    assert second == machine | {"asset": "P2", "raised": "4.0", "cleared": "9.0", "because": "", "fault": "", "right": "0"}
