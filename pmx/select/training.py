"""The training part of a history with its labels, and what really happened to its assets."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from pmx.align import tick_of
from pmx.contract import BLANKS, Contract, DataError, refusal_text, shown
from pmx.evaluate.protocol import Protocol, Stretch, Truth, class_of
from pmx.source import History
from pmx.source.episodes import HEALTHY
from pmx.window.label import ENDS, Labels, ends_of, label
from pmx.window.split import Division, Split


@dataclass(frozen=True)
class Training:
    """The training part of a history, ready to fit on.

    Attributes:
        ticks: `asset`, `tick` and the channels, sorted.
        labels: of these ticks, as they were known when the training part ended.
        truth: of these assets, for alarms on validation.
        events: what was known when the training part ended.
        contract: of the readings.
        by: `asset` or `time`, how the test part was split off.
        split: folds it for validation.
        fits: bool [row], the ticks that are fitted on; the others, of calibration runs, set limits alone.
        each: whether constants are fitted for each asset apart.
        faults: what was known of the training assets' faults, as in `History.faults`; None = nothing.
        classes: of these faults, `healthy` first; empty = nothing is known.
    """

    ticks: pl.DataFrame
    labels: Labels
    truth: Truth
    events: pl.DataFrame
    contract: Contract
    by: str
    split: Split
    fits: np.ndarray
    each: bool = False
    faults: pl.DataFrame | None = None
    classes: tuple[str, ...] = ()

    @property
    def asset(self) -> np.ndarray:
        return self.ticks["asset"].to_numpy()

    def usable(self, task: str, protocol: Protocol, censored: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Which ticks a task fits on, bool [row], and their targets, float64 [row]: capped RUL where known; whether a failure comes within
        the horizon, where known; healthy ticks for an anomaly; the class of fault where known, float64 [row, class].

        Args:
            censored: whether the model learns from lives that were cut short, too: see `Model.censored`.
        """
        usable, target = _usable(self.labels, task, protocol, censored)
        usable = usable & self.fits
        if not usable.any():
            raise DataError(f"no training tick has a label for the task {task} -> check the events, or choose a model of another task")
        if task == "failure" and not (target[usable] > 0).any():
            within = f"within {protocol.horizon:g} {self.contract.life_unit} of any training tick"
            raise DataError(
                f"no failure comes {within} -> a longer evaluate.horizon, a history with failures, or a model of the task anomaly"
            )
        if task == "fault" and (target[usable].any(0).sum() < 2 or not target[usable, 0].any()):
            known = ", ".join(c for c, there in zip(self.classes, target[usable].any(0), strict=True) if there)
            what = f"the training part holds {known} alone: nothing tells one class from another"
            raise DataError(f"{what} -> train on healthy assets and on some with a fault, or a model of the task anomaly")
        return usable, target

    def fold(
        self, fit: np.ndarray, validate: np.ndarray, task: str, protocol: Protocol, censored: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same for one fold, given its bool masks [row]: under a split by time, with the labels that were known when its fit part ended."""
        if self.by == "asset" or not self.fits.all():
            usable, target = self.usable(task, protocol, censored)
        else:
            own, tested = self.ticks.filter(pl.Series(fit)), self.ticks.filter(pl.Series(validate))["asset"]
            known = label(own, _known_then(self.events, own, tested, self.contract), self.contract)
            if self.faults is not None:
                known = with_faults(known, own, _known_then(self.faults, own, tested, self.contract), self.classes, self.contract)
            usable = np.zeros(len(fit), bool)
            usable[fit], told = _usable(known, task, protocol, censored)
            target = np.full((len(fit), *told.shape[1:]), np.nan)
            target[fit] = told
        return fit & usable, target

    def folds(self, task: str) -> list[tuple[np.ndarray, np.ndarray]]:
        """Pairs of bool masks [row], those to fit on and those to predict: the split's, or the calibration runs where there are any."""
        return self.split.validation(self.ticks, self.by, task) if self.fits.all() else [(self.fits, ~self.fits)]

    def healthy(self, protocol: Protocol) -> np.ndarray:
        """bool [row]: ticks that count as healthy."""
        return self.labels.faultless if self.labels.faulty.any() else _usable(self.labels, "anomaly", protocol)[0]

    @staticmethod
    def of(ticks: pl.DataFrame, division: Division, history: History, split: Split, each: bool = False) -> Training:
        """The training part of a history's ticks; under a split by time, orders written after it ended are not known yet."""
        _refuse_strangers(history.events, history)
        own, events, contract = ticks.filter(pl.Series(division.train)), history.events, history.contract
        faults = None if history.faults is None else history.faults.filter(pl.col("asset").is_in(own["asset"].unique().to_list()))
        if division.by == "time":
            tested = ticks.filter(pl.Series(division.test))["asset"]
            events = _known_then(events, own, tested, contract)
            faults = None if faults is None else _known_then(faults, own, tested, contract)
        labels, classes = label(own, events, contract), () if faults is None else classes_of(faults)
        if faults is not None:
            labels = with_faults(labels, own, faults, classes, contract)
        # what is known to be faulty in the training part is an episode of validation
        marked = faults.filter(pl.col("fault") != HEALTHY) if faults is not None and labels.faulty.any() else None
        happened = truth(own, events, contract, np.ones(len(own), bool), marked)
        fits = ~own["asset"].is_in(sorted(history.calibration)).to_numpy()
        return Training(own, labels, happened, events, contract, division.by, split, fits, each, faults, classes)


def _usable(labels: Labels, task: str, protocol: Protocol, censored: bool = False) -> tuple[np.ndarray, np.ndarray]:
    if task == "failure":
        target = labels.fails_within(protocol.horizon)
        return ~np.isnan(target), target
    if task == "fault":
        target = np.full((len(labels.rul), 1), np.nan) if labels.fault is None else labels.fault
        return ~np.isnan(target[:, 0]), target
    if censored:
        return labels.bounds(protocol.cap)
    target = labels.capped(protocol.cap)
    if task == "rul":
        return ~np.isnan(target), target
    # where no failure is on record at all, none is known to come: every tick counts as healthy, unless it is known to have a fault
    well = labels.at_least >= 0 if np.isnan(labels.rul).all() else labels.healthy(protocol.horizon)
    return well & ~labels.faulty, target


def classes_of(faults: pl.DataFrame) -> tuple[str, ...]:
    """The classes of faults as in `History.faults`: `healthy` first, the others by name."""
    return (HEALTHY, *sorted(set(faults["fault"].to_list()) - {HEALTHY}))


def with_faults(labels: Labels, ticks: pl.DataFrame, faults: pl.DataFrame, classes: tuple[str, ...], contract: Contract) -> Labels:
    """The labels of these ticks with the class of fault of each, as far as it is known."""
    asset, tick = ticks["asset"].to_numpy(), ticks["tick"].to_numpy()
    at = np.full(len(asset), -1)
    for name, own in _stretches(faults, contract).items():
        rows = asset == name
        at[rows] = class_of(tick[rows], own, classes)
    return replace(labels, fault=np.where(at[:, None] < 0, np.nan, np.eye(len(classes))[at]))


def _stretches(faults: pl.DataFrame, contract: Contract) -> dict[str, list[Stretch]]:
    """Asset -> first and last tick of its stretches and their class, by their beginning."""
    found: dict[str, list[Stretch]] = {}
    plain = faults.with_columns(pl.col("begin", "end").to_physical()).sort("asset", "begin", "end", "fault")
    for asset, begin, end, fault in plain.select("asset", "begin", "end", "fault").iter_rows():
        found.setdefault(asset, []).append((float(tick_of(contract, begin)), float(tick_of(contract, end)), fault))
    return found


def _refuse_strangers(events: pl.DataFrame, history: History) -> None:
    """An order for an asset without a single row is a mistyped name: left out, it would turn a failed asset into a healthy one."""
    name = pl.col("asset").str.strip_chars(BLANKS)
    known = history.rows.select(name.unique()).collect().to_series()
    lost = events.filter(~pl.col("asset").is_in(known.implode())).group_by("asset").len().sort("asset")
    if len(lost):
        lines = [f"  asset {shown(a)} ({n} orders): no such asset in the readings" for a, n in lost.head(8).iter_rows()]
        lines += [f"  ... and {len(lost) - 8} more assets"] if len(lost) > 8 else []
        raise DataError(refusal_text(f"the events of {history.name}", len(lost), lines) + "\n  -> correct the name, or add its readings")


def _known_then(events: pl.DataFrame, own: pl.DataFrame, tested: pl.Series, contract: Contract) -> pl.DataFrame:
    """The events that were known when training ended: the fleet's last training tick, or, for an asset that is tested later,
    the last training tick of its own. Where each asset's head trains, another's may lie years after the end of this one.
    """
    last = own.group_by("asset").agg(pl.col("tick").max().cast(pl.Float64).alias("until"))
    fleet = float(np.max(own["tick"].to_numpy()))
    last = last.with_columns(pl.when(pl.col("asset").is_in(tested.unique().to_list())).then("until").otherwise(fleet).alias("until"))
    known = pl.Series("known", contract.ticks_of(events["known_at"].to_physical().to_numpy()))
    dated = events.with_columns(known).join(last, on="asset", how="left", maintain_order="left")
    return dated.filter(pl.col("known") <= pl.col("until").fill_null(fleet)).drop("known", "until")


def truth(
    ticks: pl.DataFrame,
    events: pl.DataFrame,
    contract: Contract,
    counts: np.ndarray,
    episodes: pl.DataFrame | None = None,
    faults: pl.DataFrame | None = None,
) -> Truth:
    """What happened to the assets of these ticks.

    Args:
        episodes: as in `History.episodes`; left out for the training part, which must not see labels.
        counts: bool [row], the ticks that an evaluation looks at; assets without any are left out.
        faults: as in `History.faults`.
    """
    looked = (
        ticks.with_columns(counts=pl.Series(counts))
        .group_by("asset")
        .agg(
            born=pl.col("tick").min().cast(pl.Float64),
            seen=pl.col("tick").max().cast(pl.Float64),
            begins=pl.col("tick").filter(pl.col("counts")).min().cast(pl.Float64),
        )
    )
    table = looked.filter(pl.col("begins").is_not_null()).sort("asset")
    ends: dict[str, dict[str, list[float]]] = {kind: {} for kind in ENDS}
    for asset, end, event in ends_of(events, contract).iter_rows():
        ends[event].setdefault(asset, []).append(end)
    assets = table["asset"].to_list()
    seen, begins, born = (table[n].to_numpy() for n in ("seen", "begins", "born"))
    # what ended before an asset's first reading ended no life of the record
    failed, replaced = (
        [np.array([e for e in ends[kind].get(a, []) if e >= b], np.float64) for a, b in zip(assets, born, strict=True)] for kind in ENDS
    )
    own = {} if faults is None else _stretches(faults, contract)
    kinds = [] if faults is None else [own.get(a, []) for a in assets]
    if episodes is None:
        return Truth(assets, failed, replaced, seen, begins, born, kinds=kinds)
    marked = _stretches(episodes, contract)
    labelled = [np.array([s[:2] for s in marked.get(a, [])], np.float64).reshape(-1, 2) for a in assets]
    return Truth(assets, failed, replaced, seen, begins, born, labelled, [[s[2] for s in marked.get(a, [])] for a in assets], kinds)
