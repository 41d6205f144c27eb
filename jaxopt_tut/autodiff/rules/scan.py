# ruff: noqa: ARG001 (all rules have one signature, whatever they read of it)
r"""Loops of known length.

The adjoint of a scan $h_t, y_t = f(c, h_{t-1}, x_t)$ is a scan in the other direction,

$$\bar h_{t-1}, \bar x_t = (\bar h_t, \bar y_t)\, \frac{\partial f}{\partial (h, x)}, \qquad
  \bar c = \sum_t (\bar h_t, \bar y_t)\, \frac{\partial f}{\partial c}.$$

Each step keeps only what its backward body reads.
"""

from collections.abc import Sequence
from typing import Any

import jax
from jax import lax

from jaxopt_tut import jaxprs
from jaxopt_tut.autodiff import loops
from jaxopt_tut.autodiff.program import Step, flatten, is_inexact
from jaxopt_tut.autodiff.registry import CALLS, CallRule, Derivatives, Needed, Values
from jaxopt_tut.autodiff.zeros import filled, zeros


@jax.tree_util.register_static
class _ScanPlan:
    """What can be said about a scan and its way back before it runs; it holds no arrays.

    Attributes:
      parts: The scan taken apart.
      program: One step, flat.
      flags: Which inputs of a step need an adjoint, carries that become active included.
      active: Which values of a step need an adjoint.
      fixed: The values that are the same in every step.
      invariant: The steps that compute them; they run once, before the loop.
      varying: The other steps.
    """

    def __init__(self, step: Step, active_inputs: Sequence[bool]):
        self.parts = parts = jaxprs.scan_parts(step.eqn)
        self.program = program = flatten(parts.body)
        self.first, self.last = parts.num_consts, parts.num_consts + parts.num_carry
        self.flags = self._grown(list(active_inputs))
        self.active = program.active(self.flags)
        fixed = {*program.inputs[: self.first], *program.constants}
        self.invariant: list[Step] = []
        self.varying: list[Step] = []
        for inner in program.steps:
            if all(i < 0 or i in fixed for i in inner.operands):
                fixed.update(inner.outputs)
                self.invariant.append(inner)
            else:
                self.varying.append(inner)
        self.fixed = sorted(fixed)

    def _grown(self, flags: list[bool]) -> list[bool]:
        """Mark the carries that become active because a later carry is."""
        carries = self.program.outputs[: self.parts.num_carry]
        while True:
            active = self.program.active(flags)
            before = flags[self.first : self.last]
            after = [a or active[i] for a, i in zip(before, carries, strict=True)]
            if after == before:
                return flags
            flags[self.first : self.last] = after

    def start(self, consts: Sequence[Any]) -> tuple[list[Any], dict]:
        """Compute what all steps share: the fixed values, and what their calls keep."""
        rest = [None] * (len(self.program.inputs) - self.first)
        env = loops.environment(self.program, [*consts, *rest])
        return env, loops.forward(env, self.active, self.invariant)

    def run(self, shared: Sequence[Any], carry: Any, x: Any) -> tuple[list[Any], dict]:
        """Run one step on a copy of the shared environment."""
        env = list(shared)
        for index, value in zip(self.program.inputs[self.first :], [*carry, *x], strict=True):
            env[index] = value
        return env, loops.forward(env, self.active, self.varying)

    def record_backward(self, shared: list, shared_residuals: dict, carry: Any, xs: Any) -> None:
        """Trace the backward body, and find the values of a step that it reads.

        Every value of a step is an argument; what no equation reads need not be stored. A
        residual of an inner call that is a value of the step itself is not stored twice.
        """
        program, n = self.program, self.program.num_nodes
        self.aliases: dict[int, int] = {}

        def tape(carry: Any, x: Any) -> Any:
            env, residuals = self.run(shared, carry, x)
            places = {id(value): index for index, value in enumerate(env[:n])}
            for k, leaf in enumerate(jax.tree.leaves(residuals), n):
                if id(leaf) in places:
                    self.aliases[k] = places[id(leaf)]
            return residuals

        def back(values: Any, residuals: Any, fixed: Any, outer: Any, cotangents: Any) -> list:
            env = [*values, *program.literals]
            for index, value in zip(self.fixed, fixed, strict=True):
                env[index] = value
            adjoints = loops.backpropagate(
                program, env, {**outer, **residuals}, cotangents, self.active
            )
            moving = [i for i, flag in zip(program.inputs, self.flags, strict=True) if flag]
            return filled([adjoints[i] for i in moving], [program.avals[i] for i in moving])

        residuals: Any = {}
        if any(inner.call_rule is not None for inner in self.varying):
            slices = [jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for x in xs]
            residuals = jax.eval_shape(tape, list(carry), slices)
        values = [_shape(aval) for aval in program.avals]
        fixed = [shared[index] for index in self.fixed]
        cotangents = [_shape(program.avals[i]) if self.active[i] else None for i in program.outputs]
        closed = jax.make_jaxpr(back)(values, residuals, fixed, shared_residuals, cotangents)
        self.backward = reads = flatten(closed, ())
        self.backward_steps = steps = reads.live_steps
        live = {i for inner in steps for i in inner.operands} | {*reads.outputs}
        self.num_tape = n + len(jax.tree.leaves(residuals))
        places = [k for k, index in enumerate(reads.inputs[: self.num_tape]) if index in live]
        self.read = sorted({self.aliases.get(k, k) for k in places} - {*self.fixed})

    def run_backward(self, tape: dict[int, Any], shared: list, cotangents: list) -> list[Any]:
        """Send the cotangents of one step's outputs to its active inputs."""
        fixed = dict(zip(self.fixed, shared, strict=False))
        leaves = [
            fixed[index] if index in fixed else tape.get(index)
            for index in (self.aliases.get(k, k) for k in range(self.num_tape))
        ]
        env = loops.environment(self.backward, [*leaves, *shared, *cotangents])
        loops.run_steps(env, self.backward_steps)
        return [env[i] for i in self.backward.outputs]


def _shape(aval: Any) -> Any:
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype)


def _scan_forward(step: Step, inputs: Values, needed: Needed) -> tuple[list, Any]:
    """Run the loop, stacking those values that the way back reads and that are not at hand."""
    plan = _ScanPlan(step, needed)
    parts, program = plan.parts, plan.program
    consts, carry, xs = parts.split_inputs(list(inputs))
    shared, shared_residuals = plan.start(consts)
    plan.record_backward(shared, shared_residuals, carry, xs)
    xs_at = {index: k for k, index in enumerate(program.inputs[plan.last :])}
    ys_at = {index: k for k, index in enumerate(program.outputs[parts.num_carry :])}
    stored = [k for k in plan.read if k not in xs_at and k not in ys_at]

    def body(carry: list, x: list) -> tuple[list, tuple[list, list]]:
        env, residuals = plan.run(shared, carry, x)
        tape = [*env[: program.num_nodes], *jax.tree.leaves(residuals)]
        outputs = [env[i] for i in program.outputs]
        n = parts.num_carry
        return outputs[:n], (outputs[n:], [tape[k] for k in stored])

    last, (ys, stacks) = lax.scan(
        body, list(carry), list(xs), length=parts.length, reverse=parts.reverse,
        unroll=parts.unroll,
    )  # fmt: skip
    tape = dict(zip(stored, stacks, strict=True))
    for k in plan.read:
        if k in xs_at:
            tape[k] = xs[xs_at[k]]
        elif k in ys_at:
            tape[k] = ys[ys_at[k]]
    common = [*(shared[i] for i in plan.fixed), *jax.tree.leaves(shared_residuals)]
    return [*last, *ys], (plan, common, tape)


def _scan_backward(step: Step, residuals: Any, cotangents: Derivatives, needed: Needed) -> list:
    plan, common, tape = residuals
    parts, program = plan.parts, plan.program
    g_carry, g_ys = parts.split_outputs(
        filled(cotangents, step.output_avals, map(is_inexact, step.output_avals))
    )
    flags = plan.flags
    num_summed = sum(flags[: plan.first])
    num_carried = sum(flags[plan.first : plan.last])
    active_out = [plan.active[i] for i in program.outputs]
    carry_flags = flags[plan.first : plan.last]

    def body(state: Any, slices: Any) -> Any:
        totals, carried = state
        g_y, saved = slices
        # A carry that is active at the start but not returned by the step has no cotangent there.
        g_in = [g for g, i in zip(carried, moving, strict=True) if active_out[i]]
        found = plan.run_backward(saved, common, [*g_in, *g_y])
        totals = [lax.add(a, b) for a, b in zip(totals, found, strict=False)]
        return (totals, found[num_summed:][:num_carried]), found[num_summed + num_carried :]

    moving = [k for k, flag in enumerate(carry_flags) if flag]
    summed = [i for i, flag in zip(program.inputs[: plan.first], flags, strict=False) if flag]
    stacked = [g for g, flag in zip(g_ys, active_out[parts.num_carry :], strict=True) if flag]
    start = ([zeros(program.avals[i]) for i in summed], [g_carry[k] for k in moving])
    (totals, carried), found_xs = lax.scan(
        body, start, (stacked, tape), length=parts.length, reverse=not parts.reverse,
        unroll=parts.unroll,
    )  # fmt: skip
    found = iter([*totals, *carried, *found_xs])
    return [next(found) if flag else None for flag in flags]


def _scan_jvp(step: Step, inputs: Values, tangents: Derivatives) -> tuple[list, list]:
    """Carry values and tangents through the loop side by side."""
    plan = _ScanPlan(step, [t is not None for t in tangents])
    parts, program = plan.parts, plan.program
    first, last = plan.first, plan.last
    directions = filled(tangents, inputs, plan.flags)
    active_ys = [plan.active[i] for i in program.outputs[parts.num_carry :]]

    def body(state, x):
        (carry, d_carry), (x, d_x) = state, x
        outputs, pushed = loops.evaluate_with_tangents(
            program, [*inputs[:first], *carry, *x], [*directions[:first], *d_carry, *d_x]
        )
        pushed = filled(pushed, outputs, [*plan.flags[first:last], *active_ys])
        n = parts.num_carry
        return (outputs[:n], pushed[:n]), (outputs[n:], pushed[n:])

    start = (list(inputs[first:last]), directions[first:last])
    (carry, d_carry), (ys, d_ys) = lax.scan(
        body, start, (list(inputs[last:]), directions[last:]), length=parts.length,
        reverse=parts.reverse, unroll=parts.unroll,
    )  # fmt: skip
    return [*carry, *ys], [*d_carry, *d_ys]


CALLS["scan"] = CallRule(_scan_forward, _scan_backward, _scan_jvp)
