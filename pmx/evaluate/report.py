"""The rows of a result, as metrics and as tables for people. Each table says its unit and which rows know the asset's age."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pmx.contract import Contract
from pmx.edge.replay import Replayed
from pmx.evaluate.anomaly import detector_metrics, point_metrics, point_parts
from pmx.evaluate.bound import BINS, Bounds, interval_metrics
from pmx.evaluate.classes import Told
from pmx.evaluate.event import EventCounts, count_events
from pmx.evaluate.failure import probability_metrics
from pmx.evaluate.interval import Interval
from pmx.evaluate.life import life_metrics, life_parts
from pmx.evaluate.part import Part, Parts
from pmx.evaluate.prognosis import LAMBDAS, prognosis_metrics
from pmx.evaluate.protocol import Protocol, Truth

PER = 1000  # life units that false alarms are counted over, where the data have no calendar
AHEAD = (10, 50, 90)  # percentiles of the lead times that are shown
BRIEF = ("alpha_lambda_50", "prognostic_horizon", "late_share_last", "coverage_last", "interval_width", "macro_auroc")
UNITS = {"h": "hours", "d": "days", "min": "minutes", "s": "seconds", "cycle": "cycles", "product": "products"}


@dataclass(frozen=True)
class Row:
    """One row of the table: a bundle's replay or a baseline.

    Attributes:
        name: `winner`, `without age`, `age only`, ...
        life: errors of its RUL in the life unit; empty = it states none.
        events: its alarms; None = it raises none.
        false: false alarms per asset and month (calendar) or per `PER` life units.
        points: how its anomaly score tells readings apart; empty = it gives none.
        tick: length of a tick in the life unit.
        labelled: whether its events are labelled episodes, not failures.
        silent: assets of the test part without a single verdict: nobody watched them, so that they count as missed and not as quiet.
        more: its other measures: of prognosis, of intervals, of classes.
        parts: what its measures are made of, per asset.
        told: which classes of faults were told as which; None = it tells none.

    Example:
        >>> Row("constant", {"rmse_last_capped": (40.1, 36.0, 44.0)}, None, (np.nan,) * 3).metrics("test", "")["test/rmse_last_capped_hi"]
        44.0
    """

    name: str
    life: dict[str, Interval]
    events: EventCounts | None
    false: Interval
    points: dict[str, Interval] = field(default_factory=dict)
    tick: float = 1.0
    labelled: bool = False
    silent: tuple[str, ...] = ()
    more: dict[str, Interval] = field(default_factory=dict)
    parts: Parts = field(default_factory=Parts)
    told: Told | None = None

    def delay(self) -> float:
        """Median delay of caught episodes in the life unit; NaN where none was caught."""
        return float(np.median(self.events.delay) * self.tick) if self.events is not None and len(self.events.delay) else np.nan

    def ahead(self) -> np.ndarray:
        """How long before each caught event its alarm was raised, in the life unit, float64 [event], sorted; below 0 = after it began."""
        return np.sort(self.events.ahead * self.tick) if self.events is not None else np.zeros(0)

    def to_json(self) -> dict[str, Any]:
        """What its measures are made of, as plain data: `name`, `assets`, `measures` as `Parts.to_json` has them, and `lead_times`."""
        return {"name": self.name, **self.parts.to_json(), "lead_times": self.ahead().tolist()}

    def metrics(self, prefix: str, false_name: str) -> dict[str, float]:
        """Metrics by name, each with `_lo` and `_hi`; NaN where the data cannot say."""
        found = self.life | self.points | self.more
        if self.events is not None:
            found["event_recall"] = self.events.recall()
            found |= {f"lead_time_p{p}": (_percentile(self.ahead(), p), np.nan, np.nan) for p in AHEAD}
            found[false_name] = self.false
            found["event_precision"] = self.events.precision()
            if self.points:
                found["delay_median"] = (self.delay(), np.nan, np.nan)
        flat = {f"{prefix}/{k}{end}": v[i] for k, v in found.items() for i, end in enumerate(("", "_lo", "_hi"))}
        return flat


def row(
    name: str,
    rul: list[np.ndarray] | None,
    standing: list[np.ndarray] | None,
    tick: list[np.ndarray],
    truth: Truth,
    protocol: Protocol,
    contract: Contract,
    score: list[np.ndarray] | None = None,
    limit: float = np.nan,
    bounds: Bounds | None = None,
) -> Row:
    """Evaluates RUL float [time] with its bounds, alarms bool [time] and anomaly scores float [time] per asset at the ticks int64 [time];
    each may be None.
    """
    life, points, more, parts = _measured(rul, tick, truth, protocol, contract, score, limit, bounds)
    if standing is None:
        return Row(name, life, None, (np.nan, np.nan, np.nan), points, contract.tick, more=more, parts=Parts(tuple(truth.assets), parts))
    if score is not None:
        points |= detector_metrics(score, limit, standing, tick, truth, protocol, contract.tick)
    events = count_events(standing, tick, truth, protocol, contract.tick)
    mute = np.array(
        [np.isnan(s[at >= begins]).all() for s, at, begins in zip(score or [], tick, truth.begins, strict=score is not None)], bool
    )
    if mute.any():
        events = replace(events, exposure=np.where(mute, 0.0, events.exposure), false=np.where(mute, 0, events.false))
    silent = tuple(np.array(truth.assets, object)[mute]) if mute.any() else ()
    ticks = contract.ticks_per_month or PER / contract.tick
    false = events.false_rate(ticks, protocol)
    own = Parts(tuple(truth.assets), parts | events.parts(ticks))
    return Row(name, life, events, false, points, contract.tick, truth.episodes is not None, silent, more, own)


def _measured(
    rul: list[np.ndarray] | None,
    tick: list[np.ndarray],
    truth: Truth,
    protocol: Protocol,
    contract: Contract,
    score: list[np.ndarray] | None,
    limit: float,
    bounds: Bounds | None,
) -> tuple[dict[str, Interval], dict[str, Interval], dict[str, Interval], dict[str, Part]]:
    """Errors of life, how readings are told apart, what else is measured, and the parts of it all."""
    life: dict[str, Interval] = {}
    points: dict[str, Interval] = {}
    more: dict[str, Interval] = {}
    parts: dict[str, Part] = {}
    if rul is not None:
        # who abstains is scored as if it had said the mean: nobody gains by keeping silent
        said = rul if bounds is None or np.isnan(bounds.fill) else [np.where(np.isnan(v), np.float32(bounds.fill), v) for v in rul]
        life = life_metrics(said, tick, truth, protocol, contract.tick)
        if contract.life_unit != "cycle":  # NASA's score weighs errors in cycles
            life = {k: v for k, v in life.items() if not k.startswith("nasa")}
        parts = {k: v for k, v in life_parts(said, tick, truth, protocol, contract.tick).items() if k in life}
        more, own = prognosis_metrics(rul, tick, truth, protocol, contract.tick)
        parts |= own
        if bounds is not None:
            found, own = interval_metrics(bounds, tick, truth, protocol, contract.tick)
            more, parts = more | found, parts | own
    if score is not None:
        points = point_metrics(score, limit, tick, truth, protocol, contract.tick)
        parts |= point_parts(score, limit, tick, truth, protocol, contract.tick)
    return life, points, more, parts


def with_probability(row: Row, played: Replayed, truth: Truth, protocol: Protocol, contract: Contract) -> Row:
    """The row with what its probabilities of a failure are worth; as it is, where the replay gave none."""
    probability = played.outputs.get("failure_probability")
    if probability is None:
        return row
    found, parts = probability_metrics(probability, played.tick, truth, protocol, contract.tick)
    return replace(row, more=row.more | found, parts=replace(row.parts, measures=row.parts.measures | parts))


def _percentile(values: np.ndarray, percent: float) -> float:
    return float(np.percentile(values, percent)) if len(values) else np.nan


def metrics(rows: list[Row], contract: Contract) -> dict[str, float]:
    """All rows by name: the winner under `test/`, its twin under `test_no_age/`, baselines under their own name; rates are fractions."""
    false_name = "false_alarms_per_asset_month" if contract.ticks_per_month else f"false_alarms_per_{PER}_life_units"
    prefix = {"winner": "test", "without age": "test_no_age", "cross-fitted": "crossfit"}
    found: dict[str, float] = {}
    for r in rows:
        if r.name not in prefix:  # of a baseline the main errors: the tables have all of them
            r = replace(r, life={k: v for k, v in r.life.items() if k in ("rmse_last_capped", "rmse_all_capped")})
            r = replace(r, points={k: v for k, v in r.points.items() if "/" not in k and not k.startswith("care_")})
            r = replace(r, more={k: v for k, v in r.more.items() if k in BRIEF})
        found |= r.metrics(prefix.get(r.name, "baseline_" + r.name.replace(" ", "_")), false_name)
    events = rows[0].events
    if events is not None:
        found |= {"test/n_assets": float(len(events.counted)), "test/n_failures": float(events.counted.sum())}
        found |= {"test/n_alarms": float(events.raised.sum())} if rows[0].points else {}
    return found


def cell(value: Interval, digits: int = 2) -> str:
    """`value [lower, upper]`, or – where there is none."""
    if np.isnan(value[0]):
        return "–"
    shown = [f"{v:,.{digits}f}" if abs(v) < 1e6 else f"{v:.1e}" for v in value]
    return f"{shown[0]} [–]" if np.isnan(value[1]) else f"{shown[0]} [{shown[1]}, {shown[2]}]"


def _grid(head: list[str], lines: list[list[str]]) -> str:
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]
    return "\n".join("   ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in [head, *lines])


def life_table(rows: list[Row], contract: Contract, protocol: Protocol) -> str:
    """Every error of remaining useful life, a line each; a column for each row that states one."""
    unit, rows = UNITS.get(contract.life_unit, contract.life_unit), [r for r in rows if r.life]
    measures = {"rmse": f"RMSE, {unit}", "mae": f"MAE, {unit}", "nasa": "NASA score"}
    where = {"last": "last reading", "all": "all readings"}
    lines = []
    for measure, title in measures.items():
        for at, place in where.items():
            for kind in ("capped", "raw"):
                found = [r.life.get(f"{measure}_{at}_{kind}") for r in rows]
                if all(found):
                    digits = 0 if measure == "nasa" else 2
                    lines.append([f"{title}, {place}, {kind}", *(cell(f or (np.nan,) * 3, digits) for f in found)])
    head = f"Remaining useful life, capped at {protocol.cap:g} {unit}; lower is better; 95 % interval over assets"
    return f"{head}\n" + _grid(["", *(r.name for r in rows)], lines)


def prognosis_table(rows: list[Row], contract: Contract, protocol: Protocol) -> str:
    """How estimates behave on the way to a failure; a column for each row that states a life; empty where no failure is known."""
    unit, rows = UNITS.get(contract.life_unit, contract.life_unit), [r for r in rows if "prognostic_horizon" in r.more]
    if not rows or all(np.isnan(rows[0].more[f"alpha_lambda_{p}"][0]) for p in LAMBDAS):
        return ""
    percents = [p for p in LAMBDAS if not all(np.isnan(r.more[f"alpha_lambda_{p}"][0]) for r in rows)]
    n = int(rows[0].more["prognostic_horizon_n"][0])
    lines = [
        [
            f"within ±20 % of the life left, when it is {(1 - p / 100) * protocol.cap:g} {unit}",
            *(cell(r.more[f"alpha_lambda_{p}"]) for r in rows),
        ]
        for p in percents
    ]
    title = f"{unit} ahead from which on it stays within ±{0.2 * protocol.cap:g}, median of {n} lives"
    lines += [[title, *(cell(r.more["prognostic_horizon"], 1) for r in rows)]] if n else []
    for at, place in (("last", "last reading"), ("all", "all readings")):
        lines.append([f"more than 10 {unit} late, {place}", *(cell(r.more[f"late_share_{at}"]) for r in rows)])
        if any(r.more[f"abstained_{at}"][0] > 0 for r in rows):
            lines.append([f"no estimate, {place}", *(cell(r.more[f"abstained_{at}"]) for r in rows)])
    head = "Prognosis: on the way to a failure, higher is better; late or missing estimates, lower is better; 95 % interval"
    return f"{head}\n" + _grid(["", *(r.name for r in rows)], lines)


def interval_table(rows: list[Row], contract: Contract, protocol: Protocol) -> str:
    """How often the intervals of the life left hold the truth, and how wide they are; empty where no row gives any."""
    unit, rows = UNITS.get(contract.life_unit, contract.life_unit), [r for r in rows if "coverage_last" in r.more]
    if not rows:
        return ""
    edges = [protocol.cap * b / BINS for b in range(BINS + 1)]
    titles = {
        "coverage_last": "hold the truth, last reading",
        "coverage_near": f"hold the truth, less than {protocol.cap:g} {unit} left",
        "coverage_told": f"hold the truth, less than {protocol.cap:g} {unit} may be left, as they say",
        "coverage_all": "hold the truth, all readings",
    }
    titles |= {f"coverage_life_{b}": f"  with {edges[b]:g} to {edges[b + 1]:g} {unit} left" for b in range(BINS)}
    regimes = sorted((k for k in rows[0].more if k.startswith("coverage_regime_")), key=lambda k: int(k.rpartition("_")[2]))
    titles |= {k: f"  in regime {k.rpartition('_')[2]}" for k in regimes}
    titles |= {"interval_width_last": f"mean width, {unit}, last reading", "interval_width": f"mean width, {unit}, all readings"}
    blank = (np.nan, np.nan, np.nan)
    lines = [[title, *(cell(r.more.get(k, blank), 1 if "width" in k else 2) for r in rows)] for k, title in titles.items()]
    lines = [line for line in lines if any(c != "–" for c in line[1:])]
    head = "Intervals of the life left: shares that hold the truth, to be compared with the share they claim; narrower is better; 95 % interval"
    return f"{head}\n" + _grid(["", *(r.name for r in rows)], lines)


def lead_table(rows: list[Row], contract: Contract) -> str:
    """How long before an event its alarm was raised; a line for each row that caught one; empty where the first caught none."""
    unit = UNITS.get(contract.life_unit, contract.life_unit)
    if not len(rows[0].ahead()):
        return ""
    found = [(r.name, r.ahead()) for r in rows if len(r.ahead())]
    what = (
        "an episode began; below 0 = after it" if rows[0].labelled else "the failure; what stood earlier than a horizon counts as a horizon"
    )
    head = f"Time from the alarm that caught it until {what}; {unit}, higher is better"
    return f"{head}\n" + _grid(
        ["", "caught", *(f"{p} % of them at most" for p in AHEAD)],
        [[n, str(len(a)), *(f"{_percentile(a, p):.4g}" for p in AHEAD)] for n, a in found],
    )


def alarm_table(rows: list[Row], contract: Contract) -> str:
    """What was caught, what was false, and how soon or how exactly: the median delay of an anomaly score, the error of a RUL."""
    unit = UNITS.get(contract.life_unit, contract.life_unit)
    per = "asset-month" if contract.ticks_per_month else f"{PER} {unit}"
    scored, lines = bool(rows[0].points), []
    for r in rows:
        if r.events is None:
            continue
        caught, counted = int(r.events.caught.sum()), int(r.events.counted.sum())
        recall = f"{caught} of {counted} [{r.events.recall()[1]:.2f}, {r.events.recall()[2]:.2f}]" if counted else "none to catch"
        last = [cell(r.life.get("rmse_all_capped", (np.nan,) * 3), 1)]
        if scored:
            last = [f"{int(r.events.right.sum())} of {int(r.events.raised.sum())}", "–" if np.isnan(r.delay()) else f"{r.delay():.3g}"]
        lines.append([r.name, recall, cell(r.false), *last])
    what = "episodes" if rows[0].labelled else "failures"
    last = ["alarms right when raised", f"median delay, {unit}"] if scored else [f"RMSE of RUL, {unit}"]
    return _grid(["", f"{what} caught", f"false alarms/{per}", *last], lines)


def detection_table(rows: list[Row]) -> str:
    """How anomalous readings were told from normal ones; a line for each row that gives a score."""
    lines = []
    for r in (r for r in rows if r.points):
        ap = [f"{r.points[k][0]:.2f}" if r.points[k][0] == r.points[k][0] else "–" for k in ("ap", "ap_per_asset", "vus_pr")]
        care = cell(r.points.get("care", (np.nan,) * 3))
        lines.append([r.name, *(cell(r.points[k]) for k in ("f1", "far", "mar")), *ap, care])
    head = "Readings with a score at or above the limit; FAR: share of normal ones raised, MAR: share of anomalous ones missed; 95 % interval over assets"
    none = any(r.points.get("care_normal_assets", (1.0,))[0] == 0 and not np.isnan(r.points["care"][0]) for r in rows if r.points)
    note = "\nCARE: every asset has an event; the readings before each asset's first event stand for the normal assets" if none else ""
    return f"{head}\n" + _grid(["", "F1", "FAR", "MAR", "AP pooled", "AP per asset", "VUS-PR", "CARE"], lines) + note


def chance_table(rows: list[Row]) -> str:
    """How well probabilities of a failure within the horizon fit what came; empty where no row gives any."""
    found = [
        [r.name, *(cell(r.more[k], d) for k, d in (("auroc", 2), ("brier", 4), ("brier_skill", 2)))] for r in rows if "brier" in r.more
    ]
    head = "Probability of a failure within the horizon; AUROC and skill: higher is better, Brier score: lower; 95 % interval over assets"
    return f"{head}\n" + _grid(["", "AUROC", "Brier", "skill over the mean"], found) if found else ""


def class_table(winner: Row) -> str:
    """How the winner tells classes of faults apart, and which it takes for which; empty where it tells none."""
    told = winner.told
    if told is None:
        return ""
    each = [[name, cell(winner.more.get(f"auroc/{name}", (np.nan, np.nan, np.nan)))] for name in told.names]
    areas = _grid(["", "AUROC"], [["all classes, mean", cell(winner.more["macro_auroc"])], *each])
    head = "Classes of faults; AUROC: each class against the others, higher is better; 95 % interval over assets"
    first, *rest = told.lines()
    right = f"Readings by class; told right: {cell(winner.more['accuracy'])}"
    return "\n".join([head, areas, "", right, _grid(first, rest), *told.notes()])


def fault_table(winner: Row) -> str:
    """Which labelled faults the winner saw; empty where there are none."""
    found = {k.removesuffix("/detection_rate"): v for k, v in winner.points.items() if k.endswith("/detection_rate")}
    if not found:
        return ""
    return "Share of each fault's readings at or above the limit\n" + _grid(
        ["fault", "detected"], [[k, cell(v)] for k, v in sorted(found.items())]
    )


def accepted_line(reason: str) -> str:
    """What stands below every table of a result whose leakage findings a user let stand; empty where nobody did."""
    return f"Leakage accepted: {reason}" if reason else ""


def tables_of(rows: list[Row], contract: Contract, protocol: Protocol, accepted: str = "") -> list[str]:
    """The tables of a result, the one that sums it up last; each says below why findings of leakage were `accepted`."""
    found = []
    if rows[0].life:
        more = prognosis_table(rows, contract, protocol), interval_table(rows, contract, protocol)
        found += [life_table(rows, contract, protocol), *(t for t in more if t)]
    if rows[0].points:
        found += [t for t in (chance_table(rows), class_table(rows[0]), fault_table(rows[0]), detection_table(rows)) if t]
    found += [t for t in (lead_table(rows, contract),) if t]
    silent = rows[0].silent
    others = f" and {len(silent) - 8} more" if len(silent) > 8 else ""
    note = f"No verdict for {', '.join(silent[:8])}{others}: too few readings of their own to learn from" if silent else ""
    unknown = not rows[0].labelled and rows[0].events is not None and not rows[0].events.counted.any()
    doubt = "No failure is on record in the test part: whether an alarm is false, nobody knows; all of them are counted" if unknown else ""
    tables = [*found, *(t for t in (note, doubt) if t), alarm_table(rows, contract)]
    return [f"{t}\n{accepted_line(accepted)}" for t in tables] if accepted else tables


def no_better(rows: list[Row]) -> str:
    """Says plainly where a row that needs no sensor does as well as the winner's anomaly score; empty where none does."""
    winner = rows[0]
    if not winner.points or winner.events is None:
        return ""
    said = []
    for r in (r for r in rows[1:] if r.name in ("always alarm", "clock", "random score") and r.events is not None):
        # the horizon before a failure is no label of single readings: there, alarms are what counts
        by = ["F1"] if winner.labelled and r.points["f1"][0] >= winner.points["f1"][0] else []
        fewer = winner.events.false.sum() > 0 and r.false[0] <= winner.false[0]
        by += ["false alarms"] if fewer and r.events is not None and r.events.caught.sum() >= winner.events.caught.sum() else []
        said += [f"{r.name} (by {' and '.join(by)})"] if by else []
    return f"No better than {', '.join(said)}: raise alarm.margin to hear less, or look at what the alarms have in common" if said else ""
