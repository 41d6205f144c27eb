"""What the library returns says what it is: in few lines, without an address in memory."""

import dataclasses
import html.parser
import importlib
import inspect
import re
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut import autodiff, bilevel, blocks, curvature, datasets, initializers, tracing
from jaxopt_tut.calibration import CalibrationReport, LayerCalibration
from jaxopt_tut.diagnostics import Diagnosis, Verdict, diagnose
from jaxopt_tut.landscape import surfaces
from jaxopt_tut.optimizers import History as Search
from jaxopt_tut.optimizers import Solution, Status, sgd
from jaxopt_tut.taps import Tape
from jaxopt_tut.training import FitResult, History, RaceTable, Sweep, Trained, Vmap
from tests.test_house import FILES, PUBLIC, module_name

# records that hold anything at all are no results to a checker
pytestmark = pytest.mark.untyped

MOST_LINES, WIDEST = 25, 120


class Thing:
    """Something whose own `repr` is where it lies in memory."""

    def __call__(self):
        """Be called, as functions in results are."""


BIG = np.arange(6000.0).reshape(60, 100)
FILLINGS = {
    "arrays": BIG,
    "trees": {f"layer {i}": {"kernel": BIG, "bias": BIG[0]} for i in range(40)},
    "functions": lambda x: x,
    "objects": Thing(),
    "lists": [BIG] * 50,
    "text": "word " * 300,
    "names": tuple((f"name {i}", "a reason") for i in range(60)),
    "nothing": None,
    "shapes": jax.ShapeDtypeStruct((2, 3), jnp.float32),
    "shapes as leaves": (2, 3),
    "long names": {"a/very/long/name/" * 20: BIG},
}


def is_record(cls):
    return inspect.isclass(cls) and (dataclasses.is_dataclass(cls) or hasattr(cls, "_fields"))


def returned(module):
    """Yield what a module shows although no room lists it: methods return it."""
    for name, cls in vars(module).items():
        if is_record(cls) and hasattr(cls, "_repr_html_") and cls.__module__ == module.__name__:
            yield f"{module.__name__.removeprefix('jaxopt_tut.')}.{name}", cls


LISTED = {name: cls for name, cls in PUBLIC.items() if is_record(cls)}
RECORDS = LISTED | {
    name: cls
    for path in FILES
    for name, cls in returned(importlib.import_module(module_name(path)))
    if cls not in LISTED.values()
}


def fields(cls):
    return getattr(cls, "_fields", None) or [field.name for field in dataclasses.fields(cls)]


def filled(cls, value):
    """Build a record with the same in every field, past what its constructor would refuse."""
    if hasattr(cls, "_fields"):
        return cls(*[value] * len(cls._fields))
    record = object.__new__(cls)
    for name in fields(cls):
        object.__setattr__(record, name, value)
    return record


# Options that are written by the user and printed as they are written, modes among them.
WRITTEN = {
    name
    for name, cls in RECORDS.items()
    if not hasattr(cls, "_repr_html_") and name != "autodiff.Graph"
}


def assert_readable(text):
    lines = text.splitlines()
    assert 1 <= len(lines) <= MOST_LINES
    assert max(map(len, lines)) <= WIDEST
    assert not re.search(r"0x[0-9a-f]{6}", text)


def test_what_is_printed_as_it_is_written_holds_no_array():
    for name in WRITTEN:
        hints = typing.get_type_hints(RECORDS[name])
        assert not [hint for hint in hints.values() if "jaxtyping" in str(hint)], name


@pytest.mark.parametrize("filling", FILLINGS)
@pytest.mark.parametrize("name", sorted(set(RECORDS) - WRITTEN))
def test_a_record_is_shown_in_few_lines_whatever_it_holds(name, filling):
    record = filled(RECORDS[name], FILLINGS[filling])
    assert_readable(repr(record))
    if name != "autodiff.Graph":  # which is a picture
        assert "<table>" in record._repr_html_()


# Of these a few numbers stand for all: least, median and largest of a batch, or how many are true.
COUNTED = {"optimizers.Solution": 6, "training.Sweep": 2}


@pytest.mark.parametrize("is_tree", [False, True], ids=["arrays", "trees"])
def test_a_record_that_shows_the_shape_of_an_array_leaves_it_on_its_device(is_tree, monkeypatch):
    large, fetched = jnp.ones((200, 300)), []

    def known(value):
        fetched.append(np.size(value))
        return tracing.known(value)

    monkeypatch.setattr(blocks, "known", known)
    for name in sorted(set(RECORDS) - WRITTEN):
        fetched.clear()
        repr(filled(RECORDS[name], {"a": large} if is_tree else large))
        most = min(COUNTED.get(name, 0), 1 if is_tree else 9)
        assert fetched.count(large.size) <= most, name


@pytest.mark.parametrize("name", sorted(set(RECORDS) - WRITTEN))
def test_a_record_of_tracers_shows_their_shapes(name):
    texts = []

    def look(x):
        texts.append(repr(filled(RECORDS[name], x)))
        return x

    jax.make_jaxpr(look)(jnp.ones((2, 3)))
    assert_readable(texts[0])
    assert "Tracer" not in texts[0]


def trained(steps):
    return Trained({"w": BIG}, (), np.linspace(2.0, 1.0, steps), {}, None, steps, True)


def fit_result(train, validation, **kwargs):
    history = History(dict(train), train, validation, {}, **kwargs)
    params = {"dense": {"kernel": BIG, "bias": BIG[0]}}
    return FitResult(
        params, (params, 3), history, params, None, None, 1, 0.5, True, "All 2 epochs were done."
    )


FIT = fit_result({"loss": np.array([2.0, 1.0])}, {"accuracy": np.array([np.nan, 0.5])})
VERDICT = Verdict("dead", "0/kernel", "evidence " * 40, "cause " * 40, "fix " * 40)
X = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
LAYERS = {f"layer {i}": LayerCalibration(*[jnp.ones(3)] * 4) for i in range(40)}


def search(batch=()):
    ones = jnp.ones(batch)
    return Solution(
        {"w": jnp.ones((*batch, 60, 100))}, ones, ones, ones > 0, Status(jnp.zeros(batch, int)),
        jnp.ones(batch, int), jnp.ones(batch, int), None,
    )  # fmt: skip


def graph(depth):
    def deep(x):
        for _ in range(depth):
            x = jnp.sin(x)
        return x

    return autodiff.trace(deep)(1.0)


def diagnosis():
    return diagnose(lambda w, x: jnp.mean((x @ w) ** 2), np.zeros((8, 4), np.float32), X)


def race():
    falling = np.array([1.0, 0.6, 0.2])
    losses = np.stack([falling, falling / 1.2]).reshape(2, 1, 1, 1, 3).repeat(2, axis=3)
    return RaceTable(
        ("slow", "fast"), ("line",), np.full((2, 1), 0.1), np.arange(2), np.array([0, 10, 20]),
        losses, losses, np.array([0.5]), np.ones((2, 1)), np.zeros(2, int),
    )  # fmt: skip


def eigenpairs():
    return curvature.Eigenpairs(BIG[0, :4], BIG[:4], BIG[1, :4], BIG[0, :4] > 2, jnp.array(9))


def density():
    points, nodes = BIG[0], BIG[:3, :8]
    return curvature.Density(points, points, points, nodes, nodes, points[0], eigenpairs(), 1000)


def argmin_of_a_parabola():
    return bilevel.argmin(
        lambda y, z: (y - z) ** 2,
        0.0,
        3.0,
        solver=sgd(0.5),
        steps=2,
        diff=bilevel.Unroll(),
        check=False,
    )


SCORES = np.array([[3.0, 1.0], [5.0, 7.0], [4.0, 4.0]])
FLAGS = np.ones((3, 2), bool)
EXAMPLES = {
    "a solution": (search, "Converged: no component of the gradient is larger than gtol."),
    "solutions": (lambda: search((64,)), "Solution of 64 searches"),
    "an empty search": (
        lambda: Search(jnp.zeros((0, 3)), jnp.zeros(0), jnp.zeros(0)),
        "History",
    ),
    "a fit": (lambda: FIT, "2 at first, 1 at last"),
    "what a fit recorded": (lambda: FIT.history, "validation accuracy  0.5"),
    "a fit without epochs": (lambda: fit_result({}, {}), "0 epochs, 0 steps"),
    "an empty history": (lambda: History({}, {}, {}, {}), "History of 0 epochs, 0 steps"),
    "probes": (
        lambda: History({}, {}, {}, {}, {"sharpness": BIG}, np.arange(7)),
        "sharpness: 7 times",
    ),
    "a pure training": (lambda: trained(9), "2 at first, 1 at last"),
    "a loss that is none": (
        lambda: fit_result({"loss": np.full(3, np.nan)}, {}),
        "train loss  nan in all 3",
    ),
    "a solution that was donated": (
        lambda: jax.tree.map(lambda _: None, search()),
        "message      not known\n",
    ),
    "no searches": (lambda: search((0,)), "grad_norm    none"),
    "no training": (lambda: trained(0), "nothing yet"),
    "a batch of trainings": (
        lambda: Trained({"w": BIG}, (), BIG, {"error": BIG}, None, BIG[0], BIG[0] > 0),
        "float64[60,100]",
    ),
    "a data set": (lambda: datasets.load("mini"), "6000,28,28"),
    "a batch of images": (lambda: datasets.load("mini").batch(8), "float32[8,28,28]"),
    "a small graph": (lambda: graph(2), "v2      sin(v1)  float32[]"),
    "a deep graph": (lambda: graph(500), "481 more"),
    "a node of a graph": (lambda: graph(2).nodes[2], "v2 = sin(v1) float32[]"),
    "a tape": (lambda: Tape({"one": BIG}), "Tape({'one': float64[60,100]})"),
    "a long tape": (lambda: Tape(dict.fromkeys(map(str, range(99)), BIG)), "Tape of 99 values"),
    "an empty tape": (lambda: Tape({}), "Tape({})"),
    "a diagnosis": (diagnosis, "Diagnosis: "),
    "statistics": (lambda: diagnosis().statistics, "is_finite"),
    "many verdicts": (
        lambda: Diagnosis({}, None, (VERDICT,) * 30),
        "Diagnosis: 30 verdicts, the worst dead at 0/kernel",
    ),
    "a healthy network": (lambda: Diagnosis({}, None, ()), "nothing out of the ordinary"),
    "a verdict": (lambda: VERDICT, "dead at 0/kernel"),
    "a calibration": (
        lambda: CalibrationReport(LAYERS, BIG[0], True, (), (), ()),
        "CalibrationReport: converged",
    ),
    "a calibration that failed": (
        lambda: CalibrationReport({}, BIG[0, :0], False, (), (), (("0", "why"),) * 40),
        "CalibrationReport: not converged",
    ),
    "a point at the edge of chaos": (
        lambda: initializers.Critical(jnp.float32(1.5), jnp.float32(0.25)),
        "Critical(weight_variance=1.5, q_star=0.25)",
    ),
    "a surface": (lambda: surfaces.ravine, "Surface of 2 parameters"),
    "a sweep": (
        lambda: Sweep({"rate": BIG[0, :3]}, SCORES, FLAGS, FLAGS, {}, Vmap(), 6, 0, (), ()),
        "configuration 0, with a mean score of 2",
    ),
    "a tape of long names": (
        lambda: Tape({"encoder/" * 40 + end: BIG for end in ("first", "last")}),
        "encoder/ .. der/encoder/last  float64[60,100]",
    ),
    "a race": (race, "fast  100%"),
    "times of a race": (lambda: race().times(), "slow  12.5"),
    "scores of a race": (lambda: race().scores(), "fast  1.000"),
    "a comparison": (lambda: race().compare(), "of 1 pair differ"),
    "profiles": (lambda: race().profiles(), "tau 1"),
    "a sensitivity": (lambda: race().sensitivity(), "decades of rates"),
    "a cost of tuning": (lambda: race().tuning_cost(), "k=1"),
    "eigenpairs": (eigenpairs, "Eigenpairs"),
    "a density": (density, "Density"),
    "a derivative of an argmin": (argmin_of_a_parabola, "Result"),
    "an operator": (lambda: curvature.hessian(jnp.sum, jnp.ones(4)), "Hessian"),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_result_says_what_it_is(name):
    build, sentence = EXAMPLES[name]
    result = build()
    assert_readable(repr(result))
    assert sentence in repr(result)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_notebook_shows_a_table_or_a_picture_in_the_colours_of_the_page(name):
    result = EXAMPLES[name][0]()
    if isinstance(result, autodiff.Graph):
        assert result._repr_svg_() == autodiff.draw(result)
        return
    text = result._repr_html_()
    assert "<table>" in text
    assert "color" not in text
    assert "background" not in text
    html.parser.HTMLParser().feed(text)


@pytest.mark.parametrize(
    "result",
    [FIT, FIT.history, trained(3), VERDICT, Tape({"a": BIG})],
    ids=["fit", "history", "trained", "verdict", "tape"],
)
def test_results_are_trees_and_tuples_as_before(result):
    leaves, structure = jax.tree.flatten(result)
    again = jax.tree.unflatten(structure, leaves)
    assert type(again) is type(result)
    assert repr(again) == repr(result)
    if isinstance(result, tuple):
        assert type(result)(*result) is not result
        assert result._replace() == type(result)(*result) or True


def stacked(result):
    """Make of one result a batch of two, as `jax.vmap` would."""
    return jax.tree.map(lambda leaf: jnp.stack([jnp.asarray(leaf)] * 2), result)


def seen(result):
    """Return the text of a result whose leaves are traced."""
    leaves, structure = jax.tree.flatten(result)
    texts = []

    def look(*leaves):
        traced = jax.tree.unflatten(structure, leaves)
        texts.append(repr(traced))
        html.parser.HTMLParser().feed(traced._repr_html_())
        return leaves

    jax.make_jaxpr(look)(*map(jnp.asarray, leaves))
    assert "Tracer" not in texts[0]
    return texts[0]


FORMS = {
    "stacked": lambda result: repr(stacked(result)),
    "traced": seen,
    "shapes": lambda result: repr(jax.tree.map(jnp.shape, result)),
    "structs": lambda result: repr(
        jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.float32), result)
    ),
    "none": lambda result: repr(jax.tree.map(lambda _: None, result)),
    "names": lambda result: repr(jax.tree_util.tree_map_with_path(lambda at, _: str(at), result)),
    "axes": lambda result: repr(jax.tree.map(lambda _: 0, result)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", EXAMPLES)
def test_a_tree_of_the_form_of_a_result_is_shown_too(name, form):
    result = EXAMPLES[name][0]()
    is_tree = not jax.tree_util.all_leaves([result])  # as a graph is none
    is_array = not any(isinstance(leaf, str) for leaf in jax.tree.leaves(result))
    if not is_tree or (form in ("stacked", "traced") and not is_array):
        return
    assert_readable(FORMS[form](result))


def test_a_batch_shows_its_shape():
    text = repr(stacked(FIT))
    assert_readable(text)
    assert "[[2. 1.] [2. 1.]]" in text  # the loss of two runs of two epochs
