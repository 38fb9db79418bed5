"""A history in the form that a profile is computed from: sorted readings, sparse ticks and events, all on one float clock."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from pmx.contract import BLANKS, MICROSECONDS, MOST_GAP, Contract
from pmx.source import Admitted, History
from pmx.source.ticks import to_ticks

SLICE = 500_000  # readings that are aligned at a time: all at once would take several times their memory
MOST_TICKS = 2_000_000  # of the dense grid of a slice; gaps that would make it larger are cut out of it
SAMPLE = 20_000  # ticks that are kept, about
STEPS = (("d", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0))


@dataclass(frozen=True)
class Grid:
    """What alignment makes of the readings, counted over the ticks that hold any value.

    Attributes:
        running: int64 [asset], ticks with a value in which the asset is not off.
        off: int64 [asset], ticks with a value in which the contract says that it is.
        missing: channel -> share of the running ticks without a value.
        sample: `asset`, `tick` and the channels (Float32) of running ticks, some twenty thousand, evenly taken.
        long_gaps: how many distances are longer than the contract's `longest_gap`; a run refuses them.

    Example:
        >>> Grid(np.array([9]), np.array([0]), {"load": 0.0}, pl.DataFrame({"load": [1.0]}), long_gaps=0).running.sum()
        np.int64(9)
    """

    running: np.ndarray
    off: np.ndarray
    missing: dict[str, float]
    sample: pl.DataFrame
    long_gaps: int


@dataclass(frozen=True)
class Record:
    """Admitted readings and events of a fleet.

    Attributes:
        history: where they come from.
        admitted: what the contract refused and left out; its readings are those below.
        assets: names with at least one reading, in alphabetical order.
        readings: the channels (Float64, null = missing), sorted by asset and time.
        on: bool [row], False where the contract says that the asset is off.
        code: int64 [row], the position of each reading's asset in `assets`.
        time: float64 [row], in the life unit; on the calendar clock since `zero`.
        zero: microseconds since 1970 of the first reading on the calendar clock, 0 on the life clock.
        grid: what alignment makes of them.
        events: `asset`, `time` and `known_at` (Float64, like `time` above), `event` and `mode` (of a failure, may be null).

    Example:
        >>> from pmx.source.admit import admit
        >>> from pmx.source.synthetic import Synthetic
        >>> history = Synthetic(assets=2, life=300.0).load()
        >>> record = Record.of(history, admit(history.rows, history.contract))
        >>> record.assets, float(record.time[0])
        (['pump-0001', 'pump-0002'], 0.0)
    """

    history: History
    admitted: Admitted
    assets: list[str]
    readings: pl.DataFrame
    on: np.ndarray
    code: np.ndarray
    time: np.ndarray
    zero: int
    grid: Grid
    events: pl.DataFrame

    @staticmethod
    def of(history: History, admitted: Admitted) -> Record:
        """Sorts and aligns what was admitted; unlike a run it stops at no gap."""
        contract = history.contract
        frame = admitted.readings.select("asset", "time", *contract.names)
        if not frame.select(_sorted()).item():
            frame = frame.sort("asset", "time", maintain_order=True)
        raw = frame["time"].to_physical().to_numpy()
        zero = int(raw.min()) if contract.clock == "calendar" else 0
        time = _since(raw, zero, contract)
        assets = frame["asset"].unique().sort().to_list()
        code = frame["asset"].rle_id().cast(pl.Int64).to_numpy()  # sorted: one run per asset
        on = frame.select(_runs(contract, of="asset")).to_series().to_numpy()
        grid = _grid(frame, code, time, contract)
        events, readings = _events(history.events, zero, contract), frame.select(contract.names)
        return Record(history, replace(admitted, readings=readings), assets, readings, on, code, time, zero, grid, events)

    @property
    def contract(self) -> Contract:
        return self.history.contract

    @property
    def quarantine(self) -> pl.DataFrame:
        """The refused rows and the values set apart, as in `Admitted`."""
        return self.admitted.quarantine

    @property
    def counts(self) -> dict[str, int]:
        """Raw rows `in`, `accepted` and `quarantined`, and `cells`, as in `Admitted`."""
        return self.admitted.counts

    @property
    def starts(self) -> np.ndarray:
        """int64 [asset + 1], where each asset's readings begin, and the end of the last."""
        return np.searchsorted(self.code, np.arange(len(self.assets) + 1))

    def moment(self, time: float) -> str:
        """A time as a person reads it: UTC to the minute, or a count of life units."""
        if self.contract.clock == "life":
            return f"{time:g} {self.contract.life_unit}"
        at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=self.zero + time * MICROSECONDS[self.contract.life_unit])
        return at.strftime("%Y-%m-%d %H:%M")

    def repeated(self, time: np.ndarray) -> np.ndarray:
        """Whether times lie in the hour that the contract's zone repeats in autumn, bool like `time`."""
        zone = self.contract.time_zone
        if self.contract.clock == "life" or zone == "UTC":
            return np.zeros(len(time), bool)
        utc = pl.Series(self.zero + np.round(time * MICROSECONDS[self.contract.life_unit]).astype(np.int64))
        wall = pl.from_epoch(utc, "us").dt.replace_time_zone("UTC").dt.convert_time_zone(zone).dt.replace_time_zone(None)
        return wall.dt.replace_time_zone(zone, ambiguous="null").is_null().to_numpy()

    def span(self, length: float) -> str:
        """A length of time in the unit that suits it."""
        return span_text(length, self.contract)

    def days(self, number: float) -> float:
        """So many days in the life unit of the calendar clock."""
        return number * MICROSECONDS["d"] / MICROSECONDS[self.contract.life_unit]


def span_text(length: float, contract: Contract) -> str:
    """A length of time, given in the life unit, in the unit that suits it."""
    if contract.clock == "life" or not np.isfinite(length):
        return f"{length:.4g} {contract.life_unit}"
    seconds = length * MICROSECONDS[contract.life_unit] / 1e6
    for unit, size in STEPS:
        if abs(seconds) >= 2 * size or unit == "s":
            return f"{seconds / size:.3g} {unit}" if abs(seconds) < 1000 * size else f"{seconds / size:,.0f} {unit}"
    return ""


def _since(raw: np.ndarray, zero: int, contract: Contract) -> np.ndarray:
    """float64 times in the life unit; subtracted as integers, so that no microsecond is lost."""
    if contract.clock == "calendar":
        return (raw.astype(np.int64) - zero) / MICROSECONDS[contract.life_unit]
    return raw.astype(np.float64)


def _sorted() -> pl.Expr:
    asset, time = pl.col("asset"), pl.col("time").to_physical()
    return ((asset > asset.shift()) | ((asset == asset.shift()) & (time >= time.shift()))).all()  # the first has none before it: null


def _grid(frame: pl.DataFrame, code: np.ndarray, time: np.ndarray, contract: Contract) -> Grid:
    """Aligns slice by slice; a tick that two slices share counts twice, which no share can show.

    Each long gap cuts an asset in two for the alignment's sake: the grid between is empty, and a wild time stamp would make it huge.
    """
    distance = np.diff(time, prepend=time[:1]) / contract.tick
    distance[np.diff(code, prepend=code[:1]) != 0] = 0.0
    most = max(1, min(contract.longest_gap, 1000, MOST_TICKS // min(len(frame), SLICE)))
    part = pl.Series("asset", np.cumsum(distance > most)).cast(pl.String)
    cut = frame.with_columns(pl.Series("asset", code).cast(pl.String) + "\x1f" + part)
    endless = replace(contract, longest_gap=MOST_GAP, running=None)  # off-time is told apart, not left out
    assets = int(code[-1]) + 1
    running, off, null = np.zeros(assets, np.int64), np.zeros(assets, np.int64), np.zeros(len(contract.names), np.int64)
    samples = []
    for begin in range(0, len(frame), SLICE):
        ticks = to_ticks(cut[begin : begin + SLICE], endless).filter(pl.any_horizontal(pl.col(contract.names).is_not_null()))
        owner = ticks["asset"].str.split("\x1f").list.first().cast(pl.Int64).to_numpy()
        on = ticks.select(_runs(contract)).to_series().to_numpy()
        running += np.bincount(owner[on], minlength=assets)
        off += np.bincount(owner[~on], minlength=assets)
        values = ticks.filter(pl.Series(on))
        null += np.array(values.select(contract.names).null_count().row(0))
        samples.append(values.gather_every(max(1, len(frame) // SAMPLE)))
    missing = dict(zip(contract.names, (null / max(1, running.sum())).tolist(), strict=True))
    return Grid(running, off, missing, pl.concat(samples), int((distance > contract.longest_gap).sum()))


def _runs(contract: Contract, of: str = "") -> pl.Expr:
    """Whether the asset runs; `of` names the column within which a value stands until the next."""
    if contract.running is None:
        return pl.repeat(True, pl.len())
    value = pl.col(contract.running.channel)
    value = value.forward_fill().over(of) if of else value
    low, high = contract.running.above, contract.running.below
    return ((value > (-np.inf if low is None else low)) & (value < (np.inf if high is None else high))).fill_null(False)


def _events(events: pl.DataFrame, zero: int, contract: Contract) -> pl.DataFrame:
    mode = next((c for c in ("mode", "fault") if c in events.columns), None)
    times = {n: _since(events[n].to_physical().to_numpy(), zero, contract) for n in ("time", "known_at")}
    return pl.DataFrame(
        {
            "asset": events["asset"].cast(pl.String).str.strip_chars(BLANKS),
            "event": events["event"].cast(pl.String),
            "mode": events[mode].cast(pl.String) if mode else pl.Series([None] * len(events), dtype=pl.String),
            **times,
        }
    ).sort("asset", "time", "event")
