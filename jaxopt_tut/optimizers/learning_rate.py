"""The last link of every optimizer: a step against the direction, as long as the learning rate."""

import jax
import jax.numpy as jnp
import optax

from jaxopt_tut.hyperparameters import cast, require_finite
from jaxopt_tut.trees import require_inexact
from jaxopt_tut.types import Number, ScalarOrSchedule


def scale_by_learning_rate(
    learning_rate: ScalarOrSchedule, *, caller: str = "scale_by_learning_rate"
) -> optax.GradientTransformation:
    r"""Scale updates by minus the learning rate, in each leaf's own precision.

    $$u_t = -\eta_t\, g_t, \qquad \eta_t = \eta \ \text{ or }\ \eta(t), \quad t = 0, 1, \dots$$

    It is `optax.scale_by_learning_rate`, to the bit, except that a traced or scheduled float32
    learning rate leaves bfloat16 updates bfloat16. One multiplication a parameter; no memory,
    or one counter for a schedule.

    Args:
      learning_rate: Step size $\eta$, finite (negative climbs, zero freezes), in units of
        parameters per unit of update; a number, a scalar array, a tracer, or a schedule: a
        function of the number of updates made before.
      caller: The name that opens error messages.

    Returns:
      A transformation whose updates are *added* to the parameters.

    Raises:
      TypeError: If `learning_rate` is neither a number, an array nor a function; from `init` and
        `update`, if a leaf is neither floating nor complex.
      ValueError: If `learning_rate` is no scalar, or is static and not finite.

    Example:
      >>> import jax.numpy as jnp
      >>> halving = scale_by_learning_rate(lambda count: 0.5**count)
      >>> state = halving.init(jnp.zeros(()))
      >>> for _ in range(3):
      ...     update, state = halving.update(jnp.array(8.0), state)
      ...     print(update)
      -8.0
      -4.0
      -2.0
    """
    if not callable(learning_rate):
        require_finite(caller, learning_rate=learning_rate)

    def init(params):
        require_inexact(params, caller)
        if callable(learning_rate):
            return optax.ScaleByScheduleState(count=jnp.zeros([], jnp.int32))
        return optax.EmptyState()

    def update(updates, state, params=None):
        del params  # the step depends on the direction alone
        require_inexact(updates, caller)
        if callable(learning_rate):
            step = learning_rate(state.count)
            state = optax.ScaleByScheduleState(count=optax.safe_increment(state.count))
        else:
            step = learning_rate
        return jax.tree.map(lambda g: _descend(step, jnp.asarray(g)), updates), state

    return optax.GradientTransformation(init, update)


def _descend(step: Number, direction: jax.Array) -> jax.Array:
    return -cast(step, direction.dtype) * direction
