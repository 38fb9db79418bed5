"""The leakage gate: nothing that was fitted on may stand on the test side."""

from __future__ import annotations

import numpy as np
import polars as pl

from pmx.edge.replay import Replayed
from pmx.gate.result import Gate
from pmx.window.split import Division, breaches


def leakage(fitted: pl.DataFrame, ticks: pl.DataFrame, division: Division, played: Replayed) -> Gate:
    """Checks what was really used, not what the split meant to use.

    Args:
        fitted: `asset`, `tick` of everything that was fitted on: constants, models, limits.
        ticks: all ticks.
        division: how they were divided.
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
    found = breaches(Division(used, evaluated, by), asset, tick)
    if found:
        # that a tick lies on both sides is said of no asset; the assets it lies in are among the findings too
        found = [f for f in found if ": " in f] or found
        rule = "no asset on both sides" if by == "asset" else "each asset's fitted ticks end before its first test tick"
        return Gate("leakage", False, f"{len(found)} findings, first: {found[0]}", culprit=found[0].rsplit(": ", 1)[0], rule=rule)
    sides = [len(np.unique(asset[m])) for m in (used, evaluated)]
    if not all(sides):
        what = "fitted" if not sides[0] else "evaluated"
        return Gate(
            "leakage", False, f"{sides[0]} assets fitted, {sides[1]} evaluated", f"nothing was {what}", "both sides must hold ticks"
        )
    return Gate("leakage", True, f"split by {by}: {sides[0]} assets fitted, {sides[1]} evaluated, 0 findings", figures={"findings": 0.0})
