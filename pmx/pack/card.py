"""The card that travels with a bundle: what it predicts, for which readings, how well, and what it was not shown to do."""

from __future__ import annotations

from pmx.alarm.state import Policy
from pmx.contract import Contract
from pmx.evaluate.protocol import Protocol
from pmx.pack.fitted import Fitted
from pmx.source import History


def card(name: str, history: History, winner: Fitted, policy: Policy, protocol: Protocol, gates: dict[str, str], tables: list[str]) -> str:
    """Markdown for the people who take over a bundle.

    Args:
        gates: name -> one sentence of what the gate found.
        tables: plain-text tables of the test part.
    """
    contract, unit = history.contract, history.contract.life_unit
    tested = "\n\n".join(f"```\n{t}\n```" for t in tables)
    passed = "\n".join(f"- {gate}: {found}" for gate, found in gates.items())
    limits = (
        "RUL has no interval yet: its lower and upper value are missing."
        if winner.output == "rul"
        else "A probability holds for machines and work like those it was set on; where failures are rarer, it says too much."
        if winner.output == "failure_probability"
        else "Only these classes can be told: a fault of another kind is taken for one of them, or for none."
        if winner.task == "fault"
        else "An anomaly score is no probability: it says that something departs from normal, not what will fail or when."
    )
    return f"""# {name}

States {_says(winner, contract, protocol)} Model: {winner.name}. Fitted on {history.name} (data digest {history.digest[:12]}).

Alarm: raised when {policy.k} of the last {policy.n} verdicts of `{policy.output}` lie {policy.worse} {policy.raise_at:g},
cleared when as many lie beyond {policy.clear_at:g};
set on validation for a horizon of {protocol.horizon:g} {unit} and a lead of {protocol.lead:g} {unit}.

## Readings
{_readings(contract)}

## Result on the test part
The bundle itself was replayed, by the code that a device runs.

{tested}

## Gates
{passed}

Passing a gate is evidence, not proof. Nothing here was shown for other machines than those the data come from, for channels out of their range,
or for failure modes that the training part did not contain. {limits}
"""


def _says(winner: Fitted, contract: Contract, protocol: Protocol) -> str:
    unit = contract.life_unit
    rul = f"remaining useful life in {unit}, at most {protocol.cap:g}"
    chance = f"the probability of a failure within {protocol.horizon:g} {unit}"
    score = "an anomaly score, 0..1, higher = worse"
    if winner.classes:
        score += f", of the odds of any fault, and the probability of each class of {', '.join(winner.classes)}"
    says = {"rul": rul, "failure_probability": chance}.get(winner.output, score)
    aged = any(k.reads_age for k in winner.features.kernels)
    knows = "counts the asset's age from its first reading" if aged else "does not know the asset's age"
    text = f"{says}, once per tick of {contract.tick:g} {unit}; {knows}."
    if winner.assets:
        text += f" Mean, scale and level are each asset's own, learnt for {len(winner.assets)} of them; of any other asset it says nothing."
    return text


def _readings(contract: Contract) -> str:
    """The channels as a table, and how what arrives becomes ticks."""
    unit = contract.life_unit
    lines = ["| channel | unit | role | low | high | a tick keeps | held for |", "|---|---|---|---|---|---|---|"]
    for c in contract.channels:
        low, high = ("–" if v is None else f"{v:g}" for v in (c.low, c.high))
        keeps = "increase per tick" if c.role == "counter" else c.align
        lines.append(f"| {c.name} | {c.unit} | {c.role} | {low} | {high} | {keeps} | {f'{c.hold:g} {unit}' if c.hold else '–'} |")
    notes = [f"Times without a zone are {contract.time_zone}." if contract.clock == "calendar" else ""]
    if contract.lateness:
        notes.append(f"A reading may arrive {contract.lateness:g} {unit} late.")
    if contract.running:
        r = contract.running
        limits = " and ".join(f"{w} {v:g}" for w, v in (("above", r.above), ("below", r.below)) if v is not None)
        notes.append(f"The asset runs while {r.channel} lies {limits}; off-time neither trains nor alarms.")
    return "\n".join([*lines, "", *[" ".join(n for n in notes if n)]]).rstrip()
