"""Alarms and events of the test part as facts: what deviated, since when, what it resembles, and what came of it."""

from __future__ import annotations

import numpy as np

from pmx.evaluate.alarm import Alarm
from pmx.review.facts import AlarmFact, AssetFact, Departure, EventFact, Watched
from pmx.review.record import Record
from pmx.review.similar import most_similar, signature
from pmx.review.words import NEAR, began, departure, moment, sensor, span

PAGES = 200  # alarms with a page of their own
CHANNELS = 3  # shown for an alarm or an asset
AROUND = 60  # ticks before and after an alarm that are drawn
ALIKE = 0.8  # likeness from which an episode is worth a word


def alarm_facts(record: Record, alarms: list[Alarm], watched: Watched) -> tuple[tuple[AlarmFact, ...], str]:
    """The alarms that get a page, by asset and time, and a sentence on those that do not."""
    machine = [a for a in alarms if a.kind == "machine"]
    others = [a for a in alarms if a.kind != "machine"]
    order = [*sorted(machine, key=lambda a: (a.right is not False, -a.length)), *sorted(others, key=lambda a: -a.length)][:PAGES]
    kept, place = {id(a) for a in order}, {name: i for i, name in enumerate(record.played.assets)}
    made = tuple(_alarm(record, a, place[a.asset], watched) for a in [*machine, *others] if id(a) in kept)
    lost = len(alarms) - len(order)
    why = "false ones first, then machine alarms before sensor alarms, the longest first; all are in alarms.csv"
    return made, f"{lost:,} of {len(alarms):,} alarms have no page of their own ({why})." if lost else ""


def _alarm(record: Record, alarm: Alarm, place: int, watched: Watched) -> AlarmFact:
    contract = record.contract
    raised = moment(contract, alarm.tick)
    cleared = moment(contract, alarm.tick + alarm.length) if alarm.cleared else ""
    lasted = span(contract, alarm.length)
    if alarm.kind == "sensor":
        fault, check = sensor(alarm.channel, alarm.state)
        return AlarmFact(alarm.asset, place, "sensor", raised, cleared, None, lasted, (fault,), (check,), channel=alarm.channel)
    row = int(np.searchsorted(record.played.tick[place], alarm.tick))
    z = record.tested(place)
    own = signature(z, row)
    similar = most_similar(own, alarm.tick, record.past, record.channels)
    top = _furthest(record, place, row, own)
    departures = tuple(_departure(record, place, k, float(own[k]), row, z) for k in top)
    sentences = [_stated(record, place, row, watched)]
    sentences += [_sentence(record, place, k, float(own[k]), row, z) for k in top]
    if not top:
        sentences.append("No channel has a reading at this moment that could be compared with its normal.")
    elif np.nanmax(np.abs(own)) < NEAR:
        sentences.append("No single channel lies far from its normal: the verdict rests on how they go together, on trends, or on the age.")
    todo = [f"Look at {record.channels[k]} first: it lies furthest from normal." for k in top[:1] if abs(own[k]) >= NEAR]
    if similar and similar[0].likeness >= ALIKE:
        todo.append(f"It resembles what came before {similar[0].found} on {similar[0].asset} ({similar[0].when}): compare.")
    return AlarmFact(
        alarm.asset, place, "machine", raised, cleared, alarm.right, lasted, tuple(sentences), tuple(todo), departures, similar
    )


def _furthest(record: Record, place: int, row: int, own: np.ndarray) -> list[int]:
    """The channels that the device itself names first; those without a signed score are left out."""
    size = np.abs(own)
    if "contribution" in record.played.outputs:
        columns = [record.contract.names.index(c) for c in record.channels]
        given = record.played.outputs["contribution"][place][row][columns].astype(np.float64)
        size = np.where(np.isnan(own) | np.isnan(given), np.nan, given)
    order = np.argsort(-np.nan_to_num(size, nan=-1.0), kind="stable")[:CHANNELS]
    return [int(k) for k in order if not np.isnan(own[k])]


def _departure(record: Record, place: int, k: int, size: float, row: int, z: np.ndarray) -> Departure:
    tick = record.played.tick[place]
    part = slice(max(0, row - AROUND), row + AROUND + 1)
    return Departure(record.channels[k], size, (tick[part] - tick[row]) * record.contract.tick, z[part, k])


def _sentence(record: Record, place: int, k: int, size: float, row: int, z: np.ndarray) -> str:
    tick = record.played.tick[place]
    start = began(z[:, k], row, 1.0 if size > 0 else -1.0)
    return departure(record.contract, record.channels[k], size, record.regimes, tick[start], int(tick[row]), start == 0)


def _stated(record: Record, place: int, row: int, watched: Watched) -> str:
    """What the verdict said when the alarm was raised."""
    said, p = record.verdict(place)[row], record.policy
    rule = f"an alarm is raised when {p.k} of the last {p.n} are" if p.n > 1 else "an alarm is raised when it is"
    return f"{watched.title[0].upper()}{watched.title[1:]} was {stated(said, watched)}; {rule} {p.worse} {stated(p.raise_at, watched)}."


def stated(value: float, watched: Watched) -> str:
    """A verdict in words.

    Example:
        >>> stated(0.999, Watched("anomaly_score", "anomaly score", "above", 0.99, 1.0, rarity=True))
        '0.999000 (one healthy reading in 1,000 is as bad)'
    """
    if np.isnan(value):
        return "not stated"
    if watched.rarity:
        often = 1 / max(1 - value, 1e-7)
        return f"{value:.6f} (one healthy reading in {often:,.0f} is as bad)"
    return f"{value:.4g}" + (f" {watched.unit}" if watched.unit else "")


def event_facts(record: Record, alarms: list[Alarm], watched: Watched) -> tuple[EventFact, ...]:
    """Every event that counts, as `pmx.evaluate.event` counts it, by asset and time; what was missed with the sensor alarms of its time."""
    found, truth = [], record.truth
    for i, tick in enumerate(record.played.tick):
        at = tick.astype(np.float64)
        inside, previous = at >= truth.begins[i], -np.inf
        sensors = [a for a in alarms if a.kind == "sensor" and a.asset == record.played.assets[i]]
        if truth.episodes is not None:
            for (begin, end), name in zip(truth.episodes[i], truth.faults[i], strict=True):
                span_of = inside & (at >= begin) & (at <= end)
                if span_of.any():
                    found.append(_event(record, i, begin, name, span_of, _standing(record, sensors, begin, end), watched))
            continue
        lead = record.protocol.lead / record.contract.tick
        for failure in truth.failed[i]:
            first = failure - record.horizon
            span_of = inside & (at > previous) & (at >= first) & (at <= failure - lead)
            if span_of.any() and at[inside][-1] >= np.floor(failure - lead):
                mine = _standing(record, sensors, max(first, previous + 1), failure)
                found.append(_event(record, i, failure, "failure", span_of, mine, watched))
            previous = failure
    return tuple(found)


def _standing(record: Record, sensors: list[Alarm], begin: float, end: float) -> tuple[tuple[str, str, str], ...]:
    """Channel, state and time of the sensor alarms that stood at some tick from `begin` to `end`."""
    stood = [a for a in sensors if a.tick <= end and a.tick + a.length > begin]
    return tuple((a.channel, a.state, moment(record.contract, a.tick)) for a in stood)


def _event(
    record: Record, i: int, when: float, what: str, inside: np.ndarray, sensors: tuple[tuple[str, str, str], ...], watched: Watched
) -> EventFact:
    contract, tick = record.contract, record.played.tick[i]
    stands = np.flatnonzero(record.played.standing[i] & inside)
    if len(stands):
        first = int(stands[0])
        while first and record.played.standing[i][first - 1]:
            first -= 1
        apart = when - tick[first]
        told = (
            f"An alarm stood since {moment(contract, tick[first])}, {span(contract, abs(apart))} {'before' if apart >= 0 else 'after'} it"
        )
        told += " began." if record.truth.episodes is not None else "."
    else:
        said = record.verdict(i)[inside]
        said = said[~np.isnan(said)]
        worst = (said.min() if watched.worse == "below" else said.max()) if len(said) else np.nan
        told = f"No alarm stood in time. The worst verdict was {stated(worst, watched)}, the limit is {stated(watched.limit, watched)}."
    caught = bool(len(stands))
    return EventFact(record.played.assets[i], i, moment(contract, when), what, caught, told, () if caught else sensors)


def asset_facts(record: Record, alarms: list[Alarm], events: tuple[EventFact, ...], watched: Watched) -> tuple[AssetFact, ...]:
    """Every asset of the test part, in the order of the replay."""
    made, contract, truth = [], record.contract, record.truth
    of: dict[str, list[Alarm]] = {}
    for a in alarms:
        of.setdefault(a.asset, []).append(a)
    for i, (name, tick) in enumerate(zip(record.played.assets, record.played.tick, strict=True)):
        at = tick.astype(np.float64)
        zero = float(at[0]) if len(at) else 0.0
        own, mine = of.get(name, []), [e for e in events if e.place == i]
        ends = [(float(t), kind) for kind, group in (("failure", truth.failed), ("replacement", truth.replaced)) for t in group[i]]
        bands = [] if truth.episodes is None else zip(truth.episodes[i], truth.faults[i], strict=True)
        true = truth.life(at, i, record.protocol.cap / contract.tick)[1] * contract.tick if watched.output == "rul" else np.zeros(0)
        length = contract.tick
        made.append(
            AssetFact(
                name,
                (at - zero) * length,
                record.verdict(i),
                record.played.standing[i],
                true,
                tuple(((t - zero) * length, kind) for t, kind in ends),
                tuple(((b - zero) * length, (e - zero) * length, fault) for (b, e), fault in bands),
                max(0.0, (float(truth.begins[i]) - zero) * length),
                moment(contract, at[0]) if len(at) else "",
                moment(contract, at[-1]) if len(at) else "",
                record.interval(i),
                _channels(record, i),
                tuple(
                    (a.channel, a.state, moment(contract, a.tick), moment(contract, a.tick + a.length) if a.cleared else "")
                    for a in own
                    if a.kind == "sensor"
                ),
                caught=sum(e.caught for e in mine),
                missed=sum(not e.caught for e in mine),
                false=sum(a.kind == "machine" and a.right is False for a in own),
                alarms=sum(a.kind == "machine" for a in own),
            )
        )
    return tuple(made)


def _channels(record: Record, i: int) -> tuple[tuple[str, np.ndarray], ...]:
    """The channels that departed most where it mattered: while an alarm stood or before a failure, else over the whole record."""
    z = record.tested(i)
    focus = record.played.standing[i] | (record.truth.anomalous(record.played.tick[i].astype(float), i, record.horizon) > 0)
    part = np.abs(z[focus] if focus.any() else z)
    seen = ~np.isnan(part)
    mean = np.divide(np.where(seen, part, 0).sum(0), seen.sum(0), out=np.zeros(z.shape[1]), where=seen.any(0))
    order = np.argsort(-mean, kind="stable")[:CHANNELS]
    return tuple((record.channels[k], z[:, k]) for k in order if mean[k] > 0)
