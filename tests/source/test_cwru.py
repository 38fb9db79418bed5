"""CWRU: the official files whole, bearings and loads never seen, the 48 kHz trap, and files that are broken."""

import io
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import loadmat, savemat

from pmx import config, pipeline
from pmx.alarm.policy import KofN
from pmx.contract import DataError, UsageError
from pmx.evaluate.protocol import Protocol
from pmx.review.gather import gather
from pmx.review.page import page
from pmx.run import main
from pmx.source.admit import admit
from pmx.source.cwru import PARTS, Cwru, Recording, decimated
from pmx.source.matlab import variables
from pmx.source.ticks import to_ticks
from pmx.window.split import ByAsset
from tests.source.root_mean_square import RootMeanSquare
from tests.whole import LIMITS, silent

SIZE = 1024
STATISTIC = "{_target_: pmx.feature.statistic.%s, window: 256}"
FEW = f"source.snapshot.kernels=[{', '.join(STATISTIC % s for s in ('Rms', 'Crest', 'Kurtosis'))}]"


effective = partial(RootMeanSquare, samples=SIZE, rate=12_000.0)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cwru")
    Cwru(str(folder), effective()).write_miniature(folder, 1.0, "B007 B014 IR021 OR007@6 OR014@3", "0213")
    return folder


@pytest.fixture
def copy(archive: Path, tmp_path: Path) -> Path:
    shutil.copytree(archive, tmp_path / "copy")
    return tmp_path / "copy"


def waves_of(source: Cwru) -> pl.DataFrame:
    waves = source.load().waves
    assert waves is not None
    return waves.rows.collect()


@pytest.mark.real_data("cwru")
def test_the_official_files_are_scipys_own_reading_of_them(data_root: Path):
    source = Cwru(str(data_root / "cwru"), effective(samples=2048))
    history, waves = source.load(), waves_of(source)
    assert history.test_assets == {"B007", "IR007", "OR007@6", "normal-test"} and history.calibration == {"normal-limits"}
    files = sorted((data_root / "cwru" / "12k_Drive_End").rglob("*.mat"))
    assert len(files) == 6 and waves["file"].n_unique() == 7
    for file in files:
        number = int(file.name.partition("_")[0].partition("@")[0])
        raw, own = loadmat(file), waves.filter(pl.col("file") == str(file))
        for sensor, name in (("drive_end", "DE"), ("fan_end", "FE")):
            signal = raw[f"X{number}_{name}_time"].ravel()
            np.testing.assert_array_equal(own[sensor].to_numpy().ravel(), signal[: len(signal) // 2048 * 2048].astype(np.float32))
        assert set(own["speed"]) == {float(raw[f"X{number}RPM"].item())}
    normal = waves.filter(pl.col("asset").is_in(list(PARTS)))
    assert len(normal) == 243_938 // 4 // 2048, "the healthy file is decimated by 4"
    assert source.published() == dict.fromkeys(source.published(), True) and len(source.published()) == 7
    assert admit(history.rows, history.contract).counts == {"in": len(waves), "accepted": len(waves), "quarantined": 0, "cells": 0}


def tone(hertz: float, rate: float, seconds: float = 0.5) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


@pytest.mark.parametrize("hertz", [30.0, 1000.0, 3000.0, 5000.0])
def test_decimation_keeps_what_the_new_rate_can_carry(hertz: float):
    recording = Recording(Path("97_Normal_0.mat"), "normal", "normal", 0, 97, 48_000.0)
    found = decimated(tone(hertz, 48_000.0), recording, 12_000.0)
    np.testing.assert_allclose(found[100:-100], tone(hertz, 12_000.0)[100:-100], atol=0.01)


@pytest.mark.parametrize("hertz", [6_300.0, 7_000.0, 11_000.0, 13_000.0, 23_000.0])
def test_decimation_lets_nothing_fold_back(hertz: float):
    """Every fourth sample of a tone above 6 kHz would show a tone below it that was never there."""
    recording = Recording(Path("97_Normal_0.mat"), "normal", "normal", 0, 97, 48_000.0)
    x = tone(hertz, 48_000.0)
    assert np.abs(x[::4]).max() > 0.5
    assert np.abs(decimated(x, recording, 12_000.0)[100:-100]).max() < 10 ** (-50 / 20)


def test_a_rate_that_is_no_whole_fraction_is_refused():
    recording = Recording(Path("97_Normal_0.mat"), "normal", "normal", 0, 97, 48_000.0)
    for rate in (11_000.0, 96_000.0):
        with pytest.raises(UsageError, match="it is sampled at 48000 Hz, the snapshot wants"):
            decimated(np.zeros(1000), recording, rate)


def test_bearings_positions_and_loads_never_seen_work(archive: Path):
    source = Cwru(str(archive), effective())
    history, waves = source.load(), waves_of(source)
    faulty = {"B007": "B", "B014": "B", "IR021": "IR", "OR007@6": "OR", "OR014@3": "OR"}
    assert history.test_assets == {*faulty, "normal-test"} and history.groups == faulty | dict.fromkeys(PARTS, "normal")
    assert history.episodes is not None
    named = dict(history.episodes.select("asset", "fault").iter_rows())
    assert named == {
        "B007": "ball_007", "B014": "ball_014", "IR021": "inner_race_021", "OR007@6": "outer_race_007_at_6", "OR014@3": "outer_race_014_at_3"
    }  # fmt: skip
    own = waves.filter(pl.col("asset") == "OR014@3")
    assert own["speed"].unique(maintain_order=True).to_list() == [1797.0, 1772.0, 1750.0, 1730.0], (
        "the files by load, the speed by file or load"
    )
    assert history.notes == (
        "bearings by kind of fault: 2 ball, 1 inner race, 2 outer race, 1 without; folds of a kind need two bearings at least",
        "the healthy bearing ran at load 0 alone: at load 1, 2, 3 hp a fault and a load look alike",
    )


HOME = {"Normal/97_Normal_0": "97", "B/007/98_0": "118", "B/007/99_2": "119", "IR/021/106_0": "209", "OR/007/@6/110@6_0": "130"}


@pytest.mark.parametrize("below", ["", "12k_Drive_End"])
def test_files_called_as_at_their_home_are_the_same_bearings(archive: Path, tmp_path: Path, below: str):
    for file, number in HOME.items():
        place = archive / (file if file.startswith("Normal") else f"12k_Drive_End/{file}")
        (tmp_path / below).mkdir(exist_ok=True)
        shutil.copy(place.with_name(place.name + ".mat"), tmp_path / below / f"{number}.mat")
        shutil.copy(place.with_name(place.name + ".mat"), tmp_path / f"{'Normal_0' if number == '97' else 'B007_1_123'}.mat")
    files = Cwru(str(tmp_path), effective()).recordings()
    told = [(r.bearing, r.load, r.number, r.rate) for r in files]
    assert told == [
        ("normal", 0, 97, 48_000.0), ("B007", 0, 118, 12_000.0), ("B007", 1, 119, 12_000.0),
        ("IR021", 0, 209, 12_000.0), ("OR007@6", 0, 130, 12_000.0),
    ], "once each, and nothing that was recorded at 48 kHz"  # fmt: skip
    flat, own = Cwru(str(tmp_path), effective(), "IR021").load(), Cwru(str(archive), effective(), "IR021").load()
    mine, same = (h.rows.collect().filter(pl.col("asset") == "normal-fit").drop("file") for h in (flat, own))
    assert mine.equals(same) and flat.test_assets == own.test_assets


def test_a_subset_changes_nothing_of_a_bearing(archive: Path):
    every, one = Cwru(str(archive), effective()).load(), Cwru(str(archive), effective(), "B014").load()
    assert one.name == "cwru B014" and one.test_assets == {"B014", "normal-test"}
    kept = ["B014", *PARTS]
    assert one.rows.collect().equals(every.rows.filter(pl.col("asset").is_in(kept)).collect()) and one.digest != every.digest


def test_every_snapshot_has_a_tick_of_its_own_and_files_an_empty_one_between(archive: Path):
    history = Cwru(str(archive), effective(samples=100)).load()
    ticks = to_ticks(admit(history.rows, history.contract).readings, history.contract)
    for asset, count in (("B007", 480), ("IR021", 480)):
        own = ticks.filter(pl.col("asset") == asset)
        assert own["tick"].to_list() == list(range(1, count + 4))
        assert own.with_row_index().filter(pl.col("drive_end_rms").is_null())["index"].to_list() == [120, 241, 362]


def test_a_healthy_file_is_cut_into_three_runs_one_after_the_other(archive: Path):
    source = Cwru(str(archive), effective(samples=100))
    own = waves_of(source).filter(pl.col("asset").is_in(list(PARTS)))
    assert own["row"].to_list() == list(range(1, 121))
    assert own["asset"].to_list() == [a for a, n in zip(PARTS, (48, 30, 42), strict=True) for _ in range(n)]
    for asset in PARTS:
        assert own.filter(pl.col("asset") == asset)["time"][0] == pytest.approx(100 / 12_000), "each run begins a life of its own"


def test_a_fault_is_there_from_the_first_snapshot_to_the_last(archive: Path):
    history = Cwru(str(archive), effective()).load()
    spans = history.rows.group_by("asset").agg(begin=pl.col("time").min(), end=pl.col("time").max())
    assert history.episodes is not None
    both = history.episodes.join(spans.collect(), on="asset", suffix="_seen")
    assert len(both) == 5 and both.filter((pl.col("begin") != pl.col("begin_seen")) | (pl.col("end") != pl.col("end_seen"))).is_empty()


@pytest.mark.parametrize("tags", [(), ("speed",)])
def test_rows_are_what_the_snapshot_makes_of_the_waves(archive: Path, tags: tuple[str, ...]):
    snapshot = effective(tags=tags)
    source = Cwru(str(archive), snapshot)
    rows, waves = source.load().rows.collect(), waves_of(source)
    x = np.stack([waves["drive_end"].to_numpy(), waves["fan_end"].to_numpy()], axis=2)
    expected = snapshot.reduce(x, waves.select("speed").to_numpy().astype(np.float32) if tags else None)
    np.testing.assert_array_equal(rows.select("drive_end_rms", "fan_end_rms").to_numpy(), expected)
    assert rows.select("file", "row", "asset", "time", "speed").equals(waves.select("file", "row", "asset", "time", "speed"))


def rewrite(file: Path, change) -> None:
    held = {k: v for k, v in loadmat(file).items() if not k.startswith("__")}
    savemat(file, change(held))


def one_file(folder: Path, bearing: str) -> Path:
    return sorted((folder / "12k_Drive_End" / bearing).glob("*_0.mat"))[0]


def test_a_missing_sensor_and_a_missing_speed_are_no_reason_to_stop(copy: Path):
    file = one_file(copy, "B/014")
    rewrite(file, lambda held: {k: v for k, v in held.items() if "DE_time" in k})
    own = Cwru(str(copy), effective()).load().rows.filter(pl.col("file") == str(file)).collect()
    assert own["fan_end_rms"].is_null().all() and not own["drive_end_rms"].is_null().any() and set(own["speed"]) == {1797.0}


def test_the_variables_of_another_file_are_left_alone(copy: Path):
    """Some of the published files hold the recording before them, too."""
    file, source = one_file(copy, "B/014"), Cwru(str(copy), effective(), "B014")
    before = waves_of(source)
    rewrite(file, lambda held: {"X050_DE_time": np.zeros((5, 1)), "X050_FE_time": np.zeros((5, 1)), "X050RPM": np.ones((1, 1))} | held)
    assert waves_of(source).equals(before)
    rewrite(file, lambda held: {"X050_DE_time": np.zeros((5, 1)), "X060_DE_time": np.zeros((5, 1))})
    with pytest.raises(DataError, match=r"X050_DE_time, X060_DE_time: none of them is number \d+ -> rename"):
        source.load()


def test_a_file_whose_number_is_not_its_variables_is_read_by_the_only_one(copy: Path):
    file, source = one_file(copy, "IR/021"), Cwru(str(copy), effective(), "IR021")
    before = waves_of(source)
    rewrite(file, lambda held: {f"X048{k[4:]}": v for k, v in held.items()})
    assert waves_of(source).equals(before)


BREACHES = {
    "no matlab": (lambda raw: b"hello", "no MATLAB 5 file -> save it with -v6 or -v7"),
    "matlab 7.3": (lambda raw: raw.replace(b"MATLAB 5.0", b"MATLAB 7.3"), "no MATLAB 5 file"),
    "cut short": (lambda raw: raw[: len(raw) // 2], "broken MATLAB file .an element of .* ends beyond the file"),
    "no variable": (lambda raw: raw[:128], "no signal of drive_end, fan_end"),
}


@pytest.mark.parametrize("new, told", BREACHES.values(), ids=BREACHES.keys())
def test_a_broken_file_is_named(copy: Path, new, told: str):
    file = one_file(copy, "B/007")
    file.write_bytes(new(file.read_bytes()))
    with pytest.raises(DataError, match=told) as refused:
        Cwru(str(copy), effective()).load()
    assert str(file) in str(refused.value)


def test_what_is_not_there_is_named_with_what_is(archive: Path, tmp_path: Path):
    with pytest.raises(DataError, match=r"no file of OR021@6 \(it holds B007, B014, IR021, OR007@6, OR014@3\)"):
        Cwru(str(archive), effective(), ["B007", "OR021@6"]).load()
    with pytest.raises(DataError, match="no file of 12k_Fan_End.*put the files there by hand"):
        Cwru(str(archive), effective(), record="12k_Fan_End").load()
    with pytest.raises(DataError, match="no file of 12k_Drive_End.*, or none of Normal"):
        Cwru(str(tmp_path / "nowhere"), effective()).load()
    with pytest.raises(DataError, match="11 snapshots|too few"):
        Cwru(str(archive), effective(samples=20_000)).load()


@pytest.mark.parametrize("words", [{"subset": []}, {"subset": ["B007", "B007"]}, {"record": "24k"}, {"sensors": []}, {"sensors": ["top"]}])
def test_settings_that_make_no_sense_are_refused(words: dict):
    with pytest.raises(UsageError, match=f"source.{next(iter(words))}"):
        Cwru("nowhere", effective(), **words)


TYPES = st.sampled_from(["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])


@given(st.lists(st.tuples(TYPES, st.integers(0, 7), st.integers(0, 5)), min_size=1, max_size=4), st.booleans(), st.integers(0, 99))
def test_variables_are_scipys(sizes: list[tuple[str, int, int]], packed: bool, seed: int):
    rng, held = np.random.default_rng(seed), {}
    for i, (kind, rows, columns) in enumerate(sizes):
        held[f"X{i:03}_DE_time"] = rng.integers(0, 100, (rows, columns)).astype(kind)
    file = io.BytesIO()
    savemat(file, {"text": "no number"} | held | {"odd": np.array([1 + 2j]), "cell": {"a": 1.0}}, do_compression=packed)
    found = variables(file.getvalue(), Path("made.mat"))
    assert set(found) == set(held)
    for name, values in held.items():
        np.testing.assert_array_equal(found[name], values.ravel(order="F").astype(np.float64))


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4), st.integers(0, 10_000), st.booleans())
def test_no_bytes_do_more_than_refuse_a_file(flips: list[tuple[int, int]], end: int, packed: bool):
    made = io.BytesIO()
    savemat(made, {"X001_DE_time": np.arange(9.0)[:, None], "X001RPM": np.array([[1797]], np.uint16)}, do_compression=packed)
    raw = bytearray(made.getvalue())
    for at, value in flips:
        raw[at % len(raw)] = value
    try:
        found = variables(bytes(raw[: end % (2 * len(raw))]), Path("made.mat"))
    except DataError as error:
        assert str(error).startswith("made.mat: ")
    else:
        assert all(v.dtype == np.float64 and v.ndim == 1 for v in found.values())


@pytest.mark.parametrize(
    "record, outer, inner", [("12k_Drive_End", 3.5848, 5.4152), ("48k_Drive_End", 3.5848, 5.4152), ("12k_Fan_End", 3.0530, 4.9469)]
)
def test_an_envelope_is_read_at_the_orders_of_the_bearing_with_the_fault(record: str, outer: float, inner: float):
    """The orders are those that the Bearing Data Center states for each end; the fan end has another bearing."""
    plan = config.build(config.compose("cwru", [f"source.record={record}", "source.root=missing"]))
    (orders,) = (k.geometry.orders() for k in plan.source.snapshot.kernels if hasattr(k, "geometry"))
    assert orders["bpfo"] == pytest.approx(outer, abs=1e-3) and orders["bpfi"] == pytest.approx(inner, abs=1e-3)


def test_data_check_reads_it_as_a_run_would(archive: Path, workdir: Path, capsys):
    assert main(["data", "check", "cwru", f"source.root={archive}", "source.subset=[B007]"]) == 0
    told = capsys.readouterr().out
    assert "4 bearings, 2 of them the source's own test part" in told and "labelled episodes: 1 in 1 bearings" in told


@pytest.fixture
def no_stopwatch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring a bundle takes a child process and seconds, and is not the question here."""
    monkeypatch.setattr(pipeline, "measure_budget", lambda *_: {"bytes": 1.0, "resident_mb": 1.0, "p50_ms": 1.0, "p99_ms": 1.0})


def shipped(folder: Path, *words: str, name: str = "cwru") -> pipeline.Result:
    """The shipped experiment as it stands, but for these words."""
    cfg = config.compose(name, ["evaluate.draws=20", *words])
    p = config.build(cfg)
    plan = pipeline.Plan("cwru", p.source, p.window, p.feature, p.model, p.alarm, p.evaluate, LIMITS, folder)
    return pipeline.run(plan, silent)


@pytest.mark.nightly  # a whole run; made-up bearings are below
@pytest.mark.real_data("cwru")
def test_every_seeded_fault_is_told_from_the_healthy_bearing(data_root: Path, tmp_path: Path, no_stopwatch: None):
    r = shipped(tmp_path)
    m = r.metrics
    assert r.refused is None and set(r.winner.used["asset"]) == {"normal-fit"}
    assert m["test/n_failures"] == 3 and m["test/event_recall"] == 1 and m["test/far"] == 0 and m["test/f1"] == 1
    assert m["baseline_always_alarm/far"] == 1, "nearly all readings are faulty, so that F1 alone says nothing"


def test_bearings_never_seen_are_told_as_well(archive: Path, tmp_path: Path, no_stopwatch: None):
    r = shipped(tmp_path, f"source.root={archive}", "source.snapshot.samples=256", "source.subset=[B014,OR014@3]")
    assert r.refused is None and r.truth.assets == ["B014", "OR014@3", "normal-test"]
    assert r.metrics["test/event_recall"] == 1 and r.metrics["test/far"] < 0.2


def known_of(source: Cwru) -> dict[str, str]:
    faults = source.load().faults
    assert faults is not None
    return dict(faults.select("asset", "fault").iter_rows())


def test_loads_held_out_teach_and_test_the_same_bearings_and_say_so(archive: Path):
    source = Cwru(str(archive), effective(), held_out="loads")
    history = source.load()
    assert history.test_assets == {f"{b} at load 3" for b in ("B007", "B014", "IR021", "OR007@6", "OR014@3")} | {"normal-test"}
    known = known_of(source)
    assert {known[f"OR014@3 at load {k}"] for k in range(4)} == {"outer_race"} and known["normal-fit"] == known["normal-test"] == "healthy"
    assert history.episodes is not None and set(history.episodes["asset"]) == set(history.test_assets) - {"normal-test"}
    trained = [a for a in known if a not in history.test_assets]
    assert history.shared(trained, history.test_assets) == (6, 6) and "stand on both sides" in history.notes[-1]
    assert history.components["OR014@3 at load 1"] == "OR014"


def test_a_bearing_held_out_is_on_no_side_with_itself(tmp_path: Path):
    folder = tmp_path / "pairs"
    Cwru(str(folder), effective()).write_miniature(folder, 1.0, "B007 B014 IR007 IR021 OR007@6 OR014@3 OR014@6", "02")
    source = Cwru(str(folder), effective(), held_out="bearings")
    history = source.load()
    assert history.test_assets == {"B014", "IR021", "OR014@3", "OR014@6", "normal-test"}, "a bearing that was turned is still the same one"
    trained = [a for a in known_of(source) if a not in history.test_assets]
    assert history.shared(trained, history.test_assets) == (4, 1), "the healthy bearing alone, which is cut in three"


def test_what_cannot_be_held_out_is_refused(archive: Path, tmp_path: Path):
    with pytest.raises(DataError, match="held_out=bearings: only one bearing of inner race -> source.held_out=loads"):
        Cwru(str(archive), effective(), held_out="bearings").load()
    Cwru(str(tmp_path), effective()).write_miniature(tmp_path, 1.0, "B007 IR007", "0")
    with pytest.raises(DataError, match="held_out=loads: only one load of B007, IR007"):
        Cwru(str(tmp_path), effective(), held_out="loads").load()
    with pytest.raises(UsageError, match="held_out is 'rows' -> choose from faults, bearings, loads"):
        Cwru(str(archive), effective(), held_out="rows")


def test_kinds_of_fault_are_told_at_a_load_never_seen(archive: Path, tmp_path: Path, no_stopwatch: None):
    words = "source.snapshot.samples=256", "source.subset=[B014,IR021,OR014@3]", "source.sensors=[drive_end]", FEW, "feature.quality=null"
    words += ("model.lightgbm_fault.trees=20",)
    r = shipped(tmp_path, f"source.root={archive}", *words, name="cwru_fault")
    assert r.refused is None and r.winner.classes == ("healthy", "ball", "inner_race", "outer_race")
    assert r.metrics["test/accuracy"] > 0.8 and r.metrics["test/macro_auroc"] > 0.9 and r.metrics["test/event_recall"] == 1
    leak = next(g for g in r.gates if g.name == "leakage")
    assert "4 of 4 physical components on both sides" in leak.detail
    assert any("Not split by physical component: 4 of the 4" in t for t in r.tables)
    report = gather(
        pipeline.Plan("cwru_fault", None, ByAsset(), r.winner.features, {}, KofN(), Protocol(5, 5, 0, 20), LIMITS, tmp_path), r, [], "-"
    )  # type: ignore[arg-type]
    assert report.classes[0][2] == "told as ball" and "Not split by physical component" in report.classed[1]
    text = page(report)
    assert 'id="classes"' in text and "told as inner_race" in text and "told right" in text
    card = (r.bundle / "card.md").read_text()
    assert "probability of each class of healthy, ball, inner_race, outer_race" in card and "physical components on both sides" in card
