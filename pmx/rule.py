"""The contract's rules as data: every back-end judges rows by these and by nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pmx.contract import CALENDAR_LIMITS, FLOAT32_LIMIT, NAMELESS, Channel, Contract, is_long


@dataclass(frozen=True)
class Rule:
    """One thing a row must not do.

    Attributes:
        name: the reason a breach is filed under.
        test: `present` (not missing), `broken` (cannot be read, or outside the limits), `outside` (the limits), of long rows
            `unlisted` (names no channel of the contract) or `bad` (a quality that does not count), and, against the accepted
            times of the asset, `repeated` or `earlier`.
        column: what is looked at: `asset`, `time`, a channel, or of long rows `channel` or `quality`.
        low, high: limits of the float64 value (of a calendar time: microseconds), both ends allowed; None = unbounded.
        why, mend: the ends of the error message.

    Example:
        >>> [r.name for r in rules(Contract((Channel("load", unit="kW", low=0.0),), "h", "calendar"))]
        ['missing_asset', 'unparsable_time', 'wrong_type', 'infinite', 'out_of_range', 'duplicate', 'not_monotonic']
    """

    name: str
    test: str
    column: str
    low: float | None
    high: float | None
    why: str
    mend: str

    @property
    def of_value(self) -> bool:
        """Whether it looks at a channel's value: of a wide row it then costs that value, not the row."""
        return self.test in ("broken", "outside") and self.column not in ("asset", "time")


def rules(contract: Contract, columns: Iterable[str] = ()) -> tuple[Rule, ...]:
    """The rules for rows that have these columns, most telling first: a row, or a value, is filed under the first one it breaks."""
    columns, mend = list(columns), "correct it"
    long = is_long(columns)
    found = []
    if long:
        why, how = "belongs to a channel that the contract does not list", "list the channel in the contract or leave the row out"
        found.append(Rule("unknown_channel", "unlisted", "channel", None, None, why, how))
    for name in columns:
        if not long and name.startswith(NAMELESS) and name not in contract.names:
            why, how = "stands in a column that the contract does not list", "list the channel in the contract or drop the column"
            found.append(Rule("unknown_channel", "present", name, None, None, why, how))
    found.append(Rule("missing_asset", "broken", "asset", None, None, "names no asset", "fill it in"))
    why = "is not a time such as 2026-11-30T14:05:00Z" if contract.clock == "calendar" else f"is not a time in {contract.life_unit}"
    # On the life clock a tick index must fit into the whole numbers that float64 can count.
    low, high = CALENDAR_LIMITS if contract.clock == "calendar" else (-(2.0**53) * contract.tick, 2.0**53 * contract.tick)
    found.append(Rule("unparsable_time", "broken", "time", low, high, why, mend))
    if long and contract.good:
        why = f"is a quality code that does not count, unlike {', '.join(contract.good)}"
        found.append(Rule("bad_quality", "bad", "quality", None, None, why, "measure again, or list the code among the good ones"))
    for c in contract.channels:
        found += _of_channel(c, mend)
    found.append(Rule("duplicate", "repeated", "time", None, None, "is a time that the asset has already", "keep one of the rows"))
    if contract.lateness:
        why = f"is more than {contract.lateness:g} {contract.life_unit} before the asset's newest row"
        found.append(Rule("not_monotonic", "earlier", "time", None, None, why, "sort the rows by time, or allow more lateness"))
    else:
        found.append(Rule("not_monotonic", "earlier", "time", None, None, "is before the asset's newest row", "sort the rows by time"))
    return tuple(found)


def _of_channel(c: Channel, mend: str) -> list[Rule]:
    found = [Rule("wrong_type", "broken", c.name, None, None, "is not a number", mend)]
    why = "is infinite, or too large for float32"
    found.append(Rule("infinite", "outside", c.name, -FLOAT32_LIMIT, FLOAT32_LIMIT, why, mend))
    if c.low is not None or c.high is not None:
        why = f"is outside [{'-inf' if c.low is None else c.low}, {'inf' if c.high is None else c.high}] {c.unit}"
        found.append(Rule("out_of_range", "outside", c.name, c.low, c.high, why, mend + " or widen the range in the contract"))
    return found
