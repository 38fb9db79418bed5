"""A feature set: a normalisation and the kernels on top of it, fitted once, computed on two paths."""

from __future__ import annotations

import copy
from typing import NamedTuple

import numpy as np
import polars as pl
import spox.opset.ai.onnx.v20 as op
from spox import Var

from pmx.contract import Contract, UsageError
from pmx.feature.block import Blocks
from pmx.feature.kernel import REGIME, Kernel, Rolling, column_of, shares_of
from pmx.feature.quality import Quality
from pmx.feature.regime import RegimeScore
from pmx.feature.rolling import stretches
from pmx.feature.trail import moved
from pmx.feature.view import View, const, cut, whole
from pmx.window.label import rows_of_lives


class Now(NamedTuple):
    """What the graph knows of the newest reading: features float32 [asset, feature], whether it has a score of any channel, bool [asset],
    and its regime, int64 [asset], −1 where nobody can tell and −2 where it is like none that was fitted on.
    """

    features: Var
    present: Var
    regime: Var


RECENT = 10  # ticks that a channel's contribution looks back


class FeatureSet:
    """Normalised readings seen through kernels: float32 [row, feature], the same numbers offline and in the step graph.

    Args:
        normalise: how readings become scores.
        kernels: in the order of the feature vector.
        quality: takes what faulty sensors say out of the scores before a kernel sees them; None = every reading is believed.

    Example:
        >>> from pmx.feature.kernel import TrailingMean
        >>> FeatureSet(RegimeScore(), [TrailingMean(10)]).rows
        10
    """

    contract_: Contract
    normalise_: RegimeScore
    quality_: Quality | None
    channels_: list[str]
    names_: list[str]
    _rolled: list[Rolling]  # those without expressions
    _blocks: Blocks | None  # kernels that only their nodes compute
    fitted_on_: pl.DataFrame  # asset, tick: what the leakage gate holds against the test part

    def __init__(self, normalise: RegimeScore, kernels: list[Kernel], quality: Quality | None = None) -> None:
        labels = [k.label for k in kernels]
        twice = {n for n in labels if labels.count(n) > 1}
        if twice or not kernels:
            raise UsageError(
                f"feature.kernels: {'given twice: ' + ', '.join(sorted(twice)) if twice else 'empty'} -> name each kernel once"
            )
        if all(k.reads_age for k in kernels):
            raise UsageError("feature.kernels: all of them read the asset's age, which may be unknown -> add one that reads a channel")
        self.normalise, self.kernels, self.quality = normalise, list(kernels), quality

    def without_age(self) -> FeatureSet:
        """The same set without the kernels that read the asset's age."""
        return FeatureSet(self.normalise, [k for k in self.kernels if not k.reads_age], self.quality)

    def fit(self, ticks: pl.DataFrame, contract: Contract, each: bool = False) -> FeatureSet:
        """A fitted copy; learns the normalisation from these ticks alone, with `each` for each asset apart."""
        fitted = copy.copy(self)
        fitted.contract_ = contract
        fitted.fitted_on_ = ticks.select("asset", "tick")
        fitted.normalise_ = self.normalise.fit(ticks, contract, each)
        fitted.quality_ = self.quality.fit(ticks, fitted.normalise_, contract) if self.quality else None
        fitted.channels_ = fitted.normalise_.channels_
        fitted.names_ = [n for k in self.kernels for n in k.names(fitted.channels_)]
        fitted._paths()
        return fitted

    def _paths(self) -> None:
        """Decides for each kernel how it is computed offline."""
        z = [pl.col(c) for c in self.channels_]
        missing = {r for k in self.kernels for r in k.readings} - set(self.contract_.names)
        if missing:
            raise UsageError(f"feature.kernels: no channel {', '.join(sorted(missing))} -> one of {', '.join(self.contract_.names)}")
        without = [k for k in self.kernels if k.polars(z) is None]
        self._rolled, inside = [k for k in without if isinstance(k, Rolling)], [k for k in without if not isinstance(k, Rolling)]
        for kernel in inside:
            if kernel.slots(len(z)) or kernel.reads_regime:
                raise UsageError(
                    f"feature.kernels: {kernel.label} carries memory and has no Polars path to fill it from -> write its `polars`"
                )
        read = list(dict.fromkeys(r for k in inside for r in k.readings))
        self._blocks = Blocks(inside, self.channels_, self.rates, read) if inside else None

    @property
    def rates(self) -> np.ndarray:
        """Ticks a second of each channel, float64 [channel] in Hz; 1.0 on a life clock, where a frequency is in cycles per tick."""
        rate = 1e6 / self.contract_.tick_us if self.contract_.clock == "calendar" else 1.0
        return np.full(len(self.channels_), rate)

    def only(self, assets: set[str]) -> FeatureSet:
        """The fitted set, where no other assets have constants of their own."""
        return self.owning({a: own for a, own in self.normalise_.own_.items() if a in assets})

    def owning(self, own: dict[str, np.ndarray]) -> FeatureSet:
        """The fitted set, where these assets and no others have constants of their own, as in `RegimeScore.own_`."""
        fitted = copy.copy(self)
        fitted.normalise_ = copy.copy(self.normalise_)
        fitted.normalise_.own_ = own
        fitted.quality_ = self.quality_.only(fitted.normalise_) if self.quality_ else None
        return fitted

    def part(self, kernels: list[Kernel]) -> FeatureSet:
        """The fitted set with some of its kernels alone."""
        fitted = copy.copy(self)
        fitted.kernels = kernels
        fitted.names_ = [n for k in kernels for n in k.names(self.channels_)]
        fitted._paths()
        return fitted

    @property
    def rows(self) -> int:
        """W: the rows of the window that the kernels read, and those that the contribution looks back."""
        return max(RECENT, *(k.rows for k in self.kernels))

    @property
    def slots(self) -> int:
        """Memory values per asset: what kernels carry, what the quality remembers with the scores that it let through, then the
        asset's own constants of the normalisation.
        """
        return self._carried + self._watched + self.normalise_.slots

    @property
    def _carried(self) -> int:
        return sum(width for k in self.kernels for width in k.slots(len(self.channels_)))

    @property
    def _watched(self) -> int:
        return self.quality_.slots + self.rows * len(self.channels_) if self.quality_ else 0

    def memory0(self, assets: list[str]) -> np.ndarray:
        """Memory of these assets before their first tick, float64 [asset, slots]; NaN for constants of an asset that was not fitted on."""
        start, own = np.zeros((len(assets), self.slots)), self._carried + self._watched
        start[:, self._carried :] = np.nan
        if self.quality_:
            start[:, self._carried : self._carried + self.quality_.slots] = self.quality_.start_
        for row, asset in zip(start, assets, strict=True):
            if asset in self.normalise_.own_:
                row[own:] = self.normalise_.own_[asset].ravel()
        return start

    def fits(self, ticks: pl.DataFrame, task: str) -> np.ndarray:
        """Whether a tick may be fitted on, bool [row]: off-time never is. A gap in the record is part of a life, whose features and label
        stand, but there is nothing in it to call normal.
        """
        if task in ("anomaly", "fault"):
            return self.scored(ticks)
        if self.contract_.running is None:
            return np.ones(len(ticks), bool)
        return ticks.select(pl.any_horizontal(pl.col(self.contract_.names).is_not_null())).to_series().to_numpy()

    def scored(self, ticks: pl.DataFrame) -> np.ndarray:
        """Whether a tick has the score of any channel, bool [row]: not where the setting that names its regime is missing."""
        scores = self.normalise_.scores(ticks)
        return scores.select(pl.any_horizontal(pl.col(self.channels_).is_not_null())).to_series().to_numpy()

    def kernel_of(self, feature: int) -> Kernel:
        """The kernel that a column of the feature vector comes from."""
        for kernel in self.kernels:
            feature -= len(kernel.names(self.channels_))
            if feature < 0:
                return kernel
        raise IndexError(feature)

    def table(self, ticks: pl.DataFrame) -> np.ndarray:
        """The path of training: float32 [row, feature] in the order of the ticks; each asset's ticks must be complete and in order.

        Kernels that Polars or numpy computes to the same bits over a history take that way, the others the nodes of the step graph in
        blocks of windows.
        """
        scores = self.quality_.table(ticks)[1] if self.quality_ else self.normalise_.scores(ticks)
        scores = self._beside(scores, ticks)
        z = [pl.col(c) for c in self.channels_]
        begins = np.cumsum([0, *(len(k.names(self.channels_)) for k in self.kernels)])
        given = [e.alias(f"f{b + i}") for k, b in zip(self.kernels, begins, strict=False) for i, e in enumerate(k.polars(z) or [])]
        column = [int(e.meta.output_name()[1:]) for e in given]
        of = {k.label: slice(b, e) for k, b, e in zip(self.kernels, begins, begins[1:], strict=False)}
        inside = [i for k in (self._blocks.kernels if self._blocks else []) for i in range(of[k.label].start, of[k.label].stop)]
        table = np.empty((len(ticks), begins[-1]), np.float32)
        matrix = scores.select(pl.col(self.channels_).fill_null(np.nan)).to_numpy(order="c")  # float64 [tick, channel], NaN = missing
        for row in rows_of_lives(ticks):
            together = row[-1] - row[0] + 1 == len(row)
            part = scores[row[0] : row[-1] + 1] if together else scores[row]
            whole = table[row[0] : row[-1] + 1] if together else np.empty((len(row), begins[-1]), np.float32)
            if given:
                whole[:, column] = part.select(given).to_numpy()
            if self._rolled:
                self._roll(matrix[row], whole, of)
            if self._blocks:
                whole[:, inside] = self._in_blocks(matrix[row], part, self._blocks)
            if not together:
                table[row] = whole
        return table

    def _roll(self, matrix: np.ndarray, whole: np.ndarray, of: dict[str, slice]) -> None:
        """Fills the columns of the kernels that roll, from one life's scores float64 [tick, channel]."""
        rows, shares = max(k.rows for k in self._rolled), shares_of(self._rolled)
        for ticks, stretch in stretches(matrix, rows, shares):
            for kernel in self._rolled:
                whole[ticks, of[kernel.label]] = kernel.rolled(stretch)

    def _in_blocks(self, matrix: np.ndarray, part: pl.DataFrame, blocks: Blocks) -> np.ndarray:
        read = part.select(pl.col([column_of(r) for r in blocks.read]).cast(pl.Float32)).to_numpy() if blocks.read else None
        return blocks.table(matrix, read)

    def _beside(self, scores: pl.DataFrame, ticks: pl.DataFrame) -> pl.DataFrame:
        """Scores with what else kernels read beside them: readings, and the regime."""
        read = dict.fromkeys(r for k in self.kernels for r in k.readings)
        scores = scores.with_columns(ticks[r].cast(pl.Float64).alias(column_of(r)) for r in read)
        if any(k.reads_regime for k in self.kernels):
            scores = scores.with_columns(pl.Series(REGIME, self.normalise_.regime_of(ticks)))
        return scores

    def nodes(self, window: Var, fresh: Var, memory: Var, hop: int) -> tuple[Now, list[Var], Var, Var | None]:
        """The graph path: what is known of the newest reading, parts of the next memory, contribution float32 [asset, channel], and the
        quality of its channels, int64 [asset, channel], None where nobody judges it.

        A channel's contribution is the root mean square of its newest scores (up to 10), in standard deviations: a shift shows in
        it, and so does a wider scatter about the same mean; about 1 where all is normal. NaN where none of them has a value. Where sensors
        are judged it tells of what was let through: a channel that is called faulty is named by its quality instead.
        """
        own = cut(memory, self._carried + self._watched, self.slots, 1)
        regime = self.normalise_.regime_nodes(window, self.contract_) if any(k.reads_regime for k in self.kernels) else None
        z, present, watched, state = self._scores(window, fresh, memory, hop, own)
        shares = shares_of(self.kernels)
        view = View(z, self.rows, hop, fresh, self.rates, self.channels_, window, self.contract_.names, regime, shares)
        features, carried, at = [], [], 0
        for kernel in self.kernels:
            parts = []
            for width in kernel.slots(len(self.channels_)):
                parts.append(cut(memory, at, at + width, 1))
                at += width
            feature, following = kernel.nodes(view, parts)
            features.append(feature)
            carried += following
        vector = op.cast(op.concat(features, axis=1), to=np.float32)
        newest = cut(window, self.rows - 1, self.rows, 1)
        new = self.normalise_.new_nodes(newest, self.contract_)
        told = op.where(new, whole(-2), self.normalise_.regime_nodes(newest, self.contract_))
        now = Now(vector, present, op.squeeze(told, whole([1])))
        return now, [*carried, *watched, own], self._contribution(view), state

    def _scores(self, window: Var, fresh: Var, memory: Var, hop: int, own: Var) -> tuple[Var, Var, list[Var], Var | None]:
        """Scores float64 [asset, W, channel], whether the newest reading has one, parts of the next memory, and the quality."""
        if self.quality_ is None:
            z = self.normalise_.nodes(window, self.contract_, own)
            seen = op.cast(op.not_(op.isnan(cut(z, self.rows - 1, self.rows, 1))), to=np.float64)
            return z, op.greater(op.reduce_sum(seen, whole([1, 2]), keepdims=0), const(0.0)), [], None
        at, between, k = self._carried, self._carried + self.quality_.slots, len(self.channels_)
        held = op.reshape(cut(memory, between, self._carried + self._watched, 1), whole([-1, self.rows, k]))
        state, z, present, following = self.quality_.nodes(
            cut(window, self.rows - hop, self.rows, 1), own, cut(memory, at, between, 1), fresh, hop
        )
        # what was let through at its tick stays so: the window is kept, not judged again
        if hop == 1:
            later = op.concat([cut(held, 1, self.rows, 1), z], axis=1)
            passed = op.where(op.greater(op.unsqueeze(fresh, whole([1, 2])), whole(0)), later, held)
        else:
            passed = moved(op.concat([held, z], axis=1), fresh, self.rows, self.rows + hop)
        return passed, present, [following, op.reshape(passed, whole([-1, self.rows * k]))], state

    def _contribution(self, view: View) -> Var:
        recent = min(RECENT, self.rows)
        square = op.div(view.total(op.mul(view.x, view.x), 0, recent), view.total(view.seen, 0, recent))
        departure = op.cast(op.sqrt(square), to=np.float32)
        # a setting or a channel left out by the normalisation contributes nothing: it reads the column of zeros behind the others
        columns = op.pad(departure, whole([0, 0, 0, 1]), op.const(np.float32(0)))
        order = [self.channels_.index(n) if n in self.channels_ else len(self.channels_) for n in self.contract_.names]
        return op.gather(columns, whole(np.array(order)), axis=1)
