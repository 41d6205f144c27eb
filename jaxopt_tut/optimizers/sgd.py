"""Gradient descent."""

import optax

from jaxopt_tut.optimizers.learning_rate import scale_by_learning_rate
from jaxopt_tut.types import ScalarOrSchedule


def sgd(learning_rate: ScalarOrSchedule) -> optax.GradientTransformationExtraArgs:
    r"""Build (stochastic) gradient descent.

    $$w_{t+1} = w_t - \eta\, g_t$$

    The yardstick: on a quadratic with curvatures in $[\lambda_{\min}, \lambda_{\max}]$ it
    converges for $0 < \eta < 2/\lambda_{\max}$, fastest at $2/(\lambda_{\min} +
    \lambda_{\max})$, at a rate that degrades with their ratio: prefer `momentum` or `adam` in a
    ravine. One multiplication and one addition a parameter; no memory. For a complex parameter
    $g$ is the conjugate of `jax.grad`'s, the direction of steepest ascent.

    Args:
      learning_rate: Step size $\eta$, in parameters squared per loss: a finite number (negative
        climbs), a scalar array, a tracer, or a schedule.

    Returns:
      A transformation whose updates are *added* to the parameters.

    Raises:
      TypeError: If `learning_rate` is neither a number, an array nor a function; from `init`, if
        a parameter is neither floating nor complex.
      ValueError: If `learning_rate` is no scalar, or is static and not finite.

    Example:
      On a parabola of curvature 1 the step 1 lands in the minimum.

      >>> import jax, optax
      >>> loss = lambda w: 0.5 * (w - 3.0) ** 2
      >>> optimizer = sgd(1.0)
      >>> w = jax.numpy.array(7.0)
      >>> updates, _ = optimizer.update(jax.grad(loss)(w), optimizer.init(w), w)
      >>> print(optax.apply_updates(w, updates))
      3.0

    References:
      Robbins and Monro (1951), theorem 2, for noisy gradients and a decaying step size.
      https://doi.org/10.1214/aoms/1177729586
      Polyak (1987), Introduction to Optimization, sec. 1.4, theorem 3, for the rate.
    """
    return optax.chain(scale_by_learning_rate(learning_rate, caller="sgd"))
