"""Features of a history larger than memory: rows per second, peak memory, a second run, and a run that was killed and resumed.

A synthetic fleet of 14 channels as Parquet on disk, the recipe of `conf/feature/history.yaml`, every 16th tick. Each step runs in a
process of its own, whose peak memory the system reports; `POLARS_MAX_THREADS` is 2 unless it is set. `--layout mixed` writes the rows
in the order of time, so that assets alternate. The peer is what cannot be avoided: reading every file once with Polars.

Kernels alone unless `--judged` adds the quality of sensors.

    python benchmarks/large.py [--ticks 1e8] [--assets 1000] [--layout sorted] [--folder FOLDER] [--judged]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

CHANNELS = [f"c{i + 1:02}" for i in range(14)]
FILE_TICKS = 1_000_000


def make(folder: Path, ticks: int, assets: int, layout: str) -> dict[str, Any]:
    """Writes the fleet in files of a million rows: slow drift and noise, float32."""
    folder.mkdir(parents=True)
    each = ticks // assets
    for k, begin in enumerate(range(0, each * assets, FILE_TICKS)):
        at = np.arange(begin, min(each * assets, begin + FILE_TICKS))
        asset, tick = (at // each, at % each) if layout == "sorted" else (at % assets, at // assets)
        values = np.random.default_rng([0, k]).standard_normal((len(at), len(CHANNELS)), np.float32)
        values += (tick / each).astype(np.float32)[:, None] * np.linspace(-1, 3, len(CHANNELS), dtype=np.float32)
        frame = pl.DataFrame({"asset": asset, "time": tick + 1.0}).with_columns(pl.format("M{}", pl.col("asset")).alias("asset"))
        frame.hstack(pl.DataFrame(values, schema=CHANNELS)).write_parquet(folder / f"part_{k:05}.parquet", compression="uncompressed")
    return {"rows": each * assets, "bytes": sum(f.stat().st_size for f in folder.iterdir())}


def features(folder: Path, out: Path, hop: int, judged: bool) -> dict[str, Any]:
    """The feature stage over what `make` wrote."""
    from pmx import config
    from pmx.contract import Channel, Contract
    from pmx.feature.sample import fit_on_sample
    from pmx.feature.store import FeatureStore, sha256_of
    from pmx.progress import Progress
    from pmx.source import History

    plain = [] if judged else ["feature.quality=null"]
    parts = config.build(config.compose("demo", ["model=lightgbm", "feature=history", "window=by_asset", *plain]))
    files = sorted(folder.glob("*.parquet"))
    digest = hashlib.sha256("".join(map(sha256_of, files)).encode()).hexdigest()
    rows = pl.scan_parquet(files, row_index_name="row", include_file_paths="file").select("file", "row", "asset", "time", *CHANNELS)
    contract = Contract(tuple(Channel(c, "-", low=-50.0, high=50.0) for c in CHANNELS), "cycle", "life")
    none = pl.DataFrame(schema={"asset": pl.String, "time": pl.Float64, "event": pl.String, "known_at": pl.Float64})
    history = History("synthetic", contract, rows, none, None, digest)
    begin = time.perf_counter()
    store = FeatureStore(out, [parts.feature, parts.window], hop)
    with Progress() as progress:
        stored = store.build(history, lambda found: fit_on_sample(parts.feature, history, found, parts.window), progress)
    fresh = [json.loads(f.read_text()) for f in stored.folder.glob("*/done.json")]
    return {
        "rows": stored.rows,
        "readings": sum(d["readings"] for d in fresh),
        "cached": stored.cached,
        "partitions": stored.partitions,
        "seconds": time.perf_counter() - begin,
        "bytes": stored.bytes,
    }


def child(words: list[str], kill_at: tuple[Path, int] | None = None) -> tuple[dict[str, Any], float]:
    """What a step printed last, with its CPU seconds, and its peak memory in GB; killed once so many partitions are done, it has printed nothing."""
    process = subprocess.Popen([sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True)
    if kill_at is not None:
        out, count = kill_at
        while process.poll() is None and len(list(out.glob("*/*/done.json"))) < count:
            time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
    said = process.stdout.read() if process.stdout else ""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode and kill_at is None:
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}")
    answer = json.loads(said.splitlines()[-1]) if kill_at is None else {}
    return answer | {"cpu_seconds": usage.ru_utime + usage.ru_stime}, usage.ru_maxrss / 2**20


def bench(top: Path, given: argparse.Namespace) -> dict[str, Any]:
    raw, out = top / "raw", top / "features"
    fleet = [
        f"--ticks={given.ticks:.0f}",
        f"--assets={given.assets}",
        f"--layout={given.layout}",
        f"--folder={top}",
        f"--hop={given.hop}",
        *["--judged"] * given.judged,
    ]
    made, peak_make = child(["--step=make", *fleet])
    print(f"{made['rows']:,} rows of {len(CHANNELS)} channels, {made['bytes'] / 1e9:.1f} GB, written with {peak_make:.2f} GB of memory")
    begin = time.perf_counter()
    pl.scan_parquet(raw / "*.parquet").select(pl.selectors.numeric().mean()).collect(engine="streaming")
    floor = time.perf_counter() - begin
    _, peak_killed = child(["--step=features", *fleet], kill_at=(out, given.kill_after))
    before = {f: f.stat().st_mtime_ns for f in out.glob("*/*/done.json")}
    already = sum(json.loads(f.read_text())["readings"] for f in before)
    print(f"killed after {len(before)} partitions, {already:,} rows; peak memory {peak_killed:.2f} GB")
    resumed, peak = child(["--step=features", *fleet])
    kept = all(f.stat().st_mtime_ns == when for f, when in before.items()) and resumed["cached"] == len(before)
    if resumed["readings"] == already:
        raise SystemExit("all of it was computed before the kill: nothing to time -> more ticks")
    rate = (resumed["readings"] - already) / resumed["seconds"]
    print(f"resumed: {resumed['cached']} of {resumed['partitions']} partitions kept; {rate:,.0f} rows a second; peak memory {peak:.2f} GB")
    warm, peak_warm = child(["--step=features", *fleet])
    print(f"second run: {warm['seconds']:.1f} s, {warm['cached']} of {warm['partitions']} partitions read; peak memory {peak_warm:.2f} GB")
    return {
        "bench": "large",
        "layout": given.layout,
        "ticks": made["rows"],
        "assets": given.assets,
        "hop": given.hop,
        "sensors_judged": given.judged,
        "polars_threads": int(os.environ["POLARS_MAX_THREADS"]),
        "feature_rows": resumed["rows"],
        "feature_bytes": resumed["bytes"],
        "rows_per_second": round(rate),
        "rows_per_cpu_second": round((resumed["readings"] - already) / resumed["cpu_seconds"]),
        "vs_reading_once": round((made["rows"] / rate) / floor, 1),
        "peak_gb": round(max(peak, peak_killed), 2),
        "resumed_without_recomputing": kept,
        "second_run_s": round(warm["seconds"], 2),
        "second_run_computed": warm["partitions"] - warm["cached"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ticks", type=float, default=1e8)
    parser.add_argument("--assets", type=int, default=1000)
    parser.add_argument("--hop", type=int, default=16)
    parser.add_argument("--layout", choices=["sorted", "mixed"], default="sorted")
    parser.add_argument("--kill-after", type=int, default=2, help="partitions that are done when the first run is killed")
    parser.add_argument("--folder", type=Path, help="a folder for the files, which are removed at the end (that of temporary files)")
    parser.add_argument("--step", choices=["make", "features"], help=argparse.SUPPRESS)
    parser.add_argument("--judged", action="store_true", help="judge the quality of every channel too, as conf/feature/history.yaml does")
    given = parser.parse_args()
    os.environ.setdefault("POLARS_MAX_THREADS", "2")
    if given.step == "make":
        print(json.dumps(make(given.folder / "raw", int(given.ticks), given.assets, given.layout)))
    elif given.step == "features":
        print(json.dumps(features(given.folder / "raw", given.folder / "features", given.hop, given.judged)))
    else:
        if given.folder:
            given.folder.mkdir(parents=True, exist_ok=True)
        top = Path(tempfile.mkdtemp(prefix="large_", dir=given.folder))
        try:
            print(json.dumps(bench(top, given)))
        finally:
            shutil.rmtree(top)


if __name__ == "__main__":
    main()
