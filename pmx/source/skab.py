"""SKAB: a water pump on a test bench, one deliberate disturbance in each run; readings every second.

Katser, Kozitsin: Skoltech Anomaly Benchmark (SKAB), 2020. A file `<folder>/<number>.csv` is one run; `;` separates; the
columns are `datetime`, eight measurements, `anomaly` and `changepoint`. Runs without a disturbance have no label columns.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import polars as pl

from pmx.contract import CUT, Channel, Contract, DataError, shown
from pmx.source import History, Source
from pmx.source.admit import PLACE, microseconds
from pmx.source.download import fetch_files, recorded
from pmx.source.episodes import episode_table, no_events, title
from pmx.source.lines import cells_of, check_names, natural, table_of

HOME = "https://raw.githubusercontent.com/waico/SKAB/master/data"
HEALTHY = "anomaly-free"
AT_HOME = [f"valve1/{i}" for i in range(16)] + [f"valve2/{i}" for i in range(4)] + [f"other/{i}" for i in range(1, 15)]
SHA256 = {
    "anomaly-free/anomaly-free.csv": "7641a8742957100ef424dd97adfb3eeab27d4d180645fe2b3c49b7f7146ae9a6",
    "other/1.csv": "3beaf861bdfe9b4f4eff8e7567c1dd3f506fbd0ce667fc9399d04bd2dc70623d",
    "other/11.csv": "98a2fff3b6516205ae2e12f2dd30d7f08465fe4321a1bd5cf823396985ecb37b",
    "other/13.csv": "b3f1da02064d11234836a9fa1a2536bb0d3b6c6998ab60b0b71869b98e94d860",
    "other/2.csv": "951c326bf36366fa7615b8f28d22f80b3878036069a690f42b3e223737a6a8d1",
    "other/5.csv": "7347b326df3a92c0810c69add0e5621939af7a1c1cb4755081d088e72d36920f",
    "other/7.csv": "1bee14f49bfc817ba2c335fb427baa71153d8f8ab52e72652f15f74e4b77daec",
    "other/9.csv": "11c4514b0bc706acff637fea6707ad9258ac878fe9dff3d0b11d2b618d94d8ea",
    "valve1/0.csv": "16af3f71313a23dd33d9b7b8065d836d05c3f9257588881cc7fbe07c076d9dc8",
    "valve1/1.csv": "fe4493bf805baef4e6dfb864094275d8cc2ea80a16b3735e2752b18b6aefd812",
    "valve1/2.csv": "90492413469261886c8896c327241448df5da73fd7739cabfec8dd82de3c0ce4",
    "valve1/3.csv": "cb6afea108eddfd8447307e405f86bbb764b8d8e9130d7849a46e1303e19b8b2",
    "valve1/4.csv": "983aed9dc09991a57911091373c580e1b86d06aa983cd51678f108fd8d709654",
    "valve1/5.csv": "78974991ec87b7f9b9b6b2944f4b525468a9beb36c59b06cd7650d9a15eca14a",
    "valve1/6.csv": "97469c0e0c9c0e0ee5d30794f1f36c6785df5816a112a8b16c59637e8c894685",
    "valve1/7.csv": "ca2c9c6d6fa302c642acec6fbedac495bd12fececeee0a755d45a54e340e0f30",
}
FLOW = "Volume Flow RateRMS"  # the files' name; the description at their home says RateRMS
# Without valid ranges: the bench's own noise takes the gauge pressure below zero, and nobody states the sensors' limits.
CONTRACT = Contract(
    (
        Channel("Accelerometer1RMS", "g"),
        Channel("Accelerometer2RMS", "g"),
        Channel("Current", "A"),
        Channel("Pressure", "bar"),
        Channel("Temperature", "degC"),
        Channel("Thermocouple", "degC"),
        Channel("Voltage", "V"),
        Channel(FLOW, "l/min"),
    ),
    life_unit="s",
    clock="calendar",
)
LABELS = ("anomaly", "changepoint")


class Skab(Source):
    """Runs of the SKAB pump; each is an asset, healthy at first, with its disturbance as a labelled episode.

    Times have no zone in the files and are taken as UTC. Labels never become channels.

    Args:
        root: the folder that holds `valve1`, `valve2`, `other` and `anomaly-free`.
        subset: runs such as `valve2/0`, one or a list; None or `all` = every labelled run under `root`.
        home: where `fetch` downloads from.

    Example:
        >>> Skab(root="missing", subset="valve2/0").subset
        ['valve2/0']
    """

    terms = "GPL-3.0, as stated by its authors at github.com/waico/SKAB; a citation of Katser and Kozitsin 2020 is asked for"

    def __init__(self, root: str, subset: str | list[str] | None = None, home: str = HOME) -> None:
        given = [subset] if isinstance(subset, str) else subset
        self.root, self.home, self.subset = root, home, None if given in (None, ["all"]) else given
        if self.subset is not None:
            check_names(self.subset, "run", "folder/number, such as valve1/0, or null for all")

    def load(self) -> History:
        digest, tables = hashlib.sha256(), []
        episodes: list[tuple[str, float, float, str]] = []
        names = self._names()
        for name in names:
            file = Path(self.root) / f"{name}.csv"
            digest.update(file.read_bytes())
            table, labels = _read(file, name)
            tables.append(table)
            if labels is not None:
                episodes += _episodes(table, labels, name)
        rows = pl.concat(tables, how="diagonal")  # a surplus cell gives its file one column more
        return History(
            "skab" if self.subset is None else title("skab", self.subset),
            CONTRACT,
            rows.lazy(),
            no_events(CONTRACT),
            test_assets=None,
            digest=digest.hexdigest(),
            noun="runs",
            episodes=episode_table(CONTRACT, episodes),
            groups={name: name.partition("/")[0] for name in names},
        )

    def published(self) -> dict[str, bool]:
        folder = Path(self.root)
        known = recorded(folder) | SHA256
        names = [f"{name}.csv" for name in (self._there(labelled=True) if self.subset is None else self.subset)]
        there = [n for n in names if n in known and (folder / n).is_file()]
        return {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() == known[n] for n in there}

    def fetch(self) -> dict[str, str]:
        names = [f"{name}.csv" for name in (AT_HOME if self.subset is None else self.subset)]
        return fetch_files(self.home, Path(self.root), {name: SHA256.get(name) for name in names})

    def write_miniature(self, folder: Path, seconds: int = 700, seed: int = 0) -> None:
        """A small archive in the raw format, for tests: two loads move all channels together until one run of them stops to."""
        rng = np.random.default_rng(seed)
        for k, name in enumerate(self.subset or ["valve1/0", "valve1/1", "other/2"]):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.csv").write_text(_run(rng, seconds, k, labelled=not name.startswith(HEALTHY)), newline="")

    def _there(self, labelled: bool = False) -> list[str]:
        """Names of the runs under the root, in natural order."""
        files = Path(self.root).glob("*/*.csv") if Path(self.root).is_dir() else []
        names = sorted((f"{p.parent.name}/{p.stem}" for p in files if not str(p.parent.name).startswith(".")), key=natural)
        return [n for n in names if not (labelled and n.startswith(f"{HEALTHY}/"))]

    def _names(self) -> list[str]:
        there = self._there()
        names = self._there(labelled=True) if self.subset is None else self.subset
        absent = [name for name in names if name not in there]
        if absent or not names:
            found = f"it holds {', '.join(there)}" if there else "no SKAB file is there"
            what = ", ".join(f"{name}.csv" for name in absent) or "labelled run"
            raise DataError(f"{self.root}: no {what} ({found}) -> pmx data fetch skab, or set source.root and source.subset")
        return names


def _read(file: Path, asset: str) -> tuple[pl.DataFrame, pl.Series | None]:
    """The raw rows of one run, and its labels as text; None for a run that is healthy throughout."""
    lines = cells_of(file, ";")
    header = [{"datetime": "time", "RateRMS": FLOW}.get(c, c) for c in (lines[0][1] if lines else [])]
    twice = sorted({n for n in header if header.count(n) > 1})
    if twice:
        raise DataError(f"{file}, first line: column {twice[0]!r} appears twice -> keep one")
    CONTRACT.require(["asset", *header], str(file))
    table = table_of(file, asset, lines[1:], header)
    rows = table.select("file", "row", "asset", "time", *CONTRACT.names, pl.exclude(*PLACE, *CONTRACT.names, *LABELS))
    if "anomaly" in header:
        return rows, table["anomaly"]
    if asset.startswith(f"{HEALTHY}/"):
        return rows, None
    raise DataError(f"{file}: column 'anomaly' is not in the header -> take the labelled file, or put a healthy run into {HEALTHY}")


def _episodes(rows: pl.DataFrame, labels: pl.Series, asset: str) -> list[tuple[str, float, float, str]]:
    """Runs of consecutive anomalous rows; rows that the contract will refuse for their time or their length take no part."""
    torn = pl.any_horizontal(pl.col(c) == CUT for c in CONTRACT.names)
    frame = rows.with_columns(label=labels.cast(pl.Float64, strict=False), text=labels, at=microseconds(pl.col("time")))
    frame = frame.filter(~torn & pl.col("at").is_not_null())
    wrong = frame.filter(~pl.col("label").is_in([0.0, 1.0]).fill_null(False))
    if wrong.height:
        file, row, text = wrong.select("file", "row", "text").row(0)
        told = f"{file}, row {row}, asset {asset}, column anomaly: {shown(text)!r} is neither 0 nor 1"
        raise DataError(f"{told} ({wrong.height:,} such rows) -> correct the label")
    runs = frame.with_columns(run=pl.col("label").rle_id()).filter(pl.col("label") == 1).group_by("run", maintain_order=True)
    found = runs.agg(begin=pl.col("at").first(), end=pl.col("at").last())
    return [(asset, begin, end, asset.partition("/")[0]) for begin, end in found.select("begin", "end").iter_rows()]


def _run(rng: np.random.Generator, seconds: int, k: int, labelled: bool) -> str:
    """One run as text; every second file has whole numbers as labels and ends its lines as Windows does."""
    loads = np.cumsum(rng.normal(size=(seconds, 2)), axis=0) * 0.1
    mix = rng.normal(size=(2, len(CONTRACT.channels)))
    values = np.array([0.2, 0.25, 2.0, 0.1, 90.0, 27.0, 230.0, 75.0]) + (loads - 0.5 * loads.mean(axis=0)) @ mix * 0.05
    values += 0.01 * rng.normal(size=values.shape)
    begin, end = int(seconds * 0.7), int(seconds * 0.9)
    label = (np.arange(seconds) >= begin) & (np.arange(seconds) < end) & labelled
    values[label, ::2] += 0.15 * np.array([1, -1, 1, -1]) * np.sqrt(1 + k % 2)
    gaps = np.cumsum(np.where(np.arange(seconds) == seconds // 3, 247, 1))
    times = np.datetime64("2020-03-09T10:00:00") + np.timedelta64(k, "h") + gaps
    header = ["datetime", *CONTRACT.names, *(LABELS if labelled else [])]
    mark = [("0", "1"), ("0.0", "1.0")][k % 2]
    lines = [";".join(header)]
    for i, row in enumerate(values):
        tail = [mark[int(label[i])], mark[int(i in (begin, end))]] if labelled else []
        lines.append(";".join([str(times[i]).replace("T", " "), *(f"{v:.6g}" for v in row), *tail]))
    return "".join(line + ("\r\n" if k % 2 else "\n") for line in lines)
