"""Learn how strongly to regularise."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxopt_tut.bilevel.hypergrad import hypergrad
from jaxopt_tut.bilevel.modes import DiffMode, Implicit
from jaxopt_tut.bilevel.recipes.arguments import require_counts
from jaxopt_tut.bilevel.recipes.learning import Learned, learn
from jaxopt_tut.bilevel.solvers import SolverLike
from jaxopt_tut.hyperparameters import require_positive
from jaxopt_tut.losses import value_part
from jaxopt_tut.tracing import seen
from jaxopt_tut.types import LossFn, Number, Optimizer, Params


def half_squared_norm(params: Params) -> Array:
    r"""Return $\tfrac12 \lVert w \rVert^2$ over all leaves."""
    return jnp.asarray(0.5 * sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params)))


def tune_regularizer(
    train_loss: LossFn,
    validation_loss: LossFn,
    params: Params,
    *,
    solver: SolverLike,
    inner_steps: int,
    optimizer: Optimizer,
    num_steps: int,
    start: Number = 1.0,
    penalty: LossFn | None = None,
    diff: DiffMode | None = None,
) -> Learned:
    r"""Learn the strength of a penalty by the validation loss.

    $$\min_\lambda L_{\text{val}}(w^*(\lambda)), \qquad
    w^*(\lambda) = \arg\min_w L_{\text{train}}(w) + \lambda\, \Omega(w), \qquad \lambda > 0$$

    over $\log \lambda$, which keeps it positive.

    Args:
      train_loss: `train_loss(params)`: a loss, or a pair of one and what is dropped.
      validation_loss: `validation_loss(params)`, likewise.
      params: Where the inner steps start.
      solver: The inner optimizer.
      inner_steps: Its steps.
      optimizer: The outer optimizer, of the logarithm.
      num_steps: Its steps.
      start: $\lambda > 0$ to start from.
      penalty: $\Omega$; `None` is half the squared norm.
      diff: The mode of differentiation; `None` is `Implicit()`.

    Returns:
      $\lambda$, and the validation loss before each outer step.

    Raises:
      ValueError: If a number of steps is too small, or a known `start` is not positive.

    Example:
      $w^* = 2 / (1 + \lambda)$ fits a validation target of 1 best at $\lambda = 1$.

      >>> from jaxopt_tut.optimizers import sgd
      >>> learned = tune_regularizer(
      ...     lambda w: 0.5 * (w - 2.0) ** 2, lambda w: (w - 1.0) ** 2, 0.0, solver=sgd(0.4),
      ...     inner_steps=60, optimizer=sgd(0.5), num_steps=80, start=0.2)
      >>> print(f"{learned.value:.3f}")
      1.000

    References:
      Pedregosa (2016), section 4. https://arxiv.org/abs/1602.02355
    """
    require_counts("tune_regularizer", num_steps=num_steps, inner_steps=inner_steps)
    require_positive("tune_regularizer", scalar=False, finite=True, start=seen(start))
    if jnp.shape(start) != ():
        raise ValueError(
            f"tune_regularizer needs one number as start, got shape {jnp.shape(start)}."
        )

    mode = Implicit() if diff is None else diff
    size_of = half_squared_norm if penalty is None else penalty

    def inner(w: Params, log_strength: Array) -> Any:
        return value_part(train_loss(w)) + jnp.exp(log_strength) * value_part(size_of(w))

    def value_and_grad(log_strength: Array) -> tuple[Any, Any]:
        options = {"solver": solver, "steps": inner_steps, "diff": mode}
        outer = lambda w, _: validation_loss(w)
        value, grads, _ = hypergrad(outer, inner, params, log_strength, **options)
        return value, grads["z"]

    learned = learn(value_and_grad, jnp.log(start), optimizer, num_steps)
    return learned._replace(value=jnp.exp(learned.value))
