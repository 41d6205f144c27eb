"""GradInit: factors of the weights from which the first step of training lowers the loss most."""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from jaxopt_tut import control_flow
from jaxopt_tut.calibration.network import Frame, read_network, require_concrete
from jaxopt_tut.calibration.reports import CalibrationReport
from jaxopt_tut.calibration.search import (
    Tried,
    are_finite,
    finished,
    largest_entry,
    loss_of,
    require_options,
    scaled_by,
    where_finite,
)
from jaxopt_tut.optimizers import adam
from jaxopt_tut.optimizers.inner import take_step
from jaxopt_tut.trees import at_least_single
from jaxopt_tut.types import Batch, LossFn, Params


def gradinit(
    key: Key[Array, ""],
    loss_fn: LossFn,
    params: Params,
    batch: Batch,
    *,
    optimizer: Literal["sgd", "adam"] = "sgd",
    step_size: float = 0.1,
    gradient_norm: float = 1.0,
    learning_rate: float = 1e-2,
    num_steps: int = 390,
    min_scale: float = 0.01,
) -> tuple[Params, CalibrationReport]:
    r"""Learn one factor a leaf so that the first step of training lowers the loss most.

    $$\min_{\alpha \ge \underline\alpha} L\bigl(\alpha \theta - \eta\, A[g]\bigr) \quad
      \text{subject to} \quad \|g\|_p \le \gamma, \qquad g = \nabla L(\alpha \theta),$$

    with $A[g] = g$ and $p = 2$ for SGD, $A[g] = \mathrm{sgn}(g)$ and $p = 1$ for Adam. While the
    norm is above $\gamma$ a step lowers the norm, otherwise the loss, by Adam on the factors. Costs
    about four gradients a step. The paper takes fresh examples for the second loss; here both are
    on `batch`. Of all factors tried those with the smallest loss among those that keep the
    constraint are returned, the last ones if none does. Compiled once for each `loss_fn` and
    shapes.

    Args:
      key: Not used: the directions of the weights are those of `params`. It is here so that all
        calibrations are called the same way.
      loss_fn: `loss_fn(params, batch)` returns a scalar or a pair `(scalar, aux)`.
      params: Where to start; leaves of zeros stay.
      batch: The data.
      optimizer: What the network will be trained with.
      step_size: $\eta \ge 0$, the learning rate it will be trained with.
      gradient_norm: $\gamma > 0$.
      learning_rate: Of the factors.
      num_steps: Steps of descent on the factors.
      min_scale: $\underline\alpha > 0$.

    Returns:
      The parameters, and what was done; `report.objective` is the loss after the step of training,
      at each step. Where a loss or gradient is NaN or infinite, or the constraint is not kept,
      `report.converged` is false, `report.unmet` names what is, and the parameters are the best
      finite ones, or those that came.

    Raises:
      TypeError: If `loss_fn` cannot be traced, a parameter is an integer array, or it is called
        inside a transformation such as `jit`: it decides by what it measures.
      ValueError: If no weight meets data where it can be reached, the batch holds one example, or
        an option is out of its range.

    Example:
      >>> from jaxopt_tut.models import mlp
      >>> x = jax.random.normal(jax.random.key(0), (16, 4))
      >>> params = jax.tree.map(lambda w: 4 * w, mlp.init(jax.random.key(1), (4, 8, 2)))
      >>> def loss_fn(params, x):
      ...     return jnp.mean((mlp.apply(params, x) - 1) ** 2)
      >>> params, report = gradinit(
      ...     jax.random.key(2), loss_fn, params, x, learning_rate=0.1, num_steps=40)
      >>> bool(report.objective[-1] < 0.5 * report.objective[0])
      True

    References:
      Zhu, Ni, Xu, Kong, Huang, Goldstein (2021), eq. 1 and algorithm 1.
      https://arxiv.org/abs/2102.08098
    """
    require_concrete("gradinit", params, batch, step_size, gradient_norm, learning_rate, min_scale)
    del key  # The directions are those of the parameters.
    if optimizer not in ("sgd", "adam"):
        raise ValueError(f"gradinit needs optimizer 'sgd' or 'adam', got optimizer={optimizer!r}.")
    require_options(
        "gradinit",
        0.0,
        num_steps,
        step_size=step_size,
        gradient_norm=gradient_norm,
        learning_rate=learning_rate,
        min_scale=min_scale,
    )
    network = read_network("gradinit", loss_fn, params, batch)
    before = network.spreads()
    weights = list(network.weights.values())
    numbers = (step_size, gradient_norm, learning_rate, min_scale)
    norms, tried = _tune_scales(
        network.frame, num_steps, optimizer == "sgd", weights, network.data, numbers
    )
    return finished(network, before, tried, np.asarray(norms) / gradient_norm, batch)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _tune_scales(frame: Frame, num_steps, is_sgd, weights, data, numbers):
    """Return the norm of the gradient, and what was found, at each step."""
    step_size, gradient_norm, learning_rate, min_scale = (
        jnp.asarray(x, jnp.float32) for x in numbers
    )
    loss = loss_of(frame, data)

    def objectives(scales):
        scaled = scaled_by(weights, scales)
        value, gradient = jax.value_and_grad(loss)(scaled)
        if is_sgd:
            square = sum(jnp.sum(at_least_single(g) ** 2).astype(jnp.float32) for g in gradient)
            # written so that NaN stays
            norm = jnp.where(square == 0, 0, jnp.sqrt(jnp.where(square == 0, 1, square)))
        else:
            norm = sum(jnp.sum(jnp.abs(at_least_single(g))).astype(jnp.float32) for g in gradient)
        moved = [
            w - step_size.astype(w.dtype) * (g if is_sgd else jnp.sign(g))
            for w, g in zip(scaled, gradient, strict=True)
        ]
        after = loss(moved).astype(jnp.float32)
        parts = [largest_entry(g) for g in gradient]
        aim = jnp.where(norm > gradient_norm, norm, after)
        return aim, (norm, after, value.astype(jnp.float32), parts)

    descent = adam(learning_rate)

    def step(carry, _):
        scales, state = carry
        (value, found), slopes = jax.value_and_grad(objectives, has_aux=True)(scales)
        norm, after, loss_here, parts = found
        moved, new_state, *_ = take_step(
            "gradinit", descent, lambda s: objectives(s)[0], scales, state, (value, slopes)
        )
        moved = jax.tree.map(lambda s: jnp.maximum(s, min_scale), moved)
        carry = where_finite((moved, new_state), (scales, state))
        return carry, (norm, Tried(after, scales, loss_here, parts, are_finite(slopes)))

    start = [jnp.ones((), jnp.float32) for _ in weights]
    return control_flow.scan(step, (start, descent.init(start)), length=num_steps)[1]
