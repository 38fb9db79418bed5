"""Replay: one batch, each asset alone, row after row, and the model offline all say the same."""

import copy
import dataclasses
import itertools

import numpy as np
import polars as pl
import pytest

from pmx.align import Aligner, align
from pmx.bundle import Bundle, Spec, to_json
from pmx.contract import IncompatibleError
from pmx.edge.replay import replay, replay_ticks
from pmx.edge.step import Stepper
from pmx.feature.graph import step_graph
from pmx.gate.parity import as_ticks
from pmx.judge import Checker
from pmx.source.admit import to_rows
from tests.small_fleet import small_fleet


@pytest.fixture(scope="module")
def rows():
    fleet = small_fleet()
    return to_rows(fleet.history.rows.collect(), fleet.history.contract)


@pytest.fixture(scope="module")
def played(rows):
    return replay(small_fleet().bundle, rows)


def test_replay_is_the_model_scored_offline_to_the_last_bit(played):
    fleet = small_fleet()
    offline = fleet.fitted.verdict(fleet.ticks)
    stepped = np.concatenate(played.outputs["rul"])
    assert stepped.dtype == np.float32 and stepped.std() > 10
    assert (stepped == offline).all()
    assert np.concatenate(played.tick).tolist() == fleet.ticks["tick"].to_list()
    assert played.assets == sorted(set(fleet.ticks["asset"]))


def test_each_asset_alone_gives_what_the_batch_gave(played, rows):
    for i, asset in enumerate(played.assets):
        alone = replay(small_fleet().bundle, rows.take(rows.asset == asset))
        assert alone.assets == [asset] and (alone.tick[0] == played.tick[i]).all()
        assert (alone.standing[0] == played.standing[i]).all()
        for name, values in played.outputs.items():
            assert alone.outputs[name][0].tobytes() == values[i].tobytes()


def test_assets_that_take_turns_change_nothing(played, rows):
    by_time = rows.take(np.argsort(rows.time, kind="stable"))  # the fleet's rows as they arrive at a gateway
    mixed = replay(small_fleet().bundle, by_time)
    assert mixed.assets == played.assets
    assert all(a.tobytes() == b.tobytes() for a, b in zip(mixed.outputs["rul"], played.outputs["rul"], strict=True))


def test_one_row_at_a_time_as_on_a_device(played, rows):
    fleet = small_fleet()
    asset = played.assets[3]
    checker, aligner, stepper = Checker(fleet.history.contract), Aligner(fleet.history.contract), Stepper(fleet.bundle, [asset])
    own, one = np.flatnonzero(rows.asset == asset), np.array([0])
    closed = []
    for i in own:
        checked = checker.check(rows.take(np.array([i])))
        closed += aligner.push(asset, checked.time[0], checked.values[0])
    found = [(tick, stepper.step(one, values[None])) for tick, values in closed + aligner.flush(asset)]
    assert [tick for tick, _ in found] == played.tick[3].tolist()
    assert np.array([s.verdict.output("rul")[0] for _, s in found]).tobytes() == played.outputs["rul"][3].tobytes()
    assert [bool(s.standing[0]) for _, s in found] == played.standing[3].tolist()


def test_how_rows_are_blocked_changes_nothing(played, rows, monkeypatch):
    monkeypatch.setattr("pmx.edge.replay.BLOCK", 17)
    told = []
    spoiled = copy.deepcopy(rows)
    spoiled.values["flow"][[5, 400]] = -1.0
    blocked = replay(small_fleet().bundle, spoiled, lambda *at: told.append(at))
    assert [b.row for b in blocked.breaches] == [6, 401] and blocked.rows == len(rows)
    assert told[0] == ("rows", 17, len(rows)) and ("rows", len(rows), len(rows)) in told
    sound = replay(small_fleet().bundle, rows)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(sound.outputs["rul"], played.outputs["rul"], strict=True))


def test_counts_in_are_counts_out_and_set_apart(rows):
    spoiled = copy.deepcopy(rows)
    at = np.arange(3, len(rows), 50)
    spoiled.values["vibration"][at] = np.inf
    contract = small_fleet().history.contract
    found = replay(small_fleet().bundle, spoiled)
    assert [b.row for b in found.breaches] == rows.row[at].tolist() and {b.reason for b in found.breaches} == {"infinite"}
    assert found.cells == len(at) and not found.refused and found.rows == len(rows)
    spoiled.asset[at[:3]] = ""
    found, checked = replay(small_fleet().bundle, spoiled), Checker(contract).check(spoiled)
    assert len(found.refused) == 3 and found.cells == len(at) - 3 and found.rows == len(rows) == len(found.refused) + len(checked.asset)
    assert found.values == int((~np.isnan(checked.values)).sum())


def test_a_broken_sensor_costs_a_machine_no_verdict(played, rows):
    spoiled = copy.deepcopy(rows)
    spoiled.values["vibration"][:] = -9999.0
    found = replay(small_fleet().bundle, spoiled)
    assert found.cells == len(rows) and not found.refused
    assert [t.tolist() for t in found.tick] == [t.tolist() for t in played.tick]
    assert all(np.isfinite(rul).all() for rul in found.outputs["rul"])


def test_the_alarm_log_tells_what_stands(played):
    log = played.alarm_log()
    assert any(a["cleared"] is None for a in log)
    for i, asset in enumerate(played.assets):
        changes = [(k, len(list(g))) for k, g in itertools.groupby(played.standing[i])]
        assert sum(a["asset"] == asset for a in log) == sum(bool(k) for k, _ in changes)
        still = [a["asset"] for a in log if a["cleared"] is None]
        assert (asset in still) == bool(played.standing[i][-1])
    times = [a["raised"] for a in log]
    assert all(t.endswith("Z") for t in times if t)


def with_hop(hop: int) -> Bundle:
    """The same bundle, scored every `hop` ticks."""
    fleet = small_fleet()
    graph = step_graph(fleet.fitted.features, hop, fleet.fitted.head)
    spec = to_json({**fleet.bundle.spec.to_json(), "hop": hop})
    return Bundle({**fleet.core, "model.onnx": graph, "spec.json": spec}, "")


@pytest.mark.parametrize("hop", [2, 5])
def test_a_longer_hop_scores_less_often_and_says_the_same(played, rows, hop):
    hopped = replay(with_hop(hop), rows)
    for i in range(len(played.assets)):
        due = slice(hop - 1, None, hop)
        assert (hopped.tick[i] == played.tick[i][due]).all() and len(hopped.tick[i]) == len(played.tick[i]) // hop
        # every memory kernel consumed exactly the rows that were new: the verdicts are those of hop 1
        assert hopped.outputs["rul"][i] == pytest.approx(played.outputs["rul"][i][due], rel=1e-6)


def test_no_rows_give_no_verdicts(rows):
    nothing = replay(small_fleet().bundle, rows.take(np.empty(0, int)))
    assert nothing.assets == [] and nothing.steps == 0 and nothing.alarm_log() == []


def test_verdicts_are_written_with_their_times(played, tmp_path):
    played.write(tmp_path / "verdicts.csv")
    head, *lines = (tmp_path / "verdicts.csv").read_text().splitlines()
    assert head == "asset,time,rul,alarm,lower,upper" and len(lines) == played.steps
    last = lines[-1].split(",")
    assert (last[0], float(last[2])) == (played.assets[-1], pytest.approx(played.outputs["rul"][-1][-1]))
    assert last[3] == str(int(played.standing[-1][-1])) and last[1].endswith("Z")


def test_a_spec_that_promises_what_the_graph_does_not_give_is_refused():
    fleet = small_fleet()
    spec = to_json({**fleet.bundle.spec.to_json(), "outputs": ["rul", "contribution", "failure_probability"]})
    with pytest.raises(IncompatibleError, match="the spec promises"):
        Stepper(Bundle({**fleet.core, "spec.json": spec}, ""), ["P"])
    policy = to_json({**fleet.policy.to_json(), "output": "os"})
    with pytest.raises(IncompatibleError, match="the alarm watches 'os'"):
        Stepper(Bundle({**fleet.core, "policy.json": policy}, ""), ["P"])
    with pytest.raises(IncompatibleError, match="cannot load the graph"):
        Stepper(Bundle({**fleet.core, "model.onnx": b"no graph"}, ""), ["P"])


def test_replay_needs_only_the_bundle(rows):
    # through a round of JSON and bytes, as on a device that never saw the training
    core = {name: bytes(data) for name, data in small_fleet().core.items()}
    bundle = Bundle(core, "")
    assert isinstance(bundle.spec, Spec)
    ticks = align(bundle.spec.contract, Checker(bundle.spec.contract).check(rows))
    same = as_ticks(small_fleet().ticks, small_fleet().history.contract)
    one, two = replay_ticks(bundle, ticks), replay_ticks(bundle, same)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(one.outputs["contribution"], two.outputs["contribution"], strict=True))


def test_an_asset_that_pauses_is_not_moved_by_the_others(played):
    fleet = small_fleet()
    values = as_ticks(fleet.ticks, fleet.history.contract).values
    stepper, order = Stepper(fleet.bundle, ["A", "B"]), [0] * 10 + [1] * 25 + [0] * 10
    taken, found = [0, 0], [[], []]
    for i in order:
        scored = stepper.step(np.array([i]), values[i][taken[i]][None])
        found[i].append(scored.verdict.output("rul")[0])
        taken[i] += 1
    for i in (0, 1):
        assert found[i] == played.outputs["rul"][i][: taken[i]].tolist()


def test_an_asset_begins_anew_where_it_is_told_and_like_one_that_was_never_seen(played, rows):
    asset = played.assets[2]
    tick = played.tick[2]
    at = int(tick[len(tick) // 2])
    again = replay(small_fleet().bundle, rows, anew={asset: np.array([at])})
    before, behind = tick < at, tick >= at
    old, new = played.outputs["rul"][2], again.outputs["rul"][2]
    assert (old[before] == new[before]).all() and (old[behind] != new[behind]).any()
    others = [i for i in range(len(played.assets)) if i != 2]
    assert all(played.outputs["rul"][i].tobytes() == again.outputs["rul"][i].tobytes() for i in others)
    ticks = align(small_fleet().history.contract, Checker(small_fleet().history.contract).check(rows.take(rows.asset == asset)))
    cut = dataclasses.replace(ticks, start=np.array([at]), values=[ticks.values[0][at - int(ticks.start[0]) :]])
    assert replay_ticks(small_fleet().bundle, cut).outputs["rul"][0].tobytes() == new[behind].tobytes()


def test_both_paths_begin_anew_at_the_same_tick(rows):
    fleet = small_fleet()
    asset = fleet.ticks["asset"][0]
    middle = fleet.ticks.filter(pl.col("asset") == asset)["tick"].to_list()[20]
    lived = fleet.ticks.with_columns(life=((pl.col("asset") == asset) & (pl.col("tick") >= middle)).cast(pl.Int64))
    again = replay(fleet.bundle, rows, anew={asset: np.array([middle])})
    assert (np.concatenate(again.outputs["rul"]) == fleet.fitted.verdict(lived)).all()
    assert (fleet.fitted.verdict(lived) != fleet.fitted.verdict(fleet.ticks)).any()
