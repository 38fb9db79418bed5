"""Histories to compute features of, and a loop of our own that carries them through a step graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import polars as pl
from spox import Var

from pmx.contract import Channel, Contract
from pmx.feature.features import FeatureSet, Now
from pmx.feature.graph import step_graph
from pmx.feature.kernel import Age, Deviation, Drift, Ewma, Kernel, Lags, LongDifference, Slope, TrailingMean
from pmx.feature.memory import ExpandingMaximum, ExpandingMean, ExpandingMinimum, RegimeShare, RegimeTime, Usage
from pmx.feature.regime import RegimeScore
from pmx.feature.statistic import (
    Correlation,
    Crest,
    Kurtosis,
    Last,
    Maximum,
    MeanAbsoluteDifference,
    Median,
    Minimum,
    PeakToPeak,
    Quantile,
    Rms,
    Skew,
    Trend,
    ZeroCrossings,
)
from pmx.source.admit import admit
from pmx.source.cmapss import Cmapss
from pmx.source.ticks import to_ticks

NOTHING = pl.DataFrame(schema={"asset": pl.String, "tick": pl.Int64})  # to fit on where there is nothing to learn
PLAIN = Contract((Channel("a", unit="-"), Channel("b", unit="-")), "h", "life")

# Every kernel, with windows short enough that a dozen ticks exercise all of them.
SMALL: list[Kernel] = [
    Age(), TrailingMean(1), TrailingMean(7), Deviation(1), Deviation(2), Deviation(9), Slope(1), Slope(5),
    LongDifference(3, lag=9), LongDifference(4, lag=2), Drift(first=3, window=4), Drift(first=10, window=1), Ewma(0.5), Ewma(6), Lags(1), Lags(5),
    Minimum(1), Minimum(7), Maximum(8), PeakToPeak(6), Last(1), Last(4), Median(1), Median(8), Quantile(7, 0.1), Quantile(10, 0.75),
    Quantile(9, 1), ZeroCrossings(2), ZeroCrossings(9), Rms(1), Rms(7), Crest(8), Skew(2), Skew(9), Kurtosis(3), Kurtosis(10), Trend(1), Trend(9),
    MeanAbsoluteDifference(2), MeanAbsoluteDifference(8), Correlation(2), Correlation(9),
    ExpandingMinimum(), ExpandingMaximum(), ExpandingMean(), Usage("a"), RegimeTime(2), RegimeShare(1),
]  # fmt: skip

# Those whose every step is exact or rounds as the definition does: the oracle's numbers to the last bit.
EXACT = (Age, TrailingMean, Deviation, Slope, LongDifference, Drift, Ewma, Lags, Minimum, Maximum, PeakToPeak, Last, Median, Quantile, ZeroCrossings,
         ExpandingMinimum, ExpandingMaximum, ExpandingMean, Usage, RegimeTime, RegimeShare)  # fmt: skip

# The recipe of conf/feature/history.yaml.
RECIPE: list[Kernel] = [
    Age(), TrailingMean(10), TrailingMean(30), Deviation(30), Slope(15), LongDifference(10, lag=50), Drift(first=10, window=10),
    Ewma(5), Ewma(15), Ewma(40),
]  # fmt: skip


class Plain(RegimeScore):
    """Scores that are the readings themselves, so that a test can plant them."""

    def fit(self, ticks: pl.DataFrame, contract: Contract, each: bool = False) -> RegimeScore:
        fitted = RegimeScore(clip=20.0)
        fitted.settings_, fitted.channels_, fitted.range_ = [], contract.names, np.ones(0)
        fitted.centre_, fitted.mean_, fitted.scale_ = np.zeros((1, 0)), np.zeros((1, 2)), np.ones((1, 2))
        fitted.own_ = {}
        return fitted


def plain(kernels: list[Kernel]) -> FeatureSet:
    """Kernels over two planted channels, `a` and `b`."""
    return FeatureSet(Plain(), kernels).fit(NOTHING, PLAIN)


def frame(histories: dict[str, np.ndarray], contract: Contract = PLAIN) -> pl.DataFrame:
    """Ticks from float [tick, channel] per asset; NaN becomes null, as alignment gives it."""
    parts = []
    for name, values in histories.items():
        columns = {c: pl.Series(values[:, i], dtype=pl.Float32).fill_nan(None) for i, c in enumerate(contract.names)}
        parts.append(pl.DataFrame({"asset": [name] * len(values), "tick": np.arange(1, len(values) + 1), **columns}))
    return pl.concat(parts)


def cmapss(root: Path, subset: str) -> tuple[pl.DataFrame, Contract]:
    """All ticks of a subset, training and test engines."""
    history = Cmapss(str(root), subset).load()
    return to_ticks(admit(history.rows, history.contract).readings, history.contract), history.contract


def values_of(ticks: pl.DataFrame, contract: Contract) -> list[np.ndarray]:
    """Per asset float32 [tick, channel], NaN where missing."""
    return [p.select(contract.names).to_numpy().astype(np.float32) for p in ticks.partition_by("asset", maintain_order=True)]


def says_nothing(now: Now, memory: Var) -> tuple[dict[str, Var], Var]:
    """A head without outputs that keeps nothing."""
    return {}, memory


class Graph:
    """The step graph of a fitted feature set, features shown."""

    def __init__(self, features: FeatureSet, hop: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.features, self.hop = features, hop
        graph = step_graph(features, hop, says_nothing, show_features=True)
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.outputs = [o.name for o in self.session.get_outputs()]

    def run(self, window: np.ndarray, fresh: np.ndarray, memory: np.ndarray) -> dict[str, np.ndarray]:
        fed = {"window": window, "fresh": np.asarray(fresh, np.int64), "memory": memory}
        return dict(zip(self.outputs, self.session.run(None, fed), strict=True))


@dataclass
class Walked:
    """What a walk gave: per asset and scored tick, the outputs at that tick."""

    ticks: list[list[int]]
    features: list[np.ndarray]
    memory: list[np.ndarray]

    @property
    def flat(self) -> np.ndarray:
        return np.concatenate(self.features)


def walk(
    graph: Graph,
    histories: list[np.ndarray],
    fresh: Callable[[int], int] = lambda step: 1,
    memory0: float | np.ndarray = 0.0,
    batch: Callable[[list[int]], list[list[int]]] = lambda on: [on],
) -> Walked:
    """Carries assets through the graph: at step k each takes `fresh(k)` new ticks, until its history has ended.

    Args:
        histories: per asset float32 [tick, channel].
        memory0: before the first tick, one number for all or float64 [asset, slots].
        batch: how the assets of one step are divided into calls.
    """
    width = graph.features.rows
    window = [np.full((width, h.shape[1]), np.nan, np.float32) for h in histories]
    memory = list(np.broadcast_to(memory0, (len(histories), graph.features.slots)).astype(np.float64))
    at = [0] * len(histories)
    walked = Walked([[] for _ in histories], [np.empty((0, len(graph.features.names_)), np.float32) for _ in histories], memory)
    found: list[list[np.ndarray]] = [[] for _ in histories]
    for step in range(max(map(len, histories)) + 1):
        new = fresh(step)
        on = [i for i, h in enumerate(histories) if at[i] + new <= len(h)]
        for i in on:
            window[i] = np.concatenate([window[i], histories[i][at[i] : at[i] + new]])[-width:]
            at[i] += new
        for call in batch(on) if on else []:
            out = graph.run(np.stack([window[i] for i in call]), np.full(len(call), new), np.stack([memory[i] for i in call]))
            for j, i in enumerate(call):
                memory[i] = out["memory_next"][j]
                walked.ticks[i].append(at[i])
                found[i].append(out["features"][j])
    walked.features = [np.stack(f) if f else walked.features[i] for i, f in enumerate(found)]
    return walked


def same(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """bool: the same number, or missing on both sides."""
    assert a.shape == b.shape and a.dtype == b.dtype
    return (a == b) | (np.isnan(a) & np.isnan(b))


def share_equal(a: np.ndarray, b: np.ndarray) -> float:
    return float(same(a, b).mean())
