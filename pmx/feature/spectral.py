"""Spectral kernels: energies of bands, centroid, dominant frequency, and the envelope at a bearing's fault frequencies.

A window of N samples x loses its mean and is weighted by the periodic Hann window w; X is its discrete Fourier transform, f = k rate / N for
k = 0 to N // 2. The energy of a bin is 2 |X|² / (N Σw²), half of that at 0 and at the Nyquist frequency, so that a sine of amplitude A has
A²/2 in all, and energies add up to Σ(wx)² / Σw² (Parseval). Rates come from the view: samples a second, or cycles per tick where ticks have no
seconds. Degenerate rules: a window with a missing value, or a history shorter than it, gives NaN; a constant window has energies and
envelopes of exactly 0, and neither a centroid nor a dominant frequency (NaN).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import cos, radians
from weakref import WeakKeyDictionary

import numpy as np
import spox.opset.ai.onnx.v20 as op
from spox import Var

from pmx.contract import UsageError
from pmx.feature.fourier import Fourier, real_matrix
from pmx.feature.kernel import Kernel
from pmx.feature.view import View, Window, const, cut, total

WHOLE = 128  # values of a window up to which one product with a matrix of 135 kB is quicker than a split transform and its taper
LOBE = 2.0  # bins on each side of a frequency that hold what the Hann window spreads of it
FAULTS = ("bpfo", "bpfi", "bsf", "ftf")


class Spectrum:
    """The one-sided spectrum of a complete window, float64 [asset, channel, bin], shared by all kernels that read it.

    Args:
        window: of N values.
        rates: float64 [channel].
    """

    def __init__(self, window: Window, rates: np.ndarray) -> None:
        self.samples, self.rates = window.rows, rates
        # values are float32, so that sums of equal ones are exact: what is constant is exactly 0 here
        self._x = window.distance
        self.frequency = np.arange(self.samples // 2 + 1) * rates[:, None] / self.samples  # float64 [channel, bin]
        self.nyquist = rates[:, None] / 2

    @cached_property
    def _bins(self) -> tuple[Var, Var]:
        """Real and imaginary part of the transform, without the Hann window."""
        return Fourier(self.samples).real(self._x)

    @cached_property
    def _sides(self) -> np.ndarray:
        """float64 [bin]: 1 at 0 and at the Nyquist frequency, which are their own mirror images, 2 between them."""
        return np.where(2 * np.arange(self.samples // 2 + 1) % self.samples == 0, 1.0, 2.0)

    @cached_property
    def energy(self) -> Var:
        """Energy of each bin, in squared units of the series."""
        bins, n = self.samples // 2 + 1, self.samples
        scale = self._sides / (0.375 * n**2)  # Σw² = 3N/8
        if n <= WHOLE:
            parts = op.matmul(self._x, const(_hann(n)[:, None] * real_matrix(n) * np.sqrt(np.tile(scale, 2))))
            square = op.mul(parts, parts)
            return op.add(cut(square, 0, bins, 2), cut(square, bins, 2 * bins, 2))
        squares = []
        for part, mirrored in zip(self._bins, (1.0, -1.0), strict=True):
            # the bins beyond the ends are conjugates of those inside
            ends = [op.mul(cut(part, at, at + 1, 2), const(mirrored)) for at in (1, n - bins)]
            beside = op.add(op.concat([ends[0], cut(part, 0, bins - 1, 2)], axis=2), op.concat([cut(part, 1, bins, 2), ends[1]], axis=2))
            # weighting by the Hann window is a sum over a bin and its neighbours: the kernels share one transform
            tapered = op.sub(op.mul(part, const(0.5)), op.mul(beside, const(0.25)))
            squares.append(op.mul(tapered, tapered))
        return op.mul(op.add(*squares), const(scale))

    @cached_property
    def whole(self) -> Var:
        """Sums of energies times frequencies, and of energies, float64 [asset, channel, 2]."""
        return self.sums([self.frequency, np.ones_like(self.frequency)])

    def sums(self, masks: list[np.ndarray]) -> Var:
        """Sums of energies times each of the masks [channel, bin], float64 [asset, channel, mask]."""
        if len(set(self.rates.tolist())) == 1:
            return total(self.energy, np.stack([mask[0] for mask in masks], 1))
        return op.concat([self.sum(const(mask)) for mask in masks], axis=2)

    def sum(self, mask: Var) -> Var:
        """Sum of energies times a mask [channel, bin] or [asset, channel, bin], float64 [asset, channel, 1]."""
        return op.matmul(op.mul(self.energy, mask), self._ones)

    @cached_property
    def _ones(self) -> Var:
        return const(np.ones((self.samples // 2 + 1, 1)))

    def apart(self, at: Var) -> Var:
        """How far each bin lies from a frequency [asset or 1, 1, 1], float64 [asset or 1, channel, bin]."""
        return op.abs(op.sub(self._grid, at))

    @cached_property
    def _grid(self) -> Var:
        return const(self.frequency)

    def envelope(self, band: np.ndarray) -> Window:
        """Magnitude of the analytic signal of a band; `band` bool [channel, bin] says which bins pass.

        The analytic signal has the positive frequencies alone, twice (Gabor: Theory of communication, Journal of the IEE 93, 1946).
        """
        weight = const(np.where(band, self._sides, 0.0) / self.samples)
        beyond = op.const([0, 0, 0, 0, 0, self.samples - len(self._sides)])
        re, im = (op.pad(op.mul(part, weight), beyond, const(0.0)) for part in self._bins)
        # the inverse transform is the conjugate of the transform of the conjugate, and a magnitude is the same for both
        re, im = Fourier(self.samples).complex(re, op.neg(im))
        magnitude = op.sqrt(op.add(op.mul(re, re), op.mul(im, im)))
        return Window(magnitude, const(np.ones((1, 1, self.samples))), self.samples)


# The kernels over one window share its spectrum. A window lives as long as its graph is built, and a spectrum does not hold it.
_SPECTRA: WeakKeyDictionary[Window, Spectrum] = WeakKeyDictionary()


def spectrum_of(view: View, window: int) -> Spectrum:
    """The spectrum of the view's last `window` rows, built once for all kernels."""
    shared = view.window(window)
    if shared not in _SPECTRA:
        _SPECTRA[shared] = Spectrum(shared, view.rates)
    return _SPECTRA[shared]


class Spectral(Kernel):
    """What the spectral kernels of a window share: it must be complete.

    Args:
        window: N, in samples of a snapshot or ticks.
    """

    def __init__(self, window: int) -> None:
        if window < 4:
            raise UsageError(f"window is {window}: a spectrum needs at least 4 values")
        Fourier(window)  # refuses a length that cannot be split
        self.window = window

    @property
    def rows(self) -> int:
        return self.window

    def _whole(self, view: View, value: Var) -> Var:
        """[asset, channel, feature] as [asset, feature * channel], feature by feature; NaN where the window is not complete."""
        flat = op.transpose(view.window(self.window).given(self.window, value), perm=[0, 2, 1])
        return op.reshape(flat, op.const([0, -1]))


class BandEnergy(Spectral):
    """Energy of the last `window` values in frequency bands, in the squared unit of the channel; see the module for its scale.

    A band takes the bins from `low` on and below `high`, and the Nyquist frequency where it ends there. Band by band, each for all channels.

    Args:
        window: N.
        bands: pairs of low and high.
        unit_of_bands: `nyquist` (shares of the Nyquist frequency, 0 to 1) or `Hz`.

    Example:
        >>> BandEnergy(256, [[0, 0.5], [0.5, 1]]).names(["casing"])
        ['band256_0_0.5:casing', 'band256_0.5_1:casing']
        >>> BandEnergy(256, [[500, 2000]], "Hz").unit("g")
        '(g)^2'
    """

    def __init__(self, window: int, bands: list[list[float]], unit_of_bands: str = "nyquist") -> None:
        super().__init__(window)
        if unit_of_bands not in ("nyquist", "Hz"):
            raise UsageError(f"unit_of_bands {unit_of_bands!r} is neither nyquist nor Hz -> nyquist for shares from 0 to 1")
        highest = 1.0 if unit_of_bands == "nyquist" else np.inf
        for band in bands:
            if len(band) != 2 or not 0 <= band[0] < band[1] <= highest:
                raise UsageError(f"bands: {list(band)} -> [low, high] with 0 <= low < high <= {highest:g}")
        if not bands:
            raise UsageError("bands: empty -> name at least one [low, high]")
        self.bands, self.unit_of_bands = [(float(low), float(high)) for low, high in bands], unit_of_bands

    @property
    def label(self) -> str:
        return f"band{self.window}"

    def names(self, channels: list[str]) -> list[str]:
        unit = "hz" if self.unit_of_bands == "Hz" else ""
        return [f"{self.label}_{low:g}_{high:g}{unit}:{c}" for low, high in self.bands for c in channels]

    def unit(self, channel: str) -> str:
        return f"({channel})^2"

    def nodes(self, view: View, memory: list[Var]) -> tuple[Var, list[Var]]:
        spectrum, masks = spectrum_of(view, self.window), []
        scale = spectrum.nyquist if self.unit_of_bands == "nyquist" else np.ones_like(spectrum.nyquist)
        for low, high in self.bands:
            mask = _inside(spectrum, low * scale, high * scale)
            if not mask.any(1).all():
                how = f"bins are {spectrum.frequency[0, 1]:g} Hz apart, up to {spectrum.nyquist.min():g} Hz"
                raise UsageError(
                    f"bands: no bin of a spectrum of {self.window} values lies in [{low:g}, {high:g}]; {how} -> widen or move it"
                )
            masks.append(mask.astype(float))
        return self._whole(view, spectrum.sums(masks)), []


class Centroid(Spectral):
    """Mean frequency of the last `window` values, weighted by energy, in Hz.

    Example:
        >>> Centroid(2048).names(["casing"]), Centroid(2048).unit("g")
        (['centroid2048:casing'], 'Hz')
    """

    @property
    def label(self) -> str:
        return f"centroid{self.window}"

    def unit(self, channel: str) -> str:
        return "Hz"

    def nodes(self, view: View, memory: list[Var]) -> tuple[Var, list[Var]]:
        spectrum = spectrum_of(view, self.window)
        # 0 / 0 of a constant window is the NaN that the rule wants
        return self._whole(view, op.div(cut(spectrum.whole, 0, 1, 2), cut(spectrum.whole, 1, 2, 2))), []


class DominantFrequency(Spectral):
    """Frequency of the bin with the largest energy among the last `window` values, in Hz; the lowest of equal ones. Its steps are rate / N.

    Example:
        >>> DominantFrequency(2048).names(["casing"])
        ['dominant2048:casing']
    """

    @property
    def label(self) -> str:
        return f"dominant{self.window}"

    def unit(self, channel: str) -> str:
        return "Hz"

    def nodes(self, view: View, memory: list[Var]) -> tuple[Var, list[Var]]:
        spectrum = spectrum_of(view, self.window)
        at = op.cast(op.arg_max(spectrum.energy, axis=2, keepdims=1), to=np.float64)
        found = op.mul(at, const(spectrum.frequency[:, 1:2]))
        there = op.greater(cut(spectrum.whole, 1, 2, 2), const(0.0))
        return self._whole(view, op.where(there, found, const(np.nan))), []


@dataclass(frozen=True)
class Bearing:
    """Geometry of a rolling bearing whose outer ring stands still.

    Fault frequencies in multiples of the shaft's speed, from Randall and Antoni: Rolling element bearing diagnostics - a tutorial,
    Mechanical Systems and Signal Processing 25, 2011, equations 1 to 4. They assume rolling without slip; real ones lie 1 to 2 % off.

    Attributes:
        balls: number of rolling elements.
        ball_diameter, pitch_diameter: in the same unit.
        contact_angle: in degrees.

    Example:
        >>> {name: round(order, 4) for name, order in Bearing(9, 0.3126, 1.537).orders().items()}
        {'bpfo': 3.5848, 'bpfi': 5.4152, 'bsf': 2.3567, 'ftf': 0.3983}
    """

    balls: int
    ball_diameter: float
    pitch_diameter: float
    contact_angle: float = 0.0

    def __post_init__(self) -> None:
        if self.balls < 2 or not 0 < self.ball_diameter < self.pitch_diameter or not 0 <= self.contact_angle < 90:
            raise UsageError(f"{self} -> at least 2 balls, 0 < ball_diameter < pitch_diameter, contact_angle from 0 to 90 degrees")

    def orders(self) -> dict[str, float]:
        """`bpfo` a point of the outer ring is passed, `bpfi` of the inner ring, `bsf` a ball spins (its fault strikes twice in each spin:
        the second harmonic), `ftf` the cage turns; each in multiples of the shaft's speed.
        """
        ratio = self.ball_diameter / self.pitch_diameter * cos(radians(self.contact_angle))
        spin = self.pitch_diameter / (2 * self.ball_diameter) * (1 - ratio**2)
        return {"bpfo": self.balls / 2 * (1 - ratio), "bpfi": self.balls / 2 * (1 + ratio), "bsf": spin, "ftf": (1 - ratio) / 2}


class EnvelopeOrders(Spectral):
    """Amplitude of the envelope of a band at a bearing's fault frequencies, in the unit of the channel.

    The last `window` values pass a band, the magnitude of their analytic signal is the envelope, and its spectrum is read within
    `tolerance` of a fault frequency, at least within two bins: √(2 Σ energy), the amplitude where the envelope swings as one sine. NaN
    where the speed is missing or not above 0, or where the frequency lies below one bin or above the Nyquist frequency.

    Args:
        window: N.
        geometry: of the bearing.
        speed: of the shaft, in rpm, or the name of the channel that says so; its newest reading holds for the whole window.
        band: low and high of the pass band, as shares of the Nyquist frequency.
        orders: among `bpfo`, `bpfi`, `bsf` and `ftf`.
        harmonics: so many multiples of each order.
        tolerance: as a share of the frequency, for slip.

    Example:
        >>> EnvelopeOrders(2048, Bearing(9, 0.3126, 1.537), 1797.0, orders=["bpfo"], harmonics=2).names(["casing"])
        ['envelope2048_bpfo:casing', 'envelope2048_2bpfo:casing']
    """

    def __init__(
        self,
        window: int,
        geometry: Bearing,
        speed: float | str,
        band: list[float] | tuple[float, float] = (0.25, 0.95),
        orders: list[str] | tuple[str, ...] = FAULTS,
        harmonics: int = 1,
        tolerance: float = 0.02,
    ) -> None:
        super().__init__(window)
        if not isinstance(speed, str) and not 0 < speed < np.inf:
            raise UsageError(f"speed is {speed} -> rpm above 0, or the name of a channel")
        if len(band) != 2 or not 0 <= band[0] < band[1] <= 1:
            raise UsageError(f"band: {list(band)} -> [low, high] with 0 <= low < high <= 1, shares of the Nyquist frequency")
        if not orders or not set(orders) <= set(FAULTS) or len(set(orders)) < len(orders):
            raise UsageError(f"orders: {list(orders)} -> each once, among {', '.join(FAULTS)}")
        if harmonics < 1 or not 0 <= tolerance < 0.5:
            raise UsageError(f"harmonics {harmonics}, tolerance {tolerance} -> at least 1, and a share from 0 to 0.5")
        self.geometry, self.speed, self.band = geometry, speed, (float(band[0]), float(band[1]))
        self.orders, self.harmonics, self.tolerance = list(orders), harmonics, tolerance

    @property
    def label(self) -> str:
        return f"envelope{self.window}"

    def _multiples(self) -> dict[str, float]:
        """Name -> multiple of the shaft's speed."""
        whole = self.geometry.orders()
        return {f"{h if h > 1 else ''}{order}": h * whole[order] for order in self.orders for h in range(1, self.harmonics + 1)}

    def names(self, channels: list[str]) -> list[str]:
        return [f"{self.label}_{name}:{c}" for name in self._multiples() for c in channels]

    def nodes(self, view: View, memory: list[Var]) -> tuple[Var, list[Var]]:
        spectrum = spectrum_of(view, self.window)
        low, high = (share * spectrum.nyquist for share in self.band)
        envelope = Spectrum(spectrum.envelope(_inside(spectrum, low, high)), view.rates)
        turns, width = op.div(self._speed(view), const(60.0)), spectrum.frequency[:, 1:2]
        features = []
        for multiple in self._multiples().values():
            at = op.mul(turns, const(multiple))  # [asset or 1, 1, 1]
            reach = op.max([op.mul(at, const(self.tolerance)), const(LOBE * width)])
            inside = op.less_or_equal(envelope.apart(at), reach)
            amplitude = op.sqrt(op.mul(const(2.0), envelope.sum(op.cast(inside, to=np.float64))))
            readable = op.and_(op.greater_or_equal(at, const(width)), op.less_or_equal(at, const(spectrum.nyquist)))
            features.append(op.where(readable, amplitude, const(np.nan)))
        return self._whole(view, op.concat(features, axis=2)), []

    def _speed(self, view: View) -> Var:
        """The newest one, in rpm, float64 [asset or 1, 1, 1]."""
        if not isinstance(self.speed, str):
            return const([[[self.speed]]])
        newest = op.gather(view.reading(self.speed), op.const([-1]), axis=1)
        return op.unsqueeze(newest, op.const([1]))


def _hann(n: int) -> np.ndarray:
    """The periodic Hann window, float64 [time]."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)


def _inside(spectrum: Spectrum, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """bool [channel, bin]: bins from `low` on and below `high`, both [channel, 1]; the last one too where the band ends at the Nyquist frequency."""
    f = spectrum.frequency
    return (f >= low) & ((f < high) | (f == high) & (high == spectrum.nyquist))
