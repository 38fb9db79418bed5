"""Waveforms on the device: the bytes that training used, refusals by name, and one verdict from a waveform and a process tag."""

import csv
import json
import zipfile
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmx.alarm.policy import KofN
from pmx.bundle import SNAPSHOT, Bundle, core_digest, core_of, digest, to_json
from pmx.contract import Channel, Contract, DataError, DigestError, IncompatibleError, Rows
from pmx.edge.cli import main
from pmx.edge.replay import replay
from pmx.edge.wave import Reducer, process_contract, read_npz, wave_rows
from pmx.evaluate.protocol import Protocol
from pmx.feature.features import FeatureSet
from pmx.feature.kernel import Deviation, Lags
from pmx.feature.regime import RegimeScore
from pmx.feature.snapshot import Snapshot
from pmx.feature.spectral import BandEnergy
from pmx.model.pca import Pca
from pmx.pack.core import core_files, pack
from pmx.select.candidates import out_of_fold, refit, try_out
from pmx.select.training import Training
from pmx.source import History, Waves
from pmx.source.admit import admit, to_rows
from pmx.source.episodes import no_events
from pmx.source.ticks import to_ticks
from pmx.source.wave import device_rows, reduced_rows, tick_rows
from pmx.window.split import Head

RATE, SAMPLES, TICKS, HEALTHY = 1000.0, 100, 90, 60
CASING = Channel("casing", "g", rate=RATE)
PROTOCOL = Protocol(cap=100, horizon=20, lead=1, draws=20)


def snapshot() -> Snapshot:
    return Snapshot([Deviation(SAMPLES), BandEnergy(SAMPLES, [[0, 0.5], [0.5, 1]])], SAMPLES, RATE)


def machines() -> pl.DataFrame:
    """Four pumps, a waveform and a temperature every hour; from hour 75 on P1 shakes, P2 is hot, P3 does both, P0 neither."""
    rng, parts = np.random.default_rng(0), []
    for k in range(4):
        waves = rng.normal(size=(TICKS, SAMPLES)).astype(np.float32) * (1 + 0.1 * rng.random((TICKS, 1)).astype(np.float32))
        heat = 60 + rng.normal(size=TICKS)
        waves[75:] *= 4 if k in (1, 3) else 1
        heat[75:] += 15 if k in (2, 3) else 0
        waves[20] = np.nan if k == 0 else waves[20]
        place = {
            "file": [f"p{k}.bin"] * TICKS,
            "row": np.arange(1, TICKS + 1),
            "asset": [f"P{k}"] * TICKS,
            "time": np.arange(1.0, TICKS + 1),
        }
        parts.append(pl.DataFrame({**place, "temperature": heat, "casing": pl.Series(waves, dtype=pl.Array(pl.Float32, SAMPLES))}))
    return pl.concat(parts)


@dataclass(frozen=True)
class Watched:
    """A fitted anomaly score of the made-up pumps."""

    history: History
    bundle: Bundle
    fitted: object
    policy: object

    @property
    def rows(self) -> Rows:
        return to_rows(self.history.rows.collect(), self.history.contract)

    def pack(self, folder: Path) -> str:
        return pack(folder, self.fitted, self.policy, PROTOCOL, "pumps", self.history.waves)


@cache
def watched() -> Watched:
    made = snapshot()
    waves = Waves(machines().lazy(), (CASING,), made)
    contract = Contract((Channel("temperature", "degC"), *made.channels([CASING])), "h", "life")
    history = History("pumps", contract, tick_rows(waves).lazy(), no_events(contract), None, "", waves=waves)
    ticks = to_ticks(admit(history.rows, contract).readings, contract)
    split = Head(rows=HEALTHY)
    training = Training.of(ticks, split.apply(ticks, None), history, split)
    features = FeatureSet(RegimeScore(), [Lags(1)])
    scores = out_of_fold({"pca": Pca(variance=0.3)}, features, training, PROTOCOL, lambda what, done, total: None)
    trial = try_out("pca", Pca(variance=0.3), scores["pca"], training, PROTOCOL, KofN(), seed=0)
    fitted = refit(trial, features, training, PROTOCOL)
    files = core_files(fitted, trial.policy, PROTOCOL, "pumps", waves=waves)
    return Watched(history, Bundle(files, core_digest(files)), fitted, trial.policy)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sealed") / "bundle"
    core = watched().pack(folder)
    files = {p.name: digest(p.read_bytes()) for p in folder.iterdir()}
    (folder / "manifest.json").write_bytes(to_json({"format": 1, "core_digest": core, "files": files}))
    return folder


def arrays(rows: pl.DataFrame | None = None, heat: bool = False) -> dict[str, np.ndarray]:
    """What a logger on the machine would write."""
    rows = machines() if rows is None else rows
    own = {"asset": rows["asset"].to_numpy().astype(str), "time": rows["time"].to_numpy(), "casing": rows["casing"].to_numpy()}
    return own | ({"temperature": rows["temperature"].to_numpy()} if heat else {})


def table(path: Path, rows: pl.DataFrame) -> Path:
    rows.select("asset", "time", "temperature").write_csv(path)
    return path


def same(a: Rows, b: Rows) -> bool:
    values = all(np.array_equal(np.asarray(a.values[n], float), np.asarray(b.values[n], float), equal_nan=True) for n in b.values)
    return (
        values
        and (a.asset == b.asset).all()
        and (np.asarray(a.time, float) == np.asarray(b.time, float)).all()
        and set(a.values) == set(b.values)
    )


def alike(a, b) -> bool:
    """Two replays that say the same, to the last bit."""
    outputs = all(np.array_equal(x, y, equal_nan=True) for n in a.outputs for x, y in zip(a.outputs[n], b.outputs[n], strict=True))
    return outputs and a.assets == b.assets and all((x == y).all() for x, y in zip(a.standing, b.standing, strict=True))


def test_the_bundle_reduces_to_the_very_rows_that_training_saw():
    w = watched()
    contract = w.history.contract
    made = reduced_rows(w.bundle, w.history.waves, {"P1", "P3"}, contract)
    own = w.history.rows.filter(pl.col("asset").is_in(["P1", "P3"])).collect()
    assert same(made, to_rows(own, contract)) and len(made) == 2 * TICKS
    plain = replace(w.history, waves=None)
    for history in (w.history, plain):
        assert same(device_rows(w.bundle, history, ["P1", "P3"], contract), made)
    assert alike(replay(w.bundle, made), replay(w.bundle, to_rows(own, contract)))


def test_one_verdict_uses_the_waveform_and_the_tag():
    w = watched()
    played = replay(w.bundle, reduced_rows(w.bundle, w.history.waves, {"P0", "P1", "P2", "P3"}, w.history.contract))
    assert [bool(s[75:].any()) for s in played.standing] == [False, True, True, True]
    assert not any(s[:75].any() for s in played.standing)
    names = w.history.contract.names
    shaken, hot = played.outputs["contribution"][1][80], played.outputs["contribution"][2][80]
    assert names[int(shaken.argmax())].startswith("casing") and names[int(hot.argmax())] == "temperature"
    both, either = (max(float(played.outputs["anomaly_score"][i][75:].mean()) for i in on) for on in ([3], [1, 2]))
    assert both >= either


def test_a_snapshot_with_a_missing_sample_is_a_missing_reading_of_its_channels():
    w = watched()
    made = reduced_rows(w.bundle, w.history.waves, {"P0"}, w.history.contract)
    assert np.isnan(made.values["casing_band_0_0.5"][20]) and np.isnan(made.values["casing_deviation"][20])
    assert np.isfinite(made.values["temperature"]).all() and np.isfinite(np.delete(made.values["casing_deviation"], 20)).all()


def test_the_graph_is_a_core_file_that_cannot_change_or_go(tmp_path):
    core = watched().pack(tmp_path / "bundle")
    opened = Bundle.open(tmp_path / "bundle", packed_as=core)
    assert SNAPSHOT in core_of(opened.files) and opened.spec == watched().bundle.spec and opened.core == watched().bundle.core
    assert opened.files[SNAPSHOT] == snapshot().graph(1)
    data = bytearray(opened.files[SNAPSHOT])
    data[len(data) // 2] ^= 1
    (tmp_path / "bundle" / SNAPSHOT).write_bytes(data)
    with pytest.raises(DigestError, match="core digest"):
        Bundle.open(tmp_path / "bundle", packed_as=core)
    (tmp_path / "bundle" / SNAPSHOT).unlink()
    with pytest.raises(DigestError, match="core digest"):
        Bundle.open(tmp_path / "bundle", packed_as=core)


def test_a_spec_and_a_graph_that_do_not_fit_are_refused():
    bundle = watched().bundle
    without = Bundle({n: d for n, d in bundle.files.items() if n != SNAPSHOT}, "")
    with pytest.raises(IncompatibleError, match="promises snapshot.onnx"):
        Reducer.of(without)
    with pytest.raises(IncompatibleError, match="the snapshot graph takes"):
        Reducer(bundle.files[SNAPSHOT], replace(bundle.spec.waves, samples=99))
    plain = core_files(watched().fitted, watched().policy, PROTOCOL, "pumps")
    assert SNAPSHOT not in plain and Reducer.of(Bundle(plain, "")) is None


X = np.ones((2, SAMPLES), np.float32)
REFUSED = {
    "another length": ({"casing": X[:, :99]}, None, "channel casing: a waveform has 99 samples, the bundle takes 100"),
    "no axis of snapshots": ({"casing": X[0]}, None, "channel casing: a waveform has the shape"),
    "another rate": ({"casing": X}, 2000.0, "sampled at 2000 Hz, the bundle was made for 1000 Hz"),
    "another channel": ({"housing": X}, None, "channel casing is missing, there are housing"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_waveform_that_the_graph_was_not_made_for_is_refused(what):
    waves, rate, words = REFUSED[what]
    with pytest.raises(DataError, match=words):
        Reducer.of(watched().bundle).reduce(waves, rate)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_rows_beside_waveforms_keep_their_place_and_lose_nothing(data):
    """A join in which each file lacks some ticks: every row of both is there once, in order, with what the other knows of its tick."""
    bundle, rows = watched().bundle, machines().filter(pl.col("time") <= 6)
    has_wave, has_row = (np.array(data.draw(st.lists(st.booleans(), min_size=24, max_size=24))) for _ in range(2))
    waves, beside = rows.filter(pl.Series(has_wave)), rows.filter(pl.Series(has_row))
    text = np.array([str(t) for t in beside["time"]], object)
    heat = np.array([repr(v) for v in beside["temperature"]], object)
    table = Rows(
        beside["asset"].to_numpy(), text, {"temperature": heat}, np.full(len(beside), "b.csv", object), np.arange(2, len(beside) + 2)
    )
    joined = _joined_in_memory(bundle, waves, table)
    keys = list(zip(joined.asset.tolist(), map(float, joined.time), strict=True))
    assert len(set(keys)) == len(keys) and set(keys) == set(rows.filter(pl.Series(has_wave | has_row)).select("asset", "time").rows())
    assert [r for r, f in zip(joined.row.tolist(), joined.file.tolist(), strict=True) if f == "b.csv"] == list(range(2, len(beside) + 2))
    for asset in ("P0", "P1", "P2", "P3"):
        assert [t for a, t in keys if a == asset] == sorted(t for a, t in keys if a == asset)
    known = dict(zip(rows.select("asset", "time").rows(), rows["temperature"], strict=True))
    with_wave, with_row = set(waves.select("asset", "time").rows()), set(beside.select("asset", "time").rows())
    for key, heat_now, moved in zip(keys, joined.values["temperature"], joined.values["casing_deviation"], strict=True):
        assert (heat_now == repr(known[key])) if key in with_row else heat_now == ""
        assert np.isfinite(moved) == (key in with_wave)


def _joined_in_memory(bundle: Bundle, waves: pl.DataFrame, beside: Rows) -> Rows:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "w.npz"
        np.savez(path, allow_pickle=False, **arrays(waves))
        return wave_rows(path, bundle, beside)


def test_the_device_raises_the_alarms_of_the_training_path(sealed, tmp_path, capsys):
    w, rows = watched(), machines()
    want = replay(w.bundle, w.rows)
    np.savez(tmp_path / "apart.npz", allow_pickle=False, rate=np.float64(RATE), **arrays())
    np.savez(tmp_path / "whole.npz", allow_pickle=False, **arrays(heat=True))
    heat = table(tmp_path / "heat.csv", rows)
    verdicts = []
    for files in (["--waves", tmp_path / "apart.npz", "--input", heat], ["--waves", tmp_path / "whole.npz"]):
        out = tmp_path / "verdicts.csv"
        assert main(["replay", str(sealed), *map(str, files), "--debug", "--json", "--quiet", "--output", str(out)]) == 0
        result = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert result["alarms"] == want.alarm_log() and len(result["alarms"]) >= 3 and result["quarantined"] == 0
        verdicts.append(list(csv.reader(out.read_text().splitlines())))
    assert verdicts[0] == verdicts[1]


def test_the_child_process_and_its_deadline_take_waveforms_too(sealed, tmp_path, capsys):
    np.savez(tmp_path / "whole.npz", allow_pickle=False, **arrays(heat=True))
    assert main(["replay", str(sealed), "--waves", str(tmp_path / "whole.npz"), "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["alarms"] == replay(watched().bundle, watched().rows).alarm_log()


def _as_json(path: Path) -> None:
    path.write_text("{}")


def _of_objects(path: Path) -> None:
    np.savez(path, **{**arrays(), "asset": np.array(["P0", 1] * 180, object)})


def _claims_more(path: Path) -> None:
    np.savez(path, allow_pickle=False, **arrays())
    with zipfile.ZipFile(path) as archive:
        members = {n: archive.read(n) for n in archive.namelist()}
    members["casing.npy"] = members["casing.npy"].replace(b"(360, 100)", b"(360, 1e9)".replace(b"1e9", b"999"))
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


FILES = {
    "no file": (lambda path: None, "No such file"),
    "another format": (_as_json, "not a zip file"),
    "objects": (_of_objects, "objects"),
    "an array that claims more than it holds": (_claims_more, "claims"),
    "no assets": (lambda path: np.savez(path, **{k: v for k, v in arrays().items() if k != "asset"}), "array asset is missing"),
    "numbers for assets": (lambda path: np.savez(path, **{**arrays(), "asset": np.arange(360)}), "array asset is int64"),
    "one time too few": (
        lambda path: np.savez(path, **{**arrays(), "time": np.arange(359.0)}),
        "array time: 359 values, but there are 360 assets",
    ),
    "one waveform too few": (
        lambda path: np.savez(path, **{**arrays(), "casing": arrays()["casing"][1:]}),
        "array casing: 359 values, but there are 360 assets",
    ),
    "an unknown waveform": (lambda path: np.savez(path, **arrays(), housing=np.zeros((360, 5))), "array housing: the bundle takes no such"),
    "another rate": (lambda path: np.savez(path, **arrays(), rate=np.float64(500)), "500 Hz"),
}


@pytest.mark.parametrize("what", FILES)
def test_a_file_that_cannot_be_waveforms_is_refused_by_name(tmp_path, what):
    path, (write, words) = tmp_path / "w.npz", FILES[what]
    write(path)
    with pytest.raises(DataError, match=words) as told:
        wave_rows(path, watched().bundle)
    assert str(told.value).startswith(f"Cannot read {path}: ") and "->" in str(told.value)


def test_a_file_larger_than_the_limit_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "w.npz", allow_pickle=False, casing=np.zeros((1000, 1000), np.float32))
    monkeypatch.setattr("pmx.edge.wave.LARGEST", 3_000_000)
    monkeypatch.setattr(np, "load", lambda *a, **k: pytest.fail("unpacked"))
    with pytest.raises(DataError, match="4,000,.* bytes unpacked, at most 3,000,000"):
        read_npz(tmp_path / "w.npz")


def test_what_a_bundle_cannot_use_is_said_before_anything_is_scored(sealed, tmp_path, capsys):
    np.savez(tmp_path / "w.npz", allow_pickle=False, **arrays(heat=True))
    np.savez(tmp_path / "apart.npz", allow_pickle=False, **arrays())
    heat = table(tmp_path / "heat.csv", machines())

    def refused(*arguments: object) -> tuple[int, str]:
        code = main(["replay", str(sealed), "--quiet", *map(str, arguments)])
        return code, capsys.readouterr().err

    code, said = refused("--waves", tmp_path / "w.npz", "--input", heat)
    assert code == 3 and "channel temperature is in the file of waveforms and in" in said
    code, said = refused()
    assert code == 2 and "--input or --waves" in said
    code, said = refused("--input", heat)
    assert code == 3 and "'casing_deviation' is not in the header" in said
    plain = core_files(watched().fitted, watched().policy, PROTOCOL, "pumps")
    with pytest.raises(IncompatibleError, match="takes no waveforms"):
        wave_rows(tmp_path / "w.npz", Bundle(plain, ""))
    with pytest.raises(IncompatibleError, match="no snapshot graph"):
        reduced_rows(Bundle(plain, ""), watched().history.waves, {"P1"}, watched().history.contract)
    assert process_contract(watched().bundle, tmp_path / "apart.npz").names == ["temperature"]
    assert process_contract(watched().bundle, tmp_path / "w.npz").names == []
