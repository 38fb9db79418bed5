"""Normal-behaviour regression: each channel told from the others by a line and small trees; what cannot be told is not normal."""

from __future__ import annotations

from dataclasses import dataclass

import lightgbm
import numpy as np
import spox.opset.ai.onnx.v20 as op
from spox import Var

from pmx.contract import within
from pmx.model import Model
from pmx.model.residual import (
    LEAST_ROWS,
    channels_of,
    kept,
    mean_square,
    mean_square_nodes,
    newest,
    newest_nodes,
    parts_of,
    spread_of,
    with_value,
)
from pmx.model.trees import REPEATABLE, booster_seeds, leaves_of, thresholds_of, tree_inputs, tree_nodes

FOLDS = 3  # residuals of rows that a model has seen are too small to tell the spread
LIMIT = 5.0  # the line reads no input further than this from its mean: a spike in one channel must not move what is told of the others
BAGGING = 0.5  # share of ticks each tree sees
BINS = 63  # values a tree tells apart: enough for noisy readings, and twice as fast as the usual 255


@dataclass(frozen=True)
class Line:
    """Ridge regression of every channel on the lag vector, exact: inputs are added one after the other, in the graph too.

    Attributes:
        mean: float64 [feature].
        weight: float64 [feature, channel].
        bias: float64 [channel].
    """

    mean: np.ndarray
    weight: np.ndarray
    bias: np.ndarray

    @staticmethod
    def of(x: np.ndarray, now: np.ndarray, ridge: float) -> Line:
        """Fits every channel of `now`, float64 [row, channel], on the features float32 [row, feature] of the other channels.

        Weights solve (XᵀX + ridge · n) w = Xᵀy (Hoerl and Kennard, 1970); rows where the channel is missing are left out.
        """
        features, channels = x.shape[1], now.shape[1]
        mean = np.zeros(features)
        seen = ~np.isnan(x).all(0)
        mean[seen] = np.nanmean(x[:, seen].astype(np.float64), 0)
        centred = Line(mean, np.empty((0, 0)), np.empty(0)).inputs(x)
        weight, bias = np.zeros((features, channels)), np.zeros(channels)
        for c in range(channels):
            here = ~np.isnan(now[:, c])
            if not here.any():
                continue
            bias[c] = now[here, c].mean()
            others = np.flatnonzero(np.arange(features) % channels != c)
            a = centred[here][:, others]
            gram = a.T @ a + ridge * len(a) * np.eye(len(others))
            weight[others, c] = np.linalg.solve(gram, a.T @ (now[here, c] - bias[c])) if len(others) else 0.0
        return Line(mean, weight, bias)

    def inputs(self, x: np.ndarray) -> np.ndarray:
        """Centred, cut off at `LIMIT`, 0 where missing: float64 [row, feature]."""
        z = np.clip(x.astype(np.float64) - self.mean, -LIMIT, LIMIT)
        return np.where(np.isnan(z), 0.0, z)

    def tell(self, x: np.ndarray) -> np.ndarray:
        """Every channel's newest reading from features float32 [row, feature], float64 [row, channel]."""
        z, told = self.inputs(x), np.zeros((len(x), len(self.bias)))
        for i in range(z.shape[1]):
            told = told + z[:, i : i + 1] * self.weight[i]
        return told + self.bias

    def nodes(self, features: Var) -> Var:
        """The same as nodes, float64 [asset, channel]."""
        z = op.sub(op.cast(features, to=np.float64), op.const(self.mean))
        missing = op.isnan(z)
        z = op.max([op.min([op.where(missing, op.const(0.0, np.float64), z), op.const(LIMIT, np.float64)]), op.const(-LIMIT, np.float64)])
        products = op.mul(op.unsqueeze(z, op.const([2])), op.const(self.weight))  # [asset, feature, channel]
        count = len(self.mean)
        total = op.sum(op.split(products, num_outputs=count, axis=1)) if count > 1 else products
        return op.add(op.squeeze(total, op.const([1])), op.const(self.bias))


class Regression(Model):
    """Distance from normal: how far the newest reading of each channel lies from what the other channels and their past say.

    What is told of a channel is a ridge regression on the lag vector without the channel itself, and a LightGBM booster of
    small trees for what the line leaves: trees alone cannot follow a shift beyond what they have seen. The residual is
    divided by the robust spread of out-of-fold residuals (folds by asset, or blocks of rows in order where there is one
    asset). The score is the mean over the channels present now of the squared quotient, each quotient cut off at 5, so that
    a spike in one channel cannot dominate. NaN where no channel has a value now. Healthy data are never quite clean: the
    worst share `trim` of the rows by their out-of-fold score is dropped before the last fit. With one channel there are no
    others, and the score is the distance from its mean.

    Args:
        lags: ticks in the lag vector, as in feature=lags.
        trees: number of trees per channel.
        learning_rate: weight of each.
        num_leaves: leaves of a tree at most.
        min_child_samples: ticks in a leaf at least.
        ridge: weight of the line's penalty per tick; readings have a variance near 1.
        trim: share of rows dropped before the last fit.
        smooth: half-life in ticks of the mean that a later stage takes of the score; 0 = none.
        threads: of the training; the result does not depend on it.
        seed: of folds and of the ticks each tree sees.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> load = rng.normal(size=(500, 1))
        >>> x = (load + 0.1 * rng.normal(size=(500, 3))).astype(np.float32)  # three channels that follow one load
        >>> model = Regression(lags=1)
        >>> model.fit(x, np.zeros(500), np.repeat("A", 500))
        >>> normal, odd = model.score(np.array([[1.0, 1.0, 1.0], [1.0, 1.0, -1.0]], np.float32))
        >>> bool(odd > 5 * normal)
        True
    """

    task = "anomaly"
    exact = True
    channels_: int
    line_: Line
    boosters_: dict[int, lightgbm.Booster]  # by channel; one without a value in the fit has none
    spread_: np.ndarray  # float64 [channel], infinite for those

    def __init__(
        self,
        lags: int = 5,
        trees: int = 60,
        learning_rate: float = 0.1,
        num_leaves: int = 15,
        min_child_samples: int = 20,
        ridge: float = 0.1,
        trim: float = 0.1,
        smooth: float = 0.0,
        threads: int = 1,
        seed: int = 0,
    ) -> None:
        within(1, float("inf"), {"lags": lags, "trees": trees, "min_child_samples": min_child_samples, "threads": threads})
        within(2, 131_072, {"num_leaves": num_leaves})  # the limits of LightGBM
        within(1e-6, 1, {"learning_rate": learning_rate})
        within(0, 0.5, {"trim": trim})
        within(1e-6, float("inf"), {"ridge": ridge})  # without a penalty, channels that always agree have no one solution
        within(0, float("inf"), {"smooth": smooth})
        self.lags, self.trees, self.learning_rate, self.num_leaves = lags, trees, learning_rate, num_leaves
        self.min_child_samples, self.ridge, self.trim, self.smooth = min_child_samples, ridge, trim, smooth
        self.threads, self.seed = threads, seed

    def fit(self, x: np.ndarray, y: np.ndarray, asset: np.ndarray) -> None:
        self.channels_ = channels_of(x.shape[1], self.lags)
        there = with_value(x, self.lags)
        x, asset = np.ascontiguousarray(x[there]), asset[there]
        now = newest(x, self.lags)
        residual, fold = np.full(now.shape, np.nan), parts_of(asset, FOLDS, self.seed)
        for k in np.unique(fold):
            if (fold != k).any():
                residual[fold == k] = now[fold == k] - _tell(x[fold == k], *self._learn(x[fold != k]), self.threads)
        keep = kept(mean_square(residual, spread_of(residual)), self.trim)
        self.line_, self.boosters_ = self._learn(x[keep])
        learnt = np.isin(np.arange(self.channels_), list(self.boosters_))
        self.spread_ = np.where(learnt, spread_of(residual[keep]), np.inf)

    def _learn(self, x: np.ndarray) -> tuple[Line, dict[int, lightgbm.Booster]]:
        now = newest(x, self.lags)
        line = Line.of(x, now, self.ridge)
        left, boosters = now - line.tell(x), {}
        for c in range(self.channels_):
            present = ~np.isnan(now[:, c])
            if present.any():
                others = x[present]
                others[:, c :: self.channels_] = 0.0  # a constant column is never split on, and the others keep their numbers
                boosters[c] = self._booster(others, left[present, c])
        return line, boosters

    def _booster(self, x: np.ndarray, y: np.ndarray) -> lightgbm.Booster:
        parameters = REPEATABLE | {
            "learning_rate": self.learning_rate,
            "num_leaves": self.num_leaves,
            "min_child_samples": self.min_child_samples,
            "bagging_fraction": BAGGING if len(y) >= LEAST_ROWS else 1.0,
            "max_bin": BINS,
            "seed": booster_seeds(self.seed, 1)[0],
            "num_threads": self.threads,
        }
        return lightgbm.train(parameters, lightgbm.Dataset(x, np.ascontiguousarray(y)), self.trees)

    def score(self, x: np.ndarray) -> np.ndarray:
        return mean_square(newest(x, self.lags) - _tell(x, self.line_, self.boosters_, self.threads), self.spread_)

    def leaves(self, x: np.ndarray) -> np.ndarray:
        return leaves_of(self.boosters_.values(), x, self.threads)

    def thresholds(self) -> dict[int, list[float]]:
        return thresholds_of(self.boosters_.values())

    def to_onnx(self, features: Var) -> Var:
        x = tree_inputs(features)
        told = []
        for c in range(self.channels_):
            if c in self.boosters_:
                told.append(tree_nodes(x, self.boosters_[c]))
            else:  # never had a value, so its residual counts nothing: a column of the right shape is enough
                told.append(op.gather(x, op.const([c]), axis=1))
        expected = op.add(self.line_.nodes(features), op.concat(told, axis=1))
        return mean_square_nodes(op.sub(newest_nodes(features, self.channels_), expected), self.spread_)


def _tell(x: np.ndarray, line: Line, boosters: dict[int, lightgbm.Booster], threads: int) -> np.ndarray:
    """Every channel's newest reading as the others tell it, float64 [row, channel]."""
    told = line.tell(x)
    for c, booster in boosters.items():
        if len(x):
            told[:, c] += np.asarray(booster.predict(x, num_threads=threads), np.float64)
    return told
