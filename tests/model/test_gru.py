"""The recurrent network: it reads its own life's last ticks and nothing else, its graph says the same, and a killed fit goes on as if it had not been."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from spox import Tensor, argument, build

from pmx.bundle import Bundle, core_digest
from pmx.contract import DataError, UsageError
from pmx.edge.replay import replay_ticks
from pmx.feature.past import Past
from pmx.gate.parity import as_ticks
from pmx.model import checkpoint, epochs, gru
from pmx.model.gru import Gru
from pmx.pack.core import core_files
from pmx.pack.fitted import Fitted
from pmx.pack.scope import Scoped
from tests.model.lagged import inner_losses
from tests.small_fleet import small_fleet

HISTORY = 8
NAMES = ["ewma5:flow", "mean10:flow", "ewma5:load", "age"]
READ = [0, 2, 3]
QUICK = {"history": HISTORY, "width": 8, "epochs": 4, "learning_rate": 0.01}


def fleet(seed: int = 0, assets: int = 6, ticks: int = 40) -> tuple[Past, np.ndarray, np.ndarray]:
    """Feature vectors over time with a hole here and there, targets that follow the flow of the last four ticks, asset names [row]."""
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(assets * ticks, len(NAMES))).astype(np.float32)
    life = np.repeat(np.arange(assets), ticks)
    flow = np.pad(table[:, 0].reshape(assets, ticks), ((0, 0), (3, 0)))
    y = 60.0 + 10 * sum(flow[:, lag : lag + ticks] for lag in range(4)).ravel()
    table[rng.random(table.shape) < 0.02] = np.nan
    return Past.of(table, life, NAMES), y, np.array([f"P{i}" for i in life])


def fitted(**settings) -> Gru:
    model = Gru(**(QUICK | settings))
    model.fit(*fleet())
    return model


@pytest.fixture(autouse=True)
def short_epochs(monkeypatch):
    monkeypatch.setattr(epochs, "STEPS", 6)


@pytest.fixture(scope="module")
def model() -> Gru:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(epochs, "STEPS", 6)
        return fitted()


def graph_of(model: Gru) -> bytes:
    past = argument(Tensor(np.float32, ("asset", model.history, len(model.columns(NAMES)))))
    return build({"past": past}, {"y": model.to_onnx(past)}).SerializeToString(deterministic=True)


@pytest.fixture(scope="module")
def session(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(graph_of(model), options)


def close(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.allclose(a, b, rtol=1e-9, atol=1e-9)) and a.shape == b.shape and a.dtype == b.dtype == np.float64


def window(values: np.ndarray) -> Past:
    """The newest tick of one life of these columns float32 [time, column]."""
    table = np.full((len(values), len(NAMES)), np.nan, np.float32)
    table[:, READ] = values
    return Past.of(table, np.zeros(len(values), np.int64), NAMES)[np.array([len(values) - 1])]


def test_the_graph_says_what_the_model_says_whatever_the_batch(model, session):
    past = fleet(1)[0]
    past.table[3], past.table[50, 0], past.table[60, 2], past.table[90] = np.nan, 3e38, -np.inf, np.inf
    want, x = model.score(past), past.sequences(HISTORY, READ)
    assert np.isfinite(want).all() and close(session.run(None, {"past": x})[0], want)
    assert close(np.concatenate([session.run(None, {"past": one[None]})[0] for one in x[:64]]), want[:64])
    assert close(np.concatenate([model.score(past[np.arange(7)]), model.score(past[np.arange(7, len(past))])]), want)
    assert model.score(past[np.arange(0)]).shape == (0,)


@settings(max_examples=50, deadline=None)
@given(values=hnp.arrays(np.float32, (HISTORY, len(READ)), elements=st.floats(width=32)))
def test_any_window_has_a_finite_score_on_both_paths(model, session, values):
    want = model.score(window(values))
    assert np.isfinite(want).all() and close(session.run(None, {"past": values[None]})[0], want)


def test_many_rows_are_scored_in_blocks_as_they_are_at_once(model, monkeypatch):
    past = fleet(1)[0]
    want = model.score(past)
    monkeypatch.setattr(gru, "ROWS", 7)
    assert close(model.score(past), want)


def test_a_score_depends_on_the_last_ticks_of_its_own_life_and_its_own_columns(model):
    past = fleet(1)[0]
    want, row = model.score(past), 3 * 40 + 20
    for spoilt, same in (
        (np.arange(row + 1, len(past)), True),  # later ones
        (np.arange(0, row - HISTORY + 1), True),  # too far back
        (np.array([row - HISTORY + 1]), False),
        (np.array([row]), False),
    ):
        table = past.table.copy()
        table[spoilt] = 4.0
        assert (model.score(Past.of(table, np.repeat(np.arange(6), 40), NAMES))[row] == want[row]) == same, spoilt
    table = past.table.copy()
    table[:, 1] = 4.0  # a column that it does not read
    assert (model.score(Past.of(table, np.repeat(np.arange(6), 40), NAMES)) == want).all()
    alone = Past.of(past.table[120:160], np.zeros(40, np.int64), NAMES)
    assert close(model.score(alone), want[120:160]), "the life before is another asset's"


def test_rows_that_are_not_fitted_on_are_looked_back_at_all_the_same():
    past, y, asset = fleet()
    rows = np.arange(len(past)) % 3 > 0
    model = Gru(**QUICK)
    model.fit(past[rows], y[rows], asset[rows])
    ticks, index = gru._windows(past[rows], HISTORY)
    padded = np.concatenate([past.table[ticks], np.full((1, len(NAMES)), np.nan, np.float32)])
    assert np.array_equal(padded[index], past[rows].sequences(HISTORY, list(range(len(NAMES)))), equal_nan=True)


def test_it_learns_what_only_time_tells(monkeypatch):
    monkeypatch.setattr(epochs, "STEPS", 25)
    model = Gru(history=HISTORY, width=16, epochs=6, learning_rate=0.02, cut=0.0)
    model.fit(*fleet(assets=20))
    past, y, _ = fleet(seed=5)
    error = model.score(past) - y
    assert np.sqrt(np.mean(error**2)) < 0.5 * y.std(), "the newest tick alone leaves 0.87"


def test_the_seed_decides_the_weights_and_nothing_else_does():
    first = graph_of(fitted(epochs=1))
    torch.manual_seed(99)
    state = torch.random.get_rng_state()
    assert first == graph_of(fitted(epochs=1)) != graph_of(fitted(epochs=1, seed=1))
    assert torch.equal(torch.random.get_rng_state(), state), "a fit must not disturb the caller's random numbers"


def test_the_best_mean_by_assets_kept_apart_is_kept_and_training_ends_when_it_stays_the_best(monkeypatch):
    losses = inner_losses(monkeypatch, epochs._Keep, "on_train_epoch_end")
    monkeypatch.setattr(epochs, "STEPS", 20)
    past, _, asset = fleet()
    y = 60 + 20 * np.random.default_rng(0).normal(size=len(past))  # nothing to learn: the inner loss soon rises
    model = Gru(**(QUICK | {"epochs": 40, "patience": 3, "learning_rate": 0.03}))
    model.fit(past, y, asset)
    assert len(losses) < 40 and len(losses) == int(np.argmin(losses)) + 1 + 3
    inner = gru.kept_apart(asset, 0, gru.APART)
    assert not set(asset[inner]) & set(asset[~inner])
    assert np.isclose(np.mean((model.score(past)[inner] - y[inner]) ** 2) / y.max() ** 2, min(losses), rtol=1e-4)


class Killed(Exception):
    """Stands for the end of a process."""


@pytest.mark.parametrize("after", [1, 4])
def test_a_fit_that_was_interrupted_goes_on_and_ends_with_the_same_weights(tmp_path, monkeypatch, after):
    whole, begun = graph_of(fitted()), []
    keep = checkpoint.keep

    def dies(path, state):
        keep(path, state)
        begun.append(int(state["count"][2]))
        if begun[-1] == after:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "keep", dies)
        with pytest.raises(Killed):
            fitted(checkpoints=str(tmp_path))
    (file,) = tmp_path.iterdir()
    assert begun == list(range(1, after + 1)) and file.suffix == ".safetensors"
    count = []
    monkeypatch.setattr(checkpoint, "keep", lambda path, state: count.append(int(state["count"][2])))
    assert graph_of(fitted(checkpoints=str(tmp_path))) == whole
    assert count == list(range(after + 1, 5)), "whole epochs are not done twice"
    assert not list(tmp_path.iterdir()), "what has ended leaves nothing"


CHILD = """
import os, signal
from pmx.model import checkpoint, epochs
from tests.model.test_gru import fitted
epochs.STEPS, keep = 6, checkpoint.save
def save(state):
    if state["count"][2] == 3: os.kill(os.getpid(), signal.SIGKILL)  # while the third epoch's file is being written
    return keep(state)
checkpoint.save = save
fitted(checkpoints=os.environ["KEPT"])
"""


def test_a_process_that_was_killed_leaves_what_the_next_goes_on_with(tmp_path):
    root = Path(gru.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", CHILD], cwd=root, env=os.environ | {"KEPT": str(tmp_path), "PYTHONPATH": str(root)}, check=False
    )
    assert done.returncode == -signal.SIGKILL
    (file,) = tmp_path.glob("*.safetensors")
    assert checkpoint.kept(file)["count"][2] == 2
    assert graph_of(fitted(checkpoints=str(tmp_path))) == graph_of(fitted())


def test_other_data_settings_and_broken_files_begin_anew(tmp_path, monkeypatch):
    seen: list[Path] = []
    monkeypatch.setattr(checkpoint, "keep", lambda path, state: seen.append(path))
    past, y, asset = fleet()
    other = past.table.copy()
    other[7, 0] += 1
    short = QUICK | {"epochs": 1, "checkpoints": str(tmp_path)}
    for settings_, given_, target in (
        (short, past, y),
        (short, past, y),
        (short, Past.of(other, np.repeat(np.arange(6), 40), NAMES), y),
        (short, past, y + 1),
        (short | {"seed": 1}, past, y),
        (short | {"width": 4}, past, y),
        (short | {"cut": 0.1}, past, y),
    ):
        Gru(**settings_).fit(given_, target, asset)
    assert seen[0] == seen[1] and len(set(seen)) == len(seen) - 1
    seen[0].write_bytes(b"\x00\x01 not tensors")
    assert graph_of(fitted(epochs=1, checkpoints=str(tmp_path))) == graph_of(fitted(epochs=1)) and not list(tmp_path.iterdir())


def test_a_state_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "deep" / "a.safetensors"
    checkpoint.keep(file, {"net/w": torch.eye(2).T, "optimiser/0.step": torch.tensor(3.0)})
    assert checkpoint.under("net", checkpoint.kept(file))["w"].tolist() == [[1.0, 0.0], [0.0, 1.0]]

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.keep(file, {})
    assert len(checkpoint.kept(file)) == 2 and [p.name for p in file.parent.iterdir()] == [file.name]


def test_columns_are_chosen_by_their_kernels_and_all_where_none_fits():
    assert Gru().columns(NAMES) == READ and Gru(reads=["mean"]).columns(NAMES) == [1]
    assert Gru(reads=["nothing"]).columns(NAMES) == Gru(reads=[]).columns(NAMES) == [0, 1, 2, 3]


def test_as_many_weights_are_learnt_as_it_says():
    for model in (Gru(), Gru(history=2, width=3)):
        assert model.weights(5) == sum(p.numel() for p in model._network(5).parameters())


def test_little_data_is_enough_and_what_cannot_be_is_refused_in_words():
    past, y, asset = fleet(assets=1, ticks=2)
    model = Gru(**(QUICK | {"epochs": 1}))
    model.fit(past, y, asset)
    assert np.isfinite(model.score(past)).all()
    with pytest.raises(DataError, match="1 tick to fit a network on"):
        model.fit(past[np.array([0])], y[:1], asset[:1])
    with pytest.raises(UsageError, match="history is 1 -> it must be between 2 and 128"):
        Gru(history=1)
    with pytest.raises(UsageError, match="3 columns, width=400 make .* weights, more than 50,000 -> lower width"):
        Gru(width=400).fit(past, y, asset)


def test_a_light_copy_learns_in_an_epoch():
    assert Gru().light().epochs == 1 and Gru().history == 16
    assert not Gru(checkpoints="runs/checkpoints").light().checkpoints, "what looks at a model leaves nothing behind"


def test_a_device_that_keeps_the_last_ticks_in_memory_says_what_training_said():
    fleet = small_fleet()
    past = fleet.fitted.past(fleet.training.ticks)
    usable, target = fleet.training.usable("rul", fleet.protocol)
    model = Gru(**(QUICK | {"epochs": 1}))
    model.fit(past[usable], target[usable], fleet.training.asset[usable])
    whole = Fitted("gru", fleet.fitted.features, Scoped(model), fleet.protocol.cap)
    files = core_files(whole, fleet.policy, fleet.protocol, "small pumps")
    played = replay_ticks(Bundle(files, core_digest(files)), as_ticks(fleet.tested, fleet.training.contract))
    point = np.concatenate(played.outputs["rul"])
    assert np.allclose(point, whole.verdict(fleet.tested), rtol=1e-6, atol=1e-6) and len(np.unique(point)) > 100
