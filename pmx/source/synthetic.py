"""A fleet of pumps in numpy: made from stated laws, any size, with a work-order log and its own truth.

Each pump wears at a rate set by its load; it fails when its wear reaches a threshold drawn from a Weibull law. Some are
replaced before that, by age; some still run when the record ends. Vibration, temperature, flow and power drift as wear
approaches the threshold, on top of pump-to-pump offsets and sensor noise, so age alone says little and the sensors say more.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

import pmx
from pmx.contract import MICROSECONDS, Channel, Contract, DataError, UsageError, within
from pmx.edge.table import read_csv
from pmx.source import History, Source
from pmx.source.orders import read_orders

WEIBULL_SHAPE = 3.0  # of the wear threshold: failures gather around a middle age, with a spread of a third of it
DUTY = np.array([[1450.0, 45.0], [1480.0, 70.0], [2900.0, 85.0]])  # speed in rpm and valve opening in % at the three duty points
WEAR_RATE = np.array([0.7, 1.0, 1.6])  # hours of wear in an hour at each duty point
START = np.datetime64("2025-01-01T00:00:00", "us")
CHANNELS = (
    Channel("speed", "rpm", "setting", 0.0, 3600.0),
    Channel("valve", "%", "setting", 0.0, 100.0),
    Channel("flow", "m3/h", low=0.0, high=500.0),
    Channel("pressure", "bar", low=0.0, high=40.0),
    Channel("power", "kW", low=0.0, high=200.0),
    Channel("vibration", "mm/s", low=0.0, high=100.0),
    Channel("bearing_temperature", "°C", low=-40.0, high=200.0),
    Channel("seal_leakage", "ml/h", low=0.0, high=1000.0),
)
NORMAL = np.array([[60, 6.0, 18, 1.1, 48, 5.0], [95, 5.2, 24, 1.4, 53, 6.0], [180, 11.0, 75, 2.2, 64, 8.0]])  # [duty point, measurement]
NOISE = np.array([0.015, 0.012, 0.015, 0.06, 0.015, 0.10])  # of the normal value
OFFSET = np.array([0.02, 0.015, 0.02, 0.10, 0.02, 0.15])  # pump to pump
EFFECT = np.array([-0.10, -0.06, 0.08, 1.20, 0.22, 1.50])  # at the moment of failure
ONSET = np.array([2.0, 2.5, 2.5, 4.0, 3.0, 5.0])  # power of the wear share: how late in life a channel shows it


@dataclass(frozen=True)
class _Life:
    """One simulated pump: its readings, its events, and what only the simulation knows."""

    readings: pl.DataFrame
    events: list[dict[str, object]]
    truth: dict[str, object]


class Synthetic(Source):
    """The embedded fleet of pumps; readings every `tick` hours on a calendar clock, life in hours.

    Args:
        assets: how many pumps; the first ones stay the same when there are more.
        tick: hours between readings.
        life: Weibull scale of the wear threshold, in hours at the middle duty point.
        replace_at: age in hours at which one pump in three is replaced before it fails.
        missing: share of values lost by the sensors.
        seed: of everything random.
        root: a folder that `write` made, to read instead of simulating; None = simulate.

    Example:
        >>> history = Synthetic(assets=2, life=300.0).load()
        >>> history.contract.life_unit, history.rows.collect()["asset"].n_unique()
        ('h', 2)
    """

    terms = "made by pmx itself; free to use under its licence"

    def __init__(
        self,
        assets: int = 120,
        tick: float = 6.0,
        life: float = 1600.0,
        replace_at: float = 1700.0,
        missing: float = 0.01,
        seed: int = 0,
        root: str | None = None,
    ) -> None:
        within(1, 1_000_000, {"assets": assets})
        within(0.01, float("inf"), {"tick": tick, "life": life, "replace_at": replace_at})
        within(0, 1, {"missing": missing})
        self.assets, self.tick, self.life, self.replace_at = assets, tick, life, replace_at
        self.missing, self.seed, self.root = missing, seed, root

    @property
    def contract(self) -> Contract:
        return Contract(CHANNELS, life_unit="h", clock="calendar", tick=self.tick)

    def load(self) -> History:
        if self.root is not None:
            return self._read(Path(self.root))
        lives = self._lives()
        rows = pl.concat([life.readings for life in lives]).with_row_index("row", offset=1)
        rows = rows.with_columns(pl.lit("simulated").alias("file"), pl.col("row").cast(pl.Int64))
        settings = {k: v for k, v in vars(self).items() if k != "root"} | {"version": pmx.__version__}
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        return History("synthetic pumps", self.contract, rows.lazy(), _events(lives), None, digest, "pumps")

    def truth(self) -> pl.DataFrame:
        """What only the simulation knows: `asset`, `fails_at` (also of pumps replaced before), `threshold` in hours of wear, and
        `wear_at_end`, its share that the last reading saw.
        """
        return pl.DataFrame([life.truth for life in self._lives()])

    def write(self, folder: Path) -> None:
        """Writes `readings.csv`, `orders.csv` (the work-order log) and `truth.csv`."""
        folder.mkdir(parents=True, exist_ok=True)
        history = self.load()
        history.rows.drop("file", "row").collect().write_csv(
            folder / "readings.csv", datetime_format="%Y-%m-%dT%H:%M:%SZ", float_precision=4
        )
        history.events.write_csv(folder / "orders.csv", datetime_format="%Y-%m-%dT%H:%M:%SZ")
        self.truth().write_csv(folder / "truth.csv", datetime_format="%Y-%m-%dT%H:%M:%SZ")

    def fetch(self) -> dict[str, str]:
        """Writes the simulated fleet to `root`, where it can be looked at and read from."""
        if self.root is None:
            raise UsageError("the synthetic fleet is simulated in memory -> source.root=FOLDER writes it there as CSV")
        folder = Path(self.root)
        made = {k: v for k, v in vars(self).items() if k != "root"}
        Synthetic(**made).write(folder)
        return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.glob("*.csv"))}

    def write_miniature(self, folder: Path) -> None:
        """A fleet of six short-lived pumps in the raw format that `root` reads."""
        Synthetic(assets=6, tick=self.tick, life=400.0, replace_at=500.0, seed=self.seed).write(folder)

    def _read(self, folder: Path) -> History:
        readings, orders = folder / "readings.csv", folder / "orders.csv"
        for file in (readings, orders):
            if not file.is_file():
                raise DataError(
                    f"{file}: no such file -> point source.root to a folder with readings.csv and orders.csv, or leave it out to simulate"
                )
        read = read_csv(readings, self.contract)
        rows = pl.DataFrame({"file": read.file, "row": read.row, "asset": read.asset, "time": read.time, **read.values})
        digest = hashlib.sha256(readings.read_bytes() + orders.read_bytes()).hexdigest()
        return History(f"synthetic {folder.name}", self.contract, rows.lazy(), read_orders(orders), None, digest, "pumps")

    def _lives(self) -> list[_Life]:
        return [self._live(i) for i in range(self.assets)]

    def _live(self, i: int) -> _Life:
        rng = np.random.default_rng([self.seed, i])  # a stream per pump: a larger fleet keeps the smaller one
        threshold = self.life * rng.weibull(WEIBULL_SHAPE)
        duty = _duty(rng, ticks=int(20 * self.life / self.tick))
        wear = np.cumsum(WEAR_RATE[duty] * self.tick)
        fails = max(int(np.argmax(wear >= threshold)), 8)  # no pump dies within its first eight ticks: that is a failed commissioning
        end, event = fails, "failure"
        if rng.random() < 1 / 3 and self.replace_at / self.tick < fails:
            end, event = int(self.replace_at / self.tick), "replacement"
        elif rng.random() < 0.15:
            end, event = int(fails * rng.uniform(0.3, 1.0)), ""  # still running when the record ends
        ticks = max(end, 8)
        commissioned = START + np.timedelta64(int(rng.integers(0, 365 * 4)) * MICROSECONDS["h"] * 6, "us")
        step = int(self.tick * MICROSECONDS["h"])
        edge = int(-(-commissioned.astype(np.int64) // step) * step)  # readings fall on the tick grid
        share = np.minimum(wear[:ticks] / threshold, 1.0)
        values = self._values(rng, duty[:ticks], share)
        at = edge + step * np.arange(1, ticks + 1)
        sent = at - rng.integers(0, min(120 * 1_000_000, step), ticks)  # up to two minutes before the tick ends, but within it
        arrived = np.ones(ticks, bool)
        for _ in range(rng.poisson(ticks / 300)):
            begin = int(rng.integers(1, ticks))
            arrived[begin : begin + int(rng.integers(2, 10))] = False
        arrived[[0, -1]] = True
        name = f"pump-{i + 1:04}"
        frame = pl.DataFrame({"asset": [name] * ticks, "time": sent}).with_columns(pl.from_epoch("time", "us").dt.replace_time_zone("UTC"))
        frame = frame.hstack(pl.DataFrame(values, schema=[c.name for c in CHANNELS]).fill_nan(None)).filter(pl.Series(arrived))
        failed_at = int(edge + step * (fails + rng.random()))
        ended = failed_at if event == "failure" else int(at[-1])
        events = self._orders(rng, name, edge, ended, event)
        truth = {"asset": name, "fails_at": _utc(failed_at), "threshold": float(threshold), "wear_at_end": float(share[-1])}
        return _Life(frame, events, truth)

    def _values(self, rng: np.random.Generator, duty: np.ndarray, share: np.ndarray) -> np.ndarray:
        """Readings [tick, channel]: normal at the duty point, times the pump's offset, the effect of wear, and noise."""
        own = 1 + OFFSET * rng.normal(size=len(OFFSET))
        severity = rng.uniform(0.7, 1.3, len(EFFECT))  # how strongly this pump shows its wear on each channel
        worn = 1 + EFFECT * severity * share[:, None] ** ONSET
        noise = 1 + NOISE * rng.normal(size=(len(duty), len(NOISE)))
        settings = DUTY[duty] * (1 + 0.003 * rng.normal(size=(len(duty), 2)))
        values = np.c_[settings, np.maximum(NORMAL[duty] * own * worn * noise, 0.0)]
        lost = rng.random(values.shape) < self.missing
        lost[:, :2] = False  # settings come from the controller, not from a sensor
        values[lost] = np.nan
        return values

    def _orders(self, rng: np.random.Generator, name: str, begin: int, end: int, event: str) -> list[dict[str, object]]:
        """The work-order log of one pump; an order is written some hours after what it tells of."""

        def order(time: int, kind: str, hours: float) -> dict[str, object]:
            return {"asset": name, "time": _utc(time), "event": kind, "known_at": _utc(time + int(hours * MICROSECONDS["h"]))}

        log = [order(begin, "commissioning", 0.0)]
        for time in range(begin + 600 * MICROSECONDS["h"], end, 600 * MICROSECONDS["h"]):
            log.append(order(time, "inspection" if rng.random() < 0.8 else "no_fault_found", rng.exponential(12)))
        if event:
            log.append(order(end, event, rng.exponential(12)))
        return log


def _duty(rng: np.random.Generator, ticks: int) -> np.ndarray:
    """Duty point of each tick: stays for about two days, then another."""
    stays = rng.geometric(1 / 8, size=ticks)
    return np.repeat(rng.integers(0, len(DUTY), ticks), stays)[:ticks]


def _utc(microseconds: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=int(microseconds))


def _events(lives: list[_Life]) -> pl.DataFrame:
    return pl.DataFrame([e for life in lives for e in life.events])
