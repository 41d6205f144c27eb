# ruff: noqa: ARG001 (all rules have one signature, whatever they read of it)
r"""Calls: a function with its own rule, a rematerialized part, and what JAX differentiates.

A `custom_jvp` or `custom_vjp` call is one node, and its derivative is the rule its author gave:
entering `relu` would turn its slope at 0 from 0 into 1/2.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import lax

from jaxopt_tut import jaxprs
from jaxopt_tut.autodiff import loops
from jaxopt_tut.autodiff.program import Program, Step, flatten
from jaxopt_tut.autodiff.registry import (
    CALLS,
    CallRule,
    Derivatives,
    Needed,
    Values,
    define,
    define_push,
)
from jaxopt_tut.autodiff.zeros import filled


def _moving(step: Step, inputs: Sequence[Any], places: list[int]) -> Any:
    """Return the step as a function of some of its inputs; the floating outputs come out."""

    def apply(*values: Any) -> tuple:
        full = list(inputs)
        for place, value in zip(places, values, strict=True):
            full[place] = value
        outputs = jaxprs.bind_here(step.eqn, full)
        return tuple(outputs)

    return apply


def _jax_forward(step: Step, inputs: Values, needed: Needed) -> tuple[list, Any]:
    """Let JAX run the node and keep what its own rule wants to keep."""
    places = [k for k, wanted in enumerate(needed) if wanted]
    outputs, pull = jax.vjp(_moving(step, inputs, places), *(inputs[k] for k in places))
    return list(outputs), pull


def _jax_backward(step: Step, pull: Any, cotangents: Derivatives, needed: Needed) -> list:
    found = iter(pull(tuple(filled(cotangents, step.output_avals))))
    return [next(found) if wanted else None for wanted in needed]


def _jax_jvp(step: Step, inputs: Values, tangents: Derivatives) -> tuple[list, list]:
    places = [k for k, tangent in enumerate(tangents) if tangent is not None]
    outputs, pushed = jax.jvp(
        _moving(step, inputs, places),
        [inputs[k] for k in places],
        [tangents[k] for k in places],
    )
    return list(outputs), list(pushed)


CALLS["jax"] = CallRule(_jax_forward, _jax_backward, _jax_jvp)


def _custom_vjp_jvp(step: Step, inputs: Values, tangents: Derivatives) -> Any:
    del inputs, tangents
    raise TypeError(
        f"forward mode needs a rule that can be pushed forward, but {step.op} at node "
        f"{step.outputs[0]} has a custom_vjp: reverse mode only."
    )


CALLS["custom_jvp"] = CALLS["jax"]
CALLS["custom_vjp"] = CallRule(_jax_forward, _jax_backward, _custom_vjp_jvp)


@define("name")
def _name_rule(
    cotangents: Derivatives, inputs: Values, outputs: Values, needed: Needed, *, name: str
) -> Derivatives:
    """Pass through `checkpoint_name`; only the value has the name."""
    return [cotangents[0]]


@define_push("name")
def _name_push(tangents: Derivatives, inputs: Values, outputs: Values, *, name: str) -> Derivatives:
    return [tangents[0]]


def _inner(step: Step) -> Program:
    return flatten(jaxprs.called_jaxpr(step.eqn))


def _jit_forward(step: Step, inputs: Values, needed: Needed) -> tuple[list, Any]:
    program = _inner(step)
    env = loops.environment(program, inputs)
    active = program.active(needed)
    residuals = loops.forward(env, active, program.steps)
    return [env[i] for i in program.outputs], (program, env, active, residuals)


def _jit_backward(step: Step, kept: Any, cotangents: Derivatives, needed: Needed) -> list:
    program, env, active, residuals = kept
    adjoints = loops.backpropagate(program, env, residuals, cotangents, active)
    return [adjoints[i] for i in program.inputs]


def _inlined_jvp(step: Step, inputs: Values, tangents: Derivatives) -> tuple[list, list]:
    return loops.evaluate_with_tangents(_inner(step), inputs, tangents)


CALLS["jit"] = CallRule(_jit_forward, _jit_backward, _inlined_jvp)


def _remat_forward(step: Step, inputs: Values, needed: Needed) -> tuple[list, Any]:
    """Keep the inputs, and what the policy of `jax.checkpoint` says may be kept."""
    policy = jaxprs.remat_options(step.eqn)["policy"]
    if policy is None:
        return jaxprs.bind_here(step.eqn, inputs), (list(inputs), {})
    program = _inner(step)
    env = loops.evaluate(program, inputs)
    saved = {index: env[index] for inner in program.steps if _is_saved(inner, policy)
             for index in inner.outputs}  # fmt: skip
    return [env[i] for i in program.outputs], (list(inputs), saved)


def _is_saved(step: Step, policy: Any) -> bool:
    """Ask the policy; a call runs again in any case, since its rule reads more than its outputs.

    A policy answers with a bool or, where it also sends values to the host, with a marker; what
    it would send there is computed again.
    """
    if step.call_rule is not None:
        return False
    answer = policy(step.primitive, *(v.aval for v in step.eqn.invars), **step.eqn.params)
    return answer is True or type(answer).__name__ == "SaveableType"


def _remat_backward(step: Step, kept: Any, cotangents: Derivatives, needed: Needed) -> list:
    """Run the part again, behind a barrier that keeps XLA from remembering the first run."""
    program = _inner(step)
    if np.any(jaxprs.remat_options(step.eqn)["prevent_cse"]):
        kept = lax.optimization_barrier(kept)
    inputs, saved = kept
    active = program.active(needed)
    env = loops.environment(program, inputs)
    for index, value in saved.items():
        env[index] = value
    steps = [inner for inner in program.steps if inner.outputs[0] not in saved]
    residuals = loops.forward(env, active, steps)
    adjoints = loops.backpropagate(program, env, residuals, cotangents, active)
    return [adjoints[i] for i in program.inputs]


CALLS["remat"] = CallRule(_remat_forward, _remat_backward, _inlined_jvp)
