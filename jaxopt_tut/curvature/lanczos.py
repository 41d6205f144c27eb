"""Krylov spaces of symmetric operators: orthonormal rows, and the operator projected on them.

Pure functions of a state, which a loop of Python or of XLA drives alike. All coefficients of a
product are computed, not the three that exact arithmetic needs: so the projected matrix is that of
Rayleigh and Ritz whatever direction was taken last, also after a restart or a breakdown.
"""

from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float
from typing_extensions import TypeAliasType

from jaxopt_tut import control_flow
from jaxopt_tut.curvature.operator import Operator
from jaxopt_tut.curvature.space import Flat, Rows
from jaxopt_tut.types import Count, DTypeLike, Flag, PRNGKey, Scalar
from jaxopt_tut.vectors import magnitude, matmul, norm

Which = TypeAliasType("Which", Literal["largest", "smallest", "magnitude"])
"""Which end of a spectrum comes first."""

_NOISE = 8
"""Units of the last digit of the operator's norm, below which a remainder is but rounding."""


class Krylov(NamedTuple):
    """An orthonormal basis that grows by a vector a product.

    Attributes:
      basis: Its vectors in the first `length` rows; what stands below is not used.
      current: The next vector, orthogonal to them. It stands beside the basis, as reading it from a
        donated basis would make XLA copy all of that.
      projected: The operator between the vectors of the basis.
      remainder: Length of what the last product had outside the basis: `current` times this is the
        error of the relation A V = V T.
      loose: Lengths of what was dropped of the products with the rows when a fresh direction took
        the place of a remainder.
      length: Rows in use.
      scale: The largest length of a product so far: a lower bound of the operator's norm.
      key: Of fresh directions.
    """

    basis: Rows
    current: Flat
    projected: Float[Array, "k k"]
    remainder: Scalar
    loose: Float[Array, "k"]
    length: Count
    scale: Scalar
    key: PRNGKey


class Ritz(NamedTuple):
    """Eigenvalues of the projected operator, in the wanted order; those of unused rows are last.

    Attributes:
      values: The Ritz values.
      rotation: The Ritz vectors in terms of the basis, one a column.
      residuals: Lengths of the residuals, at least what rounding leaves of them.
      scale: The largest absolute Ritz value.
    """

    values: Float[Array, "k"]
    rotation: Float[Array, "k k"]
    residuals: Float[Array, "k"]
    scale: Scalar


def begin(start: Flat, key: PRNGKey, num_rows: int) -> Krylov:
    """Start with a vector, or with a random one where it is zero."""
    dtype = start.dtype
    key, fresh_key = jax.random.split(key)
    draw = lambda given: jax.random.normal(fresh_key, given.shape, dtype)
    start = control_flow.unless(norm(start) != 0, start, draw)
    zero = jnp.zeros((), dtype)
    return Krylov(
        basis=jnp.zeros((num_rows, start.size), dtype),
        current=start / norm(start),
        projected=jnp.zeros((num_rows, num_rows), dtype),
        remainder=zero,
        loose=jnp.zeros(num_rows, dtype),
        length=jnp.zeros((), jnp.int32),
        scale=jnp.zeros((), dtype),
        key=key,
    )


def extend(state: Krylov, product: Flat) -> Krylov:
    """Take the product of the operator with `current` into the basis."""
    index = state.length
    basis = state.basis.at[index].set(state.current)
    is_used = first_rows(index + 1, basis.shape[0])
    once, first = _reduced(product, basis, is_used)
    twice, second = _reduced(once, basis, is_used)
    column = first + second
    # the lengths of the product and of its first remainder, by Pythagoras: passes over them cost
    size = norm(twice)
    before = norm(jnp.append(second, size))
    scale = jnp.maximum(state.scale, norm(jnp.append(column, size)))
    current, remainder, key = _next(twice, size, before, basis, is_used, scale, state.key)
    return state._replace(
        basis=basis,
        current=current,
        projected=state.projected.at[index, :].set(column).at[:, index].set(column),
        remainder=remainder,
        length=index + 1,
        scale=scale,
        key=key,
    )


def first_rows(count: Count, num_rows: int) -> Bool[Array, "k"]:
    """Mark the first rows."""
    return jnp.arange(num_rows, dtype=jnp.int32) < count


@partial(jax.jit, donate_argnums=0)
def extend_in_place(basis: Rows, state: Krylov, product: Flat) -> Krylov:
    """Take a product in; its buffer may be that of a vector, so that the basis alone is donated."""
    return extend(state._replace(basis=basis), product)


def grown(op: Operator, state: Krylov) -> Krylov:
    """Take a product of the operator in, led by the host."""
    product = op.matvec(state.current)
    return extend_in_place(state.basis, state._replace(basis=None), product)


def _reduced(
    vector: Flat, basis: Rows, is_used: Bool[Array, "k"]
) -> tuple[Flat, Float[Array, "k"]]:
    """Take from a vector what the basis spans, and return the coefficients of that."""
    coefficients = jnp.where(is_used, matmul(basis, vector), 0)
    return vector - matmul(coefficients, basis), coefficients


def _next(
    vector: Flat,
    size: Scalar,
    before: Scalar,
    basis: Rows,
    is_used: Bool[Array, "k"],
    scale: Scalar,
    key: PRNGKey,
) -> tuple[Flat, Scalar, PRNGKey]:
    """Make a unit vector of a remainder, or a fresh one if rounding is all that is left of it."""
    is_lost = ~(size > _NOISE * jnp.finfo(vector.dtype).eps * scale)  # also where it is NaN
    # Twice is enough where the second round took little away (Kahan's rule); not for a remainder
    # that is hardly more than rounding.
    is_good = ~is_lost & (size > 0.5 * before)
    unit = vector / jnp.where(is_good, size, 1)

    def again(given: tuple[Flat, PRNGKey]) -> tuple[Flat, PRNGKey]:
        key, fresh_key = jax.random.split(given[1])
        fresh = _random(fresh_key, vector)
        return orthonormal(jnp.where(is_lost, fresh, given[0]), basis, is_used), key

    unit, key = control_flow.unless(is_good, (unit, key), again)
    return unit, jnp.where(is_lost, 0, size), key


def _random(key: PRNGKey, like: Flat) -> Flat:
    """Draw a direction in pieces: the bits behind a normal vector take three times its memory."""
    width = -(-like.size // 8)
    draw = lambda _, key: (None, jax.random.normal(key, (width,), like.dtype))
    return control_flow.scan(draw, None, jax.random.split(key, 8))[1].reshape(-1)[: like.size]


def orthonormal(vector: Flat, basis: Rows, is_used: Bool[Array, "k"]) -> Flat:
    """Make a unit vector orthogonal to used rows; zeros where there is no room for one."""
    for _ in range(3):
        vector = _reduced(_unit(vector), basis, is_used)[0]
    return _unit(vector)


def _unit(vector: Flat) -> Flat:
    size = norm(vector)
    return vector / jnp.where(size > 0, size, 1)


def ritz(state: Krylov, which: Which) -> Ritz:
    """Solve the projected eigenproblem."""
    num_rows = state.loose.size
    is_used = first_rows(state.length, num_rows)
    dtype = state.projected.dtype
    projected = jnp.where(is_used[:, None] & is_used, state.projected, 0)
    # unused rows get an eigenvalue that no other is near to, so that nothing mixes with them
    bound = jnp.max(jnp.sum(jnp.abs(projected), axis=1))
    outside = jnp.where(bound > 0, 1.25 * bound, 1).astype(dtype)
    values, rotation = jnp.linalg.eigh(projected + jnp.diag(jnp.where(is_used, 0, outside)))
    is_pad = values > (outside + bound) / 2
    order = jnp.argsort(jnp.where(is_pad, jnp.inf, scores(values, which)))
    values, rotation = values[order], rotation[:, order]
    scale = jnp.max(jnp.where(is_pad[order], 0, jnp.abs(values)))
    last = rotation[state.length - 1]
    residuals = jnp.abs(state.remainder * last) + _turned(state.loose, rotation)
    return Ritz(values, rotation, jnp.maximum(residuals, rounding(dtype, num_rows) * scale), scale)


def scores(values: Float[Array, "*any"], which: Which) -> Float[Array, "*any"]:
    """Return numbers that grow from wanted eigenvalues to others."""
    return {"largest": -values, "smallest": values, "magnitude": -jnp.abs(values)}[which]


def _turned(lengths: Float[Array, "k"], rotation: Float[Array, "k k"]) -> Float[Array, "k"]:
    """Return the lengths of errors of rows in sums of the rows, as if at right angles."""
    unit = magnitude(lengths)
    return unit * jnp.sqrt(matmul((lengths / unit) ** 2, rotation**2))


def rounding(dtype: DTypeLike, num_rows: int) -> float:
    """Return what rounding leaves of a residual, in units of the operator's norm."""
    return float(jnp.finfo(dtype).eps) * num_rows**0.5


def restarted(state: Krylov, found: Ritz, num_kept: Count) -> Krylov:
    """Keep the first Ritz vectors, and go on with the same remainder (Wu and Simon, 2000)."""
    is_kept = first_rows(num_kept, state.loose.size)
    return state._replace(
        basis=rotated(state.basis, found.rotation),
        projected=jnp.diag(jnp.where(is_kept, found.values, 0)),
        loose=jnp.where(is_kept, _turned(state.loose, found.rotation), 0),
        length=num_kept,
    )


def refreshed(state: Krylov, residuals: Float[Array, "k"], is_due: Flag) -> Krylov:
    """Drop the remainder for a fresh direction where that is due: the residuals are loose then."""
    is_used = first_rows(state.length, state.loose.size)

    def draw(given: tuple[Flat, PRNGKey]) -> tuple[Flat, PRNGKey]:
        key, fresh_key = jax.random.split(given[1])
        fresh = _random(fresh_key, given[0])
        return orthonormal(fresh, state.basis, is_used), key

    current, key = control_flow.unless(~is_due, (state.current, state.key), draw)
    return state._replace(
        current=current,
        loose=jnp.where(is_due, jnp.where(is_used, residuals, 0), state.loose),
        remainder=jnp.where(is_due, 0, state.remainder),
        key=key,
    )


def rotated(basis: Rows, rotation: Float[Array, "k k"]) -> Rows:
    """Return `rotation.T @ basis`, some columns at a time, so that it takes no second basis."""
    num_rows, size = basis.shape
    width = max(size // num_rows, 1)

    def turn(index: Count, basis: Rows) -> Rows:
        part = jax.lax.dynamic_slice_in_dim(basis, index * width, width, axis=1)
        part = matmul(rotation.T, part)
        return jax.lax.dynamic_update_slice_in_dim(basis, part, index * width, axis=1)

    count = size // width
    basis = control_flow.while_loop(
        lambda carry: carry[0] < count,
        lambda carry: (carry[0] + 1, turn(*carry)),
        (jnp.zeros((), jnp.int32), basis),
    )[1]
    # what the loop left; read before it, the whole basis would be kept twice
    rest = basis[:, count * width :]
    return basis.at[:, count * width :].set(matmul(rotation.T, rest)) if rest.size else basis


def all_finite(state: Krylov) -> Flag:
    """Tell whether all products have been finite."""
    return jnp.all(jnp.isfinite(state.projected)) & jnp.isfinite(state.scale)
