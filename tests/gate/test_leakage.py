"""The leakage gate: what was fitted on, against what was evaluated."""

import numpy as np
import polars as pl
import pytest

from pmx.edge.replay import replay_ticks
from pmx.gate.leakage import check_table, late_orders, leakage, write_checks
from pmx.gate.parity import as_ticks
from pmx.gate.result import Check, Finding
from pmx.select.training import Training
from pmx.window.label import label
from pmx.window.split import ByTime, Head
from tests.small_fleet import small_fleet


def played(ticks: pl.DataFrame):
    return replay_ticks(small_fleet().bundle, as_ticks(ticks, small_fleet().history.contract))


def test_a_sound_split_by_asset_passes():
    fleet = small_fleet()
    found = leakage(fleet.training.ticks, fleet.ticks, fleet.division, played(fleet.tested))
    assert found.passed and found.detail == "split by asset: 8 assets fitted, 4 evaluated, 0 findings"


def test_an_asset_on_both_sides_is_named():
    fleet = small_fleet()
    stolen = fleet.real.assets[2]
    fitted = pl.concat([fleet.training.ticks, fleet.ticks.filter(pl.col("asset") == stolen)[:1]])  # one reading is enough
    found = leakage(fitted, fleet.ticks, fleet.division, played(fleet.tested))
    assert (found.passed, found.culprit, found.rule) == (False, stolen, "no asset on both sides")


def test_a_replay_that_evaluates_a_training_asset_is_named():
    fleet = small_fleet()
    found = leakage(fleet.training.ticks, fleet.ticks, fleet.division, played(fleet.ticks))
    assert not found.passed and found.culprit == fleet.training.truth.assets[0] and "8 findings" in found.detail


@pytest.mark.parametrize("split", [ByTime(share=0.6), Head(rows=30)])
def test_a_split_by_time_passes_and_one_late_tick_is_named(split):
    fleet = small_fleet()
    division = split.apply(fleet.ticks, None)
    fitted, tested = fleet.ticks.filter(pl.Series(division.train)), fleet.ticks.filter(pl.Series(division.test))
    whole = played(fleet.ticks)  # the replay passes through the training ticks to reach the others
    assert leakage(fitted, fleet.ticks, division, whole).passed
    both = np.intersect1d(fitted["asset"].unique(), tested["asset"].unique())
    late = tested.filter(pl.col("asset") == both[0])[3:4]
    found = leakage(pl.concat([fitted, late]), fleet.ticks, division, whole)
    assert not found.passed and found.rule == "what is fitted on, and what labels tell, was there before the first test tick"
    assert found.culprit == both[0]


def test_fitting_twice_on_a_tick_is_no_finding_and_an_empty_side_is():
    fleet = small_fleet()
    twice = pl.concat([fleet.training.ticks, fleet.training.ticks])
    assert leakage(twice, fleet.ticks, fleet.division, played(fleet.tested)).passed
    found = leakage(fleet.training.ticks[:0], fleet.ticks, fleet.division, played(fleet.tested))
    assert not found.passed and found.culprit == "nothing was fitted"


@pytest.mark.parametrize("split", [ByTime(share=0.6), Head(rows=30)])
def test_a_failure_that_nobody_had_written_down_yet_is_named(split):
    fleet = small_fleet()
    division = split.apply(fleet.ticks, None)
    train = fleet.ticks.filter(pl.Series(division.train))
    contract, events = fleet.history.contract, fleet.history.events
    told_everything = label(train, events, contract)
    (check,) = late_orders(told_everything, events, fleet.ticks, division, contract)
    assert check.findings and set(check.findings[0].where.split()) <= set(fleet.ticks["asset"])
    honest = Training.of(fleet.ticks, division, fleet.history, split).labels
    assert [c.findings for c in late_orders(honest, events, fleet.ticks, division, contract)] == [()]
    assert late_orders(honest, events, fleet.ticks, fleet.division, contract) == [], "under a split by asset nothing is late"


# ---- findings of the audit, and their acceptance

FOUND = Check("countdowns", "3 channels over 8 lives", (Finding("countdowns", "channel due", 8.0, "it runs to 0", "leave it out"),))
EMPTY = Check("known_after", "3 channels with 8 events")


def judge(accept: str = "", *checks: Check):
    fleet = small_fleet()
    return leakage(fleet.training.ticks, fleet.ticks, fleet.division, played(fleet.tested), checks, accept)


def test_a_finding_of_the_audit_refuses_the_result_and_names_the_channel():
    found = judge("", EMPTY, FOUND)
    assert (found.passed, found.culprit) == (False, "channel due") and "it runs to 0 -> leave it out" in found.detail
    assert found.rule == "no channel knows when a life will end"
    assert found.figures == {"findings": 1.0, "both_sides": 0.0, "known_after": 0.0, "countdowns": 1.0}


def test_an_accepted_finding_stands_with_its_reason_wherever_the_gate_speaks():
    found = judge("the plan is fixed for years", EMPTY, FOUND)
    assert found.passed and found.accepted == "the plan is fixed for years" and found.findings == list(FOUND.findings)
    assert all(found.accepted in said for said in (found.line(), found.detail, check_table(found), str(found.evidence())))
    assert found.evidence()["findings"] == [{"kind": "countdowns", "where": "channel due", "size": 8.0, "why": "it runs to 0"}]


def test_where_nothing_is_found_a_reason_changes_nothing_but_is_mentioned():
    found, plain = judge("in case", EMPTY), judge("", EMPTY)
    assert found.passed and found.accepted == "" and found.line() == plain.line() == "leakage ✓"
    assert "0 findings; nothing had to be accepted" in found.detail and "accepted" not in plain.detail + check_table(found)


def test_an_empty_side_is_no_finding_that_could_be_accepted():
    fleet = small_fleet()
    found = leakage(fleet.training.ticks[:0], fleet.ticks, fleet.division, played(fleet.tested), (), "never mind")
    assert not found.passed and found.accepted == ""


def test_the_table_holds_every_check(tmp_path):
    found = judge("a trial", EMPTY, FOUND)
    write_checks(tmp_path / "leakage.csv", found)
    table = pl.read_csv(tmp_path / "leakage.csv")
    assert table["check"].to_list() == ["both_sides", "known_after", "countdowns"] and table["findings"].to_list() == [0, 0, 1]
    assert table["accepted"].to_list() == ["a trial"] * 3 and table["where"].to_list()[2] == "channel due"
    text = check_table(found).splitlines()
    assert [line.split("   ")[0].strip() for line in text[:4]] == ["check", "both sides", "known after", "countdowns"]
    assert text[-1] == "Leakage accepted: a trial" and "channel due" in text[-2]
