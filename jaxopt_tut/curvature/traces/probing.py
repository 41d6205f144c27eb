"""Random vectors and the quadratic forms of an operator on them, led by the host or by a trace."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key
from typing_extensions import TypeAliasType

from jaxopt_tut import control_flow
from jaxopt_tut.curvature.estimate import Estimate
from jaxopt_tut.curvature.operator import Flat, Operator, Rows
from jaxopt_tut.linalg.inner import orthogonal
from jaxopt_tut.tracing import is_traced, is_tracing
from jaxopt_tut.types import PRNGKey, PyTree
from jaxopt_tut.vectors import dot, magnitude, norm, safe_root

Forms = TypeAliasType("Forms", Float[Array, "k"])
"""Values of a quadratic form."""

Basis = TypeAliasType("Basis", Float[Array, "rank size"])
"""Orthonormal vectors as rows; there may be none."""

Draw = TypeAliasType("Draw", Callable[[Any, Basis], Flat])
"""Makes a vector of a seed and of a basis."""

BLOCK = 16
"""Probes whose products are asked for at once: data from the host are read once for all of them."""


def is_led(op: Operator, *args: PyTree) -> bool:
    """Tell whether a loop of Python can lead: nothing that it meets is followed or recorded."""
    return not is_tracing() and not any(map(is_traced, jax.tree.leaves((op, args))))


def no_basis(op: Operator) -> Basis:
    """Return a basis without vectors, of the size and precision of an operator."""
    return jnp.zeros((0, op.size), op.dtype)


def signs(key: PRNGKey, basis: Basis) -> Flat:
    """Draw a vector of signs; its quadratic form is exact for diagonal matrices."""
    return jax.random.rademacher(key, basis.shape[1:], basis.dtype)


def on_sphere(key: PRNGKey, basis: Basis) -> Flat:
    """Draw a vector of any direction, as long as signs are, in the complement of a basis.

    Its length does not vary, so that its quadratic form is exact for multiples of the identity.
    """
    vector = orthogonal(jax.random.normal(key, basis.shape[1:], basis.dtype), basis)
    num_rows, size = basis.shape
    return vector * (jnp.sqrt(1.0 * (size - num_rows)).astype(basis.dtype) / norm(vector))


def as_given(row: Flat, basis: Basis) -> Flat:  # noqa: ARG001
    """Take the seed itself."""
    return row


def fold(
    op: Operator, step: Callable[..., Any], carry: PyTree, draw: Draw, seeds: PyTree, basis: Basis
) -> tuple[PyTree, PyTree]:
    """Scan `step(carry, row, product)` over the rows that seeds make, some products at a time."""
    count = len(seeds)
    full = count - count % BLOCK
    if is_led(op, carry, seeds, basis):
        outs = []
        for start in range(0, count, BLOCK):
            rows = drawn(draw, seeds[start : start + BLOCK], basis)
            carry, out = _folded(step, carry, rows, op.matmat(rows))
            outs.append(out)
        return carry, jax.tree.map(lambda *parts: jnp.concatenate(parts), *outs)

    @jax.checkpoint  # what a derivative keeps are seeds; rows and their products are made again
    def body(carry: PyTree, seeds: PyTree) -> tuple[PyTree, PyTree]:
        rows = _draw(draw, seeds, basis)
        return _fold_rows(step, carry, rows, op.matmat(rows))

    outs = []
    if full:
        blocks = seeds[:full].reshape(full // BLOCK, BLOCK, *seeds.shape[1:])
        carry, out = control_flow.scan(body, carry, blocks)
        outs.append(jax.tree.map(lambda leaf: leaf.reshape(full, *leaf.shape[2:]), out))
    if full < count:
        carry, out = body(carry, seeds[full:])
        outs.append(out)
    return carry, jax.tree.map(lambda *parts: jnp.concatenate(parts), *outs)


def _draw(draw: Draw, seeds: Key[Array, "k"] | Rows, basis: Basis) -> Rows:
    return jax.vmap(draw, in_axes=(0, None))(seeds, basis)


def _fold_rows(
    step: Callable[..., Any], carry: PyTree, rows: Rows, products: Rows
) -> tuple[PyTree, PyTree]:
    return control_flow.scan(lambda carry, pair: step(carry, *pair), carry, (rows, products))


drawn = jax.jit(_draw, static_argnums=0)
# For the loop of Python alone: derivatives of a donated step warn that they keep it.
_folded = jax.jit(_fold_rows, static_argnums=0, donate_argnums=1)


def forms(op: Operator, draw: Draw, seeds: Key[Array, "k"] | Rows, basis: Basis) -> Forms:
    """Return the quadratic form at the vectors that seeds make."""
    return fold(op, _form, None, draw, seeds, basis)[1]


def _form(carry: None, row: Flat, product: Flat) -> tuple[None, Array]:
    return carry, dot(row, product)


def estimate(known: Float[Array, "rank"], samples: Forms) -> Estimate:
    """Add what is known to the mean of samples.

    The standard error is that of the mean, and what rounding leaves of all.
    """
    count = samples.size
    unit = magnitude(samples)
    mean = jnp.mean(samples)
    deviations = (samples - mean) / unit
    sem = unit * safe_root(jnp.sum(deviations**2) / (count * (count - 1)))
    sizes = jnp.sum(jnp.abs(known)) + jnp.mean(jnp.abs(samples))
    rounding = jax.lax.stop_gradient(jnp.finfo(samples.dtype).eps * sizes)
    return Estimate(jnp.sum(known) + mean, sem + rounding, count - 1)
