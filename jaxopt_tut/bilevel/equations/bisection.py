"""Bisection: the safest root of a function of one unknown."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxopt_tut import control_flow
from jaxopt_tut.bilevel.equations.equation import EquationSolver
from jaxopt_tut.bilevel.solvers import Objective, size_of
from jaxopt_tut.types import Params, PyTree


class BisectionState(NamedTuple):
    """The bracket, and the sign of the function at its lower end; 0 before the first step."""

    lower: Float[Array, "..."]
    upper: Float[Array, "..."]
    sign: Float[Array, "..."]


@dataclass(frozen=True)
class Bisection(EquationSolver):
    r"""Halve a bracket in which a continuous function of one unknown changes its sign.

    $$y_t = \tfrac12 (l_t + u_t), \qquad l_{t+1} = y_t \ \text{ if } F(y_t) F(l_t) > 0,
    \ \text{ else } u_{t+1} = y_t$$

    One binary digit and one evaluation a step: 24 or 53 exhaust a bracket of about 1 in float32 or
    float64. The start `y0` says no more than the shape and the dtype. An array of unknowns is as
    many brackets, each halved for itself, if every entry of `F` depends on its own unknown alone.
    A bracket without a change of sign ends at one of its ends, with `Info.converged` false unless
    it is a root.

    Attributes:
      lower: $l_0$, a number or an array.
      upper: $u_0$, likewise.

    Example:
      >>> from jaxopt_tut.bilevel import Bisection, root
      >>> result = root(lambda y, z: y**3 - z, 0.0, 8.0, solver=Bisection(0.0, 5.0), steps=25)
      >>> print(result.y.round(5))
      2.0

    References:
      Burden and Faires (2011), Numerical analysis, section 2.1.
    """

    lower: ArrayLike
    upper: ArrayLike

    def init(self, y: Params, hp: PyTree) -> BisectionState:
        """Return the bracket."""
        del hp
        if not jax.tree_util.all_leaves([y]):
            raise TypeError(f"Bisection needs an array of unknowns, got a {type(y).__name__}.")
        y = jnp.asarray(y)
        lower, upper = (
            jnp.broadcast_to(jnp.asarray(end).astype(y.dtype), y.shape)
            for end in (self.lower, self.upper)
        )
        return BisectionState(lower, upper, jnp.zeros_like(lower))

    def step(
        self, objective: Objective, y: Params, state: BisectionState, hp: PyTree
    ) -> tuple[Params, BisectionState, Float[Array, ""]]:
        """Halve the bracket."""
        del y, hp  # the bracket says where to look
        is_first = jnp.all(state.sign == 0)
        sign = control_flow.cond(
            is_first,
            lambda s: jnp.sign(jnp.asarray(objective(s.lower), s.lower.dtype)),
            lambda s: s.sign,
            state,
        )
        middle = state.lower + (state.upper - state.lower) / 2
        value = jnp.asarray(objective(middle), middle.dtype)
        is_left = jnp.sign(value) == sign
        after = BisectionState(
            jnp.where(is_left, middle, state.lower), jnp.where(is_left, state.upper, middle), sign
        )
        return middle, after, jnp.where(is_first, jnp.inf, size_of(value))
