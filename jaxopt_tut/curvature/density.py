"""The distribution of all eigenvalues, by stochastic Lanczos quadrature."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from typing_extensions import TypeAliasType

from jaxopt_tut import control_flow
from jaxopt_tut.blocks import Block, brief, number
from jaxopt_tut.curvature.eigenpairs import (
    Eigenpairs,
    check_operator,
    is_followed,
    refuse_host,
    require_count,
    top_eigenpairs,
)
from jaxopt_tut.curvature.estimate import Estimate
from jaxopt_tut.curvature.lanczos import Krylov, begin, extend, first_rows, grown, orthonormal
from jaxopt_tut.curvature.operator import Operator
from jaxopt_tut.curvature.space import Rows
from jaxopt_tut.hyperparameters import cast, require_positive
from jaxopt_tut.keys import require_key
from jaxopt_tut.types import Number, PRNGKey, Scalar
from jaxopt_tut.vectors import magnitude

_POINTS = 1001
"""Of the grid that is made if none is given."""

_TOLERANCE = 1e-4
"""Of the outliers, in units of the norm: their values are wrong by its square."""

Points = TypeAliasType("Points", Float[Array, "*batch points"])
"""A number at each point of a grid."""

Nodes = TypeAliasType("Nodes", Float[Array, "*batch probes nodes"])
"""A number for each node of each probe."""

Ends = TypeAliasType("Ends", tuple[Float[Array, "..."], Float[Array, "..."]])
"""Lower and upper ends of intervals."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Density(Block):
    """A smoothed density of eigenvalues, with its standard errors, and what it was made of.

    Attributes:
      grid: Where it was evaluated.
      mean: The density there; its integral is 1.
      sem: Its standard errors, from the spread of the probes.
      nodes: Eigenvalues as each probe sees them, a row a probe: the outliers first.
      weights: Their masses; a row adds up to 1, an outlier has 1 / size.
      width: Standard deviation of the Gaussians.
      outliers: The eigenpairs that were taken out exactly; None if there were none.
      size: The number of all eigenvalues.
    """

    grid: Points
    mean: Points
    sem: Points
    nodes: Nodes
    weights: Nodes
    width: Array
    outliers: Eigenpairs | None
    size: int = field(metadata={"static": True})

    @property
    def degrees(self) -> int:
        """Degrees of freedom of the standard errors: one less than the probes."""
        return self.nodes.shape[-2] - 1

    def evaluate(self, grid: Number, width: Number | None = None) -> Estimate:
        r"""Return the density at other points or of another smoothness.

        $$\rho(x) = \frac1p \sum_{i,j} w_{ij}\, \mathcal N(x - \theta_{ij}; \sigma^2)$$

        Args:
          grid: The points x.
          width: Standard deviation $\sigma > 0$. Below the distance of nodes the density is that of
            the quadrature and not of the operator, and its intervals do not cover.

        Returns:
          Mean and standard error.

        Raises:
          ValueError: If `width` is not positive.
        """
        width = self.width if width is None else width
        require_positive("Density.evaluate", finite=True, width=width)
        points = jnp.asarray(grid).astype(self.nodes.dtype)
        doubt = None if self.outliers is None else self.outliers.residuals
        return _smooth_estimate(points, self.nodes, self.weights, cast(width, points.dtype), doubt)

    def interval(self, level: float = 0.95) -> Ends:
        """Return intervals around `mean` that cover the density at a point with a probability.

        They are Student's, as the errors themselves come from a few probes, and end at 0.

        Args:
          level: The probability, in (0, 1).

        Returns:
          The lower and the upper ends.

        Raises:
          ValueError: If `level` is not in (0, 1).
        """
        low, high = Estimate(self.mean, self.sem, degrees=self.degrees).interval(level)
        return jnp.maximum(low, 0), high

    def cumulative(self, grid: Number | None = None) -> Estimate:
        r"""Return the share of eigenvalues up to some points, without smoothing.

        $$F(x) = \frac1p \sum_{i} \sum_{\theta_{ij} \le x} w_{ij}$$

        Args:
          grid: The points; by default those of `grid`.

        Returns:
          Mean and standard error. A node stands for all mass near it: inside of a bulk F is right
          to the mass of one.
        """
        points = self.grid if grid is None else jnp.asarray(grid).astype(self.nodes.dtype)
        is_below = self.nodes <= points[..., None, None]
        return _averaged(
            jnp.moveaxis(jnp.sum(jnp.where(is_below, self.weights, 0), axis=-1), -1, 0)
        )

    def _block(self) -> tuple[str, list[tuple[str, str]]]:
        rows = [
            ("nodes", brief(self.nodes)),
            ("outliers", "none" if self.outliers is None else brief(self.outliers.values)),
            ("width", number(self.width)),
            ("mean", brief(self.mean)),
        ]
        return f"Density of {self.size} eigenvalues, {self.degrees + 1} probes", rows


def spectral_density(
    op: Operator,
    key: PRNGKey,
    *,
    probes: int = 8,
    steps: int = 40,
    deflate: int = 10,
    width: Number | None = None,
    grid: Number | None = None,
) -> Density:
    r"""Estimate the density of all eigenvalues, smoothed by a Gaussian, with its errors.

    $$\rho(x) = \frac1n \sum_{i=1}^n \mathcal N(x - \lambda_i; \sigma^2)
      \approx \frac1n \sum_{i \le k} \mathcal N(x - \lambda_i; \sigma^2)
      + \frac{n - k}{n} \frac1p \sum_{i,j} w_{ij}\, \mathcal N(x - \theta_{ij}; \sigma^2)$$

    Each of $p$ random vectors, orthogonal to the $k$ eigenvectors of largest absolute values, gives
    by $m$ steps of Lanczos the nodes and weights of a Gaussian quadrature that is unbiased for the
    remaining spectrum but for its $m$ nodes. The outliers, which a random vector hardly sees, are
    exact. It costs $p m$ products and those of the outliers, and memory for $k + m$ vectors.
    Derivatives are zero.

    Args:
      op: A symmetric operator.
      key: Of the probes.
      probes: Random vectors $p \ge 2$.
      steps: Nodes $m \ge 1$ of each; as many as are left do where those are fewer.
      deflate: Outliers $k \ge 0$, at most `op.size`.
      width: $\sigma > 0$; by default 1/100 of the range of the spectrum, or of the value if it
        has but one.
      grid: Where to evaluate; by default 1001 points from end to end of the spectrum and beyond.

    Returns:
      The density.

    Raises:
      TypeError: If `op` is no operator, `key` not one key, a count no whole number, or if batches
        come from the host under a transformation.
      ValueError: If a number is out of range.

    Example:
      >>> from jaxopt_tut.curvature import linear_map
      >>> spectrum = jnp.concatenate([jnp.array([50.0, -8.0]), jnp.linspace(0, 1, 98)])
      >>> op = linear_map(lambda v, d: d * v, spectrum, spectrum)
      >>> density = spectral_density(op, jax.random.key(0), deflate=2)
      >>> shares = density.cumulative(jnp.array([-1.0, 2.0])).mean
      >>> print([f"{share:.4f}" for share in shares])
      ['0.0100', '0.9900']

    References:
      Ubaru, Chen, Saad (2017), Fast estimation of tr(f(A)) via stochastic Lanczos quadrature,
      https://doi.org/10.1137/16M1104974; Ghorbani, Krishnan, Xiao (2019),
      https://arxiv.org/abs/1901.10159, without the outliers.
    """
    num_probes, num_steps, num_outliers = _check(op, probes, steps, deflate)
    require_key("spectral_density", key)
    if width is not None:
        require_positive("spectral_density", finite=True, width=width)
    size, dtype = op.size, op.dtype
    is_led_by_xla = is_followed((op, key))
    if is_led_by_xla:
        refuse_host("spectral_density", op)
        op = jax.lax.stop_gradient(op)
    outlier_key, key = jax.random.split(key)
    outliers = None
    vectors = jnp.zeros((0, size), dtype)
    values, doubt = jnp.zeros(0, dtype), None
    if num_outliers:
        outliers = top_eigenpairs(op, num_outliers, outlier_key, which="magnitude", tol=_TOLERANCE)
        vectors, values, doubt = outliers.vectors, outliers.values, outliers.residuals
    keys = jax.random.split(key, num_probes)
    if num_steps == 0:  # the outliers are all there is
        nodes = weights = jnp.zeros((num_probes, 0), dtype)
    elif is_led_by_xla:
        follow = lambda _, key: (None, _followed(op, vectors, key, num_steps))
        nodes, weights = control_flow.scan(follow, None, keys)[1]
    else:
        rows = [_led_by_host(op, vectors, one, num_steps) for one in keys]
        nodes, weights = (jnp.stack(parts) for parts in zip(*rows, strict=True))
    parts = _density(values, doubt, nodes, weights, size, width, grid)
    return Density(*parts, outliers=outliers, size=size)


def _check(op: Any, probes: Any, steps: Any, deflate: Any) -> tuple[int, int, int]:
    """Refuse counts out of range, and cut them to what there is."""
    caller = "spectral_density"
    check_operator(caller, op)
    num_probes = require_count(caller, probes=probes)
    num_steps = require_count(caller, steps=steps)
    num_outliers = require_count(caller, deflate=deflate)
    if num_probes < 2:
        raise ValueError(
            f"{caller} needs probes >= 2, as errors are those between them, got probes={probes}."
        )
    if num_steps < 1:
        raise ValueError(f"{caller} needs steps >= 1, got steps={steps}.")
    if num_outliers < 0:
        raise ValueError(f"{caller} needs deflate >= 0, got deflate={deflate}.")
    num_outliers = min(num_outliers, op.size)
    return num_probes, min(num_steps, op.size - num_outliers), num_outliers


@partial(jax.jit, static_argnames="num_steps")
def _begin_probe(vectors: Rows, key: PRNGKey, num_steps: int) -> Krylov:
    """Put the outliers into the first rows, to which all that follows is orthogonal."""
    num_outliers, size = vectors.shape
    start_key, key = jax.random.split(key)
    # directions of normal vectors are uniform in every subspace, those of signs are not
    start = jax.random.normal(start_key, (size,), vectors.dtype)
    state = begin(start, key, num_outliers + num_steps)
    basis = state.basis.at[:num_outliers].set(vectors)
    length = jnp.asarray(num_outliers, jnp.int32)
    start = orthonormal(start, basis, first_rows(length, len(basis)))
    return state._replace(basis=basis, length=length, current=start)


@partial(jax.jit, static_argnames="num_outliers")
def _quadrature(
    projected: Float[Array, "rows rows"], num_outliers: int
) -> tuple[Float[Array, "nodes"], Float[Array, "nodes"]]:
    """Return the nodes and weights of the probe that stands behind the outliers."""
    nodes, rotation = jnp.linalg.eigh(projected[num_outliers:, num_outliers:])
    return nodes, rotation[0] ** 2


def _led_by_host(
    op: Operator, vectors: Rows, key: PRNGKey, num_steps: int
) -> tuple[Float[Array, "nodes"], Float[Array, "nodes"]]:
    state = _begin_probe(vectors, key, num_steps)
    for _ in range(num_steps):
        state = grown(op, state)
    return _quadrature(state.projected, len(vectors))


def _followed(
    op: Operator, vectors: Rows, key: PRNGKey, num_steps: int
) -> tuple[Float[Array, "nodes"], Float[Array, "nodes"]]:
    grow = lambda state, _: (extend(state, op.matvec(state.current)), None)
    state = _begin_probe(vectors, key, num_steps)
    state, _ = control_flow.scan(grow, state, length=num_steps)
    return _quadrature(state.projected, len(vectors))


@partial(jax.jit, static_argnames="size")
def _density(
    outliers: Float[Array, "k"],
    doubt: Float[Array, "k"] | None,
    nodes: Float[Array, "probes nodes"],
    weights: Float[Array, "probes nodes"],
    size: int,
    width: Number | None,
    grid: Number | None,
) -> tuple[Array, Array, Array, Array, Array, Scalar]:
    """Put the outliers beside the nodes of the probes, and smooth them all."""
    dtype, num_probes = nodes.dtype, len(nodes)
    exact = jnp.broadcast_to(outliers, (num_probes, outliers.size))
    share = jnp.full_like(exact, 1 / size)
    weights = jnp.concatenate([share, weights * ((size - outliers.size) / size)], axis=1)
    nodes = jnp.concatenate([exact, nodes], axis=1)
    low, high = jnp.min(nodes), jnp.max(nodes)
    if width is None:
        # a range of the size of rounding is that of one value, and no grid would resolve it
        largest = jnp.maximum(jnp.abs(low), jnp.abs(high))
        is_resolved = high - low > float(jnp.finfo(dtype).eps) ** 0.5 * largest
        extent = jnp.where(is_resolved, high - low, jnp.where(largest > 0, largest, 1))
        width = 0.01 * extent
    width = cast(width, dtype)
    if grid is None:
        grid = (
            low - 5 * width + (high - low + 10 * width) * jnp.linspace(0, 1, _POINTS, dtype=dtype)
        )
    points = jnp.asarray(grid).astype(dtype)
    found = _smooth_estimate(points, nodes, weights, width, doubt)
    return points, found.mean, found.sem, nodes, weights, width


def _smooth_estimate(
    points: Float[Array, "*points"],
    nodes: Float[Array, "probes nodes"],
    weights: Float[Array, "probes nodes"],
    width: Scalar,
    doubt: Float[Array, "k"] | None,
) -> Estimate:
    """Average the probes' densities; outliers are as wrong as their residuals let them be."""
    found = _averaged(_smoothed(points, nodes, weights, width))
    # what is the same for all probes is summed with rounding none the less
    error = jnp.finfo(found.mean.dtype).eps * nodes.shape[1] ** 0.5 * found.mean
    if doubt is not None:
        for node, weight, by in zip(nodes[0], weights[0], doubt, strict=False):
            away = (points - node) / width
            peak = weight / (width * jnp.sqrt(jnp.asarray(2 * jnp.pi, nodes.dtype)))
            error = error + peak * jnp.abs(away) * jnp.exp(-(away**2) / 2) * by / width
    return Estimate(found.mean, jnp.hypot(found.sem, error), degrees=found.degrees)


def _smoothed(
    points: Float[Array, "*points"],
    nodes: Float[Array, "probes nodes"],
    weights: Float[Array, "probes nodes"],
    width: Scalar,
) -> Float[Array, "probes *points"]:
    """Return the density that each probe sees."""

    def add(total: Array, node_and_weight: tuple[Array, Array]) -> tuple[Array, None]:
        node, weight = node_and_weight  # of all probes; all nodes at once would take much memory
        at = jnp.expand_dims(node, tuple(range(1, total.ndim)))
        mass = jnp.expand_dims(weight, tuple(range(1, total.ndim)))
        return total + mass * jnp.exp(-(((points[None] - at) / width) ** 2) / 2), None

    start = jnp.zeros((len(nodes), *points.shape), nodes.dtype)
    total, _ = control_flow.scan(add, start, (nodes.T, weights.T))
    return total / (width * jnp.sqrt(jnp.asarray(2 * jnp.pi, nodes.dtype)))


def _averaged(samples: Float[Array, "probes *points"]) -> Estimate:
    """Return the mean over probes and its standard error."""
    count, unit = len(samples), magnitude(samples)  # squares of large densities overflow
    sem = unit * jnp.std(samples / unit, axis=0, ddof=1) / count**0.5
    return Estimate(jnp.mean(samples, axis=0), sem, degrees=count - 1)
