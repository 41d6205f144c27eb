"""Equations, fixed points and quadratic programs of jaxopt, and what takes their place."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_tut.bilevel import (
    GMRES,
    Anderson,
    AutoSolve,
    Bisection,
    Broyden,
    Dense,
    Implicit,
    Newton,
    NormalCG,
    Picard,
    fixed_point,
    root,
)
from tests.peers.jaxopt_case import SOLVED, STOP, Case, jaxopt
from tests.peers.jaxopt_sets import SOLVE

EXACT = {"tol": STOP, "implicit_diff_solve": SOLVE}
solved = functools.partial(Case, tol=SOLVED)
slowly = functools.partial(Case, tol=SOLVED, slow=True)

W = np.array([[0.3, -0.4, 0.1], [0.2, 0.1, -0.3], [-0.1, 0.5, 0.2]])
B = np.array([0.5, -0.2, 0.3])
SPREAD = W @ W.T + np.eye(3)  # symmetric and definite
ASYMMETRIC = W + np.eye(3)
START = np.zeros(3)


def layer(y, W, b):
    return jnp.tanh(W @ y + b)


def equation(y, W, b):
    """Of a Jacobian that is not symmetric, with a condition below 10."""
    return y + W @ jnp.sin(y) - b


def linear(y, A, b):
    return A @ y - b


def packed(fun):
    return lambda y, z: fun(y, *z)


def point(solver, *z, **options):
    options = {"steps": 200, "tol": STOP} | options
    return fixed_point(packed(layer), START, z, solver=solver, **options).y


def solution(F, solver, *z, start=START, steps=50, **options):
    return root(packed(F), start, z, solver=solver, steps=steps, **options).y


def by_hand(W, b):
    """Solve as jaxopt is handed it: by a loop of one's own."""
    step = lambda y, _: (y - jnp.linalg.solve(jax.jacfwd(equation)(y, W, b), equation(y, W, b)), ())
    return jax.lax.scan(step, START, length=9)[0]


def rooted(W, b):
    """Make any solution differentiable: no step, and the derivative of the condition."""
    found = jax.lax.stop_gradient(by_hand(W, b))
    return solution(equation, Newton(), W, b, start=found, steps=0)


AT_ROOT = (W, B)


def picard(_, W, b):
    return jax.lax.fori_loop(0, 200, lambda _, y: layer(y, W, b), jnp.asarray(START))


def from_zero(solver):
    return lambda *z: solver(START, *z)


def root_vjp(W, b):
    """Hand out what `root_vjp` returns as derivatives of the root."""
    return _by_rule(W, b)


@jax.custom_vjp
def _by_rule(W, b):
    return by_hand(W, b)


def _forwards(W, b):
    y = by_hand(W, b)
    return y, (y, W, b)


def _backwards(kept, cotangent):
    y, *z = kept
    return jaxopt.implicit_diff.root_vjp(equation, y, tuple(z), cotangent, solve=SOLVE)


_by_rule.defvjp(_forwards, _backwards)


@jax.custom_jvp
def root_jvp(b):
    return by_hand(W, b)


@root_jvp.defjvp
def _pushed(primals, tangents):
    y = by_hand(W, *primals)
    equation_of = lambda y, b: equation(y, W, b)
    # a linear function of the tangent by a loop cannot be transposed: by its columns
    column = lambda t: jaxopt.implicit_diff.root_jvp(equation_of, y, primals, (t,), solve=SOLVE)
    return y, jax.vmap(column)(jnp.eye(3)).T @ tangents[0]


IMPLICIT = [
    slowly(
        "implicit_diff.custom_root", rooted,
        from_zero(jaxopt.implicit_diff.custom_root(equation, solve=SOLVE)(
            lambda _, W, b: by_hand(W, b)
        )),
        AT_ROOT,
    ),
    solved(
        "implicit_diff.custom_fixed_point", functools.partial(point, Picard()),
        from_zero(jaxopt.implicit_diff.custom_fixed_point(layer, solve=SOLVE)(picard)), AT_ROOT,
    ),
    slowly("implicit_diff.root_vjp", rooted, root_vjp, AT_ROOT),
    slowly(
        "implicit_diff.root_jvp", lambda b: rooted(jnp.asarray(W), b), root_jvp, (B,), forward=True
    ),
]  # fmt: skip


def linear_case(there, solve, matrix=ASYMMETRIC, **options):
    """Differentiate the solution of a linear system by a linear solve of each side."""
    theirs = functools.partial(getattr(jaxopt.linear_solve, there), **options)
    run = jaxopt.implicit_diff.custom_root(linear, solve=theirs)(
        lambda _, A, b: theirs(lambda y: A @ y, b)
    )
    diff = Implicit(solve)
    return slowly(
        f"linear_solve.{there}", functools.partial(solution, linear, Newton(), steps=2, diff=diff),
        from_zero(run), (matrix, B),
    )  # fmt: skip


def bicgstab(matvec, b):
    return jax.scipy.sparse.linalg.bicgstab(matvec, b, tol=1e-14)[0]


LINEAR = [
    linear_case("solve_cg", NormalCG(), SPREAD, tol=1e-14),
    linear_case("solve_normal_cg", NormalCG(), tol=1e-14),
    linear_case("solve_gmres", GMRES(), tol=1e-14),
    linear_case("solve_bicgstab", bicgstab, tol=1e-14),
    linear_case("solve_lu", Dense()),
    linear_case("solve_qr", Dense()),
    linear_case("solve_inv", Dense()),
    linear_case("solve_cholesky", Dense(), SPREAD),
    linear_case("solve_iterative_refinement", AutoSolve(), maxiter=20, tol=1e-12),
    slowly(
        "IterativeRefinement", functools.partial(solution, linear, Newton(), steps=3),
        lambda A, b: jaxopt.IterativeRefinement(implicit_diff_solve=SOLVE, tol=1e-12).run(
            None, A, b
        ).params,
        (ASYMMETRIC, B),
    ),
]  # fmt: skip

cubic = lambda y, z: y**3 + y - z

FIXED = [
    slowly(
        "FixedPointIteration", functools.partial(point, Picard()),
        lambda *z: jaxopt.FixedPointIteration(layer, maxiter=200, **EXACT).run(START, *z).params,
        AT_ROOT,
    ),
    slowly(
        "AndersonAcceleration", functools.partial(point, Anderson(3)),
        lambda *z: jaxopt.AndersonAcceleration(
            layer, history_size=3, ridge=1e-12, **EXACT
        ).run(START, *z).params,
        AT_ROOT,
    ),
    slowly(
        "AndersonWrapper", functools.partial(point, Anderson(3)),
        lambda *z: jaxopt.AndersonWrapper(
            jaxopt.FixedPointIteration(layer, **EXACT), history_size=3, ridge=1e-12,
            implicit_diff_solve=SOLVE,
        ).run(START, *z).params,
        AT_ROOT,
    ),
    slowly(
        "Broyden", functools.partial(solution, equation, Broyden()),
        lambda *z: jaxopt.Broyden(equation, **EXACT).run(START, *z).params, AT_ROOT,
    ),
    slowly(
        "ScipyRootFinding", functools.partial(solution, equation, Newton()),
        lambda *z: jaxopt.ScipyRootFinding(
            method="hybr", optimality_fun=equation, tol=STOP, implicit_diff_solve=SOLVE
        ).run(START, *z).params,
        AT_ROOT, jit=False,
    ),
    solved(
        "Bisection", functools.partial(solution, cubic, Bisection(0.0, 3.0), start=1.0, steps=60),
        lambda z: jaxopt.Bisection(cubic, 0.0, 3.0, maxiter=60, check_bracket=False, **EXACT).run(
            None, z
        ).params,
        (2.5,),
    ),
]  # fmt: skip
