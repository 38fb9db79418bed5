"""Planted leaks: every mutation, in the miniature of every source whose structure can carry it, must be found and named; clean data give 0 findings.

Sources come from the experiments, each with its own split, and with whole assets tested where it has enough of them. The mutations are
made on ticks and know nothing of how the audit looks. A finding in mutated data that names nothing of what was planted counts as false.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from pmx import config
from pmx.contract import Channel
from pmx.edge.replay import Replayed
from pmx.evaluate.protocol import Protocol
from pmx.gate.audit import audit
from pmx.gate.leakage import leakage
from pmx.gate.result import Finding
from pmx.place import experiment_dirs
from pmx.select.training import Training
from pmx.source import History
from pmx.source.admit import admit
from pmx.source.ticks import to_ticks
from pmx.window.label import ends_of
from pmx.window.split import ByAsset, Division, Split

ENOUGH = 6  # assets, for a split by asset beside the experiment's own
# Settings and sizes that give a miniature enough lives or labels; what is not here keeps its own.
WORDS = {
    "demo": ["source.assets=24", "source.life=500", "source.replace_at=450"],
    "nab": ["source.subset=[own/pump,own/fan_2,own/mill]"],
    "skab": [f"source.subset=[{','.join(f'valve1/{i}' for i in range(9))}]"],
    "nasa_battery": ["source.subset=[B0005,B0006,B0007,B0018,B0029,B0030,B0031]"],
    "nasa_battery_life": ["source.subset=[B0005,B0006,B0007,B0018,B0029,B0030,B0031]"],
}
SIZES: dict[str, dict[str, str | int]] = {
    "pronostia": {"learning": "1_1 1_2 2_1 2_2 3_1 3_2", "tested": "1_3 2_3"},
    "nasa_battery": {"cycles": 160},
    "nasa_battery_life": {"cycles": 160},
}


@dataclass(frozen=True)
class Case:
    """A source's ticks, divided; `history` without its rows' values in use."""

    name: str
    ticks: pl.DataFrame
    division: Division
    history: History
    split: Split
    protocol: Protocol
    fitted: np.ndarray | None = None  # bool [row]; None = what the division trains on

    def training(self) -> Training:
        return Training.of(self.ticks, self.division, self.history, self.split)

    def findings(self) -> list[Finding]:
        """What the gate finds."""
        checks = audit(self.training(), self.ticks, self.division, self.history, self.protocol)
        fitted = self.ticks.filter(pl.Series(self.division.train if self.fitted is None else self.fitted))
        return leakage(fitted, self.ticks, self.division, self.played(), checks).findings

    def played(self) -> Replayed:
        """A replay of the test part that says nothing of any reading: the gate asks it for assets and ticks alone."""
        parts = self.ticks.filter(pl.Series(self.division.test)).partition_by("asset", maintain_order=True)
        assets, ticks = [p["asset"][0] for p in parts], [p["tick"].to_numpy() for p in parts]
        return Replayed("", self.history.contract, assets, ticks, {}, [np.zeros(len(t), bool) for t in ticks], (), 0, 0.0)


@dataclass(frozen=True)
class Planted:
    """A mutated case, the checks of which one must find it, and the words that its finding must hold."""

    case: Case
    kinds: tuple[str, ...]
    names: tuple[str, ...]


# ---- clean cases


def experiments() -> list[str]:
    """Every experiment of the checkout, and `table`, which has none of its own."""
    return [*sorted(p.stem for folder in experiment_dirs() for p in folder.glob("*.yaml")), "table"]


def cases(experiment: str, folder: Path) -> Iterator[Case]:
    """The miniature of an experiment's source: divided as the experiment does it, and by whole assets where there are enough."""
    words = [*WORDS.get(experiment, []), "source.root=" + ("null" if experiment == "demo" else str(folder))]
    if experiment == "table":
        words = ["source=table", f"source.card={folder / 'plant.yaml'}", "window=by_time", "on_error=quarantine"]
    cfg = config.compose("demo" if experiment == "table" else experiment, words)
    parts = config.build(cfg)
    if experiment != "demo":
        parts.source.write_miniature(folder, **SIZES.get(experiment, {}))
    history = parts.source.load()
    contract = parts.window.suits(history.contract)
    ticks = to_ticks(admit(history.rows, contract, str(cfg.on_error)).readings, contract)
    splits = {"": parts.window}
    if ticks["asset"].n_unique() >= ENOUGH and not isinstance(parts.window, ByAsset):
        splits[" by asset"] = ByAsset()
    for more, split in splits.items():
        yield Case(experiment + more, ticks, split.apply(ticks, history.test_assets), history, split, parts.evaluate)


# ---- mutations


def _with(case: Case, name: str, values: np.ndarray) -> Case:
    """The case with one channel more, float64 [row]."""
    contract = replace(case.history.contract, channels=(*case.history.contract.channels, Channel(name, "-")))
    column = pl.Series(name, values.astype(np.float32)).fill_nan(None)
    return replace(case, ticks=case.ticks.with_columns(column), history=replace(case.history, contract=contract))


def _ends(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Ticks to the next failure or replacement, float64 [row], NaN where none comes; and which end of its asset it is."""
    ends = ends_of(case.history.events, case.history.contract)
    asset, tick = case.ticks["asset"].to_numpy(), case.ticks["tick"].to_numpy()
    left, number = np.full(len(tick), np.nan), np.zeros(len(tick), int)
    for name, at in ends.group_by("asset").agg("end").iter_rows():
        own = asset == name
        when = np.sort(np.array(at))
        place = np.searchsorted(when, tick[own], side="left")
        there = place < len(when)
        left[own] = np.where(there, when[np.minimum(place, len(when) - 1)] - tick[own], np.nan)
        number[own] = place
    return left, number


def _lives(case: Case) -> int:
    """Whole lives of four ticks or more that the training part knows."""
    events = case.training().events
    known = Case(case.name, case.ticks, case.division, replace(case.history, events=events), case.split, case.protocol)
    left, number = _ends(known)
    rows = case.division.train & ~np.isnan(left)
    table = case.ticks.select("asset").with_columns(life=pl.Series(number)).filter(pl.Series(rows))
    return table.group_by("asset", "life").len().filter(pl.col("len") >= 12).height


def _episodes(case: Case) -> tuple[np.ndarray, int]:
    """1 within a labelled episode, float64 [row]; and how many training assets have both kinds of ticks."""
    label = np.zeros(len(case.ticks))
    if case.history.episodes is None:
        return label, 0
    asset, contract = case.ticks["asset"].to_numpy(), case.history.contract
    tick = case.ticks["tick"].to_numpy()
    plain = case.history.episodes.with_columns(pl.col("begin", "end").to_physical())
    for name, begin, end in plain.select("asset", "begin", "end").iter_rows():
        first, last = np.ceil(contract.ticks_of(np.array([begin, end])) - 1e-6)
        label[(asset == name) & (tick >= first) & (tick <= last)] = 1.0
    train = case.division.train
    return label, len(np.intersect1d(asset[train & (label == 1)], asset[train & (label == 0)]))


def both_sides(case: Case, rng: np.random.Generator) -> Planted | None:
    """One reading of a test asset is fitted on."""
    fitted = case.division.train.copy()
    at = int(rng.choice(np.flatnonzero(case.division.test)))
    fitted[at] = True
    if case.division.by == "time" and not case.division.train[case.ticks["asset"].to_numpy() == case.ticks["asset"][at]].any():
        return None  # an asset whose whole life comes later
    return Planted(replace(case, fitted=fitted), ("both_sides",), (case.ticks["asset"][at],))


def split_by_row(case: Case, rng: np.random.Generator) -> Planted | None:
    """Every row is drawn for one side, as a random split of overlapping windows does it."""
    train = rng.random(len(case.ticks)) < 0.7
    return Planted(replace(case, division=Division(train, ~train, case.division.by)), ("both_sides",), (case.ticks["asset"][0],))


def _copied(case: Case, rng: np.random.Generator, noise: float, share: float) -> Planted | None:
    """A test asset's ticks, the later `share` of them, stand in the training part under another name; noise in shares of the spread."""
    names = case.history.contract.names
    test = case.ticks.filter(pl.Series(case.division.test))
    least = 60 if len(names) == 1 else 40  # a single signal says less of itself in a short stretch
    # a log of rare errors reads the same on most machines: there is nothing in it that could be known again
    alive = test.filter(pl.any_horizontal(pl.col(names).is_not_null() & (pl.col(names).diff() != 0)))
    sizes = alive.group_by("asset").len().sort("asset").filter(pl.col("len") * share >= least)
    if not len(sizes):
        return None
    asset = str(rng.choice(sizes["asset"].to_numpy()))
    own = test.filter(pl.col("asset") == asset)
    own = own[int(len(own) * (1 - share)) :][:400]
    spread = case.ticks.select(pl.col(names).cast(pl.Float64).std().fill_null(0.0)).to_numpy()[0]
    shaken = own.with_columns(
        (pl.col(n) + pl.Series(noise * s * rng.normal(size=len(own)))).cast(pl.Float32) for n, s in zip(names, spread, strict=True)
    )
    twin = shaken.with_columns(pl.lit("~twin").alias("asset"), pl.col("tick") - 7).select(case.ticks.columns)
    more = np.ones(len(twin), bool)
    division = Division(np.r_[case.division.train, more], np.r_[case.division.test, ~more], case.division.by)
    return Planted(replace(case, ticks=pl.concat([case.ticks, twin]), division=division), ("near_duplicates",), (asset, "~twin"))


def copy(case: Case, rng: np.random.Generator) -> Planted | None:
    """A test asset under another name in the training part."""
    return _copied(case, rng, 0.0, 1.0)


def noisy_copy(case: Case, rng: np.random.Generator) -> Planted | None:
    """The same with noise of 0.1 % of each channel's spread."""
    return _copied(case, rng, 0.001, 1.0)


def overlap(case: Case, rng: np.random.Generator) -> Planted | None:
    """One record cut into overlapping pieces: the later half of a test asset is the beginning of a training asset."""
    return _copied(case, rng, 0.0, 0.5)


def countdown(case: Case, rng: np.random.Generator) -> Planted | None:
    """Days to the end of the life, in a unit of its own."""
    left, _ = _ends(case)
    return Planted(_with(case, "planted", left * 0.37), ("countdowns", "label_channels"), ("planted",)) if _lives(case) >= 2 else None


def service_plan(case: Case, rng: np.random.Generator) -> Planted | None:
    """Whole days to the next planned service, where the plan was written after the lives had ended; about 30 days a life."""
    left, _ = _ends(case)
    step = max(1.0, float(np.nanmedian(left)) / 15) if (~np.isnan(left)).any() else 1.0
    return (
        Planted(_with(case, "planted", np.ceil(left / step)), ("countdowns", "label_channels"), ("planted",)) if _lives(case) >= 2 else None
    )


def disguise(case: Case, rng: np.random.Generator) -> Planted | None:
    """A smooth falling function of the life left, or of the label, with a little noise."""
    (left, _), (label, labelled) = _ends(case), _episodes(case)
    if _lives(case) >= 4 and (case.history.events["event"] == "failure").any():
        value = 40 + 12 * np.exp(-left / np.nanmedian(left))
        return Planted(_with(case, "planted", value + 0.02 * rng.normal(size=len(value))), ("label_channels",), ("planted",))
    if labelled >= 4:
        return Planted(_with(case, "planted", 3 - label + 0.05 * rng.normal(size=len(label))), ("label_channels",), ("planted",))
    return None


def _event_rows(case: Case) -> np.ndarray:
    """Rows of the last tick before each end of a life, or of the first tick of each episode."""
    (left, number), (label, _) = _ends(case), _episodes(case)
    table = case.ticks.select("asset").with_columns(row=pl.int_range(pl.len()), life=pl.Series(number), left=pl.Series(left))
    last = table.filter(~pl.col("left").is_nan()).group_by("asset", "life").agg(pl.col("row").last())["row"].to_numpy()
    begins = np.flatnonzero((label == 1) & (np.r_[0.0, label[:-1]] == 0))
    return np.sort(np.r_[last, begins]).astype(int)


def _known(case: Case) -> np.ndarray:
    """The same, of the training part."""
    rows = _event_rows(case)
    return rows[case.division.train[rows]]


def _after(case: Case, rng: np.random.Generator) -> np.ndarray:
    """The event's rows and up to three that follow on the same asset, with hours of repair; NaN elsewhere."""
    value, asset = np.full(len(case.ticks), np.nan), case.ticks["asset"].to_numpy()
    for row in _event_rows(case):
        for at in range(row, min(row + 3, len(value))):
            value[at] = rng.uniform(2, 9) if asset[at] == asset[row] else value[at]
    return value


def filled_afterwards(case: Case, rng: np.random.Generator) -> Planted | None:
    """Hours of repair, empty until the failing tick."""
    return Planted(_with(case, "planted", _after(case, rng)), ("known_after",), ("planted",)) if len(_known(case)) >= 3 else None


def code_afterwards(case: Case, rng: np.random.Generator) -> Planted | None:
    """A failure code, 0 until the failing tick."""
    value = np.nan_to_num(np.ceil(_after(case, rng) / 3))
    return Planted(_with(case, "planted", value), ("known_after", "failure_flags"), ("planted",)) if len(_known(case)) >= 3 else None


def failure_flag(case: Case, rng: np.random.Generator) -> Planted | None:
    """A failure mode: 1 at the tick of some failures, 0 elsewhere."""
    rows, known = _event_rows(case), _known(case)
    if len(known) < 6:
        return None
    value = np.zeros(len(case.ticks))
    value[np.concatenate([rng.choice(known, max(3, len(known) // 2), replace=False), rows[::3]])] = 1
    return Planted(_with(case, "planted", value), ("failure_flags",), ("planted",))


MUTATIONS: tuple[Callable[[Case, np.random.Generator], Planted | None], ...] = (
    both_sides,
    split_by_row,
    copy,
    noisy_copy,
    overlap,
    countdown,
    service_plan,
    disguise,
    filled_afterwards,
    code_afterwards,
    failure_flag,
)


def judged(planted: Planted) -> tuple[bool, bool, list[Finding]]:
    """Whether the mutation was found, whether a finding names it, and the findings that name something else."""
    found = planted.case.findings()
    right = [f for f in found if f.kind in planted.kinds]
    named = [f for f in right if all(name in f.where for name in planted.names)]
    stray = [f for f in found if not (planted.names and any(name in f.where for name in planted.names)) and f.kind != "both_sides"]
    return bool(right), bool(named), stray


def main() -> None:
    count: Counter[str] = Counter()
    print(f"{'case':<28}{'mutation':<20}found named false")
    for experiment in sys.argv[1:] or experiments():
        with tempfile.TemporaryDirectory() as folder:
            for case in cases(experiment, Path(folder)):
                clean = case.findings()
                count.update(clean_cases=1, false=len(clean))
                print(f"{case.name:<28}{'(clean)':<20}  –     –   {len(clean):>3}")
                for mutation in MUTATIONS:
                    planted = mutation(case, np.random.default_rng(1))
                    if planted is not None:
                        found, named, stray = judged(planted)
                        count.update(planted=1, found=found, named=named, false=len(stray))
                        print(
                            f"{case.name:<28}{mutation.__name__:<20}{'yes' if found else 'NO':>4}{'yes' if named else 'NO':>6}{len(stray):>6}"
                        )
    print(json.dumps({"bench": "leaks", **{k: count[k] for k in ("clean_cases", "planted", "found", "named", "false")}}))


if __name__ == "__main__":
    main()
