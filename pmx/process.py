"""Whether the process that began a run still lives."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path


def process_started(pid: int) -> str:
    """When a process started, in clock ticks since boot (field 22 of its stat); "" where it is gone or cannot be known."""
    try:
        # The name, field 2, may hold spaces and brackets: count from behind its closing one.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]  # a zombie is over, though nobody has collected it


def process_tags() -> dict[str, str]:
    """The tags by which another process can tell whether this one still lives."""
    return {"pmx.host": socket.gethostname(), "pmx.pid": str(os.getpid()), "pmx.process_started": process_started(os.getpid())}


def gone(tags: Mapping[str, str]) -> bool:
    """Whether the process that a run's tags name is no more; False when that cannot be known from here."""
    if tags.get("pmx.host") != socket.gethostname() or not tags.get("pmx.pid", "").isdigit():
        return False
    pid = int(tags["pmx.pid"])
    if Path("/proc/self/stat").exists():
        return process_started(pid) != tags.get("pmx.process_started", "")
    if os.name != "posix":  # elsewhere a signal of 0 is no question
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it lives, and is someone else's
        pass
    return False
