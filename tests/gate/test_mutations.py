"""Mistakes planted into every source that has the structure for them; each must be refused by name, and clean runs must pass."""

import pytest

from tests.gate.mutations.case import case, sources
from tests.gate.mutations.plants import PLANTS

QUICK = ("synthetic", "skab", "table", "azure_pdm")  # by asset, by time, with repairs, without sensors; the others plant at night


@pytest.mark.parametrize("source", sources())
def test_a_clean_run_has_no_finding(source):
    gate = case(source).judge()
    assert gate.passed, gate.refusal()
    assert gate.figures["compared"] > 100 and gate.figures["constants"] > 100


@pytest.mark.parametrize("plant", [pytest.param(p, id=p.name, marks=[pytest.mark.nightly] * p.variant) for p in PLANTS])
@pytest.mark.parametrize("source", [pytest.param(s, marks=[pytest.mark.nightly] * (s not in QUICK)) for s in sources()])
def test_a_planted_mistake_is_refused_by_name(source, plant, monkeypatch):
    clean = case(source)
    if not plant.fits(clean):
        pytest.skip(f"{source} has no structure for it")
    gate = plant.make(monkeypatch, clean).judge()
    assert not gate.passed, f"{plant.name} was not found"
    assert gate.culprit.startswith(plant.culprit), gate.refusal()
    assert gate.rule and gate.detail


def test_every_plant_is_planted_somewhere():
    assert not [p.name for p in PLANTS if not any(p.fits(case(s)) for s in sources())]
