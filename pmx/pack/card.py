"""The card that travels with a bundle: what it predicts, for which readings, how well, and what it was not shown to do."""

from __future__ import annotations

from pmx.alarm.state import Policy
from pmx.evaluate.protocol import Protocol
from pmx.pack.fitted import Fitted
from pmx.source import History


def card(name: str, history: History, winner: Fitted, policy: Policy, protocol: Protocol, gates: dict[str, str], tables: list[str]) -> str:
    """Markdown for the people who take over a bundle.

    Args:
        gates: name -> one sentence of what the gate found.
        tables: plain-text tables of the test part.
    """
    unit = history.contract.life_unit
    says = (
        f"remaining useful life in {unit}, at most {protocol.cap:g}" if winner.output == "rul" else "an anomaly score, 0..1, higher = worse"
    )
    knows = (
        "counts the asset's age from its first reading"
        if any(k.reads_age for k in winner.features.kernels)
        else "does not know the asset's age"
    )
    channels = "\n".join(
        f"| {c.name} | {c.unit} | {c.role} | {'–' if c.low is None else f'{c.low:g}'} | {'–' if c.high is None else f'{c.high:g}'} |"
        for c in history.contract.channels
    )
    tested = "\n\n".join(f"```\n{t}\n```" for t in tables)
    passed = "\n".join(f"- {gate}: {found}" for gate, found in gates.items())
    return f"""# {name}

States {says}, once per tick of {history.contract.tick:g} {unit}; {knows}. Model: {winner.name}. Fitted on {history.name} (data digest {history.digest[:12]}).

Alarm: raised when {policy.k} of the last {policy.n} verdicts of `{policy.output}` lie {policy.worse} {policy.raise_at:g},
cleared when as many lie beyond {policy.clear_at:g};
set on validation for a horizon of {protocol.horizon:g} {unit} and a lead of {protocol.lead:g} {unit}.

## Readings
| channel | unit | role | low | high |
|---|---|---|---|---|
{channels}

## Result on the test part
The bundle itself was replayed, by the code that a device runs.

{tested}

## Gates
{passed}

Passing a gate is evidence, not proof. Nothing here was shown for other machines than those the data come from, for channels out of their range,
or for failure modes that the training part did not contain. RUL has no interval yet: its lower and upper value are missing.
"""
