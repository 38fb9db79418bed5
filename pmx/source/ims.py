"""IMS: four bearings on one shaft, run until some of them fail; mean absolute vibration of a snapshot every 10 minutes.

Lee, Qiu, Yu, Lin and Rexnord Technical Services: Bearing Data Set, NASA Prognostics Data Repository, 2007. The snapshots of
one second were reduced by others to one number a channel, in two forms: `merged_dataset_BearingTest_2.csv` (times in a column
without a name, then columns by position or by name) and `2nd_test_resmaple_10minutes.csv` (a running index, `Datetime`, then
columns by name). Times read `2004.02.12.10.32.39`, or as ISO 8601. The raw archive has a folder for each test, `1st_test` to `3rd_test`
(in it, or beside it, `4th_test/txt`), and in it a file for each snapshot, named by its time, with a column for each channel: it is
reduced in the same way.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import polars as pl

from pmx.contract import Channel, Contract, DataError, UsageError, shown
from pmx.source import History, Source
from pmx.source.admit import microseconds
from pmx.source.download import fetch_files, recorded
from pmx.source.episodes import title
from pmx.source.lines import cells_of, natural, table_of

HOME = "https://raw.githubusercontent.com/bingblackbean/nasa_bearing_abnormal_detection/be045e50d02cda902f201ab827bfb726264b15fc"
SHA256 = {
    "2nd_test_resmaple_10minutes.csv": "b6d1a149837154613b54c0c764a136cb7d43749213649c128e77f7def7147afb",
    "merged_dataset_BearingTest_2.csv": "b0717bd34d1a812e33b8dd44dea09e213d3532294410f82d16b121ecea9b1a0d",
}
AT_HOME = {1: "1st_test_resmaple_10minutes", 2: "2nd_test_resmaple_10minutes", 3: "3rd_test_resmaple_10minutes"}
FAILED = {1: (3, 4), 2: (1,), 3: (3,)}  # bearings that were found damaged at the end of a test, as its readme says
BEARINGS = 4
NUMBER_OF = re.compile(r"test_?([1-3])(?![0-9])|(?<![0-9])([1-3])(?:st|nd|rd)_test", re.IGNORECASE)
COLUMN = re.compile(r"b(?:earing)?[ _]*([1-4])(?:[ _-]*[a-z]\w*)?", re.IGNORECASE)  # `Bearing 3`, `Bearing 3-A`, `b3_x`
STAMP = re.compile(r"(?:[0-9]{2,4}\.){5}[0-9]{2}")  # the name of a raw snapshot
FOLDERS = {1: ("1st_test",), 2: ("2nd_test",), 3: ("3rd_test", "4th_test")}  # the third test's is called the fourth inside of its archive
DOTTED = r"^\s*([0-9]{4})\.([0-9]{2})\.([0-9]{2})\.([0-9]{2})\.([0-9]{2})\.([0-9]{2})\s*$"
NAMES = {1: ("vibration",), 2: ("vibration_x", "vibration_y")}  # by the number of accelerometers on a bearing


class Ims(Source):
    """Bearings of the IMS tests, each an asset that fails at the end of its record or was still at work then.

    The rig stood still between working days: gaps become ticks without values. All bearings share a shaft, so that a damaged
    one shakes its neighbours. Test 1 has two accelerometers on a bearing, the others one: they cannot be loaded together. Times
    have no zone and are taken as UTC; the unit of the numbers is not stated, and is taken as g.

    Args:
        root: the folder that holds the files, or the folders of the raw archive.
        subset: tests by number, 1 to 3, or files by name without `.csv`, one or a list.
        home: where `fetch` downloads from.

    Example:
        >>> Ims(root="missing", subset="merged_dataset_BearingTest_3").subset
        ['merged_dataset_BearingTest_3']
    """

    terms = "none stated by the NASA Prognostics Center of Excellence; a citation of Lee, Qiu, Yu and Lin 2007 is asked for"

    def __init__(self, root: str, subset: int | str | list[int] | list[str] = 2, home: str = HOME) -> None:
        given: list[int | str] = [subset] if isinstance(subset, int | str) else list(subset)
        self.root, self.home = root, home
        self.subset = [int(s) if re.fullmatch("[0-9]+", str(s)) else str(s) for s in given]
        if not self.subset or len(set(self.subset)) < len(self.subset):
            raise UsageError(f"source.subset is {given}: name at least one test or file, and each of them once")
        for name in self.subset:
            known = name in FAILED if isinstance(name, int) else re.fullmatch(r"[\w -]+", name) and _test_of(name)
            if not known:
                raise UsageError(
                    f"source.subset: {shown(str(name))!r} is no test -> write 1, 2 or 3, or a file's name such as {AT_HOME[2]}"
                )

    def load(self) -> History:
        digest, tables, events, notes = hashlib.sha256(), [], [], []
        files = self._files()
        per = {test: _columns(file) for test, file in files.items()}
        widths = {len(bearings[0]) for bearings in per.values()}
        if len(widths) > 1:
            told = ", ".join(f"test {test} has {len(bearings[0])}" for test, bearings in per.items())
            raise DataError(f"{self.root}: accelerometers on a bearing differ ({told}) -> load these tests apart")
        names = NAMES[widths.pop()]
        contract = Contract(tuple(Channel(n, "g", low=0.0, align="mean") for n in names), "h", "calendar", tick=1 / 6)
        for test, file in files.items():
            for part in _snapshots(file) or [file]:
                digest.update(part.read_bytes())
            raw = _reduced(file) if file.is_dir() else _read(file)
            for bearing, columns in enumerate(per[test], 1):
                asset = pl.lit(f"test{test}/bearing {bearing}").alias("asset")
                values = [pl.col(c).alias(n) for c, n in zip(columns, names, strict=True)]
                tables.append(raw.select("file", "row", asset, "time", *values, pl.col("^column_[0-9]+$")))
            end = raw.select(microseconds(pl.col("time")).max()).item()
            events += [(f"test{test}/bearing {bearing}", end) for bearing in FAILED[test] if end is not None]
            others = [p.name for p in self._there() if p != file and _test_of(p.stem) == test]
            notes += [f"test {test} is read from {file.name} alone, not from {', '.join(others)}"] if others else []
        rows = pl.concat(tables, how="diagonal")  # a surplus cell gives its file one column more
        time = pl.from_epoch("time", "us").dt.replace_time_zone("UTC")
        failures = pl.DataFrame(events, schema={"asset": pl.String(), "time": pl.Int64()}, orient="row").with_columns(time)
        return History(
            title("ims", [f"test{test}" for test in files]),
            contract,
            rows.lazy(),
            failures.select("asset", "time", event=pl.lit("failure"), known_at="time"),
            test_assets=None,
            digest=digest.hexdigest(),
            noun="bearings",
            groups={asset: asset.partition("/")[0] for asset in rows["asset"].unique(maintain_order=True)},
            notes=tuple(notes),
        )

    def published(self) -> dict[str, bool]:
        known = recorded(Path(self.root)) | SHA256
        there = [p for p in self._files().values() if p.name in known]
        return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() == known[p.name] for p in there}

    def fetch(self) -> dict[str, str]:
        names = [f"{AT_HOME[s] if isinstance(s, int) else s}.csv" for s in self.subset]
        return fetch_files(self.home, Path(self.root), {name: SHA256.get(name) for name in names})

    def write_miniature(self, folder: Path, rows: int = 400, seed: int = 0) -> None:
        """A small archive in the raw formats, for tests: a steady hum, a day without readings, and damage that grows in the last third."""
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        for name in self.subset:
            stem = f"merged_dataset_BearingTest_{name}" if isinstance(name, int) else name
            (folder / f"{stem}.csv").write_text(_miniature(rng, rows, stem, _test_of(stem)))

    def _there(self) -> list[Path]:
        """The files under the root that name a test, in natural order, and then the folders that hold a test's raw snapshots."""
        if not Path(self.root).is_dir():
            return []
        files = sorted((p for p in Path(self.root).glob("*.csv") if _test_of(p.stem)), key=lambda p: natural(p.name))
        folders = [Path(self.root) / name for names in FOLDERS.values() for name in names]
        return files + [folder for folder in folders if _snapshots(folder)]

    def _files(self) -> dict[int, Path]:
        """Test -> its file; of a test given by number, the first that is there."""
        there, found = self._there(), dict[int, Path]()
        for name in self.subset:
            fits = [p for p in there if (_test_of(p.stem) == name if isinstance(name, int) else p.stem == name)]
            if not fits:
                holds = f"it holds {', '.join(p.stem for p in there)}" if there else "no IMS file is there"
                what = f"file of test {name}" if isinstance(name, int) else f"{name}.csv"
                raise DataError(f"{self.root}: no {what} ({holds}) -> pmx data fetch ims, or set source.root and source.subset")
            test = _test_of(fits[0].stem)
            if test in found:
                raise DataError(f"{self.root}: {found[test].name} and {fits[0].name} are both test {test} -> name one of them")
            found[test] = fits[0]
        return found


def _test_of(stem: str) -> int:
    """The test that a file's name tells; 0 where it tells none."""
    found = NUMBER_OF.search(stem)
    return int(found[1] or found[2]) if found else next((test for test, names in FOLDERS.items() if stem in names), 0)


def _snapshots(folder: Path) -> list[Path]:
    """The raw snapshots below a folder, by their time; empty where it is none, or holds none."""
    files = folder.rglob("*") if folder.is_dir() else []
    return sorted((p for p in files if STAMP.fullmatch(p.name) and p.is_file()), key=lambda p: natural(p.name))


def _reduced(folder: Path) -> pl.DataFrame:
    """The raw rows of one test from its snapshots: the mean of the absolute values of each channel, as text; `row` counts snapshots."""
    lines, width = [], len(_header(folder)[1]) - 1
    for number, file in enumerate(_snapshots(folder), 1):
        try:
            table = pl.read_csv(file, separator="\t", has_header=False, schema={str(i): pl.Float64() for i in range(width)})
            if not table.height or any(table[c].null_count() for c in table.columns):
                raise pl.exceptions.NoDataError("it is empty, or a line ends too soon")
        except (pl.exceptions.PolarsError, OSError) as error:
            told = shown(str(error).splitlines()[0], 120)
            raise DataError(f"{file}: no snapshot of {width} columns of numbers ({told}) -> take the whole file from its home") from None
        lines.append((number, [file.name, *map(repr, table.select(pl.all().abs().mean()).row(0))]))
    rows = table_of(folder, "", lines, ["time", *map(str, range(width))])
    return rows.drop("asset").with_columns(pl.col("time").str.replace(DOTTED, "$1-$2-${3}T$4:$5:$6"))


def _header(file: Path) -> tuple[int, list[str]]:
    """Position of the column of times, and the names of the columns, made unique by position where they have none."""
    if file.is_dir():
        first = cells_of(_snapshots(file)[0], None)
        return 0, ["", *map(str, range(len(first[0][1]) if first else 0))]
    lines = cells_of(file, ",")
    header = lines[0][1] if lines else []
    named = [i for i, name in enumerate(header) if name.lower() == "datetime"]
    return (named[0] if named else 0), header


def _columns(file: Path) -> list[list[str]]:
    """Per bearing the columns of its accelerometers, by the bearing's number in their names, or by position where they are numbers."""
    at, header = _header(file)
    names = header[at + 1 :]
    numbered = [COLUMN.fullmatch(name) for name in names]
    if all(re.fullmatch("[0-9]+", name) for name in names) and len(names) % BEARINGS == 0:
        each = len(names) // BEARINGS
        bearings = [names[i * each : (i + 1) * each] for i in range(BEARINGS)]
    else:
        bearings = [[n for n, m in zip(names, numbered, strict=True) if m and int(m[1]) == b] for b in range(1, BEARINGS + 1)]
    sound = {len(columns) for columns in bearings} in ({1}, {2}) and sum(map(len, bearings)) == len(names) == len(set(names))
    if not sound:
        told = f"{len(names)} columns ({shown(', '.join(names), 80)}) are not one or two of each of {BEARINGS} bearings"
        raise DataError(
            f"{file}, first line: {told} -> name them `Bearing 1` or `Bearing 1-A` to `Bearing 4`, or number them 0 to 3 or 0 to 7"
        )
    return bearings


def _read(file: Path) -> pl.DataFrame:
    """The raw rows of one test: `file`, `row`, `time` and its columns as text."""
    at, header = _header(file)
    lines = [(number, cells[at:]) for number, cells in cells_of(file, ",")[1:]]
    table = table_of(file, "", lines, ["time", *header[at + 1 :]])
    return table.drop("asset").with_columns(pl.col("time").str.replace(DOTTED, "$1-$2-${3}T$4:$5:$6"))


def _miniature(rng: np.random.Generator, rows: int, stem: str, test: int) -> str:
    """One file as text; the name decides between the two forms."""
    per = 2 if test == 1 else 1
    hum = 0.05 + 0.01 * rng.random(BEARINGS * per)
    values = hum * (1 + 0.01 * rng.normal(size=(rows, BEARINGS * per)))
    wear = np.clip(np.arange(rows) - 2 * rows // 3, 0, None) / rows
    for bearing in FAILED[test]:
        values[:, (bearing - 1) * per : bearing * per] += wear[:, None] * 0.5
    steps = np.where(np.arange(rows) == rows // 3, 24 * 60, 10)
    times = np.datetime64("2004-02-12T10:32:39") + np.cumsum(steps) * np.timedelta64(1, "m")
    text = [str(t).translate(str.maketrans("-T:", "...")) for t in times]
    if stem.startswith("merged"):
        head, lead = ["", *map(str, range(BEARINGS * per))], [[t] for t in text]
    else:
        marks = ["-A", "-B"] if per == 2 else [""]
        head, lead = (
            ["", "Datetime", *(f"Bearing {b}{m}" for b in range(1, BEARINGS + 1) for m in marks)],
            [[str(i), t] for i, t in enumerate(text)],
        )
    lines = [head, *([*first, *(f"{v:.9f}" for v in row)] for first, row in zip(lead, values, strict=True))]
    return "".join(",".join(cells) + "\n" for cells in lines)
