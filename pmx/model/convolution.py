"""A causal convolutional autoencoder of lag vectors, trained by Lightning; what it cannot rebuild is not normal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import spox.opset.ai.onnx.v20 as op
import torch
from spox import Var

from pmx.contract import UsageError, within
from pmx.model import Model
from pmx.model.dense import BATCH, LIMIT, fit_network, kept_apart
from pmx.model.residual import channels_of, kept, mean_square, mean_square_nodes, newest, newest_nodes, spread_of, with_value

NOISE = 0.1  # standard deviation added to the standardised inputs while training
HIDE = 0.15  # share of channels hidden from the network while training: it has to tell them from the others
ROWS = 4096  # at most, in memory at a time
MOST_WEIGHTS = 10_000  # a device computes all of them at each tick


@dataclass(frozen=True)
class Convolution:
    """One causal convolution along time: each tick reads `kernel` ticks up to its own, `dilation` apart, with zeros before the first.

    It is a product of gathered ticks with a matrix, since onnxruntime convolves no float64 on a CPU.

    Attributes:
        weight: float64 [kernel * in, out], oldest tick first.
        bias: float64 [out].
        dilation: in ticks.
        relu: whether negative results become 0.
    """

    weight: np.ndarray
    bias: np.ndarray
    dilation: int
    relu: bool

    def reads(self, channels: int, ticks: int) -> np.ndarray:
        """Indices int [tick, kernel] of the ticks that each tick reads, `ticks` = the row of zeros behind the last."""
        back = np.arange(len(self.weight) // channels)[::-1] * self.dilation
        at = np.arange(ticks)[:, None] - back
        return np.where(at < 0, ticks, at)

    def forward(self, z: np.ndarray) -> np.ndarray:
        """float64 [row, time, out] of float64 [row, time, in]."""
        rows, ticks, channels = z.shape
        padded = np.concatenate([z, np.zeros((rows, 1, channels))], axis=1)
        out = padded[:, self.reads(channels, ticks)].reshape(rows, ticks, -1) @ self.weight + self.bias
        return np.maximum(out, 0.0) if self.relu else out

    def nodes(self, z: Var, channels: int, ticks: int) -> Var:
        """The same as nodes, float64 [asset, time, out]."""
        padded = op.pad(z, op.const([0, 0, 0, 0, 1, 0]), op.const(0.0, np.float64))
        gathered = op.gather(padded, op.const(self.reads(channels, ticks).ravel()), axis=1)
        out = op.matmul(op.reshape(gathered, op.const([-1, ticks, len(self.weight)])), op.const(self.weight))
        out = op.add(out, op.const(self.bias))
        return op.relu(out) if self.relu else out


class CausalAutoencoder(Model):
    """Distance from normal: how far the newest reading of each channel lies from what is rebuilt through few inner channels.

    Two causal convolutions narrow the window of `lags` ticks to fewer channels, two widen it again; between them the narrow
    tick is a plain linear one. While training, noise is added and some channels are hidden, so that the network has to
    tell a channel from the others (Vincent et al., ICML 2008). A missing value is read as the mean.

    The score is the mean over the channels present now of the squared error of the newest tick, each error divided by
    the robust spread that the channel has on the assets kept apart for early stopping, and cut off at 5. Only the newest tick
    is scored, since the older ones had their score when they were new. NaN where no channel has a value now. The worst
    share `trim` of the rows by a first fit is dropped before the last fit. Trained in float32, evaluated in float64.

    Args:
        lags: ticks in the lag vector, as in feature=lags.
        hidden: channels of the wide inner layers.
        squeeze: measured channels per channel of the narrow layer.
        epochs: at most, in each fit; a history of few ticks takes as many as make 300 steps, and its patience grows alike.
        patience: epochs without a better inner loss before it stops.
        learning_rate: the peak of a one-cycle schedule.
        trim: share of rows dropped before the last fit; 0 = fit once.
        smooth: half-life in ticks of the mean that a later stage takes of the score; 0 = none.
        seed: of weights, order and inner split.

    Example:
        >>> CausalAutoencoder(lags=10).task
        'anomaly'
    """

    task = "anomaly"
    mean_: np.ndarray  # float64 [channel]
    scale_: np.ndarray  # float64 [channel]
    layers_: tuple[Convolution, ...]
    spread_: np.ndarray  # float64 [channel], infinite for a channel without a value in the fit

    least_steps = 300  # unless it stops early: an epoch of a short history is a step or two

    def __init__(
        self,
        lags: int = 5,
        hidden: int = 24,
        squeeze: int = 2,
        epochs: int = 30,
        patience: int = 6,
        learning_rate: float = 0.01,
        trim: float = 0.1,
        smooth: float = 0.0,
        seed: int = 0,
    ) -> None:
        within(1, float("inf"), {"lags": lags, "hidden": hidden, "squeeze": squeeze, "epochs": epochs, "patience": patience})
        within(1e-9, 1, {"learning_rate": learning_rate})
        within(0, 0.5, {"trim": trim})
        within(0, float("inf"), {"smooth": smooth})
        self.lags, self.hidden, self.squeeze, self.epochs, self.patience = lags, hidden, squeeze, epochs, patience
        self.learning_rate, self.trim, self.smooth, self.seed = learning_rate, trim, smooth, seed

    def fit(self, x: np.ndarray, y: np.ndarray, asset: np.ndarray) -> None:
        channels = channels_of(x.shape[1], self.lags)
        weights = sum(p.numel() for p in self._network(channels).parameters())
        if weights > MOST_WEIGHTS:
            raise UsageError(
                f"{channels} channels and hidden={self.hidden} make {weights:,} weights, more than {MOST_WEIGHTS:,} -> lower hidden"
            )
        there = with_value(x, self.lags)
        x, asset = x[there], asset[there]
        self._learn(x, asset)
        keep = kept(self.score(x), self.trim)
        if not keep.all():
            self._learn(x[keep], asset[keep])

    def _learn(self, x: np.ndarray, asset: np.ndarray) -> None:
        now = newest(x, self.lags)
        known = ~np.isnan(now).all(0)
        self.mean_, self.scale_ = np.zeros(len(known)), np.ones(len(known))
        self.mean_[known], spread = np.nanmean(now[:, known], 0), np.nanstd(now[:, known], 0)
        self.scale_[known] = np.where(spread < 1e-9, 1.0, spread)
        z, target = self._inputs(x), (now - self.mean_) / self.scale_
        inner = kept_apart(asset, self.seed)
        more = max(1.0, self.least_steps / self.epochs / max(1, (~inner).sum() // BATCH))
        network = fit_network(
            lambda: self._network(len(known)),
            z,
            np.clip(target, -LIMIT, LIMIT),
            inner,
            int(np.ceil(self.epochs * more)),
            int(np.ceil(self.patience * more)),
            self.learning_rate,
            NOISE,
            self.seed,
        )
        self.layers_ = tuple(m.plain() for m in network.modules() if isinstance(m, _Causal))
        spread = spread_of(self._residual(x[inner]))  # rows that were fitted on are rebuilt too well
        self.spread_ = np.where(known & np.isinf(spread), spread_of(self._residual(x)), spread)

    def _network(self, channels: int) -> torch.nn.Module:
        narrow, wide = max(1, channels // self.squeeze), self.hidden
        return torch.nn.Sequential(
            _Hide(),
            _Causal(channels, wide, kernel=3, dilation=1, relu=True),
            _Causal(wide, narrow, kernel=3, dilation=2, relu=False),
            _Causal(narrow, wide, kernel=3, dilation=1, relu=True),
            _Causal(wide, channels, kernel=1, dilation=1, relu=False),
            _Newest(),
        )

    def _inputs(self, x: np.ndarray) -> np.ndarray:
        """Standardised, cut off, 0 where missing: float64 [row, time, channel], oldest first."""
        z = (x.reshape(len(x), self.lags, len(self.mean_))[:, ::-1].astype(np.float64) - self.mean_) / self.scale_
        return np.where(np.isnan(z), 0.0, np.clip(z, -LIMIT, LIMIT))

    def _residual(self, x: np.ndarray) -> np.ndarray:
        """What is rebuilt too little or too much of the newest tick, in standard deviations, float64 [row, channel]."""
        rebuilt = np.empty((len(x), len(self.mean_)))
        for at in range(0, len(x), ROWS):
            z = self._inputs(x[at : at + ROWS])
            for layer in self.layers_:
                z = layer.forward(z)
            rebuilt[at : at + ROWS] = z[:, -1]
        return (newest(x, self.lags) - self.mean_) / self.scale_ - rebuilt

    def score(self, x: np.ndarray) -> np.ndarray:
        return mean_square(self._residual(x), self.spread_)

    def to_onnx(self, features: Var) -> Var:
        channels, ticks = len(self.mean_), self.lags
        z = op.reshape(op.cast(features, to=np.float64), op.const([-1, ticks, channels]))
        z = op.gather(z, op.const(np.arange(ticks)[::-1].copy()), axis=1)
        z = op.div(op.sub(z, op.const(self.mean_)), op.const(self.scale_))
        z = op.where(op.isnan(z), op.const(0.0, np.float64), z)
        z = op.max([op.min([z, op.const(LIMIT, np.float64)]), op.const(-LIMIT, np.float64)])
        width = channels
        for layer in self.layers_:
            z, width = layer.nodes(z, width, ticks), len(layer.bias)
        now = op.div(op.sub(newest_nodes(features, channels), op.const(self.mean_)), op.const(self.scale_))
        return mean_square_nodes(op.sub(now, op.gather(z, op.const(ticks - 1), axis=1)), self.spread_)


class _Hide(torch.nn.Module):
    """Hides whole channels of a window while training."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return z
        return z * (torch.rand(len(z), 1, z.shape[2]) >= HIDE)


class _Newest(torch.nn.Module):
    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z[:, -1]


class _Causal(torch.nn.Module):
    """The convolution that `Convolution` evaluates, while it learns: float32 [row, time, channel] on both sides."""

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int, relu: bool) -> None:
        super().__init__()
        self.convolve = torch.nn.Conv1d(inputs, outputs, kernel, dilation=dilation)
        self.before, self.dilation, self.relu = (kernel - 1) * dilation, dilation, relu

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        out = self.convolve(torch.nn.functional.pad(z.transpose(1, 2), (self.before, 0))).transpose(1, 2)
        return torch.relu(out) if self.relu else out

    def plain(self) -> Convolution:
        weight, bias = (p.detach().numpy().astype(np.float64) for p in self.convolve.parameters())  # [out, in, kernel] and [out]
        flat = np.ascontiguousarray(weight.transpose(2, 1, 0).reshape(-1, len(weight)))
        return Convolution(flat, bias, self.dilation, self.relu)
