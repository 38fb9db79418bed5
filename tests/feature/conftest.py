"""Engines to compute features of: the real archives where they lie, and one in the same raw format that is always there."""

from pathlib import Path

import polars as pl
import pytest

from pmx.contract import Contract
from pmx.source.cmapss import Cmapss

from .fleet import cmapss

REAL = [pytest.param(subset, marks=pytest.mark.real_data("cmapss")) for subset in ("FD001", "FD002")]


@pytest.fixture(scope="session", params=["miniature", *REAL])
def engines(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, pl.DataFrame, Contract]:
    """Name, all ticks, and their contract."""
    root, subset = tmp_path_factory.mktemp("cmapss"), request.param
    if subset == "miniature":
        Cmapss(str(root), "FD001").write_miniature(root)
        subset = "FD001"
    else:
        root = Path(request.getfixturevalue("data_root")) / "cmapss"
    return (request.param, *cmapss(root, subset))
