"""What a device carries: installed size of the base dependencies, import time, and the packages that `import pmx.edge` does not load.

The peer of the import time is `import numpy`, in processes of their own, in alternation.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

BASE = ("numpy", "onnxruntime")
ROUNDS = 7


def installed_mb(names: set[str]) -> float:
    return sum(Path(f.locate()).stat().st_size for n in names for f in distribution(n).files or [] if Path(f.locate()).is_file()) / 1e6


def with_requirements(names: tuple[str, ...]) -> set[str]:
    """The distributions and what they need without extras."""
    found: set[str] = set()
    stack = list(names)
    while stack:
        name = stack.pop()
        if name not in found:
            found.add(name)
            needs = [Requirement(text) for text in distribution(name).requires or []]
            stack += [r.name for r in needs if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found


def seconds(code: str) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - begin


def main() -> None:
    pairs = [(seconds("import pmx.edge.step"), seconds("import numpy"), seconds("pass")) for _ in range(ROUNDS)]
    middle = sorted(pairs)[ROUNDS // 2]
    code = "import pmx.edge, pmx.edge.step, sys; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    training = {"torch", "polars", "pandas", "sklearn", "lightgbm", "hydra", "mlflow", "scipy"}
    base = with_requirements(BASE)
    result = {
        "bench": "footprint",
        "base_distributions": sorted(base),
        "base_mb": round(installed_mb(base), 1),
        "import_edge_s": round(middle[0], 3),
        "import_numpy_s": round(middle[1], 3),
        "python_s": round(middle[2], 3),
        "training_packages_loaded": sorted(training & set(loaded)),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
