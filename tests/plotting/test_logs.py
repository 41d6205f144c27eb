"""Logarithmic axes are labelled with few plain numbers where those can be read."""

import pytest

from jaxopt_tut import plotting
from jaxopt_tut.plotting.logs import label_logs


def labels(values, **kwargs):
    ax = plotting.plot_lines([1, 2], {"f": values}, xlabel="x", ylabel="f", yscale="log", **kwargs)
    label_logs(ax.figure)
    ax.figure.draw_without_rendering()
    low, high = ax.get_ylim()
    seen = lambda axis: [
        label.get_text()
        for tick, label in zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
        if low <= tick <= high
    ]
    assert not any(label.get_text() for label in ax.yaxis.get_ticklabels(minor=True))
    return seen(ax.yaxis)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([0.3, 0.9], ["0.3", "0.4", "0.5", "0.6", "0.8"]),
        ([0.2, 5.0], ["0.2", "0.5", "1", "2", "5"]),
        ([0.02, 40.0], ["0.1", "1", "10"]),
        ([2.02, 2.09], ["2.02", "2.04", "2.06", "2.08"]),
        ([1e-9, 1e3], [f"$\\mathdefault{{10^{{{k}}}}}$" for k in range(-9, 4, 2)]),
    ],
)
def test_a_narrow_axis_has_plain_numbers_and_a_wide_one_powers_of_ten(values, found):
    assert labels(values) == found


def test_labels_that_somebody_chose_stay():
    ax = plotting.plot_lines([1, 2], {"f": [1, 9]}, xlabel="x", ylabel="f", yscale="log")
    ax.set_yticks([2, 7], ["two", "seven"])
    label_logs(ax.figure)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["two", "seven"]


def test_a_linear_axis_is_left_alone():
    ax = plotting.plot_lines([1, 2], {"f": [1, 9]}, xlabel="x", ylabel="f")
    before = ax.yaxis.get_major_formatter()
    label_logs(ax.figure)
    assert ax.yaxis.get_major_formatter() is before


def test_three_runs_have_a_range_and_no_percentiles():
    runs = [[1.0, 2.0, 9.0]]
    ax = plotting.plot_sensitivity([0.1], {"sgd": runs}, title="A title")
    assert ax.get_title() == "A title\n(median and range of 3 runs)"
    heights = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (1, 9)
    many = plotting.plot_sensitivity([0.1], {"sgd": [list(range(1, 12))]})
    assert many.get_title() == "median and 10-90 % of 11 runs"
    heights = many.collections[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (2, 10)
