"""What a run is made of, and what it found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pmx.alarm.policy import KofN
from pmx.edge.replay import Replayed
from pmx.evaluate.protocol import Protocol, Truth
from pmx.evaluate.report import Row
from pmx.feature.features import FeatureSet
from pmx.gate.result import Gate
from pmx.model import Model
from pmx.pack.fitted import Fitted
from pmx.select.candidates import Tables, Trial
from pmx.select.training import Training
from pmx.source import History, Source
from pmx.window.split import Split


@dataclass(frozen=True)
class Plan:
    """Everything a run is made of; `folder` takes what it writes, `limits` are the device's, `provenance` goes into the evidence."""

    name: str
    source: Source
    window: Split
    features: FeatureSet
    models: dict[str, Model]
    alarm: KofN
    protocol: Protocol
    limits: dict[str, Any]
    folder: Path
    on_error: str = "refuse"
    fit_scope: str = "fleet"
    seed: int = 0
    provenance: dict[str, Any] = field(default_factory=dict)
    accept_leakage: str = ""  # why findings of leakage are to stand
    tables: Tables = FeatureSet.table  # or what reads those that were computed before
    meet: Callable[[str, str], None] = lambda digest, row: None  # is told before a row meets the test part of data with this digest


@dataclass(frozen=True)
class Result:
    """What a run found. `refused` is the first gate that failed, None when the bundle may be registered."""

    history: History
    training: Training
    tested: pl.DataFrame  # ticks of the test assets, those before their test part among them
    counts: dict[str, int]
    trials: list[Trial]
    winner: Fitted
    bundle: Path
    core: str
    played: Replayed
    truth: Truth
    rows: list[Row]
    gates: list[Gate]
    metrics: dict[str, float]
    tables: list[str]
    offline: np.ndarray  # the winner's verdicts of the replayed ticks on the training path, float32 [row]

    @property
    def refused(self) -> Gate | None:
        return next((g for g in self.gates if not g.passed), None)
