"""Evaluate a program once more, keeping chosen values and letting cotangents out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core
from jaxtyping import Array, Bool, Inexact

from jaxopt_tut import jaxprs
from jaxopt_tut.taps.graph import AnyJaxpr, Place

Places = Mapping[Place, int]
"""The number of each tapped value, by place."""

Bumps = Mapping[int, Any]
"""What each of them is to meet, by number."""

Meet = Callable[[Any, Any], Any]
"""From a value and its bump to what the program goes on with."""


class Recording(NamedTuple):
    """What an evaluation gives.

    Attributes:
      outputs: The program's.
      values: By number.
      taken: For the values inside a `cond` or a `while_loop`: whether that part was run.
    """

    outputs: list[Any]
    values: dict[int, Inexact[Array, "..."]]
    taken: dict[int, Bool[Array, "..."]]


@jax.custom_jvp
def tap(value: Inexact[Array, "..."], _bump: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
    """Return the value; its derivative with respect to the bump, which is never read, is one.

    Adding a bump of zero would turn -0.0 into 0.0 and cost an addition.
    """
    return value


@tap.defjvp
def _tap_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    return primals[0], tangents[0] + tangents[1]


def evaluate(
    jaxpr: AnyJaxpr,
    inputs: Sequence[Any],
    places: Places,
    bumps: Bumps,
    meet: Meet = tap,
) -> Recording:
    r"""Evaluate a program and keep the values at some places.

    $$\tilde v_i = v_i + \epsilon_i, \qquad
      \left.\frac{\partial L}{\partial \epsilon_i}\right|_{\epsilon = 0} = \bar v_i$$

    Only calls with a place inside are taken apart and built again. The bumps $\epsilon_i$, by
    number, are zeros of the values' shapes, with one leading axis a scan; `meet` says what the
    program goes on with, and one of its own may read bumps of other shapes behind these axes.
    """
    program = jaxprs.open_jaxpr(jaxpr)
    env = dict(zip(program.invars, inputs, strict=True))
    env |= zip(program.constvars, jaxprs.constants(jaxpr), strict=True)
    values: dict[int, Any] = {}
    taken: dict[int, Any] = {}

    def read(atom: Any) -> Any:
        return atom.val if jaxprs.is_literal(atom) else env[atom]

    # Places of this jaxpr, and those inside its calls, which are relative to the call from there.
    here: dict[int, dict[int, int]] = {}
    inside: dict[int, dict[Place, int]] = {}
    for (path, output), number in places.items():
        if len(path) == 1:
            here.setdefault(path[0], {})[output] = number
        else:
            inside.setdefault(path[0], {})[path[1:], output] = number
    for i, eqn in enumerate(program.eqns):
        operands = [read(atom) for atom in eqn.invars]
        if i in inside:
            with eqn.ctx.manager:
                outputs, more, more_taken = _enter(eqn, operands, inside[i], bumps, meet)
            values |= more
            taken |= more_taken
        else:
            outputs = jaxprs.bind(eqn, operands)
        for k, number in here.get(i, {}).items():
            values[number] = outputs[k]
            if number in bumps:
                outputs[k] = meet(outputs[k], bumps[number])
        env.update(zip(eqn.outvars, outputs, strict=True))
    return Recording([read(atom) for atom in program.outvars], values, taken)


def _enter(
    eqn: core.JaxprEqn, operands: list[Any], places: Places, bumps: Bumps, meet: Meet
) -> Recording:
    """Build a call again so that it hands out the values inside."""
    kind = jaxprs.kind_of_call(eqn)
    needed = {number: bumps[number] for number in places.values() if number in bumps}
    branches: dict[int, dict[Place, int]] = {}
    for (path, output), number in places.items():
        branches.setdefault(path[0], {})[path[1:], output] = number
    if kind == "while":
        return _while_loop(eqn, operands, branches[1])
    if kind == "scan":
        return _scan(eqn, operands, branches[0], needed, meet)
    if kind == "cond":
        return _cond(eqn, operands, branches, needed, meet)
    body = jaxprs.called_jaxpr(eqn)
    if kind in ("custom_jvp", "custom_vjp"):
        # The outputs keep their own derivative rule; the values inside are computed beside it.
        beside = evaluate(body, operands, branches[0], {})
        return beside._replace(outputs=jaxprs.bind_here(eqn, operands))

    def call(operands, bumps):
        return evaluate(body, operands, branches[0], bumps, meet)

    if kind == "remat":
        return jax.checkpoint(call, **jaxprs.remat_options(eqn))(operands, needed)
    return jax.jit(call)(operands, needed)


def _scan(
    eqn: core.JaxprEqn, operands: list[Any], places: Places, bumps: Bumps, meet: Meet
) -> Recording:
    """Run a scan that stacks the values of its steps, and hands each step its own bumps."""
    parts = jaxprs.scan_parts(eqn)
    consts, carry, xs = parts.split_inputs(operands)

    def step(carry, x):
        xs, bumps = x
        outputs, values, taken = evaluate(parts.body, [*consts, *carry, *xs], places, bumps, meet)
        carry, ys = parts.split_outputs(outputs)
        return list(carry), (list(ys), values, taken)

    carry, (ys, values, taken) = jax.lax.scan(
        step,
        list(carry),
        (list(xs), bumps),
        length=parts.length,
        reverse=parts.reverse,
        unroll=parts.unroll,
    )
    return Recording([*carry, *ys], values, taken)


def _while_loop(eqn: core.JaxprEqn, operands: list[Any], places: Places) -> Recording:
    """Carry the values of the latest step along; NaN if there is none."""
    parts = jaxprs.while_parts(eqn)
    for_condition, consts, carry = parts.split(operands)

    def step(state):
        one = evaluate(parts.body, [*consts, *state.outputs], places, {})
        return one._replace(taken={n: jnp.bool_(True) for n in one.values} | one.taken)

    def goes_on(state):
        return jaxprs.function_of(parts.condition)(*for_condition, *state.outputs)[0]

    blank = Recording(list(carry), {}, {})
    shapes = jax.eval_shape(step, blank)
    start = blank._replace(values=_missing(shapes.values), taken=_never(shapes.taken))
    return jax.lax.while_loop(goes_on, step, start)


def _cond(
    eqn: core.JaxprEqn,
    operands: list[Any],
    branches: Mapping[int, Places],
    bumps: Bumps,
    meet: Meet,
) -> Recording:
    """Fill in NaN for the values of the branches that are not taken."""
    index, *operands = operands

    def branch(k, jaxpr):
        def run(operands, bumps):
            outputs, values, taken = evaluate(jaxpr, operands, branches.get(k, {}), bumps, meet)
            return Recording(outputs, values, {n: jnp.bool_(True) for n in values} | taken)

        return run

    # All branches of a switch return the same tree: first see what each records, then fill it up.
    runs = [branch(k, jaxpr) for k, jaxpr in enumerate(jaxprs.cond_branches(eqn))]
    shapes = [jax.eval_shape(run, operands, bumps) for run in runs]
    values = {n: value for shape in shapes for n, value in shape.values.items()}
    taken = {n: value for shape in shapes for n, value in shape.taken.items()}

    def filled(run):
        def whole(operands, bumps):
            one = run(operands, bumps)
            return Recording(one.outputs, _missing(values) | one.values, _never(taken) | one.taken)

        return whole

    return jax.lax.switch(index, [filled(run) for run in runs], operands, bumps)


def _missing(shapes: Mapping[int, jax.ShapeDtypeStruct]) -> dict[int, Array]:
    return {n: jnp.full(one.shape, jnp.nan, one.dtype) for n, one in shapes.items()}


def _never(shapes: Mapping[int, jax.ShapeDtypeStruct]) -> dict[int, Array]:
    return {n: jnp.zeros(one.shape, bool) for n, one in shapes.items()}
