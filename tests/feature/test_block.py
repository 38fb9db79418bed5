"""Kernels in blocks of windows: whatever the block, the step graph's own numbers, and each window's work done once."""

import numpy as np
import onnx
import pytest
import spox.opset.ai.onnx.v20 as op
from hypothesis import given, settings
from hypothesis import strategies as st

from pmx.contract import Channel, Contract, UsageError
from pmx.feature.block import Blocks
from pmx.feature.features import FeatureSet
from pmx.feature.graph import step_graph
from pmx.feature.kernel import Ewma, Kernel, Lags, TrailingMean
from pmx.feature.memory import RegimeTime, Usage
from pmx.feature.order import NETWORK_ROWS
from pmx.feature.regime import RegimeScore
from pmx.feature.spectral import BandEnergy, Centroid
from pmx.feature.statistic import Correlation, Crest, Kurtosis, Median, Quantile, Rms, Skew, Trend

from .fleet import NOTHING, PLAIN, SMALL, Graph, Plain, frame, plain, same, says_nothing, walk

WINDOWED = [k for k in SMALL if not k.slots(2)]
BLOCKS = Blocks(WINDOWED, ["a", "b"], np.ones(2))


class Above(Kernel):
    """The newest reading of `a`: a kernel without a Polars path that reads a channel as it is."""

    readings = ("a",)
    label = "above"

    def names(self, channels):
        return [self.label]

    def nodes(self, view, memory):
        return op.slice(view.reading("a"), op.const([-1]), op.const([2**31]), op.const([1])), []


def scores(seed: int, ticks: int, missing: float = 0.1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(ticks, 2)).astype(np.float32).astype(np.float64)
    z[rng.random(z.shape) < missing] = np.nan
    return z


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 99), ticks=st.integers(1, 60), values=st.integers(1, 2000))
def test_the_size_of_a_block_changes_nothing(seed, ticks, values):
    z = scores(seed, ticks)
    assert same(BLOCKS.table(z, values=values), BLOCKS.table(z)).all()


def test_the_paths_agree_for_every_kernel_that_has_both():
    z = scores(1, 80)
    features = plain(WINDOWED)
    table = features.table(frame({"A": z.astype(np.float32)}))
    blocks = BLOCKS.table(z)
    wrong = ~same(table, blocks)
    assert not wrong.any(), features.names_[int(np.argwhere(wrong)[0][1])]


@pytest.mark.parametrize("channels", [1, 3, 14])
def test_neither_the_number_of_channels_nor_of_assets_changes_a_sum(channels):
    """Near-constant windows at an offset would show another order of addition in their moments."""
    kernels = [Rms(40), Skew(40), Kurtosis(40), Trend(40), Crest(40), BandEnergy(40, [[0.5, 1]]), Centroid(40)]
    rng = np.random.default_rng(2)
    z = (15 + 0.01 * rng.normal(size=(70, 14))).astype(np.float32).astype(np.float64)
    names = [f"c{i}" for i in range(14)]
    whole = Blocks(kernels, names, np.ones(14)).table(z).reshape(70, len(kernels), 14)
    part = Blocks(kernels, names[:channels], np.ones(channels)).table(z[:, :channels], values=1).reshape(70, len(kernels), channels)
    assert same(whole[:, :, :channels].copy(), part).all()


def test_all_kernels_of_a_window_share_one_sort_and_one_pass_over_it():
    def operators(kernels: list[Kernel]) -> list[str]:
        model = onnx.load_from_string(step_graph(plain(kernels), 1, says_nothing, show_features=True))
        return [node.op_type for node in model.graph.node]

    long = NETWORK_ROWS + 1
    assert operators([Median(long), Quantile(long, 0.1), Quantile(long, 0.9)]).count("TopK") == 1
    one, two = operators([Median(9)]), operators([Median(9), Quantile(9, 0.25)])
    layers = one.count("Concat")
    assert layers > 9 and two.count("Concat") == layers, "a second quantile of the same window sorts nothing"
    moments = operators([Skew(9)]), operators([Skew(9), Kurtosis(9)])
    assert moments[1].count("MatMul") - moments[0].count("MatMul") == 1 and moments[1].count("Transpose") == moments[0].count("Transpose")


@pytest.mark.parametrize("window", [1, 2, 3, 5, 8, 31, 33, NETWORK_ROWS, NETWORK_ROWS + 1])
def test_windows_of_every_length_are_sorted_whether_by_a_network_or_not(window):
    z = scores(window, window + 5, missing=0.3)
    got = Blocks([Median(window), Quantile(window, 0), Quantile(window, 0.3)], ["a", "b"], np.ones(2)).table(z).reshape(len(z), 3, 2)
    for t in range(len(z)):
        for c in (0, 1):
            seen = z[max(0, t - window + 1) : t + 1, c]
            seen = seen[~np.isnan(seen)]
            want = np.quantile(seen, [0.5, 0.0, 0.3]) if len(seen) else np.full(3, np.nan)
            assert np.allclose(got[t, :, c], want, rtol=1e-6, equal_nan=True)


def test_a_kernel_reads_a_channel_as_it_was_before_normalisation_on_both_paths():
    history = np.random.default_rng(3).normal(50, 30, (40, 2)).astype(np.float32)
    history[5:8] = np.nan
    features = plain([Above(), Usage("b"), TrailingMean(6)])
    table = features.table(frame({"A": history}))
    assert same(table[:, 0], history[:, 0]).all() and np.nanmax(table[:, 2]) <= 20
    assert np.allclose(table[-1, 1], np.nansum(history[:, 1].astype(np.float64)))
    assert same(walk(Graph(features), [history]).flat, table).all()


def test_what_cannot_be_computed_is_refused_before_any_data_are_read():
    class Carries(Ewma):
        def polars(self, z):
            return None

    with pytest.raises(UsageError, match="ewma5 carries memory and has no Polars path"):
        plain([Carries(5)])
    with pytest.raises(UsageError, match="no channel speed -> one of a, b"):
        plain([TrailingMean(3), Usage("speed")])
    with pytest.raises(UsageError, match="channel 'c' is unknown, or constant -> pairs must be of a, b"):
        plain([Correlation(5, [["a", "c"]])])
    with pytest.raises(UsageError, match="needs two channels"):
        Correlation(5).names(["a"])


def test_pairs_are_the_ones_named():
    history = scores(4, 30).astype(np.float32)
    near, named = plain([Correlation(8)]), plain([Correlation(8, [["b", "a"]])])
    assert (near.names_, named.names_) == (["correlation8:a~b"], ["correlation8:b~a"])
    assert same(near.table(frame({"A": history})), named.table(frame({"A": history}))).all()


@pytest.mark.parametrize(
    ("clock", "tick", "unit", "rate"), [("life", 2.0, "h", 1.0), ("calendar", 0.5, "h", 1 / 1800), ("calendar", 1.0, "s", 1.0)]
)
def test_a_view_knows_the_ticks_per_second(clock, tick, unit, rate):
    contract = Contract((Channel("a", "-"), Channel("b", "-")), unit, clock, tick=tick)
    seen = []

    class Asks(Lags):
        def nodes(self, view, memory):
            seen.append((view.rates, view.channels))
            return super().nodes(view, memory)

        def polars(self, z):
            return None

    features = FeatureSet(Plain(), [Asks(1)]).fit(NOTHING, contract)
    features.table(frame({"A": np.ones((3, 2))}, contract))
    step_graph(features, 1, says_nothing)
    assert len(seen) == 2 and all((rates == rate).all() and channels == ["a", "b"] for rates, channels in seen) and PLAIN.tick == 1


def test_regimes_are_counted_alike_on_both_paths():
    contract = Contract((Channel("mode", "-", "setting", 0.0, 3.0), Channel("a", "-")), "h", "life")
    rng = np.random.default_rng(6)
    mode = np.repeat(rng.integers(0, 3, 20), 5)
    history = np.c_[mode, mode * 10 + rng.normal(size=100)].astype(np.float32)
    history[rng.random(100) < 0.1, 0] = np.nan
    ticks = frame({"A": history}, contract)
    features = FeatureSet(RegimeScore(), [RegimeTime(4), TrailingMean(3)]).fit(ticks, contract)
    table = features.table(ticks)
    regime = features.normalise_.regime_of(ticks)
    assert len(features.normalise_.centre_) == 3 and (regime == -1).sum() == np.isnan(history[:, 0]).sum() > 0
    want = np.stack([np.cumsum(regime == i) for i in range(4)], axis=1)
    assert (table[:, :4] == want).all() and (table[-1, :4] > 0).tolist() == [True, True, True, False]
    for hop in (1, 3):
        walked = walk(Graph(features, hop), [history], fresh=lambda step, hop=hop: hop)
        assert same(walked.flat, table[np.array(walked.ticks[0]) - 1]).all()
