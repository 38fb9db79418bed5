"""The leakage gate: nothing that was fitted on may stand on the test side, and nothing may tell what a device could not know."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from pmx.contract import Contract
from pmx.edge.replay import Replayed
from pmx.evaluate.report import accepted_line
from pmx.gate.result import Check, Finding, Gate
from pmx.window.label import Labels
from pmx.window.split import Division, breaches

SIDES, LATE = "both_sides", "late_orders"
RULES = {
    LATE: "what is fitted on, and what labels tell, was there before the first test tick",
    "near_duplicates": "no stretch of the test part stands in the training part",
    "label_channels": "no channel tells the label alone",
    "countdowns": "no channel knows when a life will end",
    "known_after": "a channel holds what was known at its tick",
    "failure_flags": "a channel holds what was known at its tick",
}
COLUMNS = ("check", "compared", "findings", "where", "size", "why", "mend", "accepted")


def late_orders(labels: Labels, events: pl.DataFrame, ticks: pl.DataFrame, division: Division, contract: Contract) -> list[Check]:
    """Assets whose training labels tell of a failure that nobody had written down when training ended; no check under a split by asset.

    Training ended at the fleet's last training tick, and for an asset that is tested later at its own.

    Args:
        labels: of the training ticks.
        events: all of them.
    """
    if division.by != "time":
        return []
    train = ticks.filter(pl.Series(division.train))
    tested = set(ticks.filter(pl.Series(division.test))["asset"].unique())
    asset, tick = train["asset"].to_numpy(), train["tick"].to_numpy()
    failures = events.filter(pl.col("event") == "failure")
    known = contract.ticks_of(failures["known_at"].to_physical().to_numpy())
    found = []
    told, failed = labels.rul / contract.tick + tick, contract.ticks_of(failures["time"].to_physical().to_numpy())
    for name, at, when in zip(failures["asset"].to_list(), known, failed, strict=True):
        own = asset == name
        if own.any() and at > (tick[own] if name in tested else tick).max() and (np.abs(told[own] - when) < 1e-6).any():
            why = "its labels tell of a failure that became known only after training ended"
            found.append(Finding(LATE, name, float(at - tick[own].max()), why, "label the training part with the orders written by then"))
    return [Check(LATE, f"labels of {len(train):,} training ticks with {len(failures):,} failures", tuple(found))]


def _sides(fitted: pl.DataFrame, ticks: pl.DataFrame, division: Division, played: Replayed) -> tuple[Check, list[int]]:
    """Assets and ticks that were both fitted on and evaluated; and how many assets each side has."""
    scored = pl.DataFrame({"asset": np.repeat(played.assets, [len(t) for t in played.tick]), "tick": np.concatenate(played.tick)})
    used, evaluated = (
        ticks.join(part.with_columns(on=True), on=["asset", "tick"], how="left", maintain_order="left")["on"].fill_null(False).to_numpy()
        for part in (fitted.select("asset", "tick").unique(), scored)
    )
    asset, tick, by = ticks["asset"].to_numpy(), ticks["tick"].to_numpy(), division.by
    if by == "time":  # the replay passes through an asset's training ticks to reach its test ticks
        evaluated = evaluated & division.test
    lines = breaches(Division(used, evaluated, by), asset, tick)
    # that a tick lies on both sides is said of no asset; the assets it lies in are among the findings too
    lines = [line for line in lines if ": " in line] or lines
    found = []
    for line in lines:
        where, _, why = line.rpartition(": ")
        own = asset == where
        found.append(Finding(SIDES, where or why, float((used & own).sum()), why, "split by asset, or by time with training first"))
    sides = [len(np.unique(asset[m])) for m in (used, evaluated)]
    compared = f"{used.sum():,} ticks of {sides[0]} assets fitted with {evaluated.sum():,} ticks of {sides[1]} assets evaluated"
    return Check(SIDES, compared, tuple(found)), sides


def leakage(
    fitted: pl.DataFrame,
    ticks: pl.DataFrame,
    division: Division,
    played: Replayed,
    checks: Sequence[Check] = (),
    accept: str = "",
    components: tuple[int, int] = (0, 0),
) -> Gate:
    """Checks what was really used, not what the split meant to use, and makes one verdict of it and of the audit.

    Args:
        fitted: `asset`, `tick` of everything that was fitted on: constants, models, limits.
        ticks: all ticks.
        division: how they were divided.
        played: the replay that metrics come from; under a split by time, those of its ticks count that are in the test part.
        checks: what the audit found.
        accept: why findings are to stand; empty = they refuse the result. Without a finding it changes nothing.
        components: how many physical components are tested, and how many of those were fitted on too: no finding where a source splits so
            and says so, but told.
    """
    own, sides = _sides(fitted, ticks, division, played)
    done = (own, *checks)
    found = [f for check in done for f in check.findings]
    figures = {"findings": float(len(found))} | {c.name: float(len(c.findings)) for c in done}
    begin = f"split by {division.by}: {sides[0]} assets fitted, {sides[1]} evaluated, "
    if division.by == "asset" and components[1]:
        begin += f"{components[1]} of {components[0]} physical components on both sides, "
    if not all(sides):
        empty, what = "fitted" if not sides[0] else "evaluated", f"{sides[0]} assets fitted, {sides[1]} evaluated"
        return Gate("leakage", False, what, f"nothing was {empty}", "both sides must hold ticks", figures, done)
    if not found:
        unused = "; nothing had to be accepted" if accept else ""
        return Gate("leakage", True, f"{begin}0 findings{unused}", figures=figures, checks=done)
    first = found[0]
    said = f"{len(found)} finding{'s' * (len(found) > 1)}"
    told = f"first: {first.line()}"
    if accept:
        return Gate("leakage", True, f"{begin}{said} accepted: {accept}; {told}", figures=figures, checks=done, accepted=accept)
    by_time = "no asset on both sides" if division.by == "asset" else RULES[LATE]
    return Gate("leakage", False, f"{said}, {told}", first.where, RULES.get(first.kind, by_time), figures, done)


def check_table(gate: Gate) -> str:
    """Every check of a gate with what was compared and how many findings it had, then the findings, as text."""
    head = ["check", "findings", "compared"]
    lines = [head, *([c.name.replace("_", " "), str(len(c.findings)), c.compared] for c in gate.checks)]
    widths = [max(len(line[i]) for line in lines) for i in range(2)]
    text = ["   ".join([*(c.ljust(w) for c, w in zip(line, widths, strict=False)), line[2]]) for line in lines]
    text += [f"{f.kind.replace('_', ' ')}: {f.line()}" for f in gate.findings]
    return "\n".join([*text, *([accepted_line(gate.accepted)] if gate.accepted else [])])


def write_checks(file: Path, gate: Gate) -> None:
    """The same as CSV, a line for each finding and for each check without one; `accepted` repeats the reason on every line."""
    rows = []
    for check in gate.checks:
        told: list[tuple[str, float | None, str, str]] = [(f.where, f.size, f.why, f.mend) for f in check.findings]
        for where, size, why, mend in told or [("", None, "", "")]:
            rows.append((check.name, check.compared, len(check.findings), where, size, why, mend, gate.accepted))
    schema = {c: {"findings": pl.Int64, "size": pl.Float64}.get(c, pl.String) for c in COLUMNS}
    pl.DataFrame(rows, schema=schema, orient="row").write_csv(file)
