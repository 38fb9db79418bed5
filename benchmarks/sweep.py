"""A sweep that is killed at random times and resumed: trials that were repeated, trials that were lost, and its best beside an uninterrupted one's.

The cost is the size in bytes, which is the same in every run: a measured time is not, and what is proposed next follows from it. Each
kill (SIGKILL) comes a random share of a trial after a random number of finished trials, as the sweep's database counts them.

    python -m benchmarks.sweep [--trials 30] [--kills 5] [--seed 0]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

TINY = ["source.assets=12", "source.life=300", "window.folds=2", "evaluate.draws=50", "evaluate.cap=150", "evaluate.horizon=60"]
TINY += ["model=lightgbm", "model.lightgbm.trees=8", "model.lightgbm.min_child_samples=5", "model.lightgbm.average=1"]
TINY += ["feature=life", "feature.quality=null", "device.step_ms=5000", "device.resident_mb_max=4000", "sweep.cost=bytes"]
SPACE = [
    "model.lightgbm.num_leaves=3,7,15",
    "model.lightgbm.learning_rate=tag(log,interval(0.05,0.5))",
    "model.lightgbm.feature_fraction=interval(0.2,1)",
]


def pmx(words: list[str], place: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pmx.run", *words], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def answer(words: list[str], place: Path) -> dict[str, Any]:
    child = pmx([*words, "--json"], place)
    out, _ = child.communicate()
    return json.loads(out.splitlines()[-1])


def finished(place: Path) -> dict[int, str]:
    """The finished trials of the sweep in this folder and when each was completed, read from outside."""
    for file in place.glob("runs/demo/sweep_*/sweep.db"):
        with (
            contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)) as there,
            contextlib.suppress(sqlite3.OperationalError),
        ):
            return dict(there.execute("select number, datetime_complete from trials where state = 'COMPLETE'").fetchall())
    return {}


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, default in (("trials", 30), ("kills", 5), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    rng, words = np.random.default_rng(options.seed), ["sweep", "demo", *TINY, *SPACE, f"sweep.trials={options.trials}"]
    with tempfile.TemporaryDirectory() as folder:
        whole, parts = Path(folder, "whole"), Path(folder, "parts")
        whole.mkdir()
        parts.mkdir()
        begin = time.perf_counter()
        straight = answer(words, whole)
        each = (time.perf_counter() - begin) / options.trials
        stops, kept = sorted(rng.choice(options.trials - 1, options.kills, replace=False).tolist()), dict[int, str]()
        repeated = lost = 0
        for i, stop in enumerate(stops):
            child = pmx(["resume"] if i else words, parts)
            while len(finished(parts)) < max(stop, 1) and child.poll() is None:
                time.sleep(0.05)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=float(rng.uniform(0, each)))  # anywhere in the next trial
            os.kill(child.pid, signal.SIGKILL)
            child.communicate()
            now = finished(parts)
            lost += len(set(kept) - set(now))
            repeated += sum(now[n] != kept[n] for n in set(kept) & set(now))
            kept = now
            print(f"killed with {len(now)} of {options.trials} trials finished", flush=True)
        resumed = answer(["resume"], parts)
        now = finished(parts)
        lost += len(set(kept) - set(now)) + options.trials - len(now)
        repeated += sum(now.get(n) != kept[n] for n in kept) + len(resumed["trials"]) - options.trials
    same = [(t["words"], t["quality"]) for t in resumed["trials"]] == [(t["words"], t["quality"]) for t in straight["trials"]]
    figures = {"trials": options.trials, "kills": len(stops), "repeated": repeated, "lost": lost, "same_trials": same}
    print(json.dumps(figures | {"best": resumed["best"], "best_uninterrupted": straight["best"]}))


if __name__ == "__main__":
    main()
