"""PRONOSTIA: a miniature in the raw format, its clock across midnight, both separators, published lives, and files that are broken."""

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmx import config, pipeline
from pmx.contract import DataError, UsageError
from pmx.run import main
from pmx.source import History
from pmx.source.admit import admit
from pmx.source.pronostia import DAY, LEFT, PERIOD, Pronostia, _mean_before, _on_clock
from pmx.source.ticks import to_ticks
from tests.source.root_mean_square import RootMeanSquare
from tests.whole import LIMITS, silent

SIZE, RATE = 64, 25_600.0
CHANNELS = ["horizontal_rms", "vertical_rms"]


effective = partial(RootMeanSquare, samples=SIZE, rate=RATE)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pronostia")
    Pronostia(str(folder), effective()).write_miniature(folder, snapshots=50, samples=SIZE)
    return folder


@pytest.fixture
def copy(archive: Path, tmp_path: Path) -> Path:
    shutil.copytree(archive, tmp_path / "copy")
    return tmp_path / "copy"


def load(folder: Path, *words: object) -> History:
    return Pronostia(str(folder), effective(), *words).load()


def raw_of(folder: Path, set_: str, bearing: str) -> np.ndarray:
    """float32 [snapshot, sample, channel], as numpy reads the files."""
    files = sorted((folder / set_ / f"Bearing{bearing}").glob("acc_*.csv"))
    separator = ";" if ";" in files[0].read_text() else ","
    return np.stack([np.loadtxt(f, delimiter=separator)[:, 4:] for f in files]).astype(np.float32)


@pytest.mark.parametrize("tags", [(), ("speed",)])
def test_rows_are_what_the_snapshot_makes_of_numpys_own_reading(archive: Path, tags: tuple[str, ...]):
    snapshot = effective(tags=tags)
    history = Pronostia(str(archive), snapshot).load()
    rows = history.rows.collect()
    assert history.waves is not None
    for name, bearing, speed, force in (
        ("Learning_set", "1_1", 1800, 4000),
        ("Learning_set", "1_2", 1800, 4000),
        ("Learning_set", "2_1", 1650, 4200),
    ):
        own, raw = rows.filter(pl.col("asset") == f"Bearing{bearing}"), raw_of(archive, name, bearing)
        np.testing.assert_array_equal(
            own.select(CHANNELS).to_numpy(), snapshot.reduce(raw, np.full((len(raw), 1), speed, np.float32) if tags else None)
        )
        assert set(own["speed"]) == {speed} and set(own["force"]) == {force}
        waves = history.waves.rows.filter(pl.col("asset") == f"Bearing{bearing}").collect()
        np.testing.assert_array_equal(np.stack([waves["horizontal"].to_numpy(), waves["vertical"].to_numpy()], axis=2), raw)
    assert admit(history.rows, history.contract).counts["quarantined"] == 0


def test_waves_are_read_again_as_they_are_asked_for(archive: Path):
    history = load(archive)
    assert history.waves is not None
    every = history.waves.rows.collect()
    assert every.drop("horizontal", "vertical").equals(history.rows.drop(CHANNELS).collect())
    asked = history.waves.rows.filter(pl.col("time") > 300).select("asset", "vertical")
    assert asked.collect().equals(every.filter(pl.col("time") > 300).select("asset", "vertical"))
    assert history.waves.rows.head(7).collect().equals(every.head(7))
    shutil.rmtree(archive.parent / "gone", ignore_errors=True)
    shutil.copytree(archive, archive.parent / "gone")
    gone = load(archive.parent / "gone")
    shutil.rmtree(archive.parent / "gone" / "Learning_set")
    assert gone.waves is not None
    tested = gone.waves.rows.filter(pl.col("asset").is_in(["Bearing1_3"])).collect()
    assert tested.equals(every.filter(pl.col("asset") == "Bearing1_3").with_columns(tested["file"])), "no other bearing's files are opened"


def test_every_snapshot_has_a_tick_of_its_own_across_midnight(archive: Path):
    first = (archive / "Learning_set" / "Bearing1_1" / "acc_00001.csv").read_text()
    last = sorted((archive / "Learning_set" / "Bearing1_1").glob("acc_*.csv"))[-1].read_text()
    assert first.startswith("23,") and last.startswith("0,")
    history = load(archive)
    ticks = to_ticks(admit(history.rows, history.contract).readings, history.contract)
    for _, own in ticks.group_by("asset"):
        assert own["tick"].to_list() == list(range(1, len(own) + 1))
    assert not history.notes, "the clock agrees with the numbers of the files"


def test_whole_runs_end_with_their_failure_and_cut_ones_later(archive: Path):
    history = load(archive)
    seen = dict(history.rows.group_by("asset").agg(pl.col("time").max()).collect().iter_rows())
    failed = dict(history.events.select("asset", "time").iter_rows())
    assert history.test_assets == {"Bearing1_3"} and set(failed) == set(seen) == {f"Bearing{b}" for b in ("1_1", "1_2", "2_1", "1_3")}
    whole = len(list((archive / "Full_Test_Set" / "Bearing1_3").glob("acc_*.csv"))) * PERIOD
    assert failed.pop("Bearing1_3") == whole > seen.pop("Bearing1_3")
    assert failed == seen and history.events["event"].unique().to_list() == ["failure"]
    assert history.events["known_at"].equals(history.events["time"].rename("known_at"))
    full = load(archive, None, "Full_Test_Set")
    assert full.events.equals(history.events) and full.test_assets == {"Bearing1_3"} and full.digest != history.digest


def test_a_cut_run_alone_fails_when_it_was_published_to_or_is_censored(copy: Path):
    shutil.rmtree(copy / "Full_Test_Set")
    shutil.copytree(copy / "Test_set" / "Bearing1_3", copy / "Test_set" / "Bearing1_4")
    history = load(copy)
    end = len(list((copy / "Test_set" / "Bearing1_3").glob("acc_*.csv"))) * PERIOD
    failed = dict(history.events.select("asset", "time").iter_rows())
    assert failed["Bearing1_3"] == end + LEFT["1_3"] == end + 5730 and "Bearing1_4" not in failed
    assert history.test_assets == {"Bearing1_3", "Bearing1_4"}
    assert history.notes == ("Bearing1_4: nobody published when it failed, so its life counts as censored",)


def test_a_cut_run_longer_than_the_whole_one_is_refused(copy: Path):
    for file in sorted((copy / "Full_Test_Set" / "Bearing1_3").glob("acc_*.csv"))[5:]:
        file.unlink()
    with pytest.raises(DataError, match="Bearing1_3: cut at .* s, but Full_Test_Set ends at 50 s"):
        load(copy)


def test_published_lives_are_whole_numbers_of_snapshots():
    assert len(LEFT) == 10 and all(left % PERIOD == 0 for left in LEFT.values())


def test_a_temperature_is_the_mean_of_the_ten_seconds_before(archive: Path):
    folder = archive / "Learning_set" / "Bearing1_1"
    heat = np.concatenate([np.loadtxt(f, delimiter=",") for f in sorted(folder.glob("temp_*.csv"))])
    at = heat[:, 0] * 3600 + heat[:, 1] * 60 + heat[:, 2] + heat[:, 3] / 10
    at[at < DAY / 2] += DAY
    rows = load(archive).rows.collect()
    own = rows.filter(pl.col("asset") == "Bearing1_1")
    for file, found in own.select("file", "temperature").iter_rows():
        h, m, s, us = np.loadtxt(file, delimiter=",")[0, :4]
        t = h * 3600 + m * 60 + s + us / 1e6 + (DAY if h < 12 else 0)
        inside = (at > t - PERIOD) & (at <= t)
        np.testing.assert_allclose(found, heat[inside, 4].mean() if inside.any() else np.nan, rtol=1e-12)
    assert rows.filter(pl.col("asset") == "Bearing2_1")["temperature"].is_nan().all(), "it has no temperatures"


@given(st.lists(st.floats(0, 500), min_size=1, max_size=30), st.lists(st.floats(-50, 50), min_size=30, max_size=30), st.booleans())
def test_a_temperature_looks_at_no_later_reading(times: list[float], values: list[float], next_day: bool):
    told = DAY - 250 + np.sort(np.array(times))
    x, at = np.array(values[: len(told)]), DAY - 250 + np.arange(0, 500, 35.0)
    found = _mean_before(at, told - DAY if next_day else told, x)
    for moment, mean in zip(at, found, strict=True):
        inside = (told > moment - PERIOD) & (told <= moment)
        np.testing.assert_allclose(mean, x[inside].mean() if inside.any() else np.nan, atol=1e-9)
        later = np.where(told > moment, 1e6, x)
        np.testing.assert_array_equal(_mean_before(at, told, later)[at == moment], _mean_before(at, told, x)[at == moment])


@given(st.floats(0, DAY - 1), st.lists(st.integers(1, 900), min_size=1, max_size=40))
def test_a_clock_runs_on_after_midnight_whatever_is_missing(begin: float, steps: list[int]):
    """Steps in periods between snapshots; the time of day says the rest, here a little late each time."""
    true = begin + np.cumsum([0, *(s * PERIOD + 0.01 for s in steps)])
    now, found = np.nan, []
    for moment, passed in zip(true, [0, *steps], strict=True):
        now = _on_clock(float(moment % DAY), now, passed * PERIOD)
        found.append(now)
    np.testing.assert_allclose(found, true, atol=1e-6)


def test_a_clock_that_contradicts_the_numbers_is_told(copy: Path):
    files = sorted((copy / "Learning_set" / "Bearing1_1").glob("acc_*.csv"))
    for k, file in enumerate(files):
        lines = file.read_text().splitlines()
        t = 3600 + 11 * k
        file.write_text("".join(f"{t // 3600},{t // 60 % 60},{t % 60}," + line.split(",", 3)[3] + "\n" for line in lines))
    n = len(files) - 1
    assert load(copy, ["1_1", "1_3"]).notes == (
        f"Bearing1_1: its clock counts {11 * n} s from the first snapshot to the last, the numbers of its files {10 * n} s; they count",
    )


def test_a_short_snapshot_and_a_missing_file_are_missing_ticks(copy: Path):
    folder = copy / "Learning_set" / "Bearing1_1"
    short = folder / "acc_00005.csv"
    short.write_text("".join(line + "\n" for line in short.read_text().splitlines()[:-1]))
    (folder / "acc_00007.csv").unlink()
    (folder / "acc_00009.csv").write_text("")
    history = load(copy)
    ticks = to_ticks(admit(history.rows, history.contract).readings, history.contract).filter(pl.col("asset") == "Bearing1_1")
    assert ticks.filter(pl.col("horizontal_rms").is_null())["tick"].to_list() == [5, 7, 9] and not history.notes


def test_a_digest_is_of_every_file_and_of_nothing_else(copy: Path):
    before = load(copy).digest
    (copy / "Learning_set" / "Bearing1_1" / "notes.txt").write_text("not a snapshot")
    assert load(copy).digest == before
    file = copy / "Learning_set" / "Bearing1_1" / "temp_00001.csv"
    file.write_text(file.read_text().replace("65.", "66.", 1))
    assert load(copy).digest != before


def test_sets_may_lie_in_a_folder_each_and_numbers_sort_as_people_count(copy: Path):
    before = load(copy)
    for k, file in enumerate(sorted((copy / "Learning_set" / "Bearing1_1").glob("acc_*.csv")), 1):
        file.rename(file.with_name(f"acc_{k}.csv"))
    for name in ("Learning_set", "Test_set", "Full_Test_Set"):
        (copy / f"archive of {name}").mkdir()
        (copy / name).rename(copy / f"archive of {name}" / name)
    assert load(copy).digest == before.digest and load(copy).rows.drop("file").collect().equals(before.rows.drop("file").collect())


BREACHES = {
    "no number": (lambda lines: [*lines[:2], lines[2].replace(lines[2].split(",")[4], "x", 1), *lines[3:]], "row 3: 'x' is not a number"),
    "too many": (lambda lines: [*lines[:2], lines[2] + ",7", *lines[3:]], "row 3: 7 values, expected 6"),
    "too few": (lambda lines: [",".join(line.split(",")[:5]) for line in lines], "row 1: 5 values, expected 6"),
    "without a time": (lambda lines: [*lines[:2], ",,,,0.1,0.2", *lines[3:]], "row 3: .* not a number|no time of day"),
    "a header": (lambda lines: ["hour,minute,second,us,h,v", *lines], "row 1: 'hour' is not a number"),
    "too long": (lambda lines: [*lines, lines[-1]], "65 samples, a snapshot has 64 -> set source.snapshot.samples"),
}


@pytest.mark.parametrize("new, told", BREACHES.values(), ids=BREACHES.keys())
def test_a_broken_file_is_named_with_its_row(copy: Path, new, told: str):
    file = copy / "Learning_set" / "Bearing1_1" / "acc_00004.csv"
    file.write_text("\n".join(new(file.read_text().splitlines())))
    with pytest.raises(DataError, match=told) as refused:
        load(copy)
    assert str(file) in str(refused.value)


def test_what_is_not_there_is_named_with_what_is(archive: Path, copy: Path, tmp_path: Path):
    with pytest.raises(DataError, match=r"no Bearing3_3 in Learning_set or Test_set \(there are 1_1\)"):
        load(archive, ["1_1", "3_3"])
    with pytest.raises(DataError, match="no bearing in Learning_set or Test_set -> put the files there by hand"):
        load(tmp_path / "nowhere")
    (copy / "Learning_set" / "Bearing7_1").mkdir()
    with pytest.raises(DataError, match="Bearing7_1: nobody states its speed and force"):
        load(copy)
    (copy / "Learning_set" / "Bearing7_1").rename(copy / "Learning_set" / "Bearing3_1")
    with pytest.raises(DataError, match="Bearing3_1: no snapshot is there"):
        load(copy)
    shutil.rmtree(copy / "Learning_set" / "Bearing3_1")
    shutil.copy(copy / "Learning_set" / "Bearing1_1" / "acc_00003.csv", copy / "Learning_set" / "Bearing1_1" / "acc_3.csv")
    with pytest.raises(DataError, match="acc_3.csv: its number is that of .*acc_00003.csv"):
        load(copy)


@pytest.mark.parametrize("words", [{"subset": []}, {"subset": ["1_1", "1_1"]}, {"subset": "Bearing1_1"}, {"test": "test"}])
def test_settings_that_make_no_sense_are_refused(words: dict):
    with pytest.raises(UsageError, match=f"source.{next(iter(words))}"):
        Pronostia("nowhere", effective(), **words)


def test_data_check_reads_it_as_a_run_would(archive: Path, workdir: Path, capsys):
    assert main(["data", "check", "pronostia", f"source.root={archive}", f"source.snapshot.samples={SIZE}"]) == 0
    told = capsys.readouterr().out
    assert "4 bearings, 1 of them the source's own test part" in told and "ends of life: 4 failures" in told


@pytest.fixture
def no_stopwatch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring a bundle takes a child process and seconds, and is not the question here."""
    monkeypatch.setattr(pipeline, "measure_budget", lambda *_: {"bytes": 1.0, "resident_mb": 1.0, "p50_ms": 1.0, "p99_ms": 1.0})


def shipped(folder: Path, *words: str) -> pipeline.Result:
    """The shipped experiment as it stands, but for these words."""
    cfg = config.compose("pronostia", ["evaluate.draws=20", *words])
    p = config.build(cfg)
    plan = pipeline.Plan("pronostia", p.source, p.window, p.feature, p.model, p.alarm, p.evaluate, LIMITS, folder)
    return pipeline.run(plan, silent)


@pytest.mark.nightly
def test_a_made_up_bearing_s_life_is_told_better_than_by_a_constant(tmp_path: Path, no_stopwatch: None):
    folder = tmp_path / "archive"
    Pronostia("", effective()).write_miniature(folder, "1_1 1_2 1_5 1_6", "1_3", snapshots=60, samples=SIZE)
    life = ["evaluate.cap=600", "evaluate.horizon=120", "evaluate.lead=20", f"source.snapshot.samples={SIZE}", f"source.root={folder}"]
    few = ["model.lightgbm.min_child_samples=10", "model.lightgbm.trees=100", "window.folds=2", "source.test=Full_Test_Set"]
    r = shipped(tmp_path / "run", *life, *few, "feature.kernels=[{_target_:pmx.feature.kernel.TrailingMean,window:10}]")
    assert r.refused is None and r.truth.assets == ["Bearing1_3"]
    assert r.metrics["test/rmse_all_capped"] < 0.8 * r.metrics["baseline_constant/rmse_all_capped"]
