"""The example plant is understood as what it is: units, roles, joins, and what is asked."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmx.contract import DataError
from pmx.draft.plan import ENOUGH, Plan, brief, horizons, make_plan

FOLDER = Path(__file__).parents[2] / "datasets" / "example_plant"


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan("example", sorted(FOLDER.glob("readings_*.csv")), [FOLDER / "orders.csv"])


def test_channels_have_their_units_and_roles(plan: Plan) -> None:
    assert {n: (s.tag, s.unit, s.role) for n, s in plan.channels.items()} == {
        "vib_de": ("VIB_DE", "mm/s", "measurement"),
        "temp_lager": ("TEMP_LAGER", "°C", "measurement"),
        "p_aus": ("P_AUS", "bar", "measurement"),
        "q_foerder": ("Q_FOERDER", "m3/h", "measurement"),
        "i_motor": ("I_MOTOR", "A", "measurement"),
        "n_ist": ("N_IST", "rpm", "setting"),
        "e_zaehler": ("E_ZAEHLER", "kWh", "counter"),
    }
    assert plan.channels["e_zaehler"].rollover == 100_000 and plan.unused == {
        "STUFE": "constant",
        "Einheit": "units, written into this card",
    }


def test_assets_quality_clock_and_standstill(plan: Plan) -> None:
    assert plan.assets == ("P101", "P102", "P103") and plan.good[0] == ["Good"] and plan.zone[0] == "Europe/Berlin"
    assert (plan.sheet.encoding, plan.sheet.separator, plan.sheet.decimal) == ("cp1252", ";", ",")
    assert plan.grid.life_unit == "h" and plan.grid.tick == 0.5 and 0 < plan.grid.lateness < 1
    assert plan.running is not None and plan.running[0] == "n_ist" and 100 < (plan.running[1].off or 0) < 1400


def test_orders_join_their_pumps(plan: Plan) -> None:
    assert plan.work is not None and plan.work.failures() == 3 < ENOUGH and not plan.lives()
    assert {raw: asset for raw, (asset, _) in plan.work.joined.names.items()} == {
        **{"10004711": "P101", "10004714": "P102", "10004717": "P103", "W1-PH1-P-101": "P101"}
    }
    assert plan.work.joined.unmatched == {"10009999": 1} and plan.work.orders.cancelled == ("LKZ",)


def test_what_nobody_can_guess_is_asked(plan: Plan) -> None:
    asked = " ".join(plan.questions)
    assert len(plan.questions) == 3 and all(w in asked for w in ("time_zone", "PM01", "10009999"))
    alone = make_plan("example", sorted(FOLDER.glob("readings_*.csv")), [])
    assert "no orders were given" in alone.questions[-1] and not alone.lives()


def test_a_horizon_leaves_room_for_health_in_a_short_record(plan: Plan) -> None:
    horizon, lead, cap = horizons(plan)
    assert lead < horizon < plan.grid.span / 14 and cap > horizon


def test_a_record_without_a_signal_is_refused(tmp_path: Path) -> None:
    lines = ["time;a;b", *(f"2026-01-01T00:{i:02}:00Z;5;x" for i in range(30))]
    (tmp_path / "r.csv").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(DataError, match="no signal varies: a .constant."):
        make_plan("p", [tmp_path / "r.csv"], [])


@given(st.lists(st.tuples(st.sampled_from(["tag_", "p", "x2_"]), st.integers(0, 12)), unique=True, max_size=30))
def test_all_names_are_told_briefly(made: list[tuple[str, int]]) -> None:
    names = [f"{stem}{n}" for stem, n in made]
    told = []
    for part in brief(names).split(", ") if names else []:
        first, _, last = part.partition(" to ")
        at = [names.index(n) for n in (first, last or first)]
        told += names[at[0] : at[1] + 1]
    assert told == names
