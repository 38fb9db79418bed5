"""Pictures of a result: the error by true life, a few assets, and the device against the model."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pmx.edge.replay import Replayed
from pmx.evaluate.protocol import Protocol, Truth

INK, ACCENT, PALE = "#222222", "#c4511d", "#8aa7b8"


def _figure(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _lives(played: Replayed, truth: Truth, protocol: Protocol) -> list[tuple[np.ndarray, np.ndarray]]:
    length = played.contract.tick
    return [
        (truth.life(t.astype(float), i, protocol.cap / length)[1] * length, np.clip(played.outputs["rul"][i], 0, protocol.cap))
        for i, t in enumerate(played.tick)
    ]


def error_by_life(played: Replayed, truth: Truth, protocol: Protocol) -> Figure:
    """Estimated less true RUL over the true one, all test ticks: median and the middle 80 %."""
    unit = played.contract.life_unit
    figure, axes = _figure(
        "Error by true remaining life, winner replayed", f"true RUL, capped at {protocol.cap:g} [{unit}]", f"estimated − true [{unit}]"
    )
    pairs = _lives(played, truth, protocol)
    true, said = (np.concatenate([p[k] for p in pairs]) for k in (0, 1))
    known = ~np.isnan(true) & ~np.isnan(said)
    true, error = true[known], (said - true)[known]
    edges = np.linspace(0, protocol.cap, 16)
    middle, parts = [], []
    for a, b in zip(edges[:-1], edges[1:], strict=True):
        inside = error[(true >= a) & (true < b)]
        if len(inside) >= 3:
            middle.append((a + b) / 2)
            parts.append(np.percentile(inside, [10, 50, 90]))
    if middle:
        low, centre, high = np.array(parts).T
        axes.fill_between(middle, low, high, color=PALE, alpha=0.5, label="middle 80 %")
        axes.plot(middle, centre, color=ACCENT, label="median")
        axes.legend(loc="upper right", frameon=False)  # to look for the best place takes long among many points
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.invert_xaxis()
    return figure


def trajectories(played: Replayed, truth: Truth, protocol: Protocol, limit: float, most: int = 6) -> Figure:
    """The longest-watched test assets: true and estimated RUL, or how rare the anomaly score is among healthy readings, beside the truth
    and the limit; and where the alarm stood.
    """
    unit = played.contract.life_unit
    order = np.argsort([-len(t) for t in played.tick], kind="stable")[:most]
    rows = -(-len(order) // 3)
    figure = Figure(figsize=(10, 0.8 + 2.4 * rows), layout="constrained")
    grid = figure.subplots(rows, 3, sharey=True, squeeze=False).ravel()
    pairs = _lives(played, truth, protocol) if "rul" in played.outputs else []
    chance = played.outputs.get("failure_probability")
    for axes, i in zip(grid, order, strict=False):
        at = (played.tick[i] - played.tick[i][0]) * played.contract.tick
        if pairs:
            axes.plot(at, pairs[i][0], color=INK, linewidth=1, label="true, capped")
            axes.plot(at, pairs[i][1], color=ACCENT, linewidth=1, label="estimated")
            bottom, top = 0.0, protocol.cap
        elif chance is not None:
            axes.plot(at, chance[i], color=ACCENT, linewidth=0.8, label="probability of failure")
            axes.axhline(limit, color=INK, linewidth=0.8, linestyle="--", label="limit")
            bottom, top = 0.0, 1.0
        else:
            bottom, top = 1.0, _rarity(played, truth, protocol, limit, axes, at, i)
        axes.fill_between(at, bottom, top, where=played.standing[i], color=PALE, alpha=0.4, step="post", label="alarm stands")
        begins = (truth.begins[i] - played.tick[i][0]) * played.contract.tick
        if begins > 0:
            axes.axvline(begins, color=INK, linewidth=0.8, linestyle=":", label="test part begins")
        axes.set_title(played.assets[i], fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[len(order) :]:
        axes.set_visible(False)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=5, frameon=False, fontsize=8)
    figure.supxlabel(f"age in the record [{unit}]", fontsize=9)
    said = f"P(failure within {protocol.horizon:g} {unit})"
    figure.supylabel(f"RUL [{unit}]" if pairs else said if chance is not None else "one healthy reading in ... is as bad", fontsize=9)
    return figure


def _rarity(played: Replayed, truth: Truth, protocol: Protocol, limit: float, axes: Axes, at: np.ndarray, i: int) -> float:
    """Draws an asset's anomaly scores as how many healthy readings hold one as bad, on a logarithmic scale; returns its upper end."""
    top = 1e5
    rare = 1 / np.maximum(1 - played.outputs["anomaly_score"][i].astype(np.float64), 1 / top)
    known = truth.anomalous(played.tick[i].astype(float), i, protocol.horizon / played.contract.tick)
    axes.plot(at, rare, color=ACCENT, linewidth=0.8, label="anomaly score")
    axes.axhline(1 / max(1 - limit, 1 / top), color=INK, linewidth=0.8, linestyle="--", label="limit")
    axes.plot(at, np.where(known > 0, 0.6 * top, np.nan), color=INK, linewidth=4, label="anomalous in truth", solid_capstyle="butt")
    axes.set_yscale("log")
    axes.set_ylim(1, top)
    return top


def device_against_model(device: np.ndarray, offline: np.ndarray, output: str) -> Figure:
    """Every verdict of the replay against the same model's own, float32 [row] both."""
    figure, axes = _figure(
        "Parity: the shipped bundle against the trained model", f"{output}, computed offline", f"{output}, replayed by the device code"
    )
    ends = np.quantile(offline[~np.isnan(offline)], [0, 1]) if not np.isnan(offline).all() else np.empty(0)
    axes.plot(ends, ends, color=INK, linewidth=0.8)
    axes.plot(offline, device, ".", color=ACCENT, markersize=2)
    differs = int((~((offline == device) | (np.isnan(offline) & np.isnan(device)))).sum())
    axes.text(0.03, 0.93, f"{len(device):,} verdicts, {differs:,} not bit-equal", transform=axes.transAxes)
    return figure


def candidates(points: list[dict[str, Any]], most_ms: float) -> Figure:
    """Quality of each candidate on validation over the time of a step at p99 in milliseconds; a line joins those that nothing beats.

    Args:
        points: `name`, `quality` (higher = better), `p99_ms`, `fits`, `chosen` and `front` of each.
        most_ms: what the device allows, in milliseconds.
    """
    figure, axes = _figure("Candidates: quality over cost", "step of one asset at p99, CPU [ms]", "quality on validation, higher = better")
    front = sorted((p for p in points if p["front"]), key=lambda p: p["p99_ms"])
    axes.plot([p["p99_ms"] for p in front], [p["quality"] for p in front], color=PALE, drawstyle="steps-post", zorder=1)
    for p in points:
        colour = ACCENT if p["chosen"] else INK
        axes.scatter(p["p99_ms"], p["quality"], color=colour, facecolor=colour if p["fits"] else "white", zorder=2)
        said = p["name"] + (", chosen" if p["chosen"] else "") + ("" if p["fits"] else ", does not fit")
        axes.annotate(said, (p["p99_ms"], p["quality"]), xytext=(6, 6), textcoords="offset points", color=colour)
    axes.axvline(most_ms, color=INK, linewidth=0.8, linestyle=":", label="allowed")
    axes.margins(0.15)
    axes.set_xlim(left=0.0)
    axes.legend(frameon=False)
    return figure
