"""The spine whole, on plain objects: what it promises holds whatever the data look like."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pmx import pipeline
from pmx.alarm.policy import KofN
from pmx.bundle import Bundle
from pmx.contract import DataError, UsageError
from pmx.evaluate.protocol import Protocol
from pmx.feature.features import FeatureSet
from pmx.feature.kernel import Age, Deviation, Drift, Ewma, Slope, TrailingMean
from pmx.feature.regime import RegimeScore
from pmx.model.autoencoder import Autoencoder
from pmx.model.lightgbm import LightGBM
from pmx.pipeline import Plan, Result, run
from pmx.source import History, Source
from pmx.source.admit import admit
from pmx.source.cmapss import Cmapss
from pmx.source.synthetic import Synthetic
from pmx.source.ticks import to_ticks
from pmx.window.split import ByAsset, ByTime, Given, Head
from tests.whole import LIMITS, Known, silent

HOURS, CYCLES = Protocol(cap=150, horizon=60, lead=6, draws=50), Protocol(cap=80, horizon=20, lead=5, draws=50)


def plan(folder: Path, source: Source, window=None, models=None, protocol: Protocol = HOURS, **more) -> Plan:
    features = FeatureSet(RegimeScore(), [Age(), TrailingMean(5), Deviation(10), Slope(5), Drift(5, 5), Ewma(8)])
    models = models or {"lightgbm": LightGBM(trees=15, learning_rate=0.2, min_child_samples=10)}
    return Plan("test", source, window or ByAsset(folds=2), features, models, KofN(), protocol, LIMITS, folder, **more)


def autoencoder() -> dict:
    return {"autoencoder": Autoencoder(hidden=[8, 3, 8], epochs=3, patience=2)}


@pytest.fixture
def no_stopwatch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring a bundle takes a child process and seconds: for the runs whose budget is not the question."""
    figures = {"bytes": 1.0, "resident_mb": 1.0, "p50_ms": 1.0, "p99_ms": 1.0}
    monkeypatch.setattr(pipeline, "measure_budget", lambda *_: figures)


@pytest.fixture(scope="module")
def fleet() -> History:
    return Synthetic(assets=24, life=300.0, replace_at=320.0).load()  # fewer teach intervals that the coverage gate refuses


@dataclass(frozen=True)
class Done:
    plan: Plan
    result: Result
    told: list[tuple[str, int, int]]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, fleet: History) -> Done:
    told: list[tuple[str, int, int]] = []
    made = plan(tmp_path_factory.mktemp("run"), Known(fleet), provenance={"run_id": "r1"})
    return Done(made, run(made, lambda *at: told.append(at)), told)


def comparable(found: dict[str, float]) -> dict[str, float]:
    return {k: v for k, v in found.items() if not np.isnan(v)}


def test_it_ends_with_a_sealed_bundle_and_its_evidence(done: Done):
    r = done.result
    assert r.refused is None and [g.name for g in r.gates] == ["look-ahead", "leakage", "parity", "coverage", "budget"]
    bundle = Bundle.open(r.bundle)
    assert bundle.core == r.core == r.played.core == bundle.evidence["replayed_core_digest"]
    evidence = bundle.evidence
    assert evidence["run_id"] == "r1" and evidence["test_reads"] == len(r.rows) == 6
    assert evidence["data"]["digest"] == r.history.digest and evidence["data"]["rows"] == r.counts
    assert comparable(r.metrics) == pytest.approx({k: v for k, v in evidence["metrics"].items() if v is not None})
    assert evidence["budget"]["bytes"] > 1000 and json.loads(bundle.files["policy.json"])["output"] == "rul"


def test_the_metrics_have_the_promised_names(done: Done):
    m = done.result.metrics
    for name in (
        "test/rmse_last_capped",
        "test/rmse_last_raw",
        "test/rmse_all_capped",
        "test_no_age/rmse_last_capped",
        "test/event_recall",
    ):
        assert m[f"{name}_lo"] <= m[name] <= m[f"{name}_hi"]
    assert m["test/n_assets"] == 8 and 0 < m["test/n_failures"] <= 8 and 0 <= m["test/event_recall"] <= 1
    assert m["test/false_alarms_per_asset_month"] >= 0 and "test/nasa_last_capped" not in m, "NASA's score is in cycles"


def test_no_test_asset_is_a_training_asset(done: Done):
    training = {a for a in done.result.history.rows.collect()["asset"].unique()} - set(done.result.truth.assets)
    assert len(done.result.truth.assets) == 8 and len(training) == 16
    assert [r.name for r in done.result.rows] == ["winner", "without age", "window 30", "age only", "constant", "always alarm"]


def test_the_table_is_about_what_the_bundle_said(done: Done):
    """The RMSE over all readings, computed again from the replay and the simulation's own events."""
    r = done.result
    failed = dict(r.history.events.filter(pl.col("event") == "failure").select("asset", pl.col("time").to_physical()).iter_rows())
    square = []
    for asset, tick, rul in zip(r.played.assets, r.played.tick, r.played.outputs["rul"], strict=True):
        if asset in failed:
            left = failed[asset] / 3.6e9 - tick * 6.0
            square += list((np.minimum(rul, 150)[left >= 0] - np.minimum(left, 150)[left >= 0]) ** 2)
        else:
            end = r.truth.seen[r.truth.assets.index(asset)] * 6.0 - tick * 6.0
            square += list((np.minimum(rul, 150)[end >= 150] - 150) ** 2)
    assert r.metrics["test/rmse_all_capped"] == pytest.approx(np.sqrt(np.mean(square)), rel=1e-4)


def test_progress_is_told_and_ends(done: Done):
    names = [what for what, _, _ in done.told]
    assert names[0] == "loading" and "replay" in names and names[-1] == "gates" and done.told[-1][1] == done.told[-1][2]
    assert any("fold 1 of 2: lightgbm" in n for n in names) and all(0 <= d <= t for _, d, t in done.told)


def test_the_same_plan_gives_the_same_bundle_and_numbers(done: Done, no_stopwatch, tmp_path: Path):
    again = run(replace(done.plan, folder=tmp_path), silent)
    assert again.core == done.result.core and comparable(again.metrics) == comparable(done.result.metrics)
    assert all((tmp_path / "bundle" / n).read_bytes() == (done.result.bundle / n).read_bytes() for n in ("model.onnx", "golden.npz"))


def test_the_order_of_rows_and_assets_changes_nothing(done: Done, fleet: History, no_stopwatch, tmp_path: Path):
    rows = fleet.rows.collect()
    rng = np.random.default_rng(0)
    asset = pl.Series("order", rng.permutation(len(rows)))
    # each asset's rows stay in order, but their places among the others are drawn anew
    place = rows.with_columns(asset).with_columns(pl.col("order").sort().over("asset"))
    mixed = History(**{**vars(fleet), "rows": place.sort("order").drop("order").lazy(), "events": fleet.events.reverse()})
    assert not mixed.rows.collect()["asset"].equals(rows["asset"])
    again = run(plan(tmp_path, Known(mixed)), silent)
    assert again.core == done.result.core and comparable(again.metrics) == comparable(done.result.metrics)


def test_test_assets_never_influence_the_bundle(done: Done, fleet: History, no_stopwatch, tmp_path: Path):
    rng = np.random.default_rng(1)
    rows, tested = fleet.rows.collect(), pl.col("asset").is_in(done.result.truth.assets)
    noise = [pl.when(tested).then(pl.Series(rng.uniform(0, 30, len(rows)))).otherwise(pl.col(c)).alias(c) for c in fleet.contract.names]
    events = fleet.events.filter(~tested | (pl.col("event") != "failure"))
    spoilt = History(**{**vars(fleet), "rows": rows.with_columns(noise).lazy(), "events": events})
    again = run(plan(tmp_path, Known(spoilt)), silent)
    assert again.core == done.result.core
    assert {k: v for k, v in again.metrics.items() if "validation" in k} == {
        k: v for k, v in done.result.metrics.items() if "validation" in k
    }
    assert again.metrics["test/n_failures"] == 0 < done.result.metrics["test/n_failures"]


def test_a_training_reading_does_influence_it(done: Done, fleet: History, no_stopwatch, tmp_path: Path):
    """The counterpart: were the digest blind, the tests above would show nothing."""
    own = sorted(set(fleet.rows.collect()["asset"]) - set(done.result.truth.assets))[0]
    moved = pl.when(pl.col("asset") == own).then(pl.col("vibration") * 1.5).otherwise("vibration").alias("vibration")
    again = run(plan(tmp_path, Known(History(**{**vars(fleet), "rows": fleet.rows.with_columns(moved)}))), silent)
    assert again.core != done.result.core


def test_anomaly_scores_are_ranks_and_carry_no_life(fleet: History, no_stopwatch, tmp_path: Path):
    r = run(plan(tmp_path, Known(fleet), models=autoencoder()), silent)
    scores = np.concatenate(r.played.outputs["anomaly_score"])
    assert r.refused is None and (scores[~np.isnan(scores)] >= 0).all() and (scores[~np.isnan(scores)] <= 1).all()
    assert [row.name for row in r.rows] == ["winner", "age only", "always alarm", "clock", "random score"]
    assert "test/event_recall" in r.metrics and not any("rmse" in k for k in r.metrics), "no life, no error of it"
    heads = [t.splitlines()[0].split()[0] for t in r.tables]
    assert heads == ["Readings", "Time", "failures"] and Bundle.open(r.bundle).spec.task == "anomaly"


@pytest.mark.parametrize("window, models", [(ByTime(share=0.6, folds=2), None), (Head(rows=45, folds=2), autoencoder())])
def test_splits_in_time_test_the_later_part_alone(no_stopwatch, tmp_path: Path, window, models):
    """Under a split by time all assets run through the moment of the split; under a head each has one of its own."""
    history = Synthetic(assets=12, life=900.0, replace_at=950.0).load()
    together = history
    if models is None:  # commissioned within days of each other, so that one moment cuts through many lives
        first = history.rows.group_by("asset").agg(pl.col("time").min().alias("born")).collect()
        by = (pl.col("born") - first["born"].min()).dt.total_hours() // 6 * pl.duration(hours=6)
        shift = first.select("asset", by=by)
        rows = history.rows.join(shift.lazy(), on="asset", maintain_order="left").with_columns(pl.col("time") - pl.col("by")).drop("by")
        events = history.events.join(shift, on="asset").with_columns(pl.col("time", "known_at") - pl.col("by")).drop("by")
        together = History(**{**vars(history), "rows": rows, "events": events})
    r = run(plan(tmp_path, Known(together), window, models), silent)
    # Intervals learnt from the lives of twelve pumps that ended before a moment are too narrow for those that outlive it.
    assert {g.name for g in r.gates if not g.passed} <= {"coverage"}
    assert next(g for g in r.gates if g.name == "leakage").detail.startswith("split by time")
    assert (r.truth.begins > r.truth.born).any() and not np.isnan(r.metrics["test/false_alarms_per_asset_month"])
    if models is None:
        assert not np.isnan(r.metrics["test/rmse_all_capped"]) and set(r.truth.begins - r.truth.begins.min()) <= set(range(3))


def test_an_asset_with_a_single_tick_is_kept(fleet: History, no_stopwatch, tmp_path: Path):
    """A short history is padded, never dropped: on the training side as on the test side."""
    one = fleet.rows.collect().group_by("asset", maintain_order=True).first().head(6)
    short = one.with_columns(pl.concat_str(pl.lit("short-"), "asset").alias("asset")).select(fleet.rows.collect_schema().names())
    history = History(**{**vars(fleet), "rows": pl.concat([fleet.rows.collect(), short]).lazy()})
    r = run(plan(tmp_path, Known(history)), silent)
    lengths = dict(zip(r.played.assets, map(len, r.played.tick), strict=True))
    tested = [a for a in lengths if a.startswith("short-")]
    assert r.refused is None and 0 < len(tested) < 6 and all(lengths[a] == 1 for a in tested)
    assert not np.isnan(r.played.outputs["rul"][r.played.assets.index(tested[0])]).any()


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("engines")
    Cmapss("", ["FD003", "FD004"]).write_miniature(folder / "raw", engines=6)
    source = Cmapss(str(folder / "raw"), ["FD003", "FD004"])
    return run(plan(folder, source, Given(folds=2), protocol=CYCLES), silent)


def test_the_miniature_engines_run_on_the_source_s_own_test_part(engines: Result):
    assert engines.refused is None and engines.history.name == "cmapss FD003+FD004"
    assert set(engines.truth.assets) == engines.history.test_assets and engines.metrics["test/n_assets"] == 12
    assert {"test/nasa_last_capped", "test/nasa_last_capped_lo", "test/rmse_last_raw"} <= set(engines.metrics)
    assert not any("month" in k for k in engines.metrics), "cycles have no calendar"
    assert engines.metrics["test/rmse_last_capped"] < engines.metrics["baseline_constant/rmse_last_capped"]
    assert "cycles" in engines.tables[0] and "without age" in engines.tables[0] and "without age" not in engines.tables[-1]


def test_broken_values_are_set_apart_on_both_sides(fleet: History, no_stopwatch, tmp_path: Path):
    broken = fleet.rows.collect().with_columns(pl.when(pl.int_range(pl.len()) % 50 == 7).then(pl.lit(1e9)).otherwise("flow").alias("flow"))
    history = History(**{**vars(fleet), "rows": broken.lazy()})
    with pytest.raises(DataError, match="out_of_range"):
        run(plan(tmp_path / "refuse", Known(history)), silent)
    r = run(plan(tmp_path, Known(history), on_error="quarantine"), silent)
    stored = pl.read_parquet(tmp_path / "quarantine.parquet")
    assert r.counts["cells"] == stored.height > 0 and r.counts["in"] == r.counts["accepted"], "the other channels go on"
    assert len(r.played.breaches) == stored.filter(pl.col("asset").is_in(r.truth.assets)).height > 0


def test_what_cannot_run_is_refused_before_data_are_read(tmp_path: Path):
    class Untouchable(Source):
        def load(self) -> History:
            raise AssertionError("the data were read")

    mixed = {"lightgbm": LightGBM(trees=2), **autoencoder()}
    with pytest.raises(UsageError, match="must share a task"):
        run(plan(tmp_path, Untouchable(), models=mixed), silent)
    for window, models, scope, words in (
        (ByAsset(folds=2), autoencoder(), "asset", "tests assets that it never fitted on -> fit_scope: fleet"),
        (Given(folds=2), autoencoder(), "asset", "tests assets that it never fitted on"),
        (Head(folds=2), None, "asset", "the task rul learns from whole lives"),
        (ByAsset(folds=2), None, "run", "'run' is neither fleet nor asset"),
    ):
        with pytest.raises(UsageError, match=words):
            run(plan(tmp_path, Untouchable(), window, models, fit_scope=scope), silent)


def test_a_history_without_rows_is_bad_data(fleet: History, tmp_path: Path):
    empty = History(**{**vars(fleet), "rows": fleet.rows.head(0)})
    for window in (ByAsset(folds=2), ByTime(folds=2), Head(folds=2)):
        with pytest.raises(DataError, match="of 0 rows none is left"):
            run(plan(tmp_path, Known(empty), window), silent)


class Greedy(FeatureSet):
    """Fits its normalisation on whatever it can get, the test part included."""

    everything: pl.DataFrame

    def fit(self, ticks: pl.DataFrame, contract, each: bool = False) -> FeatureSet:
        return super().fit(type(self).everything, contract, each)


def test_a_scaler_fitted_over_the_test_part_is_refused(tmp_path: Path, no_stopwatch: None) -> None:
    source = Synthetic(assets=12, life=300.0)
    history = source.load()
    Greedy.everything = to_ticks(admit(history.rows, history.contract).readings, history.contract)
    honest = plan(tmp_path, source)
    found = run(replace(honest, features=Greedy(honest.features.normalise, honest.features.kernels)), silent)
    assert found.refused and found.refused.name == "leakage" and found.refused.culprit in Greedy.everything["asset"].unique().to_list()
