"""The simulated fleet follows the laws it states, and what it writes is what it reads."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import kstest, weibull_min

from pmx.contract import DataError, UsageError
from pmx.source.admit import admit
from pmx.source.orders import EVENTS
from pmx.source.synthetic import DUTY, WEAR_RATE, WEIBULL_SHAPE, Synthetic
from pmx.source.ticks import to_ticks

HOUR = 3_600_000_000
FLEET = Synthetic(assets=300, life=200.0, replace_at=190.0, seed=3)


@pytest.fixture(scope="module")
def fleet():
    return FLEET.load(), FLEET.truth()


def ends(events: pl.DataFrame) -> dict[str, str]:
    return dict(events.filter(pl.col("event").is_in(["failure", "replacement"])).select("asset", "event").iter_rows())


@pytest.mark.parametrize("other, same", [({}, True), ({"seed": 4}, False), ({"missing": 0.2}, False)])
def test_settings_and_seed_decide_everything(fleet, other, same):
    again = Synthetic(**{"assets": 300, "life": 200.0, "replace_at": 190.0, "seed": 3} | other).load()
    assert again.rows.collect().equals(fleet[0].rows.collect()) == same
    assert (again.digest == fleet[0].digest) == same


def test_a_larger_fleet_keeps_the_pumps_of_the_smaller_one(fleet):
    few = Synthetic(assets=7, life=200.0, replace_at=190.0, seed=3)
    small, (large, truth) = few.load(), fleet
    own = pl.col("asset").is_in(small.rows.collect()["asset"].unique().to_list())
    assert small.rows.collect().equals(large.rows.filter(own).collect())
    assert small.events.equals(large.events.filter(own)) and few.truth().equals(truth.filter(own))


def test_wear_thresholds_follow_the_weibull_law():
    shares = Synthetic(assets=1500, life=60.0, seed=11).truth()["threshold"].to_numpy() / 60.0
    assert kstest(shares, weibull_min(WEIBULL_SHAPE).cdf).pvalue > 0.01
    assert kstest(shares, weibull_min(WEIBULL_SHAPE + 0.7).cdf).pvalue < 0.01, "a test that accepts anything shows nothing"


def test_a_pump_fails_when_its_wear_reaches_its_threshold(fleet):
    history, truth = fleet
    rows, checked = history.rows.collect(), 0
    for asset, fails_at, threshold, seen in truth.select("asset", "fails_at", "threshold", "wear_at_end").iter_rows():
        own = rows.filter(pl.col("asset") == asset)
        tick = -(-own["time"].to_physical().to_numpy() // (6 * HOUR))
        if np.diff(tick).max(initial=1) > 1 or len(own) < 12:
            continue  # what it did while nothing arrived cannot be told from its readings
        apart = np.abs(own.select("speed", "valve").to_numpy()[:, None] / DUTY[None] - 1).max(2)
        wear = np.cumsum(WEAR_RATE[apart.argmin(1)] * 6.0)
        assert seen == pytest.approx(wear[-1] / threshold) and seen < 1
        if ends(history.events).get(asset) == "failure":
            assert wear[-1] < threshold <= wear[-1] + 6 * WEAR_RATE.max()
            assert 0 <= (fails_at.timestamp() * 1e6 - tick[-1] * 6 * HOUR) < 6 * HOUR
            checked += 1
    assert checked > 30


def test_truth_and_events_agree(fleet):
    history, truth = fleet
    fails = dict(truth.select("asset", "fails_at").iter_rows())
    order = history.events.filter(pl.col("event") == "failure")
    assert order.height and all(fails[a] == t for a, t in order.select("asset", "time").iter_rows())
    last = dict(history.rows.group_by("asset").agg(pl.col("time").max()).collect().iter_rows())
    assert all(last[a] <= fails[a] for a in last), "a reading of a pump that has failed"
    replaced = history.events.filter(pl.col("event") == "replacement")
    assert all(last[a] <= t < fails[a] for a, t in replaced.select("asset", "time").iter_rows())


def test_preventive_replacements_and_running_pumps_exist(fleet):
    history, truth = fleet
    kinds = [ends(history.events).get(a, "running") for a in truth["asset"]]
    assert all(kinds.count(k) > 15 for k in ("failure", "replacement", "running"))
    assert set(history.events["event"]) == set(EVENTS) - {"inspection", "no_fault_found"}, "200 hours are too short for an inspection"
    long = Synthetic(assets=20, life=2000.0).load().events
    assert set(long["event"]) == set(EVENTS)


def test_orders_are_written_after_what_they_tell_of(fleet):
    late = fleet[0].events.select((pl.col("known_at") - pl.col("time")).dt.total_seconds().alias("late"), "event")
    assert late["late"].min() >= 0 and late.filter(pl.col("event") == "failure")["late"].min() > 0


@pytest.mark.parametrize("tick", [6.0, 1.0, 0.01])
def test_the_contract_accepts_every_reading_at_any_tick(tick):
    history = Synthetic(assets=3, tick=tick, life=40 * tick, replace_at=45 * tick, missing=0.1).load()
    admitted = admit(history.rows, history.contract)
    assert admitted.counts["quarantined"] == 0 and admitted.readings["vibration"].null_count() > 0
    assert to_ticks(admitted.readings, history.contract).height >= admitted.counts["accepted"], "two readings fell on one tick"


def test_a_written_fleet_reads_as_the_same_ticks(tmp_path: Path):
    made = Synthetic(assets=5, life=300.0, seed=2)
    made.write(tmp_path)
    ours, theirs = made.load(), Synthetic(root=str(tmp_path)).load()
    ticks = [to_ticks(admit(h.rows, h.contract).readings, h.contract) for h in (ours, theirs)]
    assert ticks[0].select("asset", "tick").equals(ticks[1].select("asset", "tick"))
    for name in ours.contract.names:
        a, b = (t[name].fill_null(np.nan).to_numpy() for t in ticks)
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=6e-5)
    assert theirs.events.equals(ours.events.with_columns(pl.col("time", "known_at").dt.truncate("1s")))
    read = pl.read_csv(tmp_path / "truth.csv")
    assert read["asset"].to_list() == made.truth()["asset"].to_list()
    np.testing.assert_allclose(read["threshold"].to_numpy(), made.truth()["threshold"].to_numpy())


def test_the_digest_of_files_is_of_their_bytes(tmp_path: Path):
    Synthetic().write_miniature(tmp_path)
    before = Synthetic(root=str(tmp_path)).load()
    assert before.rows.collect()["asset"].n_unique() == 6
    text = (tmp_path / "orders.csv").read_text()
    (tmp_path / "orders.csv").write_text(text.replace("failure", "inspection", 1))
    assert Synthetic(root=str(tmp_path)).load().digest != before.digest


def test_a_missing_file_says_how_to_get_it(tmp_path: Path):
    with pytest.raises(DataError, match="readings.csv: no such file -> point source.root"):
        Synthetic(root=str(tmp_path)).load()


def test_fetch_writes_the_fleet_where_it_is_told(tmp_path: Path):
    with pytest.raises(UsageError, match="source.root=FOLDER"):
        Synthetic(assets=2).fetch()
    files = Synthetic(assets=2, life=100.0, root=str(tmp_path / "new")).fetch()
    assert sorted(files) == ["orders.csv", "readings.csv", "truth.csv"]
    assert Synthetic(root=str(tmp_path / "new")).load().rows.collect()["asset"].n_unique() == 2
