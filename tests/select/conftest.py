"""A small fleet with its ticks, and models that remember what they saw."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from pmx.contract import Channel, Contract
from pmx.evaluate.protocol import Protocol
from pmx.feature.features import FeatureSet
from pmx.feature.kernel import Age, Ewma, TrailingMean
from pmx.feature.regime import RegimeScore
from pmx.model import Model
from pmx.select.training import Training
from pmx.source import History
from pmx.window.split import ByAsset, Division

PROTOCOL = Protocol(cap=60.0, horizon=20.0, lead=3.0, draws=20)
CONTRACT = Contract((Channel("load", "kW"), Channel("heat", "K")), "cycle", "life")


class Spy(Model):
    """Predicts a constant; every copy reports to the same list what it was fitted on and what it scored."""

    def __init__(self, task: str = "rul", seen: list | None = None) -> None:
        self.task, self.seen = task, [] if seen is None else seen

    def __deepcopy__(self, memo: dict) -> "Spy":
        return Spy(self.task, self.seen)

    def fit(self, x: np.ndarray, y: np.ndarray, asset: np.ndarray) -> None:
        self.seen.append((frozenset(asset.tolist()), x, y, asset))
        self.mean_ = float(np.nanmean(y)) if len(y) else 0.0

    def score(self, x: np.ndarray) -> np.ndarray:
        return np.full(len(x), float(len(self.seen)))  # tells which fit it came from

    def to_onnx(self, features):
        raise NotImplementedError("a spy is never packed")


@pytest.fixture
def spy() -> Spy:
    return Spy()


@pytest.fixture
def anomaly_spy() -> Spy:
    return Spy("anomaly")


@pytest.fixture(scope="session")
def protocol() -> Protocol:
    return PROTOCOL


@pytest.fixture(scope="session")
def features() -> FeatureSet:
    return FeatureSet(RegimeScore(), [Age(), TrailingMean(5), Ewma(8)])


def _history(lives: list[int], fates: list[str], spread: float = 1.0) -> tuple[pl.DataFrame, History]:
    """Assets that live so many cycles from cycle 1 on; a fate of "" is censoring."""
    rng = np.random.default_rng(0)
    names = [f"A{i:02}" for i in range(len(lives))]
    parts = []
    for name, life in zip(names, lives, strict=True):
        share = np.arange(1, life + 1) / life
        parts.append(
            pl.DataFrame(
                {
                    "asset": [name] * life,
                    "tick": np.arange(1, life + 1),
                    "load": (10 + rng.normal(size=life)).astype(np.float32),
                    "heat": (300 + 5 * share**3 + spread * rng.normal(size=life)).astype(np.float32),
                }
            )
        )
    over = [(a, float(life), f, float(life)) for a, life, f in zip(names, lives, fates, strict=True) if f]
    schema = {"asset": pl.String, "time": pl.Float64, "event": pl.String, "known_at": pl.Float64}
    events = pl.DataFrame(over, schema=schema, orient="row")
    ticks = pl.concat(parts)
    return ticks, History("made", CONTRACT, ticks.lazy().select("asset"), events, None, "")


@pytest.fixture(scope="session")
def fleet() -> tuple[pl.DataFrame, History]:
    lives = [90, 100, 110, 120, 95, 105, 115, 85, 70, 130]
    return _history(lives, ["failure"] * 8 + ["replacement", ""])


@pytest.fixture(scope="session")
def whole(fleet):
    """All assets train."""
    ticks, history = fleet
    every = np.ones(len(ticks), bool)
    return Training.of(ticks, Division(every, ~every, "asset"), history, ByAsset(folds=3))


@pytest.fixture(scope="session", name="make_history")
def _make_history() -> Callable[..., tuple[pl.DataFrame, History]]:
    return _history
