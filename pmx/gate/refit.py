"""The look-ahead gate's other half: put other readings into the test part, learn again, and every fitted constant must stay as it was.

It learns on a sample of the assets with light models, by the call that the run itself makes: what a run fits on the test part, it fits
on the test part here too.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from pmx.contract import MICROSECONDS, Contract, DataError
from pmx.evaluate.protocol import Truth
from pmx.feature.features import FeatureSet
from pmx.feature.past import Past
from pmx.gate.lookahead import look_ahead, tick_of_reading
from pmx.gate.result import Gate
from pmx.pack.scope import read_by
from pmx.select import learn as learning
from pmx.select.learn import Learnt, Recipe
from pmx.source import History

RULE = "nothing that is fitted may change when the test part does"
REPEAT_RULE = "the same readings must give the same constants"
FOLDS, LIMITS = 2, 3  # are enough to go through validation and to try alarm limits
TRAINED, TESTED, BOTH, ROWS = 20, 10, 10, 5_000  # of the sample: assets of each side, or those that are on both, and readings of each
ROUNDING = 1e-9  # relative: sums over several threads are added in another order
DELAY = 7  # ticks by which the changed events come later
OTHER = "another fault"  # what the test part is said to have
PROBES = 200  # rows that a model is asked about
FIRST = ("settings_", "range_", "centre_")  # what a normalisation learns before its means: the regimes


@dataclass(frozen=True)
class Constant:
    """One thing that was learnt.

    Attributes:
        what: such as `scaler mean`.
        value: an array of numbers or names.
        axes: what stands along each axis, such as the names of the channels; empty = it is not known.

    Example:
        >>> Constant("limit raise_at of pca", np.array(0.9)).differs(Constant("limit raise_at of pca", np.array(0.8)))
        'limit raise_at of pca: 0.9, with other test data 0.8'
    """

    what: str
    value: np.ndarray
    axes: tuple[list[str], ...] = ()

    def differs(self, other: Constant | None) -> str:
        """Where and how it differs from the constant of the same name; empty where it does not."""
        if other is None:
            return f"{self.what}: there is none with other test data"
        a, b = self.value, other.value
        if a.shape != b.shape:
            return f"{self.what}: {a.size} values, with other test data {b.size}"
        numbers = a.dtype.kind == "f" and b.dtype.kind == "f"
        apart = ~np.isclose(a, b, rtol=ROUNDING, atol=0.0, equal_nan=True) if numbers else a != b
        if not np.any(apart):
            return ""
        at = tuple(int(i) for i in np.argwhere(apart)[0])
        where = ", ".join(names[i] for i, names in zip(at, self.axes, strict=False) if names)
        was, now = (f"{x[at]:.6g}" if x.dtype.kind == "f" else str(x[at]) for x in (a, b))
        return f"{self.what}{', ' if where else ''}{where}: {was}, with other test data {now}"


def unchanged_by_test(recipe: Recipe, readings: pl.DataFrame, contract: Contract, history: History, seed: int = 0) -> Gate:
    """Learns on a sample of the assets, twice: as they are, and with other values and events in the test part.

    Args:
        readings: admitted readings.
        contract: of the readings, as the window suits it.
        history: whose events, test assets and calibration runs count.
    """
    light = _light(recipe)
    sample, known, before = _sampled(light, readings, contract, history, seed)
    other, told = _other_test(before, sample, known, contract, seed)
    try:
        after = learning.learn(light, other, contract, told, _silent)
    except DataError as error:
        return _refused("nothing can be learnt with other test data", f"learning ended with: {error}", RULE)
    constants = list(learnt_constants(before))
    found = _differences(constants, after)
    if found:
        again = _differences(constants, learning.learn(light, sample, contract, known, _silent))
        if again and again[0].partition(":")[0] == found[0].partition(":")[0]:
            return _refused(f"learning does not repeat: {again[0].partition(':')[0]}", again[0].replace("other", "the same"), REPEAT_RULE)
        detail = f"{found[0]}; {len(found)} of {len(constants)} constants changed"
        return _refused(found[0].partition(": ")[0], detail, RULE)
    values = sum(c.value.size for c in constants)
    assets, tested = (int(pl.Series(before.ticks["asset"]).filter(pl.Series(m)).n_unique()) for m in _sides(before))
    detail = f"{values:,} fitted values of {assets} assets stayed identical when the readings of {tested} in the test part were replaced"
    return Gate("look-ahead", True, detail, figures={"constants": float(values)})


def looked_ahead(
    recipe: Recipe, readings: pl.DataFrame, contract: Contract, history: History, learnt: Learnt, real: Truth, seed: int = 0
) -> Gate:
    """The look-ahead gate whole: later readings change nothing before them, and the test part changes nothing that is fitted.

    Args:
        learnt: what the run learnt, from the same recipe and readings.
        real: what the evaluation holds the test part against.
    """
    first = look_ahead(readings, contract, learnt.winner.features, learnt.training, seed, history, real)
    if not first.passed:
        return first
    second = unchanged_by_test(recipe, readings, contract, history, seed)
    if not second.passed:
        return second
    return Gate("look-ahead", True, f"{first.detail}; {second.detail}", figures=first.figures | second.figures)


def _refused(culprit: str, detail: str, rule: str) -> Gate:
    return Gate("look-ahead", False, detail, culprit=culprit, rule=rule)


def _silent(what: str, done: int, total: int) -> None:
    """Takes progress."""


def _sides(learnt: Learnt) -> tuple[np.ndarray, np.ndarray]:
    return learnt.division.train, learnt.division.test


def _light(recipe: Recipe) -> Recipe:
    """The same recipe with light models, few folds, few limits to try, and feature tables that are computed here."""
    window, alarm = copy.copy(recipe.window), copy.copy(recipe.alarm)
    window.folds, alarm.limits = min(window.folds, FOLDS), min(alarm.limits, LIMITS)
    models = {name: model.light() for name, model in recipe.models.items()}
    return replace(recipe, window=window, alarm=alarm, models=models, tables=FeatureSet.table, limits=None)  # no clock decides here


# ---- the sample, and what it becomes with another test part


def _sampled(
    recipe: Recipe, readings: pl.DataFrame, contract: Contract, history: History, seed: int
) -> tuple[pl.DataFrame, History, Learnt]:
    """A sample of assets that can be learnt from, its history and what was learnt; more of them where few do not suffice."""
    names = readings["asset"].unique().sort().to_list()
    for more in (1, 4, len(names) + len(readings)):
        chosen = _chosen(names, history, recipe.window.by, more, seed)
        whole = readings.filter(pl.col("asset").is_in(chosen))
        sample = whole.filter(pl.int_range(pl.len()).over("asset") < ROWS * more)
        known = replace(
            history,
            rows=sample.lazy().select("asset"),
            events=history.events.filter(pl.col("asset").is_in(chosen)),
            test_assets=history.test_assets and history.test_assets & set(chosen),
            calibration=history.calibration & set(chosen),
        )
        try:
            return sample, known, learning.learn(recipe, sample, contract, known, _silent)
        except DataError:  # such as no failure within the sample: the run itself could learn, so there is one in the whole
            if len(sample) == len(readings):
                raise
    raise AssertionError("the last sample is the whole")


def _chosen(names: list[str], history: History, by: str, more: int, seed: int) -> list[str]:
    """Assets of the sample, those that failed first: a sample without labels teaches nothing."""
    rng = np.random.default_rng(seed)
    failed = set(history.events.filter(pl.col("event") == "failure")["asset"].to_list())
    order = sorted(rng.permutation(names).tolist(), key=lambda a: a not in failed)
    tested, calibration = history.test_assets or frozenset(), history.calibration
    if by == "time" or not tested:
        most = (BOTH if by == "time" else TRAINED + TESTED) * more
        return [*[a for a in order if a not in calibration][:most], *sorted(calibration)[: TESTED * more]]
    train = [a for a in order if a not in tested and a not in calibration]
    return [*train[: TRAINED * more], *[a for a in order if a in tested][: TESTED * more], *sorted(calibration)[: TESTED * more]]


def _other_test(learnt: Learnt, readings: pl.DataFrame, history: History, contract: Contract, seed: int) -> tuple[pl.DataFrame, History]:
    """The readings with other values behind the ticks of the test part, at the same times; and the history with other events and classes
    of it, and other episodes everywhere, which no training may read.
    """
    rng = np.random.default_rng(seed)
    begins = learnt.ticks.filter(pl.Series(learnt.division.test)).group_by("asset").agg(begins=pl.col("tick").min())
    tested = readings.select("asset", at=tick_of_reading(contract)).join(begins, on="asset", how="left", maintain_order="left")
    mask = tested.select((pl.col("at") >= pl.col("begins")).fill_null(False)).to_series().to_numpy()
    columns = []
    for channel in contract.channels:
        x = readings[channel.name].fill_null(np.nan).to_numpy().copy()
        low, high = -np.inf if channel.low is None else channel.low, np.inf if channel.high is None else channel.high
        x[mask] = x[mask] / 2 if channel.role == "counter" else _plausible(x[mask], low, high, rng)
        columns.append(pl.Series(channel.name, x).fill_nan(None))
    trained = learnt.ticks.filter(pl.Series(learnt.division.train))["tick"].max()
    known = pl.Series(contract.ticks_of(history.events["known_at"].to_physical().to_numpy())) > float(str(trained))
    # an event that was written down before training ended may teach, whoever is tested later
    late = known if learnt.division.by == "time" else history.events["asset"].is_in(begins["asset"].to_list())
    swap = {"failure": "replacement", "replacement": "failure"}
    later = {n: pl.when(late).then(_later(n, contract)).otherwise(pl.col(n)) for n in ("time", "known_at")}
    events = history.events.with_columns(event=pl.when(late).then(pl.col("event").replace(swap)).otherwise("event"), **later)
    episodes = history.episodes
    if episodes is not None:
        episodes = episodes.with_columns(begin=_later("begin", contract), end=_later("end", contract))
    faults = history.faults
    if faults is not None:
        written = pl.Series(contract.ticks_of(faults["known_at"].to_physical().to_numpy())) > float(str(trained))
        late = written if learnt.division.by == "time" else faults["asset"].is_in(begins["asset"].to_list())
        faults = faults.with_columns(
            fault=pl.when(late).then(pl.lit(OTHER)).otherwise("fault"),
            **{n: pl.when(late).then(_later(n, contract)).otherwise(pl.col(n)) for n in ("begin", "end", "known_at")},
        )
    return readings.with_columns(columns), replace(history, events=events, episodes=episodes, faults=faults)


def _plausible(x: np.ndarray, low: float, high: float, rng: np.random.Generator) -> np.ndarray:
    """Other values within the valid range: shuffled over assets and rows, then mirrored in the range or scaled and shifted."""
    if not len(x):
        return x
    x = rng.permutation(x)
    if np.isfinite([low, high]).all():
        return low + high - x
    known = x[~np.isnan(x)]
    spread = max(float(known.std()), 0.1 * float(np.abs(known).mean()), 1e-3) if len(known) else 0.0
    return np.clip(1.5 * x + 2 * spread, low, high)


def _later(name: str, contract: Contract) -> pl.Expr:
    if contract.clock == "life":
        return pl.col(name) + DELAY * contract.tick
    return pl.col(name) + pl.duration(microseconds=DELAY * round(MICROSECONDS[contract.life_unit] * contract.tick))


# ---- every fitted constant by name, in the order in which one leads to the next


def learnt_constants(learnt: Learnt) -> Iterator[Constant]:
    """What was learnt, the causes before what follows from them: readings, labels, regimes, scaler, quality, kernels, calibration, limits, model."""
    training, features, winner = learnt.training, learnt.winner.features, learnt.winner
    row = [f"asset {a} at tick {t}" for a, t in training.ticks.select("asset", "tick").iter_rows()]
    yield Constant("split, training part", np.array(row))
    for channel in training.contract.names:
        yield Constant(f"alignment, channel {channel}", training.ticks[channel].to_numpy(), (row,))
    labels = {"life left": training.labels.rul, "certain life": training.labels.at_least, "time since failure": training.labels.since}
    labels["class of fault"] = training.labels.fault
    yield from (Constant(f"label, {name}", value, (row,)) for name, value in labels.items() if value is not None)
    yield Constant("ticks fitted on", np.array([f"asset {a} at tick {t}" for a, t in winner.used.sort("asset", "tick").iter_rows()]))
    learnt_values = dict(_walk(features.normalise_, ""))
    for name, value in sorted(learnt_values.items(), key=lambda item: item[0].partition(",")[0] not in FIRST):
        kind = "regime" if name.partition(",")[0] in FIRST else "scaler"
        yield Constant(f"{kind} {name.partition(',')[0].strip('_')}{_rest(name)}", value, _axes(value, features.normalise_))
    if features.quality_ is not None:
        for name, value in _walk(features.quality_.habit_, ""):
            yield Constant(f"quality{name}", value)
    for kernel in features.kernels:
        for name, value in _walk(kernel, ""):
            yield Constant(f"kernel {kernel.label}, {name}", value)
    for trial in learnt.trials:
        if trial.healthy is not None:
            for asset, level in trial.healthy.level.items():
                yield Constant(f"calibration of {trial.name}, healthy level" + (f" of asset {asset}" if asset else ""), np.array(level))
            yield Constant(f"calibration of {trial.name}, healthy ratios", trial.healthy.ratios)
        if trial.odds is not None:
            yield Constant(f"calibration of {trial.name}, odds", np.array([trial.odds.slope, trial.odds.offset]))
    if winner.margins is not None:
        for name in ("edges", "lower", "upper"):
            yield Constant(f"interval, {name}", getattr(winner.margins, name))
    for trial in learnt.trials:
        for name, limit in trial.policy.to_json().items():
            yield Constant(f"limit {name} of {trial.name}", np.array(limit))
    for trial in learnt.trials:
        for name, metric in {**trial.metrics, "value": trial.value}.items():
            yield Constant(f"figure {name} of {trial.name}", np.array(metric, np.float64))
    yield Constant("choice of the winner", np.array(learnt.best.name))
    probes = np.random.default_rng(0).normal(size=(PROBES, len(features.names_))).astype(np.float32)
    scoped, past = winner.model, Past.of(probes, np.zeros(PROBES, np.int64), features.names_)
    for asset, model in (scoped.own or {"": scoped.model}).items():
        yield Constant(f"model {winner.name}" + (f" of asset {asset}" if asset else ""), model.score(read_by(model, past)))


def _rest(name: str) -> str:
    _, comma, rest = name.partition(",")
    return comma + rest


def _axes(value: np.ndarray, normalise: Any) -> tuple[list[str], ...]:
    """What stands along the axes of a normalisation's constants, told by their sizes."""
    channels, settings = normalise.channels_, normalise.settings_
    if value.ndim and value.dtype.kind == "f":
        last = channels if value.shape[-1] == len(channels) else settings if value.shape[-1] == len(settings) else []
        named = [f"{'channel' if last is channels else 'setting'} {n}" for n in last]
        regimes = [f"regime {k + 1}" for k in range(value.shape[-2])] if value.ndim > 1 and value.shape[-2] > 1 else []
        return ([],) * (value.ndim - 2) + ((regimes,) if value.ndim > 1 else ()) + (named,)
    return ()


def _walk(thing: Any, name: str) -> Iterator[tuple[str, np.ndarray]]:
    """Learnt numbers and names within an object, found by the underscore that ends what is learnt."""
    if isinstance(thing, (np.ndarray, bool, int, float, str)):
        yield name, np.asarray(thing)
    elif isinstance(thing, dict):
        for key, value in thing.items():
            yield from _walk(value, f"{name}, asset {key}" if name == "own_" else f"{name}, {key}")
    elif isinstance(thing, (list, tuple)) and all(isinstance(v, (str, int, float)) for v in thing):
        yield name, np.array(thing)
    elif isinstance(thing, (list, tuple)):
        for i, value in enumerate(thing):
            yield from _walk(value, f"{name}, {i + 1}")
    elif is_dataclass(thing):
        for field in fields(thing):
            yield from _walk(getattr(thing, field.name), f"{name}, {field.name}")
    elif hasattr(thing, "__dict__") and not isinstance(thing, pl.DataFrame):
        for key, value in vars(thing).items():
            if key.endswith("_") and not key.startswith("_"):
                yield from _walk(value, f"{name}, {key}" if name else key)


def _differences(constants: list[Constant], other: Learnt) -> list[str]:
    """What differs, in order."""
    there = {c.what: c for c in learnt_constants(other)}
    found = [c.differs(there.get(c.what)) for c in constants]
    new = sorted(set(there) - {c.what for c in constants})
    return [f for f in found if f] + [f"{what}: there is one with other test data only" for what in new]
