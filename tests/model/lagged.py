"""A made-up plant whose channels follow two hidden loads, as lag vectors; and what can go wrong with it."""

import numpy as np
import onnxruntime
from spox import Tensor, argument, build

from pmx.model import Model

CHANNELS, LAGS = 6, 3
WIDTH = CHANNELS * LAGS


def readings(seed: int = 0, assets: int = 6, ticks: int = 150) -> np.ndarray:
    """Normalised readings float64 [asset, time, channel]; the channels 0 and 3, 1 and 4, 2 and 5 go together; 2 is their common load."""
    rng = np.random.default_rng(seed)
    load = rng.normal(size=(assets, ticks + 5, 2))
    load = load[:, :-5] + load[:, 1:-4] + load[:, 2:-3]  # moves slowly
    mix = np.array([[1, 0, 0.7, 1, 0, 0.7], [0, 1, 0.7, 0, 1, 0.7]])
    return (load @ mix) / np.sqrt(3) + 0.15 * rng.normal(size=(assets, ticks, CHANNELS))


def vectors(z: np.ndarray, lags: int = LAGS) -> np.ndarray:
    """Lag vectors float32 [row, lags * channel] of readings float64 [asset, time, channel]; NaN before an asset's first tick."""
    padded = np.concatenate([np.full((len(z), lags - 1, z.shape[2]), np.nan), z], axis=1)
    parts = [padded[:, lags - 1 - lag : padded.shape[1] - lag] for lag in range(lags)]
    return np.concatenate(parts, axis=2).reshape(-1, lags * z.shape[2]).astype(np.float32)


def names(z: np.ndarray) -> np.ndarray:
    return np.repeat([f"P{i}" for i in range(len(z))], z.shape[1])


def decorrelated(z: np.ndarray, channel: int = 4, seed: int = 9) -> np.ndarray:
    """The same where one channel follows another plant: its own values look normal."""
    odd = z.copy()
    odd[..., channel] = readings(seed, *z.shape[:2])[..., channel]
    return odd


def shifted(z: np.ndarray, channel: int = 1, by: float = 2.0) -> np.ndarray:
    odd = z.copy()
    odd[..., channel] += by
    return odd


def separation(normal: np.ndarray, odd: np.ndarray) -> float:
    """Chance that an odd score is higher than a normal one, 0.5 = the score knows nothing (the area under the ROC curve)."""
    normal, odd = normal[~np.isnan(normal)], odd[~np.isnan(odd)]
    return float((np.searchsorted(np.sort(normal), odd, side="left") / len(normal)).mean())


def graph_of(model: Model, width: int = WIDTH) -> bytes:
    x = argument(Tensor(np.float32, ("asset", width)))
    return build({"x": x}, {"y": model.to_onnx(x)}).SerializeToString(deterministic=True)


def run(graph: bytes, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options).run(None, {"x": x})[0]


def inner_losses(monkeypatch, callback: type, hook: str) -> list[float]:
    """The inner losses that a training callback is told of at its hook, as they come."""
    losses: list[float] = []
    honest = getattr(callback, hook)

    def spy(self, trainer, module):
        losses.append(float(trainer.callback_metrics["inner_loss"]))
        honest(self, trainer, module)

    monkeypatch.setattr(callback, hook, spy)
    return losses
