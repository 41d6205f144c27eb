"""The outer loop that all recipes share."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from jaxtyping import Array, Float

from jaxopt_tut import control_flow
from jaxopt_tut.bilevel.doubts import HypergradientWarning
from jaxopt_tut.bilevel.recipes.arguments import require_counts
from jaxopt_tut.blocks import shown
from jaxopt_tut.losses import differentiated_by, value_part
from jaxopt_tut.optimizers.inner import take_step
from jaxopt_tut.tracing import is_traced
from jaxopt_tut.trees import strong
from jaxopt_tut.types import Optimizer, PyTree


@shown
class Learned(NamedTuple):
    """What a recipe returns.

    Attributes:
      value: What was learned.
      losses: The outer loss before each outer step.
    """

    value: PyTree
    losses: Float[Array, "steps"]


def learn(
    value_and_grad: Callable[[Any], tuple[Any, Any]],
    start: PyTree,
    optimizer: Optimizer,
    num_steps: int,
) -> Learned:
    """Descend a function whose gradient is at hand, in one scan.

    Args:
      value_and_grad: From a tree to the value, or a pair of it and what is dropped, and a tree
        like the first.
      start: Where to start.
      optimizer: Any optax transformation.
      num_steps: Its steps.

    Returns:
      Where it ended, and the values on the way.

    Raises:
      ValueError: If `num_steps` is negative.

    Example:
      >>> import jax
      >>> from jaxopt_tut.optimizers import sgd
      >>> learned = learn(jax.value_and_grad(lambda z: (z - 2) ** 2), 0.0, sgd(0.25), 30)
      >>> print(f"{learned.value:.3f}", learned.losses[0])
      2.000 4.0
    """
    require_counts("learn", num_steps=num_steps)

    def follow(carry, _):
        output, grads = value_and_grad(carry[0])
        ascent = optax.tree.conj(grads)  # differs for complex parameters
        known = value_part(output), ascent
        value_fn = differentiated_by(value_and_grad)
        after = take_step("learn", optimizer, value_fn, *carry, known=known)
        return (after.params, after.state), after.value

    start = strong(start)
    (value, _), losses = control_flow.scan(follow, (start, optimizer.init(start)), length=num_steps)
    if not is_traced(losses) and not jax.numpy.all(jax.numpy.isfinite(losses)):
        warnings.warn(
            "learn met a loss that is not finite, and learned nothing from there on: lower the "
            "learning rates, or look at one hypergrad of the problem.",
            HypergradientWarning,
            stacklevel=3,
        )
    return Learned(value, losses)
