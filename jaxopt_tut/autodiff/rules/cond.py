# ruff: noqa: ARG001 (all rules have one signature, whatever they read of it)
"""Branches: the derivative of the branch that is taken."""

from typing import Any

from jax import lax

from jaxopt_tut import jaxprs
from jaxopt_tut.autodiff import loops
from jaxopt_tut.autodiff.program import Step, flatten, is_inexact
from jaxopt_tut.autodiff.registry import CALLS, CallRule, Derivatives, Needed, Values
from jaxopt_tut.autodiff.zeros import filled


def _cond_forward(step: Step, inputs: Values, needed: Needed) -> tuple[list, Any]:
    """Keep the operands; the branch that was taken runs again on the way back."""
    return jaxprs.bind_here(step.eqn, inputs), list(inputs)


def _cond_backward(step: Step, inputs: Any, cotangents: Derivatives, needed: Needed) -> list:
    index, *operands = inputs
    wanted = needed[1:]
    given = filled(cotangents, step.output_avals, map(is_inexact, step.output_avals))

    def back_of(branch: Any) -> Any:
        program = flatten(branch)
        active = program.active(wanted)

        def back(values: list, incoming: list) -> list:
            env = loops.environment(program, values)
            residuals = loops.forward(env, active, program.steps)
            adjoints = loops.backpropagate(program, env, residuals, incoming, active)
            found = filled([adjoints[i] for i in program.inputs], values, wanted)
            return [adjoint for adjoint, flag in zip(found, wanted, strict=True) if flag]

        return back

    branches = [back_of(branch) for branch in jaxprs.cond_branches(step.eqn)]
    found = iter(lax.switch(index, branches, operands, given))
    return [None, *(next(found) if flag else None for flag in wanted)]


def _cond_jvp(step: Step, inputs: Values, tangents: Derivatives) -> tuple[list, list]:
    index, *operands = inputs

    def push_of(branch: Any) -> Any:
        program = flatten(branch)

        def push(values: list, directions: list) -> tuple[list, list]:
            outputs, pushed = loops.evaluate_with_tangents(program, values, directions)
            return outputs, filled(pushed, outputs, map(is_inexact, outputs))

        return push

    branches = [push_of(branch) for branch in jaxprs.cond_branches(step.eqn)]
    return lax.switch(index, branches, operands, list(tangents[1:]))


CALLS["cond"] = CallRule(_cond_forward, _cond_backward, _cond_jvp)
