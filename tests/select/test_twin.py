"""Which candidate tells the life that is left where the age is unknown."""

from __future__ import annotations

import numpy as np
import pytest

from pmx.select.twin import _Told


def told(gap: float, scatter: float) -> _Told:
    """Two candidates at 12 cuts of each of 20 assets; the run's own errs by `gap` more, which differs from asset to asset by `scatter`."""
    asset = np.repeat([f"A{i:02}" for i in range(20)], 12)
    other = np.random.default_rng(0).normal(size=20)
    more = gap + scatter * (other - other.mean()) / other.std(ddof=1)
    truth = np.full(240, 50.0)
    return _Told({"own": truth + np.sqrt(100 + np.repeat(more, 12)), "other": truth - 10.0}, truth, asset)


@pytest.mark.parametrize(
    ("gap", "scatter", "leader"),
    [(-5.0, 1.0, "own"), (1.0, 5.0, "own"), (2.0, 5.0, "other"), (1.0, 0.0, "other")],
    ids=["better", "worse by less than a standard error", "worse by more than one", "always worse"],
)
def test_the_runs_choice_stays_unless_another_is_clearly_better(gap: float, scatter: float, leader: str) -> None:
    found = told(gap, scatter)
    assert found.leader("own") == leader
    assert found.leader("a stack of others") == ("own" if gap < 0 else "other"), "what was not compared cannot stay"
    order = np.random.default_rng(1).permutation(240)
    assert _Told({n: s[order] for n, s in found.said.items()}, found.truth, found.asset[order]).leader("own") == leader


def test_what_has_no_estimate_leads_nothing() -> None:
    found = told(-5.0, 1.0)
    found.said["own"][3] = np.nan
    assert found.leader("own") == "other"
    found.said["other"][4] = np.nan
    assert found.leader("own") == "own"
    one = _Told({"own": np.array([60.0]), "other": np.array([51.0])}, np.array([50.0]), np.array(["A"]))
    assert one.leader("own") == "other", "of one asset nothing is known but its error"
