"""A bundle in every opset profile: the same verdicts, and no operator that the profile does not have."""

from dataclasses import replace

import numpy as np
import onnx
import pytest

from pmx import config
from pmx.bundle import Bundle
from pmx.contract import UsageError
from pmx.edge.replay import replay_ticks
from pmx.edge.selftest import selftest
from pmx.feature.features import FeatureSet
from pmx.feature.graph import step_graph
from pmx.feature.quality import Quality
from pmx.feature.regime import RegimeScore
from pmx.gate.parity import as_ticks
from pmx.pack import PROFILES
from pmx.pack.budget import Limits
from pmx.pack.core import core_files
from pmx.pack.profile import IR, OPSET, lower
from pmx.place import conf_dirs
from tests.small_fleet import small_fleet, small_watch


def domains(graph: bytes) -> dict[str, int]:
    return {o.domain: o.version for o in onnx.load_from_string(graph).opset_import}


def test_a_bundle_says_the_same_in_every_profile():
    fleet = small_fleet()
    ticks = as_ticks(fleet.tested, fleet.training.contract)
    told = {}
    for profile in PROFILES:
        core = core_files(replace(fleet.fitted, profile=profile), fleet.policy, fleet.protocol, "small pumps")
        told[profile] = replay_ticks(Bundle(core, ""), ticks)
        graph = core["model.onnx"]
        assert selftest(Bundle(core, ""))["largest_difference"] == 0.0
        assert core["golden.npz"] == fleet.core["golden.npz"] and (core["model.onnx"] == fleet.core["model.onnx"]) == (profile == "ort")
        if profile != "ort":
            assert domains(graph) == {"": OPSET} | ({"ai.onnx.ml": 3} if profile == "ort-compat" else {})
            assert onnx.load_from_string(graph).ir_version == IR
    for profile in PROFILES[1:]:
        for name, parts in told["ort"].outputs.items():
            for a, b in zip(parts, told[profile].outputs[name], strict=True):
                np.testing.assert_array_equal(a, b, err_msg=f"{profile} {name}")


def test_a_model_without_trees_changes_only_what_it_declares():
    graph = small_watch().core["model.onnx"]
    bare = lower(graph, "core")
    assert lower(graph, "ort-compat") == bare != graph and lower(graph, "ort") is graph
    a, b = (onnx.load_from_string(g).graph for g in (graph, bare))
    assert [n.op_type for n in a.node] == [n.op_type for n in b.node if not n.output[0].startswith("apart")]


def test_every_kernel_and_the_quality_of_readings_have_their_forms():
    """All kernels of conf/feature, judged readings among them: the checker of ONNX knows each operator in the older opset."""
    parts, fleet = config.build(config.compose("demo", ["feature=all", "model=lightgbm"])), small_fleet()
    features = FeatureSet(RegimeScore(), parts.feature.kernels, Quality()).fit(fleet.training.ticks.head(200), fleet.history.contract)
    graph = lower(step_graph(features, 1, fleet.fitted.head, fleet.fitted.slots, False), "core")
    assert set(domains(graph)) == {""} and len(features.names_) > 100
    nodes = onnx.load_from_string(graph).graph.node
    turned = {n.output[0] for n in nodes if n.op_type == "Transpose"}
    assert turned and not [n for n in nodes if n.op_type == "MatMul" and turned & set(n.input)], "runtimes before 1.18 cannot run these"


def test_an_operator_that_the_older_opset_lacks_is_refused():
    node = onnx.helper.make_node("Gelu", ["x"], ["y"])  # new in opset 20
    x, y = (onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["row"]) for n in "xy")
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [x], [y]), opset_imports=[onnx.helper.make_opsetid("", 20)])
    with pytest.raises(UsageError, match=f"no form in opset {OPSET}.*Gelu.* -> device.profile=ort"):
        lower(model.SerializeToString(), "core")


def test_devices_of_the_configuration_are_limits_from_wide_to_narrow():
    names = sorted(p.stem for p in (conf_dirs()[-1] / "device").glob("*.yaml"))
    found = {n: Limits(**dict(config.compose("demo", [f"device={n}"]).device)) for n in names}
    assert {"gateway", "pi", "plc"} <= set(found) and all(n == limits.name for n, limits in found.items())
    wide, middle, narrow = (found[n].allowed for n in ("gateway", "pi", "plc"))
    assert all(wide[k] > middle[k] > narrow[k] for k in wide) and found["plc"].profile == "core"


def test_a_profile_that_is_none_is_refused_before_any_data_is_read():
    found = config.problems(config.compose("demo", ["device.profile=ort-compact", "model=lightgbm"]))
    assert found == ["device.profile: there is no 'ort-compact' -> did you mean ort-compat?"]
