"""Roles, ranges, standstill and gaps of signals."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmx.draft import sheet as sheet_module
from pmx.draft.plan import make_plan
from pmx.draft.signal import Signal, describe, ends

BEGIN = datetime(2026, 1, 1)


def of(values: np.ndarray, name: str = "x", unit: str = "", step: float = 60.0) -> Signal:
    time = [BEGIN + timedelta(seconds=step * i) for i in range(len(values))]
    one = pl.DataFrame({"asset": ["P1"] * len(values), "time": time, "number": np.asarray(values, float)})
    return describe(name, unit, (len(values), len(values)), one)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.floats(-50, 200), st.floats(2, 60))
def test_ordinary_readings_pass_and_another_unit_does_not(seed: int, low: float, span: float) -> None:
    values = np.random.default_rng(seed).uniform(low, low + span, 2000)
    least, most = of(values, "t", "°C").limits()
    assert least <= values.min() and values.max() <= most and most - least < 3 * span
    if 40 <= low <= 70 and span <= 30:
        fahrenheit = values * 9 / 5 + 32
        assert ((fahrenheit < least) | (fahrenheit > most)).mean() > 0.3


def test_physical_limits_hold() -> None:
    noise = np.random.default_rng(0).gamma(2, 1, 1000)
    assert of(noise, "VIB_DE", "mm/s").limits()[0] == 0 and of(noise - 5, "x", "bar").limits()[0] < -5
    assert of(noise, "Temp", "°C").limits()[0] < 0 < of(noise, "flow").limits()[1]


@pytest.mark.parametrize("limit", [1000.0, 65536.0, 100_000.0])
def test_a_counter_rolls_over_or_is_reset(limit: float) -> None:
    rising = np.cumsum(np.random.default_rng(1).uniform(0, limit / 400, 1000))
    rolled = of(rising % limit, "E_ZAEHLER")
    assert (rolled.role, rolled.rollover) == ("counter", limit)
    reset = of(rising % (0.6 * limit), "hours_total")
    assert (reset.role, reset.rollover) == ("counter", None) and "fell back" in reset.role_why
    assert of(rising).role_why == "never falls"


def test_settings_are_few_levels_or_named_so_and_measurements_are_not() -> None:
    rng = np.random.default_rng(2)
    assert of(rng.choice([0.0, 50.0, 100.0], 500), "x").role == "setting" and of(rng.normal(1500, 3, 500), "N_IST").role == "setting"
    assert of(rng.normal(size=500), "x").role == "measurement" and of(rng.integers(3, 9, 500), "pressure").role == "measurement"


def test_standstill_is_weighed_by_time_not_by_rows() -> None:
    # Sent on change: one zero stands for hours, many values for minutes.
    times, values, now = [], [], BEGIN
    rng = np.random.default_rng(3)
    for _ in range(60):
        for _ in range(20):
            times.append(now)
            values.append(rng.normal(1450, 5))
            now += timedelta(minutes=5)
        times.append(now)
        values.append(0.0)
        now += timedelta(hours=1)
    one = pl.DataFrame({"asset": ["P"] * len(times), "time": times, "number": values})
    found = describe("N", "rpm", (len(values),) * 2, one)
    assert found.off is not None and 300 < found.off < 1400 and 0.3 < found.off_share < 0.45
    assert of(rng.normal(20, 3, 500)).off is None and of(np.abs(rng.normal(0, 1, 500))).off is None


def test_stand_ins_for_missing_do_not_widen_the_range() -> None:
    values = np.random.default_rng(4).normal(50, 5, 1000)
    values[::20] = -9999.0
    found = of(values, "t", "°C")
    assert found.sentinel == -9999.0 and found.limits()[0] > -100
    assert of(np.linspace(0, 20_000, 2001)[::-1]).sentinel is None, "9999 is an ordinary value here"


def test_gaps_are_medians_of_assets_and_useless_signals_say_why() -> None:
    found = of(np.random.default_rng(5).normal(size=200), step=30.0)
    assert found.gaps == (30.0,) and found.late_gap == 30.0 and found.useless() == ""
    assert of(np.full(50, 2.0)).useless() == "constant"
    empty = pl.DataFrame(schema={"asset": pl.String, "time": pl.Datetime("us"), "number": pl.Float64})
    assert describe("x", "", (0, 0), empty).useless() == "empty" and describe("x", "", (9, 1), empty).useless().startswith("text")


def test_distances_between_slices_of_a_file_do_not_count() -> None:
    time = [BEGIN + timedelta(seconds=60 * i + 86_400 * (i // 10)) for i in range(100)]
    one = pl.DataFrame({"asset": ["P1"] * 100, "time": time, "number": np.arange(100.0), "slice": [i // 10 for i in range(100)]})
    assert describe("x", "", (100, 100), one).late_gap == 60.0 and describe("x", "", (100, 100), one.drop("slice")).late_gap > 80_000


def test_every_asset_and_the_whole_record_are_seen_in_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet_module, "CELLS", 3000)
    hours = [BEGIN + timedelta(hours=h) for h in range(50)]
    frame = pl.DataFrame(
        {"machine": [n for n in range(200) for _ in hours], "time": hours * 200, "load": np.random.default_rng(0).random(10_000)}
    )
    frame.write_parquet(tmp_path / "a.parquet")
    plan = make_plan("fleet", [tmp_path / "a.parquet"], [])
    assert not plan.sheet.whole and set(plan.assets) == set(map(str, range(200))) and plan.grid.of(49 * 3600.0) == plan.grid.span
    whole = ends(plan.sheet, plan.layout, pl.DataFrame({"asset": ["x"], "time": [BEGIN]}))
    assert whole["begin"].unique().to_list() == [hours[0]] and whole["end"].unique().to_list() == [hours[-1]]
