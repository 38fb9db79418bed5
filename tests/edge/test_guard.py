"""The scoring child: one that hangs is ended, one that dies is reported, and none is left behind."""

import os
import subprocess
import sys
import textwrap
import threading

import pytest

from pmx.contract import HangError, IncompatibleError, PmxError
from pmx.edge import guard


@pytest.fixture
def child(tmp_path, monkeypatch):
    """A stand-in for the scoring process: writes its pid, then runs these lines."""

    def become(code: str):
        script = tmp_path / "child.py"
        head = f"import json, os, signal, sys, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        script.write_text(head + "def send(**line): print(json.dumps(line), flush=True)\n" + textwrap.dedent(code))
        real = guard.subprocess.Popen
        monkeypatch.setattr(guard.subprocess, "Popen", lambda _, **how: real([sys.executable, str(script)], **how))
        return lambda: int((tmp_path / "pid").read_text())

    return become


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def run(deadline=30.0):
    told = []
    return guard.guarded([], deadline, lambda kind, value: told.append((kind, value))), told


def test_a_child_that_hangs_is_ended_and_no_process_is_left(child):
    pid = child("send(text='begins')\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: pass")
    before = threading.active_count()
    with pytest.raises(HangError, match=r"2 s: the scoring process was ended ->") as caught:
        run(deadline=2.0)
    assert caught.value.exit_code == 7 and gone(pid()) and threading.active_count() == before


def test_a_child_that_dies_is_incompatible_and_its_last_words_are_shown(child):
    pid = child("send(text='begins')\nprint('out of memory', file=sys.stderr)\nos.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(IncompatibleError, match="without a result: out of memory") as caught:
        run()
    assert caught.value.exit_code == 5 and gone(pid())
    child("sys.exit(3)")
    with pytest.raises(IncompatibleError, match="exit code 3"):
        run()


def test_what_the_child_refuses_keeps_its_exit_code(child):
    child("send(error={'message': 'no such column', 'exit_code': 3})")
    with pytest.raises(PmxError, match="^no such column$") as caught:
        run()
    assert caught.value.exit_code == 3


def test_the_result_and_what_was_told_before_it_come_through(child):
    pid = child("send(progress=['replay', 1, 2])\nsend(text='Störung – 5 °C')\nsend(result={'steps': 2})\nwhile True: pass")
    result, told = run()
    assert result == {"steps": 2} and told == [("progress", ["replay", 1, 2]), ("text", "Störung – 5 °C")] and gone(pid())


def test_a_chatty_child_does_not_block_on_its_complaints(child):
    child("sys.stderr.write('x' * 2_000_000)\nsend(result={})")
    assert run()[0] == {}


def test_a_line_that_is_not_ours_ends_the_child(child):
    pid = child("print('a library says hello', flush=True)\nwhile True: pass")
    with pytest.raises(IncompatibleError, match="a library says hello"):
        run()
    assert gone(pid())


def test_a_file_in_the_current_folder_is_never_imported(tmp_path):
    """A technician keeps bundles and CSVs in one folder: what else lies there must not run."""
    (tmp_path / "numpy.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    command = [sys.executable, "-P", "-m", "pmx.edge.cli", "selftest", "nowhere"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 3 and "no such bundle" in done.stderr
    assert not (tmp_path / "ran").exists()
