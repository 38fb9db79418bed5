"""The audit's checks, one by one: what must be a finding, and what must be none."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmx.contract import Channel, Contract
from pmx.evaluate.protocol import Protocol
from pmx.gate.audit import _area, _told, audit
from pmx.gate.duplicate import near_duplicates
from pmx.gate.result import Check, Finding
from pmx.select.training import Training
from pmx.source import History
from pmx.source.admit import admit
from pmx.source.cmapss import Cmapss
from pmx.source.nab import Nab
from pmx.source.skab import Skab
from pmx.source.tep import Tep
from pmx.source.ticks import to_ticks
from pmx.window.split import ByAsset, ByTime, Division, Given, Head, Split
from tests.small_fleet import small_fleet

PROTOCOL = Protocol(cap=60, horizon=20, lead=2)
CONTRACT = Contract((Channel("noise", "-"), Channel("seen", "-")), "cycle", "life")


def fleet(make, lengths=(90, 70, 110, 60, 84, 101), event: str = "failure", seed: int = 0) -> list[Check]:
    """The audit of engines of these lengths; `make(left, age, rng)` gives the channel `seen`."""
    rng = np.random.default_rng(seed)
    tables, ends = [], []
    for i, n in enumerate(lengths):
        age = np.arange(1, n + 1)
        frame = {"asset": [f"E{i}"] * n, "tick": age, "noise": rng.normal(size=n), "seen": make((n - age).astype(float), age, rng)}
        tables.append(pl.DataFrame(frame, schema_overrides={"noise": pl.Float32, "seen": pl.Float32}))
        ends.append({"asset": f"E{i}", "time": float(n), "event": event, "known_at": float(n)})
    ticks, events = pl.concat(tables), pl.DataFrame(ends)
    rows = ticks.select("asset", pl.col("tick").cast(pl.Float64).alias("time"), "noise", "seen").lazy()
    history = History("engines", CONTRACT, rows, events, frozenset({"E0"}), "")
    division = Given().apply(ticks, history.test_assets)
    return audit(Training.of(ticks, division, history, Given()), ticks, division, history, PROTOCOL)


def named(checks: list[Check]) -> dict[str, list[str]]:
    return {c.name: [f.where for f in c.findings] for c in checks if c.findings}


@pytest.mark.parametrize("unit", [1.0, 24.0, 1 / 7])
def test_a_countdown_is_found_in_any_unit(unit: float) -> None:
    assert named(fleet(lambda left, age, rng: left * unit))["countdowns"] == ["channel seen"]


def test_a_countdown_that_rises_to_zero_is_found_and_an_honest_clock_is_not() -> None:
    assert named(fleet(lambda left, age, rng: -left))["countdowns"] == ["channel seen"]
    assert named(fleet(lambda left, age, rng: age * 24.0)) == {}
    assert named(fleet(lambda left, age, rng: age * 24.0, lengths=(80,) * 8)) == {}, "all lives of one length: age tells, and is no leak"


def test_a_countdown_to_a_planned_replacement_is_found() -> None:
    assert named(fleet(lambda left, age, rng: np.ceil(left / 5), event="replacement"))["countdowns"] == ["channel seen"]


def test_wear_in_a_straight_line_at_each_engine_s_own_pace_is_no_countdown() -> None:
    assert "countdowns" not in named(fleet(lambda left, age, rng: 10 - 10 * age / age[-1] + 0.01 * rng.normal(size=len(age))))


def test_the_countdown_of_the_last_days_alone_is_found() -> None:
    assert named(fleet(lambda left, age, rng: np.minimum(left, 15)))["label_channels"] == ["channel seen"]


@given(st.sampled_from([np.exp, np.tanh, np.sqrt]), st.floats(0.1, 50), st.booleans())
@settings(max_examples=12, deadline=None)
def test_any_monotone_function_of_the_life_left_is_found(shape, scale: float, falls: bool) -> None:
    checks = fleet(lambda left, age, rng: (-1 if falls else 1) * scale * shape(-left / 60 if shape is np.exp else left / 60))
    assert named(checks)["label_channels"] == ["channel seen"]


def test_a_worn_sensor_is_no_label() -> None:
    assert named(fleet(lambda left, age, rng: 4 * (age / age[-1]) ** 3 + 0.3 * rng.normal(size=len(age)))) == {}


def test_a_flag_at_the_failing_tick_and_a_code_that_comes_after_it_are_told_apart() -> None:
    assert named(fleet(lambda left, age, rng: (left == 0).astype(float)))["failure_flags"] == ["channel seen"]
    hours = fleet(lambda left, age, rng: np.where(left == 0, rng.uniform(1, 9, len(left)), np.nan))
    assert named(hours)["known_after"] == ["channel seen"]
    assert "failure_flags" not in named(fleet(lambda left, age, rng: (rng.random(len(left)) < 0.03).astype(float)))


def test_every_check_stands_in_the_table_with_what_it_compared() -> None:
    checks = fleet(lambda left, age, rng: rng.normal(size=len(age)))
    assert [c.name for c in checks] == ["near_duplicates", "label_channels", "countdowns", "known_after", "failure_flags"]
    assert all(c.compared and not c.findings for c in checks)
    assert "5 lives that end in failures" in checks[1].compared, "of the training part alone"


def test_a_finding_says_where_why_and_how_to_mend_it() -> None:
    (finding,) = next(c for c in fleet(lambda left, age, rng: left) if c.name == "countdowns").findings
    assert isinstance(finding, Finding) and finding.line().startswith("channel seen: ") and " -> leave the channel out" in finding.line()


@given(st.integers(2, 40), st.integers(2, 40), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_the_area_is_that_of_all_pairs(ones: int, zeros: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    value, positive = rng.integers(0, 9, ones + zeros).astype(float), np.arange(ones + zeros) < ones
    pairs = value[positive][:, None] - value[~positive]
    area = ((pairs > 0) + 0.5 * (pairs == 0)).mean()
    assert _area(value, positive) == pytest.approx(max(area, 1 - area))


def test_the_share_told_is_one_of_the_target_itself_and_none_of_noise() -> None:
    rng = np.random.default_rng(0)
    target, part = rng.normal(size=4000), rng.random(4000) < 0.5
    itself, noise = _told(target, target[None], part), _told(rng.normal(size=4000), target[None], part)
    assert itself[0] > 0.99 and noise[0] < 0.05


# ---- near-duplicates


def twin(ticks: pl.DataFrame, asset: str, begin: int, end: int, noise: float = 0.0) -> pl.DataFrame:
    names = [c for c in ticks.columns if c not in ("asset", "tick")]
    own = ticks.filter(pl.col("asset") == asset)[begin:end].with_columns(asset=pl.lit("twin"))
    shake = np.random.default_rng(0).normal(size=(len(own), len(names))) * noise
    spread = ticks.select(pl.col(names).cast(pl.Float64).std()).to_numpy()[0]
    return own.with_columns((pl.col(n) + pl.Series(shake[:, i] * spread[i])).cast(pl.Float32) for i, n in enumerate(names))


@pytest.mark.parametrize(("begin", "end", "noise"), [(0, 60, 0.0), (0, 60, 0.001), (20, 45, 0.0)])
def test_a_stretch_that_stands_on_both_sides_is_named_with_its_ticks(begin: int, end: int, noise: float) -> None:
    small = small_fleet()
    asset = max(small.real.assets, key=lambda a: small.ticks.filter(pl.col("asset") == a).height)
    names = small.history.contract.names
    assert near_duplicates(small.ticks, small.division, names).findings == ()
    more = twin(small.ticks, asset, begin, end, noise)
    train, test = (np.r_[side, np.full(len(more), on)] for side, on in ((small.division.train, True), (small.division.test, False)))
    (finding,) = near_duplicates(pl.concat([small.ticks, more]), Division(train, test, "asset"), names).findings
    first, last = more["tick"][0], more["tick"][-1]
    assert f"asset {asset}, ticks " in finding.where and "training asset twin" in finding.where
    told = [int(word.strip(",")) for word in finding.where.split() if word.strip(",").isdigit()]
    assert first <= told[0] <= first + 12 and last - 12 <= told[1] <= last and finding.size >= 8


def test_standstills_and_a_shared_schedule_are_no_duplicates() -> None:
    """Two rigs under one program, each with its own noise, which is off for a third of the time."""
    rng = np.random.default_rng(0)
    program = rng.integers(0, 6, 300).astype(float)
    program[100:200] = 0
    tables = []
    for i in range(6):
        values = {f"c{k}": program * (k + 1) + (program > 0) * 0.1 * rng.normal(size=300) for k in range(3)}
        tables.append(pl.DataFrame({"asset": [f"R{i}"] * 300, "tick": range(300), "set": program, **values}))
    ticks = pl.concat(tables)
    division = Given().apply(ticks, frozenset({"R4", "R5"}))
    assert near_duplicates(ticks, division, ["set", "c0", "c1", "c2"]).findings == ()


def test_a_process_that_repeats_itself_is_no_duplicate() -> None:
    swing = np.sin(np.arange(400) / 10) + 0.01 * np.random.default_rng(0).normal(size=(5, 400))
    ticks = pl.concat([pl.DataFrame({"asset": [f"S{i}"] * 400, "tick": range(400), "value": own}) for i, own in enumerate(swing)])
    assert near_duplicates(ticks, Given().apply(ticks, frozenset({"S3"})), ["value"]).findings == ()


@pytest.mark.parametrize("rows", range(4, 20))
def test_training_parts_of_a_few_ticks_are_compared_as_far_as_they_go(rows: int) -> None:
    """Of ten ticks the later half holds no window of eight: nothing says how closely unrelated ones agree."""
    noise = np.random.default_rng(rows).normal(size=(3, 2, 40))
    ticks = pl.concat([pl.DataFrame({"asset": [f"C{i}"] * 40, "tick": range(40), "v": v, "t": t}) for i, (v, t) in enumerate(noise)])
    assert near_duplicates(ticks, Head(rows=rows).apply(ticks, None), ["v", "t"]).findings == ()


def test_the_warm_up_of_a_split_by_time_is_no_duplicate() -> None:
    small = small_fleet()
    for split in (ByTime(share=0.6), Head(rows=30)):
        assert near_duplicates(small.ticks, split.apply(small.ticks, None), small.history.contract.names).findings == ()


def test_shuffled_assets_change_nothing() -> None:
    small = small_fleet()
    asset = small.real.assets[0]
    more = twin(small.ticks, asset, 0, 60)
    ticks = pl.concat([small.ticks, more])
    train = np.r_[small.division.train, np.ones(len(more), bool)]
    whole = near_duplicates(ticks, Division(train, ~train, "asset"), small.history.contract.names)
    order = np.argsort(ticks["asset"].to_numpy()[::-1], kind="stable")
    turned = ticks[::-1][order].sort("asset", "tick")
    side = pl.concat([ticks.select("asset", "tick"), pl.DataFrame({"train": train})], how="horizontal")
    again = turned.join(side, on=["asset", "tick"], how="left", maintain_order="left")["train"].to_numpy()
    assert near_duplicates(turned, Division(again, ~again, "asset"), small.history.contract.names).findings == whole.findings != ()


# ---- real data


def clean(source, split: Split, protocol: Protocol, on_error: str = "refuse") -> dict[str, list[str]]:
    history = source.load()
    ticks = to_ticks(admit(history.rows, history.contract, on_error).readings, history.contract)
    division = split.apply(ticks, history.test_assets)
    return named(audit(Training.of(ticks, division, history, split), ticks, division, history, protocol))


@pytest.mark.parametrize("subset", ["FD001", "FD002"])
def test_real_engines_have_no_finding(data_root, subset: str) -> None:
    """FD002 has pairs of engines that fly the very same missions: a schedule, and no copy."""
    assert clean(Cmapss(str(data_root / "cmapss"), subset), Given(), Protocol(125, 30, 5)) == {}


def test_a_real_engine_under_two_names_is_found(data_root) -> None:
    history = Cmapss(str(data_root / "cmapss"), "FD001").load()
    ticks = to_ticks(admit(history.rows, history.contract).readings, history.contract)
    more = ticks.filter(pl.col("asset") == "FD001-test-049").with_columns(asset=pl.lit("twin"))
    division = Given().apply(pl.concat([ticks, more]), history.test_assets)
    (finding,) = near_duplicates(pl.concat([ticks, more]), division, history.contract.names).findings
    assert "FD001-test-049" in finding.where and "twin" in finding.where


def test_real_benches_plants_and_series_have_no_finding(data_root) -> None:
    assert clean(Skab(str(data_root / "skab")), Head(400), Protocol(60, 60, 0)) == {}
    assert clean(Skab(str(data_root / "skab")), ByAsset(), Protocol(60, 60, 0)) == {}
    assert clean(Tep(str(data_root / "tep")), Given(), Protocol(1, 1, 0)) == {}
    for name in ("machine_temperature", "ec2_request_latency"):
        series = Nab(str(data_root / "nab"), f"realKnownCause/{name}_system_failure")
        assert clean(series, ByTime(0.4), Protocol(1440, 1440, 0), "quarantine") == {}


def test_two_real_runs_that_begin_as_one_are_named(data_root) -> None:
    """Faults 4 and 5 of the Tennessee Eastman process enter the same simulated plant: their healthy hours are equal, bit for bit."""
    source = Tep(str(data_root / "tep"), [1, 2, 4, 5])
    history = replace(source.load(), test_assets=frozenset({"d05_te"}))
    ticks = to_ticks(admit(history.rows, history.contract).readings, history.contract)
    (finding,) = near_duplicates(ticks, Given().apply(ticks, history.test_assets), history.contract.names).findings
    assert "asset d05_te, ticks 1 to 160" in finding.where and "d04_te" in finding.where
