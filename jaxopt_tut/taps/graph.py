"""The flat graph of a program: every value it computes, also those inside its calls and loops."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jax.extend import core

from jaxopt_tut import jaxprs

Path = tuple[int, ...]
"""Equation indices and sub-jaxpr numbers in turn."""

Place = tuple[Path, int]
"""Where a value is made: equation indices and sub-jaxpr numbers in turn, then the output.

The same inner jaxpr may serve two calls, so an equation object alone does not name a place.
"""

AnyJaxpr = core.ClosedJaxpr | core.Jaxpr
"""From JAX 0.12 on they are one class."""

Operands = Sequence[int | None]
"""For each operand the number of its node, None for a literal."""


class Frame(NamedTuple):
    """What encloses a value.

    Attributes:
      lengths: Numbers of steps of the enclosing scans, outermost first.
      blocked_by: The call inside which JAX defines no cotangent, if there is one.
      apart: Whether the value lies inside a call whose outputs stand for it.
      loop: The path of the innermost scan, empty without one.
    """

    lengths: tuple[int, ...] = ()
    blocked_by: str | None = None
    apart: bool = False
    loop: tuple[int, ...] = ()


@dataclass
class Node:
    """One value of the program.

    Attributes:
      index: Its number, in topological order.
      op: The primitive that makes it; `"input"`, `"constant"`, `"step"` (what a scan hands to
        its body) or `"carry"` for those that no equation makes.
      inputs: For each operand the number of its node, None for a literal.
      shape: Inside the innermost scan, so without the axis of steps.
      dtype: Its dtype.
      frame: What encloses it.
      scope: The `named_scope` it was made in.
      marks: What transformations have left in its name stack, such as `"jvp()"`.
      eqn: The equation that makes it.
      place: Where to tap it; None where there is no equation.
      value: The array of a constant.
      loop_end: For a carry, the node it becomes after a step.
      users: Numbers of the nodes that read it.
    """

    index: int
    op: str
    inputs: tuple[int | None, ...]
    shape: tuple[int, ...]
    dtype: Any
    frame: Frame
    scope: str = ""
    marks: str = ""
    eqn: core.JaxprEqn | None = None
    place: Place | None = None
    value: Any = None
    loop_end: int | None = None
    users: list[int] = field(default_factory=list)


def read_graph(jaxpr: core.ClosedJaxpr) -> list[Node]:
    """List every value of a program in topological order, its calls and loops unfolded.

    `jit` and `remat` calls, scan bodies, the branches of a `cond` and the body of a `while` are
    entered; a custom derivative rule is one node, and its inside follows, marked `apart`. Other
    calls (`shard_map`, `custom_linear_solve`) are one node a result and stay closed.
    """
    reader = _Reader()
    program = jaxprs.open_jaxpr(jaxpr)
    inputs = [reader.add("input", (), var, Frame()) for var in program.invars]
    reader.walk(jaxpr, inputs, (), "", Frame())
    return reader.nodes


class _Reader:
    """Holds the nodes while the program is walked."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.marks = ""

    def add(
        self, op: str, inputs: Sequence[int | None], var: core.Var, frame: Frame, **fields: Any
    ) -> int:
        """Add the node of one variable; return its number."""
        aval: Any = var.aval  # an array's or a key's, with shape and dtype
        node = Node(
            len(self.nodes), op, tuple(inputs), tuple(aval.shape), aval.dtype, frame, **fields
        )
        node.marks = self.marks
        self.nodes.append(node)
        for source in {i for i in node.inputs if i is not None}:
            # What happens inside a call that stands for itself is no use of its operands.
            if self.nodes[source].frame.apart == frame.apart:
                self.nodes[source].users.append(node.index)
        return node.index

    def walk(
        self, jaxpr: AnyJaxpr, inputs: Sequence[int | None], path: Path, scope: str, frame: Frame
    ) -> list[int | None]:
        """Add the nodes of one jaxpr; return those of its outputs."""
        program = jaxprs.open_jaxpr(jaxpr)
        env: dict[Any, int | None] = dict(zip(program.invars, inputs, strict=True))
        for var, value in zip(program.constvars, jaxprs.constants(jaxpr), strict=True):
            env[var] = self.add("constant", (), var, frame, value=value)

        def read(atom: Any) -> int | None:
            return None if jaxprs.is_literal(atom) else env[atom]

        for i, eqn in enumerate(program.eqns):
            operands = [read(atom) for atom in eqn.invars]
            inner = jaxprs.scope(eqn, scope)
            outside, self.marks = self.marks, self.marks + str(eqn.source_info.name_stack)
            results = self.equation(eqn, operands, (*path, i), inner, frame)
            self.marks = outside
            env.update(zip(eqn.outvars, results, strict=True))
        return [read(atom) for atom in program.outvars]

    def equation(
        self, eqn: core.JaxprEqn, operands: Operands, path: Path, scope: str, frame: Frame
    ) -> Sequence[int | None]:
        """Add the nodes of one equation; return one an output."""
        kind = jaxprs.kind_of_call(eqn)
        if kind in ("jit", "remat"):
            return self.inlined(eqn, operands, path, scope, frame)
        if kind == "scan":
            ends = self.scan(eqn, operands, path, scope, frame)
        elif kind == "while":
            ends = self.while_loop(eqn, operands, path, scope, frame)
        elif kind == "cond":
            ends = self.cond(eqn, operands, path, scope, frame)
        else:
            ends = [operands] * len(eqn.outvars)
        outputs = [
            self.add(jaxprs.operation(eqn), end, var, frame, scope=scope, eqn=eqn, place=(path, k))
            for k, (end, var) in enumerate(zip(ends, eqn.outvars, strict=True))
        ]
        if kind in ("custom_jvp", "custom_vjp"):
            name = jaxprs.call_name(eqn)
            inside = frame._replace(blocked_by=frame.blocked_by or name, apart=True)
            self.walk(jaxprs.called_jaxpr(eqn), operands, (*path, 0), scope, inside)
        return outputs

    def inlined(
        self, eqn: core.JaxprEqn, operands: Operands, path: Path, scope: str, frame: Frame
    ) -> list[int | None]:
        """Enter a call; tap what it returns outside, so that it can stay in one piece."""
        start = len(self.nodes)
        outputs = self.walk(jaxprs.called_jaxpr(eqn), operands, (*path, 0), scope, frame)
        for k, index in enumerate(outputs):
            if index is None or index < start or outputs.count(index) > 1:
                continue
            node = self.nodes[index]
            # Readers inside would not hear of a bump that is given outside.
            if node.place is not None and not node.users:
                node.place = (path, k)
        return outputs

    def scan(
        self, eqn: core.JaxprEqn, operands: Operands, path: Path, scope: str, frame: Frame
    ) -> list[Operands]:
        """Add what the body sees of one step; return for each output what it is stacked of."""
        parts = jaxprs.scan_parts(eqn)
        body = jaxprs.open_jaxpr(parts.body)
        inside = frame._replace(lengths=(*frame.lengths, parts.length), loop=path)
        consts, carry, xs = parts.split_inputs(operands)
        _, carry_vars, x_vars = parts.split_inputs(body.invars)
        carry_nodes = [
            self.add("carry", (c,), v, inside) for c, v in zip(carry, carry_vars, strict=True)
        ]
        steps = [self.add("step", (x,), v, inside) for x, v in zip(xs, x_vars, strict=True)]
        ends = self.walk(parts.body, [*consts, *carry_nodes, *steps], (*path, 0), scope, inside)
        for node, end in zip(carry_nodes, ends, strict=False):
            self.nodes[node].loop_end = end
        return [(end,) for end in ends]

    def while_loop(
        self, eqn: core.JaxprEqn, operands: Operands, path: Path, scope: str, frame: Frame
    ) -> list[Operands]:
        """Add what the body sees of one step; return for each output what it ends as."""
        parts = jaxprs.while_parts(eqn)
        inside = frame._replace(blocked_by=frame.blocked_by or "while_loop")
        _, consts, carry = parts.split(operands)
        body = jaxprs.open_jaxpr(parts.body)
        carry_vars = body.invars[len(consts) :]
        nodes = [self.add("carry", (c,), v, inside) for c, v in zip(carry, carry_vars, strict=True)]
        ends = self.walk(parts.body, [*consts, *nodes], (*path, 1), scope, inside)
        for node, end in zip(nodes, ends, strict=True):
            self.nodes[node].loop_end = end
        return [(end,) for end in ends]

    def cond(
        self, eqn: core.JaxprEqn, operands: Operands, path: Path, scope: str, frame: Frame
    ) -> list[Operands]:
        """Add the nodes of all branches; return for each output what it is in each of them."""
        ends = [
            self.walk(branch, operands[1:], (*path, k), scope, frame)
            for k, branch in enumerate(jaxprs.cond_branches(eqn))
        ]
        return list(zip(*ends, strict=True))
