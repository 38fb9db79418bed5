"""The look-ahead gate against kernels that cheat in ways it does not know, and against honest ones."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from pmx.contract import Contract, Running
from pmx.feature.features import FeatureSet
from pmx.feature.kernel import Age, Deviation, Drift, Ewma, Lags, LongDifference, Slope, TrailingMean
from pmx.feature.leaky import CentredMean
from pmx.feature.regime import RegimeScore
from pmx.gate.lookahead import look_ahead
from pmx.select.training import Training, truth
from pmx.source.ticks import to_ticks
from pmx.window.label import Labels
from pmx.window.split import ByAsset, ByTime, Division, Head
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


def gate(kernels, labels: Labels | None = None, seed: int = 0, readings: pl.DataFrame | None = None, contract=None, used=None):
    """The gate on a small fleet, or on these training readings under this contract; `used` changes the ticks that training had."""
    fleet, training = small_fleet(), small_fleet().training
    contract = contract or training.contract
    own = fleet.readings.filter(pl.col("asset").is_in(training.truth.assets)) if readings is None else readings
    if readings is not None or contract != training.contract:
        training = trained(own, contract)
    features = FeatureSet(RegimeScore(), kernels).fit(training.ticks, contract)
    training = replace(training, labels=labels or training.labels, ticks=training.ticks if used is None else used(training.ticks))
    return look_ahead(own, contract, features, training, seed)


def trained(readings: pl.DataFrame, contract: Contract) -> Training:
    """A training part that holds all these readings."""
    ticks = to_ticks(readings, contract)
    every = np.ones(len(ticks), bool)
    history = small_fleet().history
    return Training.of(ticks, Division(every, ~every, "asset"), replace(history, contract=contract), ByAsset())


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
    found = gate(HONEST[:2], Labels(labels.rul + shift * tick, labels.at_least, labels.since))
    assert not found.passed and "label of asset pump-" in found.culprit and f"{shift:+d} ticks" in found.detail


def test_one_asset_with_a_late_label_is_enough():
    training = small_fleet().training
    own = training.asset == next(iter(training.truth.failures))
    rul = np.where(own, training.labels.rul - 6.0, training.labels.rul)
    found = gate(HONEST[:2], Labels(rul, training.labels.at_least))
    assert not found.passed and found.culprit == f"label of asset {training.asset[own][0]}"


CHANNELS = small_fleet().history.contract.channels
MEASURED = [c.name for c in CHANNELS if c.role == "measurement"]
CONTRACTS = {
    "several readings in a tick": Contract(CHANNELS, "h", "calendar", tick=24.0),
    "means of several readings": Contract(tuple(replace(c, align="mean") for c in CHANNELS), "h", "calendar", tick=15.0),
    "values that are held": Contract(tuple(replace(c, hold=18.0) for c in CHANNELS), "h", "calendar", tick=6.0),
    "readings that come late": Contract(CHANNELS, "h", "calendar", tick=6.0, lateness=12.0),
    "off-time": Contract(CHANNELS, "h", "calendar", tick=6.0, running=Running("speed", below=2000.0)),
    "a counter": Contract((*CHANNELS[:-1], replace(CHANNELS[-1], role="counter", high=None)), "h", "calendar", tick=6.0),
}


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS.keys())
def test_alignment_is_watched_too(contract):
    # the tick of the first changed reading was still open, and what it holds may change
    readings = small_fleet().readings
    for seed in range(2):
        found = gate([TrailingMean(3), Ewma(4)], seed=seed, readings=readings, contract=contract)
        assert found.passed, found.refusal()
    filled = gate([TrailingMean(3)], readings=readings, contract=contract, used=back_filled)
    assert not filled.passed and filled.culprit.startswith("alignment: channel "), filled


def back_filled(ticks: pl.DataFrame) -> pl.DataFrame:
    return ticks.with_columns(pl.exclude("asset", "tick").backward_fill().over("asset"))


def test_ticks_that_training_filled_from_later_ones_are_named_with_their_channel():
    names = set(MEASURED)
    for seed in range(3):
        found = gate(HONEST, seed=seed, used=back_filled)
        channel = found.culprit.removeprefix("alignment: channel ").partition(" ")[0]
        assert not found.passed and channel in names and "of asset pump-" in found.culprit
        assert "readings up to then give none" in found.detail and found.rule in found.refusal()


def test_one_filled_value_of_the_asset_with_most_holes_is_enough():
    at = pl.int_range(pl.len()).over("asset") == 30
    one = long_lives()
    holed = one["asset"][0]
    readings = one.with_columns(flow=pl.when(~(at & (pl.col("asset") == holed))).then(pl.col("flow")))
    for seed in range(4):
        assert gate(HONEST[:3], seed=seed, readings=readings).passed
        found = gate(HONEST[:3], seed=seed, readings=readings, used=back_filled)
        assert found.culprit == f"alignment: channel flow of asset {holed}"


def test_ticks_that_the_readings_do_not_give_are_named():
    found = gate(HONEST[:2], used=lambda ticks: ticks.filter(pl.int_range(pl.len()).over("asset") != 7))
    assert not found.passed and found.culprit.startswith("alignment: ticks of asset pump-")


@pytest.mark.parametrize("split", [Head(rows=30), ByTime(share=0.5)], ids=["head", "time"])
def test_the_end_of_a_training_part_is_filled_from_no_test_reading(split):
    fleet = small_fleet()
    whole, history = fleet.ticks, fleet.history
    edge = whole.filter(pl.Series(split.apply(whole, None).train)).group_by("asset").agg(last=pl.col("tick").max())
    at = pl.Series((fleet.readings["time"].to_physical() + 6 * 3_600_000_000 - 1) // (6 * 3_600_000_000))
    lost = fleet.readings.select("asset", tick=at).join(edge, on="asset", how="left", maintain_order="left")
    hole = lost.select((pl.col("tick") == pl.col("last")).fill_null(False)).to_series()
    readings = fleet.readings.with_columns(flow=pl.when(~hole).then(pl.col("flow")))  # the last training reading has none
    ticks = to_ticks(readings, history.contract)
    division = split.apply(ticks, None)
    training = Training.of(ticks, division, history, split)
    features = FeatureSet(RegimeScore(), [TrailingMean(3)]).fit(training.ticks, history.contract)
    assert look_ahead(readings, history.contract, features, training).passed
    taken = back_filled(ticks.with_columns(pl.exclude("asset", "tick", "flow").forward_fill().over("asset")))
    used = ticks.with_columns(flow=taken["flow"]).filter(pl.Series(division.train))
    found = look_ahead(readings, history.contract, features, replace(training, ticks=used))
    assert not found.passed and found.culprit.startswith("alignment: channel flow of asset pump-")


def test_every_kind_of_label_is_held_against_its_event():
    labels, tick = small_fleet().training.labels, small_fleet().history.contract.tick
    assert labels.since is not None
    shifted = {
        "failure": replace(labels, rul=labels.rul - 2 * tick),
        "end of its certain life": replace(labels, at_least=labels.at_least + 4 * tick),
        "failure where there is none": replace(labels, rul=np.where(np.isnan(labels.rul), 60.0, labels.rul)),
        "repair": replace(labels, since=np.where(np.isinf(labels.since), 5 * tick, labels.since)),
    }
    for what, wrong in shifted.items():
        found = gate(HONEST[:2], wrong)
        assert not found.passed and found.culprit.startswith("label of asset pump-") and what in found.detail, (what, found)


def test_lives_after_repairs_are_no_finding_and_labels_that_miss_one_are():
    fleet = small_fleet()
    ticks, contract = fleet.training.ticks, fleet.history.contract
    middle = ticks.group_by("asset").agg(tick=pl.col("tick").median().cast(pl.Int64)).sort("asset")
    time = pl.from_epoch(middle["tick"] * contract.tick_us, "us").dt.replace_time_zone("UTC")
    repairs = pl.DataFrame({"asset": middle["asset"], "time": time, "event": "failure", "known_at": time})
    events = pl.concat([fleet.history.events, repairs.select(fleet.history.events.columns)])
    every = np.ones(len(ticks), bool)
    training = Training.of(ticks, Division(every, ~every, "asset"), replace(fleet.history, events=events), ByAsset())
    features = FeatureSet(RegimeScore(), HONEST[:2]).fit(ticks, contract)
    assert look_ahead(fleet.readings, contract, features, training).passed
    found = look_ahead(fleet.readings, contract, features, replace(training, labels=fleet.training.labels))
    assert not found.passed and found.culprit == f"label of asset {training.truth.assets[0]}"


def test_an_event_that_was_dated_back_is_named():
    fleet = small_fleet()
    features = FeatureSet(RegimeScore(), HONEST[:2]).fit(fleet.training.ticks, fleet.history.contract)

    def found(events):
        early = Training.of(fleet.ticks, fleet.division, replace(fleet.history, events=events), ByAsset())
        return look_ahead(fleet.readings, fleet.history.contract, features, early, history=fleet.history)

    assert found(fleet.history.events).passed
    dated = found(fleet.history.events.with_columns(pl.col("time") - pl.duration(hours=6)))
    assert not dated.passed and dated.culprit.startswith("label of asset ") and "not among the events" in dated.detail


@pytest.mark.parametrize("shift", [-3, -1, 1])
def test_an_episode_of_the_evaluation_belongs_to_its_own_readings(shift):
    fleet, contract = small_fleet(), small_fleet().history.contract
    features = FeatureSet(RegimeScore(), HONEST[:2]).fit(fleet.training.ticks, contract)
    asset = fleet.real.assets[1]
    own = fleet.readings.filter(pl.col("asset") == asset)["time"]
    episodes = pl.DataFrame({"asset": [asset], "begin": [own[9]], "end": [own[14]], "fault": ["stuck"]})
    history = replace(fleet.history, episodes=episodes)

    def found(by):
        real = truth(fleet.ticks, history.events, contract, fleet.division.test, episodes)
        moved = replace(real, episodes=[e + by for e in real.episodes])
        return look_ahead(fleet.readings, contract, features, fleet.training, history=history, real=moved)

    assert found(0).passed
    wrong = found(shift)
    assert not wrong.passed and wrong.culprit == f"episodes of asset {asset}" and "ticks from its own reading" in wrong.detail


def test_a_gate_that_compared_nothing_does_not_pass():
    found = gate(HONEST, readings=small_fleet().readings.group_by("asset", maintain_order=True).head(5))
    assert not found.passed and "no training asset has 8 readings" in found.culprit


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
