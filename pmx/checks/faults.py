"""Sensor faults planted into readings, and what a bundle makes of them: `python -m pmx.checks.faults BUNDLE --input FILE.csv`.

A faulty sensor alone must raise a sensor alarm, never a machine alarm, and a machine that fails must be found beside a faulty sensor.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pmx.align import Ticker, Ticks
from pmx.bundle import Bundle
from pmx.contract import QUALITY, Channel, Contract, PmxError, Rows, UsageError
from pmx.edge.replay import Replayed, replay_ticks
from pmx.edge.table import read_csv
from pmx.judge import Checker
from pmx.unit import FAMILIES, SAME

SIZE = 15.0  # of a departure, in deviations of the channel's own scatter from tick to tick
RAMP = 40  # ticks in which a drift grows by the size
BREACHED = 0.2  # share of ticks with a breach of the contract from which on the contract has named the channel
LEAST_BEFORE = 30  # ticks without a fault that each trial begins with
LIKE = 2.0  # a unit within this factor of another is no gross change


@dataclass(frozen=True)
class Sensor:
    """What a planted fault knows of the channel that it befalls.

    Attributes:
        before: its values before the fault, float64 [tick], never empty.
        scatter: standard deviation of its noise from tick to tick, of the values before.
        low: what it reads when it is dead.
        unit: the channel's unit.
        size: of a departure, in such deviations.
        other: values of the channel that it changes places with, float64 [tick] of the fault.
    """

    before: np.ndarray
    scatter: float
    low: float
    unit: str
    size: float
    other: np.ndarray

    @property
    def off(self) -> float:
        """A departure in the channel's unit."""
        return self.size * self.scatter


Plant = Callable[[np.ndarray, Sensor, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Fault:
    """One kind of sensor fault.

    Attributes:
        state: what a verdict should call it, one of `QUALITY`.
        about: what the sensor does.
        plant: the channel's values float64 [tick] from the fault's first tick on, the sensor, and random numbers, to what it says.
    """

    state: str
    about: str
    plant: Plant


def _ramp(x: np.ndarray) -> np.ndarray:
    return np.arange(1, len(x) + 1) / RAMP


def _spiky(x: np.ndarray, sensor: Sensor, rng: np.random.Generator) -> np.ndarray:
    hit = rng.random(len(x)) < 0.125
    hit[rng.integers(len(x))] = True  # a short fault without a spike would be none
    return x + sensor.off * hit


def _spoken(x: np.ndarray, sensor: Sensor, rng: np.random.Generator) -> np.ndarray:
    factors = other_units(sensor.unit)
    scale, offset = factors[int(rng.integers(len(factors)))]
    return x * scale + offset


KINDS: dict[str, Fault] = {
    "dropout": Fault("dropout", "says nothing any more", lambda x, s, rng: np.full(len(x), np.nan)),
    "intermittent": Fault("dropout", "loses half of its readings", lambda x, s, rng: np.where(rng.random(len(x)) < 0.5, np.nan, x)),
    "stuck": Fault("stuck", "repeats its last value", lambda x, s, rng: np.where(np.isnan(x), np.nan, s.before[-1])),
    "dead": Fault("stuck", "reads 0, or the low end of its range", lambda x, s, rng: np.full(len(x), s.low)),
    "saturation": Fault("saturation", "cuts off the upper half of its readings", lambda x, s, rng: np.minimum(x, np.nanmedian(x))),
    "spikes": Fault("spikes", "jumps for a tick, one in eight", _spiky),
    "noise": Fault("noise", "scatters fifteen times as wide", lambda x, s, rng: x + s.off * rng.normal(size=len(x))),
    "drift up": Fault("drift", "climbs away", lambda x, s, rng: x + s.off * _ramp(x)),
    "drift down": Fault("drift", "sinks away", lambda x, s, rng: x - s.off * _ramp(x)),
    "offset": Fault("drift", "is off by a constant", lambda x, s, rng: x + s.off),
    "gain": Fault("drift", "is off by a factor of two", lambda x, s, rng: x * 2.0),
    "unit change": Fault("unit change", "speaks another unit", _spoken),
    "swapped": Fault("swapped", "changes places with another channel", lambda x, s, rng: s.other),
}


def other_units(unit: str) -> list[tuple[float, float]]:
    """Scale and offset from a unit to those it is grossly mistaken for; empty where it has no relatives.

    Example:
        >>> other_units("bar")[0]
        (100.0, 0.0)
    """
    unit = SAME.get(unit, unit)
    family = next((f for f in FAMILIES if unit in f), {})
    turned = [((family[unit][0]) / scale, (family[unit][1] - offset) / scale) for u, (scale, offset) in family.items() if u != unit]
    return [(scale, offset) for scale, offset in turned if offset or not 1 / LIKE <= scale <= LIKE]


def inject(
    readings: np.ndarray,
    contract: Contract,
    kind: str,
    channel: str,
    begin: int,
    other: str | None = None,
    seed: int = 0,
    size: float = SIZE,
) -> np.ndarray:
    """Readings float32 [time, channel] of an asset with a sensor fault from tick `begin` on; those given stay as they are.

    Args:
        kind: one of `KINDS`.
        other: the channel that `swapped` changes places with.
        size: of a departure, in deviations of the channel's scatter from tick to tick.

    Example:
        A sensor sticks at its last value.

        >>> from pmx.contract import Channel
        >>> contract = Contract((Channel("flow", "m3/h"), Channel("heat", "°C")), "h", "life")
        >>> readings = np.array([[60, 20], [62, 21], [61, 20], [63, 22], [60, 21]], np.float32)
        >>> inject(readings, contract, "stuck", "flow", begin=2)[:, 0].tolist()
        [60.0, 62.0, 62.0, 62.0, 62.0]

        Two cables change places.

        >>> inject(readings, contract, "swapped", "flow", begin=3, other="heat").tolist()[2:]
        [[61.0, 20.0], [22.0, 63.0], [21.0, 60.0]]
    """
    i, c = _befalls(contract, kind, channel, other)
    values = readings.astype(np.float64)
    before = values[:begin, i][~np.isnan(values[:begin, i])]
    if not 0 < begin < len(values) or not len(before):
        raise UsageError(f"fault of channel {channel} at tick {begin}: no reading before it -> begin between 1 and {len(values) - 1}")
    steps = np.abs(np.diff(before)) if len(before) > 1 else np.zeros(1)
    scatter = float(np.median(steps)) / (0.6745 * np.sqrt(2))  # of normal noise: half of its steps are smaller
    partner = contract.names.index(other) if other in contract.names else i
    sensor = Sensor(before, scatter, max(c.low or 0.0, 0.0), c.unit, size, values[begin:, partner].copy())
    own = values[begin:, i].copy()
    values[begin:, i] = KINDS[kind].plant(own, sensor, np.random.default_rng(seed))
    if kind == "swapped":
        values[begin:, partner] = own
    return values.astype(np.float32)


def _befalls(contract: Contract, kind: str, channel: str, other: str | None) -> tuple[int, Channel]:
    """The channel that a fault befalls and its place; what cannot be planted is refused."""
    if kind not in KINDS or channel not in contract.names:
        near = ", ".join(KINDS) if kind not in KINDS else ", ".join(contract.names)
        raise UsageError(f"fault {kind!r} of channel {channel!r}: not known -> one of {near}")
    i, c = contract.names.index(channel), next(c for c in contract.channels if c.name == channel)
    if kind == "unit change" and not other_units(c.unit):
        raise UsageError(f"fault 'unit change' of channel {channel}: {c.unit} has no relatives -> choose a channel in another unit")
    if kind == "swapped" and (other == channel or other not in contract.names):
        raise UsageError(f"fault 'swapped' of channel {channel}: other is {other!r} -> name another channel")
    return i, c


@dataclass(frozen=True)
class Trial:
    """One planted fault, and what a bundle made of it.

    Attributes:
        asset, kind, channel: what was planted where.
        caused: machine alarms that began after the fault and do not stand without it.
        named: whether the state given most often to the channel is the right one.
        told: that state, `good` where it was never found faulty; `breach` where it is not the right one, but breaches of the contract
            named the channel at a fifth of the ticks or more.
        delay: ticks until a sensor alarm of the channel stood; None = never.
        breached: share of ticks at which a breach of the contract named the channel.
    """

    asset: str
    kind: str
    channel: str
    caused: int
    named: bool
    told: str
    delay: int | None
    breached: float


def plan(
    contract: Contract, kinds: Sequence[str], seeds: int, seed: int = 0, channels: Sequence[str] = ()
) -> Iterator[tuple[str, str, str, int]]:
    """Kind, channel, partner and seed of every trial: each kind as often as there are seeds, on measurements drawn at random.

    Args:
        seed: other ones draw other trials.
        channels: measurements that faults befall; none named = all.
    """
    measured = [c for c in contract.channels if c.role == "measurement"]
    for kind in kinds:
        fitting = [c.name for c in measured if (kind != "unit change" or other_units(c.unit)) and c.name in (channels or contract.names)]
        for i in range(seeds if fitting and (kind != "swapped" or len(measured) > 1) else 0):
            rng = np.random.default_rng([seed, i, list(KINDS).index(kind)])
            channel = fitting[int(rng.integers(len(fitting)))]
            others = [c.name for c in measured if c.name != channel]
            yield kind, channel, others[int(rng.integers(len(others)))] if others else channel, seed * seeds + i


def judge_faults(
    bundle: Bundle,
    healthy: Ticks,
    kinds: Sequence[str] = tuple(KINDS),
    seeds: int = 20,
    lasting: int = 80,
    seed: int = 0,
    channels: Sequence[str] = (),
    size: float = SIZE,
) -> list[Trial]:
    """Plants each kind of fault as often as there are seeds into healthy histories, one channel at a time, and replays them.

    Args:
        bundle: an opened bundle.
        healthy: ticks without a failing machine; assets take turns.
        lasting: a fault begins so many ticks before its asset's last one, and lasts until then.
        seed: other ones draw other trials.
        channels: measurements that faults befall; none named = all.
        size: of a departure, in deviations of the channel's scatter from tick to tick.
    """
    contract = bundle.spec.contract
    long = [i for i, v in enumerate(healthy.values) if len(v) >= LEAST_BEFORE + lasting]
    if not long:
        raise UsageError(f"no asset has {LEAST_BEFORE + lasting} healthy ticks -> give longer histories, or a smaller `lasting`")
    trials = list(plan(contract, kinds, seeds, seed, channels))
    assets = [long[n % len(long)] for n in range(len(trials))]
    clean = replay_ticks(bundle, healthy)
    planted = []
    for (kind, channel, other, own), i in zip(trials, assets, strict=True):
        values = healthy.values[i]
        planted.append(inject(values, contract, kind, channel, len(values) - lasting, other, own, size))
    kept = [admitted(v, contract) for v in planted]
    faulty = replay_ticks(bundle, Ticks([healthy.assets[i] for i in assets], healthy.start[assets], [v for v, _ in kept]))
    found = []
    for n, ((kind, channel, other, _), i) in enumerate(zip(trials, assets, strict=True)):
        about = [contract.names.index(channel)] + ([contract.names.index(other)] if kind == "swapped" else [])
        begin, broken = len(planted[n]) - lasting, np.asarray(kept[n][1][:, about].any(1))
        found.append(_trial(kind, channel, begin, about, faulty, n, clean.standing[i], broken))
    return found


def _trial(
    kind: str, channel: str, begin: int, about: list[int], faulty: Replayed, n: int, without: np.ndarray, broken: np.ndarray
) -> Trial:
    """What became of the n-th planted fault, which began at a tick.

    Args:
        about: the contract's channels that it befell.
        without: whether the machine alarm stands where nothing was planted, bool [time].
        broken: where a breach of the contract named one of these channels, bool [time].
    """
    seen = faulty.standing[n] & ~without
    caused = int((np.diff(np.r_[False, seen[begin:]].astype(int)) == 1).sum())
    told, delay = _told(faulty, n, begin, about)
    right, breached = KINDS[kind].state, float(broken[begin:].mean())
    told = "breach" if told != right and breached >= BREACHED else told
    return Trial(faulty.assets[n], kind, channel, caused, told == right, told, delay, breached)


def admitted(values: np.ndarray, contract: Contract) -> tuple[np.ndarray, np.ndarray]:
    """Readings float32 [time, channel] as the contract lets them through, and where one of them broke it, bool [time, channel]."""
    at = np.arange(len(values), dtype=np.int64)
    time = at * contract.tick_us if contract.clock == "calendar" else at * float(contract.tick)
    columns = {name: values[:, i].astype(np.float64) for i, name in enumerate(contract.names)}
    rows = Rows(np.full(len(values), "asset", object), time, columns, np.full(len(values), "planted", object), at)
    checked = Checker(contract).check(rows)
    kept, broken = np.full(values.shape, np.nan, np.float32), np.zeros(values.shape, bool)
    kept[checked.position] = checked.values
    for breach in checked.breaches:
        if breach.channel in contract.names:
            broken[breach.row, contract.names.index(breach.channel)] = True
    return kept, broken


def _told(played: Replayed, n: int, begin: int, about: list[int]) -> tuple[str, int | None]:
    """The state given most often to these channels from tick `begin` on, and after how many ticks a sensor alarm stood."""
    if "quality" not in played.outputs:
        return QUALITY[0], None
    state = played.outputs["quality"][n][begin:, about].astype(np.int64).ravel()
    counts = np.bincount(state[state > 0], minlength=len(QUALITY))
    standing = np.flatnonzero(played.sensors[n][begin:, about].any(1))
    return QUALITY[int(np.argmax(counts))] if counts.any() else QUALITY[0], int(standing[0]) + 1 if len(standing) else None


def table_of(trials: Sequence[Trial]) -> str:
    """One line per kind: trials, machine alarms caused, named right by state or else by a breach of the contract, median delay in ticks,
    and what else it was called.
    """
    lines = [f"{'sensor fault':<14}{'n':>4}{'machine alarms':>16}{'named right':>13}{'or breach':>11}{'delay':>7}  also called"]
    for kind in dict.fromkeys(t.kind for t in trials):
        own = [t for t in trials if t.kind == kind]
        delays = [t.delay for t in own if t.delay is not None]
        wrong = [t.told for t in own if not t.named and t.told != "breach"]
        also = ", ".join(f"{w} {wrong.count(w)}" for w in dict.fromkeys(wrong))
        delay = f"{np.median(delays):.0f}" if delays else "–"
        breach = sum(t.told == "breach" for t in own)
        lines.append(
            f"{kind:<14}{len(own):>4}{sum(t.caused for t in own):>16}{sum(t.named for t in own):>13}{breach:>11}{delay:>7}  {also}"
        )
    return "\n".join(lines)


def quiet(bundle: Bundle, ticks: Ticks) -> Ticks:
    """What lies more than the bundle's horizon before each asset's first alarm, or before its end: nobody knows which machine was healthy."""
    reach = int(np.ceil(bundle.spec.horizon / bundle.spec.contract.tick))
    ends = [int(np.argmax(s)) if s.any() else len(s) for s in replay_ticks(bundle, ticks).standing]
    return Ticks(ticks.assets, ticks.start, [v[: max(0, end - reach)] for v, end in zip(ticks.values, ends, strict=True)])


def main(argv: list[str] | None = None) -> int:
    """Plants faults into readings that lie a horizon before any alarm, and prints what a bundle made of them."""
    parser = argparse.ArgumentParser(prog="python -m pmx.checks.faults", description="Plants sensor faults into healthy readings.")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the directory that pmx run wrote")
    parser.add_argument("--input", type=Path, required=True, metavar="FILE.csv", help="readings, as pmx-edge replay reads them")
    parser.add_argument("--seeds", type=int, default=20, help="trials of each kind (20)")
    parser.add_argument("--lasting", type=int, default=80, help="ticks that each fault lasts (80)")
    options = parser.parse_args(argv)
    try:
        bundle = Bundle.open(options.bundle)
        ticker = Ticker(bundle.spec.contract)
        ticker.add(Checker(bundle.spec.contract).check(read_csv(options.input, bundle.spec.contract)))
        print(table_of(judge_faults(bundle, quiet(bundle, ticker.ticks()), seeds=options.seeds, lasting=options.lasting)))
    except PmxError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
