"""The leakage audit: what in the data would make a good result too good, check by check.

Of the labels, those of the training part alone are read: the audit never meets the truth of the test part. Its readings it does meet,
to find those that stand in the training part too. A check that finds nothing is no proof that nothing is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from pmx.evaluate.protocol import Protocol
from pmx.gate.duplicate import near_duplicates
from pmx.gate.leakage import late_orders
from pmx.gate.result import Check, Finding
from pmx.select.training import Training, truth
from pmx.source import History
from pmx.window.label import ends_of
from pmx.window.split import Division

ALONE, COUNTDOWN, AFTER, FLAG = "label_channels", "countdowns", "known_after", "failure_flags"
EXACT = 0.98  # share of the variance of the life left that one channel tells, on lives it was not fitted on
SEPARATES = 0.999  # area under the ROC curve of one channel
LEAST_LIVES = 4  # two to fit, two to predict
BINS, SAMPLED = 100, 20_000  # bins of a channel's values; ticks that are looked at
# A schedule is exact; what wears in a straight line does so faster in one life than in another.
STRAIGHT, SAME_SLOPE, SAME_END = 0.999, 0.02, 0.02
LEVELS = 8  # of a rounded countdown within a life
MOST = 0.9  # of the lives, or of the stretches, for which a pattern must hold
AFTERWARDS = 2  # ticks after an event that count as its own
CHANCE = 1e-4  # that so many stretches begin at events for no reason
DROP = "leave the channel out of the contract, or show that it is known at that time without knowing the event"


@dataclass(frozen=True)
class _Lives:
    """The training ticks with the end of their life, all [row].

    Attributes:
        values: float32 [row, channel], NaN = missing.
        asset: int codes.
        tick: int64.
        life: int, lives in order.
        left: ticks to the life's known end; NaN = none is known.
        failed: whether this end is a failure; else it is a replacement.
        age: ticks since the life's first tick.
    """

    values: np.ndarray
    asset: np.ndarray
    tick: np.ndarray
    life: np.ndarray
    left: np.ndarray
    failed: np.ndarray
    age: np.ndarray

    def kinds(self) -> dict[str, np.ndarray]:
        """bool [row] of the ticks that lead to an end of each kind."""
        known = ~np.isnan(self.left)
        found = {"failures": known & self.failed, "replacements": known & ~self.failed}
        found = {kind: rows for kind, rows in found.items() if rows.any()}
        return found | ({"failures and replacements": known} if len(found) > 1 else {})

    def count(self, rows: np.ndarray) -> int:
        return len(np.unique(self.life[rows]))


def audit(training: Training, ticks: pl.DataFrame, division: Division, history: History, protocol: Protocol) -> list[Check]:
    """All checks of the data themselves, in the order of the table.

    Args:
        training: the training part, with the labels that were fitted on.
        ticks: of both parts.
        history: its events for orders that were written too late, its episodes for the training ticks alone.
        protocol: the cap and the horizon that labels are made with.
    """
    lives, names = _lives(training), training.contract.names
    marked = _episodes(training, history)
    return [
        *late_orders(training.labels, history.events, ticks, division, training.contract),
        near_duplicates(ticks, division, names),
        label_channels(lives, names, training, protocol, marked),
        countdowns(lives, names),
        *known_afterwards(lives, names, training, marked),
    ]


def _lives(training: Training) -> _Lives:
    ticks, contract = training.ticks, training.contract
    ends = ends_of(training.events, contract).with_row_index("life")
    at = ticks.select("asset", at=pl.col("tick").cast(pl.Float64)).with_row_index("row").sort("asset", "at")
    table = at.join_asof(ends, left_on="at", right_on="end", by="asset", strategy="forward", check_sortedness=False).sort("row")
    asset = np.unique(ticks["asset"].to_numpy(), return_inverse=True)[1]
    end = table["end"].fill_null(np.nan).to_numpy()
    life = table["life"].fill_null(len(ends)).to_numpy().astype(np.int64) * (asset.max(initial=0) + 1) + asset
    tick = ticks["tick"].to_numpy()
    born = pl.DataFrame({"life": life, "tick": tick}).select(pl.col("tick").min().over("life")).to_series().to_numpy()
    failed = (table["event"] == "failure").fill_null(False).to_numpy()
    values = ticks.select(pl.col(contract.names).cast(pl.Float32).fill_null(np.nan)).to_numpy()
    return _Lives(values, asset, tick, life, end - tick, failed, tick - born)


def _episodes(training: Training, history: History) -> list[tuple[str, float, float]]:
    """Asset, first and last tick of the labelled episodes that begin in the training part."""
    if history.episodes is None:
        return []
    own = truth(training.ticks, training.events, training.contract, np.ones(len(training.ticks), bool), history.episodes)
    pairs = zip(own.assets, own.episodes or [], own.seen, strict=True)
    return [(name, first, min(last, seen)) for name, found, seen in pairs for first, last in found if first <= seen]


# ---- one channel that predicts the label alone


def label_channels(
    lives: _Lives, names: list[str], training: Training, protocol: Protocol, marked: list[tuple[str, float, float]]
) -> Check:
    """Channels whose value, or its difference from the asset's first one, tells the label of lives it was not fitted on."""
    found: dict[str, Finding] = {}
    compared = []
    for kind, rows in lives.kinds().items():
        if (count := lives.count(rows)) >= LEAST_LIVES:
            compared.append(f"{count} lives that end in {kind}")
            for form, column, told, by_age in _tell_life(lives, rows, training.contract.tick, protocol, planned=kind == "replacements"):
                why = f"its value{form} alone tells how far {kind} are: R² {told:.4f} on lives it was not fitted on, age alone {by_age:.2f}"
                found.setdefault(names[column], Finding(ALONE, f"channel {names[column]}", told, why, DROP))
    for what, label in _classes(lives, training, protocol, marked):
        both = np.intersect1d(lives.asset[label == 1], lives.asset[label == 0])
        if len(both) >= LEAST_LIVES:
            compared.append(f"{what} of {len(both)} assets")
            for form, column, area in _separate(lives, label):
                why = f"its value{form} alone tells {what} from the other ticks: area under the ROC curve {area:.5f}"
                found.setdefault(names[column], Finding(ALONE, f"channel {names[column]}", area, why, DROP))
    least = f"fewer than {LEAST_LIVES} known lives or labelled assets in the training part: nothing to compare"
    return Check(ALONE, f"{len(names)} channels with {', '.join(compared)}" if compared else least, tuple(found.values()))


def _forms(lives: _Lives, at: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """The values at these rows, and the same less the first value of their asset, each float64 [row, channel]."""
    begins = np.flatnonzero(np.r_[True, lives.asset[1:] != lives.asset[:-1]])
    first = np.full((len(begins), lives.values.shape[1]), np.nan)
    for i, (begin, end) in enumerate(zip(begins, [*begins[1:], len(lives.asset)], strict=True)):
        there = ~np.isnan(lives.values[begin:end])
        first[i] = np.where(there.any(axis=0), lives.values[begin + there.argmax(axis=0), np.arange(first.shape[1])], np.nan)
    values = lives.values[at].astype(np.float64)
    return [("", values), (" less its first value", values - first[lives.asset[at]])]


def _tell_life(lives: _Lives, rows: np.ndarray, tick: float, protocol: Protocol, planned: bool) -> Iterator[tuple[str, int, float, float]]:
    """Form, channel, and how much of the life left it tells, beside what age tells, where that is almost everything.

    Args:
        planned: whether lives end in replacements: a plan may read a meter, which then does not read the plan.
    """
    at = np.flatnonzero(rows)
    at = at[:: max(1, len(at) // SAMPLED)]
    own, left = np.unique(lives.life[at], return_inverse=True)[1], lives.left[at]
    part = np.random.default_rng(0).permutation(own.max() + 1)[own] % 2 == 0
    # a channel that tells the life left only near its end is no better for that
    caps = np.unique([np.inf, protocol.cap / tick, protocol.horizon / tick, *np.quantile(left, [0.5, 0.25, 0.1])])
    targets = np.array([t for t in (np.minimum(left, cap) for cap in caps) if t.std() > 0]).reshape(-1, len(left))
    by_age = _told(lives.age[at].astype(float), targets, part)
    for form, values in _forms(lives, at):
        for column in range(values.shape[1]):
            told = _told(values[:, column], targets, part)
            # where all lives are of one length age tells as much, and nothing is to be learnt of a channel
            exact = (told >= EXACT) & (1 - told < 0.5 * (1 - by_age))
            if exact.any() and not (planned and not form and _meters(values[:, column], own)):
                best = int(np.argmax(np.where(exact, told, -np.inf)))
                yield form, column, float(told[best]), float(by_age[best])


def _meters(value: np.ndarray, life: np.ndarray) -> bool:
    """Whether a channel never falls within a life, and begins each at about the same value: [row], rows of a life together."""
    inside = life[1:] == life[:-1]
    first = value[np.r_[True, ~inside]]
    return bool((np.diff(value)[inside] >= 0).all() and np.ptp(first) <= SAME_END * np.ptp(value))


def _told(value: np.ndarray, targets: np.ndarray, part: np.ndarray) -> np.ndarray:
    """R² float64 [target] of the mean of each bin of the values, fitted on one part of the rows and asked on the other, both ways."""
    error = np.zeros(len(targets))
    for fit in (part, ~part):
        edges = _edges(value[fit])
        bins = np.where(np.isnan(value), len(edges) + 1, np.searchsorted(edges, value, side="right"))
        count = np.bincount(bins[fit], minlength=len(edges) + 2)
        filled = np.flatnonzero(count)
        for i, target in enumerate(targets):
            mean = np.bincount(bins[fit], target[fit], len(count))[filled] / count[filled]
            guess = np.interp(bins[~fit], filled, mean)
            error[i] += ((guess - target[~fit]) ** 2).sum()
    return 1 - error / (((targets - targets.mean(axis=1, keepdims=True)) ** 2).sum(axis=1))


def _edges(value: np.ndarray) -> np.ndarray:
    """Between which values bins begin: one bin for each distinct value where they are few, else as many values in each."""
    distinct = np.unique(value[~np.isnan(value)])
    if len(distinct) <= BINS:
        return (distinct[1:] + distinct[:-1]) / 2
    return np.unique(np.quantile(value[~np.isnan(value)], np.arange(1, BINS) / BINS))


def _classes(
    lives: _Lives, training: Training, protocol: Protocol, marked: list[tuple[str, float, float]]
) -> Iterator[tuple[str, np.ndarray]]:
    """What is told apart, and the labels: 1, 0 or NaN [row]."""
    yield f"ticks up to {protocol.horizon:g} before a failure", training.labels.fails_within(protocol.horizon)
    if marked:
        label = np.zeros(len(lives.tick))
        for name, first, last in marked:
            label[(training.asset == name) & (lives.tick >= first) & (lives.tick <= last)] = 1.0
        yield "labelled episodes", label


def _separate(lives: _Lives, label: np.ndarray) -> Iterator[tuple[str, int, float]]:
    """Form, channel and area under the ROC curve, where it is almost 1 and age does not tell as much."""
    at = np.flatnonzero(~np.isnan(label))
    at = at[:: max(1, len(at) // SAMPLED)]
    positive = label[at] == 1
    by_age = _area(lives.age[at].astype(float), positive)
    for form, values in _forms(lives, at):
        for column in range(values.shape[1]):
            value = values[:, column]
            area = max(_area(np.where(np.isnan(value), end, value), positive) for end in (-np.inf, np.inf))
            if area >= SEPARATES and 1 - area < 0.5 * (1 - by_age):
                yield form, column, area


def _area(value: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve, whichever side is the higher; ties count half (Mann, Whitney 1947)."""
    normal, many = np.sort(value[~positive]), positive.sum()
    if not len(normal) or not many:
        return 0.5
    below, upto = (np.searchsorted(normal, value[positive], side=side) for side in ("left", "right"))
    area = float((below + upto).sum() / (2 * len(normal) * many))
    return max(area, 1 - area)


# ---- countdowns


def countdowns(lives: _Lives, names: list[str]) -> Check:
    """Channels that run on a straight line, of one slope for all lives, to one value at the end of each life: a schedule that knew the end."""
    found: dict[int, Finding] = {}
    kinds = {kind: rows for kind, rows in lives.kinds().items() if lives.count(rows) > 1}
    for kind, rows in kinds.items():
        lines = [_line(lives.values[own].astype(np.float64), lives.left[own]) for own in _of_each(lives, rows)]
        slope, end, straight, length = (np.array(part) for part in zip(*lines, strict=True))
        for column in range(len(names)):
            seen = ~np.isnan(slope[:, column])
            if seen.sum() < 2 or seen.mean() < MOST:
                continue
            typical, step = np.median(slope[seen, column]), _quantum(lives.values[rows, column])
            last = np.median(end[seen, column])
            near = max(1.01 * step, SAME_END * abs(typical) * np.median(length))
            parallel = np.abs(slope[:, column] - typical) <= SAME_SLOPE * abs(typical) + step / (2 * np.maximum(length, 1))
            same = straight[:, column] & parallel & (np.abs(end[:, column] - last) <= near)
            # an honest clock rises to one value too where all lives are of one length
            honest = typical < 0 and length.std() <= 0.05 * length.mean()
            if typical != 0 and not honest and same[seen].mean() >= MOST:
                why = f"it runs in a straight line to {last:.4g} at {int(same.sum())} of {int(seen.sum())} {kind}, {-typical:+.4g} per tick"
                found.setdefault(column, Finding(COUNTDOWN, f"channel {names[column]}", float(same.sum()), why, DROP))
    counted = ", ".join(f"{lives.count(rows)} lives that end in {kind}" for kind, rows in kinds.items())
    compared = (
        f"{len(names)} channels over {counted}"
        if kinds
        else "fewer than two lives with a known end in the training part: nothing to compare"
    )
    return Check(COUNTDOWN, compared, tuple(found.values()))


def _of_each(lives: _Lives, rows: np.ndarray) -> list[np.ndarray]:
    """The rows of each life, of those that are looked at."""
    at = np.flatnonzero(rows)
    order = at[np.argsort(lives.life[at], kind="stable")]
    return np.split(order, np.flatnonzero(np.diff(lives.life[order])) + 1)


def _line(values: np.ndarray, left: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Least squares of each channel over the ticks left in one life: slope and value at the end, float64 [channel], whether it is straight,
    and the life's length. Slopes of channels with too few values are NaN.
    """
    there = ~np.isnan(values)
    count = np.maximum(there.sum(axis=0), 1)
    x = np.where(there, left[:, None], 0.0)
    y = np.where(there, values, 0.0)
    mx, my = x.sum(axis=0) / count, y.sum(axis=0) / count
    dx, dy = np.where(there, left[:, None] - mx, 0.0), np.where(there, values - my, 0.0)
    square = (dx**2).sum(axis=0)
    slope = np.where(square > 0, (dx * dy).sum(axis=0) / np.where(square > 0, square, 1.0), 0.0)
    rest, whole = np.where(there, dy - slope * dx, 0.0), (dy**2).sum(axis=0)
    unexplained = (rest**2).sum(axis=0) / np.where(whole > 0, whole, 1.0)
    steps = np.array([_quantum(values[:, c]) for c in range(values.shape[1])])
    levels = np.array([len(np.unique(values[there[:, c], c])) for c in range(values.shape[1])])
    rounded = (np.abs(rest).max(axis=0) <= 1.01 * steps) & (levels >= LEVELS) & (unexplained <= 0.1)
    straight = (whole > 0) & ((unexplained <= 1 - STRAIGHT) | rounded)
    return np.where(there.sum(axis=0) >= 8, slope, np.nan), my - slope * mx, straight, float(left.max() - left.min())


def _quantum(value: np.ndarray) -> float:
    """The smallest step between distinct values; readings are float32, so that smaller ones are rounding."""
    distinct = np.unique(value[~np.isnan(value)])
    gaps = np.diff(distinct)
    gaps = gaps[gaps > 1e-6 * np.abs(distinct).max(initial=0.0)]
    return float(gaps.min()) if len(gaps) else 0.0


# ---- what is known only after the event


def known_afterwards(lives: _Lives, names: list[str], training: Training, marked: list[tuple[str, float, float]]) -> tuple[Check, Check]:
    """Channels that are blank, or at their usual value, until an event has happened; those with two values are failure flags."""
    found: dict[str, list[Finding]] = {AFTER: [], FLAG: []}
    near, events = _near_events(lives, training, marked)
    chance = near.mean() if len(near) else 0.0
    for column, name in enumerate(names):
        value = lives.values[:, column]
        begins = _stretches(value, lives.asset)
        hits = int(near[begins].sum())
        if hits < 3 or hits < MOST * len(begins) or chance**hits > CHANCE:
            continue
        levels = len(np.unique(value[~np.isnan(value)]))
        kind = FLAG if levels == 2 and not np.isnan(value).all() and np.isnan(value).mean() < 0.5 else AFTER
        why = f"{hits:,} of {len(begins):,} stretches with a value of their own begin at one of {events:,} events, by chance {chance:.1%} would"
        mend = "leave the column out: it is written down when the event is known, and a device does not have it before"
        found[kind].append(Finding(kind, f"channel {name}", hits, why, mend))
    compared = f"{len(names)} channels with {events:,} events" if events else "no event in the training part: nothing to compare"
    return Check(AFTER, compared, tuple(found[AFTER])), Check(FLAG, compared, tuple(found[FLAG]))


def _near_events(lives: _Lives, training: Training, marked: list[tuple[str, float, float]]) -> tuple[np.ndarray, int]:
    """bool [row]: from the last tick before an event to the second after it, and after it became known; and how many events there are."""
    near, events, contract = np.zeros(len(lives.tick), bool), 0, training.contract
    ends = training.events.filter(pl.col("event").is_in(["failure", "replacement"]))
    at, known = (contract.ticks_of(ends[n].to_physical().to_numpy()) for n in ("time", "known_at"))
    dated = [*zip(ends["asset"].to_list(), at, known, strict=True), *((name, first, first) for name, first, _ in marked)]
    span = {name: (rows[0], rows[-1] + 1) for name, rows in _rows_of(training.asset).items()}
    for name, when, told in dated:
        begin, end = span.get(name, (0, 0))
        own = lives.tick[begin:end]
        before = int(np.searchsorted(own, when, side="right")) - 1
        if before < 0:
            continue
        events += 1
        for first, last in ((own[before], when + AFTERWARDS), (told, told + AFTERWARDS)):
            near[begin + np.searchsorted(own, first) : begin + np.searchsorted(own, max(first, last), side="right")] = True
    return near, events


def _rows_of(asset: np.ndarray) -> dict[str, np.ndarray]:
    starts = np.flatnonzero(np.r_[True, asset[1:] != asset[:-1]]) if len(asset) else np.empty(0, np.int64)
    return {asset[s]: np.array([s, e - 1]) for s, e in zip(starts, [*starts[1:], len(asset)], strict=True)}


def _stretches(value: np.ndarray, asset: np.ndarray) -> np.ndarray:
    """Rows at which an asset's channel leaves blank or its usual value; empty for a channel that is rarely either."""
    absent = np.isnan(value)
    blank = absent
    if absent.mean() < 0.5:
        levels, count = np.unique(value[~absent], return_counts=True)
        blank = absent | (value == levels[np.argmax(count)])
    if blank.mean() < 0.5:
        return np.empty(0, np.int64)
    begins = ~blank
    begins[1:] &= blank[:-1] | (asset[1:] != asset[:-1])
    return np.flatnonzero(begins)
