"""Whole runs on data with labelled episodes: labels judge a result and never make it; what the shipped experiments find on real data."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pmx import config, pipeline
from pmx.alarm.policy import KofN
from pmx.evaluate.protocol import Protocol
from pmx.feature.features import FeatureSet
from pmx.feature.kernel import Lags
from pmx.feature.regime import RegimeScore
from pmx.model.pca import Pca
from pmx.pipeline import Plan, Result, run
from pmx.source import History
from pmx.source.skab import Skab
from pmx.source.tep import Tep
from pmx.window.split import Given, Head
from tests.whole import LIMITS, Known, silent

RUNS = ["valve1/0", "valve1/1", "valve2/0", "other/2"]  # of the miniature, none of the published archive alone
SECONDS, HEAD = 400, 200


@pytest.fixture(autouse=True, scope="module")
def no_stopwatch():
    """Measuring a bundle takes a child process and seconds, and is not the question here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "measure_budget", lambda *_: {"bytes": 1.0, "resident_mb": 1.0, "p50_ms": 1.0, "p99_ms": 1.0})
        yield


def pump_plan(folder: Path, history: History, fit_scope: str = "asset") -> Plan:
    features, protocol = FeatureSet(RegimeScore(), [Lags(3)]), Protocol(cap=60, horizon=60, lead=0, draws=20)
    models = {"narrow": Pca(variance=0.8), "wide": Pca(variance=0.95, smooth=2)}
    return Plan("pumps", Known(history), Head(HEAD, folds=2), features, models, KofN(), protocol, LIMITS, folder, fit_scope=fit_scope)


def plant_plan(folder: Path, history: History) -> Plan:
    features, protocol = FeatureSet(RegimeScore(), [Lags(2)]), Protocol(cap=1, horizon=1, lead=0, draws=20)
    return Plan("plant", Known(history), Given(folds=2), features, {"pca": Pca(variance=0.98, smooth=3)}, KofN(), protocol, LIMITS, folder)


@pytest.fixture(scope="module")
def pumps(tmp_path_factory: pytest.TempPathFactory) -> History:
    folder = tmp_path_factory.mktemp("skab")
    Skab("", RUNS).write_miniature(folder, SECONDS)
    return Skab(str(folder)).load()


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> History:
    folder = tmp_path_factory.mktemp("tep")
    Tep("", [3, 11, 20]).write_miniature(folder)
    return Tep(str(folder), [3, 11, 20]).load()


@pytest.fixture(scope="module")
def pump_run(tmp_path_factory: pytest.TempPathFactory, pumps: History) -> Result:
    return run(pump_plan(tmp_path_factory.mktemp("run"), pumps), silent)


@pytest.fixture(scope="module")
def plant_run(tmp_path_factory: pytest.TempPathFactory, plant: History) -> Result:
    return run(plant_plan(tmp_path_factory.mktemp("run"), plant), silent)


def trained(m: dict[str, float]) -> dict[str, float]:
    return {k: v for k, v in m.items() if k.startswith("validation/") and not np.isnan(v)}


def test_other_pumps_than_the_published_ones_are_judged_by_their_episodes(pump_run: Result):
    assert pump_run.refused is None and pump_run.truth.assets == sorted(RUNS)
    assert [r.name for r in pump_run.rows] == ["winner", "cross-fitted", "always alarm", "clock", "random score"]
    m = pump_run.metrics
    assert m["test/n_failures"] == 4 == m["test/event_recall"] * 4 and m["test/f1"] > m["baseline_always_alarm/f1"] + 0.2
    assert m["test/ap"] > 0.9 and m["test/far"] < 0.35 and {f"test/{g}/detection_rate" for g in ("valve1", "valve2", "other")} <= set(m)
    prevalence = m["baseline_always_alarm/ap"]
    assert m["baseline_random_score/ap"] == pytest.approx(prevalence, abs=0.08) and m["baseline_random_score/ap_hi"] is not None
    assert m["baseline_always_alarm/false_alarms_per_asset_month"] > m["test/false_alarms_per_asset_month"]
    assert pump_run.winner.name == "narrow" and pump_run.trials[0].value == pump_run.trials[1].value, "the first listed"


def test_other_faults_than_the_usual_ones_are_detected_and_calibration_is_not_fitted_on(plant_run: Result):
    assert plant_run.refused is None and plant_run.truth.assets == ["d03_te", "d11_te", "d20_te"]
    assert (
        all(plant_run.metrics[f"test/fault_{f}/detection_rate"] > 0.9 for f in ("03", "11", "20")) and plant_run.metrics["test/far"] < 0.1
    )
    assert set(plant_run.winner.used["asset"]) == {"d00"}
    assert plant_run.metrics["validation/n_failures"] == 0


def spoilt(history: History) -> list[History]:
    """The same history with other labels: none, one of them alone, and everything anomalous."""
    assert history.episodes is not None
    whole = history.rows.group_by("asset").agg(pl.col("time").first().alias("begin"), pl.col("time").last().alias("end")).collect()
    types = history.episodes.schema
    if whole.schema["begin"] != types["begin"]:
        whole = whole.with_columns(pl.col("begin", "end").str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us", time_zone="UTC"))
    every = whole.with_columns(fault=pl.lit("all")).cast(dict(types)).select(list(types))
    return [replace(history, episodes=None), replace(history, episodes=history.episodes.head(1)), replace(history, episodes=every)]


@pytest.mark.parametrize("which", ["pumps", "plant"])
def test_labels_never_reach_the_bundle(which: str, request: pytest.FixtureRequest, tmp_path: Path):
    history, done = request.getfixturevalue(which), request.getfixturevalue(f"{which.removesuffix('s')}_run")
    make: Callable[[Path, History], Plan] = {"pumps": pump_plan, "plant": plant_plan}[which]
    for i, changed in enumerate(spoilt(history)):
        again = run(make(tmp_path / str(i), changed), silent)
        assert again.core == done.core and trained(again.metrics) == trained(done.metrics)
        assert again.metrics.get("test/f1") != done.metrics["test/f1"], "the labels judge all the same"


def test_a_reading_of_the_head_does_reach_it_and_what_is_learnt_of_the_others_stays(pumps: History, pump_run: Result, tmp_path: Path):
    """The counterpart: were the digest blind, the test above would show nothing."""
    moved = pl.when((pl.col("asset") == "other/2") & (pl.col("row") == 20)).then(pl.lit("0.5")).otherwise("Current").alias("Current")
    again = run(pump_plan(tmp_path, replace(pumps, rows=pumps.rows.with_columns(moved))), silent)
    assert again.core != pump_run.core
    for asset, model in again.winner.model.own.items():
        same = np.array_equal(model.axes_, pump_run.winner.model.own[asset].axes_)
        assert same == (asset != "other/2") == (again.winner.healthy.level[asset] == pump_run.winner.healthy.level[asset])


def test_the_order_of_rows_changes_neither_the_bundle_nor_a_row_of_the_table(pumps: History, pump_run: Result, tmp_path: Path):
    rows = pumps.rows.collect()
    mixed = pl.concat(rows.filter(pl.col("asset") == a) for a in reversed(RUNS)).lazy()
    again = run(pump_plan(tmp_path, replace(pumps, rows=mixed, episodes=pumps.episodes.reverse())), silent)
    assert again.core == pump_run.core and again.tables == pump_run.tables


def test_a_gap_neither_trains_nor_raises_an_alarm(pump_run: Result):
    """Each run is silent for four minutes within its head: no score there, no alarm begins there, and the head is no shorter for it."""
    for asset, tick, score, standing in zip(
        pump_run.played.assets, pump_run.played.tick, pump_run.played.outputs["anomaly_score"], pump_run.played.standing, strict=True
    ):
        gap = np.isnan(score)
        assert gap.sum() == 246 and len(tick) == SECONDS + 246, "one tick a second, those of the gap without a score"
        assert not (np.diff(standing.astype(int), prepend=0)[gap] > 0).any()
        assert (tick < pump_run.truth.begins[pump_run.truth.assets.index(asset)]).sum() == HEAD + 246, (
            "the head has as many readings as without it"
        )


def shipped(name: str, folder: Path, *words: str) -> Result:
    """A shipped experiment as it stands, but for these words."""
    cfg = config.compose(name, ["evaluate.draws=20", *words])
    p = config.build(cfg)
    plan = Plan(
        cfg.name,
        p.source,
        p.window,
        p.feature,
        p.model,
        p.alarm,
        p.evaluate,
        LIMITS,
        folder,
        str(cfg.on_error),
        str(cfg.fit_scope),
        cfg.seed,
    )
    return run(plan, silent)


@pytest.mark.real_data("tep")
def test_the_faults_of_the_chemical_plant_are_detected(tmp_path: Path):
    r = shipped("tep", tmp_path)
    rates = {f: r.metrics[f"test/fault_{f:02}/detection_rate"] for f in (1, 2, 4, 5, 6, 7, 8)}
    assert r.refused is None and min(rates.values()) >= 0.90 and r.metrics["test/far"] <= 0.015, rates
    assert r.metrics["crossfit/f1"] > 0.97 > r.metrics["baseline_clock/f1"]
    assert set(r.winner.used["asset"]) == {"d00"}


@pytest.mark.real_data("skab")
def test_some_runs_of_the_pump_tell_when_their_normal_behaviour_ended(tmp_path: Path):
    """Two groups, and the run of which most of the first 400 rows are anomalous: fitting on it must not break the others."""
    r = shipped("skab", tmp_path, "source.subset=[valve1/0,valve1/6,other/2,other/9]", "model=[pca]")
    m = r.metrics
    assert r.refused is None and m["test/f1"] > m["baseline_always_alarm/f1"] and m["test/far"] <= 0.3 and m["test/ap"] >= 0.8
    assert m["baseline_random_score/ap"] == pytest.approx(m["baseline_always_alarm/ap"], abs=0.06)


@pytest.mark.nightly  # four of its runs are above
@pytest.mark.real_data("skab")
def test_the_pump_s_own_first_minutes_tell_when_its_normal_behaviour_ended(tmp_path: Path):
    r = shipped("skab", tmp_path)
    m = r.metrics
    assert r.refused is None and m["test/f1"] >= 0.78 and m["test/far"] <= 0.25 and m["test/ap"] >= 0.86
    assert m["crossfit/f1"] >= 0.75 and m["baseline_random_score/ap"] == pytest.approx(m["baseline_always_alarm/ap"], abs=0.02)
