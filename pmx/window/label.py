"""Labels per tick from events, as they were known: remaining useful life, failure within a horizon, healthy. Censoring is kept.

A label belongs to its tick's time, which is the time of the newest reading a model may see there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from pmx.align import next_life
from pmx.contract import Contract

ENDS = ("failure", "replacement")  # what ends a life; an inspection does not


@dataclass(frozen=True)
class Labels:
    """What is known of the life left at each tick, in the life unit.

    Attributes:
        rul: float64 [row], NaN where no failure is known to come.
        at_least: float64 [row], the life left that is certain: `rul` where known, else until the asset was last seen alive.
        since: float64 [row], time since the asset's last failure, infinite where it had none; None = none had one.
        fault: float64 [row, class], 1 at the class of fault that the tick is known to have, of which the first is healthy; NaN where nobody
            knows; None = nothing is known of any.

    Example:
        >>> labels = Labels(np.array([200.0, np.nan, np.nan]), np.array([200.0, 130.0, 5.0]))
        >>> labels.capped(125)
        array([125., 125.,  nan])
        >>> labels.fails_within(30)
        array([ 0.,  0., nan])
    """

    rul: np.ndarray
    at_least: np.ndarray
    since: np.ndarray | None = None
    fault: np.ndarray | None = None

    def capped(self, cap: float) -> np.ndarray:
        """RUL, at most `cap`. A censored tick whose certain life reaches the cap is known after all; the others stay NaN."""
        known = np.where(np.isnan(self.rul) & (self.at_least >= cap), cap, self.rul)
        return np.minimum(known, cap)

    def bounds(self, cap: float) -> tuple[np.ndarray, np.ndarray]:
        """Ticks that say something of the life left, bool [row], and what they say, float64 [row, 2]: how much is certain, at most `cap`,
        and the most it can be, infinite where the life was seen no longer or goes on behind the cap.
        """
        ends = self.rul < cap  # NaN is no end
        known = np.column_stack([np.minimum(self.at_least, cap), np.where(ends, self.rul, np.inf)])
        return ends | (self.at_least > 0), known

    def fails_within(self, horizon: float) -> np.ndarray:
        """1.0 where a failure comes within `horizon`, 0.0 where none does, NaN where censoring hides it."""
        outcome = np.where(self.rul <= horizon, 1.0, 0.0)
        hidden = np.isnan(self.rul) & ~(self.at_least > horizon)  # ticks after the end of a life are hidden too
        return np.where(hidden, np.nan, outcome)

    def healthy(self, horizon: float) -> np.ndarray:
        """bool [row]: certainly more than `horizon` of life left, and no repair going on: no failure within `horizon` before."""
        repaired = np.ones(len(self.at_least), bool) if self.since is None else self.since > horizon
        return (self.at_least > horizon) & repaired

    @property
    def faulty(self) -> np.ndarray:
        """bool [row]: known to have a fault of some class."""
        return np.zeros(len(self.at_least), bool) if self.fault is None else np.nan_to_num(self.fault[:, 1:]).any(1)

    @property
    def faultless(self) -> np.ndarray:
        """bool [row]: known to have none."""
        return np.zeros(len(self.at_least), bool) if self.fault is None else self.fault[:, 0] == 1


def label(ticks: pl.DataFrame, events: pl.DataFrame, contract: Contract) -> Labels:
    """Labels of ticks (`asset`, `tick`, sorted): the life left until the asset's next failure or replacement.

    An asset that goes on after a repair begins another life; at the end of the record it was alive.

    Args:
        events: `asset`, `time`, `event`. What was not known yet is left out before.
    """
    ends = ends_of(events, contract).select("asset", "end", "event").sort("asset", "end")
    table = ticks.select("asset", at=pl.col("tick").cast(pl.Float64)).with_row_index("row").sort("asset", "at")
    table = table.with_columns(seen=pl.col("at").max().over("asset"))
    table = table.join_asof(ends, left_on="at", right_on="end", by="asset", strategy="forward", check_sortedness=False).sort("row")
    tick, end = table["at"].to_numpy(), table["end"].fill_null(np.nan).to_numpy()
    failed = (table["event"] == "failure").fill_null(False).to_numpy()
    last = np.where(np.isnan(end), table["seen"].to_numpy(), end)
    rul = np.where(failed, end - tick, np.nan)
    failures = ends.filter(pl.col("event") == "failure").select("asset", pl.col("end").alias("failed"))
    table = table.select("row", "asset", "at").sort("asset", "at")
    table = table.join_asof(failures, left_on="at", right_on="failed", by="asset", strategy="backward", check_sortedness=False).sort("row")
    since = tick - table["failed"].fill_null(-np.inf).to_numpy()
    return Labels(rul * contract.tick, (last - tick) * contract.tick, since * contract.tick)


def ends_of(events: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Failures and replacements as `asset`, `end` (float64, in ticks) and `event`, sorted; of several at one moment the failure."""
    ends = events.filter(pl.col("event").is_in(ENDS))
    ends = ends.with_columns(end=pl.Series(contract.ticks_of(ends["time"].to_physical().to_numpy()), dtype=pl.Float64))
    # a part that failed is replaced at the same moment: the failure is what ended its life
    return ends.sort("asset", "end", "event").unique(["asset", "end"], keep="first", maintain_order=True).select("asset", "end", "event")


def lives_anew(events: pl.DataFrame, contract: Contract) -> dict[str, np.ndarray]:
    """Asset -> the ticks at which it begins another life, int64 [life]: behind a failure or replacement, once that was known.

    From there on everything remembered of the asset starts anew, on a device as in training.
    """
    ends = events.filter(pl.col("event").is_in(ENDS)).partition_by("asset", as_dict=True)
    return {str(asset): next_life(contract, own["known_at"].to_physical().to_numpy()) for (asset,), own in ends.items()}


def with_lives(ticks: pl.DataFrame, events: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Ticks (`asset`, `tick`, sorted) with the column `life` (Int64), which counts each asset's lives."""
    anew = [(a, int(t)) for a, begins in lives_anew(events, contract).items() for t in begins]
    begins = pl.DataFrame(anew, schema={"asset": pl.String, "tick": pl.Int64}, orient="row").sort("asset", "tick")
    begins = begins.with_columns(life=pl.int_range(1, pl.len() + 1).over("asset"))
    joined = ticks.join_asof(begins, on="tick", by="asset", strategy="backward", check_sortedness=False)
    return joined.with_columns(pl.col("life").fill_null(0))


def lives_in(ticks: pl.DataFrame) -> list[str]:
    """The columns that tell lives apart in ticks: what is remembered of an asset never reaches from one to the next."""
    return ["asset", "life"] if "life" in ticks.columns else ["asset"]


def life_of(ticks: pl.DataFrame) -> np.ndarray:
    """A number for each life, int64 [row]."""
    return ticks.select(pl.struct(lives_in(ticks)).rank("dense").cast(pl.Int64)).to_series().to_numpy()


def rows_of_lives(ticks: pl.DataFrame) -> list[np.ndarray]:
    """Positions of each life's ticks, in their order, int64 [tick] each."""
    life = life_of(ticks)
    order = np.argsort(life, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(life[order])) + 1) if len(life) else []


CUT_MOST = 150  # ticks of life left at a cut, or the cap where that is more


def like_a_test(asset: np.ndarray, rul: np.ndarray, cap: float, least: float = 5, seen: int = 20) -> np.ndarray:
    """Where a test set might cut the life of an asset, bool [row].

    Args:
        rul: life left, float64 [row] in ticks; at most 150 is left at a cut, or the cap where that is more.
        cap: of the life left, in ticks.
        least: life left at a cut at least, in ticks.
        seen: ticks of the asset before a cut at least.
    """
    begins = np.flatnonzero(np.r_[True, asset[1:] != asset[:-1]]) if len(asset) else np.empty(0, np.int64)
    rank = np.arange(len(asset)) - np.repeat(begins, np.diff(np.append(begins, len(asset))))
    return (rank >= seen) & (rul >= least) & (rul <= max(CUT_MOST, cap))


def pseudo_test(asset: np.ndarray, rul: np.ndarray, cap: float, seed: int, per_asset: int = 12) -> np.ndarray:
    """Row positions at which validation looks: random cuts in each asset's life, as a test set cuts its assets.

    Args:
        asset: [row], each asset's ticks together and in order.
        rul: float64 [row] in ticks; NaN rows are never cut at.
        cap: of the life left, in ticks: as in `like_a_test`.
        per_asset: cuts of each asset (fewer where its life is short).
    """
    rng, fair = np.random.default_rng(seed), like_a_test(asset, rul, cap)
    cuts = []
    for name in dict.fromkeys(asset):
        open_ = np.flatnonzero((asset == name) & fair)
        cuts.append(rng.choice(open_, min(per_asset, len(open_)), replace=False))
    return np.sort(np.concatenate(cuts)) if cuts else np.empty(0, np.int64)


def enter_mid_life(ticks: pl.DataFrame, seed: int, copies: int = 5, keep: int = 20) -> tuple[pl.DataFrame, np.ndarray]:
    """Histories that begin somewhere in the middle of a life, so that nothing tells a model how old an asset is.

    Each asset is entered once at random in each of `copies` equal parts of its life: any moment is as likely as any other, and none
    of an asset's entries lie in one corner by chance.

    Returns:
        The ticks of `copies` entries per asset, each under a name of its own with at least `keep` ticks left, and the row of
        `ticks` that each of them came from, int64 [row].
    """
    rng = np.random.default_rng(seed)
    asset = ticks["asset"].to_numpy()
    names, rows = [], []
    for name in dict.fromkeys(asset):
        own = np.flatnonzero(asset == name)
        for copy in range(copies):
            begin = int((copy + rng.random()) / copies * max(1, len(own) - keep + 1))
            rows.append(own[begin:])
            names += [f"{name} entry {copy + 1}"] * (len(own) - begin)
    at = np.concatenate(rows)
    return ticks[at].with_columns(pl.Series("asset", names)), at
