"""Features of assets whose ticks come in blocks: the windows' older rows and the kernels' memory go from one block to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch

import numpy as np
import polars as pl
import spox.opset.ai.onnx.v20 as op
from scipy.signal import lfilter
from spox import Tensor, argument, build

from pmx.contract import UsageError
from pmx.edge.step import session
from pmx.feature.features import FeatureSet
from pmx.feature.graph import step_graph
from pmx.feature.kernel import Age, Drift, Ewma, Kernel, shares_of
from pmx.feature.quality import REACH
from pmx.feature.view import View

WINDOWS = 32  # that the graph sees at a time; larger batches are no faster
WIDE_HOP = (
    4  # ticks between feature rows from which on the graph, which computes only these, is faster than every tick on the path of training
)
ROWS = 65_536  # ticks that are computed at a time: what kernels need beside them would not fit into memory for a long asset


@dataclass(frozen=True)
class Left:
    """What an asset's blocks so far leave for the next one.

    Attributes:
        readings: float32 [tick, channel], the W - 1 ticks before the newest feature row (NaN before the asset's first tick), and
            those after it, for which no feature row was due.
        memory: of each kernel, float64 parts [slot]; empty where it has none.
        seen: how many ticks of the asset came so far.

    Example:
        >>> Left(np.zeros((0, 3), np.float32), [[]]).memory
        [[]]
    """

    readings: np.ndarray
    memory: list[list[np.ndarray]]
    seen: int = 0


class Onward:
    """Every `hop`-th feature row of assets whose ticks come in blocks; the rows do not depend on where the blocks end.

    Kernels that read the window alone are computed by the step graph at the rows that are kept, or as in training where nearly all
    are. The memory of kernels known here runs on in closed form; any other kernel's goes through the step graph, step by step.

    Args:
        features: fitted, with the same constants for all assets.
        hop: ticks between two feature rows of an asset; the first row is that of its `hop`-th tick, as on a device.

    Example:
        >>> from pmx.contract import Channel, Contract
        >>> from pmx.feature.kernel import Ewma
        >>> from pmx.feature.regime import RegimeScore
        >>> ticks = pl.DataFrame({"asset": ["P1"] * 5, "tick": range(5), "load": [1.0, 2.0, 4.0, 3.0, 5.0]})
        >>> fitted = FeatureSet(RegimeScore(), [Ewma(2)]).fit(ticks, Contract((Channel("load", "kW"),), "h", "life"))
        >>> onward = Onward(fitted, hop=2)
        >>> left, first = onward.take(onward.start(), ticks[:3])
        >>> left, second = onward.take(left, ticks[3:])
        >>> first["tick"].to_list(), second["tick"].to_list()
        ([1], [3])
    """

    def __init__(self, features: FeatureSet, hop: int = 1) -> None:
        if hop < 1:
            raise UsageError(f"hop is {hop}: it counts ticks and must be at least 1")
        if features.normalise_.own_:
            raise UsageError("features with constants for each asset apart are not computed in blocks -> fit_scope=fleet")
        # the quality of a reading is judged by more ticks before it than the kernels read
        self.features, self.hop, self._older = features, hop, features.rows - 1 + (REACH if features.quality_ else 0)
        kernels, channels = features.kernels, features.channels_
        self.names = [f"f{i}" for i in range(len(features.names_))]
        windowed = [i for i, k in enumerate(kernels) if not k.slots(len(channels))]
        self._closed = [i for i, k in enumerate(kernels) if i not in windowed and in_closed_form(k)]
        others = [i for i in range(len(kernels)) if i not in windowed and i not in self._closed]
        if others and features.quality_:
            named = ", ".join(kernels[i].label for i in others)
            raise UsageError(
                f"feature.quality judges no history in blocks where kernels remember what {named} do -> quality: null, or leave these out"
            )
        self._windowed, self._windowed_columns = self._some(windowed)
        self._others, self._others_columns = self._some(others)
        self._others_at, self._closed_columns = others, [self._some([i])[1] for i in self._closed]
        # a tick is scored once, not once for each window that it lies in; the path of training has the regimes beside the scores
        sparse = hop >= WIDE_HOP and not any(k.reads_regime for k in (self._windowed.kernels if self._windowed else []))
        self._read = list(dict.fromkeys(r for i in windowed for r in kernels[i].readings))
        self._window_graph = session(_window_graph(self._windowed, self._read)) if self._windowed and sparse else None
        self._other_graph = session(_step_graph(self._others, min(hop, self._others.rows))) if self._others else None

    def _some(self, kernels: Sequence[int]) -> tuple[FeatureSet | None, np.ndarray]:
        """These kernels alone, None where there are none, and their columns."""
        widths = [len(k.names(self.features.channels_)) for k in self.features.kernels]
        begin = np.cumsum([0, *widths])
        columns = np.concatenate([np.zeros(0, np.int64), *(np.arange(begin[i], begin[i + 1]) for i in kernels)])
        return (self.features.part([self.features.kernels[i] for i in kernels]) if kernels else None), columns

    def start(self) -> Left:
        """What an asset begins with."""
        channels = len(self.features.contract_.names)
        memory = [[np.zeros(width) for width in k.slots(len(self.features.channels_))] for k in self.features.kernels]
        return Left(np.full((self._older, channels), np.nan, np.float32), memory)

    def take(self, left: Left, ticks: pl.DataFrame) -> tuple[Left, pl.DataFrame]:
        """What is left after an asset's next ticks, and the feature rows that they complete: `asset`, `tick`, then one Float32 column
        `f<i>` per feature.

        Args:
            left: what the block before left, or `start()`.
            ticks: of one asset, at least one, complete and in order, following those of the block before.
        """
        channels = pl.col(self.features.contract_.names).cast(pl.Float32).fill_null(float("nan"))
        readings = np.concatenate([left.readings, ticks.select(channels).to_numpy().reshape(len(ticks), -1)])
        count = (len(readings) - self._older) // self.hop
        table, memory = np.empty((count, len(self.names)), np.float32), [list(parts) for parts in left.memory]
        size, blank = max(1, ROWS // self.hop), max(0, self._older - left.seen)  # what stands before the asset's first tick
        for begin in range(0, count, size):
            end = min(count, begin + size)
            rows = readings[begin * self.hop : end * self.hop + self._older]
            ends = self._older + self.hop * np.arange(1, end - begin + 1) - 1
            self._fill(table[begin:end], rows, ends, memory, max(0, blank - begin * self.hop))
        newest = ticks["tick"][0] - (len(readings) - len(ticks)) + self._older + self.hop * np.arange(1, count + 1) - 1
        place = {"asset": pl.Series([ticks["asset"][0]] * count, dtype=pl.String), "tick": pl.Series(newest, dtype=pl.Int64)}
        rest = readings[count * self.hop :].copy()
        return Left(rest, memory, left.seen + len(ticks)), pl.DataFrame(place).hstack(pl.DataFrame(table, schema=self.names))

    def _fill(self, table: np.ndarray, readings: np.ndarray, ends: np.ndarray, memory: list[list[np.ndarray]], blank: int) -> None:
        """Computes feature rows, one for each of `ends`, the readings that they belong to; the memory moves on to the last of them.

        The first `blank` readings are none: the asset's record begins behind them.
        """
        frame = pl.DataFrame(readings, schema=self.features.contract_.names).fill_nan(None).insert_column(0, pl.lit("").alias("asset"))
        quality, lived = self.features.quality_, frame[blank:]
        scores = quality.table(lived)[1] if quality else self.features.normalise_.scores(lived)
        z = np.concatenate([np.full((blank, len(self.features.channels_)), np.nan), scores.drop("asset").to_numpy()])
        if self._window_graph is not None and self._windowed is not None:
            given = {"z": z} | ({"readings": readings[:, [frame.columns.index(r) - 1 for r in self._read]]} if self._read else {})
            windows = {name: _windows(rows, self._windowed.rows) for name, rows in given.items()}
            for begin in range(0, len(ends), WINDOWS):
                at = ends[begin : begin + WINDOWS] - self._windowed.rows + 1
                table[begin : begin + WINDOWS, self._windowed_columns] = self._window_graph.run(
                    None, {n: w[at] for n, w in windows.items()}
                )[0]
        elif self._windowed is not None:
            table[:, self._windowed_columns] = self._windowed.table(lived)[ends - blank]
        for i, columns in zip(self._closed, self._closed_columns, strict=True):
            table[:, columns], memory[i] = onward(self.features.kernels[i], z, self._older, ends, memory[i])
        if self._other_graph is not None:
            self._step(table, readings, ends, memory)

    def _step(self, table: np.ndarray, readings: np.ndarray, ends: np.ndarray, memory: list[list[np.ndarray]]) -> None:
        """The kernels whose memory only the step graph knows."""
        assert self._others is not None and self._other_graph is not None
        parts = [m for i in self._others_at for m in memory[i]]
        state, windows, at = np.concatenate(parts)[None], _windows(readings, self._others.rows), self._older - 1
        for row, end in enumerate(ends):
            while at < end:
                step = min(end - at, self.hop, self._others.rows)
                at += step
                given = {"window": windows[[at - self._others.rows + 1]], "fresh": np.array([step], np.int64), "memory": state}
                state, features = self._other_graph.run(["memory_next", "features"], given)
            table[row, self._others_columns] = features[0]
        following = iter(np.split(state[0], np.cumsum([len(m) for m in parts])[:-1]))
        for i in self._others_at:
            memory[i] = [next(following) for _ in memory[i]]


def _windows(readings: np.ndarray, rows: int) -> np.ndarray:
    """The windows of so many rows, a view float32 [window, time, channel]."""
    return np.lib.stride_tricks.sliding_window_view(readings, rows, axis=0).transpose(0, 2, 1)


def _window_graph(part: FeatureSet, read: list[str]) -> bytes:
    """Features float32 [row, feature] of windows of scores float64 [row, time, channel] and of readings float32 [row, time, reading]."""
    z = argument(Tensor(np.float64, ("row", part.rows, len(part.channels_))))
    readings = argument(Tensor(np.float32, ("row", part.rows, len(read)))) if read else None
    view = View(z, part.rows, 1, op.const([1]), part.rates, part.channels_, readings, read, shares=shares_of(part.kernels))
    features = op.concat([k.nodes(view, [])[0] for k in part.kernels], axis=1)
    given = {"z": z} | ({"readings": readings} if readings is not None else {})
    return build(given, {"features": op.cast(features, to=np.float32)}).SerializeToString(deterministic=True)


def _step_graph(part: FeatureSet, hop: int) -> bytes:
    return step_graph(part, hop, lambda now, memory: ({}, memory), show_features=True)


Closed = tuple[np.ndarray, list[np.ndarray]]


@singledispatch
def onward(kernel: Kernel, z: np.ndarray, older: int, ends: np.ndarray, memory: list[np.ndarray]) -> Closed:
    """A kernel's features of one asset's next ticks, float64 [row, feature], and the memory that the last of these rows leaves.

    Args:
        z: scores float64 [tick, channel], NaN where missing.
        older: how many of these ticks were there before; the memory has seen them.
        ends: the ticks that have a feature row; the last one is the last tick.
        memory: that the ticks before left.
    """
    raise UsageError(f"{kernel.label} has no closed form over blocks")


def in_closed_form(kernel: Kernel) -> bool:
    """Whether `onward` knows how a kernel's memory runs on."""
    return onward.dispatch(type(kernel)) is not onward.dispatch(Kernel)


@onward.register
def _(kernel: Age, z: np.ndarray, older: int, ends: np.ndarray, memory: list[np.ndarray]) -> Closed:
    return memory[0] + (ends - older + 1.0)[:, None], [memory[0] + (len(z) - older)]


@onward.register
def _(kernel: Ewma, z: np.ndarray, older: int, ends: np.ndarray, memory: list[np.ndarray]) -> Closed:
    # at every value total = keep * total + value and weight = keep * weight + 1, in the order of the graph's additions
    keep, new, rows = 0.5 ** (1 / kernel.half_life), z[older:], ends - older
    seen = ~np.isnan(new)
    if seen.all():
        total = lfilter([1.0], [1.0, -keep], new, axis=0, zi=memory[0][None] * keep)[0]
        weight = lfilter([1.0], [1.0, -keep], np.ones(new.shape), axis=0, zi=memory[1][None] * keep)[0]
        return total[rows] / weight[rows], [total[-1], weight[-1]]
    features, following = np.empty((len(ends), z.shape[1])), [m.copy() for m in memory]
    for c in range(z.shape[1]):
        values = new[seen[:, c], c]
        total, weight = (
            np.concatenate([m[[c]], lfilter([1.0], [1.0, -keep], v, zi=m[[c]] * keep)[0]])
            for m, v in zip(memory, (values, np.ones(len(values))), strict=True)
        )
        count = np.cumsum(seen[:, c])[rows]  # 0 where nothing was seen yet in this block: the memory stands in
        features[:, c] = np.divide(total[count], weight[count], out=np.full(len(count), np.nan), where=weight[count] > 0)
        following[0][c], following[1][c] = total[-1], weight[-1]
    return features, following


@onward.register
def _(kernel: Drift, z: np.ndarray, older: int, ends: np.ndarray, memory: list[np.ndarray]) -> Closed:
    total, count = memory
    totals, counts = total[None], count[None]
    if (count < kernel.first).any():
        seen = ~np.isnan(z[older:])
        own = seen & (np.cumsum(seen, 0) <= kernel.first - count)
        totals = np.cumsum(np.concatenate([total[None], np.where(own, z[older:], 0.0)]), 0)[1:]
        counts = count + np.cumsum(own, 0)
        total, count = totals[-1], counts[-1]
        totals, counts = totals[ends - older], counts[ends - older]
    rows = np.lib.stride_tricks.sliding_window_view(z, kernel.window, axis=0)[ends - kernel.window + 1]
    there = ~np.isnan(rows)
    present = there.sum(2)
    mean = np.divide(np.where(there, rows, 0.0).sum(2), present, out=np.full(present.shape, np.nan), where=present > 0)
    start = np.divide(totals, counts, out=np.full(counts.shape, np.nan), where=counts > 0)
    return mean - start, [total, count]
