"""Two runs on the same test part: what is kept of each for that, whether they may be paired, a table and pictures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pmx.contract import Contract
from pmx.evaluate.paired import Difference, paired
from pmx.evaluate.part import Parts
from pmx.evaluate.plot import ACCENT, INK, PALE
from pmx.evaluate.prognosis import LAMBDAS
from pmx.evaluate.protocol import Protocol, Truth
from pmx.evaluate.report import Row

FORMAT = 1
MAIN = ("rmse_last_capped", "rmse_all_capped", "f1", "event_recall")  # the first that both have is what a scatter shows
WORDS = {"rmse": "RMSE", "mae": "MAE", "nasa": "NASA score", "ap": "AP", "far": "FAR", "mar": "MAR", "f1": "F1", "rul": "RUL"}
WORDS |= {f"alpha_lambda_{p}": f"within ±20 % of the life left, {p} % of the way to the failure" for p in LAMBDAS}
PLACES = {"_last": ", last reading", "_all": ", all readings", "_capped": ", capped", "_raw": ", raw"}
MOST = 14  # measures in one picture


def main_error(contract: Contract) -> str:
    """The error of a remaining life that stands for a run: at the last reading where a test part cuts lives, else at all readings, since
    the last one of a machine that was watched until it failed is no fair sample.
    """
    return "rmse_last_capped" if contract.clock == "life" else "rmse_all_capped"


def evaluation(rows: Sequence[Row], truth: Truth, protocol: Protocol, contract: Contract, digest: str) -> dict[str, Any]:
    """What a paired comparison needs of a run, as plain data: per-asset parts of each row of its tables, and what they were measured
    against; `digest` is of the data.
    """
    part = [[name, float(begins)] for name, begins in zip(truth.assets, truth.begins, strict=True)]
    return {
        "format": FORMAT,
        "data_digest": digest,
        "test_part": hashlib.sha256(json.dumps(part, ensure_ascii=False).encode()).hexdigest(),
        "life_unit": contract.life_unit,
        "main": main_error(contract),
        "protocol": {"cap": protocol.cap, "horizon": protocol.horizon, "lead": protocol.lead},
        "rows": {row.name: row.to_json() for row in rows if row.parts.measures},
    }


def unpaired(a: Mapping[str, Any], b: Mapping[str, Any], row: str = "winner") -> str:
    """Why two runs cannot be paired, by what `evaluation` kept of them; empty where they can."""
    for name, one in (("A", a), ("B", b)):
        if row not in one.get("rows", {}):
            return f"{name} kept no per-asset figures (it ended before its test part, or is older than they are) -> run it again"
        if one.get("format") != FORMAT:
            return f"{name} was written by another version of pmx -> run it again"
    if a["data_digest"] != b["data_digest"]:
        return f"the data differ (digest {a['data_digest'][:8]} and {b['data_digest'][:8]}) -> run one of the two on the other's data"
    if a["test_part"] != b["test_part"]:
        return "the test parts differ: other assets, or another day from which they are tested -> run both with the same window settings"
    if a["protocol"] != b["protocol"]:
        odd = [f"evaluate.{k} {a['protocol'][k]:g} and {v:g}" for k, v in b["protocol"].items() if a["protocol"].get(k) != v]
        return f"they were measured by other rules ({', '.join(odd)}) -> run both with the same"
    return ""


def versus(a: Mapping[str, Any], b: Mapping[str, Any], draws: int = 1000, seed: int = 0, row: str = "winner") -> list[Difference]:
    """B less A for each measure that both have, over the same assets, the main measures first; empty where they have none in common."""
    parts = [Parts.from_json(one["rows"][row]) for one in (b, a)]
    if not set(parts[0].measures) & set(parts[1].measures):
        return []
    found = paired(parts[0], parts[1], draws, seed)
    order = (a.get("main"), *MAIN)
    return sorted(found, key=lambda d: (order.index(d.measure) if d.measure in order else len(order), "_raw" in d.measure))


def label(measure: str, unit: str = "") -> str:
    """A measure's name for people."""
    name, place = measure, ""
    for end, words in PLACES.items():
        if end in name:
            name, place = name.replace(end, "", 1), place + words
    shown = WORDS.get(name, name.replace("_", " "))
    return f"{shown}, {unit}{place}" if unit and name in ("rmse", "mae") else shown + place


def versus_table(found: Sequence[Difference], unit: str) -> str:
    """A line for each measure: both values, B less A with its 95 % interval, and in words what that shows; below, what is the same in both."""
    lines = [["", "A", "B", "B − A [95 %]", "assets", ""]]
    found = [d for d in found if not np.isnan(d.a) or not np.isnan(d.b)]
    same = [d for d in found if d.difference == (0.0, 0.0, 0.0)]
    for d in (d for d in found if d not in same):
        words = d.words("B", "A") + (" (higher is better)" if d.higher else "") if d.n > 1 else "too few assets to tell"
        lines.append([label(d.measure, unit), _number(d.b), _number(d.a), _gap(d), str(d.n), words])
    width = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join(map(str.ljust, line, width)).rstrip() for line in lines] if len(lines) > 1 else []
    if same:
        text.append(f"The same in both on every asset: {'; '.join(f'{label(d.measure, unit)} {_number(d.a)}' for d in same)}")
    if len(lines) > 2:
        text.append("One in twenty measures shows a difference by chance; those of one kind go together")
    return "\n".join(text)


def summary(found: Sequence[Difference], unit: str, b: str, a: str) -> str:
    """The main measure in one sentence, B against A by the names given."""
    d = found[0]
    what = d.words(b, a) if d.n > 1 else "too few assets to tell"
    return f"{label(d.measure, unit)}: {_number(d.a)} against {_number(d.b)} of {a}, difference {_gap(d)} on the same {d.n} assets: {what}"


def forest(found: Sequence[Difference], unit: str) -> Figure:
    """Every difference with its interval, a line each on a scale of its own around 0; to the right B is better."""
    shown = [d for d in found if np.isfinite(d.difference).all() and any(d.difference)][:MOST]  # what is the same needs no line
    figure = Figure(figsize=(8.5, 1.2 + 0.42 * max(len(shown), 1)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color=INK, linewidth=0.8)
    for y, d in enumerate(shown):
        value, low, high = (v if d.higher else -v for v in d.difference)
        reach = max(abs(low), abs(high), abs(value)) or 1.0
        axes.plot([low / reach, high / reach], [y, y], color=ACCENT if d.shown else PALE, linewidth=3, solid_capstyle="butt")
        axes.plot(value / reach, y, "o", color=INK, markersize=4)
        axes.text(1.06, y, _gap(d), va="center", fontsize=8)
    axes.set_yticks(range(len(shown)), [label(d.measure, unit) for d in shown], fontsize=8)
    axes.set(
        xlim=(-1.05, 1.05), xticks=[], ylim=(len(shown) - 0.4, -0.6), xlabel="← A better      each line on its own scale      B better →"
    )
    axes.set_title("B − A, paired on the same test assets, 95 % interval over assets", fontsize=10)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def scatter(a: Mapping[str, Any], b: Mapping[str, Any], found: Sequence[Difference], unit: str, row: str = "winner") -> Figure:
    """The main measure of each asset: B over A, a dot per asset; on the line both are the same."""
    d = found[0]
    sides = [Parts.from_json(one["rows"][row]) for one in (a, b)]
    values = []
    for parts in sides:
        part = parts.measures[d.measure]
        with np.errstate(invalid="ignore", divide="ignore"):
            each = np.where(part.denominator > 0, part.numerator / part.denominator, np.nan)
        values.append(dict(zip(parts.assets, np.sqrt(each) if part.root else each, strict=True)))
    common = [n for n in values[0] if n in values[1]]
    x, y = (np.array([v[n] for n in common]) for v in values)
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    ends = [np.nanmin([x, y], initial=0.0), np.nanmax([x, y], initial=0.0)]
    axes.plot(ends, ends, color=INK, linewidth=0.8)
    axes.plot(x, y, "o", color=ACCENT, markersize=4, alpha=0.6)
    better = "above" if d.higher else "below"
    axes.set(xlabel="A", ylabel="B", title=f"{label(d.measure, unit)}, of each asset\n{better} the line B is better", aspect="equal")
    axes.title.set_fontsize(10)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _gap(d: Difference) -> str:
    value, low, high = d.difference
    signed = [f"{'+' if v > 0 else '−' if v < 0 else ''}{_number(abs(v))}" for v in (value, low, high)]
    return signed[0] if np.isnan(low) else f"{signed[0]} [{signed[1]}, {signed[2]}]"


def _number(value: float) -> str:
    """Three figures or so, without an exponent where it can be read without one."""
    if np.isnan(value):
        return "–"
    size = abs(value)
    if size >= 1e6:
        return f"{value:.2e}"
    return f"{value:,.{0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 1 or size == 0 else 3}f}"
