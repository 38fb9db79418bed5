"""Progress of a run on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars


class Progress:
    """Shows where a run is; called with what is done, how much of it, and how much there is.

    Args:
        quiet: show nothing.

    Example:
        >>> with Progress(quiet=True) as progress:
        ...     progress("loading", 1, 1)
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet, self._begin, self._last = quiet, time.monotonic(), ("", -1)
        console = Console(stderr=True)
        self._bars = Bars(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console, transient=True)
        self._live = not quiet and sys.stderr.isatty()
        self._task: TaskID | None = None

    def __enter__(self) -> Progress:
        if self._live:
            self._bars.start()
            self._task = self._bars.add_task("starting", total=None)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live:
            self._bars.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        if self._live and self._task is not None:
            self._bars.update(self._task, description=what, completed=done, total=total)
            return
        quarter = 4 * done // max(1, total)
        if not self.quiet and (what, quarter) != self._last:
            self._last = (what, quarter)
            print(f"{time.monotonic() - self._begin:6.1f} s  {what}  {done}/{total}", file=sys.stderr, flush=True)
