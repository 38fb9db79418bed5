"""A fitted candidate: features, model and what turns its score into a verdict. It scores offline and writes its own graph."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl
import spox.opset.ai.onnx.v20 as op
from spox import Var

from pmx.feature.features import FeatureSet
from pmx.model import Model

RANKS = 1000  # quantiles kept of the healthy scores: an anomaly score is known to a thousandth


@dataclass(frozen=True)
class Fitted:
    """What `pack` needs.

    Attributes:
        name: of the candidate.
        features, model: fitted.
        cap: largest RUL stated, in the life unit.
        used: `asset`, `tick` of every tick that normalisation or model was fitted on.
        healthy: sorted healthy validation scores float64 [rank] that an anomaly score is ranked in; empty for the task `rul`.
    """

    name: str
    features: FeatureSet
    model: Model
    cap: float
    healthy: np.ndarray
    used: pl.DataFrame = field(default_factory=pl.DataFrame)

    @property
    def output(self) -> str:
        """The verdict output that the alarm watches."""
        return "rul" if self.model.task == "rul" else "anomaly_score"

    def verdict(self, x: np.ndarray) -> np.ndarray:
        """That output offline, float32 [row], from features float32 [row, feature]."""
        return to_verdict(self.model.score(x), self.model.task, self.cap, self.healthy)

    def table(self, ticks: pl.DataFrame) -> np.ndarray:
        """Features of ticks on the Polars path, float32 [row, feature]."""
        return self.features.table(ticks)

    def head(self, features: Var) -> dict[str, Var]:
        """The graph's verdict outputs from features float32 [asset, feature]."""
        score = op.unsqueeze(self.model.to_onnx(features), op.const([1]))
        if self.model.task == "rul":
            limited = op.max([op.min([score, op.const(self.cap, np.float64)]), op.const(0.0, np.float64)])
            point = op.cast(limited, to=np.float32)
            none = op.add(op.mul(point, op.const(np.float32(0))), op.const(np.float32(np.nan)))  # lower and upper: no interval yet
            return {"rul": op.concat([none, point, none], axis=1)}
        above = op.cast(op.greater_or_equal(score, op.const(self.healthy)), to=np.float64)
        rank = op.div(op.reduce_sum(above, op.const([1]), keepdims=0), op.const(float(len(self.healthy)), np.float64))
        return {"anomaly_score": op.cast(rank, to=np.float32)}


def to_verdict(score: np.ndarray, task: str, cap: float, healthy: np.ndarray) -> np.ndarray:
    """Model scores float64 [row] as the verdict output float32 [row]: RUL within [0, cap], or the rank among healthy scores."""
    if task == "rul":
        return np.clip(score, 0.0, cap).astype(np.float32)
    ranked = np.where(np.isnan(score), np.nan, np.searchsorted(healthy, score, side="right") / len(healthy))
    return ranked.astype(np.float32)


def ranks(scores: np.ndarray) -> np.ndarray:
    """At most `RANKS` quantiles of healthy scores, sorted."""
    scores = np.sort(scores[~np.isnan(scores)])
    return scores if len(scores) <= RANKS else np.quantile(scores, np.linspace(0, 1, RANKS))
