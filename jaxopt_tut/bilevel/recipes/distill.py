"""Learn a small data set that trains as well as a large one."""

from typing import Any

from jaxopt_tut.bilevel.hypergrad import hypergrad
from jaxopt_tut.bilevel.modes import DiffMode, Unroll
from jaxopt_tut.bilevel.recipes.arguments import require_counts, require_rows, require_some
from jaxopt_tut.bilevel.recipes.learning import Learned, learn
from jaxopt_tut.bilevel.solvers import SolverLike
from jaxopt_tut.types import Batch, LossFn, Optimizer, Params, PyTree


def distill(
    loss_fn: LossFn,
    params: Params,
    inputs: PyTree,
    labels: PyTree,
    data: Batch,
    *,
    solver: SolverLike,
    inner_steps: int,
    optimizer: Optimizer,
    num_steps: int,
    diff: DiffMode = Unroll("sqrt"),  # noqa: B008  a frozen value
) -> Learned:
    r"""Learn the inputs of a few synthetic examples, for given labels.

    $$\min_{\tilde x} L(y_T(\tilde x), \text{data}), \qquad
    y_T(\tilde x) = \text{steps on } L(\cdot, (\tilde x, \tilde t)) \text{ from } y_0$$

    Args:
      loss_fn: `loss_fn(params, (inputs, labels))`: a loss, or a pair of one and what is dropped.
      params: $y_0$, where the inner steps start.
      inputs: The synthetic inputs to start from.
      labels: Their labels, which stay.
      data: The real examples, as `loss_fn` takes them.
      solver: The inner optimizer.
      inner_steps: Its steps.
      optimizer: The outer optimizer, of the inputs.
      num_steps: Its steps.
      diff: An exact mode of differentiation.

    Returns:
      The synthetic inputs, and the loss on the data before each outer step.

    Raises:
      ValueError: If a number of steps is too small, there are no examples, or not as many inputs as
        labels.

    Example:
      One point teaches the line that a hundred lie on.

      >>> import jax.numpy as jnp
      >>> from jaxopt_tut.optimizers import sgd
      >>> x = jnp.linspace(-1.0, 1.0, 100)
      >>> loss = lambda slope, batch: jnp.mean((slope * batch[0] - batch[1]) ** 2)
      >>> learned = distill(loss, 0.0, jnp.array([1.0]), jnp.array([1.0]), (x, 2 * x),
      ...                   solver=sgd(0.4), inner_steps=20, optimizer=sgd(0.05), num_steps=60)
      >>> print(abs(learned.value - 0.5) < 0.05)
      [ True]

    References:
      Wang et al. (2018), algorithm 1. https://arxiv.org/abs/1811.10959
    """
    require_counts("distill", num_steps=num_steps, inner_steps=inner_steps)
    require_rows("distill", "examples", inputs=inputs, labels=labels)
    require_some("distill", data=data)

    def value_and_grad(inputs: PyTree) -> tuple[Any, Any]:
        options = {"solver": solver, "steps": inner_steps, "diff": diff}
        outer = lambda y, _: loss_fn(y, data)
        inner = lambda y, z: loss_fn(y, (z, labels))
        value, grads, _ = hypergrad(outer, inner, params, inputs, **options)
        return value, grads["z"]

    return learn(value_and_grad, inputs, optimizer, num_steps)
