"""The coverage gate: an interval of the life left must hold the truth about as often as it claims."""

from __future__ import annotations

import numpy as np

from pmx.evaluate.report import Row
from pmx.gate.result import Gate

LEAST, MOST = 0.87, 0.96  # of intervals that claim 0.9
RULE = f"the share of last readings whose interval holds the truth may lie within [{LEAST}, {MOST}]"


def coverage(winner: Row) -> Gate:
    """Fails where 95 % of what the share of test assets can mean (Wilson's interval) lies outside of the bound; passes where nothing is told."""
    share, low, high = winner.more.get("coverage_last", (np.nan,) * 3)
    if np.isnan(share):
        return Gate("coverage", True, "no interval to judge: no test asset whose life left is known has one at its last reading")
    width = winner.more["interval_width_last"][0]
    detail = f"{share:.3f} [{low:.3f}, {high:.3f}] of the last readings lie in their interval, which is {width:.3g} wide on average"
    figures = {"coverage": share, "width": width}
    if high < LEAST or low > MOST:
        what = "hold the truth too seldom" if high < LEAST else "are wider than they claim"
        return Gate("coverage", False, detail, culprit=f"the intervals {what}", rule=RULE, figures=figures)
    return Gate("coverage", True, detail, figures=figures)
