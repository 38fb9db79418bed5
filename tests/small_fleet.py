"""One small fitted bundle for the tests that need one: twelve pumps with short lives, twenty trees. Built once in a process."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl

from pmx.alarm.state import Policy
from pmx.bundle import Bundle, core_digest
from pmx.evaluate.protocol import Protocol, Truth
from pmx.feature.features import FeatureSet
from pmx.feature.kernel import Age, Deviation, Drift, Ewma, Slope, TrailingMean
from pmx.feature.regime import RegimeScore
from pmx.model.lightgbm import LightGBM
from pmx.pack.core import core_files
from pmx.pack.fitted import Fitted
from pmx.pack.seal import seal
from pmx.select.training import Training, truth
from pmx.source import History
from pmx.source.admit import admit
from pmx.source.synthetic import Synthetic
from pmx.source.ticks import to_ticks
from pmx.window.split import ByAsset, Division


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
    training = Training.of(ticks, division, history)
    kernels = [Age(), TrailingMean(5), Deviation(10), Slope(5), Drift(5, 5), Ewma(8)]
    features = FeatureSet(RegimeScore(), kernels).fit(training.ticks, history.contract)
    model = LightGBM(trees=20, learning_rate=0.2, min_child_samples=10)
    usable, target = training.usable("rul", SmallFleet.protocol)
    model.fit(features.table(training.ticks)[usable], target[usable], training.asset[usable])
    fitted = Fitted("lightgbm", features, model, SmallFleet.protocol.cap, np.empty(0))
    real = truth(ticks, history.events, history.contract, division.test)
    core = core_files(fitted, SmallFleet.policy, SmallFleet.protocol, "small pumps")
    return SmallFleet(history, readings, ticks, division, training, real, fitted, core)
