"""Gaussian averages of any activation, exact at its kinks and jumps as well.

A quadrature rule converges fast only where the function is smooth. So the activation is first
*resolved*: panels are split until a polynomial of degree 7 fits it in each, which leaves tiny
panels around every kink and jump, wherever they are. Their edges belong to the activation, not to
the Gaussian, so that the same edges serve every variance, also a traced one.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxopt_tut.initializers.activations import (
    NUM_POINTS,
    activation_name,
    require_activation,
)
from jaxopt_tut.initializers.singularities import Core, find_singularities
from jaxopt_tut.tracing import known
from jaxopt_tut.types import Activation, Scalar

RADIUS = 16.0
"""Standard deviations to integrate over; what lies outside weighs exp(-128)."""

SMALLEST_VARIANCE = 2.0**-60
"""Smaller variances are taken as this one, to keep the derivative at zero."""

_MOMENTS = ("second moment", "second moment of the derivative")

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)
_POSITIVE = [0.5, 1, 1.5, 2, 2.5, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]
_STANDARD_EDGES = np.array([-edge for edge in reversed(_POSITIVE)] + [0.0] + _POSITIVE)

# One evaluation looks at 64 panels, at 8 nodes in each of their 16 children. Its shape never
# changes, so that each operation of an activation is compiled once.
_NUM_CHILDREN = 16
_BATCH = NUM_POINTS // (8 * _NUM_CHILDREN)
_MAX_ROUNDS = 24
_CHILD_NODES = (2 * np.arange(_NUM_CHILDREN)[:, None] + 1 + _NODES[None, :]).ravel()
_CHILD_NODES = _CHILD_NODES / _NUM_CHILDREN - 1
_LEGENDRE = np.polynomial.legendre.legvander
_INTERPOLATE = np.linalg.solve(_LEGENDRE(_NODES, 7).T, _LEGENDRE(_CHILD_NODES, 7).T)


class Panels(NamedTuple):
    """Where an activation is smooth, and its values there.

    Attributes:
      edges: The ends of the panels, increasing.
      nodes: Eight points in each panel; empty if the activation closes over a traced value, which
        leaves only the standard edges.
      weights: Their weights in an integral over x.
      values: The activation at the nodes, and its derivative where asked for.
    """

    edges: Float[np.ndarray, " edge"]
    nodes: Float[np.ndarray, " node"]
    weights: Float[np.ndarray, " node"]
    values: Float[np.ndarray, "channel node"]


class Rule(NamedTuple):
    """Nodes and weights of an average over x ~ N(0, variance).

    The weight of a node is `width * density**2`. Multiply a function by `density` before squaring
    it: its square may overflow where the Gaussian would have made up for it.

    Attributes:
      x: The nodes.
      z: The same in standard deviations.
      width: The weight of each node in an integral over z.
      density: The square root of the standard normal density at z.
    """

    x: Float[Array, " node"]
    z: Float[Array, " node"]
    width: Float[Array, " node"]
    density: Float[Array, " node"]


class _Panel(NamedTuple):
    low: float
    high: float
    values: np.ndarray  # channel, node
    scale: np.ndarray  # of each channel
    miss: float


def resolve(caller: str, activation: Activation, *, slopes: bool) -> Panels:
    r"""Split the line from -64 to 64 until a polynomial of degree 7 fits in every panel.

    A panel $P$ around $x$ is smooth when its polynomial $p$ meets $f$ at 128 points inside it,

    $$\frac{|P|}{1 + x^2} \operatorname{mean} |p - f|
      \le 16\, \varepsilon \max_{|y| \le |x|} |f(y)|,$$

    for $f = \phi$ and, with `slopes`, $f = \phi'$; else it is split in sixteen, the worst first.
    The factor in front is a density with heavier tails than any Gaussian; $\varepsilon$ is the
    precision, at least 1e-9 / 16. Costs 4 evaluations at 8192 points for a smooth activation, and
    about 4 more in single precision for one with kinks.
    """
    with jax.ensure_compile_time_eval():
        eps = require_activation(caller, activation)
        ends = np.stack([_STANDARD_EDGES[:-1], _STANDARD_EDGES[1:]], axis=1)
        values = _evaluate(activation, ends, _NODES, slopes)
        if values is None:
            nothing = np.zeros(0)
            return Panels(_STANDARD_EDGES, nothing, nothing, nothing[None])
        panels = _split(
            _first_panels(ends, values),
            lambda ends: _evaluate(activation, ends, _CHILD_NODES, slopes),
            max(16 * eps, 1e-9),
        )
    ends = np.array([(panel.low, panel.high) for panel in panels])
    return Panels(
        edges=np.append(ends[:, 0], ends[-1, 1]),
        nodes=_points(ends, _NODES).ravel(),
        weights=((ends[:, 1] - ends[:, 0])[:, None] / 2 * _WEIGHTS[None, :]).ravel(),
        values=np.concatenate([panel.values for panel in panels], axis=1),
    )


def smooth_edges(
    caller: str, activation: Activation, channels: Sequence[int]
) -> Float[np.ndarray, "edge"]:
    """Return the ends of the panels in which an activation is smooth, once they are settled."""
    panels = resolve(caller, activation, slopes=True)
    return settle(caller, activation, panels, channels).edges


def settle(caller: str, activation: Activation, panels: Panels, channels: Sequence[int]) -> Panels:
    """Integrate singularities by themselves, and refuse those whose mean square is infinite.

    The channels are those whose mean squares are needed, 0 for the function and 1 for its
    derivative; the values of the last of them are kept.
    """
    if not panels.nodes.size:
        return panels
    slopes = len(panels.values) > 1
    edges, values = panels.edges, panels.values[channels[-1]].reshape(-1, _NODES.size)
    cores: list[Core] = []
    x = jax.ShapeDtypeStruct((NUM_POINTS,), jnp.result_type(float))
    is_coarse = bool(jnp.finfo(jax.eval_shape(activation, x).dtype).bits < 32)
    with jax.ensure_compile_time_eval():
        for channel in channels:

            def evaluate(points, channel=channel):
                values = _evaluate_points(activation, points, slopes)
                assert values is not None  # traced ones have no nodes
                return values[channel]

            own = panels.values[channel].reshape(-1, _NODES.size)
            cores = find_singularities(evaluate, edges, own, RADIUS, is_coarse=is_coarse)
            infinite = [core.place for core in cores if not core.is_finite]
            if infinite:
                raise ValueError(
                    f"{caller} needs an activation with a finite {_MOMENTS[channel]}, got "
                    f"{activation_name(activation)}, whose mean square under N(0, 1) does not "
                    f"converge around x = {max(infinite, key=lambda x: (-abs(x), x)):.6g}."
                )
        if not cores:
            return panels._replace(values=panels.values[channels[-1]][None])
        ends, values = _cut(np.stack([edges[:-1], edges[1:]], axis=1), values, cores, evaluate)
    inside = [core.place + sign * core.inner for core in cores for sign in (-1, 1)]
    shells = [
        core.place + sign * core.inner * 2.0**k
        for core in cores
        for k in range(1, int(np.log2(core.radius / core.inner)) + 1)
        for sign in (-1, 1)
    ]
    return Panels(
        edges=np.unique(np.concatenate([ends.ravel(), inside, shells])),
        nodes=np.concatenate([_points(ends, _NODES).ravel(), *(core.nodes for core in cores)]),
        weights=np.concatenate(
            [
                ((ends[:, 1] - ends[:, 0])[:, None] / 2 * _WEIGHTS[None, :]).ravel(),
                *(core.weights for core in cores),
            ]
        ),
        values=np.concatenate([values.ravel(), *(core.values for core in cores)])[None],
    )


def _cut(
    ends: Float[np.ndarray, "panel 2"],
    values: Float[np.ndarray, "panel 8"],
    cores: Sequence[Core],
    evaluate: Callable[[np.ndarray], np.ndarray],
) -> tuple[Float[np.ndarray, "rest 2"], Float[np.ndarray, "rest 8"]]:
    """Take the surroundings of the singularities out of the panels."""
    for core in cores:
        low, high = core.place - core.radius, core.place + core.radius
        is_whole = (ends[:, 1] <= low) | (ends[:, 0] >= high)
        below = [(a, low) for a, b in ends[~is_whole] if a < low]
        above = [(high, b) for a, b in ends[~is_whole] if b > high]
        rest = np.array([*below, *above]).reshape(-1, 2)
        anew = evaluate(_points(rest, _NODES).ravel()).reshape(-1, _NODES.size)
        ends = np.concatenate([ends[is_whole], rest])
        values = np.concatenate([values[is_whole], anew])
    return ends, values


def _split(
    pending: list[_Panel],
    evaluate_children: Callable[[np.ndarray], np.ndarray | None],
    tolerance: float,
) -> list[_Panel]:
    """Split the panels whose polynomial misses the function until none is left, or time is up."""
    smooth = []
    for _ in range(_MAX_ROUNDS):
        pending.sort(key=lambda panel: -panel.miss)
        batch, pending = pending[:_BATCH], pending[_BATCH:]
        if not batch:
            break
        ends = np.array([(panel.low, panel.high) for panel in batch])
        values = evaluate_children(ends)
        assert values is not None  # an activation with traced values has no panels to split
        for i, miss in enumerate(_misfits(batch, ends, values)):
            if miss > tolerance:
                pending += _children(batch[i], values[:, i], miss)
            else:  # also where the activation overflows: no Gaussian reaches there
                smooth.append(batch[i])
    return sorted(smooth + pending, key=lambda panel: panel.low)


def _first_panels(
    ends: Float[np.ndarray, "panel 2"], values: Float[np.ndarray, "channel panel 8"]
) -> list[_Panel]:
    """Build the standard panels; each knows the size of the function out to its own distance."""
    reach = np.abs(ends).max(axis=1)
    largest = np.where(np.isfinite(values), np.abs(values), 0).max(axis=2)
    return [
        _Panel(low, high, values[:, i], largest[:, reach <= reach[i]].max(axis=1), np.inf)
        for i, (low, high) in enumerate(ends)
    ]


def _points(
    ends: Float[np.ndarray, "panel 2"], nodes: Float[np.ndarray, "node"]
) -> Float[np.ndarray, "panel node"]:
    low, high = ends[:, :1], ends[:, 1:]
    return (low + high) / 2 + (high - low) / 2 * nodes[None, :]


def _evaluate(
    activation: Activation,
    ends: Float[np.ndarray, "panel 2"],
    nodes: Float[np.ndarray, "node"],
    slopes: bool,
) -> Float[np.ndarray, "channel panel node"] | None:
    """Return the channels at each panel's nodes, or None if they are traced."""
    points = _points(ends, nodes)
    values = _evaluate_points(activation, points.ravel(), slopes)
    return values if values is None else values.reshape(-1, *points.shape)


def _evaluate_points(
    activation: Activation, points: Float[np.ndarray, "point"], slopes: bool
) -> Float[np.ndarray, "channel point"] | None:
    parts = []
    for start in range(0, points.size, NUM_POINTS):
        part = points[start : start + NUM_POINTS]
        x = jnp.asarray(np.resize(part, NUM_POINTS), jnp.result_type(float))  # keeps the shape
        channels = value_and_slope(activation, x) if slopes else (activation(x),)
        found = [values for values in map(known, channels) if values is not None]
        if len(found) < len(channels):
            return None
        parts.append(np.stack(found).astype(float)[:, : part.size])
    return np.concatenate(parts, axis=1) if parts else np.zeros((1 + slopes, 0))


def _misfits(
    batch: list[_Panel],
    ends: Float[np.ndarray, "panel 2"],
    values: Float[np.ndarray, "channel panel child"],
) -> Float[np.ndarray, "panel"]:
    """Measure how far each panel's polynomial is from what its children see."""
    own = np.stack([panel.values for panel in batch], axis=1)
    scale = np.stack([panel.scale for panel in batch], axis=1)
    weight = (ends[:, 1] - ends[:, 0]) / (1 + ends.mean(axis=1) ** 2)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        return (np.abs(values - own @ _INTERPOLATE).mean(axis=2) / scale * weight).max(axis=0)


def _children(
    panel: _Panel, values: Float[np.ndarray, "channel child"], miss: float
) -> list[_Panel]:
    edges = np.linspace(panel.low, panel.high, _NUM_CHILDREN + 1)
    return [
        _Panel(edges[i], edges[i + 1], part, panel.scale, miss)
        for i, part in enumerate(np.split(values, _NUM_CHILDREN, axis=1))
    ]


def value_and_slope(
    activation: Activation, x: Float[Array, "*shape"]
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """Evaluate an elementwise function and its derivative."""
    try:
        return jax.jvp(activation, (x,), (jnp.ones_like(x),))
    except TypeError:  # functions with a custom VJP know no forward mode
        value, pullback = jax.vjp(activation, x)
        return value, pullback(jnp.ones_like(value))[0]


def gaussian_rule(variance: Scalar, edges: Float[np.ndarray, "edge"]) -> Rule:
    r"""Build the nodes and weights of an average over a centred Gaussian.

    $$E[f(x)] = \int f(\sqrt q\, z) \frac{e^{-z^2/2}}{\sqrt{2\pi}}\, dz
      \approx \sum_i \text{width}_i\, \text{density}_i^2\, f(x_i), \qquad x_i = \sqrt q\, z_i.$$

    Eight Gauss-Legendre nodes on each panel between the given edges and a grid of a quarter
    standard deviation. The edges stay where they are in x while the grid moves with q, so that
    derivatives in q are exact at the kinks too.
    """
    dtype = variance.dtype
    root = jnp.sqrt(jnp.maximum(variance, SMALLEST_VARIANCE))
    grid = jnp.asarray(np.linspace(-RADIUS, RADIUS, 129), dtype)
    kinks = jnp.clip(jnp.asarray(edges, dtype) / root, -RADIUS, RADIUS)
    ends = jnp.sort(jnp.concatenate([grid, kinks]))
    middle, half = (ends[1:] + ends[:-1]) / 2, (ends[1:] - ends[:-1]) / 2
    nodes, weights = jnp.asarray(_NODES, dtype), jnp.asarray(_WEIGHTS, dtype)
    # The nodes of empty panels weigh nothing, but must not fall on the edge itself, where the
    # activation may have no value.
    apart = jnp.maximum(4 * jnp.finfo(dtype).eps * jnp.abs(middle), SMALLEST_VARIANCE)
    reach = jnp.where(half > 0, half, apart)
    z = (middle[:, None] + reach[:, None] * nodes[None, :]).ravel()
    width = (half[:, None] * weights[None, :]).ravel()
    density = jnp.exp(-z * z / 4) / (2 * np.pi) ** 0.25
    return Rule(x=root * z, z=z, width=width, density=density)
