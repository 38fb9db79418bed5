"""The coverage gate: an interval of the life left must hold the truth about as often as it claims."""

from __future__ import annotations

import numpy as np

from pmx.evaluate.report import Row
from pmx.gate.result import Gate

LEAST, MOST = 0.87, 0.96  # of intervals that claim 0.9
RULE = f"the share of intervals that hold the truth may lie within [{LEAST}, {MOST}]"


def coverage(winner: Row) -> Gate:
    """Fails where all that the test part's share can mean, with 95 % confidence, lies outside of the bound.

    What counts are the last readings of assets that were cut before they failed, as a test set cuts them; where all were watched until
    they failed, all readings with less than the cap left. Nothing is told of too few assets: then it passes, and says so.
    """
    last, near = (winner.more.get(f"coverage_{which}", (np.nan,) * 3) for which in ("last", "near"))
    (share, low, high), what, width = last, "the last readings", "interval_width_last"
    if np.isnan(share):
        (share, low, high), what, width = near, "the readings with less than the cap left", "interval_width"
    if np.isnan(share) or np.isnan(low):
        return Gate("coverage", True, "nothing to judge: of no two test assets is the life left known where they have an interval")
    wide = winner.more[width][0]
    detail = f"{share:.3f} [{low:.3f}, {high:.3f}] of {what} lie in their interval, which is {wide:.3g} wide on average"
    figures = {"coverage": share, "width": wide}
    if high < LEAST or low > MOST:
        culprit = "the intervals " + ("hold the truth too seldom" if high < LEAST else "are wider than they claim")
        return Gate("coverage", False, detail, culprit=culprit, rule=RULE, figures=figures)
    return Gate("coverage", True, detail, figures=figures)
