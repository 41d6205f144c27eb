"""Losses whose products of matrices have operands in half precision."""

import dataclasses
import inspect
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_tut import jaxprs
from jaxopt_tut.autodiff.inner import with_rounded_products
from jaxopt_tut.tracing import is_traced
from jaxopt_tut.trees import Rebuild, split_arrays
from jaxopt_tut.types import DTypeLike, LossFn, PyTree


def mixed_precision(loss_fn: LossFn, dtype: DTypeLike = "bfloat16") -> LossFn:
    r"""Round the operands of a loss's products of matrices and convolutions to half precision.

    $$z = \sum_k r(x_k)\, r(y_k)$$

    with $r$ the rounding to bfloat16, eight bits of precision, and the sum in single precision; so
    do the products of the backward pass, with the cotangents rounded. All else stays as it is:
    parameters and their updates, the loss, gradients, norms, softmax, running averages. No loss
    scaling is needed, as bfloat16 has the range of single precision.

    On accelerators and on processors with matrix units products are some times faster, and reverse
    mode keeps their operands in half the memory. Elsewhere, and for convolutions on a processor,
    nothing is gained. Functions with a `custom_jvp` or `custom_vjp` of their own are left alone.

    Args:
      loss_fn: A loss of any form that `fit` takes, or any other function of pytrees.
      dtype: `"bfloat16"`.

    Returns:
      A function of the same arguments, equal to any other made of the same.

    Raises:
      TypeError: If `loss_fn` is no function.
      ValueError: If `dtype` is another; float16 has too few exponents for gradients.

    Example:
      Seven bits behind the first remain of an operand, and all of a sum.

      >>> product = mixed_precision(lambda x, y: x @ y)
      >>> x = jnp.array([1.0, 1.0 + 2.0**-7, 1.0 + 2.0**-9])
      >>> [float(z) for z in product(jnp.eye(3), x)]
      [1.0, 1.0078125, 1.0]
      >>> float(product(jnp.ones(512), jnp.ones(512).at[0].set(1 + 2.0**-7)))
      512.0078125

    References:
      Micikevicius et al. (2018), Mixed precision training, sections 3.1 and 3.3; Kalamkar et al.
      (2019), A study of bfloat16 for deep learning training. https://arxiv.org/abs/1905.12322
    """
    if not callable(loss_fn):
        raise TypeError(f"mixed_precision needs a function as loss_fn, got {loss_fn!r}.")
    try:
        kind = np.dtype(jnp.dtype(dtype))
    except TypeError:
        kind = None
    if kind != jnp.bfloat16:
        why = ": gradients below 6e-8 vanish in float16 without loss scaling" * (kind == np.float16)
        raise ValueError(f"mixed_precision needs the dtype 'bfloat16', got {str(dtype)!r}{why}.")
    return MixedPrecision(loss_fn, np.dtype(jnp.bfloat16))


@dataclasses.dataclass(frozen=True)
class MixedPrecision:
    """A function with rounded products; equal where the function is the same."""

    loss_fn: LossFn
    dtype: np.dtype

    @property
    def __signature__(self) -> inspect.Signature:
        """That of the function, by which the form of a loss is read."""
        try:
            return inspect.signature(self.loss_fn)
        except (TypeError, ValueError):  # some callables have none
            raise AttributeError("__signature__") from None

    @property
    def keywords(self) -> dict[str, Any]:
        """What a partial function was given by name."""
        return getattr(self.loss_fn, "keywords", {})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Trace the function, and run it with rounded products."""
        call, given, update = _functional(self.loss_fn, (args, kwargs))
        arrays, with_arrays = split_arrays(given, _is_array)
        rebuilds: list[Rebuild] = []

        def of_arrays(*arrays: Any) -> list[Any]:
            found, rebuild = split_arrays(call(with_arrays(arrays)), _is_array)
            rebuilds[:] = [rebuild]
            return found

        program = jax.make_jaxpr(of_arrays)(*arrays)
        results = jaxprs.function_of(with_rounded_products(program, self.dtype))(*arrays)
        return update(rebuilds[0](results))


def _is_array(leaf: Any) -> bool:
    return is_traced(leaf) or isinstance(leaf, jax.Array | np.ndarray)


def _functional(
    fun: Callable, given: tuple[tuple, dict]
) -> tuple[Callable[[PyTree], Any], PyTree, Callable[[Any], Any]]:
    """Make a call a function of a tree; modules of flax nnx are changed when it has been run."""
    nnx = sys.modules.get("flax.nnx")
    is_module = lambda part: nnx is not None and isinstance(part, nnx.Module)
    leaves, structure = jax.tree.flatten(given, is_leaf=is_module)
    flags = [is_module(leaf) for leaf in leaves]
    if nnx is None or not any(flags):
        return (lambda given: fun(*given[0], **given[1])), given, lambda out: out
    pairs = list(zip(leaves, flags, strict=True))
    modules = tuple(leaf for leaf, flag in pairs if flag)  # which may share variables
    graph, state = nnx.split(modules)

    def call(parts: tuple[PyTree, list[Any]]) -> tuple[Any, PyTree]:
        merged = nnx.merge(graph, parts[0])
        sources = iter(merged), iter(parts[1])
        args, kwargs = structure.unflatten([next(sources[not flag]) for flag in flags])
        out = fun(*args, **kwargs)
        return out, nnx.state(merged)

    def update(result: tuple[Any, PyTree]) -> Any:
        nnx.update(modules, result[1])
        return result[0]

    return call, (state, [leaf for leaf, flag in pairs if not flag]), update
