"""One trial of a sweep, from plain words to a plain result: in this process, or in one of several beside it."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pmx.contract import PmxError, UsageError

if TYPE_CHECKING:
    from pmx.config import Parts
    from pmx.sweep import Opened

RESULT = "trial.json"
SHELF = 2  # data sets that stay in memory between trials
WATCH = "watch the parent"
POLARS = "POLARS_MAX_THREADS"
_shelf: dict[str, Opened] = {}


@dataclass(frozen=True)
class Call:
    """What a trial needs to know; plain, so that it can go to any process.

    Attributes:
        experiment: its name.
        words: all its overrides.
        folder: that takes what it writes.
        fresh: compute feature tables anew.
        quiet: show no bar.
    """

    experiment: str
    words: tuple[str, ...]
    folder: str
    fresh: bool = False
    quiet: bool = True


def attempt(call: Call) -> dict[str, Any]:
    """Runs one trial; its result is in `trial.json` before anybody is told, so that no kill can lose it.

    What its settings are to blame for is a result too (`error`). Data that cannot be read or admitted stop the sweep.
    """
    from pmx.edge.table import replacing
    from pmx.progress import Progress

    begin, place = time.perf_counter(), Path(call.folder)
    place.mkdir(parents=True, exist_ok=True)
    with Progress(call.quiet) as progress:
        result = _tried(call, place, progress)
    result["seconds"] = round(time.perf_counter() - begin, 2)
    with replacing(place / RESULT) as part:
        part.write_text(json.dumps(result))
    return result


def _tried(call: Call, place: Path, progress: Any) -> dict[str, Any]:
    from omegaconf import OmegaConf

    from pmx import config

    try:
        cfg = config.compose(call.experiment, list(call.words))
        parts, plain = config.build(cfg), cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True, enum_to_str=True))
    except PmxError as error:
        return {"error": str(error)}
    from pmx.feature.store import digest_of
    from pmx.job import one_thread, plan_of
    from pmx.sweep import trial

    data = digest_of(plain["source"], plain["on_error"])
    progress("loading", 0, 1)
    opened = _opened(digest_of(data, plain["window"]), parts, plain["on_error"], place / "quarantine.parquet")
    try:
        with one_thread():
            found = trial(plan_of(plain, parts, place, call.fresh), opened, progress)
    except PmxError as error:
        return {"error": str(error)}
    told = {
        "fits": found.fits.passed,
        "fit_detail": found.fits.detail,
        "data": data,
        "judged": digest_of(plain["evaluate"], plain["window"]),
    }
    return {**asdict(found), **told}


def _opened(key: str, parts: Parts, on_error: str, quarantine: Path) -> Opened:
    """The data set, read where the last trials had another one."""
    from pmx.sweep import open_data

    if key not in _shelf:
        while len(_shelf) >= SHELF:
            _shelf.pop(next(iter(_shelf)))
        _shelf[key] = open_data(parts.source, parts.window, on_error, quarantine)
    return _shelf[key]


def attempts(calls: list[Call], jobs: int) -> Iterator[dict[str, Any]]:
    """The results of several trials in their order, `jobs` at a time: each in a process of its own with one thread."""
    if jobs == 1 or len(calls) < 2:
        yield from map(attempt, calls)
        return
    from joblib import Parallel, delayed, parallel_config

    try:
        with parallel_config(backend="loky", inner_max_num_threads=1), _one_polars_thread():
            yield from Parallel(n_jobs=jobs, return_as="generator")(delayed(_beside)(call, os.getpid()) for call in calls)
    except BrokenProcessPool as error:
        raise UsageError(
            "A trial's process was ended from outside, most often for want of memory -> go on where it stopped; if it ends again, "
            "begin anew with fewer sweep.jobs"
        ) from error


def _beside(call: Call, parent: int) -> dict[str, Any]:
    """A trial in a worker, which ends with the process that began it: an orphan would go on for minutes beside its successor."""
    watches = any(t.name == WATCH for t in threading.enumerate())
    if not watches and os.name == "posix":
        threading.Thread(target=_watch, args=(parent,), name=WATCH, daemon=True).start()
    return attempt(call)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


@contextmanager
def _one_polars_thread() -> Iterator[None]:
    """Polars reads its number of threads from the environment that a process begins with."""
    before = os.environ.get(POLARS)
    os.environ[POLARS] = "1"
    try:
        yield
    finally:
        os.environ.pop(POLARS) if before is None else os.environ.update({POLARS: before})
