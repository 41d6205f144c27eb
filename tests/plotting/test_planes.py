"""Planes and paths are drawn with the numbers they hold."""

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.collections import LineCollection
from PIL import Image

from jaxopt_tut import plotting
from jaxopt_tut.landscape import linear_path, path_loss, pca_plane, slice_1d, slice_2d

RNG = np.random.default_rng(0)
PATHS = {name: RNG.normal(size=(6, 12)).cumsum(axis=0).astype(np.float32) for name in ("a", "b")}
PLANE = pca_plane(PATHS)


def bowl(w, batch):
    return jnp.sum(w**2), {"size": jnp.sqrt(jnp.sum(w**2)) + 0 * batch}


def surface(plane=PLANE):
    return slice_2d(bowl, plane.origin, plane.directions, jnp.float32(1), coords=plane.grid(5))


@pytest.mark.parametrize("with_loss", [False, True])
def test_paths_lie_at_their_coordinates_in_the_colour_of_their_distance(with_loss):
    ax = plotting.plot_plane(PLANE, surface() if with_loss else None, title="A title")
    lines = [one for one in ax.collections if isinstance(one, LineCollection)]
    for line, path in zip(lines[-2:], PLANE.paths.values(), strict=True):
        np.testing.assert_allclose(line.get_array(), path.distance[1:])
        np.testing.assert_allclose(line.get_segments()[0], path.coords[:2], rtol=1e-6)
    beside = ax.figure.axes[1]
    for line, path in zip(beside.lines, PLANE.paths.values(), strict=True):
        np.testing.assert_allclose(line.get_ydata(), path.distance)
    assert ax.get_legend_handles_labels()[1] == ["a", "b"]
    assert f"{100 * PLANE.explained[0]:.1f} %" in ax.get_xlabel()


def test_axes_that_are_given_are_drawn_on():
    figure = plotting.new_figure()
    one, two = figure.subplots(1, 2)
    assert plotting.plot_plane(PLANE, ax=one) is one
    assert not two.lines
    plotting.plot_plane(PLANE, ax=one, distance_ax=two)
    assert len(two.lines) == 2


@pytest.mark.parametrize("kind", ["line", "diverged", "one place"])
def test_any_plane_is_drawn(kind):
    rows = PATHS["a"].copy()
    if kind == "line":
        rows = np.outer(np.arange(4), np.ones(12)).astype(np.float32)
    elif kind == "diverged":
        rows[-2:] = np.nan
    else:
        rows[:] = 1
    ax = plotting.plot_plane(pca_plane(rows))
    ax.figure.draw_without_rendering()


def test_the_barrier_of_each_path_is_marked():
    wells = lambda w, _: ((w**2 - 1) ** 2, {"place": w})
    paths = {"over": linear_path(-1.0, 1.0), "flat": linear_path(1.0, 1.0)}
    losses = {name: path_loss(wells, path, num_points=5) for name, path in paths.items()}
    ax = plotting.plot_path(losses, metric="place")
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [0, 0.5625, 1, 0.5625, 0])
    (mark,) = (line for line in ax.lines if line.get_linestyle() == ":")
    np.testing.assert_allclose(mark.get_xydata(), [[0.5, 0], [0.5, 1]])
    assert ax.get_legend_handles_labels()[1] == ["over (barrier 1)", "flat (barrier 0)"]
    np.testing.assert_allclose(ax.figure.axes[1].lines[0].get_ydata(), [-1, -0.5, 0, 0.5, 1])


def test_an_animation_is_a_small_file_of_as_many_pictures(tmp_path):
    file = plotting.animate_plane(PLANE, tmp_path / "paths.gif", surface(), num_frames=4)
    with Image.open(file) as image:
        assert image.n_frames == 4
        assert image.format == "GIF"
    assert file.stat().st_size < 200_000


def test_what_cannot_be_drawn_is_refused_by_name(tmp_path):
    with pytest.raises(TypeError, match=r"plot_plane needs a PcaPlane, got dict\."):
        plotting.plot_plane(PATHS)
    with pytest.raises(TypeError, match=r"plot_plane needs what slice_2d returns as loss, got int"):
        plotting.plot_plane(PLANE, 3)
    line = slice_1d(bowl, PLANE.origin, PLANE.directions[0], jnp.float32(1), coords=[0.0, 1.0])
    with pytest.raises(
        ValueError, match=r"animate_plane needs a loss on a plane.*got one on a lin"
    ):
        plotting.animate_plane(PLANE, tmp_path / "a.gif", line)
    with pytest.raises(
        ValueError, match=r"animate_plane needs num_frames >= 1, got num_frames=0\."
    ):
        plotting.animate_plane(PLANE, tmp_path / "a.gif", num_frames=0)
    with pytest.raises(TypeError, match=r"plot_path needs a PathLoss, or a mapping .*, got int\."):
        plotting.plot_path(3)
    with pytest.raises(ValueError, match=r"plot_path needs something to draw, got an empty mappin"):
        plotting.plot_path({})
    along = path_loss(bowl, linear_path(0.0, 1.0), jnp.float32(1), num_points=3)
    rule = (
        r"plot_path needs a metric of the paths, got metric='no' for 'loss', which has \['size'\]"
    )
    with pytest.raises(ValueError, match=rule):
        plotting.plot_path(along, metric="no")
