"""Every kernel three times: the oracle's loops, the Polars path and the step graph give the same float32 numbers."""

import ast
import inspect
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import pmx.feature.kernel
import pmx.feature.memory
import pmx.feature.statistic
from pmx.contract import UsageError
from pmx.feature.features import RECENT, FeatureSet
from pmx.feature.kernel import Age, Deviation, Drift, Ewma, Kernel, Lags, LongDifference, Slope, TrailingMean
from pmx.feature.leaky import CentredMean
from pmx.feature.regime import RegimeScore

from . import oracle
from .fleet import EXACT, NOTHING, PLAIN, SMALL, Graph, frame, plain, same, walk

FEATURES = plain(SMALL)
GRAPH = Graph(FEATURES)
W = FEATURES.rows
ROOT = Path(pmx.feature.kernel.__file__).parents[2]

# Scores on a grid of 2^-15 (real ones are float32): between missing values, runs of equal ones and single large ones.
SCORE = st.one_of(st.integers(-(2**17), 2**17).map(lambda n: n / 2**15), st.sampled_from([0.0, 1.0, 20.0, -20.0]), st.just(np.nan))


def histories(longest: int = 2 * W) -> st.SearchStrategy[np.ndarray]:
    """float32 [tick, channel] of one asset."""
    shapes = st.integers(1, longest).map(lambda n: (n, 2))
    return shapes.flatmap(lambda shape: hnp.arrays(np.float32, shape, elements=SCORE.map(np.float32), fill=SCORE.map(np.float32)))


def made(seed: int, length: int, missing: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(length, 2)).astype(np.float32)
    z[rng.random(z.shape) < missing] = np.nan
    return z


def planted() -> dict[str, np.ndarray]:
    """The degenerate histories, and every length from one tick to one more than the window holds."""
    longer = 3 * W
    constant, moved, silent, spiked, late = (made(1, longer) for _ in range(5))
    constant[:] = np.float32(0.1)
    moved[W:] = np.float32(-1.7)
    silent[:, 0] = np.nan
    spiked[longer // 2] = 1e9
    late[: W + 2, 1] = np.nan
    cases = {"constant": constant, "constant from the middle": moved, "a channel without values": silent, "spike": spiked, "late": late}
    cases |= {"nothing at all": np.full((longer, 2), np.nan, np.float32), "offset": made(2, longer) * np.float32(0.01) + np.float32(15)}
    cases |= {"5 % missing": made(3, longer, 0.05), "50 % missing": made(4, longer, 0.5), "95 % missing": made(5, longer, 0.95)}
    return cases | {f"{n} ticks": made(n, n, 0.05) for n in range(1, W + 2)}


def expected(history: np.ndarray, kernels: list[Kernel] = SMALL) -> np.ndarray:
    return oracle.features(kernels, np.clip(history.astype(np.float64), -20, 20), readings=history.astype(np.float64))


def agree(got: np.ndarray, want: np.ndarray, features: FeatureSet = FEATURES) -> np.ndarray:
    """bool [tick, feature]: the oracle's number, to the last bit where each step is exact."""
    exact = np.array([isinstance(features.kernel_of(i), EXACT) for i in range(got.shape[1])])
    return same(got, want) | (~exact & np.isclose(got, want, rtol=3e-7, atol=1e-7))


@pytest.mark.parametrize("name", planted())
def test_planted_histories_give_the_oracles_numbers_on_both_paths(name):
    history = planted()[name]
    want, table = expected(history), FEATURES.table(frame({"A": history}))
    stepped = walk(GRAPH, [history]).flat
    for path, got in (("Polars", table), ("graph", stepped)):
        wrong = ~agree(got, want)
        assert not wrong.any(), f"{path}: {FEATURES.names_[np.argwhere(wrong)[0][1]]} at tick {np.argwhere(wrong)[0][0] + 1}"
    wrong = ~same(stepped, table)
    assert not wrong.any(), f"between the paths: {FEATURES.names_[np.argwhere(wrong)[0][1]]} at tick {np.argwhere(wrong)[0][0] + 1}"


@settings(max_examples=60, deadline=None)
@given(histories())
def test_any_history_gives_the_oracles_numbers_on_both_paths(history):
    want, table = expected(history), FEATURES.table(frame({"A": history}))
    assert agree(table, want).all() and same(walk(GRAPH, [history]).flat, table).all()


def test_every_kernel_has_an_oracle_and_a_place_in_these_tests():
    modules = (pmx.feature.kernel, pmx.feature.statistic, pmx.feature.memory)
    kinds = {k for m in modules for k in vars(m).values() if isinstance(k, type) and issubclass(k, Kernel) and not inspect.isabstract(k)}
    assert kinds == {type(k) for k in SMALL}
    with pytest.raises(AssertionError, match="no oracle for CentredMean"):
        oracle.one(CentredMean(3), np.zeros(3), 2)


@pytest.mark.parametrize("kernel", SMALL, ids=lambda k: k.label)
@settings(max_examples=25, deadline=None)
@given(history=histories(), later=histories(), share=st.floats(0, 1))
def test_later_ticks_leave_earlier_rows_as_they_were(kernel, history, later, share):
    features, now = plain([kernel, TrailingMean(3)]), int(share * (len(history) - 1)) + 1
    whole = features.table(frame({"A": history}))[:now]
    assert same(features.table(frame({"A": history[:now]})), whole).all()
    assert same(features.table(frame({"A": np.concatenate([history[:now], later])}))[:now], whole).all()


def test_the_centred_mean_looks_ahead_in_training_and_only_there():
    leaky, history = plain([CentredMean(9)]), made(7, 40)
    changed = history.copy()
    changed[20:] += 1
    before, after = leaky.table(frame({"A": history})), leaky.table(frame({"A": changed}))
    wrong = np.flatnonzero(~same(before, after).all(1))
    assert wrong.min() == 16, "four of its nine ticks lie ahead"
    graph = Graph(leaky)
    assert same(walk(graph, [history]).flat, expected(history, [TrailingMean(9)])).all()
    assert same(walk(graph, [history]).flat[:20], walk(graph, [changed]).flat[:20]).all()


def test_only_its_own_yaml_reaches_the_leaky_kernel():
    texts = [p for top in ("pmx", "conf", "experiments") for p in (ROOT / top).rglob("*") if p.suffix in (".py", ".yaml")]
    assert len(texts) > 50
    naming = {str(p.relative_to(ROOT)) for p in texts if "feature.leaky" in p.read_text() or "CentredMean" in p.read_text()}
    assert naming <= {"conf/feature/leaky.yaml", "pmx/feature/leaky.py"} and "conf/feature/leaky.yaml" in naming
    imports = [n for p in texts if p.suffix == ".py" for n in ast.walk(ast.parse(p.read_text())) if isinstance(n, ast.ImportFrom)]
    assert not [n for n in imports if (n.module or "").endswith("feature") and "leaky" in [a.name for a in n.names]]


def test_the_age_of_an_asset_whose_birth_is_unknown_stays_unknown():
    graph, history = Graph(plain([Age(), Ewma(5)])), made(8, RECENT)
    unknown = np.zeros(graph.features.slots)
    unknown[0] = np.nan
    known = graph.run(history[None], [1], np.zeros((1, graph.features.slots)))
    hidden = graph.run(history[None], [1], unknown[None])
    assert np.isnan(hidden["features"][0, 0]) and np.isnan(hidden["memory_next"][0, 0])
    assert same(hidden["features"][:, 1:], known["features"][:, 1:]).all(), "the other kernels do not care"
    older = graph.run(history[None], [1], np.r_[41.0, unknown[1:]][None])
    assert older["features"][0, 0] == 42.0


def test_without_age_nothing_tells_how_old_an_asset_is():
    features = plain(SMALL).without_age()
    assert features.kernels and not any(k.reads_age or isinstance(k, Age) for k in features.kernels)
    assert [k.label for k in features.kernels] == [k.label for k in SMALL if k.label not in ("age", "usage:a", "regime_time")]
    # after a history whose values repeat themselves, an asset of 300 ticks looks like one of 100
    unaged = features.fit(NOTHING, PLAIN)
    young, old = np.full((100, 2), 0.5, np.float32), np.full((300, 2), 0.5, np.float32)
    assert same(unaged.table(frame({"A": young}))[-1], unaged.table(frame({"A": old}))[-1]).all()


@pytest.mark.parametrize("kernel", [k for k in SMALL if not k.reads_age], ids=lambda k: k.label)
def test_what_a_kernel_declares_is_what_it_does(kernel):
    features = plain([kernel])
    graph, history = Graph(features), made(9, 3 * W)
    assert len(features.names_) == features.table(frame({"A": history})).shape[1] == len(kernel.names(["a", "b"]))
    assert features.slots == sum(kernel.slots(2)) and features.rows == max(kernel.rows, RECENT), "the contribution looks back too"
    assert all(features.kernel_of(i) is kernel for i in range(len(features.names_)))
    old = history.copy()
    old[: -kernel.rows] = np.nan  # a kernel without memory knows only the rows it declares
    if not features.slots:
        assert same(walk(graph, [old]).flat[-1], walk(graph, [history]).flat[-1]).all()


def test_two_drifts_with_different_starts_are_two_kernels():
    assert plain([Drift(first=5, window=10), Drift(first=20, window=10)]).names_[0] != "drift10:a"


@pytest.mark.parametrize(
    "make",
    [
        lambda: TrailingMean(0),
        lambda: Deviation(-1),
        lambda: Slope(0),
        lambda: LongDifference(0, lag=5),
        lambda: LongDifference(5, lag=0),
        lambda: Drift(first=0, window=5),
        lambda: Drift(first=5, window=0),
        lambda: Ewma(0),
        lambda: Lags(0),
        lambda: Ewma(float("nan")),
        lambda: FeatureSet(RegimeScore(), []),
        lambda: FeatureSet(RegimeScore(), [Age()]),
        lambda: FeatureSet(RegimeScore(), [Ewma(5), Ewma(5)]),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(make):
    with pytest.raises(UsageError, match="must be|empty|given twice|add one that reads a channel"):
        make()


def test_features_come_in_the_order_of_the_ticks_even_where_assets_take_turns():
    parts = {name: made(i, 30, 0.2) for i, name in enumerate(("B", "A", "C"))}
    ticks = frame(parts)
    grouped = FEATURES.table(ticks)
    turns = ticks.with_row_index("at").sort("tick", "asset")
    assert turns["asset"][:3].to_list() == ["A", "B", "C"]
    assert same(FEATURES.table(turns.drop("at")), grouped[turns["at"].to_numpy()]).all()
