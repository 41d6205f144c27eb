"""Minimisers of jaxopt, and what takes their place: the same minimum, the same derivative."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxopt_tut.bilevel import Implicit, Minimize, Proximal, argmin, layers
from jaxopt_tut.optimizers import (
    bfgs,
    gauss_newton,
    lbfgs,
    levenberg_marquardt,
    line_search,
    nonlinear_cg,
    projections,
    sgd,
)
from tests.peers.jaxopt_case import SEARCHED, SOLVED, STOP, Case, jaxopt
from tests.peers.jaxopt_sets import SOLVE

DATA = np.array([[0.2, 1.0, -0.4], [1.1, -0.3, 0.5], [-0.7, 0.6, 0.9], [0.4, 0.8, 0.1]])
TARGETS = np.array([0.9, 0.1, 0.3, 0.7])
ONE_HOT = np.eye(3)[np.array([0, 1, 2, 1])]
START = np.zeros(3)
EXACT = {"tol": STOP, "implicit_diff_solve": SOLVE, "maxiter": 2000}
solved = functools.partial(Case, tol=SOLVED, slow=True)


def logistic(w, lam, targets):
    """Curve by lam at least, and by lam + .6 at most."""
    scores = DATA @ w
    return jnp.mean(optax.losses.sigmoid_binary_cross_entropy(scores, targets)) + lam / 2 * w @ w


def quadratic(w, targets):
    """Curve by .1 at least, and by 2.4 at most."""
    residual = DATA @ w - targets
    return residual @ residual / 2 + w @ w / 20


def arg(f, solver, *args, start=START, steps=2000, **options):
    """Return the minimiser of f(y, *args), differentiable in all of them."""
    options = {"diff": Implicit(), "tol": STOP} | options
    return argmin(lambda y, z: f(y, *z), start, args, solver=solver, steps=steps, **options).y


def smooth(there, optimizer, **options):
    """Minimise the logistic loss by what has the name there, and by one of ours."""
    solver = getattr(jaxopt, there)(**({"fun": logistic} | EXACT | options))
    return solved(
        there, lambda *z: arg(logistic, optimizer, *z),
        lambda *z: solver.run(START, *z).params, (0.3, TARGETS),
    )  # fmt: skip


armijo = Minimize(optax.chain(sgd(1.0), line_search.armijo()))
SMOOTH = [
    smooth("GradientDescent", armijo),
    smooth("LBFGS", Minimize(lbfgs())),
    smooth("BFGS", Minimize(bfgs())),
    smooth("NonlinearCG", Minimize(nonlinear_cg())),
    smooth("ArmijoSGD", armijo, implicit_diff=True),
    # optax's stands still where the square of the gradient is a rounding; .3 is the curvature
    smooth("PolyakSGD", optax.polyak_sgd(0.2), implicit_diff=True, max_stepsize=0.2)._replace(
        tol=1.5e-8 / 0.3 * 2
    ),
    smooth("OptaxSolver", optax.sgd(1.0), opt=optax.sgd(1.0), implicit_diff=True),
    smooth(
        "ScipyMinimize", Minimize(bfgs()), method="BFGS", maxiter=500,
    )._replace(jit=False, tol=SEARCHED),
]  # fmt: skip


def within(project, lr=0.4):
    """Descend within a set that depends on the last of the arguments."""
    return Proximal(lambda y, z, _: project(y, z[-1]), lr)


def onto_simplex(y, total):
    return projections.simplex(total)(y)


def onto_box(y, bounds):
    return projections.box(*bounds)(y)


def lasso(y, z, rate):
    return layers.soft_threshold(y, rate * z[-1])


def within_simplices(y, *_):
    return jax.vmap(projections.simplex())(y)


def without_last(f):
    """Let what the set depends on pass by."""
    return lambda y, *args: f(y, *args[:-1])


def svm_dual(beta, lam):
    """The dual of a linear support vector machine, of three classes and with an L2 penalty."""
    scores = DATA.T @ (ONE_HOT - beta)
    return jnp.vdot(beta, ONE_HOT - 1) + jnp.vdot(scores, scores) / (2 * lam)


BOX = (np.full(3, -0.2), np.array([0.4, 0.1, 0.5]))
CURVATURE = DATA.T @ DATA + np.eye(3) / 10
kl_step = jaxopt.MirrorDescent.make_projection_grad(
    lambda x, _: jax.nn.softmax(x), lambda x: jnp.log(x) + 1
)
LEAST_SQUARES = jaxopt.objective.least_squares
bounded = {"tol": SEARCHED}

CONSTRAINED = [
    solved(
        "ProjectedGradient", lambda *z: arg(without_last(quadratic), within(onto_simplex), *z),
        lambda targets, total: jaxopt.ProjectedGradient(
            quadratic, jaxopt.projection.projection_simplex, **EXACT
        ).run(START, total, targets).params,
        (TARGETS, 0.8),
    ),
    solved(
        "ProximalGradient", lambda *z: arg(without_last(quadratic), Proximal(lasso, 0.4), *z),
        lambda targets, lam: jaxopt.ProximalGradient(
            quadratic, jaxopt.prox.prox_lasso, **EXACT
        ).run(START, lam, targets).params,
        (TARGETS, 0.15),
    ),
    solved(
        "MirrorDescent",
        lambda t: arg(quadratic, Proximal(lambda y, *_: onto_simplex(y, 1.0), 0.4), t),
        lambda t: jaxopt.MirrorDescent(quadratic, kl_step, 0.5, **EXACT).run(
            np.full(3, 1 / 3), None, t
        ).params,
        (DATA @ np.array([0.5, 0.3, 0.2]),),
    ),
    solved(
        "BlockCoordinateDescent",
        lambda *z: arg(
            lambda w, t, _: jnp.mean((DATA @ w - t) ** 2) / 2, Proximal(lasso, 1.0), *z
        ),
        lambda targets, lam: jaxopt.BlockCoordinateDescent(
            LEAST_SQUARES, jaxopt.prox.prox_lasso, **EXACT
        ).run(START, lam, (DATA, targets)).params,
        (TARGETS, 0.02),
    ),
    # the minimiser is a set, whose image by the data is not: the primal weights
    solved(
        "objective.multiclass_linear_svm_dual",
        lambda lam: DATA.T
        @ (ONE_HOT - arg(svm_dual, Proximal(within_simplices, 0.2), lam, start=ONE_HOT * 0 + 1 / 3))
        / lam,
        lambda lam: DATA.T
        @ (
            ONE_HOT
            - jaxopt.ProjectedGradient(
                jaxopt.objective.multiclass_linear_svm_dual,
                lambda y, _: jax.vmap(jaxopt.projection.projection_simplex)(y), **EXACT
            ).run(ONE_HOT * 0 + 1 / 3, None, lam, (DATA, ONE_HOT)).params
        )
        / lam,
        (1.3,),
    ),
    solved(
        "LBFGSB", lambda *z: arg(without_last(logistic), within(onto_box), *z),
        lambda lam, targets, box: jaxopt.LBFGSB(logistic, **EXACT).run(
            START, box, lam, targets
        ).params,
        (0.3, TARGETS, BOX),
    ),
    solved(
        "ScipyBoundedMinimize", lambda *z: arg(without_last(logistic), within(onto_box), *z),
        lambda lam, targets, box: jaxopt.ScipyBoundedMinimize(
            method="L-BFGS-B", fun=logistic, tol=1e-14, implicit_diff_solve=SOLVE
        ).run(START, box, lam, targets).params,
        (0.3, TARGETS, BOX), jit=False, **bounded,
    ),
    solved(
        "BoxCDQP",
        lambda q, low, high: layers.qp(
            CURVATURE, q, G=np.concatenate([np.eye(3), -np.eye(3)]), h=jnp.concatenate([high, -low])
        ),
        lambda q, low, high: jaxopt.BoxCDQP(**EXACT).run(
            START, (jnp.asarray(CURVATURE), q), (low, high)
        ).params,
        (-DATA.T @ TARGETS, *BOX),
    ),
]  # fmt: skip

TIMES = np.array([0.0, 0.5, 1.0, 1.5, 2.0])
GROWTH = 1.4 * np.exp(-0.7 * TIMES) + 0.05 * np.cos(9 * TIMES)


FIRST = np.ones(2)


def misfit(w, y):
    return w[0] * jnp.exp(-w[1] * TIMES) - y


def half(w, y):
    return jnp.sum(misfit(w, y) ** 2) / 2


def fitted(optimizer, *args):
    residual_fn = lambda w, z: misfit(w, *z)
    return arg(half, Minimize(optimizer), *args, start=FIRST, residual_fn=residual_fn)


def fit(there, optimizer, **options):
    name = "fun" if "Scipy" in there else "residual_fun"
    solver = getattr(jaxopt, there)(**{name: misfit}, implicit_diff_solve=SOLVE, **options)
    return solved(
        there, lambda y: fitted(optimizer, y), lambda y: solver.run(FIRST, y).params, (GROWTH,)
    )  # fmt: skip


FITS = [
    fit("GaussNewton", gauss_newton(), tol=1e-12),
    fit("LevenbergMarquardt", levenberg_marquardt(), tol=1e-12, gtol=STOP, xtol=1e-14, maxiter=99),
    fit("ScipyLeastSquares", levenberg_marquardt(), method="lm")._replace(
        jit=False, tol=SEARCHED
    ),
    solved(
        "ScipyBoundedLeastSquares",
        lambda y, box: arg(lambda w, y, _: half(w, y), within(onto_box, 0.3), y, box, start=FIRST),
        lambda y, box: jaxopt.ScipyBoundedLeastSquares(
            method="trf", fun=misfit, implicit_diff_solve=SOLVE,
            options={"ftol": 1e-14, "xtol": 1e-14, "gtol": 1e-14},
        ).run(FIRST, box, y).params,
        (GROWTH, (np.zeros(2), np.array([1.3, 2.0]))), jit=False, tol=SEARCHED,
    ),
]  # fmt: skip
