"""The budgets that keep pmx small: what an import loads, how long the spine and its pieces are."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = sorted((ROOT / "pmx").rglob("*.py"))
TRAINING = {"torch", "polars", "pandas", "sklearn", "lightgbm", "hydra", "mlflow", "scipy"}
HEAVY = TRAINING | {"numpy", "onnx", "onnxruntime", "pytorch_lightning", "matplotlib", "omegaconf", "spox", "pyarrow"}
LINES_OF_FILE, LINES_OF_FUNCTION, ARGUMENTS = 400, 50, 10
# "path" or "path:function" -> why it may be larger.
EXEMPT = {"pmx/pipeline.py:run": "the spine is read from top to bottom"}


def loaded_by(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after this code."""
    code += "\nimport sys; print('LOADED', *{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    return set(done.stdout.splitlines()[-1].split()[1:])


def test_importing_the_edge_loads_no_training_package() -> None:
    assert not loaded_by("import pmx.edge") & TRAINING


@pytest.mark.parametrize("main", ["pmx.run", "pmx.edge.cli"])
def test_help_loads_no_heavy_module(main: str) -> None:
    code = f"import contextlib, sys; sys.argv = ['pmx', '--help']\nfrom {main} import main\nwith contextlib.suppress(SystemExit): main()"
    assert not loaded_by(code) & HEAVY


def test_the_spine_fits_on_a_few_screens() -> None:
    assert len((ROOT / "pmx/pipeline.py").read_text().splitlines()) < 150


def test_no_module_is_a_drawer() -> None:
    assert not [path for path in PACKAGE if {"util", "utils", "helper", "helpers", "misc", "common"} & {*path.parts, path.stem}]


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: str(path.relative_to(ROOT)))
def test_pieces_are_small_or_say_why_not(path: Path) -> None:
    text, name = path.read_text(), str(path.relative_to(ROOT))
    large = {name} if len(text.splitlines()) > LINES_OF_FILE else set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            arguments = [a for a in node.args.args + node.args.kwonlyargs if a.arg not in ("self", "cls")]
            if (node.end_lineno or 0) - node.lineno >= LINES_OF_FUNCTION or len(arguments) > ARGUMENTS:
                large.add(f"{name}:{node.name}")
    assert large == {piece for piece in EXEMPT if piece.partition(":")[0] == name}
