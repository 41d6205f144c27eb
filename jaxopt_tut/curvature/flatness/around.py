"""The loss around a network: a function of how far its parameters are moved."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxopt_tut import control_flow
from jaxopt_tut.blocks import shown
from jaxopt_tut.curvature.estimate import Estimate
from jaxopt_tut.curvature.functions import Function
from jaxopt_tut.curvature.hessian import scalar
from jaxopt_tut.curvature.means import MeanOperator, Point
from jaxopt_tut.datasets.inner import mean_over
from jaxopt_tut.losses import value_and_ascent
from jaxopt_tut.optimizers.inner import modulus
from jaxopt_tut.tracing import is_traced, is_tracing
from jaxopt_tut.trees import strong
from jaxopt_tut.types import Batch, Flag, Number, Params, PRNGKey, Scalar
from jaxopt_tut.vectors import Vector, ravel


@shown
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class LossAround:
    r"""The mean loss over data, as a function of how far the parameters are moved.

    $$e \mapsto L(w + e)$$

    This is what a kind of sharpness measures, see `SharpnessKind`. Displacements e are flat
    vectors, complex parameters as real parts and imaginary parts.

    Attributes:
      hessian: Its second derivatives at 0, as an operator; the data and the parameters are its.
    """

    hessian: MeanOperator

    @property
    def params(self) -> Params:
        """The parameters; of a model what is trained."""
        return self.hessian.point.space

    def start(self) -> Float[Array, "dim"]:
        """Return the displacement 0."""
        return jnp.zeros_like(ravel(self.params)[0])

    def sizes(self) -> Float[Array, "dim"]:
        """Return the moduli of the parameters: the units of what is adaptive."""
        return ravel(jax.tree.map(_size, self.params))[0]

    def value(self, displacement: Float[Array, "dim"]) -> Scalar:
        """Return the loss where the parameters are moved by a vector."""
        return self._mean(_Value, displacement)

    def value_under_noise(self, scale: Float[Array, "dim"], key: PRNGKey, count: Number) -> Scalar:
        """Return the mean of the losses at a Gaussian displacement and at its opposite.

        The draw is made of the key and a count: no array has to wait for it.
        """
        return self._mean(_ValueUnderNoise, scale, key, count)

    def value_and_gradient(
        self, displacement: Float[Array, "dim"]
    ) -> tuple[Scalar, Float[Array, "dim"]]:
        """Return the loss and the direction in which it rises fastest."""
        return self._mean(_ValueAndGradient, displacement)

    def _mean(self, of: Callable[[Function], Callable[..., Any]], *args: Any) -> Any:
        """Return the mean over all data; one program for all values of the arguments."""
        op = self.hessian
        return mean_over(op.chunks, of(op.rule.function), op.point, *args)

    def scan(self, body: Callable[[Any, Any], tuple[Any, Any]], init: Any, length: int) -> Any:
        """Loop over counts as `jax.lax.scan` does: in Python unless something is traced."""
        if self._is_traced(init):
            return control_flow.scan(body, strong(init), jnp.arange(length))
        outputs = []
        for count in np.arange(length):
            init, output = body(init, count)
            outputs.append(output)
        return init, jax.tree.map(lambda *leaves: jnp.stack(leaves), *outputs)

    def while_loop(self, cond: Callable[[Any], Flag], body: Callable[[Any], Any], init: Any) -> Any:
        """Loop as `jax.lax.while_loop` does: in Python unless something is traced."""
        if self._is_traced(init):
            return control_flow.while_loop(cond, body, strong(init))
        while np.asarray(cond(init)):
            init = body(init)
        return init

    def _is_traced(self, values: Any) -> bool:
        return is_tracing() or any(map(is_traced, jax.tree.leaves((self, values))))


@runtime_checkable
class SharpnessKind(Protocol):
    """A sense of sharpness: what `sharpness` takes as `kind`.

    Attributes:
      needs_key: Whether `measure` draws.

    Example:
      >>> from jaxopt_tut.curvature import Estimate, sharpness
      >>> class Slope:
      ...     needs_key = False
      ...
      ...     def measure(self, around, key):
      ...         _, gradient = around.value_and_gradient(around.start())
      ...         return Estimate(jnp.linalg.norm(gradient), jnp.zeros(()))
      >>> print(sharpness(lambda w, x: jnp.sum(w**2), jnp.array([3.0, 4.0]), kind=Slope()).mean)
      10.0
    """

    @property
    def needs_key(self) -> bool:
        """Whether `measure` draws."""
        ...

    def measure(self, around: LossAround, key: PRNGKey | None) -> Estimate:
        """Return the sharpness of a loss at the displacement 0."""
        ...


@dataclass(frozen=True)
class _Value:
    """The loss at a displacement."""

    function: Function

    def __call__(self, batch: Batch, point: Point, displacement: Vector) -> Any:
        vector, unravel = ravel(point.space)
        output = self.function(unravel(vector + displacement), point.given, batch)
        return scalar(self.function.caller, output)


@dataclass(frozen=True)
class _ValueUnderNoise:
    """The mean of the losses at a draw and at its opposite."""

    function: Function

    def __call__(
        self, batch: Batch, point: Point, scale: Vector, key: PRNGKey, count: Number
    ) -> Any:
        value, key = _Value(self.function), jax.random.fold_in(key, count)
        e = scale * jax.random.normal(key, scale.shape, scale.dtype)
        return (value(batch, point, e) + value(batch, point, -e)) / 2


@dataclass(frozen=True)
class _ValueAndGradient:
    """The loss at a displacement and its gradient there."""

    function: Function

    def __call__(self, batch: Batch, point: Point, displacement: Vector) -> Any:
        value = _Value(self.function)
        return value_and_ascent(lambda e: value(batch, point, e))(displacement)


def _size(leaf: Any) -> Array:
    """Return the moduli of entries, of complex ones in both parts."""
    leaf = jnp.asarray(leaf)
    size = modulus(leaf)
    return jax.lax.complex(size, size) if jnp.iscomplexobj(leaf) else size
