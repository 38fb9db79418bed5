"""What training needs to go on after it was killed: plain tensors in one file, which holds numbers and no code."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save


def identity(settings: dict[str, float | str], arrays: list[np.ndarray]) -> str:
    """A name for a training, 32 hexadecimal digits: the same settings, data and version of PyTorch have the same name."""
    found = hashlib.sha256(json.dumps(settings | {"torch": str(torch.__version__)}, sort_keys=True).encode())
    for array in arrays:
        found.update(f"{array.dtype.str}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:32]


def keep(path: Path, state: dict[str, torch.Tensor]) -> None:
    """Writes a state; the file is the old or the new one, never part of one, whenever the process is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(save({name: value.contiguous() for name, value in state.items()}))
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def kept(path: Path) -> dict[str, torch.Tensor]:
    """The state in a file; empty where there is none, or none that can be read: training then begins anew."""
    try:
        return load(path.read_bytes())
    except (FileNotFoundError, SafetensorError):
        return {}


def of_optimiser(optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """What an optimiser has gathered of each parameter, as tensors named `<parameter's number>.<what>`."""
    return {f"{i}.{name}": torch.as_tensor(value) for i, own in optimiser.state_dict()["state"].items() for name, value in own.items()}


def into_optimiser(optimiser: torch.optim.Optimizer, state: dict[str, torch.Tensor]) -> None:
    """Puts it back."""
    gathered: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in state.items():
        number, _, name = key.partition(".")
        gathered.setdefault(int(number), {})[name] = value
    optimiser.load_state_dict(optimiser.state_dict() | {"state": gathered})


def under(prefix: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The part of a state whose names begin with `<prefix>/`, without it."""
    return {name.partition("/")[2]: value for name, value in state.items() if name.startswith(f"{prefix}/")}
