"""Newton's method without the matrix."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxopt_tut import control_flow
from jaxopt_tut.bilevel.equations.equation import EquationSolver, Vector, on_vectors, squared
from jaxopt_tut.bilevel.solvers import Objective, size_of
from jaxopt_tut.types import Params, PyTree, Scalar
from jaxopt_tut.vectors import norm, ravel

_HALVINGS = 30


class NewtonKrylovState(NamedTuple):
    """What the next step of `NewtonKrylov` needs."""

    last_norm: Float[Array, ""]  # of the residual before; 0 before the first step
    forcing: Float[Array, ""]  # relative residual to which the last system was solved


@dataclass(frozen=True)
class NewtonKrylov(EquationSolver):
    r"""Newton's method whose systems GMRES solves, no more exactly than pays.

    $$\lVert F + J p \rVert \le \eta_t \lVert F \rVert, \qquad
    \eta_t = 0.9\, \lVert F_t \rVert^2 / \lVert F_{t-1} \rVert^2$$

    and the step is halved until $\lVert F \rVert$ falls. For many unknowns: a product with $J$
    costs a derivative, and nothing of the size of the matrix is kept. GMRES is restarted, so a
    system that is far from a multiple of the identity wants a preconditioner: multiply `F` by it.

    Attributes:
      restart: Vectors that GMRES keeps.
      max_restarts: How often it starts anew in a step.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxopt_tut.bilevel import NewtonKrylov, root
      >>> F = lambda y, z: jnp.exp(y) - z
      >>> result = root(F, jnp.zeros(3), jnp.array([1.0, 2.0, 4.0]), solver=NewtonKrylov(), steps=9)
      >>> print(result.y.round(4))
      [0.     0.6931 1.3863]

    References:
      Eisenstat and Walker (1996), choice 2 with $\gamma = 0.9$. https://doi.org/10.1137/0917003
      Knoll and Keyes (2004), section 2. https://doi.org/10.1016/j.jcp.2003.08.010
    """

    restart: int = 30
    max_restarts: int = 10

    def init(self, y: Params, hp: PyTree) -> NewtonKrylovState:
        """Return the state before the first step."""
        del hp
        zero = jnp.zeros([], ravel(y)[0].dtype)
        return NewtonKrylovState(zero, zero + 0.5)

    def step(
        self, objective: Objective, y: Params, state: NewtonKrylovState, hp: PyTree
    ) -> tuple[Params, NewtonKrylovState, Float[Array, ""]]:
        """Solve one system, and go as far as the residual falls."""
        del hp
        flat, unravel, equation = on_vectors(objective, y)
        if not flat.size:  # which GMRES does not take
            return y, state, size_of(y)
        r, push = jax.linearize(equation, flat)
        length = norm(r)
        forcing = _forcing(length, state)
        p, _ = jax.scipy.sparse.linalg.gmres(
            push,
            -r,
            tol=cast(Any, forcing),  # an array will do
            restart=min(self.restart, flat.size),
            maxiter=self.max_restarts,
            solve_method="batched",
        )
        p = jnp.where(jnp.all(jnp.isfinite(p)), p, 0)
        share = _falling_share(equation, flat, p, squared(r), forcing)
        after = unravel(flat + share * p)
        return after, NewtonKrylovState(length, forcing), size_of(unravel(r))


def _forcing(length: Scalar, state: NewtonKrylovState) -> Scalar:
    """Return how exactly to solve: as the residual fell, so that no system is solved in vain."""
    is_first = state.last_norm == 0
    falling = length / jnp.where(is_first, 1, state.last_norm)
    choice = 0.9 * falling**2
    # not much more exact than the last time, while that was inexact
    safe = 0.9 * state.forcing**2
    choice = jnp.where(safe > 0.1, jnp.maximum(choice, safe), choice)
    eps = float(jnp.finfo(length.dtype).eps)
    return jnp.where(is_first, 0.5, jnp.clip(choice, 100 * eps, 0.9))


def _falling_share(
    equation: Callable[[Vector], Vector], flat: Vector, p: Vector, old: Scalar, forcing: Scalar
) -> Scalar:
    """Halve the step until the residual falls by a share of what was promised; else 0."""

    def falls(share: Float[Array, ""]) -> Array:
        promised = (1 - 1e-4 * share * (1 - forcing)) ** 2
        # at the root there is nothing but rounding to fall
        noise = 10 * float(jnp.finfo(flat.dtype).eps)
        return squared(equation(flat + share * p)) <= (promised + noise) * old

    is_unfinished = lambda carry: ~carry[1] & (carry[2] < _HALVINGS)
    start = jnp.ones([], flat.dtype), falls(jnp.ones([], flat.dtype)), jnp.zeros([], jnp.int32)
    share, found, _ = control_flow.while_loop(
        is_unfinished, lambda c: (c[0] / 2, falls(c[0] / 2), c[2] + 1), start
    )
    return jnp.where(found, share, 0)
