"""From a folder of files to the first table: 10 machines, 50 tags, a year at one reading a minute, as wide Parquet.

`pmx new`, then `pmx run`, in processes of their own, with nothing edited in between. The peer is what cannot be avoided:
reading every file once with Polars and taking the mean of each channel.

    python benchmarks/first_table.py [--assets 10] [--tags 50] [--days 365]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

MINUTES = 1440


def write_plant(folder: Path, assets: int, tags: int, days: int) -> int:
    """One Parquet file per machine; every tag follows a few slow loads of its machine, with noise of its own. Returns the rows."""
    folder.mkdir(parents=True)
    n, start = days * MINUTES, np.datetime64("2025-01-01T00:00", "us")
    time_ = start + np.arange(n).astype("timedelta64[m]")
    for i in range(assets):
        rng = np.random.default_rng([0, i])
        knots = rng.normal(size=(4, n // 240 + 2))
        load = np.stack([np.interp(np.arange(n), np.arange(k.size) * 240, k) for k in knots], 1)
        mix, centre = rng.normal(size=(4, tags)), rng.uniform(20, 80, tags)
        values = centre + load @ mix + 0.2 * rng.normal(size=(n, tags))
        frame = pl.DataFrame({"machine": [f"M{i + 1:02}"] * n, "time": time_}).with_columns(pl.col("time").dt.replace_time_zone("UTC"))
        frame.hstack(pl.DataFrame(values.astype(np.float32), schema=[f"tag_{k + 1:02}" for k in range(tags)])).write_parquet(
            folder / f"machine_{i + 1:02}.parquet"
        )
    return n * assets


def command(words: list[str], folder: Path) -> float:
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "pmx.run", *words], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"pmx {' '.join(words)} ended with {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    print(f"pmx {words[0]}: {time.perf_counter() - begin:.0f} s\n{done.stdout[-1500:]}")
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, default in (("assets", 10), ("tags", 50), ("days", 365)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as top:
        folder = Path(top)
        rows = write_plant(folder / "files", given.assets, given.tags, given.days)
        begin = time.perf_counter()
        pl.scan_parquet(folder / "files" / "*.parquet").select(pl.selectors.numeric().mean()).collect()
        floor = time.perf_counter() - begin
        drafted = command(["new", "big", "--readings", *map(str, sorted((folder / "files").glob("*.parquet")))], folder)
        ran = command(["run", "big", "--quiet", "tracking.register=false"], folder)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"{rows:,} rows of {given.tags} tags; peak memory {peak:.1f} GB; {os.cpu_count()} cores")
    result = {"rows": rows, "new_s": round(drafted, 1), "run_s": round(ran, 1), "total_s": round(drafted + ran, 1)}
    print(json.dumps(result | {"peak_gb": round(peak, 2), "vs_reading_once": round((drafted + ran) / floor, 1)}))


if __name__ == "__main__":
    main()
