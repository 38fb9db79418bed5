"""The rows of a result, as metrics and as tables for people. Each table says its unit and which rows know the asset's age."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from pmx.contract import Contract
from pmx.evaluate.anomaly import point_metrics
from pmx.evaluate.event import EventCounts, count_events
from pmx.evaluate.interval import Interval
from pmx.evaluate.life import life_metrics
from pmx.evaluate.protocol import Protocol, Truth

PER = 1000  # life units that false alarms are counted over, where the data have no calendar
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

    def delay(self) -> float:
        """Median delay of caught episodes in the life unit; NaN where none was caught."""
        return float(np.median(self.events.delay) * self.tick) if self.events is not None and len(self.events.delay) else np.nan

    def metrics(self, prefix: str, false_name: str) -> dict[str, float]:
        """Metrics by name, each with `_lo` and `_hi`; NaN where the data cannot say."""
        found = self.life | self.points
        if self.events is not None:
            found["event_recall"] = self.events.recall()
            found[false_name] = self.false
            if self.points:
                found["event_precision"] = self.events.precision()
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
) -> Row:
    """Evaluates RUL float [time], alarms bool [time] and anomaly scores float [time] per asset at the ticks int64 [time]; each may be None."""
    life = life_metrics(rul, tick, truth, protocol, contract.tick) if rul is not None else {}
    if life and contract.life_unit != "cycle":  # NASA's score weighs errors in cycles
        life = {k: v for k, v in life.items() if not k.startswith("nasa")}
    points = point_metrics(score, limit, tick, truth, protocol, contract.tick) if score is not None else {}
    if standing is None:
        return Row(name, life, None, (np.nan, np.nan, np.nan), points)
    events = count_events(standing, tick, truth, protocol, contract.tick)
    mute = np.array(
        [np.isnan(s[at >= begins]).all() for s, at, begins in zip(score or [], tick, truth.begins, strict=score is not None)], bool
    )
    if mute.any():
        events = replace(events, exposure=np.where(mute, 0.0, events.exposure), false=np.where(mute, 0, events.false))
    silent = tuple(np.array(truth.assets, object)[mute]) if mute.any() else ()
    false = events.false_rate(contract.ticks_per_month or PER / contract.tick, protocol)
    return Row(name, life, events, false, points, contract.tick, truth.episodes is not None, silent)


def metrics(rows: list[Row], contract: Contract) -> dict[str, float]:
    """All rows by name: the winner under `test/`, its twin under `test_no_age/`, baselines under their own name; rates are fractions."""
    false_name = "false_alarms_per_asset_month" if contract.ticks_per_month else f"false_alarms_per_{PER}_life_units"
    prefix = {"winner": "test", "without age": "test_no_age", "cross-fitted": "crossfit"}
    found: dict[str, float] = {}
    for r in rows:
        if r.name not in prefix:  # of a baseline the main errors: the tables have all of them
            r = replace(r, life={k: v for k, v in r.life.items() if k in ("rmse_last_capped", "rmse_all_capped")})
            r = replace(r, points={k: v for k, v in r.points.items() if "/" not in k})
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
        ap = [f"{r.points[k][0]:.2f}" if r.points[k][0] == r.points[k][0] else "–" for k in ("ap", "ap_per_asset")]
        lines.append([r.name, *(cell(r.points[k]) for k in ("f1", "far", "mar")), *ap])
    head = "Readings with a score at or above the limit; FAR: share of normal ones raised, MAR: share of anomalous ones missed; 95 % interval over assets"
    return f"{head}\n" + _grid(["", "F1", "FAR", "MAR", "AP pooled", "AP per asset"], lines)


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
        found.append(life_table(rows, contract, protocol))
    if rows[0].points:
        found += [t for t in (fault_table(rows[0]), detection_table(rows)) if t]
    silent = rows[0].silent
    more = f" and {len(silent) - 8} more" if len(silent) > 8 else ""
    note = f"No verdict for {', '.join(silent[:8])}{more}: too few readings of their own to learn from" if silent else ""
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
