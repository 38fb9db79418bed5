"""A fault of one channel, planted a hundred times and replayed through the device's own code, is named by the contribution of that channel."""

import pytest

from benchmarks.contribution import SEEDS, measure

FLEET = ["model=pca", "feature=lags", "source.assets=30"]


@pytest.mark.parametrize(
    "more", [[], pytest.param(["feature.quality=null"], marks=pytest.mark.nightly)], ids=["sensors judged", "every reading believed"]
)
def test_the_channel_of_a_planted_fault_ranks_first(more):
    found = measure("demo", [*FLEET, *more])
    assert found["of"] == SEEDS == 100 and found["raised"] > 20
    assert found["first"] >= 95, found
    assert found["mean_rank"] < 1.2 and found["channels"] == 6


@pytest.mark.nightly
def test_it_does_so_among_many_channels_of_a_real_process(data_root):
    found = measure("tep", [f"source.root={data_root / 'tep'}", "source.subset=[1,2]"])
    assert found["first"] >= 95 and found["channels"] == 33, found
