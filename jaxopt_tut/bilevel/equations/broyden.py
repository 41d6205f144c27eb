"""Broyden's method: one derivative at the start, none later."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxopt_tut import control_flow
from jaxopt_tut.bilevel.equations.equation import EquationSolver, Vector, on_vectors
from jaxopt_tut.bilevel.solvers import Objective, size_of
from jaxopt_tut.types import Params, PyTree, Scalar
from jaxopt_tut.vectors import dot, matmul, norm, ravel, safe_ratio

_HALVINGS = 20


class BroydenState(NamedTuple):
    """What the next step of `Broyden` needs."""

    inverse: Float[Array, "dim dim"]  # of the Jacobian, nearly
    residual: Vector  # at the point the step leaves
    count: Int[Array, ""]


@dataclass(frozen=True)
class Broyden(EquationSolver):
    r"""Broyden's good method: the inverse Jacobian of the start, corrected by every step.

    $$H_{t+1} = H_t + \frac{(s - H_t q)\, s^T H_t}{s^T H_t q}, \qquad s = y_{t+1} - y_t, \quad
    q = F_{t+1} - F_t, \qquad y_{t+1} = y_t - \alpha_t H_t F_t$$

    where $\alpha_t$ is halved until $\lVert F \rVert$ does not grow by more than a summable share.
    One evaluation a step, mostly, and no derivative after the first: for equations whose Jacobian
    costs much. Converges superlinearly from near a regular root; from afar `Newton` is safer.
    Keeps a matrix of $n^2$ numbers.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxopt_tut.bilevel import Broyden, root
      >>> circle_and_line = lambda y, z: jnp.array([y @ y - z, y[0] - y[1]])
      >>> print(root(circle_and_line, jnp.array([1.0, 1.5]), 8.0, solver=Broyden(), steps=15).y)
      [2. 2.]

    References:
      Broyden (1965), eqs. (4.5) and (6.2). https://doi.org/10.1090/S0025-5718-1965-0198670-6
      Li and Fukushima (2000), eq. (2.5), for $\alpha$. https://doi.org/10.1080/10556780008805782
    """

    wanders: ClassVar[bool] = True

    def init(self, y: Params, hp: PyTree) -> BroydenState:
        """Return the state before the first step."""
        del hp
        vector = jnp.zeros_like(ravel(y)[0])
        square = jnp.zeros((vector.size, vector.size), vector.dtype)
        return BroydenState(square, vector, jnp.zeros([], jnp.int32))

    def step(
        self, objective: Objective, y: Params, state: BroydenState, hp: PyTree
    ) -> tuple[Params, BroydenState, Float[Array, ""]]:
        """Take one step, and learn from it."""
        del hp
        flat, unravel, equation = on_vectors(objective, y)
        identity = jnp.eye(flat.size, dtype=flat.dtype)

        def first(_: BroydenState) -> tuple[Array, Array]:
            r, push = jax.linearize(equation, flat)
            jacobian = jax.vmap(push, in_axes=1, out_axes=1)(identity)
            inverse = jnp.linalg.inv(jacobian)
            return jnp.where(jnp.all(jnp.isfinite(inverse)), inverse, identity), r

        inverse, r = control_flow.cond(
            state.count == 0, first, lambda state: (state.inverse, state.residual), state
        )
        p = -matmul(inverse, r)
        p = jnp.where(jnp.all(jnp.isfinite(p)), p, 0)  # a start without values stays
        growth = 1 / (1 + state.count.astype(flat.dtype)) ** 2
        share, new_r = _share(equation, flat, p, r, growth)
        s, q = share * p, new_r - r
        h_q, s_h = matmul(inverse, q), matmul(s, inverse)
        product = dot(s, h_q)
        is_useful = jnp.abs(product) > 1e-8 * norm(s) * norm(h_q)
        correction = safe_ratio(jnp.outer(s - h_q, s_h), product, where=is_useful)
        after = BroydenState(inverse + correction, new_r, state.count + 1)
        return unravel(flat + s), after, size_of(unravel(r))


def _share(
    equation: Callable[[Vector], Vector], flat: Vector, p: Vector, r: Vector, growth: Scalar
) -> tuple[Scalar, Vector]:
    """Halve the step while the residual grows too much; return the share and the residual."""
    old = norm(r)

    def look(share: Float[Array, ""], tries: Int[Array, ""]) -> tuple:
        new = equation(flat + share * p)
        limit = (1 + growth) * old - 1e-3 * norm(share * p) ** 2
        bad = ~(norm(new) <= jnp.maximum(limit, 0.9 * old))
        return share, new, bad, tries

    one = jnp.ones([], flat.dtype)
    share, new, bad, _ = control_flow.while_loop(
        lambda carry: carry[2] & (carry[3] < _HALVINGS),
        lambda carry: look(carry[0] / 2, carry[3] + 1),
        look(one, jnp.zeros([], jnp.int32)),
    )
    stays = bad & ~jnp.all(jnp.isfinite(new))
    return jnp.where(stays, 0, share), jnp.where(stays, r, new)
