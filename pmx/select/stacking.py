"""Stacks on validation: weights from out-of-fold predictions, and what a stack would have said where its weights did not look."""

from __future__ import annotations

import numpy as np

from pmx.evaluate.protocol import Protocol
from pmx.model import Model
from pmx.model.stack import Stack, bound
from pmx.pack.odds import FAR
from pmx.select.training import Training
from pmx.window.label import like_a_test


def with_stacks(
    models: dict[str, Model], scores: dict[str, np.ndarray], training: Training, protocol: Protocol
) -> tuple[dict[str, Model], dict[str, np.ndarray]]:
    """All candidates, stacks with their weights, and the out-of-fold scores of all, float64 [row].

    A stack's own scores use in each fold the weights that the other folds gave. Weights are fitted where a test set might cut a life.

    Args:
        scores: of the candidates that are no stacks.
    """
    found, all_scores = bound(models), dict(scores)
    for name, stack in found.items():
        if not isinstance(stack, Stack):
            continue
        told = np.column_stack([scores[n] for n in stack.parts])
        # log-odds are weighed by the probabilities that they are: of a sure tick, how sure makes no difference
        weighed = 1 / (1 + np.exp(-np.clip(told, -FAR, FAR))) if stack.task == "failure" else told
        usable, target = training.usable(stack.task, protocol)
        length = training.contract.tick
        fair = usable & like_a_test(training.asset, training.labels.rul / length, protocol.cap / length)
        target = np.where(fair if fair.any() else usable, target, np.nan)
        all_scores[name] = np.full(len(told), np.nan)
        for _, validate in training.folds(stack.task):
            others = stack.weigh(np.where(validate[:, None], np.nan, weighed), target)
            all_scores[name][validate] = told[validate] @ np.array(others.weights_)
        found[name] = stack.weigh(weighed, target)
    return found, all_scores
