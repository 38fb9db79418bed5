"""A profile as about one screen of text."""

from __future__ import annotations

import numpy as np

from pmx.contract import shown
from pmx.profile.channel import Finding, standstills
from pmx.profile.record import Record
from pmx.profile.survey import Profile
from pmx.profile.want import lag_text

WIDTH = 12
MOST_CHANNELS, MOST_WANTS = 24, 8


def text(profile: Profile) -> str:
    """The profile in aligned plain words, without the page's plots."""
    counts, history = profile.record.counts, profile.record.history
    noun = _plural(history.noun, len(profile.record.assets))
    lines = [
        f"{shown(history.name, 80)}: {len(profile.record.assets):,} {noun}, {counts['in']:,} rows, {counts['quarantined']:,} of them refused"
        + (f", {counts['cells']:,} values set apart" if counts["cells"] else "")
    ]
    lines += _block("Verdict", [profile.claim.headline, *profile.claim.lines])
    for name, told in sections(profile):
        lines += _block(name, told)
    lines += _channels(profile.channels)
    more = [f"... and {len(profile.wants) - MOST_WANTS} more on the page"] if len(profile.wants) > MOST_WANTS else []
    lines += ["", "What would help most", *(f"  {i}. {w}" for i, w in enumerate(profile.wants[:MOST_WANTS], 1)), *(f"  {m}" for m in more)]
    return "\n".join(lines)


def sections(profile: Profile) -> list[tuple[str, list[str]]]:
    """Name and sentences of each part but the channels."""
    return [
        ("Record", record_lines(profile)),
        ("Orders", order_lines(profile)),
        ("Order times", offset_lines(profile)),
        ("Sampling", sampling_lines(profile)),
        ("Operation", operation_lines(profile)),
    ]


def record_lines(profile: Profile) -> list[str]:
    record, assets = profile.record, profile.assets
    running = assets["running"].to_numpy()
    begin, end = float(record.time.min()), float(record.time.max())
    lines = [
        f"{record.moment(begin)} to {record.moment(end)}"
        + (f" UTC, {record.span(end - begin)}" if record.contract.clock == "calendar" else ""),
        f"{length_text(record, running.sum())} with readings in all; per asset {length_text(record, running.min())} to "
        f"{length_text(record, running.max())}, median {length_text(record, float(np.median(running)))}",
    ]
    if profile.reasons:
        lines.append("set apart: " + ", ".join(f"{n:,} {reason}" for reason, n in profile.reasons.items()))
    lines += standstills(record, profile.channels)
    episodes = record.history.episodes
    if episodes is not None:
        lines.append(f"{len(episodes)} labelled episodes in {episodes['asset'].n_unique()} {record.history.noun}")
    if record.history.calibration:
        lines.append(f"known to be healthy, for calibration: {len(record.history.calibration)} of the {record.history.noun}")
    if record.admitted.ignored:
        lines.append(f"columns that the contract does not list, left out: {shown(', '.join(record.admitted.ignored), 200)}")
    lines += [shown(note, 400) for note in record.history.notes]
    return lines


def order_lines(profile: Profile) -> list[str]:
    orders, record = profile.orders, profile.record
    if not orders.kinds:
        return ["none"]
    lines = [", ".join(f"{n:,} {kind}" for kind, n in orders.kinds.items())]
    lines += ["failures by mode: " + ", ".join(f"{n:,} {shown(mode)}" for mode, n in orders.modes.items())] if orders.modes else []
    if orders.kinds.get("failure"):
        lines.append(f"failures: {orders.inside} inside the record of their asset, {orders.before} before it, {orders.after} after it")
    if orders.early or orders.late:
        lines.append(f"orders of any kind: {orders.early} before the first reading of their asset, {orders.late} after its last")
    if orders.strangers:
        lines.append(f"{len(orders.strangers)} assets in the orders have no readings")
    if orders.silent:
        lines.append(f"{len(orders.silent)} of {len(record.assets)} {record.history.noun} have no order of any kind")
    return lines


def offset_lines(profile: Profile) -> list[str]:
    found = profile.offset
    if found.state == "unknown":
        return [f"lag to the signals not estimated: {found.why}"]
    exact = f"resolution {found.resolution:.2g} h"
    if found.state == "none":
        return [f"no consistent lag between orders and breaks in the signals ({found.events} failures and replacements; {exact})"]
    numbers = f"{found.follow} of {found.events} cases, middle 80 % {found.low:+.2g} to {found.high:+.2g} h, {exact}"
    if found.state == "agree":
        return [f"orders and breaks in the signals agree ({numbers})"]
    zone = abs(found.lag - round(found.lag)) <= 0.25 and 1 <= abs(round(found.lag)) <= 14
    days = abs(found.lag) > 20 and abs(found.lag / 24 - round(found.lag / 24)) <= 0.05
    guess = "; a time zone?" if zone else "; a wrong day?" if days else ""
    return [f"orders lie {lag_text(found.lag)} the signals' break ({numbers}){guess}"]


def sampling_lines(profile: Profile) -> list[str]:
    record, found = profile.record, profile.sampling
    if not np.isfinite(found.distance):
        return ["no asset has two readings"]
    slow = {c: d for c, d in found.by_channel.items() if np.isfinite(d) and d > 1.5 * found.distance}
    alone = len(slow) == len(found.by_channel)  # channels come one by one: what lies between two rows says nothing of either
    lines = [
        (
            f"every {record.span(found.distance)} any channel, at the median; "
            if alone
            else f"every {record.span(found.distance)} at the median, {found.irregular:.0%} of distances more than half away from it; "
        )
        + f"tick {record.span(record.contract.tick)} = {found.per_tick:.3g} reading{'s' * (round(found.per_tick, 2) != 1)}"
    ]
    if found.gaps:
        held = ", not even a held one" if any(c.hold for c in record.contract.channels) else ""
        where = f"{record.span(found.longest)} in {shown(found.longest_asset)} from {record.moment(found.longest_begin)}"
        gaps = "1 gap" if found.gaps == 1 else f"{found.gaps:,} gaps"
        lines.append(f"{gaps} (ticks without any value{held}), longest {where}; {found.lost:.1%} of the time lost")
    if slow:
        lines.append(
            ("each channel: " if alone else "slower channels: ")
            + ", ".join(f"{shown(c)} every {record.span(d)}" for c, d in list(slow.items())[:6])
        )
    if record.grid.long_gaps:
        lines.append(
            f"{record.grid.long_gaps} gaps are longer than longest_gap ({record.contract.longest_gap:,} ticks): a run refuses them"
        )
    return lines


def operation_lines(profile: Profile) -> list[str]:
    found = profile.operation
    lines = []
    if not found.settings:
        lines.append("no setting among the channels: regimes unknown")
    elif found.centres:
        many = (
            f"{len(found.centres)} or more regimes, or settings that vary without steps" if found.more else f"{len(found.centres)} regimes"
        )
        many = "one regime" if len(found.centres) == 1 else many
        lines.append(
            f"{many} by {', '.join(shown(s) for s in found.settings)}; share of time " + ", ".join(f"{s:.0%}" for s in found.shares)
        )
    if found.running is not None:
        lines.append(f"running {found.running:.0%} of the ticks with readings, off {1 - found.running:.0%}")
    return lines or ["not told by the settings"]


def length_text(record: Record, length: float) -> str:
    """A length of life in the unit that suits it; on the life clock in the life unit, large ones without decimals."""
    if record.contract.clock == "calendar":
        return record.span(length)
    return f"{length:,.0f} {record.contract.life_unit}" if length >= 100 else f"{length:.3g} {record.contract.life_unit}"


def _plural(noun: str, count: int) -> str:
    return noun.removesuffix("s") if count == 1 else noun


def _block(name: str, told: list[str]) -> list[str]:
    return [f"{name if i == 0 else '':{WIDTH}}{line}" for i, line in enumerate(told)]


def _channels(found: list[Finding]) -> list[str]:
    usable = sum(c.usable for c in found)
    told = found if len(found) <= MOST_CHANNELS else [c for c in found if not c.usable or c.remarks][:MOST_CHANNELS]
    head = f"{'Channels':{WIDTH}}{len(found)}, {usable} usable" + (
        ""
        if len(told) == len(found)
        else f"; {len(told)} of them here, all on the page"
        if told
        else ", nothing to remark; all on the page"
    )
    if not told:
        return [head]
    name = max(len(shown(c.name, 24)) for c in told)
    unit = max(4, *(len(shown(c.unit, 8)) for c in told))
    lines = [head, f"  {'':{name}}  {'unit':{unit}}  {'missing':>7}  {'low':>9}  {'mean':>9}  {'high':>9}"]
    for c in told:
        numbers = "  ".join(f"{v:>9.4g}" if np.isfinite(v) else f"{'–':>9}" for v in (c.low, c.mean, c.high))
        note = "; ".join(c.reasons + c.remarks) if c.usable else "NOT USABLE: " + "; ".join(c.reasons + c.remarks)
        mark = "" if c.role == "measurement" else f"[{c.role}] "
        lines.append(f"  {shown(c.name, 24):{name}}  {shown(c.unit, 8):{unit}}  {c.missing:>7.1%}  {numbers}  {mark}{note}".rstrip())
    return lines
