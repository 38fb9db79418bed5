"""How remaining useful life is foretold as a failure draws near: measures of Saxena et al. 2010, and estimates that come late."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pmx.evaluate.interval import Interval, middle
from pmx.evaluate.part import Part
from pmx.evaluate.protocol import Protocol, Truth

ALPHA = 0.2  # half width of the band, as a share
LAMBDAS = (25, 50, 75)  # how far of the way from the cap to the failure, in percent
LATE = 10.0  # life units by which an estimate above the truth is late


@dataclass(frozen=True)
class _Life:
    """The readings of one life that ended in a known failure, in the life unit: life left float64 [time], falling, and its estimates."""

    asset: int
    left: np.ndarray
    told: np.ndarray


def prognosis_metrics(
    rul: list[np.ndarray], tick: list[np.ndarray], truth: Truth, protocol: Protocol, tick_length: float
) -> tuple[dict[str, Interval], dict[str, Part]]:
    """Measures of estimates in the life unit, float [time] per asset, and their parts per asset.

    The way to a failure begins where the true life left is the cap. `alpha_lambda_25`, `_50`, `_75`: of the lives whose failure is
    known and that were watched when λ of this way was gone, the share whose estimate lies within ±20 % of the true life left, at the
    first reading then (λ = 0.25, 0.5, 0.75: life left is 0.75, 0.5, 0.25 of the cap). A reading without an estimate is a miss.

    `prognostic_horizon`: life left, in the life unit and at most the cap, from which on every estimate of a life lies within ±20 % of
    the cap around the true life left; the median over the lives that were watched to within 20 % of the cap of their failure, with a
    bootstrap over assets. `prognostic_horizon_n`: how many these are. Both after Saxena et al. 2010, Metrics for Offline Evaluation
    of Prognostic Performance.

    `late_share_last`, `late_share_all`: share of estimates more than 10 life units above the truth (both at most the cap), at the last
    reading of each asset and at all readings. `abstained_last`, `abstained_all`: share of readings with a known life but no estimate.
    """
    n, lives = len(rul), []
    parts = {f"alpha_lambda_{percent}": _empty(n, higher=True) for percent in LAMBDAS}
    parts |= {f"{kind}_{at}": _empty(n) for kind in ("late_share", "abstained") for at in ("last", "all")}
    for i, (estimate, at) in enumerate(zip(rul, tick, strict=True)):
        raw, capped = (v * tick_length for v in truth.life(at.astype(np.float64), i, protocol.cap / tick_length))
        told = np.clip(estimate.astype(np.float64), 0.0, protocol.cap)
        lives += _lives(i, at, raw, told, tick_length)
        for where, part in (("last", slice(-1, None)), ("all", slice(None))):
            known = ~np.isnan(capped[part])
            given = known & ~np.isnan(told[part])
            _count(parts[f"late_share_{where}"], i, int((told[part] - capped[part] > LATE)[given].sum()), int(given.sum()))
            _count(parts[f"abstained_{where}"], i, int((known & ~given).sum()), int(known.sum()))
    for life in lives:
        for percent in LAMBDAS:
            hit = _within(life, (1 - percent / 100) * protocol.cap, protocol.cap, tick_length)
            if hit is not None:
                _count(parts[f"alpha_lambda_{percent}"], life.asset, int(hit), 1)
    ahead = [np.array([_ahead(life, protocol.cap) for life in lives if life.asset == i and _watched(life, protocol.cap)]) for i in range(n)]
    found = {k: p.interval(protocol.draws, protocol.seed) if k.endswith("_all") else p.binomial() for k, p in parts.items()}
    found["prognostic_horizon"] = middle(ahead, protocol.draws, protocol.seed)
    found["prognostic_horizon_n"] = (float(sum(map(len, ahead))), np.nan, np.nan)
    return found, parts


def _empty(n: int, higher: bool = False) -> Part:
    return Part(np.zeros(n), np.zeros(n), higher=higher)


def _count(part: Part, at: int, above: int, below: int) -> None:
    part.numerator[at] += above
    part.denominator[at] += below


def _lives(asset: int, tick: np.ndarray, raw: np.ndarray, told: np.ndarray, tick_length: float) -> list[_Life]:
    """The lives of an asset that a known failure ended."""
    known = np.flatnonzero(~np.isnan(raw))
    end = tick[known] + raw[known] / tick_length  # the tick of the failure: the same for every reading of a life, but for rounding
    cuts = np.flatnonzero(np.diff(end) > 1e-3) + 1
    return [_Life(asset, raw[part], told[part]) for part in np.split(known, cuts) if len(part)]


def _within(life: _Life, left: float, cap: float, tick_length: float) -> bool | None:
    """Whether the estimate lies in the band when so much life is `left`; None where the life was not watched then."""
    begun = life.left[0] > left - tick_length
    later = np.flatnonzero(life.left <= left)
    if not begun or not len(later) or life.left[later[0]] <= left - cap / 4:  # a gap in the record until the next λ
        return None
    true, told = life.left[later[0]], life.told[later[0]]
    return bool(abs(told - true) <= ALPHA * true + 1e-9 * cap)


def _watched(life: _Life, cap: float) -> bool:
    return bool(life.left[-1] <= ALPHA * cap)


def _ahead(life: _Life, cap: float) -> float:
    """Life left from which on the estimates stay in the band until the record ends; 0 where the last one is outside."""
    inside = np.abs(life.told - np.minimum(life.left, cap)) <= ALPHA * cap * (1 + 1e-9)
    first = int(np.flatnonzero(~inside)[-1]) + 1 if not inside.all() else 0
    return float(min(life.left[first], cap)) if first < len(inside) else 0.0
