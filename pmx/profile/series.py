"""What the plots of a profile show: the readings summed up in few bins."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from pmx.contract import MICROSECONDS
from pmx.profile.record import Record
from pmx.profile.survey import Profile

MOST_ASSETS, BINS, BARS, SAMPLE = 40, 160, 28, 200_000
APART = 0.05  # assets watched for less than this share of the record, as on a test bench, are shown side by side


@dataclass(frozen=True)
class Coverage:
    """Readings and events of some assets on one axis, see `pmx.profile.svg.timeline`.

    Attributes:
        names: the assets shown.
        covered: bool [asset, time bin].
        marks, bands: per asset, places 0 to 1 of events and episodes.
        begin, end: of the axis, as in `Record.time`, or since each asset's first reading where `aligned`.
        aligned: whether every asset begins at 0.
        outside: events of these assets that lie beyond it.

    Example:
        >>> Coverage(["P1"], np.ones((1, 4), bool), [[]], [[]], 0.0, 8.0, aligned=False, outside=0).covered.mean()
        np.float64(1.0)
    """

    names: list[str]
    covered: np.ndarray
    marks: list[list[tuple[float, str]]]
    bands: list[list[tuple[float, float]]]
    begin: float
    end: float
    aligned: bool
    outside: int


def bases(profile: Profile) -> np.ndarray:
    """What is taken off each asset's times in a plot, float64 [asset]: its first reading where the assets were watched one after
    the other, otherwise 0.
    """
    first, last = (profile.assets[n].to_numpy() for n in ("first", "last"))
    apart = float(np.median(last - first)) < APART * float(last.max() - first.min())
    return first if apart else np.zeros(len(first))


def coverage(profile: Profile) -> Coverage:
    """The timeline of at most forty assets: all, or those that failed first. Events far off do not squeeze the readings."""
    record, base = profile.record, bases(profile)
    chosen = profile.assets.sort(pl.col("failures") > 0, "asset", descending=[True, False])["asset"].to_list()[:MOST_ASSETS]
    at = {asset: i for i, asset in enumerate(record.assets)}
    names = sorted(chosen)
    own = [record.time[record.starts[at[n]] : record.starts[at[n] + 1]] - base[at[n]] for n in names]
    begin, end = min(float(t[0]) for t in own), max(float(t[-1]) for t in own)
    span = max(end - begin, record.contract.tick)
    shift = pl.DataFrame({"asset": record.assets, "base": base})
    events = record.events.filter(pl.col("asset").is_in(names)).join(shift, on="asset", maintain_order="left")
    events = events.with_columns(time=pl.col("time") - pl.col("base"))
    near = events.filter(pl.col("time").is_between(begin - span, end + span))
    if len(near):
        begin, end = min(begin, float(near["time"].to_numpy().min())), max(end, float(near["time"].to_numpy().max()))
    span = max(end - begin, record.contract.tick)
    covered, hold = np.zeros((len(names), 3 * BINS), bool), max(c.hold for c in record.contract.channels)
    for row, (name, time) in enumerate(zip(names, own, strict=True)):
        covered[row, np.minimum(((time - begin) / span * covered.shape[1]).astype(int), covered.shape[1] - 1)] = True
        step, held = (length / span * covered.shape[1] for length in (profile.sampling.by_asset[name], hold))
        covered[row] = _filled(covered[row], max(3 * step if np.isfinite(step) else 0.0, held))
    bands = _bands(record, names, begin, span, {n: base[at[n]] for n in names})
    return Coverage(names, covered, _marks(near, names, begin, span), bands, begin, end, bool(base.any()), len(events) - len(near))


def _marks(events: pl.DataFrame, names: list[str], begin: float, span: float) -> list[list[tuple[float, str]]]:
    order = ("failure", "replacement", "commissioning", "no_fault_found", "inspection")  # what matters most is drawn last
    rank = {event: -i for i, event in enumerate(order)}
    marks: dict[str, list[tuple[float, str]]] = {name: [] for name in names}
    for asset, time, event in events.select("asset", "time", "event").iter_rows():
        if event in rank:
            marks[asset].append(((time - begin) / span, event))
    return [sorted(marks[name], key=lambda mark: rank[mark[1]]) for name in names]


def _filled(covered: np.ndarray, most: float) -> np.ndarray:
    """Closes holes of at most so many bins: readings that come seldom are no gaps."""
    at = np.flatnonzero(covered)
    filled = covered.copy()
    for a, b in zip(at[:-1].tolist(), at[1:].tolist(), strict=True):
        if 1 < b - a <= most:
            filled[a:b] = True
    return filled


def _bands(record: Record, names: list[str], begin: float, span: float, base: dict[str, float]) -> list[list[tuple[float, float]]]:
    episodes = record.history.episodes
    if episodes is None:
        return [[] for _ in names]
    raw = {n: episodes[n].to_physical().to_numpy() for n in ("begin", "end")}
    scale = MICROSECONDS[record.contract.life_unit] if record.contract.clock == "calendar" else 1
    owner = episodes["asset"].to_list()
    taken = np.array([base.get(asset, 0.0) for asset in owner])
    places = {n: ((v - record.zero) / scale - taken - begin) / span for n, v in raw.items()}
    return [[(float(places["begin"][i]), float(places["end"][i])) for i, a in enumerate(owner) if a == name] for name in names]


def axis(record: Record, begin: float, end: float, aligned: bool) -> list[tuple[float, str]]:
    """Seven places (0 to 1) from begin to end and their labels: dates, times of day, counts of the life unit, or time since the first reading."""
    places = np.linspace(0, 1, 7)
    if record.contract.clock == "life":
        return [(float(p), f"{begin + p * (end - begin):.4g}") for p in places]
    if aligned:
        return [(float(p), record.span(begin + p * (end - begin))) for p in places]
    scale = MICROSECONDS[record.contract.life_unit]
    zero = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=record.zero)
    form = "%Y-%m-%d" if end - begin > record.days(6) else "%m-%d %H:%M"
    return [(float(p), (zero + timedelta(microseconds=(begin + p * (end - begin)) * scale)).strftime(form)) for p in places]


def envelopes(profile: Profile, channels: list[str]) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Channel -> smallest, mean and largest value, float64 [time bin] each, NaN where there is none."""
    record = profile.record
    time = record.time - bases(profile)[record.code]
    span = max(float(time.max() - time.min()), 1e-300)
    bin_ = np.minimum(((time - time.min()) / span * BINS).astype(np.int32), BINS - 1)
    names = range(len(channels))
    parts = [pl.col(c).min().alias(f"{i} low") for i, c in zip(names, channels, strict=True)]
    parts += [pl.col(c).mean().alias(f"{i} mean") for i, c in zip(names, channels, strict=True)]
    parts += [pl.col(c).max().alias(f"{i} high") for i, c in zip(names, channels, strict=True)]
    binned = record.readings.lazy().group_by(pl.Series("bin", bin_)).agg(parts).collect()
    found = {}
    for i, channel in enumerate(channels):
        lines = np.full((3, BINS), np.nan)
        for k, part in enumerate(("low", "mean", "high")):
            lines[k, binned["bin"].to_numpy()] = binned[f"{i} {part}"].cast(pl.Float64).fill_null(np.nan).to_numpy()
        found[channel] = (lines[0], lines[1], lines[2])
    return found


def histogram(profile: Profile, channel: str) -> np.ndarray:
    """How often each of 28 equal parts of a channel's middle 99 % occurs, int64 [bar], on a sample."""
    value = profile.record.readings[channel].drop_nulls()
    value = value.sample(SAMPLE, seed=0) if len(value) > SAMPLE else value
    if not len(value):
        return np.empty(0, np.int64)
    low, high = np.quantile(value.to_numpy(), [0.005, 0.995])
    return np.histogram(value.to_numpy(), BARS, (low, high) if high > low else None)[0]


def distances(profile: Profile) -> tuple[np.ndarray, float, float]:
    """How often each distance between readings occurs, int64 [bar] in equal steps of its logarithm, and both ends."""
    record = profile.record
    distance = np.diff(record.time)[np.diff(record.code) == 0]
    distance = distance[distance > 0]
    if not len(distance):
        return np.empty(0, np.int64), np.nan, np.nan
    low, high = float(distance.min()), float(distance.max())
    low, high = (low / 1.5, high * 1.5) if high < 3 * low else (low, high)
    return np.histogram(np.log10(distance), 48, (np.log10(low), np.log10(high) + 1e-9))[0], low, high
