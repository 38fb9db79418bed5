"""A stand-in for a snapshot that needs no graph."""

from collections.abc import Sequence

import numpy as np

from pmx.contract import Channel


class RootMeanSquare:
    """The root mean square of each waveform, in numpy: what a source needs of a snapshot, and no more."""

    def __init__(self, samples: int, rate: float, tags: tuple[str, ...] = ()) -> None:
        self.samples, self.rate, self.tags = samples, rate, tags

    def names(self, channels: Sequence[str]) -> list[str]:
        return [f"{c}_rms" for c in channels]

    def channels(self, waves: Sequence[Channel]) -> tuple[Channel, ...]:
        return tuple(Channel(f"{w.name}_rms", w.unit) for w in waves)

    def reduce(self, waves: np.ndarray, tags: np.ndarray | None = None) -> np.ndarray:
        assert (tags is None) == (not self.tags)
        whole = np.sqrt((waves.astype(np.float64) ** 2).mean(1))
        return (whole if tags is None else whole / tags).astype(np.float32)

    def graph(self, channels: int) -> bytes:
        return b""
