"""The table of `docs/from_scipy.md`: what it names exists, and ends where SciPy does."""

import inspect
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from jaxopt_tut import autodiff, bilevel, landscape, optimizers
from jaxopt_tut.bilevel import layers

PAGE = (Path(__file__).parents[2] / "docs" / "from_scipy.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (`.+) \| (.+) \|$", PAGE, re.MULTILINE)
ROOTS = {
    "autodiff": autodiff,
    "bilevel": bilevel,
    "jax": jax,
    "jnp": jnp,
    "landscape": landscape,
    "optimizers": optimizers,
}
MENTIONED = sorted(set(re.findall(rf"\b(?:{'|'.join(ROOTS)})(?:\.\w+)+", str(ROWS))))
THERE = {name for cell, _ in ROWS for name in re.findall(r"`(\w+)(?:\(|`)", cell)}

A = np.array([[1.0, 0.5, -0.3], [0.2, 2.0, 0.4], [-1.0, 1.0, 0.8], [0.3, -0.6, 1.1]])
B = np.array([1.0, -2.0, 0.5, 0.7])
TIMES = np.linspace(0.0, 2.0, 6)
GROWTH = 1.4 * np.exp(-0.7 * TIMES) + 0.05 * np.cos(9 * TIMES)
START = np.array([-0.5, 0.8, 1.2])
REACHED = 1e-5
"""Two ends of `gtol=1e-8`, of functions that curve by .1 or more, and SciPy's of its own limits."""


def rosenbrock(w):
    return jnp.sum((1 - w[:-1]) ** 2 + 10 * (w[1:] - w[:-1] ** 2) ** 2)


VALUE_AND_GRAD = lambda w: tuple(map(np.asarray, jax.value_and_grad(rosenbrock)(w)))


def searched(method, bounds=None):
    hessian = jax.hessian(rosenbrock) if "trust" in method else None
    return scipy.optimize.minimize(
        VALUE_AND_GRAD, START, jac=True, method=method, hess=hessian, bounds=bounds, tol=1e-9
    ).x


def least(optimizer, **options):
    return optimizers.minimize(
        rosenbrock, jnp.asarray(START), optimizer, gtol=1e-8, **options
    ).params


def decay(t, a, b):
    return a * np.exp(-b * t)


def misfit(w):
    return w[0] * jnp.exp(-w[1] * TIMES) - GROWTH


def fitted():
    return optimizers.least_squares(misfit, jnp.ones(2), gtol=1e-8).params


def equations(y, z):
    return jnp.array([y @ y - z, y[0] * y[1] - 1.0])


def rooted(solver, steps=40):
    return bilevel.root(equations, jnp.array([1.0, 2.0]), 4.0, solver=solver, steps=steps).y


def rooted_there(method):
    return scipy.optimize.root(
        lambda y: np.asarray(equations(y, 4.0)), np.array([1.0, 2.0]), method=method, tol=1e-9
    ).x


def cosine(solver):
    return bilevel.fixed_point(lambda y, z: z * jnp.cos(y), 1.0, 1.0, solver=solver, steps=60).y


def bounded_linear(*sides):
    return layers.qp(A.T @ A, -A.T @ B, G=np.concatenate(sides[::2]), h=np.concatenate(sides[1::2]))


ENDS = {
    "minimize BFGS": lambda: (least(optimizers.bfgs()), searched("BFGS")),
    "minimize CG": lambda: (least(optimizers.nonlinear_cg()), searched("CG")),
    "minimize Newton-CG": lambda: (least(optimizers.newton_cg()), searched("Newton-CG")),
    "minimize trust-exact": lambda: (least(optimizers.trust_region()), searched("trust-exact")),
    "minimize L-BFGS-B": lambda: (
        least(optimizers.lbfgsb(), bounds=(None, 0.6)), searched("L-BFGS-B", [(None, 0.6)] * 3)
    ),
    "least_squares": lambda: (
        fitted(), scipy.optimize.least_squares(lambda w: np.asarray(misfit(w)), np.ones(2)).x
    ),
    "curve_fit": lambda: (
        optimizers.curve_fit(lambda t, w: w[0] * jnp.exp(-w[1] * t), TIMES, GROWTH, [1, 1]).params,
        scipy.optimize.curve_fit(decay, TIMES, GROWTH, np.ones(2))[0],
    ),
    "nnls": lambda: (bounded_linear(-np.eye(3), np.zeros(3)), scipy.optimize.nnls(A, B)[0]),
    "lsq_linear": lambda: (
        bounded_linear(-np.eye(3), np.full(3, 0.2), np.eye(3), np.full(3, 0.3)),
        scipy.optimize.lsq_linear(A, B, (-0.2, 0.3), tol=1e-12).x,
    ),
    "root hybr": lambda: (rooted(bilevel.Newton()), rooted_there("hybr")),
    "root broyden1": lambda: (rooted(bilevel.Broyden()), rooted_there("broyden1")),
    "root krylov": lambda: (rooted(bilevel.NewtonKrylov()), rooted_there("krylov")),
    "fixed_point": lambda: (
        cosine(bilevel.Anderson()), scipy.optimize.fixed_point(np.cos, 1.0)
    ),
    "brentq": lambda: (
        bilevel.root(lambda y, z: y**3 - z, 1.0, 7.0, solver=bilevel.Bisection(0, 5), steps=60).y,
        scipy.optimize.brentq(lambda y: y**3 - 7.0, 0, 5),
    ),
    "isotonic_regression": lambda: (
        layers.qp(np.eye(4), -B, G=-np.diff(np.eye(4), axis=0), h=np.zeros(3)),
        scipy.optimize.isotonic_regression(B).x,
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("row", ENDS)
def test_ends_where_scipy_does(row):
    assert row.split(" ")[0] in THERE
    here, there = ENDS[row]()
    np.testing.assert_allclose(here, there, rtol=REACHED, atol=REACHED)


@pytest.mark.parametrize("mention", MENTIONED)
def test_what_the_table_mentions_exists(mention):
    first, *rest = mention.split(".")
    value = ROOTS[first]
    for part in rest:
        value = getattr(value, part)


def test_the_table_has_every_function_of_scipy():
    public = {name: getattr(scipy.optimize, name) for name in scipy.optimize.__all__}
    functions = {name for name, value in public.items() if inspect.isfunction(value)}
    assert functions - {"show_options"} <= THERE
