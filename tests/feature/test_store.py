"""The store of features: what is there is not computed again, what is not sound is, and a kill loses at most one partition."""

import dataclasses
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pmx.contract import DataError
from pmx.feature.features import FeatureSet
from pmx.feature.kernel import Age, Ewma, TrailingMean
from pmx.feature.regime import RegimeScore
from pmx.feature.sample import fit_on_sample
from pmx.feature.store import FeatureStore, Stored, digest_of
from pmx.source import History
from pmx.source.admit import admit
from pmx.source.synthetic import Synthetic
from pmx.source.ticks import to_ticks
from pmx.window.split import ByAsset, ByTime

WINDOW = ByAsset(folds=2)


@pytest.fixture(scope="module")
def history() -> History:
    return Synthetic(assets=6, life=300.0).load()


@pytest.fixture(scope="module")
def recipe() -> FeatureSet:
    return FeatureSet(RegimeScore(), [Age(), TrailingMean(5), Ewma(3)])


class Counted:
    """The fit of a feature set, and how often it was asked for; told what is done, it can fail at a partition."""

    def __init__(self, recipe: FeatureSet, history: History, fail_at: int = -1) -> None:
        self.recipe, self.history, self.fail_at, self.fits = recipe, history, fail_at, 0

    def __call__(self, parts: list) -> FeatureSet:
        self.fits += 1
        return fit_on_sample(self.recipe, self.history, parts, WINDOW)

    def tell(self, what: str, done: int, total: int) -> None:
        if what == "features" and done == self.fail_at:
            raise KeyboardInterrupt


def build(folder: Path, recipe: FeatureSet, history: History, hop: int = 2, fresh: bool = False, fail_at: int = -1) -> tuple[Stored, int]:
    counted = Counted(recipe, history, fail_at)
    stored = FeatureStore(folder, [recipe, WINDOW], hop, together=150, batch=60).build(history, counted, counted.tell, fresh)
    return stored, counted.fits


def expected(recipe: FeatureSet, history: History, hop: int) -> pl.DataFrame:
    ticks = to_ticks(admit(history.rows, history.contract).readings, history.contract)
    fitted = recipe.fit(ticks.filter(pl.Series(WINDOW.divide(ticks, None).train)), history.contract)
    table = ticks.select("asset", "tick").hstack(pl.DataFrame(fitted.table(ticks), schema=[f"f{i}" for i in range(len(fitted.names_))]))
    return pl.concat([own.gather_every(hop, hop - 1) for own in table.partition_by("asset", maintain_order=True)])


def same(stored: Stored, wanted: pl.DataFrame) -> None:
    found = stored.scan().sort("asset", "tick").collect()
    assert found.columns == wanted.columns and found.select("asset", "tick").equals(wanted.select("asset", "tick"))
    np.testing.assert_allclose(found[:, 2:].to_numpy(), wanted[:, 2:].to_numpy(), rtol=1e-6)


def test_a_store_holds_every_hopth_row_of_the_fleet_and_is_computed_once(tmp_path: Path, recipe: FeatureSet, history: History) -> None:
    first, fits = build(tmp_path, recipe, history)
    assert first.computed == first.partitions > 1 and fits == 1 and first.cached == 0
    same(first, expected(recipe, history, 2))
    assert first.readings == history.rows.collect().height and first.rows == first.scan().collect().height
    again, fits = build(tmp_path, recipe, history)
    assert (again.cached, again.computed, fits, again.rows) == (first.partitions, 0, 0, first.rows)
    anew, fits = build(tmp_path, recipe, history, fresh=True)
    assert (anew.cached, fits) == (0, 1) and anew.scan().collect().equals(first.scan().collect())


def test_rows_that_alternate_between_assets_give_the_same(tmp_path: Path, recipe: FeatureSet, history: History) -> None:
    mixed = dataclasses.replace(history, rows=history.rows.sort("time", maintain_order=True), digest="other order")
    stored, _ = build(tmp_path, recipe, mixed)
    same(stored, expected(recipe, history, 2))
    assert not (stored.folder / "rows").exists(), "the copy of the rows goes when the store is complete"


def test_what_had_ended_before_an_interruption_stays(tmp_path: Path, recipe: FeatureSet, history: History) -> None:
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, recipe, history, fail_at=2)
    before = {f: f.stat().st_mtime_ns for f in tmp_path.glob("*/*/done.json")}
    stored, _ = build(tmp_path, recipe, history)
    assert stored.cached == len(before) == 2 and all(f.stat().st_mtime_ns == when for f, when in before.items())
    same(stored, expected(recipe, history, 2))


def test_a_killed_process_is_resumed(tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from tests.feature.test_store import *
history, recipe = Synthetic(assets=6, life=300.0).load(), FeatureSet(RegimeScore(), [Age(), TrailingMean(5), Ewma(3)])
class Killed(Counted):
    def tell(self, what, done, total):
        if what == "features" and done == 1:
            half = next(Path({str(tmp_path)!r}).iterdir()) / ".00001.part"
            half.mkdir()
            (half / "part-0000.parquet").write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
counted = Killed(recipe, history)
FeatureStore(Path({str(tmp_path)!r}), [recipe, WINDOW], 2, together=150, batch=60).build(history, counted, counted.tell)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    history, recipe = Synthetic(assets=6, life=300.0).load(), FeatureSet(RegimeScore(), [Age(), TrailingMean(5), Ewma(3)])
    stored, _ = build(tmp_path, recipe, history)
    assert stored.cached == 1 and not list(stored.folder.glob(".*.part"))
    same(stored, expected(recipe, history, 2))


@pytest.mark.parametrize("spoil", ["flip", "cut", "gone", "record", "manifest"])
def test_a_damaged_partition_is_computed_again(spoil: str, tmp_path: Path, recipe: FeatureSet, history: History) -> None:
    first, _ = build(tmp_path, recipe, history)
    file = first.folder / "00001" / "part-0000.parquet"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    if spoil == "flip":
        file.write_bytes(content)
    elif spoil == "cut":
        file.write_bytes(content[:-1])
    elif spoil == "gone":
        file.unlink()
    else:
        (first.folder / ("00001/done.json" if spoil == "record" else "manifest.json")).write_text("{")
    again, _ = build(tmp_path, recipe, history)
    assert again.cached == first.partitions - 1 if spoil != "manifest" else again.rows == first.rows
    same(again, expected(recipe, history, 2))


def test_the_key_follows_data_contract_recipe_and_hop(recipe: FeatureSet, history: History) -> None:
    def key(history: History = history, recipe: FeatureSet = recipe, hop: int = 2, window: object = WINDOW) -> str:
        return FeatureStore(Path("x"), [recipe, window], hop).key(history)

    other = FeatureSet(RegimeScore(), [Age(), TrailingMean(6), Ewma(3)])
    clip = FeatureSet(RegimeScore(clip=9.0), recipe.kernels)
    contract = dataclasses.replace(history.contract, lateness=1.0)
    keys = [key(), key(recipe=other), key(recipe=clip), key(hop=3), key(window=ByAsset(seed=1))]
    keys += [key(dataclasses.replace(history, digest="x")), key(dataclasses.replace(history, contract=contract))]
    assert len(set(keys)) == len(keys) and key() == key()


def test_arrays_count_by_their_bytes() -> None:
    assert digest_of(np.zeros(3)) != digest_of(np.zeros(3, np.float32)) != digest_of(np.zeros((3, 1), np.float32))
    assert digest_of({"b": 1, "a": np.float64(2.0)}) == digest_of({"a": 2.0, "b": 1})


def test_a_second_process_is_refused(tmp_path: Path, recipe: FeatureSet, history: History) -> None:
    counted = Counted(recipe, history)
    store = FeatureStore(tmp_path, [recipe, WINDOW], 2, together=150, batch=60)

    def within(what: str, done: int, total: int) -> None:
        if what == "features" and done == 1:
            with pytest.raises(DataError, match="another process"):
                store.build(history, counted, counted.tell)

    store.build(history, counted, within)


def test_the_fit_on_all_training_ticks_is_that_of_a_run(recipe: FeatureSet, history: History) -> None:
    from pmx.feature.large import partitions

    ticks = to_ticks(admit(history.rows, history.contract).readings, history.contract)
    for window in (ByAsset(), ByTime()):
        fitted = fit_on_sample(recipe, history, partitions(history.rows, together=150), window)
        whole = recipe.fit(ticks.filter(pl.Series(window.divide(ticks, None).train)), history.contract)
        assert digest_of(fitted.normalise_) == digest_of(whole.normalise_)
    few = fit_on_sample(recipe, history, partitions(history.rows, together=150), ByAsset(), most=100)
    assert len(few.fitted_on_) <= 100
    assert set(few.fitted_on_["asset"]) <= set(ticks.filter(pl.Series(ByAsset().divide(ticks, None).train))["asset"])
