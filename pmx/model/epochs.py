"""Training of a network on windows of feature vectors: by Lightning, in epochs of as many steps each, resumable after any of them."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Callback
from torch.utils.data import DataLoader, Dataset, Sampler

from pmx.model import checkpoint

BATCH = 256  # windows in a step
STEPS = 60  # in an epoch
WARM = 0.3  # share of the steps in which the learning rate rises
DECAY = 0.01  # of weights
MEAN = 0.99  # what the running mean of the weights keeps at a step


@contextmanager
def training(seed: int) -> Iterator[None]:
    """Lightning without its hints, on random numbers that follow from the seed and leave the caller's as they were."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")  # the data are in memory: a worker would only copy them
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning 2.6 on torch 2.13: nothing a user could mend
        logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)  # its hints on accelerators are not for our users
        torch.manual_seed(seed)
        yield


def trainer_of(epochs: int, callback: Callback) -> lightning.Trainer:
    """A trainer that writes nothing anywhere, and keeps its gradients short."""
    return lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", devices=1, callbacks=[callback], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, gradient_clip_val=1.0,
    )  # fmt: skip


@dataclass(frozen=True)
class _Windows(Dataset):
    """Windows of standardised ticks; a position behind the last tick reads zeros: no tick was there.

    Attributes:
        z: float32 [tick + 1, column], the last row zeros.
        index: int64 [row, time], oldest first.
        y: float32 [row].
        cut: share of the windows in training whose beginning is taken away, as if the life had begun later.
    """

    z: torch.Tensor
    index: torch.Tensor
    y: torch.Tensor
    cut: float = 0.0

    def __getitem__(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # of a whole batch at once
        index = self.index[rows]
        if self.cut:
            count, length = index.shape
            left = torch.randint(1, length + 1, (count, 1))
            away = (torch.rand(count, 1) < self.cut) & (torch.arange(length) < length - left)
            index = torch.where(away, len(self.z) - 1, index)
        return self.z[index], self.y[rows]

    def __len__(self) -> int:
        return len(self.y)


class _Draws(Sampler[torch.Tensor]):
    """Batches of random rows. What is drawn, and every other random number of an epoch, follows from the seed and the epoch alone:
    training that goes on in the middle draws what it would have drawn.
    """

    def __init__(self, rows: int, seed: int, begun: int) -> None:
        self.rows, self.seed, self.begun, self.epoch = rows, seed, begun, begun

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls it before each epoch, which it counts from 0."""
        self.epoch = self.begun + epoch

    def __iter__(self) -> Iterator[torch.Tensor]:
        rng = np.random.default_rng([self.seed, self.epoch])
        torch.manual_seed(int(rng.integers(2**62)))
        size, rounds = min(BATCH, self.rows), -(-STEPS * BATCH // self.rows)
        drawn = np.concatenate([rng.permutation(self.rows) for _ in range(rounds)])
        return iter(torch.from_numpy(drawn[: STEPS * size]).split(size))

    def __len__(self) -> int:
        return STEPS


class _Learning(lightning.LightningModule):
    """A network on its way: it, the running mean of its weights, and its optimiser.

    The mean of the last hundred steps' weights stands for a longer training (Izmailov et al., UAI 2018); it is what is judged and kept.
    """

    def __init__(self, net: torch.nn.Module, learning_rate: float, epochs: int, begun: int, state: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.net, self.mean = net, copy.deepcopy(net).requires_grad_(False)
        self.learning_rate, self.steps, self.step_, self.gathered = learning_rate, epochs * STEPS, begun * STEPS, state

    def on_train_batch_start(self, batch: list[torch.Tensor], batch_idx: int) -> None:
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.learning_rate * _pace(self.step_ / self.steps)

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        x, y = batch
        return torch.nn.functional.mse_loss(self.net(x), y)

    def on_train_batch_end(self, outputs: object, batch: list[torch.Tensor], batch_idx: int) -> None:
        self.step_ += 1
        keep = min(MEAN, self.step_ / (self.step_ + 9))
        with torch.no_grad():
            for mean, now in zip(self.mean.parameters(), self.net.parameters(), strict=True):
                mean.lerp_(now, 1 - keep)

    def validation_step(self, batch: list[torch.Tensor], _: int) -> None:
        x, y = batch
        self.log("inner_loss", torch.nn.functional.mse_loss(self.mean(x), y), batch_size=len(x))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        optimiser = torch.optim.AdamW(self.net.parameters(), lr=self.learning_rate, weight_decay=DECAY)
        if self.gathered:
            checkpoint.into_optimiser(optimiser, self.gathered)
        return optimiser


def _pace(done: float) -> float:
    """Share of the largest learning rate at this share of the steps: up, then down to nothing, each along half a cosine."""
    up = 0.1 + 0.9 * done / WARM if done < WARM else (1 - done) / (1 - WARM)
    return 0.5 - 0.5 * float(np.cos(np.pi * up))


class _Keep(Callback):
    """After each epoch: the best mean is kept in memory, the whole state on disk; it stops what no longer gets better."""

    def __init__(self, patience: int, path: Path | None, state: dict[str, torch.Tensor]) -> None:
        self.patience, self.path = patience, path
        loss, since, begun = (state["count"] if state else torch.tensor([np.inf, 0, 0], dtype=torch.float64)).tolist()
        self.loss, self.since, self.begun = loss, int(since), int(begun)
        self.best = checkpoint.under("best", state)

    @property
    def over(self) -> bool:
        return self.since >= self.patience

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, _Learning)
        loss = float(trainer.callback_metrics["inner_loss"])
        self.since, self.begun = self.since + 1, self.begun + 1
        if loss < self.loss or not self.best:
            self.loss, self.since, self.best = loss, 0, copy.deepcopy(pl_module.mean.state_dict())
        trainer.should_stop = self.over
        if self.path is None:
            return
        parts = {
            "net": pl_module.net.state_dict(),
            "mean": pl_module.mean.state_dict(),
            "best": self.best,
            "optimiser": checkpoint.of_optimiser(trainer.optimizers[0]),
        }
        state = {f"{part}/{name}": value for part, values in parts.items() for name, value in values.items()}
        checkpoint.keep(self.path, state | {"count": torch.tensor([self.loss, self.since, self.begun], dtype=torch.float64)})


@dataclass(frozen=True)
class Course:
    """How a network is trained.

    Attributes:
        epochs: at most, of 60 steps of 256 windows.
        patience: epochs without a better inner loss before it stops.
        learning_rate: the largest, at three tenths of the way.
        cut: share of the windows whose beginning is taken away.
        seed: of weights and draws.
        path: the file that holds the state after each epoch while training goes on; None = no file.
    """

    epochs: int
    patience: int
    learning_rate: float
    cut: float
    seed: int
    path: Path | None = None


def fit_windows(
    make: Callable[[], torch.nn.Module], z: np.ndarray, index: np.ndarray, y: np.ndarray, inner: np.ndarray, how: Course
) -> torch.nn.Module:
    """Fits a network from windows to targets by the mean squared error; returns the best running mean of its weights.

    Args:
        make: gives the network, with weights that the seed decides.
        z: float32 [tick + 1, column], standardised, the last row zeros.
        index: int64 [row, time], the ticks of each window, oldest first; the last row of `z` where there was none.
        y: float64 [row].
        inner: bool [row], the rows that are not fitted on, but stopped at.
    """
    ticks, windows, target = torch.from_numpy(z), torch.from_numpy(index), torch.from_numpy(y.astype(np.float32))
    with training(how.seed):
        net, state = make(), checkpoint.kept(how.path) if how.path else {}
        kept = _Keep(how.patience, how.path, state)
        learning = _Learning(net, how.learning_rate, how.epochs, kept.begun, checkpoint.under("optimiser", state))
        if state:
            learning.net.load_state_dict(checkpoint.under("net", state))
            learning.mean.load_state_dict(checkpoint.under("mean", state))
        if kept.begun < how.epochs and not kept.over:
            fit, rest = torch.from_numpy(~inner), torch.from_numpy(inner)
            draws = _Draws(int(fit.sum()), how.seed, kept.begun)
            seen = _Windows(ticks, windows[fit], target[fit], how.cut)
            apart = _Windows(ticks, windows[rest], target[rest])
            trainer = trainer_of(how.epochs - kept.begun, kept)
            trainer.fit(learning, _loader(seen, draws), _loader(apart, list(torch.arange(len(apart)).split(4096))))
        net.load_state_dict(kept.best)
    if how.path:
        how.path.unlink(missing_ok=True)  # what has ended is not gone on with
    return net.eval()


def _loader(windows: _Windows, batches: Sampler[torch.Tensor] | list[torch.Tensor]) -> DataLoader:
    return DataLoader(windows, sampler=batches, batch_size=None)
