"""The empirical Fisher matrix: the second moment of the gradients of single examples."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxopt_tut.curvature.functions import Function, bind_function
from jaxopt_tut.curvature.means import Local, Point, mean_operator
from jaxopt_tut.curvature.operator import Operator
from jaxopt_tut.devices import Devices
from jaxopt_tut.losses import value_part
from jaxopt_tut.types import LossFn, PRNGKey, PyTree


@dataclass(frozen=True)
class FisherRule:
    """The losses of all examples forwards, and backwards."""

    function: Function
    kind: str = "Empirical Fisher matrix"

    def product(self, at: Local, point: PyTree, tangent: PyTree) -> PyTree:
        """Weight the gradient of every example by its product with the vector."""
        losses = self._losses(at)
        moved = jax.jvp(losses, (point,), (tangent,))[1]
        return jax.vjp(losses, point)[1](moved / moved.shape[0])[0]

    def linearized(self, at: Local, point: PyTree) -> Callable[[PyTree], PyTree]:
        """Linearise the losses."""
        losses = self._losses(at)
        forwards = jax.linearize(losses, point)[1]
        backwards = jax.vjp(losses, point)[1]

        def multiply(tangent: PyTree) -> PyTree:
            moved = forwards(tangent)
            return backwards(moved / moved.shape[0])[0]

        return multiply

    def _losses(self, at: Local) -> Callable[[PyTree], Array]:
        return lambda point: _one_an_example(self.function.caller, value_part(at(point)))


def _one_an_example(caller: str, losses: Any) -> Array:
    is_array = hasattr(losses, "shape")
    if not is_array or losses.ndim != 1 or not jnp.issubdtype(losses.dtype, jnp.floating):
        got = f"{losses.dtype}{list(losses.shape)}" if is_array else type(losses).__name__
        raise ValueError(
            f"{caller} needs losses_fn to return a loss an example, an array of real numbers with "
            f"one axis, got {got}."
        )
    return losses


def empirical_fisher(
    losses_fn: LossFn,
    params: PyTree,
    *batches: Any,
    batch_size: int | None = None,
    key: PRNGKey | None = None,
    model_state: PyTree = None,
    mesh: Devices | None = None,
) -> Operator:
    r"""Make the second moment of the gradients of single examples an operator.

    $$F v = \frac1n \sum_i g_i\, (g_i^\top v), \qquad g_i = \nabla L_i(w)$$

    All products $g_i^\top v$ are had by one pass forwards and weight one pass backwards: no single
    gradient is made, and a product costs about two gradients. With the labels of the data it is not
    the Fisher information, which takes labels drawn from the model: that is `gauss_newton` for
    cross-entropy. Where a model normalises over its batch there are no losses of single examples;
    then $g_i$ is the gradient of the i-th loss, in which the others take part.

    Args:
      losses_fn: `losses_fn(params, batch) -> losses`, one an example, or `(losses, aux)`; with
        `key`, `model_state` or both behind if they are given.
      params: Where to differentiate, as `hessian` takes it.
      *batches: Data, as `hessian` takes them.
      batch_size: Examples that are worked on at once, for memory; the last chunk may be smaller.
      key: For losses that draw: the same in every batch.
      model_state: For losses with a state, such as running averages.
      mesh: Devices over which examples are split along its first axis.

    Returns:
      The operator: a pytree, with parameters and data as leaves.

    Raises:
      TypeError: As `hessian`.
      ValueError: As `hessian`; in a product, if there is not one loss an example.

    Example:
      Gradients of w x: the second moment of the data.

      >>> x = jnp.array([[1.0, 0.0], [1.0, 2.0]])
      >>> print(empirical_fisher(lambda w, x: x @ w, jnp.zeros(2), x).to_dense())
      [[1. 1.]
       [1. 2.]]

    References:
      Kunstner, Hennig and Balles (2019), "Limitations of the empirical Fisher approximation for
      natural gradient descent", eq. 3, https://arxiv.org/abs/1905.12558
    """
    caller = "empirical_fisher"
    function, params, given = bind_function(
        caller, losses_fn, params, batches, key=key, model_state=model_state, what="losses_fn"
    )
    rule, point = FisherRule(function), Point(params, given)
    return mean_operator(caller, rule, point, batches, batch_size, mesh)
