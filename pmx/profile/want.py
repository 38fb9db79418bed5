"""Which further data would help most: concrete, the most useful first."""

from __future__ import annotations

import numpy as np

from pmx.contract import shown
from pmx.profile.channel import Finding, names, stuck_text
from pmx.profile.claim import ENOUGH, Claim, to_halve
from pmx.profile.offset import Offset
from pmx.profile.operation import Operation
from pmx.profile.orders import Orders
from pmx.profile.record import Record
from pmx.profile.sampling import Sampling


def wants(
    record: Record, orders: Orders, channels: list[Finding], sampling: Sampling, operation: Operation, offset: Offset, claim: Claim
) -> list[str]:
    """Sentences, ranked: a wrong clock, which spoils every label; what a claim lacks; what the orders, the channels and the rows lack."""
    return [
        *_of_clock(offset),
        *_of_failures(record, orders, claim),
        *_of_times(record, orders, offset.day_only),
        *_of_channels(record, channels, operation),
        *_of_rows(record, sampling),
        *([f"{to_halve(claim.failures)} more failures would halve the interval of the recall"] if claim.failures >= ENOUGH else []),
    ]


def _of_clock(offset: Offset) -> list[str]:
    if offset.state != "offset":
        return []
    return [f"correct times of the orders: they lie {lag_text(offset.lag)} the signals' break in {offset.follow} of {offset.events} cases"]


def _of_failures(record: Record, orders: Orders, claim: Claim) -> list[str]:
    noun, found = record.history.noun, []
    if orders.strangers:
        found.append(
            f"readings of {len(orders.strangers)} assets that only the orders name ({names(orders.strangers)}), or their right names"
        )
    if orders.before:
        first = record.span(float(record.time.min() - orders.first))
        found.append(
            f"older readings: {orders.before} failures lie before the first reading of their asset; orders begin {first} before the readings"
        )
    if not orders.kinds:
        episodes = record.history.episodes
        known = episodes is not None and len(episodes) > 0
        found.append(
            f"dates of failures: none of {len(record.assets)} {noun} has an order" + ("" if known else ", and no episode is labelled")
        )
    elif not claim.failures:
        found.append(f"dates of failures: {sum(orders.kinds.values())} orders name none")
    elif claim.failures < ENOUGH:
        found.append(f"{ENOUGH - claim.failures} more failures with readings before them: remaining life (RUL) becomes worth estimating")
    if 0 < claim.failures < ENOUGH:
        found.append(f"{to_halve(claim.failures)} more failures would halve the interval of the recall")
    if orders.kinds and orders.silent:
        found.append(
            f"orders of {len(orders.silent)} {noun} without any ({names(orders.silent)}): did they never fail, or is the list not complete?"
        )
    return found


def _of_times(record: Record, orders: Orders, day_only: bool) -> list[str]:
    found = []
    if record.contract.clock == "calendar" and day_only:
        found.append("the time of day of failures: most orders carry a date alone")
    if record.contract.clock == "calendar" and orders.kinds and orders.dated_late == 0:
        found.append("when each order was written (known_at): every order counts as known the moment it happened")
    return found


def _of_channels(record: Record, channels: list[Finding], operation: Operation) -> list[str]:
    found = []
    broken = [c for c in channels if not c.usable]
    for c in sorted((c for c in channels if c.stuck and not c.joint), key=lambda c: c.usable)[:3]:
        assert c.stuck is not None
        found.append(f"mend channel {c.name}: {stuck_text(record, c.stuck, c.unit)}")
    lost = [c for c in broken if not c.stuck and any("missing" in r or "no value" in r for r in c.reasons)]
    if lost:
        found.append(f"values of {', '.join(f'{shown(c.name)} ({c.missing:.0%} missing)' for c in lost[:4])}" + _more(lost, 4))
    refused = sorted((c for c in channels if c.refused), key=lambda c: -sum(c.refused.values()))
    for c in refused[:2]:
        worst = max(c.refused, key=lambda r: c.refused[r])
        found.append(f"check channel {shown(c.name)}: {c.refused[worst]:,} values refused {_why(record, worst)}")
    if not operation.settings:
        found.append("a load or speed channel: no channel is a setting, so a change of operation looks like a change of health")
    still = max(
        (c for c in channels if c.usable and not c.stuck and c.role != "counter" and 0.02 < c.zeros < 0.98),
        key=lambda c: c.zeros,
        default=None,
    )
    if operation.running is None and still:
        found.append(
            f"when an asset runs: {shown(still.name)} is 0 for {still.zeros:.0%} of its values; a running condition would leave off-time out"
        )
    return found


def _why(record: Record, reason: str) -> str:
    if reason == "bad_quality":
        good = shown(", ".join(record.contract.good), 60)
        return f"for their quality code, by which the source itself calls them bad (good is {good}); mend the sensor or its line"
    return f"as {reason}; " + (
        "wrong values, or too narrow a range in the contract" if reason == "out_of_range" else "correct them at their source"
    )


def _of_rows(record: Record, sampling: Sampling) -> list[str]:
    found = []
    if record.grid.long_gaps:
        found.append(f"a longer longest_gap, or the readings of {record.grid.long_gaps} gaps beyond it: a run refuses them")
    if sampling.lost > 0.05:
        found.append(f"the readings of {sampling.gaps:,} gaps: in {sampling.lost:.0%} of the watched time no channel has a value")
    if np.isfinite(sampling.per_tick) and sampling.per_tick < 0.7:
        tick, usual = record.span(record.contract.tick), record.span(sampling.distance)
        found.append(f"a longer tick: it is {tick}, readings come every {usual}, so most ticks are empty")
    return found


def _more(items: list[Finding], most: int) -> str:
    return f" and {len(items) - most} more" if len(items) > most else ""


def lag_text(hours: float) -> str:
    """A lag from order to break as words that go before `the signals' break`."""
    size = abs(hours)
    text = f"{size / 24:.3g} d" if size >= 36 else f"{size:.2g} h" if size >= 1.5 else f"{size * 60:.0f} min"
    return f"{text} {'before' if hours > 0 else 'after'}"
