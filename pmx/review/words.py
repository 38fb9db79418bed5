"""What an alarm says, in plain templated words. Nothing here guesses a cause."""

from __future__ import annotations

import numpy as np

from pmx.align import time_text
from pmx.contract import MICROSECONDS, Contract
from pmx.evaluate.report import UNITS

NEAR = 1.0  # standard deviations: nearer than this a channel is called normal
SMOOTH = 5  # ticks whose mean decides where a departure began
STATES = {
    "dropout": "is missing more often than usual",
    "stuck": "repeats one value",
    "saturation": "returns to the very same extreme",
    "spikes": "shows lone readings that nothing explains",
    "drift": "departs alone from what the other channels say",
    "swapped": "shows what another channel should",
    "unit change": "lies out of range, and fits in another unit",
    "noise": "jumps more than usual",
}


def moment(contract: Contract, tick: float) -> str:
    """A tick's time for a reader: to the minute on a calendar of ticks that long, to the second otherwise."""
    if contract.clock != "calendar":
        return time_text(contract, tick * contract.tick)
    text = time_text(contract, round(tick * contract.tick_us)).removesuffix("Z").partition(".")[0].replace("T", " ")
    return (text[:16] if contract.tick_us >= MICROSECONDS["min"] else text) + " UTC"


def span(contract: Contract, ticks: float) -> str:
    """A length of time for a reader.

    Example:
        >>> from pmx.contract import Channel
        >>> span(Contract((Channel("flow", "m3/h"),), "h", "calendar", tick=6.0), 14)
        '3.5 days'
        >>> span(Contract((Channel("flow", "m3/h"),), "cycle", "life"), 1)
        '1 cycle'
    """
    if contract.clock != "calendar":
        value = ticks * contract.tick
        unit = UNITS.get(contract.life_unit, contract.life_unit)
        return f"{_number(value)} {unit.removesuffix('s') if value == 1 else unit}"
    micros = ticks * contract.tick_us
    for unit, word in (("d", "days"), ("h", "h"), ("min", "min")):
        if micros >= (2 if unit == "d" else 1) * MICROSECONDS[unit]:
            return f"{_number(micros / MICROSECONDS[unit])} {word}"
    return f"{_number(micros / MICROSECONDS['s'])} s"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def began(score: np.ndarray, at: int, sign: float) -> int:
    """Where the departure that stands at tick `at` began, of scores float [time]: going back from there, the mean of five readings
    stayed on this side of normal by at least one standard deviation.
    """
    side = np.where(np.isnan(score[: at + 1]), np.nan, score[: at + 1] * sign)
    known = ~np.isnan(side)
    total, count = (np.convolve(v, np.ones(SMOOTH))[: at + 1] for v in (np.where(known, side, 0.0), known.astype(float)))
    mean = np.divide(total, count, out=np.full(at + 1, np.inf), where=count > 0)  # a gap does not end a departure
    normal = np.flatnonzero(mean < NEAR)
    return min(at, int(normal[-1]) + 1) if len(normal) else 0


def departure(contract: Contract, channel: str, size: float, regimes: int, since: float, tick: int, whole: bool) -> str:
    """One channel in a sentence.

    Args:
        size: signed, in standard deviations.
        regimes: how many operating regimes normal is known by.
        since: the tick at which it began, before the tick of the alarm.
        whole: whether it was so from the first reading on.
    """
    normal = "its normal for this regime" if regimes > 1 else "its normal"
    if abs(size) < NEAR:
        return f"{channel} is {abs(size):.1f} standard deviations {_side(size)} {normal} on average, which is close to it."
    head = f"{channel} has been {abs(size):.1f} standard deviations {_side(size)} {normal}"
    if whole:
        return f"{head}, and was on that side from its first reading on ({moment(contract, since)})."
    if since >= tick:
        return f"{head} when the alarm was raised; it left it at that moment."
    return f"{head} since {moment(contract, since)}: it began to leave it {span(contract, tick - since)} before the alarm."


def sided(channel: str, size: float) -> str:
    return f"{channel} {_side(size)} normal"


def sensor(channel: str, state: str) -> tuple[str, str]:
    """What is wrong with a sensor's readings, and what to do."""
    what = STATES.get(state, f"is judged as {state}")
    return (
        f"{channel} {what} ({state}). This is an alarm of the sensor, not of the machine; meanwhile its readings are left out of the verdict.",
        f"Look at the sensor and the wiring of {channel}.",
    )


def _side(size: float) -> str:
    return "above" if size > 0 else "below"
