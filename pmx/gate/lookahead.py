"""The look-ahead gate: change readings after a moment, compute again what training used; everything up to that moment must stay as it was.

What training used is its own ticks and the features of these ticks. Labels and episodes, which tell of later moments by their
nature, are held against the events and times they were made from. That nothing fitted depends on the test part shows `pmx.gate.refit`.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from pmx.contract import Contract
from pmx.evaluate.protocol import Truth
from pmx.feature.features import FeatureSet
from pmx.gate.result import Gate
from pmx.reading import TOLERANCE
from pmx.select.training import Training
from pmx.source import History
from pmx.source.ticks import to_ticks

RULE = "a value at tick t may depend on readings up to t only"
LABEL_RULE = "a label belongs to the time of the newest reading of its window"
LEAST_ROWS = 8  # of an asset that is looked at
MOST_ROWS = 10_000  # from the asset's first on: what looks ahead shows early, and a year at one reading a minute takes long
MOST_BEHIND = 4  # moments behind a missing value, each of another channel
TESTED_ROWS = 200  # behind the end of the training part: what it took from the test part shows right there
ASSETS = 4


def look_ahead(
    readings: pl.DataFrame,
    contract: Contract,
    features: FeatureSet,
    training: Training,
    seed: int = 0,
    history: History | None = None,
    real: Truth | None = None,
) -> Gate:
    """Checks the path that training used, on some assets and moments: alignment, missing ticks, features; then labels and episodes.

    Args:
        readings: admitted readings.
        features: fitted.
        history: whose events training may know; None = only what training says it knew is checked.
        real: what the evaluation holds the test part against; its episodes are checked with the history's.
    """
    rng = np.random.default_rng(seed)
    readings = readings.filter(pl.col("asset").is_in(training.truth.assets))
    compared, chosen = 0, _assets(readings, contract, rng)
    for asset in chosen:
        used = _Used(training.ticks.filter(pl.col("asset") == asset), contract, features)
        own = used.readings(readings.filter(pl.col("asset") == asset).head(MOST_ROWS))
        for cut in _cuts(own, used.last, contract, rng):
            # the tick of the first changed reading may hold unchanged ones too: it was still open, those before it are closed
            opened = int(own[cut:].select(tick_of_reading(contract).min()).item())
            for how, changed in _changes(own, cut, contract, rng).items():
                size, culprit = used.against(to_ticks(changed, contract), opened - 1, f"later readings were {how}")
                compared += size
                if culprit:
                    return culprit
    if not compared:
        return Gate("look-ahead", False, "nothing could be compared", culprit=f"no training asset has {LEAST_ROWS} readings", rule=RULE)
    wrong = _stray_event(training, history) or _wrong_label(training, contract) or _wrong_episode(real, history, contract)
    wrong = wrong or _wrong_class(training, history, contract)
    if wrong:
        return Gate("look-ahead", False, wrong[1], culprit=wrong[0], rule=LABEL_RULE)
    detail = f"{compared:,} values of {len(chosen)} assets stayed identical when later readings were cut off, shuffled or spiked"
    return Gate("look-ahead", True, detail, figures={"compared": float(compared)})


def _assets(readings: pl.DataFrame, contract: Contract, rng: np.random.Generator) -> list[str]:
    """Some assets at random, and the one with most missing values: only there does it show what missing values are filled from."""
    missing = pl.sum_horizontal(pl.col(c).is_null() | pl.col(c).is_nan() for c in contract.names).sum()
    sizes = readings.group_by("asset").agg(pl.len(), missing=missing).filter(pl.col("len") >= LEAST_ROWS).sort("asset")
    chosen = rng.permutation(sizes["asset"].to_numpy())[:ASSETS].tolist()
    holes = sizes.sort("missing", "asset", descending=[True, False]).head(1).filter(pl.col("missing") > 0)["asset"].to_list()
    return chosen + [a for a in holes if a not in chosen]


class _Used:
    """The ticks that training used of one asset, and their features."""

    def __init__(self, ticks: pl.DataFrame, contract: Contract, features: FeatureSet) -> None:
        self.contract, self.features = contract, features
        self.ticks = ticks.head(MOST_ROWS)
        self.asset, self.tick = str(ticks["asset"][0]), self.ticks["tick"].to_numpy()
        self.first, self.last = int(self.tick[0]), int(self.tick[-1])
        self.values, self.table = self._values(self.ticks), features.table(self.ticks)

    def _values(self, ticks: pl.DataFrame) -> np.ndarray:
        return ticks.select(self.contract.names).to_numpy().astype(np.float32)

    def readings(self, own: pl.DataFrame) -> pl.DataFrame:
        """The asset's readings, and not too many of those that come after the ticks that training used."""
        within = tick_of_reading(self.contract) <= self.last
        return pl.concat([own.filter(within), own.filter(~within).head(TESTED_ROWS)])

    def against(self, after: pl.DataFrame, closed: int, how: str) -> tuple[int, Gate | None]:
        """How many values were compared with those that other later readings give, and what differs up to the tick `closed`."""
        after = after.filter(pl.col("tick").is_between(self.first, self.last))
        if not len(after):
            return 0, None
        closed = min(closed, int(after["tick"][-1]))
        now = after["tick"].to_numpy()
        old, new = self.tick <= closed, now <= closed
        if not np.array_equal(self.tick[old], now[new]):
            detail = (
                f"training used {old.sum():,} ticks of asset {self.asset} up to tick {closed}, its readings up to then give {new.sum():,}"
            )
            return 0, Gate("look-ahead", False, detail, culprit=f"alignment: ticks of asset {self.asset}", rule=RULE)
        if "life" in self.ticks.columns:  # lives come from orders, not from readings
            after = after.join(self.ticks.select("tick", "life"), on="tick", how="left", maintain_order="left")
        pairs = [(self.values[old], self._values(after)[new]), (self.table[old], self.features.table(after)[new])]
        differs = [~((a == b) | (np.isnan(a) & np.isnan(b))) for a, b in pairs]
        size = sum(d.size for d in differs)
        if differs[0].any():
            return size, self._misaligned(differs[0], *pairs[0], how)
        return size, self._kernel(differs[1], how) if differs[1].any() else None

    def _misaligned(self, differs: np.ndarray, used: np.ndarray, given: np.ndarray, how: str) -> Gate:
        row, column = (int(i) for i in np.argwhere(differs)[-1])
        name = self.contract.names[column]
        says = "none" if np.isnan(given[row, column]) else f"{given[row, column]:g}"
        detail = (
            f"training used {used[row, column]:g} as channel {name} of asset {self.asset} at tick {self.tick[row]}, where readings up to "
            f"then give {says} when {how}; {differs.sum():,} values changed"
        )
        return Gate("look-ahead", False, detail, culprit=f"alignment: channel {name} of asset {self.asset}", rule=RULE)

    def _kernel(self, differs: np.ndarray, how: str) -> Gate:
        column = int(np.flatnonzero(differs.any(0))[0])
        row, kernel = int(np.flatnonzero(differs[:, column])[-1]), self.features.kernel_of(column)
        feature = self.features.names_[column]
        detail = f"feature {feature} of asset {self.asset} at tick {self.tick[row]} changed when {how}; {differs.sum():,} values changed"
        culprit = f"kernel {kernel.label} ({type(kernel).__module__}.{type(kernel).__name__})"
        return Gate("look-ahead", False, detail, culprit=culprit, rule=RULE)


def tick_of_reading(contract: Contract) -> pl.Expr:
    """The tick that a reading falls into by its `time`."""
    if contract.clock == "calendar":
        return -((-pl.col("time").to_physical()) // contract.tick_us)
    return (pl.col("time") / contract.tick - TOLERANCE).ceil().cast(pl.Int64)


def _cuts(own: pl.DataFrame, last: int, contract: Contract, rng: np.random.Generator) -> list[int]:
    """Positions of the first changed reading: early, where windows are not full yet; behind missing values and ticks; two anywhere;
    and the first one after the training part.
    """
    trained = int(own.select((tick_of_reading(contract) <= last).sum()).item())
    cuts = [int(rng.integers(4, LEAST_ROWS)), *(int(share * trained) for share in rng.uniform(0.2, 0.9, 2)), trained]
    behind = []
    for c in contract.names:
        here = own.select(pl.col(c).is_not_null() & pl.col(c).is_not_nan().fill_null(False)).to_series().to_numpy()
        behind.append(np.flatnonzero(here[1:] & ~here[:-1]) + 1)
    tick = own.select(tick_of_reading(contract)).to_series().to_numpy()
    behind.append(np.flatnonzero(np.diff(tick) > 1) + 1)
    some = [b for b in behind if len(b)]
    cuts += [int(rng.choice(some[i])) for i in rng.permutation(len(some))[:MOST_BEHIND]]
    return sorted({c for c in cuts if 0 < c < len(own)})


def _changes(own: pl.DataFrame, cut: int, contract: Contract, rng: np.random.Generator) -> dict[str, pl.DataFrame]:
    """The asset's readings with everything after row `cut` cut off, shuffled, or spiked."""
    head, tail = own[:cut], own[cut:]
    values = tail.select(contract.names)
    shuffled = tail.select(pl.exclude(contract.names)).hstack(values[rng.permutation(len(values))])
    spike = [pl.when(pl.int_range(pl.len()) == 0).then(pl.lit(1e9)).otherwise(pl.col(c)).alias(c) for c in contract.names]
    return {
        "cut off": head,
        "shuffled": pl.concat([head, shuffled.select(own.columns)]),
        "spiked": pl.concat([head, tail.with_columns(spike)]),
    }


def _stray_event(training: Training, history: History | None) -> tuple[str, str] | None:
    """An event that training knew of and that nobody wrote down as it is: another time would shift every label before it."""
    if history is None:
        return None
    keys = ["asset", "time", "event", "known_at"]
    stray = training.events.join(history.events, on=keys, how="anti").head(1)
    if not len(stray):
        return None
    asset, time, event = stray.select("asset", pl.col("time").cast(pl.String), "event").row(0)
    return f"label of asset {asset}", f"training knew of a {event} at {time} that is not among the events of {history.name}"


def _wrong_label(training: Training, contract: Contract) -> tuple[str, str] | None:
    """A label that is not the time from its own tick to what ended the life, whether it is the life left, the certain life or the repair."""
    asset, tick = training.asset, training.ticks["tick"].to_numpy().astype(np.float64)
    labels = training.labels
    at = {kind: _moments(training.events, kind, contract) for kind in ("failure", "replacement")}
    names, starts = np.unique(asset, return_index=True)
    for name, own in zip(names, np.split(np.arange(len(asset)), np.sort(starts)[1:]), strict=True):
        here = tick[own]
        failed, replaced = at["failure"].get(name, np.empty(0)), at["replacement"].get(name, np.empty(0))
        failure, replacement, before = _next(failed, here), _next(replaced, here), _before(failed, here)
        end = np.fmin(failure, replacement)
        told = {
            "a failure": (
                labels.rul[own],
                np.where(failure <= np.where(np.isnan(replacement), np.inf, replacement), failure - here, np.nan),
            ),
            "an end of its certain life": (labels.at_least[own], np.where(np.isnan(end), here.max(), end) - here),
        }
        if labels.since is not None:
            told["a repair"] = -labels.since[own], before - here
        for what, (given, real) in told.items():
            given = given / contract.tick
            same = (given == real) | (np.isnan(given) & np.isnan(real))  # infinite where there was none before
            with np.errstate(invalid="ignore"):  # infinite on both sides with other signs is NaN, which is off
                off = np.subtract(given, real, out=np.zeros(len(here)), where=~same)
            if not np.abs(off).max() <= 1e-6:
                row = int(np.argmax(np.nan_to_num(np.abs(off), nan=np.inf)))
                how = (
                    f"{what} {off[row]:+.3g} ticks from the real one"
                    if np.isfinite(off[row])
                    else f"{what} where there is none, or of none"
                )
                return f"label of asset {name}", f"at tick {here[row]:.0f} the label tells of {how}"
    return None


def _moments(events: pl.DataFrame, kind: str, contract: Contract) -> dict[str, np.ndarray]:
    """Asset -> when it had events of a kind, float64 [event] in ticks, sorted."""
    some = events.filter(pl.col("event") == kind)
    at = contract.ticks_of(some["time"].to_physical().to_numpy())
    return {a: np.sort(at[(some["asset"] == a).to_numpy()]) for a in some["asset"].unique()}


def _next(moments: np.ndarray, tick: np.ndarray) -> np.ndarray:
    return np.append(moments, np.nan)[np.searchsorted(moments, tick, side="left")]


def _before(moments: np.ndarray, tick: np.ndarray) -> np.ndarray:
    return np.insert(moments, 0, -np.inf)[np.searchsorted(moments, tick, side="right")]


def _wrong_episode(real: Truth | None, history: History | None, contract: Contract) -> tuple[str, str] | None:
    """An episode of the evaluation that does not begin and end with the ticks that hold its first and its last anomalous reading."""
    if real is None or real.episodes is None or history is None or history.episodes is None:
        return None
    times = history.episodes.with_columns(pl.col("begin", "end").to_physical())
    for name, episodes in zip(real.assets, real.episodes, strict=True):
        own = times.filter(pl.col("asset") == name).sort("begin", "end")
        if len(own) != len(episodes):
            return f"episodes of asset {name}", f"the evaluation knows {len(episodes)} episodes, the history {len(own)}"
        for side, edge in enumerate(("begin", "end")):
            off = episodes[:, side] - contract.ticks_of(own[edge].to_numpy())  # 0 <= off < 1: the tick that holds the reading
            wrong = np.flatnonzero((off < -1e-6) | (off >= 1))
            if len(wrong):
                return f"episodes of asset {name}", f"episode {wrong[0] + 1} {edge}s {off[wrong[0]]:+.3g} ticks from its own reading"
    return None


def _wrong_class(training: Training, history: History | None, contract: Contract) -> tuple[str, str] | None:
    """A training tick whose class of fault nobody wrote down for its time."""
    known = training.labels.fault
    if history is None or history.faults is None or known is None:
        return None
    written = history.faults.with_columns(pl.col("begin", "end").to_physical())
    asset, tick = training.asset, training.ticks["tick"].to_numpy()
    for name in np.unique(asset[~np.isnan(known[:, 0])]):
        rows = np.flatnonzero((asset == name) & ~np.isnan(known[:, 0]))
        own = written.filter(pl.col("asset") == name)
        begin, end = (np.ceil(contract.ticks_of(own[n].to_numpy()) - TOLERANCE) for n in ("begin", "end"))
        for k, label in enumerate(training.classes):
            told = rows[known[rows, k] > 0]
            mine = (own["fault"] == label).to_numpy()
            inside = ((tick[told, None] >= begin[mine]) & (tick[told, None] <= end[mine])).any(1)
            if not inside.all():
                at = tick[told[int(np.argmin(inside))]]
                return f"class of asset {name}", f"at tick {at} training was told {label}, which nobody wrote down for that time"
    return None
