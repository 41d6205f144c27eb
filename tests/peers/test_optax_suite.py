"""Optax's own tests, from its wheel, run on the optimizers of this library.

Their tables of optimizers are module globals from which the test classes are built on import. So
each module is read as source, the tables are replaced in its syntax tree, and the result is run as
a module of another name; the installed one stays as it is. How many cases passed is counted, and
only those that asked for an optimizer of ours: no skip can hide a break.
"""

import ast
import collections
import functools
import importlib.util
import inspect
import types
import unittest
from pathlib import Path

import jax
import optax
import pytest

from jaxopt_tut import optimizers
from jaxopt_tut.types import ScalarOrSchedule


def entries(*table):
    return [{"opt_name": name, "opt_kwargs": kwargs} for name, kwargs in table]


# Optax asks for two digits of the minimum of a parabola and of Rosenbrock's valley in 10 000 and in
# 30 000 steps. The valley's largest curvature is 1002, or 1802 for complex parameters; gradient
# descent is stable below 2 over that, momentum below 38 over that.
PLAIN = entries(
    ("sgd", {"learning_rate": 1e-3}),
    ("momentum", {"learning_rate": 1e-2}),
    ("adam", {"learning_rate": 1e-1}),
)
# What `optax.contrib.mechanize` wraps, beside `sgd`: it finds the learning rate itself.
WRAPPED = entries(
    ("momentum", {"learning_rate": 1.0, "nesterov": True}),
    ("adam", {"learning_rate": 1.0}),
)
SUITES = {
    "AliasTest": ("optax._src.alias_test", {"_OPTIMIZERS_UNDER_TEST": PLAIN}, "_get_opt"),
    "ContribTest": (
        "optax.contrib._common_test",
        {"_MAIN_OPTIMIZERS_UNDER_TEST": PLAIN, "_BASE_OPTIMIZERS": WRAPPED},
        "_get_opt_factory",
    ),
}
# `sgd` on the complex valley: its smallest curvature there is 2/9, so that even at the stability
# limit 2/1802 the error shrinks by no more than exp(-10 000 * 2/9 * 2/1802) = 0.08 from 2.
OUT_OF_REACH = {"test_optimization3"}

# The numbers are those of optax's parameters: 3 optimizers, or with optax's own three wrappers of
# `sgd` 6, or with `mechanize` around the others 8, times targets, dtypes or wrapping.
EXPECTED = {
    # 16 pairs of dtypes for `adam`; the other 32 cases are about optax's `sgd` and `adamw`
    ("AliasTest", "test_explicit_dtype"): {"passed": 16, "passed without our code": 32},
    ("AliasTest", "test_gradient_accumulation"): {"passed": 3 * 2},
    ("AliasTest", "test_optimization"): {"passed": 3 * 2 * 2 - 1, "out of reach": 1},
    ("AliasTest", "test_optimizers_accept_extra_args"): {"passed": 3},
    ("AliasTest", "test_optimizers_can_be_wrapped_in_inject_hyperparams"): {"passed": 3},
    ("AliasTest", "test_preserve_dtype"): {"passed": 3 * 2},
    ("AliasTest", "test_state_shape_dtype_shard_stability"): {"passed": 3 * 6},
    ("ContribTest", "test_gradient_accumulation"): {"passed": 6 * 2},
    ("ContribTest", "test_optimizers"): {"passed": 8 * 4},
    ("ContribTest", "test_optimizers_accept_extra_args"): {"passed": 8 * 2},
    (
        "ContribTest",
        "test_optimizers_accept_learning_rate_schedule_if_type_annotated_as_such",
    ): {"passed": 8},
    # optax cannot inject the hyper-parameters of its own `reduce_on_plateau`
    ("ContribTest", "test_optimizers_can_be_wrapped_in_inject_hyperparams"): {
        "passed": 6 - 1,
        "skipped": 1,
    },
    ("ContribTest", "test_preserve_dtype"): {"passed": 6 * 2},
    ("ContribTest", "test_state_shape_dtype_shard_stability"): {"passed": 8 * 4},
}
SLOW = {("ContribTest", "test_state_shape_dtype_shard_stability")}


class _ReplaceTables(ast.NodeTransformer):
    """Put another literal into the first assignment to each named table."""

    def __init__(self, tables):
        self.left = dict(tables)

    def visit_Assign(self, node):
        name = getattr(node.targets[0], "id", None)
        if name in self.left:
            node.value = ast.parse(repr(self.left.pop(name)), mode="eval").body
        return node


def as_optax_reads_it(build):
    """Annotate rates by optax's own alias, by which its tests tell that schedules are taken."""

    @functools.wraps(build)
    def built(*args, **kwargs):
        return build(*args, **kwargs)

    signature = inspect.signature(build)
    built.__signature__ = signature.replace(
        parameters=[
            p.replace(annotation=optax.ScalarOrSchedule) if p.annotation is ScalarOrSchedule else p
            for p in signature.parameters.values()
        ]
    )
    return built


@functools.cache
def load(suite):
    """Build optax's test class on our tables, and the list of its look-ups of our names."""
    name, tables, look_up = SUITES[suite]
    spec = importlib.util.find_spec(name)
    replace = _ReplaceTables(tables)
    tree = ast.fix_missing_locations(replace.visit(ast.parse(Path(spec.origin).read_text())))
    assert not replace.left, f"{name} has no table {list(replace.left)}"
    module = types.ModuleType(f"{name}_on_jaxopt_tut")
    exec(compile(tree, spec.origin, "exec"), module.__dict__)
    theirs, calls = getattr(module, look_up), []

    def ours_first(*args):
        opt_name = args[-1]
        if opt_name not in {entry["opt_name"] for entry in PLAIN}:
            return theirs(*args)
        calls.append(opt_name)
        return as_optax_reads_it(getattr(optimizers, opt_name))

    setattr(module, look_up, ours_first)
    return getattr(module, suite), calls


def cases(suite):
    cls, _ = load(suite)
    names = collections.defaultdict(list)
    for name in unittest.TestLoader().getTestCaseNames(cls):
        names[name.rstrip("0123456789")].append(name)
    return names


def outcome(suite, name):
    if name in OUT_OF_REACH:
        return "out of reach"
    cls, calls = load(suite)
    calls.clear()
    result = unittest.TestResult()
    # optax's helpers mix dtypes, which the strict promotion of this test-suite forbids
    with jax.numpy_dtype_promotion("standard"):
        cls(name).run(result)
    for test, report in result.failures + result.errors:
        print(test, report)  # pytest shows it when the count below is wrong
    if not result.wasSuccessful():
        return "failed"
    if result.skipped:
        return "skipped"
    return "passed" if calls else "passed without our code"


@pytest.mark.parametrize(
    ("suite", "method"),
    [pytest.param(*key, marks=[pytest.mark.slow] if key in SLOW else []) for key in EXPECTED],
)
def test_passes_the_tests_of_optax(suite, method):
    outcomes = collections.Counter(outcome(suite, name) for name in cases(suite)[method])
    assert outcomes == EXPECTED[suite, method]


@pytest.mark.parametrize("suite", SUITES)
def test_no_test_of_optax_is_left_out(suite):
    assert {(suite, method) for method in cases(suite)} == {
        key for key in EXPECTED if key[0] == suite
    }


def test_the_case_out_of_reach_is_gradient_descent_on_the_complex_valley():
    cls, _ = load("AliasTest")
    (name,) = OUT_OF_REACH
    description = str(cls(name).shortDescription())
    assert all(word in description for word in ("'sgd'", "_setup_rosenbrock", "complex64"))


def test_a_broken_optimizer_fails_the_tests_of_optax(monkeypatch):
    climb = lambda learning_rate, **kwargs: optax.sgd(-learning_rate, **kwargs)
    monkeypatch.setattr(optimizers, "sgd", climb)
    assert outcome("AliasTest", "test_optimization0") == "failed"
