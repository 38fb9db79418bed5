"""Pictures of a run whose winner says nothing."""

import numpy as np
import pytest
from matplotlib import pyplot

from pmx.evaluate.plot import device_against_model


@pytest.mark.parametrize(
    "values, told", [([1.0, np.nan, 3.0], "3 verdicts, 0 not bit-equal"), ([np.nan] * 2, "2 verdicts, 0 not bit-equal")]
)
def test_verdicts_are_drawn_where_there_are_any(values: list[float], told: str):
    figure = device_against_model(np.array(values, np.float32), np.array(values, np.float32), "rul")
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == [told]
    assert len(axes.lines[0].get_xdata()) == (2 if values[0] == 1.0 else 0)
    pyplot.close(figure)
