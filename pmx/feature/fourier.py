"""The discrete Fourier transform as step-graph nodes: matrix products with constants that grow with the length, not with its square.

A length N = A B is split once (Cooley and Tukey: An algorithm for the machine calculation of complex Fourier series, Mathematics of
Computation 19, 1965): transforms of A values, every B-th of the series, a turn of each result, then transforms of B of those.
"""

from __future__ import annotations

import numpy as np
import spox.opset.ai.onnx.v20 as op
from spox import Var

from pmx.contract import UsageError
from pmx.feature.view import const, cut

DENSE = 64  # up to here one product with the whole matrix is no slower
LARGEST = 256  # of a factor: its matrix takes 2 MB


class Fourier:
    """The transform along the last axis, of series float64 [asset, channel, time].

    ONNX has an operator for it, DFT; where a length is no power of two, onnxruntime 1.31 loses three digits with it and is slow.

    Args:
        samples: N; one of its divisors should lie near its square root, as those of 2,048 or 2,560 do.

    Example:
        >>> Fourier(2048).parts, Fourier(60).parts
        ((64, 32), (60, 1))
        >>> Fourier(2053)
        Traceback (most recent call last):
        pmx.contract.UsageError: a spectrum of 2,053 values cannot be split into short ones -> take 2,052
    """

    def __init__(self, samples: int) -> None:
        self.samples, self.parts = samples, _parts(samples)
        if self.parts[0] > LARGEST:
            near = next(n for n in range(samples - 1, 0, -1) if _parts(n)[0] <= min(LARGEST, 4 * n**0.5))
            raise UsageError(f"a spectrum of {samples:,} values cannot be split into short ones -> take {near:,}")

    def real(self, x: Var) -> tuple[Var, Var]:
        """Real and imaginary part at the frequencies 0 to N // 2, each float64 [asset, channel, bin], of a real series."""
        a, b = self.parts
        half = a // 2 + 1  # the other results of the first stage are conjugates of these
        angle = _angles(a)[:half]
        both = self._second(op.matmul(const(np.concatenate([np.cos(angle), -np.sin(angle)])), self._folded(x)), half)
        k = np.arange(self.samples // 2 + 1)
        mirrored = k % a >= half
        source = np.where(mirrored, -k % self.samples, k)
        at = source % a * 2 * b + source // a
        sign = np.where(mirrored, -1.0, 1.0)
        return op.gather(both, op.const(at), axis=2), op.mul(op.gather(both, op.const(at + b), axis=2), const(sign))

    def complex(self, re: Var, im: Var) -> tuple[Var, Var]:
        """Both parts at all N frequencies, each float64 [asset, channel, bin], of the series re + i im."""
        a, b = self.parts
        both = self._second(op.matmul(const(_stacked(_angles(a))), op.concat([self._folded(re), self._folded(im)], axis=2)), a)
        k = np.arange(self.samples)
        at = k % a * 2 * b + k // a
        return op.gather(both, op.const(at), axis=2), op.gather(both, op.const(at + b), axis=2)

    def _folded(self, x: Var) -> Var:
        """[asset, channel, A, B]: the first stage runs along A, over every B-th value."""
        return op.reshape(x, op.const([0, 0, *self.parts]))

    def _second(self, parts: Var, width: int) -> Var:
        """The turn and the second stage of [asset, channel, 2 width, B], real parts above the imaginary ones: [asset, channel, width 2 B]."""
        b = self.parts[1]
        re, im = cut(parts, 0, width, 2), cut(parts, width, 2 * width, 2)
        turn = 2 * np.pi * np.outer(np.arange(width), np.arange(b)) / self.samples
        cosine, sine = const(np.cos(turn)), const(np.sin(turn))
        turned = [op.add(op.mul(re, cosine), op.mul(im, sine)), op.sub(op.mul(im, cosine), op.mul(re, sine))]
        both = op.matmul(op.concat(turned, axis=3), const(_stacked(_angles(b)).T)) if b > 1 else op.concat([re, im], axis=3)
        return op.reshape(both, op.const([0, 0, -1]))


def _parts(samples: int) -> tuple[int, int]:
    """The two factors of a length, the larger one first: those closest to its root, or the length itself where it is short."""
    if samples <= DENSE:
        return samples, 1
    b = max(d for d in range(1, int(samples**0.5) + 1) if samples % d == 0)
    return samples // b, b


def _angles(n: int) -> np.ndarray:
    """float64 [frequency, time]; multiples of a whole turn are taken off before, so that no digits are lost."""
    return 2 * np.pi * (np.outer(np.arange(n), np.arange(n)) % n) / n


def real_matrix(n: int) -> np.ndarray:
    """The transform of a real series as a matrix [time, 2 bin]: real parts at the frequencies 0 to N // 2, then imaginary ones."""
    angle = _angles(n)[:, : n // 2 + 1]
    return np.concatenate([np.cos(angle), -np.sin(angle)], axis=1)


def _stacked(angle: np.ndarray) -> np.ndarray:
    """The transform as one real matrix, for real parts above imaginary ones."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.block([[cosine, sine], [-sine, cosine]])
