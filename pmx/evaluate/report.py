"""The rows of a result, as metrics and as tables for people. Each table says its unit and which rows know the asset's age."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pmx.contract import Contract
from pmx.evaluate.event import EventCounts, count_events
from pmx.evaluate.interval import Interval
from pmx.evaluate.life import life_metrics
from pmx.evaluate.protocol import Protocol, Truth

PER = 1000  # life units that false alarms are counted over, where the data have no calendar
UNITS = {"h": "hours", "d": "days", "min": "minutes", "s": "seconds", "cycle": "cycles"}


@dataclass(frozen=True)
class Row:
    """One row of the table: a bundle's replay or a baseline.

    Attributes:
        name: `winner`, `without age`, `age only`, ...
        life: errors of its RUL in the life unit; empty = it states none.
        events: its alarms; None = it raises none.
        false: false alarms per asset and month (calendar) or per `PER` life units.

    Example:
        >>> Row("constant", {"rmse_last_capped": (40.1, 36.0, 44.0)}, None, (np.nan,) * 3).metrics("test", "")["test/rmse_last_capped_hi"]
        44.0
    """

    name: str
    life: dict[str, Interval]
    events: EventCounts | None
    false: Interval

    def metrics(self, prefix: str, false_name: str) -> dict[str, float]:
        """Metrics by name, each with `_lo` and `_hi`; NaN where the data cannot say."""
        found = dict(self.life)
        if self.events is not None:
            found["event_recall"] = self.events.recall()
            found[false_name] = self.false
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
) -> Row:
    """Evaluates RUL float [time] and alarms bool [time] per asset at the ticks int64 [time]; either may be None."""
    life = life_metrics(rul, tick, truth, protocol, contract.tick) if rul is not None else {}
    if life and contract.life_unit != "cycle":  # NASA's score weighs errors in cycles
        life = {k: v for k, v in life.items() if not k.startswith("nasa")}
    if standing is None:
        return Row(name, life, None, (np.nan, np.nan, np.nan))
    events = count_events(standing, tick, truth, protocol, contract.tick)
    return Row(name, life, events, events.false_rate(contract.ticks_per_month or PER / contract.tick, protocol))


def metrics(rows: list[Row], contract: Contract) -> dict[str, float]:
    """All rows by name: the winner under `test/`, its twin under `test_no_age/`, baselines under their own name; rates are fractions."""
    false_name = "false_alarms_per_asset_month" if contract.ticks_per_month else f"false_alarms_per_{PER}_life_units"
    prefix = {"winner": "test", "without age": "test_no_age"}
    found: dict[str, float] = {}
    for r in rows:
        if r.name not in prefix:  # of a baseline the main errors: the tables have all of them
            r = replace(r, life={k: v for k, v in r.life.items() if k in ("rmse_last_capped", "rmse_all_capped")})
        found |= r.metrics(prefix.get(r.name, "baseline_" + r.name.replace(" ", "_")), false_name)
    events = rows[0].events
    if events is not None:
        found |= {"test/n_assets": float(len(events.counted)), "test/n_failures": float(events.counted.sum())}
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
    """What was caught, what was false, and the error over all readings."""
    unit = UNITS.get(contract.life_unit, contract.life_unit)
    per = "asset-month" if contract.ticks_per_month else f"{PER} {unit}"
    lines = []
    for r in rows:
        if r.events is None:
            continue
        caught, counted = int(r.events.caught.sum()), int(r.events.counted.sum())
        recall = f"{caught} of {counted} [{r.events.recall()[1]:.2f}, {r.events.recall()[2]:.2f}]" if counted else "none to catch"
        lines.append([r.name, recall, cell(r.false), cell(r.life.get("rmse_all_capped", (np.nan,) * 3), 1)])
    return _grid(["", "failures caught", f"false alarms/{per}", f"RMSE of RUL, {unit}"], lines)
