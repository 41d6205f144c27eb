"""Make any optimizer's updates differentiable where its gradient is zero."""

from typing import Any

import optax

from jaxopt_tut.autodiff import zero_safe
from jaxopt_tut.optimizers.extra_arguments import is_transformation, takes_any
from jaxopt_tut.types import Optimizer


def differentiable(
    transformation: Optimizer,
) -> optax.GradientTransformationExtraArgs:
    r"""Give an optimizer derivatives in which zero times infinity is zero.

    $$u_t = u(g_t, s_t, w_t), \qquad \bar g_t = \bar u_t \otimes \frac{\partial u}{\partial g_t},
      \quad \dots, \qquad 0 \otimes x = 0$$

    For loops of your own that are differentiated through steps of optax: Adam takes the root of an
    average of squares and divides by a norm here and there, and where a gradient is zero JAX makes
    NaN of it. The updates stay the same to the bit, derivatives elsewhere too up to rounding. The
    optimizers of this library need no help, and the modes of `bilevel` that differentiate steps
    give it to all. Costs some comparisons a parameter and step.

    Args:
      transformation: Any optax transformation; hyper-parameters may be tracers.

    Returns:
      The transformation with `autodiff.zero_safe(transformation.update)`.

    Raises:
      TypeError: If it is no transformation.

    Example:
      A gradient of zero is not clipped: the slope there is 1.

      >>> import jax, jax.numpy as jnp
      >>> def moved(g, optimizer):
      ...     return jnp.sum(optimizer.update(g, optimizer.init(g))[0])
      >>> clip = optax.clip_by_global_norm(0.5)
      >>> print(jax.grad(moved)(jnp.zeros(2), clip))
      [nan nan]
      >>> print(jax.grad(moved)(jnp.zeros(2), differentiable(clip)))
      [1. 1.]

    References:
      Kingma and Ba (2015), algorithm 1. https://arxiv.org/abs/1412.6980
    """
    if not is_transformation(transformation):
        raise TypeError(f"differentiable needs an optax transformation, got {transformation!r}.")
    rule: Any = transformation  # optax's own annotations leave MultiSteps out
    if not takes_any(rule.update):
        rule = optax.with_extra_args_support(rule)
    return optax.GradientTransformationExtraArgs(rule.init, zero_safe(rule.update))
