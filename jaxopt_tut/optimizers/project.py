"""Keep parameters in a set: the last link of a chain."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxopt_tut.optimizers.objective import require_objective
from jaxopt_tut.optimizers.projecting import Projection
from jaxopt_tut.optimizers.stationarity import ProjectState
from jaxopt_tut.trees import require_inexact


def project(projection: Projection) -> optax.GradientTransformation:
    r"""Change updates so that the parameters end in a set.

    $$u_t \mapsto P(w_t + u_t) - w_t$$

    The last link of a chain: `optax.chain(sgd(0.1), project(projections.ball(1.0)))` is projected
    gradient descent. The parameters end in the set up to the rounding of $w_t + u_t$: a bound that
    they must not even touch, as where a logarithm is taken, needs a distance of more than
    `eps * abs(w)`. Costs one projection a step.

    What comes before decides where the steps end. A multiple of the gradient (`sgd`, `momentum`,
    `nonlinear_cg`, `line_search.armijo`) ends at a minimum on any convex set; steps scaled by
    coordinate (`adam`) do so on a box alone; Newton's, and all others with a metric of their own
    (`newton`, `newton_cg`, `trust_region`, `bfgs`, `lbfgs`, `gauss_newton`,
    `levenberg_marquardt`), end elsewhere. `minimize`, `bilevel.argmin` and `stationarity`
    refuse the pairs that end elsewhere, and tell line searches of $P$: these search on the way to
    $P(w + d)$, all of which is within a convex set. In a loop of your own nothing sees the whole
    chain, so ask `stationarity` there, and hand a search `projection=`.

    Args:
      projection: $P$, from trees to trees, e.g. of `optimizers.projections`.

    Returns:
      A transformation of updates; `update` needs `params`.

    Raises:
      TypeError: If `projection` is not callable, or a leaf is neither floating nor complex.
      ValueError: From `update`, if `params` is missing or the updates don't match the parameters.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from jaxopt_tut.optimizers import projections, sgd
      >>> optimizer = optax.chain(sgd(1.0), project(projections.box(0.0, 1.0)))
      >>> w = jnp.array([0.5, 0.5])
      >>> updates, _ = optimizer.update(jnp.array([-3.0, 0.25]), optimizer.init(w), w)
      >>> print(w + updates)
      [1.   0.25]

    References:
      Bertsekas (1976), eq. (2). https://doi.org/10.1109/TAC.1976.1101194
    """
    if not callable(projection):
        raise TypeError(f"project needs a function as projection, got {projection!r}.")

    def init(params):
        require_inexact(params, "project")
        return ProjectState()

    def update(updates, state, params: Any = None):
        require_objective("project", updates, params)
        target = projection(optax.apply_updates(params, updates))
        return jax.tree.map(lambda p, w: p - jnp.asarray(w), target, params), state

    vars(update).update(projection=projection)  # for `stationarity` to read
    return optax.GradientTransformation(init, update)
