"""How a candidate tells classes of faults apart on validation."""

from __future__ import annotations

import numpy as np

from pmx.evaluate.classes import class_metrics
from pmx.evaluate.protocol import Protocol
from pmx.pack.classes import probability
from pmx.select.training import Training

LEAST_CHANCE = 1e-6  # a class that is never given a chance costs no more than this says


def class_errors(score: np.ndarray, training: Training, protocol: Protocol) -> dict[str, float]:
    """Errors of out-of-fold log-odds float64 [row, class]: the mean log loss, lower is better, the macro AUROC and the accuracy.

    Empty where validation holds fewer than two classes, as where calibration runs of healthy assets are all of it: then nothing tells
    candidates apart.
    """
    known = training.labels.fault
    assert known is not None, "a task that fits on classes has them"
    rows = ~np.isnan(score).any(1) & ~np.isnan(known).any(1)
    if known[rows].any(0).sum() < 2:
        return {}
    chance, true, asset = probability(score[rows]), known[rows].argmax(1), training.asset[rows]
    own = [asset == name for name in np.unique(asset)]
    told = class_metrics([chance[at] for at in own], [true[at] for at in own], list(training.classes), 1, protocol.seed)
    loss = -np.log(np.maximum(chance[np.arange(len(true)), true], LEAST_CHANCE)).mean()
    return {"validation/log_loss": float(loss), **{f"validation/{k}": told[k][0] for k in ("macro_auroc", "accuracy")}}
