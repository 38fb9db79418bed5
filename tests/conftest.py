"""What all tests share: one thread each, no telemetry, and the real data where they lie beside the checkout."""

import os
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
