"""The experiment's text: lives with enough failures, an anomaly score without."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import yaml

from pmx.draft.experiment import experiment_text
from pmx.draft.plan import ENOUGH, Plan, make_plan


def fleet(folder: Path, pumps: int, failures: int) -> Plan:
    """Pumps with a reading every six hours over 200 days, some with a failure."""
    rng, begin = np.random.default_rng(0), datetime(2026, 1, 1)
    lines, orders = ["pump,time,flow [m3/h]"], ["asset,event,time"]
    for p in range(pumps):
        lines += [f"p{p},{(begin + timedelta(hours=6 * i)).isoformat()}Z,{rng.normal(50, 3):.2f}" for i in range(800)]
        orders += [f"p{p},failure,{(begin + timedelta(days=150)).isoformat()}Z"] if p < failures else []
    (folder / "r.csv").write_text("\n".join(lines), encoding="utf-8")
    (folder / "o.csv").write_text("\n".join([*orders, "p0,inspection,2026-02-01T00:00:00Z"]), encoding="utf-8")
    return make_plan("fleet", [folder / "r.csv"], [folder / "o.csv"])


@pytest.mark.parametrize("failures, lives", [(0, False), (ENOUGH - 1, False), (ENOUGH, True)])
def test_the_number_of_failures_decides_the_task(tmp_path: Path, failures: int, lives: bool) -> None:
    plan = fleet(tmp_path, ENOUGH + 1, failures)
    made = yaml.safe_load(experiment_text(plan, "datasets/fleet.yaml"))
    model = next(d["override model"] for d in made["defaults"] if isinstance(d, dict) and "override model" in d)
    assert model == (["lightgbm"] if lives else ["pca"]) and ("fit_scope" in made) != lives
    assert {"override window": "by_time"} in made["defaults"] and {"override source": "table"} in made["defaults"]
    assert made["source"] == {"card": "datasets/fleet.yaml"} and made["on_error"] == "quarantine" and made["name"] == "fleet"
    assert ("alarm" in made) != lives and made.get("alarm", {"margin": 2.0}) == {"margin": 2.0}
    assert plan.noun == "pumps" and plan.grid.life_unit == "h"
    assert made["evaluate"] == {"cap": 1440, "horizon": pytest.approx(320, abs=20), "lead": 24}
