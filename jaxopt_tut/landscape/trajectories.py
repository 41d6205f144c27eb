"""The path of one optimizer from one start, to be vmapped and differentiated."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxopt_tut import control_flow
from jaxopt_tut.blocks import shown
from jaxopt_tut.optimizers.inner import take_step
from jaxopt_tut.types import Optimizer, Params, Scalar


@shown
class Trajectory(NamedTuple):
    """The points an optimizer visited and the loss at each."""

    points: Params
    """Every leaf has a leading axis of `num_steps + 1`, the start first."""
    values: Float[Array, "num_points"]


def descend(
    fun: Callable[[Params], Scalar],
    start: Params,
    optimizer: Optimizer,
    num_steps: int,
) -> Trajectory:
    r"""Follow an optimizer for a fixed number of updates and keep every point.

    $$w_{t+1} = w_t + u_t, \qquad (u_t, s_{t+1}) = \mathrm{update}(\nabla f(w_t), s_t, w_t)$$

    One `lax.scan`: `vmap` it over starts and over the optimizer's hyper-parameters to run a whole
    study in one program. It costs one gradient a step and the memory of all points.

    Args:
      fun: The loss $f$ of the parameters.
      start: The first point $w_0$: any tree of floating arrays.
      optimizer: Any optax transformation.
      num_steps: The number of updates, at least 0.

    Returns:
      The `num_steps + 1` points and their losses.

    Raises:
      ValueError: If `num_steps` is negative.

    Example:
      >>> import optax
      >>> path = descend(lambda w: w**2, jnp.array(1.0), optax.sgd(0.25), 2)
      >>> path.points.tolist(), path.values.tolist()
      ([1.0, 0.5, 0.25], [1.0, 0.25, 0.0625])
    """
    if num_steps < 0:
        raise ValueError(f"descend needs num_steps >= 0, got num_steps={num_steps}.")

    def follow(carry, _):
        params, state = carry
        after = take_step("descend", optimizer, fun, params, state)
        return (after.params, after.state), (params, after.value)

    start = jax.tree.map(jnp.asarray, start)
    (last, _), (points, values) = control_flow.scan(
        follow, (start, optimizer.init(start)), length=num_steps
    )
    return Trajectory(
        points=jax.tree.map(lambda path, end: jnp.concatenate([path, end[None]]), points, last),
        values=jnp.concatenate([values, fun(last)[None]]),
    )
