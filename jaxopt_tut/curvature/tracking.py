"""The largest eigenvalue of the Hessian while a network is trained."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool
from typing_extensions import TypeAliasType

from jaxopt_tut import control_flow
from jaxopt_tut.counts import whole_number
from jaxopt_tut.curvature.hessian import hessian
from jaxopt_tut.curvature.lanczos import Krylov, begin, extend, ritz
from jaxopt_tut.curvature.operator import Operator
from jaxopt_tut.curvature.space import Flat, Rows, flat_vector
from jaxopt_tut.loss_forms import LOSS, read_form
from jaxopt_tut.probes import Probe, Snapshot
from jaxopt_tut.tracing import is_traced, is_tracing
from jaxopt_tut.trees import require_same_structure
from jaxopt_tut.types import Batch, Flag, LossFn, PRNGKey, PyTree, Scalar
from jaxopt_tut.vectors import matmul

Preconditioner = TypeAliasType("Preconditioner", Callable[[PyTree], PyTree])
"""`(opt_state) -> scale`, positive numbers in a tree like the parameters."""

ROUNDS_AT_FIRST = 5
"""Lanczos runs in the first measurement, which starts from a random vector."""


class TrackedSharpness(NamedTuple):
    """What `sharpness_probe` measures.

    Attributes:
      value: The largest eigenvalue, from below; NaN where nothing is known.
      residual: Length of the residual of its vector: an eigenvalue lies within it of the value.
    """

    value: Scalar
    residual: Scalar


class TrackingState(NamedTuple):
    """What the next measurement begins with.

    Attributes:
      vector: Near the eigenvector.
      is_new: Whether nothing was measured yet.
    """

    vector: Flat
    is_new: Bool[Array, ""]


def sharpness_probe(
    loss_fn: LossFn,
    *batches: Batch,
    key: PRNGKey,
    num_products: int = 8,
    preconditioner: Preconditioner | None = None,
    batch_size: int | None = None,
) -> Probe:
    r"""Measure the largest eigenvalue of the Hessian again and again, as a probe of `fit`.

    $$\lambda_t = \max_{v \in \mathcal K} \frac{v^\top H_t v}{v^\top v}, \qquad
    \mathcal K = \mathrm{span}(v_{t - 1}, H_t v_{t - 1}, \dots, H_t^{m - 1} v_{t - 1})$$

    by Lanczos from the last measurement's vector $v_{t-1}$, of which the Hessian has not turned far
    away: every ten steps at the edge of stability eight products came within 1e-6 of forty on a
    tanh network, and within 1e-3 where the largest two eigenvalues cross. Where a learning rate is
    so large that the Hessian jumps they do not suffice: the residual tells, so take more products
    or measure more often. The first measurement takes five times as many.

    Costs `num_products` Hessian products a measurement, each about two gradients.

    Args:
      loss_fn: The loss, of any form; one that draws is given the same key each time.
      *batches: What it is measured on, as `hessian` takes it: all training data, say.
      key: Of the random start, and of what the loss draws.
      num_products: Products $m$ a measurement.
      preconditioner: From the optimizer's state to what it multiplies gradients by, for the largest
        eigenvalue of $D^{1/2} H D^{1/2}$: `partial(adam_preconditioner, b1=.9)`. Where a number in
        it is not positive or not finite, as before Adam's first update, the value is NaN.
      batch_size: Examples worked on at once, for memory.

    Returns:
      A probe for `fit(..., probes={"sharpness": sharpness_probe(...)})`, which measures
      `TrackedSharpness(value, residual)`.

    Raises:
      TypeError: If `num_products` is no whole number, or the loss cannot be called.
      ValueError: If `num_products` is not above 0, or the loss or data are refused by `hessian`.

    Example:
      >>> import optax
      >>> from jaxopt_tut.training import fit
      >>> x = jnp.array([[3.0, 0.0], [0.0, 1.0]])  # the Hessian is diag(9, 1)
      >>> loss_fn = lambda w, x: jnp.sum((x @ w) ** 2) / 2
      >>> result = fit(loss_fn, jnp.ones(2), optax.sgd(0.1), x, batch_size=2, num_epochs=4,
      ...              key=jax.random.key(0), progress=False, probe_every=2,
      ...              probes={"sharpness": sharpness_probe(loss_fn, x, key=jax.random.key(1))})
      >>> print(result.history.probes["sharpness"].value.round(3))
      [9. 9. 9.]

    References:
      Cohen et al. (2021), Gradient descent on neural networks typically occurs at the edge of
      stability, section 3. https://arxiv.org/abs/2103.00065
    """
    caller = "sharpness_probe"
    count = whole_number(num_products)
    if count is None:
        raise TypeError(f"{caller} needs a whole num_products, got num_products={num_products!r}.")
    if count < 1:
        raise ValueError(f"{caller} needs num_products >= 1, got num_products={num_products}.")
    start_key, lanczos_key = jax.random.split(key)

    def operator(now: Snapshot) -> Operator:
        form = read_form(caller, loss_fn, has_key=None, has_model_state=now.model_state is not None)
        return hessian(
            loss_fn,
            now.params,
            *batches,
            batch_size=batch_size,
            key=jax.random.fold_in(key, LOSS) if form.takes_key else None,
            model_state=now.model_state,
        )

    def init(start: Snapshot) -> TrackingState:
        op = operator(start)
        return TrackingState(jax.random.normal(start_key, (op.size,), op.dtype), jnp.bool_(True))

    def measure(state: TrackingState, now: Snapshot) -> tuple[TrackingState, TrackedSharpness]:
        op, is_known = operator(now), jnp.bool_(True)
        if preconditioner is not None:
            scale, is_known = _positive(op, preconditioner(now.opt_state))
            op = op.preconditioned(scale)
        rows = min(count, op.size)
        vector, measured = _tracked(op, state, lanczos_key, rows)
        is_known &= jnp.isfinite(measured.value) & jnp.isfinite(measured.residual)
        vector = jnp.where(is_known, vector, state.vector)
        measured = jax.tree.map(lambda number: jnp.where(is_known, number, jnp.nan), measured)
        return TrackingState(vector, state.is_new & ~is_known), measured

    return Probe(init, measure)


def _positive(op: Operator, scale: PyTree) -> tuple[Flat, Flag]:
    """Lay a scale out flat, ones in the place of one that is not positive, and tell which it is."""
    require_same_structure(op.like, scale, "sharpness_probe")
    # real and imaginary parts of a parameter are scaled alike
    scale = jax.tree.map(
        lambda leaf, part: jax.lax.complex(part, part) if jnp.iscomplexobj(leaf) else part,
        op.like,
        jax.tree.map(jnp.real, scale),
    )
    flat, _ = flat_vector("sharpness_probe", op.like, scale)
    is_positive = jnp.all((flat > 0) & (flat < jnp.inf))
    return jnp.where(is_positive, flat, 1), is_positive


def _tracked(
    op: Operator, state: TrackingState, key: PRNGKey, num_rows: int
) -> tuple[Flat, TrackedSharpness]:
    """Run Lanczos from the vector, and several times where that is a random one."""
    if is_tracing() or any(map(is_traced, jax.tree.leaves((op, state)))):

        def run(vector: Flat) -> tuple[Flat, TrackedSharpness]:
            grow = lambda krylov, _: (extend(krylov, op.matvec(krylov.current)), None)
            krylov = begin(vector, key, num_rows)
            return _ended(control_flow.scan(grow, krylov, length=num_rows)[0])

        again = lambda vector, _: (run(vector)[0], None)
        warmed = lambda vector: control_flow.scan(again, vector, length=ROUNDS_AT_FIRST - 1)[0]
        return run(control_flow.unless(~state.is_new, state.vector, warmed))
    vector, measured = state.vector, None
    for _ in range(ROUNDS_AT_FIRST if state.is_new else 1):
        krylov = _begin(vector, key, num_rows)
        for _ in range(num_rows):
            product = op.matvec(krylov.current)
            krylov = _extend(krylov.basis, krylov._replace(basis=None), product)
        vector, measured = _end(krylov)
    assert measured is not None
    return vector, measured


def _ended(krylov: Krylov) -> tuple[Flat, TrackedSharpness]:
    """Return the first Ritz vector and its value."""
    found = ritz(krylov, "largest")
    vector = matmul(found.rotation[:, 0], krylov.basis)
    return vector, TrackedSharpness(found.values[0], found.residuals[0])


_begin = jax.jit(begin, static_argnums=2)
_end = jax.jit(_ended)


@partial(jax.jit, donate_argnums=0)
def _extend(basis: Rows, krylov: Krylov, product: Flat) -> Krylov:
    """Take a product in; its buffer may be that of a vector, so that the basis alone is donated."""
    return extend(krylov._replace(basis=basis), product)
