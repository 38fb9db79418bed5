"""The draft of a card as YAML text: every guess says why, open questions stand on top."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pmx.contract import shown
from pmx.draft.clock import Written
from pmx.draft.plan import Plan
from pmx.draft.sheet import Sheet
from pmx.draft.signal import Signal

BOOLEAN = {"yes", "no", "on", "off", "true", "false", "null", "none", "y", "n"}


def scalar(value: Any) -> str:
    """A value as YAML in one line: text is quoted where a reader could take it for something else.

    Example:
        >>> scalar("NO"), scalar("P-101"), scalar(0.5), scalar(["a", "0815"])
        ('"NO"', 'P-101', '0.5', '[a, "0815"]')
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(float(value))
    if isinstance(value, str):
        plain = re.fullmatch(r"[^\W\d_][\w./ *-]*", value) and value.strip() == value and value.lower() not in BOOLEAN
        return value if plain and value.isprintable() else _quoted(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{scalar(k)}: {scalar(v)}" for k, v in value.items()) + "}"
    return "[" + ", ".join(scalar(v) for v in value) + "]"


def _quoted(text: str) -> str:
    """Text between quotation marks; YAML's escapes, unlike JSON's, have eight digits beyond the first plane."""
    marks = {'"': '\\"', "\\": "\\\\"}
    return '"' + "".join(marks.get(c) or (c if c.isprintable() else f"\\U{ord(c):08x}") for c in text) + '"'


class Page:
    """Lines of YAML, each with its comment.

    Example:
        >>> page = Page()
        >>> page.add("tick", 0.25, guess="readings come every 10 min")
        >>> page.text()
        'tick: 0.25  # guessed: readings come every 10 min\\n'
    """

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, key: str, value: Any = "", guess: str = "", note: str = "", depth: int = 0) -> None:
        """Adds a key; an empty text as value opens a block."""
        told = f"guessed: {guess}" if guess else note
        line = "  " * depth + f"{scalar(key)}:" + ("" if value == "" else f" {scalar(value)}")
        self.lines.append(line + (f"  # {shown(told, 200)}" if told else ""))

    def say(self, text: str = "") -> None:
        self.lines.append(f"# {shown(text, 400)}" if text else "")

    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


def card_text(plan: Plan, folder: Path) -> str:
    """The card of a plant.

    Args:
        plan: what was guessed.
        folder: where the card will stand; the names of raw files are relative to it.
    """
    page = Page()
    page.say(f"The card of {plan.plant}, drafted by `pmx new` from {len(plan.sheet.files)} file(s) of readings: correct what is wrong.")
    if not plan.sheet.whole:
        page.say("The files are large: evenly spaced blocks of them were looked at.")
    for note in plan.sheet.notes:
        page.say(f"Note: {note}")
    if plan.questions:
        page.say("Open questions:")
        for n, question in enumerate(plan.questions, 1):
            page.say(f"  {n}. {question}")
    _top(page, plan)
    _readings(page, plan, folder)
    _channels(page, plan)
    _names(page, plan)
    if plan.work and plan.work.orders.kind:
        _events(page, plan, folder)
    return page.text()


def _top(page: Page, plan: Plan) -> None:
    grid = plan.grid
    page.add("name", plan.plant)
    page.add("noun", plan.noun)
    page.add(
        "life_unit", grid.life_unit, guess="the tick is a plain number in it" if grid.clock == "calendar" else "the header of the times"
    )
    page.add("clock", grid.clock)
    every = f"a signal comes every {grid.sampling:g} {grid.life_unit}" if grid.sampling else "one reading"
    page.add("tick", grid.tick, guess=f"{every}, the longest history is {grid.span:.6g} {grid.life_unit}")
    if grid.clock == "calendar":
        page.add("time_zone", plan.zone[0], guess=plan.zone[1])
        page.add(
            "lateness",
            grid.lateness,
            guess="by the order of rows in the files" if grid.lateness else "no rows come late, or files are sorted",
        )
    page.add("sampling", grid.sampling, note="median distance between two values of a signal, measured")
    if plan.running:
        name, signal = plan.running
        page.add("running", {"channel": name, "above": signal.off}, guess=f"{signal.tag} is near zero {signal.off_share:.0%} of the time")


def _dialect(page: Page, sheet: Sheet, written: Written | None) -> None:
    if sheet.separator:
        page.add("separator", sheet.separator, depth=1)
        page.add("decimal", sheet.decimal, depth=1)
        page.add("encoding", sheet.encoding, guess="not UTF-8" if sheet.encoding == "cp1252" else "", depth=1)
    if sheet.header > 1:
        page.add("header", sheet.header, guess="the lines above have fewer cells", depth=1)
    if written:
        share = f"reads {written.share:.1%} of the times" if written.share < 1 else "reads all times looked at"
        page.add("time_format", written.format, guess=share + (", day and month may be swapped" if written.ambiguous else ""), depth=1)


def _readings(page: Page, plan: Plan, folder: Path) -> None:
    layout = plan.layout
    page.say()
    page.add("readings")
    page.add("files", file_names(plan.sheet.files, folder), depth=1)
    page.add("layout", "long" if layout.long else "wide", guess=layout.why.get("layout", ""), depth=1)
    if layout.asset:
        page.add("asset", layout.asset, guess=f"names {len(plan.assets)} assets", depth=1)
    elif not layout.long:
        page.add("asset_from_file", True, guess="no column names assets", depth=1)
    page.add("time", [layout.time, layout.hour] if layout.hour else layout.time, depth=1)
    for key, column in (("tag", layout.tag), ("value", layout.value), ("quality", layout.quality)):
        if column:
            page.add(key, column, depth=1)
    if layout.quality:
        page.add("good", plan.good[0], guess=plan.good[1], depth=1)
    if missing := _missing(plan):
        page.add("missing", missing, guess="far from all other values", depth=1)
    _dialect(page, plan.sheet, layout.written)
    if layout.label:
        page.add("labels", {"column": layout.label}, guess="0 or 1")


def _missing(plan: Plan) -> list[str]:
    """How the files write the numbers that stand for missing."""
    found = {s.sentinel for s in plan.channels.values() if s.sentinel is not None}
    columns = [plan.layout.value] if plan.layout.value else list(plan.layout.signals)
    texts = {f"{s:.{d}f}".replace(".", plan.sheet.decimal) for s in found for d in range(4)}
    return sorted(t for t in texts if any((plan.sheet.text(c) == t).any() for c in columns if c))


def _channels(page: Page, plan: Plan) -> None:
    page.say()
    page.add("channels")
    for name, signal in plan.channels.items():
        settings, why = channel(plan, name, signal)
        page.add(name, settings, guess=why, depth=1)


def channel(plan: Plan, name: str, signal: Signal) -> tuple[dict[str, Any], str]:
    """A channel's settings, and why."""
    settings: dict[str, Any] = {} if signal.tag == name else {"tag": signal.tag}
    settings |= {"unit": signal.unit or "-", "role": signal.role}
    why = [f"unit {signal.unit_why}" if signal.unit else "unit unknown"]
    why += [f"{signal.role}: {signal.role_why}"] if signal.role_why else []
    if signal.role == "counter":
        settings |= {"rollover": signal.rollover} if signal.rollover else {}
        return settings, "; ".join([*why, *(["rolled over"] if signal.rollover else [])])
    low, high = signal.limits()
    settings |= {"low": low, "high": high, "align": "mean" if signal.role == "measurement" else "last"}
    why.append(f"seen {signal.low:.4g} to {signal.high:.4g}")
    if plan.layout.long or signal.rows < 0.95 * plan.sheet.frame.height:
        settings["hold"] = plan.grid.hold(signal)
        why.append("hold: nearly all gaps")
    return settings, "; ".join(why)


def _names(page: Page, plan: Plan) -> None:
    layout = plan.layout
    page.say()
    if layout.pattern:
        page.add("tag_pattern", layout.pattern, guess=layout.why["asset"])
    if layout.single:
        page.add("tags", guess=layout.why["asset"])
        for tag in [*(s.tag for s in plan.channels.values()), *(t for t in plan.unused if t not in plan.sheet.columns)]:
            page.add(tag, [layout.single, tag], depth=1)
    if plan.unused:
        page.add("unused", guess="nothing to learn from")
        for tag, why in plan.unused.items():
            page.lines.append(f"  - {scalar(tag)}  # {shown(why, 200)}")


def _events(page: Page, plan: Plan, folder: Path) -> None:
    work = plan.work
    assert work is not None
    orders, joined = work.orders, work.joined
    page.say()
    page.add("events")
    page.add("files", file_names(work.sheet.files, folder), depth=1)
    _dialect(page, work.sheet, orders.written)
    page.add("asset", orders.assets, guess="by the headers", depth=1)
    columns: list[Any] = [[c, orders.hour] if orders.hour and c == orders.columns.get("start") else c for c in orders.time]
    page.add("time", columns[0] if len(columns) == 1 else {"first_of": columns}, guess="by the headers, the first that is filled", depth=1)
    page.add(
        "known_at", orders.columns.get("created"), guess="by the headers" if "created" in orders.columns else "no such column", depth=1
    )
    page.add("kind", list(orders.kind), guess="by the headers; the first that is listed in kinds counts", depth=1)
    page.add("kinds", depth=1)
    for value, (event, count, sure) in orders.kinds.items():
        page.add(value, event, guess=f"{count} orders" + ("" if sure else ", see the open questions"), depth=2)
    if orders.cancelled:
        page.add("skip", {"column": orders.columns["status"], "values": orders.cancelled}, guess="such orders were cancelled", depth=1)
    if joined.names:
        page.add("assets", depth=1)
        for raw, (asset, why) in joined.names.items():
            page.add(raw, asset, guess=why, depth=2)
    lost = ", ".join(f"{n} ({c} orders)" for n, c in joined.unmatched.items())
    page.add("unmatched", "list" if lost else "refuse", guess=f"no asset found for {lost}" if lost else "", depth=1)


def file_names(files: Sequence[Path], folder: Path) -> list[str]:
    """Names relative to a folder; many like ones become one pattern where it fits exactly these files."""
    homes = {f.resolve().parent for f in files}
    if len(files) > 1 and len(homes) == 1:
        home = homes.pop()
        names = {f.name for f in files}
        like = {re.sub(r"[0-9]+", "*", n) for n in names}
        for pattern in (*like, "*" + files[0].suffix) if len(like) == 1 or len(names) > 8 else ():
            if {p.name for p in home.glob(pattern) if p.is_file()} == names:
                return [(Path(os.path.relpath(home, folder.resolve())) / pattern).as_posix()]
    return [Path(os.path.relpath(f.resolve(), folder.resolve())).as_posix() for f in files]
