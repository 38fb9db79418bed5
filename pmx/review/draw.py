"""The report's pictures as inline SVG. Colours are names of the page's palette, so that one file serves light, dark and paper."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from pmx.edge.replay import spans
from pmx.profile.svg import box, label, picture, rule
from pmx.review.facts import AssetFact, Bin, Departure, Point, Watched

INK, GREY, PALE, LINE, FAIL, CARE, GOOD, GRID = (f"var(--{n})" for n in ("ink", "grey", "pale", "line", "fail", "care", "good", "grid"))
RAREST = 1e5  # the upper end of a rarity scale
FAR = 6.0  # standard deviations: the ends of a channel's scale


def decimated(values: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest value in each of at most so many columns, float64 [column]; NaN where a column has none.

    Example:
        >>> low, high = decimated(np.array([1.0, 3.0, np.nan, np.nan, 5.0, 4.0]), 3)
        >>> low.tolist(), high.tolist()
        ([1.0, nan, 4.0], [3.0, nan, 5.0])
    """
    n = len(values)
    if n <= columns:
        return values, values
    begin = np.arange(columns) * n // columns
    missing = np.isnan(values)
    low = np.minimum.reduceat(np.where(missing, np.inf, values), begin)
    high = np.maximum.reduceat(np.where(missing, -np.inf, values), begin)
    return np.where(np.isinf(low), np.nan, low), np.where(np.isinf(high), np.nan, high)


def curve(values: np.ndarray, width: float, height: float, low: float, high: float, colour: str, thick: float = 1.3) -> str:
    """A line through values float64 [time] at equal distances, cut off at the ends of the scale; a gap where they are missing."""
    small, large = decimated(values, int(width))
    n = len(small)
    if not n:
        return ""
    x = (np.arange(n) + 0.5) * width / n
    top, bottom = (height - (np.clip(v, low, high) - low) / (high - low) * height for v in (large, small))
    parts = []
    for a, b in spans(~np.isnan(small)):
        points: list[str] = []
        for k in range(a, b):
            points.append(f"{x[k]:.1f} {top[k]:.1f}")
            if bottom[k] - top[k] >= 0.5:
                points.append(f"{x[k]:.1f} {bottom[k]:.1f}")
        if len(points) == 1:
            points.append(f"{x[a] + 0.8:.1f} {top[a]:.1f}")
        parts.append("M" + "L".join(points))
    return f'<path d="{"".join(parts)}" fill="none" stroke="{colour}" stroke-width="{thick:g}"/>' if parts else ""


def band(low: np.ndarray, high: np.ndarray, width: float, height: float) -> str:
    """What lies between two curves float64 [time] on a scale of 0 to 1; a gap where one is missing."""
    least, most = decimated(low, int(width))[0], decimated(high, int(width))[1]
    x = (np.arange(len(least)) + 0.5) * width / max(1, len(least))
    bottom, top = (height - np.clip(v, 0, 1) * height for v in (least, most))
    parts = []
    for a, b in spans(~np.isnan(least) & ~np.isnan(most)):
        edge = [f"{x[k]:.1f} {top[k]:.1f}" for k in range(a, b)] + [f"{x[k]:.1f} {bottom[k]:.1f}" for k in reversed(range(a, b))]
        parts.append("M" + "L".join(edge) + "Z")
    return f'<path d="{"".join(parts)}" fill="{PALE}"/>' if parts else ""


def _scaled(values: np.ndarray, watched: Watched) -> np.ndarray:
    """The verdict on the scale that it is drawn on, 0..1."""
    if watched.rarity:
        return -np.log10(np.maximum(1 - values, 1 / RAREST)) / np.log10(RAREST)
    return values / watched.top


def trajectory(asset: AssetFact, watched: Watched, width: int = 340, height: int = 110) -> str:
    """An asset's verdict over time beside its limit and, of a remaining life, the truth; alarms, failures and episodes marked."""
    last = max([float(asset.at[-1]) if len(asset.at) else 1.0, *(p for p, _ in asset.marks)]) or 1.0
    wide = width * (float(asset.at[-1]) / last if len(asset.at) else 0.0)
    parts = []
    step = wide / max(1, len(asset.at))
    for begin, end, name in asset.bands:
        a, b = (np.clip(v / last, 0, 1) * width for v in (begin, end))
        parts.append(f'<g opacity="0.25"><title>{escape(name)}</title>{box(a, 0, b - a, height, CARE)}</g>')
    if len(asset.ends):
        parts.append(band(asset.ends[:, 0] / watched.top, asset.ends[:, 1] / watched.top, wide, height))
    for a, b in spans(asset.standing):
        parts.append(box(a * step, 0, (b - a) * step, height, LINE, ' opacity="0.18"'))
    if asset.begins > 0:
        parts.append(rule(asset.begins / last * width, 0, asset.begins / last * width, height, GREY, ' stroke-dasharray="2 3"'))
    limit = height - float(_scaled(np.array([watched.limit]), watched)[0]) * height
    parts.append(rule(0, limit, width, limit, FAIL, ' stroke-dasharray="5 3"'))
    if len(asset.truth):
        parts.append(curve(asset.truth / watched.top, wide, height, 0, 1, GREY))
    parts.append(curve(_scaled(asset.verdict, watched), wide, height, 0, 1, INK))
    for place, kind in asset.marks:
        if place >= 0:
            x, colour = min(place / last, 1.0) * width, FAIL if kind == "failure" else LINE
            parts.append(rule(x, 0, x, height, colour, ' stroke-width="2"'))
            parts.append(label(min(max(x, 8), width - 8), 12, "✕" if kind == "failure" else "◆", "middle", colour, 13))
    parts.append(rule(0, height, width, height, GRID))
    return picture(width, height + 1, parts, f"{asset.name}: {watched.title}, {watched.direction}")


def channel(name: str, score: np.ndarray, width: int = 340, height: int = 44, raised: float = -1.0) -> str:
    """A channel's scores float64 [time] between −6 and +6 standard deviations, with normal in the middle; `raised` (0..1) marks an alarm."""
    normal = height / FAR / 2
    parts = [box(0, height / 2 - normal, width, 2 * normal, PALE, ' opacity="0.6"'), rule(0, height / 2, width, height / 2, GRID)]
    if raised >= 0:
        parts.append(rule(raised * width, 0, raised * width, height, FAIL))
    parts.append(curve(score, width, height, -FAR, FAR, LINE, 1.1))
    return picture(width, height, parts, f"{name}: standard deviations from normal, −{FAR:g} to +{FAR:g}")


def around(d: Departure, width: int = 520) -> str:
    """A channel around an alarm."""
    n = len(d.at)
    at = int(np.argmin(np.abs(d.at))) if n else 0
    return channel(d.channel, d.score, width, 48, (at + 0.5) / n if n else -1.0)


def calibration(bins: Sequence[Bin], watched: Watched, width: int = 420, height: int = 300) -> str:
    """What was stated against what happened; on the diagonal both agree. A score has no diagonal: its bins stand side by side."""
    left, bottom = 44, 34
    wide, tall = width - left - 8, height - bottom - 8
    parts = [rule(left, 8, left, 8 + tall, GRID), rule(left, 8 + tall, left + wide, 8 + tall, GRID)]
    life = watched.unit != ""
    top = watched.top if life else 1.0
    for k in range(5):
        y = 8 + tall * (1 - k / 4)
        parts += [rule(left, y, left + wide, y, GRID), label(left - 6, y + 4, f"{top * k / 4:.3g}" if life else f"{25 * k} %", "end")]
    for k, b in enumerate(bins):
        x = left + wide * ((k + 0.5) / len(bins) if watched.rarity else b.said / top)
        y = 8 + tall * (1 - min(1.0, b.true / top))
        if not np.isnan(b.middle[0]):
            ends = [8 + tall * (1 - min(1.0, v / top)) for v in b.middle]
            parts.append(rule(x, ends[0], x, ends[1], LINE, ' stroke-width="5" opacity="0.35"'))
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{LINE}"><title>{b.n:,} readings</title></circle>')
        if watched.rarity:
            parts.append(label(x, height - 18, f"{b.low:g}–", "middle"))
    if not watched.rarity:
        parts.append(rule(left, 8 + tall, left + wide, 8, GREY, ' stroke-dasharray="4 3"'))
        parts += [label(left + wide * k / 4, height - 18, f"{top * k / 4:.3g}", "middle" if k < 4 else "end") for k in range(5)]
    parts.append(label(left + wide / 2, height - 3, f"stated [{watched.unit}]" if life else watched.title, "middle"))
    return picture(width, height, parts, "What was stated against what happened")


def bars(rows: Sequence[tuple[str, float, float]], width: int = 520) -> str:
    """Two bars for each channel: before caught events and in healthy time."""
    top = max([v for _, *pair in rows for v in pair if v == v] or [1.0]) or 1.0
    left, high = 170, 30
    wide, parts = width - left - 46, []
    for i, (name, before, healthy) in enumerate(rows):
        y = i * high
        parts.append(label(left - 8, y + 17, name if len(name) <= 24 else name[:23] + "…", "end", INK))
        for k, (value, colour) in enumerate(((before, FAIL), (healthy, LINE))):
            if value == value:
                parts.append(box(left, y + 3 + 11 * k, value / top * wide, 9, colour))
                parts.append(label(left + value / top * wide + 5, y + 11 + 11 * k, f"{value:.2f}", size=10))
    return picture(width, len(rows) * high + 4, parts, "Mean contribution of each channel before caught events and in healthy time")


def front(points: Sequence[Point], width: int = 460, height: int = 260) -> str:
    """Quality against cost of the candidates whose cost was measured; those that nothing beats in both are joined."""
    known = sorted((p for p in points if p.cost == p.cost and p.quality == p.quality), key=lambda p: (p.cost, -p.quality))
    if not known:
        return ""
    left, bottom = 20, 34
    cost, quality = np.array([p.cost for p in known]), np.array([p.quality for p in known])
    span = max(float(np.ptp(quality)), 1e-12)
    x = left + (cost / max(float(cost.max()), 1e-12)) * (width - left - 90)
    y = 16 + (1 - (quality - quality.min()) / span) * (height - bottom - 32)
    best = [k for k in range(len(known)) if quality[k] > max([-np.inf, *quality[:k]])]
    path = "L".join(f"{x[k]:.1f} {y[k]:.1f}" for k in best)
    parts = [rule(left, 4, left, height - bottom, GRID), rule(left, height - bottom, width, height - bottom, GRID)]
    parts.append(f'<path d="M{path}" fill="none" stroke="{LINE}" stroke-width="1.5"/>')
    for k, p in enumerate(known):
        parts.append(f'<circle cx="{x[k]:.1f}" cy="{y[k]:.1f}" r="5" fill="{GOOD if p.chosen else LINE}"/>')
        parts.append(label(x[k] + 9, y[k] + 4, f"{p.name} {p.quality:.3g}", "start", INK))
    ticks = (0.0, float(cost.max()))
    parts += [label(left + f * (width - left - 90), height - 18, f"{v:.3g}", "middle") for f, v in zip((0, 1), ticks, strict=True)]
    parts.append(
        label(width / 2, height - 3, f"cost: {known[0].unit}; lower is better; upwards: quality on validation, higher is better", "middle")
    )
    return picture(width, height, parts, "Candidates: quality against cost")
