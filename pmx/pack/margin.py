"""Intervals around a remaining useful life: how far truth lay from out-of-fold estimates, kept as constants of the graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import spox.opset.ai.onnx.v20 as op
from spox import Var

from pmx.feature.view import const

COVERAGE = 0.9
SHARES = 11  # ways to share what lies outside between both ends
BINS = 8  # of the estimate; fewer where the assets are few
LEAST_ASSETS = 5  # whose residuals a cell needs to speak for itself
SEEN_IN = 2  # assets that a regime must have been validated on; with fewer it has no evidence
NEW = -2  # a regime that the fit never came near; −1 is one that nobody can tell


@dataclass(frozen=True)
class Margins:
    """What the lower and upper end of an interval add to an estimate, by its size and by operating regime.

    Split-conformal from out-of-fold residuals (Papadopoulos et al. 2002), Mondrian by estimate and regime (Vovk et al. 2003), over
    assets: each counts the same, however many of its ticks fall into a cell, and the asset to come counts as one more. In each cell
    the 10 % that may lie outside are shared between both ends so that the interval is shortest.

    Attributes:
        edges: float64 [bin - 1], of the estimate.
        lower, upper: float64 [regime + 1, bin], in the life unit; the last row is for ticks whose regime nobody can tell. NaN where
            a regime has no evidence: there is no estimate then either.

    Example:
        >>> estimate, asset = np.tile(np.arange(100.0), 40), np.repeat([f"E{i:02}" for i in range(40)], 100)
        >>> error = np.random.default_rng(0).normal(size=4000)
        >>> margins = Margins.of(estimate, estimate + error, asset, np.zeros(4000, np.int64), 1, cap=125)
        >>> low, high = margins.around(np.array([50.0]), np.array([0]))[0]
        >>> bool(47 < low < 49 and 51 < high < 53)
        True
    """

    edges: np.ndarray
    lower: np.ndarray
    upper: np.ndarray

    @staticmethod
    def of(estimate: np.ndarray, truth: np.ndarray, asset: np.ndarray, regime: np.ndarray, regimes: int, cap: float) -> Margins:
        """From out-of-fold estimates float64 [row], the truth, their assets, and their regimes int64 [row], −1 = unknown; no end lies
        below 0 or beyond `cap`.
        """
        known = ~np.isnan(estimate) & ~np.isnan(truth)
        estimate, residual, regime = estimate[known], (truth - estimate)[known], regime[known]
        _, which = np.unique(asset[known], return_inverse=True)
        count = len(np.unique(which))
        bins = max(1, min(BINS, count // 10))
        edges = np.unique(np.quantile(estimate, np.arange(1, bins) / bins)) if len(estimate) else np.empty(0)
        at = np.searchsorted(edges, estimate, side="right")
        lower, upper = np.full((2, regimes + 1, len(edges) + 1), np.nan)
        for g in range(regimes + 1 if count else 0):
            mine = regime == g if g < regimes else np.ones(len(regime), bool)
            if len(np.unique(which[mine])) < min(SEEN_IN, count):
                continue
            for b in range(len(edges) + 1):
                # a cell that few assets fell into borrows from the same size in all regimes, then from everything
                for cell in (mine & (at == b), at == b, at >= 0):
                    if len(np.unique(which[cell])) >= LEAST_ASSETS:
                        break
                lower[g, b], upper[g, b] = _shortest(estimate[cell], residual[cell], which[cell], cap)
        return Margins(edges, lower, upper)

    def around(self, point: np.ndarray, regime: np.ndarray) -> np.ndarray:
        """Lower and upper end float64 [row, 2] of estimates [row] in these regimes, int64 [row]; NaN without evidence."""
        at = np.searchsorted(self.edges, point, side="right")
        group = np.where(regime < 0, len(self.lower) - 1, regime)
        ends = np.stack([point + self.lower[group, at], point + self.upper[group, at]], axis=1)
        ends[regime == NEW] = np.nan
        return ends

    def nodes(self, point: Var, regime: Var) -> tuple[Var, Var]:
        """The same as nodes, each float64 [asset, 1], of float64 [asset, 1] and int64 [asset, 1]."""
        bins, last = self.lower.shape[1], len(self.lower) - 1
        above = [op.cast(op.greater_or_equal(point, const([[edge]])), to=np.int64) for edge in self.edges]
        at = op.sum([op.cast(a, to=np.float64) for a in above]) if above else op.mul(point, const(0.0))
        at = op.cast(op.where(op.isnan(point), const(0.0), at), to=np.int64)
        group = op.where(op.less(regime, op.const(0)), op.const(last), regime)
        cell = op.add(op.mul(group, op.const(bins)), at)
        new = op.equal(regime, op.const(NEW))
        low, high = (
            op.where(new, const(np.nan), op.add(point, op.gather(const(table.ravel()), cell))) for table in (self.lower, self.upper)
        )
        return low, high


def _shortest(estimate: np.ndarray, residual: np.ndarray, which: np.ndarray, cap: float) -> tuple[float, float]:
    """Of the ways to leave out 10 % at both ends, the one whose intervals are shortest on average; of equals, the most even."""
    order = np.argsort(residual, kind="stable")
    ranked, weight = residual[order], (1 / np.bincount(which)[which])[order]
    rising, falling = np.cumsum(weight), np.cumsum(weight[::-1])
    outside = (1 - COVERAGE) * (np.unique(which).size + 1)
    best = (np.inf, 0.0, 0.0)
    for share in sorted(np.linspace(0, 1, SHARES), key=lambda share: abs(share - 0.5)):
        low, high = _beyond(ranked, rising, share * outside), -_beyond(-ranked[::-1], falling, (1 - share) * outside)
        width = float(np.mean(np.clip(estimate + high, 0, cap) - np.clip(estimate + low, 0, cap)))
        best = min(best, (round(width, 9), low, high), key=lambda found: found[0])
    return best[1], best[2]


def _beyond(ranked: np.ndarray, mass: np.ndarray, outside: float) -> float:
    """The residual that so many assets lie below, one of them the asset to come; where that one alone is more, the smallest seen."""
    return float(ranked[min(int(np.searchsorted(mass, max(outside - 1, 0.0), side="right")), len(ranked) - 1)])
