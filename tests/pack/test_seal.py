"""The seal, the card, the bill of materials and the measured budget."""

import json
import uuid
from dataclasses import replace
from importlib.metadata import version

import pytest

import pmx
from pmx.bundle import CORE, Bundle, digest
from pmx.contract import DigestError, IncompatibleError
from pmx.pack.budget import Limits, measure_budget
from pmx.pack.card import card
from pmx.pack.seal import seal
from tests.small_fleet import small_fleet


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return small_fleet().seal(tmp_path_factory.mktemp("sealed") / "bundle")


def read(bundle, name):
    return json.loads((bundle / name).read_bytes())


def test_the_manifest_names_every_other_file_and_the_core(bundle):
    manifest = read(bundle, "manifest.json")
    assert manifest["files"] == {p.name: digest(p.read_bytes()) for p in bundle.iterdir() if p.name != "manifest.json"}
    assert manifest["core_digest"] == Bundle.open(bundle).core
    assert manifest["name"] == "small pumps" and manifest["version"] == pmx.__version__


def test_the_evidence_names_the_core_it_is_about(bundle):
    evidence = read(bundle, "evidence.json")
    assert evidence["core_digest"] == evidence["replayed_core_digest"] == Bundle.open(bundle).core
    assert evidence["metrics"] == {"test/rmse": 1.0}


def test_the_bill_of_materials_is_cyclonedx_and_names_what_a_device_runs(bundle):
    bill = read(bundle, "sbom.cdx.json")
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert uuid.UUID(bill["serialNumber"].removeprefix("urn:uuid:")).version == 5
    assert {c["name"]: c["version"] for c in bill["components"]} == {
        "numpy": version("numpy"),
        "onnxruntime": version("onnxruntime"),
        "pmx-maintenance": pmx.__version__,
    }
    known = {bill["metadata"]["component"]["bom-ref"], *(c["bom-ref"] for c in bill["components"])}
    assert all({d["ref"], *d["dependsOn"]} <= known for d in bill["dependencies"])
    assert bill["metadata"]["component"]["hashes"] == [{"alg": "SHA-256", "content": Bundle.open(bundle).core}]


def test_sealing_the_same_twice_gives_the_same_bytes(bundle, tmp_path):
    again = small_fleet().seal(tmp_path / "again")
    assert {p.name: p.read_bytes() for p in again.iterdir()} == {p.name: p.read_bytes() for p in bundle.iterdir()}
    assert [p.name for p in tmp_path.iterdir()] == ["again"]  # nothing half-written stays beside it


def test_another_core_than_the_replayed_one_is_not_sealed(tmp_path):
    core = small_fleet().write(tmp_path / "bundle")
    path = tmp_path / "bundle/policy.json"
    path.write_bytes(path.read_bytes().replace(b"90.0", b"91.0"))
    with pytest.raises(DigestError, match="a file was changed"):
        seal(tmp_path / "bundle", core, {}, "")
    assert sorted(p.name for p in (tmp_path / "bundle").iterdir()) == sorted(CORE)


def test_evidence_that_is_not_a_number_seals_nothing(tmp_path):
    core = small_fleet().write(tmp_path / "bundle")
    with pytest.raises(ValueError, match="JSON"):
        seal(tmp_path / "bundle", core, {"metrics": {"test/rmse": float("nan")}}, "")
    assert sorted(p.name for p in (tmp_path / "bundle").iterdir()) == sorted(CORE)


def test_the_card_says_what_for_whom_and_what_was_not_shown():
    fleet = small_fleet()
    gates, tables = {"parity": "all equal"}, ["failures caught 3 of 4"]
    text = card("small pumps", fleet.history, fleet.fitted, fleet.policy, fleet.protocol, gates, tables)
    assert text.startswith("# small pumps\n") and "remaining useful life in h, at most 240" in text
    assert "counts the asset's age" in text and "2 of the last 3 verdicts" in text and "below 90" in text
    for channel in fleet.history.contract.channels:
        assert f"| {channel.name} | {channel.unit} | {channel.role} |" in text
    assert "failures caught 3 of 4" in text and "parity: all equal" in text and "evidence, not proof" in text
    assert fleet.history.digest[:12] in text


def test_the_budget_is_measured_in_a_process_of_its_own(tmp_path):
    core = small_fleet().write(tmp_path / "bundle")
    found = measure_budget(tmp_path / "bundle", core)
    assert set(found) == {"bytes", "resident_mb", "p50_ms", "p99_ms"}
    assert found["bytes"] == sum(len(data) for data in small_fleet().core.values())
    assert found["resident_mb"] < 250  # neither torch nor polars is in that process
    assert 0 < found["p50_ms"] <= found["p99_ms"]


@pytest.mark.parametrize(
    ("times", "asked", "shortest"),
    [
        ([0.9, 0.1], 1, 0.9),
        ([1.3, 1.1, 0.9, 0.1], 3, 0.9),
        ([1.1, 1.9, 1.2, 1.3, 1.4, 0.1], 5, 1.1),
        ([2.5, 0.1], 1, 2.5),
    ],
    ids=["fits", "fits at last", "never fits", "far from it"],
)
def test_a_time_that_is_barely_too_long_is_measured_again(times, asked, shortest, monkeypatch, tmp_path):
    seen = []

    def measured(*_) -> dict[str, float]:
        seen.append(times[len(seen)])
        return {"bytes": 1e6, "resident_mb": 70.0, "p50_ms": 0.5 * seen[-1], "p99_ms": seen[-1]}

    monkeypatch.setattr("pmx.pack.budget._measured", measured)
    limits = Limits("plc", 2e6, 120, 10)
    assert measure_budget(tmp_path, "core", limits) == {"bytes": 1e6, "resident_mb": 70.0, "p50_ms": 0.5 * shortest, "p99_ms": shortest}
    assert len(seen) == asked
    seen.clear()
    assert measure_budget(tmp_path, "core", replace(limits, bytes_max=1e5))["p99_ms"] == times[0] and len(seen) == 1, "bytes stay"


def test_a_budget_that_cannot_be_measured_says_why(tmp_path):
    small_fleet().write(tmp_path / "bundle")
    with pytest.raises(IncompatibleError, match="could not be measured: .*packed as 000000000000"):
        measure_budget(tmp_path / "bundle", "0" * 64)
