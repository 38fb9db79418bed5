"""How fast features are computed over a long history, against pandas, tsfresh and tsflex, and how far the graph is from its floor.

The same 7 statistics of 14 channels, window 30, hop 1, in thousand windows per CPU second; a window holds all 14 channels. All engines run
in one process, in alternation, and must agree before any clock starts. A peer that is not installed is left out by name
(`pip install -e '.[bench]'` brings them).

`polars` is the path of training (Polars and numpy), `graph` the nodes of the step graph in blocks of windows.

The floor: the graph with every kernel of a window of 128 ticks, over bare float64 sorts and Fourier transforms of the same windows in numpy,
one of each for all kernels that read it. Moments, differences and correlations have no part in it, and numpy sorts with AVX-512 where it can.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import time
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import polars as pl

from pmx.contract import Channel, Contract
from pmx.feature import block, kernel, spectral, statistic
from pmx.feature.block import Blocks
from pmx.feature.features import FeatureSet
from pmx.feature.kernel import Kernel
from pmx.feature.regime import RegimeScore

CHANNELS = [f"c{i:02}" for i in range(14)]
WINDOW, LONG, ROUNDS = 30, 128, 7
TICKS, FEW, LONGER = 20_000, 400, 4_000  # of the fast engines, of tsfresh and tsflex, and of the floor
STATISTICS = ["mean", "deviation", "minimum", "maximum", "median", "quantile 0.25", "quantile 0.75"]
KERNELS: list[Kernel] = [
    kernel.TrailingMean(WINDOW), kernel.Deviation(WINDOW), statistic.Minimum(WINDOW), statistic.Maximum(WINDOW), statistic.Median(WINDOW),
    statistic.Quantile(WINDOW, 0.25), statistic.Quantile(WINDOW, 0.75),
]  # fmt: skip


def history(ticks: int) -> tuple[pl.DataFrame, Contract]:
    """One asset: readings that wander, with noise."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(ticks, len(CHANNELS))) + 0.05 * np.cumsum(rng.normal(size=(ticks, len(CHANNELS))), axis=0)
    columns = {c: pl.Series(values[:, i], dtype=pl.Float32) for i, c in enumerate(CHANNELS)}
    contract = Contract(tuple(Channel(c, "-") for c in CHANNELS), "h", "life")
    return pl.DataFrame({"asset": ["A"] * ticks, "tick": np.arange(1, ticks + 1), **columns}), contract


def by_pandas(frame: pd.DataFrame) -> np.ndarray:
    rolling = frame.rolling(WINDOW)
    made = [rolling.mean(), rolling.std(), rolling.min(), rolling.max(), rolling.median(), rolling.quantile(0.25), rolling.quantile(0.75)]
    return np.concatenate([m.to_numpy()[WINDOW - 1 :] for m in made], axis=1)


def by_tsfresh(frame: pd.DataFrame) -> np.ndarray:
    extract_features = importlib.import_module("tsfresh").extract_features
    roll_time_series = importlib.import_module("tsfresh.utilities.dataframe_functions").roll_time_series
    named = frame.assign(id=0, tick=np.arange(len(frame)))
    long = {"column_id": "id", "column_sort": "tick", "disable_progressbar": True, "n_jobs": 0}
    rolled = roll_time_series(named, min_timeshift=WINDOW - 1, max_timeshift=WINDOW - 1, **long)
    what = {
        "mean": None,
        "standard_deviation": None,
        "minimum": None,
        "maximum": None,
        "median": None,
        "quantile": [{"q": 0.25}, {"q": 0.75}],
    }
    out = extract_features(rolled, default_fc_parameters=what, **long)
    order = ["mean", "standard_deviation", "minimum", "maximum", "median", "quantile__q_0.25", "quantile__q_0.75"]
    table = out.sort_index()[[f"{c}__{o}" for o in order for c in CHANNELS]].to_numpy().copy()
    table[:, len(CHANNELS) : 2 * len(CHANNELS)] *= np.sqrt(WINDOW / (WINDOW - 1))  # tsfresh divides by n
    return table


def by_tsflex(frame: pd.DataFrame) -> np.ndarray:
    tsflex = importlib.import_module("tsflex.features")
    deviation, low, high = partial(np.std, ddof=1), partial(np.quantile, q=0.25), partial(np.quantile, q=0.75)
    functions = [np.mean, deviation, np.min, np.max, np.median, low, high]
    wrapped = [tsflex.FuncWrapper(f, output_names=str(i)) for i, f in enumerate(functions)]
    collection = tsflex.FeatureCollection(tsflex.MultipleFeatureDescriptors(wrapped, CHANNELS, windows=WINDOW, strides=1))
    out = collection.calculate(frame, return_df=True, include_final_window=True, n_jobs=1, show_progress=False)
    return out[[f"{c}__{i}__w={WINDOW}" for i in range(len(functions)) for c in CHANNELS]].to_numpy()


def cpu(call: Callable[[], object]) -> float:
    begin = time.process_time()
    call()
    return time.process_time() - begin


def rates() -> dict[str, float | None]:
    """Thousand windows per CPU second of each engine; None where it is not installed."""
    ticks, contract = history(TICKS)
    features = FeatureSet(RegimeScore(), KERNELS).fit(ticks, contract)
    scores = features.normalise_.scores(ticks).select(CHANNELS).to_pandas()
    graph, z = Blocks(KERNELS, CHANNELS, np.ones(len(CHANNELS))), scores.to_numpy()
    engines: dict[str, tuple[int, Callable[[], np.ndarray]]] = {
        "polars": (TICKS, lambda: features.table(ticks)[WINDOW - 1 :]),
        "graph": (TICKS, lambda: graph.table(z)[WINDOW - 1 :]),
        "pandas": (TICKS, lambda: by_pandas(scores)),
    }
    for name, peer in (("tsfresh", by_tsfresh), ("tsflex", by_tsflex)):
        if importlib.util.find_spec(name) is None:
            print(f"{name} is not installed: left out")
        else:
            engines[name] = (FEW, partial(peer, scores[:FEW]))
    ours = engines["polars"][1]()
    for name, (_, run) in engines.items():
        table = run()
        assert np.allclose(ours[: len(table)], table, rtol=1e-5, atol=1e-5), f"{name} gives other numbers"
        assert name != "graph" or (ours == table).all(), "the two paths of pmx differ"
    spent: dict[str, list[float]] = {name: [] for name in engines}
    for i in range(ROUNDS):
        for name, (_, run) in engines.items():
            if i < 3 or engines[name][0] == TICKS:  # the slow ones are far from the rest: three rounds tell
                spent[name].append(cpu(run))
    made = {name: (engines[name][0] - WINDOW + 1) / float(np.median(times)) / 1e3 for name, times in spent.items()}
    return {name: made.get(name) for name in ("polars", "graph", "pandas", "tsfresh", "tsflex")}


def all_kernels() -> list[Kernel]:
    """Every kernel of one window of 128 ticks that needs no memory."""
    level = [
        kernel.Lags(1),
        kernel.TrailingMean(LONG),
        kernel.Deviation(LONG),
        kernel.Slope(LONG // 2),
        kernel.LongDifference(LONG // 2, LONG // 2),
    ]
    kinds = (statistic.Minimum, statistic.Maximum, statistic.PeakToPeak, statistic.Last, statistic.Median, statistic.Rms, statistic.Crest,
             statistic.Skew, statistic.Kurtosis, statistic.Trend, statistic.MeanAbsoluteDifference, statistic.ZeroCrossings, statistic.Correlation)  # fmt: skip
    quantiles = [statistic.Quantile(LONG, share) for share in (0.05, 0.25, 0.75, 0.95)]
    bands = [[i / 8, (i + 1) / 8] for i in range(8)]
    spectra = [spectral.BandEnergy(LONG, bands), spectral.Centroid(LONG), spectral.DominantFrequency(LONG)]
    return [*level, *(kind(LONG) for kind in kinds), *quantiles, *spectra]


def floor() -> dict[str, float]:
    """CPU microseconds per window of the graph with all kernels, and of numpy's sorts and transforms of the same windows."""
    ticks, contract = history(LONGER)
    scores = FeatureSet(RegimeScore(), KERNELS).fit(ticks, contract).normalise_.scores(ticks).select(CHANNELS).to_numpy()
    graph = Blocks(all_kernels(), CHANNELS, np.ones(len(CHANNELS)))
    windows = np.lib.stride_tricks.sliding_window_view(scores, LONG, axis=0)
    size = block.VALUES // (LONG * len(CHANNELS))
    parts = [np.ascontiguousarray(windows[i : i + size]) for i in range(0, len(windows), size)]

    def bare() -> None:
        for part in parts:
            np.sort(part, axis=-1)
            np.fft.rfft(part, axis=-1)

    features = graph.table(scores).shape[1]
    ours, least = [], []
    for _ in range(ROUNDS):
        ours.append(cpu(lambda: graph.table(scores)) / len(scores))
        least.append(cpu(bare) / len(windows))
    return {
        "features_of_all_kernels": features,
        "graph_us": round(1e6 * float(np.median(ours)), 1),
        "numpy_floor_us": round(1e6 * float(np.median(least)), 1),
        "graph_vs_numpy_floor": round(float(np.median(np.array(ours) / np.array(least))), 2),
    }


def main() -> None:
    warnings.filterwarnings("ignore")  # peers warn about their own dependencies
    logging.disable(logging.WARNING)
    speed = rates()
    for name, rate in speed.items():
        print(f"{name:8} {'not installed' if rate is None else f'{rate:10,.2f} thousand windows per CPU second'}")
    ours = float(speed["polars"] or 0.0)
    against = {
        f"vs_{name}": None if rate is None else round(ours / rate, 2) for name, rate in speed.items() if name not in ("polars", "graph")
    }
    rounded = {name: None if rate is None else round(rate, 2) for name, rate in speed.items()}
    shape = {"statistics": STATISTICS, "channels": len(CHANNELS), "window": WINDOW, "hop": 1}
    print(json.dumps({"bench": "features", **shape, "thousand_windows_per_cpu_second": rounded, **against, **floor()}))


if __name__ == "__main__":
    main()
