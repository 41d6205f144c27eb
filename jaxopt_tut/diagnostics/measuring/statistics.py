"""The array part of a diagnosis, to be used inside `jit`."""

from jaxopt_tut.diagnostics.measuring.one_pass import measure
from jaxopt_tut.diagnostics.measuring.results import Statistics
from jaxopt_tut.loss_forms import bind_given
from jaxopt_tut.types import Batch, LossFn, Optimizer, Params, PRNGKey, PyTree


def statistics(
    loss_fn: LossFn,
    params: Params,
    batch: Batch,
    *,
    optimizer: Optimizer | None = None,
    key: PRNGKey | None = None,
    model_state: PyTree = None,
) -> Statistics:
    r"""Measure every layer of a network in one forward and one backward pass.

    $$z_l = W_l x_l + b_l, \quad a_l = \phi(z_l), \quad
      \delta_l = \frac{\partial L}{\partial z_l}, \quad
      G_l = \frac{\partial L}{\partial W_l}$$

    A layer is a contraction of data with a weight, found in the program of any function; layers
    whose cotangent JAX does not define (in a `while_loop`) are left out. Use it inside `jit`, to
    keep a history while training for instance; `diagnose` compiles it and reads it. Costs one to
    three gradients, the fewer the larger the batch; with an optimizer one evaluation of the loss
    more.

    Args:
      loss_fn: `loss_fn(params, batch)` returns a scalar or a pair `(scalar, aux)`; where they are
        given it takes a key, `(params, batch, key)`, and a state behind, as in `fit`.
      params: The parameters, or any model; what is no parameter is held fixed.
      batch: At least two examples.
      optimizer: Its first step gives the ratios of update and weight.
      key: For a loss that draws, such as one with dropout.
      model_state: For a loss that is handed a state, such as running averages.

    Returns:
      The statistics.

    Raises:
      TypeError: If `loss_fn` cannot be traced, or a parameter is an integer array.
      ValueError: If no weight meets data, the batch holds one example, or the loss is no real
        scalar.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxopt_tut.models import mlp
      >>> params = mlp.init(jax.random.key(0), (4, 8, 3))
      >>> def loss_fn(params, x):
      ...     return jnp.mean(mlp.apply(params, x) ** 2)
      >>> measured = jax.jit(statistics, static_argnums=0)(loss_fn, params, jnp.ones((5, 4)))
      >>> list(measured.layers), measured.layers["0/kernel"].correlation.round(3).item()
      (['0/kernel', '1/kernel'], 1.0)
    """
    given = {"key": key, "model_state": model_state}
    bound = bind_given("statistics", loss_fn, params, batch, **given)
    return measure("statistics", bound, optimizer).unpack()
