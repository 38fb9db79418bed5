"""What all tests share: one thread each, no telemetry, and the real data where they lie beside the checkout."""

import os
import shutil
from pathlib import Path

import pytest

DATA = Path(__file__).parents[2] / "shared" / "data"

# Set before numpy, torch and MLflow are imported: they read these once. Child processes inherit them.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LOKY_MAX_CPU_COUNT", "POLARS_MAX_THREADS"):
    os.environ[name] = "1"
os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true", MPLBACKEND="Agg")
if DATA.is_dir():
    os.environ.setdefault("PMX_DATA_ROOT", str(DATA))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that use `data_root` as `real_data`, and skips those whose folders are missing."""
    root = os.environ.get("PMX_DATA_ROOT")
    for item in items:
        marker = item.get_closest_marker("real_data")
        if marker is None and "data_root" in getattr(item, "fixturenames", ()):
            marker = pytest.mark.real_data.mark
            item.add_marker("real_data")
        if marker is None:
            continue
        missing = [folder for folder in marker.args or ("",) if root is None or not (Path(root) / folder).is_dir()]
        if missing:
            where = f"{root} has no {', '.join(missing)}" if root and missing != [""] else "PMX_DATA_ROOT names no folder"
            item.add_marker(pytest.mark.skip(reason=f"real data: {where}"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Counts the tests on real data: .ci/run reads this line, since a green suite that skipped them proves little."""
    ran, skipped = (
        sum("real_data" in getattr(report, "keywords", ()) for kind in kinds for report in terminalreporter.stats.get(kind, ()))
        for kinds in (("passed", "failed", "xfailed"), ("skipped",))
    )
    terminalreporter.write_line(f"real data: {ran} run, {skipped} skipped")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of the real data sets, one sub-folder each."""
    return Path(os.environ["PMX_DATA_ROOT"])


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the working directory during the test."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def store_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated store: migrating takes seconds, copying it none."""
    from pmx.tracking import Tracker  # late: MLflow takes seconds, and few tests need it

    folder = tmp_path_factory.mktemp("template")
    Tracker(folder, "template").close()
    return folder / "mlflow.db"


@pytest.fixture
def tracker(store_template: Path, tmp_path: Path):
    """An open store of its own, in a folder whose name has spaces, with the experiment `pumps`."""
    from pmx.tracking import Tracker

    folder = tmp_path / "a folder with spaces"
    folder.mkdir()
    shutil.copy(store_template, folder / "mlflow.db")
    made = Tracker(folder, "pumps")
    yield made
    made.close()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A sealed folder of small files, as a bundle has them; nothing runs it."""
    from tests.store import sealed

    return sealed(tmp_path / "a bundle")
