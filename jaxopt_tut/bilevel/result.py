"""What the room returns: the solution, and how good it and its derivative are."""

from dataclasses import dataclass, field, fields
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
from typing_extensions import TypeAliasType

from jaxopt_tut.bilevel.modes.mode import Hypergradient, LinearInfo, Mode
from jaxopt_tut.bilevel.problem import Inputs, Problem, Run
from jaxopt_tut.bilevel.solvers import size_of
from jaxopt_tut.bilevel.traceable import as_code
from jaxopt_tut.blocks import Block, brief, number, shown
from jaxopt_tut.types import Params, PyTree

Scalars = TypeAliasType("Scalars", Float[Array, "..."])
"""A real number, or one for each member of a batch."""

Flags = TypeAliasType("Flags", Bool[Array, "..."])
"""A truth value, likewise."""

Counts = TypeAliasType("Counts", Int[Array, "..."])
"""A whole number, likewise."""


@shown
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Info(Block):
    r"""How good a solution and its derivative are; read it, the next step does not need it.

    Attributes:
      inner_residual: Largest absolute component of the optimality condition at the solution: of
        the inner gradient, or of the solver's own fixed-point residual; with batches, of their
        mean.
      converged: Whether that is within `tol` (by default 1e-6 in float64, else 1e-4), and the
        linear system of an implicit hypergradient is solved: `linear_residual` within 0.005, in
        float64 6e-6, or within the mode's `tol`; not asked of `Neumann`, which errs by a law. An
        implicit derivative means nothing where it is not; an unrolled one is right all the same.
      steps: Inner steps taken.
      linear_residual: $\lVert b - K u \rVert / \lVert b \rVert$ of the implicit derivative's
        linear system; `None` where there is none.
      iterations: Products with $K$ in that solve.
      is_definite: False where the solve met a direction in which the inner function does not curve
        upwards, up to rounding: the point is no strict minimum; `None` where the solve cannot tell.
      error_estimate: Estimate of the Euclidean norm of the hypergradient's error: its change after
        one Newton step of the inner variables, and what rounding does to the linear system;
        infinite where the derivative is not determined. Only with `certify=True` and an implicit
        mode.
      mode: The mode that was used, as written in code; `Plan` names its choice.
      is_finite: Whether the hypergradient is finite; `None` where there is none.
      bytes: Estimate of what is kept from the inner steps for the derivative, from shapes alone.
    """

    inner_residual: Scalars
    converged: Flags
    steps: Counts
    linear_residual: Scalars | None = None
    iterations: Counts | None = None
    is_definite: Flags | None = None
    error_estimate: Scalars | None = None
    is_finite: Flags | None = None
    mode: str = field(default="", metadata={"static": True})
    bytes: int = field(default=0, metadata={"static": True})

    def _block(self) -> tuple[str, list[tuple[str, str]]]:
        """Return all that there is."""
        known = [(one.name, getattr(self, one.name)) for one in fields(self)]
        shown = lambda value: value if isinstance(value, str) else number(value)
        return "Info", [(name, shown(value)) for name, value in known if value is not None]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Result(Block):
    """An inner solution.

    Attributes:
      y: The solution, differentiable as the mode says.
      opt_state: The solver's last state. `Unroll`, `Forward` and `Truncate` differentiate it too;
        under `Implicit` and `OneStep` its derivative is not defined, and is not a number.
      info: How good it is.
    """

    y: Params
    opt_state: Any
    info: Info

    def _block(self) -> tuple[str, list[tuple[str, str]]]:
        """Return the solution, and how good it is; the state is for the next run."""
        rows = self.info._block()[1] if isinstance(self.info, Info) else []
        return "Result", [("y", brief(self.y)), *rows]


def describe(
    mode: Mode,
    problem: Problem,
    inputs: Inputs,
    run: Run,
    found: Hypergradient | None = None,
) -> Info:
    """Return how good a run is; none of it carries a derivative."""
    run, inputs, found = jax.lax.stop_gradient((run, inputs, found))
    linear = LinearInfo() if found is None else found.linear
    size = size_of(problem.residual(run.y, inputs))
    converged = problem.is_small(size)
    return Info(
        inner_residual=size,
        converged=converged if linear.is_solved is None else converged & linear.is_solved,
        steps=run.steps,
        linear_residual=linear.residual,
        iterations=linear.iterations,
        is_definite=linear.is_definite,
        error_estimate=None if found is None else found.error_estimate,
        is_finite=None if found is None else _all_finite((found.value, found.grads)),
        mode=as_code(mode),
        bytes=mode.num_bytes(problem, inputs),
    )


def _all_finite(tree: PyTree) -> Flags:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))
