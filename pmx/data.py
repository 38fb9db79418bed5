"""`pmx data`: which data sets there are, whether one holds what it should, and how to get it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from pmx import config, place
from pmx.contract import UsageError, shown
from pmx.edge.table import replacing
from pmx.signature import nearest
from pmx.source import Admitted, History, Source
from pmx.source.admit import admit
from pmx.source.ticks import to_ticks
from pmx.window.label import ENDS

if TYPE_CHECKING:
    from pmx.feature.store import Stored


def _source(name: str, overrides: list[str]) -> tuple[Source, Any]:
    """The source that `pmx run` would build, and the configuration around it."""
    known = sorted({p.stem for d in place.conf_dirs() for p in (d / "source").glob("*.yaml")})
    if name not in known:
        plants = [n for n, file in place.experiments().items() if "source: table" in file.read_text(encoding="utf-8")]
        raise UsageError(f"no source or plant {name!r} -> {nearest(name, known + plants)}")
    # One model, the quickest to import: the data do not depend on it.
    cfg = config.compose("demo", ["model=lightgbm", f"source={name}", *overrides])
    return config.build(cfg).source, cfg


def list_data() -> dict[str, Any]:
    """Prints every source with its folder and whether something is there."""
    found = {}
    for name in sorted({p.stem for d in place.conf_dirs() for p in (d / "source").glob("*.yaml")}):
        source, _ = _source(name, [])
        cards = hasattr(source, "card")  # the user's own files, wherever they lie
        root = None if cards else getattr(source, "root", None)
        there = "simulated" if root is None else "there" if Path(root).is_dir() and any(Path(root).iterdir()) else "missing"
        there = "your files" if cards else there
        found[name] = {"root": root, "state": there, "what": (type(source).__doc__ or "").splitlines()[0]}
        hint = "  -> pmx new PLANT --readings FILES" if cards else f"  -> pmx data fetch {name}" if there == "missing" else ""
        print(f"{name:12} {there:10} {root or '–'}{hint}\n{'':12} {found[name]['what']}")
    return {"sources": found}


def check_data(name: str, overrides: list[str]) -> dict[str, Any]:
    """Reads a source, or the source of an experiment, as a run would, and prints what the contract made of it and what it can teach."""
    source, cfg = _source_or_experiment(name, overrides)
    history = source.load()
    quarantine = Path(cfg.out) / "quarantine" / f"{history.name.replace(' ', '_')}.parquet"
    if cfg.on_error == "quarantine":
        quarantine.parent.mkdir(parents=True, exist_ok=True)
    admitted = admit(history.rows, history.contract, str(cfg.on_error), quarantine).some(history.name)
    ticks = to_ticks(admitted.readings, history.contract)
    lives = history.events.filter(pl.col("event").is_in(ENDS)).group_by("event").len()
    ended = dict(lives.iter_rows())
    assets = ticks["asset"].n_unique()
    length = ticks.group_by("asset").len()["len"].to_numpy()
    missing = {c: round(float(ticks[c].null_count() / max(1, len(ticks))), 4) for c in history.contract.names}
    constant = [c for c in history.contract.names if ticks[c].drop_nulls().n_unique() <= 1]
    unit = history.contract.life_unit
    print(
        f"{history.name}: {admitted.counts['in']:,} rows, {admitted.counts['accepted']:,} accepted, {admitted.counts['quarantined']:,} quarantined"
        + (f"; {admitted.counts['cells']:,} values of accepted rows set apart" if admitted.counts["cells"] else "")
    )
    if admitted.quarantine.height:
        _show_refused(admitted, quarantine)
    own = "" if history.test_assets is None else f", {len(history.test_assets)} of them the source's own test part"
    print(
        f"  {assets} {history.noun}{own}; {len(ticks):,} ticks of {history.contract.tick:g} {unit}, {np.min(length)} to {np.max(length)} an asset"
    )
    print(_known_of(history, ended))
    print(f"  missing values: {max(missing.values()):.2%} in the worst channel; constant channels: {', '.join(constant) or 'none'}")
    published = source.published()
    _show_files(history, admitted, published)
    return {
        "name": history.name,
        "counts": admitted.counts,
        "assets": assets,
        "ticks": len(ticks),
        "failures": ended.get("failure", 0),
        "replacements": ended.get("replacement", 0),
        "episodes": None if history.episodes is None else len(history.episodes),
        "missing": missing,
        "constant": constant,
        "digest": history.digest,
        "published": published,
        "notes": list(history.notes),
        "ignored": list(admitted.ignored),
    }


def _show_files(history: History, admitted: Admitted, published: dict[str, bool]) -> None:
    if admitted.ignored:
        print(f"  columns that the contract does not list, left out: {shown(', '.join(admitted.ignored), 200)}")
    for note in history.notes:
        print(f"  note: {shown(note, 400)}")
    if published:
        changed = [n for n, same in published.items() if not same]
        print("  files: " + (f"NOT as published: {', '.join(changed)}" if changed else f"{len(published)} as published (SHA-256)"))
    print(f"  digest {history.digest}")


def _show_refused(admitted: Admitted, quarantine: Path) -> None:
    reasons = dict(admitted.quarantine.group_by("reason").len().sort("reason").iter_rows())
    for row in admitted.quarantine.head(5).iter_rows(named=True):
        where = f"asset {shown(row['asset']) or '?'}" + (f", channel {shown(row['channel'])}" if row["channel"] else "")
        print(f"  {Path(row['file']).name}, row {row['row']}, {where}: {row['value']!r} ({row['reason']})")
    print(f"  quarantine in {quarantine}: " + ", ".join(f"{n} {r}" for r, n in reasons.items()))


def _known_of(history: History, ended: dict[str, int]) -> str:
    """What somebody wrote down about the assets: ends of life, and labelled episodes where there are any labels."""
    lines = [
        f"  ends of life: {ended.get('failure', 0)} failures, {ended.get('replacement', 0)} replacements (assets without one are censored)"
    ]
    if history.episodes is not None:
        lines.append(f"  labelled episodes: {len(history.episodes)} in {history.episodes['asset'].n_unique()} {history.noun}")
    return "\n".join(lines)


def profile_data(name: str, overrides: list[str], output: Path | None = None) -> dict[str, Any]:
    """Reads a source, or the source of an experiment, prints what its data can carry and writes a page of it.

    Rows that break the contract stop nothing: they are counted. Nothing but the page is written.

    Args:
        output: the page; None = `profile/<name>.html` in the runs folder.
    """
    from pmx.profile.page import page
    from pmx.profile.survey import Profile
    from pmx.profile.text import text

    source, cfg = _source_or_experiment(name, overrides)
    history = source.load()
    profile = Profile.of(history, admit(history.rows, history.contract, "quarantine").some(history.name), int(cfg.seed))
    file = output or Path(cfg.out) / "profile" / f"{re.sub(r'[^A-Za-z0-9._-]+', '_', history.name).lstrip('.')}.html"
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as part:
        part.write_text(page(profile), encoding="utf-8")
    print(f"{text(profile)}\n\nPage: {file}")
    return {**profile.to_json(), "page": str(file)}


def _source_or_experiment(name: str, overrides: list[str]) -> tuple[Source, Any]:
    sources = {p.stem for d in place.conf_dirs() for p in (d / "source").glob("*.yaml")}
    if name in sources or name not in place.experiments():
        return _source(name, overrides)
    cfg = config.compose(name, overrides)
    return config.build(cfg).source, cfg


def _parts_of(name: str, overrides: list[str]) -> tuple[Any, config.Parts]:
    """The configuration of an experiment, else of a demo on this source, and what it describes."""
    if name not in place.experiments():
        _source(name, [])  # refuses a name that is neither
        overrides = ["model=lightgbm", f"source={name}", *overrides]
    cfg = config.compose(name if name in place.experiments() else "demo", overrides)
    return cfg, config.build(cfg)


def export_data(name: str, overrides: list[str], output: Path | None) -> dict[str, Any]:
    """Writes the accepted readings of a source, or of an experiment's source, as a device takes them: CSV, one row per asset and time."""
    source, cfg = _source_or_experiment(name, overrides)
    history = source.load()
    admitted = admit(history.rows, history.contract, str(cfg.on_error)).some(history.name)
    file = output or Path(cfg.out) / "export" / f"{history.name.replace(' ', '_')}.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    table = admitted.readings.select("asset", "time", *history.contract.names)
    with replacing(file) as part:
        table.write_csv(part, datetime_format="%Y-%m-%dT%H:%M:%S%.6fZ")
    counts = admitted.counts
    left_out = f"{counts['quarantined']:,} refused rows" + (f" and {counts['cells']:,} values" if counts["cells"] else "")
    print(f"{len(table):,} rows of {history.name} in {file}; {left_out} are left out")
    repairs = history.events.filter(pl.col("event").is_in(ENDS)).select("asset", time="known_at").unique().sort("asset", "time")
    beside = file.with_name(f"{file.stem}.repairs.csv")
    if len(repairs):
        with replacing(beside) as part:
            repairs.write_csv(part, datetime_format="%Y-%m-%dT%H:%M:%S%.6fZ")
        print(f"{len(repairs):,} ends of a life in {beside}: the asset begins anew behind each of them")
    print(f"Next: pmx-edge replay BUNDLE --input {file}" + (f" --repairs {beside}" if len(repairs) else ""))
    told = {"file": str(file), "rows": len(table), "quarantined": counts["quarantined"], "cells": counts["cells"]}
    return told | ({"repairs": str(beside)} if len(repairs) else {})


def features_data(
    name: str, overrides: list[str], output: Path | None = None, hop: int = 1, fresh: bool = False, quiet: bool = False
) -> dict[str, Any]:
    """Computes the features of a source, or of an experiment's source, into Parquet; what is there already is not computed again.

    The history is never held as a whole: assets are taken a few at a time, and a long one in blocks of ticks.

    Args:
        output: the folder of the stores; None = `features/<name>` in the runs folder.
        hop: ticks between two feature rows of an asset.
        fresh: compute all of it anew.
    """
    from pmx.feature.sample import fit_on_sample
    from pmx.feature.store import FeatureStore
    from pmx.progress import Progress

    cfg, parts = _parts_of(name, overrides)
    settings = [type(parts.source).__name__, {k: v for k, v in vars(parts.source).items() if k not in ("root", "home")}]
    features, window, on_error = parts.feature, parts.window, str(cfg.on_error)
    store = FeatureStore(output or Path(cfg.out) / "features" / name, [features, window, settings], hop, on_error)
    with Progress(quiet) as progress:
        progress("loading", 0, 1)
        history = parts.source.load()
        window.suits(history.contract)
        stored = store.build(history, lambda found: fit_on_sample(features, history, found, window, on_error), progress, fresh)
    return _features_told(stored, store.folder, history.name, hop)


def _features_told(stored: Stored, store: Path, name: str, hop: int) -> dict[str, Any]:
    """What was computed, to the screen and as plain data."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    rate = stored.readings / stored.seconds
    made = f"{stored.rows:,} feature rows of {len(stored.names)} features, every {hop} ticks"
    print(f"{name}: {made}, from {stored.readings:,} readings{stored.apart}")
    speed = f"{stored.seconds:.1f} s, {rate:,.0f} readings a second, " if stored.computed else ""
    print(
        f"  {stored.computed} of {stored.partitions} partitions computed, {stored.cached} were there; {speed}"
        f"peak memory {peak:.2f} GB, {stored.bytes / 1e6:,.1f} MB on disk"
    )
    print(f"  {stored.folder}; to free the space, remove {store}")
    print(f'Next: polars.scan_parquet("{stored.folder}/*/part-*.parquet"); f<i> is the i-th of the names in manifest.json')
    return {
        "folder": str(stored.folder),
        "rows": stored.rows,
        "features": stored.names,
        "readings": stored.readings,
        "quarantined": stored.refused,
        "cells": stored.cells,
        "partitions": stored.partitions,
        "cached_partitions": stored.cached,
        "seconds": round(stored.seconds, 3),
        "rows_per_second": round(rate),
        "peak_memory_gb": round(peak, 3),
        "bytes": stored.bytes,
    }


def fetch_data(name: str, overrides: list[str]) -> dict[str, Any]:
    """Prints a data set's terms, then downloads it and checks every file's digest."""
    source, _ = _source(name, overrides)
    print(f"Terms of {name}: {source.terms or 'none stated'}", flush=True)
    files = source.fetch()
    for file, digest in files.items():
        print(f"  {digest}  {file}")
    print(f"Next: pmx data check {' '.join([name, *overrides])}")
    return {"files": files, "terms": source.terms}
