"""How much of a bearing classifier's accuracy is memory: the CWRU faults told by vibration snapshots, split in three ways.

Random by snapshot puts neighbours of every snapshot, from the same bearing and the same minute, into the training part. By recording,
a bearing is trained on at other motor loads. By bearing, the one that is tested was never seen: only this says anything of the
next machine. It takes two bearings of a kind of fault at least; where the files hold fewer, the figure is null, with the reason.
Features are those of conf/source/cwru.yaml, the classifier is LightGBM with fixed settings: nothing is chosen on any test part.
A miniature archive stands in where PMX_DATA_ROOT holds no CWRU files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import lightgbm
import numpy as np

from pmx import config
from pmx.evaluate.interval import ratio

SETTINGS = {
    "objective": "multiclass", "learning_rate": 0.1, "num_leaves": 15, "min_child_samples": 10, "feature_fraction": 0.5,
    "num_threads": 1, "deterministic": True, "force_row_wise": True, "seed": 0, "verbosity": -1,
}  # fmt: skip
TREES, FOLDS = 100, 5


def snapshots(root: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features float32 [snapshot, feature], and per snapshot the kind of fault, the bearing and the recording."""
    source = config.build(config.compose("cwru", [f"source.root={root}"])).source
    rows = source.load().rows.collect()
    of = {str(r.file): (r.kind, r.physical, r.file.name) for r in source.recordings()}
    kind, bearing, recording = np.array([of[file] for file in rows["file"]]).T
    return rows.select(source.snapshot.names(source.sensors)).to_numpy().astype(np.float32), kind, bearing, recording


def random_folds(kind: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Masks of the snapshots to fit on and to test, shuffled."""
    fold = np.random.default_rng(0).permutation(len(kind)) % FOLDS
    yield from ((fold != k, fold == k) for k in range(FOLDS))


def folds_of(kind: np.ndarray, unit: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The same, one unit tested at a time: those of the kinds that have another unit to learn from. The others are fitted on alone."""
    for name in sorted(set(unit)):
        tested = unit == name
        own = kind[tested][0]
        if len(set(unit[kind == own])) > 1:
            yield ~tested, tested


def accuracy(x: np.ndarray, kind: np.ndarray, folds: list[tuple[np.ndarray, np.ndarray]]) -> dict | None:
    """Share of the tested snapshots whose kind is told, with its interval over folds, per kind too; None where nothing can be tested."""
    if not folds:
        return None
    kinds, label = np.unique(kind, return_inverse=True)
    right = np.full(len(kind), np.nan)
    for fit, test in folds:
        model = lightgbm.train(SETTINGS | {"num_class": len(kinds)}, lightgbm.Dataset(x[fit], label[fit]), TREES)
        right[test] = np.asarray(model.predict(x[test])).argmax(1) == label[test]
    tested = ~np.isnan(right)
    hits, all_ = (np.array([part[test].sum() for _, test in folds], float) for part in (np.nan_to_num(right), tested))
    value, low, high = ratio(hits, all_, 1000, 0)
    each = {k: (round(float(right[tested & (kind == k)].mean()), 3) if (tested & (kind == k)).any() else None) for k in kinds.tolist()}
    majority = max(np.mean(kind[tested] == k) for k in kinds)
    return {"accuracy": value, "interval": (low, high), "n": int(tested.sum()), "folds": len(folds), "kinds": each, "majority": majority}


def told(name: str, found: dict | None, why: str) -> float | None:
    """Prints a row of the table; returns its accuracy."""
    if found is None:
        print(f"{name:26} –  {why}")
        return None
    low, high = found["interval"]
    each = ", ".join(f"{k} {'not tested' if v is None else v}" for k, v in found["kinds"].items())
    print(
        f"{name:26} {found['accuracy']:.3f} [{low:.3f}, {high:.3f}]  {found['n']:,} snapshots in {found['folds']} folds; {each}; "
        f"always the commonest kind {found['majority']:.3f}"
    )
    return round(found["accuracy"], 4)


def compare(root: str, data: str) -> dict:
    x, kind, bearing, recording = snapshots(root)
    count = {k: len(set(bearing[kind == k])) for k in sorted(set(kind))}
    print(f"{len(x):,} snapshots of {len(set(recording))} recordings; bearings by kind: " + ", ".join(f"{k} {n}" for k, n in count.items()))
    lone = "these files hold one bearing of each kind: without it, nothing of its kind is left to learn from"
    by_chance = accuracy(x, kind, list(random_folds(kind)))
    by_recording = accuracy(x, kind, list(folds_of(kind, recording)))
    by_bearing = accuracy(x, kind, list(folds_of(kind, bearing)))
    return {
        "bench": "cwru",
        "data": data,
        "random_split": told("random by snapshot", by_chance, ""),
        "leave_one_recording_out": told("by recording (other loads)", by_recording, "these files hold one recording of each kind"),
        "leave_one_bearing_out": told("by bearing", by_bearing, lone),
        "n_bearings": len(set(bearing)),
        "n_bearings_tested": 0 if by_bearing is None else by_bearing["folds"],
        "n_snapshots": len(x),
        "not_tested": sorted(k for k, n in count.items() if n < 2),
    }


def main() -> None:
    real = Path(os.environ.get("PMX_DATA_ROOT", "../shared/data")) / "cwru"
    if real.is_dir():
        result = compare(str(real), "cwru")
    else:
        with TemporaryDirectory() as folder:
            source = config.build(config.compose("cwru", [f"source.root={folder}"])).source
            source.write_miniature(Path(folder), faults="B007 B014 IR007 IR014 OR007@6 OR014@6")
            result = compare(folder, "miniature")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
