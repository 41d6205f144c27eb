"""Derivatives that a mode does not define: they raise while tracing, never are 0 in silence."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxopt_tut.bilevel.modes.tangents import is_zero, zero_tangents
from jaxopt_tut.bilevel.problem import Inputs, Problem, Run
from jaxopt_tut.types import PyTree

_WANTED = {
    "z": "with respect to z",
    "hp": "with respect to hp",
    "y0": "with respect to y0",
    "second": "of second order",
    "vjp": "in reverse mode",
}


def names_of(modes: Iterable[type]) -> str:
    """Write modes as they are called, with what each asks for."""

    def written(mode: Any) -> str:
        name = mode.__name__
        fields = dataclasses.fields(mode) if dataclasses.is_dataclass(mode) else ()
        asked = [f.name for f in fields if f.default is dataclasses.MISSING]
        return f"{name}({', '.join(asked)})"

    return ", ".join(map(written, modes))


def undefined(problem: Problem, mode: Any, wanted: str) -> str:
    """Return the sentence that says what a mode does not define, and which modes do."""
    from jaxopt_tut.bilevel.modes import MODES  # which are made with this module

    defining = [mode for mode in MODES if wanted in mode.wrt | mode.derivatives]
    hint = ""
    if wanted in ("z", "hp", "y0"):
        hint = f" Pass {wanted} through jax.lax.stop_gradient if it is to count as constant."
    return (
        f"{problem.caller} has no derivative {_WANTED[wanted]} under {type(mode).__name__}; "
        f"modes that define it: {names_of(defining)}.{hint}"
    )


def forbid(tree: PyTree, message: str) -> PyTree:
    """Return the tree itself; whoever differentiates through it gets an error while tracing."""

    @jax.custom_jvp
    def identity(tree: PyTree) -> PyTree:
        return tree

    def rule(primals, tangents):
        if not all(map(is_zero, jax.tree.leaves(tangents))):
            raise ValueError(message)
        (tree,) = primals
        return identity(tree), zero_tangents(tree)

    identity.defjvp(rule, symbolic_zeros=True)
    return identity(tree)


def once_differentiable(x: Array, message: str) -> Array:
    """Return the array itself; whoever differentiates a derivative through it gets an error."""

    @jax.custom_jvp
    def identity(x: Array) -> Array:
        return x

    @identity.defjvp
    def _(primals, tangents):
        (x,), (tangent,) = primals, tangents
        here = forbid(x, message)
        # the product keeps what is forbidden from being dropped as dead code; it is by 1
        return identity(x), tangent * jnp.where(here == here, jnp.ones_like(x), jnp.ones_like(x))

    return identity(x)


def guarded_run(problem: Problem, mode: Any, inputs: Inputs) -> Run:
    """Run a mode so that what it does not declare raises where it is asked for."""
    from jaxopt_tut.bilevel.modes import MODES  # which are made with this module

    if type(mode) in MODES:
        return mode.run(problem, inputs)  # they refuse where they know more
    for name in ("z", "hp", "y0"):
        if name not in mode.wrt:
            message = undefined(problem, mode, name)
            withhold = lambda leaf, message=message: (
                forbid(leaf, message) if problem.strict else jax.lax.stop_gradient(leaf)
            )
            inputs = inputs._replace(**{name: _on_numbers(withhold, getattr(inputs, name))})
    if "second" not in mode.derivatives:
        message = undefined(problem, mode, "second")
        inputs = inputs._replace(
            **{
                name: _on_numbers(
                    lambda leaf: once_differentiable(leaf, message), getattr(inputs, name)
                )
                for name in ("z", "hp", "y0")
            }
        )

    def run(inputs: Inputs) -> Run:
        result = mode.run(problem, inputs)
        if not isinstance(result, Run):
            raise TypeError(
                f"{problem.caller} needs {type(mode).__name__}.run to return a bilevel.Run, got "
                f"{type(result).__name__}: problem.start(inputs) makes one, problem.advance "
                "moves it on, and run._replace(y=...) changes where it is."
            )
        return result

    if "vjp" not in mode.derivatives:
        run = forward_only(run, undefined(problem, mode, "vjp"))
    return run(inputs)


def _on_numbers(fun: Callable[[Any], Any], tree: PyTree) -> PyTree:
    """Apply a function to the leaves that may have a derivative."""
    is_number = lambda leaf: isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.inexact)
    return jax.tree.map(lambda leaf: fun(leaf) if is_number(leaf) else leaf, tree)


def require_declared(mode: Any, caller: str) -> None:
    """Refuse a mode that does not say what it defines, or says what nobody asks for."""
    asked = {"derivatives": ("jvp", "vjp", "second"), "wrt": ("z", "hp", "y0")}
    for name, known in asked.items():
        said = getattr(mode, name, None)
        if said is None or isinstance(said, str) or not set(said) <= set(known):
            raise TypeError(
                f"{caller} needs a mode whose {name} is a set of some of {known}, got "
                f"{type(mode).__name__} with {name}={said!r}."
            )
    if not isinstance(getattr(mode, "is_exact", None), bool):
        raise TypeError(
            f"{caller} needs a mode whose is_exact is True or False, got {type(mode).__name__} "
            f"with is_exact={getattr(mode, 'is_exact', None)!r}."
        )


def refuse_tangents(problem: Problem, mode: Any, d_inputs: Inputs, d_closed: PyTree) -> None:
    """Refuse the tangents that a mode with a rule of its own has no derivative for."""
    felt = lambda tree: not all(map(is_zero, jax.tree.leaves(tree)))
    if felt(d_closed):
        raise ValueError(
            f"{problem.caller} under {type(mode).__name__} needs what is differentiated as an "
            "argument, got a differentiated value that f or solver closes over: hand it to f "
            "through z, or to solver through hp."
        )
    for name in ("hp", "y0"):
        if problem.strict and felt(getattr(d_inputs, name)):
            raise ValueError(undefined(problem, mode, name))


def require_differentiable(problem: Problem, mode: Any) -> None:
    """Refuse a solver whose steps cannot be differentiated."""
    if not problem.solver.is_differentiable:
        raise ValueError(
            f"{type(mode).__name__} needs a solver whose steps can be differentiated, got "
            f"{type(problem.solver).__name__}; Implicit() takes any solver."
        )


def forward_only(fun: Callable[..., Any], message: str) -> Callable[..., Any]:
    """Return a function that forward mode differentiates and reverse mode does not."""

    def refuse(*_args, **_params):
        raise ValueError(message)

    # a policy is asked what to keep for reverse mode, and only then
    return jax.checkpoint(fun, policy=refuse)
