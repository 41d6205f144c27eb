"""BFGS with limited memory, in the compact representation."""

from typing import NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from jaxopt_tut.optimizers.bfgs import is_curved, shorten
from jaxopt_tut.optimizers.learning_rate import scale_by_learning_rate
from jaxopt_tut.optimizers.line_search import wolfe
from jaxopt_tut.optimizers.objective import require_objective
from jaxopt_tut.optimizers.vectors import dot, ravel
from jaxopt_tut.trees import require_inexact


class ScaleByLBFGSState(NamedTuple):
    """What the next step of `scale_by_lbfgs` needs."""

    params: Float[Array, "dim"]  # of the last update
    grad: Float[Array, "dim"]  # of the last update
    has_point: Bool[Array, ""]  # whether there was a last update
    pairs: Float[Array, "2 memory dim"]  # steps and changes of the gradient, a ring, s^T y = 1
    inverse_triangle: Float[Array, "memory memory"]  # R^-1; zero rows where the ring is unused
    gram: Float[Array, "memory memory"]  # Y^T Y
    scale: Float[Array, ""]  # gamma; 0 as long as there is no pair
    count: Int[Array, ""]  # pairs absorbed so far


def scale_by_lbfgs(memory: int = 10) -> optax.GradientTransformation:
    r"""Precondition gradients by the BFGS matrix of the last few steps.

    $$u = \gamma g + S\, R^{-T} \left( (I + \gamma\, Y^T Y)\, R^{-1} S^T g - \gamma\, Y^T g \right)
    - \gamma\, Y R^{-1} S^T g, \qquad R_{ij} = s_i^T y_j \ (i \le j), \qquad
    \gamma = \frac{s^T y}{y^T y}$$

    The columns of $S$ and $Y$ are the last `memory` steps and changes of the gradient, scaled to
    $s_i^T y_i = 1$ (which changes nothing); $\gamma$ is that of the newest pair. It is the matrix of
    the two-loop recursion, read with two matrix products over the history instead of $4 m$
    vector operations: in one compiled loop the operations, not the numbers, take the time.
    $R^{-1}$ is kept up to date by one column a step.

    The first update is the gradient, shortened to length 1 at most. A pair without positive
    curvature is left out; after a step that did not move, or if $u$ does not ascend, the
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

    def init(params):
        require_inexact(params, "lbfgs")
        vector = jnp.zeros_like(ravel(params)[0])
        return ScaleByLBFGSState(
            params=vector,
            grad=vector,
            has_point=jnp.zeros([], bool),
            pairs=jnp.zeros((2, memory, vector.size), vector.dtype),
            inverse_triangle=jnp.zeros((memory, memory), vector.dtype),
            gram=jnp.zeros((memory, memory), vector.dtype),
            scale=jnp.zeros([], vector.dtype),
            count=jnp.zeros([], jnp.int32),
        )

    def update(updates, state, params=None):
        require_objective("lbfgs", updates, params)
        g, unravel = ravel(updates)
        w = ravel(params)[0]
        s, y = w - state.params, g - state.grad
        curved = state.has_point & is_curved(s, y)
        forgets = ~jnp.any(s != 0)
        state, products = _absorb(state, s, y, g, curved, forgets)
        direction = _apply(state, g, products)
        ascends = (state.scale > 0) & (dot(direction, g) > 0)
        state = state._replace(
            params=w,
            grad=g,
            has_point=jnp.ones_like(curved),
            inverse_triangle=jnp.where(ascends, state.inverse_triangle, 0),
            scale=jnp.where(ascends, state.scale, 0),
        )
        return unravel(jnp.where(ascends, direction, shorten(g))), state

    return optax.GradientTransformation(init, update)


def _absorb(state: ScaleByLBFGSState, s, y, g, curved, forgets):
    """Put a pair in the place of the oldest; also return the products of the history with g."""
    memory = state.gram.shape[0]
    place = state.count % memory
    root = jnp.sqrt(jnp.where(curved, dot(s, y), 1))
    newest = jnp.where(curved, jnp.stack([s, y]) / root, state.pairs[:, place])
    pairs = state.pairs.at[:, place].set(newest)
    flat = pairs.reshape(2 * memory, -1)
    both = dot(flat, jnp.stack([newest[1], g], axis=1))
    s_y, y_y = both[:memory, 0], both[memory:, 0]

    here = jnp.arange(memory, dtype=place.dtype) == place
    kept = ~(here | here[:, None]) & ~forgets
    triangle = jnp.where(kept, state.inverse_triangle, 0)
    column = jnp.where(here, 1, -dot(triangle, s_y))
    new_triangle = jnp.where(here, column[:, None], triangle)
    gram = jnp.where(here, y_y[:, None], jnp.where(here[:, None], y_y, state.gram))
    old_triangle = jnp.where(forgets, 0, state.inverse_triangle)
    state = state._replace(
        pairs=pairs,
        inverse_triangle=jnp.where(curved, new_triangle, old_triangle),
        gram=jnp.where(curved, gram, state.gram),
        scale=jnp.where(
            curved, 1 / dot(y_y, here.astype(y_y.dtype)), jnp.where(forgets, 0, state.scale)
        ),
        count=state.count + curved.astype(jnp.int32),
    )
    return state, both[:, 1]


def _apply(state: ScaleByLBFGSState, g, products):
    """Multiply g by the inverse Hessian that the history stands for."""
    memory = state.gram.shape[0]
    s_g, y_g = products[:memory], products[memory:]
    u = dot(state.inverse_triangle, s_g)
    inner = u + state.scale * (dot(state.gram, u) - y_g)
    coefficients = jnp.concatenate([dot(inner, state.inverse_triangle), -state.scale * u])
    return state.scale * g + dot(coefficients, state.pairs.reshape(2 * memory, -1))


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
