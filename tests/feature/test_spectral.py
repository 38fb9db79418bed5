"""Spectral kernels against a second definition in numpy, against a sine and a bearing that are known, and in degenerate windows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spox import Tensor, argument, build

from pmx.contract import UsageError
from pmx.edge.step import session
from pmx.feature.kernel import Kernel
from pmx.feature.snapshot import Snapshot
from pmx.feature.spectral import FAULTS, BandEnergy, Bearing, Centroid, DominantFrequency, EnvelopeOrders, Spectrum
from pmx.feature.view import Window, const

from .fleet import Graph, frame, plain, same, walk

SKF6205 = Bearing(balls=9, ball_diameter=0.3126, pitch_diameter=1.537)
RATE, SPEED = 12_000.0, 1797.0


def found(kernels: list[Kernel], x: np.ndarray, rate: float = RATE, tags: np.ndarray | None = None) -> np.ndarray:
    """float32 [snapshot, feature, channel] of waveforms float32 [snapshot, sample, channel]."""
    return Snapshot(kernels, x.shape[1], rate).reduce(x, tags).reshape(len(x), -1, x.shape[2])


def noise(samples: int, seed: int = 0, snapshots: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(snapshots, samples, 2)).astype(np.float32)


def spectrum(x: np.ndarray) -> np.ndarray:
    """Energies [snapshot, bin, channel] from the definition."""
    n = x.shape[1]
    w = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n))[:, None]
    energy = 2 * np.abs(np.fft.rfft((x - x.mean(1, keepdims=True)) * w, axis=1)) ** 2 / (n * (w**2).sum())
    energy[:, 0] /= 2
    energy[:, n // 2 :] /= 1 + (n % 2 == 0)
    return energy


def envelope(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Magnitude of the analytic signal [snapshot, sample, channel] of a band, in shares of the Nyquist frequency."""
    n = x.shape[1]
    whole, f = np.fft.fft(x.astype(float) - x.mean(1, keepdims=True, dtype=float), axis=1), np.fft.fftfreq(n)
    passes = (f >= low / 2) & (f < high / 2)
    return np.abs(np.fft.ifft(2 * whole * passes[:, None], axis=1))


@pytest.mark.parametrize("samples", [8, 15, 64, 128, 131, 135, 2048])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_energies_centroid_and_dominant_frequency_are_those_of_the_definition(samples, offset):
    x = noise(samples, snapshots=20) + np.float32(offset)
    bands = [[0, 1], [0, 0.5], [0.25, 0.75], [0.5, 1]]
    made = found([BandEnergy(samples, bands), Centroid(samples), DominantFrequency(samples)], x)
    energy, share = spectrum(x.astype(float)), np.arange(samples // 2 + 1)[:, None] * 2 / samples
    for k, (low, high) in enumerate(bands):
        inside = (share >= low) & ((share < high) | (high == 1))
        assert np.allclose(made[:, k], (energy * inside).sum(1), rtol=1e-6)
    f = share * RATE / 2
    assert np.allclose(made[:, 4], (energy * f).sum(1) / energy.sum(1), rtol=1e-6)
    assert np.allclose(made[:, 5], f[energy.argmax(1), 0], rtol=1e-6)


@pytest.mark.parametrize("samples", [9, 64, 100, 2560])
def test_energies_add_up_to_the_weighted_mean_square(samples):
    x = noise(samples, snapshots=20)
    w = np.hanning(samples + 1)[:-1, None]
    centred = x.astype(float) - x.mean(1, keepdims=True, dtype=float)
    want = ((centred * w) ** 2).sum(1) / (w**2).sum()
    parts = found([BandEnergy(samples, [[0, 0.3], [0.3, 0.6], [0.6, 1]])], x)
    assert np.allclose(parts.sum(1), want, rtol=1e-6)


@pytest.mark.parametrize(("samples", "at"), [(256, 0.8), (2048, 0.11), (2560, 0.35)])
def test_a_sine_of_amplitude_a_has_half_a_square_in_its_band_and_nothing_elsewhere(samples, at):
    bin_ = round(at * samples / 2)
    x = (3.0 * np.sin(2 * np.pi * bin_ * np.arange(samples) / samples + 0.7)).astype(np.float32)[None, :, None]
    width = 4 * 2 / samples
    bands = [[at - width, at + width], [0, at - width], [at + width, 1]]
    made = found([BandEnergy(samples, bands), DominantFrequency(samples), Centroid(samples)], x)[0, :, 0]
    assert np.isclose(made[0], 4.5, rtol=1e-6) and (made[1:3] < 1e-9).all()
    assert made[3] == np.float32(bin_ * RATE / samples) and np.isclose(made[4], made[3], rtol=1e-6)


def test_bands_in_hertz_are_bands_in_shares_of_the_nyquist_frequency():
    x, shares = noise(512), [[0.1, 0.25], [0.25, 1]]
    hertz = [[low * RATE / 2, high * RATE / 2] for low, high in shares]
    assert (found([BandEnergy(512, shares)], x) == found([BandEnergy(512, hertz, "Hz")], x)).all()


def test_the_multiples_of_a_bearing_are_those_that_were_published_for_it():
    # Case Western Reserve University Bearing Data Center, drive end, SKF 6205-2RS JEM; its figure for a ball counts both strikes of a spin
    published = {"bpfi": 5.4152, "bpfo": 3.5848, "ftf": 0.39828, "bsf": 4.7135 / 2}
    orders = SKF6205.orders()
    assert all(np.isclose(orders[name], value, rtol=1e-4) for name, value in published.items())


@given(balls=st.integers(2, 40), ratio=st.floats(0.01, 0.9), angle=st.floats(0, 80))
def test_what_passes_both_rings_is_every_ball(balls, ratio, angle):
    orders = Bearing(balls, ratio, 1.0, angle).orders()
    assert np.isclose(orders["bpfo"] + orders["bpfi"], balls) and np.isclose(orders["bpfo"], balls * orders["ftf"])


@pytest.mark.parametrize(("samples", "harmonics"), [(1000, 1), (2048, 3)])
def test_the_envelope_at_fault_frequencies_is_that_of_the_definition(samples, harmonics):
    x, (low, high), tolerance = noise(samples, snapshots=10), (0.3, 0.9), 0.03
    made = found([EnvelopeOrders(samples, SKF6205, SPEED, [low, high], harmonics=harmonics, tolerance=tolerance)], x)
    energy, f = spectrum(envelope(x, low, high)), np.arange(samples // 2 + 1)[:, None] * RATE / samples
    wanted = [h * SKF6205.orders()[name] * SPEED / 60 for name in FAULTS for h in range(1, harmonics + 1)]
    for k, at in enumerate(wanted):
        inside = np.abs(f - at) <= max(tolerance * at, 2 * RATE / samples)
        want = np.sqrt(2 * (energy * inside).sum(1)) if at >= RATE / samples else np.full((len(x), 2), np.nan)
        assert np.allclose(made[:, k], want, rtol=1e-5, equal_nan=True)


def test_the_envelope_is_the_magnitude_of_the_analytic_signal_at_each_moment():
    x, samples = noise(1000), 1000
    series = argument(Tensor(np.float64, ("asset", 2, samples)))
    spectrum = Spectrum(Window(series, const(np.ones((1, 1, samples))), samples), np.full(2, RATE))
    share = spectrum.frequency / spectrum.nyquist
    graph = session(build({"x": series}, {"y": spectrum.envelope((share >= 0.2) & (share < 0.7)).x}).SerializeToString())
    made = graph.run(None, {"x": x.transpose(0, 2, 1).astype(float)})[0]
    assert np.allclose(made.transpose(0, 2, 1), envelope(x, 0.2, 0.7), rtol=0, atol=1e-11)


def swinging(at: np.ndarray, samples: int = 4096, depth: float = 0.5) -> np.ndarray:
    """A carrier of 3 kHz whose amplitude swings by `depth` around 2 at these frequencies [snapshot], float32 [snapshot, sample, 1]."""
    t = np.arange(samples) / RATE
    return ((2 + depth * np.sin(2 * np.pi * at[:, None] * t)) * np.sin(2 * np.pi * 3000 * t)).astype(np.float32)[:, :, None]


@pytest.mark.parametrize("fault", ["bpfo", "bpfi"])
def test_an_amplitude_that_swings_at_a_fault_frequency_is_found_there_with_its_depth(fault):
    speeds = np.array([900.0, 1500.0, 1797.0, 2400.0])
    x = swinging(SKF6205.orders()[fault] * speeds / 60)
    kernel = EnvelopeOrders(4096, SKF6205, "rpm", orders=["bpfo", "bpfi"])
    made = found([kernel], x, tags=speeds[:, None].astype(np.float32))[:, :, 0]
    own, other = (made[:, 0], made[:, 1]) if fault == "bpfo" else (made[:, 1], made[:, 0])
    assert np.allclose(own, 0.5, atol=0.02) and (other < 0.03).all()
    constant = found([EnvelopeOrders(4096, SKF6205, speeds[1], orders=[fault])], x[1:2])
    assert np.isclose(constant[0, 0, 0], own[1], rtol=1e-6)  # a constant speed is the same as a channel that says it


def test_without_a_readable_speed_there_is_no_envelope_order():
    x, kernel = noise(1024, snapshots=5), EnvelopeOrders(1024, SKF6205, "rpm", orders=["bpfo"])
    speeds = np.array([[np.nan], [0.0], [-100.0], [1e6], [1797.0]], np.float32)
    made = found([kernel], x, tags=speeds)
    assert np.isnan(made[:4]).all() and np.isfinite(made[4]).all()


def every(samples: int) -> list[Kernel]:
    return [
        BandEnergy(samples, [[0, 0.4], [0.4, 1]]),
        EnvelopeOrders(samples, SKF6205, SPEED, orders=["bpfo", "bpfi"]),
        Centroid(samples),
        DominantFrequency(samples),
    ]


def test_a_missing_sample_costs_its_channel_and_no_other():
    x = noise(1024)
    whole = found(every(1024), x)
    x[1, 500, 0] = np.nan
    torn = found(every(1024), x)
    assert np.isnan(torn[1, :, 0]).all()
    torn[1, :, 0] = whole[1, :, 0]
    assert (torn == whole).all() and np.isfinite(whole).all()


@pytest.mark.parametrize("value", [0.0, 0.1, -1e4 / 3, 1e9, 3e-30])
def test_a_constant_window_has_no_energy_and_no_frequency(value):
    x = np.full((2, 1000, 2), value, np.float32)
    made = found(every(1000), x)
    assert (made[:, :4] == 0).all() and np.isnan(made[:, 4:]).all()


def test_an_offset_is_no_energy_and_one_spike_leaves_numbers():
    x = noise(1024)
    assert np.allclose(found(every(1024), np.round(x * 256) / 256 + 4096), found(every(1024), np.round(x * 256) / 256), rtol=1e-5)
    x[0, 300, 0] = 1e9
    assert np.isfinite(found(every(1024), x)).all()


@pytest.mark.parametrize("samples", [60, 2048])
def test_a_snapshot_does_not_depend_on_those_beside_it(samples):
    x = noise(samples, snapshots=70)
    snapshot = Snapshot([k for k in every(samples) if samples > 500 or not isinstance(k, EnvelopeOrders)], samples, RATE)
    whole = snapshot.reduce(x)
    assert all((snapshot.reduce(x[i : i + 1]) == whole[i]).all() for i in range(70))
    assert (snapshot.reduce(x[::-1]) == whole[::-1]).all()


def test_kernels_of_one_window_share_its_transform():
    alone = [len(Snapshot([k], 2048, RATE).graph(1)) for k in every(2048)]
    assert len(Snapshot(every(2048), 2048, RATE).graph(1)) < sum(alone) - 2 * min(alone)
    assert max(alone) < 1_000_000  # bytes that travel in a bundle


def test_over_ticks_they_are_the_same_offline_and_step_by_step():
    features = plain([BandEnergy(16, [[0, 0.5], [0.5, 1]]), Centroid(16), DominantFrequency(12), EnvelopeOrders(20, Bearing(3, 1, 5), 6.0)])
    rng = np.random.default_rng(0)
    histories = [rng.normal(size=(n, 2)).astype(np.float32) for n in (1, 15, 16, 40)]
    histories[3][rng.random((40, 2)) < 0.03] = np.nan
    histories[2][:, 1] = 0.25
    table = features.table(frame({f"P{i}": h for i, h in enumerate(histories)}))
    assert same(walk(Graph(features), histories).flat, table).all()
    column = features.names_.index("centroid16:a")
    assert np.isnan(table[: 1 + 15, column]).all() and np.isfinite(table[1 + 15 + 15, column])  # the first history of 16 ticks


REFUSED = {
    "a short window": lambda: Centroid(3),
    "a window that cannot be split": lambda: BandEnergy(2053, [[0, 1]]),
    "no bands": lambda: BandEnergy(64, []),
    "a band the wrong way round": lambda: BandEnergy(64, [[0.5, 0.2]]),
    "a share above one": lambda: BandEnergy(64, [[0.5, 2]]),
    "another unit": lambda: BandEnergy(64, [[0, 1]], "rpm"),
    "a band between two bins": lambda: found([BandEnergy(64, [[0.01, 0.02]])], noise(64)),
    "a band beyond the Nyquist frequency": lambda: found([BandEnergy(64, [[7000, 8000]], "Hz")], noise(64)),
    "no speed": lambda: EnvelopeOrders(64, SKF6205, 0.0),
    "an unknown order": lambda: EnvelopeOrders(64, SKF6205, SPEED, orders=["bpf"]),
    "a ball as large as the bearing": lambda: Bearing(9, 2.0, 1.5),
    "no tolerance at all": lambda: EnvelopeOrders(64, SKF6205, SPEED, tolerance=-0.1),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_meant_is_refused_with_a_way_out(what):
    with pytest.raises(UsageError, match="->|at least"):
        REFUSED[what]()


@pytest.mark.real_data("cwru")
def test_a_real_bearing_swings_at_the_frequency_of_its_own_fault(data_root):
    from scipy.io import loadmat

    folder, medians = data_root / "cwru" / "12k_Drive_End", {}
    for fault, file, name in (("OR", "OR/007/@6/130@6_0.mat", "X130_DE_time"), ("IR", "IR/007/105_0.mat", "X105_DE_time")):
        signal = loadmat(folder / file, variable_names=[name])[name].ravel()
        x = signal[: len(signal) // 4096 * 4096].reshape(-1, 4096, 1).astype(np.float32)
        medians[fault] = np.median(found([EnvelopeOrders(4096, SKF6205, 1797.0, orders=["bpfo", "bpfi"])], x)[:, :, 0], axis=0)
    assert medians["OR"][0] > 5 * medians["OR"][1] and medians["IR"][1] > 2 * medians["IR"][0]
    assert medians["OR"][0] > 5 * medians["IR"][0] and medians["IR"][1] > 2 * medians["OR"][1]
