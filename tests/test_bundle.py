"""A bundle that was touched does not open: every file, every kind of touch, before anything is parsed."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest

import pmx.bundle
from pmx.bundle import CORE, SEALED, Bundle, Spec, core_digest, digest, to_json, to_npz
from pmx.contract import DigestError, IncompatibleError
from tests.small_fleet import small_fleet, small_watch


@pytest.fixture
def bundle(tmp_path):
    return small_fleet().seal(tmp_path / "bundle")


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_sealed_bundle_opens_and_holds_what_was_sealed(bundle):
    opened = Bundle.open(bundle)
    assert set(opened.files) == set(CORE + SEALED) and opened.core == small_fleet().bundle.core
    assert opened.spec == Spec.from_json(opened.spec.to_json()) and opened.evidence["core_digest"] == opened.core
    assert opened.size == sum(f.stat().st_size for f in bundle.iterdir())


@pytest.mark.parametrize("name", CORE + SEALED)
def test_one_flipped_bit_in_any_file_is_refused_and_named(bundle, name):
    flip(bundle / name)
    with pytest.raises(DigestError, match=rf"{name}.*->") as caught:
        Bundle.open(bundle)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("name", CORE + SEALED)
def test_a_missing_file_is_refused_and_named(bundle, name):
    (bundle / name).unlink()
    with pytest.raises(DigestError, match=name):
        Bundle.open(bundle)


@pytest.mark.parametrize("kind", ["file", "hidden", "folder", "symlink", "dangling"])
def test_what_does_not_belong_there_is_refused(bundle, kind, tmp_path):
    name = {"file": "weights.bin", "hidden": ".DS_Store", "folder": "data", "symlink": "model.onnx", "dangling": "model.sig"}[kind]
    if kind == "folder":
        (bundle / name).mkdir()
    elif kind == "symlink":  # the very bytes that were sealed, but somebody else may change them
        (bundle / name).rename(tmp_path / "elsewhere")
        (bundle / name).symlink_to(tmp_path / "elsewhere")
    elif kind == "dangling":
        (bundle / name).symlink_to("nowhere")
    else:
        (bundle / name).write_bytes(b"")
    with pytest.raises(DigestError, match=name):
        Bundle.open(bundle)


def test_an_unsealed_bundle_opens_only_under_the_digest_it_was_packed_as(tmp_path):
    core = small_fleet().write(tmp_path / "packed")
    with pytest.raises(DigestError, match="not sealed"):
        Bundle.open(tmp_path / "packed")
    assert Bundle.open(tmp_path / "packed", packed_as=core).core == core
    flip(tmp_path / "packed/memory0.npz")
    with pytest.raises(DigestError, match="a file was changed"):
        Bundle.open(tmp_path / "packed", packed_as=core)
    (tmp_path / "packed/golden.npz").unlink()
    with pytest.raises(DigestError, match=r"golden\.npz missing"):
        Bundle.open(tmp_path / "packed", packed_as=core)


@pytest.mark.parametrize(
    "manifest",
    [b"", b"\xff", b"[]", b"{}", b"[" * 100_000, b'{"files": 7, "core_digest": "x"}', b'{"files": {"a": {}}, "core_digest": "x"}'],
    ids=["empty", "not text", "list", "nothing in it", "deep", "number", "not hashes"],
)
def test_a_manifest_that_makes_no_sense_is_refused(bundle, manifest):
    (bundle / "manifest.json").write_bytes(manifest)
    with pytest.raises(DigestError):
        Bundle.open(bundle)


def test_a_manifest_that_leaves_out_a_file_or_tells_another_core_is_refused(bundle):
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    del manifest["files"]["evidence.json"]
    (bundle / "manifest.json").write_bytes(to_json(manifest))
    with pytest.raises(DigestError, match=r"evidence\.json"):
        Bundle.open(bundle)
    manifest["files"]["evidence.json"] = digest((bundle / "evidence.json").read_bytes())
    (bundle / "manifest.json").write_bytes(to_json({**manifest, "core_digest": "0" * 64}))
    with pytest.raises(DigestError, match="core digest"):
        Bundle.open(bundle)


@pytest.mark.parametrize("name", [n for n in CORE + SEALED if n != "manifest.json"])
def test_nothing_is_parsed_before_the_digests_held(bundle, name, monkeypatch):
    import onnxruntime

    def parsed(*_, **__):
        raise AssertionError("parsed before its digest was checked")

    real = json.loads
    manifest = (bundle / "manifest.json").read_bytes()
    flip(bundle / name)
    monkeypatch.setattr(np, "load", parsed)
    monkeypatch.setattr(onnxruntime, "InferenceSession", parsed)
    monkeypatch.setattr(pmx.bundle.json, "loads", lambda data: real(data) if data == manifest else parsed())
    with pytest.raises(DigestError, match=name):
        Bundle.open(bundle)


def test_a_file_too_large_for_a_bundle_is_not_read(bundle, monkeypatch):
    monkeypatch.setattr(pmx.bundle, "LARGEST", 1000)
    with pytest.raises(DigestError, match="larger than 1,000 bytes"):
        Bundle.open(bundle)


def test_pickled_arrays_are_neither_written_nor_read():
    planted = np.array([{"a": 1}], object)
    with pytest.raises(ValueError, match="[Oo]bject"):
        to_npz({"default": planted})
    out = io.BytesIO()
    np.savez(out, default=planted)
    with pytest.raises(ValueError, match="allow_pickle"):
        Bundle({"memory0.npz": out.getvalue()}, "").arrays("memory0.npz")


def test_bytes_depend_on_the_content_alone():
    arrays = {"b": np.arange(3.0), "a": np.array([np.nan], np.float32)}
    assert to_npz(arrays) == to_npz({k: v.copy() for k, v in arrays.items()})
    assert to_json({"b": 1, "a": "é"}) == to_json({"a": "é", "b": 1})
    with pytest.raises(ValueError, match="JSON"):
        to_json({"metric": float("nan")})  # not every parser reads NaN


def test_the_core_digest_covers_the_five_core_files_and_nothing_else():
    core = small_fleet().core
    for name in CORE:
        assert core_digest({**core, name: core[name] + b" "}) != core_digest(core)
    assert core_digest({**core, "card.md": b"x"}) == core_digest(dict(reversed(core.items()))) == core_digest(core)
    swapped = {**core, "policy.json": core["spec.json"], "spec.json": core["policy.json"]}
    assert core_digest(swapped) != core_digest(core)


def test_another_format_is_refused():
    with pytest.raises(IncompatibleError, match="format"):
        Spec.from_json({**small_fleet().bundle.spec.to_json(), "format": 99})


def verify(bundle):
    return subprocess.run([sys.executable, "-m", "pmx.run", "verify", str(bundle)], capture_output=True, text=True, check=False)


def test_verify_refuses_what_was_changed_and_evidence_about_another_core(bundle, tmp_path):
    sound = verify(bundle)
    assert sound.returncode == 0 and Bundle.open(bundle).core[:12] in sound.stdout
    evidence = to_json({**json.loads((bundle / "evidence.json").read_bytes()), "replayed_core_digest": "0" * 64})
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    manifest["files"]["evidence.json"] = digest(evidence)
    (bundle / "evidence.json").write_bytes(evidence)
    (bundle / "manifest.json").write_bytes(to_json(manifest))
    assert Bundle.open(bundle)  # consistent in itself
    lying = verify(bundle)
    assert lying.returncode == 4 and "another core" in lying.stderr
    flip(bundle / "model.onnx")
    changed = verify(bundle)
    assert changed.returncode == 4 and "model.onnx" in changed.stderr and "Traceback" not in changed.stderr


def test_memory_is_found_by_name_whatever_the_order():
    bundle = small_watch().bundle
    start = bundle.arrays("memory0.npz")
    names = [bundle.known[2], "nobody", bundle.known[0], bundle.known[2]]
    want = np.stack([start["rows"][2], start["default"][0], start["rows"][0], start["rows"][2]])
    assert bundle.memory(names).tobytes() == want.tobytes() and bundle.memory([]).shape == (0, bundle.spec.slots)
    fleet = small_fleet().bundle
    assert fleet.known == [] and fleet.memory(["P", "Q"]).tolist() == fleet.arrays("memory0.npz")["default"].tolist() * 2
    bundle.memory(names)[:] = 7.0
    assert bundle.memory(names).tobytes() == want.tobytes(), "what one replay changes, the next must not meet"
