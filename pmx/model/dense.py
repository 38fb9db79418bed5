"""Dense networks: trained in float32 by Lightning, then kept as plain layers that numpy and ONNX evaluate in float64.

Evaluating in float64 on both paths makes the result independent of the batch it was computed in, to float32 rounding:
float32 matrix products differ between a batch of 1 and a batch of 32.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytorch_lightning as lightning
import spox.opset.ai.onnx.v20 as op
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from spox import Var
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, TensorDataset

from pmx.contract import DataError
from pmx.model.epochs import trainer_of, training
from pmx.model.weight import rounded, weight_node

BATCH = 256  # rows in a step
LIMIT = 5.0  # a standardised feature never exceeds this: a spike must not throw a network off


@dataclass(frozen=True)
class Layers:
    """A fitted dense network: standardise, clip, replace missing by the mean, then linear layers with ReLU between them.

    Attributes:
        mean, scale: float64 [feature].
        weight, bias: per layer, float64 [in, out] and [out].
    """

    mean: np.ndarray
    scale: np.ndarray
    weight: tuple[np.ndarray, ...]
    bias: tuple[np.ndarray, ...]

    def inputs(self, x: np.ndarray) -> np.ndarray:
        """Standardised inputs, float64 [row, feature], of features float32 [row, feature]."""
        z = np.clip((x.astype(np.float64) - self.mean) / self.scale, -LIMIT, LIMIT)
        return np.where(np.isnan(z), 0.0, z)

    def forward(self, z: np.ndarray) -> np.ndarray:
        """float64 [row, out] of standardised inputs."""
        for i, (w, b) in enumerate(zip(self.weight, self.bias, strict=True)):
            z = z @ w + b
            z = z if i == len(self.weight) - 1 else np.maximum(z, 0.0)
        return z

    def input_nodes(self, features: Var) -> Var:
        z = op.div(op.sub(op.cast(features, to=np.float64), op.const(self.mean)), op.const(self.scale))
        missing = op.isnan(z)
        z = op.max([op.min([op.where(missing, op.const(0.0, np.float64), z), op.const(LIMIT, np.float64)]), op.const(-LIMIT, np.float64)])
        return z

    def nodes(self, z: Var) -> Var:
        for i, (w, b) in enumerate(zip(self.weight, self.bias, strict=True)):
            z = op.add(op.matmul(z, weight_node(w)), op.const(b))
            z = z if i == len(self.weight) - 1 else op.relu(z)
        return z

    def rounded(self) -> Layers:
        """The same with weights that are int8 times a scale of each output."""
        return replace(self, weight=tuple(rounded(w) for w in self.weight))


class _Best(Callback):
    """Early stopping on the inner split's loss; the best weights are kept in memory and put back at the end."""

    def __init__(self, patience: int) -> None:
        self.patience, self.loss, self.since = patience, float("inf"), 0
        self.weights: dict[str, torch.Tensor] = {}

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        loss = float(trainer.callback_metrics["inner_loss"])
        self.since += 1
        if loss < self.loss:
            self.loss, self.since, self.weights = loss, 0, copy.deepcopy(pl_module.state_dict())
        if self.since >= self.patience:
            trainer.should_stop = True

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        pl_module.load_state_dict(self.weights)


class _Network(lightning.LightningModule):
    def __init__(self, net: torch.nn.Module, learning_rate: float, weight_decay: float, steps: int, noise: float) -> None:
        super().__init__()
        self.net = net
        self.learning_rate, self.weight_decay, self.steps, self.noise = learning_rate, weight_decay, steps, noise

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        x, y = batch
        return _mean_square(self.net(x + self.noise * torch.randn_like(x)), y)

    def validation_step(self, batch: list[torch.Tensor], _: int) -> None:
        x, y = batch
        self.log("inner_loss", _mean_square(self.net(x), y), batch_size=len(x))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimiser = torch.optim.AdamW(self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=self.learning_rate, total_steps=self.steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _mean_square(told: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean squared error over the targets that are there."""
    missing = torch.isnan(y)
    if not missing.any():
        return torch.nn.functional.mse_loss(told, y)
    error = torch.where(missing, 0.0, told - torch.nan_to_num(y))
    return (error * error).sum() / (~missing).sum().clamp(min=1)


def _batches(x: np.ndarray, y: np.ndarray, size: int, shuffle: bool) -> DataLoader:
    data = TensorDataset(torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y.astype(np.float32)))
    order = RandomSampler(data) if shuffle else SequentialSampler(data)
    return DataLoader(data, sampler=BatchSampler(order, size, drop_last=shuffle and len(data) > size), batch_size=None)


def train(
    x: np.ndarray,
    y: np.ndarray | None,
    asset: np.ndarray,
    hidden: list[int],
    epochs: int,
    patience: int,
    learning_rate: float,
    noise: float,
    seed: int,
) -> Layers:
    """Fits a dense network from features float32 [row, feature] to targets float64 [row, out]; without targets, to its own inputs.

    The rows of `kept_apart` decide when it stops.
    """
    if len(x) < 2:
        raise DataError(f"{len(x)} tick to fit a network on: one is needed to learn from and one to stop at -> take more data")
    mean = np.nan_to_num(np.nanmean(np.where(np.isnan(x).all(0), 0.0, x.astype(np.float64)), 0))
    scale = np.nanstd(np.where(np.isnan(x).all(0), 0.0, x.astype(np.float64)), 0)
    scale[scale < 1e-9] = 1.0
    plain = Layers(mean, scale, (), ())
    z = plain.inputs(x)
    target = z if y is None else y
    sizes = [x.shape[1], *hidden, target.shape[1]]
    network = fit_network(lambda: _dense(sizes), z, target, kept_apart(asset, seed), epochs, patience, learning_rate, noise, seed)
    linear = [m for m in network.modules() if isinstance(m, torch.nn.Linear)]
    weight = tuple(m.weight.detach().numpy().T.astype(np.float64) for m in linear)
    return Layers(mean, scale, weight, tuple(m.bias.detach().numpy().astype(np.float64) for m in linear))


def kept_apart(asset: np.ndarray, seed: int, one_in: int = 6) -> np.ndarray:
    """bool [row], the rows that early stopping looks at: one asset in `one_in` (one of two; of a single one its last sixth)."""
    names = np.random.default_rng(seed).permutation(np.unique(asset))
    return np.isin(asset, names[: max(1, len(names) // one_in)]) if len(names) > 1 else np.arange(len(asset)) >= len(asset) * 5 // 6


def fit_network(
    make: Callable[[], torch.nn.Module],
    z: np.ndarray,
    target: np.ndarray,
    inner: np.ndarray,
    epochs: int,
    patience: int,
    learning_rate: float,
    noise: float,
    seed: int,
) -> torch.nn.Module:
    """Fits a network from inputs [row, ...] to targets [row, out], NaN = unknown, by the mean squared error; returns its best state.

    Args:
        make: gives the network, with weights that the seed decides.
        inner: bool [row], the rows that are not fitted on, but stopped at.
        noise: standard deviation added to the inputs while training.
    """
    with training(seed):
        fit = _batches(z[~inner], target[~inner], BATCH, shuffle=True)
        network = _Network(make(), learning_rate, 0.01, epochs * len(fit), noise)
        trainer_of(epochs, _Best(patience)).fit(network, fit, _batches(z[inner], target[inner], 4096, shuffle=False))
    return network.net


def _dense(sizes: list[int]) -> torch.nn.Sequential:
    layers: list[torch.nn.Module] = []
    for a, b in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [torch.nn.Linear(a, b), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])
