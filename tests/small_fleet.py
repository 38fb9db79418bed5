"""Small fitted bundles for the tests that need one, each built once in a process.

`small_fleet`: twelve pumps with short lives and twenty trees. `small_watch`: an anomaly score of six of these pumps, each
against its own first ticks or all against the fleet's.
"""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import polars as pl

from pmx.alarm.policy import KofN
from pmx.alarm.state import Policy
from pmx.bundle import Bundle, core_digest
from pmx.evaluate.protocol import Protocol, Truth
from pmx.feature.features import FeatureSet
from pmx.feature.kernel import Age, Deviation, Drift, Ewma, Lags, Slope, TrailingMean
from pmx.feature.regime import RegimeScore
from pmx.model.lightgbm import LightGBM
from pmx.model.pca import Pca
from pmx.pack.core import core_files
from pmx.pack.fitted import Fitted
from pmx.pack.scope import Scoped
from pmx.pack.seal import seal
from pmx.select.candidates import out_of_fold, refit, try_out
from pmx.select.training import Training, truth
from pmx.source import History
from pmx.source.admit import admit
from pmx.source.synthetic import Synthetic
from pmx.source.ticks import to_ticks
from pmx.window.split import ByAsset, Division, Head


@dataclass(frozen=True)
class SmallFleet:
    """What a run has in hand when the winner is fitted; `core` is its core as bytes, `ticks` holds all assets, `tested` those of the test."""

    history: History
    readings: pl.DataFrame
    ticks: pl.DataFrame
    division: Division
    training: Training
    real: Truth
    fitted: Fitted
    core: dict[str, bytes]
    policy: Policy = Policy("rul", "below", raise_at=90.0, clear_at=120.0, k=2, n=3)
    protocol: Protocol = Protocol(cap=240, horizon=90, lead=6, draws=50)

    @property
    def tested(self) -> pl.DataFrame:
        return self.ticks.filter(pl.col("asset").is_in(self.real.assets))

    @property
    def bundle(self) -> Bundle:
        """The core alone, in memory."""
        return Bundle(self.core, core_digest(self.core))

    def write(self, folder: Path, **instead: bytes) -> str:
        """Writes the core files, some of them changed, and returns the core digest."""
        folder.mkdir(parents=True)
        files = {**self.core, **{name.replace("_", "."): data for name, data in instead.items()}}
        for name, data in files.items():
            (folder / name).write_bytes(data)
        return core_digest(files)

    def seal(self, folder: Path, **instead: bytes) -> Path:
        """The same, sealed."""
        core = self.write(folder, **instead)
        gates = {"parity": {"passed": True, "detail": "", "culprit": ""}}
        seal(folder, core, {"replayed_core_digest": core, "gates": gates, "metrics": {"test/rmse": 1.0}}, "# card\n")
        return folder


@cache
def small_fleet() -> SmallFleet:
    history = Synthetic(assets=12, life=600.0, tick=6.0, missing=0.03).load()
    readings = admit(history.rows, history.contract).readings
    ticks = to_ticks(readings, history.contract)
    division = ByAsset().apply(ticks, None)
    training = Training.of(ticks, division, history, ByAsset())
    kernels = [Age(), TrailingMean(5), Deviation(10), Slope(5), Drift(5, 5), Ewma(8)]
    features = FeatureSet(RegimeScore(), kernels).fit(training.ticks, history.contract)
    model = LightGBM(trees=20, learning_rate=0.2, min_child_samples=10)
    usable, target = training.usable("rul", SmallFleet.protocol)
    model.fit(features.table(training.ticks)[usable], target[usable], training.asset[usable])
    fitted = Fitted("lightgbm", features, Scoped(model), SmallFleet.protocol.cap)
    real = truth(ticks, history.events, history.contract, division.test)
    core = core_files(fitted, SmallFleet.policy, SmallFleet.protocol, "small pumps")
    return SmallFleet(history, readings, ticks, division, training, real, fitted, core)


@cache
def small_watch(each: bool = True) -> SmallFleet:
    """The same of the task `anomaly`: six pumps fitted on their first forty readings, with `each` every pump on its own alone."""
    fleet = small_fleet()
    names = sorted(fleet.ticks["asset"].unique())[:6]
    ticks, readings = (f.filter(pl.col("asset").is_in(names)) for f in (fleet.ticks, fleet.readings))
    events = fleet.history.events.filter(pl.col("asset").is_in(names))
    history = replace(fleet.history, rows=fleet.history.rows.filter(pl.col("asset").is_in(names)), events=events)
    split = Head(rows=40)
    division = split.apply(ticks, None)
    training = Training.of(ticks, division, history, split, each)
    features = FeatureSet(RegimeScore(), [Lags(2), TrailingMean(4)])
    scores = out_of_fold({"pca": Pca()}, features, training, SmallFleet.protocol, lambda what, done, total: None)
    trial = try_out("pca", Pca(), scores["pca"], training, SmallFleet.protocol, KofN(), seed=0)
    fitted = refit(trial, features, training, SmallFleet.protocol)
    real = truth(ticks, events, history.contract, division.test)
    core = core_files(fitted, trial.policy, SmallFleet.protocol, "watched pumps")
    return SmallFleet(history, readings, ticks, division, training, real, fitted, core, trial.policy)
