"""From a result to its facts: counts agree with the tables, and every task and clock has a report."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pmx.alarm.policy import KofN
from pmx.edge.replay import replay
from pmx.evaluate.alarm import alarm_list
from pmx.evaluate.report import row, tables_of
from pmx.gate.result import Check, Finding, Gate
from pmx.plan import Plan, Result
from pmx.review.gather import gather
from pmx.review.page import page
from pmx.select.baseline import baselines
from pmx.select.candidates import Trial
from pmx.source.wave import device_rows
from pmx.window.split import ByAsset, Head
from tests.review.test_page import checked
from tests.small_fleet import SmallFleet, small_fleet, small_watch
from tests.whole import LIMITS, Known


@cache
def made(task: str) -> tuple[Plan, Result]:
    """A result of the small fleet, put together without a run."""
    fleet: SmallFleet = small_fleet() if task == "rul" else small_watch(each=task == "own")
    name, contract, split = fleet.fitted.name, fleet.history.contract, ByAsset() if task == "rul" else Head(rows=40)
    fitted = fleet.fitted
    played = replay(fleet.bundle, device_rows(fleet.bundle, fleet.history, fleet.real.assets, contract))
    rul, score = played.outputs.get("rul"), played.outputs.get("anomaly_score")
    limit, given = fleet.policy.raise_at, (played.tick, fleet.real, fleet.protocol, contract)
    rows = [row("winner", rul, played.standing, *given, score, limit)]
    for b in baselines(fleet.training, played.tick, fleet.real, fleet.protocol, KofN()):
        rows.append(row(b.name, b.rul if rul is not None else None, b.standing, *given, b.score, 1.0))
    finding = Finding("countdowns", "channel <due>", 12.0, "counts down", "leave it out")
    gates = [Gate("parity", True, "all equal"), Gate("leakage", False, "one finding", "due", checks=(Check("x", "y", (finding,)),))]
    plan = Plan("small", Known(fleet.history), split, fitted.features, {}, KofN(), fleet.protocol, LIMITS, Path("nowhere"))
    plan = replace(plan, fit_scope="asset" if task == "own" else "fleet", provenance={"run_id": "r1", "versions": {"pmx": "1"}})
    trial = Trial(name, fitted.model.model, fitted.healthy, fleet.policy, {}, 1.0)
    offline = np.zeros(0, np.float32)
    tables = tables_of(rows, contract, fleet.protocol)
    counts = {"in": 9, "accepted": 9, "quarantined": 0, "cells": 0}
    found = (
        fleet.history,
        fleet.training,
        fleet.tested,
        counts,
        [trial],
        fitted,
        Path("nowhere"),
        "core",
        played,
        fleet.real,
        rows,
        gates,
        {},
        tables,
        offline,
    )
    return plan, Result(*found)


def told(plan: Plan, result: Result):
    return gather(plan, result, alarm_list(result.played, result.truth, plan.protocol), "pmx run small")


@pytest.mark.parametrize("task", ["rul", "own", "fleet"])
def test_counts_agree_with_the_tables(task):
    plan, result = made(task)
    facts, events = told(plan, result), result.rows[0].events
    assert facts.counts == (int(events.caught.sum()), int(events.counted.sum())) and facts.counts[1] == len(facts.events)
    assert sum(a.caught for a in facts.assets) == facts.counts[0] and sum(a.false for a in facts.assets) == facts.false
    alarms = alarm_list(result.played, result.truth, plan.protocol)
    assert len(facts.alarms) == len(alarms) and [a.asset for a in facts.alarms] == [a.asset for a in alarms]
    assert facts.verdict.answer == "no" and "leakage" in facts.verdict.reasons[0], "a gate had refused it"
    assert facts.rows[1][0] == "winner" and all(len(r) == len(facts.rows[0]) for r in facts.rows)
    made_of = page(facts)
    checked(made_of)
    assert "channel &lt;due&gt;" in made_of and "run_id" not in made_of and "r1" in made_of


def test_an_alarm_says_what_deviates_and_what_it_resembles():
    facts = told(*made("rul"))
    machine = [a for a in facts.alarms if a.kind == "machine"]
    assert machine and all(a.sentences[0].startswith("The stated remaining life was") for a in machine)
    assert any("standard deviations above its normal for this regime since 2025" in s for a in machine for s in a.sentences)
    trained = set(made("rul")[1].history.events["asset"]) - {a.name for a in facts.assets}
    similar = [s for a in machine for s in a.similar]
    assert similar and all(s.found == "failure" and s.shared and "after" in s.life for s in similar)
    assert {s.asset for s in similar} & trained, "failures of the training part are the past"
    for a in machine:
        sizes = [d.size for d in a.departures]
        assert sizes and all(len(d.at) == len(d.score) and (d.at == 0).any() for d in a.departures)


def test_without_events_or_alarms_nobody_can_deploy():
    plan, result = made("rul")
    none = [np.zeros(0) for _ in result.truth.assets]
    quiet = replace(result.played, standing=[np.zeros(len(t), bool) for t in result.played.tick])
    truth = replace(result.truth, failed=none, replaced=none)
    rows = [row("winner", quiet.outputs["rul"], quiet.standing, quiet.tick, truth, plan.protocol, quiet.contract)]
    facts = told(plan, replace(result, played=quiet, truth=truth, rows=rows, gates=result.gates[:1]))
    assert facts.verdict.answer == "shadow only" and "nobody knows" in facts.verdict.reasons[0]
    assert facts.alarms == () and facts.events == () and facts.workload[1].startswith("0 [0, ")
    checked(page(facts))


def test_labelled_episodes_are_named_and_become_the_past_of_later_alarms():
    plan, result = made("fleet")
    seen, begins = result.truth.seen, result.truth.begins
    spans = [np.array([[b + 5, (b + s) // 2]]) for b, s in zip(begins, seen, strict=True)]
    truth = replace(result.truth, episodes=spans, faults=[[f"<b>fault {i}"] for i in range(len(spans))])
    score = result.played.outputs["anomaly_score"]
    rows = [row("winner", None, result.played.standing, result.played.tick, truth, plan.protocol, result.played.contract, score, 0.99)]
    facts = told(plan, replace(result, truth=truth, rows=rows))
    assert facts.what == "episodes" and {e.what for e in facts.events} <= {f"<b>fault {i}" for i in range(len(spans))}
    assert any(s.found.startswith("<b>fault") for a in facts.alarms for s in a.similar)
    assert facts.counts == (int(rows[0].events.caught.sum()), int(rows[0].events.counted.sum()))
    checked(page(facts))


def test_faulty_sensors_are_no_evidence():
    plan, result = made("rul")
    names = result.history.contract.names
    bad = [np.tile(np.float32([n == "vibration" for n in names]), (len(t), 1)) for t in result.played.tick]
    sensors = tuple(b > 0 for b in bad)
    played = replace(result.played, outputs=result.played.outputs | {"quality": bad}, sensors=sensors)
    facts = told(plan, replace(result, played=played))
    assert all(d.channel != "vibration" for a in facts.alarms for d in a.departures)
    kinds = [a for a in facts.alarms if a.kind == "sensor"]
    assert {a.channel for a in kinds} == {"vibration"} and all("not of the machine" in a.sentences[0] for a in kinds)
    assert all(a.judged == "not judged" for a in kinds) and all(a.sensors for a in facts.assets)


def test_a_missed_failure_links_the_sensor_alarm_that_stood_in_its_place():
    plan, result = made("rul")
    names, history = result.history.contract.names, result.truth
    horizon, lead = (x / result.history.contract.tick for x in (plan.protocol.horizon, plan.protocol.lead))
    failing = [i for i, ends in enumerate(history.failed) if len(ends) and result.played.tick[i][-1] >= ends[0] - lead]
    within, before = failing[0], failing[1]
    bad = [np.zeros((len(t), len(names)), np.float32) for t in result.played.tick]
    for i, begin, end in ((within, horizon - 2, horizon / 2), (before, horizon + 9, horizon + 3)):
        end_of_life, tick = history.failed[i][0], result.played.tick[i]
        bad[i][(tick >= end_of_life - begin) & (tick <= end_of_life - end), names.index("flow")] = 1.0
    quiet = [np.zeros_like(s) for s in result.played.standing]
    raised = tuple(b > 0 for b in bad)
    played = replace(result.played, standing=quiet, outputs=result.played.outputs | {"quality": bad}, sensors=raised)
    facts = told(plan, replace(result, played=played))
    assert all(not e.caught for e in facts.events)
    [event] = [e for e in facts.events if e.sensors]
    [number] = [n for n, a in enumerate(facts.alarms, 1) if a.place == within]
    assert event.place == within and event.sensors[0][0] == "flow" and event.sensors[0][2] == facts.alarms[number - 1].raised
    assert any(a.place == before and a.kind == "sensor" for a in facts.alarms), "one that was over before the horizon took nobody's place"
    [row] = [line for line in page(facts).splitlines() if "stood instead" in line]
    assert f'<a href="#alarm-{number}">flow' in row and f'href="#asset-{within}"' in row and "missed" in row
    checked(page(facts))
    unpaged = page(replace(facts, alarms=()))
    assert "stood instead: flow (" in unpaged, "said too where the alarm has no page"
    caught = told(plan, replace(result, played=replace(played, standing=[np.ones_like(s) for s in quiet])))
    assert not any(e.sensors for e in caught.events)


def test_a_mode_on_record_is_what_was_found():
    plan, result = made("rul")
    events = result.history.events.with_columns(mode=pl.when(pl.col("event") == "failure").then(pl.lit("seal of ") + pl.col("asset")))
    facts = told(plan, replace(result, history=replace(result.history, events=events)))
    similar = [s for a in facts.alarms for s in a.similar]
    assert similar and all(s.found == f"failure (seal of {s.asset})" for s in similar)
