"""Meta-learning: a start from which few steps suffice."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_tut.bilevel.argmin import argmin
from jaxopt_tut.bilevel.linear_solves import CG
from jaxopt_tut.bilevel.modes import DiffMode, Implicit
from jaxopt_tut.bilevel.recipes.arguments import require_counts, require_rows
from jaxopt_tut.bilevel.recipes.learning import Learned, learn
from jaxopt_tut.bilevel.solvers import SolverLike
from jaxopt_tut.hyperparameters import require_positive
from jaxopt_tut.losses import value_part
from jaxopt_tut.tracing import seen
from jaxopt_tut.types import Batch, LossFn, Number, Optimizer, Params


def maml(
    loss_fn: LossFn,
    params: Params,
    support: Batch,
    query: Batch,
    *,
    solver: SolverLike,
    inner_steps: int,
    optimizer: Optimizer,
    num_steps: int,
    first_order: bool = False,
) -> Learned:
    r"""Learn the start that adapts best to a family of tasks.

    $$\min_\theta \frac1n \sum_i L(y_i(\theta), q_i), \qquad
    y_i(\theta) = \text{steps on } L(\cdot, s_i) \text{ from } \theta$$

    The derivative goes through the steps; `first_order` leaves it out, which is cheaper and has
    another optimum.

    Args:
      loss_fn: `loss_fn(params, batch)`: a loss, or a pair of one and what is dropped.
      params: The start of the start.
      support: What each task adapts to, with a leading axis of tasks.
      query: What each task is judged by, likewise.
      solver: The inner optimizer.
      inner_steps: Its steps.
      optimizer: The outer optimizer.
      num_steps: Its steps.
      first_order: Whether to take the inner steps for a constant shift.

    Returns:
      The learned start, and the mean query loss before each outer step.

    Raises:
      ValueError: If a number of steps is too small, or the tasks don't match.

    Example:
      Of tasks of equal curvature the best start is the mean of the minima.

      >>> import jax.numpy as jnp
      >>> from jaxopt_tut.optimizers import sgd
      >>> minima = jnp.array([1.0, 3.0])
      >>> learned = maml(lambda w, m: (w - m) ** 2, 0.0, minima, minima, solver=sgd(0.1),
      ...                inner_steps=1, optimizer=sgd(0.3), num_steps=60)
      >>> print(f"{learned.value:.3f}")
      2.000

    References:
      Finn et al. (2017), algorithm 1 and section 5.2. https://arxiv.org/abs/1703.03400
    """
    require_counts("maml", num_steps=num_steps, inner_steps=inner_steps)
    require_rows("maml", "tasks", support=support, query=query)

    def loss_after(start: Params, support: Batch, query: Batch) -> Any:
        adapted = argmin(loss_fn, start, support, solver=solver, steps=inner_steps).y
        if first_order:
            shift = lambda s, a: s + jax.lax.stop_gradient(a - s)
            adapted = jax.tree.map(shift, start, adapted)
        return value_part(loss_fn(adapted, query))

    def mean_loss(start: Params) -> Any:
        return jnp.mean(jax.vmap(loss_after, in_axes=(None, 0, 0))(start, support, query))

    return learn(jax.value_and_grad(mean_loss), params, optimizer, num_steps)


def imaml(
    loss_fn: LossFn,
    params: Params,
    support: Batch,
    query: Batch,
    *,
    strength: Number,
    solver: SolverLike,
    inner_steps: int,
    optimizer: Optimizer,
    num_steps: int,
    diff: DiffMode | None = None,
) -> Learned:
    r"""Learn the centre towards which each task is regularised.

    $$\min_\theta \frac1n \sum_i L(y_i(\theta), q_i), \qquad
    y_i(\theta) = \arg\min_y L(y, s_i) + \tfrac{\lambda}{2} \lVert y - \theta \rVert^2$$

    Implicit: the inner steps may be many, of any kind, and none is kept.

    Args:
      loss_fn: `loss_fn(params, batch)`: a loss, or a pair of one and what is dropped.
      params: The centre to start from.
      support: What each task adapts to, with a leading axis of tasks.
      query: What each task is judged by, likewise.
      strength: $\lambda > 0$; above the largest negative curvature of the loss.
      solver: The inner optimizer.
      inner_steps: Its steps: enough to converge.
      optimizer: The outer optimizer.
      num_steps: Its steps.
      diff: The mode of differentiation; `None` is `Implicit(CG())`.

    Returns:
      The learned centre, and the mean query loss before each outer step.

    Raises:
      ValueError: If a number of steps is too small, the tasks don't match, or a known
        `strength` is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxopt_tut.optimizers import sgd
      >>> minima = jnp.array([1.0, 3.0])
      >>> learned = imaml(lambda w, m: (w - m) ** 2, 0.0, minima, minima, strength=1.0,
      ...                 solver=sgd(0.3), inner_steps=30, optimizer=sgd(0.9), num_steps=60)
      >>> print(f"{learned.value:.3f}")
      2.000

    References:
      Rajeswaran et al. (2019), eqs. (3) and (6). https://arxiv.org/abs/1909.04630
    """
    require_counts("imaml", num_steps=num_steps, inner_steps=inner_steps)
    require_rows("imaml", "tasks", support=support, query=query)
    require_positive("imaml", scalar=False, finite=True, strength=seen(strength))

    mode = Implicit(CG()) if diff is None else diff

    def inner(y: Params, z: tuple) -> Any:
        centre, support = z
        squares = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), y, centre)
        return value_part(loss_fn(y, support)) + 0.5 * strength * sum(jax.tree.leaves(squares))

    def loss_after(centre: Params, support: Batch, query: Batch) -> Any:
        start = jax.lax.stop_gradient(centre)
        options = {"solver": solver, "steps": inner_steps, "diff": mode}
        return value_part(loss_fn(argmin(inner, start, (centre, support), **options).y, query))

    def mean_loss(centre: Params) -> Any:
        return jnp.mean(jax.vmap(loss_after, in_axes=(None, 0, 0))(centre, support, query))

    return learn(jax.value_and_grad(mean_loss), params, optimizer, num_steps)
