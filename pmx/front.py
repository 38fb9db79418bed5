"""The trials of a sweep side by side: which of them no other beats in both quality and device cost, and which is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pmx.study import Row

UNITS = {"p50_ms": "ms", "p99_ms": "ms", "bytes": "bytes", "resident_mb": "MB"}
COSTS = tuple(UNITS)


def cost_of(measured: dict[str, float], name: str) -> float:
    """What a sweep makes small: a measured cost at two significant digits. Times closer than that are noise, not a better trial.

    Example:
        >>> cost_of({"p50_ms": 0.7649, "bytes": 310224}, "p50_ms"), cost_of({"bytes": 310224}, "bytes")
        (0.76, 310224.0)
    """
    return float(measured[name]) if name == "bytes" else float(f"{measured[name]:.2g}")


def finished(rows: list[Row]) -> list[Row]:
    return [r for r in rows if r.state == "finished"]


def front(rows: list[Row]) -> list[Row]:
    """The finished trials that no other beats: none is at least as good in both quality and cost, and better in one."""

    def beats(a: Row, b: Row) -> bool:
        better = a.record["quality"] >= b.record["quality"] and a.record["value_cost"] <= b.record["value_cost"]
        return better and (a.record["quality"], a.record["value_cost"]) != (b.record["quality"], b.record["value_cost"])

    done = finished(rows)
    return [r for r in done if not any(beats(other, r) for other in done)]


def best(rows: list[Row]) -> Row | None:
    """The trial of the highest quality among those that fit the device; of equals the cheaper, then the earlier one."""
    fit = [r for r in finished(rows) if r.record["fits"]]
    return min(fit, key=lambda r: (-r.record["quality"], r.record["value_cost"], r.number), default=None)


def told(record: dict[str, Any]) -> str:
    """A trial's quality as a reader knows it: the RMSE of a remaining life, else the value that validation chose by."""
    return f"{-record['quality']:.4g} {record['unit']}" if record["task"] == "rul" else f"{record['quality']:.4g}"


def measure_name(record: dict[str, Any]) -> str:
    return "validation RMSE" if record["task"] == "rul" else "validation value"


def table(rows: list[Row]) -> str:
    """The trials as text, the best first; `*` marks the front, `>` the one that is taken."""
    edge, taken = {r.number for r in front(rows)}, best(rows)
    order = sorted(rows, key=lambda r: (r.state != "finished", -r.record.get("quality", 0.0), r.number))
    done = finished(rows)
    quality = measure_name(done[0].record) if done else "value"
    lines = [["", "trial", quality, "p50 ms", "p99 ms", "kB", "fits", "candidate", "settings"]]
    for r in order:
        settings, found = " ".join(shorter(r.words)), r.record
        if r.state != "finished":
            why = str(found.get("error", "not finished")).strip().splitlines()[0]
            lines.append(["", str(r.number), r.state, "", "", "", "", "", f"{settings}: {why}"])
            continue
        cost, mark = found["cost"], (">" if taken is r else " ") + ("*" if r.number in edge else " ")
        figures = [f"{cost['p50_ms']:.2f}", f"{cost['p99_ms']:.2f}", f"{cost['bytes'] / 1e3:.0f}"]
        lines.append([mark, str(r.number), told(found), *figures, "yes" if found["fits"] else "no", found["candidate"], settings])
    width = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, width)).rstrip() for line in lines)


def shorter(words: list[str]) -> list[str]:
    """Overrides by the last part of their keys, where these differ; floats at four digits.

    Example:
        >>> shorter(["model.lightgbm.num_leaves=15", "model.lightgbm.learning_rate=0.03482351"])
        ['num_leaves=15', 'learning_rate=0.03482']
    """
    keys, values = zip(*(w.split("=", 1) for w in words), strict=True) if words else ((), ())
    last = [k.rpartition(".")[2] for k in keys]
    names = [n if last.count(n) == 1 else k for n, k in zip(last, keys, strict=True)]
    return [f"{n}={_rounded(v)}" for n, v in zip(names, values, strict=True)]


def _rounded(value: str) -> str:
    try:
        return f"{float(value):.4g}" if "." in value else value
    except ValueError:
        return value


def picture(rows: list[Row], cost: str, title: str) -> Figure:
    """Quality over device cost, a point for each trial; the front as a line, the one that is taken as a ring."""
    from matplotlib.figure import Figure

    done, edge, taken = finished(rows), front(rows), best(rows)
    sign = -1 if done[0].record["task"] == "rul" else 1
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()

    def at(some: list[Row]) -> tuple[list[float], list[float]]:
        return [r.record["value_cost"] for r in some], [sign * r.record["quality"] for r in some]

    fit = [r for r in done if r.record["fits"]]
    axes.scatter(*at(fit), s=26, color="#8aa7b8", label="fits the device")
    if out := [r for r in done if not r.record["fits"]]:
        axes.scatter(*at(out), s=26, color="#222222", marker="x", label="does not fit")
    line = sorted(edge, key=lambda r: r.record["value_cost"])
    axes.plot(*at(line), color="#c4511d", linewidth=1.4, marker="o", markersize=4, label="no other is better in both")
    if taken:
        axes.scatter(*at([taken]), s=130, facecolors="none", edgecolors="#c4511d", linewidths=1.6, label="taken")
    for i, r in enumerate(line):
        x, y = at([r])
        axes.annotate(str(r.number), (x[0], y[0]), textcoords="offset points", xytext=(5, 5 if i % 2 else -11), fontsize=8)
    unit = f" [{done[0].record['unit']}], lower is better" if sign < 0 else ", higher is better"
    step = {"p50_ms": "CPU time of a step, median", "p99_ms": "CPU time of a step, 99th percentile"}.get(cost, cost.partition("_")[0])
    axes.set(title=title, xlabel=f"{step} [{UNITS[cost]}]", ylabel=measure_name(done[0].record) + unit)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    return figure
