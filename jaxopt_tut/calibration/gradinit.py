"""GradInit: factors of the weights from which the first step of training lowers the loss most."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Num
from typing_extensions import TypeAliasType

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
from jaxopt_tut.optimizers import adam, differentiable
from jaxopt_tut.optimizers.inner import require_optimizer, take_step, updated
from jaxopt_tut.trees import Rebuild, at_least_single
from jaxopt_tut.types import Batch, LossFn, Optimizer, Params, PRNGKey, PyTree

Trained = TypeAliasType("Trained", Literal["sgd", "adam"] | Optimizer)
"""What a network is trained with: one of the paper's two rules, or any transformation."""


def gradinit(
    key: PRNGKey,
    loss_fn: LossFn,
    params: Params,
    batch: Batch,
    *,
    optimizer: Trained = "sgd",
    step_size: float | None = None,
    gradient_norm: float = 1.0,
    learning_rate: float = 1e-2,
    num_steps: int = 390,
    min_scale: float = 0.01,
    model_state: PyTree = None,
) -> tuple[Params, CalibrationReport]:
    r"""Learn one factor a leaf so that the first step of training lowers the loss most.

    $$\min_{\alpha \ge \underline\alpha} L\bigl(\alpha \theta - \eta\, A[g]\bigr) \quad
      \text{subject to} \quad \|g\|_p \le \gamma, \qquad g = \nabla L(\alpha \theta),$$

    with $-\eta A[g]$ the first update of the optimizer; $p = 2$ where it grows with the gradient,
    as that of SGD, and $p = 1$ where it does not, as that of Adam. While the norm is above
    $\gamma$ a step lowers the norm, otherwise the loss, by Adam on the factors. Costs about four
    gradients a step. The paper takes fresh examples for the second loss; here both are on `batch`.
    Of all factors tried those with the smallest loss among those that keep the constraint are
    returned, the last ones if none does. Compiled once for each `loss_fn`, `optimizer` and shapes.

    Args:
      key: For a loss that draws: the directions of the weights are those of `params`.
      loss_fn: `loss_fn(params, batch)` returns a scalar or a pair `(scalar, aux)`; one that draws
        takes a key, `(params, batch, key)`, and with `model_state` that comes last, as in `fit`.
      params: Where to start; leaves of zeros stay.
      batch: The data.
      optimizer: What the network will be trained with: any optax transformation whose first step
        can be differentiated, or the paper's $A[g] = g$ ("sgd") or $\mathrm{sgn}(g)$ ("adam").
      step_size: $\eta \ge 0$, the learning rate of these two, 0.1 if None; a transformation has
        its own.
      gradient_norm: $\gamma > 0$.
      learning_rate: Of the factors.
      num_steps: Steps of descent on the factors.
      min_scale: $\underline\alpha > 0$.
      model_state: For a function that is handed a state, such as running averages.

    Returns:
      The parameters, and what was done; `report.objective` is the loss after the step of training,
      at each step. Where a loss or gradient is NaN or infinite, or the constraint is not kept,
      `report.converged` is false, `report.unmet` names what is, and the parameters are the best
      finite ones, or those that came.

    Raises:
      TypeError: If `loss_fn` cannot be traced, a parameter is an integer array, the step of
        `optimizer` cannot be differentiated, or it is called inside a transformation such as
        `jit`: it decides by what it measures.
      ValueError: If no weight meets data where it can be reached, the batch holds one example, an
        option is out of its range, or `step_size` comes beside a transformation.

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
    if isinstance(optimizer, str):
        if optimizer not in ("sgd", "adam"):
            raise ValueError(
                f"gradinit needs optimizer 'sgd' or 'adam', got optimizer={optimizer!r}."
            )
    elif step_size is not None:
        raise ValueError(
            "gradinit needs step_size=None beside a transformation, which has its own learning "
            f"rate, got step_size={step_size}."
        )
    else:
        require_optimizer("gradinit", optimizer)
    step_size = 0.1 if step_size is None else step_size
    require_options(
        "gradinit",
        0.0,
        num_steps,
        step_size=step_size,
        gradient_norm=gradient_norm,
        learning_rate=learning_rate,
        min_scale=min_scale,
    )
    network = read_network("gradinit", loss_fn, params, batch, key=key, model_state=model_state)
    before = network.spreads()
    weights = list(network.weights.values())
    numbers = (step_size, gradient_norm, learning_rate, min_scale)
    # The tree of the weights alone: what is fixed in it need not have a hash.
    rebuild = network.parts.rebuild
    mould = replace(rebuild, fixed=(None,) * len(rebuild.fixed))
    tuned = partial(_tune_scales, network.frame, num_steps, optimizer, mould)
    try:
        norms, tried = tuned(weights, network.data, numbers)
    except Exception as error:
        if isinstance(optimizer, str):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if not reason.startswith("gradinit "):
            reason = (
                "gradinit needs an optimizer whose step can be differentiated, got one that says: "
                + reason
            )
        raise TypeError(reason) from error
    return finished(network, before, tried, np.asarray(norms) / gradient_norm, batch)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _tune_scales(
    frame: Frame,
    num_steps: int,
    optimizer: Trained,
    mould: Rebuild,
    weights: list[Array],
    data: list[Array],
    numbers: tuple[Num[Array, ""], ...],
) -> tuple[Float[Array, " step"], Tried]:
    """Return the norm of the gradient, and what was found, at each step."""
    step_size, gradient_norm, learning_rate, min_scale = (
        jnp.asarray(x, jnp.float32) for x in numbers
    )
    loss = loss_of(frame, data)
    update = _first_update(optimizer, mould, loss, step_size)
    ones = [jnp.ones((), jnp.float32) for _ in weights]
    if isinstance(optimizer, str):
        grows = optimizer == "sgd"
    else:
        grows = _grows(update, weights, *jax.value_and_grad(loss)(weights))

    def objectives(scales: list[Float[Array, ""]]) -> tuple[Array, Any]:
        scaled = scaled_by(weights, scales)
        value, gradient = jax.value_and_grad(loss)(scaled)
        norm = _norm(gradient, grows)
        moved = [w + u for w, u in zip(scaled, update(scaled, value, gradient), strict=True)]
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

    return control_flow.scan(step, (ones, descent.init(ones)), length=num_steps)[1]


Update = Callable[[list[Array], Array, list[Array]], list[Array]]
"""From parameters, loss and gradient to what an optimizer adds first."""


def _first_update(
    optimizer: Trained, mould: Rebuild, loss: Callable[[list[Array]], Array], step_size: Array
) -> Update:
    """Return the first update of an optimizer as a function that can be differentiated."""
    if isinstance(optimizer, str):
        direction = (lambda g: g) if optimizer == "sgd" else jnp.sign
        return lambda _, __, gradient: [
            -step_size.astype(g.dtype) * direction(g.conj()) for g in gradient
        ]
    safe = differentiable(optimizer)

    def update(params: list[Array], value: Array, gradient: list[Array]) -> list[Array]:
        # Optimizers are told the tree: some treat leaves by name, or by their number of axes.
        tree, ascent = mould(params), mould(map(jnp.conj, gradient))
        on_tree = lambda tree: loss(jax.tree.leaves(tree))
        known = value, ascent
        return jax.tree.leaves(updated("gradinit", safe, on_tree, tree, safe.init(tree), known)[0])

    return update


def _grows(
    update: Update, params: list[Array], value: Array, gradient: list[Array]
) -> Bool[Array, ""]:
    """Tell whether twice the gradient makes about twice the update, and not about the same."""
    once = update(params, value, gradient)
    twice = update(params, value, [2 * g for g in gradient])
    away = [_root_of_squares([b - k * a for a, b in zip(once, twice, strict=True)]) for k in (1, 2)]
    return away[1] <= away[0]


def _norm(gradient: list[Array], grows: bool | Bool[Array, ""]) -> Float[Array, ""]:
    """Return the norm that the first update asks for, see `gradinit`."""
    if isinstance(grows, bool):
        return _root_of_squares(gradient) if grows else _sum_of_sizes(gradient)
    return jnp.where(grows, _root_of_squares(gradient), _sum_of_sizes(gradient))


def _root_of_squares(leaves: list[Array]) -> Float[Array, ""]:
    square = sum(jnp.sum(jnp.abs(at_least_single(x)) ** 2).astype(jnp.float32) for x in leaves)
    # written so that NaN stays
    return jnp.where(square == 0, 0, jnp.sqrt(jnp.where(square == 0, 1, square)))


def _sum_of_sizes(leaves: list[Array]) -> Float[Array, ""]:
    return jnp.asarray(
        sum(jnp.sum(jnp.abs(at_least_single(x))).astype(jnp.float32) for x in leaves)
    )
