"""Runs side by side, two of them paired on the same test assets, and the promotion of a version: what the command line does with the store."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pmx.contract import GateError
from pmx.reads import Reads, times
from pmx.registry import CHALLENGER, CHAMPION, Registry, Version, interval
from pmx.tracking import Tracker

WIDTH, SEPARATOR = 120, " · "
COLUMNS = {
    "test/event_recall": "caught",
    "test/false_alarms_per_asset_month": "false/month",
    "test/false_alarms_per_1000_life_units": "false/1000",
}


@dataclass(frozen=True)
class Beside:
    """What stands beside a run's own figures.

    Attributes:
        reads: how often the test part of its data was met, as a sentence.
        versus: how it does against the champion, as a sentence; empty where there is none.
        metrics: `vs_champion/...`, the run less the champion, and `reads/...`.
        evaluation: what was compared, to be kept.

    Example:
        >>> Beside("The test part of this data set has been read once in this store, 1 of them by this run.").versus
        ''
    """

    reads: str
    versus: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)


def beside(tracker: Tracker, run_id: str, model: str, evaluation: Mapping[str, Any]) -> Beside:
    """Pairs a run that has just been evaluated with the champion of `model`, and counts the reads of its data."""
    from pmx.evaluate.report import UNITS
    from pmx.evaluate.versus import summary, unpaired, versus

    reads, digest = Reads(tracker.folder), evaluation["data_digest"]
    metrics = {"reads/this_run": float(reads.count(digest, run_id)), "reads/this_data": float(reads.count(digest))}
    said, champion = "", Registry(tracker).champion(model)
    if champion:
        other, name = tracker.evaluation(champion.run_id), f"champion v{champion.number}"
        why = unpaired(other, evaluation).replace("A kept", f"{name} kept").replace("A was", f"{name} was")
        found = [] if why else versus(other, evaluation)
        unit = UNITS.get(evaluation["life_unit"], evaluation["life_unit"])
        said = (
            f"Against {name}: {summary(found, unit, 'this run', name)}"
            if found
            else f"Not paired with {name}: {why or 'no common measure'}"
        )
        for d in found:
            metrics |= {f"vs_champion/{d.measure}{end}": v for end, v in zip(("", "_lo", "_hi"), d.difference, strict=True)}
    return Beside(reads.said(digest, run_id), said, metrics, evaluation)


def compare(tracker: Tracker, words: Sequence[str], model: str = "", output: Path | None = None) -> dict[str, Any]:
    """Prints the latest runs, or those that are named, side by side; two that are named are paired, with a plot.

    Args:
        words: beginnings of run ids, numbers of versions, `champion`, `challenger`.
        model: the registered model that versions are of; empty = the only one there is.
        output: folder of the plots; None = `compare` in the store's folder.
    """
    registry = Registry(tracker)
    found = [registry.find(word, model) for word in words]
    rows = tracker.compare([run for run, _ in found] or None)
    print(table(rows, registry.versions(), Reads(tracker.folder)) if rows else "No runs yet -> pmx run demo makes one")
    if len(found) != 2:
        return {"runs": rows}
    return {"runs": rows, "paired": pair(tracker, found, output or tracker.folder / "compare")}


def pair(tracker: Tracker, found: Sequence[tuple[str, str]], folder: Path | None = None) -> dict[str, Any]:
    """Prints B less A for two runs, given as id and name; gives the same as plain data. Plots go to `folder`, where one is given."""
    from pmx.evaluate.report import UNITS
    from pmx.evaluate.versus import forest, scatter, unpaired, versus, versus_table

    (run_a, a), (run_b, b) = found
    one, other = tracker.evaluation(run_a), tracker.evaluation(run_b)
    if why := unpaired(one, other):
        print(f"\nNot paired: {why}")
        return {"a": run_a, "b": run_b, "why_not": why, "differences": []}
    differences = versus(one, other)
    if not differences:
        print("\nNot paired: the two runs have no measure in common, one states lives and the other scores")
        return {"a": run_a, "b": run_b, "why_not": "no measure in common", "differences": []}
    unit = UNITS.get(one["life_unit"], one["life_unit"])
    print(f"\nPaired on the same test assets, 95 % interval over assets drawn for both together; A is {a}, B is {b}")
    print(versus_table(differences, unit))
    plots = []
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in (("difference", forest(differences, unit)), ("assets", scatter(one, other, differences, unit))):
            plots.append(folder / f"{run_a[:8]}-{run_b[:8]}-{name}.png")
            figure.savefig(plots[-1], dpi=130)
        print("Plots " + "  ".join(map(str, plots)))
    return {
        "a": run_a,
        "b": run_b,
        "why_not": "",
        "differences": [
            {"measure": d.measure, "a": _known(d.b), "b": _known(d.a), "difference": [_known(v) for v in d.difference]}
            | {"b_better": _known(d.better), "said": d.words("B", "A"), "n": d.n}
            for d in differences
        ],
        "plots": [str(p) for p in plots],
    }


def promote(tracker: Tracker, name: str, word: str, accept_leakage: bool, other_data: bool) -> dict[str, Any]:
    """Compares a version with the champion, prints that, and makes it champion where nothing stands against it."""
    registry = Registry(tracker)
    new = registry.version(registry.model(name), word or CHALLENGER)
    old = registry.champion(new.model)
    result: dict[str, Any] = {"model": new.model, "version": new.number, "former": old.number if old else ""}
    if old and old.number == new.number:
        print(f"{new.model} v{new.number} is {CHAMPION} already; nothing was changed")
        return result | {"paired": None}
    if old:
        ids = [old.run_id, new.run_id]
        print(table(tracker.compare(ids), registry.versions(), Reads(tracker.folder)))
        result["paired"] = pair(tracker, [(old.run_id, old.said), (new.run_id, new.said)])
        print()
        why = result["paired"]["why_not"]
        if why and not other_data and not registry.refusal(new, old, accept_leakage, other_data):
            what = f"it was not compared with v{old.number} ({why.partition(' -> ')[0]}) -> --other-data takes it all the same"
            raise GateError(f"Cannot promote {new.model} v{new.number}: {what}", f"version {new.number}")
    if doubt := new.tags.get("pmx.doubt"):
        print(f"Doubt: {doubt}")
    now = registry.promote(new, accept_leakage, other_data)
    print(f"{new.model} v{now.number} is {CHAMPION} now" + (f", v{old.number} was it before" if old else ""))
    print(f"Next: pmx compare {old.number} {CHAMPION} --model '{new.model}'" if old else f"Next: pmx compare --model '{new.model}'")
    return result


def table(rows: list[dict[str, Any]], versions: Mapping[str, list[Version]], reads: Reads) -> str:
    """The rows of `Tracker.compare` as text of the terminal's width: the name has the main number, the columns say what was caught and raised
    for nothing, with intervals; below, how often the data's test part was read.
    """
    shown = {m: title for m, title in COLUMNS.items() if any(m in row["metrics"] for row in rows)}
    digests = list(dict.fromkeys(row["data_digest"] for row in rows if row["data_digest"]))
    fleets = {row["name"].partition(SEPARATOR)[0] for row in rows if SEPARATOR in row["name"]}
    fleet = fleets.pop() if len(fleets) == 1 else ""  # said once, in the head: every line has better use for its room
    lines = [["run", "began", "version", fleet or "name", *shown.values(), "gates", "data"]]
    for row in rows:
        version = next((f"v{v.number}{f' {v.alias[:5]}.' if v.alias else ''}" for v in versions.get(row["run_id"], ())), "–")
        failed = [name for name, passed in row["gates"].items() if not passed]
        gates = f"✗ {', '.join(failed)}" if failed else "✓" if row["gates"] else row["status"]
        gates += " (leakage accepted)" if row["leakage_accepted"] else ""
        began = datetime.fromtimestamp(row["began"]).strftime("%m-%d %H:%M")
        data = chr(ord("a") + digests.index(row["data_digest"]) % 26) if row["data_digest"] else "–"
        lines.append(
            [
                row["run_id"][:8],
                began,
                version,
                row["name"].removeprefix(f"{fleet}{SEPARATOR}"),
                *(_short(row["metrics"], m) for m in shown),
                gates,
                data,
            ]
        )
    if len(digests) < 2:
        lines = [line[:-1] for line in lines]
    width = [max(map(len, column)) for column in zip(*lines, strict=True)]
    room = max(shutil.get_terminal_size((WIDTH, 24)).columns, 80) - sum(width) - 2 * (len(width) - 1)
    width[3] = max(24, min(width[3], width[3] + room))
    for line in lines:
        line[3] = line[3] if len(line[3]) <= width[3] else f"{line[3][: width[3] - 1]}…"
    text = ["  ".join(map(str.ljust, line, width)).rstrip() for line in lines]
    text += [f"Leakage accepted in {row['run_id'][:8]}: {row['leakage_accepted']}" for row in rows if row["leakage_accepted"]]
    for i, digest in enumerate(digests):
        letter = f"{chr(ord('a') + i % 26)}: " if len(digests) > 1 else ""
        text.append(f"{letter}data {digest[:12]}, test part read {times(reads.count(digest))} in this store")
    if len(digests) > 1:
        text.append("Figures of different data are not comparable")
    return "\n".join(text)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _short(metrics: Mapping[str, float], name: str) -> str:
    return interval({k: round(v, 2) for k, v in metrics.items() if k.startswith(name)}, name)
