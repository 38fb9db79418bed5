"""Quality of readings: each planted fault gets its name, a machine that changes gets none, and both paths say the same to the last bit."""

import numpy as np
import onnx
import polars as pl
import pytest
from spox import Tensor, argument, build

from pmx.contract import QUALITY, Channel, Contract, UsageError
from pmx.edge.step import session
from pmx.feature.features import FeatureSet
from pmx.feature.graph import step_graph
from pmx.feature.kernel import Age, Drift, Ewma, Lags, TrailingMean
from pmx.feature.quality import Quality
from pmx.feature.regime import RegimeScore
from tests.feature.fleet import Graph, frame, same, says_nothing, values_of, walk

CONTRACT = Contract(
    (
        Channel("speed", "rpm", "setting"), Channel("flow", "m3/h"), Channel("heat", "°C"), Channel("power", "kW"),
        Channel("vibration", "mm/s"), Channel("pressure", "bar"),
    ),
    "h", "life",
)  # fmt: skip
NORMAL = np.array([60.0, 50.0, 20.0, 3.0, 6.0])
KERNELS = [Age(), TrailingMean(5), Ewma(8), Drift(3, 4), Lags(2)]


def history(seed: int, ticks: int = 240, wear: float = 1.0) -> np.ndarray:
    """One machine, float [tick, channel]: wear moves all five measurements together; two duty points."""
    rng = np.random.default_rng(seed)
    duty = np.repeat(rng.integers(0, 2, ticks), 6)[:ticks]
    worn = wear * np.linspace(0, 1, ticks) ** 2
    effect = np.outer(worn, [-0.2, 0.3, 0.25, 0.5, -0.2]) + 0.02 * rng.normal(size=(ticks, 5))
    values = NORMAL * (1 + duty[:, None]) * (1 + effect)
    return np.c_[1000.0 + 1000.0 * duty, values]


def fleet(assets: int = 20) -> pl.DataFrame:
    return frame({f"A{i}": history(i) for i in range(assets)}, CONTRACT)


@pytest.fixture(scope="module")
def fitted() -> FeatureSet:
    return FeatureSet(RegimeScore(), KERNELS, Quality()).fit(fleet(), CONTRACT)


def said(fitted: FeatureSet, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """States [tick, channel] and scores [tick, scored channel] of one history."""
    assert fitted.quality_ is not None
    state, scores = fitted.quality_.table(frame({"B": values}, CONTRACT))
    return state, scores.select(fitted.channels_).to_numpy()


def named(state: np.ndarray) -> set[str]:
    return {QUALITY[s] for s in np.unique(state)}


def test_a_machine_that_wears_out_has_good_sensors(fitted):
    """Of training, and others: what moves all channels together is no sensor's doing."""
    for seed in (3, 9, 11):
        state, scores = said(fitted, history(seed))
        assert (state == 0).mean() > 0.999, seed
        assert not np.isnan(scores).any()


def faulty(kind: str, seed: int = 100) -> tuple[np.ndarray, int]:
    """A history whose power goes wrong at tick 120, and that tick."""
    values, begin, rng = history(seed, wear=0.3), 120, np.random.default_rng(seed)
    x = values[begin:, 3].copy()
    if kind == "dropout":
        x[:] = np.nan
    elif kind == "intermittent":
        x[rng.random(len(x)) < 0.5] = np.nan
    elif kind == "stuck":
        x[:] = values[begin - 1, 3]
    elif kind == "spikes":
        x[5::8] += 20.0
    elif kind == "drift":
        x *= np.minimum(1 + np.arange(len(x)) / 40, 2.5)
    elif kind == "noise":
        x *= 1 + 0.6 * rng.normal(size=len(x))
    elif kind == "unit change":
        x *= 1000.0
    elif kind == "swapped":
        x, values[begin:, 1] = values[begin:, 1].copy(), x
    elif kind == "saturation":
        x = np.minimum(x, np.quantile(values[:begin, 3], 0.3))
    values[begin:, 3] = x
    return values, begin


@pytest.mark.parametrize("kind", ["dropout", "intermittent", "stuck", "spikes", "drift", "noise", "unit change", "swapped", "saturation"])
def test_each_fault_gets_its_name_and_nothing_is_said_before_it(fitted, kind):
    values, begin = faulty(kind)
    state, _ = said(fitted, values)
    assert not state[:begin].any(), "nothing looks ahead"
    told = state[begin:, 3]
    counts = np.bincount(told[told > 0], minlength=len(QUALITY))
    assert QUALITY[int(np.argmax(counts))] == {"intermittent": "dropout"}.get(kind, kind)
    others = [1, 2, 4, 5] if kind != "swapped" else [2, 4, 5]
    assert (state[:, others] == 0).mean() > 0.99, "the other sensors are good"


@pytest.mark.parametrize("kind", ["dropout", "stuck", "drift", "unit change"])
def test_what_stands_in_for_a_faulty_channel_is_near_the_truth(fitted, kind):
    values, begin = faulty(kind)
    truth = said(fitted, history(100, wear=0.3))[1][begin + 24 :, 2]
    stands_in, raw = said(fitted, values)[1][begin + 24 :, 2], fitted.normalise_.scores(frame({"B": values}, CONTRACT))
    apart = np.abs(raw["power"].to_numpy()[begin + 24 :] - truth)
    assert np.abs(stands_in - truth).max() < 1.5
    assert kind in ("dropout", "stuck") or np.median(apart) > 3, "the reading itself is far off"


def test_a_state_that_is_not_judged_changes_nothing():
    ticks = fleet()
    only = FeatureSet(RegimeScore(), KERNELS, Quality(states=["dropout"])).fit(ticks, CONTRACT)
    plain = FeatureSet(RegimeScore(), KERNELS).fit(ticks, CONTRACT)
    for kind in ("stuck", "drift", "unit change", "spikes"):
        values, _ = faulty(kind)
        assert named(said(only, values)[0]) == {"good"}
        given = frame({"B": values}, CONTRACT)
        assert same(only.table(given), plain.table(given)).all()


def test_most_channels_faulty_leave_no_estimate(fitted):
    values = history(100, wear=0.3)
    values[120:, 1:5] = values[119, 1:5]
    state, scores = said(fitted, values)
    assert (state[160:, 1:5] == QUALITY.index("stuck")).all()
    assert np.isnan(scores[160:, :4]).all() and not np.isnan(scores[160:, 4]).any()


def test_an_asset_that_is_silent_has_no_faulty_sensor(fitted):
    values = history(3)
    values[100:130] = np.nan
    state, scores = said(fitted, values)
    assert not state.any() and np.isnan(scores[100:130]).all()


def test_a_channel_without_redundancy_cannot_drift():
    """Nobody can tell whether it is the machine."""
    contract = Contract((Channel("a", "kW"), Channel("b", "bar")), "h", "life")
    rng = np.random.default_rng(0)
    fitted = FeatureSet(RegimeScore(), [Lags(1)], Quality()).fit(
        frame({f"A{i}": rng.normal(size=(300, 2)) for i in range(20)}, contract), contract
    )
    values = rng.normal(size=(200, 2))
    values[100:, 0] += 8.0
    assert fitted.quality_ is not None
    state, scores = fitted.quality_.table(frame({"B": values}, contract))
    assert not state.any()
    passed = scores["a"].to_numpy()[110:]
    assert passed.mean() > 6, "the change reaches the model"


def test_few_assets_do_not_tell_how_far_a_channel_may_stray(fitted):
    """Of three machines nobody knows how the fourth differs; what a reading does by itself is named all the same."""
    few = FeatureSet(RegimeScore(), KERNELS, Quality()).fit(fleet(3), CONTRACT)
    assert "drift" in named(said(fitted, faulty("drift")[0])[0]) and "drift" not in named(said(few, faulty("drift")[0])[0])
    for kind in ("dropout", "stuck"):
        assert kind in named(said(few, faulty(kind)[0])[0])


def test_spikes_too_small_for_the_estimate_are_named_by_their_steps(fitted):
    """Two steps each, to and fro, more often than any machine of the training part jumped."""
    assert fitted.quality_ is not None
    habit, values = fitted.quality_.habit_, history(100, wear=0.3)
    scale = fitted.quality_.normalise_.scale_[:, 2].mean()
    values[125::8, 3] += 1.5 * habit.jump[2] * scale
    state, _ = said(fitted, values)
    assert named(state[120:, 3]) <= {"good", "spikes"} and (state[160:, 3] == QUALITY.index("spikes")).mean() > 0.5


def test_a_channel_that_drifted_is_not_trusted_again_at_once(fitted):
    values = history(100, wear=0.3)
    values[120:160, 3] *= 2.0
    state = said(fitted, values)[0][:, 3]
    assert (state[130:160] == QUALITY.index("drift")).all(), "without a gap"
    assert state[162] == QUALITY.index("drift") and not state[200:].any()


def test_quality_costs_a_step_no_more_than_200_nodes(fitted):
    """A step of one asset costs about a microsecond for each."""
    plain = FeatureSet(RegimeScore(), KERNELS).fit(fleet(), CONTRACT)
    judged, believed = (onnx.load_from_string(step_graph(f, 1, says_nothing)).graph.node for f in (fitted, plain))
    assert sum(n.op_type != "Constant" for n in judged) - sum(n.op_type != "Constant" for n in believed) <= 200


@pytest.mark.parametrize("hop", [1, 3])
@pytest.mark.parametrize("each", [False, True])
def test_the_step_graph_says_the_same_to_the_last_bit(hop, each):
    """Every fault, in calls of one tick and of several, with the fleet's constants and with the asset's own."""
    kinds = ["dropout", "intermittent", "stuck", "spikes", "drift", "noise", "unit change", "swapped", "saturation"]
    given = frame({k: faulty(k)[0] for k in kinds} | {"good": history(5), "short": history(6)[:7]}, CONTRACT)
    train = pl.concat([fleet(), given]) if each else fleet()
    fitted = FeatureSet(RegimeScore(), KERNELS, Quality()).fit(train, CONTRACT, each)
    graph, parts = Graph(fitted, hop), given.partition_by("asset", maintain_order=True)
    names = [p["asset"][0] for p in parts]
    walked = walk(graph, values_of(given, CONTRACT), fresh=lambda step: 1 + step % hop, memory0=fitted.memory0(names))
    for part, ticks, found in zip(parts, walked.ticks, walked.features, strict=True):
        offline = fitted.table(part)[np.array(ticks, int) - 1]
        assert same(offline, found).all(), part["asset"][0]


@pytest.mark.parametrize("hop", [1, 3])
def test_the_newest_of_the_ticks_given_is_the_one_that_is_present(fitted, hop):
    """Of several, the last that is new; an asset that was silent then has nothing to show."""
    quality = fitted.quality_
    assert quality is not None
    rows, own = argument(Tensor(np.float32, ("asset", hop, 6))), argument(Tensor(np.float64, ("asset", 0)))
    memory, fresh = argument(Tensor(np.float64, ("asset", "slots"))), argument(Tensor(np.int64, ("asset",)))
    state, scores, present, following = quality.nodes(rows, own, memory, fresh, hop)
    given = {"rows": rows, "own": own, "memory": memory, "fresh": fresh}
    graph = session(build(given, {"state": state, "scores": scores, "present": present, "next": following}).SerializeToString())
    values = np.repeat(history(3)[None, :hop], 2, axis=0).astype(np.float32)
    values[1, -1] = np.nan
    fed = {"rows": values, "own": np.zeros((2, 0)), "memory": np.tile(quality.start_, (2, 1)), "fresh": np.full(2, hop)}
    told = dict(zip([o.name for o in graph.get_outputs()], graph.run(None, fed), strict=True))
    assert told["present"].tolist() == [True, False] and not told["state"].any()


def test_the_states_of_the_graph_are_those_of_the_table(fitted):
    values, _ = faulty("drift")
    graph, window = Graph(fitted), np.full((1, fitted.rows, 6), np.nan, np.float32)
    memory, found = fitted.memory0(["B"]), []
    for row in values.astype(np.float32):
        window = np.concatenate([window[:, 1:], row[None, None]], axis=1)
        out = graph.run(window, np.ones(1), memory)
        memory = out["memory_next"]
        found.append(out["quality"][0])
    assert (np.array(found) == said(fitted, values)[0]).all()
    again = graph.run(window, np.zeros(1), memory)
    assert same(again["memory_next"], memory).all(), "a call without a new tick leaves the memory as it was"


def test_long_histories_in_blocks_are_those_in_one_piece(fitted, monkeypatch):
    values, _ = faulty("saturation")
    whole = said(fitted, values)
    monkeypatch.setattr("pmx.feature.quality.BLOCK", 37)
    parts = said(fitted, values)
    assert (whole[0] == parts[0]).all() and same(whole[1], parts[1]).all()


def test_settings_are_refused_by_name():
    with pytest.raises(UsageError, match="wobble"):
        Quality(states=["wobble"])
    with pytest.raises(UsageError, match="margin"):
        Quality(margin=0.5)
