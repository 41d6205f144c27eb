"""Equations that hold jaxprs: which, and how the inner ends are joined to the outer."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jax.extend import core

from jaxopt_tut.blocks import shown
from jaxopt_tut.jaxprs.reading import called_jaxpr, kind_of_call, open_jaxpr


@shown
class SubJaxpr(NamedTuple):
    """One jaxpr inside an equation, and how its ends are joined to the equation's.

    Attributes:
      label: Its role: `"call"`, `"body"`, `"condition"`, `"branch0"`, `"branch1"`, ...
      jaxpr: The jaxpr, closed or open.
      inputs: For each of its invars, the position in `eqn.invars` that feeds it.
      outputs: For each of its outvars, the position in `eqn.outvars` it feeds; empty for a
        condition. `inputs` and `outputs` are None for a call whose wiring is not known.
    """

    label: str
    jaxpr: Any
    inputs: tuple[int, ...] | None
    outputs: tuple[int, ...] | None


def sub_jaxprs(eqn: core.JaxprEqn) -> list[SubJaxpr]:
    """List the jaxprs that an equation holds, with their wiring.

    Returns:
      Its jaxprs in a fixed order; none for a plain primitive. The forward part alone of a
      `custom_jvp` or `custom_vjp` call; a `while` gives its condition, then its body.

    Example:
      >>> import jax
      >>> def power(x, y):
      ...     return jax.lax.cond(x > 0, lambda: x**y, lambda: x)
      >>> eqn = jax.make_jaxpr(power)(1.0, 2.0).eqns[-1]
      >>> [(sub.label, sub.inputs, sub.outputs) for sub in sub_jaxprs(eqn)]
      [('branch0', (1, 2), (0,)), ('branch1', (1, 2), (0,))]
    """
    num_in, num_out = len(eqn.invars), len(eqn.outvars)
    inputs, outputs = tuple(range(num_in)), tuple(range(num_out))
    kind = kind_of_call(eqn)
    if kind == "primitive":
        return []
    if kind == "cond":
        branches = enumerate(cond_branches(eqn))
        return [SubJaxpr(f"branch{k}", branch, inputs[1:], outputs) for k, branch in branches]
    if kind == "while":
        parts = while_parts(eqn)
        for_condition, for_body, carry = parts.split(inputs)
        return [
            SubJaxpr("condition", parts.condition, (*for_condition, *carry), ()),
            SubJaxpr("body", parts.body, (*for_body, *carry), outputs),
        ]
    if kind == "scan":
        return [SubJaxpr("body", eqn.params["jaxpr"], inputs, outputs)]
    if kind in ("jit", "remat", "custom_jvp", "custom_vjp"):
        return [SubJaxpr("call", called_jaxpr(eqn), inputs, outputs)]
    found = []
    for jaxpr in core.jaxprs_in_params(eqn.params):
        one = open_jaxpr(jaxpr)
        whole = len(one.invars) == num_in and len(one.outvars) == num_out
        found.append(SubJaxpr("call", jaxpr, inputs if whole else None, outputs if whole else None))
    return found


def with_bodies(eqn: core.JaxprEqn, change: Callable[[Any], Any]) -> core.JaxprEqn:
    """Return an equation with other jaxprs inside, the very same where nothing has changed.

    Functions with a derivative rule of their own, and calls other than `shard_map` that
    `kind_of_call` does not know, are left alone.

    Example:
      >>> import jax
      >>> eqn = jax.make_jaxpr(jax.jit(jax.numpy.sin))(1.0).eqns[0]
      >>> with_bodies(eqn, lambda jaxpr: jaxpr) is eqn
      True
    """
    if kind_of_call(eqn) not in _REWRITABLE and eqn.primitive.name != "shard_map":
        return eqn
    changed = {}
    for name, value in eqn.params.items():
        if isinstance(value, core.Jaxpr | core.ClosedJaxpr):
            new = change(value)
            if new is not value:
                changed[name] = new
        elif name == "branches":
            branches = tuple(map(change, value))
            if any(new is not old for new, old in zip(branches, value, strict=True)):
                changed[name] = branches
    return eqn.replace(params={**eqn.params, **changed}) if changed else eqn


_REWRITABLE = ("jit", "remat", "scan", "while", "cond")


@shown
class ScanParts(NamedTuple):
    """A `scan` equation, taken apart.

    Attributes:
      body: The closed jaxpr of one step: `(*consts, *carry, *x) -> (*carry, *y)`.
      num_consts: Number of inputs that are the same in every step.
      num_carry: Number of inputs (and first outputs) handed from step to step.
      length: Number of steps.
      reverse: Whether the steps run from the last to the first.
      unroll: How many steps XLA sees as straight-line code.
    """

    body: Any
    num_consts: int
    num_carry: int
    length: int
    reverse: bool
    unroll: int

    def split_inputs(self, values: Sequence) -> tuple[Sequence, Sequence, Sequence]:
        """Cut a sequence aligned with the equation's inputs into consts, carry and xs."""
        middle = self.num_consts + self.num_carry
        return values[: self.num_consts], values[self.num_consts : middle], values[middle:]

    def split_outputs(self, values: Sequence) -> tuple[Sequence, Sequence]:
        """Cut a sequence aligned with the equation's outputs into carry and ys."""
        return values[: self.num_carry], values[self.num_carry :]


def scan_parts(eqn: core.JaxprEqn) -> ScanParts:
    """Take a `scan` equation apart, the same way on every version of JAX.

    A carry has as many axes outside the body as inside; an `x` and a `y` have one more outside.
    That tells them apart without the counts, which jax 0.12 no longer writes down.

    Example:
      >>> import jax
      >>> def weighted_sum(w, xs):
      ...     return jax.lax.scan(lambda total, x: (total + w * x, total), 0.0, xs)
      >>> eqn = jax.make_jaxpr(weighted_sum)(2.0, jax.numpy.arange(3.0)).eqns[-1]
      >>> parts = scan_parts(eqn)
      >>> parts.num_consts, parts.num_carry, parts.length
      (1, 1, 3)
    """
    params = eqn.params
    body = open_jaxpr(params["jaxpr"])
    num_carry = _num_same_rank(body.outvars, eqn.outvars)
    num_consts = _num_same_rank(body.invars, eqn.invars) - num_carry
    return ScanParts(
        params["jaxpr"],
        num_consts,
        num_carry,
        params["length"],
        params["reverse"],
        params["unroll"],
    )


def _num_same_rank(inside: Sequence, outside: Sequence) -> int:
    pairs = zip(inside, outside, strict=True)
    return sum(len(a.aval.shape) == len(b.aval.shape) for a, b in pairs)


def cond_branches(eqn: core.JaxprEqn) -> tuple[Any, ...]:
    """Return the branches of a `cond` equation; input 0 of the equation picks one of them."""
    return tuple(eqn.params["branches"])


@shown
class WhileParts(NamedTuple):
    """A `while` equation, taken apart.

    Attributes:
      condition: The jaxpr `(*condition_consts, *carry) -> bool`.
      body: The jaxpr `(*body_consts, *carry) -> carry`.
      num_condition_consts: Number of inputs that only the condition reads.
      num_body_consts: Number of inputs that only the body reads.
    """

    condition: Any
    body: Any
    num_condition_consts: int
    num_body_consts: int

    def split(self, values: Sequence) -> tuple[Sequence, Sequence, Sequence]:
        """Cut a sequence aligned with the inputs into condition consts, body consts, carry."""
        first, second = self.num_condition_consts, self.num_body_consts
        return values[:first], values[first : first + second], values[first + second :]


def while_parts(eqn: core.JaxprEqn) -> WhileParts:
    """Take a `while` equation apart.

    Example:
      >>> import jax
      >>> def doubled(x, limit):
      ...     return jax.lax.while_loop(lambda v: v < limit, lambda v: 2 * v, x)
      >>> parts = while_parts(jax.make_jaxpr(doubled)(1.0, 9.0).eqns[-1])
      >>> parts.num_condition_consts, parts.num_body_consts
      (1, 0)
    """
    params = eqn.params
    return WhileParts(
        params["cond_jaxpr"], params["body_jaxpr"], params["cond_nconsts"], params["body_nconsts"]
    )


def remat_options(eqn: core.JaxprEqn) -> dict[str, Any]:
    """Return the options of `jax.checkpoint` that a `remat` equation was made with."""
    return {name: eqn.params[name] for name in ("prevent_cse", "policy")}
