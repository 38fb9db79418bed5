"""Waveforms to ticks on a device: the bundle's own snapshot graph, run before the step graph sees a reading."""

from __future__ import annotations

import math
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime

from pmx import cell
from pmx.align import time_text
from pmx.bundle import SNAPSHOT, Bundle, WaveSpec
from pmx.clock import LocalTimes
from pmx.contract import NEVER, Contract, DataError, IncompatibleError, Rows
from pmx.edge.step import session

BLOCK = 64  # snapshots in one call of the graph: more are no faster, and each of them takes memory
LARGEST = 2**30  # bytes of a file of waveforms, unpacked
AT_ONCE = 1024  # snapshots between two signs of life
KINDS = "fiuUM"  # of arrays that hold values, names or times
Progress = Callable[[str, int, int], None]  # what, done, in all


class Reducer:
    """The tick channels that a snapshot graph makes of waveforms. A snapshot does not depend on those beside it.

    Args:
        graph: the bytes of `snapshot.onnx`.
        spec: what the graph takes and makes.

    Example:
        >>> from pmx.contract import Channel
        >>> from pmx.feature.kernel import TrailingMean
        >>> from pmx.feature.snapshot import Snapshot
        >>> spec = WaveSpec((Channel("casing", "g", rate=100.0),), 4, 100.0, (), ("casing_mean",))
        >>> reducer = Reducer(Snapshot([TrailingMean(4)], samples=4, rate=100.0).graph(1), spec)
        >>> reducer.reduce({"casing": np.array([[1.0, 2.0, 3.0, 4.0]], np.float32)})
        {'casing_mean': array([2.5], dtype=float32)}
    """

    def __init__(self, graph: bytes, spec: WaveSpec) -> None:
        self.spec, self._session = spec, session(graph)
        shapes = {i.name: i.shape[1:] for i in self._session.get_inputs()}
        wanted = {"waves": [spec.samples, len(spec.channels)], "tags": [len(spec.tags)]}
        if shapes != {k: v for k, v in wanted.items() if k == "waves" or spec.tags}:
            raise IncompatibleError(f"the snapshot graph takes {shapes}, the spec promises {wanted} -> pack again")

    @staticmethod
    def of(bundle: Bundle) -> Reducer | None:
        """The reducer of a bundle; None where it takes no waveforms."""
        spec = bundle.spec.waves
        if spec is not None and SNAPSHOT not in bundle.files:
            raise IncompatibleError(f"the spec promises {SNAPSHOT}, which is not in the bundle -> pack again")
        return None if spec is None else Reducer(bundle.files[SNAPSHOT], spec)

    def reduce(self, waves: Mapping[str, np.ndarray], rate: float | None = None) -> dict[str, np.ndarray]:
        """Tick channels float32 [snapshot] by name.

        Args:
            waves: wave channel -> float32 [snapshot, sample], NaN = missing; tag -> [snapshot].
            rate: samples a second that the waveforms were taken at, in Hz; None = nobody says, the bundle's own is taken.
        """
        names, spec = [c.name for c in self.spec.channels], self.spec
        if rate is not None and not abs(rate - spec.rate) <= 1e-6 * spec.rate:
            how = f"resample them to {spec.rate:g} Hz with a low-pass filter before"
            raise DataError(f"waveforms are sampled at {rate:g} Hz, the bundle was made for {spec.rate:g} Hz -> {how}")
        for name in [n for n in (*names, *spec.tags) if n not in waves]:
            raise DataError(f"{'channel' if name in names else 'tag'} {name} is missing, there are {', '.join(waves)} -> add it")
        for name in names:
            if waves[name].ndim != 2 or waves[name].shape[1] != spec.samples:
                got = f"has {waves[name].shape[-1]:,} samples" if waves[name].ndim == 2 else f"has the shape {waves[name].shape}"
                how = "cut or take snapshots of that length"
                raise DataError(f"channel {name}: a waveform {got}, the bundle takes {spec.samples:,} each -> {how}")
        counts = {name: len(waves[name]) for name in (*names, *spec.tags)}
        if len(set(counts.values())) > 1:
            raise DataError(f"waveforms differ in number: {counts} -> one of every channel and tag for each snapshot")
        tags = np.stack([np.asarray(waves[n], np.float32) for n in spec.tags], 1) if spec.tags else None
        made = run(self._session, np.stack([np.asarray(waves[n], np.float32) for n in names], 2), tags)
        return {name: made[:, i] for i, name in enumerate(spec.makes)}


def run(graph: onnxruntime.InferenceSession, waves: np.ndarray, tags: np.ndarray | None = None) -> np.ndarray:
    """Tick channels float32 [snapshot, tick channel] of waveforms float32 [snapshot, sample, channel] and tags float32 [snapshot, tag]."""
    if not len(waves):  # the runtime refuses an empty batch of products
        nothing = np.full((1, *waves.shape[1:]), np.nan, np.float32)
        return run(graph, nothing, None if tags is None else np.full((1, tags.shape[1]), np.nan, np.float32))[:0]
    parts = []
    for begin in range(0, len(waves), BLOCK):
        given = {"waves": np.ascontiguousarray(waves[begin : begin + BLOCK], np.float32)}
        if tags is not None:
            given["tags"] = np.ascontiguousarray(tags[begin : begin + BLOCK], np.float32)
        parts.append(np.asarray(graph.run(["ticks"], given)[0]))
    return np.concatenate(parts)


def wave_rows(path: Path, bundle: Bundle, beside: Rows | None = None, progress: Progress | None = None) -> Rows:
    """Rows of a file of waveforms, reduced by the bundle's own graph, and joined with process rows of the same asset and time.

    The file is an .npz without pickles: `asset` and `time` [snapshot], an array [snapshot, sample] for each wave channel, an array [snapshot]
    for each process channel that it brings along, and perhaps `rate` in Hz, one number.

    Args:
        beside: wide rows with the other channels; each keeps its place. A snapshot that none of them matches stands before the first later
            row of its asset.
        progress: is told of snapshots.
    """
    reducer, spec = Reducer.of(bundle), bundle.spec
    if reducer is None or spec.waves is None:
        raise IncompatibleError(f"bundle {spec.name} takes no waveforms -> give its channels as rows")
    arrays = read_npz(path)
    waves = [c.name for c in spec.waves.channels]
    with _told(path):
        given = np.unique(np.asarray(arrays.pop("rate"), np.float64)) if "rate" in arrays else np.empty(0)
        if len(given) > 1 or np.isnan(given).any():
            raise DataError("array rate: one number in Hz for the whole file -> divide the file by rate")
        rate = float(given[0]) if len(given) else None
        asset, time = _column(arrays, "asset", "U").astype(object), _column(arrays, "time", KINDS)
        _check_arrays(arrays, waves, len(asset))
        parts = []
        for begin in range(0, max(len(asset), 1), AT_ONCE):
            parts.append(reducer.reduce({k: v[begin : begin + AT_ONCE] for k, v in arrays.items()}, rate))
            if progress and len(asset) > AT_ONCE:
                progress("snapshots", min(begin + AT_ONCE, len(asset)), len(asset))
        values = {n: np.concatenate([p[n] for p in parts]).astype(np.float64) for n in spec.waves.makes}
        values |= {n: _column(arrays, n, "fiu").astype(np.float64) for n in arrays if n not in (*waves, "asset", "time")}
    made = Rows(asset, time, values, np.full(len(asset), str(path), object), np.arange(1, len(asset) + 1))
    return made if beside is None else _joined(made, beside, spec.contract)


def process_contract(bundle: Bundle, path: Path) -> Contract:
    """What rows beside a file of waveforms must have: the contract without the channels that the snapshot graph makes or the file brings."""
    contract, spec = bundle.spec.contract, bundle.spec.waves
    with _told(path), zipfile.ZipFile(path) as archive:
        there = {*(spec.makes if spec else ()), *(name.removesuffix(".npy") for name in archive.namelist())}
    return replace(contract, channels=tuple(c for c in contract.channels if c.name not in there), running=None)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file; refused where it holds objects, or more than `LARGEST` bytes, before they are unpacked."""
    with _told(path):
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
            if size > LARGEST:
                raise DataError(f"{size:,} bytes unpacked, at most {LARGEST:,} -> divide it into several files")
            for entry in archive.infolist():
                _check_header(archive, entry)
        with np.load(path, allow_pickle=False) as data:
            return {name: data[name] for name in data.files}


def _check_header(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """An array claims its own size: refused before memory is taken for more than the archive holds."""
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    if dtype.hasobject or math.prod(shape) * max(1, dtype.itemsize) > entry.file_size:
        raise ValueError(f"array {entry.filename.removesuffix('.npy')} holds objects, or less than it claims")


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Puts the file's name before what is wrong with it, and says it in words."""
    try:
        yield
    except DataError as error:
        what = str(error)
    except OSError as error:
        what = f"{error.strerror or error} -> check the path and its permissions"
    except (zipfile.BadZipFile, zipfile.LargeZipFile, ValueError, EOFError, KeyError, RuntimeError, MemoryError, zlib.error) as error:
        what = f"{error} -> write it with numpy.savez, without objects, or take it from its origin"
    else:
        return
    raise DataError(f"Cannot read {path}: {what}") from None


def _check_arrays(arrays: Mapping[str, np.ndarray], waves: list[str], snapshots: int) -> None:
    for name, array in arrays.items():
        if array.ndim > 1 and name not in waves:
            raise DataError(f"array {name}: the bundle takes no such waveform, its channels are {', '.join(waves)} -> leave it out")
        if array.ndim == 0 or len(array) != snapshots:
            got = f"{len(array) if array.ndim else 1:,} values, but there are {snapshots:,} assets"
            raise DataError(f"array {name}: {got} -> one for each snapshot")


def _column(arrays: Mapping[str, np.ndarray], name: str, kinds: str) -> np.ndarray:
    if name not in arrays:
        raise DataError(f"array {name} is missing, there are {', '.join(arrays) or 'none'} -> add it, one value for each snapshot")
    if arrays[name].ndim != 1 or arrays[name].dtype.kind not in kinds:
        got = f"{arrays[name].dtype} of shape {arrays[name].shape}"
        raise DataError(f"array {name} is {got} -> one {'text' if kinds == 'U' else 'value'} for each snapshot")
    return arrays[name]


def _joined(made: Rows, beside: Rows, contract: Contract) -> Rows:
    """Both tables as one, in the order of the second."""
    file = beside.file[0] if len(beside) else "the rows"
    if beside.channel is not None:
        raise DataError(f"{file}: long rows cannot stand beside waveforms -> one row for each time, with a column per channel")
    if twice := sorted(set(made.values) & set(beside.values)):
        raise DataError(f"channel {twice[0]} is in the file of waveforms and in {file} -> leave it out of one of them")
    match, places = _places(_keys(made, contract), _keys(beside, contract))
    order = sorted([*places, *((float(i), 1, i) for i in range(len(beside)))])
    own = np.array([match[i] if kind else i for _, kind, i in order], np.int64)  # of the snapshot, -1 = none
    other = np.array([i if kind else -1 for _, kind, i in order], np.int64)  # of the row, -1 = none
    text = Rows(made.asset, _as_text(made.time, contract), made.values, made.file, made.row)
    picked = {n: _pick(text.values[n], own) for n in text.values} | {n: _pick(beside.values[n], other) for n in beside.values}
    columns = [
        np.where(other >= 0, _pick(getattr(beside, n), other), _pick(getattr(text, n), own)) for n in ("asset", "time", "file", "row")
    ]
    return Rows(columns[0], columns[1], picked, columns[2], columns[3].astype(np.int64))


Key = tuple[str, float | None]  # asset and time, None = it cannot be read


def _places(made: list[Key], beside: list[Key]) -> tuple[list[int], list[tuple[float, int, int]]]:
    """For each row the snapshot that matches it, -1 = none; and where the other snapshots belong, as (place, 0, snapshot)."""
    partner = {key: i for i, key in reversed(list(enumerate(beside))) if key[1] is not None}
    newest: dict[str, tuple[list[float], list[int]]] = {}
    for i, (asset, time) in enumerate(beside):
        if time is not None:
            times, rows = newest.setdefault(asset, ([], []))
            times.append(max(time, times[-1]) if times else time)
            rows.append(i)
    match, places = [-1] * len(beside), []
    for i, (asset, time) in enumerate(made):
        at = partner.get((asset, time), -1)
        if at >= 0 and match[at] < 0:
            match[at] = i
            continue
        times, rows = newest.get(asset, ([], []))
        later = len(times) if time is None else bisect_right(times, time)
        places.append((rows[later] - 0.5 if later < len(rows) else float(len(beside)), 0, i))
    return match, places


def _pick(column: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The values at these positions; nothing where the position is -1."""
    nothing = np.array([np.nan]) if column.dtype.kind == "f" else np.array([""], object)
    return np.concatenate([column if column.dtype.kind == "f" else column.astype(object), nothing])[at]


def _as_text(time: np.ndarray, contract: Contract) -> np.ndarray:
    """Times as raw text, object [row]."""
    if time.dtype.kind in "OU":
        return time.astype(object)
    if contract.clock == "life":
        return np.array([repr(float(t)) for t in time.tolist()], object)
    return np.array([time_text(contract, t) if t != NEVER else "" for t in cell.times(time)[0].tolist()], object)


def _keys(rows: Rows, contract: Contract) -> list[Key]:
    """Asset and time of each row, as the contract's clock counts; None where the time cannot be read."""
    asset = cell.names(rows.asset)
    if contract.clock == "calendar":
        time, _ = LocalTimes(contract).utc(asset, *cell.times(rows.time))
        return [(a, None if t == NEVER else t) for a, t in zip(asset.tolist(), time.tolist(), strict=True)]
    time, lost = cell.durations(rows.time)
    return [(a, None if gone else t) for a, t, gone in zip(asset.tolist(), time.tolist(), lost.tolist(), strict=True)]
