"""Every transform in the table of `tests/cases.py` keeps what all of them promise."""

import inspect
import types

import jax
import optax
import pytest

from jaxopt_tut import optimizers
from jaxopt_tut.types import Transformation
from tests import cases, checks


def marks(case):
    """Solvers that look at the loss compile long programs."""
    return [pytest.mark.slow] if case.has_long_programs else []


each_case = pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.name, marks=marks(case)) for case in cases.OPTIMIZERS],
)
each_dtype = pytest.mark.parametrize(
    ("case", "dtype"),
    [
        pytest.param(case, dtype, id=f"{case.name}-{dtype}", marks=marks(case))
        for case in cases.OPTIMIZERS
        for dtype in case.dtypes
    ],
)


def transforms_of(module):
    """Return the public factories of transforms; what a function builds, its annotation tells."""
    found = set()
    for name in module.__all__:
        function = getattr(module, name)
        if not inspect.isfunction(function):
            continue
        built = inspect.signature(function, eval_str=True).return_annotation
        built = getattr(built, "__value__", built)  # of a named alias
        if built is inspect.Signature.empty:
            pytest.fail(f"annotate what {name} returns: else nobody can tell if it is a transform")
        if inspect.isclass(built) and issubclass(built, optax.GradientTransformation):
            found.add(function)
    return found


def makers(rows):
    return {case.make for case in rows} | {case.part for case in rows if case.part is not None}


def require_rows(transforms, rows, kind="row"):
    missing = sorted(function.__name__ for function in transforms - makers(rows))
    if missing:
        pytest.fail(f"add a {kind} for {' and '.join(missing)} to tests/cases.py")


def test_every_public_transform_is_in_the_table():
    transforms = transforms_of(optimizers)
    require_rows(transforms, cases.OPTIMIZERS)
    assert makers(cases.OPTIMIZERS) <= transforms  # what the table holds is public
    with_reverse_mode = [case for case in cases.OPTIMIZERS if case.has_reverse_mode]
    by_conjugate_gradients = {optimizers.newton_cg, optimizers.scale_by_newton_cg}
    require_rows(
        transforms - by_conjugate_gradients, with_reverse_mode, kind="row with has_reverse_mode"
    )


def scale_by_rmsprop() -> optax.GradientTransformation:
    return optax.scale_by_rms()


def rmsprop():
    return optax.rmsprop(0.1)


def stand_in(*functions):
    public = {function.__name__: function for function in functions}
    return types.SimpleNamespace(__all__=list(public), **public)


def test_a_transform_that_is_not_in_the_table_is_named():
    transforms = transforms_of(stand_in(optimizers.sgd, scale_by_rmsprop))
    with pytest.raises(
        pytest.fail.Exception, match=r"^add a row for scale_by_rmsprop to tests/cases\.py$"
    ):
        require_rows(transforms, cases.OPTIMIZERS)


def test_a_factory_that_does_not_say_what_it_builds_is_named():
    with pytest.raises(pytest.fail.Exception, match=r"^annotate what rmsprop returns: "):
        transforms_of(stand_in(optimizers.sgd, rmsprop))


def rmsprop_in_quotes() -> "optax.GradientTransformationExtraArgs":
    return optax.rmsprop(0.1)


def rmsprop_by_alias() -> Transformation:
    return optax.rmsprop(0.1)


@pytest.mark.parametrize("function", [rmsprop_in_quotes, rmsprop_by_alias])
def test_any_way_to_say_what_it_builds_is_read(function):
    assert transforms_of(stand_in(function)) == {function}


def test_other_functions_need_no_row():
    module = stand_in(optimizers.minimize, optimizers.stationarity, optimizers.adam)
    assert transforms_of(module) == {optimizers.adam}


@each_case
def test_jit_equals_eager(case):
    checks.check_jit_equals_eager(case)


@each_case
def test_vmap_equals_loop(case):
    checks.check_vmap_equals_loop(case)


@each_dtype
def test_keeps_dtype_and_structure(case, dtype):
    with jax.enable_x64(dtype == "float64"):
        checks.check_keeps_dtype_and_structure(case, dtype)


@each_dtype
def test_takes_traced_hyperparameters(case, dtype):
    with jax.enable_x64(dtype == "float64"):
        checks.check_takes_traced_hyperparameters(case, dtype)


@each_case
def test_compiles_once(case):
    checks.check_compiles_once(case)


@each_case
def test_derivatives_are_right(case):
    checks.check_derivatives(case)


@each_case
def test_chains(case):
    checks.check_chains(case)


@each_case
def test_injects_hyperparameters(case):
    checks.check_injects_hyperparameters(case)


@each_case
def test_masks(case):
    checks.check_masks(case)


@each_case
def test_accumulates(case):
    checks.check_accumulates(case)


@each_case
def test_donates(case):
    checks.check_donates(case)


@each_case
def test_refuses_leaves_without_derivative(case):
    checks.check_refuses_leaves_without_derivative(case)


@each_case
def test_shows_nan(case):
    checks.check_shows_nan(case)


@pytest.mark.slow
def test_all_keep_the_sharding_of_the_parameters():
    checks.run_on_four_devices(
        "from tests import cases, checks\n"
        "for case in cases.OPTIMIZERS:\n"
        "    print(case.name, flush=True)\n"
        "    checks.check_keeps_sharding(case)\n"
    )
