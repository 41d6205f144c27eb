"""An inner problem as posed: what `argmin`, `hypergrad`, `audit` and `bilevel_step` are handed."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_tut import control_flow, counts
from jaxopt_tut.bilevel.batches import Stream, require_batches
from jaxopt_tut.bilevel.equations.equation import EquationSolver
from jaxopt_tut.bilevel.modes import MODES, Mode, Plan
from jaxopt_tut.bilevel.modes.refusal import names_of, require_declared
from jaxopt_tut.bilevel.problem import Inputs, Problem
from jaxopt_tut.bilevel.solvers import Descent, as_solver, with_residuals
from jaxopt_tut.losses import WithoutAux, is_real_scalar, value_part
from jaxopt_tut.optimizers.inner import RobustSquares
from jaxopt_tut.trees import named_leaves, require_inexact, require_same_structure, strong
from jaxopt_tut.types import Params, PyTree


@dataclass(frozen=True, kw_only=True)
class Pose:
    """The arguments that the public functions share, not yet looked at.

    Attributes:
      caller: The public function, for messages.
      f, y0, z, solver, steps, diff, hp, batches, tol, strict, residual_fn: Those of `argmin`.
    """

    caller: str
    f: Callable[..., Any]
    solver: Any
    steps: Any
    diff: Any
    y0: Params = None
    z: PyTree = None
    hp: PyTree = None
    batches: PyTree | Stream = None
    tol: Any = None
    strict: bool = True
    residual_fn: Callable[..., Any] | None = None

    def split(self) -> tuple["Pose", Inputs]:
        """Tell what a program is made of, a stream's function among it, from its operands."""
        self.require_mode()  # what a program is made of may be a stand-in, which inherits nothing
        stream = self.batches if isinstance(self.batches, Stream) else None
        rows = self.batches if stream is None else None
        made_of = replace(self, y0=None, z=None, hp=None, batches=stream)
        return made_of, Inputs(self.y0, self.z, self.hp, rows)

    def joined(self, inputs: Inputs) -> "Pose":
        """Put operands in their places again."""
        y0, z, hp, rows = inputs
        return replace(
            self, y0=y0, z=z, hp=hp, batches=rows if self.batches is None else self.batches
        )

    def require_mode(self) -> None:
        """Refuse what is no mode, and a mode that does not say what it defines."""
        caller, diff = self.caller, self.diff
        # a class that inherits and declares nothing lacks names of the protocol
        is_mode = isinstance(diff, Mode) or Mode in type(diff).__mro__
        if isinstance(diff, type) and Mode in diff.__mro__:
            raise TypeError(
                f"{caller} needs a mode, got its class, diff={diff.__name__}: call it, "
                f"{names_of((diff,))}."
            )
        if not is_mode or isinstance(diff, type):
            raise TypeError(
                f"{caller} needs one of the modes {names_of((*MODES, Plan))}, got diff={diff!r}."
            )
        require_declared(diff, caller)

    def problem(self) -> tuple[Problem, Inputs]:
        """Check all that is posed; return the static part and the values."""
        problem, inputs = self._equation()
        if isinstance(problem.solver, EquationSolver):
            return _as_equation(problem, inputs), inputs
        return _as_minimum(problem, inputs), inputs

    def _equation(self) -> tuple[Problem, Inputs]:
        """Do so for any `f` whose solution is where the solver's residual is zero."""
        caller, diff = self.caller, self.diff
        self.require_mode()
        if (num_steps := counts.whole_number(self.steps)) is None or num_steps < 0:
            raise ValueError(f"{caller} needs a whole number steps >= 0, got steps={self.steps!r}.")
        require_inexact(self.y0, caller)
        require_batches(self.batches, num_steps, caller)
        solver = as_solver(self.solver, self.hp, caller).bounded(num_steps, self.tol)
        residual_fn = self.residual_fn
        if (
            residual_fn is None
            and isinstance(self.f, RobustSquares)
            and getattr(solver, "residual_fn", 0) is None
        ):
            residual_fn = self.f.residuals
        solver = with_residuals(solver, residual_fn, caller)
        if isinstance(solver, Descent):
            solver = replace(solver, zero_safe=getattr(diff, "zero_safe", False))
        has_batches = self.batches is not None
        problem = Problem(self.f, solver, num_steps, self.tol, has_batches, self.strict, caller)
        inputs = Inputs(strong(self.y0), self.z, self.hp, self.batches)
        first = lambda y: problem.objective_at(inputs, 0)(y)
        return problem, inputs._replace(y0=control_flow.spread(inputs.y0, first))


def _as_minimum(problem: Problem, inputs: Inputs) -> Problem:
    """Refuse an `f` that cannot be minimised, and drop what it returns beside its value."""
    evaluate = lambda inputs: problem.objective_at(inputs, 0)(inputs.y0)
    output = jax.eval_shape(evaluate, inputs)
    value = value_part(output)
    if not is_real_scalar(value):
        raise ValueError(f"{problem.caller} needs f to return a real scalar, got {value}.")
    return problem if value is output else replace(problem, f=WithoutAux(problem.f))


def _as_equation(problem: Problem, inputs: Inputs) -> Problem:
    """Refuse an `f` with more or fewer equations than unknowns."""
    evaluate = lambda inputs: problem.objective_at(inputs, 0)(inputs.y0)
    output = jax.eval_shape(evaluate, inputs)
    require_same_structure(inputs.y0, output, problem.caller)
    for (name, one), y in zip(named_leaves(output), jax.tree.leaves(inputs.y0), strict=True):
        is_complex, may_be = jnp.iscomplexobj(one), jnp.iscomplexobj(y)
        if not jnp.issubdtype(one.dtype, jnp.inexact) or (is_complex and not may_be):
            kind = "floating or complex" if may_be else "real floating"
            raise TypeError(
                f"{problem.caller} needs an equation of {kind} values, got {one.dtype} at {name!r}."
            )
    return problem
