"""The device budget of a bundle, measured in a process of its own that holds nothing but the runtime."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from pmx.contract import IncompatibleError


def measure_budget(bundle: Path, core: str) -> dict[str, float]:
    """`bytes`, `resident_mb`, `p50_ms`, `p99_ms` of a packed bundle, as `pmx.edge.selftest.measure` reports them."""
    command = [sys.executable, "-P", "-m", "pmx.edge.cli", "measure", str(bundle), "--packed-as", core, "--json"]
    pinned = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=pinned, check=False)  # it ends its own child at a deadline
    if done.returncode:
        raise IncompatibleError(f"the budget of {bundle} could not be measured: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])
