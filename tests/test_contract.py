"""The numpy checker: each breach is found and named, nothing is lost, and batching changes nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmx.contract import FLOAT32_LIMIT, Channel, Contract, DataError, Rows, UsageError
from pmx.judge import Checker

PUMP = Contract((Channel("pressure", unit="bar", low=0.0, high=10.0), Channel("flow", unit="l/s")), "h", "calendar")
T0 = "2026-01-01T00:00:00Z"


def rows(cells: list[tuple], names: tuple[str, ...] = ("pressure", "flow"), file: str = "readings.csv") -> Rows:
    table = np.array(cells, object).reshape(len(cells), 2 + len(names))
    values = {name: table[:, 2 + i] for i, name in enumerate(names)}
    return Rows(table[:, 0], table[:, 1], values, np.full(len(cells), file, object), np.arange(len(cells)) + 2)


def verdicts(checked) -> list[tuple]:
    return [(b.row, b.asset, b.channel, b.reason, b.value) for b in checked.breaches]


@pytest.mark.parametrize(
    ("row", "channel", "reason", "value"),
    [
        (("", T0, "1", "1"), "", "missing_asset", ""),
        ((" NA\t", T0, "1", "1"), "", "missing_asset", " NA\t"),
        ((None, T0, "1", "1"), "", "missing_asset", ""),
        (("P1", "2026-02-30T00:00", "1", "1"), "", "unparsable_time", "2026-02-30T00:00"),
        (("P1", "2026-01-01", "1", "1"), "", "unparsable_time", "2026-01-01"),
        (("P1", "31.12.2026 10:00", "1", "1"), "", "unparsable_time", "31.12.2026 10:00"),
        (("P1", T0 + "\n", "1", "1"), "", "unparsable_time", T0 + "\n"),
        (("P1", "9999-12-31T23:59-12:00", "1", "1"), "", "unparsable_time", "9999-12-31T23:59-12:00"),
        (("P1", T0, "abc", "1"), "pressure", "wrong_type", "abc"),
        (("P1", T0, "1_0", "1"), "pressure", "wrong_type", "1_0"),
        (("P1", T0, "\u0663", "1"), "pressure", "wrong_type", "\u0663"),
        (("P1", T0, "1,5", "1"), "pressure", "wrong_type", "1,5"),
        (("P1", T0, "1", "-INFinity"), "flow", "infinite", "-INFinity"),
        (("P1", T0, "1", "3.5e38"), "flow", "infinite", "3.5e38"),
        (("P1", T0, "1", "1e999"), "flow", "infinite", "1e999"),
        (("P1", T0, "10.000000001", "x"), "pressure", "out_of_range", "10.000000001"),
        (("P1", T0, "-0.1", "1"), "pressure", "out_of_range", "-0.1"),
        (("", "x", "inf", "x"), "", "missing_asset", ""),
    ],
)
def test_each_breach_is_filed_under_the_first_rule_it_breaks(row, channel, reason, value):
    checked = Checker(PUMP).check(rows([("P1", "2025-01-01T00:00", "1", "1"), row]))
    assert [(c, r, v) for _, _, c, r, v in verdicts(checked)] == [(channel, reason, value)]
    assert checked.position.tolist() == [0]


def test_a_value_in_an_unlisted_column_is_refused_and_an_empty_one_is_not():
    checked = Checker(PUMP).check(rows([("P1", T0, "1", "1", "5"), ("P1", T0, "1", "1", " ")], ("pressure", "flow", "colour")))
    assert verdicts(checked) == [(2, "P1", "colour", "unknown_channel", "5")]


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
    ],
)
def test_a_contract_that_cannot_hold_is_refused(settings_):
    with pytest.raises(UsageError):
        Contract(**{"channels": (Channel("a", "-"),), "life_unit": "h", "clock": "calendar", **settings_})


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
    assert len(whole.asset) + len(whole.breaches) == len(cells)
    assert sorted([*(whole.position + 2), *(b.row for b in whole.breaches)]) == table.row.tolist()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(cells)), max_size=6)))
    one, parts = Checker(contract), []
    for start, stop in zip([0, *cuts], [*cuts, len(cells)], strict=True):
        parts.append(one.check(table.take(np.arange(start, stop))))
    assert [v for p in parts for v in verdicts(p)] == verdicts(whole)
    for name in ("asset", "time", "values"):
        np.testing.assert_array_equal(np.concatenate([getattr(p, name) for p in parts]), getattr(whole, name))
