"""Gradient descent along an exponential moving average of the gradients."""

from typing import NamedTuple

import optax

from jaxopt_tut.blocks import shown
from jaxopt_tut.hyperparameters import require_decay
from jaxopt_tut.optimizers.learning_rate import scale_by_learning_rate
from jaxopt_tut.optimizers.moments import Storage, average, require_dtype, require_matching, zeros
from jaxopt_tut.trees import require_inexact
from jaxopt_tut.types import Number, PyTree, ScalarOrSchedule


@shown
class ScaleByMomentumState(NamedTuple):
    """What the next step of `scale_by_momentum` needs."""

    mu: PyTree  # the moving average, shaped like the parameters


def scale_by_momentum(
    *,
    decay: Number = 0.9,
    nesterov: bool = False,
    accumulator_dtype: Storage = None,
) -> optax.GradientTransformation:
    r"""Replace gradients by their exponential moving average.

    $$m_t = \beta\, m_{t-1} + (1 - \beta)\, g_t, \qquad m_0 = 0, \qquad
    u_t = \begin{cases} m_t \\ \beta\, m_t + (1 - \beta)\, g_t & \text{Nesterov} \end{cases}$$

    The part of `momentum` without the learning rate. The average is not bias-corrected: the first
    updates are small. One copy of the parameters is kept.

    Args:
      decay: $\beta$ in [0, 1); may be traced.
      nesterov: Whether to look one step of the average ahead.
      accumulator_dtype: What to store the average in; `None` means each parameter's own dtype.

    Returns:
      A transformation from gradients to averaged gradients, each in the gradient's dtype.

    Raises:
      TypeError: If `decay` is neither a number nor an array; from `init`, if a parameter is
        neither floating nor complex; from `update`, also if a complex gradient meets a real
        average.
      ValueError: If `decay` is no scalar, or is static and outside of [0, 1), or if
        `accumulator_dtype` is neither floating nor complex; from `update`, if the gradients differ
        from the parameters of `init` in a path or a shape. Messages say `momentum`.

    Example:
      >>> import jax.numpy as jnp
      >>> average_of = scale_by_momentum(decay=0.5)
      >>> state = average_of.init(jnp.zeros(()))
      >>> for gradient in (8.0, 0.0, 2.0):
      ...     update, state = average_of.update(jnp.array(gradient), state)
      ...     print(update)
      4.0
      2.0
      2.0

    References:
      Kingma and Ba (2015), Adam, algorithm 1, the line of the first moment.
      https://arxiv.org/abs/1412.6980
    """
    require_decay("momentum", decay=decay)
    require_dtype("momentum", accumulator_dtype=accumulator_dtype)

    def init(params):
        require_inexact(params, "momentum")
        return ScaleByMomentumState(mu=zeros(params, accumulator_dtype))

    def update(updates, state, params=None):
        del params  # the average knows the gradients alone
        require_matching(updates, state.mu, "momentum")
        mu = average(updates, state.mu, decay)
        direction = average(updates, mu, decay) if nesterov else mu
        stored = ScaleByMomentumState(mu=optax.tree.cast_like(mu, state.mu))
        return optax.tree.cast_like(direction, updates), stored

    return optax.GradientTransformation(init, update)


def momentum(
    learning_rate: ScalarOrSchedule,
    *,
    decay: Number = 0.9,
    nesterov: bool = False,
    accumulator_dtype: Storage = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Build gradient descent with momentum, in moving-average form.

    $$m_t = \beta\, m_{t-1} + (1 - \beta)\, g_t, \qquad w_{t+1} = w_t - \eta\, m_t, \qquad
    m_0 = 0$$

    and with `nesterov` $w_{t+1} = w_t - \eta\, (\beta\, m_t + (1 - \beta)\, g_t)$. The average
    cancels what alternates in sign, so that in a ravine the step across shrinks while the step
    along stays; it overshoots where the gradient is steep and short. Two multiply-adds a
    parameter and one copy of the parameters. For a complex parameter $g$ is the conjugate of
    `jax.grad`'s, the direction of steepest ascent.

    Under a constant gradient the steps grow to $\eta g$, those of `sgd`; the *heavy ball* of
    optax and PyTorch, $m_t = \beta m_{t-1} + g_t$, makes them $1/(1 - \beta)$ times longer. Hence
    `momentum(lr, decay=b)` equals `optax.sgd(lr * (1 - b), momentum=b)`, Nesterov or not.

    Args:
      learning_rate: Step size $\eta$, in parameters squared per loss: a finite number (negative
        climbs), a scalar array, a tracer, or a schedule.
      decay: $\beta$ in [0, 1), 0 being `sgd`; may be traced.
      nesterov: Whether to look one step of the average ahead.
      accumulator_dtype: What to store the average in; `None` means each parameter's own dtype.
        For bfloat16 parameters take "float32", as bfloat16 loses what adds less than 1/512.

    Returns:
      A transformation whose updates are *added* to the parameters.

    Raises:
      TypeError: If `learning_rate` or `decay` is of no fitting type; from `init`, if a parameter is
        neither floating nor complex; from `update`, also if a complex gradient meets a real
        average.
      ValueError: If a static `learning_rate` is not finite, a static `decay` is outside of [0, 1),
        one of them is no scalar, or `accumulator_dtype` is neither floating nor complex; from
        `update`, if the gradients differ from the parameters of `init` in a path or a shape.

    Example:
      The first step is a tenth of the gradient step (a heavy ball would make it whole).

      >>> import jax.numpy as jnp
      >>> optimizer = momentum(1.0, decay=0.9)
      >>> w = jnp.array([1.0, -2.0])
      >>> updates, state = optimizer.update(10 * w, optimizer.init(w), w)
      >>> print(updates.round(4))
      [-1.  2.]

    References:
      Kingma and Ba (2015), Adam, algorithm 1, the line of the first moment.
      https://arxiv.org/abs/1412.6980
      Sutskever et al. (2013), On the importance of initialization and momentum, eqs. (1)-(2) and,
      for Nesterov, (3)-(4) in the variables of the look-ahead point.
      https://proceedings.mlr.press/v28/sutskever13.html
    """
    return optax.chain(
        scale_by_momentum(decay=decay, nesterov=nesterov, accumulator_dtype=accumulator_dtype),
        scale_by_learning_rate(learning_rate, caller="momentum"),
    )
