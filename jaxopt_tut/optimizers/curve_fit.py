"""Curves through data: parameters, their standard errors, and a table of both."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact
from typing_extensions import TypeAliasType

from jaxopt_tut.blocks import Block, brief, has_numbers, number, numbers
from jaxopt_tut.optimizers.covariance import Covariance, covariance_of
from jaxopt_tut.optimizers.least_squares import fit_squares
from jaxopt_tut.optimizers.robust_losses import RobustLoss, RobustSquares, require_loss_name
from jaxopt_tut.optimizers.scipy_words import BoundsLike
from jaxopt_tut.optimizers.solution import Solution
from jaxopt_tut.optimizers.starts import as_start
from jaxopt_tut.tracing import is_traced
from jaxopt_tut.trees import named_leaves
from jaxopt_tut.types import Number, Optimizer, Params, PyTree

Model = TypeAliasType("Model", Callable[..., Any])
"""`model(x, params)` returns an array."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Fit(Block):
    """A fitted curve; prints as a table of parameters and standard errors.

    Attributes:
      params: The parameters.
      standard_errors: Theirs, in a tree alike.
      covariance: The matrix, and whether the data determine the parameters.
      solution: Where and why the search ended.
    """

    params: Params
    standard_errors: Params
    covariance: Covariance
    solution: Solution

    def _block(self) -> tuple[str, list[tuple[str, str]]]:
        """Return a line for each number, if there are numbers and not many."""
        values, errors = named_leaves(self.params), jax.tree.leaves(self.standard_errors)
        rows: list[tuple[str, str]] = []
        for (path, value), error in zip(values, errors, strict=True):
            name = "" if value is self.params else path
            is_seen = has_numbers(value) and has_numbers(error) and np.size(value) <= _MOST
            found, beside = (numbers(value), numbers(error)) if is_seen else (None, None)
            if found is None or beside is None:
                rows.append((name or "params", brief(value, only_shapes=True)))
                continue
            for i in np.ndindex(found.shape):
                place = f"[{','.join(map(str, i))}]" if i else ""
                text = f"{number(found[i])} +- {number(beside[i])}"
                rows.append((f"{name}{place}" or "params", text))
        code = numbers(self.solution.status.code)
        words = self.solution.message if code is not None and code.ndim == 0 else "of many, or none"
        return "Fit (value +- standard error)", [*rows, ("message", str(words))]


_MOST = 20
"""Numbers shown of a leaf."""


@dataclasses.dataclass(frozen=True)
class _Weighted:
    """Residuals of a model, whitened; equal for the same model."""

    model: Callable[..., Any]

    def __call__(self, params: PyTree, x: PyTree, y: Array, sigma: Array | None) -> Array:
        difference = jnp.asarray(self.model(x, params)) - y
        if sigma is None:
            return difference
        if sigma.ndim == 2 and y.ndim == 1:
            factor = sigma.astype(difference.dtype)
            return jax.scipy.linalg.solve_triangular(factor, difference, lower=True)
        return difference / sigma


def curve_fit(
    model: Model,
    x: PyTree,
    y: Any,
    start: Params,
    *,
    sigma: Any = None,
    absolute_sigma: bool = False,
    bounds: BoundsLike | None = None,
    optimizer: Optimizer | None = None,
    loss: RobustLoss = "linear",
    loss_scale: Number = 1.0,
    **options: Any,
) -> Fit:
    r"""Fit a curve to data, with standard errors.

    $$\min_w \tfrac12 \sum_i \left(\frac{f(x_i, w) - y_i}{\sigma_i}\right)^2$$

    What `scipy.optimize.curve_fit` does, but for all parameters in one tree:
    `model(x, params)`, where SciPy has `f(x, *params)`. No program is compiled anew for the same
    model and shapes.

    Args:
      model: `model(x, params)` returns what is compared with `y`, in its shape.
      x: What the model takes: any tree of arrays.
      y: The data: an array of floating or complex numbers, or integers that are meant so.
      start: Where to start: any tree of floating arrays; a list of numbers becomes an array.
      sigma: Standard deviations of the data, one or as many as `y`; or, for a vector `y` of m
        numbers, their covariance matrix [m, m].
      absolute_sigma: Whether `sigma` is in the units of `y`; otherwise only ratios count, and the
        scale comes from the residuals.
      bounds: Those of `minimize`; standard errors are those without bounds.
      optimizer: Any optax transformation; `None`: `levenberg_marquardt()`.
      loss: What `least_squares` takes.
      loss_scale: $C$ there, in units of `sigma`.
      **options: Those of `least_squares`.

    Returns:
      The fit; it prints as a table.

    Raises:
      TypeError: If `model` takes `(params, x)` or `(x, *params)`, or `y` is no array of numbers;
        and what `least_squares` raises.
      ValueError: If the model's shape is not that of `y`, `sigma` fits neither, or a static one is
        not above 0, or not positive definite; and what `least_squares` raises.

    Example:
      >>> import jax.numpy as jnp
      >>> x, y = jnp.array([0.0, 1.0, 2.0, 3.0]), jnp.array([1.0, 3.1, 4.9, 7.0])
      >>> line = lambda x, w: w["offset"] + w["slope"] * x
      >>> fit = curve_fit(line, x, y, {"offset": 0.0, "slope": 1.0})
      >>> print(f"{fit.params['slope']:.2f} +- {fit.standard_errors['slope']:.4f}")  # (.009 / 5)^.5
      1.98 +- 0.0424

    References:
      Seber and Wild (1989), chapter 2. https://doi.org/10.1002/0471725315
    """
    caller = "curve_fit"
    if not callable(model):
        raise TypeError(f"{caller} needs a function model(x, params) first, got {model!r:.60}.")
    require_loss_name(caller, loss, loss_scale)
    start = as_start(caller, start)
    y = _data(y, start)
    x = jax.tree.map(jnp.asarray, _floating(x, y))
    _require_model(model, x, y, start)
    whitening = None if sigma is None else _whitening(sigma, y)
    squares = RobustSquares(caller, _Weighted(model), loss, loss_scale)
    args = x, y, whitening
    solution = fit_squares(squares, start, args, optimizer, bounds, options)
    found = covariance_of(squares, solution.params, args, absolute_sigma)
    return Fit(solution.params, found.standard_errors, found, solution)


def _data(y: Any, start: Params) -> Inexact[Array, "..."]:
    try:
        y = _floating(y, jax.tree.leaves(start)[0])
        return jnp.asarray(y)
    except (TypeError, ValueError):
        raise TypeError(f"curve_fit needs y to be an array of numbers, got {y!r:.60}.") from None


def _floating(x: PyTree, like: Array) -> PyTree:
    """Make arrays of NumPy's, lists and integers in the precision of what they go with."""
    if isinstance(x, list | tuple) and all(isinstance(v, int | float | np.number) for v in x):
        x = np.asarray(x)
    dtype = jnp.finfo(like.dtype).dtype

    def leaf(v: Any) -> Any:
        if isinstance(v, jax.Array) and jnp.issubdtype(v.dtype, jnp.inexact):
            return v
        is_real = isinstance(v, int | float) or jnp.asarray(v).dtype.kind in "iufb"
        return jnp.asarray(v, dtype) if is_real else jnp.asarray(v)

    return jax.tree.map(leaf, x)


def _require_model(model: Callable[..., Any], x: PyTree, y: Array, start: Params) -> None:
    """Refuse a model of another order of arguments, or of another shape."""
    right = "curve_fit needs model(x, params)"

    def shape(*args: PyTree) -> Any:
        return jax.tree.map(lambda leaf: leaf.shape, jax.eval_shape(model, *args))

    try:
        found = shape(x, start)
    except Exception as error:
        if _is_swapped(shape, x, y, start):
            raise TypeError(f"{right}, got one that takes (params, x).") from error
        if isinstance(error, TypeError) and "positional argument" in str(error):
            hint = "with all parameters in one tree"
            raise TypeError(f"{right}, {hint}, got another signature: {error}.") from error
        raise
    if found != y.shape:
        hint = "; it seems to take (params, x)" if _is_swapped(shape, x, y, start) else ""
        raise ValueError(f"{right} to return the shape of y, {y.shape}, got {found}{hint}.")


def _is_swapped(shape: Callable[..., Any], x: PyTree, y: Array, start: Params) -> bool:
    try:
        return shape(start, x) == y.shape
    except Exception:
        return False


def _whitening(sigma: Any, y: Array) -> Array:
    """Return standard deviations, or the lower triangle that divides as they do."""
    given = sigma
    sigma = jnp.asarray(_floating(sigma, y))
    is_matrix = y.ndim == 1 and sigma.shape == (y.size, y.size)
    if not (is_matrix or sigma.shape in ((), y.shape)):
        raise ValueError(
            f"curve_fit needs sigma to be a number, of the shape of y, {y.shape}, or a matrix "
            f"{(y.size, y.size)}, got shape {sigma.shape}."
        )
    if is_matrix:
        factor = jnp.linalg.cholesky(sigma)
        if not is_traced(sigma):
            _require_definite(np.asarray(sigma), np.asarray(factor))
        return factor
    if not isinstance(given, jax.Array) and not np.all(np.asarray(given) > 0):
        raise ValueError(f"curve_fit needs sigma > 0, got sigma={given!r:.60}.")
    return sigma


def _require_definite(sigma: np.ndarray, factor: np.ndarray) -> None:
    """Refuse what is no covariance matrix of noise in every direction."""
    eps = np.finfo(sigma.dtype).eps
    is_symmetric = np.allclose(sigma, sigma.T, rtol=np.sqrt(eps), atol=0)
    # of a singular matrix rounding may leave pivots a little above 0
    least = len(sigma) * eps * np.diagonal(sigma)
    is_definite = np.all(np.diagonal(factor) ** 2 > least)
    if not (is_symmetric and is_definite):
        raise ValueError(
            "curve_fit needs a symmetric positive definite matrix sigma, the covariance of y, "
            f"got one that is {'not definite' if is_symmetric else 'not symmetric'}."
        )
