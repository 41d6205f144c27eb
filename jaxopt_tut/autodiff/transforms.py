r"""`vjp`, `grad`, `jvp` and `hvp` on our own engine, with the signatures of JAX's.

Each traces the function to a program, runs it forward, and goes through it once more: backward
for $\bar x = \bar y\, \partial f(x)$, forward for $\dot y = \partial f(x)\, \dot x$. What they
emit are ordinary JAX operations, so they nest and go under `jax.jit` and `jax.vmap`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxopt_tut import counts, trees
from jaxopt_tut.autodiff import loops
from jaxopt_tut.autodiff.differentiated import (
    check_input,
    check_output,
    chosen_of,
    positions_of,
    split_fixed,
)
from jaxopt_tut.autodiff.program import as_arrays, traced
from jaxopt_tut.autodiff.zeros import filled
from jaxopt_tut.types import PyTree


def vjp(fun: Callable, *primals: PyTree, has_aux: bool = False, zero_safe: bool = False) -> tuple:
    r"""Evaluate a function and return the map that pulls a cotangent back to its inputs.

    $$y = f(x), \qquad \bar y \mapsto \bar y\, \frac{\partial f}{\partial x}(x)$$

    One pass of the map costs two to three evaluations whatever the number of inputs; it keeps
    the intermediate values. Conventions for complex numbers are JAX's (no conjugation).

    Args:
      fun: A function of pytrees of arrays.
      *primals: Where to evaluate it. Integer leaves are accepted; their cotangents are `float0`
        zeros, as in JAX.
      has_aux: Whether `fun` returns a pair of which the second part is not differentiated.
      zero_safe: Whether zero times infinity or NaN is zero, as in `autodiff.zero_safe`.

    Returns:
      `(y, pull)`, or `(y, pull, aux)`; `pull(cotangent)` gives a tuple, one entry a primal.

    Raises:
      ValueError: If the cotangent given to `pull` has another structure or shape than `y`, if
        `fun` has effects, or if it runs a `while` loop of unknown length on a differentiated
        value.

    Example:
      >>> import jax.numpy as jnp
      >>> y, pull = vjp(lambda x, y: x * jnp.sin(y), 3.0, 0.0)
      >>> [float(cotangent) for cotangent in pull(1.0)]
      [0.0, 3.0]
    """
    program, out_tree = traced(fun, primals, zero_safe=zero_safe)
    leaves, in_tree = jax.tree.flatten(primals)
    inputs = as_arrays(leaves, program.input_avals)
    active = program.active([True] * len(inputs))
    env = loops.environment(program, inputs)
    residuals = loops.forward(env, active, program.live_steps)
    value_tree, aux_tree = _split(out_tree, has_aux)
    num_values = value_tree.num_leaves

    def pull(cotangent: PyTree) -> tuple:
        cotangents = _flat(cotangent, value_tree, program.output_avals[:num_values])
        cotangents += [None] * (len(program.outputs) - num_values)  # those of aux
        adjoints = loops.backpropagate(program, env, residuals, cotangents, active)
        slopes = filled([adjoints[i] for i in program.inputs], program.input_avals)
        return jax.tree.unflatten(in_tree, slopes)

    results = [env[i] for i in program.outputs]
    value = value_tree.unflatten(results[:num_values])
    return (value, pull, aux_tree.unflatten(results[num_values:])) if has_aux else (value, pull)


def _split(out_tree: Any, has_aux: bool) -> Sequence[Any]:
    """Split the structure of a result into that of the value and that of what goes with it."""
    if not has_aux:
        return out_tree, jax.tree.structure(None)
    children = out_tree.children()
    if len(children) != 2:
        raise TypeError(f"has_aux=True needs a function that returns (value, aux), got {out_tree}.")
    return children


def _flat(cotangent: PyTree, tree: Any, avals: Sequence[Any]) -> list[Any]:
    """Flatten a cotangent, which must be like the value."""
    leaves, given_tree = jax.tree.flatten(cotangent)
    if given_tree != tree:
        raise ValueError(f"vjp needs a cotangent like {tree}, got {given_tree}.")
    for leaf, aval in zip(leaves, avals, strict=True):
        if np.shape(leaf) != aval.shape:
            raise ValueError(
                f"vjp needs cotangents of the output's shape {aval.shape}, got {np.shape(leaf)}."
            )
    return as_arrays(leaves, avals)


def value_and_grad(
    fun: Callable,
    argnums: int | np.integer | Sequence[int] = 0,
    *,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    zero_safe: bool = False,
) -> Callable:
    r"""Return a function that gives a scalar function's value and its gradient.

    $$x \mapsto \Big(f(x), \frac{\partial f}{\partial x}(x)\Big)$$

    One backward pass: two to three times the cost of `fun`, whatever the number of parameters.
    `fun` is traced, as under `jax.jit`: a Python `if` on the value of a differentiated argument
    raises where `jax.value_and_grad` would take the branch. Write `jnp.where` or `jax.lax.cond`,
    or hand over what the branch reads by an argument that is not differentiated.

    Args:
      fun: A function that returns a real scalar, or a pair `(scalar, aux)`.
      argnums: Position or positions of the arguments to differentiate. The others may be
        anything, also no arrays at all.
      has_aux: Whether `fun` returns such a pair.
      holomorphic: Whether `fun` is holomorphic, from complex to complex.
      allow_int: Whether to accept integer leaves; their gradient is `float0`.
      zero_safe: Whether zero times infinity or NaN is zero, as in `autodiff.zero_safe`.

    Returns:
      A function of the same arguments; it gives `(value, gradient)`, or
      `((value, aux), gradient)`. The gradient has the structure of the argument, or is a tuple
      of them when `argnums` is a sequence. What an equinox module holds
      besides arrays (functions, strings, attributes that are Python numbers) is fixed and has
      the gradient None; in a tree of numbers alone Python floats are differentiated.

    Raises:
      TypeError: If the result is not a real scalar, a differentiated leaf is not floating, or
        `argnums` is no position.

    Example:
      >>> value, gradient = value_and_grad(lambda p: p["w"] ** 2 + p["b"])({"w": 3.0, "b": 1.0})
      >>> float(value), float(gradient["w"]), float(gradient["b"])
      (10.0, 6.0, 1.0)
    """
    settings = _Settings(has_aux, holomorphic, allow_int, zero_safe)
    return _value_and_grad("value_and_grad", fun, argnums, settings)


class _Settings(NamedTuple):
    has_aux: bool
    holomorphic: bool
    allow_int: bool
    zero_safe: bool


def _value_and_grad(caller: str, fun: Callable, argnums: Any, settings: _Settings) -> Callable:
    if not callable(fun):
        raise TypeError(f"{caller} needs a function first, got {type(fun).__name__}.")
    has_aux, holomorphic, allow_int, zero_safe = settings
    positions = positions_of(caller, argnums)
    is_one = counts.whole_number(argnums) is not None

    def differentiated(*args: Any, **kwargs: Any) -> tuple:
        chosen = chosen_of(caller, positions, len(args))
        primals, rebuild = [], []
        for position in chosen:
            leaves, join = split_fixed(args[position])
            check_input(caller, args[position], position, holomorphic, allow_int)
            primals.append(leaves)
            rebuild.append(join)

        def partial(*moving: Any) -> Any:
            full = list(args)
            for position, join, leaves in zip(chosen, rebuild, moving, strict=True):
                full[position] = join(leaves, True)
            return fun(*full, **kwargs)

        value, pull, *aux = vjp(partial, *primals, has_aux=has_aux, zero_safe=zero_safe)
        check_output(caller, value, holomorphic)
        pulled = pull(jax.lax.full((), 1, value.dtype))
        slopes = tuple(join(leaves, False) for join, leaves in zip(rebuild, pulled, strict=True))
        gradient = slopes[0] if is_one else slopes
        return ((value, aux[0]) if has_aux else value), gradient

    return differentiated


def grad(
    fun: Callable,
    argnums: int | np.integer | Sequence[int] = 0,
    *,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    zero_safe: bool = False,
) -> Callable:
    r"""Return the gradient of a scalar function, by backpropagation on its graph.

    $$x \mapsto \frac{\partial f}{\partial x}(x)$$

    `fun` is traced: what `value_and_grad` says of branches on values holds. At kinks the slope is
    that of `jax.grad`; the few exceptions stand in `docs/autodiff.md`.

    Args:
      fun: As for `value_and_grad`.
      argnums: As for `value_and_grad`.
      has_aux: If True, the result is `(gradient, aux)`.
      holomorphic: As for `value_and_grad`.
      allow_int: As for `value_and_grad`.
      zero_safe: As for `value_and_grad`.

    Returns:
      A function of the same arguments that gives the gradient.

    Raises:
      TypeError: If the result is not a real scalar, a differentiated leaf is not floating, or
        `argnums` is no position.

    Example:
      The tutorial's function at (1, 2), and the second derivative of a cube.

      >>> import jax.numpy as jnp
      >>> f = lambda x, y: jnp.sin(x * y) + jnp.exp(x * y)
      >>> [round(float(slope), 4) for slope in grad(f, (0, 1))(1.0, 2.0)]
      [13.9458, 6.9729]
      >>> float(grad(grad(lambda x: x**3))(2.0))
      12.0
      >>> norm = lambda x: jnp.sqrt(jnp.sum(x**2))
      >>> grad(norm)(jnp.zeros(2)).tolist(), grad(norm, zero_safe=True)(jnp.zeros(2)).tolist()
      ([nan, nan], [0.0, 0.0])
    """
    settings = _Settings(has_aux, holomorphic, allow_int, zero_safe)
    both = _value_and_grad("grad", fun, argnums, settings)

    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, slope = both(*args, **kwargs)
        return (slope, value[1]) if has_aux else slope

    return gradient


def jvp(
    fun: Callable,
    primals: Sequence[PyTree],
    tangents: Sequence[PyTree],
    *,
    zero_safe: bool = False,
) -> tuple:
    r"""Evaluate a function and its directional derivative.

    $$\big(f(x),\ \frac{\partial f}{\partial x}(x)\, \dot x\big)$$

    One pass gives one direction: a full Jacobian of $n$ inputs takes $n$ of them. Nothing is
    kept, so memory does not grow with the length of the computation.

    Args:
      fun: A function of pytrees of arrays.
      primals: One entry an argument.
      tangents: The direction, of the same structure; leaves of integer arguments are ignored.
      zero_safe: Whether zero times infinity or NaN is zero, as in `autodiff.zero_safe`.

    Returns:
      The value and its tangent (`float0` zeros for integer results).

    Raises:
      ValueError: If primals and tangents differ in structure or shape.

    Example:
      >>> value, tangent = jvp(lambda x, y: x * y, (3.0, 4.0), (1.0, 0.0))
      >>> float(value), float(tangent)
      (12.0, 4.0)
    """
    trees.require_same_structure(tuple(primals), tuple(tangents), "jvp")
    program, out_tree = traced(fun, tuple(primals), zero_safe=zero_safe)
    avals = program.input_avals
    inputs, directions = (as_arrays(jax.tree.leaves(tuple(x)), avals) for x in (primals, tangents))
    values, pushed = loops.evaluate_with_tangents(program, inputs, directions)
    directions = filled(pushed, program.output_avals)
    return jax.tree.unflatten(out_tree, values), jax.tree.unflatten(out_tree, directions)


def hvp(
    fun: Callable,
    primals: Sequence[PyTree],
    tangents: Sequence[PyTree],
    *,
    zero_safe: bool = False,
) -> PyTree:
    r"""Multiply the Hessian of a scalar function with a vector, forward over reverse.

    $$\frac{\partial^2 f}{\partial x^2}(x)\, v
      = \frac{\partial}{\partial \epsilon} \nabla f(x + \epsilon v)\Big|_{\epsilon = 0}$$

    About the cost of two gradients; the Hessian is never formed.

    Args:
      fun: A scalar function.
      primals: One entry an argument; all are differentiated.
      tangents: The vector, of the same structure.
      zero_safe: Whether zero times infinity or NaN is zero, as in `autodiff.zero_safe`.

    Returns:
      A tree like the primal, or a tuple of them where there are several.

    Raises:
      ValueError: If primals and tangents differ in structure or shape.
      TypeError: If the result is not a real scalar.

    Example:
      >>> import jax.numpy as jnp
      >>> x = jnp.array([1.0, 2.0])
      >>> hvp(lambda x: x[0] ** 2 * x[1], (x,), (jnp.array([1.0, 0.0]),)).tolist()
      [4.0, 2.0]
    """
    positions = tuple(range(len(primals)))
    gradient = grad(fun, positions, zero_safe=zero_safe)
    _, product = jvp(gradient, primals, tangents, zero_safe=zero_safe)
    return product[0] if len(primals) == 1 else product
