"""The second derivatives of a loss."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from jaxopt_tut.curvature.functions import Function, bind_function
from jaxopt_tut.curvature.means import Local, Point, mean_operator
from jaxopt_tut.curvature.operator import Operator
from jaxopt_tut.devices import Devices
from jaxopt_tut.losses import require_loss, value_part
from jaxopt_tut.types import LossFn, PRNGKey, PyTree


@dataclass(frozen=True)
class HessianRule:
    """Forward mode over reverse mode."""

    function: Function
    kind: str = "Hessian"

    def product(self, at: Local, point: PyTree, tangent: PyTree) -> PyTree:
        """Differentiate the gradient along the vector."""
        return jax.jvp(jax.grad(self._scalar(at)), (point,), (tangent,))[1]

    def linearized(self, at: Local, point: PyTree) -> Callable[[PyTree], PyTree]:
        """Linearise the gradient."""
        return jax.linearize(jax.grad(self._scalar(at)), point)[1]

    def _scalar(self, at: Local) -> Callable[[PyTree], Any]:
        return lambda point: scalar(self.function.caller, at(point))


def scalar(caller: str, output: Any) -> Any:
    """Return the loss in what a loss function returns, or refuse it."""
    require_loss(caller, output)
    return value_part(output)


def hessian(
    loss_fn: LossFn,
    params: PyTree,
    *batches: Any,
    batch_size: int | None = None,
    key: PRNGKey | None = None,
    model_state: PyTree = None,
    mesh: Devices | None = None,
) -> Operator:
    r"""Make the Hessian of a loss an operator.

    $$H v = \frac{\mathrm d}{\mathrm d t} \nabla L(w + t v) \Big|_{t = 0}, \qquad
      L(w) = \sum_k \frac{n_k}{n} L_k(w)$$

    A product costs about two gradients (forward mode over reverse mode) and no matrix. The loss is
    a mean over the examples of a batch; over several batches, or chunks of `batch_size`, it is the
    mean over all examples. A model that normalises over its batch makes one loss of a batch:
    where data are split this is the Hessian of the mean of those, and `.note` says so.

    Args:
      loss_fn: `loss_fn(params, batch) -> loss`, or `(loss, aux)`; with `key`, `model_state` or both
        behind if they are given. Without batches it may be `loss_fn(params)`.
      params: Where to differentiate: a tree of arrays, a module of flax nnx or equinox, variables
        of flax linen. Vectors are trees like its trained arrays, or flat.
      *batches: Trees of arrays with examples in their first axes, each a batch; or a `Dataset`, of
        which the training images stay bytes; or what yields batches on the host whenever it is gone
        through (a list is a tree, not this). One batch without `batch_size` may be any tree.
      batch_size: Examples that are worked on at once, for memory; the last chunk may be smaller.
      key: For a loss that draws: the same in every batch.
      model_state: For a loss with a state, such as running averages.
      mesh: Devices over which examples are split along its first axis.

    Returns:
      The operator: a pytree, with parameters and data as leaves.

    Raises:
      TypeError: If a parameter is no floating or complex array, or batches can be gone through but
        once; in a product under a transformation, if batches come from the host.
      ValueError: If `batch_size` is out of range, arrays differ in their first axes, or there is no
        parameter; in a product, if the loss is no scalar.

    Example:
      >>> import jax.numpy as jnp
      >>> loss_fn = lambda w, x: jnp.mean((x @ w) ** 2 / 2)
      >>> x = jnp.array([[1.0, 0.0], [1.0, 2.0], [1.0, 4.0]])
      >>> op = hessian(loss_fn, jnp.zeros(2), x, batch_size=2)
      >>> print(op.matvec(jnp.array([3.0, 0.0])))
      [3. 6.]
      >>> print(op)
      Hessian [2, 2]
        data  3 in 2 chunks

    References:
      Pearlmutter (1994), "Fast exact multiplication by the Hessian",
      https://doi.org/10.1162/neco.1994.6.1.147
    """
    function, params, given = bind_function(
        "hessian", loss_fn, params, batches, key=key, model_state=model_state
    )
    rule, point = HessianRule(function), Point(params, given)
    return mean_operator("hessian", rule, point, batches, batch_size, mesh)
