"""Quadratic programs and line searches of jaxopt, and what takes their place."""

import jax.numpy as jnp
import numpy as np
import optax

from jaxopt_tut.bilevel import layers
from jaxopt_tut.optimizers import line_search, minimize, sgd
from tests.peers.jaxopt_case import ROUNDING, SEARCHED, STOP, Case, jaxopt
from tests.peers.jaxopt_equations import SPREAD, slowly
from tests.peers.jaxopt_sets import SOLVE

Q, C = 2 * SPREAD, np.array([-1.0, 0.5, -2.0])
A, SUM = np.ones((1, 3)), np.array([0.7])
G, H = -np.eye(3), np.zeros(3)
qp_exact = {"tol": STOP, "implicit_diff_solve": SOLVE, "maxiter": 20_000}


def multipliers(Q, c):
    found = layers.qp_solution(Q, c, A, SUM, G, H)
    return found.x, found.equality_multipliers, found.inequality_multipliers


def osqp(Q, c):
    found = jaxopt.OSQP(**qp_exact).run(
        params_obj=(Q, c), params_eq=(A, SUM), params_ineq=(G, H)
    ).params  # fmt: skip
    return found.primal, found.dual_eq, found.dual_ineq


PROGRAMS = [
    slowly(
        "EqualityConstrainedQP", layers.qp,
        lambda Q, c, A, b: jaxopt.EqualityConstrainedQP(
            tol=1e-12, implicit_diff_solve=SOLVE
        ).run(params_obj=(Q, c), params_eq=(A, b)).params.primal,
        (Q, C, A, SUM),
    ),
    slowly(
        "OSQP", lambda Q, c: multipliers(Q, c)[0], lambda Q, c: osqp(Q, c)[0], (Q, C), tol=SEARCHED
    ),
    slowly("base.KKTSolution", multipliers, osqp, (Q, C), tol=SEARCHED, derivative=False),
    slowly(
        "BoxOSQP",
        lambda c, low, high: layers.qp(
            Q, c, G=jnp.concatenate([A, -A]), h=jnp.concatenate([high, -low])
        ),
        lambda c, low, high: jaxopt.BoxOSQP(**qp_exact).run(
            params_obj=(jnp.asarray(Q), c), params_eq=jnp.asarray(A), params_ineq=(low, high)
        ).params.primal[0],
        (C, SUM - 0.4, SUM), tol=SEARCHED,
    ),
    slowly(
        "isotonic.isotonic_l2_pav",
        lambda x: layers.qp(np.eye(5), -x, G=-np.diff(np.eye(5), axis=0), h=np.zeros(4)),
        jaxopt.isotonic.isotonic_l2_pav, (np.array([1.0, 3.0, 2.0, 2.2, 4.0]),),
        tol=1e-7,  # its derivative divides by lengths + 1e-8
    ),
]  # fmt: skip
ALONG = np.array([3.0, -2.0])


def valley(w):
    return w[0] ** 4 + w[0] * w[1] + (1 + w[1]) ** 2


def parabola(w):
    return jnp.sum(np.array([1.0, 3.0]) * (w - 1) ** 2)


def searched(search, fun):
    """Take one step down the gradient."""
    optimizer = optax.chain(sgd(1.0), search)
    return lambda w: minimize(fun, w, optimizer, max_steps=1).params


def search_there(name, fun, first, **options):
    return lambda w: getattr(jaxopt, name)(fun, **options).run(first, w).state.params


C2 = 1e-3
SEARCHES = [
    Case(
        "BacktrackingLineSearch", searched(line_search.armijo(shrink=0.5), valley),
        search_there(
            "BacktrackingLineSearch", valley, 1.0, condition="armijo", decrease_factor=0.5
        ),
        (ALONG,), ROUNDING, derivative=False,
    ),
    *(
        Case(  # slopes are C2 of the first at most: steps differ by 2 C2 of them on a parabola
            name, searched(line_search.wolfe(c2=C2), parabola),
            search_there(name, parabola, 1.0, c2=C2, **options), (ALONG,), 2 * C2, derivative=False,
        )
        for name, options in [("ZoomLineSearch", {}), ("HagerZhangLineSearch", {"c1": 1e-4})]
    ),
]  # fmt: skip
