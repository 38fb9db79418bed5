"""Azure predictive maintenance: errors, failures and maintenance of a fleet of machines, written down with date and hour.

Microsoft: Predictive Maintenance, the simulated example data of its Azure AI guide, 2015. `PdM_errors.csv`, `PdM_failures.csv`
and `PdM_maint.csv` hold time, machine and what happened; `PdM_machines.csv` machine, model and age in years. Some copies have a
header, others have none. The hourly telemetry that belongs to them is not read.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl

from pmx.contract import Channel, Contract, DataError, UsageError, refusal_text, shown
from pmx.source import History, Source
from pmx.source.admit import microseconds
from pmx.source.lines import cells_of, natural

HOME = "https://github.com/microsoft/AI-PredictiveMaintenance"
SHA256 = {
    "PdM_errors.csv": "8deaacd748a943ffbd757629b6b14ad0132dfe9abdb3a2333e13a8ef28115816",
    "PdM_failures.csv": "4e4b8b6a10f8ccd5589bfc7903113fcbe60334b505d65524b099be4f46ac5a01",
    "PdM_machines.csv": "fe4c7731a12fca66b600331f11b3588b447b0ad15953b5ac148f866ada3b2e24",
    "PdM_maint.csv": "c32568803f0ded877c7e3dd8981db4e330900b563b15f1747665b1907e20cbda",
}
ERRORS, FAILURES, MACHINES, MAINTENANCE = SHA256
TELEMETRY = "PdM_telemetry.csv"
HEADER = ("datetime", "machineid")
KINDS = tuple(f"error{i}" for i in range(1, 6))
CONTRACT = Contract(
    (
        Channel("model", "-", "setting", low=0.0),
        Channel("machine_age", "a", "setting", low=0.0),
        *(Channel(kind, "1/d", low=0.0) for kind in KINDS),
    ),
    life_unit="d",
    clock="calendar",
)
DAY = timedelta(days=1)


class AzurePdm(Source):
    """Machines that are told from their error log alone: how often each error came in a day, age in years and model.

    The reading of a day is taken at its end, so that nothing after it counts. The log is complete: a day without errors has none,
    and counts 0. Readings begin with the first error written down, whatever maintenance was noted before, and end with the last
    day that the log covers whole. A failure ends a life; so does maintenance, as a replacement, unless it is the repair of a
    failure at the same moment. The model becomes the number in its name. Times have no zone and are taken as UTC.

    Args:
        root: the folder that holds the four files.
        subset: machines by number, one or a list; None = all.
        component: such as `comp1`: only its failures and its maintenance end a life; None = those of any component.

    Example:
        >>> AzurePdm(root="missing", component="comp2").component
        'comp2'
    """

    terms = "none stated by Microsoft for the example data of its Azure AI guide"

    def __init__(self, root: str, subset: int | list[int] | None = None, component: str | None = None) -> None:
        self.root, self.component = root, component
        self.subset = [subset] if isinstance(subset, int) else subset
        if self.subset is not None and (not self.subset or len(set(self.subset)) < len(self.subset)):
            raise UsageError(f"source.subset is {self.subset}: name at least one machine, and each of them once")

    def load(self) -> History:
        machines = self._machines()
        errors, failures, repairs = (_log(self._file(name), set(machines["number"])) for name in (ERRORS, FAILURES, MAINTENANCE))
        if not errors.height:
            raise DataError(f"{self._file(ERRORS)}: no error is in it -> take the file from its home; the readings are counts of errors")
        last = pl.concat([errors, failures, repairs]).select(pl.col("time").max()).item()
        first = errors.select(_end_of_day(pl.col("time").min())).item()
        machines = self._chosen(machines)
        rows = _readings(machines, errors, pl.datetime_range(first, last, DAY, time_zone="UTC", time_unit="us", eager=True))
        digest = hashlib.sha256(b"".join(self._file(name).read_bytes() for name in sorted(SHA256)))
        return History(
            " ".join(
                ["azure_pdm", *([f"{len(self.subset)} machines"] if self.subset else []), *([self.component] if self.component else [])]
            ),
            CONTRACT,
            rows.lazy(),
            self._events(failures, repairs, machines),
            test_assets=None,
            digest=digest.hexdigest(),
            noun="machines",
            groups={asset: f"model {model}" for asset, model in machines.select("asset", "model").iter_rows()},
            notes=self._notes(sorted(set(errors["what"]) - set(KINDS))),
        )

    def published(self) -> dict[str, bool]:
        there = [name for name in SHA256 if (Path(self.root) / name).is_file()]
        return {name: hashlib.sha256((Path(self.root) / name).read_bytes()).hexdigest() == SHA256[name] for name in there}

    def fetch(self) -> dict[str, str]:
        raise UsageError(
            f"no home of these files states a digest to hold them by ({HOME} describes them) -> put {', '.join(SHA256)} into {self.root} by hand"
        )

    def write_miniature(self, folder: Path, machines: int = 12, days: int = 200, seed: int = 0) -> None:
        """A small archive in the raw format, for tests: an error of the same number comes the day before a component fails."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, lines in _fleet(np.random.default_rng(seed), machines, days).items():
            (folder / name).write_text("".join(f"{line}\n" for line in lines))

    def _file(self, name: str) -> Path:
        file = Path(self.root) / name
        if not file.is_file():
            there = sorted(p.name for p in Path(self.root).glob("PdM_*.csv")) if Path(self.root).is_dir() else []
            found = f"it holds {', '.join(there)}" if there else "no file of the data set is there"
            raise DataError(f"{file}: no such file ({found}) -> put the four files there by hand, or set source.root")
        return file

    def _notes(self, odd: list[str]) -> tuple[str, ...]:
        """What is there and not looked at."""
        notes = [f"errors of other kinds are not counted: {shown(', '.join(odd), 80)}"] if odd else []
        if (Path(self.root) / TELEMETRY).is_file():
            how = f"pmx new NAME --readings {self.root}/{TELEMETRY} --orders {self.root}/{FAILURES} drafts a card that does"
            notes.append(f"{TELEMETRY} is there and is not read: {how}")
        return tuple(notes)

    def _machines(self) -> pl.DataFrame:
        """`file`, `row`, `number`, `asset`, `model` and `machine_age` (text) of every machine."""
        file = self._file(MACHINES)
        lines = _lines(file, ("machineid", "model", "age"))
        wrong = [
            f"  row {n}: {len(cells)} cells, expected machine, model and age -> correct the line" for n, cells in lines if len(cells) != 3
        ]
        twice = sorted({cells[0] for _, cells in lines if [c[0] for _, c in lines].count(cells[0]) > 1}, key=natural)
        wrong += [f"  machine {shown(name)} is listed twice -> keep one line" for name in twice]
        if wrong:
            raise DataError(refusal_text(str(file), len(wrong), wrong[:8]))
        table = {"row": [n for n, _ in lines], "number": [c[0] for _, c in lines], "kind": [c[1] for _, c in lines]}
        frame = pl.DataFrame({**table, "machine_age": [c[2] for _, c in lines]}, schema_overrides={"row": pl.Int64})
        model = pl.coalesce(pl.col("kind").str.extract("([0-9]+)$"), pl.col("kind")).alias("model")
        return frame.select(
            pl.lit(str(file)).alias("file"),
            "row",
            "number",
            asset=pl.lit("machine ") + pl.col("number"),
            model=model,
            machine_age="machine_age",
        )

    def _chosen(self, machines: pl.DataFrame) -> pl.DataFrame:
        if self.subset is None:
            return machines
        wanted, there = [str(n) for n in self.subset], machines["number"].to_list()
        absent = [n for n in wanted if n not in there]
        if absent:
            raise DataError(
                f"{self._file(MACHINES)}: no machine {', '.join(absent)} (it lists {shown(', '.join(there), 120)}) -> source.subset"
            )
        return machines.filter(pl.col("number").is_in(wanted))

    def _events(self, failures: pl.DataFrame, repairs: pl.DataFrame, machines: pl.DataFrame) -> pl.DataFrame:
        if self.component is not None:
            there = sorted(set(failures["what"]) | set(repairs["what"]), key=natural)
            if self.component not in there:
                raise DataError(f"{self.root}: no component {shown(self.component)!r} in the log ({', '.join(there)}) -> source.component")
            failures, repairs = (log.filter(pl.col("what") == self.component) for log in (failures, repairs))
        planned = repairs.join(failures, on=["number", "time"], how="anti")
        ends = pl.concat([failures.with_columns(event=pl.lit("failure")), planned.with_columns(event=pl.lit("replacement"))])
        own = ends.join(machines.select("number", "asset"), on="number", how="inner")
        return own.select("asset", "time", "event", known_at="time").unique().sort("time", "asset", "event")


def _lines(file: Path, header: tuple[str, ...]) -> list[tuple[int, list[str]]]:
    """Row and cells of every line without its quotes; a first line that is the header is left out."""
    lines = [(number, [cell.strip('"') for cell in cells]) for number, cells in cells_of(file, ",")]
    return lines[1:] if lines and lines[0][1][0].lower() == header[0] else lines


def _log(file: Path, known: set[str]) -> pl.DataFrame:
    """`time` (Datetime[us, UTC]), `number` and `what` of a log. Entries are never quarantined: a failure left out would be a healthy machine."""
    lines = _lines(file, HEADER)
    text = pl.DataFrame({"cell": [cells[0] for _, cells in lines]}, schema={"cell": pl.String})
    times, wrong, rows = text.select(microseconds(pl.col("cell"))).to_series().to_list(), [], []
    for (number, cells), time in zip(lines, times, strict=True):
        if len(cells) != 3:
            wrong.append(f"  row {number}: {len(cells)} cells, expected time, machine and what happened -> correct the line")
        elif time is None:
            wrong.append(
                f"  row {number}, machine {shown(cells[1])}: {shown(cells[0])!r} is not a time such as 2015-01-03 07:00:00 -> correct it"
            )
        elif cells[1] not in known or not cells[2]:
            wrong.append(
                f"  row {number}, machine {shown(cells[1])}, {shown(cells[2])!r}: not in {MACHINES}, or nothing happened -> correct the line"
            )
        else:
            rows.append((time, cells[1], cells[2]))
    if wrong:
        more = [f"  ... and {len(wrong) - 8:,} more"] if len(wrong) > 8 else []
        raise DataError(refusal_text(str(file), len(wrong), [*wrong[:8], *more]))
    frame = pl.DataFrame(rows, schema={"time": pl.Int64, "number": pl.String, "what": pl.String}, orient="row")
    return frame.with_columns(pl.from_epoch("time", "us").dt.replace_time_zone("UTC"))


def _end_of_day(time: pl.Expr) -> pl.Expr:
    """The midnight that ends the day of a moment; midnight itself still belongs to the day before."""
    return (time - pl.duration(microseconds=1)).dt.truncate("1d") + DAY


def _readings(machines: pl.DataFrame, errors: pl.DataFrame, ends: pl.Series) -> pl.DataFrame:
    """One row for each machine and day, with the errors of the day that ends then; of the days after the last one nobody knows all."""
    counts = (
        errors.with_columns(_end_of_day(pl.col("time")))
        .group_by("number", "time")
        .agg((pl.col("what") == kind).sum().cast(pl.Float64).alias(kind) for kind in KINDS)
    )
    grid = machines.join(pl.DataFrame({"time": ends}), how="cross")
    table = grid.join(counts, on=["number", "time"], how="left", maintain_order="left").with_columns(pl.col(KINDS).fill_null(0.0))
    return table.select("file", "row", "asset", "time", *CONTRACT.names)


def _fleet(rng: np.random.Generator, machines: int, days: int) -> dict[str, list[str]]:
    """Lines of the four files, without a header."""
    begin = np.datetime64("2015-01-01T06:00:00")
    logs: dict[str, list[str]] = {name: [] for name in SHA256}
    for machine in range(1, machines + 1):
        logs[MACHINES].append(f"{machine},model{machine % 4 + 1},{machine % 21}")

        def write(file: str, hours: int, what: str, machine: int = machine) -> None:
            logs[file].append(f"{str(begin + np.timedelta64(hours, 'h')).replace('T', ' ')},{machine},{what}")

        for day in range(0, days, 15):
            part = int(rng.integers(1, 5))
            if rng.random() < 0.5 and day:
                write(ERRORS, 24 * day - 25, f"error{part}")
                write(FAILURES, 24 * day, f"comp{part}")
                write(MAINTENANCE, 24 * day, f"comp{part}")
            elif rng.random() < 0.5:
                write(MAINTENANCE, 24 * day, f"comp{part}")
        for hour in np.sort(rng.choice(24 * days, days // 20, replace=False)):
            write(ERRORS, int(hour), f"error{int(rng.integers(1, 6))}")
    return logs
