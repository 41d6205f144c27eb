"""The largest eigenvalue of the Hessian while a network is trained."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from typing_extensions import TypeAliasType

from jaxopt_tut import control_flow
from jaxopt_tut.blocks import shown
from jaxopt_tut.counts import whole_number
from jaxopt_tut.curvature.hessian import hessian
from jaxopt_tut.curvature.lanczos import Krylov, begin, extend, restarted, ritz
from jaxopt_tut.curvature.operator import Operator
from jaxopt_tut.curvature.space import Flat, Rows, flat_vector
from jaxopt_tut.hyperparameters import require_positive
from jaxopt_tut.keys import require_key
from jaxopt_tut.loss_forms import LOSS, read_form
from jaxopt_tut.probes import Probe, Snapshot
from jaxopt_tut.tracing import is_traced, is_tracing
from jaxopt_tut.trees import require_same_structure
from jaxopt_tut.types import Batch, Count, Flag, LossFn, Number, PRNGKey, PyTree, Scalar
from jaxopt_tut.vectors import matmul

Preconditioner = TypeAliasType("Preconditioner", Callable[[PyTree], PyTree])
"""`(opt_state) -> scale`, positive numbers in a tree like the parameters."""

ROUNDS = 5
"""How often Lanczos is run at most in a measurement."""

NUM_KEPT = 3
"""Ritz vectors with which it goes on: enough for two eigenvalues that cross."""


@shown
class TrackedSharpness(NamedTuple):
    """What `sharpness_probe` measures.

    Attributes:
      value: The largest eigenvalue, from below; NaN where nothing is known.
      residual: Length of the residual of its vector: an eigenvalue lies within it of the value.
      num_products: Products that were taken.
    """

    value: Scalar
    residual: Scalar
    num_products: Count


def sharpness_probe(
    loss_fn: LossFn,
    *batches: Batch,
    key: PRNGKey,
    num_products: int = 8,
    tol: Number = 3e-3,
    preconditioner: Preconditioner | None = None,
    batch_size: int | None = None,
) -> Probe:
    r"""Measure the largest eigenvalue of the Hessian again and again, as a probe of `fit`.

    $$\lambda_t = \max_{v \in \mathcal K} \frac{v^\top H_t v}{v^\top v}, \qquad
    \mathcal K = \mathrm{span}(v_{t - 1}, H_t v_{t - 1}, \dots, H_t^{m - 1} v_{t - 1})$$

    by Lanczos from the last measurement's vector $v_{t-1}$, from which that of now is not far. On
    a small tanh network every ten steps of training at the edge of stability the median error was
    1e-7 of the value, the largest 3e-4. Where the residual is too large, as in the first
    measurement, which starts from a random vector, and where eigenvalues cross, as many products
    more are taken, at most five times. Then the residual tells.

    Costs `num_products` Hessian products a measurement, each about two gradients, with rare
    exceptions.

    Args:
      loss_fn: The loss, of any form; one that draws is given the same key each time.
      *batches: What it is measured on, as `hessian` takes it: all training data, say.
      key: Of the random start, and of what the loss draws.
      num_products: Products $m$ before the residual is looked at.
      tol: How large it may be, over the value; infinity takes m products each time.
      preconditioner: From the optimizer's state to what it multiplies gradients by, for the largest
        eigenvalue of $D^{1/2} H D^{1/2}$: `partial(adam_preconditioner, b1=.9)`. Where a number in
        it is not positive or not finite, as before Adam's first update, the value is NaN.
      batch_size: Examples worked on at once, for memory.

    Returns:
      A probe for `fit(..., probes={"sharpness": sharpness_probe(...)})`, which measures
      `TrackedSharpness(value, residual, num_products)`.

    Raises:
      TypeError: If `num_products` is no whole number, `key` not one key, or the loss cannot be
        called.
      ValueError: If `num_products` or `tol` is not above 0, or `hessian` refuses loss or data.

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
    require_positive(caller, tol=tol)
    require_key(caller, key)
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

    def init(start: Snapshot) -> Flat:
        op = operator(start)
        return jax.random.normal(start_key, (op.size,), op.dtype)

    def measure(last: Flat, now: Snapshot) -> tuple[Flat, TrackedSharpness]:
        op, is_known = operator(now), jnp.bool_(True)
        if preconditioner is not None:
            scale, is_known = _positive(op, preconditioner(now.opt_state))
            op = op.preconditioned(scale)
        vector, found = _tracked(op, last, tol, lanczos_key, _settings(count, op.size))
        is_known &= jnp.isfinite(found.value) & jnp.isfinite(found.residual)
        # a vector that is not a number would be one for ever
        vector = jnp.where(is_known, vector, last)
        value, residual = (jnp.where(is_known, one, jnp.nan) for one in found[:2])
        return vector, found._replace(value=value, residual=residual)

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


class _Settings(NamedTuple):
    """Of Lanczos.

    Attributes:
      num_first: Products before the residual is looked at.
      num_kept: Ritz vectors that are kept where it is too large.
      num_more: Products until it is looked at again; 0 where the space is used up.
    """

    num_first: int
    num_kept: int
    num_more: int


def _settings(num_products: int, size: int) -> _Settings:
    num_first = min(num_products, size)
    num_kept = min(NUM_KEPT, num_first)
    return _Settings(num_first, num_kept, min(num_products, size - num_kept) * (num_first < size))


def _tracked(
    op: Operator, vector: Flat, tol: Number, key: PRNGKey, settings: _Settings
) -> tuple[Flat, TrackedSharpness]:
    """Run Lanczos from a vector, with thick restarts while the residual is too large."""
    num_first, num_kept, num_more = settings
    num_rows = max(num_first, num_kept + num_more)
    rounds = ROUNDS if num_more else 1
    if is_tracing() or any(map(is_traced, jax.tree.leaves((op, vector)))):

        def grown(krylov: Krylov, count: int) -> Krylov:
            grow = lambda krylov, _: (extend(krylov, op.matvec(krylov.current)), None)
            return control_flow.scan(grow, krylov, length=count)[0]

        def again(carry: tuple[Krylov, Count]) -> tuple[Krylov, Count]:
            krylov = restarted(carry[0], ritz(carry[0], "largest"), jnp.int32(num_kept))
            return grown(krylov, num_more), carry[1] + 1

        krylov, num_rounds = control_flow.while_loop(
            lambda carry: (carry[1] < rounds) & _is_loose(carry[0], tol),
            again,
            (grown(begin(vector, key, num_rows), num_first), jnp.ones((), jnp.int32)),
        )
        return _end(krylov, num_first + num_more * (num_rounds - 1))
    krylov, num_rounds = _grown(op, _begin(vector, key, num_rows), num_first), 1
    while num_rounds < rounds and _is_loose_compiled(krylov, tol):
        krylov = _grown(op, _restart(krylov, num_kept), num_more)
        num_rounds += 1
    return _end(krylov, jnp.int32(num_first + num_more * (num_rounds - 1)))


def _grown(op: Operator, krylov: Krylov, count: int) -> Krylov:
    for _ in range(count):
        product = op.matvec(krylov.current)
        krylov = _extend(krylov.basis, krylov._replace(basis=None), product)
    return krylov


def _is_loose(krylov: Krylov, tol: Number) -> Flag:
    """Tell a residual that is too large; one that is not a number stays that."""
    found = ritz(krylov, "largest")
    tol = jnp.asarray(tol, found.values.dtype)
    return found.residuals[0] > tol * jnp.abs(found.values[0])


@jax.jit
def _end(krylov: Krylov, num_products: Count) -> tuple[Flat, TrackedSharpness]:
    """Return the first Ritz vector and its value."""
    found = ritz(krylov, "largest")
    vector = matmul(found.rotation[:, 0], krylov.basis)
    return vector, TrackedSharpness(found.values[0], found.residuals[0], num_products)


_begin = jax.jit(begin, static_argnums=2)
_is_loose_compiled = jax.jit(_is_loose)


@partial(jax.jit, static_argnums=1)
def _restart(krylov: Krylov, num_kept: int) -> Krylov:
    return restarted(krylov, ritz(krylov, "largest"), jnp.int32(num_kept))


@partial(jax.jit, donate_argnums=0)
def _extend(basis: Rows, krylov: Krylov, product: Flat) -> Krylov:
    """Take a product in; its buffer may be that of a vector, so that the basis alone is donated."""
    return extend(krylov._replace(basis=basis), product)
