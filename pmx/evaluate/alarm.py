"""The alarms of a replay as a person works them off: where, since when, because of which channels, and whether they were right."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pmx.align import tick_text
from pmx.edge.replay import Replayed, spans
from pmx.edge.table import replacing
from pmx.evaluate.protocol import Protocol, Truth

MOST = 3  # channels named for an alarm


@dataclass(frozen=True)
class Alarm:
    """One alarm of the test part.

    Attributes:
        asset: where.
        raised, cleared: when, in the contract's clock; None = still standing at the end.
        because: the channels that lay furthest from normal while it was raised, the furthest first, each with its distance in
            standard deviations.
        right: whether a failure followed within the horizon, or it overlaps a labelled episode; None = nobody knows.
        length: how many ticks it stood.
        kind: `machine`, or `sensor` where a channel's readings are faulty.
        channel, state: of a sensor alarm, what is wrong with which; nobody judges whether it was right.
        tick: at which it was raised.
        fault: the likeliest class of fault while it was raised; empty where none is told.

    Example:
        >>> Alarm("P1", "2026-01-01T00:00:00Z", None, (("flow", 4.2),), None).line()
        'P1  raised 2026-01-01T00:00:00Z  still standing  flow 4.2  nobody knows'
    """

    asset: str
    raised: str
    cleared: str | None
    because: tuple[tuple[str, float], ...]
    right: bool | None
    length: int = 0
    kind: str = "machine"
    channel: str = ""
    state: str = ""
    tick: int = 0
    fault: str = ""

    def line(self) -> str:
        """For a screen."""
        until = f"cleared {self.cleared}" if self.cleared else "still standing"
        if self.kind == "sensor":
            return f"{self.asset}  raised {self.raised}  {until}  sensor {self.channel}: {self.state}"
        why = ", ".join(f"{channel} {distance:.1f}" for channel, distance in self.because)
        told = {True: "  right", False: "  false", None: "  nobody knows"}[self.right]
        fault = f"  like {self.fault}" if self.fault else ""
        return f"{self.asset}  raised {self.raised}  {until}  {why}{fault}{told}"


def alarm_list(played: Replayed, truth: Truth, protocol: Protocol) -> list[Alarm]:
    """Every alarm that stood in the test part, by asset and time; behind them the sensor alarms, by asset, channel and time."""
    contract, found = played.contract, []
    horizon = protocol.horizon / contract.tick
    for i, (tick, standing) in enumerate(zip(played.tick, played.standing, strict=True)):
        wrong = truth.anomalous(tick.astype(np.float64), i, horizon)
        for begin, end in spans(standing):
            if tick[end - 1] < truth.begins[i]:
                continue
            first = max(begin, int(np.searchsorted(tick, truth.begins[i])))  # judged from the test part on, as in the table
            span = slice(first, end) if truth.episodes is not None else slice(first, first + 1)
            known = wrong[span][~np.isnan(wrong[span])]
            judged = truth.episodes is not None or bool(truth.failures and truth.judged(tick[span].astype(np.float64), i, horizon)[0])
            right = bool(known.any()) if judged and len(known) else None
            cleared = None if end == len(tick) else tick_text(contract, tick[end])
            because = _because(played.outputs["contribution"][i][max(0, begin - 2) : begin + 1], contract.names)
            raised = int(tick[begin])
            fault = _likeliest(played, i, begin)
            found.append(
                Alarm(truth.assets[i], tick_text(contract, raised), cleared, because, right, end - begin, tick=raised, fault=fault)
            )
    return found + _sensor_alarms(played, truth)


def _likeliest(played: Replayed, at: int, begin: int) -> str:
    """The class of fault that is likeliest in the mean while an alarm of an asset is raised, healthy aside; empty where none is told."""
    if not played.classes:
        return ""
    near = played.outputs["fault_probability"][at][max(0, begin - 2) : begin + 1, 1:]
    return played.classes[1 + int(np.argmax(np.nan_to_num(near).sum(0)))]


def _sensor_alarms(played: Replayed, truth: Truth) -> list[Alarm]:
    """The sensor alarms that stood in the test part."""
    contract, found = played.contract, []
    for i, tick in enumerate(played.tick):
        for channel, begin, end, state in played.sensor_alarms(i):
            if tick[end - 1] >= truth.begins[i]:
                cleared = None if end == len(tick) else tick_text(contract, tick[end])
                raised, name = tick_text(contract, tick[begin]), contract.names[channel]
                found.append(Alarm(truth.assets[i], raised, cleared, (), None, end - begin, "sensor", name, state, int(tick[begin])))
    return found


def write_alarms(path: Path, alarms: list[Alarm]) -> None:
    """As CSV, one line each."""
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["kind", "asset", "channel", "state", "raised", "cleared", "because", "fault", "right"])
        for a in alarms:
            why = "; ".join(f"{channel} {distance:.1f}" for channel, distance in a.because)
            writer.writerow(
                [a.kind, a.asset, a.channel, a.state, a.raised, a.cleared or "", why, a.fault, "" if a.right is None else int(a.right)]
            )


def _because(contribution: np.ndarray, names: list[str]) -> tuple[tuple[str, float], ...]:
    """Channels with the largest mean contribution, of [time, channel]."""
    present = ~np.isnan(contribution)
    mean = np.divide(np.where(present, contribution, 0).sum(0), present.sum(0), out=np.zeros(len(names)), where=present.any(0))
    order = np.argsort(-mean, kind="stable")[:MOST]
    return tuple((names[k], float(mean[k])) for k in order if mean[k] > 0)
