"""The training part knows what was known when it ended, and nothing that was learnt later."""

import numpy as np
import polars as pl
import pytest

from pmx.contract import DataError
from pmx.select.training import Training, truth
from pmx.source import History
from pmx.window.split import ByAsset, ByTime, Division, Head
from tests.lives import failed_at

SPLIT = ByAsset(folds=3)


def divided(ticks: pl.DataFrame, train: np.ndarray, by: str = "time") -> Division:
    return Division(train, ~train, by)


def test_the_labels_are_of_the_training_ticks_alone(fleet, whole):
    ticks, history = fleet
    mask = (ticks["asset"] != "A03").to_numpy()
    part = Training.of(ticks, divided(ticks, mask, "asset"), history, SPLIT)
    assert "A03" not in part.truth.assets and len(part.labels.rul) == len(part.ticks) == mask.sum()
    np.testing.assert_array_equal(part.labels.rul, whole.labels.rul[mask])


def test_truth_says_who_failed_and_until_when_the_others_lived(whole):
    of = dict(zip(whole.truth.assets, zip(failed_at(whole.truth), whole.truth.seen, whole.truth.born, strict=True), strict=True))
    assert of["A00"] == (90.0, 90.0, 1.0)
    assert np.isnan(of["A08"][0]) and of["A08"][1] == 70.0, "a replacement is no failure"
    assert np.isnan(of["A09"][0]) and of["A09"][1] == 130.0


def test_truth_leaves_out_who_is_not_looked_at(fleet):
    ticks, history = fleet
    counts = ((ticks["asset"] == "A01") & (ticks["tick"] > 60)).to_numpy()
    of = truth(ticks, history.events, history.contract, counts)
    assert of.assets == ["A01"] and of.begins.tolist() == [61.0] and of.born.tolist() == [1.0] and failed_at(of).tolist() == [100.0]


def test_a_split_by_time_forgets_what_came_later(fleet):
    ticks, history = fleet
    part = Training.of(ticks, ByTime(share=0.7).divide(ticks, None), history, SPLIT)  # up to cycle 91
    failed = {a for a, f in zip(part.truth.assets, failed_at(part.truth), strict=True) if not np.isnan(f)}
    assert failed == {"A00", "A07"}, "failures at cycle 85 and 90; all others came after the split"
    later = ~np.isin(part.asset, ["A00", "A07"])
    assert np.isnan(part.labels.rul[later]).all()
    assert (part.labels.at_least[later] <= 91).all(), "alive until the split is all that was known"


def test_an_order_written_after_the_split_is_not_known_yet(fleet):
    ticks, history = fleet
    late = history.events.with_columns(known_at=pl.when(pl.col("asset") == "A07").then(120.0).otherwise("known_at"))
    changed = History(**{**vars(history), "events": late})
    split = ByTime(share=0.7).divide(ticks, None)
    assert (
        np.isnan(failed_at(Training.of(ticks, split, changed, SPLIT).truth)[7])
        and failed_at(Training.of(ticks, split, history, SPLIT).truth)[7] == 85
    )
    by_asset = divided(ticks, np.ones(len(ticks), bool), "asset")
    assert failed_at(Training.of(ticks, by_asset, changed, SPLIT).truth)[7] == 85, "a split by asset looks back on whole lives"


def test_a_head_learns_nothing_from_its_own_tail(fleet):
    """Assets live in different years: the end of one's test part lies before another's training part."""
    ticks, history = fleet
    shift = pl.col("asset").str.slice(1).cast(pl.Int64) * 1000
    apart = ticks.with_columns(pl.col("tick") + shift)
    events = history.events.with_columns(pl.col("time", "known_at") + shift)
    moved = History(**{**vars(history), "events": events})
    part = Training.of(apart, Head(rows=50).divide(apart, None), moved, SPLIT)
    assert np.isnan(failed_at(part.truth)).all() and np.isnan(part.labels.rul).all()
    np.testing.assert_array_equal(part.labels.at_least[part.asset == "A01"], np.arange(49, -1, -1))
    whole_life = Training.of(apart, Head(rows=88).divide(apart, None), moved, SPLIT)  # A07 and A08 end before their head does
    ended = dict(zip(whole_life.truth.assets, failed_at(whole_life.truth), strict=True))
    assert ended["A07"] == 7085 and all(np.isnan(f) for a, f in ended.items() if a != "A07")


def test_what_a_task_fits_on(whole, protocol):
    usable, target = whole.usable("rul", protocol)
    left = np.concatenate([life - np.arange(1, life + 1) for life in (90, 100, 110, 120, 95, 105, 115, 85)])
    np.testing.assert_array_equal(target[: len(left)], np.minimum(left, 60.0))
    censored = np.isin(whole.asset, ["A08", "A09"])
    certain = np.concatenate([70 - np.arange(1, 71), 130 - np.arange(1, 131)])
    np.testing.assert_array_equal(usable[censored], certain >= 60), "a censored life counts where it surely exceeds the cap"
    healthy, _ = whole.usable("anomaly", protocol)
    np.testing.assert_array_equal(healthy, np.r_[left, certain] > 20)


def test_nothing_to_fit_on_is_bad_data(fleet, protocol):
    ticks, history = fleet
    none = History(**{**vars(history), "events": history.events.clear()})
    short = ticks.filter(pl.col("tick") <= 15)
    every = divided(short, np.ones(len(short), bool), "asset")
    with pytest.raises(DataError, match="no training tick has a label for the task rul"):
        Training.of(short, every, none, SPLIT).usable("rul", protocol)
    assert Training.of(short, every, none, SPLIT).usable("anomaly", protocol)[0].all(), "where nothing ever failed, all of it is normal"
    one = History(**{**vars(history), "events": pl.DataFrame({"asset": "A00", "time": 15.0, "event": "failure", "known_at": 15.0})})
    with pytest.raises(DataError, match="for the task anomaly"):
        Training.of(short, every, one, SPLIT).usable("anomaly", protocol)


def test_an_order_for_an_asset_nobody_knows_is_bad_data(fleet):
    """A mistyped name would turn a failed asset into a healthy one."""
    ticks, history = fleet
    typo = history.events.with_columns(asset=pl.when(pl.col("asset") == "A03").then(pl.lit("A3")).otherwise("asset"))
    every = divided(ticks, np.ones(len(ticks), bool), "asset")
    with pytest.raises(DataError, match=r"asset A3 \(1 orders\): no such asset"):
        Training.of(ticks, every, History(**{**vars(history), "events": typo}), SPLIT)


def calibrated(fleet, names: set[str], split, **more) -> Training:
    """The fleet, where these assets are calibration runs; all of it trains."""
    ticks, history = fleet
    every = np.ones(len(ticks), bool)
    apart = History(**{**vars(history), "calibration": frozenset(names), **more})
    return Training.of(ticks, divided(ticks, every, "asset"), apart, split)


@pytest.mark.parametrize("task", ["rul", "anomaly"])
def test_calibration_assets_are_never_fitted_on_and_are_all_that_validates(fleet, whole, protocol, task):
    part = calibrated(fleet, {"A01", "A09"}, ByAsset(folds=3))
    set_apart = np.isin(part.asset, ["A01", "A09"])
    usable, target = part.usable(task, protocol)
    before, _ = whole.usable(task, protocol)
    np.testing.assert_array_equal(usable, before & ~set_apart)
    ((fit, validate),) = part.folds(task)
    np.testing.assert_array_equal(validate, set_apart)
    assert (fit ^ validate).all() and not (part.fold(fit, validate, task, protocol)[0] & set_apart).any()
    assert part.healthy(protocol)[set_apart].any(), "they are healthy all the same: limits come from them"


def test_blocks_in_time_are_predicted_from_earlier_ones_and_for_an_anomaly_from_all_others(fleet):
    ticks, history = fleet
    head = Head(rows=60, folds=3)
    part = Training.of(ticks, head.apply(ticks, None), history, head)
    tick = part.ticks["tick"].to_numpy()
    folds = part.folds("rul")
    assert len(folds) == 3 and all(
        tick[fit & (part.asset == a)].max() < tick[v & (part.asset == a)].min() for fit, v in folds for a in part.truth.assets
    )
    blocks = part.folds("anomaly")
    assert len(blocks) == 4 and (np.sum([v for _, v in blocks], 0) == 1).all() and all((fit ^ v).all() for fit, v in blocks)
    assert [int(v.sum()) for _, v in blocks] == [15 * len(part.truth.assets)] * 4


def episodes(*rows: tuple[str, float, float, str]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=["asset", "begin", "end", "fault"], orient="row")


def test_episodes_are_ticks_of_their_asset_in_order_and_those_of_others_are_left_out(fleet):
    ticks, history = fleet
    counts = ((ticks["tick"] > 40) & ticks["asset"].is_in(["A00", "A02"])).to_numpy()
    told = episodes(("A02", 70.0, 75.0, "late"), ("A01", 50.0, 60.0, "elsewhere"), ("A02", 45.0, 45.0, "early"))
    of = truth(ticks, history.events, history.contract, counts, told)
    assert of.assets == ["A00", "A02"] and of.faults == [[], ["early", "late"]]
    assert of.episodes[0].shape == (0, 2) and of.episodes[1].tolist() == [[45.0, 45.0], [70.0, 75.0]]
    assert truth(ticks, history.events, history.contract, counts).episodes is None, "no labels are not the same as no anomaly"
    few = of.some(np.array([1]))
    assert few.assets == ["A02"] and few.faults == [["early", "late"]] and few.begins.tolist() == [41.0]


def test_training_knows_nothing_of_episodes(fleet):
    ticks, history = fleet
    told = History(**{**vars(history), "episodes": episodes(("A00", 1.0, 90.0, "worn"))})
    every = divided(ticks, np.ones(len(ticks), bool), "asset")
    plain, labelled = (Training.of(ticks, every, h, SPLIT) for h in (history, told))
    assert labelled.truth.episodes is None and labelled.truth.faults == []
    np.testing.assert_array_equal(labelled.labels.at_least, plain.labels.at_least)
    np.testing.assert_array_equal(labelled.fits, plain.fits)


def test_what_ended_before_an_assets_first_reading_ended_no_life_of_the_record(fleet):
    """An export of orders goes back further than the readings."""
    ticks, history = fleet
    old = [("A00", -500.0, "failure"), ("A00", -400.0, "replacement"), ("A09", -300.0, "failure"), ("A08", -200.0, "replacement")]
    rows = pl.DataFrame([(*r, r[1]) for r in old], schema=history.events.schema, orient="row")
    longer = History(**{**vars(history), "events": pl.concat([rows, history.events])})
    every = divided(ticks, np.ones(len(ticks), bool), "asset")
    before, after = (Training.of(ticks, every, h, SPLIT) for h in (history, longer))
    for kind in ("failed", "replaced"):
        assert [e.tolist() for e in getattr(after.truth, kind)] == [e.tolist() for e in getattr(before.truth, kind)]
    for a, b in zip(after.truth.lives(), before.truth.lives(), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(after.labels.rul, before.labels.rul)
    first = pl.DataFrame([("A09", 1.0, "failure", 1.0)], schema=history.events.schema, orient="row")
    begun = truth(ticks, first, history.contract, np.ones(len(ticks), bool))
    assert begun.failed[9].tolist() == [1.0], "at the first reading the asset is there"
