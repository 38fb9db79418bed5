"""Which class of fault a bundle tells, against the class that was: metrics, the table of confusions, and what split they come from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pmx.edge.replay import Replayed
from pmx.evaluate.classes import Told, class_metrics, class_parts, confusion, left_out
from pmx.evaluate.protocol import Protocol, Truth
from pmx.evaluate.report import Row


def with_classes(row: Row, played: Replayed, truth: Truth, protocol: Protocol, components: tuple[int, int]) -> Row:
    """The row with how its probabilities of classes tell them apart; as it is, where the replay gave none or nobody knows the classes.

    Args:
        components: how many physical components are tested, and how many of those were fitted on too.
    """
    if not played.classes or not truth.kinds:
        return row
    names, probability = list(played.classes), played.outputs["fault_probability"]
    ticks = [np.asarray(t, np.float64) for t in played.tick]
    true = [truth.class_at(t, i, names) for i, t in enumerate(ticks)]
    found = class_metrics(probability, true, names, protocol.draws, protocol.seed)
    new = {
        name
        for i, own in enumerate(truth.kinds)
        for first, last, name in own
        if name not in names and ((ticks[i] >= max(first, truth.begins[i])) & (ticks[i] <= last)).any()
    }
    told = Told(
        played.classes, confusion(probability, true, names), tuple(left_out(probability, true, names)), tuple(sorted(new)), components
    )
    parts = replace(row.parts, measures=row.parts.measures | class_parts(probability, true, names))
    return replace(row, more=row.more | found, parts=parts, told=told)
