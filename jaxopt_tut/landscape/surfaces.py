"""Surfaces with known answers: each is a function, its minima, its domain and a start.

A surface is a value, not a class to derive from: `Surface(fun, minima, domain, start, infimum)`.
`fun` takes one point, an array of shape (dim,), and returns a scalar; `jax.vmap` it for a grid.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from typing_extensions import TypeAliasType

from jaxopt_tut.blocks import in_a_line, shown
from jaxopt_tut.types import Scalar

__all__ = [
    "Surface",
    "beale",
    "double_well",
    "double_well_test",
    "himmelblau",
    "quadratic",
    "ravine",
    "rosenbrock",
    "shifted",
    "steep_optima",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)


Function = TypeAliasType("Function", Callable[[Array], Scalar])
"""A real function of one point, an array of shape (dim,)."""

Point = TypeAliasType("Point", Float[np.ndarray, "dim"])
"""One number a dimension, on the host."""

Numbers = TypeAliasType("Numbers", Sequence[Any] | np.ndarray | Array)
"""Numbers in a list, a list of lists, or an array."""


@shown
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Surface:
    """A function to be minimised together with what is known about it.

    Attributes:
      fun: Maps a point of shape (dim,) to a scalar.
      minima: The local minimisers, one a row; no rows if the infimum is not attained.
      domain: The lower and the upper corner of the box worth drawing.
      start: The point from which the experiments start.
      infimum: The greatest lower bound of `fun`.
    """

    fun: Function = dataclasses.field(metadata={"static": True})
    minima: Float[np.ndarray, "num_minima dim"]
    domain: tuple[Point, Point]
    start: Point
    infimum: float

    def _block(self) -> tuple[str, list[tuple[str, str]]]:
        """Return what is known of it; its function by its name."""
        dim = getattr(self.start, "shape", ("?",))[-1:]
        count = f"{dim[0]} parameter{'s' if dim[0] != 1 else ''}" if dim else "no parameters"
        names = ("fun", "minima", "domain", "start", "infimum")
        return f"Surface of {count}", [(name, _known(getattr(self, name))) for name in names]


def _known(part: Any) -> str:
    """Return a part in a line: the corners of a box as two points."""
    if isinstance(part, tuple):
        return " to ".join(in_a_line(corner) for corner in part)
    return in_a_line(part)


def _surface(
    fun: Function,
    *,
    minima: Numbers,
    lower: Numbers,
    upper: Numbers,
    start: Numbers,
    infimum: float,
) -> Surface:
    """Build a surface from plain lists; NumPy keeps the import free of device work."""
    start = np.asarray(start, np.float32)
    return Surface(
        fun=fun,
        minima=np.asarray(minima, np.float32).reshape(-1, start.size),
        domain=(np.asarray(lower, np.float32), np.asarray(upper, np.float32)),
        start=start,
        infimum=float(infimum),
    )


def _ravine(w: Float[Array, "2"]) -> Scalar:
    return jnp.tanh(w[0]) ** 2 + 0.01 * jnp.abs(w[0]) + jax.nn.sigmoid(w[1])


ravine = _surface(
    _ravine, minima=[], lower=[-7.5, -10.0], upper=[7.5, 10.0], start=[5.0, 5.0], infimum=0.0
)
r"""Pathological curvature: steep across, almost flat along.

$$f(w) = \tanh^2 w_1 + 0.01\,|w_1| + \sigma(w_2)$$

The infimum 0 is approached at $w_1 = 0, w_2 \to -\infty$ and never attained, so it has no minima.
"""

_CENTRES = np.array([[1.0, -0.5], [-1.0, 0.5], [-0.5, -0.8]], np.float32)
_SIGMA = 0.2


def _steep_optima(w: Float[Array, "2"]) -> Scalar:
    squares = jnp.sum((w - jnp.asarray(_CENTRES, w.dtype)) ** 2, axis=-1)
    return -jnp.sum(jnp.exp(-squares / (2 * _SIGMA**2))) / (2 * np.pi * _SIGMA**2)


steep_optima = _surface(
    _steep_optima,
    minima=_CENTRES,
    lower=[-2.0, -2.0],
    upper=[2.0, 2.0],
    start=[0.0, 0.0],
    # The other two centres lie over 6 sigma away: they change the depth by less than 1e-8.
    infimum=-1 / (2 * np.pi * _SIGMA**2),
)
r"""Three deep and narrow wells in a plain: minus the sum of three normal densities.

$$f(w) = -\sum_{k=1}^{3} \frac{1}{2\pi\sigma^2} e^{-\|w - c_k\|^2 / 2\sigma^2},
\qquad \sigma = 0.2$$
"""

_FLAT, _SHARP = (-1.5, 0.8), (1.5, 0.12)


def _double_well(w: Float[Array, "1"]) -> Scalar:
    wells = [jnp.exp(-((w[0] - centre) ** 2) / (2 * width**2)) for centre, width in (_FLAT, _SHARP)]
    return 1 - wells[0] - wells[1]


double_well = _surface(
    _double_well,
    # The flat well's tail moves the sharp minimum by 2e-5 and makes it deeper by 9e-4.
    minima=[[_FLAT[0]], [_SHARP[0]]],
    lower=[-5.0],
    upper=[4.0],
    start=[0.4],
    infimum=-np.exp(-((_SHARP[0] - _FLAT[0]) ** 2) / (2 * _FLAT[1] ** 2)),
)
r"""A flat and a sharp minimum of (almost) the same depth on one axis.

$$f(w) = 1 - e^{-(w + 1.5)^2 / 2 \cdot 0.8^2} - e^{-(w - 1.5)^2 / 2 \cdot 0.12^2}$$

The flat minimum has curvature $1/0.8^2 = 1.6$, the sharp one $1/0.12^2 = 69$.
"""


def shifted(surface: Surface, offset: Numbers) -> Surface:
    r"""Move a surface: the *test* version of a training surface.

    $$g(w) = f(w - o)$$

    Args:
      surface: The surface $f$.
      offset: The displacement $o$, one number a dimension.

    Returns:
      The moved surface, minima and domain corners included; the start stays where it was.

    Raises:
      ValueError: If `offset` has not one number a dimension.

    Example:
      >>> moved = shifted(ravine, [1.0, 0.0])
      >>> bool(moved.fun(jnp.array([3.0, 2.0])) == ravine.fun(jnp.array([2.0, 2.0])))
      True
    """
    step = np.asarray(offset, np.float32)
    if step.shape != surface.start.shape:
        raise ValueError(
            f"shifted needs one offset a dimension, got shape {step.shape} "
            f"for a surface of shape {surface.start.shape}."
        )
    lower, upper = surface.domain
    return dataclasses.replace(
        surface,
        fun=lambda w: surface.fun(w - jnp.asarray(step, w.dtype)),
        minima=surface.minima + step,
        domain=(lower + step, upper + step),
    )


double_well_test = shifted(double_well, [0.25])
"""`double_well` moved by 0.25: what a test set does to a training loss."""


def quadratic(eigenvalues: Numbers) -> Surface:
    r"""Build an axis-aligned quadratic with the given curvatures.

    $$f(w) = \tfrac12 \sum_i \lambda_i w_i^2$$

    Args:
      eigenvalues: The positive curvatures $\lambda_i$, one a dimension.

    Returns:
      The surface; its only minimum is the origin, its start the point of ones.

    Raises:
      ValueError: If there is no eigenvalue or one is not positive.

    Example:
      >>> surface = quadratic([1.0, 10.0])
      >>> float(surface.fun(jnp.array([2.0, 1.0])))
      7.0
    """
    curvatures = np.asarray(eigenvalues, np.float32)
    if curvatures.ndim != 1 or curvatures.size == 0 or not np.all(curvatures > 0):
        raise ValueError(f"quadratic needs positive eigenvalues, got eigenvalues={eigenvalues}.")
    ones = np.ones_like(curvatures)
    return _surface(
        lambda w: 0.5 * jnp.sum(jnp.asarray(curvatures, w.dtype) * w**2),
        minima=0 * ones,
        lower=-1.5 * ones,
        upper=1.5 * ones,
        start=ones,
        infimum=0.0,
    )


rosenbrock = _surface(
    lambda w: (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2,
    minima=[[1.0, 1.0]],
    lower=[-2.0, -1.0],
    upper=[2.0, 3.0],
    start=[-1.2, 1.0],
    infimum=0.0,
)
r"""The banana valley of Rosenbrock (1960): $f(w) = (1 - w_1)^2 + 100\,(w_2 - w_1^2)^2$."""

beale = _surface(
    lambda w: (
        (1.5 - w[0] + w[0] * w[1]) ** 2
        + (2.25 - w[0] + w[0] * w[1] ** 2) ** 2
        + (2.625 - w[0] + w[0] * w[1] ** 3) ** 2
    ),
    minima=[[3.0, 0.5]],
    lower=[-4.5, -4.5],
    upper=[4.5, 4.5],
    start=[1.0, 1.0],
    infimum=0.0,
)
r"""Beale's function (1958): $f(w) = \sum_{k=1}^3 (c_k - w_1 (1 - w_2^k))^2$,
$c = (1.5, 2.25, 2.625)$."""

himmelblau = _surface(
    lambda w: (w[0] ** 2 + w[1] - 11) ** 2 + (w[0] + w[1] ** 2 - 7) ** 2,
    minima=[[3.0, 2.0], [-2.805118, 3.131312], [-3.77931, -3.283186], [3.584428, -1.848126]],
    lower=[-5.0, -5.0],
    upper=[5.0, 5.0],
    start=[0.0, 0.0],
    infimum=0.0,
)
r"""Himmelblau's function (1972), four equal minima:
$f(w) = (w_1^2 + w_2 - 11)^2 + (w_1 + w_2^2 - 7)^2$."""
