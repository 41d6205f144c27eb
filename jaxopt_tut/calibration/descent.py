"""Scales found by descent: MetaInit and GradInit."""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jaxopt_tut import control_flow
from jaxopt_tut.calibration.network import Frame, read_network, require_concrete
from jaxopt_tut.calibration.reports import CalibrationReport
from jaxopt_tut.calibration.search import (
    Tried,
    are_finite,
    finished,
    largest_entry,
    where_finite,
)
from jaxopt_tut.hyperparameters import require_nonnegative
from jaxopt_tut.jaxprs import function_of
from jaxopt_tut.optimizers import adam
from jaxopt_tut.optimizers.inner import take_step
from jaxopt_tut.trees import at_least_single
from jaxopt_tut.types import Batch, LossFn, Params


def metainit(
    key: Key[Array, ""],
    loss_fn: LossFn,
    params: Params,
    batch: Batch,
    *,
    learning_rate: float = 0.1,
    decay: float = 0.9,
    num_steps: int = 500,
    eps: float = 1e-5,
) -> tuple[Params, CalibrationReport]:
    r"""Tune the norms of the weights until the gradient hardly changes along itself.

    $$\mathrm{GQ}(\theta) = \frac1N \Bigl\| \frac{g - H g}{g + \epsilon\, \mathrm{sgn}(g)} - 1
      \Bigr\|_1, \qquad
      m_j \gets \beta m_j - \eta\, \mathrm{sgn} \frac{\partial\, \mathrm{GQ}}{\partial \|w_j\|},
      \qquad \|w_j\| \gets \|w_j\| + m_j$$

    for every leaf $w_j$ of at least two axes, with gradient g and Hessian H of the loss. Where the
    quotient is small, a step of descent meets the gradient it was computed from. It knows nothing
    of layers, so it fits any loss, and it is dear: a step costs some ten gradients. Of all the
    norms tried the ones with the smallest quotient are returned (the paper returns the last).
    Compiled once for each `loss_fn` and shapes.

    Args:
      key: Not used: the directions of the weights are those of `params`. It is here so that all
        calibrations are called the same way.
      loss_fn: `loss_fn(params, batch)` returns a scalar or a pair `(scalar, aux)`; three times
        differentiable where it matters (ReLU is).
      params: Where to start.
      batch: The data; the paper needs no true ones, and draws inputs from N(0, 1).
      learning_rate: $\eta \ge 0$.
      decay: $\beta$ in [0, 1).
      num_steps: Steps of descent.
      eps: $\epsilon > 0$, against gradients of zero.

    Returns:
      The parameters, and what was done; `report.objective` is the quotient at each step. Where
      loss, gradient or quotient is NaN or infinite, `report.converged` is false, `report.unmet`
      names the first that is, and the parameters are the best finite ones, or those that came.

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
      ...     return jnp.mean(mlp.apply(params, x, jnp.tanh) ** 2)
      >>> params, report = metainit(jax.random.key(2), loss_fn, params, x, num_steps=20)
      >>> bool(report.objective.min() < report.objective[0])
      True

    References:
      Dauphin, Schoenholz (2019), eq. 2 and algorithm 1. https://openreview.net/forum?id=SyeO5BBeUr
    """
    require_concrete("metainit", params, batch, learning_rate, decay, eps)
    del key  # The directions are those of the parameters.
    _require_options("metainit", decay, num_steps, learning_rate=learning_rate, eps=eps)
    network = read_network("metainit", loss_fn, params, batch)
    before = network.spreads()
    weights = list(network.weights.values())
    tried = _tune_norms(network.frame, num_steps, weights, network.data, learning_rate, decay, eps)
    return finished(network, before, tried, None, batch)


@partial(jax.jit, static_argnums=(0, 1))
def _tune_norms(frame: Frame, num_steps, weights, data, learning_rate, decay, eps):
    """Return what was found at each step."""
    loss = _loss(frame, data)
    num_weights = sum(leaf.size for leaf in weights)

    def quotient(scales):
        scaled = _scaled(weights, scales)
        direction = jax.grad(loss)(scaled)
        (value, slope), (_, change) = jax.jvp(jax.value_and_grad(loss), (scaled,), (direction,))
        quotient = sum(map(deviation, slope, change)) / num_weights
        norms = [largest_entry(g) for g in slope]
        return quotient, (value.astype(jnp.float32), norms)

    def deviation(g, hg):
        g, hg = at_least_single(g), at_least_single(hg)
        sign = jax.lax.stop_gradient(jnp.where(g >= 0, 1, -1).astype(g.dtype))
        away = eps.astype(g.dtype) * sign
        return jnp.sum(jnp.abs((g - hg) / (g + away) - 1)).astype(jnp.float32)

    norms = [jnp.linalg.norm(at_least_single(leaf.ravel())).astype(jnp.float32) for leaf in weights]
    shares = [
        jnp.where((norm > 0) & (leaf.ndim >= 2), 1 / jnp.where(norm > 0, norm, 1), 0)
        for leaf, norm in zip(weights, norms, strict=True)
    ]

    def step(carry, _):
        scales, speeds = carry
        (value, (before, norms)), slopes = jax.value_and_grad(quotient, has_aux=True)(scales)
        # The derivative by a norm has the sign of the one by its scale.
        pushed = [
            decay * speed - learning_rate * jnp.sign(slope)
            for speed, slope in zip(speeds, slopes, strict=True)
        ]
        moved = [s + v * share for s, v, share in zip(scales, pushed, shares, strict=True)]
        after = where_finite((moved, pushed), (scales, speeds))
        return after, Tried(value, scales, before, norms, are_finite(slopes))

    learning_rate, decay, eps = (jnp.asarray(x, jnp.float32) for x in (learning_rate, decay, eps))
    start = [jnp.ones((), jnp.float32) for _ in weights]
    rest = [jnp.zeros((), jnp.float32) for _ in weights]
    return control_flow.scan(step, (start, rest), length=num_steps)[1]


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
    _require_options(
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
    loss = _loss(frame, data)

    def objectives(scales):
        scaled = _scaled(weights, scales)
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


def _require_options(caller, decay, num_steps, **positive) -> None:
    if not 0 <= decay < 1:
        raise ValueError(f"{caller} needs 0 <= decay < 1, got decay={decay}.")
    if num_steps < 1:
        raise ValueError(f"{caller} needs num_steps >= 1, got num_steps={num_steps}.")
    require_nonnegative(caller, **positive)


def _loss(frame: Frame, data):
    """Build the loss as a function of the arrays among the parameters."""
    fun = function_of(frame.jaxpr)

    def loss(weights) -> Float[Array, ""]:
        return fun(*weights, *data)[0]  # what comes behind is `aux`

    return loss


def _scaled(weights, scales):
    return [w * scale.astype(w.dtype) for w, scale in zip(weights, scales, strict=True)]
