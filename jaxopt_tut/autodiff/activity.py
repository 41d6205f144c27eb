"""Which values matter: those that depend on what is differentiated, and those that are read."""

from collections.abc import Sequence

from jaxopt_tut.autodiff import registry
from jaxopt_tut.autodiff.program import Program, Step, is_inexact


def activity(program: Program, active_inputs: Sequence[bool]) -> list[bool]:
    """Tell for each value whether it depends, differentiably, on an active input."""
    active = [False] * program.num_nodes + [False] * len(program.literals)
    for index, flag in zip(program.inputs, active_inputs, strict=True):
        active[index] = flag and is_inexact(program.avals[index])
    for step in program.steps:
        if step.primitive in registry.CONSTANT:
            continue
        if any(active[i] for i in step.operands):
            for index in step.outputs:
                active[index] = is_inexact(program.avals[index])
    return active[: program.num_nodes]


def live_steps(program: Program, outputs: Sequence[int] | None = None) -> list[Step]:
    """List the steps that the outputs depend on, in execution order."""
    wanted = set(program.outputs if outputs is None else outputs)
    kept = []
    for step in reversed(program.steps):
        if not wanted.isdisjoint(step.outputs):
            wanted.update(step.operands)
            kept.append(step)
    return kept[::-1]
