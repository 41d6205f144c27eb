"""Slices are drawn as they were evaluated, whatever is in them."""

import re

import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.landscape import Slice
from jaxopt_tut.plotting import new_figure, plot_slice, save_figure

LINE = Slice(
    (jnp.array([-1.0, 0.0, 2.0]),),
    jnp.array([3.0, 1.0, 2.0]),
    {"error": jnp.array([0.5, 0.1, 0.2])},
)
PLANE = Slice(
    (jnp.array([-1.0, 0.0, 2.0]), jnp.array([0.0, 1.0])),
    jnp.array([[3.0, 4.0], [1.0, 10.0], [2.0, 5.0]]),
    {"error": jnp.full((3, 2), 0.5)},
)


@pytest.mark.parametrize("yscale", ["linear", "log"])
def test_a_line_has_its_metric_beside_it(yscale, tmp_path):
    ax = plot_slice(LINE, metric="error", yscale=yscale, title="A title")
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), LINE.loss)
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), LINE.coords[0])
    (beside,) = [other for other in ax.figure.axes if other is not ax]
    np.testing.assert_allclose(beside.lines[0].get_ydata(), [0.5, 0.1, 0.2], rtol=1e-6)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["loss", "error"]
    assert (ax.get_yscale(), ax.get_title()) == (yscale, "A title")
    assert all(path.stat().st_size > 1000 for path in save_figure(ax.figure, tmp_path / "line"))


def test_several_lines_are_in_one_legend():
    other = Slice(LINE.coords, 2 * LINE.loss, {})
    ax = plot_slice({"frozen": LINE, "batch": other})
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["frozen", "batch"]
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), 2 * LINE.loss)


@pytest.mark.parametrize("yscale", ["linear", "log"])
def test_a_plane_has_its_first_direction_to_the_right(yscale, tmp_path):
    figure = new_figure()
    ax = figure.add_subplot()
    assert plot_slice(PLANE, yscale=yscale, ax=ax) is ax
    assert ax.get_xlim() == (-1.0, 2.0)
    assert ax.get_ylim() == (0.0, 1.0)
    assert figure.axes[1].get_ylabel() == "loss"
    filled = ax.collections[0]
    assert (filled.norm.vmin, filled.norm.vmax) == (1.0, 10.0)
    assert all(path.stat().st_size > 1000 for path in save_figure(figure, tmp_path / "plane"))


@pytest.mark.parametrize(
    "values",
    [np.full((3, 2), np.nan), np.full((3, 2), 2.0), [[1.0, np.inf], [2.0, -1.0], [np.nan, 0.0]]],
    ids=["no number", "one value", "some numbers"],
)
def test_planes_with_few_numbers_can_be_drawn(values, tmp_path):
    ax = plot_slice(Slice(PLANE.coords, jnp.asarray(values), {}), yscale="log")
    assert save_figure(ax.figure, tmp_path / "plane")[0].exists()


def test_a_plane_of_one_row_can_be_drawn(tmp_path):
    row = Slice((jnp.array([0.0]), jnp.array([0.0, 1.0])), jnp.array([[1.0, 2.0]]), {})
    assert save_figure(plot_slice(row).figure, tmp_path / "row")[0].exists()


BAD = {
    "no slice": (
        lambda: plot_slice([1.0, 2.0]),  # pyright: ignore[reportArgumentType]
        TypeError,
        "plot_slice needs a Slice, or a mapping from names to slices, got list.",
    ),
    "nothing": (
        lambda: plot_slice({}),
        ValueError,
        "plot_slice needs something to draw, got an empty mapping.",
    ),
    "metric": (
        lambda: plot_slice(LINE, metric="accuracy"),
        ValueError,
        "plot_slice needs a metric of the slices, got metric='accuracy' for 'loss', which has "
        "['error'].",
    ),
    "planes": (
        lambda: plot_slice({"a": LINE, "b": PLANE}),
        ValueError,
        "plot_slice draws planes one by one, got one at 'b' of several.",
    ),
    "scale": (
        lambda: plot_slice(LINE, yscale="root"),
        ValueError,
        "plot_slice needs yscale='linear' or 'log', got yscale='root'.",
    ),
}


@pytest.mark.parametrize(("call", "error", "sentence"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_in_a_sentence(call, error, sentence):
    with pytest.raises(error, match=f"^{re.escape(sentence)}$"):
        call()
