"""A quadratic program in units in which all its numbers are near 1, and how far a point is off."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxopt_tut import control_flow
from jaxopt_tut.vectors import matmul, safe_ratio

_NUM_ROUNDS = 12


class Program(NamedTuple):
    """Minimise `x'Px/2 + q'x` subject to `Ax = b` and `Gx <= h`."""

    P: Float[Array, "dim dim"]
    q: Float[Array, "dim"]
    A: Float[Array, "equalities dim"]
    b: Float[Array, "equalities"]
    G: Float[Array, "inequalities dim"]
    h: Float[Array, "inequalities"]


class Point(NamedTuple):
    """The unknowns of the conditions of Karush, Kuhn and Tucker."""

    x: Float[Array, "dim"]
    nu: Float[Array, "equalities"]
    mu: Float[Array, "inequalities"]


class Units(NamedTuple):
    """What a program's variables and rows were multiplied by; powers of two, which round nothing.

    With these, `x = variables * x'`, `nu = equalities * nu'` and `mu = inequalities * mu'`.
    """

    variables: Float[Array, "dim"]
    equalities: Float[Array, "equalities"]
    inequalities: Float[Array, "inequalities"]


class Residuals(NamedTuple):
    """How far a point is off, each number relative to the terms it is the sum of.

    Attributes:
      primal: Of the constraints.
      dual: Of the gradient of the Lagrangian.
      gap: Of complementarity: the smaller one of slack and multiplier.
    """

    primal: Float[Array, ""]
    dual: Float[Array, ""]
    gap: Float[Array, ""]

    def largest(self) -> Float[Array, ""]:
        """Return the largest of the three; not a number if one is not."""
        return jnp.maximum(jnp.maximum(self.primal, self.dual), self.gap)


def equilibrate(program: Program) -> Units:
    r"""Choose units in which curvatures and the largest entry of each row are near 1.

    $$x_j \to x_j / \sqrt{P_{jj}}$$

    where there is a curvature, and then Ruiz's iteration, which divides rows and columns of the
    matrix of the optimality conditions by the roots of their largest entries.
    """
    # Ruiz (2001), A scaling algorithm to equilibrate both rows and columns norms in matrices.
    # Stellato et al. (2020), algorithm 2. https://doi.org/10.1007/s12532-020-00179-2
    program = jax.lax.stop_gradient(program)
    largest = lambda matrix, axis: jnp.max(jnp.abs(matrix), axis=axis, initial=0.0)
    # roots of powers of two: what is divided by them rounds nothing
    factor = lambda size: _power(_or_one(size) ** -0.5)
    units = Units(*(jnp.ones_like(v) for v in (program.q, program.b, program.h)))
    curved = factor(jnp.abs(jnp.diag(program.P)))
    units = units._replace(variables=curved)
    rescaled = rescale(program, units)
    units = units._replace(
        equalities=_power(1 / _or_one(largest(rescaled.A, 1))),
        inequalities=_power(1 / _or_one(largest(rescaled.G, 1))),
    )

    def divide(units: Units, _) -> tuple[Units, None]:
        P, _, A, _, G, _ = rescale(program, units)
        columns = jnp.maximum(largest(P, 0), jnp.maximum(largest(A, 0), largest(G, 0)))
        return Units(
            units.variables * factor(columns),
            units.equalities * factor(largest(A, 1)),
            units.inequalities * factor(largest(G, 1)),
        ), None

    return control_flow.scan(divide, units, length=_NUM_ROUNDS)[0]


def _or_one(size: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.where(size > 0, size, 1)


def _power(size: Float[Array, "..."]) -> Float[Array, "..."]:
    """Round to a power of two."""
    return jnp.exp2(jnp.round(jnp.log2(size)))


def rescale(program: Program, units: Units) -> Program:
    """Express a program in other units."""
    P, q, A, b, G, h = program
    d, e, f = units
    return Program(d[:, None] * P * d, d * q, e[:, None] * A * d, e * b, f[:, None] * G * d, f * h)


class Sizes(NamedTuple):
    """The sums of the moduli of the terms of each condition at a point."""

    equalities: Float[Array, "equalities"]
    inequalities: Float[Array, "inequalities"]
    duals: Float[Array, "dim"]


def sizes_at(program: Program, point: Point) -> Sizes:
    """Measure what the conditions are sums of.

    A coordinate far smaller than the lengths of which the program speaks counts as the least of
    these times `eps**(1 / 3)`: where all terms of a row are rounding errors, as at the origin, they
    are not to be measured by themselves. (Not by other coordinates: one that runs away would hide
    that there is no feasible point.) Multipliers count up to `eps**(-1 / 4)` times the largest
    slope of the objective: those of constraints that almost depend on each other cancel, and
    anything is small beside them.
    """
    P, q, A, b, G, h = (jnp.abs(leaf) for leaf in program)
    x, nu, mu = (jnp.abs(leaf) for leaf in point)
    eps = jnp.finfo(x.dtype).eps
    x = jnp.maximum(x, eps ** (1 / 3) * _shortest(program))
    slope = matmul(P, x) + q
    pull = jnp.minimum(matmul(A.T, nu) + matmul(G.T, mu), eps**-0.25 * jnp.max(slope, initial=0.0))
    return Sizes(equalities=matmul(A, x) + b, inequalities=matmul(G, x) + h, duals=slope + pull)


def _shortest(program: Program) -> Float[Array, ""]:
    """Return the smallest length of a program: to its free minimum, and to its constraints."""
    least = lambda sizes: jnp.min(jnp.where(sizes > 0, sizes, jnp.inf), initial=jnp.inf)
    P, q, _, b, _, h = (jnp.abs(leaf) for leaf in program)
    curvature, slope = jnp.max(P, initial=0.0), jnp.max(q, initial=0.0)
    free = safe_ratio(slope, curvature, where=curvature > 0)
    length = jnp.minimum(least(free), jnp.minimum(least(b), least(h)))
    return jnp.where(length < jnp.inf, length, 0)


def relative(value: Float[Array, "..."], size: Float[Array, "..."]) -> Float[Array, "..."]:
    """Divide; 0 by 0 is 0."""
    return jnp.where(value == 0, 0, value / jnp.where((value == 0) & (size == 0), 1, size))


def activity(
    program: Program, point: Point, sizes: Sizes
) -> tuple[Float[Array, "inequalities"], Float[Array, "inequalities"]]:
    """Return slacks and multipliers of the inequalities, both relative."""
    slack = relative(program.h - matmul(program.G, point.x), sizes.inequalities)
    pulls = relative(jnp.abs(program.G) * jnp.abs(point.mu)[:, None], sizes.duals)
    return slack, jnp.sign(point.mu) * jnp.max(pulls, axis=1, initial=0.0)


def residuals_at(program: Program, point: Point) -> Residuals:
    """Measure how far a point is from fulfilling the optimality conditions."""
    P, q, A, b, G, _ = program
    point = point._replace(mu=jnp.maximum(point.mu, 0))
    sizes = sizes_at(program, point)
    slack, multiplier = activity(program, point, sizes)
    equal = relative(jnp.abs(matmul(A, point.x) - b), sizes.equalities)
    gradient = matmul(P, point.x) + q + matmul(A.T, point.nu) + matmul(G.T, point.mu)
    largest = lambda values: jnp.max(values, initial=0.0)
    return Residuals(
        primal=jnp.maximum(largest(equal), largest(-slack)),
        dual=largest(relative(jnp.abs(gradient), sizes.duals)),
        gap=largest(jnp.minimum(jnp.abs(slack), multiplier)),
    )


def is_convex(program: Program) -> Bool[Array, ""]:
    """Tell whether the objective curves upwards along the equalities, up to rounding."""
    P, A = program.P, program.A
    if not P.size:
        return jnp.ones((), bool)
    if A.size:
        # onto the null space of A, along which alone a point may move
        onto = jnp.eye(len(P), dtype=P.dtype) - matmul(jnp.linalg.pinv(A), A)
        P = matmul(onto.T, matmul(P, onto))
    values = jnp.linalg.eigvalsh((P + P.T) / 2)
    rounding = 10 * len(P) * jnp.finfo(P.dtype).eps
    return values[0] >= -rounding * jnp.max(jnp.abs(values))
