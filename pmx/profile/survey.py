"""The whole profile of a history in one object."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from pmx.profile.channel import Finding, findings
from pmx.profile.claim import Claim, claim
from pmx.profile.offset import Offset, offset
from pmx.profile.operation import Operation, operation
from pmx.profile.orders import Orders, orders
from pmx.profile.record import Record
from pmx.profile.sampling import Sampling, sampling
from pmx.profile.want import wants
from pmx.source import Admitted, History


@dataclass(frozen=True)
class Profile:
    """What a history can carry.

    Attributes:
        record: what it was computed from.
        assets: one row per asset: `asset`, `first` and `last` (times as in `Record`), `readings`, `running` (time with any
            reading, and not off, in the life unit), `failures`.
        channels: one finding per channel.
        sampling, operation, orders, offset, claim: see their classes.
        wants: which further data would help most, the most useful first.

    Example:
        >>> from pmx.source.admit import admit
        >>> from pmx.source.synthetic import Synthetic
        >>> history = Synthetic(assets=2, life=300.0).load()
        >>> Profile.of(history, admit(history.rows, history.contract)).assets["asset"].to_list()
        ['pump-0001', 'pump-0002']
    """

    record: Record
    assets: pl.DataFrame
    channels: list[Finding]
    sampling: Sampling
    operation: Operation
    orders: Orders
    offset: Offset
    claim: Claim
    wants: list[str]

    @staticmethod
    def of(history: History, admitted: Admitted, seed: int = 0) -> Profile:
        """Profiles what a source gave and the contract admitted."""
        record = Record.of(history, admitted)
        channels = findings(record)
        how_often = sampling(record)
        events = orders(record, how_often.distance)
        usable = [c.name for c in channels if c.usable and c.role != "counter"]
        lag = offset(record, how_often.distance, usable, seed)
        operated = operation(record, seed)
        claimed = claim(events, 0 if history.episodes is None else len(history.episodes), history.noun)
        missing = wants(record, events, channels, how_often, operated, lag, claimed)
        return Profile(record, _assets(record), channels, how_often, operated, events, lag, claimed, missing)

    @property
    def reasons(self) -> dict[str, int]:
        """Reason -> rows that the contract refused for it, and values that it set apart."""
        table = self.record.quarantine
        return dict(table.group_by("reason").len().sort("reason").iter_rows()) if table.height else {}

    def to_json(self) -> dict[str, Any]:
        """The profile as plain data; a number that is none is null."""
        history, record = self.record.history, self.record
        lag = {k: v for k, v in asdict(self.offset).items() if k not in ("lags", "votes")}
        return _plain(
            {
                "name": history.name,
                "noun": history.noun,
                "digest": history.digest,
                "clock": record.contract.clock,
                "life_unit": record.contract.life_unit,
                "notes": list(history.notes),
                "ignored": list(record.admitted.ignored),
                "tick": record.contract.tick,
                "counts": record.counts,
                "refused": self.reasons,
                "begin": record.moment(float(record.time.min())),
                "end": record.moment(float(record.time.max())),
                "running": float(self.assets["running"].sum()),
                "assets": self.assets.select("asset", "readings", "running", "failures").to_dicts(),
                "orders": asdict(self.orders),
                "channels": [{**asdict(c), "usable": c.usable} for c in self.channels],
                "sampling": asdict(self.sampling),
                "longest_gap_exceeded": record.grid.long_gaps,
                "operation": asdict(self.operation),
                "offset_hours": lag,
                "claim": asdict(self.claim),
                "wants": self.wants,
            }
        )


def _assets(record: Record) -> pl.DataFrame:
    edge = record.starts
    failures = record.events.filter(pl.col("event") == "failure").group_by("asset").len().rename({"len": "failures"})
    table = pl.DataFrame(
        {"asset": record.assets, "first": record.time[edge[:-1]], "last": record.time[edge[1:] - 1], "readings": np.diff(edge)}
    )
    table = table.join(failures, on="asset", how="left", maintain_order="left")
    running = pl.Series("running", record.grid.running * record.contract.tick)
    return table.with_columns(running, pl.col("failures").fill_null(0))


def _plain(value: Any) -> Any:
    """JSON has no NaN: null instead."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
