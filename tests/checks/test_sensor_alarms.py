"""From a planted fault to the log: a faulty sensor is a line of its own, with channel and state, and what it says is no evidence."""

from functools import cache

import numpy as np
import polars as pl
import pytest

from pmx.align import Ticks
from pmx.bundle import Bundle, core_digest
from pmx.checks.faults import inject, judge_faults
from pmx.contract import QUALITY
from pmx.edge.replay import replay_ticks
from pmx.feature.features import FeatureSet
from pmx.feature.quality import Quality
from pmx.feature.regime import RegimeScore
from pmx.model.lightgbm import LightGBM
from pmx.pack.core import core_files
from pmx.pack.fitted import Fitted
from pmx.pack.scope import Scoped
from tests.small_fleet import small_fleet

LASTING = 40


@cache
def judged() -> tuple[Bundle, Ticks]:
    """The small fleet's bundle with judged readings, and histories of test pumps that are long enough, with no reading lost."""
    fleet = small_fleet()
    contract, training = fleet.history.contract, fleet.training
    features = FeatureSet(RegimeScore(), fleet.fitted.features.kernels, Quality()).fit(training.ticks, contract)
    model = LightGBM(trees=20, learning_rate=0.2, min_child_samples=10)
    usable, target = training.usable("rul", fleet.protocol)
    model.fit(features.table(training.ticks)[usable], target[usable], training.asset[usable])
    core = core_files(Fitted("lightgbm", features, Scoped(model), fleet.protocol.cap), fleet.policy, fleet.protocol, "judged pumps")
    parts = [p for p in fleet.tested.partition_by("asset") if len(p) >= 30 + LASTING]
    filled = pl.all().interpolate().forward_fill().backward_fill()
    values = [p.select(contract.names).select(filled).to_numpy().astype(np.float32) for p in parts]
    return Bundle(core, core_digest(core)), Ticks([p["asset"][0] for p in parts], np.zeros(len(parts), np.int64), values)


def log_of(bundle: Bundle, ticks: Ticks, kind: str, channel: str) -> list[dict[str, str | None]]:
    contract = bundle.spec.contract
    values = [inject(v, contract, kind, channel, len(v) - LASTING, seed=1) for v in ticks.values]
    return replay_ticks(bundle, Ticks(ticks.assets, ticks.start, values)).alarm_log()


def test_healthy_sensors_have_no_line():
    assert not [line for line in replay_ticks(*judged()).alarm_log() if line["kind"] == "sensor"]


@pytest.mark.parametrize(("kind", "state"), [("stuck", "stuck"), ("dropout", "dropout"), ("dead", "stuck")])
def test_a_faulty_sensor_has_a_line_with_its_channel_and_state(kind, state):
    bundle, ticks = judged()
    sensors = [line for line in log_of(bundle, ticks, kind, "power") if line["kind"] == "sensor"]
    assert {(line["asset"], line["channel"], line["state"], line["cleared"]) for line in sensors} == {
        (asset, "power", state, None) for asset in ticks.assets
    }
    machine = [line for line in replay_ticks(bundle, ticks).alarm_log() if line["kind"] == "machine"]
    assert all(line["channel"] is None and line["state"] is None for line in machine)


def test_a_sensor_that_works_again_clears_its_alarm():
    bundle, ticks = judged()
    contract, values = bundle.spec.contract, ticks.values[0].copy()
    begin = len(values) - LASTING
    values[begin : begin + 12, contract.names.index("power")] = np.nan
    played = replay_ticks(bundle, Ticks(ticks.assets[:1], ticks.start[:1], [values]))
    (line,) = [line for line in played.alarm_log() if line["kind"] == "sensor"]
    assert line["state"] == "dropout" and line["cleared"] is not None and line["raised"] < line["cleared"]


def test_most_trials_are_named():
    """Chosen faults; how often each kind is named at all is measured by benchmarks/faults.py."""
    bundle, ticks = judged()
    trials = judge_faults(bundle, ticks, kinds=["stuck", "dropout", "intermittent", "unit change"], seeds=3, lasting=LASTING)
    assert sum(t.named or t.told == "breach" for t in trials) >= len(trials) - 1
    assert all(t.delay is not None for t in trials if t.named) and {t.told for t in trials} <= {*QUALITY, "breach"}
