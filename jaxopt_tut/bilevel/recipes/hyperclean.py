"""Find mislabelled examples: a weight for each, learned from a clean validation set."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxopt_tut.bilevel.hypergrad import hypergrad
from jaxopt_tut.bilevel.modes import DiffMode, Implicit
from jaxopt_tut.bilevel.recipes.arguments import require_counts
from jaxopt_tut.bilevel.recipes.learning import Learned, learn
from jaxopt_tut.bilevel.solvers import SolverLike
from jaxopt_tut.hyperparameters import require_nonnegative
from jaxopt_tut.losses import WithoutAux
from jaxopt_tut.tracing import seen
from jaxopt_tut.types import Batch, LossFn, Number, Optimizer, Params


def hyperclean(
    losses_fn: LossFn,
    params: Params,
    train: Batch,
    validation: Batch,
    *,
    solver: SolverLike,
    inner_steps: int,
    optimizer: Optimizer,
    num_steps: int,
    diff: DiffMode | None = None,
    penalty: Number = 1e-3,
) -> Learned:
    r"""Learn a weight in (0, 1) for each training example.

    $$\min_z \bar\ell(y^*(z), \text{validation}), \qquad y^*(z) =
    \arg\min_y \frac1n \sum_i \sigma(z_i)\, \ell_i(y) + \tfrac{\gamma}{2} \lVert y \rVert^2$$

    Examples whose loss pulls away from the validation set lose their weight.

    Args:
      losses_fn: `losses_fn(params, batch)`: one loss an example, or a pair of them and what is
        dropped.
      params: Where the inner steps start.
      train: All training examples, some of them wrong.
      validation: Clean examples.
      solver: The inner optimizer.
      inner_steps: Its steps.
      optimizer: The outer optimizer, of the logits $z$; they start at 0, weights at one half.
      num_steps: Its steps.
      diff: The mode of differentiation; `None` is `Implicit()`.
      penalty: $\gamma$, which makes the inner problem strictly convex.

    Returns:
      The weights, and the validation loss before each outer step.

    Raises:
      ValueError: If a number of steps is too small, a known `penalty` negative, or there is not one
        loss for each of one or more examples.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxopt_tut.optimizers import sgd
      >>> train, validation = jnp.array([1.0, 1.1, -5.0]), jnp.array([1.0, 1.05])
      >>> learned = hyperclean(lambda y, batch: (y - batch) ** 2, 0.0, train, validation,
      ...                      solver=sgd(0.5), inner_steps=60, optimizer=sgd(1.0), num_steps=60)
      >>> print(learned.value > 0.5)
      [ True  True False]

    References:
      Franceschi et al. (2017), section 5.1. https://arxiv.org/abs/1703.01785
    """
    require_counts("hyperclean", num_steps=num_steps, inner_steps=inner_steps)
    require_nonnegative("hyperclean", scalar=False, penalty=seen(penalty))
    mode = Implicit() if diff is None else diff
    losses_of = WithoutAux(losses_fn)
    count = jax.eval_shape(losses_of, params, train)
    for batch, losses in (
        ("train", count),
        ("validation", jax.eval_shape(losses_of, params, validation)),
    ):
        if len(losses.shape) != 1 or losses.shape[0] == 0:
            raise ValueError(
                "hyperclean needs losses_fn to return one loss for each of one or more examples, "
                f"got shape {losses.shape} on {batch}."
            )

    def inner(y: Params, z: Array) -> Any:
        squares = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(y))
        return jnp.mean(jax.nn.sigmoid(z) * losses_of(y, train)) + 0.5 * penalty * squares

    def outer(y: Params, z: Array) -> Any:
        del z
        return jnp.mean(losses_of(y, validation))

    def value_and_grad(z: Array) -> tuple[Any, Any]:
        options = {"solver": solver, "steps": inner_steps, "diff": mode}
        value, grads, _ = hypergrad(outer, inner, params, z, **options)
        return value, grads["z"]

    learned = learn(value_and_grad, jnp.zeros(count.shape, count.dtype), optimizer, num_steps)
    return learned._replace(value=jax.nn.sigmoid(learned.value))
