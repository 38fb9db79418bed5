"""What a run knew, arranged for its reader: signed scores of every asset beside the verdicts of the replay, and what happened before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from pmx.alarm.state import Policy
from pmx.contract import Contract
from pmx.edge.replay import Replayed
from pmx.evaluate.protocol import Protocol, Truth
from pmx.feature.features import FeatureSet
from pmx.review.similar import Episode, signature
from pmx.review.words import moment, span

MOMENTS = 5  # between the beginning and the end of an episode, at which its signature is taken


@dataclass(frozen=True)
class Record:
    """The test part as it was watched.

    Attributes:
        played, truth, protocol: of it.
        policy: what raises an alarm.
        channels: those that have scores.
        scores: asset -> first tick and scores float64 [time, channel], signed, in standard deviations from normal; NaN where missing, or
            where the sensor was found faulty.
        regimes: how many operating regimes normal is known by.
        past: what had happened before the test part, or in it.
    """

    played: Replayed
    truth: Truth
    protocol: Protocol
    policy: Policy
    channels: list[str]
    scores: dict[str, tuple[int, np.ndarray]]
    regimes: int
    past: tuple[Episode, ...] = ()

    @property
    def contract(self) -> Contract:
        return self.played.contract

    @property
    def horizon(self) -> float:
        """In ticks."""
        return self.protocol.horizon / self.contract.tick

    def verdict(self, at: int) -> np.ndarray:
        """What the alarm watches of an asset, by its position, float64 [time]."""
        return self.played.outputs[self.policy.output][at].astype(np.float64)

    def interval(self, at: int) -> np.ndarray:
        """Lower and upper end of a remaining life, float64 [time, 2]; empty where none is stated."""
        given = self.played.outputs.get("interval") if self.policy.output == "rul" else None
        return np.zeros((0, 2)) if given is None or np.isnan(given[at]).all() else given[at].astype(np.float64)

    def tested(self, at: int) -> np.ndarray:
        """Scores of the ticks that were played, float64 [time, channel]."""
        tick, asset = self.played.tick[at], self.played.assets[at]
        first, z = self.scores.get(asset, (0, np.zeros((0, len(self.channels)))))
        row, found = tick - first, np.full((len(tick), len(self.channels)), np.nan)
        there = (row >= 0) & (row < len(z))
        found[there] = z[row[there]]
        if "quality" in self.played.outputs and len(tick):
            columns = [self.contract.names.index(c) for c in self.channels]
            found[self.played.outputs["quality"][at][:, columns] > 0] = np.nan
        return found


def scores_of(features: FeatureSet, ticks: pl.DataFrame) -> dict[str, tuple[int, np.ndarray]]:
    """Asset -> its first tick and scores float64 [time, channel] of its ticks, which are complete and in order."""
    table = features.normalise_.scores(ticks)
    z = table.select(pl.col(features.channels_).fill_null(np.nan)).to_numpy().reshape(len(ticks), len(features.channels_))
    asset, tick = ticks["asset"].to_numpy(), ticks["tick"].to_numpy()
    begins = np.flatnonzero(np.r_[True, asset[1:] != asset[:-1]]) if len(asset) else np.zeros(0, np.int64)
    return {str(asset[b]): (int(tick[b]), z[b:e]) for b, e in zip(begins, [*begins[1:], len(asset)], strict=True)}


def past_of(
    scores: dict[str, tuple[int, np.ndarray]],
    contract: Contract,
    horizon: float,
    before: Truth,
    tested: Truth,
    modes: dict[tuple[str, float], str],
) -> tuple[Episode, ...]:
    """Failures of the training part, and, where all assets share a calendar, failures and labelled episodes of the test part.

    Args:
        horizon: in ticks: a failure announces itself no earlier.
        before: the truth of the training part.
        modes: (asset, tick) -> what was found at a failure.
    """
    found: list[Episode] = []
    calendar = contract.clock == "calendar"
    for truth, known in ((before, True), (tested, False)):
        if not known and not calendar:
            continue  # on a life clock nobody can say which came first
        for i, asset in enumerate(truth.assets):
            lived = [-np.inf, *np.sort(np.r_[truth.failed[i], truth.replaced[i]])]
            spans = [(max(f - horizon, max((b for b in lived if b < f), default=-np.inf)), f, "") for f in truth.failed[i]]
            if truth.episodes is not None:
                spans += [(b, e, name) for (b, e), name in zip(truth.episodes[i], truth.faults[i], strict=True)]
            for begin, end, name in spans:
                mode = modes.get((asset, end), "")
                what = name or ("failure" + (f" ({mode})" if mode else ""))
                life = "" if name else f"after {span(contract, float(truth.age(np.array([end]), i)[0]))}"
                ended = -np.inf if known else end
                taken = _signatures(scores.get(asset), begin, end)
                if len(taken):
                    found.append(Episode(asset, what, moment(contract, end), life, ended, taken))
    return tuple(found)


def _signatures(of: tuple[int, np.ndarray] | None, begin: float, end: float) -> np.ndarray:
    """Signatures at a few moments of a span of ticks, float64 [moment, channel]; none where it was not watched."""
    if of is None or not len(of[1]):
        return np.zeros((0, 0))
    first, z = of
    low, high = max(begin - first, 0.0), min(end - first, len(z) - 1.0)
    if high < low:
        return np.zeros((0, z.shape[1]))
    rows = np.unique(np.linspace(low, high, MOMENTS + 1)[1:].round().astype(np.int64))
    return np.stack([signature(z, int(r)) for r in rows])
