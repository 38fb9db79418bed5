"""A plant that does not exist, as its historian and its maintenance system would export it, with all their blemishes.

Pumps whose tags are written on change in a German dialect: `;`, decimal comma, cp1252, day first, local time with the change
of the clock in October 2025. Some rows come late, twice, or with bad quality; an energy counter rolls over; pumps stand still at
times; some fail after days of build-up. `python -m pmx.draft.example FOLDER` writes it.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

START = datetime(2025, 10, 1, tzinfo=UTC)
ZONE = ZoneInfo("Europe/Berlin")
TAGS = {
    "VIB_DE": "mm/s",
    "TEMP_LAGER": "°C",
    "P_AUS": "bar",
    "Q_FOERDER": "m3/h",
    "I_MOTOR": "A",
    "N_IST": "1/min",
    "E_ZAEHLER": "kWh",
    "STUFE": "-",
}
ROLLOVER = 100_000.0  # kWh
FAILS_AT = (0.74, 0.88, 0.37)  # share of the record; each fourth pump lives on
BUILD_UP = 5.0  # days from the first trace to the failure
MINUTES = 24 * 60
HEADER = "Messstelle;Zeitstempel;Wert;Einheit;Qualität"
ORDERS = "Auftrag;Auftragsart;Meldung;Meldungsart;Equipment;Technischer Platz;Kurztext;Störungsbeginn;Störungsende;Eckstarttermin;Erfaßt am;Systemstatus"


@dataclass(frozen=True)
class Plant:
    """The made-up plant.

    Attributes:
        assets: pumps; `tags` of each, eight kinds and then further temperatures; `days` of record.
        interval: mean time between two values of a tag, seconds.
        seed: of everything random.

    Example:
        >>> Plant(assets=1, tags=2, days=3).pump(0).columns
        ['tag', 'at', 'arrived', 'value', 'unit', 'quality']
    """

    assets: int = 3
    tags: int = 8
    days: int = 35
    interval: float = 2400.0
    seed: int = 1

    def write(self, folder: Path) -> None:
        """Writes `readings_1.csv`, `readings_2.csv` (one after the other in time) and `orders.csv`."""
        folder.mkdir(parents=True, exist_ok=True)
        rows = pl.concat([self.pump(i) for i in range(self.assets)]).sort("arrived", "tag", maintain_order=True)
        local = pl.from_epoch("at", "us").dt.replace_time_zone("UTC").dt.convert_time_zone(str(ZONE)).dt.strftime("%d.%m.%Y %H:%M:%S")
        text = rows.select(
            pl.format("{};{};{};{};{}", "tag", local, pl.col("value").str.replace(".", ",", literal=True), "unit", "quality")
        )
        lines, half = text.to_series(), rows.height // 2
        for name, part in (("readings_1.csv", lines[:half]), ("readings_2.csv", lines[half:])):
            (folder / name).write_bytes("\r\n".join([HEADER, *part.to_list(), ""]).encode("cp1252"))
        (folder / "orders.csv").write_bytes("\r\n".join([ORDERS, *self.orders(), ""]).encode("cp1252"))

    def fails(self, i: int) -> float | None:
        """Minute at which pump i fails; None = it does not."""
        return None if i % 4 == 3 else round(FAILS_AT[i % 4] * self.days * MINUTES)

    def pump(self, i: int) -> pl.DataFrame:
        """Values of pump i: `tag`, `at` and `arrived` (microseconds), `value` (text), `unit`, `quality`."""
        rng = np.random.default_rng([self.seed, i])
        state = self._state(rng, i)
        names = [*list(TAGS)[: self.tags], *(f"TEMP_{k:02}" for k in range(1, self.tags - len(TAGS) + 1))]
        return pl.concat([self._tag(rng, f"P{101 + i}", name, state) for name in names])

    def _state(self, rng: np.random.Generator, i: int) -> _State:
        """Speed, warmth and wear of a pump, minute by minute."""
        minutes = self.days * MINUTES
        level = np.repeat(rng.choice([1450.0, 2300.0, 2900.0], minutes // 300 + 1, p=[0.3, 0.4, 0.3]), 300)[:minutes]
        stand = np.zeros(minutes, bool)
        for day in range(self.days):
            if rng.random() < 0.6:
                begin = day * MINUTES + int(rng.integers(0, 18 * 60))
                stand[begin : begin + int(rng.integers(120, 480))] = True
        wear, failed = np.zeros(minutes), self.fails(i)
        if failed is not None:
            begin = int(failed - BUILD_UP * MINUTES)
            wear[max(0, begin) : int(failed)] = np.linspace(0, 1, int(failed) - begin)[max(0, -begin) :] ** 1.5
            stand[int(failed) : int(failed) + int(rng.integers(14, 26)) * 60] = True
            stand[int(failed) - 300 : int(failed)] = False
        level[stand] = 0.0
        warm, now = np.empty(minutes), 0.7
        for m in range(minutes):  # the bearing follows the load with a time constant of an hour
            now += (level[m] / 2900 - now) / 60
            warm[m] = now
        return _State(level, warm, wear, i)

    def _tag(self, rng: np.random.Generator, pump: str, name: str, state: _State) -> pl.DataFrame:
        span = self.days * MINUTES * 60.0
        if name == "STUFE":
            at = np.arange(1800.0, span, 86_400.0)
        elif name == "N_IST":  # on change, and every four hours
            at = np.union1d(60.0 * (1 + np.flatnonzero(np.diff(state.level))), np.arange(600.0, span, min(14_400.0, 4 * self.interval)))
        else:
            gaps = 10 + rng.exponential(self.interval - 10, int(1.2 * span / self.interval) + 50)
            at = np.cumsum(gaps)
        at = np.floor(at[at < span - 60])
        value = np.round(state.value(name, at, rng), 1 if name in ("N_IST", "E_ZAEHLER", "TEMP_LAGER") else 2)
        count = len(at)
        quality = np.where(rng.random(count) < 0.004, "Bad", np.where(rng.random(count) < 0.002, "Uncertain", "Good"))
        text = np.where(quality == "Bad", "0.0", value.astype(str))
        late = np.where(rng.random(count) < 0.005, rng.uniform(120, 1200, count), 0.0)
        start = int(START.timestamp()) * 1_000_000
        times = start + (at * 1e6).astype(np.int64)
        frame = pl.DataFrame({"at": times, "arrived": times + (late * 1e6).astype(np.int64), "value": text, "quality": quality})
        twice = frame.filter(pl.Series(rng.random(count) < 0.003)).with_columns(pl.col("arrived") + 1)
        unit = TAGS.get(name, "°C")
        return pl.concat([frame, twice]).select(
            pl.lit(f"{pump}.{name}").alias("tag"), "at", "arrived", "value", pl.lit(unit).alias("unit"), "quality"
        )

    def orders(self) -> list[str]:
        """Lines of the work-order export, with what is usual there: zeros before numbers, unknown equipment, orders that were cancelled."""
        rng = np.random.default_rng([self.seed, 10_000])
        made = []
        for i in range(self.assets):
            number, place = f"{10_004_711 + 3 * i:018}", f"W1-PH1-P-{101 + i}"
            failed = self.fails(i)
            if failed is not None:
                at = START + timedelta(minutes=failed)
                end, known = at + timedelta(hours=14), at + timedelta(days=int(rng.integers(0, 2)))
                text = ("Lagerschaden Antriebsseite", "Pumpe fördert nicht, Gleitring", "Lager heiß, Notabschaltung")[i % 3]
                made.append(_order("PM01", "M2", number, place, text, at, end, known, known, "ABGS RÜCK"))
            for week in range(0, self.days, 14):
                day = START + timedelta(days=week + i, hours=8)
                # Somebody typed the number by hand.
                short = number.lstrip("0") if week == 14 else number
                made.append(_order("PM03", "M1", short, place, "Inspektion 14 Tage", None, None, day, day, "ABGS"))
        day = START + timedelta(days=9)
        made.append(_order("PM01", "M2", f"{10_009_999:018}", "W1-KH1-K-007", "Kompressor läuft nicht an", day, day, day, day, "ABGS"))
        made.append(_order("PM05", "M3", f"{10_004_711:018}", "W1-PH1-P-101", "Rückmeldung Öl nachgefüllt", None, None, day, day, "ABGS"))
        made.append(_order("PM03", "M1", "", "W1-PH1-P-101", "Sichtprüfung", None, None, day, day, "FREI"))
        made.append(_order("PM01", "M2", f"{10_004_711:018}", "W1-PH1-P-101", "doppelt erfaßt", day, day, day, day, "LKZ"))
        made.sort(key=lambda order: order[0])
        return [f"{4_000_100 + n};{kind};{10_000_300 + n};{line}" for n, (_, kind, line) in enumerate(made)]


@dataclass(frozen=True)
class _State:
    """What a pump does in each minute: speed in 1/min, warmth 0..1, wear 0..1."""

    level: np.ndarray
    warm: np.ndarray
    wear: np.ndarray
    pump: int
    energy: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        power = 45.0 * (self.level / 2900) ** 3 + 2.0 * (self.level > 0)
        begin = (98_700.0, 40_210.0, 71_330.0, 12_000.0)[self.pump % 4]
        object.__setattr__(self, "energy", begin + np.cumsum(power) / 60)

    def value(self, name: str, at: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Values of a tag at these seconds."""
        m = (at // 60).astype(np.int64)
        speed, warm, wear = self.level[m] / 2900, self.warm[m], self.wear[m]
        on = speed > 0
        noise = rng.normal(size=len(at))
        bearing = self.pump % 2 == 0  # even pumps lose a bearing, odd ones a seal
        if name == "VIB_DE":
            return np.maximum(0.05, np.where(on, (0.8 + 1.6 * speed) * (1 + (2.4 if bearing else 0.9) * wear), 0.08) * (1 + 0.06 * noise))
        if name == "TEMP_LAGER":
            return 24 + 34 * warm + (16 if bearing else 3) * wear * warm + 0.6 * noise
        if name == "P_AUS":
            return np.maximum(0.0, np.where(on, 1.2 + 7.5 * speed**2 * (1 - (0.0 if bearing else 0.25) * wear), 0.4) + 0.05 * noise)
        if name == "Q_FOERDER":
            return np.where(on, 62 * speed * (1 - (0.03 if bearing else 0.3) * wear) * (1 + 0.015 * noise), 0.0)
        if name == "I_MOTOR":
            return np.where(on, (14 + 58 * speed**2) * (1 + 0.08 * wear) * (1 + 0.01 * noise), 0.0)
        if name == "N_IST":
            return np.where(on, self.level[m] + 1.5 * noise, 0.0)
        if name == "E_ZAEHLER":
            return self.energy[m] % ROLLOVER
        if name == "STUFE":
            return np.full(len(at), 2.0)
        return 22 + (10 + 2 * int(name[-2:])) * warm + 0.5 * noise


def _order(
    *parts: str | datetime | None,
) -> tuple[str, str, str]:
    """Sort key, order type, and the line after the notification's number."""
    kind, note, number, place, text, begin, end, planned, known, status = parts
    minute = [t.astimezone(ZONE).strftime("%d.%m.%Y %H:%M") if isinstance(t, datetime) else "" for t in (begin, end)]
    day = [t.astimezone(ZONE).strftime("%d.%m.%Y") if isinstance(t, datetime) else "" for t in (planned, known)]
    assert isinstance(known, datetime)
    return f"{known.isoformat()} {number} {text}", str(kind), ";".join(map(str, (note, number, place, text, *minute, *day, status)))


def main(argv: list[str] | None = None) -> int:
    """Writes the example plant into a folder."""
    parser = argparse.ArgumentParser(prog="python -m pmx.draft.example", description="Writes a made-up plant's raw files into a folder.")
    parser.add_argument("folder", type=Path)
    made = Plant()
    for name, kind, text in (
        ("assets", int, "pumps"),
        ("tags", int, "signals of each pump"),
        ("days", int, "length of the record"),
        ("interval", float, "mean seconds between two values of a tag"),
        ("seed", int, "of everything random"),
    ):
        parser.add_argument(f"--{name}", type=kind, default=getattr(made, name), help=f"{text} (%(default)s)")
    options = parser.parse_args(argv)
    Plant(options.assets, options.tags, options.days, options.interval, options.seed).write(options.folder)
    print(f"Wrote {', '.join(sorted(p.name for p in options.folder.glob('*.csv')))} into {options.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
