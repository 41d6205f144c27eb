"""Whatever a plot is handed is drawn or refused in a sentence, and any name is shown."""

import dataclasses
import inspect
import io
import re

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from jaxopt_tut import optimizers, plotting
from jaxopt_tut.landscape import surfaces
from jaxopt_tut.optimizers import History as Search
from jaxopt_tut.training import History

AXES = {"xlabel": "x", "ylabel": "y"}
FINE = {"a": [1.0, 2.0]}
# a call for each argument that takes data; what is not here is called with the value alone
ARGUMENTS = {
    "plot_lines": [
        lambda v: plotting.plot_lines(v, FINE, **AXES),
        lambda v: plotting.plot_lines([0, 1], v, **AXES),
        lambda v: plotting.plot_lines([0, 1], {"a": v}, **AXES),
    ],
    "plot_predicted": [
        lambda v: plotting.plot_predicted(v, FINE),
        lambda v: plotting.plot_predicted(FINE, v),
        lambda v: plotting.plot_predicted({"a": v}, FINE),
    ],
    "plot_sensitivity": [
        lambda v: plotting.plot_sensitivity(v, FINE),
        lambda v: plotting.plot_sensitivity([0.1, 1.0], v),
        lambda v: plotting.plot_sensitivity([0.1, 1.0], {"a": v}),
    ],
    "plot_profile": [plotting.plot_profile],
    "plot_training_curves": [
        plotting.plot_training_curves,
        lambda v: plotting.plot_training_curves({"a": v}),
    ],
    "plot_distributions": [
        plotting.plot_distributions,
        lambda v: plotting.plot_distributions({"a": v}),
    ],
    "plot_sharpness": [
        plotting.plot_sharpness,
        lambda v: plotting.plot_sharpness(v, FINE),
        lambda v: plotting.plot_sharpness([0, 1], {"a": v}),
    ],
    "plot_surface": [
        plotting.plot_surface,
        lambda v: plotting.plot_surface(lambda w: w[0], v),
        lambda v: plotting.plot_surface(surfaces.ravine, {"a": v}, resolution=4),
    ],
    "plot_surface_3d": [
        plotting.plot_surface_3d,
        lambda v: plotting.plot_surface_3d(lambda w: w[0], v),
    ],
    "plot_sweep": [lambda v: plotting.plot_sweep(v, "rate")],
    "plot_rate_sensitivity": [lambda v: plotting.plot_rate_sensitivity(v, "quadratic")],
}
OPTIONAL = {
    "plot_training_curves": lambda v: plotting.plot_training_curves(FINE, v),
    "plot_sensitivity": lambda v: plotting.plot_sensitivity([0.1, 1.0], FINE, chosen=v),
    "plot_profile": lambda v: plotting.plot_profile(FINE, predicted=v),
    "plot_predicted": lambda v: plotting.plot_predicted(FINE, FINE, errors=v),
    "plot_surface": lambda v: plotting.plot_surface(surfaces.ravine, paths=v, resolution=4),
}
NAMES = [name for name in plotting.__all__ if name.startswith("plot_")]
WRONG = {
    "none": None,
    "array": np.arange(3.0),
    "of jax": jnp.arange(3.0),
    "square": np.ones((2, 2)),
    "no numbers": np.zeros(0),
    "list": [],
    "number": 3,
    "object": object(),
    "text": "abc",
    "a result of another kind": History({}, {}, {}, {}, {}, np.zeros(0)),
}
DRAWN = {
    ("plot_training_curves", "array"),
    ("plot_training_curves", "of jax"),
    ("plot_training_curves", "square"),
    ("plot_distributions", "square"),
    ("plot_distributions", "array"),
    ("plot_distributions", "of jax"),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_kind_is_refused_by_function_rule_and_value(name, kind):
    value = WRONG[kind]
    refused = 0
    for call in ARGUMENTS.get(name, [getattr(plotting, name)]):
        try:
            call(value)
        except (TypeError, ValueError) as error:
            sentence = str(error)
            assert re.match(rf"{name} (needs|draws) .+, got .+", sentence), sentence
            found = sentence.rpartition("got ")[2]
            is_named = re.search(rf"{type(value).__name__}|dtype|object|float", found)
            assert is_named or type(error) is ValueError, sentence  # noqa: PT017
            refused += 1
        else:
            assert (name, kind) in DRAWN or np.ndim(value) in (1, 2), inspect.getsource(call)
    assert refused or (name, kind) in DRAWN


@pytest.mark.parametrize("kind", ["array", "number", "object", "text"])
@pytest.mark.parametrize("name", OPTIONAL)
def test_what_may_be_left_out_is_refused_where_it_is_of_a_wrong_kind(name, kind):
    if (name, kind) == ("plot_training_curves", "array"):
        assert len(OPTIONAL[name](WRONG[kind]).lines) == 2
        return
    with pytest.raises(TypeError, match=rf"^{name} needs .*, got .*{type(WRONG[kind]).__name__}"):
        OPTIONAL[name](WRONG[kind])


@pytest.mark.parametrize(
    "numbers", [[3.0, 2.0, 1.0], np.array([3.0, 2.0, 1.0]), jnp.array([3.0, 2, 1])]
)
def test_numbers_alone_are_a_curve_and_nobody_says_of_what(numbers):
    ax = plotting.plot_training_curves(numbers)
    assert [line.get_ydata().tolist() for line in ax.lines] == [[3, 2, 1]]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["train"]
    assert ax.get_ylabel() == "value"


@pytest.fixture(scope="module")
def found():
    bowl = lambda w: jnp.sum(w**2)
    return optimizers.minimize(bowl, jnp.ones(3), optimizers.bfgs(), history=True)


def test_a_search_is_drawn_by_its_loss_over_its_steps(found):
    for given, name in ((found, "search"), ({"bfgs": found}, "bfgs"), (found.history, "search")):
        ax = plotting.plot_training_curves(given)
        assert ax.lines[0].get_ydata().tolist() == found.history.value.tolist()
        assert ax.lines[0].get_xdata()[0] == 0
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "loss")
        assert [text.get_text() for text in ax.get_legend().get_texts()] == [name]


def test_a_search_has_a_history_and_no_epochs(found):
    search = Search(np.zeros((2, 2)), np.zeros(2), np.zeros(2))
    without = dataclasses.replace(found, history=None)
    for given, sentence in (
        (without, r"got a Solution without history: call minimize\(\.\.\., history=True\)"),
        ({"a": search, "b": [1.0]}, "trainings or searches, got both: steps at 'a', epochs at 'b'"),
    ):
        with pytest.raises(ValueError, match=rf"^plot_training_curves needs .*{sentence}"):
            plotting.plot_training_curves(given)
    with pytest.raises(ValueError, match=r"searches alone, got metric='accuracy' beside"):
        plotting.plot_training_curves(search, metric="accuracy")


NOTHING = [np.nan, np.inf]
EMPTY = {
    "training": lambda: plotting.plot_training_curves({"a": NOTHING}),
    "lines": lambda: plotting.plot_lines([0, 1], {"a": NOTHING}, **AXES),
    "sensitivity": lambda: plotting.plot_sensitivity([0.1, 1.0], {"a": NOTHING}),
    "profile": lambda: plotting.plot_profile({"a": NOTHING}),
    "sharpness": lambda: plotting.plot_sharpness([0, 1], {"a": NOTHING}),
    "search": lambda: plotting.plot_training_curves(Search(np.zeros(2), np.array(NOTHING), None)),
}


@pytest.mark.parametrize("name", EMPTY)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_curve_of_nothing_finite_says_so_on_the_picture(name):
    (text,) = EMPTY[name]().get_legend().get_texts()
    assert text.get_text().endswith("(nothing finite)")


@pytest.mark.parametrize("name", ["<b>&$x_$", "$\\frac{$", "_hidden", "a_b", "$w_1$", "5 $"])
def test_any_name_is_shown(name):
    own = plotting.new_figure()
    for figure in (own, Figure()):
        ax = plotting.plot_training_curves(
            {name: [1.0, 2.0]}, title=name, ylabel=name, ax=figure.add_subplot()
        )
        figure.savefig(io.BytesIO())
        (text,) = ax.get_legend().get_texts()
        assert text.get_text().strip("\N{ZERO WIDTH SPACE}") == f"{name}, train"
        assert text.get_parse_math() == (name not in ("<b>&$x_$", "$\\frac{$"))
    tree = {"weights": {name: np.arange(3.0)}}
    plotting.plot_distributions(tree, title=name).savefig(io.BytesIO())
    plotting.plot_profile({"a": {name: 1.0, "b": 2.0}}).figure.savefig(io.BytesIO())
