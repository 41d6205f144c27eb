"""Scales found by descent: MetaInit and GradInit."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jaxopt_tut.calibration.lsuv import make_report
from jaxopt_tut.calibration.network import read_network
from jaxopt_tut.calibration.reports import CalibrationReport, How
from jaxopt_tut.initializers.arguments import require_nonnegative
from jaxopt_tut.optimizers import adam
from jaxopt_tut.taps.tracing import traced_leaves
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
      The parameters, and what was done; `report.objective` is the quotient at each step.

    Raises:
      TypeError: If `loss_fn` cannot be traced, or a parameter is an integer array.
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
    del key  # The directions are those of the parameters.
    _require_options("metainit", decay, num_steps, learning_rate=learning_rate, eps=eps)
    network, before = _before("metainit", loss_fn, params, batch)
    arrays, loss = _array_loss(loss_fn, params, batch)

    def quotient(arrays):
        slope, change = jax.jvp(jax.grad(loss), (arrays,), (jax.grad(loss)(arrays),))
        return sum(map(_deviation, slope, change)) / sum(leaf.size for leaf in arrays)

    def _deviation(g, hg):
        sign = jax.lax.stop_gradient(jnp.where(g >= 0, 1, -1).astype(g.dtype))
        return jnp.sum(jnp.abs((g - hg) / (g + eps * sign) - 1)).astype(jnp.float32)

    def at(scales):
        return [leaf * scale.astype(leaf.dtype) for leaf, scale in zip(arrays, scales, strict=True)]

    norms = [jnp.linalg.norm(leaf.ravel()).astype(jnp.float32) for leaf in arrays]
    is_tuned = [leaf.ndim >= 2 and bool(norm > 0) for leaf, norm in zip(arrays, norms, strict=True)]

    def step(carry, _):
        scales, speeds = carry
        value, slopes = jax.value_and_grad(lambda scales: quotient(at(scales)))(scales)
        # The derivative by a norm has the sign of the one by its scale.
        moved, faster = [], []
        for scale, speed, slope, norm, tuned in zip(
            scales, speeds, slopes, norms, is_tuned, strict=True
        ):
            speed = decay * speed - learning_rate * jnp.sign(slope)
            faster.append(speed)
            moved.append(scale + speed / norm if tuned else scale)
        return (moved, faster), (value, scales)

    start = [jnp.ones((), jnp.float32) for _ in arrays]
    rest = [jnp.zeros((), jnp.float32) for _ in arrays]
    run = jax.jit(lambda: jax.lax.scan(step, (start, rest), length=num_steps)[1])
    objective, scales = run()
    return _finished(network, before, objective, scales)


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
    constraint are returned, the last ones if none does.

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
      at each step.

    Raises:
      TypeError: If `loss_fn` cannot be traced, or a parameter is an integer array.
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
    network, before = _before("gradinit", loss_fn, params, batch)
    arrays, loss = _array_loss(loss_fn, params, batch)
    is_sgd = optimizer == "sgd"

    def at(scales):
        return [leaf * scale.astype(leaf.dtype) for leaf, scale in zip(arrays, scales, strict=True)]

    def objectives(scales):
        weights = at(scales)
        gradient = jax.grad(loss)(weights)
        if is_sgd:
            square = sum(jnp.sum(g**2).astype(jnp.float32) for g in gradient)
            norm = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
        else:
            norm = sum(jnp.sum(jnp.abs(g)).astype(jnp.float32) for g in gradient)
        moved = [
            w - step_size * (g if is_sgd else jnp.sign(g))
            for w, g in zip(weights, gradient, strict=True)
        ]
        after = loss(moved).astype(jnp.float32)
        return jnp.where(norm > gradient_norm, norm, after), (norm, after)

    descent = adam(learning_rate)

    def step(carry, _):
        scales, state = carry
        (_, (norm, after)), slopes = jax.value_and_grad(objectives, has_aux=True)(scales)
        updates, state = descent.update(slopes, state, scales)
        moved = jax.tree.map(lambda s, u: jnp.maximum(s + u, min_scale), scales, updates)
        return (moved, state), (norm, after, scales)

    start = [jnp.ones((), jnp.float32) for _ in arrays]
    carry = (start, descent.init(start))
    (last, _), (norms, after, scales) = jax.jit(
        lambda: jax.lax.scan(step, carry, length=num_steps)
    )()
    scales = [jnp.append(tried, final) for tried, final in zip(scales, last, strict=True)]
    is_allowed = np.append(np.asarray(norms) <= gradient_norm, False)
    ranking = np.where(is_allowed, np.append(np.asarray(after), np.inf), np.inf)
    ranking[-1] = np.finfo(np.float64).max  # the last ones, if none keeps the constraint
    return _finished(network, before, after, scales, ranking)


def _require_options(caller, decay, num_steps, **positive) -> None:
    if not 0 <= decay < 1:
        raise ValueError(f"{caller} needs 0 <= decay < 1, got decay={decay}.")
    if num_steps < 1:
        raise ValueError(f"{caller} needs num_steps >= 1, got num_steps={num_steps}.")
    for name, value in positive.items():
        require_nonnegative(caller, name, value)


def _before(caller, loss_fn, params, batch):
    network = read_network(caller, loss_fn, params, batch)
    return network, network.variances()


def _array_loss(loss_fn, params, batch):
    """Return the arrays among the leaves, and the loss as a function of these alone."""
    leaves, treedef = jax.tree.flatten(params)
    flags = traced_leaves(params)
    arrays = [jnp.asarray(x) for x, traced in zip(leaves, flags, strict=True) if traced]

    def loss(arrays) -> Float[Array, ""]:
        fresh = iter(arrays)
        merged = [next(fresh) if traced else x for x, traced in zip(leaves, flags, strict=True)]
        result = loss_fn(treedef.unflatten(merged), batch)
        return result[0] if isinstance(result, tuple) else result

    return arrays, loss


def _finished(network, before, objective, scales, ranking=None):
    """Apply the best of the scales that were tried, and report."""
    ranking = np.asarray(objective if ranking is None else ranking, np.float64)
    best = int(np.argmin(np.where(np.isfinite(ranking), ranking, np.inf)))
    for name, tried in zip(network.weights, scales, strict=True):
        weight = network.weights[name]
        network.weights[name] = weight * tried[best].astype(weight.dtype)
    after = network.variances()
    how: dict[str, How] = dict.fromkeys(after, "learned")
    report = make_report(network, before, {}, after, how, True, objective)
    return network.merged(), report
