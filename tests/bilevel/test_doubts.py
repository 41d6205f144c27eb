"""What `info` knows is said once, outside of traces, with numbers and a remedy."""

import inspect
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut.bilevel import (
    CG,
    GMRES,
    Forward,
    HypergradientWarning,
    Implicit,
    LeastSquares,
    Neumann,
    OneStep,
    Truncate,
    Unroll,
    argmin,
    bilevel_step,
    hypergrad,
)
from jaxopt_tut.optimizers import line_search, sgd


def f(y, z):
    return 0.5 * jnp.sum((y - z) ** 2)


def total(y, _):
    return jnp.sum(y)


def saddle(y, z):
    return 0.5 * (y[0] ** 2 - y[1] ** 2) + jnp.dot(y, z)


def flat(y, z):
    return 0.5 * (y[0] + y[1] - z[0]) ** 2


def at_zero(y, z):
    return 0.5 * jnp.sum((y - jnp.sqrt(z)) ** 2)


Z = jnp.ones(2)
DOUBTS = {
    "not_converged": (total, f, Z, 1, Implicit(), r"inner residual of 0\.9 after 1 steps.*Unroll"),
    "one_step": (total, f, Z, 1, OneStep(), "has not converged .* take more steps"),
    "not_definite": (total, saddle, 0 * Z, 0, Implicit(), "does not curve upwards in every direc"),
    "no_solution": (lambda y, _: y[0], flat, 0 * Z, 0, Implicit(), "no solution.*add a penalty"),
    "few_products": (
        lambda y, _: y[0],
        lambda y, z: y[0] ** 2 + 3 * y[1] ** 2 + y[0] * y[1] + jnp.dot(y, z),
        0 * Z,
        0,
        Implicit(CG(max_steps=1)),
        r"a linear residual of 0\.\d+ after 1 products",
    ),
    "diverges": (total, f, Z, 300, Implicit(), "as the inner run diverges.*lower its learning"),
    "not_finite": (total, at_zero, 0 * Z, 1, Unroll(), "0 by infinity .* autodiff.zero_safe"),
}


def call(name, **options):
    outer, inner, z, steps, mode, _ = DOUBTS[name]
    rate = 5.0 if name == "diverges" else 0.1
    return hypergrad(outer, inner, 0 * Z, z, solver=sgd(rate), steps=steps, diff=mode, **options)


@pytest.mark.parametrize("name", DOUBTS)
def test_each_doubt_is_said_once_with_its_remedy(name):
    with warnings.catch_warnings(record=True, action="always") as said:
        _, _, info = call(name)
    assert [warning.category for warning in said] == [HypergradientWarning]
    # where annotations are checked, their checker calls hypergrad
    is_checked = hasattr(hypergrad, "__wrapped__")
    assert said[0].filename == (inspect.getfile(hypergrad) if is_checked else __file__)
    with pytest.warns(HypergradientWarning, match=DOUBTS[name][-1]):
        call(name)
    assert not (info.converged and info.is_finite and info.is_definite in (None, True))


@pytest.mark.parametrize("name", ["not_converged", "not_definite", "no_solution", "not_finite"])
def test_check_raises_what_would_be_warned_of(name):
    with pytest.raises(ValueError, match=r"hypergrad needs .* under check=True"):
        call(name, check=True)


def test_nothing_is_said_within_transformations_nor_of_what_is_right():
    jax.block_until_ready(jax.jit(lambda: call("not_converged"))())
    run = lambda z: hypergrad(total, f, 0 * Z, z, solver=sgd(0.1), steps=1, diff=Implicit())[1]["z"]
    assert jax.vmap(run)(jnp.ones((3, 2))).shape == (3, 2)
    for mode, steps in ((Implicit(), 200), (Unroll(), 1), (Truncate(1), 1), (Forward(), 1)):
        hypergrad(total, f, 0 * Z, Z, solver=sgd(0.1), steps=steps, diff=mode)


def test_a_bilevel_step_says_what_is_not_finite_but_not_that_a_warm_start_goes_on():
    make = lambda rate: bilevel_step(
        total, f, solver=sgd(rate), steps=60, diff=Implicit(), outer_optimizer=sgd(0.1)
    )
    step = make(0.01)
    step.update(step.init(0 * Z, Z))
    step = make(5.0)
    with pytest.warns(HypergradientWarning, match="bilevel_step returns .* the inner run diverges"):
        step.update(step.init(jnp.full(2, 1e30), Z))


SEARCH = optax.chain(sgd(1.0), line_search.armijo())


def searching(z, mode):
    return argmin(f, 0 * Z, z, solver=SEARCH, steps=2, diff=mode).y.sum()


@pytest.mark.parametrize("mode", [Unroll(), Truncate(1), OneStep()], ids=str)
def test_a_line_search_in_the_steps_is_refused_in_reverse_mode_with_what_would_do(mode):
    match = rf"under {type(mode).__name__} needs steps without a while_loop.* Implicit\(\), with Mi"
    with pytest.raises(ValueError, match="argmin " + match):
        jax.grad(searching)(Z, mode)
    with pytest.raises(ValueError, match="hypergrad " + match):
        hypergrad(total, f, 0 * Z, Z, solver=SEARCH, steps=2, diff=mode)
    # forwards there is a derivative, and without one there is nothing to refuse
    assert jnp.isfinite(searching(Z, mode))


def test_a_loop_that_does_not_feel_the_variables_is_no_hindrance():
    def halved(y, z):
        # from 8 to 1 in three rounds, whatever y is
        size = jax.lax.while_loop(lambda s: s > 1, lambda s: s / 2, jnp.float32(8.0))
        return size * f(y, z)

    solve = lambda z: argmin(halved, 0 * Z, z, solver=sgd(0.5), steps=2).y.sum()
    np.testing.assert_allclose(jax.grad(solve)(Z), 0.75, rtol=1e-6)
    grads = hypergrad(total, halved, 0 * Z, Z, solver=sgd(0.5), steps=2, diff=Unroll())[1]
    np.testing.assert_allclose(grads["z"], 0.75, rtol=1e-6)


def damped(damping, target=3.0):
    """d y*/dz of f = y^2 - 2 z y is 2 / (2 + damping)."""
    g = lambda y, z: y**2 - 2 * z * y
    mode = Implicit(damping=damping)
    options = {"solver": sgd(0.5), "steps": 1, "diff": mode}
    by_hypergrad = hypergrad(lambda y, _: y, g, 0.0, target, **options)[1]["z"]
    by_argmin = jax.grad(lambda z: argmin(g, 0.0, z, **options).y)
    return by_hypergrad, by_argmin(target), jax.jit(by_argmin)(target)


def test_the_damping_may_be_traced():
    for expected, found in (
        (0.5, damped(2.0)),
        (0.5, damped(jnp.float32(2.0))),
        (0.5, jax.jit(damped)(2.0)),
        (jnp.array([1.0, 0.5]), jax.vmap(damped)(jnp.array([0.0, 2.0]))),
        # the derivative of 2 / (2 + d) at 2
        (-0.125, jax.jacfwd(damped)(2.0)),
        (-0.125, jax.jacrev(damped)(2.0)),
    ):
        for value in found:
            np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_other_numbers_of_a_mode_may_be_traced_and_a_mode_may_be_an_argument():
    def derivative(mode):
        return hypergrad(total, f, Z, Z, solver=sgd(0.1), steps=0, diff=mode)[1]["z"][0]

    makes = {
        # one term of the series, of the step size itself
        0.25: lambda x: Implicit(Neumann(1, step_size=x)),
        1.0: lambda x: Implicit(CG(), tol=1e-6 * x),
    }
    for expected, make in makes.items():
        np.testing.assert_allclose(
            jax.jit(lambda x, make=make: derivative(make(x)))(0.25), expected
        )
        np.testing.assert_allclose(jax.jit(derivative)(make(0.25)), expected)
    for solve in (GMRES(), LeastSquares(rcond=jnp.float32(1e-6))):
        mode = Implicit(solve, tol=jnp.float32(1e-5))
        np.testing.assert_allclose(derivative(mode), 1.0, rtol=1e-4)


def test_the_name_of_a_mode_shows_the_numbers_that_are_known():
    run = lambda damping: hypergrad(
        total, f, Z, Z, solver=sgd(0.1), steps=0, diff=Implicit(CG(), damping=damping)
    )[2]
    assert run(0.5).mode.endswith("damping=0.5)")
    assert jax.jit(run)(0.5).mode.endswith("damping=traced)")


BAD_NUMBERS = {
    "terms": (lambda: Neumann(2.5), "a whole number, got k=2.5"),
    "step_size": (
        lambda: Neumann(2, step_size=0.0),
        "Neumann needs step_size > 0, got step",
    ),
    "restart": (lambda: GMRES(restart=0), "GMRES needs a whole number restart >= 1, got 0"),
    "rcond": (lambda: LeastSquares(rcond=-1.0), "LeastSquares needs rcond >= 0, got rcond=-1.0"),
    "damping": (lambda: Implicit(damping=float("nan")), "damping >= 0 .* got damping=nan"),
    "tol": (lambda: Implicit(tol=-1e-3), "tol >= 0, got damping=0.0, tol=-0.001"),
}


@pytest.mark.parametrize("name", BAD_NUMBERS)
def test_numbers_that_are_known_and_wrong_are_refused(name):
    make, match = BAD_NUMBERS[name]
    with pytest.raises(ValueError, match=match):
        make()


@pytest.mark.usefixtures("x64")
def test_implicit_takes_complex_variables_and_empty_subtrees():
    # the minimum over complex y of |y - (1 + 2i) z|^2 + |z y|^2 is (1 + 2i) z / (1 + z^2)
    square = lambda x: jnp.sum(x.real**2 + x.imag**2)

    def inner(y, z):
        a, z = y["a"], z["z"]
        return jnp.sum((a.real - z) ** 2 + (a.imag - 2 * z) ** 2) + z**2 * square(a)

    outer = lambda y, _: jnp.sum(y["a"].imag)
    y0 = {"a": jnp.zeros(1, complex), "none": None, "empty": jnp.zeros((0, 2))}
    z = {"z": jnp.float64(0.5), "none": None}
    options = {"solver": sgd(0.2), "steps": 200, "diff": Implicit(), "certify": True}
    _, grads, info = hypergrad(outer, inner, y0, z, **options)
    np.testing.assert_allclose(grads["z"]["z"], 2 * (1 - 0.25) / 1.25**2, rtol=1e-12)
    assert info.converged
    assert info.error_estimate < 1e-10
    # with respect to a complex z, as jax.grad has it: y* = z, E = |y|^2, dE/dz = 2 conj(z)
    _, grads, _ = hypergrad(
        lambda y, _: square(y), lambda y, z: square(y - z), 0j, 1 + 2j, **options
    )
    np.testing.assert_allclose(grads["z"], jax.grad(square)(1 + 2j), rtol=1e-12)


@pytest.mark.parametrize(
    ("y0", "z", "error", "match"),
    [
        (jnp.zeros(2, int), Z, TypeError, "hypergrad needs floating or complex"),
        (0 * Z, {"z": Z, "label": jnp.ones(2, int)}, TypeError, "got int32 at 'label'"),
        (0 * Z, (), ValueError, "needs z to differentiate it, got no leaf"),
        (0 * Z, None, ValueError, "needs z to differentiate it, got no leaf"),
    ],
    ids=["integer_y", "integer_z", "empty_z", "no_z"],
)
def test_what_has_no_derivative_is_refused(y0, z, error, match):
    with pytest.raises(error, match=match):
        hypergrad(total, f, y0, z, solver=sgd(0.1), steps=1, diff=Implicit())
