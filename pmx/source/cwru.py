"""CWRU: ball bearings of a motor with seeded faults; accelerations at 12 or 48 kHz, cut into snapshots.

Case Western Reserve University Bearing Data Center; critique and figures in Smith, Randall: Rolling element bearing diagnostics
using the Case Western Reserve University data, Mechanical Systems and Signal Processing 64-65, 2015. Files are MATLAB 5, in folders
such as `12k_Drive_End/OR/007/@6/130@6_0.mat`: record, kind of fault, its diameter in mils, for the outer race its clock position,
and behind the file's number the motor load in hp; or under any name that tells as much, such as the plain number of a file's home
(`cwru_names`). A variable is called `X130_DE_time` (acceleration in g) or `X130RPM`. The files
of the healthy bearing are sampled at 48 kHz, whatever the record beside them: undecimated, a classifier learns the sampling rate.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from scipy.signal import firwin, resample_poly

from pmx.contract import Channel, Contract, DataError, UsageError, shown
from pmx.source import History, Reduction, Source, Waves
from pmx.source.cwru_names import NORMAL, named
from pmx.source.download import recorded
from pmx.source.episodes import HEALTHY, episode_table, fault_table, no_events, title
from pmx.source.lines import natural
from pmx.source.matlab import variables
from pmx.source.wave import tick_rows

SHA256 = {
    "12k_Drive_End/B/007/118_0.mat": "b00628f8dd8d1d930af77fa465d1e5cdb385fe259489053f91f3680bda7f640e",
    "12k_Drive_End/B/007/120_2.mat": "e0b7a584c49af52335ff0904a97d4afcf02d045625c582de63a7c85ce10b489c",
    "12k_Drive_End/IR/007/105_0.mat": "f80b0ea04fd06b372a0eaec7c056543ea37e4bb4727a5b173d2a5bacd2aa9cab",
    "12k_Drive_End/IR/007/107_2.mat": "111ba8996a115684661a13c913bd74d8029a59294492f88aec7b03e175fdd388",
    "12k_Drive_End/OR/007/@6/130@6_0.mat": "35a095307d0971477049b343a1b5981dde465a58fb7f233ad89b035068c1717d",
    "12k_Drive_End/OR/007/@6/132@6_2.mat": "17a69ed5d2270b42532e678e35bbe2fa04a2cc413cf2bf9e88c7692de8662d18",
    "Normal/97_Normal_0.mat": "16bf48babcf1c7ac224bc1a81cd9eafdb27e42d5cf559761907e067e8eeadf3c",
}
NORMAL_RATE = 48_000.0  # Hz
RECORDS = {"12k_Drive_End": 12_000.0, "12k_Fan_End": 12_000.0, "48k_Drive_End": 48_000.0}  # Hz
SENSORS = {"drive_end": "DE", "fan_end": "FE", "base": "BA"}
FAULTS = {"B": "ball", "IR": "inner race", "OR": "outer race"}
RPM = {0: 1797.0, 1: 1772.0, 2: 1750.0, 3: 1730.0}  # by motor load, where a file does not say
SPEED = Channel("speed", "rpm", "setting", 0.0, 3600.0)
PARTS = {"normal-fit": 0.4, "normal-limits": 0.25, "normal-test": 0.35}  # shares of each healthy file, one after the other
PASS, TAPS = 0.45, 255  # of the rate that is left; the filter is down by 50 dB before the new Nyquist frequency
HELD_OUT = ("faults", "bearings", "loads")


@dataclass(frozen=True)
class Recording:
    """One file: which bearing it shows, at which load.

    Attributes:
        file: its path.
        bearing: kind, diameter in mils and position of the fault, such as `OR007@6`; `normal` without one.
        kind: `normal`, or the fault's kind: `B`, `IR` or `OR`.
        load: of the motor, in hp.
        number: of the file, which its variables repeat.
        rate: of sampling, in Hz.

    Example:
        >>> Recording(Path("130@6_0.mat"), "OR007@6", "OR", load=0, number=130, rate=12_000.0).physical
        'OR007'
    """

    file: Path
    bearing: str
    kind: str
    load: int
    number: int
    rate: float

    @property
    def physical(self) -> str:
        """The bearing without the clock position of its fault: a turned bearing is still the same one."""
        return self.bearing.partition("@")[0]


class Cwru(Source):
    """Bearings of the CWRU test stand: healthy ones to fit and to set limits, and faulty ones as labelled episodes.

    An asset is a bearing, whatever the load: its files follow each other by load, with one empty tick between them. A tick is a
    snapshot, reduced to tick channels. Each healthy file is cut into three runs, one after the other: 40 % is fitted on, 25 % sets
    limits, 35 % is tested. A fault is there from the first snapshot on.

    What is tested beside the healthy run is a choice: `faults`, all of them, and none is fitted on; `bearings`, the last one of each kind
    of fault, by name, and its others teach the kind; `loads`, each bearing at its highest load, and the other loads teach its kind: then
    an asset is a bearing at a load, and the same bearings stand on both sides, so that nothing is said of the next one.

    Args:
        root: the folder that holds `Normal` and `12k_Drive_End`, longer names that begin so will do; or the files as they are called at
            their home, such as `97.mat` and `105.mat`, whose numbers tell bearing, load and record.
        snapshot: cuts and reduces the waveforms; files are decimated to its rate.
        subset: bearings such as `B007` or `OR021@3`, one or a list; None = all under `root`.
        record: `12k_Drive_End`, `12k_Fan_End` or `48k_Drive_End`.
        sensors: of `drive_end`, `fan_end` and `base`; what a file lacks is missing.
        held_out: `faults`, `bearings` or `loads`.

    Example:
        >>> from pmx.feature.kernel import TrailingMean
        >>> from pmx.feature.snapshot import Snapshot
        >>> Cwru("missing", Snapshot([TrailingMean(1024)], samples=1024, rate=12_000.0), subset="B007").subset
        ['B007']
    """

    terms = "none stated by the Case Western Reserve University Bearing Data Center; it asks to be named as the source"

    def __init__(
        self,
        root: str,
        snapshot: Reduction,
        subset: str | list[str] | None = None,
        record: str = "12k_Drive_End",
        sensors: tuple[str, ...] | list[str] = ("drive_end", "fan_end"),
        held_out: str = "faults",
    ) -> None:
        if held_out not in HELD_OUT:
            raise UsageError(f"source.held_out is {shown(held_out)!r} -> choose from {', '.join(HELD_OUT)}")
        self.held_out = held_out
        self.root, self.snapshot, self.record, self.sensors = root, snapshot, record, tuple(sensors)
        self.subset = [subset] if isinstance(subset, str) else subset
        if record not in RECORDS:
            raise UsageError(f"source.record is {shown(record)!r} -> choose from {', '.join(RECORDS)}")
        if not self.sensors or set(self.sensors) - set(SENSORS) or len(set(self.sensors)) < len(self.sensors):
            raise UsageError(f"source.sensors is {list(sensors)} -> one or more of {', '.join(SENSORS)}, each of them once")
        if self.subset is not None and (not self.subset or len(set(self.subset)) < len(self.subset)):
            raise UsageError(f"source.subset is {self.subset}: name at least one bearing, and each of them once; null = all")

    @property
    def waves(self) -> tuple[Channel, ...]:
        """The wave channels, in g."""
        return tuple(Channel(name, "g", rate=self.snapshot.rate) for name in self.sensors)

    @property
    def contract(self) -> Contract:
        """What the snapshots make of them, and the speed; life counts in seconds of recording."""
        tick = self.snapshot.samples / self.snapshot.rate
        return Contract((SPEED, *self.snapshot.channels(self.waves)), life_unit="s", clock="life", tick=tick)

    def recordings(self) -> list[Recording]:
        """The files of the healthy bearing and of the chosen ones, by bearing and load."""
        folder, found = Path(self.root), []
        healthy = sorted(f for d in sorted(folder.glob("Normal*")) for f in d.glob("*.mat"))
        found = [r for f in healthy if (r := _recording(f, (), NORMAL_RATE) or self._named(f))]
        for below in sorted(folder.glob(f"{self.record}*")):
            files = sorted(below.rglob("*.mat"), key=lambda f: natural(str(f)))
            folders = ((f, f.relative_to(below).parts[:-1]) for f in files)
            found += [r for f, parts in folders if (r := _recording(f, parts, RECORDS[self.record]) or self._named(f))]
        found += [r for f in sorted(folder.glob("*.mat"), key=lambda f: natural(f.name)) if (r := self._named(f))]
        found = list({(r.bearing, r.load, r.number): r for r in reversed(found)}.values())  # a file that lies there twice counts once
        there = sorted({r.bearing for r in found if r.kind != NORMAL}, key=natural)
        lost = sorted(set(self.subset or ()) - set(there))
        if not there or lost or not any(r.kind == NORMAL for r in found):
            what = (
                f"no file of {', '.join(map(shown, lost))}" if lost else f"no file of {self.record}, by folder or number, or none of Normal"
            )
            held = f" (it holds {', '.join(there)})" if there else ""
            raise DataError(f"{folder}: {what}{held} -> put the files there by hand, or set source.root, source.record and source.subset")
        chosen = [r for r in found if r.kind == NORMAL or self.subset is None or r.bearing in self.subset]
        return sorted(chosen, key=lambda r: (r.kind != NORMAL, natural(r.bearing), r.load, r.number))

    def load(self) -> History:
        contract, digest = self.contract, hashlib.sha256()
        files = self.recordings()
        pieces: list[pl.DataFrame] = []
        for recording in files:
            raw = recording.file.read_bytes()
            digest.update(raw)
            pieces += self._pieces(recording, raw)
        waves = Waves(_on_one_clock(pieces, contract.tick).lazy(), self.waves, self.snapshot)
        rows = tick_rows(waves)
        of = {self._asset(r): r for r in files if r.kind != NORMAL}
        tested = self._tested(of)
        spans = rows.group_by("asset").agg(begin=pl.col("time").min(), end=pl.col("time").max()).sort("asset").rows()
        marked = [(a, b, e, _fault(of[a].bearing, of[a].kind)) for a, b, e in spans if a in tested]
        classes = [(a, b, e, FAULTS[of[a].kind].replace(" ", "_") if a in of else HEALTHY, b) for a, b, e in spans]
        return History(
            "cwru" if self.subset is None else title("cwru", self.subset),
            contract,
            rows.lazy(),
            no_events(contract),
            frozenset([*tested, "normal-test"]),
            digest.hexdigest(),
            "bearings",
            episode_table(contract, marked),
            frozenset(["normal-limits"]),
            {a: r.kind for a, r in of.items()} | dict.fromkeys(PARTS, NORMAL),
            _notes(files, self.held_out),
            waves,
            fault_table(contract, classes),
            {a: r.physical for a, r in of.items()} | dict.fromkeys(PARTS, NORMAL),
        )

    def _named(self, file: Path) -> Recording | None:
        """What the file's own name says, wherever it lies."""
        said = named(file.stem, self.record)
        if said is None:
            return None
        kind = NORMAL if said.bearing == NORMAL else re.split(r"\d", said.bearing)[0]
        return Recording(file, said.bearing, kind, said.load, said.number, NORMAL_RATE if kind == NORMAL else RECORDS[self.record])

    def _asset(self, recording: Recording) -> str:
        return f"{recording.bearing} at load {recording.load}" if self.held_out == "loads" else recording.bearing

    def _tested(self, of: dict[str, Recording]) -> set[str]:
        """Which assets with a fault are tested: all, the last bearing of each kind, or each bearing's highest load."""
        if self.held_out == "faults":
            return set(of)
        by_load = self.held_out == "loads"
        units: dict[str, dict[str, list[str]]] = {}  # what needs two -> each of these, in order -> its assets
        for asset, r in of.items():
            whole, one = (r.bearing, str(r.load)) if by_load else (FAULTS[r.kind], r.physical)
            units.setdefault(whole, {}).setdefault(one, []).append(asset)
        lone = sorted(whole for whole, ones in units.items() if len(ones) < 2)
        if lone:
            what, other = ("load", "bearings or faults") if by_load else ("bearing", "loads or faults")
            raise DataError(
                f"source.held_out={self.held_out}: only one {what} of {', '.join(lone)} -> source.held_out={other}, or more files"
            )
        return {asset for ones in units.values() for asset in list(ones.values())[-1]}

    def published(self) -> dict[str, bool]:
        known, folder = recorded(Path(self.root)) | SHA256, Path(self.root)
        there = [n for n in known if n.startswith((self.record, "Normal")) and (folder / n).is_file()]
        return {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() == known[n] for n in there}

    def write_miniature(
        self, folder: Path, seconds: float = 4.0, faults: str = "B007 IR007 OR007@6", loads: str = "02", seed: int = 0
    ) -> None:
        """A small archive in the raw format, for tests: a shaft's hum and noise; each fault adds ringing at a rate of its own."""
        from scipy.io import savemat

        rng, number, ringing = np.random.default_rng(seed), 97, {"B": 4.7, "IR": 5.4, "OR": 3.6}
        for bearing in ["Normal", *faults.split()]:
            part = re.fullmatch(r"([A-Z]+)(\d{3})(@\d+)?", bearing)
            for load in loads if part else loads[:1]:
                rate, turns = RECORDS[self.record] if part else NORMAL_RATE, RPM[int(load)] / 60
                t = np.arange(round(seconds * rate)) / rate
                name = f"{number}{(part[3] or '') if part else '_Normal'}_{load}.mat"
                file = folder / "Normal" / name
                if part:
                    file = folder / self.record / part[1] / part[2] / (part[3] or "") / name
                since = np.mod(t, 1 / (ringing[part[1]] * turns)) if part else t + 1
                values = 0.05 * np.sin(2 * np.pi * turns * t) + 0.05 * rng.normal(size=len(t))
                values += int(part[2]) / 7 * np.exp(-800 * since) * np.sin(2 * np.pi * 3000 * since) if part else 0.0
                file.parent.mkdir(parents=True, exist_ok=True)
                signals = {f"X{number:03}_{SENSORS[s]}_time": (values / (1 + i))[:, None] for i, s in enumerate(self.sensors)}
                speed = {f"X{number:03}RPM": np.array([[RPM[int(load)]]])} if load == "0" else {}
                savemat(file, signals | speed, do_compression=load != "0")
                number += 1

    def _pieces(self, recording: Recording, raw: bytes) -> Iterator[pl.DataFrame]:
        """The snapshots of a file: `file`, `row` (1 = the first snapshot), `asset`, `speed` and a column per sensor; of a healthy file a
        piece for each of its parts.
        """
        found, size = variables(raw, recording.file), self.snapshot.samples
        signals = {s: _signal(found, f"_{SENSORS[s]}_time", recording) for s in self.sensors}
        held = {s: decimated(x, recording, self.snapshot.rate) for s, x in signals.items() if x is not None}
        if not held:
            names = shown(", ".join(found), 200)
            raise DataError(f"{recording.file}: no signal of {', '.join(self.sensors)} (it holds {names}) -> set source.sensors")
        count = min(len(x) for x in held.values()) // size
        if count < (len(PARTS) + 1 if recording.kind == NORMAL else 1):
            told = f"{count} snapshots of {size} samples at {self.snapshot.rate:g} Hz"
            raise DataError(f"{recording.file}: {told} are too few -> shorten source.snapshot.samples, or take the whole file")
        speed = _signal(found, "RPM", recording)
        rpm = float(speed[0]) if speed is not None and len(speed) else RPM.get(recording.load, np.nan)
        columns = {s: _cut(held.get(s), count, size) for s in self.sensors}
        table = pl.DataFrame(
            {"file": [str(recording.file)] * count, "row": np.arange(1, count + 1), "speed": np.full(count, rpm)}
            | {s: pl.Series(c, dtype=pl.Array(pl.Float32, size)) for s, c in columns.items()}
        )
        ends = np.round(np.cumsum(list(PARTS.values())) * count).astype(int).tolist()
        cuts = zip(PARTS, [0, *ends], ends, strict=False) if recording.kind == NORMAL else [(self._asset(recording), 0, count)]
        for asset, begin, end in cuts:
            yield table[begin:end].select("file", "row", pl.lit(asset).alias("asset"), "speed", *self.sensors)


def _recording(file: Path, folders: tuple[str, ...], rate: float) -> Recording | None:
    """What a file's place says of it; None where it is no recording of a bearing."""
    name = re.fullmatch(r"(\d+)(?:@\d+)?(?:_Normal)?_(\d)", file.stem, re.IGNORECASE)
    if not name:
        return None
    number, load = int(name[1]), int(name[2])
    if not folders:
        return (
            Recording(file, NORMAL, NORMAL, load, number, rate) if rate == NORMAL_RATE and file.parent.name.startswith("Normal") else None
        )
    if len(folders) not in (2, 3):
        return None
    kind, size, *position = folders
    if kind not in FAULTS or not re.fullmatch(r"\d{3}", size):
        return None
    return Recording(file, kind + size + "".join(position), kind, load, number, rate)


def _signal(found: dict[str, np.ndarray], ending: str, recording: Recording) -> np.ndarray | None:
    """The variable of this file that ends so; None where there is none. Some files carry another file's variables beside their own."""
    named = [n for n in found if re.fullmatch(r"X\d+" + ending, n)]
    own = [n for n in named if int(re.findall(r"\d+", n)[0]) == recording.number]
    if len(own or named) > 1:
        told = f"{', '.join(named)}: none of them is number {recording.number}"
        raise DataError(f"{recording.file}: {told} -> rename the variable that belongs to this file")
    return found[(own or named)[0]] if named else None


def decimated(x: np.ndarray, recording: Recording, rate: float) -> np.ndarray:
    """A signal at this rate, float32 [sample], after a linear-phase low-pass that keeps frequencies up to 0.45 of the new rate.

    The filter looks 127 samples of the file ahead, which is a constant delay on a device.
    """
    factor = recording.rate / rate
    if factor != round(factor) or factor < 1:
        told = f"it is sampled at {recording.rate:g} Hz, the snapshot wants {rate:g} Hz"
        raise UsageError(f"{recording.file}: {told} -> set source.snapshot.rate to a whole fraction of it")
    if factor == 1:
        return x.astype(np.float32)
    taps = firwin(TAPS, PASS * rate, fs=recording.rate)
    return resample_poly(x, 1, int(factor), window=taps).astype(np.float32)


def _cut(x: np.ndarray | None, count: int, size: int) -> np.ndarray:
    """Successive snapshots without overlap, float32 [snapshot, sample]; a sensor that the file lacks is missing."""
    return np.full((count, size), np.nan, np.float32) if x is None else np.ascontiguousarray(x[: count * size].reshape(count, size))


def _on_one_clock(pieces: list[pl.DataFrame], tick: float) -> pl.DataFrame:
    """The pieces of each asset one after the other on its own life clock, with an empty tick between two files."""
    begins: dict[str, int] = {}
    timed = []
    for piece in pieces:
        asset = piece["asset"][0]
        begin = begins.get(asset, 0)
        begins[asset] = begin + len(piece) + 1
        time = pl.Series("time", np.arange(begin + 1, begin + len(piece) + 1) * tick)
        timed.append(piece.select("file", "row", "asset", time, pl.exclude("file", "row", "asset")))
    return pl.concat(timed)


def _fault(bearing: str, kind: str) -> str:
    """The fault's name, such as `outer_race_007_at_6`."""
    return FAULTS[kind].replace(" ", "_") + "_" + bearing.removeprefix(kind).replace("@", "_at_")


def _notes(files: list[Recording], held_out: str) -> tuple[str, ...]:
    loads = {r.load for r in files if r.kind == NORMAL}
    other = sorted({r.load for r in files if r.kind != NORMAL} - loads)
    found = [f"{len({r.physical for r in files if r.kind == k})} {FAULTS[k]}" for k in FAULTS if any(r.kind == k for r in files)]
    notes = [f"bearings by kind of fault: {', '.join(found)}, 1 without; folds of a kind need two bearings at least"]
    if other:
        told = ", ".join(map(str, sorted(loads)))
        notes.append(f"the healthy bearing ran at load {told} alone: at load {', '.join(map(str, other))} hp a fault and a load look alike")
    split = {
        "loads": "each bearing is tested at its highest load and teaches at the others: the same bearings stand on both sides",
        "bearings": "the last bearing of each kind of fault is tested, the others teach; the healthy one stands on both sides, cut in three",
    }
    return (*notes, split[held_out]) if held_out in split else tuple(notes)
