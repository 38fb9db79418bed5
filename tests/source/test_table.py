"""Any table with a card: the same readings come out however a plant writes them down, and nothing is left out in silence."""

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmx.contract import DataError
from pmx.source import History
from pmx.source.admit import admit
from pmx.source.table import Table

BERLIN = ZoneInfo("Europe/Berlin")
AUTUMN = datetime(2025, 10, 25, 23, tzinfo=UTC)  # 01:00 local; clocks go back at 01:00 UTC
SPRING = datetime(2026, 3, 28, 23, tzinfo=UTC)
NAMES = ("load", "heat")


@dataclass(frozen=True)
class Way:
    """How a plant writes its readings down."""

    long: bool = False
    separator: str = ";"
    comma: bool = True
    encoding: str = "cp1252"
    form: str | None = "%d.%m.%Y %H:%M:%S"
    files: int = 1
    order: str = "time"  # time, signal, newest or shuffled
    parquet: bool = False


WAYS = st.builds(
    Way,
    long=st.booleans(),
    separator=st.sampled_from([";", "\t", "|"]),
    comma=st.booleans(),
    encoding=st.sampled_from(["utf-8", "cp1252", "utf-16", "utf-8-sig"]),
    form=st.sampled_from([None, "%d.%m.%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S", "epoch_ms"]),
    files=st.integers(1, 3),
    order=st.sampled_from(["time", "signal", "newest", "shuffled"]),
)


def fleet(begin: datetime, steps: int, minutes: int = 30, assets=("P1", "P2"), seed: int = 0) -> list[tuple[str, datetime, float, float]]:
    rng = random.Random(seed)
    grid = [begin + timedelta(minutes=minutes * i) for i in range(steps)]
    return [(a, t, round(rng.uniform(0, 9999), 2), round(rng.uniform(-20, 90), 2)) for t in grid for a in assets]


def write(folder: Path, readings, way: Way, names=NAMES, extra: str = "", seed: int = 1) -> Table:
    """Writes readings `asset, time in UTC, load, heat` this way, with their card."""
    folder.mkdir(parents=True, exist_ok=True)

    def number(x: float) -> str:
        return f"{x:,.2f}".translate(str.maketrans(",.", ".,")) if way.comma else f"{x:.2f}"

    def clock(t: datetime) -> str:
        if way.form == "epoch_ms":
            return str(int(t.timestamp() * 1000))
        return t.astimezone(BERLIN).strftime(way.form or "%Y-%m-%d %H:%M:%S")

    if way.long:
        header = ["Gerät", "Zeit", "Tag", "Wert"]
        rows = [[a, clock(t), n, number(v)] for a, t, *values in readings for n, v in zip(names, values, strict=True)]
    else:
        header, rows = ["Gerät", "Zeit", *names], [[a, clock(t), *map(number, values)] for a, t, *values in readings]
    if way.order == "signal":
        rows.sort(key=lambda r: (r[0], r[2]) if way.long else r[0])
    elif way.order == "newest":
        rows.reverse()
    elif way.order == "shuffled":
        random.Random(seed).shuffle(rows)
    size = -(-len(rows) // way.files)
    for i in range(way.files):
        text = "\n".join(way.separator.join(r) for r in [header, *rows[i * size : (i + 1) * size]])
        (folder / f"r{i}.csv").write_bytes(text.encode(way.encoding))
    form = f"time_format: '{way.form}'" if way.form else "time_format: null"
    kind = "layout: long, tag: Tag, value: Wert" if way.long else "layout: wide"
    dialect = f'separator: "{way.separator}", decimal: "{"," if way.comma else "."}", encoding: {way.encoding}, {form}'.replace("\t", "\\t")
    card = f"""{{life_unit: h, tick: 0.5, time_zone: Europe/Berlin, readings: {{files: r*.csv, {kind}, asset: Gerät, time: Zeit, {dialect}}},
      channels: {{load: {{tag: {names[0]}, unit: kW}}, heat: {{tag: {names[1]}, unit: °C}}}}{extra}}}"""
    (folder / "plant.yaml").write_text(card, encoding="utf-8")
    return Table(str(folder / "plant.yaml"))


def read(history: History, on_error: str = "refuse") -> list[tuple]:
    return sorted(admit(history.rows, history.contract, on_error).readings.select("asset", "time", *history.contract.names).rows())


@settings(max_examples=25, deadline=None)
@given(way=WAYS, seed=st.integers(0, 9))
def test_readings_written_in_any_way_come_back(tmp_path_factory, way: Way, seed: int):
    readings = fleet(datetime(2026, 6, 1, tzinfo=UTC), 12, seed=seed)
    assert read(write(tmp_path_factory.mktemp("t"), readings, way, seed=seed).load()) == sorted(readings)


@pytest.mark.parametrize("begin", [AUTUMN, SPRING], ids=["autumn", "spring"])
@pytest.mark.parametrize("files", [1, 2])
@pytest.mark.parametrize("order", ["time", "signal", "newest"])
@pytest.mark.parametrize("long", [False, True], ids=["wide", "long"])
def test_local_times_around_a_change_of_clocks_are_told_apart(tmp_path: Path, begin, files: int, order: str, long: bool):
    readings = fleet(begin, 16, minutes=15)
    assert read(write(tmp_path, readings, Way(long=long, order=order, files=1 if order == "newest" else files)).load()) == sorted(readings)


def test_a_signal_that_reports_in_the_second_pass_alone_is_placed_by_its_neighbours(tmp_path: Path):
    """Its own times never jump back; those of the asset's other signal do, in the row before."""
    table = write(tmp_path, [], Way(long=True))
    lines = [f"P1;26.10.2025 02:{m};load;{v},0" for m, v in (("00:00", 1), ("30:00", 2), ("00:00", 3))]
    lines += ["P1;26.10.2025 02:10:00;heat;9,0", "P1;26.10.2025 02:30:00;load;4,0"]
    (tmp_path / "r0.csv").write_bytes("\n".join(["Gerät;Zeit;Tag;Wert", *lines]).encode("cp1252"))
    got = [(t.strftime("%H:%M"), load, heat) for _, t, load, heat in read(table.load())]
    assert got == [("00:00", 1.0, None), ("00:30", 2.0, None), ("01:00", 3.0, None), ("01:10", None, 9.0), ("01:30", 4.0, None)]


def test_a_time_that_spring_leaves_out_is_refused_by_row(tmp_path: Path):
    table = write(tmp_path, [("P1", SPRING, 1.0, 1.0), ("P1", SPRING + timedelta(hours=5), 1.0, 1.0)], Way())
    text = (tmp_path / "r0.csv").read_bytes().decode("cp1252")
    (tmp_path / "r0.csv").write_bytes((text + "\nP1;29.03.2026 02:30:00;1,0;1,0").encode("cp1252"))
    history = table.load()
    quarantine = admit(history.rows, history.contract, "quarantine").quarantine
    assert quarantine.select("row", "reason").rows() == [(4, "unparsable_time")]


@pytest.mark.parametrize("long", [False, True], ids=["wide", "long"])
def test_what_cannot_be_read_is_refused_with_its_line_and_its_text(tmp_path: Path, long: bool):
    readings = fleet(datetime(2026, 6, 1, tzinfo=UTC), 4)
    table = write(tmp_path, readings, Way(long=long, order="shuffled"))
    lines = (tmp_path / "r0.csv").read_bytes().decode("cp1252").split("\n")
    lines[2] = lines[2].rpartition(";")[0] + ";hot"
    lines[4] = ";".join([lines[4].split(";")[0], "32.13.2026 00:00:00", *lines[4].split(";")[2:]])
    lines[5] = lines[5].rpartition(";")[0]
    lines[6] = lines[6] + ";7"
    (tmp_path / "r0.csv").write_bytes("\n".join(lines).encode("cp1252"))
    admitted = admit(*(lambda h: (h.rows, h.contract))(table.load()), "quarantine")
    found = admitted.quarantine.sort("row").select("row", "reason", "value").rows()
    width = 4
    assert found == [
        (3, "wrong_type", "hot"),
        (5, "unparsable_time", "32.13.2026 00:00:00"),
        (6, "wrong_type", f"(a line of {width - 1} cells, the header has {width})"),
        (7, "wrong_type", f"(a line of {width + 1} cells, the header has {width})"),
    ]
    cells = 0 if long else 1  # of a wide row the broken value alone; a line of another length has no cell that can be trusted
    assert admitted.counts["in"] == len(readings) * (2 if long else 1) == admitted.counts["accepted"] + 4 - cells
    assert admitted.counts["cells"] == cells


@given(way=WAYS, seed=st.integers(0, 9))
@settings(max_examples=15, deadline=None)
def test_names_of_assets_and_columns_change_no_value(tmp_path_factory, way: Way, seed: int):
    readings = fleet(datetime(2026, 6, 1, tzinfo=UTC), 6, seed=seed)
    other = [("X" + a, *rest) for a, *rest in readings]
    folder = tmp_path_factory.mktemp("t")
    first = write(folder / "a", readings, way, seed=seed).load()
    second = write(folder / "b", other, way, names=("N 17", "T°"), extra=", assets: {XP1: P1, XP2: P2}", seed=seed).load()
    assert read(first) == read(second) and first.contract == second.contract and first.digest != second.digest


@pytest.mark.parametrize(
    "how, tag",
    [
        ("tag_pattern: '^(?P<asset>[^.]+)\\.(?P<tag>.+)$'", "{a}.{n}"),
        ("tags: {a1: [P1, load], a2: [P1, heat], b1: [P2, load], b2: [P2, heat]}", "{short}"),
    ],
)
def test_a_tag_may_name_the_asset_too(tmp_path: Path, how: str, tag: str):
    readings = fleet(datetime(2026, 6, 1, tzinfo=UTC), 3)
    short = {("P1", "load"): "a1", ("P1", "heat"): "a2", ("P2", "load"): "b1", ("P2", "heat"): "b2"}
    lines = ["t,tag,v,unit"]
    for a, t, *values in readings:
        lines += [f"{t.isoformat()},{tag.format(a=a, n=n, short=short[a, n])},{v}," for n, v in zip(NAMES, values, strict=True)]
    lines += [f"{readings[0][1].isoformat()},odd,1,", f"{readings[0][1].isoformat()},idle,1,kW"]
    (tmp_path / "r.csv").write_text("\n".join(lines))
    (tmp_path / "c.yaml").write_text(
        f"{{life_unit: h, tick: 0.5, unused: [idle], {how},"
        " readings: {files: r.csv, layout: long, time: t, tag: tag, value: v}, channels: {load: {}, heat: {}}}"
    )
    history = Table(str(tmp_path / "c.yaml")).load()
    assert read(history) == sorted(readings)
    assert history.notes == (
        "tag 'odd' is not in the card: 1 rows left out -> list it under channels or unused",
        "column 'unit' is not in the card: 1 values left out -> list it under channels or unused",
    )


PARQUET = (
    "{life_unit: h, tick: 0.5, %s readings: {files: [r*.parquet, s*.csv], layout: wide, time: when%s}, channels: {load: {}, heat: {}}}"
)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", None])
def test_parquet_stays_typed_and_mixes_with_text(tmp_path: Path, zone: str | None):
    readings = sorted(fleet(AUTUMN, 8))
    frame = pl.DataFrame(readings, schema=["asset", "when", *NAMES], orient="row")
    when = pl.col("when").dt.convert_time_zone(zone or "Europe/Berlin")
    frame = frame.with_columns(when if zone else when.dt.replace_time_zone(None))
    frame[:8].write_parquet(tmp_path / "r1.parquet")
    frame[8:].write_parquet(tmp_path / "s1.parquet")
    (tmp_path / "c.yaml").write_text((PARQUET % ("time_zone: Europe/Berlin,", ", asset: asset")).replace("s*.csv", "s*.parquet"))
    history = Table(str(tmp_path / "c.yaml")).load()
    assert read(history) == readings and history.rows.select("row").collect()["row"].to_list() == [*range(1, 9)] * 2
    if zone:
        assert history.rows.collect_schema()["time"] == pl.Datetime("us", "UTC") and history.rows.collect_schema()["load"] == pl.Float64
    (tmp_path / "s1.parquet").unlink()
    text = [f"{a},{t.isoformat()},{x},{y}" for a, t, x, y in readings[8:]]
    (tmp_path / "s1.csv").write_text("\n".join(["asset,when,load,heat", *text]))
    (tmp_path / "c.yaml").write_text(PARQUET % ("time_zone: Europe/Berlin,", ", asset: asset"))
    assert read(Table(str(tmp_path / "c.yaml")).load()) == readings


def test_a_file_may_name_its_asset(tmp_path: Path):
    (tmp_path / "P1.csv").write_text("when,load,heat,note\n2026-01-01 00:00,1,2,x\n2026-01-01 00:30,3,,\n")
    (tmp_path / "P2.csv").write_text("load,when,heat\n5,2026-01-01 00:00,6\n")
    (tmp_path / "c.yaml").write_text(PARQUET.replace("[r*.parquet, s*.csv]", "['P?.csv']") % ("", ", asset_from_file: true"))
    history = Table(str(tmp_path / "c.yaml")).load()
    assert [(a, x, y) for a, _, x, y in read(history)] == [("P1", 1.0, 2.0), ("P1", 3.0, None), ("P2", 5.0, 6.0)]
    assert history.notes == ("column 'note' is not in the card: 1 values left out -> list it under channels or unused",)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_a_life_clock_counts_in_the_life_unit(tmp_path: Path, order: list[int]):
    lines = ["P1;0,5;1,0;1", "P1;1,5;2,0;0", "P1;1.002,5;3,0;1"]
    (tmp_path / "r.csv").write_text("\n".join(["asset;age;load;odd", *(lines[i] for i in order)]))
    (tmp_path / "c.yaml").write_text(
        "{clock: life, life_unit: cycle, tick: 1, labels: {column: odd}, readings: {files: r.csv, layout: wide, asset: asset,"
        " time: age, separator: ';', decimal: ','}, channels: {load: {}}}"
    )
    history = Table(str(tmp_path / "c.yaml")).load()
    assert read(history) == [("P1", 0.5, 1.0), ("P1", 1.5, 2.0), ("P1", 1002.5, 3.0)]
    assert history.episodes.rows() == [("P1", 0.5, 0.5, "odd"), ("P1", 1002.5, 1002.5, "odd")]
    assert history.events.height == 0 and history.events.schema["time"] == pl.Float64


LABELS = ["0", "1", "1.0", "0.0", "", "true", "1"]


def test_labels_become_episodes_and_no_channel(tmp_path: Path):
    rows = [f"{a},2026-01-01 0{i}:00,1,{v}" for i, v in enumerate(LABELS) for a in ("P1", "P2")]
    (tmp_path / "r.csv").write_text("\n".join(["asset,when,load,odd", *rows]))
    card = "{life_unit: h, tick: 1, labels: {column: odd}, readings: {files: r.csv, layout: wide, asset: asset, time: when}, channels: {load: {}}}"
    (tmp_path / "c.yaml").write_text(card)
    history = Table(str(tmp_path / "c.yaml")).load()
    hours = history.episodes.with_columns(pl.col("begin", "end").dt.hour()).rows()
    assert hours == [(a, b, e, "odd") for a in ("P1", "P2") for b, e in ((1, 2), (5, 6))]
    assert history.episodes.schema["begin"] == pl.Datetime("us", "UTC") and "odd" not in history.rows.collect_schema() and not history.notes
    (tmp_path / "r.csv").write_text((tmp_path / "r.csv").read_text().replace("1.0", "maybe"))
    with pytest.raises(DataError, match="row 6, asset P1: 'maybe' is no label"):
        Table(str(tmp_path / "c.yaml")).load()


@pytest.mark.parametrize("long", [False, True], ids=["wide", "long"])
def test_readings_that_were_thinned_out_are_noticed(tmp_path: Path, long: bool):
    readings = fleet(datetime(2026, 6, 1, tzinfo=UTC), 40)
    assert write(tmp_path / "a", readings, Way(long=long), extra=", sampling: 0.5").load().rows.collect().height
    for name, other in (("b", [r for i, r in enumerate(readings) if i // 2 % 2]), ("c", fleet(readings[0][1], 40, minutes=10))):
        with pytest.raises(DataError, match=r"come every (1|0\.1667) h .*the card says every 0\.5 h -> correct sampling"):
            write(tmp_path / name, other, Way(long=long), extra=", sampling: 0.5").load()


def test_gaps_in_one_column_count_for_the_sampling_of_that_channel(tmp_path: Path):
    lines = ["asset,when,load,heat", *(f"P1,2026-01-01 {i:02}:00,1,{'2' if i % 4 == 0 else ''}" for i in range(24))]
    (tmp_path / "r.csv").write_text("\n".join(lines))
    card = PARQUET.replace("[r*.parquet, s*.csv]", "r.csv") % ("sampling: %s,", ", asset: asset")
    (tmp_path / "c.yaml").write_text(card % "2.5")  # the median of 1 h and 4 h
    assert Table(str(tmp_path / "c.yaml")).load().name == "c"
    (tmp_path / "c.yaml").write_text(card % "1")
    with pytest.raises(DataError, match="come every 2.5 h"):
        Table(str(tmp_path / "c.yaml")).load()


# ---- the miniature


@pytest.fixture
def plant(tmp_path: Path) -> Table:
    table = Table(str(tmp_path / "plant.yaml"))
    table.write_miniature(tmp_path)
    return table


def change(file: Path, old: str, new: str, encoding: str = "cp1252") -> None:
    text = file.read_bytes().decode(encoding)
    assert old in text
    file.write_bytes(text.replace(old, new).encode(encoding))


def test_the_miniature_is_a_whole_history(plant: Table):
    history = plant.load()
    admitted = admit(history.rows, history.contract, "quarantine")
    assert admitted.counts == {"in": 5760, "accepted": 5759, "quarantined": 1, "cells": 0} and admitted.quarantine["reason"].to_list() == [
        "bad_quality"
    ]
    assert admitted.readings.height == 3 * 480 and admitted.readings.group_by("asset").agg(pl.col("time").diff().max())[
        "time"
    ].max() == timedelta(minutes=30)
    assert history.events.select("asset", "event").rows() == [("P-102", "inspection"), ("P-103", "replacement"), ("P-101", "failure")]
    told = " ".join(history.notes)
    for word in ("'UNBEKANNT'", "void", "card ignores", "10009999 (1)", "repeat"):
        assert word in told
    assert "TESTTAG" not in told


def test_every_byte_counts_for_the_digest(plant: Table):
    folder = Path(plant.root)
    digests = {plant.load().digest}
    change(folder / "readings_2.csv", ";Gut\r\n", ";Gut \r\n")
    digests.add(plant.load().digest)
    change(folder / "orders.csv", "4000005", "4000009")
    digests.add(plant.load().digest)
    change(folder / "plant.yaml", "high: 50", "high: 51", "utf-8")
    digests.add(plant.load().digest)
    change(folder / "plant.yaml", "noun: pumps", "noun: pumps  # a comment", "utf-8")
    digests.add(plant.load().digest)
    assert len(digests) == 4


@pytest.mark.parametrize(
    "old, new, told",
    [
        ("tag: VIB_DE", "tag: VIB_ED", "channel vibration: tag 'VIB_ED' never occurs, nearest is 'VIB_DE'"),
        ("time: Zeitstempel", "time: Zeitstempl", "no column 'Zeitstempl', nearest is 'Zeitstempel' -> correct readings.time"),
        ("quality: Güte", "quality: Qualität", "no column 'Qualität'"),
        ("files: [readings_*.csv]", "files: [reading_1.csv]", "no file matches 'reading_1.csv', nearest is 'readings_1.csv'"),
        ("files: [readings_*.csv]", "files: [x*.csv]", "the folder holds orders.csv, plant.yaml, readings_1.csv"),
        ("encoding: cp1252", "encoding: utf-8", "is not utf-8 -> set encoding in the card, perhaps to cp1252"),
        ('separator: ";"\n  decimal: ","', 'separator: "|"\n  decimal: ","', "semicolon seems to separate the header"),
        ("unmatched: list", "unmatched: refuse", "10009999: 1 orders"),
        ("sampling: 0.5", "sampling: 2", "come every 0.5 h"),
    ],
)
def test_a_card_that_does_not_fit_its_files_is_refused(plant: Table, old: str, new: str, told: str):
    change(Path(plant.root) / "plant.yaml", old, new, "utf-8")
    with pytest.raises(DataError) as refused:
        plant.load()
    assert told in str(refused.value)


def test_a_pattern_that_takes_in_the_orders_leaves_them_to_the_events(plant: Table):
    rows = plant.load().rows.collect()
    change(Path(plant.root) / "plant.yaml", "files: [readings_*.csv]", "files: ['*.csv']", "utf-8")
    assert plant.load().rows.collect().equals(rows)


def test_the_raw_files_may_lie_elsewhere(plant: Table, tmp_path: Path):
    (tmp_path / "cards").mkdir()
    (tmp_path / "plant.yaml").rename(tmp_path / "cards" / "plant.yaml")
    assert Table(str(tmp_path / "cards" / "plant.yaml"), str(tmp_path)).load().rows.collect().height == 5760
    with pytest.raises(DataError, match="no such folder -> point source.root"):
        Table(str(tmp_path / "cards" / "plant.yaml"), str(tmp_path / "nowhere")).load()


def test_files_without_rows_are_refused(plant: Table):
    for file in Path(plant.root).glob("readings_*.csv"):
        file.write_bytes(file.read_bytes().split(b"\r\n")[0])
    with pytest.raises(DataError, match="plant: the readings have no rows"):
        plant.load()


def test_nothing_is_read_before_load():
    assert Table("nowhere/plant.yaml").root == "nowhere"
