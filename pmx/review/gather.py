"""From the result of a run to the facts of its report."""

from __future__ import annotations

import numpy as np
import polars as pl

from pmx.contract import Contract
from pmx.evaluate.alarm import Alarm
from pmx.evaluate.interval import Interval, rate, share
from pmx.evaluate.paired import Difference, paired
from pmx.evaluate.report import PER, UNITS, Row, cell, no_better
from pmx.gate.coverage import judged_share
from pmx.gate.result import Gate
from pmx.plan import Plan, Result
from pmx.review.calibrate import contributions, life_bins, score_bins
from pmx.review.facts import NOBODY, Bin, Facts, GateFact, Point, Watched
from pmx.review.incident import alarm_facts, asset_facts, event_facts
from pmx.review.record import Record, past_of, scores_of
from pmx.review.verdict import Evidence, Gain, decide
from pmx.review.words import moment, span
from pmx.select.candidates import Trial

TITLES = {
    "rul": "the stated remaining life",
    "anomaly_score": "the anomaly score",
    "failure_probability": "the stated probability of a failure within the horizon",
}
WEEK = 7.0 / 30.4375  # of a month
FINDINGS = 12  # of a gate, told in full


def gather(plan: Plan, result: Result, alarms: list[Alarm], command: str) -> Facts:
    """Everything that the report of a run shows.

    Args:
        alarms: of the test part, as `pmx.evaluate.alarm.alarm_list` gives them.
        command: that makes the run again.
    """
    tested, contract = result.tested, result.history.contract
    trial = next(t for t in result.trials if t.name == result.winner.name)
    watched = _watched(trial, plan, contract)
    record = _record(plan, result, tested, trial)
    pages, left_out = alarm_facts(record, alarms, watched)
    events = event_facts(record, alarms, watched)
    machine = [a for a in alarms if a.kind == "machine"]
    caught, counted = sum(e.caught for e in events), len(events)
    evidence = _evidence(plan, result, machine, (caught, counted), trial)
    unit = UNITS.get(contract.life_unit, contract.life_unit)
    return Facts(
        plan.name,
        result.history.name,
        result.winner.name,
        result.history.noun,
        decide(evidence),
        watched,
        unit,
        "with age" if any(k.reads_age for k in result.winner.features.kernels) else "without age",
        _workload(machine, result, contract),
        _what(result),
        (caught, counted),
        evidence.recall,
        evidence.false,
        evidence.judged,
        _rows(result.rows, contract),
        tuple(result.tables),
        _parts(tested, result, contract),
        _notes(plan, result),
        asset_facts(record, alarms, events, watched),
        pages,
        events,
        left_out,
        _bins(plan, result, watched),
        _calibrated(watched, plan, unit),
        tuple(_point(t, result.winner.name) for t in result.trials),
        contributions(result.played, result.truth, plan.protocol),
        tuple(_gate(g) for g in result.gates),
        _card(result),
        command,
        _identity(plan, result),
        *_classes(result.rows[0]),
    )


def _evidence(plan: Plan, result: Result, machine: list[Alarm], counts: tuple[int, int], trial: Trial) -> Evidence:
    """What the rules of the verdict look at; `counts` are events caught and counted."""
    truth, contract, winner = result.truth, result.history.contract, result.rows[0]
    judged = [a for a in machine if a.right is not None]
    return Evidence(
        failed=tuple((g.name, g.detail.rstrip(".")) for g in result.gates if not g.passed),
        accepted=next((g.accepted for g in result.gates if g.accepted), ""),
        no_better=no_better(result.rows).rstrip("."),
        gains=_gains(plan, result),
        what=_what(result),
        caught=counts[0],
        counted=counts[1],
        recall=share(*counts),
        known=truth.episodes is not None or bool(truth.failures),
        false=sum(a.right is False for a in judged),
        judged=len(judged),
        false_week=_false_week(winner, contract, len(truth.assets)),
        fleet=f"{len(truth.assets)} {result.history.noun}",
        short=_short(result, contract),
        states_life=trial.policy.output == "rul",
        coverage=judged_share(winner)[0],
        silent=len(winner.silent),
    )


def _classes(winner: Row) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
    """The table of classes of faults, and sentences that say how well they are told, and from which split."""
    told = winner.told
    if told is None:
        return (), ()
    well = f"Mean AUROC of the classes {cell(winner.more['macro_auroc'])}, told right {cell(winner.more['accuracy'])}; higher is better."
    return tuple(tuple(line) for line in told.lines()), (well, *told.notes())


def _what(result: Result) -> str:
    return "failures" if result.truth.episodes is None else "episodes"


def _record(plan: Plan, result: Result, tested: pl.DataFrame, trial: Trial) -> Record:
    features, contract = result.winner.features, result.history.contract
    scores = scores_of(features, result.training.ticks) | scores_of(features, tested)
    modes: dict[tuple[str, float], str] = {}
    events = result.history.events
    if "mode" in events.columns:
        failed = events.filter((pl.col("event") == "failure") & pl.col("mode").is_not_null())
        at = contract.ticks_of(failed["time"].to_physical().to_numpy()).tolist()  # as the truth counts them
        modes = {(asset, end): mode for asset, end, mode in zip(failed["asset"], at, failed["mode"], strict=True)}
    horizon = plan.protocol.horizon / contract.tick
    past = past_of(scores, contract, horizon, result.training.truth, result.truth, modes)
    regimes = len(features.normalise_.centre_)
    return Record(result.played, result.truth, plan.protocol, trial.policy, features.channels_, scores, regimes, past)


def _watched(trial: Trial, plan: Plan, contract: Contract) -> Watched:
    p = trial.policy
    life = p.output == "rul"
    title = TITLES.get(p.output, p.output.replace("_", " "))
    top = plan.protocol.cap if life else 1.0
    return Watched(p.output, title, p.worse, p.raise_at, top, contract.life_unit if life else "", p.output == "anomaly_score")


def _watched_ticks(result: Result) -> np.ndarray:
    """Ticks of the test part, float64 [asset]."""
    return np.array([float((t >= b).sum()) for t, b in zip(result.played.tick, result.truth.begins, strict=True)])


def _short(result: Result, contract: Contract) -> str:
    month, ticks = contract.ticks_per_month, float(_watched_ticks(result).sum())
    return span(contract, ticks) if month is not None and ticks < WEEK * month else ""


def _false_week(winner: Row, contract: Contract, assets: int) -> Interval:
    """False alarms of the whole fleet a week; NaN without a calendar, or where less than a week was watched in all."""
    month = contract.ticks_per_month
    if month is None or winner.events is None or winner.events.exposure.sum() < WEEK * month:
        return NOBODY
    value, low, high = winner.false
    return value * WEEK * assets, low * WEEK * assets, high * WEEK * assets


def _workload(machine: list[Alarm], result: Result, contract: Contract) -> tuple[str, str, str]:
    """How many alarms a crew meets: of the whole fleet a week; on a life clock, of an asset in so many life units."""
    truth, month = result.truth, contract.ticks_per_month
    of = {name: i for i, name in enumerate(truth.assets)}
    counts = np.zeros(len(truth.assets))
    for a in machine:
        counts[of[a.asset]] += 1
    watched = _watched_ticks(result)
    fleet, total = f"{len(truth.assets)} {result.history.noun}", span(contract, float(watched.sum()))
    if month is None:
        value = rate(counts, watched * contract.tick / PER, 1000, 0)
        unit = UNITS.get(contract.life_unit, contract.life_unit)
        return f"Alarms per {PER} {unit} of one asset", _figure(value), f"{len(machine)} alarms of {fleet}; no calendar, so no week"
    if watched.sum() < WEEK * month:
        return "Machine alarms", str(len(machine)), f"{fleet}, watched for {total} in all: too short for a rate per week"
    value = rate(counts, watched / (WEEK * month), 1000, 0)
    scaled = (value[0] * len(truth.assets), value[1] * len(truth.assets), value[2] * len(truth.assets))
    return "Alarms per crew-week", _figure(scaled), f"one crew for all {fleet}; {len(machine)} alarms in {total} of watching, all added up"


def _figure(value: Interval) -> str:
    if np.isnan(value[0]):
        return "–"
    return f"{value[0]:.2g}" + ("" if np.isnan(value[1]) else f" [{value[1]:.2g}, {value[2]:.2g}]")


def _rows(rows: list[Row], contract: Contract) -> tuple[tuple[str, ...], ...]:
    """Head and lines: what was caught, what was false, and how good the verdict is beside it."""
    unit = UNITS.get(contract.life_unit, contract.life_unit)
    what = "episodes" if rows[0].labelled else "failures"
    per = "asset-month" if contract.ticks_per_month else f"{PER} {unit}"
    errors = [(k, h) for k, h in (("rmse_last_capped", "last reading"), ("rmse_all_capped", "all readings")) if k in rows[0].life]
    points = [(k, h) for k, h in (("f1", "F1 (higher is better)"), ("ap", "average precision (higher)")) if k in rows[0].points]
    head = ["", f"{what} caught (higher is better)", f"false alarms per {per} (lower)"]
    head += [f"RMSE of remaining life, {unit}, {h} (lower)" for _, h in errors] + [h for _, h in points]
    lines = [tuple(head)]
    for r in rows:
        line = [r.name, "–", "–"]
        if r.events is not None:
            n, m = int(r.events.caught.sum()), int(r.events.counted.sum())
            line[1] = f"{n} of {m} [{r.events.recall()[1]:.2f}, {r.events.recall()[2]:.2f}]" if m else "none to catch"
            line[2] = cell(r.false)
        line += [cell(r.life.get(k, NOBODY), 1) for k, _ in errors]
        line += [
            cell(v) if not np.isnan((v := r.points.get(k, NOBODY))[1]) else (f"{v[0]:.2f}" if v[0] == v[0] else "–") for k, _ in points
        ]
        lines.append(tuple(line))
    return tuple(lines)


def _parts(tested: pl.DataFrame, result: Result, contract: Contract) -> tuple[tuple[str, ...], ...]:
    """Head and lines: what trains and what tests."""
    training, begins = result.training, pl.DataFrame({"asset": result.truth.assets, "begins": result.truth.begins})
    test = tested.join(begins, on="asset").filter(pl.col("tick") >= pl.col("begins"))
    counts = [(training.ticks, training.truth), (test, result.truth)]

    def line(name: str, values: list[str]) -> tuple[str, ...]:
        return (name, *values)

    unit = UNITS.get(contract.life_unit, contract.life_unit)
    tests = [sum(int((f >= b).sum()) for f, b in zip(result.truth.failed, result.truth.begins, strict=True))]
    failures = [sum(len(f) for f in training.truth.failed), *tests]
    lines = [
        ("", "training", "test"),
        line(result.history.noun, [f"{t['asset'].n_unique():,}" for t, _ in counts]),
        line(f"ticks of {contract.tick:g} {unit}", [f"{len(t):,}" for t, _ in counts]),
        line("failures on record", [f"{n:,}" for n in failures]),
    ]
    if result.truth.episodes is not None:
        lines.append(line("labelled episodes", ["not shown to it", f"{sum(map(len, result.truth.episodes)):,}"]))
    if contract.clock == "calendar":
        lines.append(line("first tick", [moment(contract, float(np.min(t["tick"].to_numpy()))) if len(t) else "–" for t, _ in counts]))
        lines.append(line("last tick", [moment(contract, float(np.max(t["tick"].to_numpy()))) if len(t) else "–" for t, _ in counts]))
    return tuple(lines)


def _notes(plan: Plan, result: Result) -> tuple[str, ...]:
    counts, by = result.counts, result.training.by
    how = "whole assets are held back" if by == "asset" else "later ticks of the same assets are held back"
    folds = result.training.folds(result.winner.task)
    said = [
        f"Split by {by}: {how}. Candidates were chosen and limits set on {len(folds)} validation fold{'s' * (len(folds) != 1)} of training.",
        f"{counts['in']:,} rows came in, {counts['quarantined']:,} were set apart"
        + (f", and {counts['cells']:,} values" * bool(counts["cells"]))
        + ".",
        f"An alarm is right when a failure follows within {plan.protocol.horizon:g} {result.history.contract.life_unit}, and of use when it"
        f" stands at least {plan.protocol.lead:g} {result.history.contract.life_unit} before.",
    ]
    return (*said, *result.history.notes)


def _card(result: Result) -> str:
    """What was sealed; empty where a gate refused it."""
    path = result.bundle / "card.md"
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _bins(plan: Plan, result: Result, watched: Watched) -> tuple[Bin, ...]:
    if watched.output == "rul":
        return life_bins(result.played, result.truth, plan.protocol)
    return score_bins(result.played, result.truth, plan.protocol, watched.output)


def _calibrated(watched: Watched, plan: Plan, unit: str) -> str:
    horizon = f"{plan.protocol.horizon:g} {unit}"
    if watched.output == "rul":
        return (
            f"Stated against true remaining life, both at most {plan.protocol.cap:g} {unit}; readings of the test part whose life is known."
        )
    return f"Share of readings that lay in an anomalous episode, or at most {horizon} before a failure, by {watched.title}."


def _point(trial: Trial, winner: str) -> Point:
    cost: dict[str, float] = getattr(trial, "cost", None) or {}
    return Point(trial.name, trial.value, float(cost.get("p99_ms", np.nan)), "ms a step (p99)", trial.name == winner)


def _gate(g: Gate) -> GateFact:
    told = [f.line() for f in g.findings]
    more = [f"... and {len(told) - FINDINGS} more in leakage.csv"] if len(told) > FINDINGS else []
    return GateFact(g.name, g.passed, g.detail, g.culprit, g.rule, g.accepted, (*told[:FINDINGS], *more))


def _identity(plan: Plan, result: Result) -> tuple[tuple[str, str], ...]:
    given = plan.provenance
    versions = ", ".join(f"{k} {v}" for k, v in (given.get("versions") or {}).items())
    pairs = [
        ("run", str(given.get("run_id", ""))),
        ("folder", plan.folder.name),
        ("core digest of the bundle", result.core),
        ("digest of the data", result.history.digest),
        ("git revision", str(given.get("git_revision", ""))),
        ("seed", str(plan.seed)),
        ("test part met", f"{len(result.rows)} times, once per row of the table"),
        ("versions", versions),
    ]
    return tuple((k, v) for k, v in pairs if v)


def _gains(plan: Plan, result: Result) -> tuple[Gain, ...]:
    """Over the age alone, paired by asset: the error of a remaining life, else what is caught and how much is false."""
    other = next((r for r in result.rows if r.name == "age only"), None)
    winner, unit = result.rows[0], UNITS.get(result.history.contract.life_unit, result.history.contract.life_unit)
    if other is None:
        return ()
    titles = {"rmse_all_capped": f"RMSE in {unit}"}
    if not winner.life:
        titles = {"event_recall": "share caught", "false_alarms": "false alarms per asset-month"}
        if result.history.contract.ticks_per_month is None:
            titles["false_alarms"] = f"false alarms per {PER} {unit}"
    shared = tuple(m for m in titles if m in winner.parts.measures and m in other.parts.measures)
    found = paired(winner.parts, other.parts, plan.protocol.draws, plan.protocol.seed, shared) if shared else []
    return tuple(Gain(titles[d.measure], d.a, d.b, _oriented(d)) for d in found if not np.isnan(d.a) and not np.isnan(d.b))


def _oriented(d: Difference) -> Interval:
    """Above 0 = the first of both is better."""
    value, low, high = d.difference
    return (value, low, high) if d.higher else (-value, -high, -low)
