"""The artefact: one directory of five core files, six where it takes waveforms, sealed by a manifest.

Digests are checked over raw bytes before anything is parsed.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pmx.contract import Channel, Contract, DataError, DigestError, IncompatibleError

FORMAT = 1
CORE = ("model.onnx", "policy.json", "memory0.npz", "golden.npz", "spec.json")
SNAPSHOT = "snapshot.onnx"  # a core file of the bundles that take waveforms
SEALED = ("manifest.json", "evidence.json", "card.md", "sbom.cdx.json")
LARGEST = 256 * 2**20  # bytes of one file; a device must not be filled up by what claims to be a bundle


@dataclass(frozen=True)
class WaveSpec:
    """What a device needs to know to feed the snapshot graph.

    Attributes:
        channels: of the waveforms, in the order of the graph's channel axis.
        samples: of one waveform.
        rate: samples a second, in Hz.
        tags: process channels that the graph reads beside them, such as a speed.
        makes: the tick channels that it gives.

    Example:
        >>> from pmx.contract import Channel
        >>> WaveSpec((Channel("drive_end", "g", rate=12_000.0),), 2048, 12_000.0, (), ("drive_end_rms",)).samples
        2048
    """

    channels: tuple[Channel, ...]
    samples: int
    rate: float
    tags: tuple[str, ...]
    makes: tuple[str, ...]

    @staticmethod
    def from_json(data: dict[str, Any]) -> WaveSpec:
        return WaveSpec(
            tuple(Channel(**c) for c in data["channels"]), data["samples"], data["rate"], tuple(data["tags"]), tuple(data["makes"])
        )


@dataclass(frozen=True)
class Spec:
    """What a device needs to know to feed the step graph.

    Attributes:
        name: what the bundle is called.
        task: `rul`, `failure` (within the horizon), `fault` (which class) or `anomaly`.
        contract: the readings it takes.
        window: W, rows of the window.
        hop: ticks between two scores.
        slots: M, memory values per asset.
        outputs: names of the graph's verdict outputs.
        cap: the largest RUL it can state, in the life unit.
        horizon, lead: what its alarms were set for, in the life unit.
        bound: largest difference on the golden vectors that the self-test accepts, relative to the larger of 1 and the value.
        waves: what its snapshot graph takes and makes; None = it takes no waveforms.
        classes: of faults, in the order of the output `fault_probability`, `healthy` first; empty where it tells none.

    Example:
        >>> from pmx.contract import Channel
        >>> spec = Spec("pumps", "rul", Contract((Channel("flow", "m3/h"),), "h", "life"), 10, 1, 3, ("rul",), 100.0, 30.0, 5.0)
        >>> Spec.from_json(spec.to_json()) == spec
        True
    """

    name: str
    task: str
    contract: Contract
    window: int
    hop: int
    slots: int
    outputs: tuple[str, ...]
    cap: float
    horizon: float
    lead: float
    bound: float = 1e-5
    waves: WaveSpec | None = None
    classes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        lists = {"outputs": list(self.outputs), "classes": list(self.classes)}
        return {"format": FORMAT} | asdict(self) | {"contract": self.contract.to_json()} | lists

    @staticmethod
    def from_json(data: dict[str, Any]) -> Spec:
        data = dict(data)
        if data.pop("format", None) != FORMAT:
            raise IncompatibleError(f"the bundle's format is not {FORMAT} -> update pmx, or pack the model again")
        waves = data.get("waves")
        more = {"outputs": tuple(data["outputs"]), "classes": tuple(data.get("classes", ())), "waves": waves and WaveSpec.from_json(waves)}
        return Spec(**{**data, "contract": Contract.from_json(data["contract"]), **more})


def digest(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def core_of(files: Collection[str]) -> tuple[str, ...]:
    """The core files among these, in the order of their digest."""
    return (*CORE, SNAPSHOT) if SNAPSHOT in files else CORE


def core_digest(files: dict[str, bytes]) -> str:
    """The joint digest of the core files: the identity of what is evaluated."""
    return digest("".join(f"{name} {digest(files[name])}\n" for name in core_of(files)).encode())


def to_json(data: object) -> bytes:
    """JSON bytes that depend on the content alone."""
    return (json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def to_npz(arrays: dict[str, np.ndarray]) -> bytes:
    """Arrays as the bytes of an .npz file; numpy writes a fixed date, so they depend on the content alone."""
    out = io.BytesIO()
    np.savez(out, allow_pickle=False, **arrays)
    return out.getvalue()


@dataclass(frozen=True)
class Bundle:
    """A bundle whose digests held. Everything is read once, as bytes; the parsed parts are properties.

    Attributes:
        files: name -> bytes.
        core: the core digest.

    Example:
        >>> Bundle.open(Path("nowhere"))
        Traceback (most recent call last):
        pmx.contract.DataError: nowhere: no such bundle -> give the directory that pmx run wrote
    """

    files: dict[str, bytes]
    core: str

    @staticmethod
    def open(path: Path, packed_as: str | None = None) -> Bundle:
        """Opens a sealed bundle; or, with the core digest that `pack` returned, one that is not sealed yet.

        Raises:
            DigestError: a file was changed, is missing, or does not belong there.
        """
        files = _read(Path(path))
        if packed_as is None:
            core = _check_manifest(path, files)
        else:
            missing = [n for n in CORE if n not in files]
            if missing:
                raise DigestError(f"{path}: {', '.join(missing)} missing -> pack the model again")
            core = core_digest(files)
            if core != packed_as:
                raise DigestError(
                    f"{path}: core digest is {core[:12]}, packed as {packed_as[:12]}; a file was changed -> pack the model again"
                )
        return Bundle(files, core)

    @property
    def spec(self) -> Spec:
        return Spec.from_json(json.loads(self.files["spec.json"]))

    @property
    def policy(self) -> dict[str, Any]:
        return json.loads(self.files["policy.json"])

    @property
    def evidence(self) -> dict[str, Any]:
        return json.loads(self.files.get("evidence.json", b"{}"))

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(map(len, self.files.values()))

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of an .npz file of the bundle; pickled objects are refused."""
        with np.load(io.BytesIO(self.files[name]), allow_pickle=False) as data:
            return {k: data[k] for k in data.files}

    @property
    def known(self) -> list[str]:
        """The assets that have constants of their own; empty where those of the fleet hold for all."""
        start = self.arrays("memory0.npz")
        return start["assets"].tolist() if "assets" in start else []

    def memory(self, assets: Sequence[str]) -> np.ndarray:
        """The memory of assets before their first tick, float64 [asset, M]; the default row for one that is not known."""
        start, row = self.arrays("memory0.npz"), {name: i for i, name in enumerate(self.known)}
        memory = np.repeat(start["default"], len(assets), axis=0)
        for i, name in enumerate(assets):
            if name in row:
                memory[i] = start["rows"][row[name]]
        return memory


def _read(path: Path) -> dict[str, bytes]:
    if not path.is_dir():
        raise DataError(f"{path}: no such bundle -> give the directory that pmx run wrote")
    files, entries = {}, sorted(os.scandir(path), key=lambda e: e.name)
    if not {e.name for e in entries} & {*CORE, *SEALED}:
        raise DataError(f"{path}: this folder holds no bundle -> give the directory that pmx run wrote")
    for entry in entries:
        if entry.name not in (*CORE, SNAPSHOT, *SEALED) or not entry.is_file(follow_symlinks=False):
            raise DigestError(f"{path}: {entry.name} does not belong into a bundle -> remove it, or take the bundle from its origin")
        if entry.stat().st_size > LARGEST:
            raise DigestError(f"{path}: {entry.name} is larger than {LARGEST:,} bytes -> this is no bundle of pmx")
        try:
            files[entry.name] = Path(entry.path).read_bytes()
        except OSError as error:
            raise DataError(f"{path}: {entry.name}: {error.strerror} -> check the permissions of the bundle") from None
    return files


def _check_manifest(path: Path, files: dict[str, bytes]) -> str:
    if "manifest.json" not in files:
        raise DigestError(
            f"{path}: not sealed, manifest.json is missing -> only a run that passed every gate seals its bundle: see pmx compare"
        )
    try:
        manifest = json.loads(files["manifest.json"])
        expected: dict[str, str] = dict(manifest["files"])
        core = str(manifest["core_digest"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DigestError(f"{path}: manifest.json cannot be read -> take the bundle from its origin") from None
    changed = [n for n in sorted(set(expected) | set(files) - {"manifest.json"}) if n not in files or digest(files[n]) != expected.get(n)]
    missing = [n for n in CORE if n not in expected]
    if changed or missing:
        raise DigestError(
            f"{path}: {', '.join(changed or missing)} is not as sealed in manifest.json -> take the bundle from its origin, or pack again"
        )
    if core_digest(files) != core:
        raise DigestError(f"{path}: the core digest does not match the manifest -> take the bundle from its origin, or pack again")
    return core
