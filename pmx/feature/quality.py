"""Quality of readings: which channels lie, told from machines that change, and what stands in for them.

A failing machine moves several channels together, as the training part has shown; a failing sensor moves one, against what the
others say, or in a way that no reading behaves. So each channel is held against its own habits (missing, repeated, piled up at an
end, jumping) and against a linear estimate from the other channels. Every threshold comes from the ticks that were fitted on.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np
import onnxruntime
import polars as pl
import spox.opset.ai.onnx.v20 as op
from spox import Tensor, Var, argument, build

from pmx.contract import QUALITY, Contract, UsageError, within
from pmx.edge.step import session
from pmx.feature.habit import LONG, LONGEST, MEAN, MIDDLE, REPEATS, SHORT, Habit
from pmx.feature.regime import RegimeScore
from pmx.feature.trail import Step, Trail, Whole, late, moved
from pmx.feature.view import const, cut, round32
from pmx.unit import FAMILIES, SAME
from pmx.window.label import lives_in

FEW = 3  # ticks that a suspicion lasts before it must have a name
FIT_ROWS = 200_000  # ticks that are looked at to fit: whole assets, then the head of one
BLOCK = 50_000  # ticks that go through the graph at once
REACH = 192  # ticks before a block that its first state may hang on: extremes, returns to them, the mean or the spikes after that
ALL_PAIRS = 16  # with more channels than that, only those of one unit are thought to be swapped
MOST_PAIRS = 256
STRANGE = 1.5  # deviations from normal that each of two swapped channels shows at least
LIKE = 2.0  # units whose ratio lies within this factor cannot be told apart from a machine that changes


class Quality:
    """Judges each channel's readings, and takes what a faulty sensor says out of the evidence.

    States, by what shows them: `dropout`, more readings missing than usual; `stuck`, a value that repeats; `saturation`, returns to the
    very same extreme; `unit change` and `swapped`, readings out of range that fit in another unit, or in another channel's place;
    `drift`, a channel that departs alone from what the others say (an offset and a wrong gain too); `noise`, too many large steps;
    `spikes`, lone readings that nothing explains. A state that is not among `states` is never given, and changes nothing.

    A channel in one of them, and a lone reading that departs alone, is replaced by its estimate from the other channels where at least
    half of these are good; elsewhere it is missing. A channel whose estimate is worth little is never said to drift: that may be
    its machine. Settings and channels that never varied can only drop out: nothing else is known of them.

    Args:
        states: those that are judged.
        margin: how far a channel must lie from its estimate, as a multiple of the largest distance of training.
        least_worth: share of variance that an estimate must explain before its channel can drift.

    Example:
        >>> Quality(states=["dropout", "stuck"]).states
        ('dropout', 'stuck')
    """

    contract_: Contract
    normalise_: RegimeScore
    habit_: Habit
    start_: np.ndarray  # memory before the first tick, float64 [slots]
    _graphs: dict[int, bytes]  # over whole histories, by the number of an asset's own constants

    def __init__(self, states: Sequence[str] = QUALITY[1:], margin: float = 1.15, least_worth: float = 0.25) -> None:
        unknown = [str(s) for s in states if s not in QUALITY[1:]]
        if unknown:
            raise UsageError(f"feature.quality.states: {', '.join(unknown)} -> choose from {', '.join(QUALITY[1:])}")
        within(1.0, 10.0, {"feature.quality.margin": margin})
        within(0.0, 1.0, {"feature.quality.least_worth": least_worth})
        self.states, self.margin, self.least_worth = tuple(states), margin, least_worth

    def fit(self, ticks: pl.DataFrame, normalise: RegimeScore, contract: Contract) -> Quality:
        """A fitted copy; learns from these ticks alone, with a fitted normalisation."""
        fitted = copy.copy(self)
        fitted.contract_, fitted.normalise_ = contract, normalise
        fitted.habit_ = Habit.of(fitted._through(_some(ticks), session(fitted._offline(fitted._counts))), self.margin)
        trail = Step(argument(Tensor(np.float64, ("asset", "slots"))), argument(Tensor(np.int64, ("asset",))))
        window, own = argument(Tensor(np.float32, ("asset", 1, len(contract.names)))), argument(Tensor(np.float64, ("asset", "own")))
        fitted._judged(window, own, trail)  # to learn how much it remembers
        fitted.start_ = trail.start
        fitted._graphs = {}
        return fitted

    def only(self, normalise: RegimeScore) -> Quality:
        """The same with another fitted normalisation."""
        fitted = copy.copy(self)
        fitted.normalise_ = normalise
        return fitted

    @property
    def slots(self) -> int:
        """Memory values per asset."""
        return len(self.start_)

    def nodes(self, rows: Var, own: Var, memory: Var, fresh: Var, hop: int) -> tuple[Var, Var, Var, Var]:
        """Some ticks: states of the newest int64 [asset, channel of the contract], scores with faulty ones replaced float64
        [asset, time, channel], the new ones first, whether any channel had a score at the newest, bool [asset], and the next memory.

        Args:
            rows: the newest readings, float32 [asset, hop, channel of the contract].
            own: the asset's own constants of the normalisation, float64 [asset, slots].
            memory: float64 [asset, slots], at first `start_`.
            fresh: how many of the rows are new, int64 [asset].
        """
        trail, newest = Step(memory, fresh, hop), op.const([0])
        if hop > 1:
            rows = moved(rows, op.sub(op.const(hop), fresh), hop)
            newest = op.max([op.sub(fresh, op.const([1])), op.const([0])])
        said = self._judged(rows, own, trail)
        state, present = said["state"], op.cast(said["present"], to=np.int64)
        if hop > 1:
            state, present = moved(state, newest, 1), moved(present, newest, 1)
        present = op.greater(op.squeeze(present, op.const([1, 2])), op.const(0))
        return op.squeeze(state, op.const([1])), said["scores"], present, trail.memory

    def table(self, ticks: pl.DataFrame) -> tuple[np.ndarray, pl.DataFrame]:
        """The same of whole histories: states int64 [row, channel of the contract], and `asset` with one Float64 column of scores per
        channel, null where missing, in the order of the ticks; each asset's ticks must be complete and in order.
        """
        if self.normalise_.slots not in self._graphs:
            self._graphs[self.normalise_.slots] = self._offline(self._judged)
        said_of = self._through(ticks, session(self._graphs[self.normalise_.slots]))
        state = np.zeros((len(ticks), len(self.contract_.names)), np.int64)
        z = np.zeros((len(ticks), len(self.normalise_.channels_)))
        parts = ticks.with_row_index("row of ticks").partition_by(lives_in(ticks))
        for part, said in zip(parts, said_of, strict=True):
            rows = part["row of ticks"].to_numpy()
            state[rows], z[rows] = said["state"], said["scores"]
        return state, ticks.select("asset").hstack(pl.DataFrame(z, schema=self.normalise_.channels_).fill_nan(None))

    def _through(self, ticks: pl.DataFrame, graph: onnxruntime.InferenceSession) -> list[dict[str, np.ndarray]]:
        """What a graph says of each asset's whole history, name -> [time, channel]; long ones in blocks that overlap."""
        names, outputs = self.contract_.names, [o.name for o in graph.get_outputs()]
        said = []
        for part in ticks.partition_by(lives_in(ticks)):
            readings = part.select(pl.col(names).cast(pl.Float32)).to_numpy().reshape(len(part), len(names)).astype(np.float32)
            own = np.full((1, self.normalise_.slots), np.nan)
            if part["asset"][0] in self.normalise_.own_:
                own[0] = self.normalise_.own_[part["asset"][0]].ravel()
            blocks: list[list[np.ndarray]] = []
            for begin in range(0, len(readings), BLOCK):
                first = max(0, begin - REACH)
                given = {"window": readings[None, first : begin + BLOCK], "own": own}
                blocks.append([v[0, begin - first :] for v in graph.run(outputs, given)])
            said.append(dict(zip(outputs, map(np.concatenate, zip(*blocks, strict=True)), strict=True)))
        return said

    def _offline(self, what: Callable[[Var, Var, Trail], dict[str, Var]]) -> bytes:
        """The bytes of a graph over whole histories."""
        window = argument(Tensor(np.float32, (1, "time", len(self.contract_.names))))
        own = argument(Tensor(np.float64, (1, self.normalise_.slots)))
        return build({"window": window, "own": own}, what(window, own, Whole())).SerializeToString()

    # ---- the nodes of both paths: all of [asset, time, channel]

    def _counts(self, window: Var, own: Var, trail: Trail) -> dict[str, Var]:
        """What the thresholds are set on: scores, steps and counts of oddities, float64."""
        n, k = len(self.contract_.names), len(self.normalise_.channels_)
        x = op.cast(op.gather(window, op.const(_places(self.contract_.names, self.normalise_.channels_)), axis=2), to=np.float64)
        z = self.normalise_.nodes(window, self.contract_, own)
        there = _any_of(op.not_(op.isnan(x)))
        missing = _number(op.and_(op.isnan(window), there))
        repeats = op.equal(x, trail.before(_filled(x, trail, k), np.nan, k))
        # both ends at once: the readings and, with the sign turned, the readings again
        both = op.concat([x, op.neg(x)], axis=2)
        extreme = trail.before(trail.most(op.where(op.isnan(both), const(-np.inf), both), LONG - 1, 2 * k), -np.inf, 2 * k)
        tied = op.equal(both, extreme)
        returns = op.and_(op.or_(cut(tied, 0, k, 2), cut(tied, k, 2 * k, 2)), op.not_(repeats))
        return {
            "missing4": trail.count(missing, SHORT, n),
            "missing24": trail.count(missing, LONG, n),
            "repeated6": trail.count(_number(repeats), REPEATS, k),
            "repeated24": trail.count(_number(repeats), LONG, k),
            "returned48": trail.count(_number(returns), LONGEST, k),
            "step": op.abs(op.sub(z, trail.before(_filled(z, trail, k), np.nan, k))),
            "z": z,
        }

    def _judged(self, window: Var, own: Var, trail: Trail) -> dict[str, Var]:
        """`state` int64 of the contract's channels, `scores` float64 with faulty ones replaced, `present` bool [asset, time, 1]."""
        h, k, at = self.habit_, len(self.normalise_.channels_), self._counts(window, own, trail)
        z = at["z"]
        known = op.not_(op.isnan(z))
        lost = op.or_(_reached(at["missing4"], h.missing[0]), _reached(at["missing24"], h.missing[1]))
        found = {
            "dropout": op.gather(lost, op.const(_places(self.contract_.names, self.normalise_.channels_)), axis=2),
            "stuck": op.or_(_reached(at["repeated6"], h.repeated[0]), _reached(at["repeated24"], h.repeated[1])),
            "saturation": _reached(at["returned48"], h.returned),
            "noise": _reached(trail.count(_number(op.greater(at["step"], const(h.jump))), MIDDLE, k), h.jumps),
        }
        now = self._elsewhere(window, z, own)
        # a value that repeats and that was left and met again before is an end of the range
        again = op.and_(found["stuck"], _reached(at["returned48"], h.returned - 1))
        found["saturation"] = op.or_(found["saturation"], again)
        for name, seen in now.items():
            found[name] = _reached(trail.count(_number(seen), FEW, k), np.full(k, 2.0))
        gross = [*(found[s] for s in ("stuck", "saturation", "noise")), *now.values()]
        names = ["stuck", "saturation", "noise", *now]
        masked = reduce(op.or_, [g for g, s in zip(gross, names, strict=True) if s in self.states], op.not_(known))
        apart, held = self._apart(z, masked, there=_any_of(known), trail=trail)
        found |= apart
        out = reduce(op.or_, [v for s, v in (("drift", apart["drift"]), ("spikes", held)) if s in self.states], masked)
        filled = op.and_(out, op.or_(known, found["dropout"])) if "dropout" in self.states else op.and_(out, known)
        return {
            "state": self._named(found, lost, op.not_(_any_of(op.not_(op.isnan(window))))),
            "scores": self._replaced(z, out, filled),
            "present": _any_of(known),
        }

    def _elsewhere(self, window: Var, z: Var, own: Var) -> dict[str, Var]:
        """Readings beyond their range that lie within it in another unit, or in another channel's place, bool."""
        h, channels = self.habit_, self.normalise_.channels_
        x = op.cast(op.gather(window, op.const(_places(self.contract_.names, channels)), axis=2), to=np.float64)
        mean, scale, _ = self.normalise_.normal(window, self.contract_, own)
        beyond = op.or_(op.less(z, const(h.low)), op.greater(z, const(h.high)))

        def turned(value: Var, at: np.ndarray) -> tuple[Var, Var]:
            """How far from normal these values would be, and whether that was seen in training."""
            m, s = op.gather(mean, op.const(at), axis=-1), op.gather(scale, op.const(at), axis=-1)
            score = op.div(op.sub(value, m), s)
            inside = op.and_(op.greater_or_equal(score, const(h.low[at])), op.less_or_equal(score, const(h.high[at])))
            return op.abs(score), op.and_(inside, op.not_(op.isinf(s)))

        found, units, pairs = {}, _conversions(self.contract_, channels), _pairs(self.contract_, channels)
        if len(units):
            at = units[:, 0].astype(np.int64)
            value = op.add(op.mul(op.gather(x, op.const(at), axis=2), const(units[:, 1])), const(units[:, 2]))
            # where 0 is a usual reading, every reading divided by a thousand looks usual
            telling = op.or_(op.const(units[:, 2] != 0), op.not_(turned(op.mul(value, const(0.0)), at)[1]))
            seen = op.and_(op.and_(turned(value, at)[1], telling), op.gather(beyond, op.const(at), axis=2))
            found["unit change"] = _gathered(seen, at[:, None], len(channels))
        if len(pairs):
            seen = reduce(op.or_, (op.gather(beyond, op.const(at), axis=2) for at in pairs.T))
            for here, there in (pairs.T, pairs.T[::-1]):
                now = op.abs(op.gather(z, op.const(here), axis=2))
                then, inside = turned(op.gather(x, op.const(there), axis=2), here)
                better = op.and_(inside, op.and_(op.greater(now, const(STRANGE)), op.less(then, now)))
                seen = op.and_(seen, better)
            found["swapped"] = _gathered(seen, pairs, len(channels))
        return found

    def _apart(self, z: Var, masked: Var, there: Var, trail: Trail) -> tuple[dict[str, Var], Var]:
        """Channels in the states `drift` and `spikes`, and readings that must not count before their state is known, bool."""
        h, k = self.habit_, len(self.normalise_.channels_)
        filled = self._filled_in(z, masked)
        distance, lone = _blamed(filled, masked, h, h.apart)
        good = op.reduce_sum(_number(op.not_(masked)), op.const([2]), keepdims=1)
        enough = op.greater_or_equal(op.mul(good, const(2.0)), const(float(k)))  # else nobody is left to hold a channel against
        lone = op.and_(lone, enough)
        mean = trail.mean8(op.max([op.min([filled, const(h.high)]), const(h.low)]), k)
        steady = _reached(trail.count(_number(there), MEAN, 1), np.full(1, float(MEAN)))
        trusted = op.const(h.worth >= self.least_worth)
        gross = op.and_(masked, op.not_(op.isnan(z)))
        now = op.and_(op.greater(distance, const(0.5)), enough)  # a mean that one spike has moved is no drift
        drift = op.and_(op.and_(_blamed(mean, gross, h, h.apart8)[1], steady), op.and_(trusted, now))
        lasting = _reached(trail.count(_number(lone), SHORT, k), np.full(k, float(FEW)))
        # a spike rises from readings that were near what the others say; what creeps away does not
        onset = op.and_(lone, op.less(trail.before(distance, 0.0, k), const(0.5)))
        spikes = op.and_(_reached(trail.count(_number(onset), LONG, k), np.full(k, 2.0)), op.not_(lasting))
        passing = op.not_(lasting) if "drift" not in self.states else op.or_(op.not_(lasting), trusted)
        return {"drift": drift, "spikes": spikes}, op.and_(lone, passing)

    def _filled_in(self, z: Var, masked: Var) -> Var:
        """Scores with the masked ones estimated from the others; two rounds, so that two that are masked inform one another."""
        value = op.where(masked, const(0.0), z)
        for _ in range(2):
            value = op.where(masked, op.matmul(value, const(self.habit_.weight)), value)
        return value

    def _replaced(self, z: Var, out: Var, filled: Var) -> Var:
        """Scores with those in `filled` estimated where at least half of the channels are good, and missing elsewhere."""
        good = op.reduce_sum(_number(op.not_(out)), op.const([2]), keepdims=1)
        enough = op.greater_or_equal(op.mul(good, const(2.0)), const(float(len(self.normalise_.channels_))))
        clip = const(self.normalise_.clip)
        estimate = round32(op.max([op.min([self._filled_in(z, out), clip]), op.neg(clip)]))
        return op.where(filled, op.where(enough, estimate, const(np.nan)), z)

    def _named(self, found: dict[str, Var], lost: Var, silent: Var) -> Var:
        """The state of every channel of the contract, int64; what says most of a fault's cause goes before what it looks like."""
        state = op.mul(op.cast(found["stuck"], to=np.int64), op.const(0))
        for name in ("spikes", "noise", "drift", "unit change", "swapped", "stuck", "saturation", "dropout"):
            if name in found and name in self.states:
                state = op.where(found[name], op.const(QUALITY.index(name)), state)
        blank = op.where(lost, op.const(QUALITY.index("dropout") if "dropout" in self.states else 0), op.const(0))
        channels = self.normalise_.channels_
        order = [channels.index(n) if n in channels else len(channels) + i for i, n in enumerate(self.contract_.names)]
        return op.where(silent, op.const(0), op.gather(op.concat([state, blank], axis=2), op.const(np.array(order)), axis=2))


def _some(ticks: pl.DataFrame) -> pl.DataFrame:
    """Whole assets until there are enough ticks, then the head of one."""
    return ticks if len(ticks) <= FIT_ROWS else ticks.head(FIT_ROWS)


def _places(names: list[str], channels: list[str]) -> np.ndarray:
    return np.array([names.index(c) for c in channels])


def _number(value: Var) -> Var:
    return op.cast(value, to=np.float64)


def _any_of(value: Var) -> Var:
    """Whether any channel has it, bool [asset, time, 1]."""
    return op.greater(op.reduce_max(_number(value), op.const([2]), keepdims=1), const(0.0))


def _reached(count: Var, least: np.ndarray) -> Var:
    return op.greater_or_equal(count, const(least))


def _gathered(seen: Var, at: np.ndarray, channels: int) -> Var:
    """Bool of candidates to bool of the channels that they are about; `at` int [candidate, channels of each]."""
    belongs = np.zeros((len(at), channels))
    for column in at.T:
        belongs[np.arange(len(at)), column] = 1.0
    return op.greater(op.matmul(_number(seen), const(belongs)), const(0.0))


def _filled(x: Var, trail: Trail, channels: int) -> Var:
    """Values with up to fifteen missing ones in a row repeated from before."""
    for back in (1, 2, 4, 8):
        x = op.where(op.isnan(x), late(trail.past(x, back + 1, np.nan, channels), back + 1, back), x)
    return x


def _blamed(value: Var, exempt: Var, habit: Habit, limit: np.ndarray) -> tuple[Var, Var]:
    """Distances from the estimates, 1 = never seen, and the channel that lies furthest beyond, where the others agree once it is
    estimated, bool.

    The largest normalised residual names a single gross error (Handschin and others, Bad data analysis for power system state
    estimation, IEEE Trans. PAS 1975). The more the other channels depart from normal, the wider may a channel stray: wear shows on each
    machine in its own way.
    """

    def distance(v: Var, none: Var) -> Var:
        estimate = op.matmul(v, const(habit.weight))
        usual = op.mul(op.add(op.mul(op.abs(estimate), const(habit.stray)), const(1.0)), const(limit))
        return op.where(none, const(0.0), op.div(op.abs(op.sub(v, estimate)), usual))

    first = distance(value, exempt)
    top = op.and_(op.equal(first, op.reduce_max(first, op.const([2]), keepdims=1)), op.greater(first, const(1.0)))
    rest = distance(op.where(top, op.matmul(value, const(habit.weight)), value), op.or_(top, exempt))
    return first, op.and_(top, op.less_or_equal(op.reduce_max(rest, op.const([2]), keepdims=1), const(1.0)))


def _conversions(contract: Contract, channels: list[str]) -> np.ndarray:
    """Other units that a reading may be in, float64 [candidate, 3]: channel, and a, b with a x + b in the channel's own unit."""
    found = []
    for i, name in enumerate(channels):
        unit = next(c.unit for c in contract.channels if c.name == name)
        unit = SAME.get(unit, unit)
        family = next((f for f in FAMILIES if unit in f), {})
        for other, (scale, offset) in family.items():
            a, b = scale / family[unit][0], (offset - family[unit][1]) / family[unit][0]
            if other != unit and (b or not 1 / LIKE <= a <= LIKE):
                found.append((float(i), a, b))
    return np.array(found).reshape(-1, 3)


def _pairs(contract: Contract, channels: list[str]) -> np.ndarray:
    """Pairs of channels that may be swapped, int [pair, 2]."""
    unit = {c.name: c.unit for c in contract.channels}
    every = [(i, j) for j in range(len(channels)) for i in range(j)]
    if len(channels) > ALL_PAIRS:
        every = [(i, j) for i, j in every if unit[channels[i]] == unit[channels[j]] not in ("", "-")]
    return np.array(every[:MOST_PAIRS], np.int64).reshape(-1, 2)
