"""Splits by asset and by time, and grouped folds inside the training part. A split by row is refused."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import polars as pl

from pmx.contract import Contract, DataError, UsageError


@dataclass(frozen=True)
class Division:
    """Which ticks train and which test.

    Attributes:
        train, test: bool [row] over the ticks, never both.
        by: `asset` (no asset on both sides) or `time` (an asset's training ticks end before its first test tick).

    Example:
        >>> Division(np.array([True, False]), np.array([False, True]), by="time").by
        'time'
    """

    train: np.ndarray
    test: np.ndarray
    by: str


def breaches(division: Division, asset: np.ndarray, tick: np.ndarray) -> list[str]:
    """Assets for which the division leaks, with the reason; empty when it is sound."""
    found = []
    if (division.train & division.test).any():
        found.append("the same tick trains and tests")
    for name in np.intersect1d(asset[division.train], asset[division.test]):
        own = asset == name
        if division.by == "asset":
            found.append(f"{name}: on both sides of a split by asset")
        elif tick[own & division.train].max() >= tick[own & division.test].min():
            found.append(f"{name}: trains on ticks that are not before its first test tick, as a split by row does")
    return found


class Split(ABC):
    """How a history is divided, and how its training part is folded for validation.

    Attributes:
        folds: number of folds.
        seed: of every random choice.
        by: `asset` (whole assets are tested) or `time` (later ticks of assets that are fitted on).
        needs_calendar: whether assets must share a clock; on a life clock the same tick is an age, not a moment.
    """

    folds: int
    seed: int
    by: str = "asset"
    needs_calendar = False

    @abstractmethod
    def divide(self, ticks: pl.DataFrame, test_assets: frozenset[str] | None) -> Division:
        """Divides ticks (`asset`, `tick`, sorted)."""

    def asked(self) -> str:
        """What the split wants of a history, for errors."""
        return ""

    def suits(self, contract: Contract) -> Contract:
        """The contract, refused when the split makes no sense on its clock."""
        if self.needs_calendar and contract.clock != "calendar":
            raise UsageError(
                "window=by_time, but the data have no calendar: the same tick is an age, not a moment -> window=by_asset or head"
            )
        return contract

    def apply(self, ticks: pl.DataFrame, test_assets: frozenset[str] | None) -> Division:
        """The division, refused when it puts neighbouring ticks of an asset on both sides."""
        division = self.divide(ticks, test_assets)
        found = breaches(division, ticks["asset"].to_numpy(), ticks["tick"].to_numpy())
        if found:
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            raise DataError(f"split refused: {found[0]}{more} -> split by asset or by time; neighbouring ticks tell each other's labels")
        if not division.train.any() or not division.test.any():
            side = "training" if not division.train.any() else "test"
            asset, longest = ticks["asset"].value_counts(sort=True).row(0) if ticks.height else ("none", 0)
            told = f"the {side} part is empty: the longest of {ticks['asset'].n_unique()} histories, {asset}, has {longest:,} ticks"
            raise DataError(f"{told}{self.asked()} -> change the window settings or take more data")
        return division

    def validation(self, ticks: pl.DataFrame, by: str, task: str = "rul") -> list[tuple[np.ndarray, np.ndarray]]:
        """Pairs of bool masks [row] over the training ticks: those to fit on, those to predict.

        Under a split by asset, groups of assets; under a split by time, blocks of each asset's training period. A block is
        predicted from the blocks before it, as later ticks of a life would tell its end; for the task `anomaly`, which has no label
        to tell, from all others.
        """
        asset = ticks["asset"].to_numpy()
        if by == "asset":
            names = np.random.default_rng(self.seed).permutation(np.unique(asset))
            if len(names) < self.folds:
                fewer = f"set window.folds to at most {len(names)}" if len(names) > 1 else "split by time (window=by_time or head)"
                raise DataError(f"{len(names)} training asset{'s' * (len(names) > 1)} for {self.folds} folds -> {fewer}, or take more data")
            groups = [np.isin(asset, names[i :: self.folds]) for i in range(self.folds)]
            return [(~group, group) for group in groups]
        block = self.blocks(ticks)
        if len(np.unique(block)) <= self.folds:
            longest = np.unique(asset, return_counts=True)[1].max(initial=0)
            raise DataError(
                f"{longest} training ticks per asset at most for {self.folds} folds -> lower window.folds, or train on more of each life"
            )
        if task == "anomaly":
            return [(block != k, block == k) for k in range(self.folds + 1)]
        return [(block < k, block == k) for k in range(1, self.folds + 1)]

    def blocks(self, ticks: pl.DataFrame) -> np.ndarray:
        """Under a split by time, which of the `folds + 1` successive blocks of its asset's training period a tick lies in, int [row]."""
        return ticks.select((pl.int_range(pl.len()) * (self.folds + 1) // pl.len()).over("asset")).to_series().to_numpy()


def _check_folds(folds: int) -> int:
    if folds < 2:
        raise UsageError(f"window.folds is {folds}: at least 2 are needed to validate on assets that were not fitted")
    return folds


class Given(Split):
    """The source's own test part, such as the test engines of C-MAPSS.

    Example:
        >>> Given(folds=5).folds
        5
    """

    def __init__(self, folds: int = 5, seed: int = 0) -> None:
        self.folds, self.seed = _check_folds(folds), seed

    def divide(self, ticks: pl.DataFrame, test_assets: frozenset[str] | None) -> Division:
        if not test_assets:
            raise UsageError("window=given, but the source has no test part of its own -> window=by_asset")
        test = np.isin(ticks["asset"].to_numpy(), sorted(test_assets))
        return Division(~test, test, by="asset")


class ByAsset(Split):
    """A random share of whole assets is kept for the test.

    Example:
        >>> ticks = pl.DataFrame({"asset": ["A", "B", "C"], "tick": [1, 1, 1]})
        >>> int(ByAsset(test_share=0.34).divide(ticks, None).test.sum())
        1
    """

    def __init__(self, test_share: float = 1 / 3, folds: int = 4, seed: int = 0) -> None:
        if not 0 < test_share < 1:
            raise UsageError(f"window.test_share is {test_share}: it must lie between 0 and 1")
        self.test_share, self.folds, self.seed = test_share, _check_folds(folds), seed

    def divide(self, ticks: pl.DataFrame, test_assets: frozenset[str] | None) -> Division:
        asset = ticks["asset"].to_numpy()
        names = np.random.default_rng(self.seed).permutation(np.unique(asset))
        test = np.isin(asset, names[: round(self.test_share * len(names))])
        return Division(~test, test, by="asset")


class ByTime(Split):
    """One moment for the whole fleet: ticks up to it train, later ones test. The data must have a calendar.

    Args:
        share: the moment, as a share of the span from the fleet's first tick to its last.

    Example:
        >>> ticks = pl.DataFrame({"asset": ["A"] * 10, "tick": range(10)})
        >>> int(ByTime(share=0.7).divide(ticks, None).train.sum())
        7
    """

    by = "time"
    needs_calendar = True

    def __init__(self, share: float = 0.7, folds: int = 4, seed: int = 0) -> None:
        if not 0 < share < 1:
            raise UsageError(f"window.share is {share}: it must lie between 0 and 1")
        self.share, self.folds, self.seed = share, _check_folds(folds), seed

    def divide(self, ticks: pl.DataFrame, test_assets: frozenset[str] | None) -> Division:
        tick = ticks["tick"].to_numpy()
        train = tick <= tick.min() + self.share * (tick.max() - tick.min())
        return Division(train, ~train, by="time")

    def blocks(self, ticks: pl.DataFrame) -> np.ndarray:
        """One moment for the whole fleet here too: no asset's later ticks help to predict another's earlier ones."""
        tick = ticks["tick"].to_numpy()
        return np.searchsorted(np.quantile(tick, np.arange(1, self.folds + 1) / (self.folds + 1)), tick, side="left")


class Head(Split):
    """The first `rows` readings of each asset train, the rest test; a tick without any value is no reading.

    Example:
        >>> ticks = pl.DataFrame({"asset": ["A"] * 10, "tick": range(10)})
        >>> int(Head(rows=4).divide(ticks, None).train.sum())
        4
    """

    by = "time"

    def __init__(self, rows: int = 400, folds: int = 4, seed: int = 0) -> None:
        if rows < 1:
            raise UsageError(f"window.rows is {rows}: at least one tick of each asset must train")
        self.rows, self.folds, self.seed = rows, _check_folds(folds), seed

    def asked(self) -> str:
        return f", and window.rows={self.rows} of them train"

    def divide(self, ticks: pl.DataFrame, test_assets: frozenset[str] | None) -> Division:
        channels = [c for c in ticks.columns if c not in ("asset", "tick", "life")]
        reading = pl.any_horizontal(pl.col(channels).is_not_null()) if channels else pl.col("tick").is_not_null()
        before = ticks.select((reading.cum_sum() - reading.cast(pl.UInt32)).over("asset")).to_series().to_numpy()
        return Division(before < self.rows, before >= self.rows, by="time")
