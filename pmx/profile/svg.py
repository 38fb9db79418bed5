"""Small plots as inline SVG: a few lines of our own, so that a page is one file that asks for nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

INK, GREY, PALE, LINE = "#1f2a33", "#6b7780", "#c9dbe6", "#2f6f8f"
FAIL, CARE, GOOD = "#c4511d", "#b58900", "#3b7d4f"
MARKS = {
    "failure": (FAIL, "✕"),
    "replacement": (LINE, "◆"),
    "commissioning": (GOOD, "▸"),
    "inspection": (GREY, "|"),
    "no_fault_found": (GREY, "○"),
}


def picture(width: int, height: int, parts: Sequence[str], title: str) -> str:
    """An SVG element that scales with the page; `title` is read aloud and shown on hover."""
    head = f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
    return head + f"<title>{escape(title)}</title>" + "".join(parts) + "</svg>"


def label(x: float, y: float, text: str, anchor: str = "start", colour: str = GREY, size: float = 11) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-size="{size:g}">{escape(text)}</text>'


def box(x: float, y: float, width: float, height: float, colour: str, more: str = "") -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.6):.1f}" height="{height:.1f}" fill="{colour}"{more}/>'


def rule(x1: float, y1: float, x2: float, y2: float, colour: str = "#dde3e8", more: str = "") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{more}/>'


def envelope(low: np.ndarray, mean: np.ndarray, high: np.ndarray, width: int, height: int, title: str, faint: bool) -> str:
    """A band from smallest to largest value with the mean in it, [time bin] each; NaN leaves a gap.

    The scale leaves out wild values: it shows the middle 99 % of the band, and what is beyond is cut off.
    """
    seen = ~np.isnan(mean)
    if not seen.any():
        return picture(width, height, [label(width / 2, height / 2 + 4, "no value", "middle")], title)
    bottom, top = _limits(np.quantile(low[seen], 0.005), np.quantile(high[seen], 0.995))
    x = (np.arange(len(mean)) + 0.5) * width / len(mean)
    low_y, mean_y, high_y = (height - 3 - (np.clip(v, bottom, top) - bottom) / (top - bottom) * (height - 6) for v in (low, mean, high))
    parts = [rule(0, height - 0.5, width, height - 0.5)]
    for a, b in _runs(seen):
        at = np.arange(a, b)
        if b - a == 1:
            parts.append(box(x[a] - 0.8, high_y[a], 1.6, max(low_y[a] - high_y[a], 1.0), PALE))
            parts.append(box(x[a] - 0.8, mean_y[a] - 0.7, 1.6, 1.4, LINE))
            continue
        edge = [*zip(x[at], high_y[at], strict=True), *zip(x[at][::-1], low_y[at][::-1], strict=True)]
        parts.append(f'<polygon points="{_points(edge)}" fill="{PALE}"/>')
        line = _points(zip(x[at], mean_y[at], strict=True))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{GREY if faint else LINE}" stroke-width="1.3"/>')
    return picture(width, height, parts, title)


def bars(height_of: np.ndarray, width: int, height: int, title: str, colour: str = LINE) -> str:
    """Upright bars side by side, [bar], scaled to the highest; a bar above 0 is always visible."""
    top = float(height_of.max()) if len(height_of) else 0.0
    step = width / max(1, len(height_of))
    parts = [rule(0, height - 0.5, width, height - 0.5)]
    for i, value in enumerate(height_of.tolist()):
        if value > 0:
            tall = max(1.0, value / top * (height - 4))
            parts.append(box(i * step, height - 1 - tall, max(step - 0.6, 0.6), tall, colour))
    return picture(width, height, parts, title)


def timeline(
    names: list[str],
    covered: np.ndarray,
    marks: list[list[tuple[float, str]]],
    bands: list[list[tuple[float, float]]],
    axis: list[tuple[float, str]],
) -> str:
    """Rows of assets with bars where readings are, and marks where events are.

    Args:
        names: [asset].
        covered: bool [asset, time bin].
        marks: [asset], place on the axis (0 to 1) and event.
        bands: [asset], begin and end (0 to 1) of labelled episodes.
        axis: places (0 to 1) and their labels.
    """
    left, width, row = 150, 1040, 16 if len(names) <= 25 else 12
    height = len(names) * row + 26
    wide = width - left - 14
    parts = []
    for place, text in axis:
        parts.append(rule(left + place * wide, 0, left + place * wide, height - 20))
        parts.append(label(left + place * wide, height - 6, text, "middle" if 0.03 < place < 0.97 else "end" if place > 0.5 else "start"))
    for i, name in enumerate(names):
        y, bins = i * row, covered.shape[1]
        parts.append(label(left - 8, y + row / 2 + 4, name if len(name) <= 22 else name[:21] + "…", "end", INK, min(11, row - 2)))
        parts += [box(left + a / bins * wide, y + 3, (b - a) / bins * wide, row - 6, PALE) for a, b in _runs(covered[i])]
        parts += [box(left + a * wide, y + 2, max(2.0, (b - a) * wide), row - 4, CARE, ' fill-opacity="0.55"') for a, b in bands[i]]
        for place, event in marks[i]:
            colour, sign = MARKS.get(event, (GREY, "•"))
            bold = ' font-weight="700"' if event == "failure" else ""
            x, size = left + place * wide, 11 if event in ("failure", "replacement") else 9
            parts.append(
                f'<text x="{x:.1f}" y="{y + row / 2 + 4:.1f}" text-anchor="middle" fill="{colour}" font-size="{size}"{bold}>{sign}</text>'
            )
    return picture(width, height, parts, "Readings and events of each asset over time")


def _limits(bottom: float, top: float) -> tuple[float, float]:
    if top > bottom:
        return float(bottom), float(top)
    pad = abs(bottom) * 0.01 or 1.0
    return float(bottom) - pad, float(top) + pad


def _runs(there: np.ndarray) -> list[tuple[int, int]]:
    """Begin and end of each run of True."""
    edge = np.flatnonzero(np.diff(np.r_[False, there, False].astype(np.int8)))
    return list(zip(edge[::2].tolist(), edge[1::2].tolist(), strict=True))


def _points(pairs: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in pairs)
