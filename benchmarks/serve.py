"""What one prediction costs: the bundle against `Booster.predict` and against MLflow's pyfunc of the same model, in alternation.

Like with like: each gives the score of a ready feature row, and inputs rotate. The bundle's model is lowered in every opset profile. The
whole step, which also computes the features and judges the sensors, stands beside them: the peers have no such part. Simulated pumps
unless PMX_DATA_ROOT holds C-MAPSS (FD001).
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow.lightgbm
import mlflow.pyfunc
import numpy as np
import pandas as pd
from spox import Tensor, argument, build

from benchmarks.replay import prepare
from pmx.edge.step import Stepper, session
from pmx.gate.parity import as_ticks
from pmx.model import Model
from pmx.pack import PROFILES
from pmx.pack.profile import lower

ROUNDS, ALONE, BATCH = 300, 3, 512
Predict = Callable[[int, int], np.ndarray]  # first row, number of rows -> scores


def graphs(model: Model, features: np.ndarray) -> dict[str, Predict]:
    """The model's own nodes from feature rows, in each opset profile."""
    given = argument(Tensor(np.float32, ("asset", features.shape[1])))
    graph = build({"x": given}, {"y": model.to_onnx(given)}).SerializeToString()

    def way(profile: str) -> Predict:
        of_profile = session(lower(graph, profile))
        return lambda a, n: of_profile.run(None, {"x": features[a : a + n]})[0]

    return {f"graph {profile}": way(profile) for profile in PROFILES}


def pyfunc(booster: object, frame: pd.DataFrame, folder: Path) -> Predict:
    """MLflow's pyfunc of a booster, on rows of a pandas frame, which it is made for."""
    mlflow.lightgbm.save_model(booster, folder, pip_requirements=["lightgbm"])
    loaded = mlflow.pyfunc.load_model(str(folder))  # our own file, of a moment ago
    return lambda a, n: np.asarray(loaded.predict(frame.iloc[a : a + n]))


def alternate(ways: dict[str, Predict], rows: int, size: int, rounds: int) -> dict[str, np.ndarray]:
    """CPU seconds per call of each way, [round]; each round visits all of them on the same inputs."""
    taken = {name: np.empty(rounds) for name in ways}
    for i in range(-10, rounds):
        first = (i * size * 7) % (rows - size)
        for name, predict in ways.items():
            begin = time.thread_time()
            predict(first, size)
            if i >= 0:
                taken[name][i] = time.thread_time() - begin
    return taken


def main() -> None:
    name, fitted, bundle, frame = prepare()
    model: Any = fitted.model.model
    features = fitted.table(frame)
    boosters = model.boosters_
    readings = np.concatenate(as_ticks(frame, bundle.spec.contract).values)
    stepper, one = Stepper(bundle, ["one"]), np.array([0])
    with tempfile.TemporaryDirectory() as folder:
        columns = pd.DataFrame(features, columns=[f"f{i}" for i in range(features.shape[1])])
        flavours = [pyfunc(b, columns, Path(folder) / str(i)) for i, b in enumerate(boosters)]
        ways = graphs(model, features) | {
            "Booster.predict": lambda a, n: sum(b.predict(features[a : a + n], num_threads=1) for b in boosters) / len(boosters),
            "MLflow pyfunc": lambda a, n: sum(f(a, n) for f in flavours) / len(flavours),
        }
        want = ways["Booster.predict"](0, BATCH)
        agree = {n: bool((np.asarray(predict(0, BATCH)).reshape(-1) == want).all()) for n, predict in ways.items()}
        step: dict[str, Predict] = {"whole step": lambda a, n: stepper.step(one, readings[a][None]).standing}
        alone = alternate(ways | step, len(features), 1, ROUNDS * ALONE)
        batch = alternate(ways, len(features), BATCH, ROUNDS // 10)
    base = np.median(alone["graph ort"])
    result = {
        "bench": "serve",
        "data": name,
        "trees": sum(b.num_trees() for b in boosters),
        "features": features.shape[1],
        "boosters": len(boosters),
        "bundle_bytes": bundle.size,
        "same_bits": agree,
        "alone_p50_us": {n: round(float(np.median(t)) * 1e6, 1) for n, t in alone.items()},
        "alone_p99_us": {n: round(float(np.percentile(t, 99)) * 1e6, 1) for n, t in alone.items()},
        "alone_times_graph": {n: round(float(np.median(t) / base), 2) for n, t in alone.items()},
        f"rows_per_second_at_{BATCH}": {n: round(BATCH / float(np.median(t))) for n, t in batch.items()},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
