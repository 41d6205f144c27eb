"""The extra arguments by which a solver sees the function it descends: `value_fn` and friends.

They are those of `optax.scale_by_zoom_linesearch`: `update(updates, state, params, value=...,
grad=..., value_fn=...)`, and arguments by keyword that `value_fn` itself asks for.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxopt_tut.trees import require_inexact, require_same_structure
from jaxopt_tut.types import Params, PyTree
from jaxopt_tut.vectors import ravel


def require_objective(
    caller: str, updates: PyTree, params: Params | None, **functions: Any
) -> None:
    """Refuse an `update` that lacks what the solver needs to look at its function.

    Args:
      caller: The solver's name; it opens the message.
      updates: The updates, which must match the parameters.
      params: The parameters.
      **functions: The functions needed, by argument name.

    Raises:
      TypeError: If a leaf is neither floating nor complex.
      ValueError: If the parameters or a function is missing, or if a leaf of the updates differs
        from that of the parameters in path or shape.

    Example:
      >>> require_objective("wolfe", 1.0, 1.0, value_fn=None)
      Traceback (most recent call last):
      ...
      ValueError: wolfe needs value_fn: call update(updates, state, params, value_fn=...).
    """
    if params is None:
        raise ValueError(f"{caller} needs params: call update(updates, state, params, ...).")
    for name, function in functions.items():
        if not callable(function):
            error = ValueError(
                f"{caller} needs {name}: call update(updates, state, params, {name}=...)."
            )
            vars(error).update(missing=name)  # for `step` to read
            raise error
    require_inexact(params, caller)
    require_same_structure(params, updates, caller)


def bind(function: Callable[..., Any], extra_args: Mapping[str, Any]) -> Callable[[Params], Any]:
    """Fix the keyword arguments of a function that are among the extra arguments of an update.

    Args:
      function: `value_fn` or `residual_fn`: a function of the parameters and maybe more.
      extra_args: All extra arguments; those the function does not name are for others.

    Returns:
      A function of the parameters alone.

    Example:
      >>> def loss(w, target):
      ...     return (w - target) ** 2
      >>> bind(loss, {"target": 1.0, "other": 5.0})(3.0)
      4.0
    """
    if not extra_args:
        return function
    # the first parameter is the tree of parameters, whatever its name
    names = list(inspect.signature(function).parameters)[1:]
    known = {name: extra_args[name] for name in names if name in extra_args}
    return lambda params: function(params, **known)


def within(function: Callable[..., Any], whole: PyTree) -> Callable[[Any], Any]:
    """Let a function of all parameters be called with those that a mask leaves.

    `optax.partition` and `optax.masked` show each of their transformations only its own part; the
    rest stands still while that looks around.

    Args:
      function: A function of the parameters.
      whole: All of them.

    Returns:
      A function of such a part, or of all.

    Example:
      >>> import optax
      >>> loss = within(lambda w: w["a"] * w["b"], {"a": 2.0, "b": 3.0})
      >>> loss({"a": 5.0, "b": optax.MaskedNode()})
      15.0
    """

    def fill(part: Any, rest: Any) -> Any:
        return rest if _is_masked(part) else part

    def call(params: PyTree) -> Any:
        return function(jax.tree.map(fill, params, whole, is_leaf=_is_masked))

    return call


def part_of(tree: PyTree, params: PyTree) -> PyTree:
    """Mask a tree as the parameters are masked.

    Args:
      tree: A tree like all parameters, or masked already.
      params: The parameters that a mask leaves.

    Returns:
      A tree like `params`.

    Example:
      >>> import optax
      >>> part_of({"a": 1.0, "b": 2.0}, {"a": 5.0, "b": optax.MaskedNode()})
      {'a': 1.0, 'b': MaskedNode()}
    """
    mask = lambda part, leaf: part if _is_masked(part) else leaf
    return jax.tree.map(mask, params, tree, is_leaf=_is_masked)


def _is_masked(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)


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
      >>> import jax.numpy as jnp
      >>> print(value_and_ascent(lambda z: jnp.abs(z) ** 2)(jnp.array(1.0 + 2.0j))[1])
      (2+4j)
    """

    def backwards(params: Params) -> tuple[Any, PyTree]:
        value, grad = jax.value_and_grad(value_fn)(params)
        return value, jax.tree.map(jnp.conj, grad)

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
      >>> import jax.numpy as jnp
      >>> value_fn = differentiated_by(lambda w: (w**2, 7.0))
      >>> print(jax.grad(value_fn)(jnp.array(3.0)))
      7.0
    """

    def look(params: Params) -> tuple[Any, PyTree]:
        value, grad = value_and_grad(params)
        return jnp.asarray(value[0] if isinstance(value, tuple) else value), grad

    def derivative(primals: tuple[Params], tangents: tuple[PyTree]) -> tuple[Any, Any]:
        value, grad = look(*primals)
        inner = lambda g, t: jnp.sum(jnp.real(jnp.asarray(g).astype(t.dtype) * t))
        products = jax.tree.leaves(jax.tree.map(inner, grad, *tangents))
        return value, sum((p.astype(value.dtype) for p in products), jnp.zeros_like(value))

    value_fn = jax.custom_jvp(lambda params: look(params)[0])
    value_fn.defjvp(derivative)
    return value_fn


def first_that_works(one: Callable[..., Any], other: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that does what one does, or the other where the one fails.

    Args:
      one: A function; what it raises is what is raised where both fail.
      other: Another, with the same results.

    Returns:
      A function of the same arguments.

    Example:
      >>> first_that_works(lambda x: 1 / x, lambda x: 0.0)(0)
      0.0
    """

    def call(*args: Any) -> Any:
        try:
            return one(*args)
        except Exception as error:
            try:
                return other(*args)
            except Exception:
                raise error from None

    return call
