"""Loops of unknown length: forward mode only."""

from typing import Any

from jax import lax

from jaxopt_tut import jaxprs
from jaxopt_tut.autodiff import loops
from jaxopt_tut.autodiff.program import Step, flatten
from jaxopt_tut.autodiff.registry import CALLS, CallRule, Derivatives, Needed, Values
from jaxopt_tut.autodiff.zeros import filled


def _while_forward(step: Step, inputs: Values, needed: Needed) -> Any:
    del inputs, needed
    raise ValueError(
        f"reverse mode needs loops of known length, got {step.op} at node {step.outputs[0]}"
        f"{f' in {step.scope!r}' if step.scope else ''}: use lax.scan, or fori_loop with static "
        "bounds, or forward mode."
    )


def _while_jvp(step: Step, inputs: Values, tangents: Derivatives) -> tuple[list, list]:
    parts = jaxprs.while_parts(step.eqn)
    for_condition, for_body, carry = parts.split(list(inputs))
    _, d_body, d_carry = parts.split(list(tangents))
    program = flatten(parts.body)
    condition = jaxprs.function_of(parts.condition)
    moving = [t is not None for t in d_carry]
    while True:
        flags = program.active([*(t is not None for t in d_body), *moving])
        grown = [a or flags[i] for a, i in zip(moving, program.outputs, strict=True)]
        if grown == moving:
            break
        moving = grown

    def body(state: tuple[list, list]) -> tuple[list, list]:
        values, directions = state
        outputs, pushed = loops.evaluate_with_tangents(
            program, [*for_body, *values], [*d_body, *directions]
        )
        return outputs, filled(pushed, outputs, moving)

    start = (list(carry), filled(d_carry, carry, moving))
    return lax.while_loop(lambda state: condition(*for_condition, *state[0])[0], body, start)


CALLS["while"] = CallRule(_while_forward, _while_forward, _while_jvp)
