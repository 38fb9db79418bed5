"""With `--json` the last line of stdout is one object, though it be the words of the command that are wrong."""

from __future__ import annotations

import json

import pytest

from pmx.edge.cli import main as edge
from pmx.run import main

WRONG = {
    "a missing name": (main, ["run"], "NAME"),
    "a missing reason": (main, ["run", "demo", "--accept-leakage"], "--accept-leakage"),
    "a flag of a run": (main, ["run", "demo", "--nosuch"], "--nosuch"),
    "a flag of a sweep": (main, ["sweep", "demo", "seed=1", "--nosuch"], "--nosuch"),
    "a flag of another command": (main, ["compare", "--nosuch"], "--nosuch"),
    "a flag without its value": (main, ["promote", "demo", "--store"], "--store"),
    "a value": (main, ["ui", "--port", "x"], "'x'"),
    "an action": (main, ["data", "chekc", "demo"], "'chekc'"),
    "a command": (main, ["nosuch"], "'nosuch'"),
    "no command": (main, [], "--json"),
    "a setting": (main, ["data", "check", "synthetic", "source.asets=3"], "source.asets"),
    "a word of a device": (edge, ["replay"], "BUNDLE"),
    "a value of a device": (edge, ["selftest", "there", "--deadline", "0"], "86400"),
}


@pytest.mark.parametrize(("command", "words", "what"), WRONG.values(), ids=WRONG.keys())
def test_wrong_words_end_in_one_json_object_where_it_was_asked_for(workdir, capsys, command, words: list[str], what: str) -> None:
    def said(given: list[str]) -> tuple[int, str, str]:
        try:
            code = command(given)
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    code, out, err = said([*words[:1], "--json", *words[1:]])
    told = json.loads(out.splitlines()[-1])
    assert code == 2 == told["exit_code"] and what in told["error"] and " -> " in told["error"] and what in err
    if words:
        code, out, err = said(words)
        assert (code, out) == (2, "") and what in err, "nothing but words for people where no object was asked for"
