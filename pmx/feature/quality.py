"""Quality of readings: which channels lie, told from machines that change, and what stands in for them.

A failing machine moves several channels together, as the training part has shown; a failing sensor moves one, against what the
others say, or in a way that no reading behaves. So each channel is held against its own habits (missing, repeated, piled up at an
end, jumping) and against a linear estimate from the other channels. Every threshold comes from the ticks that were fitted on.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import onnxruntime
import polars as pl
import spox.opset.ai.onnx.v20 as op
from spox import Tensor, Var, argument, build

from pmx.contract import QUALITY, Contract, UsageError, within
from pmx.edge.step import session
from pmx.feature.elsewhere import Elsewhere
from pmx.feature.habit import LONG, LONGEST, MEAN, MIDDLE, REPEATS, SHORT, Habit
from pmx.feature.regime import RegimeScore
from pmx.feature.trail import Back, Step, Trail, Whole, beside, moved, number
from pmx.feature.view import const, cut, round32, whole
from pmx.window.label import rows_of_lives

FEW = 3  # ticks that a suspicion lasts before it must have a name
LASTING = 6  # of the last `LONG` ticks that a channel drifted, after which it is not trusted again at once
FIT_ROWS = 200_000  # ticks that are looked at to fit: whole assets, then the head of one
BLOCK = 16_384  # ticks that go through the graph at once
HELD = 16  # ticks back to the last reading that a step is measured from
REACH = 192  # ticks before a block that its first state may hang on: a value held, returns to it, the mean or the spikes after that
COUNTED = ("missing4", "missing24", "repeated6", "repeated24", "returned48")
RANKED = ("spikes", "noise", "drift", "unit change", "swapped", "stuck", "saturation", "dropout")  # a later one is said first
NEAR = 0.5  # of the distance that was never seen: what stays within agrees with the others
BARELY = float(np.nextafter(1.0, 2.0))


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
    elsewhere_: Elsewhere
    start_: np.ndarray  # memory before the first tick, float64 [slots]
    _graphs: dict[int, bytes]  # over whole histories, by the number of an asset's own constants

    def __init__(self, states: Sequence[str] = QUALITY[1:], margin: float = 1.25, least_worth: float = 0.25) -> None:
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
        fitted.habit_ = Habit.of(fitted._through(_some(ticks), session(fitted._offline(fitted._counts, judged=False))), self.margin)
        fitted.elsewhere_ = Elsewhere.of(contract, normalise, fitted.habit_, self.states)
        fitted.start_ = fitted._back(judged=True).start
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
        rows = moved(rows, op.sub(whole(hop), fresh), hop, hop) if hop > 1 else rows
        memory = op.unsqueeze(memory, whole([1]))
        said: dict[str, Var] = {}
        scores, back = [], self._back(judged=True)
        for i in range(hop):
            trail = Step(back, memory)
            now = self._judged(cut(rows, i, i + 1, 1) if hop > 1 else rows, own, trail)
            new = op.greater(op.unsqueeze(fresh, whole([1, 2])), whole(i))
            memory = op.where(new, trail.memory, memory)
            scores.append(now["scores"])
            said = {name: op.where(new, now[name], said[name]) if said else now[name] for name in ("state", "missing")}
        z = op.concat(scores, axis=1) if hop > 1 else scores[0]
        present = op.less(op.reduce_sum(said["missing"], whole([1, 2]), keepdims=0), const(float(len(self.normalise_.channels_))))
        return op.squeeze(said["state"], whole([1])), z, present, op.squeeze(memory, whole([1]))

    def table(self, ticks: pl.DataFrame) -> tuple[np.ndarray, pl.DataFrame]:
        """The same of whole histories: states int64 [row, channel of the contract], and `asset` with one Float64 column of scores per
        channel, null where missing, in the order of the ticks; each asset's ticks must be complete and in order.
        """
        if self.normalise_.slots not in self._graphs:
            self._graphs[self.normalise_.slots] = self._offline(self._judged, judged=True)
        said_of = self._through(ticks, session(self._graphs[self.normalise_.slots]))
        state = np.zeros((len(ticks), len(self.contract_.names)), np.int64)
        z = np.zeros((len(ticks), len(self.normalise_.channels_)))
        for rows, said in zip(rows_of_lives(ticks), said_of, strict=True):
            state[rows], z[rows] = said["state"], said["scores"]
        return state, ticks.select("asset").hstack(pl.DataFrame(z, schema=self.normalise_.channels_).fill_nan(None))

    def _through(self, ticks: pl.DataFrame, graph: onnxruntime.InferenceSession) -> list[dict[str, np.ndarray]]:
        """What a graph says of each asset's whole history, name -> [time, channel]; long ones in blocks that overlap."""
        names, outputs = self.contract_.names, [o.name for o in graph.get_outputs()]
        every = ticks.select(pl.col(names).cast(pl.Float32)).to_numpy().reshape(len(ticks), len(names))
        said = []
        for rows in rows_of_lives(ticks):
            readings, asset = np.ascontiguousarray(every[rows]), ticks["asset"][int(rows[0])]
            own = np.full((1, self.normalise_.slots), np.nan)
            if asset in self.normalise_.own_:
                own[0] = self.normalise_.own_[asset].ravel()
            blocks: list[list[np.ndarray]] = []
            for begin in range(0, len(readings), BLOCK):
                first = max(0, begin - REACH)
                given = {"window": readings[None, first : begin + BLOCK], "own": own}
                blocks.append([v[0, begin - first :] for v in graph.run(outputs, given)])
            said.append(dict(zip(outputs, map(np.concatenate, zip(*blocks, strict=True)), strict=True)))
        return said

    def _offline(self, what: Callable[[Var, Var, Trail], dict[str, Var]], judged: bool) -> bytes:
        """The bytes of a graph over whole histories."""
        window = argument(Tensor(np.float32, (1, "time", len(self.contract_.names))))
        own = argument(Tensor(np.float64, (1, self.normalise_.slots)))
        return build({"window": window, "own": own}, what(window, own, Whole(self._back(judged)))).SerializeToString()

    # ---- the nodes of both paths: all of [asset, time, channel]; conditions that are counted or joined are 0 or 1, float64

    def _back(self, judged: bool) -> Back:
        """How far back `_judged` looks, or `_counts`, which sees the first five flags alone."""
        n, k = len(self.contract_.names), len(self.normalise_.channels_)
        flags, held = [(SHORT, n), (LONG, n), (REPEATS, k), (LONG, k), (LONGEST, k)], [(HELD, 2 * k), (LONGEST, k)]
        if not judged:
            return Back([flags], held)
        told = len(self.elsewhere_.names) * k
        flags += [(MIDDLE, k), (LONG, k), (MEAN, 1), *([(FEW, told)] if told else [])]
        return Back([flags, [(SHORT, k), (LONG, k), (LONG, k)]], held, (MEAN, k), k)

    def _odd(self, window: Var, own: Var, trail: Trail) -> tuple[dict[str, Var], list[Var]]:
        """Readings, scores and what is odd about them; and the flags that the first thresholds are set on, in the order of `COUNTED`."""
        n, k = len(self.contract_.names), len(self.normalise_.channels_)
        at = _places(self.contract_.names, self.normalise_.channels_)
        gone, raw = op.isnan(window), op.cast(op.gather(window, whole(at), axis=2), to=np.float64)
        z = self.normalise_.nodes(window, self.contract_, own)
        which = np.stack([np.isin(np.arange(n), at), np.ones(n)], axis=1)
        there, any_there = beside(op.less(op.matmul(number(gone), const(which)), const(which.sum(0))), [1, 1])
        before, z_before = beside(trail.held(op.concat([raw, z], axis=2)), [k, k])
        repeats = op.equal(raw, before)
        # the end of a range: a value that was repeated, left, and met again
        met = op.equal(op.where(repeats, const(np.nan), raw), trail.held(op.where(repeats, raw, const(np.nan))))
        odd = {"raw": raw, "z": z, "any there": any_there, "step": op.abs(op.sub(z, z_before)), "there": there}
        missing = op.and_(gone, there)
        return odd, [missing, missing, repeats, repeats, met]

    def _counts(self, window: Var, own: Var, trail: Trail) -> dict[str, Var]:
        """What the thresholds are set on: scores, steps and counts of oddities, float64."""
        n, k = len(self.contract_.names), len(self.normalise_.channels_)
        odd, flags = self._odd(window, own, trail)
        counts = beside(trail.counts(number(op.concat(flags, axis=2))), [n, n, k, k, k])
        return {"z": odd["z"], "step": odd["step"]} | dict(zip(COUNTED, counts, strict=True))

    def _judged(self, window: Var, own: Var, trail: Trail) -> dict[str, Var]:
        """`state` int64 of the contract's channels, `scores` float64 with faulty ones replaced, and where a score is `missing`, 0 or 1."""
        h, n, k = self.habit_, len(self.contract_.names), len(self.normalise_.channels_)
        odd, flags = self._odd(window, own, trail)
        z, others = odd["z"], self.elsewhere_.names
        jump = op.greater(odd["step"], const(h.jump))
        flags += [jump, jump, odd["there"]]
        limits = [*h.missing, *h.repeated, h.returned, h.jumps, h.leaps, np.full(1, float(MEAN))]
        if others:
            flags.append(self.elsewhere_.nodes(odd["raw"], z, self.normalise_.normal(window, self.contract_, own)[:2], h))
            limits.append(np.full(k * len(others), 2.0))
        # a value that repeats, and that was left and met again before, is an end of the range: returns are held against two limits
        limits.append(h.returned - 1)
        again = 2 * n + 2 * k + np.arange(k)
        counts = trail.counts(number(op.concat(flags, axis=2)))
        counts = op.gather(counts, whole(np.r_[np.arange(sum(map(len, limits)) - k), again]), axis=2)
        widths = [n, n, k, k, k, k, k, 1, *(k for _ in others), k]
        lost4, lost24, same6, same24, returned, noise, leaps, steady, *told, again_ = beside(_up(counts, np.concatenate(limits)), widths)
        found, lost = dict(zip(others, told, strict=True)) | {"noise": noise}, op.max([lost4, lost24])
        found["stuck"] = op.max([same6, same24])
        found["saturation"] = op.max([returned, op.mul(found["stuck"], again_)])
        missing = number(op.isnan(z))
        masked = op.max([missing, *(v for s, v in found.items() if s in self.states)])
        found["dropout"] = op.gather(lost, whole(_places(self.contract_.names, self.normalise_.channels_)), axis=2)
        drift, spikes, held = self._alone(z, masked, steady, trail)
        found |= {"drift": drift, "spikes": op.max([spikes, leaps])}
        out = op.max([masked, *(v for s, v in (("drift", drift), ("spikes", held)) if s in self.states)])
        unknown = op.greater(missing, found["dropout"] if "dropout" in self.states else const(0.0))
        return {
            "state": self._named(found, lost, odd["any there"]),
            "scores": self._replaced(z, out, unknown),
            "missing": missing,
        }

    def _alone(self, z: Var, masked: Var, steady: Var, trail: Trail) -> tuple[Var, Var, Var]:
        """Channels in the states `drift` and `spikes`, and readings that must not count before their state is known, 0 or 1."""
        h, k = self.habit_, len(self.normalise_.channels_)
        absent = op.greater(masked, const(0.0))
        filled = self._filled_in(z, absent)
        room = (h.high - h.low) / 2  # what lies further out pulls the mean no more than this
        mean = trail.mean(op.max([op.min([filled, const(h.high + room)]), const(h.low - room)]))
        both = op.reshape(op.concat([filled, mean], axis=2), whole([0, 0, 2, k]))
        # where most are masked nobody is left to hold a channel against
        distance, blamed = _blamed(both, op.unsqueeze(op.or_(absent, self._crowd(masked)), whole([2])), h)
        now = op.gather(distance, whole(0), axis=2)
        lone, moved_off = (op.gather(blamed, whole(i), axis=2) for i in (0, 1))
        # a mean that one spike has moved is no drift
        away = op.and_(moved_off, op.greater_or_equal(now, const(NEAR)))
        # a spike rises from readings that were near what the others say; what creeps away does not
        rising = op.and_(lone, op.less(trail.before(now), const(NEAR)))
        flags = number(op.concat([lone, rising, away], axis=2))
        lone, _, away = beside(flags, [k] * 3)
        limits = np.repeat([float(FEW), 2.0, float(LASTING)], k)
        lasting, often, lately = beside(_up(trail.counts(flags), limits), [k] * 3)
        trusted = const(h.worth >= self.least_worth)
        drift = op.min([op.max([away, lately]), steady, trusted])
        passing = op.sub(const(1.0), lasting)
        return drift, op.mul(often, passing), op.mul(lone, op.max([passing, trusted]) if "drift" in self.states else passing)

    def _crowd(self, out: Var) -> Var:
        """Whether more than half of the channels are out, bool [asset, time, 1]."""
        return op.greater(op.reduce_sum(out, whole([2]), keepdims=1), const(len(self.normalise_.channels_) / 2))

    def _filled_in(self, z: Var, absent: Var) -> Var:
        """Scores with the absent ones estimated from the others; two rounds, so that two that are absent inform one another."""
        value = op.where(absent, const(0.0), z)
        for _ in range(2):
            value = op.where(absent, op.matmul(value, const(self.habit_.weight)), value)
        return value

    def _replaced(self, z: Var, out: Var, unknown: Var) -> Var:
        """Scores with those that are out estimated where at least half of the channels are good; missing elsewhere, and where `unknown`."""
        absent, clip = op.greater(out, const(0.0)), self.normalise_.clip
        # clipping and rounding leave a score that is not out as it is: it went through both
        estimate = round32(op.max([op.min([self._filled_in(z, absent), const(clip)]), const(-clip)]))
        return op.where(op.and_(absent, op.or_(unknown, self._crowd(out))), const(np.nan), estimate)

    def _named(self, found: dict[str, Var], lost: Var, any_there: Var) -> Var:
        """The state of every channel of the contract, int64; what says most of a fault's cause goes before what it looks like."""
        names, channels = self.contract_.names, self.normalise_.channels_
        order = [s for s in RANKED if s in found and s in self.states]
        bits = [1.0 if s == RANKED[-1] else 2.0 ** (i + 1) for i, s in enumerate(order)]
        said = np.zeros(2 ** (len(order) + 1), np.int64)
        for s, bit in zip(order, bits, strict=True):
            said[(np.arange(len(said)) & int(bit)) > 0] = QUALITY.index(s)
        stacked = op.reshape(op.concat([found[s] for s in order], axis=2), whole([0, 0, len(order), len(channels)]))
        code = op.matmul(const(bits), stacked)
        # settings and channels that never varied can only drop out
        every = op.concat([code, lost if RANKED[-1] in self.states else op.mul(lost, const(0.0))], axis=2)
        at = [channels.index(c) if c in channels else len(channels) + i for i, c in enumerate(names)]
        code = op.mul(op.gather(every, whole(at), axis=2), number(any_there))
        return op.gather(whole(said), op.cast(code, to=np.int64), axis=0)


def _some(ticks: pl.DataFrame) -> pl.DataFrame:
    """Whole assets until there are enough ticks, then the head of one."""
    return ticks if len(ticks) <= FIT_ROWS else ticks.head(FIT_ROWS)


def _places(names: list[str], channels: list[str]) -> np.ndarray:
    return np.array([names.index(c) for c in channels])


def _up(count: Var, least: np.ndarray) -> Var:
    """1 where a count is reached, else 0."""
    return number(op.greater_or_equal(count, const(least)))


def _blamed(value: Var, bad: Var, habit: Habit) -> tuple[Var, Var]:
    """Distances from the estimates, 1 = never seen, and the channel that lies furthest beyond, where the others agree once it is
    estimated, bool; both [asset, time, newest and mean, channel].

    The largest normalised residual names a single gross error (Handschin and others, Bad data analysis for power system state
    estimation, IEEE Trans. PAS 1975). The more the other channels depart from normal, the wider may a channel stray: wear shows on each
    machine in its own way.
    """
    limit = np.stack([habit.apart, habit.apart8])
    slope = np.where(np.isfinite(limit), limit, 0.0) * habit.stray

    def distance(v: Var) -> tuple[Var, Var]:
        estimate = op.matmul(v, const(habit.weight))
        usual = op.add(op.mul(op.abs(estimate), const(slope)), const(limit))
        return op.where(bad, const(0.0), op.div(op.abs(op.sub(v, estimate)), usual)), estimate

    first, estimate = distance(value)
    top = op.greater_or_equal(first, op.max([op.reduce_max(first, whole([3]), keepdims=1), const(BARELY)]))
    rest, _ = distance(op.where(top, estimate, value))
    return first, op.and_(top, op.less_or_equal(op.reduce_max(rest, whole([3]), keepdims=1), const(1.0)))
