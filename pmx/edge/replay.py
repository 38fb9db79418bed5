"""Replay: raw rows through the device's own code. It uses nothing but what the bundle holds."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pmx.align import Ticker, Ticks, tick_text
from pmx.bundle import Bundle
from pmx.contract import QUALITY, Contract, Rows, Tell
from pmx.edge.step import Stepper
from pmx.edge.table import replacing
from pmx.judge import Breach, Checker, row_columns

INTERVAL = ("interval",)
BLOCK = 10_000  # rows judged between two signs of life


@dataclass(frozen=True)
class Replayed:
    """The verdicts of a replay, per asset in alphabetical order.

    Attributes:
        core: the core digest of the bundle that ran.
        contract: the readings' contract.
        assets: names.
        tick: per asset int64 [time], the ticks that were scored.
        outputs: output name -> per asset float32 [time] (`rul`: its point estimate) or, for `contribution` and `quality`,
            [time, channel]. Beside `rul`, `interval` holds its lower and upper end, [time, 2].
        standing: per asset bool [time], whether the alarm stands.
        breaches: the rows that were refused, and the values that were set apart from others.
        rows: how many rows came in.
        seconds: of scoring, without reading and alignment.
        ignored: columns of the rows that the contract does not list, left out.
        sensors: per asset bool [time, channel], whether the channel's sensor alarm stands.
        values: how many values the accepted rows hold, without those set apart.
        classes: of faults, in the order of the output `fault_probability`, [time, class]; empty where there is none.
    """

    core: str
    contract: Contract
    assets: list[str]
    tick: list[np.ndarray]
    outputs: dict[str, list[np.ndarray]]
    standing: list[np.ndarray]
    breaches: tuple[Breach, ...]
    rows: int
    seconds: float
    ignored: tuple[str, ...] = ()
    sensors: tuple[np.ndarray, ...] = ()
    values: int = 0
    classes: tuple[str, ...] = ()

    @property
    def score(self) -> list[np.ndarray] | None:
        """The verdict in which higher is worse, per asset float32 [time]: an anomaly score or a probability; None where a life is stated."""
        return self.outputs.get("anomaly_score", self.outputs.get("failure_probability"))

    @property
    def refused(self) -> tuple[Breach, ...]:
        """Those of the breaches that cost a whole row."""
        return tuple(b for b in self.breaches if not b.alone)

    @property
    def cells(self) -> int:
        """How many values were set apart from accepted rows."""
        return len(self.breaches) - len(self.refused)

    @property
    def steps(self) -> int:
        return sum(map(len, self.tick))

    def alarm_log(self) -> list[dict[str, str | None]]:
        """One line per alarm: `kind`, `asset`, `channel`, `state`, `raised` and `cleared` (None = still standing), in the contract's clock.

        The kind is `machine`, without channel and state, or `sensor`, with the state that was given most often while it stood.
        """
        log: list[dict[str, str | None]] = []
        for i, asset in enumerate(self.assets):
            for begin, end in spans(self.standing[i]):
                log.append(self._line("machine", asset, None, None, i, begin, end))
            for channel, begin, end, state in self.sensor_alarms(i):
                log.append(self._line("sensor", asset, self.contract.names[channel], state, i, begin, end))
        return log

    def sensor_alarms(self, at: int) -> Iterator[tuple[int, int, int, str]]:
        """Of one asset, by its position: channel, first tick and the one after the last, and the state given most often while it stood."""
        for channel in range(self.sensors[at].shape[1] if self.sensors else 0):
            for begin, end in spans(self.sensors[at][:, channel]):
                yield channel, begin, end, most_told(self.outputs["quality"][at][max(0, begin - 1) : end, channel])

    def _line(self, kind: str, asset: str, channel: str | None, state: str | None, at: int, begin: int, end: int) -> dict[str, str | None]:
        tick = self.tick[at]
        cleared = None if end == len(tick) else tick_text(self.contract, tick[end])
        return {
            "kind": kind,
            "asset": asset,
            "channel": channel,
            "state": state,
            "raised": tick_text(self.contract, tick[begin]),
            "cleared": cleared,
        }

    def write(self, path: Path) -> None:
        """Every verdict as CSV: `asset, time, <the output that the alarm watches>, alarm`, and behind them the ends of an interval, or the
        probability of each class of faults.
        """
        name = next(n for n in self.outputs if n not in ("contribution", "quality", "fault_probability", *INTERVAL))
        ends = self.outputs.get("fault_probability" if self.classes else "interval")
        heads = self.classes or ("lower", "upper")
        with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as out:
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow(["asset", "time", name, "alarm", *(heads if ends else ())])
            for i, (asset, tick, value, standing) in enumerate(zip(self.assets, self.tick, self.outputs[name], self.standing, strict=True)):
                around = ends[i] if ends else np.empty((len(tick), 0))
                writer.writerows(
                    (asset, tick_text(self.contract, t), v, int(s), *e) for t, v, s, e in zip(tick, value, standing, around, strict=True)
                )


def spans(standing: np.ndarray) -> list[tuple[int, int]]:
    """First tick and the tick after the last of each stretch that stands, of bool [time].

    Example:
        >>> spans(np.array([False, True, True, False, True]))
        [(1, 3), (4, 5)]
    """
    change = np.flatnonzero(np.diff(np.r_[False, standing, False]))
    return [(int(begin), int(end)) for begin, end in change.reshape(-1, 2)]


def most_told(quality: np.ndarray) -> str:
    """The name of the state other than good that was given most often, of [time]; good where none was.

    Example:
        >>> most_told(np.array([0, 2, 2, 5]))
        'stuck'
    """
    counts = np.bincount(quality.astype(np.int64), minlength=len(QUALITY))[: len(QUALITY)]
    return QUALITY[1 + int(np.argmax(counts[1:]))] if counts[1:].any() else QUALITY[0]


def replay(
    bundle: Bundle,
    rows: Rows | Iterable[Rows],
    progress: Tell | None = None,
    total: int = 0,
    anew: dict[str, np.ndarray] | None = None,
) -> Replayed:
    """Rows in arrival order -> contract -> ticks -> step graph -> alarms. What breaks the contract is set apart and reported.

    Args:
        bundle: an opened bundle.
        rows: all of them, or block by block, so that no more than a block of raw text is in memory.
        progress: is told of rows and of steps.
        total: about how many rows the blocks hold.
        anew: asset -> int64 [life], the ticks at which it begins another life (`pmx.align.next_life`); None = nobody knows of a repair.
    """
    contract = bundle.spec.contract
    checker, ticker = Checker(contract), Ticker(contract)
    found: list[Breach] = []
    ignored: tuple[str, ...] = ()
    done, values, total = 0, 0, len(rows) if isinstance(rows, Rows) else total
    for block in _blocks([rows] if isinstance(rows, Rows) else rows):
        ignored = contract.ignored(("asset", "time", *row_columns(block)))
        checked = checker.check(block)
        ticker.add(checked)
        found += checked.breaches
        values += int((~np.isnan(checked.values)).sum())
        done += len(block)
        if progress and max(total, done) > BLOCK:  # who waits for a sign of life must not wait for the whole file
            progress("rows", done, max(total, done))
    played = replay_ticks(bundle, replace(ticker.ticks(), anew=anew or {}), tuple(found), done, progress)
    return replace(played, ignored=ignored, values=values)


def _blocks(parts: Iterable[Rows]) -> Iterator[Rows]:
    for part in parts:
        for begin in range(0, max(len(part), 1), BLOCK):
            yield part.take(np.arange(begin, min(begin + BLOCK, len(part)))) if len(part) > BLOCK else part


def replay_ticks(bundle: Bundle, ticks: Ticks, breaches: tuple[Breach, ...] = (), rows: int = 0, progress: Tell | None = None) -> Replayed:
    """Replays readings that are aligned already; all assets advance by step rank, in one batch."""
    stepper, assets = Stepper(bundle, ticks.assets), range(len(ticks.assets))
    names = stepper.spec.outputs
    at: list[list[int]] = [[] for _ in assets]
    found: dict[str, list[list[np.ndarray]]] = {name: [[] for _ in assets] for name in (*names, *INTERVAL * ("rul" in names))}
    standing: list[list[bool]] = [[] for _ in assets]
    sensors: list[list[np.ndarray]] = [[] for _ in assets]
    longest, begin = max(map(len, ticks.values), default=0), time.perf_counter()
    for rank, scored in stepper.through(ticks):
        values = {n: scored.verdict.output(n) for n in found} if len(scored.on) else {}
        for j, i in enumerate(scored.on.tolist()):
            at[i].append(int(ticks.start[i]) + rank)
            standing[i].append(bool(scored.standing[j]))
            sensors[i].append(scored.sensors[j])
            for name, value in values.items():
                found[name][i].append(value[j])
        if progress and (rank % 25 == 24 or rank + 1 == longest):
            progress("replay", rank + 1, longest)
    return Replayed(
        bundle.core,
        stepper.spec.contract,
        ticks.assets,
        [np.array(t, np.int64) for t in at],
        {name: [np.array(v, np.float32) for v in per_asset] for name, per_asset in found.items()},
        [np.array(s, bool) for s in standing],
        breaches,
        rows,
        time.perf_counter() - begin,
        sensors=tuple(np.array(s, bool).reshape(len(s), len(stepper.spec.contract.channels)) for s in sensors)
        if "quality" in names
        else (),
        classes=stepper.spec.classes,
    )
