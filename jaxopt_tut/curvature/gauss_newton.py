"""The Gauss-Newton matrix: the curvature of the loss, not of the model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from typing_extensions import TypeAliasType

from jaxopt_tut.curvature.functions import Function, bind_function
from jaxopt_tut.curvature.hessian import scalar
from jaxopt_tut.curvature.means import Local, Point, mean_operator
from jaxopt_tut.curvature.operator import Operator
from jaxopt_tut.curvature.space import real_parts
from jaxopt_tut.devices import Devices
from jaxopt_tut.trees import split_arrays
from jaxopt_tut.types import LossFn, PRNGKey, PyTree

ModelFn = TypeAliasType("ModelFn", Callable[..., Any])
"""`model_fn(params, batch) -> outputs`."""


@dataclass(frozen=True)
class GaussNewtonRule:
    """The model forwards, the Hessian of its outputs' loss, the model backwards."""

    function: Function
    output_loss: LossFn
    kind: str = "Gauss-Newton matrix"

    def product(self, at: Local, point: PyTree, tangent: PyTree) -> PyTree:
        """Multiply by the three factors one after the other."""
        model, loss_of = self._halves(at)
        outputs, moved, others = jax.jvp(model, (point,), (tangent,), has_aux=True)
        curved = jax.jvp(jax.grad(loss_of(others)), (outputs,), (moved,))[1]
        return jax.vjp(model, point, has_aux=True)[1](curved)[0]

    def linearized(self, at: Local, point: PyTree) -> Callable[[PyTree], PyTree]:
        """Linearise the model, and the gradient of the loss of its outputs."""
        model, loss_of = self._halves(at)
        outputs, forwards, others = jax.linearize(model, point, has_aux=True)
        curve = jax.linearize(jax.grad(loss_of(others)), outputs)[1]
        backwards = jax.vjp(model, point, has_aux=True)[1]
        return lambda tangent: backwards(curve(forwards(tangent)))[0]

    def _halves(self, at: Local) -> tuple[Callable[[PyTree], Any], Callable[[PyTree], Any]]:
        """Return the model, with real outputs and what has no derivative, and a loss of them."""
        put_together: list[Callable[[PyTree, PyTree], Any]] = []

        def model(point: PyTree) -> tuple[PyTree, PyTree]:
            arrays, rebuild = split_arrays(at(point), _has_derivative)
            others, whole = split_arrays(rebuild.fixed, lambda leaf: leaf is not None)
            outputs, joined = real_parts(arrays)
            places = rebuild.places

            def together(outputs: PyTree, others: PyTree) -> Any:
                leaves = list(whole(others))
                for place, array in zip(places, joined(outputs), strict=True):
                    leaves[place] = array
                return rebuild.structure.unflatten(leaves)

            put_together[:] = [together]
            return outputs, others

        def loss_of(others: PyTree) -> Callable[[PyTree], Any]:
            together, caller = put_together[0], self.function.caller
            return lambda outputs: scalar(
                caller, self.output_loss(together(outputs, others), at.batch)
            )

        return model, loss_of


def _has_derivative(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def gauss_newton(
    model_fn: ModelFn,
    output_loss: LossFn,
    params: PyTree,
    *batches: Any,
    batch_size: int | None = None,
    key: PRNGKey | None = None,
    model_state: PyTree = None,
    mesh: Devices | None = None,
) -> Operator:
    r"""Make the generalised Gauss-Newton matrix of a model and a loss of its outputs an operator.

    $$G v = J^\top \nabla_z^2 \ell(z) J v, \qquad z = f(w), \quad J = \partial z / \partial w$$

    It is the Hessian without the curvature of the model: positive semi-definite for a convex loss,
    the Hessian itself for a model linear in its parameters, and the Fisher information for
    cross-entropy of logits and for squared errors. A product costs about two gradients.

    Args:
      model_fn: `model_fn(params, batch) -> outputs`, any tree; with `key`, `model_state` or both
        behind if they are given.
      output_loss: `output_loss(outputs, batch) -> loss`, a mean over the examples of the batch.
      params: Where to differentiate, as `hessian` takes it.
      *batches: Data, as `hessian` takes them.
      batch_size: Examples that are worked on at once, for memory; the last chunk may be smaller.
      key: For a model that draws: the same in every batch.
      model_state: For a model with a state, such as running averages.
      mesh: Devices over which examples are split along its first axis.

    Returns:
      The operator: a pytree, with parameters and data as leaves.

    Raises:
      TypeError: As `hessian`.
      ValueError: As `hessian`; in a product, if the loss of the outputs is no scalar.

    Example:
      Squared errors of a model that is quadratic in its parameter:

      >>> model_fn = lambda w, x: w**2 * x
      >>> output_loss = lambda z, x: jnp.mean((z - 5.0) ** 2) / 2
      >>> op = gauss_newton(model_fn, output_loss, jnp.array([3.0]), jnp.array([1.0]))
      >>> print(op.to_dense())  # (2 w x)^2; the Hessian is 3 w^2 - 5 + ... = 44
      [[36.]]

    References:
      Schraudolph (2002), "Fast curvature matrix-vector products for second-order gradient
      descent", https://doi.org/10.1162/08997660260028683
    """
    caller = "gauss_newton"
    if not callable(output_loss):
        found = type(output_loss).__name__
        raise TypeError(f"{caller} needs a function as output_loss, got {found}.")
    function, params, given = bind_function(
        caller, model_fn, params, batches, key=key, model_state=model_state, what="model_fn"
    )
    loss = bind_function(
        caller, output_loss, jnp.zeros(()), batches, key=None, model_state=None, what="output_loss"
    )[0]
    rule, point = GaussNewtonRule(function, loss.fn), Point(params, given)
    return mean_operator(caller, rule, point, batches, batch_size, mesh)
