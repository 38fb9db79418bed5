"""NAB: single-valued metrics of machines and servers with labelled windows, on a calendar clock.

Lavin, Ahmad: Evaluating Real-time Anomaly Detection Algorithms - the Numenta Anomaly Benchmark, ICMLA 2015. A file
`data/<folder>/<name>.csv` is `timestamp,value`; `labels/combined_windows.json` maps each file to its windows.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import polars as pl

from pmx.contract import Channel, Contract, DataError, shown, within
from pmx.source import History, Source
from pmx.source.admit import microseconds
from pmx.source.download import fetch_files, recorded
from pmx.source.episodes import episode_table, no_events, title
from pmx.source.lines import cells_of, check_names, natural, table_of

HOME = "https://raw.githubusercontent.com/numenta/NAB/master"
WINDOWS = "labels/combined_windows.json"
SECOND, MINUTE = 1_000_000, 60_000_000  # microseconds
TICKS = (1 / 60, 1440.0)  # minutes, the shortest and the longest
SHA256 = {
    "data/realKnownCause/ec2_request_latency_system_failure.csv": "98378580aa80157e057c61d59d81daddccc6c65a2c0c800e3f01f603b8215c3f",
    "data/realKnownCause/machine_temperature_system_failure.csv": "92bf5b87fc7f9bba8ca0b7ec63ccaac8cb4a1371a258e8c29a10ae9c018d82a4",
    WINDOWS: "1e1fbc4601321aad8d0f8b3784c8134299379f68f6c1f7777565f8ffd57ab6b1",
}


class Nab(Source):
    """Files of the Numenta Anomaly Benchmark: a demonstration of the way from a file to alarms, not evidence for a detector.

    A detector that alarms at random reaches 69 % of the NAB score on the machine temperature, and most files hold a handful of
    windows. Each file is an asset with the one channel `value`, whose unit nobody states; times have no zone and are taken as UTC.
    Some files repeat times or step back, the machine temperature 12 rows, the request latency 11: the rows stay as they
    arrived, the contract names them, and `on_error=quarantine` sets them apart.

    Args:
        root: the folder that holds `data` and `labels`.
        subset: files such as `realKnownCause/machine_temperature_system_failure`, one or a list.
        tick: minutes between readings; None = what the files keep, the median over their rows: 5 in most of them, 30 in `nyc_taxi`, 60
            in `ambient_temperature_system_failure`; where files differ, the longest.
        home: where `fetch` downloads from.

    Example:
        >>> Nab(root="missing", subset="realTraffic/speed_6005").subset
        ['realTraffic/speed_6005']
    """

    terms = "MIT for the data files and labels, as stated by Numenta at github.com/numenta/NAB"

    def __init__(
        self,
        root: str,
        subset: str | list[str] = "realKnownCause/machine_temperature_system_failure",
        tick: float | None = None,
        home: str = HOME,
    ) -> None:
        self.root, self.subset, self.home = root, [subset] if isinstance(subset, str) else list(subset), home
        self.tick = tick
        if tick is not None:
            within(*TICKS, {"source.tick": tick})
        check_names(self.subset, "file", "folder/name, such as realTraffic/speed_6005")

    def load(self) -> History:
        digest, tables = hashlib.sha256(), []
        episodes: list[tuple[str, float, float, str]] = []
        windows = self._windows()
        for name in self.subset:
            file = self._file(name)
            digest.update(file.read_bytes())
            tables.append(_read(file, name))
            episodes += [(name, begin, end, "anomaly") for begin, end in _of(windows, name, self._path(WINDOWS))]
        digest.update(self._path(WINDOWS).read_bytes())
        tick, notes = _step(tables) if self.tick is None else (self.tick, ())
        contract = _contract(tick)
        return History(
            title("nab", self.subset),
            contract,
            pl.concat(tables, how="diagonal").lazy(),  # a surplus cell gives its file one column more
            no_events(contract),
            test_assets=None,
            digest=digest.hexdigest(),
            noun="series",
            episodes=episode_table(contract, episodes),
            groups={name: name.partition("/")[0] for name in self.subset},
            notes=notes,
        )

    def published(self) -> dict[str, bool]:
        known = recorded(Path(self.root)) | SHA256
        there = [n for n in self._files() if n in known and self._path(n).is_file()]
        return {n: hashlib.sha256(self._path(n).read_bytes()).hexdigest() == known[n] for n in there}

    def fetch(self) -> dict[str, str]:
        return fetch_files(self.home, Path(self.root), {name: SHA256.get(name) for name in self._files()})

    def write_miniature(self, folder: Path, rows: int = 1200, seed: int = 0) -> None:
        """A small archive in the raw format, for tests: a daily swing that breaks down in one window; one stretch arrives twice."""
        rng, windows = np.random.default_rng(seed), {}
        for name in self.subset:
            times = np.datetime64("2014-01-01T00:00:00") + np.arange(rows) * np.timedelta64(_contract(self.tick or 5.0).tick_us, "us")
            values = 80 + 5 * np.sin(np.arange(rows) / 288 * 2 * np.pi) + rng.normal(size=rows)
            begin, end = int(rows * 0.7), int(rows * 0.8)
            values[begin:end] -= 25
            lines = [f"{str(t.astype('datetime64[s]')).replace('T', ' ')},{v:.6f}\n" for t, v in zip(times, values, strict=True)]
            lines[rows // 2 : rows // 2] = lines[rows // 2 - 3 : rows // 2]
            file = folder / "data" / f"{name}.csv"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("timestamp,value\n" + "".join(lines))
            ends = (str(times[i].astype("datetime64[us]")).replace("T", " ") for i in (begin, end - 1))
            windows[f"{name}.csv"] = [list(ends)]
        (folder / "labels").mkdir(parents=True, exist_ok=True)
        (folder / WINDOWS).write_text(json.dumps(windows, indent=4))

    def _files(self) -> list[str]:
        return [*(f"data/{name}.csv" for name in self.subset), WINDOWS]

    def _path(self, name: str) -> Path:
        return Path(self.root) / name

    def _file(self, name: str) -> Path:
        file = self._path(f"data/{name}.csv")
        if not file.is_file():
            there = sorted((f"{p.parent.name}/{p.stem}" for p in self._path("data").glob("*/*.csv")), key=natural)
            found = f"it holds {', '.join(there)}" if there else "no NAB file is there"
            raise DataError(f"{file}: no such file ({found}) -> pmx data fetch nab, or set source.root and source.subset")
        return file

    def _windows(self) -> dict[str, list[list[str]]]:
        file = self._path(WINDOWS)
        try:
            windows = json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"{file}: {error.strerror} -> pmx data fetch nab, or set source.root") from None
        except ValueError as error:
            raise DataError(f"{file}: {error} -> take the file from its home") from None
        if not isinstance(windows, dict):
            raise DataError(f"{file}: no map of file names to windows -> take the file from its home")
        return windows


def _of(windows: dict[str, list[list[str]]], name: str, file: Path) -> list[tuple[int, int]]:
    """The windows of one series in microseconds since 1970; a series without any has an empty list of its own."""
    found = windows.get(f"{name}.csv")
    if found is None:
        raise DataError(f"{file}: {name}.csv has no entry, not even an empty one -> correct the name, or add its windows")
    if not isinstance(found, list) or not all(isinstance(w, list) and list(map(type, w)) == [str, str] for w in found):
        raise DataError(f"{file}, {name}.csv: its windows are no list of [begin, end] -> take the file from its home")
    text = pl.DataFrame(found, schema={"begin": pl.String, "end": pl.String}, orient="row")
    times = text.select(microseconds(pl.col(n)).alias(n) for n in text.columns).rows()
    for written, (begin, end) in zip(found, times, strict=True):
        if begin is None or end is None or end < begin:
            raise DataError(
                f"{file}, {name}.csv: {shown(str(written), 80)} is no window -> write [begin, end], such as 2014-01-31 23:55:00"
            )
    return times


def _contract(tick: float) -> Contract:
    return Contract((Channel("value", "-"),), life_unit="min", clock="calendar", tick=tick)


def _step(tables: list[pl.DataFrame]) -> tuple[float, tuple[str, ...]]:
    """Minutes from one reading to the next, the median over a file's rows and the longest over files; and a note where they differ."""
    steps = {}
    for table in tables:
        gaps = table.select(microseconds(pl.col("time")).diff().alias("gap")).filter(pl.col("gap") > 0)["gap"].to_numpy()
        if len(gaps):  # a file without two times in order is left to the contract
            steps[table["asset"][0]] = float(np.median(gaps)) // SECOND * SECOND / MINUTE
    longest = min(max([TICKS[0], *steps.values()]) if steps else 5.0, TICKS[1])
    told = ", ".join(f"{name} every {step:g}" for name, step in steps.items())
    what = f"readings come at different steps ({told} minutes); a tick of {longest:g} keeps the last reading in it"
    return longest, (f"{what}: load the files apart, or set source.tick",) if len(set(steps.values())) > 1 else ()


def _read(file: Path, asset: str) -> pl.DataFrame:
    """The raw rows of one file."""
    lines = cells_of(file, ",")
    header = ["time" if c == "timestamp" else c for c in (lines[0][1] if lines else [])]
    twice = sorted({n for n in header if header.count(n) > 1})
    if twice:
        raise DataError(f"{file}, first line: column {twice[0]!r} appears twice -> keep one")
    _contract(TICKS[0]).require(["asset", *header], str(file))
    return table_of(file, asset, lines[1:], header)
