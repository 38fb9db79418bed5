"""The coverage gate: an interval of the life left must hold the truth about as often as it claims."""

from __future__ import annotations

import numpy as np

from pmx.evaluate.interval import Interval
from pmx.evaluate.interval import share as share_of
from pmx.evaluate.report import Row
from pmx.gate.result import Gate

LEAST, MOST = 0.87, 0.96  # of intervals that claim 0.9
NOTHING = (np.nan, np.nan, np.nan)
FEW = 10  # assets below which a bootstrap over them is too sure of itself: of two that agree it knows no doubt
ENOUGH = 19  # assets: of these and the one to come, one in twenty may lie beyond each end
NEAR = "the readings with less than the cap left"
RULE = f"the share of intervals that hold the truth may lie within [{LEAST}, {MOST}]"


def coverage(winner: Row, taught: int | None = None) -> Gate:
    """Fails where all that the test part's share can mean, with 95 % confidence, lies outside of the bound; passes where too few assets
    are there to say anything, and says so.

    A share among the readings near a failure is picked by the truth, which no interval can promise: of failures that nothing tells,
    such as 3 products in 100 that break by chance, honest intervals miss most. So intervals that hold the truth too seldom there pass
    where they hold it often enough among the readings that they themselves place below the cap.

    Args:
        winner: the winner's row.
        taught: how many assets it was fitted and validated on; fewer than 19 leave the widest error that was seen as the only end that
            both sides of an interval can have, so that intervals are wide and no fault; None = enough.
    """
    (share, low, high), what, width = judged_share(winner)
    if np.isnan(low):
        return Gate("coverage", True, "nothing to judge: of no two test assets is the life left known where they have an interval")
    wide = winner.more[width][0]
    detail = f"{share:.3f} [{low:.3f}, {high:.3f}] of {what} lie in their interval, which is {wide:.3g} wide on average"
    figures = {"coverage": share, "width": wide}
    seldom = high < LEAST
    if seldom and what == NEAR and not np.isnan((told := _among(winner, "coverage_told"))[1]):
        detail += f"; {told[0]:.3f} [{told[1]:.3f}, {told[2]:.3f}] do where the interval says that less than the cap may be left"
        figures["coverage_told"], seldom = told[0], told[2] < LEAST
    few = taught is not None and taught < ENOUGH
    if few and low > MOST:
        detail += f"; {taught} assets taught how wide it must be, and fewer than {ENOUGH} cannot narrow it"
    if seldom or (low > MOST and not few):
        culprit = "the intervals " + ("hold the truth too seldom" if seldom else "are wider than they claim")
        return Gate("coverage", False, detail, culprit=culprit, rule=RULE, figures=figures)
    return Gate("coverage", True, detail, figures=figures)


def judged_share(winner: Row) -> tuple[Interval, str, str]:
    """The share of intervals that hold the truth, with its 95 % interval (NaN = nothing to judge), of what, and the measure of their width.

    What counts are the last readings of assets that were cut before they failed, as a test set cuts them; where fewer than ten were
    cut, and more were watched until they failed, all readings with less than the cap left. Of fewer than ten assets these say no more
    than one reading of each would.
    """
    last = winner.more.get("coverage_last", NOTHING)
    cut, watched = (_assets(winner, f"coverage_{which}") for which in ("last", "near"))
    if not np.isnan(last[0]) and cut >= min(FEW, watched):
        return NOTHING if cut == 1 else last, "the last readings", "interval_width_last"  # 0 of 1 is one interval in ten
    return _among(winner, "coverage_near"), NEAR, "interval_width"


def _among(winner: Row, measure: str) -> Interval:
    """A share of readings; of fewer than ten assets with the doubt of one reading each."""
    (share, low, high), assets = winner.more.get(measure, NOTHING), _assets(winner, measure)
    if 2 <= assets < FEW:
        _, least, most = share_of(round(share * assets), assets)
        low, high = min(low, least), max(high, most)
    return share, low, high


def _assets(winner: Row, measure: str) -> int:
    """How many assets say something of a measure."""
    part = winner.parts.measures.get(measure)
    return 0 if part is None else int(np.count_nonzero(part.denominator))
