"""Packing: the same fitted objects give the same bytes, a changed one another digest; whole or not at all."""

import copy
import dataclasses
from pathlib import Path

import numpy as np
import onnx
import polars as pl
import pytest

import pmx.model.trees as lowering
from pmx.align import Ticks
from pmx.bundle import CORE, Bundle, core_digest, to_npz
from pmx.contract import DigestError, IncompatibleError
from pmx.edge.replay import replay_ticks
from pmx.edge.selftest import selftest
from pmx.evaluate.protocol import Protocol
from pmx.gate.parity import as_ticks
from pmx.pack.core import core_files, golden_readings, pack
from pmx.pack.fitted import Fitted
from pmx.pack.scope import Scoped
from pmx.select.training import Training
from tests.small_fleet import small_fleet, small_watch


@pytest.fixture(scope="module")
def ticks() -> Ticks:
    return as_ticks(small_fleet().tested, small_fleet().training.contract)


def packed(folder: Path, fitted: Fitted, **changes) -> str:
    fleet = small_fleet()
    return pack(
        folder, fitted, changes.get("policy", fleet.policy), changes.get("protocol", fleet.protocol), changes.get("name", "small pumps")
    )


def heavier(fitted: Fitted) -> Fitted:
    """The same candidate with one leaf weight changed."""
    text = fitted.model.model.boosters_[0].model_to_string()
    line = next(x for x in text.splitlines() if x.startswith("leaf_value="))
    first, *others = line.removeprefix("leaf_value=").split(" ")
    changed = "leaf_value=" + " ".join([repr(float(first) + 5.0), *others])
    model = copy.copy(fitted.model.model)
    model.boosters_ = [type(fitted.model.model.boosters_[0])(model_str=text.replace(line, changed, 1))]
    return dataclasses.replace(fitted, model=Scoped(model))


def test_packing_twice_and_fitting_twice_give_the_same_bytes(tmp_path):
    fleet = small_fleet()
    one, two = packed(tmp_path / "one", fleet.fitted), packed(tmp_path / "two", fleet.fitted)
    assert one == two == core_digest(small_fleet.__wrapped__().core) == fleet.bundle.core
    for name in CORE:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == sorted(CORE)


def test_a_weight_changed_before_packing_changes_digest_and_replay(tmp_path, ticks):
    fleet = small_fleet()
    core = packed(tmp_path / "bundle", heavier(fleet.fitted))
    assert core != fleet.bundle.core
    changed = replay_ticks(Bundle.open(tmp_path / "bundle", packed_as=core), ticks)
    before = replay_ticks(fleet.bundle, ticks)
    assert any((a != b).any() for a, b in zip(changed.outputs["rul"], before.outputs["rul"], strict=True))


def test_a_weight_changed_after_sealing_is_refused(tmp_path):
    bundle = small_fleet().seal(tmp_path / "bundle")
    model = onnx.load(bundle / "model.onnx")
    trees = next(n for n in model.graph.node if n.op_type == "TreeEnsemble")
    weights = next(a for a in trees.attribute if a.name == "leaf_weights").t
    values = onnx.numpy_helper.to_array(weights).copy()
    values[0] += 5.0
    weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))
    (bundle / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(DigestError, match=r"model\.onnx") as caught:
        Bundle.open(bundle)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("change", ["policy", "protocol", "name"])
def test_whatever_the_device_acts_on_is_part_of_the_digest(tmp_path, change):
    fleet = small_fleet()
    other = {
        "policy": dataclasses.replace(fleet.policy, raise_at=fleet.policy.raise_at + 1),
        "protocol": Protocol(fleet.protocol.cap, fleet.protocol.horizon, fleet.protocol.lead + 1),
        "name": "other pumps",
    }[change]
    assert packed(tmp_path / "bundle", fleet.fitted, **{change: other}) != fleet.bundle.core


def test_an_error_in_the_middle_leaves_the_older_folder(tmp_path, monkeypatch):
    fleet = small_fleet()
    core = packed(tmp_path / "bundle", fleet.fitted)
    real, written = Path.write_bytes, []

    def fails(path, data):
        written.append(path.name)
        if len(written) == 3:
            raise OSError(28, "No space left on device", str(path))
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", fails)
    with pytest.raises(OSError, match="No space"):
        packed(tmp_path / "bundle", heavier(fleet.fitted))
    assert Bundle.open(tmp_path / "bundle", packed_as=core) and [p.name for p in tmp_path.iterdir()] == ["bundle"]


def test_packing_again_leaves_nothing_of_the_older_bundle(tmp_path):
    bundle = small_fleet().seal(tmp_path / "bundle")
    packed(bundle, small_fleet().fitted)
    assert sorted(p.name for p in bundle.iterdir()) == sorted(CORE)  # a new core is not sealed by an old manifest


def test_golden_vectors_hold_no_reading_of_the_plant():
    fleet = small_fleet()
    golden = golden_readings(fleet.fitted.features, fleet.history.contract)
    rows = golden.reshape(-1, golden.shape[-1])
    plant = fleet.ticks.select(fleet.history.contract.names).to_numpy().astype(np.float32)
    measured = [i for i, c in enumerate(fleet.history.contract.channels) if c.role == "measurement"]
    known = {row.tobytes() for row in plant[:, measured]}
    assert not [r for r in rows[:, measured] if r.tobytes() in known and not np.isnan(r).all()]
    assert 0.02 < np.isnan(rows[:, measured]).mean() < 0.1


def test_golden_vectors_exercise_the_model_and_its_alarm():
    arrays = small_fleet().bundle.arrays("golden.npz")
    assert np.ptp(arrays["rul"]) > 50 and 0 < arrays["standing"].mean() < 1
    assert selftest(small_fleet().bundle)["largest_difference"] == 0.0


def test_a_graph_with_a_loop_is_not_packed(monkeypatch):
    fleet = small_fleet()
    real = lowering.tree_attributes

    def loops(dump):
        attributes = real(dump)
        at = next(i for i, leaf in enumerate(attributes["nodes_trueleafs"]) if not leaf)
        attributes["nodes_truenodeids"][at] = at  # a node that is its own child
        return attributes

    monkeypatch.setattr(lowering, "tree_attributes", loops)
    with pytest.raises(IncompatibleError, match="loop for ever"):
        core_files(fleet.fitted, fleet.policy, fleet.protocol, "looping")


def test_the_training_part_of_the_fleet_is_what_was_fitted():
    fleet = small_fleet()
    assert isinstance(fleet.training, Training) and not set(fleet.training.truth.assets) & set(fleet.real.assets)


def test_an_asset_that_was_fitted_on_starts_with_its_own_constants():
    watch = small_watch()
    arrays = watch.bundle.arrays("memory0.npz")
    assert watch.bundle.known == watch.fitted.assets == sorted(set(watch.ticks["asset"]))
    assert arrays["rows"].tobytes() == watch.fitted.memory0(watch.bundle.known).tobytes()
    assert arrays["rows"].shape[1] == watch.bundle.spec.slots == arrays["default"].shape[1]
    assert np.isnan(arrays["default"]).sum() == watch.bundle.spec.slots - 2, "all but the running mean, which begins at nothing"
    assert len({row.tobytes() for row in arrays["rows"]}) == len(arrays["rows"])
    assert np.isnan(arrays["rows"]).mean() < 0.1, "missing are the means of regimes that an asset never ran in"
    shared = small_watch(False).bundle
    assert shared.known == [] and shared.spec.slots == 2 and not np.isnan(shared.arrays("memory0.npz")["default"]).any()


@pytest.mark.parametrize("each", [True, False])
def test_a_watched_fleet_packed_twice_gives_the_same_bytes(tmp_path, each):
    watch = small_watch(each)
    again = core_files(copy.deepcopy(watch.fitted), watch.policy, watch.protocol, "watched pumps")
    assert again == watch.core and core_digest(small_watch.__wrapped__(each).core) == watch.bundle.core
    core = pack(tmp_path / "bundle", watch.fitted, watch.policy, watch.protocol, "watched pumps")
    assert core == watch.bundle.core and Bundle.open(tmp_path / "bundle", packed_as=core).known == watch.bundle.known


@pytest.mark.parametrize("each", [True, False])
def test_golden_vectors_of_a_watched_fleet_exercise_its_score(each):
    arrays = small_watch(each).bundle.arrays("golden.npz")
    score = arrays["anomaly_score"]
    assert np.isnan(score).mean() < 0.2 and np.ptp(score[~np.isnan(score)]) > 0.2 and len(np.unique(score[~np.isnan(score)])) > 20
    assert (arrays["standing"].any() or not each) and selftest(small_watch(each).bundle)["largest_difference"] == 0.0


def test_the_self_test_notices_a_changed_constant_of_a_known_asset():
    watch = small_watch()
    arrays = watch.bundle.arrays("memory0.npz")
    arrays["rows"][0, : watch.fitted.features.slots] *= 1.01
    with pytest.raises(IncompatibleError, match="self-test failed"):
        selftest(Bundle({**watch.core, "memory0.npz": to_npz(arrays)}, ""))


def test_a_new_asset_is_not_judged_and_raises_no_alarm():
    watch = small_watch()
    ticks = as_ticks(watch.ticks, watch.history.contract)
    stranger = np.full_like(ticks.values[0], 1e6)  # as bad as can be
    mixed = Ticks([*ticks.assets, "pump-new"], np.r_[ticks.start, 1], [*ticks.values, stranger])
    played, before = replay_ticks(watch.bundle, mixed), replay_ticks(watch.bundle, ticks)
    assert np.isnan(played.outputs["anomaly_score"][-1]).all() and not played.standing[-1].any()
    assert np.isnan(played.outputs["contribution"][-1][:, 2:]).all(), "nothing is known of what is normal for it"
    for name in before.outputs:
        for one, other in zip(before.outputs[name], played.outputs[name][:-1], strict=True):
            assert one.tobytes() == other.tobytes(), "and it changes nothing for those that are known"
    assert any(s.any() for s in before.standing)


def test_who_is_beside_it_and_in_which_order_changes_nothing_for_a_known_asset():
    watch = small_watch()
    ticks = as_ticks(watch.ticks, watch.history.contract)
    whole = replay_ticks(watch.bundle, ticks)
    for i in (0, 3):
        alone = replay_ticks(watch.bundle, Ticks([ticks.assets[i]], ticks.start[[i]], [ticks.values[i]]))
        assert alone.outputs["anomaly_score"][0].tobytes() == whole.outputs["anomaly_score"][i].tobytes()
    back = replay_ticks(watch.bundle, Ticks(ticks.assets[::-1], ticks.start[::-1], ticks.values[::-1]))
    for one, other in zip(back.outputs["anomaly_score"][::-1], whole.outputs["anomaly_score"], strict=True):
        assert one.tobytes() == other.tobytes()


def test_golden_vectors_of_known_assets_lie_around_their_own_constants():
    features = small_watch().fitted.features
    golden, names = golden_readings(features, small_watch().history.contract), features.contract_.names
    for values, asset in zip(golden, small_watch().fitted.assets, strict=False):
        frame = pl.DataFrame({"asset": asset, **{c: values[:40, i] for i, c in enumerate(names)}})
        scores = features.normalise_.scores(frame).select(features.channels_).to_numpy()
        assert np.nanmedian(np.abs(scores)) < 1.5 and np.nanmax(np.abs(scores)) < 10, asset
