"""Progress goes to stderr, a line per quarter where nobody looks at a terminal, and nothing at all where it is not wanted."""

import sys

import pytest

from pmx.progress import Progress


def test_a_line_per_quarter_and_stage(capsys) -> None:
    with Progress() as progress:
        for i in range(101):
            progress("replay", i, 100)
        progress("gates", 0, 0)
    told = capsys.readouterr()
    assert told.out == "" and [line.split()[2:] for line in told.err.splitlines()] == [
        *(["replay", f"{i}/100"] for i in (0, 25, 50, 75, 100)),
        ["gates", "0/0"],
    ]


def test_quiet_is_silent(capsys) -> None:
    with Progress(quiet=True) as progress:
        progress("replay", 1, 2)
    assert capsys.readouterr() == ("", "")


def test_a_bar_on_a_terminal_leaves_nothing_behind(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with pytest.raises(ZeroDivisionError), Progress() as progress:
        progress("replay", 1, 2)
        raise ZeroDivisionError
    assert capsys.readouterr().out == "", "an error must end the bar, and stdout is for results"
