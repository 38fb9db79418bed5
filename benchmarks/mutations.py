"""Which planted mistakes the look-ahead gate finds: each into every source that has the structure for it, beside clean runs.

The peer is nobody: a gate is judged by what it misses, by what it names wrongly, and by what it refuses without a reason.
"""

from __future__ import annotations

import json
import time

import pytest

from tests.gate.mutations.case import Case, case, sources
from tests.gate.mutations.plants import PLANTS, Plant


def judged(plant: Plant, clean: Case) -> tuple[bool, bool, str]:
    """Whether a plant was found, whether it was named, and the culprit."""
    with pytest.MonkeyPatch.context() as patch:
        gate = plant.make(patch, clean).judge()
    return not gate.passed, gate.culprit.startswith(plant.culprit), gate.culprit


def main() -> None:
    begin, cases = time.process_time(), {}
    for name in sources():
        try:
            cases[name] = case(name)
        except Exception as error:  # a source that cannot be made here must not hide what is found in the others
            print(f"{name} was left out: {str(error).splitlines()[0]}")
    false = [f"{name}: {gate.culprit}" for name, clean in cases.items() if not (gate := clean.judge()).passed]
    table, missed = [], []
    print(f"{'mutation':<24} planted  found  named")
    for plant in PLANTS:
        tried = {name: judged(plant, clean) for name, clean in cases.items() if plant.fits(clean)}
        table.append((len(tried), sum(t[0] for t in tried.values()), sum(t[0] and t[1] for t in tried.values())))
        print(f"{plant.name:<24} {table[-1][0]:7}  {table[-1][1]:5}  {table[-1][2]:5}")
        missed += [f"{plant.name} in {name}: {t[2] or 'not found'}" for name, t in tried.items() if not (t[0] and t[1])]
    planted, found, named = (sum(column) for column in zip(*table, strict=True))
    print(f"{'clean runs':<24} {len(cases):7}  {len(false):5} findings")
    result = {
        "bench": "mutations",
        "sources": sorted(cases),
        "planted": planted,
        "found": found,
        "named": named,
        "clean_runs": len(cases),
        "false_findings": len(false),
        "missed": missed + false,
        "cpu_seconds": round(time.process_time() - begin, 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
