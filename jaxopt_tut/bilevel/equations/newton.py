"""Newton's method for equations, within a region of trust."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxopt_tut.bilevel.equations.equation import EquationSolver, Vector, on_vectors, squared
from jaxopt_tut.bilevel.solvers import Objective, size_of
from jaxopt_tut.types import Params, PyTree
from jaxopt_tut.vectors import matmul, norm, ravel, safe_ratio, safe_root


class NewtonState(NamedTuple):
    """What the next step of `Newton` needs."""

    radius: Float[Array, ""]  # of trust, in the scaled norm; 0 before the first step
    scale: Vector  # largest norms of the columns of the Jacobian so far


@dataclass(frozen=True)
class Newton(EquationSolver):
    r"""Newton's method within a region of trust: Powell's dogleg.

    $$J p = -F, \qquad y_{t+1} = y_t + p_t, \qquad J = \partial_y F(y_t, z)$$

    where the step, beyond the radius, bends towards the steepest descent of $\lVert F \rVert^2$,
    and is taken only if that falls. Near a regular root all steps are Newton's, and digits double.
    A step costs the Jacobian ($n$ derivatives) and a factorization, so up to some hundred unknowns;
    above, `NewtonKrylov`. At a singular root it converges linearly; where there is no root it ends
    at a stationary point of $\lVert F \rVert$, and `Info.converged` says so.

    Attributes:
      factor: The first radius, in units of the scaled start.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxopt_tut.bilevel import Newton, root
      >>> circle_and_line = lambda y, z: jnp.array([y @ y - z, y[0] - y[1]])
      >>> print(root(circle_and_line, jnp.array([1.0, 0.5]), 8.0, solver=Newton(), steps=9).y)
      [2. 2.]

    References:
      Powell (1970), A hybrid method for nonlinear equations; as in MINPACK's hybrj, Moré, Garbow
      and Hillstrom (1980), ANL-80-74.
    """

    factor: float = 100.0

    def init(self, y: Params, hp: PyTree) -> NewtonState:
        """Return the state before the first step."""
        del hp
        vector = jnp.zeros_like(ravel(y)[0])
        return NewtonState(jnp.zeros([], vector.dtype), vector)

    def step(
        self, objective: Objective, y: Params, state: NewtonState, hp: PyTree
    ) -> tuple[Params, NewtonState, Float[Array, ""]]:
        """Take one step, or shorten the radius."""
        del hp
        flat, unravel, equation = on_vectors(objective, y)
        r, push = jax.linearize(equation, flat)
        jacobian = jax.vmap(push, in_axes=1, out_axes=1)(jnp.eye(flat.size, dtype=flat.dtype))
        scale = jnp.maximum(state.scale, safe_root(jnp.sum(jacobian**2, axis=0)))
        d = jnp.where(scale > 0, scale, 1)
        start = self.factor * jnp.where(norm(d * flat) > 0, norm(d * flat), 1)
        is_first = state.radius == 0
        radius = jnp.where(is_first, start, state.radius)
        p = _dogleg(jacobian, r, d, radius)
        length = norm(d * p)
        radius = jnp.where(is_first, jnp.minimum(radius, length), radius)
        old, new, model = squared(r), squared(equation(flat + p)), squared(r + matmul(jacobian, p))
        # at the root both are rounding errors, whose ratio must tend to 1
        noise = 10 * jnp.finfo(flat.dtype).eps * old + jnp.finfo(flat.dtype).tiny
        ratio = (old - new + noise) / (old - model + noise)
        is_taken = (ratio > 1e-4) & jnp.isfinite(new)
        grown = jnp.where(jnp.abs(ratio - 1) < 0.1, 2 * length, jnp.maximum(radius, 2 * length))
        radius = jnp.where(ratio < 0.1, radius / 2, jnp.where(ratio < 0.5, radius, grown))
        radius = jnp.where(jnp.isfinite(new), radius, jnp.minimum(radius, length) / 4)
        radius = jnp.maximum(radius, jnp.finfo(flat.dtype).tiny)  # 0 means the first step
        after = unravel(jnp.where(is_taken, flat + p, flat))
        return after, NewtonState(radius, scale), size_of(unravel(r))


def _dogleg(
    jacobian: Float[Array, "dim dim"], r: Vector, d: Vector, radius: Float[Array, ""]
) -> Vector:
    """Return Newton's step, bent towards steepest descent where it is longer than the radius."""
    newton = -jnp.linalg.solve(jacobian, r)  # what is not finite does not fit, nor bends the step
    fits = norm(d * newton) <= radius
    steepest = -matmul(r, jacobian) / d**2
    along = norm(d * steepest)
    bend = norm(matmul(jacobian, steepest))
    cauchy = safe_ratio(along, bend, where=bend > 0) ** 2 * steepest
    reach = norm(d * cauchy)
    cut = safe_ratio(radius, along, where=along > 0) * steepest
    # |D (cauchy + t (newton - cauchy))| = radius
    rest = jnp.where(jnp.isfinite(newton), newton - cauchy, 0)
    a, b = norm(d * rest) ** 2, jnp.sum(d * cauchy * d * rest)
    c = jnp.maximum(radius**2 - reach**2, 0)
    t = safe_ratio(c, b + safe_root(jnp.maximum(b**2 + a * c, 0)), where=a > 0)
    bent = jnp.where(reach >= radius, cut, cauchy + jnp.clip(t, 0, 1) * rest)
    return jnp.where(fits, newton, bent)
