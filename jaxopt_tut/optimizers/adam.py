"""Adam: the moving average of the gradient over the root of that of its square."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_tut.blocks import shown
from jaxopt_tut.hyperparameters import cast, require_decay, require_nonnegative
from jaxopt_tut.optimizers.learning_rate import scale_by_learning_rate
from jaxopt_tut.optimizers.moments import (
    Storage,
    average,
    debias,
    require_dtype,
    require_matching,
    widen,
    zeros,
)
from jaxopt_tut.trees import require_inexact
from jaxopt_tut.types import Number, PyTree, ScalarOrSchedule
from jaxopt_tut.vectors import safe_root


@shown
class ScaleByAdamState(NamedTuple):
    """What the next step of `scale_by_adam` needs."""

    count: Number  # updates made: int32, and stays at its largest value
    mu: PyTree  # moving average of the gradients, shaped like the parameters
    nu: PyTree  # moving average of their squared moduli, real
    metric = "diagonal"  # see `stationarity`


def scale_by_adam(
    *,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    eps_root: Number = 0.0,
    mu_dtype: Storage = None,
    nu_dtype: Storage = None,
    caller: str = "adam",
) -> optax.GradientTransformation:
    r"""Rescale gradients as Adam does.

    $$m_t = \beta_1 m_{t-1} + (1 - \beta_1)\, g_t, \qquad
    v_t = \beta_2 v_{t-1} + (1 - \beta_2)\, |g_t|^2, \qquad m_0 = v_0 = 0$$

    $$u_t = \frac{m_t / (1 - \beta_1^t)}{\sqrt{v_t / (1 - \beta_2^t) + \epsilon_0} + \epsilon}$$

    The part of `adam` without the learning rate; two copies of the parameters are kept. Updates
    of real parameters are those of `optax.scale_by_adam` to the bit. Derivatives are not: the
    root's is taken as 0 at 0, where no gradient has arrived yet, instead of $\infty \cdot 0$. And
    where the denominator is 0, which takes a zero gradient and $\epsilon = \epsilon_0 = 0$ (or an
    $\epsilon$ that float16 rounds to 0), the update is $\hat m_t$, that is 0, instead of 0/0.

    Args:
      b1: $\beta_1$ in [0, 1).
      b2: $\beta_2$ in [0, 1).
      eps: $\epsilon \ge 0$, outside of the root, in units of the gradient.
      eps_root: $\epsilon_0 \ge 0$, inside of the root, in units of the gradient squared.
      mu_dtype: What to store $m$ in; `None` means each parameter's own dtype.
      nu_dtype: What to store $v$ in; `None` means each parameter's own dtype, or its real
        counterpart where it is complex. For bfloat16 parameters take "float32", as bfloat16 rounds
        0.999 to 1.
      caller: The name that opens error messages.

    Returns:
      A transformation from gradients to rescaled gradients, each in the gradient's dtype.

    Raises:
      TypeError: If a hyper-parameter is neither a number nor an array; from `init`, if a parameter
        is neither floating nor complex; from `update`, also if a complex gradient meets a real
        average.
      ValueError: If a hyper-parameter is no scalar, or is static and out of its range, or if a
        dtype cannot hold its average; from `update`, if the gradients differ from the parameters
        of `init` in a path or a shape.

    Example:
      A gradient that keeps its size and changes its sign: the mean over the root mean square.

      >>> import jax.numpy as jnp
      >>> rescale = scale_by_adam(b1=0.5, b2=0.5)
      >>> state = rescale.init(jnp.zeros(()))
      >>> for gradient in (5.0, -5.0):
      ...     update, state = rescale.update(jnp.array(gradient), state)
      ...     print(update.round(4))
      1.0
      -0.3333

    References:
      Kingma and Ba (2015), Adam, algorithm 1; $\epsilon_0$ is added.
      https://arxiv.org/abs/1412.6980
    """
    require_decay(caller, b1=b1, b2=b2)
    require_nonnegative(caller, eps=eps, eps_root=eps_root)
    require_dtype(caller, mu_dtype=mu_dtype)
    require_dtype(caller, real=True, nu_dtype=nu_dtype)

    def init(params):
        require_inexact(params, caller)
        return ScaleByAdamState(
            count=jnp.zeros([], jnp.int32),
            mu=zeros(params, mu_dtype),
            nu=zeros(params, nu_dtype, real=True),
        )

    def update(updates, state, params=None):
        del params  # the averages know the gradients alone
        require_matching(updates, state.mu, caller)
        count = optax.safe_increment(state.count)
        mu = average(updates, state.mu, b1)
        nu = average(jax.tree.map(_squared_modulus, updates, state.nu), state.nu, b2)
        direction = jax.tree.map(
            lambda m, v: _ratio(m, v, eps, eps_root), debias(mu, b1, count), debias(nu, b2, count)
        )
        stored = ScaleByAdamState(
            count, optax.tree.cast_like(mu, state.mu), optax.tree.cast_like(nu, state.nu)
        )
        return optax.tree.cast_like(direction, updates), stored

    return optax.GradientTransformation(init, update)


def _squared_modulus(g: Number, v: Number) -> jax.Array:
    g, _ = widen(g, v)  # first: in half precision a square loses bits, and 1e-4 all of them
    return jnp.real(jnp.conj(g) * g)


def _ratio(m: jax.Array, v: jax.Array, eps: Number, eps_root: Number) -> jax.Array:
    """Return m / (root(v + eps_root) + eps), with its derivative where v or the whole is 0.

    The tests are for equality, not for `> 0`: a NaN in either average must come out.
    """
    v = v + cast(eps_root, v.dtype)
    root = safe_root(v)
    denominator = root + cast(eps, v.dtype)
    m, denominator = widen(m, jnp.where(denominator == 0, 1, denominator))
    return m / denominator


def adam(
    learning_rate: ScalarOrSchedule,
    *,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    eps_root: Number = 0.0,
    mu_dtype: Storage = None,
    nu_dtype: Storage = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Build Adam.

    $$w_{t+1} = w_t - \eta\, \frac{\hat m_t}{\sqrt{\hat v_t + \epsilon_0} + \epsilon}, \qquad
    \hat m_t = \frac{m_t}{1 - \beta_1^t}, \quad \hat v_t = \frac{v_t}{1 - \beta_2^t}$$

    with $m_t = \beta_1 m_{t-1} + (1 - \beta_1)\, g_t$, $v_t = \beta_2 v_{t-1} + (1 - \beta_2)\,
    |g_t|^2$ and $m_0 = v_0 = 0$. Every coordinate moves by about $\eta$ a step (the first time by
    $\eta\, \mathrm{sign}(g)$), whatever the gradient's scale: it forgives a bad initialization
    and a plateau, but does not settle without a decaying $\eta$. Some ten operations a parameter
    and two copies of the parameters; donate the state under `jit`, the update is bound by memory.

    Both averages are bias-corrected, and $\epsilon$ stands outside of the root and after the
    correction, as in PyTorch. Before it, the $\hat\epsilon$ of the paper's section 2, it would be
    $\epsilon = \hat\epsilon / \sqrt{1 - \beta_2^t}$. Decoupled weight decay: `adamw`.

    In `optax.inject_hyperparams` beside bfloat16 parameters pass `hyperparam_dtype=jnp.float32`:
    it casts the numbers to the parameters' dtype, and $1 - \beta_2^t$ would be 0.

    The derivative of the first step at $g = 0$ is $-\eta/(\sqrt{\epsilon_0} + \epsilon)$: right,
    and large; raise $\epsilon$ to differentiate through zero gradients in comfort.
    For a complex parameter $g$ is the conjugate of `jax.grad`'s (the direction of steepest
    ascent), and one real $v$ scales both of its parts.

    Args:
      learning_rate: Step size $\eta$, in units of the parameters: a finite number (negative
        climbs), a scalar array, a tracer, or a schedule.
      b1: $\beta_1$ in [0, 1); may be traced, as all numbers here.
      b2: $\beta_2$ in [0, 1).
      eps: $\epsilon \ge 0$, outside of the root, in units of the gradient.
      eps_root: $\epsilon_0 \ge 0$, inside of the root, in units of the gradient squared.
      mu_dtype: What to store $m$ in; `None` means each parameter's own dtype.
      nu_dtype: What to store $v$ in; `None` means each parameter's own dtype, or its real
        counterpart where it is complex. For bfloat16 parameters take "float32", as bfloat16 rounds
        0.999 to 1.

    Returns:
      A transformation whose updates are *added* to the parameters.

    Raises:
      TypeError: If a hyper-parameter is of no fitting type; from `init`, if a parameter is neither
        floating nor complex; from `update`, also if a complex gradient meets a real average.
      ValueError: If a hyper-parameter is no scalar, or is static and out of its range, or if a
        dtype cannot hold its average; from `update`, if the gradients differ from the parameters
        of `init` in a path or a shape.

    Example:
      The first step has length `learning_rate` in every coordinate whose gradient is not 0.

      >>> import jax.numpy as jnp, optax
      >>> optimizer = adam(1.0)
      >>> w = jnp.array([300.0, -0.5, 0.0])
      >>> updates, state = optimizer.update(w, optimizer.init(w), w)
      >>> print(optax.apply_updates(w, updates).round(2))
      [299.    0.5   0. ]

    References:
      Kingma and Ba (2015), Adam, algorithm 1; $\epsilon_0$ is added.
      https://arxiv.org/abs/1412.6980
    """
    return optax.chain(
        scale_by_adam(
            b1=b1, b2=b2, eps=eps, eps_root=eps_root, mu_dtype=mu_dtype, nu_dtype=nu_dtype
        ),
        scale_by_learning_rate(learning_rate, caller="adam"),
    )
