"""Principal components of normal readings: what they cannot rebuild, or rebuild too far out, is not normal."""

from __future__ import annotations

import numpy as np
import spox.opset.ai.onnx.v20 as op
from spox import Var

from pmx.contract import DataError, UsageError, within
from pmx.model import Model

STATISTICS = ("spe", "t2", "both")
LEAST = 1e-9  # a deviation or a share of variance below it is rounding


class Pca(Model):
    """Distance from the subspace of normal readings, over lags: dynamic PCA (Ku, Storer and Georgakis 1995).

    `spe`: the squared prediction error, the part of a reading outside of the subspace (Jackson and Mudholkar 1979).
    `t2`: Hotelling's T2, how far out it lies within. `both`: their sum, each divided by its mean on the ticks fitted on.
    A missing value is read as the mean. The worst ticks of a first fit are left out of the second, so that faults
    among the ticks fitted on do not become normal.

    Args:
        variance: share of the variance that the subspace holds.
        statistic: `spe`, `t2` or `both`.
        trim: share of ticks, the worst by the first fit, that the second leaves out.
        smooth: half-life in ticks of the score's running mean.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(500, 1)) @ np.ones((1, 3)) + 0.1 * rng.normal(size=(500, 3))
        >>> model = Pca(variance=0.9)
        >>> model.fit(x.astype(np.float32), np.zeros(500), np.repeat("A", 500))
        >>> normal, broken = model.score(np.array([[1, 1, 1], [1, -1, 1]], np.float32))
        >>> bool(broken > 50 * normal)
        True
    """

    task = "anomaly"
    per_asset = True

    def __init__(self, variance: float = 0.9, statistic: str = "spe", trim: float = 0.1, smooth: float = 5.0) -> None:
        within(1e-6, 1, {"variance": variance})
        within(0, 0.5, {"trim": trim})
        within(0, float("inf"), {"smooth": smooth})
        if statistic not in STATISTICS:
            raise UsageError(f"statistic is {statistic!r} -> one of {', '.join(STATISTICS)}")
        self.variance, self.statistic, self.trim, self.smooth = variance, statistic, trim, smooth

    def fit(self, x: np.ndarray, y: np.ndarray, asset: np.ndarray) -> None:
        x = np.asarray(x, np.float64)
        if len(x) < 2:
            raise DataError(f"{len(x)} tick to fit principal components on: two are needed -> take more data")
        self._learn(x)
        if self.trim:
            score = self.score(x)
            kept = score <= np.quantile(score, 1 - self.trim)
            if kept.sum() >= 2:
                self._learn(x[kept])

    def _learn(self, x: np.ndarray) -> None:
        present = (~np.isnan(x)).sum(0)
        self.mean_ = np.divide(np.nansum(x, 0), present, out=np.zeros(x.shape[1]), where=present > 0)
        centred = np.where(np.isnan(x), 0.0, x - self.mean_)
        self.scale_ = np.sqrt((centred**2).mean(0))
        self.scale_[self.scale_ < LEAST] = np.inf  # what never moved tells nothing
        z = centred / self.scale_
        spread, axes = np.linalg.eigh(z.T @ z / len(z))
        spread, axes = spread[::-1], axes[:, ::-1]
        total = spread.sum()
        keep = int(np.searchsorted(np.cumsum(spread), self.variance * total * (1 - LEAST))) + 1 if total > 0 else 0
        keep = max(1, min(keep, int((spread > LEAST * max(total, LEAST)).sum())))
        self.axes_ = np.ascontiguousarray(axes[:, :keep])
        self.shrink_ = np.divide(1.0, spread[:keep], out=np.zeros(keep), where=spread[:keep] > LEAST * max(total, LEAST))
        self.weight_ = np.ones(2)
        outside, inside = self._parts(x)
        chosen = {"spe": (1.0, 0.0), "t2": (0.0, 1.0)}.get(self.statistic)
        self.weight_ = np.array(chosen or [1 / max(part.mean(), LEAST) for part in (outside, inside)])

    def _parts(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        z = (np.asarray(x, np.float64) - self.mean_) / self.scale_
        z = np.where(np.isnan(z), 0.0, z)
        along = z @ self.axes_
        rest = z - along @ self.axes_.T
        return (rest * rest).sum(1), (along * along * self.shrink_).sum(1)

    def score(self, x: np.ndarray) -> np.ndarray:
        outside, inside = self._parts(x)
        return outside * self.weight_[0] + inside * self.weight_[1]

    def constants(self) -> dict[str, np.ndarray]:
        # an axis of zeros that gets no weight changes nothing
        return {"mean": self.mean_, "scale": self.scale_, "axes": self.axes_, "shrink": self.shrink_, "weight": self.weight_}

    def to_onnx(self, features: Var) -> Var:
        return self.nodes(features, {name: op.const(value[None]) for name, value in self.constants().items()})

    def nodes(self, features: Var, constants: dict[str, Var]) -> Var:
        z = op.div(op.sub(op.cast(features, to=np.float64), constants["mean"]), constants["scale"])
        z = op.where(op.isnan(z), op.const(0.0, np.float64), z)
        along = op.matmul(op.unsqueeze(z, op.const([1])), constants["axes"])
        rest = op.sub(z, op.squeeze(op.matmul(along, op.transpose(constants["axes"], perm=[0, 2, 1])), op.const([1])))
        along = op.squeeze(along, op.const([1]))
        last = op.const([1])
        outside = op.reduce_sum(op.mul(rest, rest), last, keepdims=0)
        inside = op.reduce_sum(op.mul(op.mul(along, along), constants["shrink"]), last, keepdims=0)
        weight = [op.gather(constants["weight"], op.const(i), axis=1) for i in (0, 1)]
        known = op.mul(weight[0], op.const(0.0, np.float64))  # an asset whose constants are missing gets no score
        return op.add(op.add(op.mul(outside, weight[0]), op.mul(inside, weight[1])), known)
