"""A figure is a picture in a notebook, wherever a cell ends in it or in its axes."""

import base64
import io

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread

from jaxopt_tut import plotting

WHY = "notebooks need IPython, nbclient and ipykernel, which `make docs` installs"
formatters = pytest.importorskip("IPython.core.formatters", reason=WHY)


def one_axes():
    return plotting.plot_lines([0, 1], {"f": [1, 2]}, xlabel="w", ylabel="f")


def one_of_two_axes():
    left, right = plotting.new_figure().subplots(1, 2)
    plotting.plot_profile({"he": [[1.0, 2.0]]}, ax=left)
    return plotting.plot_profile({"he": [[1.0, 2.0]]}, ax=right)


def axes_in_space():
    return plotting.plot_surface_3d(lambda w: w[0] * w[1], ([0, 0], [1, 1]), resolution=4)


def a_figure():
    return plotting.plot_images(np.eye(3)[None])


def axes_of_a_mosaic():
    return plotting.new_figure().subplot_mosaic("ab")["b"]


def axes_at_a_place():
    figure = plotting.new_figure()
    figure.set_layout_engine("none")  # it warns of axes that it cannot move
    return figure.add_axes((0.1, 0.1, 0.8, 0.8))


def twin_axes():
    return one_axes().twinx()


def twin_axes_across():
    return one_axes().twiny()


def a_part():
    left, right = plotting.new_figure(6, 3).subfigures(1, 2)
    plotting.plot_profile({"he": [1.0, 2.0]}, ax=right.subplots())
    return left


def axes_of_a_part():
    parts = plotting.new_figure(6, 3).subfigures(1, 2)
    return plotting.plot_profile({"he": [1.0, 2.0]}, ax=parts[0].subplots())


def twin_axes_of_a_part_of_a_part():
    return plotting.new_figure().subfigures().subfigures().subplots().twinx()


CASES = [
    twin_axes_across,
    a_part,
    axes_of_a_part,
    twin_axes_of_a_part_of_a_part,
    one_axes,
    one_of_two_axes,
    axes_in_space,
    a_figure,
    axes_of_a_mosaic,
    axes_at_a_place,
    twin_axes,
]


def shown(value):
    """Return what IPython hands to a notebook, without a kernel."""
    return formatters.DisplayFormatter().format(value)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_plot_is_shown_as_the_picture_of_its_whole_figure(case):
    value = case()
    data, metadata = shown(value)
    assert set(data) == {"text/plain", "image/png"}
    picture = imread(io.BytesIO(data["image/png"]))
    figure = value.get_figure(root=True)
    width, height = np.round(figure.get_size_inches() * figure.dpi)
    assert metadata["image/png"] == {"width": width, "height": height}
    assert picture.shape[:2] == pytest.approx((1.6 * height, 1.6 * width), abs=1)
    assert picture[..., :3].std() > 0.01  # not an empty page


def test_showing_a_figure_leaves_it_as_it_was():
    ax = one_axes()
    first, again = [imread(io.BytesIO(shown(ax)[0]["image/png"])) for _ in range(2)]
    assert ax.figure.dpi == matplotlib.rcParams["figure.dpi"]
    # constrained layout goes on for a fraction of a pixel: edges of letters change
    assert np.abs(first - again).mean() < 0.002
    ax.axvspan(0.2, 0.8)
    other = imread(io.BytesIO(shown(ax)[0]["image/png"]))
    assert np.abs(first - other).mean() > 0.05


def test_axes_of_another_class_are_left_to_who_asks_for_them():
    ax = plotting.new_figure().add_subplot(projection="polar")
    assert ax.name == "polar"
    assert plotting.new_figure().add_subplot(polar=True).name == "polar"


FORMATS = {
    "without": "",
    "inline": "%matplotlib inline\n",
    "svg": "%matplotlib inline\n%config InlineBackend.figure_formats = ['svg']\n",
    "retina": "%matplotlib inline\n%config InlineBackend.figure_formats = ['retina']\n",
}


def outputs_of(sources):
    """Run cells in a kernel; return what each shows."""
    nbclient = pytest.importorskip("nbclient", reason=WHY)
    nbformat = pytest.importorskip("nbformat", reason=WHY)
    pytest.importorskip("ipykernel", reason=WHY)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])
    nbclient.NotebookClient(notebook, timeout=120).execute()
    return [cell.outputs for cell in notebook.cells]


@pytest.mark.slow
@pytest.mark.parametrize("setting", FORMATS)
def test_axes_and_parts_are_shown_as_their_figure_is(setting):
    start = (
        "from jaxopt_tut import plotting\nleft, right = plotting.new_figure().subfigures(1, 2)\n"
    )
    ax = "ax = plotting.plot_lines([1, 2], {'f': [.1, .7]}, xlabel='', ylabel='', yscale='log', "
    _, *shown = outputs_of(
        [FORMATS[setting] + start + ax + "ax=left.subplots())", "ax.figure.figure", "ax", "left"]
    )
    kinds = {"text/plain", "image/png"} | ({"image/svg+xml"} if setting == "svg" else set())
    figure, *parts = (outputs[0] for outputs in shown)
    assert set(figure["data"]) == kinds
    sizes = set()
    for part in (figure, *parts):
        assert part["metadata"] == figure["metadata"]
        assert set(part["data"]) == kinds
        picture = imread(io.BytesIO(base64.b64decode(part["data"]["image/png"])))
        sizes.add(picture.shape)
    assert len(sizes) == 1
    if setting == "svg":
        assert "5 \\times" not in figure["data"]["image/svg+xml"]
        assert "<!-- 0.5 -->" in figure["data"]["image/svg+xml"]


CELLS = {
    "without": "",
    "inline": "%matplotlib inline\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("magic", CELLS)
def test_a_kernel_shows_each_plot_once_and_keeps_no_figure(magic):
    cells = [
        CELLS[magic] + "from jaxopt_tut import plotting\nfigure = plotting.new_figure()",
        "plotting.plot_profile({'he': [1.0, 2.0]}, ax=figure.add_subplot())",
        "figure",
        "plotting.plot_profile({'he': [1.0, 2.0]});",
        "import matplotlib.pyplot as plt\nplt.get_fignums()",
    ]
    shown = outputs_of(cells)
    kinds = [[set(o.get("data", {})) for o in outputs] for outputs in shown]
    picture = [{"text/plain", "image/png"}]
    assert kinds[:4] == [[], picture, picture, []]
    assert shown[4][0]["data"]["text/plain"] == "[]"
