"""Eigenpairs at an end of a spectrum, by Lanczos with thick restarts."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxopt_tut import control_flow
from jaxopt_tut.blocks import Block, brief
from jaxopt_tut.counts import as_limit, is_below, whole_number
from jaxopt_tut.curvature.lanczos import (
    Krylov,
    Ritz,
    Which,
    all_finite,
    begin,
    extend,
    grown,
    refreshed,
    restarted,
    ritz,
    rounding,
    scores,
)
from jaxopt_tut.curvature.operator import Operator
from jaxopt_tut.curvature.quotients import moving
from jaxopt_tut.curvature.space import Flat, Rows
from jaxopt_tut.hyperparameters import cast, require_nonnegative
from jaxopt_tut.keys import require_key
from jaxopt_tut.tracing import is_traced, is_tracing, known
from jaxopt_tut.types import Count, Flag, Limit, Number, PRNGKey, PyTree, Scalar
from jaxopt_tut.vectors import ravel

_CHECK = 5
"""Products that look for further copies of eigenvalues once all pairs have converged; more if these
do not show that the best of what remains is none."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Eigenpairs(Block):
    """Eigenvalues and eigenvectors, and how good they are.

    Attributes:
      values: Eigenvalues, the wanted end of the spectrum first.
      vectors: Orthonormal eigenvectors, one a row: `op.unravel(vectors[i])` makes a tree.
      residuals: Lengths of A v - lambda v, at least what rounding leaves; no eigenvalue is farther
        away than its residual.
      converged: Which residuals are within the tolerance; none if a product was not finite.
      num_products: Products with the operator.
    """

    values: Float[Array, "*batch k"]
    vectors: Float[Array, "*batch k size"]
    residuals: Float[Array, "*batch k"]
    converged: Bool[Array, "*batch k"]
    num_products: Count

    def _block(self) -> tuple[str, list[tuple[str, str]]]:
        names = ["values", "residuals", "converged", "num_products"]
        return "Eigenpairs", [(name, brief(getattr(self, name))) for name in names]


class Search(NamedTuple):
    """A search under way, between two cycles.

    Attributes:
      krylov: The basis.
      values: The wanted Ritz values.
      residuals: Lengths of their residuals.
      converged: Which are within the tolerance.
      confirmed: The values when all had converged and a fresh direction was taken.
      num_products: Products so far.
      target: Rows of the basis at the end of the cycle.
      is_done: Whether there is nothing left to do.
    """

    krylov: Krylov
    values: Float[Array, "k"]
    residuals: Float[Array, "k"]
    converged: Bool[Array, "k"]
    confirmed: Float[Array, "k"]
    num_products: Count
    target: Count
    is_done: Flag


def top_eigenpairs(
    op: Operator,
    k: int,
    key: PRNGKey,
    *,
    which: Which = "largest",
    tol: Number | None = None,
    basis: int | None = None,
    max_products: Limit | None = None,
    start: PyTree = None,
) -> Eigenpairs:
    r"""Return some eigenpairs at an end of the spectrum.

    $$A v_i = \lambda_i v_i, \qquad
      \lVert A v_i - \lambda_i v_i \rVert \le \tau \max_j |\lambda_j|$$

    by Lanczos with full re-orthogonalisation and thick restarts: products with `op` are all that it
    costs besides some passes over at most `basis` vectors, which are kept. Where the basis has an
    invariant space, and once all pairs have converged, it goes on with a fresh random direction:
    a Krylov space has only one vector of a multiple eigenvalue. Eigenvalues inside a dense bulk
    take very many products: ask for those that stand apart.

    Outside of transformations a loop of Python leads the products, and looks at the device at
    restarts only; an operator whose data the host streams needs that. Under `jit`, `vmap`, `grad`
    all of it is one `while_loop`. First derivatives of simple eigenvalues are exact,
    $d\lambda = v^\top (dA)\, v$; vectors and residuals have derivative zero, and so second
    derivatives are not those of the eigenvalue.

    Args:
      op: A symmetric operator.
      k: How many, $1 \le k \le$ `op.size`.
      key: Of the start and of fresh directions.
      which: `"largest"` or `"smallest"` in the algebraic sense, or `"magnitude"`: largest absolute
        values first.
      tol: $\tau \ge 0$; by default $\epsilon^{3/4}$ of the precision. Errors of isolated values
        are of order $\tau^2$. What rounding leaves counts as converged.
      basis: How many vectors are kept, above `k` unless it is `op.size`; by default
        `max(2 * k + 1, 20)`. More need fewer products.
      max_products: The most products, at least `k`; by default `100 * basis`.
      start: A vector to start with, or several as rows, of which the sum is taken: flat, or a tree
        like the parameters. By default it is random.

    Returns:
      The pairs. Those that have not converged when the products are used up are the best that is
      known.

    Raises:
      TypeError: If `op` is no operator, `key` not one key, a count no whole number, or if batches
        come from the host under a transformation.
      ValueError: If a number is out of range, `which` is unknown, or `start` is zero or of another
        size.

    Example:
      >>> from jaxopt_tut.curvature import linear_map
      >>> matrix = jnp.diag(jnp.array([3.0, -5.0, 1.0, 3.0]))
      >>> op = linear_map(lambda v, a: a @ v, jnp.zeros(4), matrix)
      >>> print(top_eigenpairs(op, 3, jax.random.key(0)).values.round(4))
      [3. 3. 1.]
      >>> print(top_eigenpairs(op, 1, jax.random.key(0), which="magnitude").values.round(4))
      [-5.]

    References:
      Wu and Simon (2000), Thick-restart Lanczos method for large symmetric eigenvalue problems,
      https://doi.org/10.1137/S0895479898334605
    """
    num_rows = _check("top_eigenpairs", op, k, which, basis)
    require_key("top_eigenpairs", key)
    tolerance = float(jnp.finfo(op.dtype).eps) ** 0.75 if tol is None else tol
    require_nonnegative("top_eigenpairs", tol=tolerance)
    limit = _limit("top_eigenpairs", k, num_rows, max_products)
    first = _start("top_eigenpairs", op, start)
    settings = Settings(
        k, num_rows, which, cast(tolerance, op.dtype), jnp.asarray(limit, jnp.int32)
    )
    if not is_followed((op, key, first, settings)):
        return _result(_led_by_host(op, first, key, settings), k)
    refuse_host("top_eigenpairs", op)
    fixed = jax.lax.stop_gradient((op, first, key, settings))
    found = _result(_traced(*fixed), k)
    return Eigenpairs(
        moving(op, found.vectors, found.values),
        found.vectors,
        found.residuals,
        found.converged,
        found.num_products,
    )


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["tol", "max_products"],
    meta_fields=["k", "num_rows", "which"],
)
@dataclass(frozen=True)
class Settings:
    """What a search is for: numbers that shapes depend on are static."""

    k: int
    num_rows: int
    which: Which
    tol: Scalar
    max_products: Count


def _start_search(first: Flat, key: PRNGKey, settings: Settings) -> Search:
    unknown = jnp.full(settings.k, jnp.nan, first.dtype)
    return Search(
        krylov=begin(first, key, settings.num_rows),
        values=unknown,
        residuals=unknown,
        converged=jnp.zeros(settings.k, bool),
        confirmed=unknown,
        num_products=jnp.zeros((), jnp.int32),
        target=jnp.asarray(settings.num_rows, jnp.int32),
        is_done=jnp.zeros((), bool),
    )


def _close_cycle(search: Search, settings: Settings) -> Search:
    """Solve the projected problem; stop, restart, or look for further copies."""
    k, num_rows = settings.k, settings.num_rows
    krylov, size = search.krylov, search.krylov.current.size
    found = ritz(krylov, settings.which)
    values, residuals = found.values[:k], found.residuals[:k]
    within = jnp.maximum(settings.tol, rounding(values.dtype, num_rows)) * found.scale
    converged = (residuals <= within) & all_finite(krylov)
    is_settled = jnp.all(converged)
    # a space that is all of it has no copies outside; values that stay have none that is found
    is_whole = krylov.length == size
    stays = jnp.all(jnp.abs(values - search.confirmed) <= within)
    has_looked = (krylov.length == num_rows) | _stands_apart(found, k, settings.which)
    is_spent = search.num_products >= settings.max_products
    is_done = (is_settled & (is_whole | (stays & has_looked))) | is_spent | ~all_finite(krylov)
    is_check = is_settled & ~is_done & ~stays
    # besides the wanted ones some more are kept: they make the next cycle start nearer
    more = jnp.minimum(jnp.sum(converged, dtype=jnp.int32) + 1, (num_rows - k) // 2)
    num_kept = jnp.where(is_check | is_done, k, jnp.minimum(k + more, krylov.length))
    krylov = restarted(krylov, found, num_kept)
    krylov = refreshed(krylov, found.residuals, is_check)
    target = jnp.where(is_check, jnp.minimum(num_rows, k + _CHECK), num_rows).astype(jnp.int32)
    return Search(
        krylov=krylov,
        values=values,
        residuals=residuals,
        converged=converged,
        confirmed=jnp.where(is_check, values, search.confirmed),
        num_products=search.num_products,
        target=target,
        is_done=is_done,
    )


def _stands_apart(found: Ritz, k: int, which: Which) -> Flag:
    """Tell whether the first Ritz value that is not wanted is none that should be."""
    if k == found.values.size:
        return jnp.ones((), bool)
    ends = found.values[k] + jnp.array([-1.0, 1.0], found.values.dtype) * found.residuals[k]
    return jnp.min(scores(ends, which)) > scores(found.values[k - 1], which)


_start_compiled = jax.jit(_start_search)
_close_compiled = jax.jit(
    lambda basis, search, settings: _close_cycle(_with_basis(search, basis), settings),
    donate_argnums=0,
)


def _with_basis(search: Search, basis: Rows | None) -> Search:
    return search._replace(krylov=search.krylov._replace(basis=basis))


def _led_by_host(op: Operator, first: Flat, key: PRNGKey, settings: Settings) -> Search:
    """Drive the search by a loop of Python, which asks the device at restarts alone."""
    search = _start_compiled(first, key, settings)
    done, length, target, num_products = False, 0, settings.num_rows, 0
    limit = int(settings.max_products)
    while not done:
        krylov = search.krylov
        while length < target and num_products < limit:
            krylov = grown(op, krylov)
            length, num_products = length + 1, num_products + 1
        search = search._replace(
            krylov=krylov._replace(basis=None), num_products=np.int32(num_products)
        )
        search = _close_compiled(krylov.basis, search, settings)
        asked = search.is_done, search.krylov.length, search.target
        done, length, target = (value.item() for value in jax.device_get(asked))
    return search


def _traced(op: Operator, first: Flat, key: PRNGKey, settings: Settings) -> Search:
    """Drive the search by loops of XLA."""

    def is_open(search: Search) -> Flag:
        is_below_limit = search.num_products < settings.max_products
        return (search.krylov.length < search.target) & is_below_limit

    def grow(search: Search) -> Search:
        krylov = extend(search.krylov, op.matvec(search.krylov.current))
        return search._replace(krylov=krylov, num_products=search.num_products + 1)

    def cycle(search: Search) -> Search:
        return _close_cycle(control_flow.while_loop(is_open, grow, search), settings)

    search = _start_search(first, key, settings)
    return control_flow.while_loop(lambda search: ~search.is_done, cycle, search)


def _result(search: Search, k: int) -> Eigenpairs:
    return Eigenpairs(
        search.values,
        search.krylov.basis[:k],
        search.residuals,
        search.converged,
        search.num_products,
    )


def _check(caller: str, op: Any, k: int, which: Any, basis: Any) -> int:
    """Refuse what is static and wrong, and return the number of rows to keep."""
    check_operator(caller, op)
    size = op.size
    number = require_count(caller, k=k)
    if not 1 <= number <= size:
        raise ValueError(f"{caller} needs 1 <= k <= op.size ({size}), got k={k}.")
    if which not in get_args(Which.__value__):
        raise ValueError(
            f"{caller} needs which to be 'largest', 'smallest' or 'magnitude', got which={which!r}."
        )
    num_rows = max(2 * k + 1, 20) if basis is None else require_count(caller, basis=basis)
    if num_rows <= k and num_rows < size:
        raise ValueError(
            f"{caller} needs k < basis or basis >= op.size ({size}), got k={k}, basis={basis}."
        )
    return min(num_rows, size)


def is_followed(tree: PyTree) -> bool:
    """Tell whether a transformation is under way, so that loops have to be XLA's."""
    return is_tracing() or any(map(is_traced, jax.tree.leaves(tree)))


def refuse_host(caller: str, op: Operator) -> None:
    """Refuse an operator that no transformation can hold."""
    if op.needs_host:
        raise TypeError(
            f"{caller} needs data on the device under a transformation such as jit, vmap or grad, "
            "got an operator whose batches come from the host."
        )


def check_operator(caller: str, op: Any) -> None:
    """Refuse what is no operator."""
    if not isinstance(op, Operator):
        raise TypeError(f"{caller} needs an Operator as op, got {type(op).__name__}.")


def require_count(caller: str, **value: Any) -> int:
    """Return a whole number, or refuse it by name."""
    ((name, given),) = value.items()
    number = whole_number(given)
    if number is None:
        raise TypeError(f"{caller} needs a whole number as {name}, got {name}={given!r}.")
    return number


def _limit(caller: str, k: int, num_rows: int, max_products: Any) -> Any:
    if max_products is None:
        return 100 * num_rows
    if not isinstance(max_products, jax.Array):
        require_count(caller, max_products=max_products)
    if is_below(max_products, k):
        raise ValueError(
            f"{caller} needs max_products >= k ({k}), got max_products={max_products}."
        )
    return as_limit(max_products)


def _start(caller: str, op: Operator, start: PyTree) -> Flat:
    """Return the vector to start with; zeros stand for a random one."""
    size, dtype = op.size, op.dtype
    if start is None:
        return jnp.zeros(size, dtype)
    is_rows = getattr(start, "ndim", None) == 2 and start.shape[1] == size
    vector = jnp.sum(jnp.asarray(start), axis=0) if is_rows else ravel(start)[0]
    if vector.size != size:
        raise ValueError(
            f"{caller} needs a start of op.size ({size}) numbers, or rows of them, got "
            f"{vector.size}."
        )
    numbers = known(vector)
    if numbers is not None and not numbers.any():
        raise ValueError(f"{caller} needs a start that is not zero, got zeros.")
    return vector.astype(dtype)
