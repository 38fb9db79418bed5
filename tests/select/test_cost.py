"""The choice under a device's limits: the best that fits; a smaller device changes the winner."""

from dataclasses import replace

import numpy as np
import pytest

import pmx.select.cost as costing
from pmx.alarm.policy import KofN
from pmx.alarm.state import Policy
from pmx.contract import UsageError
from pmx.evaluate.plot import candidates
from pmx.feature.features import FeatureSet
from pmx.feature.kernel import Ewma, TrailingMean
from pmx.feature.regime import RegimeScore
from pmx.gate.refit import _light
from pmx.model.lightgbm import LightGBM
from pmx.pack.budget import Limits
from pmx.select.candidates import Trial, choose
from pmx.select.cost import NO_FORM, candidate_table, points_of, with_costs
from pmx.select.learn import Recipe, learn
from pmx.window.split import ByAsset
from tests.small_fleet import SmallFleet, small_fleet

WIDE = Limits("gateway", 20_000_000, 2_000, 1_000, 2)
POLICY = Policy("rul", "below", 20.0, 25.0, 1, 1)


def trial(name: str, value: float, mb: float = 1.0, ms: float = 1.0, limits: Limits = WIDE) -> Trial:
    cost = {"bytes": mb * 1e6, "resident_mb": 80.0, "p50_ms": 0.8 * ms, "p99_ms": ms}
    return Trial(name, LightGBM(), None, POLICY, {}, value, cost=cost, over=limits.over(cost))


def test_the_best_that_fits_is_chosen_and_of_none_the_nearest():
    small = replace(WIDE, bytes_max=2e6)
    large, middle, poor = (trial(n, v, mb, limits=small) for n, v, mb in (("large", 3.0, 9.0), ("middle", 2.0, 2.0), ("poor", 1.0, 0.1)))
    assert choose([large, middle, poor]) is middle and choose([poor, middle, large]) is middle
    assert not large.fits and large.over == {"bytes": 4.5} and middle.fits
    tiny = replace(WIDE, bytes_max=1e5, step_ms=1.0, headroom=10.0)
    found = [trial("large", 3.0, 9.0, 0.1, tiny), trial("slow", 2.0, 0.2, 1.0, tiny), trial("small", 1.0, 0.3, 0.1, tiny)]
    assert [max(t.over.values()) for t in found] == pytest.approx([90, 10, 3]) and choose(found).name == "small"
    assert choose([trial("nothing", float("nan")), trial("poor", -9.0)]).name == "poor"


def test_a_figure_that_is_no_number_does_not_fit():
    assert WIDE.over({"bytes": 1.0, "resident_mb": 1.0, "p99_ms": float("nan")}) == {"p99_ms": float("inf")}
    assert WIDE.over({"bytes": 20_000_000, "resident_mb": 2_000, "p99_ms": 500.0}) == {}
    for wrong in ({"headroom": 0.5}, {"step_ms": -1.0}, {"profile": "tensorrt"}):
        with pytest.raises(UsageError, match=f"device.{next(iter(wrong))}"):
            replace(WIDE, **wrong)


def test_points_say_which_candidates_nothing_beats():
    trials = [trial("quick", 1.0, ms=0.1), trial("best", 3.0, ms=2.0), trial("beaten", 0.5, ms=0.5), trial("twin", 1.0, ms=0.1)]
    points = points_of([*trials, Trial("unmeasured", LightGBM(), None, POLICY, {}, 9.0)], "best")
    assert [p["name"] for p in points] == ["best", "quick", "twin", "beaten"]
    assert {p["name"] for p in points if p["front"]} == {"best", "quick", "twin"}, "an equal does not beat its equal"
    assert [p["name"] for p in points if p["chosen"]] == ["best"] and points[1]["mb"] == 1.0
    axes = candidates(points, 5.0).axes[0]
    assert [t.get_text() for t in axes.texts] == ["best, chosen", "quick", "twin", "beaten"]
    assert list(axes.lines[0].get_ydata()) == [1.0, 1.0, 3.0] and axes.lines[1].get_xdata()[0] == 5.0


def test_the_table_says_what_is_too_large_and_what_was_chosen():
    small = replace(WIDE, bytes_max=2e6, name="plc", profile="core")
    trials = [trial("a", 1.0), trial("large", 3.0, 9.0, limits=small), replace(trial("odd", 2.0), cost={}, over={NO_FORM: float("inf")})]
    lines = candidate_table(trials, "a", small).splitlines()
    assert lines[0].endswith("plc") and [line.split()[0] for line in lines[1:]] == ["large", "odd", "a"]
    assert "bytes 4.5 times too large" in lines[1] and "no form in profile core" in lines[2] and lines[3].endswith("fits, chosen")
    ends = [lines[0].index("p99 ms") + 6, lines[1].index("1.00") + 4, lines[2].rindex("–") + 1, lines[3].rindex("1.00") + 4]
    assert len(set(ends)) == 1


def test_what_has_no_form_in_the_profile_does_not_fit(monkeypatch):
    def packs(fitted, trial, *_):
        if trial.name == "odd":
            raise UsageError("no form")
        return {"bytes": 1.0, "resident_mb": 1.0, "p50_ms": 1.0, "p99_ms": 1.0}

    monkeypatch.setattr(costing, "cost_of", packs)
    trials = [Trial(n, LightGBM(), None, POLICY, {}, v) for n, v in (("odd", 2.0), ("plain", 1.0))]
    core = replace(WIDE, profile="core")
    found = [t for t, _ in with_costs(trials, lambda t: t, core, SmallFleet.protocol)]
    assert found[0].over == {NO_FORM: float("inf")} and choose(found).name == "plain"
    with pytest.raises(UsageError, match="no form"):  # the plain profile takes all: an error is one
        with_costs(trials, lambda t: t, WIDE, SmallFleet.protocol)


def test_a_smaller_device_changes_the_winner():
    fleet = small_fleet()
    features = FeatureSet(RegimeScore(), [TrailingMean(5), Ewma(8)])
    models = {"few": LightGBM(trees=3, min_child_samples=10), "many": LightGBM(trees=150, learning_rate=0.1, min_child_samples=10)}
    recipe = Recipe(ByAsset(folds=2), features, models, KofN(limits=3), SmallFleet.protocol)
    told = []

    def learnt(limits):
        found = learn(
            replace(recipe, limits=limits), fleet.readings, fleet.history.contract, fleet.history, lambda what, *_: told.append(what)
        )
        return found, {t.name: t for t in found.trials}

    free, trials = learnt(None)
    assert free.best.name == "many" == free.winner.name and trials["many"].cost == {} and sum(w.startswith("fit ") for w in told) == 1
    small, trials = learnt(replace(WIDE, bytes_max=80_000, profile="core"))
    assert small.best.name == "few" == small.winner.name and small.winner.profile == "core" and small.winner.margins is not None
    assert trials["few"].fits and set(trials["many"].over) == {"bytes"}
    assert trials["many"].cost["bytes"] > 80_000 > trials["few"].cost["bytes"] > 10_000
    assert trials["many"].value > trials["few"].value and trials["few"].cost["p50_ms"] > 0
    assert _light(replace(recipe, limits=WIDE)).limits is None, "what the look-ahead gate repeats must not hang on a clock"
    assert np.isfinite([t.value for t in trials.values()]).all()
