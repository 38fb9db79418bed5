"""The rows of a result: names, units, and what is left blank."""

import numpy as np
import pytest

from pmx.contract import Channel, Contract
from pmx.evaluate.protocol import Protocol, Truth
from pmx.evaluate.report import alarm_table, cell, life_table, metrics, row

CHANNELS = (Channel("load", "kW"),)
CYCLES = Contract(CHANNELS, "cycle", "life")
HOURS = Contract(CHANNELS, "h", "calendar")
PROTOCOL = Protocol(cap=100, horizon=30, lead=5, draws=20)
TICK = [np.arange(100)] * 2
TRUTH = Truth(["A", "B"], np.array([99.0, np.nan]), np.array([99.0, 99.0]), np.zeros(2), np.zeros(2))
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
