"""Probabilities of classes, such as kinds of fault, against the class that was."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pmx.evaluate.interval import Interval, ratio
from pmx.evaluate.part import Part

WORK = 5_000_000  # readings times draws for one class: enough for an interval, a second or less


@dataclass(frozen=True)
class Told:
    """Which classes of faults were told as which.

    Attributes:
        names: of the classes.
        counts: readings, int64 [true class, likeliest class].
        left_out: classes without a reading in the test part, or with nothing beside them.
        new: classes of the test part that nothing was fitted on: their readings do not count.
        components: how many physical components are tested, and how many of those were fitted on too.

    Example:
        >>> Told(("healthy", "ball"), np.array([[9, 1], [0, 10]]), components=(2, 0)).usual
        0.5
    """

    names: tuple[str, ...]
    counts: np.ndarray
    left_out: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    components: tuple[int, int] = (0, 0)

    @property
    def usual(self) -> float:
        """Share of the commonest class: the accuracy of who always says it; NaN without a reading."""
        return float(self.counts.sum(1).max() / self.counts.sum()) if self.counts.sum() else np.nan

    def lines(self) -> list[list[str]]:
        """Head and lines of the table, a line for each true class."""
        rows = [[name, *(f"{n:,}" for n in counts)] for name, counts in zip(self.names, self.counts, strict=True)]
        return [["true class", *(f"told as {name}" for name in self.names)], *rows]

    def notes(self) -> list[str]:
        """Which split it comes from, and of which classes it says nothing; one sentence each."""
        tested, known = self.components
        both = f"Not split by physical component: {known} of the {tested} of the test part were fitted on too, in other readings."
        apart = f"Split by physical component: none of the {tested} of the test part was fitted on."
        said = [f"{both} This says nothing of another component." if known else apart]
        said += [f"Always the commonest class has an accuracy of {self.usual:.2f}."] if self.counts.sum() else []
        said += [f"Nothing can be said of {', '.join(self.left_out)}: no reading, or none beside it."] if self.left_out else []
        return said + ([f"Never fitted on and not counted: {', '.join(self.new)}."] if self.new else [])


def class_metrics(
    probability: list[np.ndarray], truth: list[np.ndarray], names: list[str], draws: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """How well probabilities tell classes, all as fractions; intervals are drawn over assets.

    `macro_auroc`: the area under the ROC curve of each class against the others, averaged over the classes that have readings on both
    sides, see `left_out`. `auroc/<class>`: each of them. `accuracy`: share of readings whose likeliest class is the true one.
    Long records have fewer bootstrap samples, but never below 200 unless `draws` is.

    Args:
        probability: per asset float [time, class]; NaN where there is no verdict, which then does not count.
        truth: per asset int [time], the class; below 0 = unknown, which does not count.
        names: of the classes.
    """
    p, true, asset = _flat(probability, truth, len(names))
    n, assets = len(true), len(truth)
    draws = min(draws, max(200, WORK // max(1, n)))
    at = np.random.default_rng(seed).integers(0, max(1, assets), (draws, assets))
    drawn = np.stack([np.bincount(row, minlength=max(1, assets)) for row in at]) if assets else np.zeros((draws, 1))
    told = [k for k in range(len(names)) if 0 < (true == k).sum() < n]
    value = {k: float(_auroc(p[:, k], true == k, asset, np.ones((1, max(1, assets))))[0]) for k in told}
    each = {k: _auroc(p[:, k], true == k, asset, drawn) for k in told}
    found = {f"auroc/{names[k]}": _interval(value[k], each[k], assets) for k in told}
    table = np.array([each[k] for k in told]).reshape(-1, draws)
    with np.errstate(invalid="ignore"):  # a draw may hold no class on both sides
        mean = np.nan_to_num(table).sum(0) / (~np.isnan(table)).sum(0)
    macro = _interval(float(np.mean([value[k] for k in told])) if told else np.nan, mean, assets)
    part = class_parts(probability, truth, names)["accuracy"]
    return {"macro_auroc": macro, "accuracy": ratio(part.numerator, part.denominator, draws, seed)} | found


def class_parts(probability: list[np.ndarray], truth: list[np.ndarray], names: list[str]) -> dict[str, Part]:
    """The parts per asset of those measures that are sums over assets."""
    p, true, asset = _flat(probability, truth, len(names))
    hit = p.argmax(1) == true
    right, count = (np.bincount(asset[w], minlength=len(truth)).astype(np.float64) for w in (hit, np.ones(len(true), bool)))
    return {"accuracy": Part(right, count, higher=True)}


def confusion(probability: list[np.ndarray], truth: list[np.ndarray], names: list[str]) -> np.ndarray:
    """How many readings of each class were told as which, int64 [true class, likeliest class]."""
    p, true, _ = _flat(probability, truth, len(names))
    k = len(names)
    return np.bincount(true * k + p.argmax(1), minlength=k * k).reshape(k, k)


def left_out(probability: list[np.ndarray], truth: list[np.ndarray], names: list[str]) -> list[str]:
    """Classes that have no reading, or no reading beside them: nothing can be said of how they are told from others."""
    _, true, _ = _flat(probability, truth, len(names))
    return [name for k, name in enumerate(names) if not 0 < (true == k).sum() < len(true)]


def _flat(probability: list[np.ndarray], truth: list[np.ndarray], classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the readings that count: probabilities [reading, class], true class and asset, int64 [reading]."""
    p = np.concatenate([np.asarray(v, np.float64).reshape(-1, classes) for v in [*probability, np.zeros((0, classes))]])
    true = np.concatenate([*truth, np.zeros(0, np.int64)]).astype(np.int64)
    asset = np.repeat(np.arange(len(truth)), [len(t) for t in truth])
    counts = (true >= 0) & ~np.isnan(p).any(1)
    return p[counts], true[counts], asset[counts]


def _auroc(score: np.ndarray, positive: np.ndarray, asset: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Area under the ROC curve as the share of pairs in order, ties half (Hanley and McNeil 1982), float64 [draw]; NaN without pairs.

    Args:
        drawn: how often each asset was drawn, int [draw, asset].
    """
    order = np.argsort(score, kind="stable")
    score, positive, asset = score[order], positive[order], asset[order]
    last = np.flatnonzero(np.append(np.diff(score) > 0, True))  # of each run of equal scores
    found = np.full(len(drawn), np.nan)
    for i, times in enumerate(drawn):
        weight = times[asset]
        up, down = (np.cumsum(np.where(side, weight, 0.0))[last] for side in (positive, ~positive))
        if up[-1] > 0 and down[-1] > 0:
            found[i] = np.trapezoid(up, down)  # of positives below against negatives below: pairs that are out of order
            found[i] = 1 - (found[i] + up[0] * down[0] / 2) / (up[-1] * down[-1])
    return found


def _interval(value: float, drawn: np.ndarray, assets: int) -> Interval:
    said = drawn[~np.isnan(drawn)]
    if np.isnan(value) or assets < 2 or not len(said):
        return value, np.nan, np.nan
    low, high = np.percentile(said, [2.5, 97.5])
    return value, float(low), float(high)
