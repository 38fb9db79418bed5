"""Constants fitted for each asset apart: the same scores on both paths, from the asset's own ticks alone, and none for a stranger."""

import copy
from dataclasses import replace

import numpy as np
import onnxruntime
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spox import Tensor, argument, build

from pmx.contract import Channel, Contract, Running
from pmx.feature.features import FeatureSet
from pmx.feature.kernel import Ewma, Lags, TrailingMean
from pmx.feature.regime import RegimeScore

from . import oracle
from .fleet import Graph, frame, same, walk

KERNELS = [Lags(3), TrailingMean(4), Ewma(5)]
LOADS = {1: (50.0,), 3: (10.0, 50.0, 90.0)}


def contract(regimes: int) -> Contract:
    setting = (Channel("load", "kW", "setting", 0.0, 100.0),) if regimes > 1 else ()
    return Contract((*setting, Channel("a", "-"), Channel("b", "-"), Channel("still", "-")), "h", "life")


def histories(regimes: int, seed: int = 0, length: int = 150) -> dict[str, np.ndarray]:
    """Per asset float32 [tick, channel]: each with a level and a spread of its own; `b` stands still in asset Q, `still` in all but R."""
    rng = np.random.default_rng(seed)
    made = {}
    for i, name in enumerate("PQR"):
        regime = rng.integers(0, regimes, length)
        load = np.array(LOADS[regimes])[regime] + 0.3 * rng.normal(size=length)
        a = 100.0 * i + regime * 7 + (1 + i) * rng.normal(size=length)
        b = np.full(length, 4.0) if name == "Q" else 10.0 * i + rng.normal(size=length)
        still = 3.0 + (rng.normal(size=length) if name == "R" else 0.0)
        columns = np.c_[load, a, b, np.broadcast_to(still, length)]
        made[name] = columns[:, 0 if regimes > 1 else 1 :].astype(np.float32)
    return made


def fitted(regimes: int, each: bool = True, seed: int = 0) -> FeatureSet:
    return FeatureSet(RegimeScore(), KERNELS).fit(frame(histories(regimes, seed), contract(regimes)), contract(regimes), each)


def stepped(features: FeatureSet, made: dict[str, np.ndarray], batch=lambda on: [on]) -> list[np.ndarray]:
    """Features float32 [tick, feature] per asset by the step graph, each from its own memory."""
    graph = Graph(features)
    memory = features.memory0(list(made))
    walked = walk(graph, list(made.values()), memory0=memory, batch=batch)
    return walked.features


SETS = {regimes: fitted(regimes) for regimes in LOADS}


def damaged(made: dict[str, np.ndarray], share: float, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {n: np.where(rng.random(h.shape) < share, np.float32(np.nan), h) for n, h in made.items()}


@pytest.mark.parametrize("regimes", LOADS)
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5])
def test_both_paths_give_the_same_bits_with_constants_of_each_asset(regimes, share):
    features = SETS[regimes]
    assert len(features.normalise_.centre_) == regimes and set(features.normalise_.own_) == {"P", "Q", "R"}
    made = damaged(histories(regimes, seed=1, length=60), share, 2)
    made["R"] = made["R"][:2]  # shorter than the window
    table = features.table(frame(made, contract(regimes)))
    assert same(np.concatenate(stepped(features, made)), table).all()
    assert np.isfinite(table).mean() > (0.2 if share == 0.5 and regimes > 1 else 0.4), "a comparison of NaN proves nothing"


@pytest.mark.parametrize("regimes", LOADS)
def test_scores_are_the_oracles_from_the_assets_own_ticks(regimes):
    n, made, names = SETS[regimes].normalise_, histories(regimes), contract(regimes).names
    found = n.scores(frame(made, contract(regimes)))
    settings_at = [names.index(s) for s in n.settings_]
    for name, history in made.items():
        own = found.filter(pl.col("asset") == name)
        rows = history.astype(np.float64)
        where = np.array([oracle.nearest(r[settings_at], n.centre_, n.range_) for r in rows])
        for c in n.channels_:
            x = rows[:, names.index(c)]
            moments = {k: (x[where == k].mean(), x[where == k].std()) for k in set(where.tolist())}
            want = [oracle.score(v, moments[k][0], moments[k][1] or np.inf, n.clip) for v, k in zip(x, where, strict=True)]
            assert np.allclose(own[c].to_numpy(), want, rtol=1e-5, atol=1e-6), (name, c)


@pytest.mark.parametrize("regimes", LOADS)
def test_a_channel_that_stands_still_in_one_asset_scores_0_there_and_is_kept_for_the_others(regimes):
    features, made = SETS[regimes], histories(regimes, seed=3)
    assert features.channels_ == ["a", "b", "still"]
    made["Q"][:, -2] += 50.0  # it moves for the first time: nothing tells how far is far
    scores = features.normalise_.scores(frame(made, contract(regimes)))
    assert (scores.filter(pl.col("asset") == "Q")["b"] == 0).all() and scores.filter(pl.col("asset") == "P")["b"].std() > 0.5
    assert (scores.filter(pl.col("asset") != "R")["still"] == 0).all() and scores.filter(pl.col("asset") == "R")["still"].std() > 0.5
    assert "still" in fitted(regimes, each=False).channels_, "the fleet keeps it too: it differs within the fleet"


@pytest.mark.parametrize("regimes", LOADS)
def test_a_stranger_has_no_feature_and_spoils_no_neighbour(regimes):
    features, made = SETS[regimes], histories(regimes, seed=4, length=40)
    alone = features.table(frame(made, contract(regimes)))
    strange = made | {"new": made["P"]}
    table = features.table(frame(strange, contract(regimes)))
    assert np.isnan(table[-40:]).all() and same(table[:-40], alone).all()
    walked = stepped(features, strange)
    assert np.isnan(walked[-1]).all() and same(np.concatenate(walked[:-1]), alone).all()
    rows = features.memory0(["P", "new"])
    assert np.isnan(rows[1]).sum() == features.normalise_.slots and not np.isnan(rows[0]).any()


@settings(max_examples=15, deadline=None)
@given(order=st.permutations("PQR"), seed=st.integers(0, 99), regimes=st.sampled_from([1, 3]))
def test_order_and_batch_change_nothing(order, seed, regimes):
    features, made = SETS[regimes], damaged(histories(regimes, seed, length=20), 0.1, seed)
    tables = {n: features.table(frame({n: h}, contract(regimes))) for n, h in made.items()}
    shuffled = {n: made[n] for n in order}
    assert same(features.table(frame(shuffled, contract(regimes))), np.concatenate([tables[n] for n in order])).all()
    for batch in (lambda on: [on], lambda on: [[i] for i in on], lambda on: [on[::-1]]):
        for name, found in zip(order, stepped(features, shuffled, batch), strict=True):
            assert same(found, tables[name]).all()


@pytest.mark.parametrize("regimes", LOADS)
def test_constants_come_from_the_assets_own_ticks_and_stay_as_they_were(regimes):
    made = histories(regimes)
    other = made | {"Q": made["Q"] + np.float32(0.0)}
    other["Q"][:, -3] *= 5  # channel a alone: the regimes stay
    again = FeatureSet(RegimeScore(), KERNELS).fit(frame(other, contract(regimes)), contract(regimes), True).normalise_
    first = SETS[regimes].normalise_
    assert (again.own_["P"] == first.own_["P"]).all() and (again.own_["R"] == first.own_["R"]).all()
    assert (again.own_["Q"] != first.own_["Q"]).any()
    graph, history = Graph(SETS[regimes]), made["P"][:30]
    walked = walk(graph, [history], memory0=SETS[regimes].memory0(["P"]))
    own = -SETS[regimes].normalise_.slots
    assert (walked.memory[0][own:] == SETS[regimes].memory0(["P"])[0, own:]).all(), "a step carries constants on unchanged"


@pytest.mark.parametrize("regimes", LOADS)
def test_a_fleets_constants_need_no_memory_and_know_every_asset(regimes):
    features, made = fitted(regimes, each=False), histories(regimes, seed=5, length=30)
    assert features.normalise_.slots == 0 and features.normalise_.own_ == {} and features.slots == sum(Ewma(5).slots(3))
    assert (features.memory0(["P", "new"]) == 0).all()
    one = features.table(frame({"new": made["P"]}, contract(regimes)))
    assert same(one, features.table(frame({"P": made["P"]}, contract(regimes)))).all() and np.isfinite(one).mean() > 0.5


def test_a_tick_without_its_regime_is_seen_and_not_scored():
    a, b = np.float32(50.0), np.float32(np.nan)
    rows = np.array([[a, a, a, a], [a, b, b, b], [a, b, a, b], [b, a, a, a], [b, b, b, b]], np.float32)
    for features, told in ((fitted(3, each=False), [True, False, True, False, False]), (SETS[3], [True, False, True, False, False])):
        assert features.scored(frame({"P": rows}, contract(3))).tolist() == told, "without its regime a reading tells nothing"
        assert features.fits(frame({"P": rows}, contract(3)), "anomaly").tolist() == told
        assert features_present(features, rows, ["P"] * 5).tolist() == told, "the graph says the same"
    strange = features_present(SETS[3], rows, ["new"] * 5)
    assert not strange.any() and not SETS[3].scored(frame({"new": rows}, contract(3))).any()


def features_present(features: FeatureSet, rows: np.ndarray, assets: list[str]) -> np.ndarray:
    """What the step graph holds of the same question, bool [row]."""
    width = len(features.contract_.channels)
    window, fresh = argument(Tensor(np.float32, ("asset", features.rows, width))), argument(Tensor(np.int64, ("asset",)))
    memory = argument(Tensor(np.float64, ("asset", features.slots)))
    present = features.nodes(window, fresh, memory, 1)[0].present
    model = build({"window": window, "memory": memory}, {"present": present}, drop_unused_inputs=True)
    graph = onnxruntime.InferenceSession(model.SerializeToString())
    windows = np.full((len(rows), features.rows, width), np.float32(1.0))
    windows[:, -1] = rows
    given = {"window": windows, "memory": features.memory0(assets)}
    return graph.run(None, {i.name: given[i.name] for i in graph.get_inputs()})[0]


def test_off_time_is_not_fitted_on_and_a_gap_of_a_life_is():
    rows = np.full((3, 4), 50.0, np.float32)
    rows[1] = np.nan
    always = fitted(1, each=False)
    running = copy.copy(always)
    running.contract_ = replace(always.contract_, running=Running(always.contract_.names[-1], above=1.0))
    rows = rows[:, : len(always.contract_.names)]
    told = [f.fits(frame({"P": rows}, contract(1)), "rul").tolist() for f in (always, running)]
    assert told == [[True, True, True], [True, False, True]]


@pytest.mark.parametrize("each", [True, False], ids=["asset", "fleet"])
def test_what_was_never_seen_has_no_score_on_either_path(each: bool):
    """Asset P never ran at the highest load, Q never had channel a, and at the middle load nobody ever had channel b."""
    made = histories(3)
    load = {n: np.round(h[:, 0], -1) for n, h in made.items()}
    made["P"] = made["P"][load["P"] < 80]
    made["Q"][:, 1] = np.nan
    for name, history in made.items():
        history[np.round(history[:, 0], -1) == 50, 2] = np.nan
        assert len(history) > 30, name
    features = FeatureSet(RegimeScore(), KERNELS).fit(frame(made, contract(3)), contract(3), each)
    assert len(features.normalise_.centre_) == 3
    met = histories(3, seed=9, length=60)
    for history in met.values():
        history[::7, 1:] = 1e6  # far from anything
    ticks = frame(met, contract(3))
    scores = features.normalise_.scores(ticks)
    high, middle = (ticks["load"] > 80).to_numpy(), ticks["load"].is_between(30, 80).to_numpy()
    asset = ticks["asset"].to_numpy()
    unseen = {"a": ((asset == "P") & high) | (asset == "Q"), "b": ((asset == "P") & high) | middle, "still": (asset == "P") & high}
    for channel, never in unseen.items():
        never = never if each else middle & (channel == "b")
        assert (scores[channel].is_null().to_numpy() == never).all(), channel
    assert features.scored(ticks).tolist() == (~((asset == "P") & high) if each else np.ones(len(ticks), bool)).tolist()
    table = features.table(ticks)
    assert same(np.concatenate(stepped(features, met)), table).all() and 0.05 < np.isnan(table).mean() < 0.5


@pytest.mark.parametrize("regimes", LOADS)
def test_only_some_assets_keep_constants_of_their_own(regimes):
    features, made = SETS[regimes], histories(regimes, seed=6, length=30)
    few, before = features.only({"P", "R", "nobody"}), features.table(frame(made, contract(regimes)))
    assert set(few.normalise_.own_) == {"P", "R"} and set(features.normalise_.own_) == {"P", "Q", "R"}, "the set it came from stays whole"
    table = few.table(frame(made, contract(regimes)))
    kept = np.repeat([True, False, True], 30)
    assert same(table[kept], before[kept]).all() and np.isnan(table[~kept]).all()
    assert same(np.concatenate(stepped(few, made)), table).all()
    assert same(few.memory0(["P", "R"]), features.memory0(["P", "R"])).all()
    assert np.isnan(few.memory0(["Q"])).sum() == few.normalise_.slots == features.normalise_.slots
