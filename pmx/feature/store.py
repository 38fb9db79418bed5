"""Feature rows of large histories on disk: bounded memory, resumed after a kill, and not computed twice."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import inspect
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import pmx
from pmx.contract import Contract, DataError, Tell, UsageError
from pmx.edge.table import replacing
from pmx.feature.features import FeatureSet
from pmx.feature.large import BATCH, TOGETHER, Partition, partitions, tick_blocks
from pmx.feature.onward import Left, Onward
from pmx.source import History
from pmx.window.label import with_lives

FILE_ROWS = 65_536  # feature rows of a file, 33 MB of 127 features
ENGINES = ("numpy", "polars", "onnxruntime", "scipy", "scikit-learn", "spox")
DONE, MANIFEST, SHELF, REFUSED = "done.json", "manifest.json", "rows", "quarantine.parquet"


def digest_of(*parts: object) -> str:
    """SHA-256, in hex, over what decides a result: plain data, arrays, and objects by their class and their attributes."""
    return hashlib.sha256(json.dumps(_plain(parts), sort_keys=True).encode()).hexdigest()


def _plain(value: object) -> object:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.ndarray):
        return [str(value.dtype), value.shape, hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    if isinstance(value, Contract):
        return value.to_json()
    return [f"{type(value).__module__}.{type(value).__qualname__}", {k: _plain(v) for k, v in sorted(vars(value).items())}]


def code_digest(*objects: object) -> str:
    """SHA-256 over the code that makes ticks and features, over the modules of these objects' classes, and over the engines' versions."""
    root = Path(str(pmx.__file__)).parent
    own = {f for folder in (root, root / "source", root / "window", root / "feature") for f in folder.glob("*.py")}
    files = sorted(own | {Path(inspect.getfile(type(o))) for o in objects}, key=lambda f: (f.name, str(f)))
    whole = hashlib.sha256("".join(f"{e} {importlib.metadata.version(e)}\n" for e in ENGINES).encode())
    for file in files:
        whole.update(hashlib.sha256(file.read_bytes()).digest())
    return whole.hexdigest()


def sha256_of(file: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with file.open("rb") as bytes_:
        return hashlib.file_digest(bytes_, "sha256").hexdigest()


@dataclass(frozen=True)
class Stored:
    """A complete store.

    Attributes:
        folder: of this store.
        names: of the features; the column `f<i>` is the i-th.
        rows: feature rows.
        readings: raw rows that they were made of.
        refused: raw rows that the contract refused.
        partitions: of assets, those among them that were `cached`, so that nothing was computed for them.
        bytes: on disk.
        seconds: it took now.
        cells: values that the contract set apart from other rows.

    Example:
        >>> Stored(Path("features"), ["age"], 10, 160, 0, 2, 2, 1000, 0.1).computed
        0
    """

    folder: Path
    names: list[str]
    rows: int
    readings: int
    refused: int
    partitions: int
    cached: int
    bytes: int
    seconds: float
    cells: int = 0

    @property
    def computed(self) -> int:
        return self.partitions - self.cached

    @property
    def apart(self) -> str:
        """What the contract set apart, as words that go after the readings; empty where that is nothing."""
        return f" ({self.refused:,} of them and {self.cells:,} values set apart)" if self.refused or self.cells else ""

    def scan(self) -> pl.LazyFrame:
        """`asset`, `tick` and Float32 columns `f<i>`; the rows of an asset are in the order of their ticks."""
        return pl.scan_parquet(sorted(self.folder.glob("[0-9]*/part-*.parquet")))


class FeatureStore:
    """Every `hop`-th feature row of a history as Parquet, one folder per partition of assets.

    A partition appears by one rename, after its files and their digests are on disk: what a killed process had begun is computed again,
    what it had ended is not. A file that has changed since is found by its digest, and its partition computed again. The store's key is
    a digest over the data, the contract, the recipe, the hop and the code; whatever `fit` learns must follow from these.

    Args:
        folder: of all stores of a data set; each key has a folder in it.
        recipe: what decides the features, not fitted: a feature set, and what else `fit` depends on.
        hop: ticks between two feature rows of an asset.
        on_error: `refuse` or `quarantine`, as in `pmx.source.admit`.
        together: raw rows of the assets that share a partition.
        batch: raw rows that are held at a time.

    Example:
        >>> FeatureStore(Path("features"), ["recipe"], hop=16).hop
        16
    """

    def __init__(
        self, folder: Path, recipe: list[Any], hop: int = 1, on_error: str = "refuse", together: int = TOGETHER, batch: int = BATCH
    ) -> None:
        if hop < 1:
            raise UsageError(f"hop is {hop}: it counts ticks and must be at least 1")
        self.folder, self.recipe, self.hop, self.on_error = Path(folder), recipe, hop, on_error
        self.together, self.batch = together, batch

    def key(self, history: History) -> str:
        """Of this history's store."""
        kernels = [o for r in self.recipe if isinstance(r, FeatureSet) for o in (*r.kernels, r.normalise)]
        code = code_digest(*kernels)
        # the digest covers raw files: what was taken of them, and when lives begin, is told apart by the recipe and the events
        ends = history.events.sort(history.events.columns).write_csv() if history.events.width else ""
        return digest_of(
            history.digest, ends, sorted(history.calibration), history.contract, self.recipe, self.hop, self.on_error, self.together, code
        )[:32]

    def build(self, history: History, fit: Callable[[list[Partition]], FeatureSet], tell: Tell, fresh: bool = False) -> Stored:
        """Computes what the store lacks.

        Args:
            fit: the fitted feature set; called when something is to be computed.
            fresh: compute all of it.
        """
        begin = time.perf_counter()
        home = self.folder / self.key(history)
        home.mkdir(parents=True, exist_ok=True)
        with _alone(home):
            if fresh:
                _empty(home)
            known = _read(home / MANIFEST)
            done = {n: _sound(home / n) for n in known.get("partitions", [])}
            missing = [n for n, sound in done.items() if not sound]
            if not known or missing:
                cached = sum(map(bool, done.values()))
                known, done = self._compute(home, history, fit, tell)
            else:
                cached = len(done)
            shutil.rmtree(home / SHELF, ignore_errors=True)
            found = [d for d in done.values() if d]
            size = sum(f.stat().st_size for f in home.rglob("*") if f.is_file())
            rows, readings, refused, cells = (sum(d[what] for d in found) for what in ("rows", "readings", "refused", "cells"))
            return Stored(home, known["names"], rows, readings, refused, len(found), cached, size, time.perf_counter() - begin, cells)

    def _compute(
        self, home: Path, history: History, fit: Callable[[list[Partition]], FeatureSet], tell: Tell
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The manifest and what is known of each partition, after computing those that are missing."""
        for rest in home.glob(".*.part"):
            shutil.rmtree(rest)
        tell("reading asset names", 0, 1)
        parts = partitions(history.rows, home / SHELF, self.together)
        tell("fitting", 0, 1)
        features = fit(parts)
        manifest = {
            "history": history.name,
            "digest": history.digest,
            "hop": self.hop,
            "constants": digest_of(features.normalise_),
            "names": features.names_,
            "partitions": [p.name for p in parts],
        }
        if _read(home / MANIFEST).get("constants", manifest["constants"]) != manifest["constants"]:
            _empty(home, keep=SHELF)  # another platform's arithmetic: rows of two fits must not stand side by side
        _write(home / MANIFEST, manifest)
        onward, done = Onward(features, self.hop), {}
        for i, part in enumerate(parts):
            tell("features", i, len(parts))
            done[part.name] = _sound(home / part.name) or self._one(home, part, onward, history)
        tell("features", len(parts), len(parts))
        return manifest, done

    def _one(self, home: Path, part: Partition, onward: Onward, history: History) -> dict[str, Any]:
        """Computes a partition."""
        shutil.rmtree(home / part.name, ignore_errors=True)
        folder = home / f".{part.name}.part"
        folder.mkdir()
        refused: list[pl.DataFrame] = []
        rows, files = 0, []
        for i, table in enumerate(_gathered(self._features(part, onward, history, refused))):
            files.append(folder / f"part-{i:04}.parquet")
            table.write_parquet(files[-1], compression="lz4")
            rows += table.height
        if refused:
            files.append(folder / REFUSED)
            pl.concat(refused).write_parquet(files[-1])
        listed = {}
        for file in files:
            _sync(file)
            listed[file.name] = [file.stat().st_size, sha256_of(file)]
        lost = pl.concat([r["lost"] for r in refused]) if refused else pl.Series("lost", [], pl.String)
        apart = {"refused": int((lost == "row").sum()), "cells": int((lost == "value").sum())}
        done = {"rows": rows, "readings": sum(part.assets.values()), **apart, "files": listed}
        _write(folder / DONE, done)
        folder.replace(home / part.name)
        _sync(home)
        return done

    def _features(self, part: Partition, onward: Onward, history: History, refused: list[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        left: dict[tuple[str, int], Left] = {}
        for block in tick_blocks(part.rows, history.contract, self.on_error, self.batch, refused):
            for ticks in with_lives(block, history.events, history.contract).partition_by("asset", "life", maintain_order=True):
                life = ticks["asset"][0], ticks["life"][0]
                left[life], table = onward.take(left.get(life) or onward.start(), ticks)
                if table.height:
                    yield table


def _gathered(tables: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """The same rows in tables of about FILE_ROWS."""
    held: list[pl.DataFrame] = []
    for table in tables:
        held.append(table)
        if sum(t.height for t in held) >= FILE_ROWS:
            yield pl.concat(held)
            held = []
    if held:
        yield pl.concat(held)


def _sound(folder: Path) -> dict[str, Any] | None:
    """What is known of a partition, None where it is not there, or not as it was written."""
    done = _read(folder / DONE)
    for name, (size, digest) in done.get("files", {}).items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != size or sha256_of(file) != digest:
            return None
    return done or None


def _read(file: Path) -> dict[str, Any]:
    """Empty where there is no such file, or no JSON in it."""
    try:
        read = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}


def _write(file: Path, data: dict[str, Any]) -> None:
    with replacing(file) as part:
        part.write_text(json.dumps(data), encoding="utf-8")
        _sync(part)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _empty(home: Path, keep: str = "") -> None:
    for path in home.iterdir():
        if path.is_dir() and path.name != keep:
            shutil.rmtree(path)
    (home / MANIFEST).unlink(missing_ok=True)


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Refuses a second process on the same store; the system lifts the lock of one that was killed."""
    with (home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"{home}: another process computes these features -> wait until it has ended, or give --output") from None
        yield
