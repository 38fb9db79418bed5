"""Kernels without a Polars path over a long history: the nodes of the step graph, over many windows in one call."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import onnxruntime
import spox.opset.ai.onnx.v20 as op
from spox import Tensor, argument, build

from pmx.edge.step import session
from pmx.feature.kernel import Kernel, shares_of
from pmx.feature.view import View

VALUES = 2**15  # of a block: the quickest size measured (a quarter of a MB); results do not depend on it


class Blocks:
    """Window kernels over the whole history of an asset, float32 [row, feature], bit for bit as in the step graph.

    Args:
        channels: names of the scores' columns.
        rates: float64 [channel], ticks a second in Hz.
        read: names of the columns of readings.

    Example:
        >>> from pmx.feature.statistic import Rms
        >>> Blocks([Rms(2)], ["flow"], np.ones(1)).table(np.array([[1.0], [7.0]])).tolist()
        [[1.0], [5.0]]
    """

    def __init__(self, kernels: Sequence[Kernel], channels: Sequence[str], rates: np.ndarray, read: Sequence[str] = ()) -> None:
        self.kernels, self.channels, self.rates, self.read = list(kernels), list(channels), rates, list(read)
        self.rows = max(k.rows for k in kernels)

    def table(self, scores: np.ndarray, readings: np.ndarray | None = None, values: int = VALUES) -> np.ndarray:
        """Features of all ticks of one asset.

        Args:
            scores: float64 [tick, channel], NaN = missing.
            readings: float32 [tick, reading], where kernels read any.
            values: at most so many scores in one call, and at least one window.
        """
        graph = _graph(tuple(self.kernels), tuple(self.channels), tuple(self.rates), tuple(self.read))
        inputs = {"z": _windows(scores, self.rows)} | ({"readings": _windows(readings, self.rows)} if readings is not None else {})
        size = max(1, values // (self.rows * len(self.channels)))
        out = np.empty((len(scores), sum(len(k.names(self.channels)) for k in self.kernels)), np.float32)
        run = _session(graph)
        for at in range(0, len(scores), size):
            fed = {name: np.ascontiguousarray(windows[at : at + size].transpose(0, 2, 1)) for name, windows in inputs.items()}
            out[at : at + size] = run.run(None, fed)[0]
        return out


@lru_cache(maxsize=64)
def _graph(kernels: tuple[Kernel, ...], channels: tuple[str, ...], rates: tuple[float, ...], read: tuple[str, ...]) -> bytes:
    """The graph of these very kernels: it is the same for all feature sets that hold them."""
    rows = max(k.rows for k in kernels)
    z = argument(Tensor(np.float64, ("row", rows, len(channels))))
    readings = argument(Tensor(np.float32, ("row", rows, len(read))))
    given = {"z": z} | ({"readings": readings} if read else {})
    view = View(z, rows, 1, op.const([1]), np.array(rates), channels, readings, read, shares=shares_of(kernels))
    features = [k.nodes(view, [])[0] for k in kernels]
    model = build(given, {"features": op.cast(op.concat(features, axis=1), to=np.float32)})
    return model.SerializeToString(deterministic=True)


def _windows(history: np.ndarray, rows: int) -> np.ndarray:
    """A view [tick, column, time] of the window that ends with each tick of [tick, column]; before the first tick there is nothing."""
    nothing = np.full((rows - 1, history.shape[1]), np.nan, history.dtype)
    return np.lib.stride_tricks.sliding_window_view(np.concatenate([nothing, history]), rows, axis=0)


@lru_cache(maxsize=16)
def _session(graph: bytes) -> onnxruntime.InferenceSession:
    """A session lives outside the feature set, which stays plain data that can be copied."""
    return session(graph)
