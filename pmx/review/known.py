"""The ticks of the test part, which a result does not carry: from its history once more, the same way as the run went."""

from __future__ import annotations

import polars as pl

from pmx.contract import BLANKS
from pmx.plan import Plan, Result
from pmx.source.admit import admit
from pmx.source.ticks import to_ticks
from pmx.window.label import with_lives


def tested_ticks(plan: Plan, result: Result) -> pl.DataFrame:
    """`asset`, `tick` and the channels of the assets that are tested, their training ticks too where a split by time gave them some."""
    history = result.history
    contract = plan.window.suits(history.contract)
    rows = history.rows.filter(pl.col("asset").str.strip_chars(BLANKS).is_in(result.truth.assets))
    return with_lives(to_ticks(admit(rows, contract, plan.on_error).readings, contract), history.events, contract)
