"""NASA lithium-ion cells: charged and discharged until their capacity has faded; life in discharge cycles.

Saha, Goebel: Battery Data Set, NASA Prognostics Data Repository, 2007. A file `<cell>_discharge.csv` holds the samples of all
discharges of a cell: `cycle_num`, `ambient_temperature`, `cycle_time_start`, `Capacity`, then what was sampled. A discharge is a
rest, the load at a current that is held, and a rest again; the capacity, repeated in every row, was computed when it had ended.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import polars as pl

from pmx.contract import BLANKS, MISSING, NUMBER, Channel, Contract, DataError, UsageError, shown, within
from pmx.source import History, Source
from pmx.source.download import recorded
from pmx.source.episodes import title
from pmx.source.lines import cells_of, natural, table_of

HOME = "https://github.com/The-Data-Analysis-Bureau/datasets"
SUFFIX = "_discharge.csv"
SHA256 = {
    "B0005_discharge.csv": "c1acb7a24284844868b1c9bea6fc09dd3faf13ca3ebab431f560689acd40b04e",
    "B0006_discharge.csv": "66640384bd2b4489d5e702416f7377d34031f5caa74680075f396a429699ab8b",
}
COLUMNS = (
    "cycle_num", "ambient_temperature", "cycle_time_start", "Capacity", "Voltage_measured",
    "Current_measured", "Temperature_measured", "Current_load", "Voltage_load", "Time",
)  # fmt: skip
KNEE = 3.5  # V, passed by every cell of this kind well before its discharge ends
CUT_SHORT = 0.5  # share of the end of life: a discharge that gave less was broken off, since a cell that fades passes the end first
LOADED = 0.5  # share of a discharge's largest current, above which its load is on
# channel -> the column whose cells it is made of; of a cell that is no number the text stands in the channel, and is refused there
DISCHARGE = {
    Channel("ambient_temperature", "degC", "setting", -60.0, 100.0): "ambient_temperature",
    Channel("current_mean", "A", low=0.0): "Current_measured",
    Channel("voltage_start", "V"): "Voltage_measured",
    Channel("voltage_mean", "V"): "Voltage_measured",
    Channel("time_to_3v5", "s", low=0.0): "Time",
    Channel("temperature_start", "degC"): "Temperature_measured",
    Channel("temperature_mean", "degC"): "Temperature_measured",
    Channel("temperature_max", "degC"): "Temperature_measured",
}
CAPACITY = {Channel("capacity", "Ah", low=0.0): "Capacity"}
CHANNELS = {"discharge": DISCHARGE, "with_capacity": DISCHARGE | CAPACITY}


class NasaBattery(Source):
    """Cells, each an asset that fails at the first discharge whose capacity lies below the end of life; a tick is a discharge.

    The samples of a discharge are reduced to what a device can compute from them: mean current, voltage when the load comes on
    and its mean, seconds from then until the cell is down to 3.5 V, temperatures. The capacity is no channel unless asked for: it
    *is* what the end of life is read from, and only a discharge to the cut-off voltage tells it. Note that `time_to_3v5` is most
    of a capacity in seconds wherever the current is held; it needs no full discharge. Discharges after the end of life are left out; a
    cell that never came there is censored. Capacity recovers after a rest, so that a cell may rise above its limit once more. A
    discharge that gave less than half of the end of life was broken off and ends nothing. A cell that was below the end of life from its
    first discharge on, as some in the cold are, has no life to look at and is left out, which a note says.

    Args:
        root: the folder that holds the files.
        subset: cells such as `B0005`, one or a list; None or `all` = every cell under `root`.
        channels: `discharge`, or `with_capacity`.
        end_of_life: Ah, 70 % of what the cells were rated at.

    Example:
        >>> NasaBattery(root="missing", subset="B0018").subset
        ['B0018']
    """

    terms = "work of the US government (NASA Prognostics Center of Excellence); a citation of Saha and Goebel 2007 is asked for"

    def __init__(self, root: str, subset: str | list[str] | None = None, channels: str = "discharge", end_of_life: float = 1.4) -> None:
        given = [subset] if isinstance(subset, str) else subset
        self.root, self.subset, self.end_of_life = root, None if given in (None, ["all"]) else given, end_of_life
        within(0.0, float("inf"), {"source.end_of_life": end_of_life})
        if channels not in CHANNELS:
            raise UsageError(f"source.channels is {channels!r} -> choose from {', '.join(CHANNELS)}")
        self.made_of = CHANNELS[channels]
        self.contract = Contract(tuple(self.made_of), life_unit="cycle", clock="life")
        if self.subset is not None and (not self.subset or len(set(self.subset)) < len(self.subset)):
            raise UsageError(f"source.subset is {self.subset}: name at least one cell, and each of them once")
        for name in self.subset or []:
            if not re.fullmatch(r"[\w-]+", name):
                raise UsageError(f"source.subset: {shown(name)!r} is no cell -> write B0005, or null for all")

    def load(self) -> History:
        digest, tables, events, notes = hashlib.sha256(), [], [], []
        cells, at = self._cells(), _at()
        for cell in cells:
            file = Path(self.root) / f"{cell}{SUFFIX}"
            digest.update(file.read_bytes())
            table = _cycles(_read(file, cell), self.made_of)
            whole = _whole(table, self.end_of_life)
            if whole.height and whole[".capacity"][0] < self.end_of_life:
                largest = whole.select(pl.col(".capacity").max()).item()
                notes += [
                    f"{cell} is left out: no more than {largest:.3g} Ah from its first discharge on, its end is {self.end_of_life:g} Ah"
                ]
                continue
            faded = whole.filter(pl.col(".capacity") < self.end_of_life).select(pl.col("at").min()).item()
            if faded is not None:
                events.append((cell, faded))
                after = table.filter(at > faded).height
                notes += [f"{cell}: {after} cycles after the end of its life at cycle {faded:g} are left out"] if after else []
                table = table.filter((at <= faded).fill_null(True))
            tables.append(table.drop(".capacity"))
        if not tables:
            raise DataError(
                f"{self.root}: no cell has a life to look at; {'; '.join(notes[:4])} -> set source.end_of_life (70 % of what these cells gave"
                " when new), or take other cells"
            )
        schema = {"asset": pl.String(), "time": pl.Float64()}
        ends = pl.DataFrame(events, schema=schema, orient="row").with_columns(event=pl.lit("failure"), known_at="time")
        return History(
            "nasa_battery" if self.subset is None else title("nasa_battery", cells),
            self.contract,
            pl.concat(tables, how="diagonal").lazy(),  # a surplus cell gives its file one column more
            ends,
            test_assets=None,
            digest=digest.hexdigest(),
            noun="cells",
            notes=tuple(notes),
        )

    def published(self) -> dict[str, bool]:
        folder = Path(self.root)
        known = recorded(folder) | SHA256
        names = [f"{cell}{SUFFIX}" for cell in (self._there() if self.subset is None else self.subset)]
        there = [n for n in names if n in known and (folder / n).is_file()]
        return {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() == known[n] for n in there}

    def fetch(self) -> dict[str, str]:
        raise UsageError(f"{HOME} has the cells packed one by one -> unpack <cell>_discharge.tar.gz into {self.root} by hand")

    def write_miniature(self, folder: Path, cycles: int = 90, seed: int = 0) -> None:
        """A small archive in the raw format, for tests: capacity fades and recovers a little after each tenth cycle, the last cell lasts."""
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        cells = self.subset or ["B0005", "B0006", "B0007"]
        for k, cell in enumerate(cells):
            fade = 0.003 if cell == cells[-1] and len(cells) > 1 else 0.008 + 0.002 * rng.random()
            lines = [",".join(COLUMNS)]
            for cycle in range(1, cycles + 1):
                lines += _discharge(rng, cycle, 1.9 - fade * cycle + (0.02 if cycle % 10 == 0 else 0.0), 24 + k)
            (folder / f"{cell}{SUFFIX}").write_text("\n".join(lines) + "\n")

    def _there(self) -> list[str]:
        files = Path(self.root).glob(f"*{SUFFIX}") if Path(self.root).is_dir() else []
        return sorted((p.name.removesuffix(SUFFIX) for p in files), key=natural)

    def _cells(self) -> list[str]:
        there = self._there()
        names = there if self.subset is None else self.subset
        absent = [name for name in names if name not in there]
        if absent or not names:
            found = f"it holds {', '.join(there)}" if there else "no file of a cell is there"
            what = ", ".join(f"{name}{SUFFIX}" for name in absent) or f"*{SUFFIX}"
            raise DataError(f"{self.root}: no {what} ({found}) -> set source.root and source.subset; the cells are at {HOME}")
        return names


def _read(file: Path, cell: str) -> pl.DataFrame:
    """The raw rows of one cell."""
    lines = cells_of(file, ",")
    header = lines[0][1] if lines else []
    missing = [c for c in COLUMNS if c not in header and c not in ("cycle_time_start", "Current_load", "Voltage_load")]
    if missing or len(set(header)) < len(header):
        told = f"column {missing[0]!r} is not in the header" if missing else "a column appears twice"
        raise DataError(f"{file}, first line: {told}; it has {shown(', '.join(header), 120)} -> take the discharges from their home")
    return table_of(file, cell, lines[1:], header)


def _cycles(samples: pl.DataFrame, made_of: dict[Channel, str]) -> pl.DataFrame:
    """One row for each discharge, with its channels as text and `.capacity` in Ah; `row` is the discharge's first line.

    Where a cell of a column is no number, its text stands in the channels made of it, and `row` is its line.
    """
    raw = sorted({*made_of.values(), "Capacity"})
    plain = [pl.col(c).str.strip_chars(BLANKS) for c in raw]
    sound = [
        pl.when(c.str.contains(f"^(?:{NUMBER})$")).then(c).cast(pl.Float64, strict=False).alias(f".{n}")
        for c, n in zip(plain, raw, strict=True)
    ]
    rows = samples.with_columns(sound)
    current, voltage, time = pl.col(".Current_measured").abs(), pl.col(".Voltage_measured"), pl.col(".Time")
    on = current >= LOADED * current.max()
    begin = time.filter(on).min()
    under, warm = voltage.filter(on), pl.col(".Temperature_measured")
    values = {
        "ambient_temperature": pl.col(".ambient_temperature").first(),
        "current_mean": current.filter(on).mean(),
        "voltage_start": under.first(),
        "voltage_mean": under.mean(),
        "time_to_3v5": time.filter(on & (voltage <= KNEE)).min() - begin,
        "temperature_start": warm.filter(on).first(),
        "temperature_mean": warm.filter(on).mean(),
        "temperature_max": warm.max(),
        "capacity": pl.col(".Capacity").first(),
    }
    broken = {c: pl.col(f".{c}").is_null() & ~pl.col(c).str.strip_chars(BLANKS).str.contains(f"^(?:{MISSING})$") for c in raw}
    names = {channel.name: column for channel, column in made_of.items()}
    table = rows.group_by("cycle_num", maintain_order=True).agg(
        pl.col("file").first(),
        pl.coalesce(*(pl.col("row").filter(broken[c]).first() for c in dict.fromkeys(names.values())), pl.col("row").first()).alias("row"),
        pl.col("asset").first(),
        *(pl.coalesce(pl.col(column).filter(broken[column]).first(), values[n].cast(pl.String)).alias(n) for n, column in names.items()),
        pl.col("^column_[0-9]+$").drop_nulls().first(),
        values["capacity"].alias(".capacity"),
    )
    return table.rename({"cycle_num": "time"}).select("file", "row", "asset", "time", pl.exclude("file", "row", "asset", "time"))


def _at() -> pl.Expr:
    """The cycle of a discharge, Float64; null where the contract will refuse it."""
    return pl.col("time").cast(pl.Float64, strict=False)


def _whole(table: pl.DataFrame, end_of_life: float) -> pl.DataFrame:
    """The discharges that tell a capacity, with `at`, their cycle (Float64), in its order; all that tell one, where none was whole."""
    known = (
        table.with_columns(at=_at()).filter(pl.col(".capacity").is_not_null(), pl.col("at").is_not_null()).sort("at", maintain_order=True)
    )
    whole = known.filter(pl.col(".capacity") >= CUT_SHORT * end_of_life)
    return whole if whole.height else known


def _discharge(rng: np.random.Generator, cycle: int, capacity: float, ambient: int) -> list[str]:
    """The lines of one discharge at 2 A, every 2 minutes, with a rest before and after it."""
    seconds = np.arange(0, 3600 * capacity / 2 + 360, 120.0) + 16
    share = np.clip((seconds - 120) / (3600 * capacity / 2), 0, 1.2)
    load = (seconds >= 120) & (share <= 1)
    voltage = np.where(load, 4.0 - 0.6 * share - 0.7 * share**8, np.where(share > 1, 3.3, 4.2)) + 0.001 * rng.normal(size=len(share))
    warm = ambient + 12 * share + 0.05 * rng.normal(size=len(share))
    when = np.datetime64("2008-04-02T15:25:41") + np.timedelta64(4 * cycle, "h")
    head = f"{cycle},{ambient},{str(when).replace('T', ' ')},{capacity:.6f}"
    table = zip(voltage, np.where(load, -2.0, -0.001), warm, load, seconds, strict=True)
    return [f"{head},{v:.5f},{i:.4f},{t:.4f},{-2.0 * on:.4f},{0.8 * v * on:.3f},{s:.3f}" for v, i, t, on, s in table]
