"""How to solve the linear system of an implicit derivative: each way a value."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from typing_extensions import TypeAliasType

from jaxopt_tut import control_flow, counts
from jaxopt_tut.bilevel.traceable import NumberLeaf, is_above, is_at_least, register
from jaxopt_tut.linalg import (
    cg,
    gmres,
    largest_eigenvalue,
    neumann,
    normal_cg,
    solve_square,
    solve_symmetric,
)
from jaxopt_tut.types import Count, Flag, Number
from jaxopt_tut.vectors import dot, matmul, norm

Vector = Float[Array, "dim"]
MatVec = Callable[[Vector], Vector]


class Solved(NamedTuple):
    """A solution, and what the solve can tell about itself."""

    x: Vector
    iterations: Int[Array, ""] | None = None
    is_definite: Bool[Array, ""] | None = None


@runtime_checkable
class LinearSolve(Protocol):
    """A way to solve `matvec(x) = b`; a plain function `(matvec, b) -> x` will do too."""

    def solve(self, matvec: MatVec, b: Vector, *, is_symmetric: bool, tol: Number | None) -> Solved:
        """Return the solution."""
        ...


@register(numbers=())
@dataclass(frozen=True)
class AutoSolve:
    """Choose: the cheapest way that will do, and a safer one where it does not.

    A symmetric system begins with conjugate gradients. Where they have not come to the tolerance in
    as many products as there are unknowns, or meet a curvature of none or less, up to `dense_size`
    unknowns are solved by Cholesky's factorization, with eigenvalues where the matrix is singular
    or not definite, up to rounding: the solution then is the shortest of least squares. More take
    the normal equations, in the same loop of five vectors.

    A system that is not symmetric (of an equation, of `Proximal`) begins with generalized minimal
    residuals, and takes Gauss's elimination where they do not arrive, with singular values where it
    must, or the normal equations above. Up to 32 unknowns either is dense at once.

    Conjugate gradients meet every direction that the right-hand side has a part in: their
    solution of a matrix that is not definite is that of one which is. `Dense()` looks at all
    directions.

    Attributes:
      dense_size: Unknowns up to which the matrix may be formed.
      max_steps: Products at most, in the iterative part.
    """

    dense_size: int = 512
    max_steps: int = 10_000

    def solve(self, matvec: MatVec, b: Vector, *, is_symmetric: bool, tol: Number | None) -> Solved:
        """Return the solution."""
        is_large = b.size > self.dense_size
        safe = NormalCG(self.max_steps) if is_large else Dense()
        options = {"is_symmetric": is_symmetric, "tol": tol}
        if b.size <= min(_SMALL, self.dense_size):
            return safe.solve(matvec, b, **options)
        limits = {"tol": _tolerance(tol, b), "max_steps": self.max_steps}
        if not is_large:
            limits["max_steps"] = b.size
        if is_symmetric and is_large:
            found = cg(matvec, b, **limits, turn=True)
            return Solved(found.x, found.num_products, found.is_definite)
        found = (cg if is_symmetric else gmres)(matvec, b, **limits)
        # a part of b along an eigenvector of no or negative curvature no step makes smaller, as
        # long as every curvature met is positive: whoever arrives has seen that there is none
        size = jnp.sqrt(dot(b, b)) if is_symmetric else norm(b)  # as either has computed it
        goal = jnp.asarray(limits["tol"], b.dtype) * size
        has_arrived = (found.residual_norm <= goal) & found.is_definite

        def safely(first: tuple[Vector, Count, Flag]) -> tuple[Vector, Count, Flag]:
            found = safe.solve(matvec, b, **options)
            is_definite = first[2] if found.is_definite is None else found.is_definite
            return found.x, first[1] + jnp.asarray(found.iterations), is_definite

        first = found.x, found.num_products, found.is_definite
        x, count, is_definite = control_flow.unless(has_arrived, first, safely)
        return Solved(x, count, is_definite if is_symmetric else None)


_SMALL = 32
"""Unknowns up to which factorizing costs no more than conjugate gradients."""


@register(numbers=())
@dataclass(frozen=True)
class CG:
    """Conjugate gradients: for strictly convex inner problems of any size.

    It ends where the inner function does not curve upwards; `Info.is_definite` says so.

    Attributes:
      max_steps: Products at most.
    """

    max_steps: int = 10_000

    def solve(self, matvec: MatVec, b: Vector, *, is_symmetric: bool, tol: Number | None) -> Solved:
        """Return the solution."""
        _require_symmetric(self, is_symmetric)
        found = cg(matvec, b, tol=_tolerance(tol, b), max_steps=self.max_steps)
        return Solved(found.x, found.num_products, found.is_definite)


@register(numbers=())
@dataclass(frozen=True)
class NormalCG:
    """Conjugate gradients on the normal equations: indefinite, singular or asymmetric systems.

    Attributes:
      max_steps: Products at most.
    """

    max_steps: int = 10_000

    def solve(self, matvec: MatVec, b: Vector, *, is_symmetric: bool, tol: Number | None) -> Solved:
        """Return the solution."""
        found = normal_cg(
            matvec,
            b,
            tol=_tolerance(tol, b),
            max_steps=self.max_steps,
            vecmat=matvec if is_symmetric else None,
        )
        return Solved(found.x, found.num_products)


@register(numbers=())
@dataclass(frozen=True)
class GMRES:
    """Restarted generalized minimal residuals: asymmetric systems of any size.

    Attributes:
      restart: Steps between restarts; twice as many vectors are kept.
      max_steps: Restarts at most.

    Raises:
      ValueError: If `restart` is no whole number of 1 or more.
    """

    restart: int = 20
    max_steps: int = 500

    def __post_init__(self) -> None:
        """Refuse rounds of no step."""
        if (size := counts.whole_number(self.restart)) is None or size < 1:
            raise ValueError(f"GMRES needs a whole number restart >= 1, got {self.restart!r}.")
        object.__setattr__(self, "restart", size)

    def solve(self, matvec: MatVec, b: Vector, *, is_symmetric: bool, tol: Number | None) -> Solved:
        """Return the solution."""
        del is_symmetric  # either will do
        # one product more a round, to look at the residual
        each = min(self.restart, b.size) + 1
        most = jnp.minimum(counts.as_limit(self.max_steps), counts.as_limit(2**40) // each) * each
        found = gmres(matvec, b, tol=_tolerance(tol, b), max_steps=most, restart=self.restart)
        return Solved(found.x, found.num_products)


@register(numbers=("step_size",))
@dataclass(frozen=True)
class Neumann:
    r"""The first $k$ terms of the Neumann series: cheap, biased, and by a known law.

    The error is $(I - \alpha K)^k$ times the solution: what the last $k$ steps of gradient descent
    from the solution would leave out.

    Attributes:
      k: Number of terms, 1 or more.
      step_size: $\alpha < 2 / \lambda_{\max}$; `None` takes a tenth less than the inverse of an
        estimate from ten power iterations.

    Raises:
      ValueError: If `k` is no whole number of 1 or more, or `step_size` is not positive.
    """

    k: int
    step_size: NumberLeaf = None

    def __post_init__(self) -> None:
        """Refuse an empty series, and one that does not start."""
        count = counts.whole_number(self.k)
        if count is None or count < 1:
            raise ValueError(f"Neumann needs k >= 1 terms, a whole number, got k={self.k!r}.")
        object.__setattr__(self, "k", count)
        if not is_above(self.step_size, 0):
            raise ValueError(f"Neumann needs step_size > 0, got step_size={self.step_size}.")

    def solve(self, matvec: MatVec, b: Vector, *, is_symmetric: bool, tol: Number | None) -> Solved:
        """Return the approximation."""
        del is_symmetric, tol  # the number of terms is all
        step_size, products = self.step_size, self.k - 1
        if step_size is None:
            step_size = 0.9 / largest_eigenvalue(matvec, b, num_steps=_POWER_STEPS)
            products += _POWER_STEPS
        x = neumann(matvec, b, num_terms=self.k, step_size=step_size)
        return Solved(x, jnp.asarray(products, jnp.int32))


_POWER_STEPS = 10


@register(numbers=())
@dataclass(frozen=True)
class Dense:
    """Form the matrix and factorize it: any system, of up to some thousands.

    Where the matrix is singular, up to rounding, the solution is the shortest of least squares.
    """

    def solve(self, matvec: MatVec, b: Vector, *, is_symmetric: bool, tol: Number | None) -> Solved:
        """Return the solution."""
        del tol
        count = jnp.asarray(b.size, jnp.int32)
        if not is_symmetric:
            return Solved(solve_square(_matrix(matvec, b), b).x, count)
        found = solve_symmetric(_matrix(matvec, b), b)
        return Solved(found.x, count, found.is_definite)


@register(numbers=("rcond",))
@dataclass(frozen=True)
class LeastSquares:
    r"""The shortest solution of least squares, dense, with a threshold of your own.

    Where the inner problem has a whole set of solutions, this is how the nearest of them moves;
    `Dense()` does the same where the matrix is singular up to rounding.

    Attributes:
      rcond: Singular values below `rcond` times the largest count as 0; `None` means
        $\epsilon\, \max(n, 8)$.

    Raises:
      ValueError: If `rcond` is negative.
    """

    rcond: NumberLeaf = None

    def __post_init__(self) -> None:
        """Refuse a threshold below 0."""
        if not is_at_least(self.rcond, 0):
            raise ValueError(f"LeastSquares needs rcond >= 0, got rcond={self.rcond}.")

    def solve(self, matvec: MatVec, b: Vector, *, is_symmetric: bool, tol: Number | None) -> Solved:
        """Return the solution."""
        del tol
        rtol = max(b.size, 8) * float(np.finfo(b.dtype).eps) if self.rcond is None else self.rcond
        inverse = jnp.linalg.pinv(_matrix(matvec, b), rtol=rtol, hermitian=is_symmetric)
        x = matmul(inverse, b)
        return Solved(x, jnp.asarray(b.size, jnp.int32))


@dataclass(frozen=True)
class Custom:
    """A function `(matvec, b) -> x`, or `-> (x, info)` as those of `jax.scipy.sparse.linalg`."""

    function: Callable[[MatVec, Vector], Any]

    def solve(self, matvec: MatVec, b: Vector, *, is_symmetric: bool, tol: Number | None) -> Solved:
        """Return what the function does."""
        del is_symmetric, tol
        x = self.function(matvec, b)
        return Solved(x[0] if isinstance(x, tuple) else x)


LinearSolveLike = TypeAliasType("LinearSolveLike", LinearSolve | Callable[[MatVec, Vector], Any])
"""A `LinearSolve`, or a function `(matvec, b) -> x`."""


def as_linear_solve(solve: Any) -> LinearSolve:
    """Return a `LinearSolve` for anything that `Implicit` takes as one."""
    if isinstance(solve, LinearSolve) and not isinstance(solve, type):
        return solve
    if not callable(solve) or isinstance(solve, type):
        raise TypeError(
            "Implicit needs a linear solve like AutoSolve(), CG() or a function (matvec, b) -> x, "
            f"got solve={solve!r}."
        )
    return Custom(solve)


def _require_symmetric(solve: LinearSolve, is_symmetric: bool) -> None:
    if not is_symmetric:
        raise ValueError(
            f"{type(solve).__name__} needs a symmetric system, got that of an equation or of a "
            "proximal step; AutoSolve(), NormalCG(), GMRES(), Dense() take it."
        )


def _tolerance(tol: Number | None, b: Vector) -> Number:
    """Return the relative residual at which to stop: a few roundings, unless told otherwise."""
    return 32 * float(np.finfo(b.dtype).eps) if tol is None else tol


def _matrix(matvec: MatVec, b: Vector) -> Float[Array, "dim dim"]:
    return jax.vmap(matvec, in_axes=1, out_axes=1)(jnp.eye(b.size, dtype=b.dtype))
