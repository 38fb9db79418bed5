"""A work-order log is read whole or refused by row: a lost failure would turn a failed asset into a healthy one."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from pmx.contract import DataError
from pmx.source.orders import read_orders

HEADER = "asset,time,event,known_at"
GOOD = "P1,2026-01-02T03:04:05Z,failure,2026-01-02T09:00:00+01:00"


def log(folder: Path, *lines: str) -> Path:
    file = folder / "orders.csv"
    file.write_text("\n".join((HEADER, *lines)) + "\n", encoding="utf-8")
    return file


def test_times_come_out_in_utc(tmp_path: Path):
    read = read_orders(log(tmp_path, GOOD, "", " P2 ,2026-01-03 00:00,commissioning,2026-01-03 00:00"))
    assert read.columns == ["asset", "time", "event", "known_at"]
    assert read.row(0) == ("P1", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "failure", datetime(2026, 1, 2, 8, tzinfo=UTC))
    assert read.row(1) == ("P2", datetime(2026, 1, 3, tzinfo=UTC), "commissioning", datetime(2026, 1, 3, tzinfo=UTC))
    assert read_orders(log(tmp_path)).height == 0


@pytest.mark.parametrize(
    "line, told",
    [
        ("P1,31.02.2025,failure,2026-01-02T09:00:00Z", "row 3, asset P1: time '31.02.2025' is not a time"),
        ("P1,2026-02-30T00:00:00Z,failure,2026-03-02T09:00:00Z", "time '2026-02-30T00:00:00Z' is not a time"),
        ("P1,2026-01-02T03:04:05Z,failure,", "known_at '' is not a time"),
        ("P1,2026-01-02T03:04:05Z,broken down,2026-01-02T09:00:00Z", "'broken down' is no event -> one of failure"),
        (",2026-01-02T03:04:05Z,failure,2026-01-02T09:00:00Z", "names no asset"),
        ("P1,2026-01-02T03:04:05Z,failure,2026-01-01T09:00:00Z", "before it happened at 2026-01-02"),
        ("P1,2026-01-02T03:04:05Z,failure", "line 3: 3 cells where the header has 4"),
    ],
)
def test_each_kind_of_bad_order_is_named(tmp_path: Path, line: str, told: str):
    with pytest.raises(DataError) as refused:
        read_orders(log(tmp_path, GOOD, line))
    assert told in str(refused.value) and "orders.csv" in str(refused.value)


def test_many_bad_orders_fit_on_a_screen(tmp_path: Path):
    with pytest.raises(DataError) as refused:
        read_orders(log(tmp_path, *["P1,never,failure,never"] * 50))
    assert "50 problems" in str(refused.value) and "42 more" in str(refused.value) and len(str(refused.value).splitlines()) < 15


def test_a_log_without_a_column_is_refused(tmp_path: Path):
    (tmp_path / "orders.csv").write_text("asset,time,event,known\n")
    with pytest.raises(DataError, match="known_at.*nearest is 'known'"):
        read_orders(tmp_path / "orders.csv")
