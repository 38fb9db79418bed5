"""Tennessee Eastman process: a simulated chemical plant in closed loop, one fault in each run; readings every 3 minutes.

Downs, Vogel: A plant-wide industrial process control problem, Computers and Chemical Engineering 17, 1993. The runs are those
of Chiang, Russell, Braatz: Fault Detection and Diagnosis in Industrial Systems, 2001: text without a header, one reading a
line, 41 measurements and 11 manipulated variables. `d00.dat` alone has one variable a line. In a test run the fault enters
after 8 hours, with 160 readings taken.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import polars as pl

from pmx.contract import Channel, Contract, DataError, UsageError
from pmx.source import History, Source
from pmx.source.download import fetch_files, recorded
from pmx.source.episodes import episode_table, no_events, title
from pmx.source.lines import cells_of, table_of

HOME = "https://raw.githubusercontent.com/camaramm/tennessee-eastman-profBraatz/master"
SHA256 = {
    "d00.dat": "4c3c0b11eefacf93e5d2529e2866d7a625e37aa9153d0f95fae17a6c9e560deb",
    "d00_te.dat": "57d56da4199e3d73582855d810be1d13d931386fd728bf1694798c7b0a03678c",
    "d01_te.dat": "e7e6992fb39664e739fccbc001a1c5d5f7cb21829544f734ca3f282c26f680e5",
    "d02_te.dat": "a34bd9c3693fa96bd3ee533fb7fbe29a9d226a4e3250b585ef1308e1136dbfb0",
    "d03_te.dat": "b7bf6f2ed7cff0a5577898b009edd252b9bdf6ee9ff7dbeacf9af9aa4c6abace",
    "d04_te.dat": "1ccb488dd5feac11aad54623451168abef066229e685872597897800363916f9",
    "d05_te.dat": "1def7258a2865aeead699d52c8cf926fbf34c1467aaf298121987ab858fd0888",
    "d06_te.dat": "8a3adc7121eaa9b9300c27f9c57a8ab356315401cb964310a4a8244dd34bf79d",
    "d07_te.dat": "e01b7c81daf9fccc4495cbde5658296918276b3c078044893f6e945dd91d3446",
    "d08_te.dat": "c0637f02f23b79890b43cfee9604818ad6d7f81532223d76acf1da0d6e2a2cc1",
}
UNITS = (  # of XMEAS_1 to XMEAS_22; the others are compositions
    "kscmh", "kg/h", "kg/h", "kscmh", "kscmh", "kscmh", "kPa gauge", "%", "degC", "kscmh", "degC",
    "%", "kPa gauge", "m3/h", "%", "kPa gauge", "m3/h", "degC", "kg/h", "kW", "degC", "degC",
)  # fmt: skip
MEASURED = tuple(Channel(f"XMEAS_{i}", UNITS[i - 1] if i <= len(UNITS) else "mol%") for i in range(1, 42))
MANIPULATED = tuple(Channel(f"XMV_{i}", "%") for i in range(1, 12))
ALL = MEASURED + MANIPULATED
# The 19 compositions come from analysers that answer every 6 or 15 minutes and repeat their last value in between.
CHANNELS = {"continuous": MEASURED[: len(UNITS)] + MANIPULATED, "all": ALL}
FIT, CALIBRATION = "d00", "d00_te"
HEALTHY_ROWS = 160  # of a test run; the fault is in all readings after them
PER_HOUR = 20
FAULTS = (1, 2, 4, 5, 6, 7, 8)  # 3, 9 and 15 are close to undetectable for everybody


class Tep(Source):
    """Runs of the Tennessee Eastman process: a healthy one to fit, a healthy one for limits, and a test run for each fault.

    Each run is an asset; time in hours from its start. A test run is healthy for 8 hours and faulty from then on.

    Args:
        root: the folder that holds `d00.dat`, `d00_te.dat`, `d01_te.dat` and so on.
        subset: faults by number, one or a list; 1 to 21 were published.
        channels: `continuous` (XMEAS 1 to 22 and XMV 1 to 11) or `all` (the compositions too, which are sampled more slowly).
        home: where `fetch` downloads from.

    Example:
        >>> source = Tep(root="missing", subset=[9, 13])
        >>> source.subset, len(source.contract.channels)
        ([9, 13], 33)
    """

    terms = "free to use and redistribute with its notice, as stated by the University of Illinois; citations of its authors are asked for"

    def __init__(
        self, root: str, subset: int | list[int] | tuple[int, ...] = FAULTS, channels: str = "continuous", home: str = HOME
    ) -> None:
        self.root, self.subset, self.home = root, [subset] if isinstance(subset, int) else list(subset), home
        if not self.subset or len(set(self.subset)) < len(self.subset) or not all(1 <= fault <= 99 for fault in self.subset):
            raise UsageError(f"source.subset is {subset}: name at least one fault by its number from 1, and each of them once")
        if channels not in CHANNELS:
            raise UsageError(f"source.channels is {channels!r} -> choose from {', '.join(CHANNELS)}")
        self.contract = Contract(CHANNELS[channels], life_unit="h", clock="life", tick=1 / PER_HOUR)

    def load(self) -> History:
        digest, tables, episodes = hashlib.sha256(), [], []
        tested = [_asset(fault) for fault in self.subset]
        for asset in [FIT, CALIBRATION, *tested]:
            file = self._file(asset)
            digest.update(file.read_bytes())
            table = _read(file, asset)
            tables.append(table.drop(c.name for c in ALL if c not in self.contract.channels))
            if asset in tested:
                if table.height <= HEALTHY_ROWS:
                    told = f"{table.height} rows, but the fault enters after {HEALTHY_ROWS}"
                    raise DataError(f"{file}: {told} -> take the whole file from its home")
                episodes.append((asset, (HEALTHY_ROWS + 1) / PER_HOUR, table.height / PER_HOUR, _fault(asset)))
        return History(
            title("tep", [f"{fault:02}" for fault in self.subset]),
            self.contract,
            pl.concat(tables, how="diagonal").lazy(),  # a surplus cell gives its file one column more
            no_events(self.contract),
            frozenset(tested),
            digest.hexdigest(),
            "runs",
            episode_table(self.contract, episodes),
            frozenset({CALIBRATION}),
            {asset: _fault(asset) for asset in tested},
        )

    def published(self) -> dict[str, bool]:
        folder = Path(self.root)
        known = recorded(folder) | SHA256
        there = [n for n in self._files() if n in known and (folder / n).is_file()]
        return {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() == known[n] for n in there}

    def fetch(self) -> dict[str, str]:
        return fetch_files(self.home, Path(self.root), {name: SHA256.get(name) for name in self._files()})

    def write_miniature(self, folder: Path, rows: int = 300, seed: int = 0) -> None:
        """A small archive in the raw format, for tests: a plant of six hidden states; a fault shifts one state and one sensor."""
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        mix = rng.normal(size=(6, len(ALL)))
        base = np.abs(100 * rng.normal(size=len(ALL))) + 10
        for asset in [FIT, CALIBRATION, *map(_asset, self.subset)]:
            states = np.zeros((rows, 6))
            for t in range(1, rows):
                states[t] = 0.9 * states[t - 1] + 0.4 * rng.normal(size=6)
            values = base + states @ mix + 0.2 * rng.normal(size=(rows, len(ALL)))
            if asset not in (FIT, CALIBRATION):
                number = int(asset[1:3])
                values[HEALTHY_ROWS:] += 2.0 * mix[number % 6]
                values[HEALTHY_ROWS:, number % 22] += 4.0
            table = values.T if asset == FIT else values
            (folder / f"{asset}.dat").write_text("".join(" " + "".join(f"{v:16.7e}" for v in row) + "\n" for row in table))

    def _files(self) -> list[str]:
        return [f"{asset}.dat" for asset in (FIT, CALIBRATION, *map(_asset, self.subset))]

    def _file(self, asset: str) -> Path:
        file = Path(self.root) / f"{asset}.dat"
        if not file.is_file():
            there = sorted(p.name for p in Path(self.root).glob("d[0-9][0-9]*.dat")) if Path(self.root).is_dir() else []
            found = f"it holds {', '.join(there)}" if there else "no run is there"
            raise DataError(f"{file}: no such file ({found}) -> pmx data fetch tep, or set source.root and source.subset")
        return file


def _asset(fault: int) -> str:
    return f"d{fault:02}_te"


def _fault(asset: str) -> str:
    return f"fault_{asset[1:3]}"


def _read(file: Path, asset: str) -> pl.DataFrame:
    """Raw rows of one run with all 52 variables as text; `row` is the line, or the column where a line is a variable."""
    lines = cells_of(file, None)
    width = len(lines[0][1]) if lines else 0
    if width != len(ALL) and len(lines) == len(ALL):
        ragged = [number for number, cells in lines if len(cells) != width]
        if ragged:
            told = f"row {ragged[0]}: another number of values than the {width} of the first line"
            raise DataError(f"{file}, {told} -> every line of this file holds one variable; take it from its home")
        numbers, rows = list(range(1, width + 1)), list(map(list, zip(*(cells for _, cells in lines), strict=True)))
    elif width == len(ALL):
        numbers, rows = [number for number, _ in lines], [cells for _, cells in lines]
    else:
        told = f"{width} values, and {len(lines)} lines"
        raise DataError(f"{file}, first line: {told}, expected {len(ALL)} of the one or of the other -> is this a run of the process?")
    time = pl.Series("time", np.arange(1, len(rows) + 1) / PER_HOUR)  # divided, not multiplied: rounded once, so none drifts off its tick
    table = table_of(file, asset, list(zip(numbers, rows, strict=True)), [c.name for c in ALL])
    return table.select("file", "row", "asset", time, pl.exclude("file", "row", "asset"))
