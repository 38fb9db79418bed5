"""A snapshot: names, units, what it refuses, and that its graph gives what numpy gives of the same waveform."""

import copy

import numpy as np
import onnx
import pytest

from pmx.contract import Channel, UsageError
from pmx.edge.step import session
from pmx.edge.wave import run
from pmx.feature.kernel import Age, Deviation, Ewma, TrailingMean
from pmx.feature.snapshot import Snapshot
from pmx.feature.spectral import BandEnergy, Bearing, DominantFrequency, EnvelopeOrders
from pmx.feature.statistic import Kurtosis, Quantile, Rms

WAVES = [Channel("drive_end", "g", rate=100.0), Channel("fan_end", "mm/s", rate=100.0)]
KERNELS = [TrailingMean(20), Deviation(20), Rms(20), Kurtosis(20), DominantFrequency(20), BandEnergy(20, [[0, 0.5], [0.5, 1]])]


def snapshot() -> Snapshot:
    return Snapshot(KERNELS, samples=20, rate=100.0)


def noise(snapshots: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(snapshots, 20, 2)).astype(np.float32)


def test_tick_channels_are_named_after_wave_channel_and_kernel_and_carry_its_unit():
    made = snapshot().channels(WAVES)
    assert [c.name for c in made] == snapshot().names(["drive_end", "fan_end"])
    units = {c.name: c.unit for c in made}
    assert list(units)[:4] == ["drive_end_mean", "fan_end_mean", "drive_end_deviation", "fan_end_deviation"]
    assert units["fan_end_rms"] == "mm/s" and units["drive_end_kurtosis"] == "-" and units["fan_end_dominant"] == "Hz"
    assert units["drive_end_band_0_0.5"] == "(g)^2" and all(c.rate is None for c in made)


def test_a_length_inside_a_name_stays_and_the_window_goes():
    assert Snapshot([BandEnergy(20, [[20, 40]], "Hz")], 20, 100.0).names(["x20"]) == ["x20_band_20_40hz"]
    assert len(set(Snapshot([Quantile(20, 0.2), Quantile(20, 0.25), TrailingMean(20)], 20, 100.0).names(["x"]))) == 3


def test_the_graph_gives_what_numpy_gives_of_the_samples_as_they_are():
    x = noise() * 3 + 7
    made = dict(zip(snapshot().names(["a", "b"]), snapshot().reduce(x).T, strict=True))
    wide = x.astype(float)
    assert np.allclose(made["a_mean"], wide[:, :, 0].mean(1)) and np.allclose(made["b_deviation"], wide[:, :, 1].std(1, ddof=1))
    assert np.allclose(made["a_rms"], np.sqrt((wide[:, :, 0] ** 2).mean(1)))


def test_bytes_depend_on_the_settings_alone_and_a_copy_reduces_alike():
    one, x = snapshot(), noise()
    made = one.reduce(x)
    assert one.graph(2) == snapshot().graph(2) != snapshot().graph(1)
    assert (copy.deepcopy(one).reduce(x) == made).all()
    assert (run(session(one.graph(2)), x) == made).all()
    model = onnx.load_from_string(one.graph(2))
    assert [i.name for i in model.graph.input] == ["waves"] and [o.name for o in model.graph.output] == ["ticks"]


def test_no_snapshot_and_many_snapshots():
    x = noise(150)
    whole = snapshot().reduce(x)
    assert whole.dtype == np.float32 and snapshot().reduce(x[:0]).shape == (0, whole.shape[1])
    assert (np.concatenate([snapshot().reduce(part) for part in np.split(x, [1, 65, 129])]) == whole).all()


def test_missing_samples_follow_each_kernels_own_rule():
    x = noise(1)
    x[0, 3, 0] = np.nan
    made = dict(zip(snapshot().names(["a", "b"]), snapshot().reduce(x)[0], strict=True))
    assert np.isclose(made["a_mean"], np.nanmean(x[0, :, 0])) and np.isnan(made["a_dominant"]) and np.isfinite(made["b_dominant"])
    x[0, :, 0] = np.nan
    assert np.isnan(snapshot().reduce(x)[0, ::2]).all()


def test_a_speed_beside_the_waveform_is_a_tag():
    kernel = EnvelopeOrders(1000, Bearing(9, 0.3126, 1.537), "rpm", orders=["bpfo"])
    tagged = Snapshot([kernel, TrailingMean(1000)], 1000, 12_000.0)
    assert tagged.tags == ("rpm",) and snapshot().tags == ()
    x = np.random.default_rng(0).normal(size=(3, 1000, 1)).astype(np.float32)
    made = tagged.reduce(x, np.array([[1500.0], [np.nan], [1797.0]], np.float32))
    assert np.isnan(made[:, 0]).tolist() == [False, True, False] and np.isfinite(made[:, 1]).all()
    for tags in (None, np.zeros((2, 1), np.float32), np.zeros((3, 2), np.float32)):
        with pytest.raises(UsageError, match="rpm"):
            tagged.reduce(x, tags)


REFUSED = {
    "no kernels": (lambda: Snapshot([], 20, 100.0), "empty"),
    "no samples": (lambda: Snapshot(KERNELS, 0, 100.0), "above 0"),
    "no rate": (lambda: Snapshot(KERNELS, 20, float("inf")), "above 0"),
    "a shorter window": (lambda: Snapshot([TrailingMean(10)], 20, 100.0), "mean10 reads 10 samples of 20.*window: 20"),
    "memory": (lambda: Snapshot([Ewma(5)], 1, 100.0), "memory"),
    "age": (lambda: Snapshot([Age()], 1, 100.0), "memory"),
    "a kernel twice": (lambda: Snapshot([TrailingMean(20)] * 2, 20, 100.0).names(["a"]), "a_mean would be made twice"),
    "another rate": (lambda: snapshot().channels([Channel("a", "g", rate=200.0)]), "rate 200.0 Hz, the snapshot's is 100 Hz"),
    "no rate of a channel": (lambda: snapshot().channels([Channel("a", "g")]), "rate None"),
    "another length": (lambda: snapshot().reduce(noise()[:, :19]), "20 samples"),
    "a flat array": (lambda: snapshot().reduce(noise()[:, :, 0]), "shape"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_reduced_is_refused(what):
    attempt, words = REFUSED[what]
    with pytest.raises(UsageError, match=words):
        attempt()
