"""The trust-region Newton method: with the Hessian while it is small, else matrix-free."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_tut import control_flow, counts
from jaxopt_tut.blocks import shown
from jaxopt_tut.hyperparameters import cast, require_finite, require_positive
from jaxopt_tut.linalg import BallMinimum, ball_minimum, truncated_cg
from jaxopt_tut.losses import value_and_ascent
from jaxopt_tut.optimizers.newton_cg import hessian_product
from jaxopt_tut.optimizers.objective import bind, require_objective
from jaxopt_tut.trees import require_inexact
from jaxopt_tut.types import Count, Flag, Limit, Number, PyTree, Scalar
from jaxopt_tut.vectors import magnitude, norm, ravel

_MAX_DENSE = 512
"""Parameters up to which an exact minimum is compiled where `max_dense` is an array."""


@shown
class TrustRegionState(NamedTuple):
    """The radius, and what is known at the point stepped to (or stayed at)."""

    radius: Scalar
    value: Scalar
    grad: PyTree
    accepted: Flag  # whether the last step was taken
    failed: Flag  # whether the radius has shrunk to nothing
    num_evaluations: Count  # of the value and its gradient, in the last update
    num_products: Count  # of the Hessian and a vector, in the last update
    metric = "dense"  # see `stationarity`


def trust_region(
    *, initial_radius: Number = 1.0, max_products: Limit | None = None, max_dense: Limit = 64
) -> optax.GradientTransformationExtraArgs:
    r"""Build the trust-region Newton method.

    $$u_t \approx \arg\min_{\lVert u \rVert \le \Delta_t} g_t^T u + \tfrac12 u^T H_t u, \qquad
    \rho_t = \frac{f(w_t) - f(w_t + u_t)}{-g_t^T u_t - \tfrac12 u_t^T H_t u_t}$$

    Up to `max_dense` parameters $u_t$ is the exact minimum, from an eigendecomposition of the
    Hessian, which also parameters in very different units do not mislead; above, it is Steihaug's,
    from conjugate gradients.

    The step is taken if $\rho_t > 10^{-4}$, else the update is 0. The radius $\Delta$ shrinks to
    $\lVert u_t \rVert / 4$ if $\rho_t < 1/4$, and doubles if $\rho_t > 3/4$ and the step ends on
    the boundary. The most robust method here: it uses negative curvature instead of avoiding it,
    and needs no line search. A step costs one value with its gradient and some Hessian products
    (for the exact minimum as many as there are parameters), each about two gradients.

    Args:
      initial_radius: $\Delta_0 > 0$, in units of the parameters; may be traced. It is raised to
        100 units of rounding of the parameters' length.
      max_products: Hessian products of a step of Steihaug's at most; `None` means 10 times the
        number of parameters, but no more than 1000.
      max_dense: Up to how many parameters the model is minimised exactly; 0 for never.

    Returns:
      A transformation whose updates are *added* to the parameters; `update` needs `params` and
      `value_fn=`. It takes gradients as they are: it is a whole chain by itself.

    Raises:
      TypeError: If `initial_radius` is no number, or a parameter neither floating nor complex.
      ValueError: If a static `initial_radius` is not positive and finite, or `max_products` is
        below 1 or `max_dense` below 0; from `update`, if `params` or `value_fn` is missing or the
        gradients don't match the parameters.

    Example:
      Near a saddle point the gradient hardly shows the way, but the curvature does.

      >>> import jax.numpy as jnp
      >>> from jaxopt_tut.optimizers import minimize
      >>> saddle = lambda w: w[0] ** 2 + (w[1] ** 2 - 1) ** 2
      >>> print(minimize(saddle, jnp.array([1.0, 1e-3]), trust_region()).params[1].round(3))
      1.0

    References:
      Nocedal and Wright (2006), algorithms 4.1, 4.3 and 7.2.
      https://doi.org/10.1007/978-0-387-40065-5
    """
    require_finite("trust_region", initial_radius=initial_radius)
    require_positive("trust_region", initial_radius=initial_radius)
    if max_products is not None and counts.is_below(max_products, 1):
        raise ValueError(f"trust_region needs max_products >= 1, got max_products={max_products}.")
    if counts.is_below(max_dense, 0):
        raise ValueError(f"trust_region needs max_dense >= 0, got max_dense={max_dense}.")

    def init(params):
        require_inexact(params, "trust_region")
        w = ravel(params)[0]
        dtype = w.dtype
        # within the rounding of the parameters no step would show whether the model is right
        least = 100 * jnp.finfo(dtype).eps * norm(w)
        return TrustRegionState(
            radius=jnp.fmax(cast(initial_radius, dtype), least),
            value=jnp.full([], jnp.inf, dtype),
            grad=jax.tree.map(jnp.zeros_like, params),
            accepted=jnp.zeros([], bool),
            failed=jnp.zeros([], bool),
            num_evaluations=jnp.zeros([], jnp.int32),
            num_products=jnp.zeros([], jnp.int32),
        )

    def update(
        updates, state, params: Any = None, *, value=None, value_fn: Any = None, **extra_args
    ):
        require_objective("trust_region", updates, params, value_fn=value_fn)
        fun = bind(value_fn, extra_args)
        g, unravel = ravel(updates)
        num_evaluations = 1 if value is not None else 2
        value = jnp.asarray(fun(params) if value is None else value, g.dtype)
        size = norm(g)
        product = hessian_product(fun, params)

        # the model: its minimum in the ball, from the whole Hessian or from products with it
        def exact() -> tuple[BallMinimum, Any]:
            hessian = jax.vmap(product)(jnp.eye(g.size, dtype=g.dtype))
            # in units of its size, so that no square of an eigenvalue over- or underflows; a step
            # minimises a multiple of the model as well
            unit = magnitude(hessian, g)
            scaled = hessian / unit
            found = ball_minimum((scaled + scaled.T) / 2, g / unit, state.radius)
            found = found._replace(decrease=unit * found.decrease)
            return found, jnp.asarray(g.size, jnp.int32)

        def truncated() -> tuple[BallMinimum, Any]:
            most = min(10 * max(g.size, 1), 1000) if max_products is None else max_products
            found = truncated_cg(
                product,
                g,
                # a relative residual that tends to 0 makes the convergence superlinear
                tol=jnp.minimum(0.5, jnp.sqrt(size)) * size,
                model_tol=0.5,
                radius=state.radius,
                max_steps=most,
            )
            return BallMinimum(found.step, found.decrease, found.on_boundary), found.num_products

        if isinstance(max_dense, jax.Array) and g.size <= _MAX_DENSE:
            # `optax.inject_hyperparams` makes arrays of all numbers
            found, num_products = control_flow.cond(g.size <= max_dense, exact, truncated)
        elif isinstance(max_dense, jax.Array) or g.size > max_dense:
            found, num_products = truncated()
        else:
            found, num_products = exact()
        # the trial: how much of the promised decrease there is
        step = unravel(found.step)
        new_value, new_grad = value_and_ascent(fun)(optax.apply_updates(params, step))
        new_value = jnp.asarray(new_value, g.dtype)
        # near the minimum both decreases are rounding errors: the ratio must tend to 1 then
        noise = 10 * jnp.finfo(g.dtype).eps * jnp.abs(value)
        ratio = (value - new_value + noise) / (found.decrease + noise)
        length = norm(found.step)
        usable = jnp.isfinite(new_value) & jnp.all(jnp.isfinite(ravel(new_grad)[0]))
        # where products over- or underflow the step may be 0, or the model promise an ascent
        usable = usable & (length > 0) & (new_value <= value + noise)
        ratio = jnp.where(usable, ratio, -1)
        # the radius: it follows how far the model can be trusted
        accepted = ratio > 1e-4
        grows = (ratio > 0.75) & found.on_boundary
        radius = jnp.where(grows, 2 * state.radius, state.radius)
        # a step may be shorter than the radius, which then was no bound: a quarter of the step
        radius = jnp.where(ratio < 0.25, 0.25 * jnp.minimum(length, state.radius), radius)
        smallest = jnp.finfo(g.dtype).eps * norm(ravel(params)[0]) + jnp.finfo(g.dtype).tiny
        keep = lambda new, old: optax.tree.where(accepted, new, old)
        return keep(step, jax.tree.map(jnp.zeros_like, step)), TrustRegionState(
            radius=radius,
            value=keep(new_value, value),
            grad=optax.tree.cast_like(keep(new_grad, updates), params),
            accepted=accepted,
            failed=~accepted & ~(radius > smallest),
            num_evaluations=jnp.full([], num_evaluations, jnp.int32),
            num_products=jnp.asarray(num_products, jnp.int32),
        )

    return optax.GradientTransformationExtraArgs(init, update)
