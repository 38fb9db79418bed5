"""Feature tables that runs keep on disk, so that an unchanged one is not computed twice."""

from __future__ import annotations

import hashlib
import os
from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl

from pmx.edge.table import replacing
from pmx.feature.features import FeatureSet
from pmx.feature.store import code_digest, digest_of

CACHE_BYTES = 4 * 2**30  # of tables that are kept


class TableCache:
    """Feature tables of runs, kept on disk: an unchanged table is read instead of computed, and is the same bit for bit.

    It is called like `FeatureSet.table`. Its key is a digest over the ticks, the fitted constants, the kernels and the code. A damaged
    file is computed anew; the least recently used ones go when there are more than `most` bytes. A full disk stops nothing.

    Args:
        folder: that holds the files, and nothing else.
        most: bytes in all.
        fresh: compute every table, and keep it.

    Example:
        >>> import tempfile
        >>> from pmx.contract import Channel, Contract
        >>> from pmx.feature.kernel import TrailingMean
        >>> from pmx.feature.regime import RegimeScore
        >>> ticks = pl.DataFrame({"asset": ["P1"] * 3, "tick": range(3), "load": [1.0, 2.0, 4.0]})
        >>> fitted = FeatureSet(RegimeScore(), [TrailingMean(2)]).fit(ticks, Contract((Channel("load", "kW"),), "h", "life"))
        >>> tables = TableCache(Path(tempfile.mkdtemp()))
        >>> first, second = tables(fitted, ticks), tables(fitted, ticks)
        >>> tables.hits, bool((first == second).all())
        (1, True)
    """

    def __init__(self, folder: Path, most: int = CACHE_BYTES, fresh: bool = False) -> None:
        self.folder, self.most, self.fresh, self.hits = Path(folder), most, fresh, 0

    def __call__(self, features: FeatureSet, ticks: pl.DataFrame) -> np.ndarray:
        file = self.folder / f"{self._key(features, ticks)}.table"
        if not self.fresh and (table := _unpacked(file)) is not None:
            self.hits += 1
            return table
        table = features.table(ticks)
        if table.nbytes < self.most:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._evict(table.nbytes)
                with replacing(file) as part:
                    _pack(part, table)
            except OSError:  # a cache is not worth a run
                pass
        return table

    def _key(self, features: FeatureSet, ticks: pl.DataFrame) -> str:
        runs = ticks["asset"].rle().struct.unnest()
        values = ticks.select(pl.exclude("asset").to_physical()).select(pl.all().fill_null(float("nan"))).to_numpy()
        parts = (runs["value"].to_list(), runs["len"].to_list(), ticks.columns, [str(d) for d in ticks.dtypes], values)
        judged = features.quality_ and (
            features.quality_.states,
            features.quality_.margin,
            features.quality_.least_worth,
            features.quality_.habit_,
        )
        return digest_of(*parts, features.contract_, features.kernels, features.normalise_, judged, code_digest(*features.kernels))

    def _evict(self, room: int) -> None:
        """Removes the least recently used tables until there is room for so many bytes more."""
        files = sorted((f.stat().st_mtime_ns, f.stat().st_size, f) for f in self.folder.glob("*.table"))
        total = sum(size for _, size, _ in files) + room
        for _, size, file in files:
            if total <= self.most:
                return
            file.unlink(missing_ok=True)
            total -= size


def _pack(file: Path, table: np.ndarray) -> None:
    """A digest, then the array as numpy writes it."""
    buffer = BytesIO()
    np.save(buffer, table, allow_pickle=False)
    content = buffer.getbuffer()
    with file.open("wb") as out:
        out.write(hashlib.sha256(content).digest())
        out.write(content)


def _unpacked(file: Path) -> np.ndarray | None:
    """The table of a file, marked as used; None where there is none, or where it is damaged."""
    try:
        content = file.read_bytes()
        if hashlib.sha256(memoryview(content)[32:]).digest() != content[:32]:
            return None
        os.utime(file)
    except OSError:
        return None
    return np.load(BytesIO(content[32:]), allow_pickle=False)
