"""Small fleets with planted truths for the profile's tests."""

import numpy as np
import polars as pl

from pmx.contract import Channel, Contract
from pmx.profile.survey import Profile
from pmx.source import History
from pmx.source.admit import admit

HOUR = 3_600_000_000
BEGIN = 1_767_225_600_000_000  # 2026-01-01, a Thursday
CHANNELS = (
    Channel("speed", "rpm", "setting", 0.0, 3000.0),
    Channel("heat", "degC"),
    Channel("flow", "m3/h"),
    Channel("energy", "kWh", "counter"),
)
CONTRACT = Contract(CHANNELS, life_unit="h", clock="calendar", tick=0.5)


def stamps(hours: np.ndarray) -> pl.Series:
    """Hours since the beginning as times on the calendar clock."""
    return pl.from_epoch(pl.Series((BEGIN + hours * HOUR).astype(np.int64)), "us").dt.replace_time_zone("UTC")


def rows(assets: int = 4, days: float = 30.0, step: float = 0.5, seed: int = 0) -> pl.DataFrame:
    """Noise around steady values, one reading per step of hours, `hour` beside `time`."""
    rng = np.random.default_rng(seed)
    n = int(days * 24 / step)
    parts = []
    for i in range(assets):
        hour = step * np.arange(1, n + 1)
        values = {"speed": rng.choice([1000.0, 2000.0], n), "heat": 60 + rng.normal(size=n), "flow": 90 + rng.normal(size=n)}
        parts.append(pl.DataFrame({"asset": [f"P{i:02}"] * n, "hour": hour, **values, "energy": np.cumsum(rng.random(n))}))
    return pl.concat(parts)


def events(asset: list[str], hours: list[float], event: str = "failure", known: float = 2.0) -> pl.DataFrame:
    at = np.array(hours, np.float64)
    return pl.DataFrame(
        {
            "asset": pl.Series(asset, dtype=pl.String),
            "time": stamps(at),
            "event": pl.Series([event] * len(at), dtype=pl.String),
            "known_at": stamps(at + known),
        }
    )


def history(frame: pl.DataFrame, log: pl.DataFrame | None = None, contract: Contract = CONTRACT) -> History:
    frame = frame.with_row_index("row", offset=2).with_columns(file=pl.lit("a.csv"), time=stamps(frame["hour"].to_numpy()))
    frame = frame.select("file", pl.col("row").cast(pl.Int64), "asset", "time", *contract.names)
    return History("small plant", contract, frame.lazy(), events([], []) if log is None else log, None, "0" * 64, "pumps")


def profiled(frame: pl.DataFrame, log: pl.DataFrame | None = None, contract: Contract = CONTRACT) -> Profile:
    return of(history(frame, log, contract))


def of(made: History) -> Profile:
    return Profile.of(made, admit(made.rows, made.contract, "quarantine"))


def found(profile: Profile, channel: str):
    return next(c for c in profile.channels if c.name == channel)
