"""`pack`: the core files of a bundle. The same fitted objects give the same bytes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np

from pmx.alarm.state import Policy
from pmx.bundle import SNAPSHOT, Bundle, Spec, core_digest, core_of, to_json, to_npz
from pmx.contract import Contract
from pmx.edge.replay import replay_ticks
from pmx.edge.selftest import golden_ticks
from pmx.evaluate.protocol import Protocol
from pmx.feature.features import FeatureSet
from pmx.feature.graph import step_graph
from pmx.model.trees import check_acyclic
from pmx.pack.fitted import Fitted
from pmx.pack.profile import lower
from pmx.source import Waves
from pmx.source.wave import spec_of

GOLDEN_ASSETS, GOLDEN_STEPS = 4, 120


def core_files(
    fitted: Fitted, policy: Policy, protocol: Protocol, name: str, show_features: bool = False, waves: Waves | None = None
) -> dict[str, bytes]:
    """The core files of a fitted candidate as bytes; with `show_features` the graph also gives the features, for parity alone.

    Args:
        waves: what its readings were reduced from; the snapshot graph then travels with the bundle.
    """
    contract, hop = fitted.features.contract_, 1
    graph = lower(step_graph(fitted.features, hop, fitted.head, fitted.slots, show_features), fitted.profile)
    check_acyclic(graph)
    spec = Spec(
        name,
        fitted.task,
        contract,
        fitted.features.rows,
        hop,
        fitted.features.slots + fitted.slots,
        (*fitted.outputs, "contribution", *(["quality"] if fitted.features.quality_ else [])),
        protocol.cap,
        protocol.horizon,
        protocol.lead,
        waves=spec_of(waves) if waves else None,
        classes=fitted.classes,
    )
    files = {
        "model.onnx": graph,
        "policy.json": to_json(policy.to_json()),
        "memory0.npz": to_npz(memory0(fitted)),
        "spec.json": to_json(spec.to_json()),
        "golden.npz": b"",
    } | ({SNAPSHOT: waves.snapshot.graph(len(waves.channels))} if waves else {})
    values, packed = golden_readings(fitted.features, contract), Bundle(files, "")
    played = replay_ticks(packed, golden_ticks(values, packed))
    outputs = {n: np.stack(told) for n, told in played.outputs.items()}
    files["golden.npz"] = to_npz({"values": values, "standing": np.stack(played.standing), **outputs})
    return files


def memory0(fitted: Fitted) -> dict[str, np.ndarray]:
    """One default row, and a row for each asset that has constants of its own."""
    start = {"default": fitted.memory0([""])}
    return start | ({"assets": np.array(fitted.assets), "rows": fitted.memory0(fitted.assets)} if fitted.assets else {})


def pack(folder: Path, fitted: Fitted, policy: Policy, protocol: Protocol, name: str, waves: Waves | None = None) -> str:
    """Writes the core files into a new folder and returns the core digest; the folder appears whole or not at all."""
    files = core_files(fitted, policy, protocol, name, waves=waves)
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        for file in core_of(files):
            (part / file).write_bytes(files[file])
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return core_digest(files)


def golden_readings(features: FeatureSet, contract: Contract, seed: int = 0) -> np.ndarray:
    """Made-up histories float32 [asset, time, channel] around the normalisation's constants: no reading of the plant leaves with a bundle.

    Each asset drifts, faster than the one before, changes its regime now and then, and loses one value in twenty.
    """
    n, rng = features.normalise_, np.random.default_rng(seed)
    shape = (GOLDEN_ASSETS, GOLDEN_STEPS)
    regime = np.repeat(rng.integers(0, len(n.centre_), (GOLDEN_ASSETS, GOLDEN_STEPS // 10)), 10, axis=1)
    drift = np.linspace(0, 1, GOLDEN_STEPS)[None, :, None] ** 2 * 2.0 * np.arange(GOLDEN_ASSETS)[:, None, None]
    own = [n.own_[a] for a in sorted(n.own_)][:GOLDEN_ASSETS]  # the golden assets stand in for the first known ones
    mean, scale = np.stack([own[i] if i < len(own) else np.stack([n.mean_, n.scale_]) for i in range(GOLDEN_ASSETS)], 1)
    each = np.arange(GOLDEN_ASSETS)[:, None]
    z = rng.normal(size=(*shape, len(n.channels_))) + drift * rng.choice([-1.0, 1.0], len(n.channels_))
    readings = np.zeros((*shape, len(contract.channels)))
    spread = np.where(np.isinf(scale), 0.0, scale)
    names = contract.names
    readings[..., [names.index(c) for c in n.channels_]] = mean[each, regime] + spread[each, regime] * z
    lost = rng.random(readings.shape) < 0.05
    readings[..., [names.index(c) for c in n.settings_]] = n.centre_[regime]
    lost[..., [names.index(c) for c in n.settings_]] = False
    readings[lost] = np.nan
    return readings.astype(np.float32)
