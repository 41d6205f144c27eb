r"""The loops of automatic differentiation over a flat program.

Forward $v_i = f_i(v_{\mathrm{parents}(i)})$, backward $\bar v_i = \sum_j \bar v_j \partial v_j /
\partial v_i$, and the tangents $\dot v_i = \sum_j \partial v_i / \partial v_j\, \dot v_j$. All
are plain loops, so a chain of any length fits; how a single step runs stands in `dispatch`.

An *environment* is the list of all values, with the literals of the program at its end. Adjoints
and tangents are lists aligned with it, in which None is zero.
"""

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax

from jaxopt_tut.autodiff import dispatch, registry
from jaxopt_tut.autodiff.program import Program, Step
from jaxopt_tut.types import Shape


def evaluate(program: Program, inputs: Sequence[Any]) -> list[Any]:
    """Run the program; return the environment."""
    env = environment(program, inputs)
    run_steps(env, program.steps)
    return env


def environment(program: Program, inputs: Sequence[Any]) -> list[Any]:
    """Make the list of values: inputs and constants set, literals at the end."""
    env = [None] * program.num_nodes + list(program.literals)
    for i, value in program.constants.items():
        env[i] = value
    return _write(env, program.inputs, inputs)


def run_steps(env: list[Any], steps: Iterable[Step]) -> None:
    """Execute steps in place on an environment."""
    apply = dispatch.applied()
    for step in _in_context(steps):
        _write(env, step.outputs, apply(step, [env[i] for i in step.operands]))


def forward(env: list[Any], active: Sequence[bool], steps: Iterable[Step]) -> dict[int, Any]:
    """Run steps in place on an environment; return what calls keep for the way back.

    A call that is differentiated by a `CallRule` runs that rule's forward half here, so that
    nothing is computed twice; its residuals are stored under its first output.
    """
    residuals = {}
    apply = dispatch.applied()
    for step in _in_context(steps):
        inputs = [env[i] for i in step.operands]
        rule = step.call_rule if any(active[i] for i in step.outputs) else None
        if rule is None:
            outputs = apply(step, inputs)
        else:
            outputs, residuals[step.outputs[0]] = rule.forward(step, inputs, _needed(step, active))
        _write(env, step.outputs, outputs)
    return residuals


def backpropagate(
    program: Program,
    env: Sequence[Any],
    residuals: dict[int, Any] | None,
    cotangents: Sequence[Any],
    active: Sequence[bool],
) -> list[Any]:
    """Send cotangents of the outputs back; return one adjoint a value.

    Without `residuals`, the forward half of a `CallRule` runs again.
    """
    adjoints: list[Any] = [None] * program.num_nodes
    for i, cotangent in zip(program.outputs, cotangents, strict=True):
        if active[i]:
            _accumulate(adjoints, i, cotangent)
    pull = dispatch.pulled()
    for step in _in_context(reversed(program.live_steps)):
        incoming, needed = [adjoints[i] for i in step.outputs], _needed(step, active)
        is_still = step.primitive in registry.CONSTANT or not any(needed)
        if is_still or all(cotangent is None for cotangent in incoming):
            continue
        inputs = [env[i] for i in step.operands]
        rule = step.call_rule
        if rule is None:
            found = pull(step, incoming, inputs, [env[i] for i in step.outputs], needed)
        else:
            again = residuals is None
            kept = rule.forward(step, inputs, needed)[1] if again else residuals[step.outputs[0]]
            found = rule.backward(step, kept, incoming, needed)
        for i, wanted, cotangent in zip(step.operands, needed, found, strict=True):
            if wanted and cotangent is not None:
                _require_shape(step, cotangent, program.avals[i].shape)
                _accumulate(adjoints, i, cotangent)
    return adjoints


def pushforward(program: Program, env: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
    """Send tangents of the inputs forward; return one tangent a value."""
    pushed = _tangents(program, tangents)
    for step in _in_context(program.steps):
        if _moves(program, step, pushed):
            values, incoming = [env[i] for i in step.operands], [pushed[i] for i in step.operands]
            found = dispatch.push_step(step, incoming, values, [env[i] for i in step.outputs])
            _write_tangents(program, pushed, step.outputs, found)
    return pushed[: program.num_nodes]


def evaluate_with_tangents(
    program: Program, inputs: Sequence[Any], tangents: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    """Run the program on values and tangents together; return those of the outputs."""
    env, pushed = environment(program, inputs), _tangents(program, tangents)
    apply = dispatch.applied()
    for step in _in_context(program.live_steps):
        values, incoming = [env[i] for i in step.operands], [pushed[i] for i in step.operands]
        moves = _moves(program, step, pushed)
        rule = step.call_rule if moves else None
        if rule is not None:  # which computes the values on the way
            outputs, found = rule.jvp(step, values, incoming)
        else:
            outputs = apply(step, values)
            found = dispatch.push_step(step, incoming, values, outputs) if moves else ()
        _write(env, step.outputs, outputs)
        if moves:
            _write_tangents(program, pushed, step.outputs, found)
    return [env[i] for i in program.outputs], [pushed[i] for i in program.outputs]


def _in_context(steps: Iterable[Step]) -> Iterator[Step]:
    """Go through steps, each under the mesh, compute type and scope that it was traced in."""
    for (context, scope), run in itertools.groupby(steps, lambda s: (s.eqn.ctx, s.scope)):
        with context.manager, jax.named_scope(scope) if scope else contextlib.nullcontext():
            yield from run


def _needed(step: Step, active: Sequence[bool]) -> tuple[bool, ...]:
    """Tell which inputs of a step want an adjoint; the literals, which come last, do not."""
    return tuple([i >= 0 and active[i] for i in step.operands])


def _moves(program: Program, step: Step, pushed: Sequence[Any]) -> bool:
    """Tell whether a step hands tangents on."""
    return (
        step.primitive not in registry.CONSTANT
        and any(pushed[i] is not None for i in step.operands)
        and any(program.floating[i] for i in step.outputs)
    )


def _write(env: list[Any], places: Sequence[int], values: Iterable[Any]) -> list[Any]:
    for i, value in zip(places, values, strict=True):
        env[i] = value
    return env


def _tangents(program: Program, tangents: Sequence[Any]) -> list[Any]:
    """Make the list of tangents: those of the inputs set, all others zero."""
    pushed: list[Any] = [None] * (program.num_nodes + len(program.literals))
    return _write_tangents(program, pushed, program.inputs, tangents)


def _write_tangents(
    program: Program, pushed: list[Any], places: Sequence[int], found: Iterable[Any]
) -> list[Any]:
    for i, tangent in zip(places, found, strict=True):
        pushed[i] = tangent if program.floating[i] else None
    return pushed


def _accumulate(adjoints: list[Any], i: int, cotangent: Any) -> None:
    """Add to an adjoint, for where a value is read twice, the contributions sum."""
    adjoints[i] = cotangent if adjoints[i] is None else jax.lax.add(adjoints[i], cotangent)


def _require_shape(step: Step, cotangent: Any, shape: Shape) -> None:
    if cotangent.shape != shape:
        raise ValueError(
            f"the rule of {step.op} (node {step.outputs[0]}) must give a "
            f"cotangent of shape {shape}, got {cotangent.shape}."
        )
