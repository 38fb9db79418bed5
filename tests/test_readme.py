"""What README tells a new user to type works as it stands, in a folder that holds nothing but the example plant."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLANT = re.findall(r"<!-- plant -->\n```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


# Half of the time of a run is the judging of readings; the page as it stands is typed at night.
QUICK = " feature.quality=null evaluate.draws=50"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that looks like a fresh checkout to a person who types these commands."""
    folder = tmp_path / "checkout"
    shutil.copytree(ROOT / "datasets" / "example_plant", folder / "datasets" / "example_plant")
    (folder / ".venv").symlink_to(sys.prefix, target_is_directory=True)
    return folder


def test_there_are_blocks_to_type() -> None:
    assert len(PLANT) >= 3 and all("pmx" in block for block in PLANT)
    assert sum("pmx run pumps\n" in block for block in PLANT) == 1


@pytest.mark.parametrize("more", [QUICK, pytest.param("", marks=pytest.mark.nightly)], ids=["quick", "as it stands"])
def test_your_data_in_fifteen_minutes(checkout: Path, more: str) -> None:
    said = []
    for block in (b.replace("pmx run pumps\n", f"pmx run pumps{more}\n") for b in PLANT):
        done = subprocess.run(
            ["bash", "-e", "-c", block], cwd=checkout, capture_output=True, text=True, env=os.environ | {"COLUMNS": "200"}
        )
        assert done.returncode == 0, f"{block}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        said.append(done.stdout)
    drafted, profiled, ran = said[0], said[1], said[2]
    assert "Open questions" in drafted and (checkout / "datasets" / "pumps.yaml").read_text().count("# guessed") > 10
    assert "no remaining life" in profiled and (checkout / "runs" / "profile" / "pumps.html").is_file()
    assert (
        "Gates: look-ahead ✓  leakage ✓  parity ✓  coverage ✓  budget ✓" in ran
        and "failures caught" in ran
        and "Alarms of the test part" in ran
    )
    [bundle] = (checkout / "runs" / "pumps").glob("*/bundle")
    assert "raised" in (bundle.parent / "alarms.csv").read_text()
    evidence = json.loads((bundle / "evidence.json").read_text())
    assert evidence["data"]["rows"]["quarantined"] > 0 and evidence["metrics"]["test/n_failures"] == 2
