r"""Where an activation has no bound, and whether its mean square has one all the same.

Around a singularity $x_0$ the mean square is a sum over shells,

$$\int f^2 = \sum_k S_k, \qquad S_k = \int_{2^k r}^{2^{k+1} r} f(x_0 \pm \delta)^2\, d\delta,$$

and for $f \sim \delta^{-a}$ neighbours have the ratio $S_k / S_{k+1} = 2^{2a - 1}$. The sum
converges where that is below 1, and what lies inside of the smallest shell is then a geometric
series.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

_NARROW = 2.0**-8  # a panel this narrow is at a kink, a jump or a singularity
_GROWTH = 2.0  # times the size around it: less is no singularity worth a closer look
_MAX_POINTS = 64
_NUM_ZOOMS = 12
_INTERVALS = 16
_CORE = 2  # the innermost two shells are for the check alone
_FIT = 4  # number of shells whose decay is continued inwards
_STEADY = 0.15  # of the exponent, from shell to shell
_DIVERGENT = 0.99  # a ratio that cannot be told from 1

_SIMPSON = np.array([1] + [4, 2] * (_INTERVALS // 2 - 1) + [4, 1]) / 3


class Core(NamedTuple):
    """The surroundings of a singularity, integrated by themselves.

    Attributes:
      place: Where it is.
      radius: How far the nodes reach.
      inner: Half the width of what is not looked at but continued from outside.
      nodes: The points around it, and one on each side for what lies inside of `inner`.
      weights: Their weights in an integral over x.
      values: The function there.
      is_finite: Whether the mean square converges.
    """

    place: float
    radius: float
    inner: float
    nodes: np.ndarray
    weights: np.ndarray
    values: np.ndarray
    is_finite: bool


def find_singularities(
    evaluate: Callable[[np.ndarray], np.ndarray],
    edges: Float[np.ndarray, "edge"],
    values: Float[np.ndarray, "panel node"],
    reach: float,
    *,
    is_coarse: bool = False,
) -> list[Core]:
    """Find where a resolved function has no bound, and integrate it there.

    Values that are too coarse for the panels to narrow at a singularity are looked through for
    peaks.
    """
    found = _candidates(edges, values, reach, is_coarse)
    places = [_locate(evaluate, place, width) for place, width in found]
    cores = []
    for place in sorted(set(places)):
        gaps = [abs(place - other) for other in places if other != place]
        core = _integrate(evaluate, place, min(gaps, default=np.inf) / 2)
        if core is not None:
            cores.append(core)
    return cores


def _candidates(
    edges: Float[np.ndarray, "edge"],
    values: Float[np.ndarray, "panel node"],
    reach: float,
    is_coarse: bool,
) -> list[tuple[float, float]]:
    """Return place and width of the narrow panels with values far above those around them."""
    widths, middles = np.diff(edges), (edges[1:] + edges[:-1]) / 2
    with np.errstate(invalid="ignore"):
        sizes = np.abs(values).max(axis=1)
    sizes = np.where(np.isfinite(sizes), sizes, np.inf)
    if is_coarse:
        starts = np.flatnonzero((sizes[1:-1] >= sizes[:-2]) & (sizes[1:-1] >= sizes[2:])) + 1
        ends = starts + 1
    else:
        narrow = widths < _NARROW * np.maximum(1, np.abs(middles))
        starts = np.flatnonzero(narrow & ~np.append(False, narrow[:-1]))
        ends = np.flatnonzero(narrow & ~np.append(narrow[1:], False)) + 1
    found = []
    for start, end in zip(starts, ends, strict=True):
        around = [sizes[i] for i in (start - 1, end) if 0 <= i < len(sizes)]
        around = min((size for size in around if np.isfinite(size)), default=0.0)
        # Highest first; among equals the narrowest, which is nearest.
        best = min(range(start, end), key=lambda i: (-sizes[i], widths[i]))
        if sizes[best] > _GROWTH * around and abs(middles[best]) < reach:
            found.append((float(sizes[best]), float(middles[best]), float(widths[best])))
    found.sort(key=lambda item: -item[0] * np.exp(-(item[1] ** 2) / 4))
    return [(place, width) for _, place, width in found[:_MAX_POINTS]]


def _locate(evaluate: Callable[[np.ndarray], np.ndarray], place: float, width: float) -> float:
    """Zoom in on the largest value until the numbers end."""
    # A few units in the last place at least: the panels are narrower than that.
    half = max(2 * width, 8 * _spacing(place))
    for _ in range(_NUM_ZOOMS):
        points = place + half * np.linspace(-1, 1, 129)
        if abs(place) <= half:
            points[0] = 0.0
        points = _representable(points)
        sizes = np.abs(evaluate(points))
        sizes = np.where(np.isfinite(sizes), sizes, np.inf)
        highest = points[sizes == sizes.max()]
        place = float(highest[np.argmin(np.abs(highest - highest.mean()))])
        if place == 0 or half < 2 * _spacing(place):
            break
        half /= 16
    return 0.0 if abs(place) < 2.0**-50 else place


def _integrate(
    evaluate: Callable[[np.ndarray], np.ndarray], place: float, limit: float
) -> Core | None:
    """Add up the shells; None if there is no singularity after all."""
    unit = 2.0**-64 if place == 0 else 2 * _spacing(place)
    largest = min(limit, _NARROW * max(1.0, abs(place)))
    num_shells = int(np.floor(np.log2(largest / (_INTERVALS * unit))))
    if num_shells < _CORE + _FIT + 1:
        return None
    step = unit * 2.0 ** np.arange(num_shells)[:, None]
    distance = step * (_INTERVALS + np.arange(_INTERVALS + 1))
    inner = float(distance[_CORE, 0])
    parts, is_finite, is_singular = [], True, False
    at_place = evaluate(_representable(np.array([place])))
    for sign in (-1, 1):
        nodes = place + sign * distance
        f = evaluate(nodes.ravel()).reshape(nodes.shape)
        weights = step * _SIMPSON
        with np.errstate(all="ignore"):
            shells = (weights * f**2).sum(axis=1)
            ratios = shells[:-1] / shells[1:]
            ratio = (shells[_CORE] / shells[_CORE + _FIT]) ** (1 / _FIT)
            exponents = np.log2(ratios[: _CORE + _FIT])
        if np.isnan(f).any() or np.isinf(f[-1]).any():
            return None  # not defined, or overflowing, on all of this side: another complaint
        if not np.isfinite(shells).all():
            is_finite = False
            break
        if shells[: _CORE + _FIT + 1].min() <= 0:  # zero on this side
            mass = tail = 0.0
        elif ratio >= _DIVERGENT and ratios[:_CORE].min() > 0.8:
            is_finite = False
            break
        elif np.ptp(exponents) > _STEADY:
            return None
        else:
            is_singular |= ratio > 0.5 * 2**0.05
            tail = shells[_CORE] * ratio / (1 - ratio)
            mass = _continue((weights * f).sum(axis=1))
        # One node with the sums of f and of its square.
        weight, value = (mass**2 / tail, tail / mass) if mass and tail else (inner, 0.0)
        parts.append((nodes[_CORE:].ravel(), weights[_CORE:].ravel(), f[_CORE:].ravel()))
        parts.append(([place + sign * inner / 2], [weight], [value]))
    if not is_finite:
        nothing = np.zeros(0)
        return Core(place, 0.0, 0.0, nothing, nothing, nothing, False)
    if not is_singular and np.isfinite(at_place).all():
        return None
    nodes, weights, values = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Core(place, float(distance[-1, -1]), inner, nodes, weights, values, True)


def _continue(shells: Float[np.ndarray, "shell"]) -> float:
    """Continue the shells of the function itself inwards, as a geometric series."""
    ratio = shells[_CORE] / shells[_CORE + _FIT] if shells[_CORE + _FIT] else 0.0
    ratio = min(max(ratio, 0.0) ** (1 / _FIT), 0.99)
    return float(shells[_CORE] * ratio / (1 - ratio))


def _spacing(place: float) -> float:
    return float(np.spacing(np.asarray(abs(place), jnp.result_type(float))))


def _representable(points: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    return np.asarray(points, jnp.result_type(float)).astype(float)
