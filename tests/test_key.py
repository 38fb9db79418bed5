"""MLflow takes every name, and no two become one."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pmx.key import MAX_KEY, taken


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=20) | st.text("ab/", min_size=240, max_size=260), unique=True, max_size=8))
def test_every_name_is_taken_and_stays_apart_from_the_others(names: list[str]) -> None:
    from mlflow.utils.validation import _validate_metric_name

    found = taken(names)
    assert list(found) == names and len(set(found.values())) == len(names)
    for name in found.values():
        _validate_metric_name(name)
        assert 0 < len(name) <= MAX_KEY


def test_a_name_that_mlflow_takes_stays_and_one_that_it_refuses_is_near() -> None:
    assert taken(["test/rmse_last_capped", "test/outer race @6:00 (0.5\u2033)/detection_rate"]) == {
        "test/rmse_last_capped": "test/rmse_last_capped",
        "test/outer race @6:00 (0.5\u2033)/detection_rate": "test/outer race _6_00 _0.5__/detection_rate",
    }
    both = taken(["a?", "a!", "a_"])
    assert both["a_"] == "a_" and both["a?"].startswith("a_-") and len(set(both.values())) == 3
