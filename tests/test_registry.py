"""Which version is champion, and what keeps another one from becoming it."""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from pmx.contract import GateError, UsageError
from pmx.registry import Registered, Registry, model_name
from pmx.tracking import Tracker
from tests.store import DIGEST, finished, outcome


@pytest.fixture
def registry(tracker: Tracker) -> Registry:
    return Registry(tracker)


def run_of(tracker: Tracker, bundle: Path, digest: str = DIGEST, accepted: str = "", doubt: str = "") -> str:
    run = tracker.start("starting", {}, tags={"pmx.command": "pmx run demo"})
    tracker.data(run, "demo", digest, "synthetic")
    tracker.finish(run, replace(outcome(10.0, bundle), accepted=accepted, doubt=doubt, data_reads=3))
    return run


def registered(registry: Registry, bundle: Path, **what: str) -> Registered:
    return registry.register(run_of(registry.tracker, bundle, **what), "demo", "core-1")


def tags(registry: Registry, number: str) -> Mapping[str, str]:
    return registry.version("demo", number).tags


def test_the_first_version_is_champion_and_the_next_ones_wait(registry: Registry, bundle: Path) -> None:
    first, second, third = (registered(registry, bundle) for _ in range(3))
    assert first.told == "registered as demo v1 (champion)"
    assert second.told == "registered as demo v2 (challenger; champion stays v1)"
    assert registry.version("demo", "champion").number == "1" and registry.version("demo", "challenger").number == "3"
    assert registry.version("demo", "v2").alias == "" and third.champion is not None and third.champion.number == "1"


def test_a_version_s_source_is_the_files_themselves(registry: Registry, bundle: Path) -> None:
    registered(registry, bundle)
    made = registry.client.get_model_version_by_alias("demo", "champion")
    where = Path(urllib.request.url2pathname(made.source.removeprefix("file://")))
    assert made.status == "READY" and sorted(f.name for f in where.iterdir()) == ["model.onnx", "spec.json"]


@pytest.mark.parametrize(
    ("what", "why"),
    [({"accepted": "a test bench"}, "leakage was accepted"), ({"doubt": "No better than clock (by F1)"}, "no better than clock (by F1)")],
)
def test_what_is_in_doubt_is_never_champion_by_itself(registry: Registry, bundle: Path, what: dict[str, str], why: str) -> None:
    doubtful = registered(registry, bundle, **what)
    assert doubtful.told == f"registered as demo v1 (challenger: {why}; no champion yet)" and registry.champion("demo") is None
    assert registered(registry, bundle).version.alias == "champion"


def test_a_version_s_page_has_numbers_gates_data_reads_and_command(registry: Registry, bundle: Path) -> None:
    registered(registry, bundle)
    text = registry.client.get_model_version("demo", "1").description
    for part in ("| rmse_last_capped | &nbsp; 10 [9, 11] |", "parity ✓", DIGEST[:16], "read 3 times", "`pmx run demo`"):
        assert part in text
    assert "pmx promote 'demo'" in registry.client.get_registered_model("demo").description
    assert tags(registry, "1")["pmx.gate.parity"] == "pass" and tags(registry, "1")["pmx.core_digest"] == "core-1"


def test_a_run_that_did_not_finish_or_has_no_bundle_is_not_registered(registry: Registry) -> None:
    with pytest.raises(UsageError, match="no bundle"):
        registry.register(finished(registry.tracker, 10.0), "demo", "core-1")
    with pytest.raises(UsageError, match="RUNNING"):
        registry.register(registry.tracker.start("running", {}), "demo", "core-1")
    assert registry.models() == []


def test_promotion_moves_the_alias_and_notes_when_and_from_which(registry: Registry, bundle: Path) -> None:
    for _ in range(2):
        registered(registry, bundle)
    now = registry.promote(registry.version("demo", "challenger"))
    assert (now.number, now.alias) == ("2", "champion") and tags(registry, "2")["pmx.promoted_from"] == "v1"
    assert tags(registry, "1")["pmx.followed_by"] == "v2" and tags(registry, "1")["pmx.champion_until"] == now.tags["pmx.promoted_at"]
    with pytest.raises(UsageError, match="no challenger -> there are v1, v2 \\(champion\\)"):
        registry.version("demo", "challenger")
    assert registry.promote(registry.version("demo", "2")).number == "2", "to promote the champion changes nothing"
    assert registry.promote(registry.version("demo", "1")).number == "1", "the way back is open"


def test_a_failed_gate_is_never_promoted(registry: Registry, bundle: Path) -> None:
    registered(registry, bundle)
    new = registered(registry, bundle).version
    registry.client.set_tag(new.run_id, "pmx.gate.parity", "fail")
    with pytest.raises(GateError, match="gate parity failed .* no flag"):
        registry.promote(new, accept_leakage=True, other_data=True)
    registry.client.delete_tag(new.run_id, "pmx.gate.parity")
    with pytest.raises(GateError, match="no gate judged it"):
        registry.promote(new)
    assert registry.version("demo", "champion").number == "1"


def test_accepted_leakage_and_other_data_need_a_word(registry: Registry, bundle: Path) -> None:
    registered(registry, bundle)
    leaks, other = registered(registry, bundle, accepted="a test bench").version, registered(registry, bundle, digest="f" * 64).version
    with pytest.raises(GateError, match="a test bench.*--accept-leakage"):
        registry.promote(leaks, other_data=True)
    with pytest.raises(GateError, match="other data than v1.*--other-data"):
        registry.promote(other, accept_leakage=True)
    assert registry.version("demo", "champion").number == "1"
    assert registry.promote(leaks, accept_leakage=True).number == "2" and registry.promote(other, other_data=True).number == "3"


def test_a_model_is_found_by_the_beginning_of_its_name(registry: Registry, bundle: Path) -> None:
    with pytest.raises(UsageError, match="no registered models yet"):
        registry.model()
    runs = [run_of(registry.tracker, bundle) for _ in range(2)]
    for run, name in zip(runs, ("demo pumps", "demo pumps anomaly"), strict=True):
        registry.register(run, name, "core")
    assert registry.model("demo pumps") == "demo pumps" and registry.model("demo pumps a") == "demo pumps anomaly"
    for word in ("", "demo", "x"):
        with pytest.raises(UsageError, match="'demo pumps', 'demo pumps anomaly'"):
            registry.model(word)


def test_a_run_is_found_by_its_id_its_version_or_its_alias(registry: Registry, bundle: Path) -> None:
    first, second = registered(registry, bundle).version, registered(registry, bundle).version
    assert [registry.find(w)[0] for w in (first.run_id[:10], "1", "v1", "champion")] == [first.run_id] * 4
    assert registry.find("challenger") == (second.run_id, "v2 (challenger)")
    with pytest.raises(UsageError, match="no version '7' -> there are v1"):
        registry.find("7")
    assert registry.versions()[second.run_id][0].number == "2"


def test_a_name_that_mlflow_refuses_becomes_one_that_it_takes(registry: Registry, bundle: Path) -> None:
    made = registry.register(run_of(registry.tracker, bundle), "plant: 'hall 2'/pumps", "core").version
    assert made.model == model_name("plant: 'hall 2'/pumps") == "plant_ _hall 2__pumps"
    assert registry.champion("plant: 'hall 2'/pumps") == made or registry.champion(made.model) is not None
    assert registry.model("plant") == made.model and "there are v1" in registry._there(made.model)
