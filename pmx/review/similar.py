"""Signatures: how far each channel lies from normal, with its sign; and the past episodes whose signature is most like an alarm's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pmx.review.facts import Past
from pmx.review.words import NEAR, sided

NEWEST = 10  # ticks that a signature is the mean of, as the contribution in the step graph
CLIP = 8.0  # standard deviations: beyond it a channel says no more than "far"
LEAST = 0.3  # likeness below which an episode resembles nothing
MOST = 3  # episodes shown, and channels named


@dataclass(frozen=True)
class Episode:
    """Something that happened and whose end is known.

    Attributes:
        asset: where; `found` is its kind, or what a label called it.
        when, life: its end, and how long the asset had lived, in words.
        ended: its end on the clock that all assets share, in ticks; −inf = it was known before the test part.
        signatures: float64 [moment, channel], from its beginning to its end.

    Example:
        >>> Episode("P1", "failure", "hour 90", "after 90 h", 90.0, np.array([[3.0, -1.0]])).found
        'failure'
    """

    asset: str
    found: str
    when: str
    life: str
    ended: float
    signatures: np.ndarray


def signature(score: np.ndarray, at: int) -> np.ndarray:
    """Mean of the newest scores of each channel at tick `at`, float64 [channel], of scores [time, channel]; NaN where there is none."""
    part = score[max(0, at + 1 - NEWEST) : at + 1]
    present = ~np.isnan(part)
    total = np.where(present, part, 0.0).sum(0)
    return np.divide(total, present.sum(0), out=np.full(score.shape[1], np.nan), where=present.any(0))


def likeness(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of signatures `a` float64 [channel] and each of `b` float64 [moment, channel], −1..1; NaN where one of them is normal.

    What lies within one standard deviation of normal says nothing: both are first drawn towards 0 by that much (soft threshold), and cut
    off at `CLIP`. A channel missing in one of both counts in neither.

    Example:
        >>> likeness(np.array([4.0, 0.5]), np.array([[3.0, 0.0], [-3.0, 0.0], [0.2, 0.1]])).tolist()
        [1.0, -1.0, nan]
    """
    both = ~np.isnan(a) & ~np.isnan(b)
    x, y = (np.where(both, np.sign(v) * np.clip(np.abs(v) - NEAR, 0, CLIP), 0.0) for v in (a, b))
    norm = np.sqrt((x**2).sum(-1) * (y**2).sum(-1))
    return np.clip(np.divide((x * y).sum(-1), norm, out=np.full(len(b), np.nan), where=norm > 0), -1.0, 1.0)


def most_similar(own: np.ndarray, raised: float, episodes: Sequence[Episode], names: Sequence[str]) -> tuple[Past, ...]:
    """The three past episodes most like a signature float64 [channel], of those that had ended when the alarm was raised (tick).

    Each episode counts at the moment at which it is most alike; one that hardly departs the same way is not shown.
    """
    found: list[tuple[float, Episode, np.ndarray]] = []
    for episode in (e for e in episodes if e.ended < raised and len(e.signatures)):
        alike = likeness(own, episode.signatures)
        if not np.isnan(alike).all() and np.nanmax(alike) >= LEAST:
            best = int(np.nanargmax(alike))
            found.append((float(alike[best]), episode, episode.signatures[best]))
    found.sort(key=lambda f: (-f[0], f[1].asset, f[1].when))
    return tuple(Past(e.asset, e.when, e.found, e.life, alike, _shared(own, then, names)) for alike, e, then in found[:MOST])


def _shared(a: np.ndarray, b: np.ndarray, names: Sequence[str]) -> tuple[str, ...]:
    """Channels that lie on the same side of normal in both, by at least one standard deviation, the most weighty first."""
    weight = np.where((np.sign(a) == np.sign(b)) & (np.fmin(np.abs(a), np.abs(b)) >= NEAR), np.abs(a * b), 0.0)
    order = np.argsort(-weight, kind="stable")[:MOST]
    return tuple(sided(names[k], float(a[k])) for k in order if weight[k] > 0)
