"""`pmx new`: drafts a plant's card and experiment from its raw files."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pmx.contract import UsageError
from pmx.draft.card import card_text
from pmx.draft.experiment import experiment_text
from pmx.draft.plan import Plan, make_plan
from pmx.draft.sheet import find_files


def new_plant(plant: str, readings: Sequence[str], orders: Sequence[str] = (), force: bool = False) -> dict[str, Any]:
    """Writes `datasets/PLANT.yaml` and `experiments/PLANT.yaml` into the current folder, and prints what is open.

    Args:
        plant: its name, a word that is good as a file's name.
        readings: files, patterns or folders; `orders` likewise, empty = none.
        force: whether drafts that are there already are written anew.

    Raises:
        UsageError: the name is no word, or a draft is there already.
        DataError: a file that cannot be read, or in which nothing is recognised.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", plant):
        raise UsageError(f"{plant!r} is no name for a plant -> a letter, then letters, digits, - or _")
    card, experiment = Path("datasets") / f"{plant}.yaml", Path("experiments") / f"{plant}.yaml"
    there = [str(p) for p in (card, experiment) if p.exists()]
    if there and not force:
        raise UsageError(f"{' and '.join(there)}: there already, nothing was written -> --force writes anew, another name keeps both")
    plan = make_plan(plant, find_files(readings), find_files(orders))
    texts = {card: card_text(plan, card.parent), experiment: experiment_text(plan, card.as_posix())}
    for path, text in texts.items():
        _write(path, text)
    _tell(plan, card, experiment)
    return {
        "card": str(card),
        "experiment": str(experiment),
        "assets": list(plan.assets),
        "channels": {n: s.unit or "-" for n, s in plan.channels.items()},
        "unused": plan.unused,
        "failures": plan.work.failures() if plan.work else 0,
        "questions": list(plan.questions),
    }


def _tell(plan: Plan, card: Path, experiment: Path) -> None:
    layout, grid = plan.layout, plan.grid
    noun = plan.noun.removesuffix("s") if len(plan.assets) == 1 else plan.noun
    print(
        f"{plan.plant}: {len(plan.assets)} {noun}, {len(plan.channels)} channels, {'long' if layout.long else 'wide'} rows, "
        f"ticks of {grid.tick:g} {grid.life_unit}, {len(plan.unused)} signals or columns left out"
    )
    if plan.work:
        by = dict(plan.work.events.drop_nulls("asset").group_by("event").len().sort("event").iter_rows())
        print(f"  orders: {', '.join(f'{n} {e}' for e, n in by.items())}; {plan.work.failures()} failures within the readings")
    print(f"Wrote {card} and {experiment}; every guess in them says why")
    for n, question in enumerate(plan.questions, 1):
        print(f"{'Open questions:' if n == 1 else '':15} {n}. {question}")
    print(f"Next: pmx data profile {plan.plant}     (what these data can carry)\n      pmx run {plan.plant}")


def _write(path: Path, text: str) -> None:
    """Writes a file so that nobody ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
