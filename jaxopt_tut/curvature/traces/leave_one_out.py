"""Traces from sketches that leave out one vector at a time, by matfree."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array
from matfree import stochtrace

from jaxopt_tut.curvature.estimate import Estimate
from jaxopt_tut.curvature.operator import Operator, Rows
from jaxopt_tut.curvature.traces.probing import drawn, estimate, no_basis, on_sphere
from jaxopt_tut.types import PRNGKey, Scalar
from jaxopt_tut.vectors import magnitude, matmul


@dataclass(frozen=True)
class XTrace:
    r"""The mean over vectors of a sketch of Hutch++ with that one as its only probe.

    $$\operatorname{tr} A \approx \frac1m \sum_i \operatorname{tr} Q_i A Q_i^\top +
    w_i^\top A w_i, \qquad Q_i = \operatorname{orth}(A \Omega_{-i})$$

    with half as many vectors as products. It is exact for a rank below m. Its standard error is too
    small, as the estimates share all but one vector: .8 of the error on a Hessian, where intervals
    of 95 % cover 87 %. Memory: as many vectors as products.

    References:
      Epperly, Tropp, Webber (2024), XTrace, https://arxiv.org/abs/2301.07825
    """

    fewest: ClassVar[int] = 4

    def estimate(self, op: Operator, key: PRNGKey, num_products: int) -> Estimate:
        """Estimate the trace from that many products."""
        rows = _sketch(op, key, num_products // 2)
        products, unit = _in_units(op.matmat(rows))
        basis = _span(products)
        answers = products, op.matmat(basis) / unit
        return _finish(stochtrace.leave_one_out_xtrace, rows, answers, unit)


@dataclass(frozen=True)
class XNysTrace:
    r"""The trace of a Nystrom approximation, corrected by the vector that each one leaves out.

    $$\operatorname{tr} A \approx \frac1m \sum_i \operatorname{tr} A_i +
    w_i^\top (A - A_i) w_i, \qquad A_i = A \Omega_{-i} (\Omega_{-i}^\top A \Omega_{-i})^{-1}
    \Omega_{-i}^\top A$$

    with as many vectors as products. For positive semidefinite operators alone, as Gauss-Newton and
    Fisher matrices are. Where the quadratic form at the sketch has a negative eigenvalue, the
    operator is indefinite, the mean is meaningless and the standard error NaN; a negative
    eigenvalue too small for the sketch goes unseen. It is exact for a rank below the number of
    products. Memory: thrice as many vectors as products.

    References:
      Epperly, Tropp, Webber (2024), XTrace, https://arxiv.org/abs/2301.07825
    """

    fewest: ClassVar[int] = 2

    def estimate(self, op: Operator, key: PRNGKey, num_products: int) -> Estimate:
        """Estimate the trace from that many products."""
        rows = _sketch(op, key, num_products)
        products, unit = _in_units(op.matmat(rows))
        found = _finish(stochtrace.leave_one_out_xnystrace, rows, (products,), unit)
        return _flagged(found, rows, products)


def _sketch(op: Operator, key: PRNGKey, count: int) -> Rows:
    return drawn(on_sphere, jax.random.split(key, count), no_basis(op))


@jax.jit
def _in_units(products: Rows) -> tuple[Rows, Scalar]:
    """Return products of length one or less, as matfree takes for zero what is below eps."""
    unit = magnitude(products) * jnp.sqrt(1.0 * products.shape[1]).astype(products.dtype)
    return products / unit, unit


@jax.jit
def _span(products: Rows) -> Rows:
    """Return the basis for which matfree asks next."""
    return jnp.linalg.qr(products.T)[0].T


@jax.jit(static_argnums=0)
def _finish(
    make: Callable[[], Callable], rows: Rows, answers: tuple[Array, ...], unit: Scalar
) -> Estimate:
    """Let matfree estimate from products that are known, in the order in which it asks for them.

    Who leads the products is so left to the operator, and the rest is compiled once.
    """
    remaining = list(answers)
    matvec = jax.custom_batching.custom_vmap(lambda vector: jnp.zeros_like(vector))
    matvec.def_vmap(lambda *_: (remaining.pop(0), True))
    estimates = make()(matvec, rows) * unit
    return estimate(jnp.zeros(0, estimates.dtype), estimates)


@jax.jit
def _flagged(found: Estimate, rows: Rows, products: Rows) -> Estimate:
    """Mark the estimate of an operator that is seen to be indefinite."""
    gram = jax.lax.stop_gradient(matmul(rows, products.T))
    values = jnp.linalg.eigvalsh((gram + gram.T) / 2)
    # what rounding of inner products makes of a zero
    floor = 10 * jnp.finfo(rows.dtype).eps * rows.shape[1] ** 0.5 * jnp.max(jnp.abs(values))
    is_zero = jnp.all(products == 0)  # of which matfree makes 0 / 0
    sem = jnp.where(is_zero, 0, jnp.where(values[0] < -floor, jnp.nan, found.sem))
    return Estimate(jnp.where(is_zero, 0, found.mean), sem, found.degrees)
