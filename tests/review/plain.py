"""Facts made by hand: what a report shows needs no run."""

import numpy as np

from pmx.review.facts import AlarmFact, AssetFact, Bin, Departure, EventFact, Facts, GateFact, Past, Point, Verdict, Watched

LIFE = Watched("rul", "the stated remaining life", "below", 90.0, 240.0, "h")
SCORE = Watched("anomaly_score", "the anomaly score", "above", 0.99, 1.0, rarity=True)


def asset(name: str, ticks: int = 300, watched: Watched = LIFE, missed: int = 0, false: int = 0) -> AssetFact:
    at = np.arange(float(ticks))
    verdict = np.clip(ticks - at, 0, 240.0) if watched is LIFE else np.clip(at / ticks, 0, 0.99999)
    noise = np.random.default_rng(ticks).normal(size=(3, ticks))
    return AssetFact(
        name,
        at,
        verdict,
        at > ticks * 0.8,
        np.minimum(ticks - at, 240.0) if watched is LIFE else np.zeros(0),
        ((float(ticks), "failure"),),
        () if watched is LIFE else ((10.0, 40.0, name),),
        ticks / 4,
        "2026-01-01 00:00 UTC",
        "2026-02-01 00:00 UTC",
        np.stack([verdict - 20, verdict + 20], axis=1) if watched is LIFE else np.zeros((0, 2)),
        tuple((f"{name} channel {k}", z) for k, z in enumerate(noise)),
        ((f"{name} sensor", "stuck", "2026-01-03 00:00 UTC", ""),),
        missed=missed,
        false=false,
        alarms=1,
    )


def alarm(name: str, place: int, right: bool | None = True, kind: str = "machine") -> AlarmFact:
    at = np.arange(-60.0, 61.0)
    departures = tuple(Departure(f"{name} channel {k}", 3.1, at, np.sin(at / 9) * 4) for k in range(3)) if kind == "machine" else ()
    past = Past(f"{name} before", "2025-12-24 00:00 UTC", "failure", "after 900 h", 0.93, (f"{name} flow above normal",))
    channel = "" if kind == "machine" else f"{name} sensor"
    said = (f"{name} flow has been 3.1 standard deviations above its normal.",)
    similar = (past,) * 3 if kind == "machine" else ()
    return AlarmFact(
        name, place, kind, "2026-01-20 00:00 UTC", "", right, "3 days", said, (f"Look at {name}.",), departures, similar, channel
    )


def facts(assets: int = 6, alarms: int = 4, name: str = "P", watched: Watched = LIFE, **more) -> Facts:
    names = [f"{name}{k:03}" for k in range(assets)]
    sensors = [((f"{n} sensor", "stuck", "2026-01-20 00:00 UTC"),) if k % 6 == 0 else () for k, n in enumerate(names)]
    events = tuple(EventFact(n, k, "2026-02-01 00:00 UTC", "failure", k % 3 != 0, f"{n} told", sensors[k]) for k, n in enumerate(names))
    given = {
        "counts": (sum(e.caught for e in events), len(events)),
        "recall": (0.6, 0.4, 0.8),
        "rows": (("", "failures caught"), ("winner", "4 of 6"), (name, "–")),
        "tables": (f"{name} table",),
        "parts": (("", "training", "test"), (name, "3", "6")),
        "notes": (f"{name} note",),
        "assets": tuple(asset(n, watched=watched, missed=k % 3 == 0, false=k % 2) for k, n in enumerate(names)),
        "alarms": tuple(
            alarm(names[k % assets], k % assets, (True, False, None)[k % 3], "sensor" if k % 7 == 6 else "machine") for k in range(alarms)
        ),
        "events": events,
        "calibration": (Bin(0, 50, 10, 20.0, 25.0, (5.0, 40.0), 0.9), Bin(50, 240, 0, 100.0, np.nan)),
        "calibrated": "stated against true",
        "points": (Point(f"{name} a", 0.9, 2.0, "ms", True), Point("b", 0.8, 1.0, "ms"), Point("c", np.nan, np.nan, "ms")),
        "contributions": ((f"{name} flow", 3.0, 0.5), ("other", np.nan, 0.4)),
        "gates": (GateFact("parity", True, f"{name} equal"), GateFact("budget", False, "too large", "bytes", "small", findings=(name,))),
        "card": f"# {name}\n",
        "command": f"pmx run {name}",
        "identity": (("digest", name),),
    }
    verdict = more.pop("verdict", Verdict("shadow only", (f"{name} reason.",)))
    return Facts(name, f"{name} data", f"{name} model", f"{name} pumps", verdict, watched, "hours", "with age", **(given | more))
