"""What a loss returns, and the direction in which it rises.

A loss returns a real scalar, or a pair of one and auxiliary values. Of complex parameters
`jax.grad` returns the conjugate of the direction of steepest ascent, which is what optimizers take;
`optax.tree.conj` turns the one into the other.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from jaxopt_tut.blocks import shown
from jaxopt_tut.types import Params, PyTree
from jaxopt_tut.vectors import ravel

__all__ = [
    "Aux",
    "WithoutAux",
    "described",
    "differentiated_by",
    "first_that_works",
    "is_real_scalar",
    "loss_rule",
    "require_loss",
    "take_pair",
    "value_and_ascent",
    "value_part",
]


@shown
class Aux(NamedTuple):
    """What a loss returns beside its value: `return loss, Aux(metrics, model_state)`."""

    metrics: dict[str, Array] | None = None
    """Scalars to be averaged over each epoch."""
    model_state: PyTree = None
    """The new state of the model (running averages of BatchNorm, say)."""


def loss_rule(caller: str) -> str:
    """Say what a loss may return, as a message begins."""
    forms = "loss, (loss, metrics) or (loss, Aux(metrics, model_state))"
    return f"{caller} needs loss_fn to return {forms}"


def take_pair(caller: str, out: Any) -> tuple[Any, Aux]:
    """Take apart what a loss returns.

    Args:
      caller: The name of the function that asks; it opens the message.
      out: What the loss returns.

    Returns:
      The loss, and what is beside it.

    Raises:
      TypeError: If it is none of the forms of a loss.

    Example:
      >>> take_pair("fit", (3.0, {"accuracy": 0.5}))
      (3.0, Aux(metrics={accuracy: 0.5}, model_state=None))
    """
    if not isinstance(out, tuple):
        return out, Aux()
    if isinstance(out, Aux) or len(out) != 2:
        found = "Aux alone" if isinstance(out, Aux) else f"a tuple of {len(out)}"
        raise TypeError(f"{loss_rule(caller)}, got {found}.")
    loss, aux = out
    if not (aux is None or isinstance(aux, Aux | Mapping)):
        raise TypeError(
            f"{loss_rule(caller)}, with a dictionary of scalars as metrics, got {described(aux)} "
            "beside the loss: return the loss alone, or name what is to be recorded."
        )
    return loss, aux if isinstance(aux, Aux) else Aux(metrics=dict(aux or {}))


def described(value: Any) -> str:
    """Say what a value is: `float32[2, 3]`, or its type."""
    if value is None:
        return "None"
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{value.dtype}{list(value.shape)}"
    return type(value).__name__


def value_part(output: Any) -> Any:
    """Return the loss in what a loss function returns.

    Args:
      output: A loss, or a pair of a loss and auxiliary values.

    Returns:
      The loss.

    Example:
      >>> value_part(3.0), value_part((3.0, {"accuracy": 0.5}))
      (3.0, 3.0)
    """
    return output[0] if _is_pair(output) else output


@dataclass(frozen=True)
class WithoutAux:
    """A loss function without its auxiliary values; equal where the function is the same.

    Attributes:
      fun: Returns a loss, or a pair of a loss and auxiliary values.

    Example:
      >>> WithoutAux(lambda y: (2 * y, "metrics"))(3.0)
      6.0
    """

    fun: Callable[..., Any]

    def __call__(self, *args: Any) -> Any:
        """Return the loss."""
        return value_part(self.fun(*args))


def is_real_scalar(value: Any) -> bool:
    """Tell whether a value can be descended: a floating number without axes.

    Args:
      value: Anything: an array, a tracer, its shape and dtype alone, or a number of Python's.

    Returns:
      False for integers, truth values and complex numbers, too.

    Example:
      >>> [is_real_scalar(x) for x in (2.0, jnp.float16(2), jnp.ones(1), 2, 2j, None)]
      [True, True, False, False, False, False]
    """
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", bool)
    return isinstance(value, float) or (shape == () and jnp.issubdtype(dtype, jnp.floating))


def require_loss(caller: str, result: Any) -> bool:
    """Refuse what is no loss, with or without more beside it.

    Args:
      caller: The name of the function that asks; it opens the message.
      result: What the function returns, or its shapes.

    Returns:
      Whether there is more beside it.

    Raises:
      ValueError: If it is no real scalar, alone or first of a pair.

    Example:
      >>> require_loss("record_gradients", (jnp.array(3.0), "metrics"))
      True
      >>> require_loss("record_gradients", jnp.ones(3))
      Traceback (most recent call last):
      ...
      ValueError: record_gradients needs a loss that is a real scalar, alone or first of a pair, \
got float32[3].
    """
    loss = value_part(result)
    if not is_real_scalar(loss):
        is_array = hasattr(loss, "shape")
        got = f"{loss.dtype}{list(loss.shape)}" if is_array else type(loss).__name__
        raise ValueError(
            f"{caller} needs a loss that is a real scalar, alone or first of a pair, got {got}."
        )
    return _is_pair(result)


def _is_pair(output: Any) -> bool:
    return isinstance(output, tuple) and len(output) == 2


def value_and_ascent(value_fn: Callable[[Params], Any]) -> Callable[[Params], tuple[Any, PyTree]]:
    r"""Return the value and the direction of steepest ascent.

    For real parameters that is the gradient; for complex ones the conjugate of what `jax.grad`
    returns, $\partial f/\partial x + i\, \partial f/\partial y$.

    In reverse mode; where that is not defined, as through a loop of unknown length, forwards: a
    pass a parameter, so for a thousand parameters at most.

    Args:
      value_fn: A real function of the parameters.

    Returns:
      A function of the parameters that returns both.

    Example:
      >>> print(value_and_ascent(lambda z: jnp.abs(z) ** 2)(jnp.array(1.0 + 2.0j))[1])
      (2+4j)
    """

    def backwards(params: Params) -> tuple[Any, PyTree]:
        value, grad = jax.value_and_grad(value_fn)(params)
        return value, optax.tree.conj(grad)

    def forwards(params: Params) -> tuple[Any, PyTree]:
        vector, unravel = ravel(params)
        if vector.size > _MAX_PASSES:
            raise ValueError("There are too many parameters for forward mode.")
        on_vectors = lambda v: 2 * (value_fn(unravel(v)),)
        grad, value = jax.jacfwd(on_vectors, has_aux=True)(vector)
        return value, unravel(grad)

    return first_that_works(backwards, forwards)


_MAX_PASSES = 1000


def differentiated_by(value_and_grad: Callable[[Params], tuple[Any, PyTree]]) -> Callable:
    r"""Return a function whose derivative is what another returns beside its value.

    $$\mathrm d f = \operatorname{Re} \sum_i g_i\, \mathrm d w_i$$

    For values whose gradient does not come from differentiating them, as the outer value of a
    bilevel problem: line searches take functions and differentiate them. Second derivatives are
    those of the gradient, if it has any.

    Args:
      value_and_grad: From the parameters to the value, or a pair of it and what is dropped, and a
        gradient as `jax.grad` returns it.

    Returns:
      A function of the parameters.

    Example:
      >>> value_fn = differentiated_by(lambda w: (w**2, 7.0))
      >>> print(jax.grad(value_fn)(jnp.array(3.0)))
      7.0
    """

    def look(params: Params) -> tuple[Any, PyTree]:
        value, grad = value_and_grad(params)
        return jnp.asarray(value_part(value)), grad

    def derivative(primals: tuple[Params], tangents: tuple[PyTree]) -> tuple[Any, Any]:
        value, grad = look(*primals)
        inner = lambda g, t: jnp.sum(jnp.real(jnp.asarray(g).astype(t.dtype) * t))
        products = jax.tree.leaves(jax.tree.map(inner, grad, *tangents))
        return value, sum((p.astype(value.dtype) for p in products), jnp.zeros_like(value))

    value_fn = jax.custom_jvp(lambda params: look(params)[0])
    value_fn.defjvp(derivative)
    return value_fn


_ABOUT_THE_MODE = re.compile(r"(reverse|forward|backwards)[- ]mode|custom_lin", re.IGNORECASE)
"""What JAX and libraries around it say where one mode of differentiation is not defined."""


def first_that_works(one: Callable[..., Any], other: Callable[..., Any]) -> Callable[..., Any]:
    """Return a derivative in one mode, or in the other where that mode is not defined.

    Any other error is raised at once: the function's own, or for want of memory.

    Args:
      one: A function that differentiates; what it raises is what is raised where both fail.
      other: Another, with the same results in the other mode.

    Returns:
      A function of the same arguments.

    Example:
      >>> loss = lambda w: jax.lax.while_loop(lambda x: x < 10, lambda x: 2 * x, w)
      >>> print(first_that_works(jax.grad(loss), jax.jacfwd(loss))(3.0))
      4.0
    """

    def call(*args: Any) -> Any:
        try:
            return one(*args)
        except Exception as error:
            if not _ABOUT_THE_MODE.search(str(error)):
                raise
            try:
                return other(*args)
            except Exception:
                raise error from None

    return call
