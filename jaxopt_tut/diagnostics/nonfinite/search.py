"""Find the place inside a function where what is wrong with its result, or gradient, begins."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.extend import core

from jaxopt_tut import jaxprs
from jaxopt_tut.diagnostics.nonfinite.origins import AnyJaxpr
from jaxopt_tut.diagnostics.nonfinite.suspects import find_in_gradient, find_in_result
from jaxopt_tut.losses import require_loss
from jaxopt_tut.splitting import open_model
from jaxopt_tut.taps import Site
from jaxopt_tut.taps.inner import (
    Place,
    Program,
    first_by_position,
    leaf_name,
    take_parameters,
    trace_program,
)
from jaxopt_tut.tracing import is_traced
from jaxopt_tut.trees import traced_leaves

_CALLER = "first_nonfinite"


def first_nonfinite(
    fun: Callable, /, *args: Any, gradient: bool = False, **kwargs: Any
) -> Site | None:
    r"""Find the first value inside a function that makes its result NaN or infinite.

    $$\min\,\{i : v_i \text{ is born not finite, and } f \text{ is not finite with all other such }
      v_j \text{ mended}\}$$

    A value is born not finite if what it is made of is finite: the overflow of an `exp`, a `log`
    of zero. It counts if it reaches the result, which is tried: the function is run with finite
    numbers in the place of all others. So the `-inf` of a mask that a softmax turns to zeros, or a
    NaN that is selected away, is passed over. Where infinities that were put in on purpose meet
    and become NaN, as in a row of a softmax that is masked throughout, the site is the operation
    in which they do (`sub`); where they go right through (a label that is masked), it is the mask.
    What is given to `fun` may be at fault, too: the site then has the operation `"input"` and the
    key path of the leaf for a name.

    With `gradient` the backward pass is treated in the same way if the result is finite: the site
    is the operation whose derivative is not, such as a root at zero, if that reaches the gradient.

    If all is finite this costs an evaluation (with `gradient` a gradient). If not, a program is
    compiled that does each operation up to three times, and run once for each suspect. Values are
    looked at operation by operation, which may overflow where a compiled function, that keeps more
    digits inside, does not. `jax.debug_nans` costs less, and names a line of a program that ran
    operation by operation.

    Args:
      fun: Any function of pytrees; with `gradient` a loss of its first argument, that returns a
        scalar or a pair `(scalar, aux)`. All floating values that it returns are its result.
      *args: Its arguments.
      gradient: Look at the backward pass too, if the forward pass is finite.
      **kwargs: Its keyword arguments.

    Returns:
      The site, or None if all is finite.

    Raises:
      TypeError: If `fun` cannot be traced, or with `gradient` a parameter is an integer array.
      ValueError: With `gradient`, if `fun` returns no real scalar.

    Example:
      >>> import jax.numpy as jnp
      >>> def loss(w, x):
      ...     return jnp.sum(jnp.log(jnp.maximum(x @ w, 0.0)) ** 2)
      >>> w, x = jnp.array([1.0, -1.0]), jnp.array([[2.0, 1.0], [1.0, 2.0]])
      >>> first_nonfinite(loss, w, x).op
      'log'
      >>> first_nonfinite(loss, w, x[:1]) is None
      True
      >>> def attend(w, x, mask):
      ...     return jax.nn.softmax(jnp.where(mask, x @ w, -jnp.inf))
      >>> first_nonfinite(attend, w, x, jnp.array([True, False])) is None
      True
      >>> first_nonfinite(attend, w, x, jnp.array([False, False])).op  # -inf - -inf
      'sub'
      >>> def norm(w, x):
      ...     return jnp.sqrt(jnp.sum((x @ w) ** 2))
      >>> first_nonfinite(norm, w, jnp.ones((1, 2))) is None
      True
      >>> first_nonfinite(norm, w, jnp.ones((1, 2)), gradient=True).op  # d sqrt(s) / ds at s = 0
      'sqrt'
    """
    args, kwargs = first_by_position(fun, args, kwargs)
    if gradient and args:
        fun, args = open_model(_CALLER, fun, args)
    # These would stop at what is looked for.
    with jax.debug_nans(False), jax.debug_infs(False):
        program = trace_program(_CALLER, fun, args, kwargs, may_close_over=not gradient)
        if any(map(is_traced, program.arrays)):
            raise TypeError(f"{_CALLER} needs values, got tracers: call it outside of jax.jit.")
        if gradient:
            require_loss(_CALLER, program.result)
        place = find_in_result(program)
        if place is None and gradient and args:
            place = find_in_gradient(program, len(take_parameters(_CALLER, args[0]).arrays))
        return None if place is None else _site(program, place, fun, args, kwargs)


def _site(
    program: Program,
    place: Place,
    fun: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Site:
    path, index = place
    if path == (-1,):
        array = jaxprs.constants(program.jaxpr)[index]
        name = program.constant_names.get(id(array))
        return _given(name or f"constant{index}", name, array)
    if not path:
        param = program.names[index]
        return _given(_input_names(fun, args, kwargs)[index], param, program.arrays[index])
    at = {_inmost(program.jaxpr, where): site for site, where in program.sites}
    return at[place]


def _given(name: str, param: str | None, array: Any) -> Site:
    """Make a site of what the function is given."""
    shape, dtype = jax.numpy.shape(array), jax.numpy.result_type(array)
    return Site(name, "input", shape, dtype, param, "other", (), ())


def _input_names(
    fun: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> list[str]:
    """Name the arrays that are handed in by argument and key path, parameters by their path."""
    try:
        known = list(inspect.signature(fun).parameters.values())
    except (TypeError, ValueError):  # a builtin that does not tell
        known = []
    positional = [
        one.name for one in known if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
    ]
    call = args, dict(kwargs)
    names = []
    for path, _ in jax.tree_util.tree_leaves_with_path(call):
        where, rest = path[1].idx if path[0].idx == 0 else path[1].key, leaf_name(path[2:])
        if path[0].idx == 0:
            is_param = where == 0 and rest
            where = positional[where] if where < len(positional) else f"argument {where}"
            where = "" if is_param else where
        names.append("/".join(part for part in (where, rest) if part))
    return [name for name, traced in zip(names, traced_leaves(call), strict=True) if traced]


def _inmost(jaxpr: AnyJaxpr, place: Place) -> Place:
    """Go from what a call returns to the equation inside that makes it."""
    (path, index), body = place, jaxpr
    for i, k in zip(path[:-1:2], path[1::2], strict=True):
        body = _body(jaxprs.open_jaxpr(body).eqns[i], k)
    eqn = jaxprs.open_jaxpr(body).eqns[path[-1]]
    while jaxprs.kind_of_call(eqn) in ("jit", "remat"):
        body = jaxprs.open_jaxpr(jaxprs.called_jaxpr(eqn))
        var: Any = body.outvars[index]
        makers = [(i, one) for i, one in enumerate(body.eqns) if var in one.outvars]
        if jaxprs.is_literal(var) or not makers:
            break
        i, eqn = makers[0]
        path, index = (*path, 0, i), eqn.outvars.index(var)
    return path, index


def _body(eqn: core.JaxprEqn, number: int) -> AnyJaxpr:
    """Return the jaxpr that a number in a path stands for."""
    kind = jaxprs.kind_of_call(eqn)
    subs = jaxprs.sub_jaxprs(eqn)
    return subs[number if kind in ("cond", "while") else 0].jaxpr
