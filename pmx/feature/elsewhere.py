"""Readings beyond their range that would be usual in another unit, or in another channel's place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import spox.opset.ai.onnx.v20 as op
from spox import Var

from pmx.contract import Contract
from pmx.feature.habit import Habit
from pmx.feature.regime import RegimeScore
from pmx.feature.trail import beside, number
from pmx.feature.view import const, whole
from pmx.unit import FAMILIES, SAME

ALL_PAIRS = 16  # with more channels than that, only those of one unit are thought to be swapped
MOST_PAIRS = 256
STRANGE = 1.5  # deviations from normal that each of two swapped channels shows at least
LIKE = 2.0  # units whose ratio lies within this factor cannot be told apart from a machine that changes


@dataclass(frozen=True)
class Elsewhere:
    """What each channel's readings may have been mistaken for.

    Attributes:
        units: other units that a reading may be in, float64 [candidate, 3]: channel, and a, b with a x + b in the channel's own unit.
        pairs: channels that may be swapped, int64 [pair, 2].

    Example:
        >>> Elsewhere(np.array([[0.0, 1000.0, 0.0]]), np.zeros((0, 2), np.int64)).names
        ['unit change']
    """

    units: np.ndarray
    pairs: np.ndarray

    @staticmethod
    def of(contract: Contract, normalise: RegimeScore, habit: Habit, states: tuple[str, ...]) -> Elsewhere:
        """Those of a contract's scored channels that the states ask for."""
        units, pairs = _conversions(contract, normalise, habit), _pairs(contract, normalise.channels_)
        return Elsewhere(units[: None if "unit change" in states else 0], pairs[: None if "swapped" in states else 0])

    @property
    def names(self) -> list[str]:
        """The states that it can tell."""
        return [name for name, found in (("unit change", self.units), ("swapped", self.pairs)) if len(found)]

    def nodes(self, raw: Var, z: Var, normal: tuple[Var, Var], habit: Habit) -> Var:
        """The channels that each of `names` holds of, those of one name after those of the other, bool [asset, time, channel].

        Args:
            raw: readings of the scored channels, float64 [asset, time, channel].
            z: their scores.
            normal: mean and scale that broadcast to them.
        """
        u, p, k = len(self.units), len(self.pairs), len(habit.low)
        place = self.units[:, 0].astype(np.int64)
        here, there = np.r_[place, self.pairs.T.ravel()], np.r_[place, self.pairs.T[::-1].ravel()]
        scale, offset = np.r_[self.units[:, 1], np.ones(2 * p)], np.r_[self.units[:, 2], np.zeros(2 * p)]
        value = op.add(op.mul(op.gather(raw, whole(there), axis=2), const(scale)), const(offset))
        mean, spread = (op.gather(v, whole(here), axis=-1) for v in normal)
        score, now = op.div(op.sub(value, mean), spread), op.gather(op.abs(z), whole(here), axis=2)
        middle, half = (habit.high + habit.low) / 2, (habit.high - habit.low) / 2
        inside = op.less_or_equal(op.abs(op.sub(score, const(middle[here]))), const(half[here]))
        strange = op.greater(now, op.max([op.abs(score), const(np.r_[np.zeros(u), np.full(2 * p, STRANGE)])]))
        fits = number(op.and_(inside, strange))
        if p:
            *alone, this, that = beside(fits, [u, p, p] if u else [p, p])
            fits = op.concat([*alone, op.mul(this, that)], axis=2) if u else op.mul(this, that)
        beyond = number(op.greater(op.abs(op.sub(z, const(middle))), const(half)))
        about, told = np.zeros((k, u + p)), np.zeros((u + p, len(self.names) * k))
        for i, channels in enumerate([*place[:, None], *self.pairs]):
            about[channels, i] = 1.0
            told[i, channels + (k if i >= u > 0 else 0)] = 1.0
        return op.greater(op.matmul(op.mul(fits, op.matmul(beyond, const(about))), const(told)), const(0.0))


def _conversions(contract: Contract, normalise: RegimeScore, habit: Habit) -> np.ndarray:
    """Other units, float64 [candidate, 3]; not those in which every reading would look usual: a thousandth, where 0 is a usual reading."""
    normals = [np.stack([normalise.mean_, normalise.scale_]), *normalise.own_.values()]
    with np.errstate(invalid="ignore"):
        zero = [-mean / scale for mean, scale in normals]
        usual = np.any([((z >= habit.low) & (z <= habit.high)).any(0) for z in zero], axis=0)
    found = []
    for i, name in enumerate(normalise.channels_):
        unit = next(c.unit for c in contract.channels if c.name == name)
        unit = SAME.get(unit, unit)
        family = next((f for f in FAMILIES if unit in f), {})
        for other, (scale, offset) in family.items():
            a, b = scale / family[unit][0], (offset - family[unit][1]) / family[unit][0]
            if other != unit and (b or a > LIKE or (a < 1 / LIKE and not usual[i])):
                found.append((float(i), a, b))
    return np.array(found).reshape(-1, 3)


def _pairs(contract: Contract, channels: list[str]) -> np.ndarray:
    """Pairs of channels that may be swapped, int64 [pair, 2]."""
    unit = {c.name: c.unit for c in contract.channels}
    every = [(i, j) for j in range(len(channels)) for i in range(j)]
    if len(channels) > ALL_PAIRS:
        every = [(i, j) for i, j in every if unit[channels[i]] == unit[channels[j]] not in ("", "-")]
    return np.array(every[:MOST_PAIRS], np.int64).reshape(-1, 2)
