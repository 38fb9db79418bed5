"""Runs of plain values, for tests of what is kept of a run."""

from __future__ import annotations

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from pmx.bundle import CORE, core_digest, digest, to_json
from pmx.tracking import Outcome, Tracker

matplotlib.use("agg")

DIGEST = "sha256-" + "ab" * 32
FILES = {name: f"{name} of a model".encode() for name in CORE}
CORE_DIGEST = core_digest(FILES)


def sealed(folder: Path, **changed: bytes) -> Path:
    """Writes a bundle whose manifest holds what it holds; `changed` are further files by their stem."""
    files = FILES | {"card.md": b"# A model", "evidence.json": b"{}"}
    files |= {name: changed[name.partition(".")[0]] for name in files if name.partition(".")[0] in changed}
    folder.mkdir(exist_ok=True)
    manifest = {"core_digest": core_digest(files), "files": {name: digest(data) for name, data in files.items()}}
    for name, data in (files | {"manifest.json": to_json(manifest)}).items():
        (folder / name).write_bytes(data)
    return folder


def outcome(rmse: float, bundle: Path | None = None, **gates: bool) -> Outcome:
    figure = Figure()
    figure.subplots().plot([0, 1], [1, 0])
    numbers = {"test/rmse_last_capped": rmse, "test/rmse_last_capped_lo": rmse - 1, "test/rmse_last_capped_hi": rmse + 1, "test/none": None}
    return Outcome(
        f"demo · lightgbm · RMSE {rmse}", "Verdict.", "lightgbm", CORE_DIGEST, 2, {**numbers, "test/nan": float("nan")},
        gates or {"parity": True}, {"error by true RUL": figure}, (), bundle,
    )  # fmt: skip


def finished(tracker: Tracker, rmse: float, bundle: Path | None = None) -> str:
    run = tracker.start("starting", {"model": {"lightgbm": {"leaves": 31}}, "seeds": [1, 2]}, revision="abc123", seeds={"split": 7})
    tracker.data(run, "demo", DIGEST, "synthetic")
    tracker.log_candidate(run, "lightgbm", {"leaves": 31}, {"validation/rmse": rmse + 1})
    tracker.log_candidate(run, "mlp", {"width": [8, 8]}, {"validation/rmse": rmse + 2})
    tracker.finish(run, outcome(rmse, bundle))
    return run
