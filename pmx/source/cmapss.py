"""NASA C-MAPSS: simulated turbofan engines run to failure; life in flight cycles.

Saxena, Goebel, Simon, Eklund: Damage Propagation Modeling for Aircraft Engine Run-to-Failure Simulation, PHM 2008.
Raw files are text without a header, separated by spaces, each line ending in two: engine, cycle, 3 settings, 21 measurements.
`RUL_<subset>.txt` holds, line by line, the cycles left after the last row of each test engine.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import polars as pl

from pmx.contract import CUT, Channel, Contract, DataError, UsageError, shown
from pmx.source import History, Source
from pmx.source.download import fetch_zip, recorded

HOME = "https://phm-datasets.s3.amazonaws.com/NASA/6.+Turbofan+Engine+Degradation+Simulation+Data+Set.zip"
SHA256 = {
    "RUL_FD001.txt": "a19c8ec94931949d0485bdc35118206e9c81c4547b422efb9cf86f4ceddbceca",
    "RUL_FD002.txt": "c851dd96a6ea6998d3c4a8f834d3c8013aa90e93a6ed950dc826ad0655b2906b",
    "test_FD001.txt": "3cda7109ce17bafb5443f2ac926cfcf88154b941b8c4cf95eb55d1ddd6f52851",
    "test_FD002.txt": "de7b5bf7e998a985c378488480528b7c02cff1406a46740def362dda8d9b4e02",
    "train_FD001.txt": "963b5e22825b34d8b21c69e1aeb4af3e647050eb672ee8834ba4b5d91d2de0f8",
    "train_FD002.txt": "dac6c4dbc4e7c1bdeb5747da3d313d05c395bb99801b44a002b26a2ba13d788f",
}
# name, unit and valid range of the settings (the simulation flies 0 to 42 kft and Mach 0 to 0.84); a little noise goes beyond
SETTINGS = (("altitude", "kft", -1.0, 43.0), ("mach", "-", -0.02, 0.9), ("throttle", "%", 0.0, 101.0))
MEASUREMENTS = (
    ("T2", "degR"), ("T24", "degR"), ("T30", "degR"), ("T50", "degR"), ("P2", "psia"), ("P15", "psia"), ("P30", "psia"),
    ("Nf", "rpm"), ("Nc", "rpm"), ("epr", "-"), ("Ps30", "psia"), ("phi", "pps/psi"), ("NRf", "rpm"), ("NRc", "rpm"),
    ("BPR", "-"), ("farB", "-"), ("htBleed", "-"), ("Nf_dmd", "rpm"), ("PCNfR_dmd", "rpm"), ("W31", "lbm/s"), ("W32", "lbm/s"),
)  # fmt: skip
CONTRACT = Contract(
    tuple(Channel(n, u, "setting", low, high) for n, u, low, high in SETTINGS) + tuple(Channel(n, u) for n, u in MEASUREMENTS),
    life_unit="cycle",
    clock="life",
)


class Cmapss(Source):
    """Engines of one or several C-MAPSS subsets; the source brings its own test part.

    Args:
        root: the folder that holds `train_*.txt`, `test_*.txt` and `RUL_*.txt`.
        subset: `FD001` to `FD004`, or a list of them.
        home: where `fetch` downloads from.

    Example:
        >>> Cmapss(root="missing").subset
        ['FD001']
    """

    terms = "work of the US government (NASA Prognostics Center of Excellence); a citation of Saxena et al. 2008 is asked for"

    def __init__(self, root: str, subset: str | list[str] = "FD001", home: str = HOME) -> None:
        self.root, self.subset, self.home = root, [subset] if isinstance(subset, str) else list(subset), home
        if not self.subset or len(set(self.subset)) < len(self.subset):
            raise UsageError(f"source.subset is {subset}: name at least one subset, and each of them once")

    def load(self) -> History:
        rows, events, tested, digest = [], [], [], hashlib.sha256()
        for subset in self.subset:
            for part in ("train", "test"):
                file = self._file(f"{part}_{subset}.txt")
                digest.update(file.read_bytes())
                table = _scan(file, f"{subset}-{part}-")
                rows.append(table)
                ends = _last_cycles(table)
                if part == "test":
                    left = self._file(f"RUL_{subset}.txt")
                    digest.update(left.read_bytes())
                    tested += ends["asset"].to_list()
                    ends = ends.with_columns(pl.col("time") + _cycles_left(left, len(ends)))
                events.append(ends)
        failures = pl.concat(events).with_columns(pl.lit("failure").alias("event"), pl.col("time").alias("known_at"))
        name = "cmapss " + "+".join(self.subset)
        return History(name, CONTRACT, pl.concat(rows), failures, frozenset(tested), digest.hexdigest(), "engines")

    def published(self) -> dict[str, bool]:
        folder = Path(self.root)
        known = {n: d for n, d in (recorded(folder) | SHA256).items() if any(n.endswith(f"_{s}.txt") for s in self.subset)}
        return {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() == d for n, d in known.items() if (folder / n).is_file()}

    def fetch(self) -> dict[str, str]:
        names = [f"{part}_{s}.txt" for s in self.subset for part in ("train", "test", "RUL")]
        return fetch_zip(self.home, Path(self.root), {name: SHA256.get(name) for name in names})

    def write_miniature(self, folder: Path, engines: int = 12, seed: int = 0) -> None:
        """A small archive in the raw format, for tests: short lives, one regime, measurements that drift towards failure."""
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        for subset in self.subset:
            left = []
            for part in ("train", "test"):
                lines = []
                for engine in range(1, engines + 1):
                    life = int(rng.integers(90, 160))
                    seen = life if part == "train" else int(rng.integers(25, life - 5))
                    left += [life - seen] if part == "test" else []
                    lines += _engine(rng, engine, life, seen)
                (folder / f"{part}_{subset}.txt").write_text("".join(lines))
            (folder / f"RUL_{subset}.txt").write_text("".join(f"{n} \n" for n in left))

    def _file(self, name: str) -> Path:
        file = Path(self.root) / name
        if not file.is_file():
            there = sorted(p.name[6:-4] for p in Path(self.root).glob("train_*.txt")) if Path(self.root).is_dir() else []
            found = f"it holds {', '.join(there)}" if there else "no C-MAPSS file is there"
            raise DataError(f"{file}: no such file ({found}) -> pmx data fetch cmapss, or set source.root and source.subset")
        return file


def _scan(file: Path, prefix: str) -> pl.LazyFrame:
    """Raw text columns of one file; the blanks that end each line, in whatever number, become no columns."""
    names = ["asset", "time", *CONTRACT.names]
    with file.open(encoding="ascii", errors="replace") as lines:
        width = len(next((line for line in lines if line.strip()), "").rstrip().split(" "))
    if width < len(names):
        raise DataError(f"{file}, first line: {width} columns, expected {len(names)} separated by single spaces -> is this a C-MAPSS file?")
    # A line is cut up here and not by the CSV reader, which takes a line that ends too soon for one whose last values are missing.
    text = pl.scan_csv(
        file,
        has_header=False,
        separator="\x1f",  # of no use in text: the whole line is one cell
        quote_char=None,
        encoding="utf8-lossy",
        truncate_ragged_lines=True,
        schema={"line": pl.String},
        row_index_name="row",
        row_index_offset=1,
    )
    line = pl.col("line").str.strip_chars_end(" \t\r")
    cell = pl.col("cells").list
    number = cell.get(0).str.strip_chars()
    # An engine that is no number gets no name, and the contract refuses the row.
    asset = pl.when(number.str.contains("^[0-9]+$")).then(pl.lit(prefix) + number.str.zfill(3))
    absent = pl.lit(CUT)  # no number, so that the contract refuses the row and names the channel
    columns = [pl.when(cell.len() > i).then(cell.get(i, null_on_oob=True)).otherwise(absent).alias(n) for i, n in enumerate(names) if i]
    beyond = cell.slice(len(names)).list.join(" ").alias(f"column_{len(names) + 1}")  # a value there is refused as an unknown channel
    rows = text.filter(line.fill_null("") != "").with_columns(cells=line.str.split(" "))
    return rows.select(pl.lit(str(file)).alias("file"), pl.col("row").cast(pl.Int64), asset.alias("asset"), *columns, beyond)


def _last_cycles(table: pl.LazyFrame) -> pl.DataFrame:
    """`asset` and the `time` of its last row, in the order of the engines' numbers."""
    time = pl.col("time").str.strip_chars().cast(pl.Float64, strict=False)
    # A time that the contract will refuse must not move the end of a life.
    ends = table.with_columns(time).filter(pl.col("asset").is_not_null() & (pl.col("time").abs() <= 2**53))
    return ends.group_by("asset").agg(pl.col("time").max()).sort(pl.col("asset").str.len_bytes(), "asset").collect()


def _cycles_left(file: Path, engines: int) -> pl.Series:
    lines = file.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
    for row, line in enumerate(lines, 1):
        if not re.fullmatch(r"[0-9]+(\.[0-9]*)?", line.strip()):
            raise DataError(
                f"{file}, row {row}: {shown(line.strip())!r} is no number of cycles -> every line holds the life left of one engine"
            )
    if len(lines) != engines:
        raise DataError(f"{file}: {len(lines)} lines for {engines} test engines -> take both files from the same archive")
    return pl.Series([float(line) for line in lines], dtype=pl.Float64)


def _engine(rng: np.random.Generator, engine: int, life: int, seen: int) -> list[str]:
    share = np.arange(1, seen + 1) / life
    settings = np.c_[0.002 * rng.normal(size=seen), 0.0003 * rng.normal(size=seen), np.full(seen, 100.0)]
    base = 500.0 + 10 * np.arange(len(MEASUREMENTS)) + rng.normal(size=len(MEASUREMENTS))
    drift = np.where(np.arange(len(MEASUREMENTS)) % 3 == 0, 0.0, 1.0) * (
        4 * share[:, None] ** 3 + 0.5 * rng.normal(size=(seen, len(MEASUREMENTS)))
    )
    values = np.c_[settings, base + drift]
    return [f"{engine} {cycle} " + " ".join(f"{v:.4f}" for v in row) + "  \n" for cycle, row in enumerate(values, 1)]
