"""The leakage gate: nothing that was fitted on may stand on the test side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from pmx.contract import Contract
from pmx.edge.replay import Replayed
from pmx.gate.result import Gate
from pmx.window.label import Labels
from pmx.window.split import Division, breaches


def late_orders(labels: Labels, events: pl.DataFrame, ticks: pl.DataFrame, division: Division, contract: Contract) -> list[str]:
    """Assets whose training labels tell of a failure that nobody had written down when training ended (split by time).

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
            found.append(f"{name}: its labels tell of a failure that became known only after training ended")
    return found


def leakage(fitted: pl.DataFrame, ticks: pl.DataFrame, division: Division, played: Replayed, late: Sequence[str] = ()) -> Gate:
    """Checks what was really used, not what the split meant to use.

    Args:
        fitted: `asset`, `tick` of everything that was fitted on: constants, models, limits.
        ticks: all ticks.
        division: how they were divided.
        late: what `late_orders` found.
        played: the replay that metrics come from; under a split by time, those of its ticks count that are in the test part.
    """
    scored = pl.DataFrame({"asset": np.repeat(played.assets, [len(t) for t in played.tick]), "tick": np.concatenate(played.tick)})
    used, evaluated = (
        ticks.join(part.with_columns(on=True), on=["asset", "tick"], how="left", maintain_order="left")["on"].fill_null(False).to_numpy()
        for part in (fitted.select("asset", "tick").unique(), scored)
    )
    asset, tick, by = ticks["asset"].to_numpy(), ticks["tick"].to_numpy(), division.by
    if by == "time":  # the replay passes through an asset's training ticks to reach its test ticks
        evaluated = evaluated & division.test
    found = breaches(Division(used, evaluated, by), asset, tick) + list(late)
    if found:
        # that a tick lies on both sides is said of no asset; the assets it lies in are among the findings too
        found = [f for f in found if ": " in f] or found
        rule = (
            "no asset on both sides" if by == "asset" else "what is fitted on, and what labels tell, was there before the first test tick"
        )
        return Gate("leakage", False, f"{len(found)} findings, first: {found[0]}", culprit=found[0].rsplit(": ", 1)[0], rule=rule)
    sides = [len(np.unique(asset[m])) for m in (used, evaluated)]
    if not all(sides):
        what = "fitted" if not sides[0] else "evaluated"
        return Gate(
            "leakage", False, f"{sides[0]} assets fitted, {sides[1]} evaluated", f"nothing was {what}", "both sides must hold ticks"
        )
    return Gate("leakage", True, f"split by {by}: {sides[0]} assets fitted, {sides[1]} evaluated, 0 findings", figures={"findings": 0.0})
