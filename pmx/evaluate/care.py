"""The CARE score of an anomaly detector: one number of what it covers, what it leaves in peace, whom one can believe, and how early."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from pmx.edge.replay import spans
from pmx.evaluate.interval import Interval
from pmx.evaluate.protocol import Protocol

BETA2 = 0.25  # β = 0.5: a false alarm weighs more than a miss
WEIGHTS = {"coverage": 1.0, "earliness": 1.0, "reliability": 1.0, "accuracy": 2.0}


@dataclass(frozen=True)
class _Sums:
    """Per asset, or per draw of assets: float64 [asset]."""

    coverage: np.ndarray  # sum over its anomalous sequences
    earliness: np.ndarray
    anomalous: np.ndarray  # number of such sequences
    found: np.ndarray  # of them, those with an alarm
    accuracy: np.ndarray  # sum over its normal sequences
    normal: np.ndarray  # number of such sequences
    disturbed: np.ndarray  # of them, those with an alarm

    def some(self, at: np.ndarray) -> _Sums:
        """Of drawn assets int64 [draw, asset], added up."""
        return _Sums(*(getattr(self, f.name)[at].sum(-1) for f in fields(self)))


def care_metrics(wrong: list[np.ndarray], over: list[np.ndarray], standing: list[np.ndarray], protocol: Protocol) -> dict[str, Interval]:
    """CARE after Gück, Roelofs and Faulstich 2024, CARE to Compare, 0 to 1, higher is better, with its four terms; intervals over assets.

    A sequence is judged as anomalous or normal. `care_coverage`: F0.5 of the readings of each anomalous sequence, averaged.
    `care_accuracy`: share of the readings of each normal sequence that are not raised, averaged. `care_earliness`: raised
    share of the readings of each event, weighted 1 in its first half and falling to 0 at its end, averaged. `care_reliability`: F0.5 over
    sequences, of whether something was found. `care` is 0 where no event was found; the accuracy where that is at most one half;
    otherwise the mean of the four, accuracy counting twice.

    Two things differ from the paper. A sequence counts as found when an alarm of the policy stands in it by the end of its event: the
    policy's persistence takes the place of the paper's criticality counter, whose 72 steps belong to ten-minute readings of
    wind turbines. And sequences are cut from records: an asset's readings up to the end of its first event, from there to the end of its
    next one, and so on, the rest with the last, are its anomalous sequences; an asset without an event is a normal sequence. Where every
    asset has one, the readings before the first event of each are the normal sequences, and `care_normal_assets` is 0. NaN where there
    are no anomalous or no normal sequences.

    Args:
        wrong, over, standing: per asset, of the readings that count, bool [time]: whether each is anomalous, whether its score reaches the
            limit, and whether the alarm stands. Events are runs of anomalous readings.
    """
    whole = sum(len(w) > 0 and not w.any() for w in wrong)
    sums = _Sums(*np.array([_of(*each, before=not whole) for each in zip(wrong, over, standing, strict=True)]).reshape(-1, 7).T)
    at = np.random.default_rng(protocol.seed).integers(0, max(1, len(wrong)), (protocol.draws, len(wrong)))
    value, drawn = _terms(sums.some(np.arange(len(wrong))[None])), _terms(sums.some(at))
    found = {}
    for name, values in drawn.items():
        said = values[~np.isnan(values)]
        ends = np.percentile(said, [2.5, 97.5]) if len(said) and len(wrong) > 1 else (np.nan, np.nan)
        found[name] = (float(value[name][0]), float(ends[0]), float(ends[1]))
    return found | {"care_normal_assets": (float(whole), np.nan, np.nan)}


def _of(wrong: np.ndarray, over: np.ndarray, standing: np.ndarray, before: bool) -> list[float]:
    """The sums of one asset; its readings before its first event are a normal sequence where `before`."""
    events, coverage, earliness, found = spans(wrong), 0.0, 0.0, 0
    ends = [0, *(end for _, end in events)]
    for k, (begin, end) in enumerate(events):
        part = slice(ends[k], end if k + 1 < len(events) else len(wrong))
        hits = float((wrong & over)[part].sum())
        coverage += (1 + BETA2) * hits / (BETA2 * wrong[part].sum() + over[part].sum())
        weight = np.minimum(1.0, 2 * (1 - (np.arange(end - begin) + 0.5) / (end - begin)))
        earliness += float((weight * over[begin:end]).sum() / weight.sum())
        found += bool(standing[ends[k] : end].any())
    head = slice(0, (events[0][0] if before else 0) if events else len(wrong))
    normal = int(len(over[head]) > 0)
    accuracy = float((~over[head]).mean()) if normal else 0.0
    return [coverage, earliness, len(events), found, accuracy, normal, float(normal and standing[head].any())]


def _terms(sums: _Sums) -> dict[str, np.ndarray]:
    """CARE and its terms, float64 [draw]."""
    with np.errstate(invalid="ignore", divide="ignore"):  # a draw may hold no event, or no normal sequence
        terms = {
            "coverage": sums.coverage / sums.anomalous,
            "earliness": sums.earliness / sums.anomalous,
            "reliability": (1 + BETA2) * sums.found / (BETA2 * sums.anomalous + sums.found + sums.disturbed),
            "accuracy": sums.accuracy / sums.normal,
        }
    mean = sum(WEIGHTS[k] * v for k, v in terms.items()) / sum(WEIGHTS.values())
    care = np.where(sums.found == 0, 0.0, np.where(terms["accuracy"] <= 0.5, terms["accuracy"], mean))
    care = np.where((sums.anomalous == 0) | (sums.normal == 0), np.nan, care)
    return {"care": care} | {f"care_{k}": v for k, v in terms.items()}
