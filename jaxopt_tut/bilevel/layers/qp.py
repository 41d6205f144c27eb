"""Quadratic programs: solved by an interior point, differentiated by their KKT conditions."""

import dataclasses
import warnings
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Real
from typing_extensions import TypeAliasType

from jaxopt_tut.bilevel.layers.active_set import is_active, settle, solve_active
from jaxopt_tut.bilevel.layers.arguments import at_least_float32, promote
from jaxopt_tut.bilevel.layers.interior_point import follow_path
from jaxopt_tut.bilevel.layers.qp_program import (
    Point,
    Program,
    Residuals,
    equilibrate,
    is_convex,
    rescale,
    residuals_at,
)
from jaxopt_tut.bilevel.result import Counts, Flags, Scalars
from jaxopt_tut.blocks import shown
from jaxopt_tut.types import Count, DTypeLike, Flag

Matrix = TypeAliasType("Matrix", Real[Array | np.ndarray, "dim dim"])
"""A row and a column for each unknown."""

Vector = TypeAliasType("Vector", Real[Array | np.ndarray, "dim"])
"""An entry for each unknown."""

EqualityRows = TypeAliasType("EqualityRows", Real[Array | np.ndarray, "equalities dim"])
"""A row for each equality."""

EqualityBounds = TypeAliasType("EqualityBounds", Real[Array | np.ndarray, "equalities"])
"""An entry for each equality."""

InequalityRows = TypeAliasType("InequalityRows", Real[Array | np.ndarray, "inequalities dim"])
"""A row for each inequality."""

InequalityBounds = TypeAliasType("InequalityBounds", Real[Array | np.ndarray, "inequalities"])
"""An entry for each inequality."""


@shown
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class QPInfo:
    """How good the solution of a quadratic program is.

    Residuals are relative to the sizes of the terms that they are sums of, in units in which the
    program's numbers are near 1: the same whatever the units of the arguments.

    Attributes:
      converged: Whether the program is convex, its numbers are numbers, and the three residuals are
        within `eps**(2 / 3)`: 2e-5 in float32, 4e-11 in float64.
      primal_residual: Largest violation of a constraint; stays large where no point fulfils all.
      dual_residual: Largest component of the gradient of the Lagrangian; stays large where the
        objective has no lower bound.
      gap: Largest of the smaller ones of slack and multiplier.
      is_convex: Whether the objective curves upwards along the equalities, up to rounding; not if
        an argument has an entry that is no number.
      steps: Interior point steps taken.
    """

    converged: Flags
    primal_residual: Scalars
    dual_residual: Scalars
    gap: Scalars
    is_convex: Flags
    steps: Counts


@shown
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class QPSolution:
    """The solution of a quadratic program, differentiable but for its `info`.

    Attributes:
      x: The minimiser; like the multipliers not a number unless `info.converged`.
      equality_multipliers: The `nu` of the equalities.
      inequality_multipliers: The `mu` of the inequalities, at least 0.
      info: How good it is.
    """

    x: Float[Array, "*batch dim"]
    equality_multipliers: Float[Array, "*batch equalities"]
    inequality_multipliers: Float[Array, "*batch inequalities"]
    info: QPInfo


def qp(
    P: Matrix,
    q: Vector,
    A: EqualityRows | None = None,
    b: EqualityBounds | None = None,
    G: InequalityRows | None = None,
    h: InequalityBounds | None = None,
) -> Float[Array, "dim"]:
    r"""Solve a convex quadratic program.

    $$\arg\min_x \tfrac12 x^T P x + q^T x \quad \text{subject to} \quad A x = b,\; G x \le h$$

    in any units: the program is brought to a scale of 1, its active constraints are found by a
    primal-dual interior point, all dense, some ten to twenty factorizations of size `dim` plus
    equalities, and it is then solved with these as equations, a few factorizations with a row more
    for each inequality. Differentiable in all arguments, forwards, backwards and to any order, by
    the KKT conditions

    $$P x + q + A^T \nu + G^T \mu = 0, \quad A x = b, \quad \mu \odot (G x - h) = 0.$$

    Where a constraint holds with equality and multiplier 0 the solution has a kink; the derivative
    is that of one side. `qp_solution` returns multipliers and residuals too.

    Args:
      P: Positive semidefinite on the null space of $A$; only its symmetric part counts.
      q: The linear part.
      A: Equalities; or `None`. Rows may depend on each other.
      b: Their right-hand sides.
      G: Inequalities; or `None`.
      h: Their bounds; infinite ones are left out.

    Returns:
      $x$; with its derivatives not a number where the iteration has not converged, as in a problem
      without a feasible point or without a lower bound. Outside of transformations there is a
      warning then.

    Raises:
      TypeError: If an argument is complex.
      ValueError: If shapes don't fit, or one of a pair `A`, `b` or `G`, `h` is missing.

    Warns:
      RuntimeWarning: If it has not converged, and no argument is traced.

    Example:
      The point nearest to (2, 1) with coordinates at most 1 and a sum of 1.5.

      >>> import jax.numpy as jnp
      >>> point, ones = jnp.array([2.0, 1.0]), jnp.ones((1, 2))
      >>> x = qp(jnp.eye(2), -point, ones, jnp.array([1.5]), jnp.eye(2), jnp.ones(2))
      >>> print(x.round(3))
      [1.  0.5]

    References:
      Mehrotra (1992), section 2. https://doi.org/10.1137/0802028
      Amos and Kolter (2017), eq. (6). https://arxiv.org/abs/1703.00443
    """
    solution = _solve(_program("qp", P, q, A, b, G, h))
    try:
        has_converged = bool(solution.info.converged)
    except jax.errors.TracerBoolConversionError:
        return solution.x
    if not has_converged:
        warnings.warn(
            f"qp has not converged, and returns what is not a number: {_reason(solution.info)}.",
            RuntimeWarning,
            stacklevel=2,
        )
    return solution.x


def _reason(info: QPInfo) -> str:
    if not info.is_convex:
        return "P has a negative curvature, or an argument a number that is none"
    return (
        f"relative residuals are {info.primal_residual:.1e} of the constraints (which stays where "
        f"no point fulfils all), {info.dual_residual:.1e} of the gradient (where there is no lower "
        f"bound) and {info.gap:.1e} of complementarity after {info.steps} steps"
    )


def qp_solution(
    P: Matrix,
    q: Vector,
    A: EqualityRows | None = None,
    b: EqualityBounds | None = None,
    G: InequalityRows | None = None,
    h: InequalityBounds | None = None,
) -> QPSolution:
    """Solve a convex quadratic program, and say how well.

    Args:
      P: Positive semidefinite on the null space of $A$.
      q: The linear part.
      A: Equalities; or `None`.
      b: Their right-hand sides.
      G: Inequalities; or `None`.
      h: Their bounds.

    Returns:
      What `qp` returns, the multipliers, and residuals.

    Raises:
      TypeError: If an argument is complex.
      ValueError: If shapes don't fit, or one of a pair `A`, `b` or `G`, `h` is missing.

    Example:
      No point is below -1 and above 1.

      >>> import jax.numpy as jnp
      >>> G, h = jnp.array([[1.0], [-1.0]]), jnp.array([-1.0, -1.0])
      >>> info = qp_solution(jnp.eye(1), jnp.zeros(1), G=G, h=h).info
      >>> print(info.converged, info.primal_residual > 0.1)
      False True
    """
    return _solve(_program("qp_solution", P, q, A, b, G, h))


def _program(
    caller: str,
    P: Matrix,
    q: Vector,
    A: EqualityRows | None,
    b: EqualityBounds | None,
    G: InequalityRows | None,
    h: InequalityBounds | None,
) -> Program:
    """Refuse shapes that do not fit, and bring all to one dtype."""
    dim = jnp.shape(q)[0] if jnp.ndim(q) == 1 else -1
    if jnp.shape(P) != (dim, dim):
        raise ValueError(
            f"{caller} needs P (dim, dim) and q (dim,), "
            f"got shapes {jnp.shape(P)} and {jnp.shape(q)}."
        )
    rows = (*_rows(caller, "A", "b", A, b, q), *_rows(caller, "G", "h", G, h, q))
    return Program(*promote(caller, P, q, *rows))


def _rows(
    caller: str,
    left: str,
    right: str,
    matrix: ArrayLike | None,
    vector: ArrayLike | None,
    q: ArrayLike,
) -> tuple[ArrayLike, ArrayLike]:
    (dim,) = jnp.shape(q)
    if (matrix is None) != (vector is None):
        raise ValueError(f"{caller} needs both of {left} and {right} or neither, got one.")
    if matrix is None or vector is None:
        dtype = jnp.asarray(q).dtype
        return jnp.zeros((0, dim), dtype), jnp.zeros(0, dtype)
    if jnp.ndim(vector) != 1 or jnp.shape(matrix) != (*jnp.shape(vector), dim):
        raise ValueError(
            f"{caller} needs {left} (rows, {dim}) and {right} (rows,), "
            f"got shapes {jnp.shape(matrix)} and {jnp.shape(vector)}."
        )
    return matrix, vector


@jax.jit
def _solve(program: Program) -> QPSolution:
    given = program.q.dtype
    dtype = at_least_float32(given)
    P, q, A, b, G, h = (leaf.astype(dtype) for leaf in program)
    # what no point can violate: infinite bounds, and rows of zeros
    is_free = (h == jnp.inf) | (jnp.all(G == 0, axis=1) & (h >= 0))
    G, h = jnp.where(is_free[:, None], 0, G), jnp.where(is_free, 1, h)
    program = Program(P / 2 + P.T / 2, q, A, b, G, h)
    safe = jax.tree.map(lambda leaf: jnp.where(_all_finite(program), leaf, 0), program)
    units = equilibrate(safe)
    scaled = rescale(safe, units)
    finite = _all_finite(program) & _all_finite(scaled) & _all_finite(units)
    finite = finite & _all_finite([1 / unit for unit in units])
    point, residuals, steps = _optimum(scaled)
    tol = _tolerance(dtype)
    convex = is_convex(jax.lax.stop_gradient(scaled)) & finite
    within = (residuals.primal <= tol) & (residuals.dual <= tol) & (residuals.gap <= tol)
    info = QPInfo(
        converged=convex & within,
        primal_residual=residuals.primal,
        dual_residual=residuals.dual,
        gap=residuals.gap,
        is_convex=convex,
        steps=steps,
    )
    flag = jnp.where(info.converged, 1, jnp.nan).astype(dtype)
    back = lambda leaf, unit: (leaf * unit * flag).astype(given)
    return QPSolution(
        x=back(point.x, units.variables),
        equality_multipliers=back(point.nu, units.equalities),
        inequality_multipliers=back(point.mu, units.inequalities),
        info=info,
    )


def _all_finite(tree: Iterable[Array]) -> Flag:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in tree]))


def _tolerance(dtype: DTypeLike) -> float:
    return float(jnp.finfo(dtype).eps) ** (2 / 3)


def _optimum(program: Program) -> tuple[Point, Residuals, Count]:
    """Find the active set with constants, and solve with it for values and derivatives."""
    constant = jax.lax.stop_gradient(program)
    if not program.h.size:
        point = solve_active(program, jnp.zeros(0, bool))
        zero = jnp.zeros((), jnp.int32)
        return point, residuals_at(constant, jax.lax.stop_gradient(point)), zero
    central, steps = follow_path(constant, _tolerance(program.q.dtype))
    point = solve_active(program, settle(constant, is_active(constant, central)))
    # with constraints that depend on each other the path may end nearer than the equations
    ends, paths = (residuals_at(constant, p) for p in (jax.lax.stop_gradient(point), central))
    is_worse = ~(ends.largest() <= jnp.maximum(paths.largest(), _tolerance(program.q.dtype)))
    moved = jax.tree.map(
        lambda new, old: jnp.where(is_worse, new + jax.lax.stop_gradient(old - new), new),
        point,
        central,
    )
    residuals = optax.tree.where(is_worse, paths, ends)
    clipped = moved._replace(mu=jnp.where(moved.mu > 0, moved.mu, 0))
    return Point(*clipped), residuals, steps
