"""A quadratic program whose active constraints are known: one linear system, differentiable."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxopt_tut import control_flow
from jaxopt_tut.bilevel.layers.qp_program import (
    Point,
    Program,
    activity,
    residuals_at,
    sizes_at,
)
from jaxopt_tut.bilevel.layers.symmetric_solve import factorized
from jaxopt_tut.vectors import matmul

_MAX_CHANGES = 12
_ROUNDING = 2  # of the terms of a condition: a violation by more is one


def solve_active(program: Program, active: Bool[Array, "inequalities"]) -> Point:
    r"""Minimise with some inequalities as equalities and without the others.

    $$\begin{pmatrix} P & A^T & G_a^T \\ A & & \\ G_a & & -(1 - a) \end{pmatrix}
    \begin{pmatrix} x \\ \nu \\ \mu \end{pmatrix} =
    \begin{pmatrix} -q \\ b \\ a h \end{pmatrix}$$

    Derivatives are those of this system, to any order.
    """
    P, q, A, b, G, h = program
    a = jax.lax.stop_gradient(active.astype(q.dtype))
    dim, equal = q.size, b.size

    def conditions(z):
        x, nu, mu = jnp.split(z, [dim, dim + equal])
        dual = matmul(P, x) + matmul(A.T, nu) + matmul(G.T, a * mu)
        return jnp.concatenate([dual, matmul(A, x), a * matmul(G, x) - (1 - a) * mu])

    # conditions() as a matrix; multipliers of what is not active are 0 by a row of their own, so
    # that the system has one shape whatever is active
    zeros = lambda rows, columns: jnp.zeros((rows, columns), q.dtype)
    matrix = jnp.block(
        [
            [P, A.T, G.T * a],
            [A, zeros(equal, equal), zeros(equal, h.size)],
            [a[:, None] * G, zeros(h.size, equal), jnp.diag(a - 1)],
        ]
    )
    signs = jnp.concatenate([jnp.ones_like(q), -jnp.ones_like(b), -jnp.ones_like(h)])
    solve = factorized(*jax.lax.stop_gradient((matrix, signs)))
    right = jnp.concatenate([-q, b, a * h])
    # derivatives feel the matrix through `conditions` alone; its factors are constants
    z = jax.lax.custom_linear_solve(
        conditions, right, lambda _, right: solve(right), symmetric=True
    )
    return Point(*jnp.split(z, [dim, dim + equal]))


def is_active(program: Program, point: Point) -> Bool[Array, "inequalities"]:
    """Tell which constraints press: those whose multiplier is larger than their slack."""
    slack, multiplier = activity(program, point, sizes_at(program, point))
    return multiplier > jnp.maximum(slack, _ROUNDING * jnp.finfo(slack.dtype).eps)


class _State(NamedTuple):
    active: Bool[Array, "inequalities"]
    best: Bool[Array, "inequalities"]
    error: Float[Array, ""]
    count: Int[Array, ""]
    done: Bool[Array, ""]


def settle(program: Program, active: Bool[Array, "inequalities"]) -> Bool[Array, "inequalities"]:
    """Exchange constraints until those that press are those that hold with equality."""
    # Hintermüller et al. (2002), algorithm 1. https://doi.org/10.1137/S1052623401383558
    rounding = _ROUNDING * jnp.finfo(program.q.dtype).eps

    def exchange(s: _State) -> _State:
        point = solve_active(program, s.active)
        error = residuals_at(program, point).largest()
        is_better = error < s.error
        slack, multiplier = activity(program, point, sizes_at(program, point))
        # out goes what pulls instead of pressing, in comes what is violated by more than rounding
        new = jnp.where(s.active, multiplier > 0, slack < -rounding)
        return _State(
            active=new,
            best=jnp.where(is_better, s.active, s.best),
            error=jnp.where(is_better, error, s.error),
            count=s.count + 1,
            done=jnp.all(new == s.active) | (error <= rounding),
        )

    first = _State(
        active,
        active,
        jnp.asarray(jnp.inf, program.q.dtype),
        jnp.zeros((), jnp.int32),
        jnp.zeros((), bool),
    )
    unfinished = lambda s: ~s.done & (s.count < _MAX_CHANGES)
    return control_flow.while_loop(unfinished, exchange, first).best
