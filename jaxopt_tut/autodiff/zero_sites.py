"""Where in a derivative a zero meets an infinity or a NaN."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_tut import jaxprs
from jaxopt_tut.autodiff import strict
from jaxopt_tut.autodiff.graph import Graph
from jaxopt_tut.autodiff.twins import is_twin
from jaxopt_tut.autodiff.zero_safe import zero_safe
from jaxopt_tut.blocks import shown
from jaxopt_tut.trees import split_arrays
from jaxopt_tut.types import PyTree, Shape


@shown
class ZeroSite(NamedTuple):
    """A product in a derivative in which a zero met a number that is not finite.

    Attributes:
      op: The operation whose derivative it is, `"sqrt"`.
      source: Where it is called, `"model.py:12 (loss)"`, as far as JAX knows.
      scope: The `named_scope` path; empty without one.
      shape: Shape of the product; that of one step within a loop.
      dtype: Its dtype.
      count: In how many components (of all steps of a loop together) it happened.
    """

    op: str
    source: str
    scope: str
    shape: Shape
    dtype: Any
    count: int


def zero_products(fun: Callable) -> Callable[..., list[ZeroSite]]:
    r"""Return a function that lists where `zero_safe` acts in a gradient.

    $$\{\, (u, v) : \bar v = 0 \text{ and } \partial v / \partial u \text{ is not finite, or the
      other way round} \,\}$$

    These are the places where JAX's gradient turns into NaN; a guard in the function (a `where`
    before the operation as well as behind it) makes the list empty. The backward pass of
    `zero_safe(fun)` is run operation by operation, loops step by step: a tool to look with, slow
    in long loops. The cotangents of all results are ones.

    Args:
      fun: A function of pytrees of arrays.

    Returns:
      A function of the same arguments that returns the sites in the order of the backward pass,
      without repetition.

    Raises:
      TypeError: If `fun` cannot be called.

    Example:
      >>> import jax.numpy as jnp
      >>> def norm(x):
      ...     return jnp.sqrt(jnp.sum(jnp.square(x)))
      >>> [(site.op, site.shape, site.count) for site in zero_products(norm)(jnp.zeros(3))]
      [('square', (3,), 3)]
      >>> zero_products(norm)(jnp.ones(3))
      []
    """
    safe = zero_safe(fun)

    @functools.wraps(fun)
    def listed(*args: PyTree, **kwargs: PyTree) -> list[ZeroSite]:
        inexact, with_inexact = split_arrays((args, kwargs), _is_inexact)

        def backward(moving: list[Any]) -> Any:
            def of(moving: list[Any]) -> Any:
                args, kwargs = with_inexact(moving)
                return [x for x in jax.tree.leaves(safe(*args, **kwargs)) if _is_inexact(x)]

            values, pull = jax.vjp(of, moving)
            return pull([jnp.ones_like(value) for value in values])

        moving = [jnp.asarray(leaf) for leaf in inexact]
        meetings: dict[int, ZeroSite] = {}
        _run(jax.make_jaxpr(backward)(moving), moving, meetings)
        return list(meetings.values())

    return listed


def acting_nodes(graph: Graph, values: Sequence[Any], adjoints: Sequence[Any]) -> set[int]:
    """List the nodes of a zero-safe graph at which a zero adjoint met a slope that is no number.

    A zero slope that met an adjoint that is no number counts, too.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxopt_tut.autodiff.graph import trace
      >>> graph = trace(zero_safe(lambda x: jnp.where(x > 0, jnp.sqrt(x), 0.0)))(0.0)
      >>> values = graph.evaluate(0.0)
      >>> found = acting_nodes(graph, values, graph.backpropagate(values, 1.0))
      >>> [graph.nodes[index].op for index in found]
      ['zero_safe_sqrt']
    """
    env = [*values, *graph.program.literals]
    found = set()
    for step in graph.program.steps:
        adjoint = adjoints[step.outputs[0]]
        if adjoint is None or not is_twin(step.primitive):
            continue
        operands = [env[i] for i in step.operands]
        meetings: dict[int, ZeroSite] = {}
        _run(jax.make_jaxpr(_pull(step.eqn))(adjoint, *operands), [adjoint, *operands], meetings)
        if meetings:
            found.add(step.outputs[0])
    return found


def _pull(eqn: Any) -> Callable:
    """Return the function that sends a cotangent back through an equation."""

    def pull(cotangent: Any, *operands: Any) -> Any:
        places = [k for k, operand in enumerate(operands) if _is_inexact(operand)]

        def along(*moving: Any) -> Any:
            full = list(operands)
            for k, value in zip(places, moving, strict=True):
                full[k] = value
            return jaxprs.bind(eqn, full)[0]

        return jax.vjp(along, *(operands[k] for k in places))[1](cotangent)

    return pull


def _is_inexact(leaf: Any) -> bool:
    return _is_number(leaf) and jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def _is_number(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | float | complex)


def _run(jaxpr: Any, values: Sequence[Any], meetings: dict[int, ZeroSite]) -> list[Any]:
    """Execute a jaxpr operation by operation, and note the zeros that meet other than numbers."""
    program = jaxprs.open_jaxpr(jaxpr)
    env = dict(zip(program.invars, values, strict=True))
    env |= zip(program.constvars, jaxprs.constants(jaxpr), strict=True)
    read = lambda atom: atom.val if jaxprs.is_literal(atom) else env[atom]
    for eqn in program.eqns:
        operands = [read(atom) for atom in eqn.invars]
        if eqn.primitive in (strict.zero_product_p, strict.zero_quotient_p):
            _note(eqn, operands, meetings)
        run = _LOOPS.get(jaxprs.kind_of_call(eqn)) if _has_products(eqn) else None
        outputs = jaxprs.bind(eqn, operands) if run is None else run(eqn, operands, meetings)
        env.update(zip(eqn.outvars, outputs, strict=True))
    return [read(atom) for atom in program.outvars]


def _note(eqn: Any, operands: Sequence[Any], meetings: dict[int, ZeroSite]) -> None:
    a, b = map(np.asarray, operands)
    a, b = (x if x.dtype.kind in "fc" else x.astype(np.float32) for x in (a, b))
    met = (a == 0) & ~np.isfinite(b)
    if eqn.primitive is strict.zero_product_p:
        met |= (b == 0) & ~np.isfinite(a)
    else:
        met |= (a == 0) & (b == 0)
    if met.any():
        known = meetings.get(id(eqn))
        aval = eqn.outvars[0].aval
        meetings[id(eqn)] = ZeroSite(
            eqn.params["op"],
            jaxprs.source_line(eqn),
            jaxprs.scope(eqn),
            aval.shape,
            aval.dtype,
            int(met.sum()) + (known.count if known else 0),
        )


def _has_products(eqn: Any) -> bool:
    return any(
        inner.primitive in (strict.zero_product_p, strict.zero_quotient_p) or _has_products(inner)
        for body in jaxprs.sub_jaxprs(eqn)
        for inner in jaxprs.open_jaxpr(body.jaxpr).eqns
    )


def _call(eqn: Any, operands: Sequence[Any], meetings: dict[int, ZeroSite]) -> list[Any]:
    return _run(jaxprs.called_jaxpr(eqn), operands, meetings)


def _cond(eqn: Any, operands: Sequence[Any], meetings: dict[int, ZeroSite]) -> list[Any]:
    branches = jaxprs.cond_branches(eqn)
    taken = min(max(int(operands[0]), 0), len(branches) - 1)
    return _run(branches[taken], operands[1:], meetings)


def _while(eqn: Any, operands: Sequence[Any], meetings: dict[int, ZeroSite]) -> list[Any]:
    parts = jaxprs.while_parts(eqn)
    for_condition, consts, carry = parts.split(operands)
    while bool(_run(parts.condition, [*for_condition, *carry], meetings)[0]):
        carry = _run(parts.body, [*consts, *carry], meetings)
    return list(carry)


def _scan(eqn: Any, operands: Sequence[Any], meetings: dict[int, ZeroSite]) -> list[Any]:
    parts = jaxprs.scan_parts(eqn)
    consts, carry, xs = parts.split_inputs(operands)
    steps = range(parts.length)
    found = []
    for k in reversed(steps) if parts.reverse else steps:
        outputs = _run(parts.body, [*consts, *carry, *(x[k] for x in xs)], meetings)
        carry, ys = parts.split_outputs(outputs)
        found.append(ys)
    columns = zip(*(found[::-1] if parts.reverse else found), strict=True)
    stacked = [jnp.stack(column) for column in columns] if found else []
    if not found:
        shapes = eqn.outvars[parts.num_carry :]
        stacked = [jnp.zeros(var.aval.shape, var.aval.dtype) for var in shapes]
    return [*carry, *stacked]


_LOOPS = {"jit": _call, "remat": _call, "cond": _cond, "while": _while, "scan": _scan}
