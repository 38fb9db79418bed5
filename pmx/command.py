"""A command line that keeps the promise of `--json` where the words themselves are wrong."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn


class Mistake(SystemExit):
    """Wrong words on the command line: exit code 2. `said` is what is wrong and how to mend it."""

    def __init__(self, said: str) -> None:
        super().__init__(2)
        self.said = said


class Parser(argparse.ArgumentParser):
    """Argparse, which tells on stderr as ever, and whose exit knows what was wrong.

    Example:
        >>> parser = Parser(prog="pmx")
        >>> with promised(["--json"]):
        ...     parser.parse_args(["--json"])
        Traceback (most recent call last):
        pmx.command.Mistake: 2
    """

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        print(f"{self.prog}: error: {message}", file=sys.stderr)
        raise Mistake(f"{self.prog}: {message} -> {self.prog} --help")


@contextmanager
def promised(words: Sequence[str]) -> Iterator[None]:
    """While words are read: where `--json` is among them, a mistake is the last line of stdout too, as one JSON object."""
    try:
        yield
    except Mistake as mistake:
        if "--json" in words:
            print(json.dumps({"error": mistake.said, "exit_code": 2}))
        raise
