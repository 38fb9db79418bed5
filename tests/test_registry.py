"""Which version is champion, and what keeps another one from becoming it."""

from __future__ import annotations

import shutil
import urllib.request
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from pmx.contract import DataError, DigestError, GateError, UsageError
from pmx.registry import Registered, Registry, model_name
from pmx.run import main
from pmx.tracking import Tracker
from tests.store import CORE_DIGEST, DIGEST, finished, outcome, sealed


@pytest.fixture
def registry(tracker: Tracker) -> Registry:
    return Registry(tracker)


def run_of(tracker: Tracker, bundle: Path, digest: str = DIGEST, accepted: str = "", doubt: str = "") -> str:
    run = tracker.start("starting", {}, tags={"pmx.command": "pmx run demo"})
    tracker.data(run, "demo", digest, "synthetic")
    tracker.finish(run, replace(outcome(10.0, bundle), accepted=accepted, doubt=doubt, data_reads=3))
    return run


def registered(registry: Registry, bundle: Path, **what: str) -> Registered:
    return registry.register(run_of(registry.tracker, bundle, **what), "demo", CORE_DIGEST)


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
    assert made.status == "READY" and {f.name: f.read_bytes() for f in where.iterdir()} == {
        f.name: f.read_bytes() for f in bundle.iterdir()
    }


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
    assert tags(registry, "1")["pmx.gate.parity"] == "pass" and tags(registry, "1")["pmx.core_digest"] == CORE_DIGEST


def test_a_run_that_did_not_finish_or_has_no_bundle_is_not_registered(registry: Registry) -> None:
    with pytest.raises(UsageError, match="no bundle"):
        registry.register(finished(registry.tracker, 10.0), "demo", CORE_DIGEST)
    with pytest.raises(UsageError, match="RUNNING"):
        registry.register(registry.tracker.start("running", {}), "demo", CORE_DIGEST)
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


def kept_by(registry: Registry, run: str) -> Path:
    return registry.tracker.folder / "artifacts" / run / "artifacts" / "bundle"


CHANGES = {
    "a byte": (lambda kept: (kept / "model.onnx").write_bytes(b"another"), DigestError, "model.onnx is not as sealed"),
    "a missing file": (lambda kept: (kept / "card.md").unlink(), DigestError, "card.md is not as sealed"),
    "a core and its manifest": (lambda kept: sealed(kept, policy=b"{}"), DigestError, "a core file and manifest.json were changed"),
    "evidence and its manifest": (lambda kept: sealed(kept, evidence=b"[]"), DigestError, "manifest.json is not the one on record"),
    "all of it": (shutil.rmtree, DataError, "is gone"),
}


def test_a_version_whose_files_were_changed_is_never_promoted(registry: Registry, bundle: Path) -> None:
    registered(registry, bundle)
    new = registered(registry, bundle).version
    kept = kept_by(registry, new.run_id)
    for change, error, why in CHANGES.values():
        change(kept)
        with pytest.raises(error, match=f"Cannot promote demo v2: .*{why}.* -> "):
            registry.promote(new, accept_leakage=True, other_data=True)
        assert registry.version("demo", "champion").number == "1"
        shutil.copytree(bundle, kept, dirs_exist_ok=True)
    assert registry.promote(new).number == "2"


def awaiting(registry: Registry, bundle: Path) -> str:
    """A run whose process was killed between its end and its registration."""
    gone = {"pmx.pid": "0", "pmx.process_started": "1"}
    run = registry.tracker.start("starting", {}, tags=gone)
    registry.tracker.finish(run, outcome(10.0, bundle), "demo")
    return run


def test_a_run_that_was_killed_before_it_was_registered_is_registered_by_the_next_command_once(
    registry: Registry, bundle: Path, capsys
) -> None:
    first, second = awaiting(registry, bundle), awaiting(registry, bundle)
    main(["compare", "--store", str(registry.tracker.folder)])
    said = capsys.readouterr()
    assert f"Run {first[:8]} had finished and was killed before it was registered; now registered as demo v1 (champion)" in said.err
    assert registry.version("demo", "1").run_id == first and registry.version("demo", "challenger").run_id == second
    assert "v1 champ." in said.out and registry.late() == [] and len(registry.versions()) == 2


def test_a_run_that_may_still_be_registered_by_its_process_or_never_was_to_be_is_left_alone(registry: Registry, bundle: Path) -> None:
    run = registry.tracker.start("starting", {})
    registry.tracker.finish(run, outcome(10.0, bundle), "demo")
    other = registry.tracker.start("starting", {}, tags={"pmx.pid": "0", "pmx.process_started": "1"})
    registry.tracker.finish(other, outcome(10.0, bundle))
    assert registry.late() == [] and registry.models() == []
    assert registry.register(run, "demo", CORE_DIGEST).version.number == "1"
    registry.client.set_tag(run, "pmx.pid", "0")
    assert registry.late() == [], "what is registered awaits nothing"


@pytest.mark.parametrize("alias", ["", "champion"], ids=["before its alias", "after its alias"])
def test_a_registration_that_was_killed_half_way_is_ended_not_repeated(registry: Registry, bundle: Path, alias: str) -> None:
    run = awaiting(registry, bundle)
    registry.client.create_registered_model("demo")
    registry.client.create_model_version("demo", "there", run)
    if alias:
        registry.client.set_registered_model_alias("demo", alias, "1")
    assert len(registry.late()) == 1 and registry.late() == []
    assert [v.said for v in registry.versions()[run]] == ["v1 (champion)"]


def test_what_can_no_longer_be_registered_is_said_once(registry: Registry, bundle: Path) -> None:
    run = awaiting(registry, bundle)
    sealed(kept_by(registry, run), policy=b"{}")
    [told] = registry.late()
    assert "cannot be registered any more" in told and "core digest" in told and registry.late() == [] and registry.models() == []


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
        registry.register(run, name, CORE_DIGEST)
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
    made = registry.register(run_of(registry.tracker, bundle), "plant: 'hall 2'/pumps", CORE_DIGEST).version
    assert made.model == model_name("plant: 'hall 2'/pumps") == "plant_ _hall 2__pumps"
    assert registry.champion("plant: 'hall 2'/pumps") == made or registry.champion(made.model) is not None
    assert registry.model("plant") == made.model and "there are v1" in registry._there(made.model)
