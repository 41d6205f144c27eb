"""Displays draw the library's own results, and say in a sentence what they cannot draw."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut import plotting
from jaxopt_tut.calibration.reports import CalibrationReport, LayerCalibration
from jaxopt_tut.curvature import TrackedSharpness
from jaxopt_tut.datasets import Split
from jaxopt_tut.landscape import Trajectory, descend, surfaces
from jaxopt_tut.optimizers import History as Search
from jaxopt_tut.taps import Tape
from jaxopt_tut.training import FitResult, History, Sweep, Vmap


def fitted(train, validation, probes=None, steps=()):
    arrays = lambda named: {name: np.asarray(values, float) for name, values in named.items()}
    history = History({}, arrays(train), arrays(validation), {}, probes or {}, np.asarray(steps))
    return FitResult({}, (), history, {}, None, None, 1, 0.5, finite=True, message="Done.")


FIRST = fitted({"loss": [2, 1], "accuracy": [0.2, 0.5]}, {"accuracy": [0.1, 0.4]})
SECOND = fitted({"loss": [4, 3], "accuracy": [0.4, 0.7]}, {"accuracy": [0.3, 0.6]})
LOSS_ALONE = fitted({"loss": [2, 1]}, {})
NUMBER = jnp.zeros(())


def curves(ax):
    return {line.get_label(): line.get_ydata().tolist() for line in ax.lines}


@pytest.mark.parametrize("result", [FIRST, FIRST.history], ids=["result", "history"])
def test_a_training_is_drawn_by_its_accuracy(result):
    ax = plotting.plot_training_curves(result)
    assert curves(ax) == {"train": [0.2, 0.5], "validation": [0.1, 0.4]}
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "accuracy")


def test_the_loss_is_drawn_where_there_is_no_accuracy_or_it_is_asked_for():
    for ax in (
        plotting.plot_training_curves({"sgd": LOSS_ALONE}),
        plotting.plot_training_curves({"sgd": FIRST}, metric="loss"),
    ):
        assert curves(ax) == {"sgd, train": [2, 1]}
        assert ax.get_ylabel() == "loss"


def test_a_list_of_trainings_is_runs_and_numbers_may_stand_beside():
    ax = plotting.plot_training_curves({"adam": [FIRST, SECOND], "old": [0.0, 0.1]})
    assert curves(ax) == {
        "adam, train": pytest.approx([0.3, 0.6]),
        "adam, validation": pytest.approx([0.2, 0.5]),
        "old, train": [0.0, 0.1],
    }
    assert ax.get_title() == "mean and range of 2 seeds"


TAPE = Tape({"one": np.array([[1.0, 3.0]]), "two": np.array([[0.0, 4.0]])})
REPORT = CalibrationReport(
    {
        "one": LayerCalibration(*map(jnp.asarray, (4.0, jnp.nan, 1.0, 0.1))),
        "two": LayerCalibration(
            *map(jnp.asarray, ([9.0, 16.0], [jnp.nan] * 2, [1.0, 2.0], [0.0, 0.0]))
        ),
    },
    jnp.zeros(0),
    True,
    (),
    (),
)


def test_a_tape_is_a_profile_of_variances():
    ax = plotting.plot_profile(TAPE)
    assert [bar.lines[0].get_ydata().tolist() for bar in ax.containers] == [[1.0, 4.0]]


def test_a_calibration_is_a_profile_before_and_after():
    ax = plotting.plot_profile(REPORT)
    found = {bar.get_label(): bar.lines[0].get_ydata().tolist() for bar in ax.containers}
    assert found == {"before": [4.0, 9.0, 16.0], "after": [1.0, 1.0, 2.0]}
    assert [text.get_text() for text in ax.get_xticklabels()] == ["one", "two[0]", "two[1]"]
    both = plotting.plot_profile({"mine": REPORT, "taped": TAPE})
    assert [bar.lines[0].get_ydata().size for bar in both.containers] == [3, 2]


def test_a_tree_of_parameters_has_a_panel_a_leaf():
    params = {"dense": {"bias": np.zeros(2), "kernel": np.ones((2, 2))}, "out": np.ones(3)}
    figure = plotting.plot_distributions({"weights": params})
    assert [ax.get_title() for ax in figure.axes] == ["dense/bias", "dense/kernel", "out"]


def test_a_surface_brings_its_view_and_paths_are_what_descend_returned():
    path = descend(surfaces.ravine.fun, surfaces.ravine.start, optax.sgd(0.1), 3)
    ax = plotting.plot_surface(surfaces.ravine, {"sgd": path}, resolution=8)
    np.testing.assert_allclose(ax.lines[0].get_xydata(), path.points)
    low, high = surfaces.ravine.domain
    assert (ax.get_xlim(), ax.get_ylim()) == ((low[0], high[0]), (low[1], high[1]))
    view = plotting.plot_surface(surfaces.ravine, ([0, 0], [1, 2]), {"sgd": path}, resolution=8)
    assert view.get_ylim() == (0, 2)
    assert plotting.plot_surface_3d(surfaces.ravine, resolution=4).get_zlabel() == "loss"


def test_a_search_is_a_path():
    points = jnp.array([[0.0, 1.0], [1.0, 2.0]])
    ax = plotting.plot_surface(
        surfaces.ravine, {"search": Search(points, jnp.zeros(2), jnp.zeros(2))}, resolution=8
    )
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), points)


SHARP = {"sharpness": TrackedSharpness(np.array([3.0, 4.0]), np.zeros(2), np.ones(2))}


def test_sharpness_is_found_among_the_probes():
    result = fitted({"loss": [1.0]}, {}, SHARP, [0, 10])
    ax = plotting.plot_sharpness(result, limits=4.0)
    assert ax.lines[0].get_xydata().tolist() == [[0, 3], [10, 4]]
    assert list(curves(plotting.plot_sharpness({"sgd": result}))) == ["sgd"]


def swept(**hyperparameters):
    scores = np.array([[3.0, 1.0], [5.0, 7.0], [4.0, 4.0]])
    flags = np.ones((3, 2), bool)
    return Sweep(hyperparameters, scores, flags, flags, {}, Vmap(), 6, 0, (), ())


def test_a_sweep_over_one_number_is_a_curve():
    ax = plotting.plot_sweep(swept(rate=np.array([1.0, 10.0, 1.0])), "rate", ylabel="loss")
    assert ax.lines[0].get_xydata().tolist() == [[1, 2], [10, 6]]  # the better of two at rate 1
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("rate", "loss")


def test_images_of_a_data_set_have_their_labels():
    figure = plotting.plot_images(Split(np.zeros((2, 3, 3)), np.array([7, 4])))
    assert [ax.get_title() for ax in figure.axes] == ["7", "4"]


BATCH = Trajectory(np.zeros((5, 4, 2)), np.zeros((5, 4)))
REFUSED = {
    "a metric that was not recorded": (
        lambda: plotting.plot_training_curves(FIRST, metric="f1"),
        ValueError,
        r"needs a metric that was recorded \(accuracy, loss\), got metric='f1'",
    ),
    "a metric of numbers": (
        lambda: plotting.plot_training_curves({"sgd": [1.0]}, metric="loss"),
        ValueError,
        "needs what fit returned for metric='loss', got dict",
    ),
    "runs of other lengths": (
        lambda: plotting.plot_training_curves({"a": [FIRST, fitted({"accuracy": [1.0]}, {})]}),
        ValueError,
        r"needs runs of equal length, got \[1, 2\] epochs for 'a'",
    ),
    "a history without an epoch": (
        lambda: plotting.plot_training_curves(fitted({}, {})),
        ValueError,
        r"needs a metric that was recorded \(none\)",
    ),
    "a surface of one parameter": (
        lambda: plotting.plot_surface(surfaces.double_well),
        ValueError,
        r"corner of shape \(2,\), got shapes \[\(1,\), \(1,\)\]",
    ),
    "a function without a view": (
        lambda: plotting.plot_surface(lambda w: w[0], {"sgd": [[0, 0]]}),
        ValueError,
        "needs the corners of the view for a function, got paths in the place",
    ),
    "no function": (
        lambda: plotting.plot_surface_3d(3),
        TypeError,
        "plot_surface_3d needs a function of a point or a surface, got int",
    ),
    "a batch of paths": (
        lambda: plotting.plot_surface(surfaces.ravine, {"sgd": BATCH}),
        ValueError,
        r"shape \(points, 2\), got shape \(5, 4, 2\) for 'sgd'",
    ),
    "no probe of sharpness": (
        lambda: plotting.plot_sharpness(FIRST),
        ValueError,
        "needs a sharpness_probe among the probes of fit, got none",
    ),
    "steps alone": (
        lambda: plotting.plot_sharpness([1, 2]),
        TypeError,
        "needs what fit returned, or steps and what was measured there, got list alone",
    ),
    "no race": (
        lambda: plotting.plot_scores(FIRST),
        TypeError,
        "needs what RaceTable.confidence returns, a Confidence, or a RaceTable, got FitResult",
    ),
    "no sweep": (
        lambda: plotting.plot_sweep(FIRST, "rate"),
        TypeError,
        "plot_sweep needs a Sweep, got FitResult",
    ),
    "a rate of zero": (
        lambda: plotting.plot_sweep(swept(decay=np.array([0.0, 0.1, 0.2])), "decay"),
        ValueError,
        "on a logarithmic axis, got 'decay' from 0 on",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_drawn_is_said_in_a_sentence(name):
    call, kind, sentence = REFUSED[name]
    with pytest.raises(kind, match=sentence):
        call()


def test_a_diagnosis_is_a_profile_and_its_histograms_are_elsewhere():
    from jaxopt_tut.diagnostics import diagnose

    x = jax.random.normal(jax.random.key(0), (64, 8))
    found = diagnose(lambda w, x: jnp.mean(jnp.square(jnp.tanh(x @ w))), jnp.eye(8), x)
    (layer,) = found.layers.values()
    for given in (found, found.statistics, {"mine": found}):
        (bar,) = plotting.plot_profile(given).containers
        assert bar.lines[0].get_ydata() == pytest.approx([float(layer.pre_activations.variance)])
    with pytest.raises(TypeError, match="got a Diagnosis: use plot_diagnosis"):
        plotting.plot_distributions(found)
