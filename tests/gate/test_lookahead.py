"""The look-ahead gate against kernels that cheat in ways it does not know, and against honest ones."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from pmx.contract import Contract
from pmx.feature.features import FeatureSet
from pmx.feature.kernel import Age, Deviation, Drift, Ewma, Lags, LongDifference, Slope, TrailingMean
from pmx.feature.leaky import CentredMean
from pmx.feature.regime import RegimeScore
from pmx.gate.lookahead import look_ahead
from pmx.select.training import Training
from pmx.source.ticks import to_ticks
from pmx.window.label import Labels
from pmx.window.split import ByAsset, Division
from tests.small_fleet import small_fleet, small_watch


class BackFilledMean(TrailingMean):
    """Fills each missing value from the next one."""

    def polars(self, z):
        return super().polars([e.backward_fill() for e in z])


class BackFilledSlope(Slope):
    """Fills the start of a life, where a slope is not known yet, from the first slope."""

    def polars(self, z):
        return [e.backward_fill() for e in super().polars(z)]


class DriftFromLater(Drift):
    """Takes the first values of an asset before they are all there."""

    def polars(self, z):
        return [e.rolling_mean(self.window, min_samples=1) - e.head(self.first).mean() for e in z]


class WholeLife(TrailingMean):
    """Centres each channel on its mean over the asset's whole life."""

    def polars(self, z):
        return [e - e.mean() for e in z]


class Remaining(Age):
    """Counts from the end."""

    def polars(self, z):
        return [(pl.len() - pl.int_range(pl.len())).cast(pl.Float64)]


class NextReading(TrailingMean):
    def polars(self, z):
        return [e.shift(-1) for e in z]


HONEST = [Age(), TrailingMean(5), Deviation(10), Slope(5), LongDifference(5, 20), Drift(5, 5), Ewma(8), Lags(3)]
CHEATS = [
    CentredMean(3),
    CentredMean(9),
    BackFilledMean(6),
    BackFilledSlope(15),
    DriftFromLater(10, 6),
    WholeLife(7),
    Remaining(),
    NextReading(4),
]


def gate(kernels, labels: Labels | None = None, seed: int = 0, readings: pl.DataFrame | None = None):
    fleet = small_fleet()
    training = fleet.training
    own = fleet.readings.filter(pl.col("asset").is_in(training.truth.assets)) if readings is None else readings
    features = FeatureSet(RegimeScore(), kernels).fit(training.ticks, training.contract)
    return look_ahead(own, training.contract, features, replace(training, labels=labels or training.labels), seed)


@pytest.mark.parametrize("seed", range(5))
def test_honest_kernels_pass(seed):
    found = gate(HONEST, seed=seed)
    assert found.passed and found.figures["compared"] > 10_000 and not found.culprit, found


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("cheat", CHEATS, ids=lambda k: type(k).__name__ + k.label[-1])
def test_a_kernel_that_looks_ahead_is_named_among_honest_ones(cheat, seed):
    honest = [k for k in HONEST if k.label != cheat.label]
    found = gate([*honest[:3], cheat, *honest[3:]], seed=seed)
    assert not found.passed
    assert f"kernel {cheat.label} " in found.culprit and type(cheat).__name__ in found.culprit
    assert f"feature {cheat.label}" in found.detail and "later readings were" in found.detail
    assert found.rule in found.refusal() and found.culprit in found.refusal().splitlines()[0]


@pytest.mark.parametrize("shift", [-3, 1, 10])
def test_a_label_that_belongs_to_another_tick_is_named(shift):
    labels = small_fleet().training.labels
    tick = small_fleet().history.contract.tick
    found = gate(HONEST[:2], Labels(labels.rul + shift * tick, labels.at_least))
    assert not found.passed and "label of asset pump-" in found.culprit and f"{shift:+d} ticks" in found.detail


def test_one_asset_with_a_late_label_is_enough():
    training = small_fleet().training
    own = training.asset == next(iter(training.truth.failures))
    rul = np.where(own, training.labels.rul - 6.0, training.labels.rul)
    found = gate(HONEST[:2], Labels(rul, training.labels.at_least))
    assert not found.passed and found.culprit == f"label of asset {training.asset[own][0]}"


def test_alignment_is_watched_too():
    # several readings fall into one tick: the tick of the first changed one was still open, and what it holds may change
    fleet = small_fleet()
    coarse = Contract(fleet.history.contract.channels, "h", "calendar", tick=24.0)
    features = FeatureSet(RegimeScore(), [TrailingMean(3)])
    ticks = to_ticks(fleet.readings, coarse)
    every = np.ones(len(ticks), bool)
    training = Training.of(ticks, Division(every, ~every, "asset"), fleet.history, ByAsset())
    unlabelled = Labels(np.full(len(ticks), np.nan), np.full(len(ticks), 1.0))
    for seed in range(3):
        found = look_ahead(fleet.readings, coarse, features.fit(ticks, coarse), replace(training, labels=unlabelled), seed)
        assert found.passed


def test_a_gate_that_compared_nothing_does_not_pass():
    found = gate(HONEST, readings=small_fleet().readings.group_by("asset", maintain_order=True).head(5))
    assert not found.passed and "no training asset has 12 readings" in found.culprit


def long_lives() -> pl.DataFrame:
    """Training readings of assets with at least 60 of them and no missing value: a cut anywhere in the middle comes late."""
    own = small_fleet().readings.filter(pl.col("asset").is_in(small_fleet().training.truth.assets) & (pl.len().over("asset") >= 60))
    names = small_fleet().history.contract.names
    return own.with_columns(pl.col(c).forward_fill().backward_fill().over("asset") for c in names)


def test_a_warm_up_filled_from_later_is_found_in_long_lives_too():
    assert not gate([Age(), BackFilledSlope(11)], readings=long_lives()).passed


def test_a_single_missing_value_is_enough_to_find_a_back_fill():
    at = pl.int_range(pl.len()).over("asset") == 25
    readings = long_lives().with_columns(flow=pl.when(~at).then(pl.col("flow")))
    assert gate(HONEST, readings=readings).passed
    found = gate([Age(), BackFilledMean(2)], readings=readings)
    assert not found.passed and "mean2:flow" in found.detail


@pytest.mark.parametrize("each", [True, False])
def test_constants_per_asset_hide_no_kernel_that_looks_ahead(each):
    watch = small_watch(each)
    training = watch.training

    def found(*kernels):
        features = FeatureSet(RegimeScore(), list(kernels)).fit(training.ticks, training.contract, each)
        return look_ahead(watch.readings, training.contract, features, training)

    honest, leaky = found(Lags(3), TrailingMean(4)), found(Lags(3), CentredMean(5))
    assert honest.passed and honest.figures["compared"] > 1000
    assert not leaky.passed and "kernel centred_mean5 " in leaky.culprit and leaky.rule in leaky.refusal()
