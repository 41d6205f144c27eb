"""Every transform in the table of `tests/cases.py` keeps what all of them promise."""

import inspect

import jax
import optax
import pytest

from jaxopt_tut import optimizers
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


def builds_a_transform(function):
    if not inspect.isfunction(function):
        return False
    built = inspect.signature(function).return_annotation
    return inspect.isclass(built) and issubclass(built, optax.GradientTransformation)


def makers(rows):
    return {case.make for case in rows} | {case.part for case in rows if case.part is not None}


def test_every_public_transform_is_in_the_table():
    public = [getattr(optimizers, name) for name in optimizers.__all__]
    transforms = {function for function in public if builds_a_transform(function)}
    assert transforms == makers(cases.OPTIMIZERS)
    with_reverse_mode = [case for case in cases.OPTIMIZERS if case.has_reverse_mode]
    by_conjugate_gradients = {optimizers.newton_cg, optimizers.scale_by_newton_cg}
    assert transforms == makers(with_reverse_mode) | by_conjugate_gradients


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
