"""Whole engines, whole and damaged, on both paths: the share of features that are equal to the last bit."""

import numpy as np
import polars as pl
import pytest

from pmx.feature.features import FeatureSet
from pmx.feature.regime import RegimeScore

from . import oracle
from .fleet import RECIPE, Graph, cmapss, frame, share_equal, values_of, walk

GATE = 0.99999


@pytest.fixture(scope="module")
def fitted(engines):
    """A feature set fitted on the training engines, its graph, and the histories of a few engines, the shortest among them."""
    name, ticks, contract = engines
    train = ticks.filter(pl.col("asset").str.contains("train"))
    features = FeatureSet(RegimeScore(), RECIPE).fit(train, contract)
    assets = ticks.group_by("asset").len().sort("len", "asset")["asset"].to_list()
    chosen = ticks.filter(pl.col("asset").is_in([assets[0], assets[1], assets[len(assets) // 2], assets[-1]]))
    return name, features, Graph(features), values_of(chosen, contract)


def lose(histories: list[np.ndarray], share: float, features: FeatureSet, seed: int = 0) -> list[np.ndarray]:
    """Copies without that share of values; of the settings at most 5 %, since one missing setting may silence a whole tick."""
    rng = np.random.default_rng(seed)
    shares = [min(share, 0.05) if c.role == "setting" else share for c in features.contract_.channels]
    return [np.where(rng.random(h.shape) < shares, np.float32(np.nan), h) for h in histories]


def damaged(kind: str, histories: list[np.ndarray], features: FeatureSet) -> list[np.ndarray]:
    measured = [i for i, c in enumerate(features.contract_.channels) if c.role == "measurement"]
    known = [features.contract_.names.index(c) for c in features.channels_]
    made = [h.copy() for h in histories]
    for h in made:
        if kind == "constant":
            h[:, measured] = h[0, measured]
        elif kind == "constant from the middle":
            h[len(h) // 2 :] = h[len(h) // 2]
        elif kind == "no values":
            h[:, known[0]] = np.nan
        elif kind == "spike":
            h[len(h) // 2, measured] = 1e9
        elif kind == "offset":
            h[:, measured] += np.float32(1e4)
        elif kind == "settings missing":
            h[:, [i for i in range(h.shape[1]) if i not in measured]] = np.nan
        elif kind == "gap":
            h[len(h) // 3 : len(h) // 3 + 12] = np.nan
    if kind.endswith("% missing"):
        return lose(made, float(kind.split()[0]) / 100, features)
    if kind == "every length":
        longest = max(made, key=len)
        return [longest[:n] for n in range(1, features.rows + 2)]
    return made


KINDS = ["whole", "5 % missing", "50 % missing", "every length", "constant", "constant from the middle", "no values", "spike", "offset",
         "settings missing", "gap"]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_step_graph_gives_what_training_saw(kind, fitted):
    name, features, graph, histories = fitted
    histories = damaged(kind, histories, features)
    table = features.table(frame({f"P{i:03}": h for i, h in enumerate(histories)}, features.contract_))
    share = share_equal(walk(graph, histories).flat, table)
    print(f"{name}, {kind}: {share:.6%} of {table.size:,} features bit-equal")
    assert share >= GATE
    if kind != "settings missing":
        level = table[:, features.names_.index(f"mean10:{features.channels_[-1]}")]
        assert np.isfinite(level).mean() > 0.9, "a comparison of NaN proves nothing"


@pytest.mark.parametrize("kind", ["whole", "5 % missing", "constant", "spike", "offset"])
def test_the_polars_path_gives_what_the_definitions_say(kind, fitted):
    name, features, _, histories = fitted
    history = damaged(kind, histories, features)[1][:70]
    n = features.normalise_
    where = {c: i for i, c in enumerate(features.contract_.names)}
    scores = np.full((len(history), len(n.channels_)), np.nan)
    for t, reading in enumerate(history.astype(np.float64)):
        regime = oracle.nearest(reading[[where[s] for s in n.settings_]], n.centre_, n.range_)
        for j, c in enumerate(n.channels_ if regime is not None else []):
            scores[t, j] = oracle.score(float(reading[where[c]]), n.mean_[regime, j], n.scale_[regime, j], n.clip)
    table = features.table(frame({"P": history}, features.contract_))
    want = oracle.features(RECIPE, scores)
    share = share_equal(table, want)
    print(f"{name}, {kind}: {share:.6%} of {table.size:,} features are the oracle's")
    assert share >= 0.9999 and np.allclose(table, want, rtol=1e-6, atol=1e-7, equal_nan=True)


@pytest.mark.nightly
@pytest.mark.real_data("cmapss")
@pytest.mark.parametrize("share_lost", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("subset", ["FD001", "FD002"])
def test_all_engines_of_a_subset(subset, share_lost, data_root):
    ticks, contract = cmapss(data_root / "cmapss", subset)
    features = FeatureSet(RegimeScore(), RECIPE).fit(ticks.filter(pl.col("asset").str.contains("train")), contract)
    histories = lose(values_of(ticks, contract), share_lost, features)
    table = features.table(frame({f"P{i:03}": h for i, h in enumerate(histories)}, contract))
    share = share_equal(walk(Graph(features), histories).flat, table)
    print(f"{subset}, {share_lost:.0%} missing: {share:.6%} of {table.size:,} features bit-equal")
    assert share >= GATE
