"""Which asset an order is about: exact names, leading zeros, letter case and marks, or the name inside a location or a description."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pmx.draft.orders import Orders
from pmx.draft.sheet import Sheet
from pmx.draft.words import folded, plain


@dataclass(frozen=True)
class Joined:
    """What the orders call an asset, and which it is.

    Attributes:
        names: raw name without leading zeros -> (asset, why), where the two differ.
        unmatched: raw name, likewise -> number of orders, where no asset or more than one fits.
        asset: each order's asset; None = none [order].

    Example:
        >>> Joined({"10004711": ("P-101", "in the location")}, {}, ("P-101",)).asset
        ('P-101',)
    """

    names: dict[str, tuple[str, str]]
    unmatched: dict[str, int]
    asset: tuple[str | None, ...]


def join(sheet: Sheet, orders: Orders, assets: Sequence[str]) -> Joined:
    """Which asset each order is about.

    Args:
        sheet: the orders' cells.
        orders: what their columns are.
        assets: names of the assets in the readings.
    """
    hints = [c for c in (orders.columns.get("location"), orders.columns.get("text")) if c]
    columns = orders.assets
    votes: dict[str, Counter[tuple[str, str]]] = {}
    firsts: list[str | None] = []
    for row in sheet.frame.select(list(dict.fromkeys([*columns, *hints]))).iter_rows(named=True):
        raw = next((_bare(row[c]) for c in columns if row[c]), None)
        firsts.append(raw)
        if raw is None:
            continue
        found = match(raw, assets)
        if not found:
            inside = ((contained(str(row[c]), assets), c) for c in hints if row[c])
            found = next(((asset, f"in {c}") for asset, c in inside if asset), None)
        votes.setdefault(raw, Counter())
        if found:
            votes[raw][found] += 1
    names: dict[str, tuple[str, str]] = {}
    asset_of: dict[str, str] = {}
    for raw, count in votes.items():
        by_asset: Counter[str] = Counter()
        for (asset, _), n in count.items():
            by_asset[asset] += n
        if by_asset and (best := by_asset.most_common(1)[0])[1] > 0.6 * by_asset.total():
            asset_of[raw] = best[0]
            why = next(w for (a, w), _ in count.most_common() if a == best[0])
            if why not in ("exact", "leading zeros"):
                names[raw] = (best[0], why)
    missing = Counter(r or "(empty)" for r in firsts if r not in asset_of)
    return Joined(dict(sorted(names.items())), dict(sorted(missing.items())), tuple(asset_of.get(r or "") for r in firsts))


def match(raw: str, assets: Sequence[str]) -> tuple[str, str] | None:
    """The one asset of this name and how it was recognised: `exact`, `leading zeros` or `letter case and marks`; None = no single one."""
    rules = (("exact", str), ("leading zeros", _no_zeros), ("letter case and marks", lambda t: _no_zeros(folded(t))))
    for why, rule in rules:
        fits = [a for a in assets if rule(a) == rule(raw)]
        if len(fits) == 1:
            return fits[0], why
    return None


def contained(text: str, assets: Sequence[str]) -> str | None:
    """The one asset whose name stands in a text, marks between its letters and digits aside; the longest name wins.

    Example:
        >>> contained("PH1-P-101 Kreiselpumpe", ["P101", "P1"])
        'P101'
    """
    fits = [a for a in assets if folded(a) and re.search(_loose(a), plain(text).lower())]
    longest = max((len(folded(a)) for a in fits), default=0)
    best = [a for a in fits if len(folded(a)) == longest]
    return best[0] if len(best) == 1 and longest > 1 else None


def _bare(raw: str) -> str:
    """Numbers without the zeros before them: one exporter writes them, another does not, and both mean one machine."""
    return (raw.lstrip("0") or "0") if raw.isdigit() else raw


def _no_zeros(text: str) -> str:
    return text.strip().lstrip("0") or "0"


def _loose(asset: str) -> str:
    """The name as letters and digits with any marks between, not inside a longer word or number."""
    return r"(?<![a-z0-9])" + r"[^a-z0-9]*".join(map(re.escape, folded(asset))) + r"(?![a-z0-9])"
