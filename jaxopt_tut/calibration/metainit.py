"""MetaInit: norms of the weights at which the gradient hardly changes along itself."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Num

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
from jaxopt_tut.trees import at_least_single
from jaxopt_tut.types import Batch, LossFn, Params, PRNGKey, PyTree


def metainit(
    key: PRNGKey,
    loss_fn: LossFn,
    params: Params,
    batch: Batch,
    *,
    learning_rate: float = 0.1,
    decay: float = 0.9,
    num_steps: int = 500,
    eps: float = 1e-5,
    model_state: PyTree = None,
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
      key: For a loss that draws: the directions of the weights are those of `params`.
      loss_fn: `loss_fn(params, batch)` returns a scalar or a pair `(scalar, aux)`; one that draws
        takes a key, `(params, batch, key)`, and with `model_state` that comes last, as in `fit`.
        Three times differentiable where it matters (ReLU is).
      params: Where to start.
      batch: The data; the paper needs no true ones, and draws inputs from N(0, 1).
      learning_rate: $\eta \ge 0$.
      decay: $\beta$ in [0, 1).
      num_steps: Steps of descent.
      eps: $\epsilon > 0$, against gradients of zero.
      model_state: For a function that is handed a state, such as running averages.

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
    require_options("metainit", decay, num_steps, learning_rate=learning_rate, eps=eps)
    network = read_network("metainit", loss_fn, params, batch, key=key, model_state=model_state)
    before = network.spreads()
    weights = list(network.weights.values())
    tried = _tune_norms(network.frame, num_steps, weights, network.data, learning_rate, decay, eps)
    return finished(network, before, tried, None, batch)


@partial(jax.jit, static_argnums=(0, 1))
def _tune_norms(
    frame: Frame,
    num_steps: int,
    weights: list[Array],
    data: list[Array],
    learning_rate: Num[Array, ""],
    decay: Num[Array, ""],
    eps: Num[Array, ""],
) -> Tried:
    """Return what was found at each step."""
    loss = loss_of(frame, data)
    num_weights = sum(leaf.size for leaf in weights)

    def quotient(scales):
        # g and H g in one pass: the derivative of the gradient along itself.
        scaled = scaled_by(weights, scales)
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

    # By how much the factor of a leaf changes with its norm; not at all for biases and zeros.
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
