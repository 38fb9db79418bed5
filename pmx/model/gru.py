"""A small recurrent network over memory channels, for the capped remaining useful life."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import spox.opset.ai.onnx.v20 as op
import torch
from spox import Var

from pmx.contract import DataError, UsageError, within
from pmx.feature.past import Past
from pmx.model import Model, checkpoint
from pmx.model.dense import Layers, kept_apart
from pmx.model.epochs import Course, fit_windows
from pmx.model.weight import rounded, weight_node

ROWS = 2048  # windows in memory at a time
MOST_WEIGHTS = 50_000  # a device computes all of them at each tick
APART = 12  # one asset in so many is not fitted on, but stopped at: each is worth more to learn from
DROP = 0.1  # share of the last layer's inputs left out at a step of training


@dataclass(frozen=True)
class Cell:
    """A fitted recurrent unit; gates in the order reset, update, new.

    Attributes:
        inward, onward: float64 [width, 3 * width], of a tick's numbers and of the state.
        inward_bias, onward_bias: float64 [3 * width].
    """

    inward: np.ndarray
    onward: np.ndarray
    inward_bias: np.ndarray
    onward_bias: np.ndarray

    @property
    def _gates(self) -> int:
        """Columns of the two gates; those of the new state lie behind them."""
        return len(self.onward) * 2

    @property
    def _bias(self) -> np.ndarray:
        """What a tick adds whatever the state: of the new state, the reset gate has a part for itself."""
        return self.inward_bias + np.where(np.arange(len(self.onward_bias)) < self._gates, self.onward_bias, 0.0)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """The state after the newest tick, float64 [row, width], of numbers float64 [row, time, width]."""
        gates, width = self._gates, len(self.onward)
        told, state = x @ self.inward + self._bias, np.zeros((len(x), width))
        for t in range(x.shape[1]):
            recalled = state @ self.onward
            open_ = 0.5 + 0.5 * np.tanh(0.5 * (told[:, t, :gates] + recalled[:, :gates]))  # the logistic function, without overflow
            new = np.tanh(told[:, t, gates:] + open_[:, :width] * (recalled[:, gates:] + self.onward_bias[gates:]))
            state = new + open_[:, width:] * (state - new)
        return state

    def nodes(self, x: Var, ticks: int) -> Var:
        """The same as nodes, one dozen per tick, float64 [asset, width]."""
        gates, new = slice(None, self._gates), slice(self._gates, None)
        of_gates, of_new = (
            op.split(op.add(op.matmul(x, weight_node(self.inward[:, p])), op.const(self._bias[p].copy())), num_outputs=ticks, axis=1)
            for p in (gates, new)
        )
        to_gates, to_new = weight_node(self.onward[:, gates]), weight_node(self.onward[:, new])
        bias = op.const(self.onward_bias[new].copy())
        state = op.mul(of_new[0], op.const(0.0, np.float64))
        for of_gate, of_state in zip(of_gates, of_new, strict=True):
            reset, update = op.split(op.sigmoid(op.add(of_gate, op.matmul(state, to_gates))), num_outputs=2, axis=2)
            made = op.tanh(op.add(of_state, op.mul(reset, op.add(op.matmul(state, to_new), bias))))
            state = op.add(made, op.mul(update, op.sub(state, made)))
        return op.squeeze(state, op.const([1]))

    def rounded(self) -> Cell:
        """The same with weights that are int8 times a scale of each output."""
        return replace(self, inward=rounded(self.inward), onward=rounded(self.onward))


class Gru(Model):
    """RUL by a gated recurrent unit that goes through the last ticks of slow features: running means, drift, age.

    Each tick's columns are reduced to `width` numbers. A state of as many numbers is carried from tick to tick and tells the life left
    at the newest one (Cho et al., EMNLP 2014, in the form of PyTorch: the reset gate acts on the product with the state). A column is
    standardised and cut off at 5 standard deviations; what is missing is read as the mean, as is every tick before a life began. In
    training a share of the windows begins later than it could, so that an asset that was just met is nothing new.

    It stops early by assets kept apart, and keeps the best running mean of its weights. Trained in float32, evaluated in float64.

    Args:
        reads: the columns it reads over time, by how the labels of their kernels begin; where none does, it reads all.
        history: ticks that it goes through, the newest among them.
        width: numbers per tick inside.
        epochs: at most, of 60 steps of 256 windows.
        patience: epochs without a better inner loss before it stops.
        learning_rate: the largest.
        cut: share of the windows in training whose beginning is taken away.
        checkpoints: a folder; a fit that was killed goes on after its last whole epoch, and ends as if nothing had happened. Empty = none.
        seed: of weights, draws and inner split.

    Example:
        >>> Gru(reads=["ewma", "age"]).columns(["age", "mean10:flow", "ewma5:flow"])
        [0, 2]
    """

    task = "rul"
    columns_: list[int]
    embed_: Layers
    cell_: Cell
    last_: Layers
    top_: float  # in the life unit

    def __init__(
        self,
        reads: list[str] | None = None,
        history: int = 16,
        width: int = 32,
        epochs: int = 12,
        patience: int = 4,
        learning_rate: float = 0.003,
        cut: float = 0.3,
        checkpoints: str = "",
        seed: int = 0,
    ) -> None:
        within(2, 128, {"history": history})  # the graph has a dozen nodes for each
        within(1, float("inf"), {"width": width, "epochs": epochs, "patience": patience})
        within(1e-9, 1, {"learning_rate": learning_rate})
        within(0, 1, {"cut": cut})
        self.reads = ["ewma", "drift", "age"] if reads is None else list(reads)
        self.history, self.width, self.epochs, self.patience, self.learning_rate = history, width, epochs, patience, learning_rate
        self.cut, self.checkpoints, self.seed = cut, checkpoints, seed

    def light(self) -> Self:
        small = super().light()
        small.checkpoints = ""  # one epoch is quickly done again
        return small

    def columns(self, names: list[str]) -> list[int]:
        found = [i for i, name in enumerate(names) if name.partition(":")[0].startswith(tuple(self.reads))]
        return found or list(range(len(names)))

    def fit(self, x: Past, y: np.ndarray, asset: np.ndarray) -> None:
        if len(x) < 2:
            raise DataError(f"{len(x)} tick to fit a network on: one is needed to learn from and one to stop at -> take more data")
        columns = self.columns(x.names)
        weights = self.weights(len(columns))
        if weights > MOST_WEIGHTS:
            raise UsageError(
                f"{len(columns)} columns, width={self.width} make {weights:,} weights, more than {MOST_WEIGHTS:,} -> lower width"
            )
        self.columns_, self.top_ = columns, float(np.max(y)) or 1.0
        now = x.now[:, columns].astype(np.float64)
        now[:, np.isnan(now).all(0)] = 0.0
        mean, scale = np.nanmean(now, 0), np.nanstd(now, 0)
        scale[scale < 1e-9] = 1.0
        plain = Layers(mean, scale, (), ())
        ticks, index = _windows(x, self.history)
        z = np.concatenate([plain.inputs(x.table[ticks][:, columns]), np.zeros((1, len(columns)))]).astype(np.float32)
        inner, target = kept_apart(asset, self.seed, APART), y / self.top_
        path = Path(self.checkpoints) / f"{self._name(z, index, target, inner)}.safetensors" if self.checkpoints else None
        course = Course(self.epochs, self.patience, self.learning_rate, self.cut, self.seed, path)
        network = fit_windows(lambda: self._network(len(columns)), z, index, target, inner, course)
        self._keep(network, plain)

    def weights(self, columns: int) -> int:
        """How many numbers are learnt where it reads so many columns."""
        w = self.width
        return (columns + 1) * w + 6 * (w + 1) * w + (w + 1) * w + w + 1

    def _name(self, *arrays: np.ndarray) -> str:
        """Of this training's file: the same settings and data have the same name."""
        decides = ("history", "width", "epochs", "patience", "learning_rate", "cut", "seed")
        return "gru-" + checkpoint.identity({n: getattr(self, n) for n in decides}, list(arrays))

    def _network(self, columns: int) -> _Network:
        return _Network(columns, self.width)

    def _keep(self, network: torch.nn.Module, plain: Layers) -> None:
        """Takes over the weights in float64, matrices as [in, out]."""
        assert isinstance(network, _Network)

        def plainly(of: torch.nn.Module) -> list[np.ndarray]:
            return [np.ascontiguousarray(p.detach().numpy().T.astype(np.float64)) for p in of.parameters()]

        weight, bias = plainly(network.embed)
        self.embed_, self.cell_ = Layers(plain.mean, plain.scale, (weight,), (bias,)), Cell(*plainly(network.cell))
        (wide, wide_bias), (last, last_bias) = plainly(network.wide), plainly(network.last)
        self.last_ = Layers(np.zeros(self.width), np.ones(self.width), (wide, last), (wide_bias, last_bias))

    def score(self, x: Past) -> np.ndarray:
        parts = [self._score(x[np.arange(at, min(at + ROWS, len(x)))]) for at in range(0, len(x), ROWS)]
        return np.concatenate(parts) if parts else np.empty(0)

    def _score(self, x: Past) -> np.ndarray:
        z = self.embed_.inputs(x.sequences(self.history, self.columns_))
        h = np.maximum(self.embed_.forward(z), 0.0)
        return self.last_.forward(self.cell_.forward(h))[:, 0] * self.top_

    def rounded(self) -> Self:
        """A copy with int8 weights."""
        made = copy.copy(self)
        made.embed_, made.cell_, made.last_ = self.embed_.rounded(), self.cell_.rounded(), self.last_.rounded()
        return made

    def to_onnx(self, features: Var) -> Var:
        h = op.relu(self.embed_.nodes(self.embed_.input_nodes(features)))
        y = self.last_.nodes(self.cell_.nodes(h, self.history))
        return op.mul(op.squeeze(y, op.const([1])), op.const(self.top_, np.float64))


def _windows(x: Past, length: int) -> tuple[np.ndarray, np.ndarray]:
    """The ticks that some window reads, positions int64 [tick] in the table, and where each window's ticks lie among them,
    int64 [row, time], oldest first; the number of ticks where a life had not begun.
    """
    at = x.rows[:, None] - np.arange(length - 1, -1, -1)
    before = at < x.begins[x.rows][:, None]
    ticks, index = np.unique(np.where(before, x.rows[:, None], at), return_inverse=True)
    return ticks, np.where(before, len(ticks), index.reshape(at.shape))


class _Network(torch.nn.Module):
    """What learns: windows float32 [row, time, column] to numbers float32 [row]."""

    def __init__(self, columns: int, width: int) -> None:
        super().__init__()
        self.embed, self.cell = torch.nn.Linear(columns, width), torch.nn.GRU(width, width, batch_first=True)
        self.drop, self.wide, self.last = torch.nn.Dropout(DROP), torch.nn.Linear(width, width), torch.nn.Linear(width, 1)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        states, _ = self.cell(torch.relu(self.embed(z)))
        out: torch.Tensor = self.last(torch.relu(self.wide(self.drop(states[:, -1]))))
        return out[:, 0]
