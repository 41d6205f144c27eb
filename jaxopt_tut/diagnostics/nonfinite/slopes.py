"""Find whose derivative makes a cotangent that is not finite, and try others in its place."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core
from jax.typing import ArrayLike
from jaxtyping import Array

from jaxopt_tut import jaxprs
from jaxopt_tut.diagnostics.nonfinite.origins import (
    AnyJaxpr,
    Path,
    finite_stand_in,
    is_floating,
    settled,
)


class Marks(NamedTuple):
    """Numbers without effect on the value, whose derivatives tell of cotangents.

    Attributes:
      operands: By equation, one for each step of the scans around it. Where it is 1, cotangents
        that the equation's derivative makes are made finite. Its derivative counts the operands
        whose cotangent is not.
      outputs: The same for the cotangents that the derivative is given; they are not changed.
    """

    operands: Mapping[Path, Array]
    outputs: Mapping[Path, Array]


def blank_marks(jaxpr: AnyJaxpr) -> Marks:
    """Make marks of zero for a program."""
    lengths = dict(_lengths(jaxpr, (), ()))
    zeros = {path: jnp.zeros(shape) for path, shape in lengths.items()}
    return Marks(zeros, dict(zeros))


def _lengths(
    jaxpr: AnyJaxpr, path: Path, lengths: tuple[int, ...]
) -> Iterator[tuple[Path, tuple[int, ...]]]:
    """List the equations that have a derivative, and the lengths of the scans around each."""
    for i, eqn in enumerate(jaxprs.open_jaxpr(jaxpr).eqns):
        kind = jaxprs.kind_of_call(eqn)
        if kind in ("jit", "remat"):
            yield from _lengths(jaxprs.called_jaxpr(eqn), (*path, i, 0), lengths)
        elif kind == "scan":
            parts = jaxprs.scan_parts(eqn)
            yield from _lengths(parts.body, (*path, i, 0), (*lengths, parts.length))
        elif kind == "cond":
            for k, branch in enumerate(jaxprs.cond_branches(eqn)):
                yield from _lengths(branch, (*path, i, k), lengths)
        elif kind != "while" and any(is_floating(var.aval) for var in eqn.outvars):
            yield (*path, i), lengths


def run_marked(jaxpr: AnyJaxpr, inputs: Sequence[Any], marks: Marks, path: Path = ()) -> list[Any]:
    """Evaluate a program whose derivative by the marks tells where cotangents go wrong."""
    # An equation with a rule of its own is one, and keeps its rule. Where JAX's reverse pass
    # carries nothing, nothing is noted.
    program = jaxprs.open_jaxpr(jaxpr)
    env = dict(zip(program.invars, inputs, strict=True))
    env |= zip(program.constvars, jaxprs.constants(jaxpr), strict=True)

    def read(atom: Any) -> Any:
        return atom.val if jaxprs.is_literal(atom) else env[atom]

    for i, eqn in enumerate(program.eqns):
        operands, here = [read(atom) for atom in eqn.invars], (*path, i)
        kind = jaxprs.kind_of_call(eqn)
        with eqn.ctx.manager:
            if kind in ("jit", "remat"):
                outputs = run_marked(jaxprs.called_jaxpr(eqn), operands, marks, (*here, 0))
            elif kind == "scan":
                outputs = _scan(eqn, operands, marks, (*here, 0))
            elif kind == "cond":
                outputs = _cond(eqn, operands, marks, here)
            elif here in marks.operands:
                mark, ring = marks.operands[here], marks.outputs[here]
                fixed = [jaxprs.is_literal(atom) for atom in eqn.invars]
                pairs = zip(operands, fixed, strict=True)
                operands = [x if f or not is_floating(x) else edge(x, mark) for x, f in pairs]
                outputs = jaxprs.bind_here(eqn, operands)
                outputs = [edge(x, ring) if is_floating(x) else x for x in outputs]
            else:
                outputs = jaxprs.bind_here(eqn, operands)
        env.update(zip(eqn.outvars, outputs, strict=True))
    return [read(atom) for atom in program.outvars]


def time_of(jaxpr: AnyJaxpr, path: Path, steps: Sequence[int]) -> tuple[int, ...]:
    """Give what sorts like the time at which an equation runs at a step of the scans around it."""
    left, time = list(steps), []
    for i, k in zip(path[::2], [*path[1::2], None], strict=True):
        eqn = jaxprs.open_jaxpr(jaxpr).eqns[i]
        time.append(i)
        if k is None:
            break
        if jaxprs.kind_of_call(eqn) == "scan":
            parts, step = jaxprs.scan_parts(eqn), int(left.pop(0))
            time.append(parts.length - 1 - step if parts.reverse else step)
        jaxpr = jaxprs.sub_jaxprs(eqn)[k].jaxpr
    return tuple(time)


def first_floating(jaxpr: AnyJaxpr, path: Path) -> int:
    """Give the number of the first output of an equation that has floating values."""
    for i, k in zip(path[:-1:2], path[1::2], strict=True):
        jaxpr = jaxprs.sub_jaxprs(jaxprs.open_jaxpr(jaxpr).eqns[i])[k].jaxpr
    outvars = jaxprs.open_jaxpr(jaxpr).eqns[path[-1]].outvars
    return next(k for k, var in enumerate(outvars) if is_floating(var.aval))


def _inside(marks: Marks, path: Path) -> Marks:
    return Marks(*({p: x for p, x in one.items() if p[: len(path)] == path} for one in marks))


def _scan(eqn: core.JaxprEqn, operands: list[Any], marks: Marks, path: Path) -> list[Any]:
    parts = jaxprs.scan_parts(eqn)
    consts, carry, xs = parts.split_inputs(operands)

    def step(carry: list[Any], x: tuple[list[Any], Marks]) -> tuple[list[Any], list[Any]]:
        xs, marks = x
        outputs = run_marked(parts.body, [*consts, *carry, *xs], marks, path)
        new, ys = parts.split_outputs(outputs)
        return list(new), list(ys)

    inside = _inside(marks, path)
    options = {"length": parts.length, "reverse": parts.reverse}
    carry, ys = lax.scan(step, list(carry), (list(xs), inside), **options)
    return [*carry, *ys]


def _cond(eqn: core.JaxprEqn, operands: list[Any], marks: Marks, path: Path) -> list[Any]:
    index, *operands = operands

    def branch(k: int, jaxpr: AnyJaxpr) -> Callable[..., list[Any]]:
        return lambda operands, marks: run_marked(jaxpr, operands, marks, (*path, k))

    runs = [branch(k, jaxpr) for k, jaxpr in enumerate(jaxprs.cond_branches(eqn))]
    return lax.switch(index, runs, operands, _inside(marks, path))


@jax.custom_vjp
def edge(value: ArrayLike, mark: Array) -> ArrayLike:  # noqa: ARG001
    """Return the value; where `mark` is 1 its cotangent is made finite on the way back.

    The derivative by the mark is 1 if the cotangent was not finite.
    """
    return value


def _edge_forward(value: Any, mark: Any) -> tuple[ArrayLike, Array]:
    return value.value, mark.value


def _edge_backward(mark: Array, cotangent: Any) -> tuple[Any, Array | None]:
    # What JAX knows to be zero stays so: a zero times an infinite slope would be NaN.
    if isinstance(cotangent, jax.custom_derivatives.SymbolicZero):
        return None, None
    wrong = ~jnp.isfinite(settled(cotangent))
    mended = jnp.where(wrong & (mark > 0), finite_stand_in(cotangent), cotangent)
    return mended, jnp.any(wrong).astype(mark.dtype)


edge.defvjp(_edge_forward, _edge_backward, symbolic_zeros=True)
