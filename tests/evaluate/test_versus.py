"""Two runs are paired only where they met the same truth, and the picture points to the better one."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from pmx.contract import Channel, Contract
from pmx.evaluate.protocol import Protocol
from pmx.evaluate.report import row
from pmx.evaluate.versus import evaluation, forest, label, scatter, summary, unpaired, versus, versus_table
from tests.lives import single

HOURS = Contract((Channel("load", "kW"),), "h", "calendar")
PROTOCOL = Protocol(cap=100, horizon=30, lead=5, draws=20)
NAMES = [f"pump {i}" for i in range(8)]
TICK = [np.arange(100)] * len(NAMES)


def kept(error: float, digest: str = "d" * 64, begins: float = 0.0, protocol: Protocol = PROTOCOL):
    """The evaluation of a run whose estimates are off by `error` hours, a little more on every further pump; pump 3 raises none in time."""
    n = len(NAMES)
    truth = single(NAMES, np.full(n, 99.0), np.full(n, 99.0), np.full(n, begins), np.zeros(n))
    rul = [np.clip(99.0 - t + error * (1 + 0.01 * i), 0, 100) for i, t in enumerate(TICK)]
    rows = [row("winner", rul, [(t >= 80) & (i != 3) for i, t in enumerate(TICK)], TICK, truth, protocol, HOURS)]
    return json.loads(json.dumps(evaluation(rows, truth, protocol, HOURS, digest)))


def test_the_better_run_is_named_whichever_stands_first() -> None:
    good, bad = kept(3.0), kept(9.0)
    for a, b, better in ((bad, good, "B better"), (good, bad, "A better")):
        found = versus(a, b)
        assert found[0].measure == "rmse_all_capped" and found[0].words("B", "A") == better and found[0].n == len(NAMES)
    assert found[0].difference[0] == pytest.approx(found[0].a - found[0].b) and found[0].difference[1] > 0


def test_a_run_against_itself_shows_no_difference_anywhere() -> None:
    found = versus(kept(3.0), kept(3.0))
    assert {d.difference for d in found if d.n > 1} == {(0.0, 0.0, 0.0)} and {d.words() for d in found} == {"no difference shown"}


def test_the_table_and_the_sentence_say_who_is_better_in_which_unit() -> None:
    found = versus(kept(9.0), kept(3.0))
    text = versus_table(found, "hours")
    assert text.splitlines()[0].split("  ")[0] == "" and "B − A [95 %]" in text
    line = next(x for x in text.splitlines() if x.startswith("RMSE, hours, last reading, capped"))
    assert line.endswith("8       B better") and "−" in line
    assert "The same in both on every asset: event recall 0.875; " in text and "One in twenty" in text
    alone = versus_table(versus(kept(3.0), kept(3.0)), "hours")
    assert alone.startswith("The same in both on every asset: RMSE") and len(alone.splitlines()) == 1
    said = summary(found, "hours", "this run", "champion v1")
    assert said.startswith("RMSE, hours, all readings, capped: 3.08") and said.endswith("on the same 8 assets: this run better")


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"digest": "e" * 64}, "the data differ"),
        ({"begins": 5.0}, "the test parts differ"),
        ({"protocol": Protocol(cap=90, horizon=30, lead=5, draws=20)}, "evaluate.cap 100 and 90"),
    ],
)
def test_what_met_another_truth_is_not_paired(other: dict, why: str) -> None:
    assert unpaired(kept(3.0), kept(3.0)) == ""
    assert why in unpaired(kept(3.0), kept(3.0, **other))


def test_what_kept_nothing_is_not_paired() -> None:
    assert unpaired({}, kept(3.0)).startswith("A kept no per-asset figures") and unpaired(kept(3.0), {}).startswith("B kept")
    old = copy.deepcopy(kept(3.0)) | {"format": 0}
    assert "another version of pmx" in unpaired(old, kept(3.0))


def test_the_picture_points_right_where_b_is_better() -> None:
    found = versus(kept(9.0), kept(3.0))
    (axes,) = forest(found, "hours").axes
    dots = [line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 1]
    assert dots[0] > 0 and len(dots) == len(axes.get_yticklabels())
    (square,) = scatter(kept(9.0), kept(3.0), found, "hours").axes
    x, y = square.lines[1].get_data()
    assert len(x) == len(NAMES) and (np.asarray(y) < np.asarray(x)).all() and "below the line B is better" in square.get_title()


def test_labels_are_words() -> None:
    assert (
        label("rmse_all_capped", "hours") == "RMSE, hours, all readings, capped" and label("late_share_last") == "late share, last reading"
    )
    assert label("event_recall", "hours") == "event recall"


def test_where_machines_are_watched_until_they_fail_all_readings_stand_for_a_run() -> None:
    one = kept(3.0)
    assert versus(one, kept(9.0))[0].measure == "rmse_all_capped", "a calendar clock"
    assert versus(one | {"main": "rmse_last_capped"}, kept(9.0))[0].measure == "rmse_last_capped", "a clock of lives that are cut"
