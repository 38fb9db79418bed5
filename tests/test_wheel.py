"""What a user installs: the wheel, tried in environments that hold nothing of this checkout."""

import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import pmx

ROOT = Path(__file__).parents[1]
# Enough to show that the way is whole; `make demo` runs the real size.
QUICK = ["source.assets=24", "source.life=300", "window.folds=2", "evaluate.draws=50", "evaluate.cap=150", "evaluate.horizon=60"]
QUICK += ["model=lightgbm", "model.lightgbm.trees=15", "model.lightgbm.learning_rate=0.3", "model.lightgbm.min_child_samples=10"]
QUICK += [
    "feature.quality=null",
    "feature.kernels=[{_target_: pmx.feature.kernel.Age}, {_target_: pmx.feature.kernel.TrailingMean, window: 5}]",
]
QUICK += ["device.step_ms=5000", "device.resident_mb_max=4000"]  # a loaded machine is slow, and that is not the question here


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = ["wheel", ".", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", *build], cwd=ROOT, check=True)
    return next(folder.glob("*.whl"))


def install(wheel: Path, folder: Path, libraries: Path) -> Path:
    """A fresh environment with the wheel alone, which also sees `libraries`; returns its folder of commands."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    bin = folder / ("Scripts" if os.name == "nt" else "bin")
    pip = [sys.executable, "-m", "pip", "--python", str(bin / "python")]
    subprocess.run([*pip, "install", "-q", "--no-deps", "--no-index", str(wheel)], check=True)
    # A path in a .pth file is searched, but its own .pth files are not read: the checkout stays out of sight.
    next(folder.rglob("site-packages")).joinpath("libraries.pth").write_text(str(libraries))
    return bin


def run(command: list[str | Path], cwd: Path, code: int = 0) -> str:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def base_libraries(folder: Path) -> Path:
    """Links to what the base install brings, found by following the requirements of the installed distributions."""
    folder.mkdir()
    wanted, seen = ["pmx-maintenance"], set()
    while wanted:
        found = distribution(wanted.pop())
        for text in found.requires or []:
            need = Requirement(text)
            if need.name not in seen and (need.marker is None or need.marker.evaluate({"extra": ""})):
                seen.add(need.name)
                wanted.append(need.name)
        if found.name == "pmx-maintenance":
            continue
        for top in {file.parts[0] for file in found.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            if not (folder / top).exists():
                (folder / top).symlink_to(found.locate_file(top))
    return folder


def test_the_wheel_carries_configuration_and_no_tests(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for group in ("conf", "experiments"):
        assert {f"pmx/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / group).rglob("*.yaml")} <= names
    assert {name.partition("/")[0] for name in names} == {"pmx", "hydra_plugins", f"pmx_maintenance-{pmx.__version__}.dist-info"}


def test_the_demo_runs_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    bin = install(wheel, tmp_path / "env", Path(sysconfig.get_path("purelib")))
    place = run([bin / "python", "-c", "import pmx; print(pmx.__file__)"], cwd=tmp_path)
    assert Path(place.strip()).is_relative_to(tmp_path / "env")
    assert pmx.__version__ in run([bin / "pmx", "version"], cwd=tmp_path)
    assert "Nothing varies" in run([bin / "pmx", "sweep", "skab"], cwd=tmp_path, code=2), "Hydra finds the sweeper of the wheel"
    assert "Winner" in run([bin / "pmx", "run", "demo", *QUICK], cwd=tmp_path)


def test_without_the_train_extra_it_says_what_to_install(wheel: Path, tmp_path: Path) -> None:
    bin = install(wheel, tmp_path / "env", base_libraries(tmp_path / "base"))
    said = run([bin / "pmx", "run", "demo"], cwd=tmp_path, code=2)
    assert said.strip() == "Training needs the train extra: pip install 'pmx-maintenance[train]'"
    assert re.search(r"usage: pmx-edge", run([bin / "pmx-edge", "--help"], cwd=tmp_path))
    run([bin / "python", "-c", "import pmx.edge"], cwd=tmp_path)
