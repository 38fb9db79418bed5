"""The coverage gate: an interval of the life left must hold the truth about as often as it claims."""

from __future__ import annotations

import numpy as np

from pmx.evaluate.interval import share as share_of
from pmx.evaluate.report import Row
from pmx.gate.result import Gate

LEAST, MOST = 0.87, 0.96  # of intervals that claim 0.9
FEW = 10  # assets below which a bootstrap over them is too sure of itself: of two that agree it knows no doubt
RULE = f"the share of intervals that hold the truth may lie within [{LEAST}, {MOST}]"


def coverage(winner: Row) -> Gate:
    """Fails where all that the test part's share can mean, with 95 % confidence, lies outside of the bound.

    What counts are the last readings of assets that were cut before they failed, as a test set cuts them; where fewer than ten were
    cut, and more were watched until they failed, all readings with less than the cap left. Of fewer than ten assets these say no more
    than one reading of each would. Nothing is told of too few assets: then it passes, and says so.
    """
    last, near = (winner.more.get(f"coverage_{which}", (np.nan,) * 3) for which in ("last", "near"))
    cut, watched = (_assets(winner, f"coverage_{which}") for which in ("last", "near"))
    (share, low, high), what, width = last, "the last readings", "interval_width_last"
    if np.isnan(share) or cut < min(FEW, watched):
        (share, low, high), what, width = near, "the readings with less than the cap left", "interval_width"
        if 2 <= watched < FEW:
            _, least, most = share_of(round(share * watched), watched)
            low, high = min(low, least), max(high, most)
    if np.isnan(share) or np.isnan(low) or (cut == 1 and what == "the last readings"):  # 0 of 1 is one interval in ten
        return Gate("coverage", True, "nothing to judge: of no two test assets is the life left known where they have an interval")
    wide = winner.more[width][0]
    detail = f"{share:.3f} [{low:.3f}, {high:.3f}] of {what} lie in their interval, which is {wide:.3g} wide on average"
    figures = {"coverage": share, "width": wide}
    if high < LEAST or low > MOST:
        culprit = "the intervals " + ("hold the truth too seldom" if high < LEAST else "are wider than they claim")
        return Gate("coverage", False, detail, culprit=culprit, rule=RULE, figures=figures)
    return Gate("coverage", True, detail, figures=figures)


def _assets(winner: Row, measure: str) -> int:
    """How many assets say something of a measure."""
    part = winner.parts.measures.get(measure)
    return 0 if part is None else int(np.count_nonzero(part.denominator))
