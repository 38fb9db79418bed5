"""Waveforms to rows: what a source reduces before the contract sees it, and what a run replays from the waveforms themselves."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
import polars as pl

from pmx.bundle import Bundle, WaveSpec
from pmx.contract import BLANKS, Contract, DataError, IncompatibleError, Rows
from pmx.edge.wave import Reducer
from pmx.source import History, Waves
from pmx.source.admit import to_rows

AT_ONCE = 512  # snapshots in memory
Reduce = Callable[[np.ndarray, np.ndarray | None], np.ndarray]  # waveforms and tags -> tick channels


def tick_rows(waves: Waves) -> pl.DataFrame:
    """The rows of a history, reduced by its snapshot: the columns of `waves.rows`, with tick channels (Float64) in place of waveforms.

    Example:
        >>> from pmx.contract import Channel
        >>> from pmx.feature.kernel import TrailingMean
        >>> from pmx.feature.snapshot import Snapshot
        >>> rows = pl.LazyFrame({"file": ["a"], "row": [1], "asset": ["P1"], "time": [1.0], "load": [7.5], "casing": [[0.5, 1.5]]})
        >>> waves = Waves(rows, (Channel("casing", "g", rate=2.0),), Snapshot([TrailingMean(2)], samples=2, rate=2.0))
        >>> tick_rows(waves).select("load", "casing_mean").row(0)
        (7.5, 1.0)
    """
    return _reduced(waves.rows, spec_of(waves), waves.snapshot.reduce)


def spec_of(waves: Waves) -> WaveSpec:
    """What a bundle says of the graph that reduces these waveforms."""
    snapshot = waves.snapshot
    made = snapshot.channels(waves.channels)  # refuses other rates than the snapshot's
    return WaveSpec(tuple(waves.channels), snapshot.samples, snapshot.rate, tuple(snapshot.tags), tuple(c.name for c in made))


def device_rows(bundle: Bundle, history: History, assets: Collection[str], contract: Contract) -> Rows:
    """The raw rows of these assets as a device meets them: from the waveforms by the bundle's own graph, where there are any."""
    if history.waves is not None:
        return reduced_rows(bundle, history.waves, assets, contract)
    own = history.rows.filter(pl.col("asset").str.strip_chars(BLANKS).is_in(list(assets)))
    return to_rows(own.collect(), contract)


def reduced_rows(bundle: Bundle, waves: Waves, assets: Collection[str], contract: Contract) -> Rows:
    """The raw rows of these assets as a device meets them, reduced from their waveforms by the bundle's own graph."""
    reducer, spec = Reducer.of(bundle), bundle.spec.waves
    if reducer is None or spec is None:
        raise IncompatibleError("the bundle has no snapshot graph, the data have waveforms -> pack it with them")
    own = waves.rows.filter(pl.col("asset").str.strip_chars(BLANKS).is_in(list(assets)))

    def reduce(x: np.ndarray, tags: np.ndarray | None) -> np.ndarray:
        given = {c.name: x[:, :, i] for i, c in enumerate(spec.channels)}
        told = {} if tags is None else {name: tags[:, i] for i, name in enumerate(spec.tags)}
        made = reducer.reduce(given | told, spec.rate)
        return np.stack([made[name] for name in spec.makes], 1)

    return to_rows(_reduced(own, spec, reduce), contract)


def stacked(frame: pl.DataFrame, names: Sequence[str], samples: int) -> np.ndarray:
    """Columns of List or Array as waveforms float32 [snapshot, sample, channel]; NaN where a value, or a whole waveform, is null."""
    out = np.full((frame.height, samples, len(names)), np.nan, np.float32)
    for k, name in enumerate(names):
        column = frame[name].cast(pl.List(pl.Float32))
        length = column.list.len()
        if wrong := frame.filter(length != samples).height:
            file, row, asset = frame.filter(length != samples).select("file", "row", "asset").row(0)
            told = f"{length.filter(length != samples)[0]:,} samples, a snapshot has {samples:,} ({wrong:,} such snapshots)"
            raise DataError(f"{file}, row {row}, asset {asset}, channel {name}: {told} -> set source.snapshot.samples, or mend the file")
        there = column.is_not_null()
        out[there.to_numpy(), :, k] = column.filter(there).explode().to_numpy().reshape(-1, samples)
    return out


def _reduced(rows: pl.LazyFrame, spec: WaveSpec, reduce: Reduce) -> pl.DataFrame:
    names, parts = [c.name for c in spec.channels], []
    for frame in rows.collect_batches(chunk_size=AT_ONCE, maintain_order=True):
        told = frame.select(pl.col(spec.tags).cast(pl.Float32)).fill_null(float("nan")).to_numpy() if spec.tags else None
        made = reduce(stacked(frame, names, spec.samples), told).astype(np.float64)
        parts.append(frame.drop(names).hstack(pl.DataFrame(made, schema=list(spec.makes), orient="row").fill_nan(None)))
    if not parts:
        schema = rows.drop(names).collect_schema()
        return pl.DataFrame(schema=dict(schema) | dict.fromkeys(spec.makes, pl.Float64))
    return pl.concat(parts)
