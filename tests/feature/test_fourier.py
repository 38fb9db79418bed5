"""The transform in a graph is the transform: numpy's numbers at every length, none of them from a neighbour in the batch."""

import numpy as np
import pytest
import spox.opset.ai.onnx.v20 as op
from hypothesis import given, settings
from hypothesis import strategies as st
from spox import Tensor, argument, build

from pmx.contract import UsageError
from pmx.edge.step import session
from pmx.feature.fourier import LARGEST, Fourier


def transformed(samples: int, x: np.ndarray, y: np.ndarray | None = None) -> np.ndarray:
    """complex [asset, channel, bin] of x, or of x + iy, both float64 [asset, channel, time]."""
    re, im = argument(Tensor(np.float64, ("asset", x.shape[1], samples))), argument(Tensor(np.float64, ("asset", x.shape[1], samples)))
    fourier = Fourier(samples)
    parts = fourier.real(re) if y is None else fourier.complex(re, im)
    inputs = {"re": re} if y is None else {"re": re, "im": im}
    graph = session(build(inputs, {"both": op.concat([op.unsqueeze(p, op.const([0])) for p in parts], axis=0)}).SerializeToString())
    both = graph.run(None, {"re": x} if y is None else {"re": x, "im": y})[0]
    return both[0] + 1j * both[1]


@settings(max_examples=15, deadline=None)
@given(samples=st.integers(4, 600), seed=st.integers(0, 999))
def test_the_transform_is_that_of_numpy(samples, seed):
    try:
        Fourier(samples)
    except UsageError:
        return
    x, y = np.random.default_rng(seed).normal(size=(2, 2, 3, samples))
    assert np.allclose(transformed(samples, x), np.fft.rfft(x), rtol=0, atol=1e-11 * samples)
    assert np.allclose(transformed(samples, x, y), np.fft.fft(x + 1j * y), rtol=0, atol=1e-11 * samples)


@pytest.mark.parametrize("samples", [1000, 2048, 2560])
def test_a_long_series_keeps_its_digits_and_does_not_see_the_batch(samples):
    x = np.random.default_rng(1).normal(size=(9, 2, samples))
    found = transformed(samples, x)
    assert np.abs(found - np.fft.rfft(x)).max() < 1e-11
    assert all((transformed(samples, x[i : i + 1]) == found[i]).all() for i in range(9))


@pytest.mark.parametrize("samples", [2053, 2 * 521])
def test_a_length_whose_matrix_would_be_large_is_refused_with_one_that_will_do(samples):
    with pytest.raises(UsageError, match="-> take") as told:
        Fourier(samples)
    near = int(str(told.value).rpartition(" ")[2].replace(",", ""))
    assert near < samples and Fourier(near).parts[0] <= LARGEST
