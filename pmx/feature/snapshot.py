"""Snapshots: a waveform per tick becomes the values of some tick channels, by the same kernels and by a graph that ships."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import onnx
import onnxruntime
import spox.opset.ai.onnx.v20 as op
from spox import Tensor, argument, build

from pmx.contract import Channel, UsageError
from pmx.edge.step import session
from pmx.edge.wave import run
from pmx.feature.kernel import Kernel, shares_of
from pmx.feature.spectral import EnvelopeOrders
from pmx.feature.view import View


class Snapshot:
    """Reduces waveforms to named tick channels: `drive_end` through `Rms(2048)` becomes `drive_end_rms`, in the kernel's unit.

    A kernel sees the samples as they are, in the channel's unit; its window is the whole snapshot. A kernel's rule for missing values
    holds for missing samples. Nothing is learnt: the same graph reduces in training and on a device.

    Args:
        kernels: window kernels, each over all `samples`.
        samples: of one waveform.
        rate: samples a second, in Hz.

    Example:
        >>> from pmx.feature.kernel import Deviation
        >>> snapshot = Snapshot([Deviation(4)], samples=4, rate=100.0)
        >>> snapshot.names(["drive_end"]), snapshot.reduce(np.array([[[1.0], [-1.0], [1.0], [-1.0]]], np.float32)).round(3).tolist()
        (['drive_end_deviation'], [[1.1549999713897705]])
    """

    def __init__(self, kernels: list[Kernel], samples: int, rate: float) -> None:
        if samples < 1 or not 0 < rate < float("inf"):
            raise UsageError(f"snapshot: {samples} samples at {rate} Hz -> both must be above 0")
        if not kernels:
            raise UsageError("snapshot.kernels: empty -> name what a waveform is reduced to")
        for kernel in kernels:
            if kernel.rows != samples:
                how = f"give it window: {samples}, all of a snapshot"
                raise UsageError(f"snapshot.kernels: {kernel.label} reads {kernel.rows:,} samples of {samples:,} -> {how}")
            if kernel.reads_age or kernel.slots(1):
                raise UsageError(f"snapshot.kernels: {kernel.label} carries memory from tick to tick -> put it into the features instead")
        self.kernels, self.samples, self.rate = list(kernels), samples, float(rate)
        speeds = [k.speed for k in kernels if isinstance(k, EnvelopeOrders)]
        self.tags = tuple(dict.fromkeys(s for s in speeds if isinstance(s, str)))
        self._graphs: dict[int, bytes] = {}

    def names(self, channels: Sequence[str]) -> list[str]:
        """Names of the tick channels that it makes of these wave channels, in order."""
        made = [self._name(n) for kernel in self.kernels for n in kernel.names(list(channels))]
        if twice := sorted({n for n in made if made.count(n) > 1}):
            raise UsageError(f"snapshot.kernels: {', '.join(twice)} would be made twice -> name each kernel and each channel once")
        return made

    def _name(self, feature: str) -> str:
        """`rms2048:drive_end` -> `drive_end_rms`: the window is the snapshot, so its length says nothing."""
        what, _, channel = feature.partition(":")
        what = re.sub(rf"(?<![0-9.]){self.samples}(?![0-9.])", "", what, count=1)
        return f"{channel}_{what}" if channel else what

    def channels(self, waves: Sequence[Channel]) -> tuple[Channel, ...]:
        """The tick channels that it makes of these wave channels: name and unit, for the contract of the ticks."""
        for wave in waves:
            if wave.rate != self.rate:
                raise UsageError(
                    f"channel {wave.name}: rate {wave.rate} Hz, the snapshot's is {self.rate:g} Hz -> resample it, or correct one"
                )
        names, unit = [w.name for w in waves], {w.name: w.unit for w in waves}
        made = [(n, k) for k in self.kernels for n in k.names(names)]
        units = [k.unit(unit.get(n.partition(":")[2], waves[0].unit)) for n, k in made]
        return tuple(Channel(n, u) for n, u in zip(self.names(names), units, strict=True))

    def reduce(self, waves: np.ndarray, tags: np.ndarray | None = None) -> np.ndarray:
        """Tick channels float32 [snapshot, tick channel] of waveforms float32 [snapshot, sample, channel], NaN = missing, and of tags
        float32 [snapshot, tag], computed by the graph that ships.
        """
        if waves.ndim != 3 or waves.shape[1] != self.samples:
            raise UsageError(f"waveforms of shape {waves.shape} -> [snapshot, sample, channel] with {self.samples:,} samples")
        if self.tags and (tags is None or tags.shape != (len(waves), len(self.tags))):
            raise UsageError(f"tags of shape {None if tags is None else tags.shape} -> [snapshot, tag] with {', '.join(self.tags)}")
        return run(_session(self.graph(waves.shape[2])), waves, tags if self.tags else None)

    def graph(self, channels: int) -> bytes:
        """The bytes of the ONNX graph for so many wave channels: `waves` float32 [snapshot, sample, channel] and, where it has tags,
        `tags` float32 [snapshot, tag] -> `ticks` float32 [snapshot, tick channel].
        """
        if channels not in self._graphs:
            self._graphs[channels] = self._build(channels)
        return self._graphs[channels]

    def _build(self, channels: int) -> bytes:
        waves = argument(Tensor(np.float32, ("snapshot", self.samples, channels)))
        tags = argument(Tensor(np.float32, ("snapshot", len(self.tags))))
        names = [str(i) for i in range(channels)]
        readings = op.unsqueeze(tags, op.const([1]))  # one of each holds for the whole snapshot
        rates = np.full(channels, self.rate)
        z, shares = op.cast(waves, to=np.float64), shares_of(self.kernels)
        view = View(z, self.samples, 1, op.const([1]), rates, names, readings, self.tags, shares=shares)
        ticks = op.concat([kernel.nodes(view, [])[0] for kernel in self.kernels], axis=1)
        model = build({"waves": waves} | ({"tags": tags} if self.tags else {}), {"ticks": op.cast(ticks, to=np.float32)})
        model.producer_name, model.producer_version = "pmx", ""
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString(deterministic=True)


@lru_cache(maxsize=8)
def _session(graph: bytes) -> onnxruntime.InferenceSession:
    """A session lives outside the snapshot, which stays plain data that can be copied."""
    return session(graph)
