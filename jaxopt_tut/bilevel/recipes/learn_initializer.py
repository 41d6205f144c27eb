"""Learn the gain of each layer's initialization."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_tut.bilevel.argmin import argmin
from jaxopt_tut.bilevel.modes import DiffMode, Unroll
from jaxopt_tut.bilevel.recipes.arguments import require_counts, require_rows, require_some
from jaxopt_tut.bilevel.recipes.learning import Learned, learn
from jaxopt_tut.bilevel.solvers import SolverLike
from jaxopt_tut.losses import value_part
from jaxopt_tut.types import Batch, LossFn, Optimizer, Params, PyTree


def learn_initializer(
    loss_fn: LossFn,
    params: Params,
    batches: PyTree,
    validation: Batch,
    *,
    solver: SolverLike,
    optimizer: Optimizer,
    num_steps: int,
    diff: DiffMode = Unroll("sqrt"),  # noqa: B008  a frozen value
) -> Learned:
    r"""Learn a factor for each leaf of the initial parameters.

    $$\min_g L(y_T(e^g \odot w_0), \text{validation}), \qquad
    y_T(w) = \text{one step on each batch from } w$$

    with one $g$ a leaf: how large each layer should start for training to go well, to hold beside
    what theory says (`initializers.gain`).

    Args:
      loss_fn: `loss_fn(params, batch)`: a loss, or a pair of one and what is dropped.
      params: $w_0$.
      batches: What the inner steps see, with a leading axis of steps.
      validation: The batch by which the run is judged.
      solver: The inner optimizer.
      optimizer: The outer optimizer, of the logarithms.
      num_steps: Its steps.
      diff: An exact mode of differentiation.

    Returns:
      The factors, in a tree like `params`, and the validation loss before each outer step.

    Raises:
      ValueError: If `num_steps` is negative, or there are no batches or of unequal number.

    Example:
      The product of two weights should be 4, and one small step cannot make it so.

      >>> import jax.numpy as jnp
      >>> from jaxopt_tut.optimizers import sgd
      >>> loss = lambda w, target: (w["a"] * w["b"] - target) ** 2
      >>> start = {"a": jnp.array(1.0), "b": jnp.array(1.0)}
      >>> learned = learn_initializer(loss, start, jnp.array([4.0]), 4.0, solver=sgd(0.001),
      ...                             optimizer=sgd(0.01), num_steps=100)
      >>> print(f"{learned.value['a'] * learned.value['b']:.2f}")
      4.00

    References:
      Dauphin and Schoenholz (2019), section 3, with another loss.
      https://proceedings.neurips.cc/paper/2019/hash/876e8108f87eb61877c6263228b67256-Abstract.html
    """
    require_counts("learn_initializer", num_steps=num_steps)
    inner_steps = require_rows("learn_initializer", "steps", batches=batches)
    require_some("learn_initializer", validation=validation)

    def loss_after(log_gains: PyTree) -> Any:
        start = jax.tree.map(lambda g, w: jnp.exp(g).astype(w.dtype) * w, log_gains, params)
        inner = lambda y, _, batch: loss_fn(y, batch)
        options = {"solver": solver, "steps": inner_steps, "diff": diff, "batches": batches}
        return value_part(loss_fn(argmin(inner, start, (), **options).y, validation))

    zeros = jax.tree.map(lambda leaf: jnp.zeros((), leaf.dtype), params)
    learned = learn(jax.value_and_grad(loss_after), zeros, optimizer, num_steps)
    return learned._replace(value=jax.tree.map(jnp.exp, learned.value))
