"""BFGS with limited memory, in the compact representation."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from jaxopt_tut.optimizers.learning_rate import scale_by_learning_rate
from jaxopt_tut.optimizers.line_search import wolfe
from jaxopt_tut.optimizers.objective import require_objective
from jaxopt_tut.optimizers.vectors import dot, ravel
from jaxopt_tut.trees import require_inexact


class ScaleByLBFGSState(NamedTuple):
    """What the next step of `scale_by_lbfgs` needs.

    `rows` holds what is multiplied with the gradient, so that one product does: a ring of
    `memory + 1` steps, as many changes of the gradient, and the gradient of the last update. The
    place after the newest pair is free to take one that may yet be rejected.
    """

    params: Float[Array, "dim"]  # of the last update
    rows: Float[Array, "2*memory+3 dim"]
    inverse_triangle: Float[Array, "memory+1 memory+1"]  # R^-1; zero where the ring is unused
    gram: Float[Array, "memory+1 memory+1"]  # Y^T Y
    curvatures: Float[Array, "memory+1"]  # s^T y
    scale: Float[Array, ""]  # gamma; 0 as long as there is no pair
    count: Int[Array, ""]  # pairs absorbed so far; -1 before the first update


def scale_by_lbfgs(memory: int = 10) -> optax.GradientTransformation:
    r"""Precondition gradients by the BFGS matrix of the last few steps.

    $$u = \gamma g + S\, R^{-T} \left( (D + \gamma\, Y^T Y)\, R^{-1} S^T g - \gamma\, Y^T g \right)
    - \gamma\, Y R^{-1} S^T g, \qquad R_{ij} = s_i^T y_j \ (i \le j), \qquad
    D = \mathrm{diag}(s_i^T y_i), \qquad \gamma = \frac{s^T y}{y^T y}$$

    The columns of $S$ and $Y$ are the last `memory` steps and changes of the gradient; $\gamma$ is
    that of the newest pair. It is the matrix of the two-loop recursion, read with two matrix
    products over the history instead of $4 m$ vector operations: in one compiled loop the number
    of operations takes the time. $R^{-1}$ is kept up to date by one column a step.

    The first update is the gradient, shortened to length 1 at most. A pair without positive
    curvature is left out; where the gradient did not change, as after a failed line search, the
    history is forgotten.

    Args:
      memory: How many pairs $m \ge 1$ are kept; $2m$ copies of the parameters.

    Returns:
      A transformation from gradients to preconditioned gradients; `update` needs `params`.

    Raises:
      TypeError: If a parameter is neither floating nor complex.
      ValueError: If `memory` is below 1; from `update`, if `params` is missing or the gradients
        don't match them.

    Example:
      After one step the curvature 4 along it is known, so the next one is Newton's.

      >>> import jax.numpy as jnp
      >>> precondition = scale_by_lbfgs(memory=3)
      >>> state = precondition.init(jnp.array([1.0]))
      >>> for w in (jnp.array([1.0]), jnp.array([0.5])):
      ...     update, state = precondition.update(4 * w, state, w)
      >>> print(update.round(4))
      [0.5]

    References:
      Byrd, Nocedal and Schnabel (1994), Representations of quasi-Newton matrices, eq. (3.1).
      https://doi.org/10.1007/BF01582063
    """
    if not isinstance(memory, int) or memory < 1:
        raise ValueError(f"lbfgs needs an integer memory >= 1, got memory={memory!r}.")

    size = memory + 1

    def init(params):
        require_inexact(params, "lbfgs")
        vector = jnp.zeros_like(ravel(params)[0])
        return ScaleByLBFGSState(
            params=vector,
            rows=jnp.zeros((2 * size + 1, vector.size), vector.dtype),
            inverse_triangle=jnp.zeros((size, size), vector.dtype),
            gram=jnp.zeros((size, size), vector.dtype),
            curvatures=jnp.zeros(size, vector.dtype),
            scale=jnp.zeros([], vector.dtype),
            count=jnp.full([], -1, jnp.int32),
        )

    def update(updates, state, params=None):
        require_objective("lbfgs", updates, params)
        g, unravel = ravel(updates)
        w = ravel(params)[0]
        y = g - state.rows[-1]
        place = jnp.maximum(state.count, 0) % size
        rows = state.rows.at[place].set(w - state.params)
        rows = rows.at[size + place].set(y).at[-1].set(g)
        products = dot(rows, jnp.stack([y, g], axis=1))
        state = _absorb(state._replace(params=w, rows=rows), place, products)
        return unravel(dot(_coefficients(state, products[:, 1]), rows)), state

    return optax.GradientTransformation(init, update)


def _absorb(state: ScaleByLBFGSState, place, products) -> ScaleByLBFGSState:
    """Count the pair in `place` in if it is curved, which drops the oldest one."""
    size = len(state.gram)
    here = jnp.arange(size, dtype=place.dtype) == place
    next_place = jnp.where(place + 1 == size, 0, place + 1)
    oldest = jnp.arange(size, dtype=place.dtype) == next_place
    s_y, y_y = products[:size, 0], products[size : 2 * size, 0]
    sy, yy, sg = s_y[place], y_y[place], products[place, 1]
    has_point = state.count >= 0
    # g - y is the last gradient; along the step it fell by a share that is more than rounding
    curved = has_point & (sy > jnp.finfo(sy.dtype).eps * jnp.abs(sg - sy)) & (yy < jnp.inf)
    forgets = yy == 0

    triangle = jnp.where(forgets, 0, state.inverse_triangle)
    kept = ~(here | oldest)
    old = jnp.where(kept & kept[:, None], triangle, 0)
    column = (here.astype(sy.dtype) - dot(old, s_y)) / jnp.where(curved, sy, 1)
    return state._replace(
        inverse_triangle=jnp.where(curved, jnp.where(here, column[:, None], old), triangle),
        gram=jnp.where(here, y_y[:, None], jnp.where(here[:, None], y_y, state.gram)),
        curvatures=jnp.where(here, sy, state.curvatures),
        scale=jnp.where(curved, sy / yy, jnp.where(forgets, 0, state.scale)),
        count=jnp.maximum(state.count + curved.astype(jnp.int32), 0),
    )


def _coefficients(state: ScaleByLBFGSState, products: Float[Array, "rows"]) -> Float[Array, "rows"]:
    """Return by how much each row counts in the product of the inverse Hessian and g."""
    size = len(state.gram)
    s_g, y_g, gg = products[:size], products[size : 2 * size], products[-1]
    u = dot(state.inverse_triangle, s_g)
    inner = state.curvatures * u + state.scale * (dot(state.gram, u) - y_g)
    of_gradient = jnp.where(state.scale > 0, state.scale, jax.lax.rsqrt(jnp.maximum(gg, 1)))
    return jnp.concatenate(
        [dot(state.inverse_triangle.T, inner), -state.scale * u, of_gradient[None]]
    )


_WOLFE = wolfe()


def lbfgs(
    learning_rate: optax.ScalarOrSchedule = 1.0,
    *,
    memory: int = 10,
    line_search: optax.GradientTransformation = _WOLFE,
) -> optax.GradientTransformationExtraArgs:
    r"""Build the L-BFGS method.

    $$w_{t+1} = w_t - \alpha_t\, \eta\, H_t g_t$$

    with $H_t g_t$ from `scale_by_lbfgs` and $\alpha_t$ from the line search. The first choice for a
    smooth loss of many parameters whose gradient has no noise. Each step costs the evaluations of
    the line search (mostly one) and two passes over $2 m$ copies of the parameters.

    Args:
      learning_rate: Scale $\eta$ of the first step tried; 1 is right for quasi-Newton methods.
      memory: How many pairs $m \ge 1$ are kept; 5 to 20, more on ill-conditioned problems.
      line_search: What chooses $\alpha$, e.g. `line_search.armijo()`, or `optax.identity()` for
        $\alpha = 1$.

    Returns:
      A transformation whose updates are *added* to the parameters; `update` needs `params`, and
      `value_fn=` for the line search.

    Raises:
      TypeError: If `learning_rate` is neither a number, an array nor a function; from `init`, if a
        parameter is neither floating nor complex.
      ValueError: If `memory` is below 1, or if `learning_rate` is no scalar, or is static and not
        finite; from `update`, if `params` or `value_fn` is missing or the gradients don't match
        the parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxopt_tut.optimizers import minimize
      >>> bowl = lambda w: jnp.sum(jnp.array([1.0, 10.0, 100.0]) * (w - 2) ** 2)
      >>> print(minimize(bowl, jnp.zeros(3), lbfgs()).params.round(2))
      [2. 2. 2.]

    References:
      Nocedal and Wright (2006), algorithm 7.5. https://doi.org/10.1007/978-0-387-40065-5
    """
    return optax.chain(
        scale_by_lbfgs(memory), scale_by_learning_rate(learning_rate, caller="lbfgs"), line_search
    )
