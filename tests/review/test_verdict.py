"""Each rule speaks where it should, alone, in one sentence with its figures; the gravest answer wins."""

from dataclasses import replace

import numpy as np
import pytest

from pmx.evaluate.interval import share
from pmx.review.verdict import CREW, RULES, Evidence, Gain, decide

GOOD = Evidence(caught=30, counted=34, recall=share(30, 34), judged=33, false=3, false_week=(0.4, 0.1, 1.0), fleet="40 pumps")
BETTER = Gain("RMSE in hours", 40.0, 110.0, (70.0, 60.0, 80.0))
EQUAL = Gain("RMSE in hours", 108.0, 110.0, (2.0, -5.0, 9.0))

CASES = {
    "_gate": ("no", {"failed": (("parity", "2 leaves changed"),)}, "parity refused the result: 2 leaves changed"),
    "_leak": ("no", {"accepted": "known to be harmless"}, "known to be harmless"),
    "_plain": ("no", {"no_better": "No better than clock (by F1)"}, "No better than clock"),
    "_age": ("no", {"gains": (EQUAL,)}, "108 against 110, better by 2 [-5, 9]"),
    "_none": ("no", {"caught": 0, "recall": share(0, 34)}, "None of 34 failures"),
    "_unknown": ("shadow only", {"known": False, "caught": 0, "counted": 0, "recall": share(0, 0)}, "nobody knows"),
    "_few": ("shadow only", {"caught": 4, "counted": 5, "recall": share(4, 5)}, "4 of 5 failures"),
    "_half": ("shadow only", {"caught": 40, "counted": 100, "recall": share(40, 100)}, "unannounced: 40 of 100"),
    "_mostly_false": ("shadow only", {"false": 20, "judged": 40}, "20 of 40 judged alarms"),
    "_crew": ("shadow only", {"false_week": (CREW + 1, 4.0, 9.0)}, "6.0 false alarms a week for 40 pumps"),
    "_short": ("shadow only", {"short": "3 h"}, "40 pumps were watched for 3 h"),
    "_coverage": ("shadow only", {"states_life": True, "coverage": (0.6, 0.5, 0.7)}, "60% of the true lives"),
    "_silent": ("shadow only", {"silent": 2}, "2 of the assets"),
}


def test_what_speaks_against_nothing_is_deployed():
    found = decide(replace(GOOD, gains=(BETTER,), states_life=True, coverage=(0.9, 0.8, 0.95)))
    assert found.answer == "yes" and "30 of 34 failures" in found.reasons[0] and "better by 70 [60, 80]" in found.reasons[1]
    assert decide(GOOD).answer == "yes", "without a row of the age alone there is nothing to beat"


@pytest.mark.parametrize("rule", [rule.__name__ for _, rule in RULES])
def test_each_rule_speaks_alone(rule):
    answer, change, said = CASES[rule]
    found = decide(replace(GOOD, **change))
    assert found.answer == answer and len(found.reasons) == 1 and said in found.reasons[0] and found.reasons[0].endswith(".")


def test_the_gravest_answer_wins_and_tells_all_its_reasons():
    found = decide(replace(GOOD, accepted="why not", failed=(("budget", "too large"),), silent=1))
    assert found.answer == "no" and len(found.reasons) == 2, "what makes it shadow only is not told beside a no"


def test_too_few_events_show_nothing_against_the_age():
    few = replace(GOOD, caught=2, counted=3, recall=share(2, 3), gains=(EQUAL,))
    assert decide(few).answer == "shadow only"
    assert decide(replace(GOOD, gains=(EQUAL, BETTER))).answer == "yes", "better by one measure is better"


def test_an_unknown_or_low_coverage_speaks():
    life = replace(GOOD, states_life=True)
    assert "unknown" in decide(life).reasons[0]
    assert decide(replace(life, coverage=(0.82, 0.7, 0.92))).answer == "yes", "the interval reaches what is meant"
    assert decide(replace(life, coverage=(0.5, np.nan, np.nan))).answer == "shadow only"
    none = replace(GOOD, caught=0, counted=0, recall=share(0, 0))
    assert "could count" in decide(none).reasons[0]
