"""Saved figures: read on white and on dark pages, named for those who do not see them."""

import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.image import imread
from matplotlib.text import Text

from jaxopt_tut import plotting
from jaxopt_tut.plotting.dark import darkened, on_dark
from jaxopt_tut.plotting.palette import COLORS, COLORS_ON_DARK, DARK_PAGE, contrast

SVG = "{http://www.w3.org/2000/svg}"


def curves():
    named = {f"$c_{i}$": np.arange(3.0) * i for i in range(7)}
    ax = plotting.plot_lines([0, 1, 2], named, xlabel="$w_1$", ylabel="loss", title="Seven")
    box = {"facecolor": "white", "edgecolor": "0.6"}
    ax.annotate("here", (1, 4), (0, 9), arrowprops={"arrowstyle": "->"}, bbox=box)
    ax.fill_between([0, 1], [0, 0], [1, 2], color="0.8", alpha=0.3)
    for i, color in enumerate(["#B00000", "0.4", "navy", *COLORS]):
        ax.text(0, i, "words in a colour", color=color)
    ax.scatter([0, 1], [3, 4], color="black")
    ax.figure.suptitle("Two titles")
    return ax.figure


def image_with_path():
    fun = lambda w: w[0] + w[1]
    paths = {"sgd": [[0, 0], [1, 1]]}
    return plotting.plot_surface(fun, ([0, 0], [1, 1]), paths, resolution=8).figure


def surface():
    fun = lambda w: w[0] * w[1]
    return plotting.plot_surface_3d(fun, ([0, 0], [1, 1]), resolution=4, title="Saddle").figure


FIGURES = [curves, image_with_path, surface]
every_figure = pytest.mark.parametrize("build", FIGURES, ids=lambda build: build.__name__)


def drawn(figure):
    file = io.BytesIO()
    figure.savefig(file, dpi=50)
    return imread(io.BytesIO(file.getvalue()))


def test_contrast_is_that_of_wcag():
    assert contrast("white", "black") == pytest.approx(21)
    assert contrast("#767676", "white") == pytest.approx(4.54, abs=0.01)  # its known limit for AA


@pytest.mark.parametrize(
    ("colors", "page"), [(COLORS, "white"), (COLORS_ON_DARK, DARK_PAGE)], ids=["white", "dark"]
)
def test_curves_stand_out_from_their_page(colors, page):
    assert min(contrast(color, page) for color in colors) >= 3


# Machado, Oliveira, Fernandes (2009), severity 1, linear RGB
VISION = {
    "common": np.eye(3),
    "no long cones": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no medium cones": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "no short cones": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
TO_XYZ = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
) / np.array([[0.9505], [1.0], [1.089]])


def lab(color, vision):
    rgb = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(np.asarray(vision) @ linear, 0, 1)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("colors", [COLORS, COLORS_ON_DARK], ids=["white", "dark"])
def test_curves_differ_with_every_colour_vision(vision, colors):
    places = [lab(color, VISION[vision]) for color in colors]
    apart = [np.linalg.norm(p - q) for i, p in enumerate(places) for q in places[:i]]
    assert min(apart) > 14  # a difference of 10 is seen at a glance


@every_figure
def test_the_dark_one_reads_on_a_dark_page(build):
    figure = build()
    figure.draw_without_rendering()
    with darkened(figure):
        page = to_hex(figure.get_facecolor())
        texts = [t for t in figure.findobj(Text) if t.get_text().strip() and t.get_visible()]
        colors = [to_hex(text.get_color()) for text in texts]
        lines = [to_hex(x.get_color()) for ax in figure.axes if not ax.images for x in ax.lines]
    assert page == DARK_PAGE
    assert len(texts) > 5
    assert min(contrast(color, page) for color in colors) >= 4.5
    assert min((contrast(color, page) for color in lines), default=3) >= 3


@every_figure
def test_a_figure_gets_its_colours_back(build):
    figure = build()
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    before = drawn(figure)
    with darkened(figure):
        assert np.abs(drawn(figure) - before).mean() > 0.2
    np.testing.assert_array_equal(drawn(figure), before)


def test_what_lies_on_an_image_keeps_its_colours():
    figure = image_with_path()
    (path, ring) = figure.axes[0].lines
    with darkened(figure):
        kept = path.get_color(), ring.get_color(), path.get_markeredgecolor()
    assert kept == (COLORS[0], COLORS[0], "white")


def test_lines_coloured_by_numbers_keep_the_colours_of_their_scale():
    ax = plotting.new_figure().add_subplot()
    lines = LineCollection([[(0, 0), (1, 1)], [(0, 1), (1, 0)]], cmap="plasma")
    lines.set_array(np.array([0.0, 1.0]))
    ax.add_collection(lines)
    dots = ax.scatter([0, 1], [0, 1], c=[0.0, 1.0], edgecolors="white")
    open_dots = ax.scatter([0, 1], [1, 0], facecolors="none", edgecolors="black")
    ax.figure.draw_without_rendering()
    before = lines.get_edgecolor().copy()
    with darkened(ax.figure):
        ax.figure.draw_without_rendering()
        np.testing.assert_array_equal(lines.get_edgecolor(), before)
        assert to_hex(dots.get_edgecolor()[0]) == DARK_PAGE
        assert to_hex(open_dots.get_edgecolor()[0]) == COLORS_ON_DARK[-1].lower()
    lines.set_array(np.array([1.0, 0.0]))
    ax.figure.draw_without_rendering()
    np.testing.assert_array_equal(lines.get_edgecolor(), before[::-1])  # they follow it still


@pytest.mark.parametrize(
    ("color", "partner"),
    [("white", DARK_PAGE), ("black", "#e6e6e6"), (COLORS[4], COLORS_ON_DARK[4].lower())],
)
def test_a_colour_has_a_partner(color, partner):
    assert to_hex(on_dark(color)) == partner


def test_opacity_and_hue_stay():
    red, green, blue, alpha = on_dark((0.0, 0.0, 0.5, 0.3))
    assert alpha == 0.3
    assert blue > max(red, green)
    assert contrast(to_hex((red, green, blue)), DARK_PAGE) >= 3


def test_four_files_of_one_size_are_written(tmp_path):
    png, svg = plotting.save_figure(curves(), tmp_path / "seven.curves", dpi=40)
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == [
        "seven.curves.dark.png",
        "seven.curves.dark.svg",
        "seven.curves.png",
        "seven.curves.svg",
    ]
    light, dark = imread(png), imread(tmp_path / "seven.curves.dark.png")
    assert light.shape == dark.shape
    assert light[0, 0, 0] == 1
    assert to_hex(dark[0, 0]) == DARK_PAGE
    assert svg.read_bytes() != (tmp_path / "seven.curves.dark.svg").read_bytes()


def test_the_dark_ones_can_be_left_out(tmp_path):
    plotting.save_figure(curves(), tmp_path / "a", dpi=40, dark=False)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.png", "a.svg"]


@pytest.mark.parametrize("ending", ["svg", "dark.svg"])
def test_an_svg_says_what_it_shows(ending, tmp_path):
    plotting.save_figure(curves(), tmp_path / "a", dpi=40, description="Curves < 7 & more.")
    root = ET.parse(tmp_path / f"a.{ending}").getroot()
    assert root.get("role") == "img"
    assert root.findtext(f"{SVG}title") == "Two titles"
    assert root.findtext(f"{SVG}desc") == "Curves < 7 & more."


@pytest.mark.parametrize(
    ("build", "title", "said"),
    [
        (curves, "Two titles", "loss against w_1: c_0, c_1, c_2, c_3, c_4, c_5, c_6."),
        (image_with_path, "the file", "w_2 against w_1: sgd."),
        (surface, "Saddle", "loss against w_1 and w_2."),
        (plotting.new_figure, "the file", "the file"),
    ],
)
def test_without_a_description_axes_and_curves_are_named(build, title, said, tmp_path):
    plotting.save_figure(build(), tmp_path / "the_file", dpi=40, dark=False)
    root = ET.parse(tmp_path / "the_file.svg").getroot()
    assert root.findtext(f"{SVG}title") == title
    assert root.findtext(f"{SVG}desc") == said
