"""The ticks and the training part that a run learnt from."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from pmx.pipeline import Plan, Result
from pmx.select.training import Training
from pmx.source.admit import admit
from pmx.source.ticks import to_ticks
from pmx.window.label import with_lives
from pmx.window.split import Division


@dataclass(frozen=True)
class Known:
    """What a result does not carry itself.

    Attributes:
        ticks: of all assets, `asset`, `tick` and the channels.
        division: which of them train and which test.
        training: the training part.

    Example:
        >>> Known.__dataclass_fields__.keys() >= {"ticks", "division", "training"}
        True
    """

    ticks: pl.DataFrame
    division: Division
    training: Training


def known(plan: Plan, result: Result) -> Known:
    """From the history once more, the same way as the run went."""
    history = result.history
    contract = plan.window.suits(history.contract)
    ticks = with_lives(to_ticks(admit(history.rows, contract, plan.on_error).readings, contract), history.events, contract)
    division = plan.window.apply(ticks, history.test_assets)
    each = result.winner.features.normalise_.own_ != {}
    return Known(ticks, division, Training.of(ticks, division, history, plan.window, each))
