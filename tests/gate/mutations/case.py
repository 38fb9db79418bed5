"""What mutations are planted into: each source with its miniature archive and the recipe of its experiment, light enough for a test."""

import copy
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import yaml

from pmx.config import build, compose
from pmx.contract import Contract
from pmx.feature.features import FeatureSet
from pmx.gate.refit import looked_ahead
from pmx.gate.result import Gate
from pmx.pack.scope import by_asset
from pmx.place import conf_dirs, experiment_dirs
from pmx.select import learn, training
from pmx.select.candidates import task_of
from pmx.select.learn import Recipe
from pmx.source import History
from pmx.source.admit import admit
from pmx.source.ticks import to_ticks

ASSETS, KERNELS = 6, 4
# Settings of a source whose own experiment does not suit its miniature, or that has none.
INSTEAD = {"table": "skab", "synthetic": "demo"}
SETTINGS = {
    "table": ["source=table", "source.card={root}/plant.yaml", "window=by_time", "evaluate.horizon=24"],
    "synthetic": ["source.root=null", "source.assets=12", "source.life=300", "source.replace_at=320", "source.missing=0.03"],
}


@dataclass(frozen=True)
class Case:
    """A source's readings, and the recipe that learns from them."""

    name: str
    history: History
    readings: pl.DataFrame
    contract: Contract
    recipe: Recipe

    @property
    def missing(self) -> bool:
        """Whether its training part has missing values with a value after them."""
        ticks = to_ticks(self.readings, self.contract)
        train = ticks.filter(pl.Series(self.recipe.window.apply(ticks, self.history.test_assets).train))
        filled = train.with_columns(pl.col(self.contract.names).backward_fill().over("asset"))
        return train.null_count().sum_horizontal().item() > filled.null_count().sum_horizontal().item()

    @property
    def fails(self) -> bool:
        """Whether failures are labelled."""
        return bool((self.history.events["event"] == "failure").any()) and self.task == "rul"

    @property
    def task(self) -> str:
        return task_of(self.recipe.models, self.recipe.features)

    @property
    def settings(self) -> bool:
        return any(c.role == "setting" for c in self.contract.channels)

    def judge(self) -> Gate:
        """Learns and asks the gate."""
        learnt = learn.learn(self.recipe, self.readings, self.contract, self.history, lambda what, done, total: None)
        test, h = learnt.division.test, self.history
        real = training.truth(learnt.ticks, h.events, self.contract, test, h.episodes)
        return looked_ahead(self.recipe, self.readings, self.contract, self.history, learnt, real)


def sources() -> list[str]:
    """Every source that a run can name."""
    return sorted({p.stem for folder in conf_dirs() for p in (folder / "source").glob("*.yaml")})


def experiment_of(source: str) -> str:
    """The experiment whose recipe a source is learnt by: its own, or that of SKAB, which needs no failures."""
    if source in INSTEAD:
        return INSTEAD[source]
    for file in sorted(f for folder in experiment_dirs() for f in folder.glob("*.yaml")):
        named = [d.get("override source") for d in yaml.safe_load(file.read_text())["defaults"] if isinstance(d, dict)]
        if source in named:
            return file.stem
    return "skab"


@cache
def case(source: str) -> Case:
    """The case of a source, made once."""
    experiment = experiment_of(source)
    with TemporaryDirectory() as folder:
        own = [
            s.format(root=folder) for s in SETTINGS.get(source, [] if experiment != "skab" or source == "skab" else [f"source={source}"])
        ]
        cfg = compose(experiment, [f"source.root={folder}", *own])
        parts = build(cfg)
        parts.source.write_miniature(Path(folder))
        history = parts.source.load()
        rows = history.rows.collect()
    history = replace(history, rows=rows.lazy())
    contract = parts.window.suits(history.contract)
    readings = _few(admit(history.rows, contract, "quarantine").readings, history, parts.window.by)
    each = by_asset(cfg.fit_scope.name, task_of(parts.model, parts.feature), parts.window.by)
    window, first = copy.copy(parts.window), dict(list(parts.model.items())[:1])
    alarm = copy.copy(parts.alarm)
    window.folds, alarm.limits = 2, 3
    models = {name: model.light() for name, model in first.items()}
    features = FeatureSet(parts.feature.normalise, parts.feature.kernels[:KERNELS])
    recipe = Recipe(window, features, models, alarm, parts.evaluate, each)
    events = history.events.filter(pl.col("asset").is_in(readings["asset"].unique().implode()))
    return Case(source, replace(history, rows=readings.lazy().select("asset"), events=events), readings, contract, recipe)


def _few(readings: pl.DataFrame, history: History, by: str) -> pl.DataFrame:
    """The readings of some assets of each side: a test asks what is found, not how well the model is."""
    names = readings["asset"].unique().sort().to_list()
    tested = history.test_assets or frozenset()
    train = [a for a in names if a not in tested]
    if by == "asset" and not tested:
        return readings.filter(pl.col("asset").is_in(train[: 2 * ASSETS]))
    kept = [*train[:ASSETS], *sorted(tested)[: ASSETS // 2], *history.calibration]
    return readings.filter(pl.col("asset").is_in(kept))
