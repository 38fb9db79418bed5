"""The page where runs are reviewed: MLflow's server as a child process, for this machine alone."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pmx.contract import UsageError
from pmx.tracking import Tracker


def ui(tracker: Tracker, port: int = 5000) -> None:
    """Serve MLflow's page on this machine alone, print the link to the run list, and wait for Ctrl-C.

    Raises:
        UsageError: none of 20 ports is free, or the server does not answer within a minute.
    """

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    # A service manager's stop ends the server as Ctrl-C does. Ctrl-C is claimed anew: Polars, which MLflow imports, puts a handler of
    # its own in the place of Python's while it works, and was seen to leave it there.
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    address = f"http://127.0.0.1:{_free_port(port)}"
    try:
        with _server(tracker, address) as process:
            print(f"MLflow {address}{tracker.links()}\nStop with Ctrl-C.", flush=True)
            # Not wait(): Polars, which MLflow imports, hooks Ctrl-C so that a blocking system call goes on after it.
            while process.poll() is None:
                time.sleep(0.2)
        raise UsageError(f"MLflow's page ended by itself; its output is in {tracker.folder / 'ui.log'}")
    except KeyboardInterrupt:
        return
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _server(tracker: Tracker, address: str) -> Iterator[subprocess.Popen[bytes]]:
    host, port = address.removeprefix("http://").split(":")
    command = [
        sys.executable,
        "-P",
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        tracker.uri,
        "--default-artifact-root",
        tracker.artifacts,
    ]
    command += ["--host", host, "--port", port, "--workers", "1"]  # one reader needs one process; the default is four
    # Neither its job runners nor its language-model gateway has a use here: less to start, less that listens.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_ENABLE_AI_GATEWAY": "false"}
    log = tracker.folder / "ui.log"
    with open(log, "wb") as output:
        # Its own group: the server starts processes of its own, and ending the group ends them all.
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        _await_answer(f"{address}/health", process, log)
        yield process
    finally:
        _end_group(process)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    for number, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(process.pid, number)
            process.wait(patience)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _await_answer(address: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise UsageError(f"MLflow's page does not answer at {address}; its output is in {log}")


def _free_port(first: int) -> int:
    for port in range(first, first + 20):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise UsageError(f"ports {first} to {first + 19} are all in use: give another one with --port")
