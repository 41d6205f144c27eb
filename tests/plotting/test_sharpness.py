"""The plot of sharpness shows each run and its limit, and gaps where nothing is known."""

import math

import numpy as np
import pytest

from jaxopt_tut import plotting

STEPS = [0, 10, 20]
RUNS = {"sgd": [3.0, 12.0, 21.0], "adam": [[1.0, 5.0, 9.0], [2.0, 7.0, 6.0], [3.0, 3.0, 9.0]]}


def curves(ax):
    return {line.get_label(): np.asarray(line.get_ydata(), float) for line in ax.lines}


def test_lines_are_medians_bands_ranges_and_dashes_limits():
    ax = plotting.plot_sharpness(STEPS, RUNS, limits={"sgd": 20.0}, title="A title")
    found = curves(ax)
    assert found["sgd"].tolist() == [3, 12, 21]
    assert found["adam"].tolist() == [2, 5, 9]
    assert found["limit of sgd"].tolist() == [20, 20]
    assert len(found) == 3
    (band,) = ax.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (1, 9)
    assert ax.get_title() == "A title"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "sharpness")


def test_relative_to_their_limits_all_have_one_line_at_one():
    ax = plotting.plot_sharpness(STEPS, RUNS, limits={"sgd": 20.0, "adam": 10.0}, relative=True)
    found = curves(ax)
    np.testing.assert_allclose(found["sgd"], [0.15, 0.6, 1.05])
    np.testing.assert_allclose(found["adam"], [0.2, 0.5, 0.9])
    assert found["stability limit"].tolist() == [1, 1]
    assert ax.get_ylabel() == "sharpness over its limit"


def test_one_limit_for_all_is_one_line():
    found = curves(plotting.plot_sharpness(STEPS, RUNS, limits=np.float32(8.0)))
    assert found["stability limit"].tolist() == [8, 8]
    assert len(found) == 3


@pytest.mark.parametrize("yscale", ["linear", "log"])
@pytest.mark.parametrize(
    "values",
    [[math.nan] * 3, [[1.0, math.nan, math.inf], [math.nan, math.nan, 2.0]], [-1.0, 0.0, -2.0]],
    ids=["nothing", "some", "negative"],
)
def test_what_is_not_known_is_a_gap(values, yscale):
    ax = plotting.plot_sharpness(STEPS, {"run": values}, yscale=yscale)
    line = ax.lines[0].get_ydata()
    expected = np.where(np.isfinite(values), values, np.nan)
    if np.ndim(values) == 2:
        expected = [1.0, math.nan, 2.0]
    np.testing.assert_array_equal(line, expected)
    ax.figure.canvas.draw()


@pytest.mark.parametrize(
    ("sharpness", "options", "error", "message"),
    [
        ([1.0], {}, TypeError, "plot_sharpness needs a mapping from names to numbers, got list."),
        ({}, {}, ValueError, "plot_sharpness needs something to draw"),
        ({"a": [1.0, 2.0]}, {}, ValueError, r"a measurement \(3\), got shape \(1, 2\)"),
        ({"a": np.full(3, 1j)}, {}, TypeError, "real numbers, got complex128 for 'a'."),
        (RUNS, {"limits": {"sdg": 3.0}}, ValueError, "limits of what it draws, got one of 'sdg'"),
        (RUNS, {"limits": {"sgd": "3"}}, TypeError, r"got str for \"limits\['sgd'\]\""),
        (
            RUNS, {"limits": {"sgd": 3.0}, "relative": True}, ValueError,
            "with relative=True needs all limits, got none of 'adam'.",
        ),
        (RUNS, {"relative": True}, ValueError, "needs all limits, got none of 'sgd'."),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused(sharpness, options, error, message):
    with pytest.raises(error, match=message):
        plotting.plot_sharpness(STEPS, sharpness, **options)
