"""The spine: from a fleet's history to a sealed bundle and the numbers it earned, as visible calls on plain objects.

source -> contract -> align -> window -> feature -> model -> select -> pack -> replay -> evaluate -> gate -> seal
"""

from __future__ import annotations

import numpy as np
import polars as pl

from pmx.bundle import Bundle
from pmx.contract import Rows, Tell
from pmx.edge.replay import Replayed, replay
from pmx.evaluate.fault import with_classes
from pmx.evaluate.report import metrics, row, tables_of, with_probability
from pmx.gate.audit import audit
from pmx.gate.budget import budget
from pmx.gate.coverage import coverage
from pmx.gate.leakage import leakage
from pmx.gate.parity import parity
from pmx.gate.refit import looked_ahead
from pmx.pack.budget import Limits, measure_budget
from pmx.pack.card import card
from pmx.pack.core import pack
from pmx.pack.scope import by_asset
from pmx.pack.seal import seal
from pmx.plan import Plan, Result
from pmx.select.baseline import Baseline, baselines, detectors
from pmx.select.beside import WINDOWED, bounds_of, shortened, windowed
from pmx.select.candidates import task_of
from pmx.select.crossfit import cross_fitted
from pmx.select.learn import Recipe, learn
from pmx.select.training import truth
from pmx.select.twin import refit_without_age
from pmx.source.admit import admit
from pmx.source.wave import device_rows
from pmx.window.label import lives_anew


def run(plan: Plan, tell: Tell) -> Result:
    """Runs the whole way once. Only the winner, its twin without age, and what stands beside them in a table meet the test part."""
    each = by_asset(plan.fit_scope, task_of(plan.models, plan.features), plan.window.by)  # refused before any data is read
    tell("loading", 0, 1)
    history, protocol = plan.source.load(), plan.protocol
    contract = plan.window.suits(history.contract)
    admitted = admit(history.rows, contract, plan.on_error, plan.folder / "quarantine.parquet").some(history.name)
    limits = Limits(**plan.limits)
    recipe = Recipe(plan.window, plan.features, plan.models, plan.alarm, protocol, each, plan.seed, plan.tables, limits)
    learnt = learn(recipe, admitted.readings, contract, history, tell)
    ticks, training, trials, best, winner = learnt.ticks, learnt.training, learnt.trials, learnt.best, learnt.winner
    core = pack(plan.folder / "bundle", winner, best.policy, protocol, plan.name, history.waves)
    real = truth(ticks, history.events, contract, learnt.division.test, history.episodes, history.faults)
    tested = ticks.filter(pl.col("asset").is_in(real.assets))
    packed = Bundle.open(plan.folder / "bundle", packed_as=core)
    raw, anew = device_rows(packed, history, real.assets, contract), lives_anew(history.events, contract)

    def play(name: str, bundle: Bundle, rows: Rows) -> Replayed:
        plan.meet(history.digest, name)
        return replay(bundle, rows, progress=tell, anew=anew)

    played = play("winner", packed, raw)
    real.expect(played.assets)
    rul, score, limit = played.outputs.get("rul"), played.score, best.policy.raise_at
    bounds = bounds_of(played, winner, tested, training, protocol)
    winning = row("winner", rul, played.standing, played.tick, real, protocol, contract, score, limit, bounds)
    winning, known = with_probability(winning, played, real, protocol, contract), history.shared(winner.used["asset"], real.assets)
    rows = [with_classes(winning, played, real, protocol, known)]
    beside = baselines(training, played.tick, real, protocol, plan.alarm)
    if rul is not None and bounds is not None:
        rows += shortened(play, packed, raw, real, protocol, contract, bounds.fill)
        plan.meet(history.digest, WINDOWED)
        beside = windowed(plan.models, plan.features, training, tested, played.tick, protocol) + beside
        tell("fit without age", 0, 1)
        twin = refit_without_age(trials, best, plan.features, training, protocol, plan.seed, plan.tables)
        apart = plan.folder / "without_age"
        core_apart = pack(apart, twin, best.policy, protocol, f"{plan.name} without age", history.waves)
        again = play("without age", Bundle.open(apart, core_apart), raw)
        beside.insert(0, Baseline("without age", again.outputs["rul"]))  # its alarms have no limits of their own
    if score is not None:
        plan.meet(history.digest, "cross-fitted")
        rows += cross_fitted(trials, plan.features, training, tested, real, history.groups, protocol, plan.alarm)
        beside = [b for b in beside if b.name == "age only"] + detectors(score, limit, played.tick, real, plan.seed)
    for b in beside:
        if b.name not in ("without age", WINDOWED):  # which were told before they looked
            plan.meet(history.digest, b.name)
        rows.append(row(b.name, b.rul if rul is not None else None, b.standing, played.tick, real, protocol, contract, b.score, 1.0))

    tell("gates", 0, 1)
    checks, offline = audit(training, ticks, learnt.division, history, protocol), winner.verdict(tested)
    gates = [
        looked_ahead(recipe, admitted.readings, contract, history, learnt, real, plan.seed),
        leakage(winner.used, ticks, learnt.division, played, checks, plan.accept_leakage, known),
        parity(winner, best.policy, protocol, tested, played, offline, plan.seed),
        coverage(rows[0], winner.used["asset"].n_unique()),
        budget(measure_budget(plan.folder / "bundle", core, limits), **plan.limits),
    ]
    tell("gates", 1, 1)
    found, tables = best.metrics | metrics(rows, contract), tables_of(rows, contract, protocol, gates[1].accepted)
    evidence = {
        "metrics": {k: None if np.isnan(v) else v for k, v in found.items()},
        "gates": {g.name: g.evidence() for g in gates},
        "budget": gates[-1].figures,
        "replayed_core_digest": played.core,
        "data": {"name": history.name, "digest": history.digest, "rows": admitted.counts},
        "test_reads": len(rows),
        **plan.provenance,
    }
    if all(g.passed for g in gates):  # what a gate refused stays unsealed: no device opens it
        about = card(plan.name, history, winner, best.policy, protocol, {g.name: g.detail for g in gates}, tables)
        seal(plan.folder / "bundle", core, evidence, about)
    return Result(
        history,
        training,
        tested,
        admitted.counts,
        trials,
        winner,
        plan.folder / "bundle",
        core,
        played,
        real,
        rows,
        gates,
        found,
        tables,
        offline,
    )
