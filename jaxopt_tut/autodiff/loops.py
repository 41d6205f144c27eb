r"""The three loops of automatic differentiation over a flat program.

Forward $v_i = f_i(v_{\mathrm{parents}(i)})$, backward $\bar v_i = \sum_j \bar v_j \partial v_j /
\partial v_i$, and the tangents $\dot v_i = \sum_j \partial v_i / \partial v_j\, \dot v_j$. All
are plain loops, so a chain of any length fits; how a single step runs stands in `dispatch`.
"""

from collections.abc import Sequence
from typing import Any

import jax

from jaxopt_tut.autodiff import registry
from jaxopt_tut.autodiff.activity import live_steps
from jaxopt_tut.autodiff.dispatch import applied, call_rule, for_each, pulled, push_step
from jaxopt_tut.autodiff.program import Program, Step, is_inexact


def environment(program: Program, inputs: Sequence[Any]) -> list[Any]:
    """Make the list of values: inputs and constants set, literals at the end."""
    env = [None] * program.num_nodes + list(program.literals)
    for index, value in program.constants.items():
        env[index] = value
    for index, value in zip(program.inputs, inputs, strict=True):
        env[index] = value
    return env


def evaluate(program: Program, inputs: Sequence[Any]) -> list[Any]:
    """Run the program; return the environment (values, then literals)."""
    env = environment(program, inputs)
    run_steps(env, program.steps)
    return env


def run_steps(env: list[Any], steps: Sequence[Step]) -> None:
    """Execute steps in place on an environment."""
    apply = applied()

    def run(step: Step) -> None:
        _write(env, step, apply(step, [env[i] for i in step.operands]))

    for_each(steps, run)


def _write(env: list[Any], step: Step, outputs: Sequence[Any]) -> None:
    for index, value in zip(step.outputs, outputs, strict=True):
        env[index] = value


def forward(env: list[Any], active: Sequence[bool], steps: Sequence[Step]) -> dict[int, Any]:
    """Run steps in place on an environment; return what calls keep for the way back.

    A call that is differentiated by a `CallRule` runs that rule's forward half here, so that
    nothing is computed twice; its residuals are stored under its first output.
    """
    residuals = {}
    apply = applied()

    def run(step: Step) -> None:
        inputs = [env[i] for i in step.operands]
        rule = call_rule(step) if any(active[i] for i in step.outputs) else None
        if rule is None:
            outputs = apply(step, inputs)
        else:
            outputs, residuals[step.outputs[0]] = rule.forward(step, inputs, _needed(step, active))
        _write(env, step, outputs)

    for_each(steps, run)
    return residuals


def _needed(step: Step, active: Sequence[bool]) -> tuple[bool, ...]:
    """Tell which inputs of a step want an adjoint; the literals, which come last, do not."""
    return tuple(i >= 0 and active[i] for i in step.operands)


def backpropagate(
    program: Program,
    env: Sequence[Any],
    residuals: dict[int, Any],
    cotangents: Sequence[Any],
    active: Sequence[bool],
    *,
    steps: Sequence[Step] | None = None,
    recompute: bool = False,
) -> list[Any]:
    """Send cotangents of the outputs back; return one adjoint (None for zero) a value.

    Args:
      program: The program.
      env: Its environment after the forward pass.
      residuals: What `forward` returned.
      cotangents: One an output, or None.
      active: For each value, whether its adjoint is wanted.
      steps: The steps to go through, by default all.
      recompute: Run the forward half of a `CallRule` again instead of reading `residuals`.
    """
    adjoints: list[Any] = [None] * program.num_nodes
    for index, cotangent in zip(program.outputs, cotangents, strict=True):
        if cotangent is not None and active[index]:
            _accumulate(adjoints, index, cotangent)
    pull = pulled()

    def back(step: Step) -> None:
        incoming = [adjoints[i] for i in step.outputs]
        needed = _needed(step, active)
        if all(cotangent is None for cotangent in incoming) or not any(needed):
            return
        if step.primitive in registry.CONSTANT:
            return
        inputs = [env[i] for i in step.operands]
        rule = call_rule(step)
        if rule is None:
            found = pull(step, incoming, inputs, [env[i] for i in step.outputs], needed)
        else:
            again = lambda: rule.forward(step, inputs, needed)[1]
            kept = again() if recompute else residuals[step.outputs[0]]
            found = rule.backward(step, kept, incoming, needed)
        for i, wanted, cotangent in zip(step.operands, needed, found, strict=True):
            if wanted and cotangent is not None:
                _require_shape(step, cotangent, program.avals[i].shape)
                _accumulate(adjoints, i, cotangent)

    for_each(reversed(program.steps if steps is None else steps), back)
    return adjoints


def _require_shape(step: Step, cotangent: Any, shape: tuple[int, ...]) -> None:
    if cotangent.shape != shape:
        raise ValueError(
            f"the rule of {step.op} (node {step.outputs[0]}) must give a "
            f"cotangent of shape {shape}, got {cotangent.shape}."
        )


def _accumulate(adjoints: list[Any], index: int, cotangent: Any) -> None:
    """Add to an adjoint: where a value is read twice, the contributions sum."""
    present = adjoints[index]
    adjoints[index] = cotangent if present is None else jax.lax.add(present, cotangent)


def pushforward(program: Program, env: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
    """Send tangents of the inputs forward; return one tangent (None for zero) a value."""
    pushed = _tangents(program, tangents)

    def push(step: Step) -> None:
        if _moves(program, step, pushed):
            outputs = [env[i] for i in step.outputs]
            found = push_step(
                step, [pushed[i] for i in step.operands], [env[i] for i in step.operands], outputs
            )
            _write_tangents(program, pushed, step, found)

    for_each(program.steps, push)
    return pushed[: program.num_nodes]


def evaluate_with_tangents(
    program: Program, inputs: Sequence[Any], tangents: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    """Run the program on values and tangents together; return those of the outputs."""
    env, pushed = environment(program, inputs), _tangents(program, tangents)
    apply = applied()

    def run(step: Step) -> None:
        values, incoming = [env[i] for i in step.operands], [pushed[i] for i in step.operands]
        moves = _moves(program, step, pushed)
        rule = call_rule(step) if moves else None
        if rule is not None:  # which would compute the values on the way
            outputs, found = rule.jvp(step, values, incoming)
        else:
            outputs = apply(step, values)
            found = push_step(step, incoming, values, outputs) if moves else None
        _write(env, step, outputs)
        if found is not None:
            _write_tangents(program, pushed, step, found)

    for_each(live_steps(program), run)
    return [env[i] for i in program.outputs], [pushed[i] for i in program.outputs]


def _tangents(program: Program, tangents: Sequence[Any]) -> list[Any]:
    """Make the list of tangents: those of the inputs set, all others zero."""
    pushed: list[Any] = [None] * (program.num_nodes + len(program.literals))
    for index, tangent in zip(program.inputs, tangents, strict=True):
        pushed[index] = tangent if is_inexact(program.avals[index]) else None
    return pushed


def _moves(program: Program, step: Step, pushed: Sequence[Any]) -> bool:
    """Tell whether a step hands tangents on."""
    return (
        step.primitive not in registry.CONSTANT
        and any(pushed[i] is not None for i in step.operands)
        and any(is_inexact(program.avals[i]) for i in step.outputs)
    )


def _write_tangents(program: Program, pushed: list[Any], step: Step, found: Sequence[Any]) -> None:
    for index, tangent in zip(step.outputs, found, strict=True):
        pushed[index] = tangent if is_inexact(program.avals[index]) else None
