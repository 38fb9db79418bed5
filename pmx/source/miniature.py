"""A small plant as plants export theirs: tag changes in a German dialect, a work-order export with dirt, and the card of both."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

BEGIN = datetime(2025, 10, 20, tzinfo=UTC)  # the night in which clocks go back, 26 October, lies within
HOURS = 240
EQUIPMENT = ("10004711", "10004712", "10004713")
CARD = """\
name: plant
noun: pumps
life_unit: h
tick: 1
time_zone: Europe/Berlin
sampling: 0.5
running: {channel: speed, above: 100}
readings:
  files: [readings_*.csv]
  layout: long
  asset: Gerät
  time: Zeitstempel
  tag: Tag
  value: Wert
  quality: Güte
  good: [Gut, 192]
  separator: ";"
  decimal: ","
  encoding: cp1252
  time_format: "%d.%m.%Y %H:%M:%S"
channels:
  vibration: {tag: VIB_DE, unit: mm/s, low: 0, high: 50, align: mean, hold: 3}
  temperature: {tag: T_LAGER, unit: °C, low: -20, high: 150, align: mean, hold: 3}
  speed: {tag: N, unit: rpm, role: setting, low: 0, high: 4000, hold: 3}
  energy: {tag: E_TOTAL, unit: kWh, role: counter, rollover: 100000}
unused: [TESTTAG]
assets: {10004711: P-101, 10004712: P-102, 10004713: P-103}
events:
  files: [orders.csv]
  separator: ";"
  encoding: cp1252
  time_format: "%d.%m.%Y"
  asset: [Equipment, Technischer Platz]
  time: {first_of: [[Störungsbeginn, Uhrzeit], Eckstarttermin]}
  known_at: Erfaßt am
  kind: [Meldungsart, Auftragsart]
  kinds: {M2: failure, PM01: inspection, PM03: replacement, PM05: ignore}
  assets: {FL-0815: P-103}
  unmatched: list
  skip: {column: Systemstatus, values: [LKZ, STOR]}
"""
ORDERS = """\
Auftrag;Auftragsart;Meldungsart;Equipment;Technischer Platz;Störungsbeginn;Uhrzeit;Eckstarttermin;Erfaßt am;Systemstatus
4000001;PM02;M2;000000000010004711;FL-0813;29.10.2025;06:30:00;30.10.2025;29.10.2025;TABG RÜCK
4000002;PM01;;10004712;FL-0814;;;22.10.2025;20.10.2025;TABG
4000003;PM03;;;FL-0815;;;24.10.2025;10.10.2025;TABG
4000004;PM02;M2;10004713;FL-0815;28.10.2025;14:00:00;;28.10.2025;LKZ
4000005;PM05;;10004712;FL-0814;;;25.10.2025;25.10.2025;EROF
4000006;PM02;M2;10009999;FL-0999;21.10.2025;;;21.10.2025;TABG
4000001;PM02;M2;000000000010004711;FL-0813;29.10.2025;06:30:00;30.10.2025;29.10.2025;TABG RÜCK
"""


def write_plant(folder: Path, card: str = "plant.yaml") -> None:
    """Writes `readings_1.csv`, `readings_2.csv`, `orders.csv` and the card.

    Three pumps report every half hour by local clock, in two files. P-101 vibrates ever more before it fails on 29 October, P-102
    stands still for a day, the energy counters roll over. A bad quality, a tag of no use and an unknown one are among the rows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    zone = ZoneInfo("Europe/Berlin")
    lines: list[str] = []
    for half in range(2 * HOURS):
        local = (BEGIN + timedelta(minutes=30 * half)).astimezone(zone).strftime("%d.%m.%Y %H:%M:%S")
        for pump, equipment in enumerate(EQUIPMENT):
            off = pump == 1 and 48 <= half < 96
            worn = max(0.0, (half - 200) / 230) ** 2 if pump == 0 else 0.0
            noise = rng.normal(size=3)
            values = {
                "VIB_DE": 0.1 if off else 2 + 4 * worn + 0.2 * noise[0],
                "T_LAGER": 20.0 if off else 55 + 15 * worn + noise[1],
                "N": 0.0 if off else 1450 + 5 * noise[2],
                "E_TOTAL": (99_900 + 7.5 * half) % 100_000,
            }
            for tag, value in values.items():
                lines.append(f"{local};{equipment};{tag};{_german(abs(value))};Gut")
    lines[100] = lines[100].replace("Gut", "Schlecht")
    lines.insert(200, f"{lines[0].split(';')[0]};{EQUIPMENT[0]};TESTTAG;1,0;Gut")
    lines.insert(300, f"{lines[0].split(';')[0]};{EQUIPMENT[0]};UNBEKANNT;1,0;Gut")
    for number, part in enumerate((lines[:3000], lines[3000:]), 1):
        text = "\r\n".join(["Zeitstempel;Gerät;Tag;Wert;Güte", *part, ""])
        (folder / f"readings_{number}.csv").write_bytes(text.encode("cp1252"))
    (folder / "orders.csv").write_bytes(ORDERS.replace("\n", "\r\n").encode("cp1252"))
    (folder / card).write_text(CARD, encoding="utf-8")


def _german(value: float) -> str:
    return f"{value:,.2f}".replace(",", " ").replace(".", ",").replace(" ", ".")
