"""All modes on one problem, side by side."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_tut.bilevel.batches import Batches
from jaxopt_tut.bilevel.hypergrad import differentiate
from jaxopt_tut.bilevel.modes import DiffMode, Unroll
from jaxopt_tut.bilevel.modes.mode import Grads, Names, OuterFn
from jaxopt_tut.bilevel.pose import Pose
from jaxopt_tut.bilevel.problem import InnerFn, Inputs
from jaxopt_tut.bilevel.result import Info
from jaxopt_tut.bilevel.solvers import SolverLike
from jaxopt_tut.blocks import shown
from jaxopt_tut.trees import require_same_structure
from jaxopt_tut.types import Params, PyTree
from jaxopt_tut.vectors import dot, ravel

_ROUNDS = 3


@shown
class AuditRow(NamedTuple):
    """One mode's hypergradient, and what it took.

    Attributes:
      name: The mode's name in the audit.
      grads: Its hypergradient, by name of what was differentiated.
      bias: Norm of its difference from the truth, over the norm of the truth.
      cosine: Of the angle between the two.
      bytes: Temporary memory of the compiled program.
      seconds: Least of three timed calls, without compilation.
      info: What the mode says about itself.
    """

    name: str
    grads: Grads
    bias: float
    cosine: float
    bytes: int
    seconds: float
    info: Info


def audit(
    outer: OuterFn,
    f: InnerFn,
    y0: Params,
    z: PyTree,
    *,
    solver: SolverLike,
    steps: int,
    modes: Mapping[str, DiffMode],
    truth: PyTree = None,
    hp: PyTree = None,
    wrt: Names = ("z",),
    batches: Batches = None,
) -> list[AuditRow]:
    r"""Compare modes of differentiation on one problem.

    $$\text{bias} = \frac{\lVert g - g^* \rVert}{\lVert g^* \rVert}, \qquad
    \text{cosine} = \frac{g^T g^*}{\lVert g \rVert \lVert g^* \rVert}$$

    Compiles and runs one program a mode, so it is itself not to be compiled.

    Args:
      outer: `outer(y, z)`: a real scalar, or a pair of one and what is dropped.
      f: `f(y, z)` or, with `batches`, `f(y, z, batch)`, likewise.
      y0: Where the inner steps start.
      z: What both depend on.
      solver: An optax transformation, a function of `hp` that returns one, or a `Solver`.
      steps: Inner steps at most.
      modes: Modes by name; the rows come in this order.
      truth: The true hypergradient $g^*$: a tree like `z`, or a dictionary by `wrt`. `None` takes
        the exact derivative of these very steps, by `Unroll("sqrt")`.
      hp: What the function `solver` takes.
      wrt: Which of `"z"`, `"hp"`, `"y0"` to differentiate.
      batches: A tree of arrays with a leading axis of `steps`, or a `Stream`.

    Returns:
      A row a mode; `audit_table` prints them.

    Raises:
      ValueError: If `truth` is no tree like the hypergradient.

    Example:
      Truncation to one of many steps of rate 0.25 keeps a quarter of the derivative.

      >>> from jaxopt_tut.bilevel import Truncate, Unroll
      >>> from jaxopt_tut.optimizers import sgd
      >>> rows = audit(lambda y, z: y, lambda y, z: 0.5 * (y - z) ** 2, 0.0, 1.0,
      ...              solver=sgd(0.25), steps=60,
      ...              modes={"exact": Unroll(), "last": Truncate(1)}, truth=1.0)
      >>> [(row.name, round(row.bias, 3), round(row.cosine, 3)) for row in rows]
      [('exact', 0.0, 1.0), ('last', 0.75, 1.0)]
    """
    inputs = Inputs(y0, z, hp, batches)
    pose = Pose(caller="hypergrad", f=f, solver=solver, steps=steps, diff=None)
    wrt = tuple(wrt)

    def gradient(mode: DiffMode) -> Callable[[Inputs], tuple[Grads, Info]]:
        def run(inputs: Inputs) -> tuple[Grads, Info]:
            posed = replace(pose, diff=mode, **inputs._asdict())
            found, info = differentiate(outer, posed, wrt)
            return found.grads, info

        return jax.jit(run).lower(inputs).compile()

    if truth is None:
        truth, _ = gradient(Unroll("sqrt"))(inputs)
    elif not (isinstance(truth, dict) and set(truth) == set(wrt)):
        truth = {wrt[0]: truth}
    require_same_structure({name: getattr(inputs, name) for name in wrt}, truth, "audit")
    goal = ravel(truth)[0]
    rows = []
    for name, mode in modes.items():
        program = gradient(mode)
        memory = program.memory_analysis().temp_size_in_bytes
        seconds = []
        for _ in range(_ROUNDS):
            start = time.perf_counter()
            grads, info = jax.block_until_ready(program(inputs))
            seconds.append(time.perf_counter() - start)
        found = ravel(grads)[0].astype(goal.dtype)
        norm = jnp.sqrt(dot(goal, goal))
        bias = jnp.sqrt(jnp.sum((found - goal) ** 2)) / norm
        cosine = dot(found, goal) / (jnp.sqrt(dot(found, found)) * norm)
        rows.append(AuditRow(name, grads, float(bias), float(cosine), memory, min(seconds), info))
    return rows


def audit_table(rows: Sequence[AuditRow]) -> str:
    """Write an audit as aligned text.

    Args:
      rows: What `audit` returned.

    Returns:
      A line a mode under a line of headings.

    Example:
      >>> print(audit_table([AuditRow("exact", {}, 0.0, 1.0, 2048, 0.0015, None)]))
      mode   bias     cosine    bytes  ms
      exact  0.0e+00  1.000000  2048   1.500
    """
    lines = [("mode", "bias", "cosine", "bytes", "ms")]
    for row in rows:
        numbers = f"{row.bias:.1e}", f"{row.cosine:.6f}", str(row.bytes), f"{row.seconds * 1e3:.3f}"
        lines.append((row.name, *numbers))
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    pad = lambda line: "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True))
    return "\n".join(pad(line).rstrip() for line in lines)
