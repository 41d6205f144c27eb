"""Where jaxopt is wrong, what is right, and from where that is known."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_tut.bilevel import Implicit, Minimize, argmin
from jaxopt_tut.optimizers import lbfgs, projections
from jaxopt_tut.optimizers.norms import L1, LInf
from tests.peers.jaxopt_case import ROUNDING, jaxopt
from tests.peers.jaxopt_sets import POSITIVE, RIDGE, SEMI_DUAL, onto_transport

__all__ = ["WRONG"]

X = np.array([1.3, -0.4, 0.9, 2.1, -1.7])


class Wrong(NamedTuple):
    """A call whose answer is known, here and there.

    Attributes:
      there: The name of what is called there, and what is wrong with it.
      ours: Returns what this library says.
      theirs: Returns what jaxopt says, or raises.
      right: What is right, in NumPy.
      tol: Largest difference allowed of ours.
    """

    there: str
    ours: Callable[[], Any]
    theirs: Callable[[], Any]
    right: Any
    tol: float = ROUNDING


AXES = np.linalg.qr(np.random.default_rng(0).normal(size=(20, 20)))[0]
BOWL = AXES * np.logspace(0, -4, 20) @ AXES.T
OUTER = np.random.default_rng(1).normal(size=20)


def slope(solve):
    return jax.grad(lambda z: solve(z) @ OUTER)(jnp.ones(20))


def bowl(y, z):
    return y @ (BOWL @ y) / 2 - z @ y


def ours_in_bowl(z):
    exact = jnp.linalg.solve(BOWL, jax.lax.stop_gradient(z))
    return argmin(bowl, exact, z, solver=Minimize(lbfgs()), steps=9, diff=Implicit()).y


def theirs_in_bowl(z):
    exact = jnp.linalg.solve(BOWL, jax.lax.stop_gradient(z))
    return jaxopt.LBFGS(bowl, tol=1e-8).run(exact, z).params


SIMILARITY = np.array([[0.9, 0.1, 0.4], [0.2, 0.8, -0.3], [-0.1, 0.5, 0.6]])
HALVES = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.4, 0.4])
there, prox = jaxopt.projection, jaxopt.prox


def sideways(project, column):
    """Return how a plan moves with the similarities of what is transported."""
    move = jnp.zeros((3, 3)).at[0, column].set(1.0)
    return jax.jvp(project, (jnp.asarray(SIMILARITY),), (move,))[1]


def transposed(project, column):
    """Return the same by the transpose: the matrix is symmetric."""
    move = jnp.zeros((3, 3)).at[0, column].set(1.0)
    return jax.vjp(project, jnp.asarray(SIMILARITY))[1](move)[0]


# the plan has entries > 0 in the first row and at (1, 1), (2, 1), (2, 2): only a cycle of four is
# free, (0, 1) - (0, 2) + (2, 2) - (2, 1), along which the derivative projects
CYCLE = np.array([[0.0, 0.25, -0.25], [0.0, 0.0, 0.0], [0.0, -0.25, 0.25]])
# with sums of 1 the permutation and its successor share the plan, and a cycle of six is free
PERMUTING = np.array([[1.0, 0.0, -1.0], [-1.0, 1.0, 0.0], [0.0, -1.0, 1.0]]) / 6
HUGE = 1e16 + np.array([2.0, 0.0, -2.0, 4.0])

WRONG = [
    Wrong(
        "prox.prox_ridge: half of the penalty that its text has",
        lambda: RIDGE(X, 2 * 0.7), lambda: prox.prox_ridge(X, 0.7), X / (1 + 2 * 0.7),
    ),
    Wrong(
        "prox.prox_non_negative_ridge: likewise", lambda: POSITIVE(RIDGE(X, 2 * 0.7)),
        lambda: prox.prox_non_negative_ridge(X, 0.7), np.maximum(X, 0) / (1 + 2 * 0.7),
    ),
    Wrong(
        "prox.prox_group_lasso: no derivative at 0",
        lambda: jax.grad(lambda x: jnp.sum(x - projections.ball(0.5)(x)))(jnp.zeros(2)),
        lambda: jax.grad(lambda x: jnp.sum(prox.prox_group_lasso(x, 0.5)))(jnp.zeros(2)),
        np.zeros(2),
    ),
    Wrong(
        "projection.projection_l2_ball: no derivative at 0 under vmap",
        lambda: jax.vmap(jax.grad(lambda x: jnp.sum(projections.ball()(x))))(jnp.zeros((1, 2))),
        lambda: jax.vmap(jax.grad(lambda x: jnp.sum(there.projection_l2_ball(x))))(
            jnp.zeros((1, 2))
        ),
        np.ones((1, 2)),
    ),
    Wrong(
        "projection.projection_l1_ball: raises on a matrix",
        lambda: projections.ball(1.0, L1())(0.6 * jnp.eye(2)),
        lambda: there.projection_l1_ball(0.6 * jnp.eye(2), 1.0), np.eye(2) / 2,
    ),
    Wrong(
        "projection.projection_linf_ball: raises on trees",
        lambda: projections.ball(1.0, LInf())({"a": jnp.array([3.0])})["a"],
        lambda: there.projection_linf_ball({"a": jnp.array([3.0])})["a"], np.ones(1),
    ),
    Wrong(
        "projection.projection_simplex: the total lost beside large numbers",
        lambda: projections.simplex(7.0)(jnp.asarray(HUGE)),
        lambda: there.projection_simplex(jnp.asarray(HUGE), 7.0),
        np.array([7.0, 1.0, 0.0, 13.0]) / 3,
    ),
    Wrong(
        "projection.projection_transport: a derivative of 0",
        lambda: sideways(lambda S: onto_transport(S, *map(jnp.asarray, HALVES)), 1),
        lambda: transposed(lambda S: there.projection_transport(S, HALVES, **SEMI_DUAL), 1), CYCLE,
    ),
    Wrong(
        "projection.projection_birkhoff: likewise",
        lambda: sideways(lambda S: onto_transport(S, jnp.ones(3), jnp.ones(3)), 0),
        lambda: transposed(lambda S: there.projection_birkhoff(S, **SEMI_DUAL), 0), PERMUTING,
    ),
    Wrong(
        "LBFGS: a derivative that is off by a tenth where curvatures span four decades",
        lambda: slope(ours_in_bowl), lambda: slope(theirs_in_bowl),
        np.linalg.solve(BOWL, OUTER), 1e-10,  # the condition times some roundings
    ),
]  # fmt: skip
