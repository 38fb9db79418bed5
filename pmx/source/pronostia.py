"""PRONOSTIA (FEMTO-ST, challenge of IEEE PHM 2012): ball bearings that are overloaded until they fail, within hours.

Nectoux, Gouriveau, Medjaher, Ramasso, Chebel-Morello, Zerhouni, Varnier: PRONOSTIA, An Experimental Platform for Bearings
Accelerated Degradation Tests, IEEE PHM 2012. Every 10 s a file `Learning_set/Bearing1_1/acc_00001.csv` holds 0.1 s of the horizontal
and the vertical acceleration in g at 25.6 kHz; lines are hour, minute, second, microsecond and the two values, without a header,
separated by `,` or, for some bearings, by `;`. Beside them `temp_00001.csv` and so on hold hour, minute, second, tenth of a second
and a temperature at 10 Hz; some bearings have none. A run ends when the acceleration reaches 20 g. `Test_set` holds runs that are cut
before, `Full_Test_Set` the same runs whole.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

from pmx.contract import Channel, Contract, DataError, UsageError, refusal_text, shown
from pmx.source import History, Reduction, Source, Waves
from pmx.source.episodes import no_events, title
from pmx.source.lines import natural
from pmx.source.wave import tick_rows

PERIOD = 10.0  # s between snapshots
DAY = 86_400.0  # s
LEARNING, CUT, FULL = "Learning_set", "Test_set", "Full_Test_Set"
CONDITIONS = {"1": (1800.0, 4000.0), "2": (1650.0, 4200.0), "3": (1500.0, 5000.0)}  # rpm and N, by the first digit of a bearing's name
# Life left in s at the end of each cut run, as the challenge published it. Left out: 339 s for 1_4, whose whole run goes on for 2,890 s.
LEFT = {
    "1_3": 5730.0, "1_5": 1610.0, "1_6": 1460.0, "1_7": 7570.0, "2_3": 7530.0,
    "2_4": 1390.0, "2_5": 3090.0, "2_6": 1290.0, "2_7": 580.0, "3_3": 820.0,
}  # fmt: skip
WAVES = ("horizontal", "vertical")
TAGS = (Channel("speed", "rpm", "setting", 0.0, 3000.0), Channel("force", "N", "setting", 0.0, 10_000.0), Channel("temperature", "°C"))
BLOCK = 128  # snapshots that are in memory at once
DRIFT = 0.01  # share by which an asset's clock may differ from its numbers before somebody is told


@dataclass(frozen=True)
class Run:
    """The files of one bearing.

    Attributes:
        bearing: such as `1_3`.
        snapshots: number -> file, by number; the number counts periods of 10 s.
        temperatures: files, by number.

    Example:
        >>> Run("1_3", {1: Path("acc_00001.csv"), 3: Path("acc_00003.csv")}, []).end
        30.0
    """

    bearing: str
    snapshots: dict[int, Path]
    temperatures: list[Path]

    @property
    def asset(self) -> str:
        return f"Bearing{self.bearing}"

    @property
    def end(self) -> float:
        """Time of the last snapshot, in s: the numbers count, as the published lives do."""
        return max(self.snapshots) * PERIOD


class Pronostia(Source):
    """Bearings of PRONOSTIA run to failure; the source brings its own test part. Life in seconds, a tick is a snapshot of every 10 s.

    A whole run ends with its failure. A cut one fails as much later as its whole run lasts, where that lies beside it, else as much
    as was published; where neither is known, its life is censored. A snapshot that lacks samples is missing.

    Args:
        root: the folder that holds `Learning_set` and the others, or a folder of each.
        snapshot: reduces the waveforms.
        subset: bearings such as `1_1`, one or a list; None = all under `root`.
        test: the test part, `Test_set` (cut) or `Full_Test_Set` (whole).

    Example:
        >>> from pmx.feature.kernel import TrailingMean
        >>> from pmx.feature.snapshot import Snapshot
        >>> Pronostia("missing", Snapshot([TrailingMean(2560)], samples=2560, rate=25_600.0)).test
        'Test_set'
    """

    terms = "none stated with the files; a citation of Nectoux et al. 2012 is asked for"

    def __init__(self, root: str, snapshot: Reduction, subset: str | list[str] | None = None, test: str = CUT) -> None:
        self.root, self.snapshot, self.test = root, snapshot, test
        self.subset = [subset] if isinstance(subset, str) else subset
        if test not in (CUT, FULL):
            raise UsageError(f"source.test is {shown(test)!r} -> choose from {CUT}, {FULL}")
        wrong = [b for b in self.subset or () if not re.fullmatch(r"[1-9]_[1-9][0-9]*", b)]
        if wrong or (self.subset is not None and (not self.subset or len(set(self.subset)) < len(self.subset))):
            raise UsageError(f"source.subset is {self.subset}: name bearings such as 1_1, each of them once; null = all")

    @property
    def waves(self) -> tuple[Channel, ...]:
        """The wave channels, in g."""
        return tuple(Channel(name, "g", rate=self.snapshot.rate) for name in WAVES)

    @property
    def contract(self) -> Contract:
        return Contract((*TAGS, *self.snapshot.channels(self.waves)), life_unit="s", clock="life", tick=PERIOD)

    def load(self) -> History:
        contract, digest, notes = self.contract, hashlib.sha256(), []
        learning, tested = self._runs(LEARNING), self._runs(self.test)
        whole = {r.bearing: r.end for r in self._runs(FULL)} if tested else {}
        self._refuse_lost([*learning, *tested])
        rows, events = [], []
        for run in [*learning, *tested]:
            clock = []
            for block, seconds in _blocks(run, self.snapshot.samples, digest):
                rows.append(tick_rows(Waves(block.lazy(), self.waves, self.snapshot)))
                clock += seconds
            notes += _drift(run, np.array(clock))
            end = run.end if run in learning or self.test == FULL else whole.get(run.bearing) or run.end + LEFT.get(run.bearing, np.nan)
            if np.isnan(end):
                notes.append(f"{run.asset}: nobody published when it failed, so its life counts as censored")
            elif end < run.end:
                raise DataError(f"{run.asset}: cut at {run.end:g} s, but {FULL} ends at {end:g} s -> take both from the same archive")
            else:
                events.append((run.asset, end, "failure", end))
        return History(
            "pronostia" if self.subset is None else title("pronostia", self.subset),
            contract,
            pl.concat(rows).lazy(),
            pl.DataFrame(events, schema=no_events(contract).schema, orient="row"),
            frozenset(r.asset for r in tested) or None,
            digest.hexdigest(),
            "bearings",
            groups={r.asset: f"condition {r.bearing[0]}" for r in [*learning, *tested]},
            notes=tuple(notes),
            waves=Waves(_lazily([*learning, *tested], self.snapshot.samples), self.waves, self.snapshot),
        )

    def write_miniature(
        self, folder: Path, learning: str = "1_1 1_2 2_1", tested: str = "1_3", snapshots: int = 60, samples: int = 256, seed: int = 0
    ) -> None:
        """A small archive in the raw format, for tests: noise that grows towards failure, on bearings that begin before midnight.

        `Bearing1_2` is separated by `;`, `Bearing2_1` has no temperatures, and each tested run lies in `Full_Test_Set` too.
        """
        rng = np.random.default_rng(seed)
        for bearing in [*learning.split(), *tested.split()]:
            life = int(rng.integers(snapshots - snapshots // 6, snapshots + snapshots // 6 + 1))
            cut = life if bearing in learning.split() else round(life * rng.uniform(0.5, 0.8))
            begin = DAY - 200 + rng.uniform(0, 100)
            texts = _miniature(rng, begin, life, samples, self.snapshot.rate, ";" if bearing == "1_2" else ",")
            sets = {LEARNING: life} if bearing in learning.split() else {CUT: cut, FULL: life}
            for name, count in sets.items():
                place = folder / name / f"Bearing{bearing}"
                place.mkdir(parents=True, exist_ok=True)
                for number, text in enumerate(texts[:count], 1):
                    (place / f"acc_{number:05}.csv").write_text(text)
                for minute in range(0 if bearing == "2_1" else count // 6):
                    at = begin + 60 * minute + np.arange(600) / 10
                    lines = [f"{_clock(t)},{round(t * 10) % 10},{65 + 0.01 * (t - begin):.3f}\n" for t in at]
                    (place / f"temp_{minute + 1:05}.csv").write_text("".join(lines))

    def _runs(self, name: str) -> list[Run]:
        """The chosen bearings of a set, in the order of their numbers."""
        root = Path(self.root)
        found = [d for d in (root / name, *sorted(root.glob(f"*/{name}"))) if d.is_dir()][:1]
        runs = []
        for place in sorted((p for d in found for p in d.glob("Bearing*")), key=lambda p: natural(p.name)):
            bearing = place.name.removeprefix("Bearing")
            if self.subset is None or bearing in self.subset:
                runs.append(Run(bearing, _numbered(place, "acc"), list(_numbered(place, "temp").values())))
                if bearing[0] not in CONDITIONS:
                    raise DataError(f"{place}: nobody states its speed and force -> bearings begin with {', '.join(CONDITIONS)}")
                if not runs[-1].snapshots:
                    raise DataError(f"{place}: no snapshot is there -> its files are called acc_00001.csv and so on")
        return runs

    def _refuse_lost(self, runs: list[Run]) -> None:
        lost = [b for b in self.subset or () if b not in {r.bearing for r in runs}]
        if lost or not runs:
            what = f"no Bearing{lost[0]}" if lost else "no bearing"
            there = f" (there are {', '.join(r.bearing for r in runs)})" if runs else ""
            how = "put the files there by hand, or set source.root and source.subset"
            raise DataError(f"{Path(self.root)}: {what} in {LEARNING} or {self.test}{there} -> {how}")


def _numbered(place: Path, kind: str) -> dict[int, Path]:
    """The files of a kind by the number in their name, in its order."""
    found: dict[int, Path] = {}
    for file in sorted(place.iterdir()):
        if name := re.fullmatch(kind + r"_(\d+)\.csv", file.name):
            if int(name[1]) in found or int(name[1]) < 1:
                raise DataError(f"{file}: its number is that of {found.get(int(name[1]), 'none')} -> numbers begin at 1; keep one of each")
            found[int(name[1])] = file
    return dict(sorted(found.items()))


def _schema(samples: int) -> dict[str, pl.DataType]:
    plain: dict[str, pl.DataType] = {"file": pl.String(), "row": pl.Int64(), "asset": pl.String(), "time": pl.Float64()}
    return plain | {c.name: pl.Float64() for c in TAGS} | {name: pl.Array(pl.Float32, samples) for name in WAVES}


def _lazily(runs: list[Run], samples: int) -> pl.LazyFrame:
    """The waveforms of these runs, read again from their files whenever they are asked for, a block at a time."""

    def read(columns: list[str] | None, predicate: pl.Expr | None, rows: int | None, size: int | None) -> Iterator[pl.DataFrame]:
        for run in runs:
            if predicate is not None and predicate.meta.root_names() == ["asset"] and not _asked(run, predicate):
                continue
            for block, _ in _blocks(run, samples):
                block = block if predicate is None else block.filter(predicate)
                block = block if rows is None else block.head(rows)
                rows = rows if rows is None else rows - len(block)
                yield block if columns is None else block.select(columns)
                if rows == 0:
                    return

    return register_io_source(read, schema=_schema(samples))


def _asked(run: Run, predicate: pl.Expr) -> bool:
    return bool(pl.DataFrame({"asset": [run.asset]}).filter(predicate).height)


def _blocks(run: Run, samples: int, digest: hashlib._Hash | None = None) -> Iterator[tuple[pl.DataFrame, list[float]]]:
    """Snapshots of a run as in `Waves.rows`, and the time of day in s at which each begins."""
    warm_at, warm = _temperatures(run, digest)
    numbers = list(run.snapshots)
    now, before = np.nan, numbers[0]
    speed, force = CONDITIONS[run.bearing[0]]
    for begin in range(0, len(numbers), BLOCK):
        own = numbers[begin : begin + BLOCK]
        waves, seconds = np.full((len(own), len(WAVES), samples), np.nan, np.float32), []
        for k, number in enumerate(own):
            raw = run.snapshots[number].read_bytes()
            if digest is not None:
                digest.update(raw)
            table = _table(raw, run.snapshots[number], 6)
            if len(table) > samples:
                told = f"{len(table):,} samples, a snapshot has {samples:,}"
                raise DataError(f"{run.snapshots[number]}: {told} -> set source.snapshot.samples and the kernels' windows")
            waves[k, :, : len(table)] = table[:, 4:].T
            begun = float(_seconds(table)[0] + table[0, 3] / 1e6) if len(table) else np.nan
            now = _on_clock(begun, now, (number - before) * PERIOD)
            seconds.append(now)
            before = number
        at = np.array(seconds)
        tags = {"speed": [speed] * len(own), "force": [force] * len(own), "temperature": _mean_before(at, warm_at, warm)}
        place = {"file": [str(run.snapshots[n]) for n in own], "row": [1] * len(own), "asset": [run.asset] * len(own)}
        columns = place | {"time": np.array(own) * PERIOD} | tags | {n: waves[:, i] for i, n in enumerate(WAVES)}
        yield pl.DataFrame(columns, schema=_schema(samples)), seconds


def _on_clock(told: float, before: float, passed: float) -> float:
    """A time of day in s, after midnight a day more: the one nearest to what passed since the snapshot before. NaN: none was told."""
    if np.isnan(before):
        return told
    expected = before + passed
    return expected if np.isnan(told) else told + DAY * round((expected - told) / DAY)


def _seconds(table: np.ndarray) -> np.ndarray:
    """Time of day in whole s of lines that begin with hour, minute and second, float64 [row]."""
    return table[:, 0] * 3600 + table[:, 1] * 60 + table[:, 2]


def _temperatures(run: Run, digest: hashlib._Hash | None) -> tuple[np.ndarray, np.ndarray]:
    """Times of day in s, those after midnight a day later, and temperatures in °C, float64 [reading]; both empty where there are none."""
    at, values = [np.empty(0)], [np.empty(0)]
    for file in run.temperatures:
        raw = file.read_bytes()
        if digest is not None:
            digest.update(raw)
        table = _table(raw, file, 5)
        at.append(_seconds(table) + table[:, 3] / 10)
        values.append(table[:, 4])
    told = np.concatenate(at)
    steps = np.diff(told, prepend=told[:1])  # not np.unwrap: its sums are rounded, and move readings over the edge of a period
    return told + DAY * np.cumsum((steps < -DAY / 2).astype(int) - (steps > DAY / 2)), np.concatenate(values)


def _mean_before(at: np.ndarray, told: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean of the values of the period up to each of these times, none later, float64 [time]; NaN where there are none."""
    if not len(told):
        return np.full(len(at), np.nan)
    told = told + DAY * np.round((np.nanmin(at) - told[0]) / DAY) if abs(np.nanmin(at) - told[0]) > DAY / 2 else told
    seen = ~np.isnan(values)
    total, count = (np.concatenate([[0.0], np.cumsum(x)]) for x in (np.where(seen, values, 0.0), seen))
    begin, end = np.searchsorted(told, at - PERIOD, side="right"), np.searchsorted(told, at, side="right")
    found = count[end] - count[begin]
    return np.divide(total[end] - total[begin], found, out=np.full(len(at), np.nan), where=found > 0)


def _drift(run: Run, at: np.ndarray) -> list[str]:
    """What to say where a bearing's clock contradicts the numbers of its files."""
    told, counted = float(at[-1] - at[0]), (max(run.snapshots) - min(run.snapshots)) * PERIOD
    if not abs(told - counted) > max(DRIFT * counted, PERIOD):
        return []
    return [
        f"{run.asset}: its clock counts {told:,.0f} s from the first snapshot to the last, the numbers of its files {counted:,.0f} s; they count"
    ]


def _table(raw: bytes, file: Path, width: int) -> np.ndarray:
    """The numbers of a file without a header, float64 [row, column]; what a line lacks is NaN, but not its time."""
    first = raw.partition(b"\n")[0]
    separator = ";" if b";" in first else ","
    names = [str(i) for i in range(width)]
    try:
        table = pl.read_csv(
            io.BytesIO(raw), has_header=False, schema=dict.fromkeys(names, pl.Float64), separator=separator, raise_if_empty=False
        ).to_numpy()
    except pl.exceptions.PolarsError:
        table = np.full((1, width), np.nan)  # the lines below tell which one is wrong
    if np.isnan(table[:, : min(width - 1, 4)]).any() or first.count(separator.encode()) != width - 1 and len(table):
        raise _refused(raw, file, width, separator)
    return table


def _refused(raw: bytes, file: Path, width: int, separator: str) -> DataError:
    """What is wrong with a file, line by line."""
    lines = []
    for number, line in enumerate(raw.decode("utf-8", errors="replace").splitlines(), 1):
        cells = line.split(separator)
        wrong = [c.strip() for c in cells if not re.fullmatch(r"\s*[+-]?[0-9]*\.?[0-9]*(?:[eE][+-]?[0-9]+)?\s*", c)]
        if wrong:
            lines.append(f"  row {number}: {shown(wrong[0])!r} is not a number -> correct it, or leave the file out")
        elif len(cells) != width:
            lines.append(f"  row {number}: {len(cells)} values, expected {width} -> correct the line, or leave the file out")
    more = [f"  ... and {len(lines) - 8} more rows"] if len(lines) > 8 else []
    return DataError(refusal_text(str(file), max(1, len(lines)), lines[:8] + more or ["  no time of day in a row -> leave the file out"]))


def _miniature(rng: np.random.Generator, begin: float, life: int, samples: int, rate: float, separator: str) -> list[str]:
    """The text of each snapshot of a made-up bearing."""
    texts = []
    for k in range(life):
        t, worn = begin + k * PERIOD, (k / life) ** 4
        values = (0.5 + 3 * worn) * rng.normal(size=(samples, 2)) + 8 * worn * (rng.random((samples, 1)) < 0.01)
        stamps = [f"{_clock(at)},{int(at % 1 * 1e6)}" for at in (t + np.arange(samples) / rate).tolist()]
        lines = [f"{s},{h:.3f},{v:.3f}\n" for s, (h, v) in zip(stamps, values, strict=True)]
        texts.append("".join(lines).replace(",", separator))
    return texts


def _clock(t: float) -> str:
    """Hour, minute and second of a time in s, after midnight from zero again."""
    second = int(t % DAY)
    return f"{second // 3600},{second // 60 % 60},{second % 60}"
