"""A profile as one HTML page: one file, no script, nothing asked from outside. Every text from the data is escaped."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

import numpy as np

from pmx.profile import svg
from pmx.profile.channel import Finding
from pmx.profile.series import axis, bases, coverage, distances, envelopes, histogram
from pmx.profile.survey import Profile
from pmx.profile.text import length_text, offset_lines, operation_lines, order_lines, record_lines, sampling_lines

MOST_CHANNELS = 60
STYLE = """
:root{color-scheme:light}
body{font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;color:#1f2a33;background:#f4f6f8;margin:0}
main{max-width:1100px;margin:0 auto;padding:28px 20px 48px}
h1{font-size:25px;margin:0 0 2px;overflow-wrap:anywhere}
h2{font-size:17px;margin:0 0 10px}
p{margin:0 0 6px}
small,.quiet{color:#6b7780;font-size:13px}
section{background:#fff;border:1px solid #dde3e8;border-radius:10px;padding:18px 22px;margin:16px 0;overflow-wrap:anywhere}
section.claim{border-left:7px solid var(--tone)}
section.claim strong{font-size:19px;display:block;margin-bottom:6px}
ul,ol{margin:0;padding-left:20px}
li{margin:2px 0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:16px 0}
.tile{background:#fff;border:1px solid #dde3e8;border-radius:10px;padding:10px 16px}
.tile b{display:block;font-size:22px;line-height:1.25}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(400px,1fr));gap:16px}
.pair section{margin:0}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(510px,1fr));gap:14px 26px}
.card{border-top:1px solid #dde3e8;padding-top:8px}
.card header{display:flex;justify-content:space-between;gap:8px;align-items:baseline}
.card .plots{display:grid;grid-template-columns:minmax(0,1fr) 112px;gap:12px;margin:4px 0}
.bad{color:#a63d0f;font-weight:600}
.note{color:#8a6500}
table{border-collapse:collapse;width:100%;font-size:13.5px;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:3px 10px;border-bottom:1px solid #eef1f4;white-space:nowrap}
th{color:#6b7780;font-weight:500}
th:first-child,td:first-child,td:last-child,th:last-child{text-align:left}
td:last-child{white-space:normal;min-width:200px}
.scroll{overflow-x:auto}
svg{display:block;max-width:100%;height:auto;font-family:inherit}
.wide svg{width:100%}
.key span{margin-right:16px}
@media print{body{background:#fff}section,.tile{break-inside:avoid}}
"""


def page(profile: Profile) -> str:
    """The whole page as text."""
    name = profile.record.history.name
    parts = [
        f"<h1>{escape(name)}</h1><p class=quiet>What this data can carry · pmx data profile</p>",
        _claim(profile),
        _tiles(profile),
        _wants(profile),
        _timeline(profile),
        f"<div class=pair>{_section('Orders', [*order_lines(profile), *offset_lines(profile)], _offset(profile))}"
        f"{_section('Sampling and operation', [*sampling_lines(profile), *operation_lines(profile)], _distances(profile))}</div>",
        _channels(profile),
        _table(profile),
        _end(profile),
    ]
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>{escape(name)}: profile</title>'
    )
    # The policy keeps the page to its promise, whatever slipped past the escaping.
    policy = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    return f'<!doctype html><html lang="en"><head>{head}{policy}<style>{STYLE}</style></head><body><main>{"".join(parts)}</main></body></html>\n'


def _claim(profile: Profile) -> str:
    claim = profile.claim
    tone = svg.GOOD if claim.task == "rul" else svg.CARE if claim.recall else svg.FAIL
    source = f"<p class=quiet>Intervals: {escape('; '.join(claim.sources))}. Shown as if 80 % were caught.</p>" if claim.sources else ""
    head = f"<small>What can be claimed</small><strong>{escape(claim.headline)}</strong>"
    return f'<section class=claim style="--tone:{tone}">{head}{_list(claim.lines)}{source}</section>'


def _tiles(profile: Profile) -> str:
    record, counts = profile.record, profile.record.counts
    running = float(profile.assets["running"].sum())
    usable = sum(c.usable for c in profile.channels)
    tiles = [
        (f"{len(record.assets):,}", record.history.noun),
        (length_text(record, running), "with readings"),
        (f"{profile.claim.failures:,}", "lives ended by failure"),
        (f"{usable} of {len(profile.channels)}", "channels usable"),
        (f"{counts['in']:,}", "rows"),
        (f"{counts['quarantined']:,}", "rows refused"),
        (f"{counts['cells']:,}", "values set apart"),
    ]
    return "<div class=tiles>" + "".join(f"<div class=tile><b>{escape(v)}</b><small>{escape(n)}</small></div>" for v, n in tiles) + "</div>"


def _wants(profile: Profile) -> str:
    if not profile.wants:
        return ""
    return "<section><h2>What would help most</h2><ol>" + "".join(f"<li>{escape(w)}</li>" for w in profile.wants) + "</ol></section>"


def _timeline(profile: Profile) -> str:
    shown = coverage(profile)
    kinds = sorted({event for own in shown.marks for _, event in own}, key=list(svg.MARKS).index)
    key = "".join(f'<span><b style="color:{svg.MARKS[k][0]}">{svg.MARKS[k][1]}</b> {escape(k.replace("_", " "))}</span>' for k in kinds)
    key += f'<span><b style="color:{svg.CARE}">▬</b> labelled episode</span>' if any(shown.bands) else ""
    total = len(profile.record.assets)
    left = f"{len(shown.names)} of {total} {profile.record.history.noun}, those that failed first. " if len(shown.names) < total else ""
    left += "Every one begins at its first reading: they were watched one after the other. " if shown.aligned else ""
    left += f"{shown.outside} orders lie beyond the picture. " if shown.outside else ""
    body = svg.timeline(shown.names, shown.covered, shown.marks, shown.bands, axis(profile.record, shown.begin, shown.end, shown.aligned))
    head = "".join(f"<p>{escape(line)}</p>" for line in record_lines(profile))
    return (
        f'<section><h2>Readings and events</h2>{head}<div class="scroll">{body}</div><p class="quiet key">{key}{escape(left)}</p></section>'
    )


def _section(title: str, lines: Iterable[str], more: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{_list(lines)}{more}</section>"


def _offset(profile: Profile) -> str:
    found = profile.offset
    if not found.votes:
        return ""
    votes = np.array(found.votes)
    groups = np.array_split(votes, min(len(votes), 145))
    body = svg.bars(np.array([g.max() for g in groups]), 440, 64, "Breaks in the signals by their lag from the orders", svg.LINE)
    ends = '<p class=quiet style="display:flex;justify-content:space-between"><span>−3 d</span><span>the order</span><span>+3 d</span></p>'
    return f'<p class=quiet style="margin-top:12px">Breaks in the signals around failures and replacements</p><div class=wide>{body}</div>{ends}'


def _distances(profile: Profile) -> str:
    counts, low, high = distances(profile)
    if not len(counts):
        return ""
    body = svg.bars(np.log10(1 + counts), 440, 64, "Distances between readings")
    ends = f"<span>{escape(profile.record.span(low))}</span><span>{escape(profile.record.span(high))}</span>"
    head = '<p class=quiet style="margin-top:12px">Distances between readings (both scales logarithmic)</p>'
    return f'{head}<div class=wide>{body}</div><p class=quiet style="display:flex;justify-content:space-between">{ends}</p>'


def _channels(profile: Profile) -> str:
    names = [c.name for c in profile.channels[:MOST_CHANNELS]]
    bands = envelopes(profile, names)
    cards = "".join(_card(profile, c, *bands[c.name]) for c in profile.channels[:MOST_CHANNELS])
    left = f" The first {MOST_CHANNELS} of {len(profile.channels)}; all are in the table." if len(profile.channels) > MOST_CHANNELS else ""
    over = "since the first reading of each" if bases(profile).any() else "over the time of the record"
    what = f"Smallest, mean and largest value {over}, all {profile.record.history.noun} together; beside it how often each value occurs."
    return f"<section><h2>Channels</h2><p class=quiet>{escape(what + left)}</p><div class=cards>{cards}</div></section>"


def _card(profile: Profile, c: Finding, low: np.ndarray, mean: np.ndarray, high: np.ndarray) -> str:
    plot = svg.envelope(low, mean, high, 380, 62, f"{c.name} over time", not c.usable)
    counts = histogram(profile, c.name) if c.usable else np.empty(0)
    beside = svg.bars(counts, 112, 62, f"{c.name}, how often each value occurs", svg.GREY) if len(counts) else ""
    unit = "" if c.unit == "-" else f" {c.unit}"
    spread = f"{c.low:.4g} to {c.high:.4g}{unit}" if np.isfinite(c.low) else ""
    role = "" if c.role == "measurement" else f" <small>{escape(c.role)}</small>"
    head = f"<header><span><b>{escape(c.name)}</b>{role}</span><small>{escape(spread)}</small></header>"
    return f"<div class=card>{head}<div class=plots><div>{plot}</div><div>{beside}</div></div>{_said(c)}</div>"


def _said(c: Finding) -> str:
    bad = f"<p class=bad>Not usable: {escape('; '.join(c.reasons))}</p>" if c.reasons else ""
    return bad + (f"<p class=note>{escape('; '.join(c.remarks))}</p>" if c.remarks else "")


def _table(profile: Profile) -> str:
    heads = ("channel", "unit", "role", "values", "missing", "different", "every", "remarks")
    rows = []
    for c in profile.channels:
        every = profile.sampling.by_channel[c.name]
        told = "; ".join([*(f"not usable: {r}" for r in c.reasons), *c.remarks])
        cells = (
            c.name,
            c.unit,
            c.role,
            f"{c.values:,}",
            f"{c.missing:.1%}",
            f"{c.distinct:,}",
            profile.record.span(every) if np.isfinite(every) else "–",
            told,
        )
        rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    head = "".join(f"<th>{h}</th>" for h in heads)
    return f'<section><h2>All channels</h2><div class="scroll"><table><tr>{head}</tr>{"".join(rows)}</table></div></section>'


def _end(profile: Profile) -> str:
    method = (
        "Order times: each failure or replacement is compared with the stops and level shifts of its asset's channels within three days "
        "either way; a lag is told when it stands out from randomly shifted votes (99 %) and from the same hours a week earlier and later, "
        "and half of the orders follow it. A machine that is always stopped some hours before the order is written has a lag that is no "
        "mistake; a fault that grows slowly has no break to compare."
    )
    return f"<p class=quiet>{escape(method)}</p><p class=quiet>Digest of the data {escape(profile.record.history.digest)}</p>"


def _list(lines: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"
