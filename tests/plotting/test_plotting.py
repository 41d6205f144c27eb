"""Every plot labels its axes, shows the numbers it was given, and leaves nothing behind."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from jaxopt_tut import plotting
from jaxopt_tut.bilevel import AuditRow
from jaxopt_tut.landscape import Trajectory
from jaxopt_tut.models import mlp
from jaxopt_tut.plotting import style
from jaxopt_tut.taps import record


def bowl(w):
    return jnp.sum(w**2)


ROWS = [
    AuditRow("exact", {}, 0.0, 1.0, 4096, 2e-3, None),
    AuditRow("one step", {}, 0.3, 0.98, 64, 1e-4, None),
]
DOMAIN = ([-1.0, -1.0], [1.0, 2.0])
PLOTS = {
    "training_curves": lambda **kw: plotting.plot_training_curves({"adam": [[0.1, 0.2]]}, **kw),
    "sensitivity": lambda **kw: plotting.plot_sensitivity([0.1, 1.0], {"sgd": [1.0, 2.0]}, **kw),
    "lines": lambda **kw: plotting.plot_lines([0, 1], {"f": [1, 2]}, xlabel="w", ylabel="f", **kw),
    "profile": lambda **kw: plotting.plot_profile({"he": [[1.0, 2.0], [1.0, 3.0]]}, **kw),
    "predicted": lambda **kw: plotting.plot_predicted({"a": [1.0, 2.0]}, {"a": [1.0, 2.1]}, **kw),
    "audit": lambda **kw: plotting.plot_audit(ROWS, **kw),
    "surface": lambda **kw: plotting.plot_surface(bowl, DOMAIN, resolution=8, **kw),
    "surface_3d": lambda **kw: plotting.plot_surface_3d(bowl, DOMAIN, resolution=8, **kw),
}
every_plot = pytest.mark.parametrize("name", PLOTS)


@every_plot
def test_a_plot_returns_labelled_axes_with_its_title(name):
    ax = PLOTS[name](title="A title")
    assert ax.get_xlabel()
    assert ax.get_ylabel()
    assert ax.get_title().startswith("A title")


@every_plot
def test_a_plot_draws_on_the_axes_it_is_given(name):
    figure = plotting.new_figure()
    ax = figure.add_subplot(projection="3d" if name == "surface_3d" else None)
    assert PLOTS[name](ax=ax) is ax
    assert ax.has_data()


@every_plot
@pytest.mark.parametrize("height", [2.0, 6.0])
def test_the_legend_lies_under_the_label(name, height):
    figure = style.new_figure(6.0, height)
    ax = figure.add_subplot(projection="3d" if name == "surface_3d" else None)
    PLOTS[name](ax=ax)
    figure.draw_without_rendering()
    if (legend := ax.get_legend()) is not None:
        assert not legend.get_window_extent().overlaps(ax.xaxis.get_tightbbox())


@pytest.mark.parametrize("turned", [0, 60, 90])
@pytest.mark.parametrize("height", [1.6, 3.0, 9.0])
def test_so_it_does_under_turned_ticks(height, turned):
    ax = style.new_figure(5.0, height).add_subplot()
    ax.plot([0, 1], [0, 1], label="a curve")
    ax.set_xticks([0, 1], ["0.00316", "10"], rotation=turned)
    style.tidy(ax, xlabel="rate", ylabel="loss")
    style.legend_below(ax)
    ax.figure.draw_without_rendering()
    legend = ax.get_legend().get_window_extent()
    gap = ax.xaxis.label.get_window_extent().y0 - legend.y1
    assert 0 < gap < 20  # pixels at 100 an inch: near, and not on it


@every_plot
def test_a_plot_can_be_written_without_a_display(name, tmp_path):
    png, svg = plotting.save_figure(PLOTS[name]().figure, tmp_path / "plot")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in svg.read_bytes()


def test_nothing_is_left_in_pyplot():
    code = (
        "import sys; from jaxopt_tut import plotting; "
        "plotting.plot_profile({'a': [1.0]}); plotting.plot_images([[[0.0]]]); "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_matplotlib_the_import_names_the_extra():
    code = "import sys; sys.modules['matplotlib'] = None; import jaxopt_tut.plotting"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "jaxopt_tut.plotting needs matplotlib: pip install 'jaxopt_tut[plot]'." in done.stderr


def test_files_are_the_same_bytes_each_time(tmp_path):
    for name in ("first", "second"):
        ax = plotting.plot_lines([0, 1], {"f": [1, 2]}, xlabel="w", ylabel="loss", title="f")
        plotting.save_figure(ax.figure, tmp_path / name)
    for suffix in (".png", ".svg", ".dark.png", ".dark.svg"):
        first, second = (
            (tmp_path / f"{name}{suffix}").read_bytes() for name in ("first", "second")
        )
        assert first == second


def test_curves_differ_in_colour_line_and_marker():
    looks = [style.look(i) for i in range(len(style.COLORS))]
    for part in ("color", "linestyle", "marker"):
        assert len({str(look[part]) for look in looks}) == len(looks)
    # Lines on white need a contrast of 2:1 (the ratio of relative luminances, WCAG 2 eq.).
    for look in looks:
        linear = [((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(look["color"])]
        assert 1.05 / (np.dot([0.2126, 0.7152, 0.0722], linear) + 0.05) > 2


def test_a_profile_shows_mean_and_standard_error():
    runs = np.array([[1.0, 10.0], [3.0, 10.0]])
    ax = plotting.plot_profile({"he": runs}, predicted={"he": [2.0, 9.0]})
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [2.0, 10.0])
    (bars,) = ax.collections
    # Two runs at 1 and 3: standard deviation sqrt(2), standard error 1.
    np.testing.assert_allclose(bars.get_segments()[0][:, 1], [1.0, 3.0])
    assert "mean of 2 seeds" in ax.get_title()
    assert ax.get_legend().get_texts()[0].get_text() == "theory"


def test_training_curves_show_mean_and_range_of_the_seeds():
    runs = np.array([[0.1, 0.5], [0.3, 0.7]])
    ax = plotting.plot_training_curves({"adam": runs}, {"adam": runs - 0.1})
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [0.2, 0.6])
    np.testing.assert_allclose(ax.lines[1].get_ydata(), [0.1, 0.5])
    assert ax.lines[0].get_linestyle() != ax.lines[1].get_linestyle()
    assert len(ax.collections) == 2
    assert "2 seeds" in ax.get_title()


def test_sensitivity_marks_the_chosen_rate_on_its_curve():
    runs = [[1.0, 1.0, 9.0], [2.0, 4.0, 3.0]]
    ax = plotting.plot_sensitivity([0.1, 1.0], {"sgd": runs}, chosen={"sgd": 0.9})
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [1.0, 3.0])
    np.testing.assert_allclose(ax.lines[1].get_xydata(), [[1.0, 3.0]])
    assert "3 runs" in ax.get_title()


def test_a_surface_has_the_first_parameter_along_x():
    ax = plotting.plot_surface(lambda w: w[0] + 10 * w[1], DOMAIN, {"sgd": [[0, 0], [5, 5]]})
    image = ax.images[0].get_array()
    assert image[0, -1] - image[0, 0] == pytest.approx(2.0, rel=1e-5)
    assert image[-1, 0] - image[0, 0] == pytest.approx(30.0, rel=1e-5)
    assert (ax.get_xlim(), ax.get_ylim()) == ((-1.0, 1.0), (-1.0, 2.0))  # the path leaves the view


def test_a_histogram_row_prints_variances_and_survives_bad_values():
    rows = {"weights": [np.array([0.0, 2.0]), np.full(9, 0.5), np.array([1.0, 3.0, np.nan])]}
    figure = plotting.plot_distributions(rows, titles=["a", "b", "c"], title="All")
    texts = [ax.texts[0].get_text() for ax in figure.axes]
    assert texts == ["Var 1", "Var 0\nall 0.5", "Var 1\n1 not finite"]
    assert figure.axes[0].get_ylabel() == "density"
    edges = figure.axes[0].patches[0].get_data().edges
    assert len(edges) == 51  # fifty bins


def test_images_in_a_grid():
    figure = plotting.plot_images(np.zeros((7, 4, 4)), list("abcdefg"), columns=3, title="All")
    assert [ax.get_title() for ax in figure.axes] == list("abcdefg")
    assert isinstance(figure, Figure)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: plotting.plot_distributions({"w": [[1.0]]}, titles=["a", "b"]),
            r"plot_distributions needs rows of one array a title \(2\), got \{'w': 1\}\.",
        ),
        (
            lambda: plotting.plot_distributions({}, titles=[]),
            r"plot_distributions needs rows of one array a title \(0\), got \{\}\.",
        ),
        (
            lambda: plotting.plot_predicted({"a": [1.0]}, {"b": [1.0]}),
            r"plot_predicted needs the same groups on both sides, got \['a'\] and \['b'\]\.",
        ),
        (
            lambda: plotting.plot_surface_3d(bowl, DOMAIN, ax=plotting.new_figure().add_subplot()),
            r"plot_surface_3d needs axes with projection='3d', got 'rectilinear'\.",
        ),
        (
            lambda: plotting.plot_images(np.zeros((4, 4))),
            r"plot_images needs images of three axes, got shape \(4, 4\)\.",
        ),
        (
            lambda: plotting.plot_images(np.zeros((2, 4, 4)), ["a"]),
            r"plot_images needs one title an image \(2\), got 1 titles\.",
        ),
    ],
    ids=["rows", "no_rows", "groups", "flat_axes", "image_rank", "image_titles"],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_audit_is_drawn_by_memory_and_bias():
    ax = plotting.plot_audit(ROWS)
    assert [line.get_xdata()[0] for line in ax.lines] == [4096, 64]
    # no bias at all has no place on a logarithmic axis but the rounding error
    assert [line.get_ydata()[0] for line in ax.lines] == [np.finfo(np.float64).eps, 0.3]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "exact: 2 ms, cosine 1",
        "one step: 0.1 ms, cosine 0.98",
    ]


def test_an_audit_without_rows_is_refused():
    with pytest.raises(ValueError, match=r"plot_audit needs a row at least, got none\."):
        plotting.plot_audit([])


def test_a_tape_is_drawn_as_one_variance_a_layer():
    params = mlp.init(jax.random.key(0), (4, 6, 3))
    _, tape = record(mlp.apply)(params, jax.random.normal(jax.random.key(1), (5, 4)))
    expected = [np.var(np.asarray(value, np.float64)) for value in tape.values()]
    for values in (tape, {"net": tape}, {"net": dict(tape)}):
        ax = plotting.plot_profile(values)
        np.testing.assert_allclose(ax.lines[0].get_ydata(), expected, rtol=1e-12)
        assert [tick.get_text() for tick in ax.get_xticklabels()] == list(tape)
        assert ax.get_title() == "one run"
    np.testing.assert_allclose(
        plotting.plot_profile({"c": {"z": [1j, -1j]}}).lines[0].get_ydata(), [1.0]
    )
    numbers = plotting.plot_profile({"by name": {"first": 0.5, "second": 2.0}})
    assert numbers.lines[0].get_ydata().tolist() == [0.5, 2.0]
    figure = plotting.plot_distributions(tape)
    assert [ax.get_title() for ax in figure.axes] == list(tape)
    assert figure.axes[0].texts[0].get_text() == f"Var {expected[0]:.3g}"


BAD_NUMBERS = {
    "zero": [0.0, 0.0],
    "negative": [-1.0, -2.0],
    "nan": [np.nan, np.nan],
    "infinite": [np.inf, np.inf],
}
AXIS = {"xlabel": "x", "ylabel": "y"}
LOGARITHMIC = {
    "profile": lambda v: plotting.plot_profile({"a": v}),
    "predicted": lambda v: plotting.plot_predicted({"a": v}, {"a": v}),
    "theory": lambda v: plotting.plot_profile({"a": v}, predicted={"a": v}),
    "sensitivity": lambda v: plotting.plot_sensitivity([0.1, 1.0], {"a": v}),
    "runs": lambda v: plotting.plot_sensitivity([0.1, 1.0], {"a": [[1.0, v[0]], [v[0], 2.0]]}),
    "rates": lambda v: plotting.plot_sensitivity(v, {"a": [1.0, 2.0]}),
    "lines_y": lambda v: plotting.plot_lines([1, 2], {"a": v}, yscale="log", **AXIS),
    "lines_x": lambda v: plotting.plot_lines(v, {"a": [1, 2]}, xscale="log", **AXIS),
    "lines_both": lambda v: plotting.plot_lines([1, v[0]], {"a": [v[0], 1]}, yscale="log", **AXIS),
    "audit": lambda v: plotting.plot_audit([ROWS[0]._replace(bias=v[0], bytes=0)]),
}


@pytest.mark.parametrize("bad", BAD_NUMBERS)
@pytest.mark.parametrize("name", LOGARITHMIC)
def test_a_logarithmic_axis_survives_what_it_cannot_show(name, bad, tmp_path):
    """Warnings are errors here, and matplotlib's come when a figure is written."""
    ax = LOGARITHMIC[name](BAD_NUMBERS[bad])
    plotting.save_figure(ax.figure, tmp_path / "plot")


def test_an_axis_is_linear_where_nothing_is_positive_and_a_curve_that_is_not_shown_says_so():
    assert plotting.plot_profile({"a": [0.0, -1.0]}).get_yscale() == "linear"
    ax = plotting.plot_profile({"a": [0.0, -1.0], "b": [0.0, 2.0]})
    assert ax.get_yscale() == "log"
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["a (nothing positive)", "b"]


def test_the_median_of_runs_that_diverged_is_infinite_or_that_of_the_others():
    runs = [[1.0, 2.0, np.inf], [np.inf, np.inf, 1.0]]
    ax = plotting.plot_sensitivity([0.1, 1.0], {"sgd": runs})
    assert ax.lines[0].get_ydata().tolist() == [2.0, np.inf]


@pytest.mark.parametrize("dtype", ["uint8", "float", "normalised", "jax"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_colours_are_drawn_as_given(channels, dtype):
    values = np.arange(2 * 4 * 5 * channels).reshape(2, 4, 5, channels)
    images = {
        "uint8": values.astype(np.uint8),
        "float": values / 255,
        "normalised": (values - 60.0) / 60,
        "jax": jnp.asarray(values / 255, jnp.float32),
    }[dtype]
    figure = plotting.plot_images(images)
    for k, ax in enumerate(figure.axes):
        shown = np.asarray(ax.images[0].get_array())
        if channels == 1:
            np.testing.assert_array_equal(shown, np.asarray(images)[k, ..., 0])
        elif dtype == "normalised":
            low, high = images[k].min(), images[k].max()
            np.testing.assert_allclose(shown, (images[k] - low) / (high - low), atol=1e-12)
        else:
            np.testing.assert_allclose(shown, values[k] / 255, rtol=1e-6)


TRAJECTORY = Trajectory(np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([1.0, 0.0]))


def test_a_trajectory_is_a_path():
    ax = plotting.plot_surface(bowl, DOMAIN, {"sgd": TRAJECTORY}, resolution=4)
    assert ax.lines[0].get_xydata().tolist() == [[0.0, 0.0], [1.0, 1.0]]


def test_validation_has_curves_of_its_own():
    ax = plotting.plot_training_curves({"loss": [1.0, 2.0]}, {"accuracy": [0.4, 0.5]})
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["loss, train", "accuracy, validation"]


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: plotting.plot_profile([1.0]), TypeError, "a mapping from names .*, got list"),
        (lambda: plotting.plot_profile({}), ValueError, "something to draw, got an empty mapping"),
        (
            lambda: plotting.plot_profile({"a": np.ones((2, 3, 4))}),
            ValueError,
            r"shape \(runs, layers\) or \(layers,\), got shape \(2, 3, 4\) for 'a'\.",
        ),
        (
            lambda: plotting.plot_profile({"0/kernel": TRAJECTORY}),
            TypeError,
            "arrays of real numbers, got Trajectory for '0/kernel'",
        ),
        (
            lambda: plotting.plot_training_curves(TRAJECTORY),
            TypeError,
            "a mapping from names to numbers, got Trajectory",
        ),
        (
            lambda: plotting.plot_training_curves({"a": np.ones((1, 2, 3))}),
            ValueError,
            r"\(runs, epochs\) or \(epochs,\), got shape \(1, 2, 3\) for 'a'",
        ),
        (
            lambda: plotting.plot_sensitivity([0.1, 1.0], {"a": np.ones((3, 2))}),
            ValueError,
            r"scores of shape \(2 rates, runs\), got shape \(3, 2\) for 'a'",
        ),
        (
            lambda: plotting.plot_lines([0, 1], {"a": np.ones((2, 3))}, **AXIS),
            ValueError,
            r"shape \(points,\), got shape \(2, 3\) for 'a'",
        ),
        (
            lambda: plotting.plot_lines([0, 1], {"a": [1.0]}, **AXIS),
            ValueError,
            r"one value a point \(2\), got 1 for 'a'",
        ),
        (
            lambda: plotting.plot_predicted({"a": [1.0, 2.0]}, {"a": [1.0]}),
            ValueError,
            r"arrays of the same shape, got \(2,\) and \(1,\) for 'a'",
        ),
        (
            lambda: plotting.plot_distributions({"w": [jnp.ones(2, jnp.complex64)]}, titles=["a"]),
            TypeError,
            "arrays of real numbers, got complex64 for 'w'",
        ),
        (lambda: plotting.plot_distributions([[1.0]]), TypeError, "a mapping .*, got list"),
        (
            lambda: plotting.plot_images(np.ones((28, 28, 3))),
            ValueError,
            r"got shape \(28, 28, 3\)\. Colours are a fourth axis",
        ),
        (
            lambda: plotting.plot_images(np.ones((2, 3, 8, 8))),
            ValueError,
            r"got shape \(2, 3, 8, 8\)\. Colours are a fourth axis",
        ),
        (lambda: plotting.plot_images(np.ones((0, 8, 8))), ValueError, "an image at least"),
        (lambda: plotting.plot_images(TRAJECTORY), TypeError, "real numbers, got Trajectory"),
        (
            lambda: plotting.plot_surface(3, DOMAIN),
            TypeError,
            "a function of a point or a surface, got int",
        ),
        (
            lambda: plotting.plot_surface(bowl, ([0.0] * 3, [1.0] * 3)),
            ValueError,
            r"corner of shape \(2,\), got shapes \[\(3,\), \(3,\)\]",
        ),
        (
            lambda: plotting.plot_surface(bowl, DOMAIN, {"sgd": np.ones((4, 3))}),
            ValueError,
            r"shape \(points, 2\), got shape \(4, 3\) for 'sgd'",
        ),
        (lambda: plotting.plot_diagnosis(TRAJECTORY), TypeError, "a Diagnosis, got Trajectory"),
        (lambda: plotting.plot_audit(ROWS[0]), TypeError, "the rows of an audit, got AuditRow"),
    ],
)  # fmt: skip
def test_results_of_another_shape_are_refused(call, error, sentence):
    with pytest.raises(error, match=rf"^plot_\w+ needs .*{sentence}"):
        call()
