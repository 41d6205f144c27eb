"""The sharpness above which an optimizer cannot settle."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float
from typing_extensions import TypeAliasType

from jaxopt_tut.hyperparameters import require_decay, require_positive
from jaxopt_tut.types import Number

StepForm = TypeAliasType(
    "StepForm", Literal["ema", "heavy_ball", "ema_nesterov", "nesterov", "adam"]
)
"""How an optimizer makes steps of gradients."""

_FORMS = "ema", "heavy_ball", "ema_nesterov", "nesterov", "adam"


def stability_limit(
    learning_rate: Number,
    *,
    momentum: Number = 0.0,
    form: StepForm = "ema",
    b1: Number = 0.9,
) -> Float[Array, "..."]:
    r"""Return the sharpness above which gradient descent diverges on a quadratic.

    $$\lambda^* = \frac{2}{\eta} \cdot \begin{cases}
    (1 + \beta) / (1 - \beta) & \text{ema: } m \leftarrow \beta m + (1 - \beta) g, \;
    w \leftarrow w - \eta m \\
    1 + \beta & \text{heavy\_ball: } m \leftarrow \beta m + g, \; w \leftarrow w - \eta m \\
    (1 + \beta) / \big((1 - \beta)(1 + 2 \beta)\big)
    & \text{ema\_nesterov: } m \text{ as in ema}, \;
    w \leftarrow w - \eta\,(\beta m + (1 - \beta) g) \\
    (1 + \beta) / (1 + 2 \beta) & \text{nesterov: } m \text{ as in heavy\_ball}, \;
    w \leftarrow w - \eta\,(\beta m + g) \\
    (1 + \beta_1) / (1 - \beta_1) & \text{adam}
    \end{cases}$$

    Without momentum that is $2 / \eta$ in every form. `optimizers.momentum` has the form `"ema"`,
    and `"ema_nesterov"` with `nesterov=True`; `optax.sgd(momentum=)` has `"heavy_ball"` and
    `"nesterov"`. Look-ahead makes the limit smaller, averaging larger. For Adam the sharpness that
    counts is the largest eigenvalue of the preconditioned Hessian, $P^{-1/2} H P^{-1/2}$ with
    $P = \mathrm{diag}(\sqrt{\hat v} + \epsilon)$: 38 over the learning rate at $\beta_1 = .9$, once
    corrections of the bias are over and $\hat v$ stands still. On a network full-batch training
    hovers at the limit instead of diverging, the edge of stability.

    Args:
      learning_rate: $\eta > 0$, an array of any shape; may be traced.
      momentum: $\beta$ in [0, 1), of all forms but `"adam"`; may be traced.
      form: How steps are made of gradients, see above.
      b1: $\beta_1$ in [0, 1), of `"adam"`; may be traced.

    Returns:
      The limit, in units of the loss over those of the parameters squared; of the shape of
      `learning_rate`.

    Raises:
      TypeError: If a rate is no real number.
      ValueError: If `form` is unknown, a static `learning_rate` is not above 0, or a static
        `momentum` or `b1` not in [0, 1).

    Example:
      >>> print(f"{stability_limit(0.1):.1f} {stability_limit(0.1, momentum=0.9):.1f}")
      20.0 380.0
      >>> print(f"{stability_limit(0.1, momentum=0.9, form='heavy_ball'):.1f}")
      38.0
      >>> print(stability_limit(jnp.array([1e-3, 1e-2]), form="adam").round(1))
      [38000.  3800.]

    References:
      Polyak (1964), Some methods of speeding up the convergence of iteration methods, section 2.
      https://doi.org/10.1016/0041-5553(64)90137-5
      Cohen et al. (2021), Gradient descent on neural networks typically occurs at the edge of
      stability, appendix B. https://arxiv.org/abs/2103.00065
      Cohen et al. (2022), Adaptive gradient methods at the edge of stability, eq. (2).
      https://arxiv.org/abs/2207.14484
    """
    if form not in _FORMS:
        names = ", ".join(map(repr, _FORMS))
        raise ValueError(f"stability_limit needs a form among {names}, got form={form!r}.")
    require_positive("stability_limit", scalar=False, learning_rate=learning_rate)
    require_decay("stability_limit", momentum=momentum, b1=b1)
    beta = b1 if form == "adam" else momentum
    # weak numbers keep the precision of the rate
    factor = 2 * (1 + beta)
    if form in ("ema", "ema_nesterov", "adam"):
        factor = factor / (1 - beta)
    if form in ("ema_nesterov", "nesterov"):
        factor = factor / (1 + 2 * beta)
    rate = jnp.asarray(learning_rate, jnp.result_type(float, learning_rate))
    return jnp.asarray(factor, rate.dtype) / rate
