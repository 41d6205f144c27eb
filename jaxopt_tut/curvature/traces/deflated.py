"""Traces that are exact in a subspace and estimated in its complement."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxopt_tut import control_flow
from jaxopt_tut.curvature.estimate import Estimate
from jaxopt_tut.curvature.lanczos import begin, extend, extend_in_place
from jaxopt_tut.curvature.operator import Operator, Rows
from jaxopt_tut.curvature.quotients import moving
from jaxopt_tut.curvature.traces.probing import (
    Forms,
    as_given,
    drawn,
    estimate,
    forms,
    is_led,
    no_basis,
    on_sphere,
    signs,
)
from jaxopt_tut.types import PRNGKey


@dataclass(frozen=True)
class Krylov:
    r"""The exact trace in a Krylov space, and probes of its complement.

    $$\operatorname{tr} A = \operatorname{tr} Q A Q^\top + \operatorname{tr} P A P \approx
    \sum_{i \le m} q_i^\top A q_i + \frac1k \sum_{i \le k} w_i^\top A w_i, \qquad
    P = 1 - Q^\top Q$$

    with the m rows of Q, half of the products, from Lanczos' method (orthogonalised against
    all; a fresh direction where the space is used up) and w uniform on the sphere of radius
    $\sqrt{n - m}$ in the complement. It is exact for a rank below m and for multiples of the
    identity. An operator of outliers and a bulk, which a Hessian is, gives away its outliers to a
    Krylov space first: no other method here has a smaller error on one. The standard error is
    honest, as the k samples are independent given Q. Memory: m vectors.

    Derivatives hold Q and w fixed, which leaves them without bias, and take the products again.

    Attributes:
      share: The share of products for the Krylov space. Two thirds leave up to a quarter less error
        than a half on Hessians of trained networks, and a fifth more where the bulk is all.

    References:
      Meyer, Musco, Musco, Woodruff (2021), Hutch++, https://arxiv.org/abs/2010.09649, for the
      split; the space is another one here.
    """

    share: float = 0.5
    fewest: ClassVar[int] = 3

    def __post_init__(self) -> None:
        """Check the share."""
        if not 0 < self.share < 1:
            raise ValueError(f"Krylov needs 0 < share < 1, got share={self.share}.")

    def estimate(self, op: Operator, key: PRNGKey, num_products: int) -> Estimate:
        """Estimate the trace from that many products."""
        count = min(max(round(self.share * num_products), 1), num_products - 2)
        space_key, probe_key = jax.random.split(key)
        basis, known = _krylov_space(_fixed(op), space_key, count)
        keys = jax.random.split(probe_key, num_products - count)
        if not is_led(op, key):
            known = moving(op, basis, known)
        return estimate(known, forms(op, on_sphere, keys, basis))


@dataclass(frozen=True)
class HutchPP:
    r"""A third of the products sketches the range, a third is exact there, a third probes the rest.

    $$\operatorname{tr} A \approx \operatorname{tr} Q A Q^\top + \frac1k \sum_{i \le k}
    w_i^\top A w_i, \qquad Q = \operatorname{orth}(A S)$$

    with S of random signs and w as in `Krylov`, which needs no product to learn what it spans. It
    is exact for a rank of a third of the products and for multiples of the identity. The
    standard error is honest. Memory: two thirds as many vectors as products.

    Derivatives hold Q and w fixed, which leaves them without bias.

    References:
      Meyer, Musco, Musco, Woodruff (2021), Hutch++, algorithm 1, https://arxiv.org/abs/2010.09649;
      there w are signs.
    """

    fewest: ClassVar[int] = 4

    def estimate(self, op: Operator, key: PRNGKey, num_products: int) -> Estimate:
        """Estimate the trace from that many products."""
        count = num_products // 3
        sketch_key, probe_key = jax.random.split(key)
        rows = drawn(signs, jax.random.split(sketch_key, count), no_basis(op))
        basis = jnp.linalg.qr(_fixed(op).matmat(rows).T)[0].T
        known = forms(op, as_given, basis, no_basis(op))
        keys = jax.random.split(probe_key, num_products - 2 * count)
        return estimate(known, forms(op, on_sphere, keys, basis))


def _fixed(op: Operator) -> Operator:
    """Return an operator that no derivative follows: the space that it spans is a choice."""
    return op if is_led(op) else jax.lax.stop_gradient(op)


def _krylov_space(op: Operator, key: PRNGKey, num_rows: int) -> tuple[Rows, Forms]:
    """Return an orthonormal basis of a Krylov space, and the quadratic form at its vectors."""
    start_key, key = jax.random.split(key)
    krylov = begin(on_sphere(start_key, no_basis(op)), key, num_rows)
    if is_led(op, key):
        for _ in range(num_rows):
            product = op.matvec(krylov.current)
            krylov = extend_in_place(krylov.basis, krylov._replace(basis=None), product)
    else:
        step = lambda krylov, _: (extend(krylov, op.matvec(krylov.current)), None)
        krylov, _ = control_flow.scan(step, krylov, length=num_rows)
    return krylov.basis, jnp.diagonal(krylov.projected)
