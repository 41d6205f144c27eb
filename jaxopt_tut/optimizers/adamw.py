"""AdamW: Adam beside weights that decay by themselves."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from typing_extensions import TypeAliasType

from jaxopt_tut.hyperparameters import cast, require_nonnegative
from jaxopt_tut.optimizers.adam import scale_by_adam
from jaxopt_tut.optimizers.learning_rate import scale_by_learning_rate
from jaxopt_tut.optimizers.moments import Storage
from jaxopt_tut.optimizers.objective import require_objective
from jaxopt_tut.trees import require_inexact
from jaxopt_tut.types import Number, PyTree, ScalarOrSchedule

Mask = TypeAliasType("Mask", PyTree | Callable[[PyTree], PyTree])
"""A tree of flags, a function from parameters to one, or `None`."""


def adamw(
    learning_rate: ScalarOrSchedule,
    *,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    eps_root: Number = 0.0,
    weight_decay: ScalarOrSchedule = 1e-4,
    mask: Mask = None,
    mu_dtype: Storage = None,
    nu_dtype: Storage = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Build Adam with decoupled weight decay.

    $$w_{t+1} = w_t - \eta_t \left( \frac{\hat m_t}{\sqrt{\hat v_t + \epsilon_0} + \epsilon}
    + \lambda\, w_t \right)$$

    with $\hat m_t$ and $\hat v_t$ as in `adam`: the decay does not pass through the averages, so
    that weights with large gradients decay as fast as others (an L2 penalty, `optax.chain(
    optax.add_decayed_weights(wd), adam(lr))`, would decay them less). The first choice for
    networks with attention, and wherever weights should stay small. Cost and derivatives are those
    of `adam`.

    The learning rate multiplies the decay, as in optax and PyTorch: weights shrink by
    $1 - \eta_t \lambda$ a step. In the paper the decay is multiplied by the schedule alone; its
    $\lambda$ is $\eta \lambda$ here. PyTorch's default is $\lambda = .01$, optax's and this one
    $10^{-4}$.

    Args:
      learning_rate: Step size $\eta$, as in `adam`.
      b1: $\beta_1$ in [0, 1); may be traced, as all numbers here.
      b2: $\beta_2$ in [0, 1).
      eps: $\epsilon \ge 0$, outside of the root, in units of the gradient.
      eps_root: $\epsilon_0 \ge 0$, inside of the root, in units of the gradient squared.
      weight_decay: $\lambda \ge 0$, in one over units of the parameters; or a schedule.
      mask: Which leaves decay: a tree of booleans like the parameters, or a function from these to
        one; biases and scales of normalizations mostly do not. `None` means all.
      mu_dtype: What to store $m$ in; `None` means each parameter's own dtype.
      nu_dtype: What to store $v$ in, likewise; for bfloat16 parameters take "float32".

    Returns:
      A transformation whose updates are *added* to the parameters; `update` needs `params`.

    Raises:
      TypeError: If a hyper-parameter is of no fitting type; from `init`, if a parameter is neither
        floating nor complex; from `update`, also if a complex gradient meets a real average.
      ValueError: If a hyper-parameter is no scalar, or is static and out of its range, or if a
        dtype cannot hold its average; from `update`, if `params` is missing or the gradients
        differ from them in a path or a shape.

    Example:
      Without a gradient the weights shrink by 1 - 0.5 * 0.1; a mask spares the bias.

      >>> import jax, jax.numpy as jnp
      >>> w = {"weight": jnp.array(2.0), "bias": jnp.array(2.0)}
      >>> optimizer = adamw(0.5, weight_decay=0.1, mask={"weight": True, "bias": False})
      >>> zero = jax.tree.map(jnp.zeros_like, w)
      >>> updates, state = optimizer.update(zero, optimizer.init(w), w)
      >>> print(updates["weight"].round(3), updates["bias"] == 0)
      -0.1 True

    References:
      Loshchilov and Hutter (2019), Decoupled weight decay regularization, algorithm 2, but for the
      learning rate in the decay. https://arxiv.org/abs/1711.05101
    """
    decay = _decay(weight_decay)
    return optax.chain(
        scale_by_adam(
            b1=b1,
            b2=b2,
            eps=eps,
            eps_root=eps_root,
            mu_dtype=mu_dtype,
            nu_dtype=nu_dtype,
            caller="adamw",
        ),
        decay if mask is None else optax.masked(decay, mask),
        scale_by_learning_rate(learning_rate, caller="adamw"),
    )


def _decay(weight_decay: ScalarOrSchedule) -> optax.GradientTransformation:
    """Add the parameters, in the updates' own precision: optax's would widen bfloat16."""
    if not callable(weight_decay):
        require_nonnegative("adamw", weight_decay=weight_decay)

    def init(params):
        require_inexact(params, "adamw")
        if callable(weight_decay):
            return optax.ScaleByScheduleState(count=jnp.zeros([], jnp.int32))
        return optax.EmptyState()

    def update(updates, state, params: Any = None):
        require_objective("adamw", updates, params)
        if callable(weight_decay):
            rate = weight_decay(state.count)
            state = optax.ScaleByScheduleState(count=optax.safe_increment(state.count))
        else:
            rate = weight_decay

        def add(update, leaf):
            update = jnp.asarray(update)
            return update + cast(rate, update.dtype) * jnp.asarray(leaf, update.dtype)

        return jax.tree.map(add, updates, params), state

    return optax.GradientTransformation(init, update)
