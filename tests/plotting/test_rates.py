"""The plot of a range of rates shows every seed, its minimum and what is suggested."""

import math

import numpy as np
import pytest

from jaxopt_tut import plotting
from jaxopt_tut.training import RateRange

RATES = np.geomspace(1e-4, 10.0, 6)
LOSSES = np.array([[2.0, 1.5, 1.0, 0.5, 9.0, math.nan], [2.5, 2.0, 1.5, 1.0, 0.75, 1e30]])


def found(losses=LOSSES):
    """Return a result whose minima are where the losses are least."""
    finite = np.isfinite(losses[:, 0])
    best = [np.nanargmin(row) if ok else 0 for row, ok in zip(losses, finite, strict=True)]
    suggestions = np.where(finite, RATES[best] / 10, math.nan)
    middle = float(np.exp(np.nanmean(np.log(suggestions)))) if finite.any() else math.nan
    return RateRange(RATES, losses, middle, 10.0, suggestions, losses)


def test_lines_and_marks_are_the_numbers():
    ax = plotting.plot_rate_range(found(), title="A title")
    curves = [line for line in ax.lines if len(line.get_xdata()) == 6]
    np.testing.assert_array_equal([line.get_ydata() for line in curves], LOSSES)
    marked = [line for line in ax.lines if line.get_marker() == "o"]
    rings = [(line.get_xdata()[0], line.get_ydata()[0]) for line in marked]
    np.testing.assert_allclose(rings, [(RATES[3], 0.5), (RATES[4], 0.75)])
    (upright,) = (line for line in ax.lines if line.get_linestyle() == "--")
    np.testing.assert_allclose(upright.get_xdata(), found().suggestion)
    assert ax.get_title().startswith("A title")
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert 2.5 < ax.get_ylim()[1] < 100  # not as far as what diverged


@pytest.mark.parametrize(
    ("losses", "yscale"),
    [
        (LOSSES[:1], "log"),
        (LOSSES - 3, "linear"),
        (np.full((2, 6), math.nan), "linear"),
        (np.ones((1, 6)), "log"),
    ],
    ids=["one seed", "negative", "nothing finite", "constant"],
)
def test_any_losses_are_drawn(losses, yscale):
    ax = plotting.plot_rate_range(found(losses), ax=plotting.new_figure().add_subplot())
    assert ax.get_yscale() in (yscale, "linear")
    ax.figure.canvas.draw()


def test_something_else_is_refused():
    with pytest.raises(TypeError, match="plot_rate_range needs RateRange as found, got list"):
        plotting.plot_rate_range([1.0])
