"""The way to the active constraints of a quadratic program: along the central path."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from jaxopt_tut import control_flow
from jaxopt_tut.bilevel.layers.qp_program import Point, Program, residuals_at
from jaxopt_tut.bilevel.layers.symmetric_solve import factorized
from jaxopt_tut.vectors import matmul, safe_ratio

_MAX_STEPS = 80
_PATIENCE = 12


class PathPoint(NamedTuple):
    """Unknowns, and the slacks, which are kept positive apart from `h - Gx`."""

    x: Float[Array, "dim"]
    nu: Float[Array, "equalities"]
    mu: Float[Array, "inequalities"]
    slack: Float[Array, "inequalities"]


class _State(NamedTuple):
    point: PathPoint
    best: Point
    error: Float[Array, ""]
    count: Int[Array, ""]
    best_at: Int[Array, ""]


def follow_path(program: Program, tol: float) -> tuple[Point, Int[Array, ""]]:
    """Follow the central path by predictor and corrector, until the residuals are small.

    Steps, products and ratios are the same in any units; only the start looks at lengths. It is the
    origin, with the slacks that there are (so that a bound far off neither pulls nor loses digits)
    and with multipliers that make all products equal.
    """
    # Mehrotra (1992), section 2. https://doi.org/10.1137/0802028
    length, pull = _scales(program)
    # a bound so far away is none; the residuals of the solution are taken with all of them
    is_near = program.h < length / jnp.finfo(program.q.dtype).eps ** 2
    P, q, A, b, G, h = program._replace(
        G=jnp.where(is_near[:, None], program.G, 0), h=jnp.where(is_near, program.h, length)
    )
    num_unequal = h.size

    # P x + q + A' nu + G' mu = 0, A x = b, G x + slack = h, mu * slack = complement -> 0
    def newton(p: PathPoint) -> Callable[[Array], PathPoint]:
        """Factorize once, for steps to no residuals and `mu * slack - complement = 0`."""
        dual = matmul(P, p.x) + q + matmul(A.T, p.nu) + matmul(G.T, p.mu)
        equal, unequal = matmul(A, p.x) - b, matmul(G, p.x) + p.slack - h
        # mu and slack eliminated: what is left is definite on the null space of A
        weight = p.mu / p.slack
        zeros = jnp.zeros((b.size, b.size), q.dtype)
        matrix = jnp.block([[P + matmul(G.T * weight, G), A.T], [A, zeros]])
        solve = factorized(matrix, jnp.concatenate([jnp.ones_like(q), -jnp.ones_like(b)]))

        def towards(complement: Array) -> PathPoint:
            pulled = matmul(G.T, weight * unequal - complement / p.slack)
            step = solve(jnp.concatenate([-dual - pulled, -equal]))
            dx = step[: q.size]
            dslack = -unequal - matmul(G, dx)
            return PathPoint(dx, step[q.size :], -(complement + p.mu * dslack) / p.slack, dslack)

        return towards

    def longest(p: PathPoint, d: PathPoint) -> Array:
        """Return the share of the step that keeps slacks and multipliers positive."""
        values = jnp.concatenate([p.mu, p.slack])
        changes = jnp.concatenate([d.mu, d.slack])
        ratios = safe_ratio(-values, changes, where=changes < 0, otherwise=jnp.inf)
        return jnp.minimum(1.0, jnp.min(ratios, initial=jnp.inf))

    def move(p: PathPoint, d: PathPoint, share: Array) -> PathPoint:
        return jax.tree.map(lambda a, b: a + share * b, p, d)

    def advance(state: _State) -> _State:
        p = state.point
        product = p.mu * p.slack
        gap = jnp.sum(product) / num_unequal
        towards = newton(p)
        # the predictor aims at the end of the path; how far it gets says how much to centre
        affine = towards(product)
        reached = move(p, affine, longest(p, affine))
        left = jnp.sum(reached.mu * reached.slack) / num_unequal
        centring = (left / jnp.where(gap > 0, gap, 1)) ** 3
        # the corrector takes in what the affine step leaves at second order
        d = towards(product + affine.mu * affine.slack - centring * gap)
        p = move(p, d, (1 - 1e-3) * longest(p, d))  # short of the boundary
        point = Point(p.x, p.nu, p.mu)
        error = residuals_at(program, point).largest()
        count = state.count + 1
        is_better = error < state.error
        return _State(
            p,
            optax.tree.where(is_better, point, state.best),
            jnp.where(is_better, error, state.error),
            count,
            jnp.where(error < 0.9 * state.error, count, state.best_at),
        )

    slack = jnp.maximum(h, length)
    start = PathPoint(jnp.zeros_like(q), jnp.zeros_like(b), pull * (length / slack), slack)
    zero = jnp.zeros((), jnp.int32)
    infinity = jnp.asarray(jnp.inf, q.dtype)
    first = _State(start, Point(start.x, start.nu, start.mu), infinity, zero, zero)
    unfinished = lambda s: (
        (s.error > tol)
        & (s.count < _MAX_STEPS)
        & (s.count - s.best_at < _PATIENCE)
        & jnp.all(jnp.isfinite(s.point.x))
    )
    last = control_flow.while_loop(unfinished, advance, first)
    return last.best, last.count


def _scales(program: Program) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Guess how long the solution is, and how large its gradient."""
    P, q, _, b, _, h = (jnp.max(jnp.abs(leaf), initial=0.0) for leaf in program)
    or_infinite = lambda size: jnp.where(size > 0, size, jnp.inf)
    free = or_infinite(safe_ratio(q, P, where=P > 0))
    length = jnp.maximum(b, jnp.minimum(free, or_infinite(h)))
    length = jnp.where((length > 0) & (length < jnp.inf), length, 1)
    pull = jnp.maximum(q, P * length)
    return length, jnp.where(pull > 0, pull, 1)
