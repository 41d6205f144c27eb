"""Learn the learning rate of every step."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array
from typing_extensions import TypeAliasType

from jaxopt_tut.bilevel.hypergrad import hypergrad
from jaxopt_tut.bilevel.modes import DiffMode, Unroll
from jaxopt_tut.bilevel.recipes.arguments import require_counts
from jaxopt_tut.bilevel.recipes.learning import Learned, learn
from jaxopt_tut.hyperparameters import require_positive
from jaxopt_tut.optimizers import sgd
from jaxopt_tut.tracing import seen
from jaxopt_tut.types import LossFn, Optimizer, Params

OptimizerOf = TypeAliasType("OptimizerOf", Callable[[optax.Schedule], Optimizer])
"""From a schedule to an optimizer."""

Rates = TypeAliasType("Rates", ArrayLike | list[Any] | tuple[Any, ...])
"""One number, or one for each step."""


def learn_schedule(
    loss_fn: LossFn,
    params: Params,
    *,
    inner_steps: int,
    optimizer: Optimizer,
    num_steps: int,
    start: Rates = 0.1,
    optimizer_of: OptimizerOf = sgd,
    diff: DiffMode = Unroll(),  # noqa: B008  a frozen value
) -> Learned:
    r"""Learn the learning rate of every step of a short run.

    $$\min_{\eta_1, \dots, \eta_T} L(w_T), \qquad w_t = w_{t-1} - \eta_t \nabla L(w_{t-1})$$

    over $\log \eta_t$. On a quadratic the best rates are the inverse roots of a polynomial that is
    small on the spectrum (Chebyshev's, if only its ends are known), in any order: rates that start
    equal have equal derivatives there, and only rounding parts them. Start them a little apart.

    Args:
      loss_fn: `loss_fn(params)`, without noise: a loss, or a pair of one and what is dropped.
      params: Where each run starts.
      inner_steps: $T$.
      optimizer: The outer optimizer, of the logarithms.
      num_steps: Its steps.
      start: The rates to start from, positive: one for all steps, or one each.
      optimizer_of: From a schedule to an optimizer.
      diff: An exact mode of differentiation.

    Returns:
      The rates, and the final loss before each outer step.

    Raises:
      ValueError: If a number of steps is too small, a known rate is not positive, or their number
        is neither one nor that of the steps.

    Example:
      Two curvatures are solved in two steps, by the inverse of each.

      >>> import jax.numpy as jnp
      >>> from jaxopt_tut.optimizers import adam
      >>> loss = lambda w: 0.5 * jnp.sum(jnp.array([1.0, 4.0]) * w**2)
      >>> learned = learn_schedule(loss, jnp.ones(2), inner_steps=2, optimizer=adam(0.05),
      ...                          num_steps=300, start=jnp.array([0.5, 0.3]))
      >>> print(learned.losses[-1] < 1e-3 * learned.losses[0])
      True

    References:
      Maclaurin et al. (2015), section 3.1. https://arxiv.org/abs/1502.03492
    """
    require_counts("learn_schedule", num_steps=num_steps, inner_steps=inner_steps)
    start = jnp.asarray(start) if isinstance(start, list | tuple) else start
    require_positive("learn_schedule", scalar=False, finite=True, start=seen(start))
    if jnp.shape(start) not in ((), (inner_steps,)):
        raise ValueError(
            f"learn_schedule needs start to be one rate or inner_steps={inner_steps} rates, got "
            f"shape {jnp.shape(start)}."
        )

    def solver(log_rates: Array) -> Optimizer:
        return optimizer_of(lambda count: jnp.exp(log_rates)[count])

    def value_and_grad(log_rates: Array) -> tuple[Any, Any]:
        value, grads, _ = hypergrad(
            lambda w, _: loss_fn(w),
            lambda w, _: loss_fn(w),
            params,
            (),
            solver=solver,
            steps=inner_steps,
            diff=diff,
            hp=log_rates,
            wrt=("hp",),
        )
        return value, grads["hp"]

    log_start = jnp.broadcast_to(jnp.log(start), inner_steps)
    learned = learn(value_and_grad, log_start, optimizer, num_steps)
    return learned._replace(value=jnp.exp(learned.value))
