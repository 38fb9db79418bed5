"""The numpy checker: each breach is found and named, nothing is lost, and batching changes nothing."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmx.contract import CUT, FLOAT32_LIMIT, Channel, Contract, DataError, Rows, Running, UsageError
from pmx.judge import Checker, unit_hints

PUMP = Contract((Channel("pressure", unit="bar", low=0.0, high=10.0), Channel("flow", unit="l/s")), "h", "calendar")
T0 = "2026-01-01T00:00:00Z"


def rows(cells: list[tuple], names: tuple[str, ...] = ("pressure", "flow"), file: str = "readings.csv") -> Rows:
    table = np.array(cells, object).reshape(len(cells), 2 + len(names))
    values = {name: table[:, 2 + i] for i, name in enumerate(names)}
    return Rows(table[:, 0], table[:, 1], values, np.full(len(cells), file, object), np.arange(len(cells)) + 2)


def verdicts(checked) -> list[tuple]:
    return [(b.row, b.asset, b.channel, b.reason, b.value) for b in checked.breaches]


@pytest.mark.parametrize(
    ("row", "channel", "reason", "value", "left"),
    [
        (("", T0, "1", "1"), "", "missing_asset", "", False),
        ((" NA\t", T0, "1", "1"), "", "missing_asset", " NA\t", False),
        ((None, T0, "1", "1"), "", "missing_asset", "", False),
        (("P1", "2026-02-30T00:00", "1", "1"), "", "unparsable_time", "2026-02-30T00:00", False),
        (("P1", "2026-01-01", "1", "1"), "", "unparsable_time", "2026-01-01", False),
        (("P1", "31.12.2026 10:00", "1", "1"), "", "unparsable_time", "31.12.2026 10:00", False),
        (("P1", T0 + "\n", "1", "1"), "", "unparsable_time", T0 + "\n", False),
        (("P1", "9999-12-31T23:59-12:00", "1", "1"), "", "unparsable_time", "9999-12-31T23:59-12:00", False),
        (("P1", T0, "abc", "1"), "pressure", "wrong_type", "abc", True),
        (("P1", T0, "1_0", "1"), "pressure", "wrong_type", "1_0", True),
        (("P1", T0, "\u0663", "1"), "pressure", "wrong_type", "\u0663", True),
        (("P1", T0, "1,5", "1"), "pressure", "wrong_type", "1,5", True),
        (("P1", T0, "1", "-INFinity"), "flow", "infinite", "-INFinity", True),
        (("P1", T0, "1", "3.5e38"), "flow", "infinite", "3.5e38", True),
        (("P1", T0, "1", "1e999"), "flow", "infinite", "1e999", True),
        (("P1", T0, "10.000000001", "x"), "pressure", "out_of_range", "10.000000001", False),
        (("P1", T0, "-0.1", "1"), "pressure", "out_of_range", "-0.1", True),
        (("", "x", "inf", "x"), "", "missing_asset", "", False),
    ],
)
def test_each_breach_is_filed_under_the_first_rule_it_breaks(row, channel, reason, value, left):
    checked = Checker(PUMP).check(rows([("P1", "2025-01-01T00:00", "1", "1"), row]))
    assert [(c, r, v) for _, _, c, r, v in verdicts(checked)] == [(channel, reason, value)]
    assert checked.position.tolist() == ([0, 1] if left else [0]) and [b.alone for b in checked.breaches] == [left]
    row_left = [[np.nan if c == channel else 1.0 for c in PUMP.names]] * left
    np.testing.assert_array_equal(checked.values[1:], np.reshape(row_left, (-1, 2)))


def test_a_broken_sensor_hides_no_other_one():
    checked = Checker(PUMP).check(rows([("P1", str(T0.replace("00Z", f"{k:02}Z")), "-9999", str(k)) for k in range(40)]))
    assert len(checked.breaches) == 40 and {(b.channel, b.reason, b.lost) for b in checked.breaches} == {
        ("pressure", "out_of_range", "value")
    }
    assert np.isnan(checked.values[:, 0]).all() and checked.values[:, 1].tolist() == list(range(40))


def test_every_broken_value_of_a_row_is_named_as_long_as_another_is_left():
    three = Contract((*PUMP.channels, Channel("heat", "°C")), "h", "calendar")
    names = ("pressure", "flow", "heat")
    checked = Checker(three).check(rows([("P1", T0, "11", "x", "1"), ("P2", T0, "11", "x", " nan ")], names))
    assert [(b.row, b.channel, b.lost) for b in checked.breaches] == [
        (2, "pressure", "value"),
        (2, "flow", "value"),
        (3, "pressure", "row"),
    ]
    np.testing.assert_array_equal(checked.values, [[np.nan, np.nan, 1.0]])


def test_a_line_that_ended_too_soon_is_refused_whole():
    checked = Checker(PUMP).check(rows([("P1", T0, "1", CUT), ("P2", T0, "11", CUT), ("P3", T0, "1", "(line")]))
    assert [(b.row, b.channel, b.lost) for b in checked.breaches] == [(2, "flow", "row"), (3, "pressure", "row"), (4, "flow", "value")]


def test_a_row_without_one_of_its_values_counts_as_accepted_where_times_are_compared():
    for lateness, reasons in ((0.0, ["wrong_type", "duplicate", "not_monotonic"]), (2.0, ["wrong_type", "duplicate"])):
        contract = Contract(PUMP.channels, "h", "life", lateness=lateness)
        checked = Checker(contract).check(rows([("P1", "5", "x", "1"), ("P1", "5", "1", "1"), ("P1", "4", "1", "1")]))
        assert [b.reason for b in checked.breaches] == reasons
        assert np.isnan(checked.values[0, 0]), "the second row does not mend the first"


def test_what_is_checked_stays_as_it_was_given():
    given_ = np.array([-1.0, 5.0])
    typed = Rows(np.array(["A", "B"], object), np.zeros(2), {"x": given_, "y": np.ones(2)}, np.full(2, "f", object), np.arange(2))
    checked = Checker(Contract((Channel("x", "-", low=0.0), Channel("y", "-")), "cycle", "life")).check(typed)
    assert given_.tolist() == [-1.0, 5.0] and np.isnan(checked.values[0, 0])


def test_an_unlisted_column_is_left_out_and_a_cell_beyond_the_last_column_is_refused():
    cells = [("P1", T0, "1", "1", "5", ""), ("P2", T0, "1", "1", " ", "7")]
    checked = Checker(PUMP).check(rows(cells, ("pressure", "flow", "colour", "column_5")))
    assert verdicts(checked) == [(3, "P2", "column_5", "unknown_channel", "7")]
    assert PUMP.ignored(("asset", "time", "pressure", "flow", "colour", "column_5")) == ("colour",)


def long_rows(cells: list[tuple]) -> Rows:
    table = np.array(cells, object).reshape(len(cells), 5)
    file = np.full(len(cells), "readings.csv", object)
    return Rows(table[:, 0], table[:, 1], {"value": table[:, 3]}, file, np.arange(len(cells)) + 2, table[:, 2], table[:, 4])


def test_long_rows_are_judged_by_their_own_channel_and_quality():
    contract = Contract(PUMP.channels, "h", "calendar", good=("Good", "192"))
    cells = [
        ("P1", T0, "pressure", "1", "Good"),
        ("P1", T0, "flow", "99", " 192 "),
        ("P1", T0, "flow", "98", "Good"),
        ("P1", T0, "humidity", "40", "Good"),
        ("P2", T0, "pressure", "11", "Good"),
        ("P2", T0, "pressure", "I/O", "Bad"),
        ("P2", T0, "pressure", "x", "Good"),
        ("P2", T0, "pressure", "", "Good"),
        ("P2", "2025-01-01T00:00", "flow", "1", "Good"),
    ]
    checked = Checker(contract).check(long_rows(cells))
    assert [(r, c, reason, v) for r, _, c, reason, v in verdicts(checked)] == [
        (4, "", "duplicate", T0),
        (5, "humidity", "unknown_channel", "40"),
        (6, "pressure", "out_of_range", "11"),
        (7, "pressure", "bad_quality", "Bad"),
        (8, "pressure", "wrong_type", "x"),
        (10, "", "not_monotonic", "2025-01-01T00:00"),
    ]
    np.testing.assert_array_equal(checked.values, [[1, np.nan], [np.nan, 99], [np.nan, np.nan]])


def test_where_good_codes_are_named_a_long_table_must_carry_codes():
    contract = Contract(PUMP.channels, "h", "calendar", good=("Good",))
    table = long_rows([("P1", T0, "flow", "1", "Good")])
    with pytest.raises(DataError, match="'quality' is not in the header"):
        Checker(contract).check(Rows(table.asset, table.time, table.values, table.file, table.row, table.channel))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (("P1", T0, "1,5", "1"), 'decimal comma .* -> set decimal: "," in the card, or on a device'),
        (("P1", T0, "1.234,5", "1"), "decimal comma"),
        (("P1", "31.12.2026 10:00", "1", "1"), "time_format in the card"),
    ],
)
def test_a_spelling_of_another_country_is_named(row, words):
    with pytest.raises(DataError, match=words):
        Checker(PUMP, "refuse").check(rows([row]))


def test_values_in_another_unit_are_recognised():
    contract = Contract((Channel("heat", "°C", low=-20.0, high=120.0),), "h", "life")
    found = Checker(contract).check(rows([("P", str(k), str(150 + k)) for k in range(5)], ("heat",))).breaches
    assert unit_hints(contract, found) == ["  channel heat: 5 values beyond its range look like °F, not °C"]


def test_the_hour_that_clocks_skip_is_no_time_and_says_so():
    contract = Contract(PUMP.channels, "h", "calendar", time_zone="Europe/Berlin")
    with pytest.raises(DataError, match="clocks skip this hour"):
        Checker(contract, "refuse").check(rows([("P1", "2026-03-29T02:30", "1", "1")]))


def test_a_late_row_is_taken_once_and_only_within_the_lateness():
    contract = Contract(PUMP.channels, "h", "life", lateness=2.0)
    times = ["5", "3", "4", "3", "5", "2.9", "6", "3.5", "4"]
    checked = Checker(contract).check(rows([("P1", t, "1", "1") for t in times]))
    assert [(r, reason) for r, _, _, reason, _ in verdicts(checked)] == [
        (5, "duplicate"), (6, "duplicate"), (7, "not_monotonic"), (9, "not_monotonic"), (10, "duplicate"),
    ]  # fmt: skip


def test_rejected_rows_never_move_the_newest_time():
    times = ["2026-01-01T02:00", "2026-01-01T03:00+01:00", "2099-01-01T00:00", "2026-01-01T01:59:59.999999", "2026-01-01 02:00:00.000001Z"]
    checked = Checker(PUMP).check(rows([("P1", t, "99" if "2099" in t else "1", "") for t in times]))
    assert [(r, reason) for r, _, _, reason, _ in verdicts(checked)] == [(3, "duplicate"), (4, "out_of_range"), (5, "not_monotonic")]
    assert np.diff(checked.time).tolist() == [1]


def test_limits_belong_to_the_range_and_missing_tokens_to_no_rule():
    cells = ["0", "10", "", " nan ", "NULL", "n/a", "#N/A", "-NaN", "1.", ".5e1", "+3"]
    checked = Checker(PUMP).check(rows([(f"P{i}", T0, c, "") for i, c in enumerate(cells)]))
    assert not checked.breaches
    np.testing.assert_array_equal(checked.values[:, 0], [0, 10, *[np.nan] * 6, 1, 5, 3])


def test_what_the_contract_accepts_is_finite_in_float32():
    edge = np.array([FLOAT32_LIMIT, np.nextafter(FLOAT32_LIMIT, np.inf)])
    typed = Rows(np.array(["A", "B"], object), np.zeros(2), {"x": edge}, np.full(2, "f", object), np.arange(2))
    checked = Checker(Contract((Channel("x", unit="-"),), "cycle", "life")).check(typed)
    assert np.isfinite(checked.values.astype(np.float32)).all() and [b.reason for b in checked.breaches] == ["infinite"]


@pytest.mark.parametrize(
    ("clock", "time", "good"),
    [
        ("calendar", np.array([0, np.iinfo(np.int64).min, 1, 2**62]), [0, 2]),
        ("calendar", np.array([0.0, np.nan, 1.0, np.inf]), [0, 2]),
        ("calendar", np.array(["1970-01-01", "NaT", "1970-01-02"], "M8[s]"), [0, 2]),
        ("life", np.array([0.0, np.nan, 1.5, np.inf, 1e300]), [0, 2]),
        ("life", np.array(["0", "", "1.5", "inf", "2026-01-01T00:00"], object), [0, 2]),
    ],
)
def test_typed_columns_are_judged_like_text(clock, time, good):
    n = len(time)
    typed = Rows(np.full(n, "A", object), time, {"x": np.full(n, np.nan)}, np.full(n, "f", object), np.arange(n))
    checked = Checker(Contract((Channel("x", unit="-"),), "h", clock)).check(typed)
    assert checked.position.tolist() == good and {b.reason for b in checked.breaches} == {"unparsable_time"}
    assert checked.time.dtype == (np.int64 if clock == "calendar" else np.float64)


def test_a_refusal_says_what_where_why_and_how_on_one_screen():
    bad = [("P-07", T0, "abc", "1"), ("P-07", "noon\x1b[2J", "1", "1"), *[("", T0, "1", "1")] * 30]
    with pytest.raises(DataError) as caught:
        Checker(PUMP, "refuse").check(rows(bad))
    lines = str(caught.value).split("\n")
    assert lines[0] == "Cannot read readings.csv: 32 problems, nothing was written"
    wanted = "  row 2, asset P-07, channel pressure: 'abc' is not a number (wrong_type) -> correct it, or set on_error: quarantine"
    assert lines[1] == wanted
    assert len(lines) == 10 and lines[-1] == "  ... and 24 more (24 missing_asset)" and "\x1b" not in str(caught.value)


def test_a_refused_batch_leaves_no_trace():
    checker = Checker(PUMP, "refuse")
    with pytest.raises(DataError):
        checker.check(rows([("P1", T0, "1", "1"), ("P1", T0, "1", "1")]))
    assert len(checker.check(rows([("P1", T0, "1", "1")])).asset) == 1


def test_a_table_without_a_channel_is_refused_whole_with_the_nearest_name():
    with pytest.raises(DataError, match="(?s)1 problem,.*'pressure' is not in the header, nearest is 'presure'"):
        Checker(PUMP).check(rows([("P1", T0, "1", "1")], ("presure", "flow")))


@pytest.mark.parametrize(
    "settings_",
    [
        {"channels": (Channel("a", "-"), Channel("a", "-"))},
        {"tick": 0.0},
        {"tick": 1e-7 / 3600},
        {"tick": float("nan")},
        {"longest_gap": -1},
        {"longest_gap": 10_000_001},
        {"lateness": -1.0},
        {"lateness": float("inf")},
        {"time_zone": "Europe/Berlinn"},
        {"time_zone": "Europe/Berlin", "clock": "life"},
        {"running": Running("b", above=1.0)},
    ],
)
def test_a_contract_that_cannot_hold_is_refused(settings_):
    with pytest.raises(UsageError):
        Contract(**{"channels": (Channel("a", "-"),), "life_unit": "h", "clock": "calendar", **settings_})


def test_the_longest_gap_may_be_long_and_not_endless():
    """Every tick of it takes memory once it is filled: two rows must not fill a machine."""
    assert Contract((Channel("a", "-"),), "h", "life", longest_gap=10_000_000).longest_gap == 10_000_000
    with pytest.raises(UsageError, match="longest_gap 1000000000 between 0 and 10,000,000 ticks"):
        Contract((Channel("a", "-"),), "h", "life", longest_gap=1_000_000_000)


@pytest.mark.parametrize(
    "wrong",
    [
        {"align": "first"},
        {"hold": -1.0},
        {"hold": float("nan")},
        {"hold": 1.0, "align": "sum"},
        {"hold": 1.0, "role": "counter"},
        {"align": "mean", "role": "counter"},
        {"rollover": 10.0},
        {"rollover": 0.0, "role": "counter"},
        {"name": "channel"},
    ],
)
def test_a_channel_that_cannot_be_aligned_is_refused(wrong):
    with pytest.raises(UsageError, match="channel "):
        Channel(**{"name": "a", "unit": "-", **wrong})


@pytest.mark.parametrize("limits", [{}, {"above": 2.0, "below": 1.0}, {"above": float("nan")}])
def test_a_running_condition_that_says_nothing_is_refused(limits):
    with pytest.raises(UsageError, match="running"):
        Running("a", **limits)


def test_a_contract_survives_json():
    channels = (Channel("a", "-", align="mean", hold=2.0), Channel("e", "kWh", "counter", rollover=1e6))
    more = {"time_zone": "Europe/Berlin", "lateness": 0.5, "running": Running("a", above=1.0), "good": ("Good", "192")}
    contract = Contract(channels, "h", "calendar", **more)
    assert Contract.from_json(json.loads(json.dumps(contract.to_json()))) == contract
    older = {"channels": [{"name": "a", "unit": "-"}], "life_unit": "h", "clock": "life"}
    assert Contract.from_json(older) == Contract((Channel("a", "-"),), "h", "life")


CELLS = st.sampled_from(["1", "11", "abc", "", "inf", "nan", " 2 "])
TABLES = st.lists(
    st.tuples(st.sampled_from(["A", "B", " A", ""]), st.sampled_from(["3", "1", "2", "2.0", "x", "4"]), CELLS, CELLS), max_size=30
)


@settings(max_examples=100, deadline=None)
@given(TABLES, st.data())
def test_batching_changes_no_verdict_and_no_row_is_lost(cells, data):
    contract = Contract(PUMP.channels, "h", "life")
    table = rows(cells)
    whole = Checker(contract).check(table)
    refused = [b.row for b in whole.breaches if not b.alone]
    assert sorted([*(whole.position + 2), *refused]) == table.row.tolist(), "each row once, here or there"
    alone = [b.row for b in whole.breaches if b.alone]
    assert set(alone) <= set((whole.position + 2).tolist()) and not np.isnan(whole.values[np.isin(whole.position + 2, alone)]).all(1).any()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(cells)), max_size=6)))
    one, parts = Checker(contract), []
    for start, stop in zip([0, *cuts], [*cuts, len(cells)], strict=True):
        parts.append(one.check(table.take(np.arange(start, stop))))
    assert [v for p in parts for v in verdicts(p)] == verdicts(whole)
    for name in ("asset", "time", "values"):
        np.testing.assert_array_equal(np.concatenate([getattr(p, name) for p in parts]), getattr(whole, name))
