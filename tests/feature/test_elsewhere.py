"""Readings that belong elsewhere: in another unit, or in another channel's place; and what cannot be told is not asked."""

import numpy as np
import polars as pl

from pmx.contract import Channel, Contract
from pmx.feature.elsewhere import ALL_PAIRS, Elsewhere
from pmx.feature.features import FeatureSet
from pmx.feature.habit import Habit
from pmx.feature.kernel import TrailingMean
from pmx.feature.quality import Quality
from pmx.feature.regime import RegimeScore
from tests.feature.fleet import frame

EVERY = ("unit change", "swapped")


def of(units: list[str], values: np.ndarray, states: tuple[str, ...] = EVERY) -> Elsewhere:
    """Candidates of channels in these units whose readings in training are `values` [tick, channel]."""
    contract = Contract(tuple(Channel(f"c{i}", unit) for i, unit in enumerate(units)), "h", "life")
    ticks = pl.concat([frame({a: values}, contract) for a in ("A", "B", "C")])
    quality = FeatureSet(RegimeScore(), [TrailingMean(2)], Quality()).fit(ticks, contract).quality_
    assert quality is not None and isinstance(quality.habit_, Habit)
    return Elsewhere.of(contract, quality.normalise_, quality.habit_, states)


def around(*normal: float) -> np.ndarray:
    return np.array(normal) * (1 + 0.02 * np.random.default_rng(0).normal(size=(200, len(normal))))


def test_a_channel_in_a_unit_without_relatives_is_in_no_other():
    assert of(["furlong", "wobble"], around(60.0, 50.0)).names == ["swapped"]


def test_units_that_differ_little_are_not_told_apart():
    """Fifty percent more may well be the machine."""
    scale = of(["kW", "bar"], around(60.0, 5.0)).units[:, 1]
    assert len(scale) and ((scale > 2) | (scale < 0.5)).all()


def test_where_zero_is_usual_a_thousandth_of_any_reading_would_look_usual():
    usual = np.random.default_rng(0).normal(size=(200, 1))
    far, near = of(["kW", "bar"], around(60.0, 5.0)), of(["kW", "bar"], np.c_[usual, around(5.0)])
    assert (far.units[far.units[:, 0] == 0, 1] < 0.5).any()
    assert not (near.units[near.units[:, 0] == 0, 1] < 0.5).any()


def test_states_that_are_not_judged_have_no_candidates():
    values = around(60.0, 5.0)
    assert of(["kW", "bar"], values, ("swapped",)).names == ["swapped"] and of(["kW", "bar"], values, ("unit change",)).names == [
        "unit change"
    ]
    assert of(["kW", "bar"], values, ()).names == []


def test_of_many_channels_those_of_one_unit_may_be_swapped():
    units = ["bar"] * 3 + ["kW"] * 2 + ["-"] * ALL_PAIRS
    pairs = of(units, around(*np.linspace(5, 90, len(units)))).pairs
    assert {tuple(p) for p in pairs.tolist()} == {(0, 1), (0, 2), (1, 2), (3, 4)}
