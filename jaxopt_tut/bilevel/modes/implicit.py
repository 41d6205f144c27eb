"""Around the optimization: the derivative of its optimality condition."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax

from jaxopt_tut import control_flow, jaxprs
from jaxopt_tut.bilevel.linear_solves import (
    AutoSolve,
    LinearSolveLike,
    MatVec,
    Neumann,
    Solved,
    Vector,
    as_linear_solve,
)
from jaxopt_tut.bilevel.modes.certificate import Adjoint, error_estimate, is_solved
from jaxopt_tut.bilevel.modes.mode import Hypergradient, LinearInfo, Mode, OuterFn, value_of
from jaxopt_tut.bilevel.modes.refusal import refuse_tangents
from jaxopt_tut.bilevel.modes.tangents import (
    instantiate,
    is_zero,
    undefined_tangents,
    zero_tangents,
)
from jaxopt_tut.bilevel.problem import Inputs, Problem, Run
from jaxopt_tut.bilevel.traceable import NumberLeaf, is_at_least, register
from jaxopt_tut.trees import split_arrays
from jaxopt_tut.types import Params, PyTree
from jaxopt_tut.vectors import norm, ravel

_AUTO = AutoSolve()


@register(numbers=("solve", "tol", "damping"))
@dataclass(frozen=True)
class Implicit(Mode):
    r"""Differentiate the condition that the solution fulfils, not the way to it.

    $$r(y^*, z) = 0 \;\Rightarrow\; \frac{dy^*}{dz} = -K^{-1} R, \qquad
    K = \partial_y r + \delta I, \quad R = \partial_z r, \quad r = \nabla_y f$$

    Whatever solver, however many steps: no step is kept, and the cost is that of one linear solve.
    Forwards, backwards, batched and of any order from one rule. With respect to `z` (and
    `batches`): a solution does not depend on learning rates or on the start. It means something
    only where the run has converged; `Info.inner_residual` says how nearly, and `hypergrad` with
    `certify=True` what that does to the gradient.

    Where $K$ is singular, the solutions form a set (more parameters than data, no penalty), and
    the condition says how that set moves across itself, not how a solution moves along it:
    $-K^+ R$ then stands for $-K^{-1} R$, the shortest motion. It is the derivative for every outer
    function that is constant along the set, and for the limit of gradient descent from $y_0$, and
    of any method whose steps stay in $y_0 + \mathrm{range}\, K$, as long as the set moves parallel
    to itself. Else the derivative depends on the start and on the way, and only `Unroll` and
    `Forward` know it. `hypergrad` does not guess: where $\partial_y E$ has a part in the null
    space it says so by `Info.linear_residual`, by `Info.converged=False` and by an infinite
    `Info.error_estimate`.

    Attributes:
      solve: `AutoSolve()`, `CG()`, `NormalCG()`, `GMRES()`, `Neumann(k)`, `Dense()`,
        `LeastSquares()`, or a function `(matvec, b) -> x`; vectors are flat.
      tol: Relative residual of the linear solve at which to stop; `None` means some roundings. It
        may be traced.
      damping: $\delta \ge 0$, added to the matrix; it biases the derivative towards 0. It may be
        traced.

    Raises:
      TypeError: If `solve` is no linear solve.
      ValueError: If `damping` or `tol` is negative.

    Example:
      For $f = \tfrac14 y^4 - z y$ the solution is $z^{1/3}$, its derivative $z^{-2/3}/3$.

      >>> import jax
      >>> from jaxopt_tut.bilevel import argmin
      >>> from jaxopt_tut.optimizers import sgd
      >>> f = lambda y, z: y**4 / 4 - z * y
      >>> solve = lambda z: argmin(f, 1.0, z, solver=sgd(0.1), steps=99, diff=Implicit()).y
      >>> print(f"{jax.grad(solve)(8.0):.4f} {jax.jacfwd(jax.grad(solve))(8.0):.4f}")
      0.0833 -0.0069

    References:
      Krantz and Parks (2013), The implicit function theorem, theorem 3.3.1.
      Blondel et al. (2022), eq. (2). https://arxiv.org/abs/2105.15183
    """

    solve: LinearSolveLike = _AUTO
    tol: NumberLeaf = None
    damping: NumberLeaf = 0.0
    derivatives: ClassVar[frozenset[str]] = frozenset({"jvp", "vjp", "second"})
    wrt: ClassVar[frozenset[str]] = frozenset({"z"})
    is_exact: ClassVar[bool] = False
    needs_optimum: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Refuse what is no solve."""
        as_linear_solve(self.solve)
        if not (is_at_least(self.damping, 0) and is_at_least(self.tol, 0)):
            raise ValueError(
                "Implicit needs damping >= 0 and tol >= 0, "
                f"got damping={self.damping}, tol={self.tol}."
            )

    def run(self, problem: Problem, inputs: Inputs) -> Run:
        """Solve; the derivative is a rule of its own."""
        # what `f` and `solver` close over becomes an operand, so that none is lost in silence
        solve, closed_solve = jaxprs.closure_convert(problem.run_to_best, inputs)
        residual, closed_residual = jaxprs.closure_convert(problem.residual, inputs.y0, inputs)
        # and so do the numbers of the mode: the rule may be asked when their trace has ended
        numbers, mode_of = split_arrays(self, lambda leaf: isinstance(leaf, jax.Array))

        @jax.custom_jvp
        def solution(inputs: Inputs, closed: tuple, numbers: list) -> Run:
            del numbers  # the derivative alone depends on them
            return solve(inputs, *closed[0])

        def rule(primals, tangents):
            inputs, closed, numbers = primals
            d_inputs, d_closed, _ = tangents
            refuse_tangents(problem, self, d_inputs, d_closed)
            run = solution(inputs, closed, numbers)
            moving = lambda y, moved: residual(y, moved, *closed[1])
            d_y = mode_of(numbers)._tangent(problem, moving, run.y, inputs, d_inputs)
            d_rest = undefined_tangents(run, (d_inputs.z, d_inputs.batches))
            return run, d_rest._replace(y=d_y)

        solution.defjvp(rule, symbolic_zeros=True)
        return solution(inputs, (closed_solve, closed_residual), numbers)

    def hypergrad(
        self,
        outer: OuterFn,
        problem: Problem,
        inputs: Inputs,
        wrt: Sequence[str],
        certify: bool,
    ) -> Hypergradient:
        """Solve for the adjoint in the open, so that its residual can be told."""
        del wrt  # z alone is defined
        run = self.run(problem, inputs)
        found, solved = self._adjoint(outer, problem, inputs, run.y)
        estimate = None
        if certify:
            # the mode's own choices are what is to be judged
            exact = Implicit(self.solve if isinstance(self.solve, AutoSolve) else _AUTO)
            estimate = error_estimate(exact, outer, problem, inputs, run.y, found.grads)
        return Hypergradient(
            found.value, {"z": found.grads}, run, self._judged(found, solved), estimate
        )

    def _tangent(
        self,
        problem: Problem,
        residual: Callable[[Params, Inputs], PyTree],
        y: Params,
        inputs: Inputs,
        d_inputs: Inputs,
    ) -> Params:
        felt = d_inputs._replace(y0=None, hp=None)
        if all(map(is_zero, jax.tree.leaves(felt))):
            return zero_tangents(y)
        # K dy = -R dz
        flat, unravel = ravel(y)
        z_and_batches = lambda z, batches: ravel(
            residual(y, inputs._replace(z=z, batches=batches))
        )[0]
        operands = inputs.z, inputs.batches
        tangents = instantiate(operands, (d_inputs.z, d_inputs.batches))
        _, right = jax.jvp(z_and_batches, operands, tangents)
        matvec = self._matvec(lambda v: ravel(residual(unravel(v), inputs))[0], flat)
        return unravel(-self._solved(problem, matvec, right).x)

    def adjoint_at(self, outer: OuterFn, problem: Problem, inputs: Inputs, y: Params) -> Adjoint:
        """Solve for the adjoint at a point."""
        return self._adjoint(outer, problem, inputs, y)[0]

    def polished(self, problem: Problem, inputs: Inputs, y: Params) -> Params:
        """Take one Newton step of the optimality condition."""
        flat, unravel = ravel(y)
        residual = lambda v: ravel(problem.residual(unravel(v), inputs))[0]
        matvec = self._matvec(residual, flat)
        return unravel(flat - self._solved(problem, matvec, residual(flat)).x)

    def solution(self, problem: Problem, product: MatVec, right: Vector) -> Vector:
        """Solve one system."""
        return self._solved(problem, product, right).x

    def _adjoint(
        self, outer: OuterFn, problem: Problem, inputs: Inputs, y: Params
    ) -> tuple[Adjoint, Solved]:
        value, (y_bar, z_bar) = jax.value_and_grad(
            lambda y, z: value_of(outer, y, z), argnums=(0, 1)
        )(y, inputs.z)
        flat, unravel = ravel(y)
        residual = lambda v, z: ravel(problem.residual(unravel(v), inputs._replace(z=z)))[0]
        matvec = self._matvec(lambda v: residual(v, inputs.z), flat)
        right = ravel(optax.tree.conj(y_bar))[0]
        # K^T u = b, whose residual is asked for: so it is solved in the open, by no rule of `run`
        transposed = matvec
        if not problem.solver.is_symmetric:
            transpose = jax.linear_transpose(matvec, flat)
            transposed = lambda v: transpose(v)[0]
        solved = self._solved(problem, transposed, right)
        _, pull = jax.vjp(lambda z: residual(flat, z), inputs.z)
        pull_one = lambda v: pull(v)[0]
        grads = jax.tree.map(jnp.subtract, z_bar, pull_one(solved.x))
        return Adjoint(value, grads, solved.x, right, transposed, pull_one), solved

    def _judged(self, found: Adjoint, solved: Solved) -> LinearInfo:
        size = norm(found.right)
        left = norm(found.right - found.product(found.x))
        relative = left / jnp.where(size > 0, size, 1)
        small = is_solved(relative)
        if self.tol is not None:
            small |= relative <= jnp.asarray(self.tol, relative.dtype)
        asked = not isinstance(self.solve, Neumann)  # which errs by a known law
        return LinearInfo(relative, solved.iterations, solved.is_definite, small if asked else None)

    def _matvec(self, residual: MatVec, flat: Vector) -> MatVec:
        _, linear = jax.linearize(residual, flat)
        push = lambda v: linear(control_flow.like(v, flat))
        if isinstance(self.damping, int | float) and self.damping == 0:
            return push
        return lambda v: push(v) + jnp.asarray(self.damping, v.dtype) * v

    def _solved(self, problem: Problem, matvec: MatVec, b: Vector) -> Solved:
        """Solve so that the derivative is again a solve."""
        linear_solve = as_linear_solve(self.solve)
        is_symmetric = problem.solver.is_symmetric

        b = control_flow.spread(b, matvec)
        axes = control_flow.varying_axes(b)
        if control_flow.sums_over_devices(matvec, b):
            # the primitive would take the equal vectors of all devices for different ones
            return linear_solve.solve(matvec, b, is_symmetric=is_symmetric, tol=self.tol)

        def solve(matvec: MatVec, b: Vector) -> tuple[Vector, Solved]:
            found = linear_solve.solve(matvec, b, is_symmetric=is_symmetric, tol=self.tol)
            found = jax.tree.map(lambda leaf: control_flow.vary(leaf, axes), found)
            return found.x, found._replace(x=None)

        x, rest = jax.lax.custom_linear_solve(
            matvec, b, solve, transpose_solve=solve, symmetric=is_symmetric, has_aux=True
        )
        return rest._replace(x=x)
