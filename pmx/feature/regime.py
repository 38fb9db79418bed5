"""Normalisation by operating regime: each channel as standard deviations from its mean in the regime the settings name."""

from __future__ import annotations

import copy

import numpy as np
import polars as pl
import spox.opset.ai.onnx.v20 as op
from sklearn.cluster import KMeans
from spox import Var

from pmx.contract import Contract, DataError
from pmx.feature.view import const, cut, round32, whole

CONSTANT = 1e-6  # a deviation below this share of the mean is what float32 readings of one value may show
BEYOND = 2.0  # times the largest distance to a centre in the fit, or times the tolerance: further off nothing was learnt
FIT_ROWS = 20_000  # k-means sees at most this many rows; regimes are far apart or they are none


def _matrix(ticks: pl.DataFrame, columns: list[str]) -> np.ndarray:
    """float64 [row, column], NaN where missing."""
    return ticks.select(pl.col(columns).cast(pl.Float64)).to_numpy().reshape(len(ticks), len(columns))


def _apart(asset: np.ndarray, regime: np.ndarray) -> bool:
    """Whether each of several regimes, int [row], is that of one asset alone, of several: machines of one age and make each, say."""
    known = regime >= 0
    pairs = pl.DataFrame({"asset": asset[known], "regime": regime[known]}).unique()
    counts = pairs.group_by("regime").len()["len"]
    return pairs["asset"].n_unique() > 1 and len(counts) > 1 and bool(counts.max() == 1)


class RegimeScore:
    """z = (reading − mean of its regime) / deviation of its regime, clipped and rounded to float32.

    Regimes are k-means centres of the settings, each setting divided by its valid range (by its deviation where the
    contract gives none). The number of regimes is the smallest whose root mean square distance to the centre stays below `tolerance`;
    where no two assets would share any of them, settings tell assets apart and no operation, and there is one regime.
    Degenerate rules: a channel that is constant within a regime scores 0 there; one that was never seen in a regime has no score
    there; one that is constant in every regime is left out; a missing setting leaves the tick without scores when there are several
    regimes; |z| never exceeds `clip`.

    Fitted for each asset apart, the regimes are the fleet's, mean and deviation the asset's own: they travel in its memory, and
    an asset that was not there has none, so that its scores are missing.

    Args:
        most: the largest number of regimes considered.
        tolerance: as a share of the settings' valid range.
        clip: in standard deviations.
        seed: of k-means.

    Example:
        >>> RegimeScore(most=8).clip
        20.0
    """

    settings_: list[str]
    channels_: list[str]
    range_: np.ndarray  # float64 [setting]
    centre_: np.ndarray  # float64 [regime, setting]
    mean_: np.ndarray  # float64 [regime, channel]
    scale_: np.ndarray  # float64 [regime, channel], infinite where constant
    reach_: float  # squared distance to the nearest centre beyond which a setting is like none that was fitted on
    own_: dict[str, np.ndarray]  # asset -> float64 [2, regime, channel], its mean and scale; empty = the fleet's hold for all

    def __init__(self, most: int = 8, tolerance: float = 0.02, clip: float = 20.0, seed: int = 0) -> None:
        self.most, self.tolerance, self.clip, self.seed = most, tolerance, clip, seed

    def fit(self, ticks: pl.DataFrame, contract: Contract, each: bool = False) -> RegimeScore:
        """Learns centres [regime, setting], means and deviations [regime, channel] from the ticks given, and only from them.

        Args:
            each: learn means and deviations for each asset apart.
        """
        fitted = copy.copy(self)
        fitted.settings_ = [c.name for c in contract.channels if c.role == "setting"]
        measurements = [c.name for c in contract.channels if c.role != "setting"]
        s, x = _matrix(ticks, fitted.settings_), _matrix(ticks, measurements)
        ranges = {c.name: c.high - c.low for c in contract.channels if c.low is not None and c.high is not None}
        seen = s[~np.isnan(s).any(1)]
        deviations = seen.std(0) if len(seen) else np.ones(s.shape[1])
        fitted.range_ = np.array([ranges.get(n) or d or 1.0 for n, d in zip(fitted.settings_, deviations, strict=True)])
        fitted.centre_ = self._centres(seen, fitted.range_, self.most)
        asset = ticks["asset"].to_numpy()
        if _apart(asset, fitted._nearest(s)):
            fitted.centre_ = self._centres(seen, fitted.range_, 1)
        regime = fitted._nearest(s)
        far = np.nanmax(fitted._distance(s).min(1), initial=0.0) if s.shape[1] else 0.0
        fitted.reach_ = float(BEYOND**2 * max(far, self.tolerance**2))
        fleet = _moments(x, regime, len(fitted.centre_))
        own = {a: _moments(x[asset == a], regime[asset == a], len(fitted.centre_)) for a in np.unique(asset)} if each else {}
        keep = np.asarray(np.isfinite(np.stack([m[1] for m in own.values() or [fleet]])).any((0, 1)))
        if not keep.any():
            raise DataError(f"none of the {len(measurements)} measurements varies over {len(ticks)} ticks -> check the source")
        fitted.channels_ = [n for n, k in zip(measurements, keep, strict=True) if k]
        fitted.mean_, fitted.scale_ = fleet[:, :, keep]
        fitted.own_ = {a: m[:, :, keep] for a, m in own.items()}
        return fitted

    @property
    def slots(self) -> int:
        """Memory values per asset: its own constants, where it has them."""
        return 2 * self.mean_.size if self.own_ else 0

    def _centres(self, settings: np.ndarray, ranges: np.ndarray, most: int) -> np.ndarray:
        if settings.shape[1] == 0 or len(settings) == 0:
            return np.zeros((1, settings.shape[1]))
        scaled = (settings / ranges)[np.random.default_rng(self.seed).permutation(len(settings))[:FIT_ROWS]]
        for k in range(1, most + 1):
            means = KMeans(k, n_init=5, random_state=self.seed).fit(scaled)
            if k == most or np.sqrt(means.inertia_ / len(scaled)) <= self.tolerance:
                break
        return means.cluster_centers_ * ranges

    def _nearest(self, s: np.ndarray) -> np.ndarray:
        """Index of the regime [row]; −1 where a setting is missing and there are several regimes."""
        if len(self.centre_) == 1:
            return np.zeros(len(s), np.int64)
        return np.where(np.isnan(s).any(1), -1, np.argmin(self._distance(s), 1))

    def _distance(self, s: np.ndarray) -> np.ndarray:
        """Squared distance of settings float64 [row, setting] to every centre, [row, regime]; NaN where one is missing."""
        distance = np.zeros((len(s), len(self.centre_)))
        for j in range(s.shape[1]):  # one setting after the other: the graph adds in this order
            part = (s[:, j : j + 1] - self.centre_[:, j]) / self.range_[j]
            distance = distance + part * part
        return distance

    def new_to(self, ticks: pl.DataFrame) -> np.ndarray:
        """Whether the settings of a tick lie far from all that was fitted on, bool [row]; not where one is missing."""
        if not self.settings_:
            return np.zeros(len(ticks), bool)
        return np.asarray((self._distance(_matrix(ticks, self.settings_)) > self.reach_).all(1))

    def new_nodes(self, window: Var, contract: Contract) -> Var:
        """The same of float32 [asset, time, channel], bool [asset, time]."""
        if not self.settings_:
            return op.expand(op.const(False), op.slice(op.shape(window), whole([0]), whole([2])))
        near = op.reduce_min(self._distance_nodes(window, contract)[0], whole([2]), keepdims=0)
        return op.greater(near, const(self.reach_))

    def regime_of(self, ticks: pl.DataFrame) -> np.ndarray:
        """Index of the regime of each tick, int64 [row]; −1 where a setting is missing and there are several regimes."""
        return self._nearest(_matrix(ticks, self.settings_))

    def regime_nodes(self, window: Var, contract: Contract) -> Var:
        """The same of float32 [asset, time, channel], int64 [asset, time]."""
        if len(self.centre_) == 1:
            return op.expand(op.const(0), op.slice(op.shape(window), whole([0]), whole([2])))
        regime, unknown = self._regime(window, contract)
        return op.where(op.squeeze(unknown, whole([2])), whole(-1), regime)

    def _regime(self, window: Var, contract: Contract) -> tuple[Var, Var]:
        """Index of the nearest regime [asset, time], and whether it is unknown, bool [asset, time, 1]."""
        distance, s = self._distance_nodes(window, contract)
        return op.arg_min(distance, axis=2, keepdims=0), op.isnan(op.reduce_sum(s, whole([2]), keepdims=1))

    def _distance_nodes(self, window: Var, contract: Contract) -> tuple[Var, Var]:
        """Squared distance to every centre, float64 [asset, time, regime], and the settings, float64 [asset, time, setting]."""
        names = contract.names
        s = op.cast(op.gather(window, whole(np.array([names.index(c) for c in self.settings_])), axis=2), to=np.float64)
        distance = const(np.zeros(len(self.centre_)))
        for j in range(len(self.settings_)):
            part = op.div(op.sub(cut(s, j, j + 1, 2), const(self.centre_[:, j])), const(self.range_[j]))
            distance = op.add(distance, op.mul(part, part))
        return distance, s

    def scores(self, ticks: pl.DataFrame) -> pl.DataFrame:
        """`asset` and one Float64 column of scores per kept channel, null where missing, in the order of the ticks."""
        regime = self._nearest(_matrix(ticks, self.settings_))
        mean, scale = self.mean_[regime], self.scale_[regime]
        if self.own_:
            mean, scale = np.full((2, *mean.shape), np.nan)
            asset = ticks["asset"].to_numpy()
            for name in set(asset) & set(self.own_):
                rows = asset == name
                mean[rows], scale[rows] = self.own_[name][:, regime[rows]]
        z = (_matrix(ticks, self.channels_) - mean) / scale
        z = np.clip(z, -self.clip, self.clip).astype(np.float32).astype(np.float64)
        z[regime < 0] = np.nan
        return ticks.select("asset").hstack(pl.DataFrame(z, schema=self.channels_).fill_nan(None))

    def nodes(self, window: Var, contract: Contract, memory: Var) -> Var:
        """Scores float64 [asset, time, channel] of float32 [asset, time, channel] and of the asset's own constants, if it has
        any, float64 [asset, slots]; NaN where missing.
        """
        pick = whole(np.array([contract.names.index(c) for c in self.channels_]))
        x = op.cast(op.gather(window, pick, axis=2), to=np.float64)
        mean, scale, unknown = self.normal(window, contract, memory)
        missing = op.isnan(op.sub(x, mean))
        if unknown is not None:
            missing = op.or_(missing, unknown)
        z = op.div(op.sub(op.where(missing, mean, x), mean), scale)
        z = op.max([op.min([z, const(self.clip)]), const(-self.clip)])
        return op.where(missing, const(np.nan), round32(z))

    def normal(self, window: Var, contract: Contract, memory: Var) -> tuple[Var, Var, Var | None]:
        """What is normal at each tick: mean and scale float64 that broadcast to [asset, time, channel], and where the regime is
        unknown, bool [asset, time, 1]; None where there is one regime only.
        """
        mean, scale = const(self.mean_[0]), const(self.scale_[0])
        if self.own_:
            size = self.mean_.size
            parts = (cut(memory, 0, size, 1), cut(memory, size, 2 * size, 1))
            mean, scale = (op.reshape(part, whole([-1, *self.mean_.shape])) for part in parts)
        if len(self.centre_) == 1:
            return mean, scale, None
        regime, unknown = self._regime(window, contract)
        if self.own_:
            at = op.unsqueeze(regime, whole([2]))
            mean, scale = op.gather_nd(mean, at, batch_dims=1), op.gather_nd(scale, at, batch_dims=1)
        else:
            mean, scale = op.gather(const(self.mean_), regime, axis=0), op.gather(const(self.scale_), regime, axis=0)
        return mean, scale, unknown


def _moments(x: np.ndarray, regime: np.ndarray, regimes: int) -> np.ndarray:
    """Mean and deviation float64 [2, regime, channel] of readings [row, channel]; the deviation is infinite where a channel is constant,
    the mean missing where it was never seen: nobody can say then what is normal.
    """
    mean = np.zeros((regimes, x.shape[1]))
    scale = np.full(mean.shape, np.inf)  # dividing by infinity is how a constant channel scores 0
    for k in range(regimes):
        inside = x[regime == k]
        present = (~np.isnan(inside)).sum(0)
        mean[k] = np.divide(np.nansum(inside, 0), present, out=np.full(x.shape[1], np.nan), where=present > 0)
        spread = np.sqrt(np.divide(np.nansum((inside - mean[k]) ** 2, 0), present, out=np.zeros(x.shape[1]), where=present > 0))
        varies = spread > CONSTANT * np.abs(mean[k])
        scale[k, varies] = spread[varies]
    return np.stack([mean, scale])
