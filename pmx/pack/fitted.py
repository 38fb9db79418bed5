"""A fitted candidate: features, model and what turns its score into a verdict. It scores offline and writes its own graph."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
import spox.opset.ai.onnx.v20 as op
from spox import Var

from pmx.alarm.score import knots_of, score_of
from pmx.feature.features import FeatureSet, Now
from pmx.feature.past import Past
from pmx.feature.view import const, cut
from pmx.pack.classes import fault_nodes, odds_of_fault, probability, probability_nodes
from pmx.pack.margin import NEW, Margins
from pmx.pack.odds import Odds
from pmx.pack.scope import Rows, Scoped
from pmx.window.label import life_of

RANKS = 1000  # quantiles kept of the healthy ratios: within them an anomaly score is known to a thousandth
LEVEL = 0.95  # share of healthy validation ticks whose score stays below the healthy level
OUTPUTS = {"rul": "rul", "anomaly": "anomaly_score", "failure": "failure_probability", "fault": "anomaly_score"}
"""Task -> the verdict output that the alarm watches."""
FLEET = ""  # the asset whose level holds for all


@dataclass(frozen=True)
class Healthy:
    """What healthy scores look like on ticks that were not fitted on.

    Attributes:
        level: asset -> the score that most of its healthy ticks stay below; `FLEET` alone where one level holds for all.
        ratios: scores of healthy ticks over the level of their asset, sorted float64 [rank].

    Example:
        >>> healthy = Healthy.of(np.array([1.0, 2.0, 30.0, 50.0]), np.array(["A", "A", "B", "B"]), each=True)
        >>> {asset: round(level, 2) for asset, level in healthy.level.items()}
        {'A': 1.95, 'B': 49.0}
    """

    level: dict[str, float]
    ratios: np.ndarray

    @staticmethod
    def of(score: np.ndarray, asset: np.ndarray, each: bool) -> Healthy:
        """From healthy validation scores float64 [row] without NaN; with `each` every asset gets a level of its own."""
        level = {str(a): _level(score[asset == a]) for a in np.unique(asset)} if each else {FLEET: _level(score)}
        ratio = np.sort(score / np.array([level.get(str(a), level.get(FLEET, np.nan)) for a in asset]))
        ratio = ratio if len(ratio) <= RANKS else np.quantile(ratio, np.linspace(0, 1, RANKS))
        ratio[-1] = max(ratio[-1], 1e-12)
        return Healthy(level, ratio)

    def levels(self, asset: np.ndarray) -> np.ndarray:
        """The level of each row's asset, float64 [row]; NaN for an asset that has none."""
        return np.array([self.level.get(FLEET, self.level.get(str(a), np.nan)) for a in asset], np.float64)


def _level(score: np.ndarray) -> float:
    return max(float(np.quantile(score, LEVEL)), 1e-12)


@dataclass(frozen=True)
class Fitted:
    """What `pack` needs.

    Attributes:
        name: of the candidate.
        features, model: fitted.
        cap: largest RUL stated, in the life unit.
        healthy: what an anomaly score is measured by; of the tasks `anomaly` and `fault`.
        odds: what turns log-odds into a probability; of the task `failure` alone.
        margins: the interval around a remaining useful life; None = it has none.
        used: `asset`, `tick` of every tick that normalisation or model was fitted on.
        profile: the opset profile that its graph is written in (`pmx.pack.profile`).
        classes: of faults, `healthy` first; of the task `fault` alone.
    """

    name: str
    features: FeatureSet
    model: Scoped
    cap: float
    healthy: Healthy | None = None
    margins: Margins | None = None
    odds: Odds | None = None
    used: pl.DataFrame = field(default_factory=pl.DataFrame)
    profile: str = "ort"
    classes: tuple[str, ...] = ()

    @property
    def task(self) -> str:
        return self.model.model.task

    @property
    def output(self) -> str:
        """The verdict output that the alarm watches."""
        return OUTPUTS[self.task]

    @property
    def outputs(self) -> tuple[str, ...]:
        """All verdict outputs of the model, the one that the alarm watches first."""
        return (self.output, "fault_probability") if self.task == "fault" else (self.output,)

    def verdict(self, ticks: pl.DataFrame) -> np.ndarray:
        """That output offline, float32 [row], of `rul` its point estimate; each asset's ticks must be complete and in order."""
        found = self.verdict_of(self.past(ticks), ticks["asset"].to_numpy(), life_of(ticks), self.features.scored(ticks))
        if self.margins is not None:
            found[np.isnan(self.margins.around(found.astype(np.float64), self.regime(ticks))).any(1)] = np.nan
        return found

    def interval(self, ticks: pl.DataFrame, point: np.ndarray) -> np.ndarray:
        """Lower and upper end of a remaining useful life offline, float32 [row, 2], around the verdicts float32 [row] of these ticks; NaN where
        it has no interval.
        """
        if self.margins is None:
            return np.full((len(ticks), 2), np.nan, np.float32)
        ends = self.margins.around(point.astype(np.float64), self.regime(ticks))
        return np.clip(ends, 0.0, self.cap).astype(np.float32)

    def probability(self, ticks: pl.DataFrame) -> np.ndarray:
        """Of the task `fault` the probability of each class offline, float32 [row, class]; NaN where nothing was read."""
        score = self.model.score(self.past(ticks), ticks["asset"].to_numpy())
        return np.where(self.features.scored(ticks)[:, None], probability(score), np.nan).astype(np.float32)

    def verdict_of(self, past: Rows, asset: np.ndarray, life: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """The verdict from features, their assets and lives, and whether the tick has a score of any channel, bool [row]; without a look
        at what a regime has evidence for.
        """
        score = self.model.score(past, asset)
        if self.task == "rul":
            return np.clip(score, 0.0, self.cap).astype(np.float32)
        if self.odds is not None:
            return self.odds.probability(score).astype(np.float32)
        assert self.healthy is not None
        score = odds_of_fault(score) if self.task == "fault" else score
        score = smoothed(np.where(seen, score, np.nan), life, self.model.model.smooth)
        return score_of(score / self.healthy.levels(asset), self.healthy.ratios).astype(np.float32)

    def past(self, ticks: pl.DataFrame) -> Past:
        """Features of ticks on the Polars path, with those before them."""
        return Past.of(self.table(ticks), life_of(ticks), self.features.names_)

    def regime(self, ticks: pl.DataFrame) -> np.ndarray:
        """The operating regime of each tick, int64 [row]: −1 where nobody can tell, `NEW` where it is like none that was fitted on."""
        return np.where(self.features.normalise_.new_to(ticks), NEW, self.features.normalise_.regime_of(ticks))

    def table(self, ticks: pl.DataFrame) -> np.ndarray:
        """Features of ticks on the Polars path, float32 [row, feature]."""
        return self.features.table(ticks)

    @property
    def assets(self) -> list[str]:
        """The assets that have constants of their own."""
        return sorted(self.features.normalise_.own_)

    def stand_in(self, names: list[str], asset: str) -> Fitted:
        """The same, where assets of these names have the constants of `asset`."""
        if asset not in self.assets:
            return self
        normalise = _with_own(self.features, names, asset)
        own = self.model.own | {n: self.model.own[asset] for n in names if asset in self.model.own}
        assert self.healthy is not None
        level = self.healthy.level | {n: self.healthy.level[asset] for n in names if asset in self.healthy.level}
        return replace(self, features=normalise, model=replace(self.model, own=own), healthy=replace(self.healthy, level=level))

    # ---- the graph's head and its part of the memory: sum and weight of the running mean, level, the model's constants

    @property
    def _own_level(self) -> bool:
        return self.healthy is not None and FLEET not in self.healthy.level

    @property
    def _mean_slots(self) -> int:
        return 2 if self.healthy is not None and self.model.model.smooth else 0

    @property
    def _columns(self) -> list[int]:
        model = self.model.model
        return model.columns(self.features.names_)

    @property
    def _past_slots(self) -> int:
        history = self.model.model.history
        return (history - 1) * len(self._columns) if history > 1 else 0

    @property
    def slots(self) -> int:
        """Memory values per asset behind those of the features."""
        return self._mean_slots + self._past_slots + int(self._own_level) + self.model.slots

    def memory0(self, assets: list[str]) -> np.ndarray:
        """Memory of these assets before their first tick, float64 [asset, M]; NaN for constants of an asset that has none."""
        parts = [
            self.features.memory0(assets),
            np.zeros((len(assets), self._mean_slots)),
            np.full((len(assets), self._past_slots), np.nan),
        ]
        if self._own_level and self.healthy is not None:
            parts.append(self.healthy.levels(np.array(assets, object))[:, None])
        return np.concatenate([*parts, self.model.memory0(assets)], axis=1)

    def head(self, now: Now, memory: Var) -> tuple[dict[str, Var], Var]:
        """The graph's verdict outputs and the next memory, of what the features tell of the newest reading and of memory
        float64 [asset, slots].
        """
        mean, own = cut(memory, 0, self._mean_slots, 1), cut(memory, self._mean_slots + self._past_slots, self.slots, 1)
        past, held = self._trace(now.features, cut(memory, self._mean_slots, self._mean_slots + self._past_slots, 1))
        constants = cut(own, int(self._own_level), int(self._own_level) + self.model.slots, 1)
        score, said = self.model.nodes(now.features, past, constants), dict[str, Var]()
        if self.task == "fault":
            known = op.where(op.unsqueeze(now.present, op.const([1])), probability_nodes(score), const(np.nan))
            score, said = fault_nodes(score), {"fault_probability": op.cast(known, to=np.float32)}
        else:
            score = op.unsqueeze(score, op.const([1]))
        if self.task == "rul":
            return {"rul": self._life(score, now.regime)}, op.concat([mean, held, own], axis=1)
        if self.odds is not None:
            chance = op.cast(op.squeeze(self.odds.nodes(score), op.const([1])), to=np.float32)
            return {"failure_probability": chance}, op.concat([mean, held, own], axis=1)
        assert self.healthy is not None
        score = op.where(op.unsqueeze(now.present, op.const([1])), score, const(np.nan))
        if self._mean_slots:
            score, mean = _running_mean(score, mean, self.model.model.smooth)
        level = cut(own, 0, 1, 1) if self._own_level else const(self.healthy.level[FLEET])
        verdict = _rank(op.div(score, level), self.healthy.ratios)
        said["anomaly_score"] = op.cast(op.squeeze(verdict, op.const([1])), to=np.float32)
        return said, op.concat([mean, held, own], axis=1)

    def _trace(self, features: Var, memory: Var) -> tuple[Var | None, Var]:
        """The model's columns over time, float32 [asset, history, column], and the memory that follows."""
        history = self.model.model.history
        if history == 1:
            return None, memory
        columns = self._columns
        newest = op.unsqueeze(op.gather(features, op.const(np.array(columns)), axis=1), op.const([1]))
        held = op.cast(op.reshape(memory, op.const([-1, history - 1, len(columns)])), to=np.float32)
        past = op.concat([held, newest], axis=1)
        kept = op.reshape(op.cast(cut(past, 1, history, 1), to=np.float64), op.const([-1, self._past_slots]))
        return past, kept

    def _life(self, score: Var, regime: Var) -> Var:
        """Lower, point and upper, float32 [asset, 3], of scores float64 [asset, 1] and regimes int64 [asset]."""
        point = op.cast(self._capped(score), to=np.float32)
        if self.margins is None:
            none = op.add(op.mul(point, op.const(np.float32(0))), op.const(np.float32(np.nan)))
            return op.concat([none, point, none], axis=1)
        # the float32 estimate is what both paths agree on: it tells the cell
        low, high = self.margins.nodes(op.cast(point, to=np.float64), op.unsqueeze(regime, op.const([1])))
        low, high = (op.cast(self._capped(end), to=np.float32) for end in (low, high))
        point = op.where(op.isnan(low), op.const(np.float32(np.nan)), point)
        return op.concat([low, point, high], axis=1)

    def _capped(self, value: Var) -> Var:
        limited = op.max([op.min([value, op.const(self.cap, np.float64)]), op.const(0.0, np.float64)])
        return op.where(op.isnan(value), const(np.nan), limited)


def _with_own(features: FeatureSet, names: list[str], asset: str) -> FeatureSet:
    """The fitted feature set, where assets of these names have the constants of `asset`."""
    return features.owning(features.normalise_.own_ | dict.fromkeys(names, features.normalise_.own_[asset]))


def _rank(ratio: Var, healthy: np.ndarray) -> Var:
    """`score_of` as nodes, float64 [asset, 1]."""
    knots, rank = knots_of(healthy)
    missing, largest = op.isnan(ratio), const(knots[-1])
    inside = op.max([op.min([op.where(missing, const(0.0), ratio), largest]), const(0.0)])
    reached = op.reduce_sum(op.cast(op.greater_or_equal(inside, const(knots)), to=np.int64), op.const([1]), keepdims=1)
    below = op.min([op.sub(reached, op.const([[1]])), op.const([[len(knots) - 2]])])
    above = op.add(below, op.const([[1]]))
    x0, x1, r0, r1 = (op.gather(const(of), at, axis=0) for of in (knots, rank) for at in (below, above))
    within = op.add(r0, op.mul(op.div(op.sub(inside, x0), op.sub(x1, x0)), op.sub(r1, r0)))
    beyond = op.sub(const(1.0), op.mul(const(1 - rank[-1]), op.div(largest, ratio)))
    return op.where(missing, const(np.nan), op.where(op.greater(ratio, largest), beyond, within))


def _running_mean(score: Var, memory: Var, half_life: float) -> tuple[Var, Var]:
    """Score and memory float64 [asset, 1] and [asset, 2] after this step; a missing score leaves the memory as it was, and stays missing."""
    missing = op.isnan(score)
    keep = op.where(missing, const(1.0), const(0.5 ** (1 / half_life)))
    total = op.add(op.mul(cut(memory, 0, 1, 1), keep), op.where(missing, const(0.0), score))
    weight = op.add(op.mul(cut(memory, 1, 2, 1), keep), op.where(missing, const(0.0), const(1.0)))
    return op.where(missing, score, op.div(total, weight)), op.concat([total, weight], axis=1)


def smoothed(score: np.ndarray, life: np.ndarray, half_life: float) -> np.ndarray:
    """Running mean of the scores of each life [row], float64 [row], weights halved every `half_life` ticks that have one; NaN stays NaN."""
    if not half_life:
        return score
    column = pl.DataFrame({"life": life, "score": score}).with_columns(pl.col("score").fill_nan(None))
    mean = pl.col("score").ewm_mean(half_life=half_life, ignore_nulls=True).over("life")
    return column.select(pl.when(pl.col("score").is_not_null()).then(mean)).to_series().fill_null(np.nan).to_numpy()
