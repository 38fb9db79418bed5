"""Scoring in a child process with a deadline: one flipped byte in a tree can make a runtime loop for ever, and nothing inside it notices.

The child speaks lines of JSON: `progress`, `text`, and at the end `result` or `error`.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from pmx.contract import HangError, IncompatibleError, PmxError

Show = Callable[[str, Any], None]  # kind (`progress` or `text`), value


def send(kind: str, value: Any) -> None:
    """What the child tells its parent."""
    print(json.dumps({kind: value}), flush=True)


def guarded(arguments: list[str], deadline: float, show: Show) -> dict[str, Any]:
    """Runs a `pmx-edge` command in a child process and returns its result.

    Args:
        arguments: of the command.
        deadline: seconds without a line from the child after which it is ended.
        show: gets what the child tells on its way.

    Raises:
        HangError: the child was silent for longer than `deadline`.
        PmxError: what the child refused, with its own exit code.
    """
    command = [sys.executable, "-P", "-m", "pmx.edge.cli", *arguments, "--worker"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, encoding="utf-8")
    lines: queue.Queue[str | None] = queue.Queue()
    complaints: list[str] = []
    readers = [
        threading.Thread(target=_listen, args=(child, lines), daemon=True),
        threading.Thread(target=_collect, args=(child, complaints), daemon=True),
    ]
    for reader in readers:
        reader.start()
    try:
        while (line := lines.get(timeout=deadline)) is not None:
            kind, value = _told(line)
            if kind == "result":
                return dict(value)
            if kind == "error":
                raise _error(value)
            show(kind, value)
    except queue.Empty:
        raise HangError(
            f"no progress within {deadline:g} s: the scoring process was ended -> do not use this bundle, or raise --deadline"
        ) from None
    finally:
        child.kill()
        child.wait()
        for reader in readers:
            reader.join()
        for stream in (child.stdout, child.stderr):
            if stream:
                stream.close()
    why = "".join(complaints).strip()[-500:] or f"exit code {child.returncode}"
    raise IncompatibleError(f"the scoring process ended without a result: {why} -> check memory, and the bundle with pmx verify")


def _listen(child: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    for line in child.stdout or ():
        lines.put(line)
    lines.put(None)


def _collect(child: subprocess.Popen[str], complaints: list[str]) -> None:
    complaints.extend(child.stderr or ())


def _told(line: str) -> tuple[str, Any]:
    try:
        [(kind, value)] = json.loads(line).items()
    except (ValueError, AttributeError):
        raise IncompatibleError(f"the scoring process said {line.strip()[:200]!r}, which is no message -> see --debug") from None
    return kind, value


def _error(value: dict[str, Any]) -> PmxError:
    error = PmxError(str(value["message"]))
    error.exit_code = int(value["exit_code"])
    return error
