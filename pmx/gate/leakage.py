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
        played: the replay that metrics come from; of its ticks, those of the test part count.
    """
    scored = pl.DataFrame({"asset": np.repeat(played.assets, [len(t) for t in played.tick]), "tick": np.concatenate(played.tick)})
    used, evaluated = (
        ticks.join(part.with_columns(on=True), on=["asset", "tick"], how="left", maintain_order="left")["on"].fill_null(False).to_numpy()
        for part in (fitted.select("asset", "tick"), scored)
    )
    evaluated = evaluated & division.test
    asset, tick, by = ticks["asset"].to_numpy(), ticks["tick"].to_numpy(), division.by
    found = breaches(Division(used, evaluated, by), asset, tick)
    if found:
        rule = "no asset on both sides" if by == "asset" else "each asset's fitted ticks end before its first test tick"
        return Gate("leakage", False, f"{len(found)} findings, first: {found[0]}", culprit=found[0].split(":")[0], rule=rule)
    sides = [len(np.unique(asset[m])) for m in (used, evaluated)]
    return Gate("leakage", True, f"split by {by}: {sides[0]} assets fitted, {sides[1]} evaluated, 0 findings", figures={"findings": 0.0})
