"""AI4I 2020: a simulated milling machine, one row for each product, with the tool's wear and whether the machine failed.

Matzka: Explainable Artificial Intelligence for Predictive Maintenance Applications, AI4I 2020. `ai4i2020.csv` has a number
(`UDI`, in some copies `UID`), the product's code and quality (L, M, H), five process values, `Machine failure` and the five
modes it may have failed by: tool wear (TWF), heat dissipation (HDF), power (PWF), overstrain (OSF), random (RNF).
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import polars as pl

from pmx.contract import BLANKS, NUMBER, Channel, Contract, DataError, UsageError, shown
from pmx.source import History, Source
from pmx.source.download import fetch_zip, recorded
from pmx.source.episodes import episode_table
from pmx.source.lines import cells_of, table_of

HOME = "https://archive.ics.uci.edu/static/public/601/ai4i+2020+predictive+maintenance+dataset.zip"
FILE = "ai4i2020.csv"
SHA256 = "2830d0f52cb52ae29113cdb1f0f4217e1c137dc5fc1d5dac3281393ac02e1cca"  # of the copy whose first column is called UID
FAILURE, MODES = "Machine failure", ("TWF", "HDF", "PWF", "OSF", "RNF")
QUALITY = {"L": "0", "M": "1", "H": "2"}
MEASURED = (
    Channel("type", "-", "setting", 0.0, 2.0),
    Channel("air_temperature", "K", low=0.0),
    Channel("process_temperature", "K", low=0.0),
    Channel("speed", "rpm", low=0.0),
    Channel("torque", "Nm", low=0.0),
    Channel("wear", "min", low=0.0),
)
RAW = ("Type", "Air temperature [K]", "Process temperature [K]", "Rotational speed [rpm]", "Torque [Nm]", "Tool wear [min]")
DERIVED = (Channel("temperature_difference", "K"), Channel("power", "W"), Channel("strain", "min Nm"))
CHANNELS = {
    "measured": MEASURED,
    "process": MEASURED + DERIVED,
    "with_modes": MEASURED + DERIVED + tuple(Channel(mode, "-", low=0.0, high=1.0) for mode in MODES),
}


class Ai4i(Source):
    """Tools of a milling machine, each an asset from its first product to the change that ends its wear; a tick is a product.

    The rows in the order of their number are one machine at work; where the wear falls, a new tool was put in. A row with a
    failure ends a life and the next product begins another; the change of a tool is a replacement where its last product was no
    failure. Channels beside the measured ones: temperature difference = process − air, power = torque · 2π · speed / 60, strain =
    wear · torque. The quality becomes `type`, 0 for L, 1 for M, 2 for H. The five modes are what a failure *is* said to be: as
    channels they would tell the answer, and are admitted only to watch a result being refused for it.

    Args:
        root: the folder that holds `ai4i2020.csv`.
        subset: files by name without `.csv`, one or a list, each another machine.
        channels: `measured`, `process` (and the three derived ones), or `with_modes`.
        home: where `fetch` downloads from.

    Example:
        >>> [c.name for c in Ai4i(root="missing").contract.channels[-3:]]
        ['temperature_difference', 'power', 'strain']
    """

    terms = "CC BY 4.0, as stated at the UCI Machine Learning Repository; a citation of Matzka 2020 is asked for"

    def __init__(self, root: str, subset: str | list[str] = "ai4i2020", channels: str = "process", home: str = HOME) -> None:
        self.root, self.home, self.subset = root, home, [subset] if isinstance(subset, str) else list(subset)
        if channels not in CHANNELS:
            raise UsageError(f"source.channels is {channels!r} -> choose from {', '.join(CHANNELS)}")
        if not self.subset or len(set(self.subset)) < len(self.subset):
            raise UsageError(f"source.subset is {self.subset}: name at least one file, and each of them once")
        for name in self.subset:
            if not re.fullmatch(r"[\w-]+", name):
                raise UsageError(f"source.subset: {shown(name)!r} is no file's name -> write ai4i2020, without .csv")
        self.contract = Contract(CHANNELS[channels], life_unit="product", clock="life")

    def load(self) -> History:
        digest, tables, ends, episodes = hashlib.sha256(), [], [], []
        for name in self.subset:
            file = self._file(name)
            digest.update(file.read_bytes())
            rows = _tools(_read(file), "" if len(self.subset) == 1 else f"{name} ")
            # a mode is no channel, unless it was asked for
            tables.append(rows.select("file", "row", "asset", "time", *self.contract.names, pl.col("^column_[0-9]+$")))
            ends += _ends(rows)
            episodes += _episodes(rows)
        schema = {"asset": pl.String(), "time": pl.Float64(), "event": pl.String()}
        return History(
            " ".join(["ai4i", *(n for n in self.subset if self.subset != ["ai4i2020"])]),
            self.contract,
            pl.concat(tables, how="diagonal").lazy(),  # a surplus cell gives its file one column more
            pl.DataFrame(ends, schema=schema, orient="row").with_columns(known_at="time"),
            test_assets=None,
            digest=digest.hexdigest(),
            noun="tools",
            episodes=episode_table(self.contract, episodes),
        )

    def published(self) -> dict[str, bool]:
        known = recorded(Path(self.root))
        found = {}
        for name in (f"{s}.csv" for s in self.subset):
            digests = {known.get(name), SHA256 if name == FILE else None} - {None}
            if digests and (Path(self.root) / name).is_file():
                found[name] = hashlib.sha256((Path(self.root) / name).read_bytes()).hexdigest() in digests
        return found

    def fetch(self) -> dict[str, str]:
        return fetch_zip(self.home, Path(self.root), {f"{name}.csv": None for name in self.subset})

    def write_miniature(self, folder: Path, tools: int = 12, seed: int = 0) -> None:
        """A small archive in the raw format, for tests: tools wear by 3 minutes a product; heat, power and strain each cause failures."""
        folder.mkdir(parents=True, exist_ok=True)
        for k, name in enumerate(self.subset):
            (folder / f"{name}.csv").write_text(_machine(np.random.default_rng(seed + k), tools))

    def _file(self, name: str) -> Path:
        file = Path(self.root) / f"{name}.csv"
        if not file.is_file():
            there = sorted(p.stem for p in Path(self.root).glob("*.csv")) if Path(self.root).is_dir() else []
            found = f"it holds {', '.join(there)}" if there else "no file is there"
            raise DataError(f"{file}: no such file ({found}) -> pmx data fetch ai4i, or set source.root and source.subset")
        return file


def _read(file: Path) -> pl.DataFrame:
    """Raw rows as text in the order of their numbers, with `.wear` and `.number` (Float64) and the channels under their own names."""
    lines = cells_of(file, ",")
    header = ["number" if c in ("UDI", "UID") else c for c in (lines[0][1] if lines else [])]
    missing = [c for c in ("number", *RAW, FAILURE, *MODES) if c not in header]
    if missing or len(set(header)) < len(header):
        what = "UDI" if missing[:1] == ["number"] else "".join(missing[:1])
        told = f"column {what!r} is not in the header; it has {shown(', '.join(header), 120)}" if missing else "a column appears twice"
        raise DataError(f"{file}, first line: {told} -> take the file from its home")
    raw = table_of(file, "", lines[1:], header).rename(dict(zip(RAW, (c.name for c in MEASURED), strict=True)))
    kind = pl.col("type").str.strip_chars(BLANKS).replace(QUALITY)
    x = {c.name: _number(c.name) for c in MEASURED}
    derived = {
        "temperature_difference": x["process_temperature"] - x["air_temperature"],
        "power": x["torque"] * x["speed"] * (2 * np.pi / 60),
        "strain": x["wear"] * x["torque"],
    }
    rows = raw.with_columns(kind, *(v.cast(pl.String).alias(n) for n, v in derived.items()), _number("number").alias(".number"))
    return rows.with_columns(_number("wear").alias(".wear")).sort(".number", maintain_order=True, nulls_last=True)


def _number(column: str) -> pl.Expr:
    cell = pl.col(column).str.strip_chars(BLANKS)
    return pl.when(cell.str.contains(f"^(?:{NUMBER})$")).then(cell).cast(pl.Float64, strict=False)


def _tools(rows: pl.DataFrame, prefix: str) -> pl.DataFrame:
    """The rows with `asset`, and `time` as text: products since the tool was put in, the first of them 1."""
    wear = pl.col(".wear").forward_fill()
    rows = rows.with_columns(tool=(wear < wear.shift(1)).fill_null(False).cum_sum() + 1)
    width = len(str(rows["tool"].max() or 0))
    begin = pl.col(".number").min().over("tool")
    time = (pl.col(".number") - begin + 1).cast(pl.String)
    return rows.with_columns(
        asset=pl.lit(f"{prefix}tool ") + pl.col("tool").cast(pl.String).str.zfill(width), time=pl.coalesce(time, pl.col("number"))
    )


def _failed(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with a time of their own and `failed`; refused where a label is neither 0 nor 1."""
    timed = rows.with_columns(at=pl.col("time").cast(pl.Float64, strict=False), failed=_number(FAILURE)).filter(
        pl.col(".number").is_not_null()
    )
    wrong = timed.filter(~pl.col("failed").is_in([0.0, 1.0]).fill_null(False))
    if wrong.height:
        file, row, asset, text = wrong.select("file", "row", "asset", FAILURE).row(0)
        told = f"{file}, row {row}, asset {asset}, column {FAILURE}: {shown(text)!r} is neither 0 nor 1"
        raise DataError(f"{told} ({wrong.height:,} such rows) -> correct the label")
    return timed


def _ends(rows: pl.DataFrame) -> list[tuple[str, float, str]]:
    """Asset, time and event of every failure and every tool that was changed; the last tool was still in the machine."""
    timed = _failed(rows)
    failures = timed.filter(pl.col("failed") == 1).select("asset", "at", event=pl.lit("failure"))
    last = timed.group_by("asset", maintain_order=True).last().head(-1)
    changed = last.filter(pl.col("failed") == 0).select("asset", "at", event=pl.lit("replacement"))
    return list(pl.concat([failures, changed]).unique(maintain_order=True).iter_rows())


def _episodes(rows: pl.DataFrame) -> list[tuple[str, float, float, str]]:
    """The failing products, each with the modes that were noted; some have none."""
    failing = _failed(rows).filter(pl.col("failed") == 1)
    modes = pl.concat_str([pl.when(_number(mode) == 1).then(pl.lit(mode)) for mode in MODES], separator=" and ", ignore_nulls=True)
    fault = pl.when(modes == "").then(pl.lit("unknown")).otherwise(modes)
    return list(failing.select("asset", "at", pl.col("at").alias("end"), fault.alias("fault")).iter_rows())


def _machine(rng: np.random.Generator, tools: int) -> str:
    """The file of one machine as text, with a blank line at its end."""
    lines, number = [",".join(["UDI", "Product ID", *RAW, FAILURE, *MODES])], 0
    for _ in range(tools):
        wear, air = 0.0, 300.0 + rng.normal()
        while wear < 200 + 20 * rng.random():
            number += 1
            air += 0.1 * rng.normal()
            process, speed = air + 10 + rng.normal(), 1500 + 100 * rng.normal()
            torque, quality = max(5.0, 40 + 10 * rng.normal()), "LMH"[int(rng.integers(3))]
            power = torque * speed * 2 * np.pi / 60
            modes = [wear > 205, process - air < 8.2, power > 9000, wear * torque > 11500, False]
            flags = [int(any(modes)), *map(int, modes)]
            values = [f"{air:.1f}", f"{process:.1f}", f"{speed:.0f}", f"{torque:.1f}", f"{wear:.0f}"]
            lines.append(",".join(map(str, [number, f"{quality}{number + 14859}", quality, *values, *flags])))
            wear += 3
    return "\n".join(lines) + "\n\n"
