"""Raw files to readings and events. What every source gives, and what the contract makes of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pmx.contract import Channel, DataError, UsageError, shown

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from pmx.contract import Contract

LEAST_VALUES = 20  # of a channel, before a share of them says something


class Reduction(Protocol):
    """How a waveform becomes the values of one tick, as `pmx.feature.snapshot.Snapshot` does it.

    A source stands below the features, so it knows a reduction by this shape alone.

    Attributes:
        samples: of one waveform.
        rate: samples a second, in Hz.
        tags: process channels that it reads beside the waveforms, such as a speed.
    """

    samples: int
    rate: float
    tags: tuple[str, ...]

    def channels(self, waves: Sequence[Channel]) -> tuple[Channel, ...]:
        """The tick channels that it makes of these wave channels, with their units."""

    def names(self, channels: Sequence[str]) -> list[str]:
        """Their names alone."""

    def reduce(self, waves: np.ndarray, tags: np.ndarray | None = None) -> np.ndarray:
        """Tick channels float32 [snapshot, tick channel] of waveforms float32 [snapshot, sample, channel] and of tags float32
        [snapshot, tag], which may be left out where `tags` is empty.
        """

    def graph(self, channels: int) -> bytes:
        """The ONNX graph that does it, for so many wave channels."""


@dataclass(frozen=True)
class Waves:
    """Waveforms as they were written down, one snapshot a row.

    Attributes:
        rows: `file`, `row`, `asset` and `time` as in `History.rows`, one column of List(Float32) or Array(Float32) per wave
            channel, and the process channels that come with them, in arrival order.
        channels: of the waveforms: name, unit and sampling rate.
        snapshot: what reduces them.

    Example:
        >>> import polars as pl
        >>> rows = pl.LazyFrame({"file": ["a"], "row": [1], "asset": ["P1"], "time": [1.0], "drive_end": [[0.5, -0.5]]})
        >>> Waves(rows, (Channel("drive_end", "g", rate=12_000.0),), snapshot=None).channels[0].rate
        12000.0
    """

    rows: pl.LazyFrame
    channels: tuple[Channel, ...]
    snapshot: Reduction


@dataclass(frozen=True)
class History:
    """What is known of a fleet, as it was written down; the contract has not judged it yet.

    Attributes:
        name: of the data set and its subset, such as `cmapss FD001`.
        contract: what readings must look like.
        rows: `file` (String), `row` (Int64, line number), `asset` (String), `time` (String, Datetime[us, UTC], or Float64 in
            the life unit), then one column per channel (String or Float64), in arrival order. Or long, with one value a row:
            then `channel` (String), `value` (String or Float64) and, where codes are known, `quality` (String).
        events: `asset`, `time`, `event` (`failure`, `replacement`, `inspection`, `no_fault_found` or `commissioning`) and
            `known_at`; both times Datetime[us, UTC], or Float64 in the life unit.
        test_assets: the source's own test part; None = it has none.
        digest: SHA-256 over the raw bytes, or over the settings that generated the data.
        noun: what the assets are, in the plural.
        episodes: `asset`, `begin`, `end` (times of the first and the last anomalous reading) and `fault` (its name), as somebody
            labelled them; None = nobody did. They judge a result and are never fitted on.
        calibration: assets known to be healthy that set limits and nothing else; empty = limits come from folds.
        groups: asset -> group of like assets or experiments, for choices that are made on the other groups; may be empty.
        notes: what a user should know of the files beside their rows, such as columns that were left out; one sentence each.
        waves: the waveforms that `rows` were reduced from, by the same snapshot; None = there are none.
        faults: `asset`, `begin`, `end` (as of episodes), `fault` (its class, `healthy` where there was none) and `known_at`: what kind of
            fault which stretch had. Those of training assets are fitted on by the task `fault`, those of test assets judge it. None =
            nobody says.
        components: asset -> the physical component that it shows, where several assets are recordings of one; else each is its own.

    Example:
        >>> import polars as pl
        >>> from pmx.contract import Channel, Contract
        >>> rows = pl.LazyFrame({"file": ["a.csv"], "row": [2], "asset": ["P1"], "time": [1.0], "load": [7.5]})
        >>> events = pl.DataFrame({"asset": ["P1"], "time": [9.0], "event": ["failure"], "known_at": [9.0]})
        >>> contract = Contract((Channel("load", unit="kW"),), "h", "life")
        >>> History("pumps", contract, rows, events, test_assets=None, digest="").rows.collect().height
        1
    """

    name: str
    contract: Contract
    rows: pl.LazyFrame
    events: pl.DataFrame
    test_assets: frozenset[str] | None
    digest: str
    noun: str = "assets"
    episodes: pl.DataFrame | None = None
    calibration: frozenset[str] = frozenset()
    groups: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    waves: Waves | None = None
    faults: pl.DataFrame | None = None
    components: dict[str, str] = field(default_factory=dict)

    def shared(self, fitted: Iterable[str], tested: Iterable[str]) -> tuple[int, int]:
        """How many physical components are tested, and how many of those were fitted on too, in other readings."""
        learnt, met = ({self.components.get(a, a) for a in assets} for assets in (fitted, tested))
        return len(met), len(met & learnt)


class Source(ABC):
    """Where a history comes from. The constructor keeps its arguments; nothing is read before `load`.

    Attributes:
        terms: under which the data may be used, as stated at their home.

    Example:
        >>> class Nothing(Source):
        ...     def load(self):
        ...         raise NotImplementedError("no data")
        >>> isinstance(Nothing(), Source)
        True
    """

    terms: str = ""

    @abstractmethod
    def load(self) -> History:
        """Reads, or makes, the whole history; large tables stay lazy."""

    def published(self) -> dict[str, bool]:
        """File -> whether it is the one that was published; empty where no digest is recorded."""
        return {}

    def fetch(self) -> dict[str, str]:
        """Downloads the data into their folder; file name -> SHA-256."""
        raise UsageError("this source downloads nothing -> put its files into source.root by hand")


@dataclass(frozen=True)
class Admitted:
    """A history's rows after the contract has judged them.

    Attributes:
        readings: `file`, `row`, `asset` (String), `time` (Datetime[us, UTC], or Float64 in the life unit), then the channels
            (Float64, null = missing), in arrival order.
        quarantine: the refused rows, and values set apart from others: `file`, `row`, `asset`, `channel`, `reason`, `value` and what
            is `lost`, `row` or `value` (String).
        counts: raw rows `in`, `accepted` and `quarantined`; the first is the sum of the others; and `cells`, the values set apart from
            accepted rows.
        ignored: columns that the contract does not list, left out.

    Example:
        >>> import polars as pl
        >>> Admitted(pl.DataFrame({"asset": ["P1"]}), pl.DataFrame(), {"in": 1, "accepted": 1, "quarantined": 0, "cells": 0}).counts["in"]
        1
    """

    readings: pl.DataFrame
    quarantine: pl.DataFrame
    counts: dict[str, int]
    ignored: tuple[str, ...] = ()

    def some(self, name: str) -> Admitted:
        """The same, refused when no row of the history of this name is left, or when nothing is left of a channel that broken cells fill."""
        if not self.counts["accepted"]:
            reasons = self.quarantine.group_by("reason").len().sort("len", descending=True) if self.quarantine.height else None
            told = "" if reasons is None else "; refused as " + ", ".join(f"{r} ({n:,})" for r, n in reasons.head(3).iter_rows())
            first = self.quarantine.row(0, named=True) if self.quarantine.height else {}
            cell = f", such as {shown(str(first['value']))!r} in {shown(first['file'], 200)}, row {first['row']}" if first else ""
            raise DataError(
                f"{name}: of {self.counts['in']:,} rows none is left to work on{told}{cell} -> correct the rows, or the card or contract"
            )
        self._check_channels(name)
        return self

    def _check_channels(self, name: str) -> None:
        """A channel in another dialect is no broken sensor, though its rows go on."""
        cells = self.quarantine.filter(self.quarantine["lost"] == "value") if self.counts["cells"] else self.quarantine.clear()
        for (channel,), own in cells.group_by(["channel"], maintain_order=True):
            values = self.readings[str(channel)]
            if own.height >= LEAST_VALUES and values.null_count() == len(values):
                first = own.row(0, named=True)
                where = f"such as {shown(first['value'])!r} in {shown(first['file'], 200)}, row {first['row']} ({first['reason']})"
                how = "correct them, or the card or contract, or leave the channel out"
                raise DataError(f"{name}: all {own.height:,} values of channel {shown(str(channel))} are set apart, {where} -> {how}")
