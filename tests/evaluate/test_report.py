"""The rows of a result: names, units, and what is left blank."""

import json

import numpy as np
import pytest

from pmx.contract import Channel, Contract
from pmx.evaluate.bound import Bounds
from pmx.evaluate.event import EventCounts
from pmx.evaluate.paired import paired
from pmx.evaluate.part import Parts
from pmx.evaluate.protocol import Protocol, Truth
from pmx.evaluate.report import (
    Row,
    alarm_table,
    cell,
    detection_table,
    fault_table,
    interval_table,
    lead_table,
    life_table,
    metrics,
    no_better,
    prognosis_table,
    row,
    tables_of,
)
from tests.lives import single

CHANNELS = (Channel("load", "kW"),)
CYCLES = Contract(CHANNELS, "cycle", "life")
HOURS = Contract(CHANNELS, "h", "calendar")
PROTOCOL = Protocol(cap=100, horizon=30, lead=5, draws=20)
TICK = [np.arange(100)] * 2
TRUTH = single(["A", "B"], np.array([99.0, np.nan]), np.array([99.0, 99.0]), np.zeros(2), np.zeros(2))
RUL = [np.clip(99.0 - TICK[0], 0, 100), np.full(100, 100.0)]


def rows(contract=CYCLES):
    standing = [TICK[0] >= 80, np.zeros(100, bool)]
    always = [np.ones(100, bool)] * 2
    return [
        row("winner", RUL, standing, TICK, TRUTH, PROTOCOL, contract),
        row("without age", RUL, standing, TICK, TRUTH, PROTOCOL, contract),
        row("always alarm", None, always, TICK, TRUTH, PROTOCOL, contract),
        row("constant", RUL, None, TICK, TRUTH, PROTOCOL, contract),
    ]


def test_metrics_are_named_as_promised_and_rates_are_fractions():
    found = metrics(rows(HOURS), HOURS)
    for name in (
        "test/rmse_last_capped",
        "test/rmse_last_capped_lo",
        "test_no_age/rmse_last_capped",
        "test/event_recall",
        "baseline_always_alarm/event_recall",
    ):
        assert name in found
    assert found["test/n_assets"] == 2 and found["test/n_failures"] == 1 and found["test/event_recall"] == 1.0
    assert found["test/false_alarms_per_asset_month"] == 0.0
    assert not [n for n in found if "nasa" in n]  # the score weighs cycles, not hours


def test_without_a_calendar_false_alarms_count_per_life_units():
    found = metrics(rows(), CYCLES)
    assert "test/false_alarms_per_1000_life_units" in found and "test/false_alarms_per_asset_month" not in found
    assert "test/nasa_last_capped" in found
    # A: right from tick 69 on, wrong at 0, 30, 60 -> judged anew each 30 ticks; B: wrong at 0, 30, 60; exposure 100 + 70 ticks
    assert found["baseline_always_alarm/false_alarms_per_1000_life_units"] == pytest.approx(1000 * 6 / 170)


def test_tables_name_unit_interval_and_blanks():
    life, alarms = life_table(rows(HOURS), HOURS, PROTOCOL), alarm_table(rows(HOURS), HOURS)
    assert "hours" in life.splitlines()[0] and "lower is better" in life and "always alarm" not in life
    assert "asset-month" in alarms and "1 of 1 [0.21, 1.00]" in alarms and "constant" not in alarms
    assert next(line for line in alarms.splitlines() if line.startswith("always alarm")).endswith("–")
    assert cell((np.nan,) * 3) == "–" and cell((1.234, 1.0, 2.0), 1) == "1.2 [1.0, 2.0]"


LABELLED = single(
    ["A", "B"],
    *(np.full(2, v) for v in (np.nan, 99.0, 0.0, 0.0)),
    [np.array([[60.0, 89.0]]), np.array([[40.0, 59.0]])],
    [["seal"], ["valve"]],
)


def scored(contract=HOURS, real: Truth = LABELLED):
    score = [np.where((TICK[0] >= 70) & (TICK[0] < 90), 0.9, 0.1), np.full(100, 0.1)]
    loud = [np.ones(100)] * 2
    return [
        row("winner", None, [s >= 0.5 for s in score], TICK, real, PROTOCOL, contract, score, 0.5),
        row("cross-fitted", None, [s >= 0.5 for s in score], TICK, real, PROTOCOL, contract, score, 0.5),
        row("always alarm", None, [s >= 1 for s in loud], TICK, real, PROTOCOL, contract, loud, 1.0),
    ]


def test_metrics_of_an_anomaly_score_are_named_as_promised():
    found = metrics(scored(), HOURS)
    assert found["test/f1"] == pytest.approx(2 * 20 / (20 + 50)) and found["test/far"] == 0 and found["test/mar"] == pytest.approx(30 / 50)
    assert found["test/seal/detection_rate"] == pytest.approx(2 / 3) and found["test/valve/detection_rate"] == 0
    assert found["test/event_recall"] == 0.5 and found["test/event_precision"] == 1.0 and found["test/n_alarms"] == 1
    assert found["test/delay_median"] == 10.0 and found["test/n_failures"] == 2
    assert found["crossfit/f1"] == found["test/f1"] and found["baseline_always_alarm/mar"] == 0
    assert "baseline_always_alarm/seal/detection_rate" not in found, "of a baseline the main rates"
    assert found["baseline_always_alarm/ap"] == pytest.approx(50 / 200)


def test_a_delay_is_in_the_life_unit():
    half = Contract(CHANNELS, "h", "calendar", tick=0.5)
    assert metrics(scored(half), half)["test/delay_median"] == 5.0
    assert "median delay, hours" in alarm_table(scored(half), half)


def test_tables_of_an_anomaly_score_name_episodes_faults_and_every_row():
    faults, detection, lead, alarms = tables_of(scored(), HOURS, PROTOCOL)
    assert lead == lead_table(scored(), HOURS)
    assert faults == fault_table(scored()[0]) and detection == detection_table(scored()) and alarms == alarm_table(scored(), HOURS)
    assert [line.split()[0] for line in faults.splitlines()[1:]] == ["fault", "seal", "valve"]
    assert all(name in detection and name in alarms for name in ("winner", "cross-fitted", "always alarm"))
    assert "episodes caught" in alarms and "1 of 2" in alarms and "1 of 1" in alarms
    failures = single(["A", "B"], np.array([99.0, np.nan]), np.array([99.0, 99.0]), np.zeros(2), np.zeros(2))
    assert fault_table(scored(real=failures)[0]) == "" and "failures caught" in alarm_table(scored(real=failures), HOURS)


@pytest.mark.parametrize(("caught", "false", "told"), [(3, 0, False), (3, 9, True), (2, 1, False)])
def test_a_winner_that_an_always_standing_alarm_matches_is_called_so(caught, false, told):
    """It catches no more, and disturbs as often: the sensors have added nothing."""
    none = {"f1": (np.nan,) * 3}

    def made(name: str, caught: int, false: int) -> Row:
        n = np.array([3]), np.array([caught]), np.array([false]), np.array([100.0])
        return Row(name, {}, EventCounts(*n), (false / 100, 0.0, 1.0), none)

    said = no_better([made("winner", caught, false), made("always alarm", 3, 5), made("age only", 0, 0)])
    assert bool(said) == told and ("always alarm" in said) == told


def bounded(contract=CYCLES):
    ends = [np.column_stack([r - 5, r + 5]) for r in RUL]
    return row("winner", RUL, [TICK[0] >= 80, np.zeros(100, bool)], TICK, TRUTH, PROTOCOL, contract, bounds=Bounds(ends, fill=50.0))


def test_prognosis_and_intervals_have_metrics_and_tables_of_their_own():
    found = metrics([bounded()], CYCLES)
    for name in ("alpha_lambda_50", "prognostic_horizon", "late_share_last", "coverage_near", "interval_width", "lead_time_p50"):
        assert not np.isnan(found[f"test/{name}"]), name
    assert found["test/lead_time_p50"] == 19.0 and found["test/interval_width"] < 10  # ends are cut at the cap and at 0
    tables = tables_of([bounded()], CYCLES, PROTOCOL)
    prognosis, intervals = prognosis_table([bounded()], CYCLES, PROTOCOL), interval_table([bounded()], CYCLES, PROTOCOL)
    assert prognosis in tables and intervals in tables and "cycles" in prognosis and "hold the truth" in intervals
    assert "when it is 50 cycles" in prognosis and "1.00 [0.21, 1.00]" in prognosis
    assert interval_table(rows(), CYCLES, PROTOCOL) == "", "no row gives intervals"
    assert prognosis_table(scored(), HOURS, PROTOCOL) == "", "no row states a life"


def test_a_baseline_shows_its_main_measures_alone():
    found = metrics([bounded(), row("constant", RUL, None, TICK, TRUTH, PROTOCOL, CYCLES)], CYCLES)
    assert "baseline_constant/alpha_lambda_50" in found and "baseline_constant/alpha_lambda_25" not in found
    assert "test/alpha_lambda_25" in found


def test_what_a_row_is_made_of_gives_its_measures_again_and_can_be_stored():
    for one in (bounded(HOURS), *scored()):
        stored = json.loads(json.dumps(one.to_json(), allow_nan=False))
        parts = Parts.from_json(stored)
        assert parts.assets == ("A", "B") and stored["name"] == one.name and stored["lead_times"] == one.ahead().tolist()
        told = one.metrics("test", "false_alarms")
        for name, part in parts.measures.items():
            assert part.value() == pytest.approx(told[f"test/{name}"], nan_ok=True), name
        assert all(d.difference == (0, 0, 0) or d.n < 2 for d in paired(parts, parts))


def test_care_says_when_no_asset_was_without_an_event():
    assert "stand for the normal assets" in detection_table(scored())
    healthy = single(
        ["A", "B"], *(np.full(2, v) for v in (np.nan, 99.0, 0.0, 0.0)), [np.array([[60.0, 89.0]]), np.zeros((0, 2))], [["seal"], []]
    )
    assert "stand for" not in detection_table(scored(real=healthy))
    assert metrics(scored(real=healthy), HOURS)["test/care_normal_assets"] == 1
