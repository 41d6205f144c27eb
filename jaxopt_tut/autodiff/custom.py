r"""Nodes with a hand-written derivative: one box in the graph, one function for JAX.

The author gives the value and the vector-Jacobian product; as that product is linear in the
cotangent, its transpose is the Jacobian-vector product, so one rule serves every mode.
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_tut.types import Number, PyTree


def custom_node(
    forward: Callable[..., tuple[PyTree, PyTree]],
    backward: Callable[[PyTree, PyTree], PyTree],
    *,
    name: str | None = None,
) -> Callable:
    r"""Make one node of a function with a hand-written derivative.

    $$v = f(u), \qquad \bar u = \bar v\, \frac{\partial f}{\partial u} = B(r, \bar v), \qquad
      \dot v = B(r, \cdot)^{\top} \dot u$$

    For a function whose derivative JAX would compute badly (a NaN from the branch not taken),
    expensively (a solve, a fixed point), or differently from what is wanted. The result is an
    ordinary JAX function: `jax.grad`, `jax.jvp`, `jax.vmap`, higher orders and this library's
    engine all use `backward`, and `trace` shows one node. Forward mode costs one more abstract
    trace of `backward`. Where `backward` is not linear in the cotangent (it clips it, say) it
    has no transpose: the function then works in reverse mode only, and a warning says so.

    Args:
      forward: `forward(*inputs) -> (output, residuals)`; what `backward` needs goes into
        `residuals`. It must be differentiable itself if higher orders are wanted.
      backward: `backward(residuals, cotangent) -> (one cotangent an input)`; a tuple, or the
        bare cotangent where there is one input.
      name: What the graph calls the node; by default the name of `forward`.

    Returns:
      A function of the inputs that returns the output.

    Raises:
      TypeError: If `forward` or `backward` cannot be called.
      ValueError: When it is differentiated and `backward` returns another number of cotangents
        or other shapes than there are inputs.

    Example:
      >>> import jax
      >>> square = custom_node(lambda x: (x * x, x), lambda x, g: 2 * x * g, name="square")
      >>> float(jax.grad(square)(3.0)), float(jax.jvp(square, (3.0,), (1.0,))[1])
      (6.0, 6.0)
      >>> from jaxopt_tut import autodiff
      >>> [(node.op, node.name) for node in autodiff.trace(square)(3.0).nodes[1:]]
      [('custom_jvp_call', 'square')]
    """
    for role, part in (("forward", forward), ("backward", backward)):
        if not callable(part):
            raise TypeError(f"custom_node needs a function as {role}, got {part!r}.")
    label = name or getattr(forward, "__name__", "custom_node")

    value = lambda *inputs: forward(*inputs)[0]
    value.__name__ = label
    node = jax.custom_jvp(value)
    node.defjvp(functools.partial(_push, forward, backward, label))
    reverse_only = jax.custom_vjp(value)
    reverse_only.defvjp(forward, lambda kept, g: _checked(backward, label, kept, g, None))

    @functools.wraps(value)
    def call(*inputs: PyTree) -> PyTree:
        if _is_linear(forward, backward, inputs):
            return node(*inputs)
        warnings.warn(
            f"custom_node {label!r} has a backward that is not linear in the cotangent: "
            "reverse mode only.",
            stacklevel=2,
        )
        return reverse_only(*inputs)

    return call


def _push(
    forward: Callable, backward: Callable, label: str, primals: tuple, tangents: tuple
) -> tuple[PyTree, PyTree]:
    """Transpose `backward`, which is linear in the cotangent."""
    output, residuals = forward(*primals)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)), output)

    def pull(cotangent: PyTree) -> PyTree:
        return _floating(_checked(backward, label, residuals, cotangent, primals), primals)

    (pushed,) = jax.linear_transpose(pull, shapes)(_floating(tangents, primals))
    return output, pushed


def _checked(
    backward: Callable, label: str, residuals: PyTree, cotangent: PyTree, primals: tuple | None
) -> tuple:
    """Call `backward` and make sure that it gives one cotangent of the right shape an input."""
    found = backward(residuals, cotangent)
    found = found if isinstance(found, tuple) else (found,)
    if primals is None:
        return found
    if len(found) != len(primals):
        raise ValueError(
            f"custom_node {label!r} needs one cotangent for each of its {len(primals)} inputs, "
            f"got {len(found)}."
        )
    got, expected = jax.tree.map(jnp.shape, found), jax.tree.map(jnp.shape, primals)
    if got != expected:
        raise ValueError(
            f"custom_node {label!r} needs cotangents of the shapes {expected}, got {got}."
        )
    return found


def _floating(tree: tuple, primals: tuple) -> list[Any]:
    """Keep the leaves that belong to floating or complex inputs."""
    return [
        leaf
        for leaf, primal in zip(jax.tree.leaves(tree), jax.tree.leaves(primals), strict=True)
        if jnp.issubdtype(jnp.result_type(primal), jnp.inexact)
    ]


def _is_linear(forward: Callable, backward: Callable, inputs: tuple) -> bool:
    """Ask JAX, abstractly, whether `backward` has a transpose."""

    def transposed(*values: PyTree) -> PyTree:
        output, residuals = forward(*values)
        pull = lambda g: _floating(_as_tuple(backward(residuals, g)), values)
        return jax.linear_transpose(pull, output)(pull(output))

    try:
        jax.eval_shape(transposed, *inputs)
    except NotImplementedError:
        return False
    except (TypeError, ValueError) as error:  # a wrong count or shape is told when differentiating
        return not ("linear" in str(error) or "transpose" in str(error).lower())
    return True


def _as_tuple(found: PyTree) -> tuple:
    return found if isinstance(found, tuple) else (found,)


def elu(z: Number, alpha: Number = 1.0) -> jax.Array:
    r"""Apply the exponential linear unit, as one node of the graph.

    $$\mathrm{elu}(z) = \begin{cases} z & z > 0 \\ \alpha (e^z - 1) & z \le 0 \end{cases},
      \qquad \mathrm{elu}'(z) = \begin{cases} 1 & z > 0 \\ \alpha e^z & z \le 0 \end{cases}$$

    The plain expression `where(z > 0, z, alpha * (exp(z) - 1))` has a NaN gradient at z = 800:
    the branch that is not taken overflows, and infinity times zero is not zero. Here the
    exponential only ever sees $\min(z, 0)$. The slope at 0 is $\alpha$.

    Args:
      z: Floating array of any shape.
      alpha: Minus the value at minus infinity, $\alpha \ge 0$; a number or a scalar array (it
        is differentiated too).

    Returns:
      An array like `z`.

    Raises:
      TypeError: If `z` is not floating.

    Example:
      >>> import jax
      >>> [round(float(elu(z)), 4) for z in (-1.0, 2.0)]
      [-0.6321, 2.0]
      >>> [round(float(jax.grad(elu)(z)), 4) for z in (-1.0, 800.0)]
      [0.3679, 1.0]

    References:
      Clevert, Unterthiner, Hochreiter (2016), eq. 15. https://arxiv.org/abs/1511.07289
    """
    if not jnp.issubdtype(jnp.result_type(z), jnp.floating):
        raise TypeError(f"elu needs a floating array, got {jnp.result_type(z)}.")
    z = jnp.asarray(z)
    return _elu(z, jnp.asarray(alpha, z.dtype))


def _elu_forward(z: jax.Array, alpha: jax.Array) -> tuple[jax.Array, tuple]:
    output = jnp.where(z > 0, z, alpha * jnp.expm1(jnp.minimum(z, 0)))
    return output, (z, alpha)


def _elu_backward(residuals: tuple, cotangent: jax.Array) -> tuple:
    z, alpha = residuals
    below = jnp.minimum(z, 0)
    by_z = cotangent * jnp.where(z > 0, jnp.ones_like(z), alpha * jnp.exp(below))
    by_alpha = jnp.sum(cotangent * jnp.expm1(below), axis=tuple(range(np.ndim(z))))
    return by_z, by_alpha


_elu = custom_node(_elu_forward, _elu_backward, name="elu")
